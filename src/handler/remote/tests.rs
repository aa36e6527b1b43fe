//! The relay against a process that is played by a thread, and a client in memory.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use engine::os::{Arrival, Inbound, Wait, socket};
use engine::wire::message::{self, Ending, FromChild, Head, RequestBody, RequestStart, from_child};
use engine::wire::{Batch, Fault, Secret};
use engine::wsgi::{Level, ReadFault, SendFault};

use super::pool::Pool;
use super::relay::{Client, Outcome, serve};
use super::*;

const BUILD: [u8; 32] = [7; 32];
const SECRET: [u8; 32] = [9; 32];
const PLAIN: Ending = Ending { flush: false, close: false, linger: false };
const LINGER: Ending = Ending { flush: true, close: false, linger: true };

/// A client in memory. Its body comes in pieces; with `later` it comes over a socket.
#[derive(Default)]
struct Memory {
    body: VecDeque<Result<Vec<u8>, String>>,
    has_body: bool,
    expects: bool,
    later: Option<UnixStream>,
    /// How much longer than others the head is.
    padding: usize,
    overridden: Option<u16>,
    gone: bool,
    head: Option<(u16, Vec<(String, String)>)>,
    got: Vec<u8>,
    /// Where body is reported as it is flushed, and how much has been.
    seen: Option<mpsc::Sender<Vec<u8>>>,
    shown: usize,
    ended: bool,
    was_cut: bool,
    continued: usize,
    log: Vec<String>,
}

impl Memory {
    fn with_body(pieces: &[&[u8]]) -> Self {
        let body = pieces.iter().map(|piece| Ok(piece.to_vec())).collect();
        Self { body, has_body: true, ..Self::default() }
    }

    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        match self.body.pop_front() {
            None => Ok(0),
            Some(Err(reason)) => {
                self.body.push_front(Err(reason.clone()));
                Err(ReadFault(reason))
            }
            Some(Ok(mut piece)) => {
                let count = piece.len().min(buffer.len());
                buffer[..count].copy_from_slice(&piece[..count]);
                let left = piece.split_off(count);
                if !left.is_empty() {
                    self.body.push_front(Ok(left));
                }
                Ok(count)
            }
        }
    }
}

impl Client for Memory {
    fn may_have_body(&self) -> bool {
        self.has_body
    }

    fn announced_length(&self) -> Option<u64> {
        None
    }

    fn expects_continue(&self) -> bool {
        self.expects
    }

    fn head_only(&self) -> bool {
        false
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        number: u32,
        body: RequestBody,
        length: Option<u64>,
        inline: usize,
    ) -> Result<(), Fault> {
        let start = RequestStart {
            target: Target::Mount(42),
            handler: b"wsgi-script",
            mtime_us: 1,
            reloading: true,
            request_start_us: 2,
            queue_start_us: 3,
            head_only: false,
            ignore_activity: false,
            log_level: 4,
            body,
            body_length: length,
        };
        let mut writer = message::request(out, number, &start);
        writer.header(b"Host", b"example.org");
        writer.header(b"X-Padding", &vec![b'x'; self.padding]);
        writer.finish(inline)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        if buffer.is_empty() {
            self.continued += 1;
            self.expects = false;
            return Ok(0);
        }
        self.piece(buffer)
    }

    fn read_now(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ReadFault> {
        let Some(socket) = &mut self.later else { return self.piece(buffer).map(Some) };
        match socket.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(ReadFault(error.to_string())),
        }
    }

    fn time_out(&mut self) -> ReadFault {
        ReadFault("the client sent nothing".to_owned())
    }

    fn refused(&self) -> bool {
        false
    }

    fn begin(&mut self, head: &Head<'_>) -> Result<(), SendFault> {
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let headers = head.headers().map(|(name, value)| (text(name), text(value))).collect();
        assert!(self.head.replace((head.status(), headers)).is_none(), "two heads");
        self.overridden.map_or(Ok(()), |status| Err(SendFault::Overridden(status)))
    }

