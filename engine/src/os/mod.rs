//! The system calls that the standard library does not offer.

pub mod event;
pub mod inbound;
pub mod listener;
pub mod memory;
pub mod news;
pub mod own;
pub mod program;
pub mod random;
pub mod socket;
pub mod usage;

pub use inbound::{Arrival, Inbound};
pub use socket::{Peer, Rights, SendFault, Wait};
