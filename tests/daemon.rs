//! The life of daemon processes: how they are replaced, how they die, what they are kept apart from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

#[path = "daemon/death.rs"]
mod death;
#[path = "daemon/processes.rs"]
mod processes;
#[path = "daemon/rolling.rs"]
mod rolling;