    fn data(&mut self, bytes: &[u8], flush: bool) -> Result<(), Gone> {
        self.got.extend_from_slice(bytes);
        if let Some(seen) = &self.seen
            && flush
        {
            seen.send(self.got[self.shown..].to_vec()).unwrap();
            self.shown = self.got.len();
        }
        if self.gone { Err(Gone) } else { Ok(()) }
    }

    fn end(&mut self, _flush: bool) -> Result<(), Gone> {
        assert!(!std::mem::replace(&mut self.ended, true), "two ends");
        Ok(())
    }

    fn file(&mut self, file: OwnedFd, part: (u64, u64), _flush: bool) -> Result<(), Gone> {
        let mut bytes = vec![0; usize::try_from(part.1).unwrap()];
        std::fs::File::from(file).read_exact_at(&mut bytes, part.0).unwrap();
        self.got.extend_from_slice(&bytes);
        self.ended = true;
        Ok(())
    }

    fn cut(&mut self) {
        self.was_cut = true;
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.later.as_ref().map(AsFd::as_fd)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn lags(&self) -> bool {
        false
    }

    fn push(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    fn log(&mut self, _level: Level, text: &str) {
        self.log.push(text.to_owned());
    }
}

/// The other end of a connection, on the process's side.
struct Peer {
    socket: OwnedFd,
    inbound: Inbound,
}

/// What the process was sent, owned.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Hello,
    Request { number: u32, body: RequestBody, inline: Vec<u8>, file: Option<Vec<u8>> },
    Body(Vec<u8>, bool),
    BodyFault(String),
    Cancel,
    End,
    Reset,
}

impl Peer {
    fn next(&mut self) -> Got {
        loop {
            if let Some((whole, file)) = self.inbound.take().unwrap() {
                let frame = whole.frame();
                return match FromChild::decode(&frame).unwrap() {
                    FromChild::Hello(hello) => {
                        assert_eq!(hello.build, BUILD);
                        assert!(Secret::new(SECRET).proved_by(&hello.proof));
                        Got::Hello
                    }
                    FromChild::Request(request) => {
                        assert_eq!(request.target, Target::Mount(42));
                        let file = file.map(|file| {
                            let file = std::fs::File::from(file);
                            let facts = file.metadata().unwrap();
                            assert_eq!(facts.nlink(), 0, "the file has a name");
                            let mut bytes = vec![0; usize::try_from(facts.len()).unwrap()];
                            file.read_exact_at(&mut bytes, 0).unwrap();
                            bytes
                        });
                        Got::Request {
                            number: frame.header.number,
                            body: request.body,
                            inline: request.inline.to_vec(),
                            file,
                        }
                    }
                    FromChild::Body { bytes, last } => Got::Body(bytes.to_vec(), last),
                    FromChild::BodyFault { reason, .. } => Got::BodyFault(reason.to_owned()),
                    FromChild::Cancel => Got::Cancel,
                };
            }
            match self.inbound.receive(self.socket.as_fd(), Wait::Yes) {
                Ok(Arrival::Bytes) => {}
                Ok(Arrival::End { torn }) => {
                    assert!(!torn);
                    return Got::End;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Got::Reset,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes a request without body, greeted or not; its number.
    fn request(&mut self) -> u32 {
        loop {
            match self.next() {
                Got::Hello => {}
                Got::Request { number, .. } => return number,
                other => panic!("{other:?}"),
            }
        }
    }

    fn say(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        socket::send(self.socket.as_fd(), &[&out], &[], Wait::Yes).unwrap();
    }

    /// A small response in one piece.
    fn respond(&self, number: u32, text: &str) {
        self.say(|out| respond(out, number, text, PLAIN));
    }
}

fn head(out: &mut Vec<u8>, number: u32) {
    message::head(out, number, c"200 OK", [(c"X-Case", c"1")]).unwrap();
}

fn data(out: &mut Vec<u8>, number: u32, text: &[u8]) {
    let mut batch = Batch::new(out);
    message::data(&mut batch, number, &[text], true);
    let whole = batch.slices().concat();
    *out = whole;
}

fn respond(out: &mut Vec<u8>, number: u32, text: &str, ending: Ending) {
    head(out, number);
    data(out, number, text.as_bytes());
    message::end(out, number, ending);
}

/// A group of one listener.
struct Group {
    link: GroupLink,
    listener: UnixListener,
    directory: tempfile::TempDir,
}

fn group() -> Group {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let link = GroupLink {
        id: 1,
        name: "group".to_owned(),
        socket,
        build: BUILD,
        secret: Secret::new(SECRET),
        listener_uid: std::fs::metadata(directory.path()).unwrap().uid(),
        capacity: 2,
        waiting: 3,
        connect_timeout: Duration::from_millis(60),
        write_timeout: None,
        socket_timeout: Duration::from_secs(20),
        patience: None,
        request_buffering: 1024 * 1024,
        response_buffering: 0,
        spool_directory: directory.path().to_owned(),
        retry_after: 10,
        reason: |_, _| Some("it was killed".to_owned()),
        down: |_| None,
        pool: Pool::new(4),
    };
    Group { link, listener, directory }
}

fn accept(listener: &UnixListener) -> Peer {
    let (stream, _) = listener.accept().unwrap();
    Peer { socket: stream.into(), inbound: Inbound::new(from_child, 1) }
}

/// Runs a request while a thread plays the process; the client afterwards.
fn run(group: &Group, mut client: Memory, process: impl FnOnce(&UnixListener) + Send) -> Memory {
    let outcome = outcome(group, &mut client, process);
    assert_eq!(outcome, Outcome::Sent, "{:?}", client.log);
    client
}

fn outcome(
    group: &Group,
    client: &mut Memory,
    process: impl FnOnce(&UnixListener) + Send,
) -> Outcome {
    thread::scope(|scope| {
        let played = scope.spawn(|| process(&group.listener));
        let outcome = serve(client, &group.link);
        played.join().unwrap();
        outcome
    })
}

/// Whether nobody has connected who was not accepted.
fn nobody_waits(group: &Group) -> bool {
    group.listener.set_nonblocking(true).unwrap();
    let waits = group.listener.accept().is_ok();
    group.listener.set_nonblocking(false).unwrap();
    !waits
}

#[test]
fn requests_share_a_connection_and_greet_once() {
    let group = group();
    let mut peer = None;
    let client = run(&group, Memory::with_body(&[b"bo", b"dy"]), |listener| {
        let mut accepted = accept(listener);
        assert_eq!(accepted.next(), Got::Hello);
        let (body, inline) = (RequestBody::Whole, b"body".to_vec());
        assert_eq!(accepted.next(), Got::Request { number: 1, body, inline, file: None });
        accepted.respond(1, "one");
        peer = Some(accepted);
    });
    assert_eq!(client.head, Some((200, vec![("X-Case".to_owned(), "1".to_owned())])));
    assert!(client.ended && client.got == b"one" && client.log.is_empty());
    let mut peer = peer.unwrap();
    for number in 2..5 {
        let client = run(&group, Memory::default(), |_| {
            let (body, inline) = (RequestBody::Whole, Vec::new());
            assert_eq!(peer.next(), Got::Request { number, body, inline, file: None });
            peer.respond(number, "more");
        });
        assert_eq!(client.got, b"more");
    }
    assert!(nobody_waits(&group));
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    let group = group();
    run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.respond(number, "one");
    });
    let client = run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.respond(number, "two");
    });
    assert_eq!(client.got, b"two");
}

#[test]
fn a_kept_connection_that_was_handed_back_is_replaced() {
    let group = group();
    let mut kept = None;
    run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        // Right behind the response, or later: the child finds it with its next request.
        peer.say(|out| {
            respond(out, number, "one", PLAIN);
            message::go_away(out, number);
        });
        kept = Some(peer);
    });
    let client = run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.respond(number, "two");
    });
    assert_eq!(client.got, b"two");
}

