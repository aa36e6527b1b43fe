//! The sending side of one connection.
//!
//! Shared by the thread that serves a request and the clock, which answers in its place when it does not come back.
//! Frames are sent under the lock, so that those of the two never mix.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

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
}

struct Sending {
    /// Frames that go with the next send.
    out: Vec<u8>,
    number: u32,
    stage: Stage,
    /// Nothing reaches the other side any more.
    gone: bool,
    /// Whether nothing of the response has been sent.
    untouched: bool,
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
            number: 0,
            stage: Stage::Idle,
            gone: false,
            untouched: true,
        };
        Self { socket, state: Mutex::new(state) }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        (*self.socket).as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub(super) fn begin(&self, number: u32) {
        let mut state = self.lock();
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

    /// Nobody wants the response any more.
    pub(super) fn forsake(&self) {
        self.lock().gone = true;
    }

    /// Asks for body. `false`: nobody can be asked.
    pub(super) fn ask(&self, credit: u32, first: bool) -> bool {
        let mut state = self.lock();
        if state.gone || !matches!(state.stage, Stage::Before | Stage::Body) {
            return false;
        }
        let number = state.number;
        message::read(&mut state.out, number, credit, first);
        self.flush(&mut state)
    }

    /// See [`crate::wsgi::Exchange::send`].
    pub(super) fn send(
        &self,
        head: Option<&Head>,
        blocks: &[&[u8]],
        then: Then,
    ) -> Result<(), SendFault> {
        let mut state = self.lock();
        let state = &mut *state;
        let size: usize = blocks.iter().map(|block| block.len()).sum();
        // The other side holds back less than one full frame, and sees the length of what ends within it.
        let told = then != Then::Flush && size >= MAX_STREAM;
        self.open(state, head, told.then_some(size))?;
        if then == Then::End && size <= MAX_STREAM {
            // END goes along when the application's part is over.
            append(&mut state.out, state.number, blocks, size);
            state.stage = Stage::Complete;
            return Ok(());
        }
        let mut out = std::mem::take(&mut state.out);
        let mut batch = Batch::new(&mut out);
        message::data(&mut batch, state.number, blocks, then == Then::Flush);
        match then {
            Then::Flush => {}
            Then::End => state.stage = Stage::Complete,
            Then::EndNow => {
                message::end(batch.out(), state.number, LINGER);
                state.stage = Stage::Lingering;
            }
        }
        let sent = self.transmit(state, &batch.slices(), &[]);
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
        let mut state = self.lock();
        let state = &mut *state;
        self.open(state, head, None)?;
        message::file(&mut state.out, state.number, offset, length, LINGER);
        state.stage = Stage::Lingering;
        let out = std::mem::take(&mut state.out);
        let sent = self.transmit(state, &[&out], &[file.as_fd()]);
        if sent { Ok(()) } else { Err(SendFault::Gone) }
    }

    /// Begins the response where that has not been done. `length` is that of the whole body, to be told where the
    /// application does not.
    fn open(
        &self,
        state: &mut Sending,
        head: Option<&Head>,
        length: Option<usize>,
    ) -> Result<(), SendFault> {
        if state.gone || !matches!(state.stage, Stage::Before | Stage::Body) {
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

    /// Cuts the response.
    pub(super) fn abort(&self, reason: &str) {
        let mut state = self.lock();
        if state.gone || !matches!(state.stage, Stage::Body | Stage::Complete) {
            return;
        }
        let number = state.number;
        message::abort(&mut state.out, number, reason, LINGER);
        state.stage = Stage::Cut;
        self.flush(&mut state);
    }

    /// Writes to the log of the request. `false`: nobody reads it there any more.
    pub(super) fn log(&self, level: Level, text: &str) -> bool {
        let mut state = self.lock();
        if state.gone || matches!(state.stage, Stage::Idle | Stage::Cut | Stage::Over) {
            return false;
        }
        let number = state.number;
        message::log(&mut state.out, number, level as u8, text);
        // Sent at once, so that it is there even if the process does not live on; what only waits for END does
        // not have to wait long.
        state.stage == Stage::Complete || self.flush(&mut state)
    }

    /// Ends the response. `true`: another request can come here.
    pub(super) fn finish(&self, outcome: Outcome, close: bool) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
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
        self.flush(state) && !close
    }

    /// Answers in place of the thread that serves the request, and ends the connection. Does not wait.
    pub(super) fn answer_for(&self, status: u16, level: Level, text: &str) -> Answered {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // In the middle of a send: the other side takes nothing.
                own::cut(self.socket());
                return Answered::Yes;
            }
        };
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
        // What does not fit is lost, and the end of the connection says so.
        let _ = socket::send(self.socket(), &[&out], &[], Wait::No);
        state.stage = Stage::Over;
        state.gone = true;
        own::cut(self.socket());
        Answered::Yes
    }

    /// Says that nothing more is read here after request `last`.
    pub(super) fn go_away(&self, last: u32) {
        let mut frame = Vec::with_capacity(HEADER + 4);
        message::go_away(&mut frame, last);
        let _state = self.lock();
        if !own::forked() {
            // Where it does not fit the other side reads nothing either.
            let _ = socket::send(self.socket(), &[&frame], &[], Wait::No);
        }
    }

    fn flush(&self, state: &mut Sending) -> bool {
        let mut out = std::mem::take(&mut state.out);
        let sent = self.transmit(state, &[&out], &[]);
        out.clear();
        state.out = out;
        sent
    }

    fn transmit(
        &self,
        state: &mut Sending,
        slices: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> bool {
        if state.gone || own::forked() {
            state.gone = true;
            return false;
        }
        state.untouched = false;
        match socket::send(self.socket(), slices, descriptors, Wait::Yes) {
            Ok(()) => true,
            Err(fault) => {
                state.gone = true;
                if fault.sent != 0 || fault.error.kind() == io::ErrorKind::WouldBlock {
                    // A torn frame, or one that never comes: the other side must not wait for the rest.
                    own::cut(self.socket());
                }
                false
            }
        }
    }
}

/// Up to this size an empty socket takes all of a send, and one that takes anything almost all.
pub(super) const AT_ONCE: usize = 16 * 1024;

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
mod tests {
    use super::*;

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
}
