//! The sending side of one connection.
//!
//! Shared by the thread that serves a request, the flusher, which sends what that thread does not wait for, and the
//! clock, which answers in its place when it does not come back. One of them sends at a time, so that their frames
//! never mix; while it does, the lock is free.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::os::own::{self, Guarded};
use crate::os::socket::{self, Wait};
use crate::wire::Batch;
use crate::wire::frame::{HEADER, Header, MAX_STREAM};
use crate::wire::message::{self, Ending, Kind};
use crate::wsgi::{Head, Level, Outcome, SendFault, Then};

/// One connection.
pub(super) struct Line {
    socket: Arc<Guarded>,
    state: Mutex<Sending>,
    /// Signalled when the flusher has sent and somebody waits for that.
    sent: Condvar,
}

struct Sending {
    /// Frames that go with the next send.
    out: Vec<u8>,
    ahead: Ahead,
    number: u32,
    stage: Stage,
    /// Nothing reaches the other side any more.
    gone: bool,
    /// The other side wants no more of the response, only what is said in its log.
    unwanted: bool,
    /// Whether nothing of the response has been sent.
    untouched: bool,
    sender: Sender,
    /// Whether somebody waits for the flusher's send.
    awaited: bool,
    /// Whether the flusher is going to look here.
    scheduled: bool,
}

/// What goes before all else.
#[derive(Default)]
struct Ahead {
    /// What the socket did not take of the flusher's last send.
    rest: Vec<u8>,
    /// How far `rest` has gone.
    at: usize,
    /// Blocks that are to go as one DATA frame, behind room for its header.
    pile: Vec<u8>,
}

/// Who is sending just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Nobody,
    /// It does not wait.
    Flusher,
    /// It may wait until the other side takes something.
    Thread,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no request.
    Idle,
    /// No head yet.
    Before,
    /// The head has gone.
    Body,
    /// All but END has gone, or waits in `out`.
    Complete,
    /// END has gone; DONE follows.
    Lingering,
    /// ABORT has gone, after which the other side reads nothing more; DONE follows all the same.
    Cut,
    /// Answered by the clock.
    Over,
}

/// Where a block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing has been sent of the response, so there is room.
    Open,
    /// To others, which the flusher is about to send.
    Joins,
    /// Nothing is ahead of it.
    Free,
    /// Behind more than can wait.
    Behind,
}

/// What became of a block that need not go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piled {
    /// Nothing: it has to be sent.
    Not,
    /// The flusher will come to it.
    Yes,
    /// The same, once it is told of this line.
    First,
}

/// What the flusher leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing. It does not look here again until it is told to.
    All,
    /// More has come meanwhile.
    More,
    /// The socket takes no more.
    Full {
        /// Whether it took anything.
        moved: bool,
    },
}

/// What the clock's answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// There was nothing to be answered any more.
    Not,
    /// The response, or its visible end, is on its way.
    Yes,
}

impl Line {
    pub(super) fn new(socket: Arc<Guarded>) -> Self {
        let state = Sending {
            out: Vec::new(),
            ahead: Ahead::default(),
            number: 0,
            stage: Stage::Idle,
            gone: false,
            unwanted: false,
            untouched: true,
            sender: Sender::Nobody,
            awaited: false,
            scheduled: false,
        };
        Self { socket, state: Mutex::new(state), sent: Condvar::new() }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        (*self.socket).as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line while nobody sends on it; `None` in a forked process, where whoever does will not end.
    fn turn(&self) -> Option<MutexGuard<'_, Sending>> {
        if own::forked() {
            return None;
        }
        let mut state = self.lock();
        while state.sender != Sender::Nobody {
            state = self.wait(state);
        }
        Some(state)
    }