#[test]
fn a_connection_that_is_to_be_closed_is_not_kept() {
    let group = group();
    let close = Ending { close: true, ..PLAIN };
    for _ in 0..2 {
        let client = run(&group, Memory::default(), |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            peer.say(|out| respond(out, number, "one", close));
            assert_eq!(peer.next(), Got::End);
        });
        assert!(client.ended);
    }
}

#[test]
fn what_was_not_read_is_sent_again() {
    let group = group();
    let client = run(&group, Memory::with_body(&[b"body"]), |listener| {
        // Closed without a look at it.
        drop(accept(listener));
        // Handed back.
        let peer = accept(listener);
        peer.say(|out| message::go_away(out, 0));
        drop(peer);
        // Told so after it had arrived.
        let peer = accept(listener);
        peer.say(|out| message::go_away(out, 0));
        let mut last = accept(listener);
        drop(peer);
        let number = last.request();
        last.respond(number, "at last");
    });
    assert_eq!(client.got, b"at last");
    assert!(client.log.is_empty(), "{:?}", client.log);
}

#[test]
fn what_was_said_before_the_process_stopped_reading_is_heard() {
    // More than a socket takes, so that it is known not to have been read.
    let long = || Memory { padding: 800_000, ..Memory::default() };
    let group = group();
    let mut client = long();
    let refused = outcome(&group, &mut client, |listener| {
        let peer = accept(listener);
        peer.say(|out| message::failed(out, 1, 504, PLAIN));
        socket::stop_receiving(peer.socket.as_fd()).unwrap();
    });
    assert_eq!(refused, Outcome::Status(504), "{:?}", client.log);
    assert!(nobody_waits(&group), "sent again although it was answered");
    let client = run(&group, long(), |listener| {
        let peer = accept(listener);
        peer.say(|out| message::go_away(out, 0));
        socket::stop_receiving(peer.socket.as_fd()).unwrap();
        let mut last = accept(listener);
        drop(peer);
        let number = last.request();
        last.respond(number, "at last");
    });
    assert_eq!(client.got, b"at last");
}

