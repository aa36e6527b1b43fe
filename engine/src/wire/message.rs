//! Frames between an httpd child and a daemon process.
//!
//! Decoding borrows and checks everything at once: what is handed out needs no further look.
//! Encoding adds to a vector; bytes of bodies are sent from where they are (see
//! [`Batch`](super::Batch)).

mod head;
mod write;

use super::bytes::{self, Reader, no_nul};
use super::frame::{Carries, Fault, Frame, MAX_HEAD, MAX_STREAM, Rule};
use super::{BuildId, Secret};

pub use head::Head;
pub(super) use write::pieces;
pub use write::{
    RequestStart, RequestWriter, abort, body, body_fault, cancel, data, done, end, failed, file,
    go_away, head, hello, log, read, request,
};

/// Most entries of an environ: httpd lets 100 header fields through unless told otherwise; the rest
/// is for variables of other modules.
pub const MAX_ENTRIES: u32 = 10_000;

/// Most headers of a response.
pub const MAX_HEADERS: u16 = 16_384;

/// Most bytes that a daemon process may ask for at once: what a child has to be ready to read and
/// send without being asked again.
pub const MAX_CREDIT: u32 = 1024 * 1024;

/// Most bytes of a reason (BODY_FAULT, ABORT): one line of a log.
pub const MAX_REASON: usize = 1024;

/// The highest level of a log record; 0 is the most severe.
pub const MAX_LEVEL: u8 = 4;

/// Longest path of a script, as the kernel has it.
pub const MAX_PATH: usize = 4096;

/// Headers of the connection (RFC 9110 section 7.6.1), which are httpd's own business: a response
/// that carries one is refused.
pub const CONNECTION_HEADERS: [&[u8]; 6] =
    [b"transfer-encoding", b"keep-alive", b"te", b"trailer", b"upgrade", b"proxy-connection"];

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Child: the build and the group's secret; the first frame, and only that.
    Hello = 1,
    /// Child: a request.
    Request = 2,
    /// Child: bytes of its body.
    Body = 3,
    /// Child: the body cannot be read to its end.
    BodyFault = 4,
    /// Child: nobody wants the response any more.
    Cancel = 5,
    /// Daemon: asks for body.
    Read = 17,
    /// Daemon: status and headers.
    Head = 18,
    /// Daemon: bytes of the response's body.
    Data = 19,
    /// Daemon: the response is complete.
    End = 20,
    /// Daemon: a file is the whole body, and the response is complete.
    File = 21,
    /// Daemon: the response cannot be completed.
    Abort = 22,
    /// Daemon: there is no response, only a status.
    Failed = 23,
    /// Daemon: a record for the request's log.
    Log = 24,
    /// Daemon: no further requests are read here.
    GoAway = 25,
    /// Daemon: what lingered after the response is over.
    Done = 26,
}

impl TryFrom<u8> for Kind {
    type Error = Fault;

    fn try_from(kind: u8) -> Result<Self, Fault> {
        Ok(match kind {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Body,
            4 => Self::BodyFault,
            5 => Self::Cancel,
            17 => Self::Read,
            18 => Self::Head,
            19 => Self::Data,
            20 => Self::End,
            21 => Self::File,
            22 => Self::Abort,
            23 => Self::Failed,
            24 => Self::Log,
            25 => Self::GoAway,
            26 => Self::Done,
            _ => return Err(Fault::Kind(kind)),
        })
    }
}

