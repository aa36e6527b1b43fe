//! Waiting until one of many descriptors has something to say.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::checked;

/// What is waited for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read, or the end of it.
    Read,
    /// That, or room to write.
    ReadWrite,
    /// Room to write.
    Write,
}

/// A list of descriptors to wait for, each with what the caller calls it. `poll` and not `epoll`:
/// the list is short, changes with every turn, and may hold regular files.
pub(crate) struct Poller<T> {
    entries: Vec<libc::pollfd>,
    names: Vec<T>,
}

impl<T: Copy> Poller<T> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), names: Vec::new() }
    }

    /// Empties the list.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.names.clear();
    }

    /// Adds a descriptor, which has to stay open until the list is waited for.
    pub(crate) fn add(&mut self, descriptor: BorrowedFd<'_>, interest: Interest, name: T) {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::ReadWrite => libc::POLLIN | libc::POLLOUT,
            Interest::Write => libc::POLLOUT,
        };
        self.entries.push(libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 });
        self.names.push(name);
    }

    /// Waits for at most `timeout` milliseconds, and gives the names of the descriptors on which
    /// something happened.
    pub(crate) fn wait(&mut self, timeout: Option<u64>) -> io::Result<Vec<T>> {
        let timeout = timeout.map_or(-1, |timeout| i32::try_from(timeout).unwrap_or(i32::MAX));
        let count = libc::nfds_t::try_from(self.entries.len()).unwrap_or(0);
        // SAFETY: the entries are as many as said, and are ours alone.
        match checked(unsafe { libc::poll(self.entries.as_mut_ptr(), count, timeout) }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let happened = self.entries.iter().zip(&self.names).filter(|(entry, _)| entry.revents != 0);
        Ok(happened.map(|(_, name)| *name).collect())
    }
}