#[test]
fn what_comes_back_every_time_is_a_503() {
    let group = group();
    let mut client = Memory::default();
    let outcome = outcome(&group, &mut client, |listener| {
        for _ in 0..5 {
            let peer = accept(listener);
            peer.say(|out| message::go_away(out, 0));
        }
    });
    assert_eq!(outcome, Outcome::Status(503));
    assert!(client.log.concat().contains("handed the request back"), "{:?}", client.log);
    assert!(nobody_waits(&group));
}

/// The frames of a response, each with what becomes of the request when the process dies after it.
#[test]
fn a_death_at_any_frame_is_told_and_nothing_is_sent_twice() {
    type Say = fn(&mut Vec<u8>, u32);
    let said: [(Say, Outcome, bool); 6] = [
        (|_, _| {}, Outcome::Status(502), false),
        (|out, number| message::log(out, number, 1, "said"), Outcome::Status(502), false),
        (|out, number| message::read(out, number, 10, true), Outcome::Status(502), false),
        (head, Outcome::Sent, true),
        (|out, number| data(out, number, b"part"), Outcome::Sent, true),
        (|out, number| message::end(out, number, PLAIN), Outcome::Sent, false),
    ];
    for deadly in 0..said.len() {
        let group = group();
        let mut client = Memory::with_body(&[b"0123456789012345"]);
        client.expects = true;
        let outcome = outcome(&group, &mut client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            for (at, (say, ..)) in said[..=deadly].iter().enumerate() {
                peer.say(|out| say(out, number));
                if at == 2 {
                    assert_eq!(peer.next(), Got::Body(b"0123456789".to_vec(), false));
                }
            }
        });
        let (_, expected, cut) = &said[deadly];
        assert_eq!((outcome, client.was_cut), (*expected, *cut), "after frame {deadly}");
        assert_eq!(client.ended, deadly == 5);
        let told = client.log.iter().any(|line| line.contains("it was killed"));
        assert_eq!(told, deadly != 5, "{:?}", client.log);
        assert!(nobody_waits(&group), "sent twice after frame {deadly}");
    }
}