/// Flags of the frames. Each kind has its own set, so numbers repeat.
pub mod flag {
    /// REQUEST: there is a body to be asked for by READ.
    pub const EXPECTS_BODY: u8 = 1;
    /// REQUEST: the whole body is in a file, whose descriptor comes with this frame.
    pub const HAS_FILE: u8 = 2;
    /// REQUEST: only the head of the response is wanted (HEAD).
    pub const HEAD_ONLY: u8 = 4;
    /// REQUEST: the whole body is in this frame.
    pub const LAST_BODY: u8 = 8;
    /// REQUEST: a changed script is to be loaded again.
    pub const RELOADING: u8 = 16;
    /// REQUEST: does not count as activity of the process.
    pub const IGNORE_ACTIVITY: u8 = 32;
    /// BODY: these are the last bytes.
    pub const LAST: u8 = 1;
    /// BODY_FAULT: refused by httpd's own limits, not lost.
    pub const REFUSED: u8 = 1;
    /// READ: the application reads for the first time.
    pub const CONTINUE: u8 = 1;
    /// DATA, END, FILE: all so far has to be on its way to the client.
    pub const FLUSH: u8 = 1;
    /// END, FILE, ABORT, FAILED, DONE: the daemon process closes the connection after this frame.
    pub const CLOSE: u8 = 2;
    /// END, FILE, ABORT, FAILED: the application goes on running; DONE follows when the connection
    /// can be used again.
    pub const LINGER: u8 = 4;
}

const fn rule(most: usize, flags: u8, numbered: bool) -> Option<Rule> {
    Some(Rule { most, flags, numbered, carries: Carries::Nothing })
}

/// What may come from a child.
#[must_use]
pub fn from_child(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::Hello => rule(64, 0, false),
        Kind::Request => {
            let flags = flag::EXPECTS_BODY
                | flag::HAS_FILE
                | flag::HEAD_ONLY
                | flag::LAST_BODY
                | flag::RELOADING
                | flag::IGNORE_ACTIVITY;
            let carries = Carries::DescriptorIf(flag::HAS_FILE);
            Some(Rule { most: MAX_HEAD, flags, numbered: true, carries })
        }
        Kind::Body => rule(MAX_STREAM, flag::LAST, true),
        Kind::BodyFault => rule(MAX_REASON, flag::REFUSED, true),
        Kind::Cancel => rule(0, 0, true),
        _ => None,
    }
}

/// What may come from a daemon process.
#[must_use]
pub fn from_daemon(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::Read => rule(4, flag::CONTINUE, true),
        Kind::Head => rule(MAX_HEAD, 0, true),
        Kind::Data => rule(MAX_STREAM, flag::FLUSH, true),
        Kind::End => rule(0, flag::FLUSH | flag::CLOSE | flag::LINGER, true),
        Kind::File => Some(Rule {
            most: 16,
            flags: flag::FLUSH | flag::CLOSE | flag::LINGER,
            numbered: true,
            carries: Carries::Descriptor,
        }),
        Kind::Abort => rule(MAX_REASON, flag::CLOSE | flag::LINGER, true),
        Kind::Failed => rule(2, flag::CLOSE | flag::LINGER, true),
        Kind::Log => rule(MAX_STREAM, 0, true),
        Kind::GoAway => rule(4, 0, false),
        Kind::Done => rule(0, flag::CLOSE, true),
        _ => None,
    }
}

/// What a child says.
#[derive(Clone, Debug)]
pub enum FromChild<'a> {
    /// See [`Kind::Hello`].
    Hello(Hello),
    /// See [`Kind::Request`].
    Request(Request<'a>),
    /// Bytes of the body, and whether they are the last.
    Body {
        /// The bytes; none only with `last`.
        bytes: &'a [u8],
        /// Whether no more will come.
        last: bool,
    },
    /// The body cannot be read to its end.
    BodyFault {
        /// Why, for the application and the log.
        reason: &'a str,
        /// Whether httpd's own limits refused it.
        refused: bool,
    },
    /// Nobody wants the response any more.
    Cancel,
}

