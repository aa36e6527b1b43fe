//! Scripts that httpd asks: who may come in, who somebody is, which application is meant; and handler scripts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

#[path = "hooks/access.rs"]
mod access;
#[path = "hooks/dispatch.rs"]
mod dispatch;
#[path = "hooks/groups.rs"]
mod groups;
#[path = "hooks/handler.rs"]
mod handler;
#[path = "hooks/users.rs"]
mod users;
