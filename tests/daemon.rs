//! The life of daemon processes: how they are replaced, how they die, what they are kept apart from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

#[path = "daemon/between.rs"]
mod between;
#[path = "daemon/boundaries.rs"]
mod boundaries;
#[path = "daemon/clients.rs"]
mod clients;
#[path = "daemon/death.rs"]
mod death;
#[path = "daemon/deploy.rs"]
mod deploy;
#[path = "daemon/greedy.rs"]
mod greedy;
#[path = "daemon/interpreters.rs"]
mod interpreters;
#[path = "daemon/isolation.rs"]
mod isolation;
#[path = "daemon/options.rs"]
mod options;
#[path = "daemon/processes.rs"]
mod processes;
#[path = "daemon/rolling.rs"]
mod rolling;
#[path = "daemon/stream.rs"]
mod stream;
#[path = "daemon/stuck.rs"]
mod stuck;
#[path = "daemon/trouble.rs"]
mod trouble;