/// The first frame on a connection.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The child's build.
    pub build: BuildId,
    /// The group's secret.
    pub proof: Secret,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What serves it.
    pub target: Target<'a>,
    /// The handler httpd chose.
    pub handler: &'a [u8],
    /// Modification time of the script in microseconds, as the child sees the file.
    pub mtime_us: i64,
    /// Whether a changed script is to be loaded again.
    pub reloading: bool,
    /// When httpd read the request, in microseconds since the epoch.
    pub request_start_us: u64,
    /// When it was handed to the group, in microseconds since the epoch.
    pub queue_start_us: u64,
    /// Whether only the head of the response is wanted.
    pub head_only: bool,
    /// Whether it counts as no activity of the process.
    pub ignore_activity: bool,
    /// The least severe level that gets into its log, 0 to [`MAX_LEVEL`].
    pub log_level: u8,
    /// Where the body is.
    pub body: RequestBody,
    /// Length of the body, where it is known.
    pub body_length: Option<u64>,
    /// The first bytes of the body, or all of them.
    pub inline: &'a [u8],
    /// The environ.
    pub entries: Entries<'a>,
}

/// Where the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// All of it is [`Request::inline`], possibly nothing.
    Whole,
    /// After [`Request::inline`] comes what READ asks for.
    Asked,
    /// All of it is in the file whose descriptor came with the frame; nothing is inline.
    File,
}

/// What serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A mount of the group, by its id.
    Mount(u64),
    /// A script that the child found under httpd's access rules.
    Script {
        /// The file, absolute.
        path: &'a [u8],
        /// The interpreter; empty is the main one.
        application_group: &'a str,
        /// The callable in it.
        callable: &'a str,
    },
}

/// One call to the builder of environ. Keys are numbers of the engine's list, checked by who knows
/// that list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A known key.
    Set {
        /// Which.
        key: u8,
        /// As latin-1.
        value: &'a [u8],
    },
    /// A known key that is a path.
    SetPath {
        /// Which.
        key: u8,
        /// In the file-system encoding.
        value: &'a [u8],
    },
    /// A known key that is a number of seconds.
    SetFloat {
        /// Which.
        key: u8,
        /// Finite.
        value: f64,
    },
    /// A request header.
    Header {
        /// As the client wrote it; not empty.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A variable of another module.
    Var {
        /// Not empty.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Whether the client speaks TLS to httpd.
    Https(bool),
}

/// The entries of an environ in the order they were added. All have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        entry(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

const SET: u8 = 1;
const SET_PATH: u8 = 2;
const SET_FLOAT: u8 = 3;
const HEADER: u8 = 4;
const VAR: u8 = 5;
const HTTPS: u8 = 6;

fn entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, Fault> {
    let name = |reader: &mut Reader<'a>| match no_nul(reader.short()?)? {
        [] => Err(Fault::Value("a name is empty")),
        name => Ok(name),
    };
    Ok(match reader.u8()? {
        SET => Entry::Set { key: reader.u8()?, value: no_nul(reader.long()?)? },
        SET_PATH => Entry::SetPath { key: reader.u8()?, value: no_nul(reader.long()?)? },
        SET_FLOAT => {
            let (key, value) = (reader.u8()?, reader.f64()?);
            if !value.is_finite() {
                return Err(Fault::Value("a time is not finite"));
            }
            Entry::SetFloat { key, value }
        }
        HEADER => Entry::Header { name: name(reader)?, value: no_nul(reader.long()?)? },
        VAR => Entry::Var { name: name(reader)?, value: no_nul(reader.long()?)? },
        HTTPS => Entry::Https(reader.bool()?),
        _ => return Err(Fault::Value("an environ entry is of no known form")),
    })
}

