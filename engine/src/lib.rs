//! The engine of mod_wsgi_rs: Python and WSGI, free of Apache.
//!
//! Floors, lowest first; a room imports only from floors below its own:
//! 0 `settings`, `wire` (pure), 1 `os` (system calls), `python` (the only holder of Python pointers), 2 `wsgi`.

pub mod os;
pub mod python;
pub mod settings;
pub mod wire;
pub mod worker;
pub mod wsgi;

/// What build this is: equal in the module, the engine's file and the supervisor exactly if they come from the
/// same sources (`build.rs`).
pub const BUILD: wire::BuildId = *include_bytes!(concat!(env!("OUT_DIR"), "/build.id"));
