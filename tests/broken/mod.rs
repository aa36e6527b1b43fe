//! What applications and clients can do wrong, as tables.

#![allow(unreachable_pub, reason = "one module tree, included by its test program")]
#![allow(clippy::panic, reason = "a test fails by panicking")]

pub mod applications;
pub mod requests;
