//! Waiting for one of two sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// A socket and what it is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched<'a> {
    /// The socket.
    pub(crate) socket: BorrowedFd<'a>,
    /// Until there is something to read, or the end.
    pub(crate) read: bool,
    /// Until it takes something.
    pub(crate) write: bool,
}

/// Waits until one of the sockets is as wanted, or broken, and says which are; none are when the time is over.
pub(crate) fn wait<const N: usize>(
    watched: [Option<Watched<'_>>; N],
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let mut list = watched.map(|watched| {
        let nothing = libc::pollfd { fd: -1, events: 0, revents: 0 };
        watched.map_or(nothing, |watched| libc::pollfd {
            fd: watched.socket.as_raw_fd(),
            events: if watched.read { libc::POLLIN } else { 0 }
                | if watched.write { libc::POLLOUT } else { 0 },
            revents: 0,
        })
    });
    let count = libc::nfds_t::try_from(N).map_err(io::Error::other)?;
    // Rounded up: a wait that ends early is followed by many short ones.
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
    // SAFETY: a list of as many entries as said.
    let ready = unsafe { libc::poll(list.as_mut_ptr(), count, milliseconds) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        // Whoever waits looks at the clock and comes again.
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok([false; N])
        } else {
            Err(error)
        };
    }
    Ok(list.map(|entry| entry.revents != 0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn tells_which_socket_is_ready() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let (third, fourth) = UnixStream::pair().unwrap();
        let reads = |socket| Some(Watched { socket, read: true, write: false });
        let both = || [reads(one.as_fd()), reads(third.as_fd())];
        assert_eq!(wait(both(), Duration::ZERO).unwrap(), [false, false]);
        other.write_all(b"x").unwrap();
        assert_eq!(wait(both(), Duration::from_secs(9)).unwrap(), [true, false]);
        drop(fourth);
        assert_eq!(wait(both(), Duration::from_secs(9)).unwrap(), [true, true]);
        let writes = Some(Watched { socket: one.as_fd(), read: false, write: true });
        assert_eq!(wait([writes, None], Duration::from_secs(9)).unwrap(), [true, false]);
    }
}
