//! The border to the kernel: the only room with unsafe.

#![expect(unsafe_code, reason = "system calls that the standard library does not offer")]

mod child;
mod clock;
mod process;
mod wait;

#[cfg(test)]
pub(crate) use child::Step;
pub(crate) use child::{Failure, Recipe, failure, fork};
pub(crate) use clock::local_time;
pub(crate) use process::{
    Exit, Process, at_least, become_output, companions, detach, inherited, is_alive, parent,
    resident, set_nice, start_time,
};
pub(crate) use wait::{Interest, Poller};

use std::io;

/// The result of a system call that gives -1 on failure.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
