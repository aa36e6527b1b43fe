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