    fn wait<'l>(&self, mut state: MutexGuard<'l, Sending>) -> MutexGuard<'l, Sending> {
        state.awaited = true;
        self.sent.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The line after a send that was begun.
    fn done(&self) -> MutexGuard<'_, Sending> {
        let mut state = self.lock();
        state.sender = Sender::Nobody;
        if std::mem::take(&mut state.awaited) {
            self.sent.notify_all();
        }
        state
    }

    /// A request begins.
    pub(super) fn begin(&self, number: u32) {
        let Some(mut state) = self.turn() else { return };
        state.number = number;
        state.stage = Stage::Before;
        state.out.clear();
        state.untouched = true;
    }

    /// Whether what is to be sent next goes without a wait: the other side has taken all that was sent before a
    /// request when it sends that, so there is room.
    pub(super) fn takes_at_once(&self) -> bool {
        let state = self.lock();
        state.untouched && state.out.len() <= AT_ONCE
    }

    /// Nobody wants the response any more; what is logged still has its reader.
    pub(super) fn cancel(&self) {
        if !own::forked() {
            self.lock().unwanted = true;
        }
    }

    /// The connection is of no more use.
    pub(super) fn forsake(&self) {
        if !own::forked() {
            self.lock().gone = true;
        }
    }

    /// Asks for body. `false`: nobody can be asked.
    pub(super) fn ask(&self, credit: u32, first: bool) -> bool {
        let Some(mut state) = self.turn() else { return false };
        if state.gone || state.unwanted || !matches!(state.stage, Stage::Before | Stage::Body) {
            return false;
        }
        let number = state.number;
        message::read(&mut state.out, number, credit, first);
        self.flush(state).1
    }

    /// See [`crate::wsgi::Exchange::send`].
    pub(super) fn send(
        &self,
        head: Option<&Head>,
        blocks: &[&[u8]],
        then: Then,
    ) -> Result<(), SendFault> {
        let Some(mut state) = self.turn() else { return Err(SendFault::Gone) };
        let size: usize = blocks.iter().map(|block| block.len()).sum();
        // The other side holds back less than one full frame, and sees the length of what ends within it.
        let told = then != Then::Flush && size >= MAX_STREAM;
        open(&mut state, head, told.then_some(size))?;
        let number = state.number;
        if then == Then::End && size <= MAX_STREAM {
            // END goes along when the application's part is over.
            append(&mut state.out, number, blocks, size);
            state.stage = Stage::Complete;
            return Ok(());
        }
        let mut out = std::mem::take(&mut state.out);
        let mut batch = Batch::new(&mut out);
        message::data(&mut batch, number, blocks, then == Then::Flush);
        match then {
            Then::Flush => {}
            Then::End => state.stage = Stage::Complete,
            Then::EndNow => {
                message::end(batch.out(), number, LINGER);
                state.stage = Stage::Lingering;
            }
        }
        let (mut state, sent) = self.transmit(state, &batch.slices(), &[]);
        out.clear();
        state.out = out;
        if sent { Ok(()) } else { Err(SendFault::Gone) }
    }

    /// Sends a part of a file as the rest of the response, by its descriptor.
    pub(super) fn send_file(
        &self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        let Some(mut state) = self.turn() else { return Err(SendFault::Gone) };
        open(&mut state, head, None)?;
        let number = state.number;
        message::file(&mut state.out, number, offset, length, LINGER);
        state.stage = Stage::Lingering;
        let out = std::mem::take(&mut state.out);
        let (state, sent) = self.transmit(state, &[&out], &[file.as_fd()]);
        drop(state);
        if sent { Ok(()) } else { Err(SendFault::Gone) }
    }

    /// Where a block of this size would go now.
    pub(super) fn way(&self, size: usize) -> Way {
        if own::forked() {
            return Way::Free;
        }
        let state = self.lock();
        if state.untouched && state.ahead.is_empty() && state.out.len() <= AT_ONCE {
            Way::Open
        } else if state.scheduled && state.takes(size) {
            Way::Joins
        } else if state.sender == Sender::Nobody && state.ahead.is_empty() {
            Way::Free
        } else {
            Way::Behind
        }
    }

    /// Leaves blocks of the response to the flusher, or only if it has others to send where `first` is not set. Does
    /// not wait.
    pub(super) fn pile(&self, blocks: &[&[u8]], first: bool) -> Piled {
        if own::forked() {
            return Piled::Not;
        }
        let mut state = self.lock();
        let size: usize = blocks.iter().map(|block| block.len()).sum();
        if !(first || state.scheduled) || !state.takes(size) {
            return Piled::Not;
        }
        let pile = &mut state.ahead.pile;
        if pile.is_empty() {
            pile.reserve_exact(HEADER + MAX_STREAM);
            pile.extend_from_slice(&[0; HEADER]);
        }
        blocks.iter().for_each(|block| pile.extend_from_slice(block));
        if std::mem::replace(&mut state.scheduled, true) { Piled::Yes } else { Piled::First }
    }

    /// The flusher's part: sends what is there, without waiting. `spare` is a buffer to be used and used again.
    pub(super) fn flush_pile(&self, spare: &mut Vec<u8>) -> Flushed {
        let mut state = self.lock();
        // A thread that sends takes all of it along.
        if state.sender == Sender::Thread || state.gone || state.ahead.is_empty() {
            state.scheduled = false;
            return Flushed::All;
        }
        let number = state.number;
        let at = state.ahead.take_one(number, spare);
        state.sender = Sender::Flusher;
        drop(state);
        let result = socket::send(self.socket(), &[&spare[at..]], &[], Wait::No);
        let mut state = self.done();
        match result {
            Ok(()) => {
                spare.clear();
                if !state.ahead.is_empty() {
                    return Flushed::More;
                }
            }
            Err(fault) if fault.error.kind() == io::ErrorKind::WouldBlock => {
                // On from there, whoever sends next.
                state.ahead.rest = std::mem::take(spare);
                state.ahead.at = at + fault.sent;
                return Flushed::Full { moved: fault.sent != 0 };
            }
            Err(_) => {
                spare.clear();
                state.lose(self.socket());
            }
        }
        state.scheduled = false;
        Flushed::All
    }

    /// The flusher gives up on a socket that has taken nothing for too long.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        state.scheduled = false;
        // A thread that sends knows by itself how long it waits.
        if state.sender == Sender::Nobody && !state.ahead.is_empty() {
            state.lose(self.socket());
        }
    }

    /// Cuts the response.
    pub(super) fn abort(&self, reason: &str) {
        let Some(mut state) = self.turn() else { return };
        if state.gone || state.unwanted || !matches!(state.stage, Stage::Body | Stage::Complete) {
            return;
        }
        let number = state.number;
        message::abort(&mut state.out, number, reason, LINGER);
        state.stage = Stage::Cut;
        drop(self.flush(state));
    }

    /// Writes to the log of the request. `false`: nobody reads it there any more.
    pub(super) fn log(&self, level: Level, text: &str) -> bool {
        let Some(mut state) = self.turn() else { return false };
        if state.gone || matches!(state.stage, Stage::Idle | Stage::Cut | Stage::Over) {
            return false;
        }
        let number = state.number;
        message::log(&mut state.out, number, level as u8, text);
        // Sent at once, so that it is there even if the process does not live on; what only waits for END does
        // not have to wait long.
        state.stage == Stage::Complete || self.flush(state).1
    }

    /// Ends the response. `true`: another request can come here.
    pub(super) fn finish(&self, outcome: Outcome, close: bool) -> bool {
        let Some(mut state) = self.turn() else { return false };
        let number = state.number;
        let ending = Ending { close, ..Ending::default() };
        match state.stage {
            Stage::Before => {
                let status = match outcome {
                    Outcome::Refused(status) if (400..600).contains(&status) => status,
                    _ => 500,
                };
                message::failed(&mut state.out, number, status, ending);
            }
            Stage::Body => message::abort(&mut state.out, number, "cut", ending),
            Stage::Complete => message::end(&mut state.out, number, ending),
            Stage::Lingering | Stage::Cut => message::done(&mut state.out, number, close),
            Stage::Idle | Stage::Over => return false,
        }
        state.stage = Stage::Idle;
        // A cancelled request ends like any other; a broken connection fails once more.
        state.gone = false;
        state.unwanted = false;
        let (mut state, sent) = self.flush(state);
        // Its buffers are large, and most responses need none.
        state.ahead = Ahead::default();
        sent && !close
    }

    /// Answers in place of the thread that serves the request, and ends the connection. Does not wait.
    pub(super) fn answer_for(&self, status: u16, level: Level, text: &str) -> Answered {
        let mut state = self.lock();
        while state.sender == Sender::Flusher {
            state = self.wait(state);
        }
        if state.sender == Sender::Thread {
            // In the middle of a send: the other side takes nothing.
            own::cut(self.socket());
            return Answered::Yes;
        }
        let state = &mut *state;
        let number = state.number;
        let ending = Ending { close: true, ..Ending::default() };
        if !matches!(state.stage, Stage::Idle | Stage::Over) {
            if state.stage == Stage::Complete {
                // Not sent yet, or not wholly: the log has its place before the end in either case.
                state.stage = Stage::Body;
            }
            message::log(&mut state.out, number, level as u8, text);
        }
        match state.stage {
            Stage::Before => message::failed(&mut state.out, number, status, ending),
            Stage::Body | Stage::Complete => {
                message::abort(&mut state.out, number, "the request took too long", ending);
            }
            Stage::Lingering | Stage::Cut => message::done(&mut state.out, number, true),
            Stage::Idle | Stage::Over => return Answered::Not,
        }
        let out = std::mem::take(&mut state.out);
        let ahead = state.ahead.take(number);
        let [rest, pile] = ahead.slices();
        // What does not fit is lost, and the end of the connection says so.
        let _ = socket::send(self.socket(), &[rest, pile, &out], &[], Wait::No);
        state.stage = Stage::Over;
        state.gone = true;
        own::cut(self.socket());
        Answered::Yes
    }

    /// Says that nothing more is read here after request `last`.
    pub(super) fn go_away(&self, last: u32) {
        let mut frame = Vec::with_capacity(HEADER + 4);
        message::go_away(&mut frame, last);
        let Some(state) = self.turn() else { return };
        if state.ahead.rest.is_empty() {
            // Where it does not fit the other side reads nothing either.
            let _ = socket::send(self.socket(), &[&frame], &[], Wait::No);
        }
    }

    /// Sends `out`.
    fn flush<'l>(&'l self, mut state: MutexGuard<'l, Sending>) -> (MutexGuard<'l, Sending>, bool) {
        let mut out = std::mem::take(&mut state.out);
        let (mut state, sent) = self.transmit(state, &[&out], &[]);
        out.clear();
        state.out = out;
        (state, sent)
    }

    /// Sends, behind what is to go ahead of it. Nobody else is sending.
    fn transmit<'l>(
        &'l self,
        mut state: MutexGuard<'l, Sending>,
        slices: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> (MutexGuard<'l, Sending>, bool) {
        if state.gone {
            return (state, false);
        }
        state.untouched = false;
        state.sender = Sender::Thread;
        if state.ahead.is_empty() {
            drop(state);
            let result = socket::send(self.socket(), slices, descriptors, Wait::Yes);
            let mut state = self.done();
            let Err(fault) = result else { return (state, true) };
            state.gone = true;
            if fault.sent != 0 || fault.error.kind() == io::ErrorKind::WouldBlock {
                state.lose(self.socket());
            }
            return (state, false);
        }
        let number = state.number;
        let mut ahead = state.ahead.take(number);
        drop(state);
        let slices = [&ahead.slices()[..], slices].concat();
        let sent = socket::send(self.socket(), &slices, descriptors, Wait::Yes).is_ok();
        let mut state = self.done();
        // To be used again.
        ahead.pile.clear();
        state.ahead.pile = ahead.pile;
        if !sent {
            state.lose(self.socket());
        }
        (state, sent)
    }
}

