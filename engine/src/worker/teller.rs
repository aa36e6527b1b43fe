//! Tells the application of signals, on a thread of its own: subscribers may take their time.

use std::sync::mpsc::{self, Sender};

use super::shared::Shared;
use crate::wsgi::Level;

/// The thread, once there was a signal.
#[derive(Default)]
pub(super) struct Teller(Option<Sender<u8>>);

impl Teller {
    /// Has subscribers of `process_signal` told, after those of earlier signals.
    pub(super) fn tell(&mut self, shared: &'static Shared, number: u8) {
        if self.0.is_none() {
            let (sender, signals) = mpsc::channel();
            let spawned =
                std::thread::Builder::new().name("wsgi-signals".to_owned()).spawn(move || {
                    for number in signals {
                        if let Some(engine) = shared.engine() {
                            engine.signalled(i32::from(number));
                        }
                    }
                });
            match spawned {
                Ok(_) => self.0 = Some(sender),
                Err(error) => {
                    let text = format!("no thread to tell the application of a signal: {error}");
                    shared.status.log(Level::Error, &text);
                    return;
                }
            }
        }
        if let Some(sender) = &self.0 {
            // The thread never ends by itself.
            let _ = sender.send(number);
        }
    }
}