#[test]
fn silence_is_a_504_and_is_not_tried_again() {
    for all in [None, Some(Duration::from_millis(30))] {
        let mut group = group();
        group.link.patience = all;
        if all.is_none() {
            group.link.socket_timeout = Duration::from_millis(30);
        }
        let mut client = Memory::default();
        let outcome = outcome(&group, &mut client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            // Signs of life count for the silence, but not for the time in all.
            if all.is_some() {
                peer.say(|out| message::log(out, number, 1, "alive"));
            }
            assert_eq!(peer.next(), Got::End);
        });
        assert_eq!(outcome, Outcome::Status(504), "{all:?}");
        assert!(nobody_waits(&group));
    }
}

#[test]
fn a_group_that_is_full_is_a_503_at_once() {
    let mut group = group();
    group.link.capacity = 0;
    group.link.waiting = 0;
    let mut client = Memory::default();
    assert_eq!(serve(&mut client, &group.link), Outcome::Status(503));
    assert_eq!(client.log.len(), 1);
    assert!(nobody_waits(&group));
}

#[test]
fn a_group_that_cannot_be_reached_is_a_503() {
    let gone = group();
    let Group { link, listener, directory } = gone;
    // Nobody listens, then there is no socket.
    drop(listener);
    for words in ["connect-timeout", "No such file"] {
        let mut client = Memory::default();
        assert_eq!(serve(&mut client, &link), Outcome::Status(503));
        assert!(client.log.concat().contains(words), "{:?}", client.log);
        if words == "connect-timeout" {
            std::fs::remove_file(directory.path().join("socket")).unwrap();
        }
    }
    let mut down = group();
    down.link.down = |group| Some(format!("{group} does not start"));
    let mut client = Memory::default();
    assert_eq!(serve(&mut client, &down.link), Outcome::Status(503));
    assert!(client.log.concat().contains("1 does not start"));
}

#[test]
fn a_socket_of_somebody_else_is_told_nothing() {
    let mut group = group();
    group.link.listener_uid += 1;
    let mut client = Memory::default();
    let outcome = outcome(&group, &mut client, |listener| {
        assert_eq!(accept(listener).next(), Got::End);
    });
    assert_eq!(outcome, Outcome::Status(503));
    assert!(client.log.concat().contains("made by user"), "{:?}", client.log);
}

#[test]
fn bodies_go_inline_in_a_file_or_as_they_are_asked_for() {
    let block = vec![b'x'; 60_000];
    // Too long for one piece with the head.
    let mut group = group();
    run(&group, Memory::with_body(&[&block, b"end"]), |listener| {
        let mut peer = accept(listener);
        assert_eq!(peer.next(), Got::Hello);
        let Got::Request { body, inline, file, .. } = peer.next() else { panic!("no request") };
        assert_eq!((body, inline.len()), (RequestBody::File, 0));
        assert!(file.unwrap() == [&block[..], b"end"].concat());
        peer.respond(1, "file");
    });
    // Beyond the bound: what was gathered, then the rest.
    group.link.request_buffering = 100_000;
    let body = [block.as_slice(), &block, &block].concat();
    let mut got = Vec::new();
    run(&group, Memory::with_body(&[&block, &block, &block]), |listener| {
        let mut peer = accept(listener);
        assert_eq!(peer.next(), Got::Hello);
        let Got::Request { body, .. } = peer.next() else { panic!("no request") };
        assert_eq!(body, RequestBody::Asked);
        let mut last = false;
        while !last {
            peer.say(|out| message::read(out, 1, 50_000, false));
            let mut left = 50_000_usize;
            while left > 0 && !last {
                let Got::Body(bytes, ends) = peer.next() else { panic!("no body") };
                left = left.checked_sub(bytes.len()).expect("more than asked for");
                got.extend(bytes);
                last = ends;
            }
        }
        peer.respond(1, "asked");
    });
    assert!(got == body);
    // Without any gathering.
    group.link.request_buffering = 0;
    run(&group, Memory::with_body(&[b"x"]), |listener| {
        let mut peer = accept(listener);
        assert_eq!(peer.next(), Got::Hello);
        let Got::Request { body, .. } = peer.next() else { panic!("no request") };
        assert_eq!(body, RequestBody::Asked);
        peer.respond(1, "not read");
    });
}