impl<'a> FromChild<'a> {
    /// Reads a frame that keeps the rules of [`from_child`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, Fault> {
        let flags = frame.header.flags;
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Hello => {
                Self::Hello(Hello { build: reader.array()?, proof: Secret::new(reader.array()?) })
            }
            Kind::Request => Self::Request(Request::decode(&mut reader, flags)?),
            Kind::Body => {
                let last = flags & flag::LAST != 0;
                Self::Body { bytes: some_or(reader.rest(), last)?, last }
            }
            Kind::BodyFault => Self::BodyFault {
                reason: bytes::text(reader.rest())?,
                refused: flags & flag::REFUSED != 0,
            },
            Kind::Cancel => Self::Cancel,
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl<'a> Request<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8) -> Result<Self, Fault> {
        let request_start_us = reader.u64()?;
        let queue_start_us = reader.u64()?;
        let mtime_us = reader.i64()?;
        let log_level = reader.u8()?;
        if log_level > MAX_LEVEL {
            return Err(Fault::Value("a log level is none"));
        }
        let body_length = if reader.bool()? { Some(reader.u64()?) } else { None };
        let target = match reader.u8()? {
            0 => Target::Mount(reader.u64()?),
            1 => Target::Script {
                path: path(reader.short()?)?,
                application_group: reader.short_text()?,
                callable: reader.short_text()?,
            },
            _ => return Err(Fault::Value("a target is of no known form")),
        };
        let handler = no_nul(reader.short()?)?;
        let left = reader.u32()?;
        if left > MAX_ENTRIES {
            return Err(Fault::TooMany);
        }
        let entries = Entries { reader: Reader::new(reader.long()?), left };
        let mut walk = entries;
        for _ in 0..left {
            entry(&mut walk.reader)?;
        }
        walk.reader.end()?;
        let inline = reader.long()?;
        let body = match flags & (flag::EXPECTS_BODY | flag::HAS_FILE | flag::LAST_BODY) {
            0 if inline.is_empty() => RequestBody::Whole,
            flag::LAST_BODY if !inline.is_empty() => RequestBody::Whole,
            flag::EXPECTS_BODY => RequestBody::Asked,
            flag::HAS_FILE => RequestBody::File,
            _ => return Err(Fault::Flags(flags)),
        };
        let inline_length = u64::try_from(inline.len()).unwrap_or(u64::MAX);
        let possible = match (body, body_length) {
            (RequestBody::Whole, Some(length)) => length == inline_length,
            (RequestBody::Asked, Some(length)) => length > inline_length,
            (RequestBody::Whole | RequestBody::Asked, None) => true,
            (RequestBody::File, length) => length.is_some() && inline.is_empty(),
        };
        if !possible {
            return Err(Fault::Value("the body does not have the length that is named"));
        }
        Ok(Self {
            target,
            handler,
            mtime_us,
            reloading: flags & flag::RELOADING != 0,
            request_start_us,
            queue_start_us,
            head_only: flags & flag::HEAD_ONLY != 0,
            ignore_activity: flags & flag::IGNORE_ACTIVITY != 0,
            log_level,
            body,
            body_length,
            inline,
            entries,
        })
    }
}

fn path(path: &[u8]) -> Result<&[u8], Fault> {
    if path.first() != Some(&b'/') || path.len() > MAX_PATH {
        return Err(Fault::Value("a path is not absolute or too long"));
    }
    no_nul(path)
}

/// A frame without bytes has to mean something by its flags: else a peer could keep this end busy
/// with nothing.
pub(super) fn some_or(bytes: &[u8], means: bool) -> Result<&[u8], Fault> {
    if bytes.is_empty() && !means { Err(Fault::Value("there is nothing")) } else { Ok(bytes) }
}

