//! Waiting for several descriptors at once, and being woken.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::own::Guarded;
use super::socket::Wait;

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
    poll(&mut entries[..watched.len()], timeout)?;
    let mut bits = 0;
    for (index, entry) in entries[..watched.len()].iter().enumerate() {
        if entry.revents != 0 {
            bits |= 1 << index;
        }
    }
    Ok(bits)
}

/// Descriptors that any number of threads wait for together. One that has something to be received (an end and an
/// error count) is told to one thread, once, and not again before [`Set::watch`].
#[derive(Debug)]
pub struct Set(Guarded);

impl Set {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, and nobody else knows it.
        Ok(Self(Guarded::new(unsafe { OwnedFd::from_raw_fd(raw) })))
    }

    /// Has the next thing that happens to a descriptor told by this number, for the first time or again.
    pub fn watch(&self, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_MOD, descriptor, number) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, descriptor, number)
            }
            done => done,
        }
    }

    /// Forgets a descriptor. To be called before it is closed: a copy that the application has forked would keep it
    /// here.
    pub fn forget(&self, descriptor: BorrowedFd<'_>) {
        // It can only fail where it is not known.
        let _ = self.control(libc::EPOLL_CTL_DEL, descriptor, 0);
    }

    fn control(&self, what: c_int, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLONESHOT).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: number };
        let (set, descriptor) = (self.0.as_fd().as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: the event lives through the call, which copies it.
        check(unsafe { libc::epoll_ctl(set, what, descriptor, &raw mut event) }).map(drop)
    }

    /// Waits until one of the descriptors has something, and gives its number. With [`Wait::No`], and after a signal,
    /// it may be none.
    pub fn next(&self, wait: Wait) -> io::Result<Option<u64>> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let timeout = match wait {
            Wait::Yes => -1,
            Wait::No => 0,
        };
        // SAFETY: room for the one event that is asked for.
        let count =
            unsafe { libc::epoll_wait(self.0.as_fd().as_raw_fd(), &raw mut event, 1, timeout) };
        match check(count) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(event.u64)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Waits until `wake` is set or one of the sockets takes something again (one that is at its end counts), at most for
/// `timeout`. Says of each socket whether it does; of none after the timeout or a signal.
pub fn wait_for_room(
    wake: &Wake,
    sockets: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let entry = |fd: RawFd, events| libc::pollfd { fd, events, revents: 0 };
    let mut entries = Vec::with_capacity(sockets.len() + 1);
    entries.extend(sockets.iter().map(|socket| entry(socket.as_raw_fd(), libc::POLLOUT)));
    entries.push(entry(wake.0.as_raw_fd(), libc::POLLIN));
    poll(&mut entries, timeout)?;
    entries.pop();
    Ok(entries.iter().map(|entry| entry.revents != 0).collect())
}

/// A signal counts as the timeout.
fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    // Rounded up: a wait that ends before its time would be made again and again.
    let timeout = timeout.map_or(-1, |timeout| {
        c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    let count = libc::nfds_t::try_from(entries.len()).map_err(io::Error::other)?;
    // SAFETY: as many entries as said.
    if unsafe { libc::poll(entries.as_mut_ptr(), count, timeout) } >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        // Nothing was found out, whatever is in the entries.
        entries.iter_mut().for_each(|entry| entry.revents = 0);
        return Ok(());
    }
    Err(error)
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

impl AsFd for Wake {
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
    fn what_has_something_is_told_once_until_it_is_watched_again() {
        let set = Set::new().unwrap();
        let (one, other) = (Wake::new().unwrap(), Wake::new().unwrap());
        set.watch(one.as_fd(), 1).unwrap();
        set.watch(other.as_fd(), 2).unwrap();
        assert_eq!(set.next(Wait::No).unwrap(), None);
        other.set();
        assert_eq!(set.next(Wait::Yes).unwrap(), Some(2));
        assert_eq!(set.next(Wait::No).unwrap(), None);
        set.watch(other.as_fd(), 3).unwrap();
        assert_eq!(set.next(Wait::Yes).unwrap(), Some(3));
        set.watch(other.as_fd(), 3).unwrap();
        set.forget(other.as_fd());
        assert_eq!(set.next(Wait::No).unwrap(), None);
    }

    #[test]
    fn room_is_waited_for_beside_a_mark() {
        let mark = Wake::new().unwrap();
        let ((_reading, free), (read, full)) = (pipe().unwrap(), pipe().unwrap());
        let mut files = [std::fs::File::from(full), std::fs::File::from(free)];
        while std::io::Write::write(&mut files[0], &[0; 4096]).is_ok() {}
        let sockets = [files[0].as_fd(), files[1].as_fd()];
        assert_eq!(wait_for_room(&mark, &sockets, None).unwrap(), [false, true]);
        mark.set();
        assert_eq!(wait_for_room(&mark, &sockets[..1], None).unwrap(), [false]);
        mark.clear();
        drop(read);
        assert_eq!(wait_for_room(&mark, &sockets[..1], None).unwrap(), [true]);
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
