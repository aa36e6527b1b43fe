//! The engine of mod_wsgi_rs: Python and WSGI, free of Apache.
//!
//! Floors, lowest first; a room imports only from floors below its own:
//! 0 `settings` (pure), 1 `python` (the only holder of Python pointers), 2 `wsgi`.

pub mod python;
pub mod settings;
pub mod wsgi;