/// What a daemon process says.
#[derive(Clone, Copy, Debug)]
pub enum FromDaemon<'a> {
    /// Asks for body.
    Read {
        /// How many bytes more the child may send, beyond what it was asked for before; 0 only with
        /// `first`.
        credit: u32,
        /// Whether the application reads for the first time: a client that waits for `100 Continue`
        /// gets it.
        first: bool,
    },
    /// Status and headers.
    Head(Head<'a>),
    /// Bytes of the body.
    Data {
        /// The bytes; none only with `flush`.
        bytes: &'a [u8],
        /// Whether all so far has to be on its way to the client.
        flush: bool,
    },
    /// The response is complete.
    End(Ending),
    /// Part of the file whose descriptor came with the frame is the whole body, and the response is
    /// complete.
    File {
        /// Where it begins in the file.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// What follows.
        ending: Ending,
    },
    /// The head has gone and the response cannot be completed.
    Abort {
        /// Why, for the log.
        reason: &'a str,
        /// What follows.
        ending: Ending,
    },
    /// Nothing was sent; the child answers with this status. The reason is in the log.
    Failed {
        /// 400 to 599.
        status: u16,
        /// What follows.
        ending: Ending,
    },
    /// A record for the log of the request.
    Log {
        /// 0 (most severe) to [`MAX_LEVEL`].
        level: u8,
        /// Lines separated by `\n`.
        text: &'a str,
    },
    /// Nothing more is read here.
    GoAway {
        /// The last request that was read; 0 if none.
        last: u32,
    },
    /// What lingered is over.
    Done {
        /// Whether the daemon process closes the connection now.
        close: bool,
    },
}

/// What follows the last frame of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// All so far has to be on its way to the client.
    pub flush: bool,
    /// The daemon process closes the connection: it cannot be used again.
    pub close: bool,
    /// The application goes on running; DONE tells when the connection can be used again.
    pub linger: bool,
}

impl Ending {
    fn flags(self) -> u8 {
        (u8::from(self.flush) * flag::FLUSH)
            | (u8::from(self.close) * flag::CLOSE)
            | (u8::from(self.linger) * flag::LINGER)
    }

    fn from_flags(flags: u8) -> Result<Self, Fault> {
        let ending = Self {
            flush: flags & flag::FLUSH != 0,
            close: flags & flag::CLOSE != 0,
            linger: flags & flag::LINGER != 0,
        };
        // DONE says whether to close; closing now would lose it.
        if ending.close && ending.linger { Err(Fault::Flags(flags)) } else { Ok(ending) }
    }
}

impl<'a> FromDaemon<'a> {
    /// Reads a frame that keeps the rules of [`from_daemon`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, Fault> {
        let flags = frame.header.flags;
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Read => {
                let (credit, first) = (reader.u32()?, flags & flag::CONTINUE != 0);
                if credit > MAX_CREDIT || (credit == 0 && !first) {
                    return Err(Fault::Value("more is asked for than allowed, or nothing"));
                }
                Self::Read { credit, first }
            }
            Kind::Head => {
                let head = Head::decode(&mut reader)?;
                Self::Head(head)
            }
            Kind::Data => {
                let flush = flags & flag::FLUSH != 0;
                Self::Data { bytes: some_or(reader.rest(), flush)?, flush }
            }
            Kind::End => Self::End(Ending::from_flags(flags)?),
            Kind::File => {
                let (offset, length) = (reader.u64()?, reader.u64()?);
                // File offsets are signed in every interface below.
                if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
                    return Err(Fault::Value("a part of a file ends beyond any file"));
                }
                Self::File { offset, length, ending: Ending::from_flags(flags)? }
            }
            Kind::Abort => Self::Abort {
                reason: bytes::text(reader.rest())?,
                ending: Ending::from_flags(flags)?,
            },
            Kind::Failed => {
                let status = reader.u16()?;
                if !(400..600).contains(&status) {
                    return Err(Fault::Value("a failure's status is none"));
                }
                Self::Failed { status, ending: Ending::from_flags(flags)? }
            }
            Kind::Log => {
                let level = reader.u8()?;
                if level > MAX_LEVEL {
                    return Err(Fault::Value("a log level is none"));
                }
                Self::Log { level, text: bytes::text(some_or(reader.rest(), false)?)? }
            }
            Kind::GoAway => Self::GoAway { last: reader.u32()? },
            Kind::Done => Self::Done { close: flags & flag::CLOSE != 0 },
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}