/// Up to this size an empty socket takes all of a send, and one that takes anything almost all.
pub(super) const AT_ONCE: usize = 16 * 1024;

impl Sending {
    /// A frame is torn, or never comes: the other side must not wait for it.
    fn lose(&mut self, socket: BorrowedFd<'_>) {
        self.gone = true;
        own::cut(socket);
    }

    /// Whether blocks of this size may join the pile: they and what is there make up one frame.
    fn takes(&self, size: usize) -> bool {
        let free = (HEADER + MAX_STREAM).saturating_sub(self.ahead.pile.len().max(HEADER));
        !(self.gone || self.unwanted)
            && self.stage == Stage::Body
            && self.sender != Sender::Thread
            && size <= free
    }
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.pile.is_empty()
    }

    /// Takes all of it, ready to be sent.
    fn take(&mut self, number: u32) -> Self {
        let mut taken = std::mem::take(self);
        close(&mut taken.pile, number);
        taken
    }

    /// Takes what the socket did not take, or else the pile, into an empty buffer. Gives where to begin in it.
    fn take_one(&mut self, number: u32, buffer: &mut Vec<u8>) -> usize {
        if self.rest.is_empty() {
            close(&mut self.pile, number);
            std::mem::swap(&mut self.pile, buffer);
            return 0;
        }
        *buffer = std::mem::take(&mut self.rest);
        std::mem::take(&mut self.at)
    }

    fn slices(&self) -> [&[u8]; 2] {
        [&self.rest[self.at..], &self.pile]
    }
}

