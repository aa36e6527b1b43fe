//! Unix sockets with descriptors, between two threads or within one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use engine::os::socket::{self, Rights, Wait};
use engine::os::{Arrival, Inbound};
use engine::wire::frame::Fault;
use engine::wire::message::{self, Ending, FromDaemon};

/// A folder of this process's own, gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("engine-socket-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A pipe's reading end whose other end says so when all copies of it are closed.
fn watched() -> (std::io::PipeReader, std::io::PipeWriter) {
    std::io::pipe().unwrap()
}

fn inode(descriptor: BorrowedFd<'_>) -> u64 {
    File::from(descriptor.try_clone_to_owned().unwrap()).metadata().unwrap().ino()
}

fn receive(socket: &OwnedFd, rights: &mut Rights) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let count = socket::receive(socket.as_fd(), &mut buffer, rights, Wait::Yes)?;
    buffer.truncate(count);
    Ok(buffer)
}

#[test]
fn bytes_and_a_descriptor_arrive_together() {
    let (one, other) = socket::pair().unwrap();
    let (pipe, _writer) = watched();
    let slices: [&[u8]; 4] = [b"", b"he", b"", b"llo"];
    socket::send(one.as_fd(), &slices, &[pipe.as_fd()], Wait::Yes).unwrap();
    let mut rights = Rights::new(1);
    assert_eq!(receive(&other, &mut rights).unwrap(), b"hello");
    let descriptor = rights.take().unwrap();
    assert!(rights.is_empty());
    assert_eq!(inode(descriptor.as_fd()), inode(pipe.as_fd()));
    assert!(closes_on_exec(&descriptor));
    assert!(closes_on_exec(&one) && closes_on_exec(&other));
    drop(one);
    assert_eq!(receive(&other, &mut rights).unwrap(), b"");
}

fn closes_on_exec(descriptor: &OwnedFd) -> bool {
    let info = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 != 0
}

