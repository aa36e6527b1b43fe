//! Waiting for several descriptors at once, and being woken.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Most descriptors of one [`wait`].
pub const MOST: usize = 64;

/// Waits until something can be received on one of the descriptors (an end and an error count), at
/// most for `timeout`. Bit `n` of the result stands for `watched[n]`; 0 is the timeout or a signal.
pub fn wait(watched: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<u64> {
    if watched.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut entries = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; MOST];
    for (entry, descriptor) in entries.iter_mut().zip(watched) {
        entry.fd = descriptor.as_raw_fd();
    }
    // Rounded up: a wait that ends before its time would be made again and again.
    let timeout = timeout.map_or(-1, |timeout| {
        c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    let count = libc::nfds_t::try_from(watched.len()).map_err(io::Error::other)?;
    // SAFETY: the array has at least `count` entries.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), count, timeout) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
    }
    let mut bits = 0;
    for (index, entry) in entries[..watched.len()].iter().enumerate() {
        if entry.revents != 0 {
            bits |= 1 << index;
        }
    }
    Ok(bits)
}

/// Accepts a connection, close-on-exec; `None` where none waits. The listener does not block.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: no memory is passed.
        let raw = unsafe {
            libc::accept4(listener.as_raw_fd(), no_address, no_length, libc::SOCK_CLOEXEC)
        };
        if raw >= 0 {
            // SAFETY: just made, and nobody else knows it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            // The other side may have gone while it waited in the queue.
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// A mark that one thread sets and others wait for.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A mark that is not set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Sets it.
    pub fn set(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: as many bytes as said. It can only fail where the mark is set beyond counting.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes it back.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // SAFETY: room for as many bytes as said. Fails where the mark is not set, which is well.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl std::os::fd::AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Both ends of a pipe that blocks nobody, to read and to write; close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the array has the two places that are written.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: both were just made, and nobody else knows them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Takes what is in a pipe, at most as much as `buffer` holds; 0 for nothing.
pub fn drain(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> usize {
    // SAFETY: room for as many bytes as said.
    let count = unsafe { libc::read(pipe.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).unwrap_or(0)
}

/// Makes accepting from a listener wait for nobody, in every process that holds it.
pub fn set_nonblocking(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: numbers only.
    let flags = check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK != 0 {
        return Ok(());
    }
    // SAFETY: numbers only.
    check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
        .map(drop)
}

pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_mark_wakes_until_it_is_cleared() {
        let (one, other) = (Wake::new().unwrap(), Wake::new().unwrap());
        let both = [one.as_fd(), other.as_fd()];
        assert_eq!(wait(&both, Some(Duration::ZERO)).unwrap(), 0);
        other.set();
        other.set();
        assert_eq!(wait(&both, None).unwrap(), 0b10);
        other.clear();
        assert_eq!(wait(&both, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_pipe_gives_what_is_there() {
        let (read, write) = pipe().unwrap();
        let mut buffer = [0; 4];
        assert_eq!(drain(read.as_fd(), &mut buffer), 0);
        // SAFETY: one byte, as said.
        assert_eq!(unsafe { libc::write(write.as_raw_fd(), b"x".as_ptr().cast(), 1) }, 1);
        assert_eq!(drain(read.as_fd(), &mut buffer), 1);
        assert_eq!(buffer[0], b'x');
    }
}
