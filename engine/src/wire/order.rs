//! Which frame may follow which: the conversation as each end sees it.
//!
//! A connection carries one request at a time. Both machines are told of every frame that came in,
//! before it is looked into, and of what this end does itself.

use super::frame::{Fault, Header};
use super::message::{Kind, flag};

/// What a daemon process does with a frame from a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It belongs here.
    Here,
    /// It is for a request that was answered while it was under way: drop it.
    Late,
}

/// The conversation as the daemon process sees it: HELLO, then requests 1, 2, 3 …, each with its
/// body.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChildOrder {
    greeted: bool,
    /// The latest request; 0 before the first.
    latest: u32,
    /// Whether it is being answered.
    active: bool,
    /// Whether body bytes may still come for it.
    body: bool,
}

impl ChildOrder {
    /// A connection on which nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a frame from the child.
    pub fn accept(&mut self, header: &Header) -> Result<Place, Fault> {
        let kind = Kind::try_from(header.kind)?;
        if !self.greeted {
            self.greeted = kind == Kind::Hello;
            return if self.greeted { Ok(Place::Here) } else { Err(Fault::Order(header.kind)) };
        }
        match kind {
            Kind::Request => {
                if self.active {
                    return Err(Fault::Order(header.kind));
                }
                if self.latest.checked_add(1) != Some(header.number) {
                    return Err(Fault::Number(header.number));
                }
                self.latest = header.number;
                self.active = true;
                self.body = header.flags & flag::EXPECTS_BODY != 0;
            }
            Kind::Body | Kind::BodyFault | Kind::Cancel => {
                if header.number != self.latest {
                    return Err(Fault::Number(header.number));
                }
                let ends = kind == Kind::BodyFault || header.flags & flag::LAST != 0;
                if kind != Kind::Cancel {
                    if !self.body {
                        return Err(Fault::Order(header.kind));
                    }
                    self.body = !ends;
                }
                if !self.active {
                    return Ok(Place::Late);
                }
            }
            _ => return Err(Fault::Order(header.kind)),
        }
        Ok(Place::Here)
    }

    /// Says that the last frame of the response was sent.
    pub fn finish(&mut self) {
        self.active = false;
    }

    /// The latest request that was read here; 0 if none. This is what GOAWAY names.
    #[must_use]
    pub fn latest(&self) -> u32 {
        self.latest
    }

    /// Whether a request is being answered.
    #[must_use]
    pub fn active(&self) -> bool {
        self.active
    }

    /// Whether body bytes may still come.
    #[must_use]
    pub fn expects_body(&self) -> bool {
        self.body
    }
}

/// Where a response is, as the httpd child sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// No request is under way.
    #[default]
    Idle,
    /// The request was sent; no head yet.
    Waiting,
    /// The head is there.
    Body,
    /// The response is complete but the application goes on running: log records may come, then
    /// DONE.
    Lingering,
    /// The daemon process reads no more requests here.
    Away,
}

/// The conversation as the httpd child sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DaemonOrder {
    stage: Stage,
    latest: u32,
    /// Whether the latest request has a body that may be asked for.
    body: bool,
    /// Whether anything came for the latest request: it must not be sent again then.
    answered: bool,
    /// What GOAWAY named.
    away: Option<u32>,
    /// Whether the daemon process closes the connection after this response.
    closing: bool,
}

impl DaemonOrder {
    /// A connection on which nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number for the next request, which is under way from now on; `None` if this connection
    /// carries no further one.
    pub fn request(&mut self, expects_body: bool) -> Option<u32> {
        if !self.reusable() {
            return None;
        }
        self.latest = self.latest.checked_add(1)?;
        self.stage = Stage::Waiting;
        self.body = expects_body;
        self.answered = false;
        Some(self.latest)
    }

    /// Takes note of a frame from the daemon process. `goaway` is the number that a GOAWAY frame
    /// names.
    pub fn accept(&mut self, header: &Header, goaway: Option<u32>) -> Result<(), Fault> {
        let kind = Kind::try_from(header.kind)?;
        if let (Kind::GoAway, Some(last)) = (kind, goaway) {
            return self.go_away(last);
        }
        if header.number != self.latest {
            return Err(Fault::Number(header.number));
        }
        let wrong = Err(Fault::Order(header.kind));
        let ended = if header.flags & flag::LINGER != 0 { Stage::Lingering } else { Stage::Idle };
        self.stage = match (self.stage, kind) {
            (stage @ (Stage::Waiting | Stage::Body | Stage::Lingering), Kind::Log) => stage,
            // Also after the last of the body: it may have been asked for before that was seen.
            (stage @ (Stage::Waiting | Stage::Body), Kind::Read) if self.body => stage,
            (Stage::Waiting, Kind::Head) | (Stage::Body, Kind::Data) => Stage::Body,
            (Stage::Body, Kind::End | Kind::File) => ended,
            (Stage::Body, Kind::Abort) | (Stage::Waiting, Kind::Failed) => ended,
            (Stage::Lingering, Kind::Done) => Stage::Idle,
            _ => return wrong,
        };
        self.answered = true;
        self.closing |= header.flags & flag::CLOSE != 0
            && matches!(kind, Kind::End | Kind::File | Kind::Abort | Kind::Failed | Kind::Done);
        Ok(())
    }

    fn go_away(&mut self, last: u32) -> Result<(), Fault> {
        // Told twice, or told to have read what was never sent, or not to have read what was
        // answered.
        let answered = if self.answered { self.latest } else { self.latest.saturating_sub(1) };
        if self.away.is_some() || last > self.latest || last < answered {
            return Err(Fault::Number(last));
        }
        self.away = Some(last);
        if last < self.latest || self.stage == Stage::Idle {
            self.stage = Stage::Away;
        }
        Ok(())
    }

    /// Where the response is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether another request may be sent here.
    #[must_use]
    pub fn reusable(&self) -> bool {
        self.stage == Stage::Idle && !self.closing && self.away.is_none() && self.latest != u32::MAX
    }

    /// Whether a frame came for the latest request. From then on it is never sent again.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Whether the daemon process has said that it did not read the latest request.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.away.is_some_and(|last| last < self.latest)
    }
}
