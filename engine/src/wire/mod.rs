//! What goes over the sockets, as bytes: between an httpd child and a daemon process (`message`),
//! and between httpd's parent, the supervisor and daemon processes (`control`).
//!
//! Pure: nothing here reads or writes a socket, and nothing trusts what it decodes. Both ends come
//! from one build (HELLO carries its id), so there are numbers and no rules of evolution. Kinds
//! from 64 up are left for protocols to come. All numbers are little-endian.

#![forbid(unsafe_code)]

mod bytes;
pub mod control;
pub mod frame;
pub mod message;
pub mod order;

pub use frame::{Batch, Decoder, Fault, Frame, Header, Rule, Whole};

/// Names the build: 32 bytes that differ between builds whose ends do not understand each other.
pub type BuildId = [u8; 32];

/// A secret that two ends share. It has no way into a log: `Debug` shows nothing, and there is no
/// `PartialEq` whose time depends on where the first difference is.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret of these bytes, which come from the system's source of randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether `proof` is this secret, in a time that does not depend on their bytes.
    #[must_use]
    pub fn proved_by(&self, proof: &Self) -> bool {
        let difference = self.0.iter().zip(&proof.0).fold(0, |sum, (ours, theirs)| {
            // Kept from being turned into an early exit.
            std::hint::black_box(sum | (ours ^ theirs))
        });
        difference == 0
    }

    /// The bytes, for a frame.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