#[test]
fn a_body_that_breaks_off_is_told_where_it_does() {
    let group = group();
    let mut client = Memory::with_body(&[b"part"]);
    client.body.push_back(Err("the client went away".to_owned()));
    run(&group, client, |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.say(|out| message::read(out, number, 100, true));
        assert_eq!(peer.next(), Got::Body(b"part".to_vec(), false));
        assert_eq!(peer.next(), Got::BodyFault("the client went away".to_owned()));
        peer.respond(number, "seen");
    });
}

#[test]
fn leave_to_send_is_given_when_the_application_reads() {
    let group = group();
    for reads in [false, true] {
        let mut client = Memory::with_body(&[b"body"]);
        client.expects = true;
        let client = run(&group, client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            if reads {
                peer.say(|out| message::read(out, number, 100, true));
                assert_eq!(peer.next(), Got::Body(b"body".to_vec(), false));
                assert_eq!(peer.next(), Got::Body(Vec::new(), true));
            }
            peer.say(|out| respond(out, number, "x", Ending { close: true, ..PLAIN }));
        });
        assert_eq!(client.continued, usize::from(reads));
    }
}

/// Neither side waits for the other: the client sends the rest only once it has seen an answer to the
/// beginning.
#[test]
fn body_and_response_flow_at_the_same_time() {
    let mut group = group();
    group.link.request_buffering = 0;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (seen, answers) = mpsc::channel();
    let client =
        Memory { has_body: true, later: Some(ours), seen: Some(seen), ..Memory::default() };
    let client = thread::scope(|scope| {
        scope.spawn(move || {
            for word in [&b"one"[..], b"two", b"three"] {
                theirs.write_all(word).unwrap();
                let answer = answers.recv_timeout(Duration::from_secs(20)).unwrap();
                assert_eq!(answer, word);
            }
        });
        run(&group, client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            peer.say(|out| {
                head(out, number);
                message::read(out, number, 1000, true);
            });
            loop {
                match peer.next() {
                    Got::Body(bytes, false) => peer.say(|out| data(out, number, &bytes)),
                    Got::Body(_, true) => break,
                    other => panic!("{other:?}"),
                }
            }
            peer.say(|out| message::end(out, number, PLAIN));
        })
    });
    assert_eq!(client.got, b"onetwothree");
    assert!(client.ended);
}

/// Both directions full at once: the process writes without reading what it asked for, and the other way
/// round.
#[test]
fn full_sockets_in_both_directions_do_not_block_each_other() {
    const SIZE: usize = 1024 * 1024;
    let mut group = group();
    group.link.request_buffering = 0;
    let body = vec![b'u'; SIZE];
    let client = run(&group, Memory::with_body(&[&body]), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.say(|out| {
            head(out, number);
            message::read(out, number, u32::try_from(SIZE).unwrap(), true);
        });
        let block = vec![b'd'; SIZE];
        peer.say(|out| data(out, number, &block));
        let mut left = SIZE;
        while left > 0 {
            let Got::Body(bytes, _) = peer.next() else { panic!("no body") };
            left -= bytes.len();
        }
        peer.say(|out| message::end(out, number, PLAIN));
    });
    assert_eq!(client.got.len(), SIZE);
}

#[test]
fn a_client_that_is_gone_frees_the_process() {
    let group = group();
    let client = Memory { gone: true, ..Memory::default() };
    run(&group, client, |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.say(|out| {
            head(out, number);
            data(out, number, b"x");
        });
        assert_eq!(peer.next(), Got::Cancel);
        assert_eq!(peer.next(), Got::End);
    });
}

