//! What an application sees and what its client gets, through a real httpd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

#[path = "wsgi/body.rs"]
mod body;
#[path = "wsgi/environ.rs"]
mod environ;
#[path = "wsgi/file_wrapper.rs"]
mod file_wrapper;
#[path = "wsgi/headers_in.rs"]
mod headers_in;
#[path = "wsgi/headers_out.rs"]
mod headers_out;
#[path = "wsgi/input.rs"]
mod input;
#[path = "wsgi/interpreter.rs"]
mod interpreter;
#[path = "wsgi/length.rs"]
mod length;
#[path = "wsgi/logging.rs"]
mod logging;
#[path = "wsgi/process.rs"]
mod process;
#[path = "wsgi/protocol.rs"]
mod protocol;
#[path = "wsgi/script.rs"]
mod script;
#[path = "wsgi/start_response.rs"]
mod start_response;
#[path = "wsgi/validate.rs"]
mod validate;