#[test]
fn descriptors_too_many_are_refused_and_none_is_left_open() {
    // Taken, sent: more than there is room for, and more than fit the control part at all.
    for (most, sent) in [(1, 2), (1, 4), (0, 1), (2, 3), (1, 40), (4, 40)] {
        let (one, other) = socket::pair().unwrap();
        let (mut reader, writer) = watched();
        send_many(&one, &writer, sent);
        drop(writer);
        let mut rights = Rights::new(most);
        let error = receive(&other, &mut rights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{most} {sent}");
        drop((rights, one, other));
        // The end of file is there only when every copy of the writing end is closed.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}

/// Sends copies of one descriptor with one byte, also more than this project's own sending end
/// would.
#[expect(unsafe_code, reason = "a hostile sender does what the safe one refuses")]
fn send_many(socket: &OwnedFd, descriptor: &impl AsRawFd, count: usize) {
    let raw = vec![descriptor.as_raw_fd(); count];
    let mut control = vec![0_u64; 64];
    let mut byte = [0_u8];
    let mut slice = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let size = u32::try_from(count * 4).unwrap();
    // SAFETY: as in the sending end under test; the control part has room for 100 descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        let data: *mut i32 = libc::CMSG_DATA(header).cast();
        for (index, raw) in raw.iter().enumerate() {
            data.add(index).write_unaligned(*raw);
        }
        assert_eq!(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0), 1);
    }
}

#[test]
fn waiting_descriptors_are_closed_with_their_holder() {
    let (one, other) = socket::pair().unwrap();
    let (mut reader, writer) = watched();
    socket::send(one.as_fd(), &[b"x"], &[writer.as_fd()], Wait::Yes).unwrap();
    drop(writer);
    let mut inbound = Inbound::new(message::from_daemon, 1);
    assert_eq!(inbound.receive(other.as_fd(), Wait::Yes).unwrap(), Arrival::Bytes);
    assert!(inbound.stray());
    drop(inbound);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn too_many_descriptors_are_not_sent() {
    let (one, other) = socket::pair().unwrap();
    let (pipe, _writer) = watched();
    let many = [pipe.as_fd(); 5];
    let fault = socket::send(one.as_fd(), &[b"x"], &many, Wait::Yes).unwrap_err();
    assert_eq!((fault.sent, fault.error.kind()), (0, ErrorKind::InvalidInput));
    let nothing = socket::receive(other.as_fd(), &mut [0], &mut Rights::new(1), Wait::No);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn large_messages_arrive_whole_and_in_order() {
    let (one, other) = socket::pair().unwrap();
    // More slices than one call takes, of odd sizes, more bytes than a socket holds.
    let blocks: Vec<Vec<u8>> =
        (0..3000_usize).map(|index| vec![(index % 251) as u8; index % 1777]).collect();
    let expected = blocks.concat();
    let sender = thread::spawn(move || {
        let slices: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        socket::send(one.as_fd(), &slices, &[], Wait::Yes).unwrap();
    });
    let (mut arrived, mut rights) = (Vec::new(), Rights::new(0));
    loop {
        let bytes = receive(&other, &mut rights).unwrap();
        if bytes.is_empty() {
            break;
        }
        arrived.extend_from_slice(&bytes);
    }
    sender.join().unwrap();
    assert!(arrived == expected);
}

#[test]
fn a_descriptor_goes_with_the_first_bytes_only() {
    let (one, other) = socket::pair().unwrap();
    let (pipe, _writer) = watched();
    // More slices than one call takes.
    let slices = vec![&b"x"[..]; 3000];
    socket::send(one.as_fd(), &slices, &[pipe.as_fd()], Wait::Yes).unwrap();
    let (mut left, mut rights) = (slices.len(), Rights::new(1));
    while left > 0 {
        left -= receive(&other, &mut rights).unwrap().len();
    }
    assert!(rights.take().is_some() && rights.is_empty());
}

#[test]
#[expect(unsafe_code, reason = "test programs ignore SIGPIPE, which would hide it")]
fn a_closed_receiver_is_an_error_and_no_signal() {
    // SAFETY: the default action; no other test of this program causes the signal on purpose.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (one, other) = socket::pair().unwrap();
    drop(other);
    let fault = socket::send(one.as_fd(), &[b"x"], &[], Wait::Yes).unwrap_err();
    assert_eq!((fault.sent, fault.error.kind()), (0, ErrorKind::BrokenPipe));
}

#[test]
fn a_send_that_cannot_go_on_says_how_far_it_got() {
    let (one, other) = socket::pair().unwrap();
    let block = vec![7; 4 << 20];
    let fault = socket::send(one.as_fd(), &[&block], &[], Wait::No).unwrap_err();
    assert_eq!(fault.error.kind(), ErrorKind::WouldBlock);
    assert!(fault.sent > 0 && fault.sent < block.len());

    socket::set_send_timeout(one.as_fd(), Some(Duration::from_millis(20))).unwrap();
    let begun = Instant::now();
    let fault = socket::send(one.as_fd(), &[&block], &[], Wait::Yes).unwrap_err();
    assert_eq!((fault.sent, fault.error.kind()), (0, ErrorKind::WouldBlock));
    assert!(begun.elapsed() >= Duration::from_millis(20));

    drop(other);
    let fault = socket::send(one.as_fd(), &[b"x"], &[], Wait::Yes).unwrap_err();
    assert_eq!((fault.sent, fault.error.kind()), (0, ErrorKind::BrokenPipe));
}

#[test]
fn a_receive_waits_as_long_as_it_was_told() {
    let (_one, other) = socket::pair().unwrap();
    let mut rights = Rights::new(0);
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        socket::set_receive_timeout(other.as_fd(), Some(timeout)).unwrap();
        let begun = Instant::now();
        let error = receive(&other, &mut rights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(begun.elapsed() >= timeout);
    }
}

#[test]
fn a_stopped_receiver_reads_what_is_queued_and_then_the_end() {
    let (one, other) = socket::pair().unwrap();
    socket::send(one.as_fd(), &[b"queued"], &[], Wait::Yes).unwrap();
    socket::stop_receiving(other.as_fd()).unwrap();
    assert_eq!(receive(&other, &mut Rights::new(0)).unwrap(), b"queued");
    assert_eq!(receive(&other, &mut Rights::new(0)).unwrap(), b"");
    let fault = socket::send(one.as_fd(), &[b"late"], &[], Wait::Yes).unwrap_err();
    assert_eq!(fault.error.kind(), ErrorKind::BrokenPipe);
    // The way back stays open: GOAWAY is still to be said.
    socket::send(other.as_fd(), &[b"away"], &[], Wait::Yes).unwrap();
    assert_eq!(receive(&one, &mut Rights::new(0)).unwrap(), b"away");
}

#[test]
fn a_waiting_receiver_can_be_stopped() {
    let (_one, other) = socket::pair().unwrap();
    thread::scope(|scope| {
        // Whether it waits already or not.
        let waiting = scope.spawn(|| receive(&other, &mut Rights::new(0)).unwrap());
        socket::stop_receiving(other.as_fd()).unwrap();
        assert_eq!(waiting.join().unwrap(), b"");
    });
}

#[test]
fn both_ends_know_each_other() {
    let folder = Folder::new("peer");
    let path = folder.0.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = socket::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let owner = std::fs::metadata(&folder.0).unwrap();
    for end in [client.as_fd(), server.as_fd()] {
        let peer = socket::peer(end).unwrap();
        assert_eq!(u32::try_from(peer.pid).unwrap(), std::process::id());
        assert_eq!((peer.uid, peer.gid), (owner.uid(), owner.gid()));
    }
    assert!(closes_on_exec(&client));
    let mut client = UnixStream::from(client);
    assert_eq!(client.write_timeout().unwrap(), None);
    client.write_all(b"x").unwrap();
}

#[test]
fn connecting_fails_at_once_and_says_why() {
    let folder = Folder::new("connect");
    let path = folder.0.join("s");
    let kind = |path: &std::path::Path| socket::connect(path).unwrap_err().kind();
    assert_eq!(kind(&path), ErrorKind::NotFound);
    assert_eq!(kind(&PathBuf::from("/x".repeat(60))), ErrorKind::InvalidInput);
    assert_eq!(kind(&PathBuf::new()), ErrorKind::InvalidInput);

    let listener = UnixListener::bind(&path).unwrap();
    fill_queue(&listener, &path);
    assert_eq!(kind(&path), ErrorKind::WouldBlock);
    listener.accept().unwrap();
    socket::connect(&path).unwrap();
    assert_eq!(kind(&path), ErrorKind::WouldBlock);
    drop(listener);
    assert_eq!(kind(&path), ErrorKind::ConnectionRefused);
}

/// Makes the queue short and fills it.
#[expect(unsafe_code, reason = "the standard library has no listen")]
fn fill_queue(listener: &UnixListener, path: &std::path::Path) {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 1) }, 0);
    let mut held = Vec::new();
    while let Ok(connection) = socket::connect(path) {
        held.push(connection);
        assert!(held.len() < 10, "the queue has an end");
    }
    // They stay in the queue after this end is closed.
}

