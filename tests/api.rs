//! The modules `mod_wsgi` and `apache` as applications see them, through a real httpd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

#[path = "api/events.rs"]
mod events;
#[path = "api/logging.rs"]
mod logging;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/names.rs"]
mod names;
#[path = "api/process.rs"]
mod process;
