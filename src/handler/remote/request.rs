//! The description of a request, written straight into its message.

use engine::wire::message::RequestWriter;
use engine::wsgi::{Key, Sink};

/// The entries of a REQUEST.
pub(super) struct Entries<'o>(pub(super) RequestWriter<'o>);

impl Sink for Entries<'_> {
    fn set(&mut self, key: Key, value: &[u8]) {
        self.0.set(key as u8, value);
    }

    fn set_path(&mut self, key: Key, value: &[u8]) {
        self.0.set_path(key as u8, value);
    }

    fn set_float(&mut self, key: Key, value: f64) {
        self.0.set_float(key as u8, value);
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.0.header(name, value);
    }

    fn var(&mut self, name: &[u8], value: &[u8]) {
        // An empty name means nothing to anybody and has no form on the wire.
        if !name.is_empty() {
            self.0.var(name, value);
        }
    }

    fn https(&mut self, on: bool) {
        self.0.https(on);
    }
}
