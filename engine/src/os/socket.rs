//! Unix stream sockets: whole messages with descriptors, who the other side is, deadlines.
//!
//! Nothing here changes a socket's blocking mode, which it shares with every process that holds it:
//! one call waits or does not by [`Wait`], and a wait is bounded by the socket's timeouts.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use crate::wire::Fault;

/// Most descriptors that one message may carry here. More than any frame has, so that one too many
/// is seen.
const AT_ONCE: usize = 4;

/// Room for the control part of a message, in units that align its header.
type Control = [u64; 8];

const _: () = assert!(size_of::<Control>() >= control_space(AT_ONCE));

/// Bytes of a control part with `count` descriptors.
const fn control_space(count: usize) -> usize {
    // SAFETY: arithmetic on its argument, which is far from the end of its range.
    (unsafe { libc::CMSG_SPACE(descriptors_size(count)) }) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "a few descriptors of four bytes")]
const fn descriptors_size(count: usize) -> u32 {
    (count * size_of::<RawFd>()) as u32
}

/// The other end of a connection: for an accepted one the process that connected, for a connected
/// one the process that called `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process; 0 where it is in a namespace that is not seen from here.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Whether a call may wait, up to the socket's timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It may.
    Yes,
    /// It may not: [`io::ErrorKind::WouldBlock`] then.
    No,
}

/// Two connected stream sockets, close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the array has the two places that are written.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: both were just made, and nobody else knows them.
    let (one, other) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    Ok((one, other))
}

/// Connects to a listening socket, without waiting: [`io::ErrorKind::WouldBlock`] while its queue is full.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    // SAFETY: an integer and bytes, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    let bytes = path.as_os_str().as_bytes();
    // One byte is left for the NUL that ends the path.
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        let text = format!("{} cannot be the path of a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    let length = socklen(size_of::<libc::sockaddr_un>())?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed.
    let raw = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: just made, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: address is a sockaddr_un of this length.
    check(unsafe { libc::connect(raw, (&raw const address).cast(), length) })?;
    // SAFETY: no memory is passed; a new socket has no flag but that one.
    check(unsafe { libc::fcntl(raw, libc::F_SETFL, 0) })?;
    Ok(socket)
}

/// Whether a send would not wait: three quarters of what the socket may hold for the other end are free, or
/// it fails at once.
#[must_use]
pub fn takes_at_once(socket: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
}

/// Who the other end is. The kernel took it down when the connection was made.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = socklen(size_of::<libc::ucred>())?;
    // SAFETY: the place has the length that is passed.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    })?;
    Ok(Peer { pid: credentials.pid, uid: credentials.uid, gid: credentials.gid })
}

/// How long one receive may wait; `None` is for ever.
pub fn set_receive_timeout(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    set_timeout(&socket, libc::SO_RCVTIMEO, timeout)
}

/// How long one send may wait without a byte taken; `None` is for ever.
pub fn set_send_timeout(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    set_timeout(&socket, libc::SO_SNDTIMEO, timeout)
}

fn set_timeout(socket: &impl AsRawFd, option: c_int, timeout: Option<Duration>) -> io::Result<()> {
    // For the kernel zero is for ever, so nothing becomes the least there is.
    let timeout = timeout.map_or(Duration::ZERO, |timeout| timeout.max(Duration::from_micros(1)));
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: timeout.subsec_micros().into(),
    };
    let length = socklen(size_of::<libc::timeval>())?;
    // SAFETY: the value is a timeval of the length that is passed.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            length,
        )
    })
    .map(drop)
}

/// Ends receiving: what is queued can still be read, then comes the end. A thread that waits in a
/// receive wakes up, and the other side's next send fails with `EPIPE`.
pub fn stop_receiving(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) }).map(drop)
}

/// A message that was not sent, or not wholly.
#[derive(Debug)]
pub struct SendFault {
    /// How many bytes the kernel took. With 0 nothing was sent, descriptors neither.
    pub sent: usize,
    /// Why no more. After the socket's send timeout, and with [`Wait::No`], it is
    /// [`io::ErrorKind::WouldBlock`].
    pub error: io::Error,
}