#[test]
fn frames_arrive_with_their_descriptor() {
    let (one, other) = socket::pair().unwrap();
    let (pipe, _writer) = watched();
    let mut bytes = Vec::new();
    message::head(&mut bytes, 1, c"200 OK", [(c"A", c"b")]).unwrap();
    message::file(&mut bytes, 1, 3, 4, Ending::default());
    socket::send(one.as_fd(), &[&bytes], &[pipe.as_fd()], Wait::Yes).unwrap();
    drop(one);
    let mut inbound = Inbound::new(message::from_daemon, 1);
    assert_eq!(inbound.receive(other.as_fd(), Wait::Yes).unwrap(), Arrival::Bytes);
    let (frame, descriptor) = inbound.frame().unwrap().unwrap();
    assert!(descriptor.is_none());
    assert!(matches!(FromDaemon::decode(&frame), Ok(FromDaemon::Head(_))));
    assert!(inbound.stray());
    let (frame, descriptor) = inbound.frame().unwrap().unwrap();
    assert_eq!(inode(descriptor.unwrap().as_fd()), inode(pipe.as_fd()));
    let file = FromDaemon::decode(&frame).unwrap();
    assert!(matches!(file, FromDaemon::File { offset: 3, length: 4, .. }));
    assert!(!inbound.stray() && inbound.is_empty());
    assert!(inbound.frame().unwrap().is_none());
    let end = inbound.receive(other.as_fd(), Wait::Yes).unwrap();
    assert_eq!(end, Arrival::End { torn: false });
}

#[test]
fn a_frame_without_its_descriptor_is_refused() {
    let (one, other) = socket::pair().unwrap();
    let mut bytes = Vec::new();
    message::file(&mut bytes, 1, 0, 0, Ending::default());
    socket::send(one.as_fd(), &[&bytes], &[], Wait::Yes).unwrap();
    let mut inbound = Inbound::new(message::from_daemon, 1);
    inbound.receive(other.as_fd(), Wait::Yes).unwrap();
    assert_eq!(inbound.frame().unwrap_err(), Fault::Descriptor);
}

#[test]
fn an_end_inside_a_frame_is_seen() {
    let (one, other) = socket::pair().unwrap();
    socket::send(one.as_fd(), &[b"\x01"], &[], Wait::Yes).unwrap();
    drop(one);
    let mut inbound = Inbound::new(message::from_daemon, 1);
    assert_eq!(inbound.receive(other.as_fd(), Wait::No).unwrap(), Arrival::Bytes);
    let end = inbound.receive(other.as_fd(), Wait::No).unwrap();
    assert_eq!(end, Arrival::End { torn: true });
}
