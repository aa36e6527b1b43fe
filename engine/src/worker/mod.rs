//! Life inside a daemon process: a Python that was executed loads this engine and hands it its main thread.
//!
//! Threads: Python's main thread imports, runs handlers of signals and ends the process (`main`); the clock never
//! enters Python and keeps time, talks to the supervisor and watches the listener while no seat is free (`clock`); worker
//! threads serve what comes on the connections (`pool`), whichever that is (`queue`, `thread`); where an application makes
//! blocks faster than they can be sent one by one, the flusher sends them beside it (`flusher`).

#![forbid(unsafe_code)]

mod call;
mod clock;
mod exchange;
mod flusher;
mod imports;
mod line;
mod main;
mod pool;
mod queue;
mod seat;
mod setup;
mod shared;
mod status;
mod teller;
mod thread;

use std::ffi::CStr;

use crate::python::entry;
use crate::python::function;

pub use call::{Call, call};
pub use clock::STACK;
pub use main::descriptor;

/// The whole of the extension's `PyInit`. To be called by that only.
pub fn init(name: &CStr) {
    entry::leave_behind(name, || vec![function::<main::Serve>()]);
}