/// Fills in the header of the pile.
fn close(pile: &mut [u8], number: u32) {
    let length = u32::try_from(pile.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
    if let Some(place) = pile.first_chunk_mut() {
        let flags = message::flag::FLUSH;
        *place = Header { length, kind: Kind::Data as u8, flags, number }.encode();
    }
}

/// Begins the response where that has not been done. `length` is that of the whole body, to be told where the
/// application does not.
fn open(state: &mut Sending, head: Option<&Head>, length: Option<usize>) -> Result<(), SendFault> {
    if state.gone || state.unwanted || !matches!(state.stage, Stage::Before | Stage::Body) {
        return Err(SendFault::Gone);
    }
    let Some(head) = head else { return Ok(()) };
    let length = length
        .filter(|_| head.content_length().is_none() && !matches!(head.status(), 204 | 304))
        .and_then(|length| CString::new(length.to_string()).ok());
    let added = length.as_deref().map(|length| (c"Content-Length", length));
    let headers = head.headers().chain(added);
    if message::head(&mut state.out, state.number, head.line(), headers).is_err() {
        let text = "the response's headers are too many or too large to be passed on";
        message::log(&mut state.out, state.number, Level::Error as u8, text);
        return Err(SendFault::Overridden(500));
    }
    state.stage = Stage::Body;
    Ok(())
}

/// What goes with the end of a response whose application goes on.
const LINGER: Ending = Ending { flush: true, close: false, linger: true };

/// Adds one DATA frame with a copy of the blocks.
fn append(out: &mut Vec<u8>, number: u32, blocks: &[&[u8]], size: usize) {
    if size == 0 {
        return;
    }
    let length = u32::try_from(size).unwrap_or(u32::MAX);
    let header = Header { length, kind: Kind::Data as u8, flags: 0, number };
    out.extend_from_slice(&header.encode());
    blocks.iter().for_each(|block| out.extend_from_slice(block));
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::os::{Arrival, Inbound};
    use crate::wire::message::FromDaemon;

    /// A line in the middle of the body of response 1, and its other end.
    pub(in super::super) fn in_body() -> (Arc<Line>, OwnedFd) {
        let (ours, theirs) = socket::pair().unwrap();
        let line = Line::new(Arc::new(Guarded::new(ours)));
        line.begin(1);
        line.lock().stage = Stage::Body;
        (Arc::new(line), theirs)
    }

    /// What the other side is sent up to the end of the response, or until it has `most` bytes of it: the texts of log
    /// records, and between them the bytes of the body.
    pub(in super::super) fn heard(theirs: &OwnedFd, most: usize) -> Vec<(Kind, Vec<u8>)> {
        let mut inbound = Inbound::new(message::from_daemon, 1);
        let mut heard: Vec<(Kind, Vec<u8>)> = Vec::new();
        let mut left = most;
        while left > 0 {
            let Some((frame, _)) = inbound.frame().unwrap() else {
                match inbound.receive(theirs.as_fd(), Wait::Yes).unwrap() {
                    Arrival::Bytes => continue,
                    Arrival::End { torn } => panic!("the end, torn: {torn}, after {heard:?}"),
                }
            };
            assert_eq!(frame.header.number, 1);
            match FromDaemon::decode(&frame).unwrap() {
                FromDaemon::Data { bytes, .. } => {
                    left = left.saturating_sub(bytes.len());
                    match heard.last_mut() {
                        Some((Kind::Data, last)) => last.extend_from_slice(bytes),
                        _ => heard.push((Kind::Data, bytes.to_vec())),
                    }
                }
                FromDaemon::Log { text, .. } => heard.push((Kind::Log, text.into())),
                FromDaemon::End(_) => heard.push((Kind::End, Vec::new())),
                FromDaemon::Done { .. } => return heard,
                FromDaemon::Abort { reason, .. } => {
                    heard.push((Kind::Abort, reason.into()));
                    return heard;
                }
                other => panic!("{other:?}"),
            }
        }
        heard
    }

    /// Sends until the socket takes no more. Nobody is going to look after the line then.
    pub(in super::super) fn fill(line: &Line) -> Vec<u8> {
        let (mut all, mut spare) = (Vec::new(), Vec::new());
        loop {
            let block = vec![b'a' + u8::try_from(all.len() % 23).unwrap(); 5000];
            assert_ne!(line.pile(&[&block], true), Piled::Not);
            all.extend_from_slice(&block);
            match line.flush_pile(&mut spare) {
                Flushed::All => {}
                Flushed::Full { .. } => {
                    line.lock().scheduled = false;
                    return all;
                }
                Flushed::More => panic!("nobody else is there"),
            }
        }
    }

    #[test]
    fn after_a_cut_the_log_of_the_request_is_closed() {
        let (ours, _theirs) = socket::pair().unwrap();
        let line = Line::new(Arc::new(Guarded::new(ours)));
        assert!(!line.log(Level::Error, "between requests"));
        line.begin(1);
        line.send(None, &[b"x"], Then::End).unwrap();
        assert!(line.log(Level::Error, "while it runs"));
        line.abort("it broke");
        assert!(!line.log(Level::Error, "its reader has gone"));
        assert!(line.finish(Outcome::Sent, false), "the connection is whole all the same");
    }

    #[test]
    fn whoever_sends_takes_the_pile_along() {
        let (line, theirs) = in_body();
        assert_eq!(line.pile(&[b"a"], true), Piled::First);
        assert_eq!(line.pile(&[b"b", b"c"], true), Piled::Yes);
        assert!(line.log(Level::Error, "one"));
        // Still announced to the flusher, which finds what came since.
        assert_eq!(line.way(1), Way::Joins);
        assert_eq!(line.pile(&[b"d"], false), Piled::Yes);
        assert_eq!(line.flush_pile(&mut Vec::new()), Flushed::All);
        assert_eq!(line.way(1), Way::Free);
        assert_eq!(line.pile(&[b"e"], false), Piled::Not);
        assert_eq!(line.pile(&[b"e"], true), Piled::First);
        line.send(None, &[b"f"], Then::EndNow).unwrap();
        assert_eq!(line.flush_pile(&mut Vec::new()), Flushed::All);
        assert!(line.finish(Outcome::Sent, false));
        let expected: [(Kind, &[u8]); 4] =
            [(Kind::Data, b"abc"), (Kind::Log, b"one"), (Kind::Data, b"def"), (Kind::End, b"")];
        let heard = heard(&theirs, usize::MAX);
        assert!(heard.iter().map(|(kind, text)| (*kind, &text[..])).eq(expected), "{heard:?}");
    }

    #[test]
    fn only_the_body_of_a_living_response_is_piled() {
        let (ours, _theirs) = socket::pair().unwrap();
        let line = Line::new(Arc::new(Guarded::new(ours)));
        assert_eq!(line.pile(&[b"x"], true), Piled::Not);
        let (line, _theirs) = in_body();
        let block = vec![0; MAX_STREAM - 1];
        assert_eq!(line.pile(&[&block], true), Piled::First);
        assert_eq!((line.way(1), line.way(2)), (Way::Joins, Way::Behind));
        assert_eq!(line.pile(&[b"xx"], true), Piled::Not);
        line.forsake();
        assert_eq!(line.pile(&[b"x"], true), Piled::Not);
        // It leaves that to the end of the response.
        assert_eq!(line.flush_pile(&mut Vec::new()), Flushed::All);
    }

    #[test]
    fn what_a_socket_does_not_take_goes_on_from_there() {
        let (line, theirs) = in_body();
        let mut all = fill(&line);
        let mut spare = Vec::new();
        assert_eq!(line.flush_pile(&mut spare), Flushed::Full { moved: false });
        all.push(b'x');
        assert_eq!(line.pile(&[b"x"], true), Piled::First);
        let heard = std::thread::scope(|scope| {
            let reader = scope.spawn(|| heard(&theirs, usize::MAX));
            // Waits until the other side has taken what is ahead.
            all.push(b'y');
            line.send(None, &[b"y"], Then::Flush).unwrap();
            assert_eq!(line.flush_pile(&mut spare), Flushed::All);
            line.abort("enough");
            reader.join().unwrap()
        });
        assert_eq!(heard.last(), Some(&(Kind::Abort, b"enough".to_vec())));
        assert!(heard[0].1 == all, "{} bytes instead of {}", heard[0].1.len(), all.len());
    }

    #[test]
    fn clock_answers_behind_the_pile() {
        let (line, theirs) = in_body();
        assert_eq!(line.pile(&[b"x"], true), Piled::First);
        assert_eq!(line.answer_for(504, Level::Error, "late"), Answered::Yes);
        assert_eq!(line.pile(&[b"y"], true), Piled::Not);
        assert!(line.send(None, &[b"y"], Then::Flush).is_err());
        let expected =
            [(Kind::Data, "x"), (Kind::Log, "late"), (Kind::Abort, "the request took too long")];
        let expected = expected.map(|(kind, text)| (kind, text.as_bytes().to_vec()));
        assert_eq!(heard(&theirs, usize::MAX), expected);
    }

    #[test]
    fn other_side_that_goes_ends_the_response() {
        let (line, theirs) = in_body();
        assert_eq!(line.pile(&[b"x"], true), Piled::First);
        drop(theirs);
        assert_eq!(line.flush_pile(&mut Vec::new()), Flushed::All);
        assert_eq!(line.pile(&[b"y"], true), Piled::Not);
        assert!(line.send(None, &[b"y"], Then::Flush).is_err());
        assert!(!line.finish(Outcome::Sent, false));
    }
}
