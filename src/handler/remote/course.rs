//! One request's course on a connection: what each frame means, and what the loss of the connection does.
//!
//! No I/O, so that every way it can go is tested.

use std::fmt;

use engine::wire::message::{FromDaemon, Head};
use engine::wire::order::{DaemonOrder, Stage};
use engine::wire::{Fault, Frame};

/// Longest head with first body bytes after which a reset tells that nothing of it was read: the kernel
/// takes it as one piece.
pub(super) const ONE_PIECE: usize = 32 * 1024;

/// A connection's conversation and the request it is about.
#[derive(Debug, Default)]
pub(super) struct Course {
    order: DaemonOrder,
    sent: Sent,
    head_only: bool,
    /// Whether body bytes are left to be asked for.
    body: bool,
    credit: u32,
    /// What the head says about the length of the body, and how much has come.
    promised: Option<u64>,
    given: u64,
    /// Whether a last frame has come that keeps the promise, or says that nothing will.
    settled: bool,
}

/// How far the request itself has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sent {
    /// Not to its end: nobody can have started on it.
    #[default]
    Partly,
    /// At once, no longer than [`ONE_PIECE`].
    InOnePiece,
    /// To its end, in several pieces.
    InPieces,
}

/// What a frame asks for.
#[derive(Debug)]
pub(super) enum Act<'f> {
    /// Nothing.
    Nothing,
    /// The request was not read: send it again, elsewhere.
    Again,
    /// Write to the request's log.
    Log {
        /// 0 is the most severe.
        level: u8,
        text: &'f str,
    },
    /// Read request body. `first`: a client that waits for `100 Continue` gets it.
    Feed { first: bool },
    /// Status and headers.
    Begin(Head<'f>),
    /// Response body.
    Data { bytes: &'f [u8], flush: bool },
    /// The response is complete.
    End { flush: bool },
    /// A part of the file that came along is the body, and the response is complete.
    File { offset: u64, length: u64, flush: bool },
    /// The response is not completed.
    Cut(Why<'f>),
    /// There is none; httpd answers with this status.
    Answer(u16),
}

/// Why a response is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why<'f> {
    /// The application's process said so.
    Told(&'f str),
    /// It ended before its Content-Length.
    Short { promised: u64, given: u64 },
}

/// How a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The other side closed it. `torn`: within a frame.
    Closed { torn: bool },
    /// The other side closed it with bytes of ours unread.
    Reset { torn: bool },
    /// Nothing came for as long as it may.
    Silent,
    /// What came breaks the rules.
    Wrong(Fault),
    /// The system failed.
    Failed(String),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { torn: false } => f.write_str("the connection was closed"),
            Self::Closed { torn: true } => f.write_str("the connection was closed within a frame"),
            Self::Reset { .. } => f.write_str("the connection was reset"),
            Self::Silent => f.write_str("nothing came within the time allowed"),
            Self::Wrong(fault) => write!(f, "it sent {fault}"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

/// What becomes of a request whose connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody has started on it: send it again, elsewhere.
    Again,
    /// httpd answers with this status.
    Answer(u16),
    /// Its head has been handed over: the response is cut.
    Cut,
    /// The response was complete before.
    Complete,
}

impl Course {
    /// Begins a request and gives its number; `None` if this connection carries no further one.
    pub(super) fn request(&mut self, expects_body: bool, head_only: bool) -> Option<u32> {
        let number = self.order.request(expects_body)?;
        *self = Self { order: self.order, head_only, body: expects_body, ..Self::default() };
        Some(number)
    }

    /// Takes note of how far the request was sent.
    pub(super) fn sent(&mut self, sent: Sent) {
        self.sent = sent;
    }

    /// What a frame asks for. After a fault the connection is lost by [`Loss::Wrong`].
    pub(super) fn frame<'f>(&mut self, frame: &Frame<'f>) -> Result<Act<'f>, Fault> {
        let message = FromDaemon::decode(frame)?;
        let goaway = match message {
            FromDaemon::GoAway { last } => Some(last),
            _ => None,
        };
        self.order.accept(&frame.header, goaway)?;
        let act = match message {
            FromDaemon::GoAway { .. } if self.order.unread() => Act::Again,
            FromDaemon::GoAway { .. } | FromDaemon::Done { .. } => Act::Nothing,
            FromDaemon::Log { level, text } => Act::Log { level, text },
            FromDaemon::Read { credit, first } => {
                self.credit = self.credit.saturating_add(credit);
                Act::Feed { first }
            }
            FromDaemon::Head(head) => {
                // Statuses without a body promise none (RFC 9110 section 6.4.1).
                let bodiless = matches!(head.status(), 204 | 304);
                self.promised = head.content_length().filter(|_| !bodiless);
                Act::Begin(head)
            }
            FromDaemon::Data { bytes, flush } => {
                self.book(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
                Act::Data { bytes, flush }
            }
            FromDaemon::End(ending) => match self.short() {
                Some(why) => Act::Cut(why),
                None => Act::End { flush: ending.flush },
            },
            FromDaemon::File { offset, length, ending } => {
                self.book(length)?;
                match self.short() {
                    Some(why) => Act::Cut(why),
                    None => Act::File { offset, length, flush: ending.flush },
                }
            }
            FromDaemon::Abort { reason, .. } => Act::Cut(Why::Told(reason)),
            FromDaemon::Failed { status, .. } => Act::Answer(status),
        };
        self.settled |= self.has_ended();
        Ok(act)
    }

    /// More than promised would be taken for the next response by the client.
    fn book(&mut self, count: u64) -> Result<(), Fault> {
        self.given = self.given.saturating_add(count);
        match self.promised {
            Some(promised) if self.given > promised => {
                Err(Fault::Value("the body is longer than its Content-Length"))
            }
            _ => Ok(()),
        }
    }

    fn short(&self) -> Option<Why<'static>> {
        let promised = self.promised.filter(|_| !self.head_only)?;
        (self.given < promised).then_some(Why::Short { promised, given: self.given })
    }

    /// What becomes of the request now that the connection is lost.
    pub(super) fn lost(&self, loss: &Loss) -> Fate {
        match self.order.stage() {
            Stage::Away if self.order.unread() => Fate::Again,
            Stage::Idle | Stage::Lingering | Stage::Away if self.settled => Fate::Complete,
            // The last frame was one that breaks the head's promise.
            Stage::Idle | Stage::Lingering | Stage::Away => Fate::Cut,
            Stage::Body => Fate::Cut,
            Stage::Waiting if *loss == Loss::Silent => Fate::Answer(504),
            Stage::Waiting if self.unstarted(loss) => Fate::Again,
            Stage::Waiting => Fate::Answer(502),
        }
    }

    /// Whether it is certain that nobody has started on the request.
    fn unstarted(&self, loss: &Loss) -> bool {
        // A frame that has begun to arrive may be one for this request.
        let untouched = match loss {
            Loss::Closed { torn } | Loss::Reset { torn } => !torn,
            Loss::Failed(_) => true,
            Loss::Silent | Loss::Wrong(_) => false,
        } && !self.order.answered();
        untouched
            && match self.sent {
                Sent::Partly => true,
                // A reset says that bytes were unread, and one piece is read whole or not at all. A plain close
                // says that all was read: somebody may have begun.
                Sent::InOnePiece => matches!(loss, Loss::Reset { .. }),
                Sent::InPieces => false,
            }
    }

    /// Whether the process waits for request body that has not been sent.
    pub(super) fn wants_body(&self) -> bool {
        self.body && self.credit > 0
    }

    /// How many bytes of it may be sent.
    pub(super) fn credit(&self) -> usize {
        usize::try_from(self.credit).unwrap_or(usize::MAX)
    }

    /// Takes note of body bytes that were sent, and whether they were the last.
    pub(super) fn fed(&mut self, count: usize, last: bool) {
        self.credit = self.credit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        self.body &= !last;
    }

    /// Whether the whole response is there, and with it all that its process has to say.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.order.stage(), Stage::Idle | Stage::Away)
    }

    /// Whether the whole response is there, whatever its process still does.
    pub(super) fn has_ended(&self) -> bool {
        self.is_over() || self.order.stage() == Stage::Lingering
    }

    /// Whether another request may be sent on this connection.
    pub(super) fn reusable(&self) -> bool {
        self.order.reusable()
    }
}

#[cfg(test)]
mod tests;