/// Sends all bytes, in order, with as few calls as there can be. The descriptors go with the first
/// byte.
///
/// No SIGPIPE: a closed other side is [`io::ErrorKind::BrokenPipe`].
pub fn send(
    socket: BorrowedFd<'_>,
    slices: &[&[u8]],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> Result<(), SendFault> {
    let mut list: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    let mut list = list.as_mut_slice();
    let mut descriptors = descriptors;
    let mut sent = 0;
    // Empty slices in front would make a message of no bytes.
    IoSlice::advance_slices(&mut list, 0);
    while !list.is_empty() {
        match send_once(socket, list, descriptors, wait) {
            Ok(count) => {
                sent += count;
                IoSlice::advance_slices(&mut list, count);
                descriptors = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SendFault { sent, error }),
        }
    }
    Ok(())
}

/// Most slices of one call (`IOV_MAX` of Linux).
const SLICES: usize = 1024;

fn send_once(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> io::Result<usize> {
    if descriptors.len() > AT_ONCE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, Fault::Descriptor));
    }
    let mut control: Control = [0; 8];
    // SAFETY: integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    // IoSlice has the layout of iovec (its documentation says so); the kernel only reads through
    // it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(SLICES) as _;
    if !descriptors.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control_space(descriptors.len()) as _;
        // SAFETY: msg_control and msg_controllen describe `control`, which is aligned and large
        // enough for a header with AT_ONCE descriptors.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: the header lies in `control`, which is not touched otherwise, and its data has
        // room for all descriptors.
        unsafe {
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(descriptors_size(descriptors.len())) as _;
            let data: *mut RawFd = libc::CMSG_DATA(header).cast();
            for (index, descriptor) in descriptors.iter().enumerate() {
                data.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | no_wait(wait);
    // SAFETY: the message points to slices and a control part that live through the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Descriptors that have arrived and wait for their frame. Those that are left are closed.
#[derive(Debug)]
pub struct Rights {
    waiting: VecDeque<OwnedFd>,
    most: usize,
}

impl Rights {
    /// Room for `most` descriptors.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most }
    }

    /// The descriptor that came first.
    pub fn take(&mut self) -> Option<OwnedFd> {
        self.waiting.pop_front()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Receives once into `buffer` (not empty); 0 is the end. Descriptors go to `rights`, close-on-exec
/// from the start.
///
/// More of them than there is room for, or than this process may hold, are closed, and it is
/// [`io::ErrorKind::InvalidData`].
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    rights: &mut Rights,
    wait: Wait,
) -> io::Result<usize> {
    loop {
        match receive_once(socket, buffer, rights, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn receive_once(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    rights: &mut Rights,
    wait: Wait,
) -> io::Result<usize> {
    let mut control: Control = [0; 8];
    let mut slice =
        libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control_space(AT_ONCE) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | no_wait(wait);
    // SAFETY: the message points to `buffer` and `control`, which live through the call and have
    // the lengths it says.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut fits = message.msg_flags & libc::MSG_CTRUNC == 0;
    // Owned one by one before anything is decided, so that none is left open.
    for descriptor in descriptors(&message) {
        if rights.waiting.len() < rights.most {
            rights.waiting.push_back(descriptor);
        } else {
            fits = false;
        }
    }
    if fits {
        Ok(count)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, Fault::Descriptor))
    }
}

/// Takes over the descriptors of a message that was just received.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: recvmsg left a control part of msg_controllen bytes at msg_control.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the header is null or lies whole in the control part.
    while let Some(header) = unsafe { next.as_ref() } {
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: arithmetic on its argument.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            #[expect(clippy::unnecessary_cast, reason = "musl has another type here")]
            let size = (header.cmsg_len as usize).saturating_sub(empty);
            // SAFETY: the data of a header that the kernel wrote.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(header) }.cast();
            for index in 0..size / size_of::<RawFd>() {
                // SAFETY: cmsg_len says that the data has this many descriptors.
                let raw = unsafe { ptr::read_unaligned(data.add(index)) };
                // SAFETY: the kernel made it for this message, and nobody else knows it.
                found.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: header is one of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    found
}

fn no_wait(wait: Wait) -> c_int {
    match wait {
        Wait::Yes => 0,
        Wait::No => libc::MSG_DONTWAIT,
    }
}

fn socklen(size: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size).map_err(io::Error::other)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