#[test]
fn a_response_that_is_overridden_is_read_and_its_connection_kept() {
    let group = group();
    let mut client = Memory { overridden: Some(404), ..Memory::default() };
    let mut kept = None;
    let first = outcome(&group, &mut client, |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.say(|out| {
            head(out, number);
            message::log(out, number, 1, "said afterwards");
            data(out, number, b"not wanted");
            message::end(out, number, PLAIN);
        });
        kept = Some(peer);
    });
    assert_eq!(first, Outcome::Status(404));
    assert_eq!((client.got.len(), client.log), (0, vec!["said afterwards".to_owned()]));
    let mut peer = kept.unwrap();
    run(&group, Memory::default(), |_| {
        let number = peer.request();
        peer.respond(number, "next");
    });
}

#[test]
fn failures_and_aborts_are_passed_on_at_once() {
    let group = group();
    for ending in [PLAIN, LINGER] {
        let mut client = Memory::default();
        let failed = outcome(&group, &mut client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            // What lingers here never ends.
            peer.say(|out| message::failed(out, number, 504, ending));
            if ending.linger {
                assert_eq!(peer.next(), Got::End);
            }
        });
        assert_eq!(failed, Outcome::Status(504));
        let client = run(&group, Memory::default(), |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            peer.say(|out| {
                head(out, number);
                message::abort(out, number, "reason", ending);
            });
            if ending.linger {
                assert_eq!(peer.next(), Got::End);
            }
        });
        assert!(client.was_cut && !client.ended);
    }
}

#[test]
fn what_is_logged_after_the_response_arrives_and_the_connection_is_kept() {
    let group = group();
    let mut kept = None;
    let client = run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        peer.say(|out| respond(out, number, "x", LINGER));
        peer.say(|out| message::log(out, number, 1, "close() failed"));
        peer.say(|out| message::done(out, number, false));
        kept = Some(peer);
    });
    assert!(client.ended);
    assert_eq!(client.log, ["close() failed"]);
    let mut peer = kept.unwrap();
    run(&group, Memory::default(), |_| {
        let number = peer.request();
        peer.respond(number, "next");
    });
}

#[test]
fn files_come_as_descriptors_and_only_within_their_size() {
    let group = group();
    let path = group.directory.path().join("file");
    std::fs::write(&path, b"0123456789").unwrap();
    for (offset, length, fits) in [(2, 5, true), (0, 10, true), (6, 5, false), (11, 0, false)] {
        let client = run(&group, Memory::default(), |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            let mut out = Vec::new();
            head(&mut out, number);
            message::file(&mut out, number, offset, length, Ending { close: true, ..PLAIN });
            let file = std::fs::File::open(&path).unwrap();
            let descriptors = [file.as_fd()];
            socket::send(peer.socket.as_fd(), &[&out], &descriptors, Wait::Yes).unwrap();
        });
        assert_eq!((client.ended, client.was_cut), (fits, !fits), "{offset} {length}");
        if fits {
            let (from, count) = (offset.try_into().unwrap(), length.try_into().unwrap());
            assert_eq!(
                client.got,
                b"0123456789".iter().skip(from).take(count).copied().collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_descriptor_too_many_ends_the_connection() {
    let group = group();
    let file = std::fs::File::open("/dev/null").unwrap();
    run(&group, Memory::default(), |listener| {
        let mut peer = accept(listener);
        let number = peer.request();
        let mut out = Vec::new();
        respond(&mut out, number, "x", PLAIN);
        let descriptors = [file.as_fd()];
        socket::send(peer.socket.as_fd(), &[&out], &descriptors, Wait::Yes).unwrap();
        assert_eq!(peer.next(), Got::End);
    });
}

#[test]
fn rubbish_is_a_502_and_later_a_cut() {
    for begun in [false, true] {
        let group = group();
        let mut client = Memory::default();
        let outcome = outcome(&group, &mut client, |listener| {
            let mut peer = accept(listener);
            let number = peer.request();
            peer.say(|out| {
                if begun {
                    head(out, number);
                }
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
            });
            // The child hangs up by itself.
            assert!(matches!(peer.next(), Got::End | Got::Reset));
        });
        let expected = if begun { Outcome::Sent } else { Outcome::Status(502) };
        assert_eq!((outcome, client.was_cut), (expected, begun));
        assert!(client.log.concat().contains("unknown kind"), "{:?}", client.log);
        assert!(nobody_waits(&group));
    }
}
