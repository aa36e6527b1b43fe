//! mod_wsgi_rs: the Apache httpd module.
//!
//! Floors, lowest first; a room imports only from floors below its own (`engine` lies below all of them):
//! 0 `sys` (raw bindings), 1 `apache` (httpd made safe), 2 `config` (what the administrator wrote),
//! 3 `daemon` (processes of their own), 4 `handler` (a request arrives), 5 `module` (wiring).

mod apache;
mod config;
mod daemon;
mod handler;
mod module;
mod sys;
