//! The program that starts, watches and replaces the daemon processes of mod_wsgi_rs.
//!
//! It is executed by httpd's parent, has one thread and holds nothing of httpd's: a control socket,
//! the groups' listening sockets, a log, the engine's file and the board. It outlives reloads of
//! the configuration.
//!
//! Rooms, lowest first: `os` (system calls, the only one with unsafe); `backoff`, `board`, `group`
//! (what is decided, pure), `death`, `scripts`; `link`, `log`, `output` (from what processes write
//! to the log), `spawn` (from a plan to what the kernel needs), `worker` (one process), `fleet`
//! (one group: the machine and its processes), `strays` (processes of a former supervisor);
//! `supervisor` (the loop).

mod backoff;
pub mod board;
mod death;
mod fleet;
pub mod group;
mod link;
mod log;
mod os;
mod output;
mod scripts;
mod spawn;
mod strays;
mod supervisor;
mod worker;

pub use supervisor::run;

/// Milliseconds of a clock that never goes back.
pub type Time = u64;
