//! Frames between httpd's parent, the supervisor and daemon processes: plain data, field by field.
//!
//! These ends are not hostile to each other in one direction (the parent and the supervisor are
//! root), but a daemon process is the application's: what comes from it is checked like anything
//! else, and is small.

mod plain;
mod plan;

use std::time::Duration;

use super::bytes::{self, Reader};
use super::frame::{self, Carries, Fault, Frame, Rule};
use super::message::{pieces, some_or};

use plain::Plain;
pub use plan::{
    Configure, GroupPlan, Identity, ImportScript, InterpreterPlan, Life, Limits, Mount, PythonPlan,
    Ready, Reason, Section, Server, Setup, Stats, Syslog, Timeouts, Variable,
};

/// Most bytes of one group's plan: an environment and paths of a usual size many times over.
pub const MAX_PLAN: usize = 1024 * 1024;

/// Most bytes of a text from a daemon process (a log record, the traceback of a failed import).
pub const MAX_TEXT: usize = frame::MAX_STREAM;

/// The least severe level of a record: for debugging.
pub use super::message::MAX_LEVEL;

/// Most bytes of the frame that begins a configuration.
const MAX_CONFIGURE: usize = 512;

/// Most bytes of a path, as in Linux, with its length before it and a time behind.
const MAX_RUNS: usize = 4 + 4096 + 8;

/// The last facility of the system's log: `local7`.
pub const MAX_FACILITY: u8 = 23;

/// Most groups of one configuration.
pub const MAX_GROUPS: u32 = 4_096;

/// Kinds of frames. All belong to the connection: their number is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Parent: a configuration begins; carries the descriptor of a log.
    Configure = 1,
    /// Parent: one group of it; carries its listener.
    Group = 2,
    /// Parent: no child of this generation is left.
    RetireGeneration = 3,
    /// Parent: end everything.
    Stop = 4,
    /// Supervisor to parent: the configuration was taken over.
    Configured = 9,
    /// Supervisor to parent: the configuration was refused.
    Refused = 10,
    /// Supervisor to parent: all processes are gone.
    Stopped = 11,
    /// Supervisor to daemon: what to be.
    Setup = 33,
    /// Supervisor to daemon: take requests.
    Accept = 34,
    /// Supervisor to daemon: take no more requests, finish, exit.
    Retire = 35,
    /// Supervisor to daemon: the process that was to follow could not import.
    Stay = 36,
    /// Daemon: imported and able to serve.
    Ready = 41,
    /// Daemon: the application does not import.
    ImportFailed = 42,
    /// Daemon: alive, and how busy.
    Stats = 43,
    /// Daemon: wishes to be replaced.
    WantsReplacement = 44,
    /// Daemon: takes no more requests and has finished all.
    Retired = 45,
    /// Daemon: a record that belongs to no request.
    Log = 46,
    /// Daemon: a script that the setup does not name is run.
    Runs = 47,
}

impl TryFrom<u8> for Kind {
    type Error = Fault;

    fn try_from(kind: u8) -> Result<Self, Fault> {
        Ok(match kind {
            1 => Self::Configure,
            2 => Self::Group,
            3 => Self::RetireGeneration,
            4 => Self::Stop,
            9 => Self::Configured,
            10 => Self::Refused,
            11 => Self::Stopped,
            33 => Self::Setup,
            34 => Self::Accept,
            35 => Self::Retire,
            36 => Self::Stay,
            41 => Self::Ready,
            42 => Self::ImportFailed,
            43 => Self::Stats,
            44 => Self::WantsReplacement,
            45 => Self::Retired,
            46 => Self::Log,
            47 => Self::Runs,
            _ => return Err(Fault::Kind(kind)),
        })
    }
}

const fn rule(most: usize) -> Option<Rule> {
    Some(Rule { most, flags: 0, numbered: false, carries: Carries::Nothing })
}

const fn carrying(most: usize) -> Option<Rule> {
    Some(Rule { most, flags: 0, numbered: false, carries: Carries::Descriptor })
}

/// What may come from httpd's parent.
#[must_use]
pub fn from_parent(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::Configure => carrying(MAX_CONFIGURE),
        Kind::Group => carrying(MAX_PLAN),
        Kind::RetireGeneration | Kind::Stop => rule(64),
        _ => None,
    }
}

/// What may come to httpd's parent.
#[must_use]
pub fn to_parent(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::Configured | Kind::Stopped => rule(64),
        Kind::Refused => rule(MAX_TEXT),
        _ => None,
    }
}

/// What may come to a daemon process.
#[must_use]
pub fn to_daemon(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::Setup => rule(MAX_PLAN),
        Kind::Accept | Kind::Retire | Kind::Stay => rule(64),
        _ => None,
    }
}

/// What may come from a daemon process.
#[must_use]
pub fn from_daemon(kind: u8) -> Option<Rule> {
    match Kind::try_from(kind).ok()? {
        Kind::ImportFailed | Kind::Log => rule(MAX_TEXT),
        Kind::Runs => rule(MAX_RUNS),
        Kind::Ready | Kind::Stats | Kind::WantsReplacement | Kind::Retired => rule(128),
        _ => None,
    }
}

/// What httpd's parent says.
#[derive(Clone, Debug)]
pub enum FromParent {
    /// A configuration begins; the descriptor is the log to write to from now on.
    Configure(Configure),
    /// One group of it; the descriptor is its listener.
    Group(Box<GroupPlan>),
    /// No child of this generation is left: processes that only it used can go.
    RetireGeneration(u64),
    /// End everything.
    Stop {
        /// Whether requests are finished first.
        graceful: bool,
    },
}

/// What the supervisor answers to httpd's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToParent {
    /// The configuration of this generation was taken over.
    Configured(u64),
    /// The configuration was refused; the one before stays.
    Refused {
        /// Which.
        generation: u64,
        /// Why, for the log.
        reason: String,
    },
    /// All processes are gone.
    Stopped,
}

/// What the supervisor says to a daemon process.
#[derive(Clone, Debug)]
pub enum ToDaemon {
    /// What to be.
    Setup(Box<Setup>),
    /// Take requests.
    Accept,
    /// Take no more requests, finish, exit.
    Retire {
        /// Why.
        reason: Reason,
        /// How long requests may go on.
        within: Option<Duration>,
    },
    /// The process that was to follow could not import: there is no new code to be waited for.
    Stay,
}

/// What a daemon process says to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDaemon {
    /// Imported and able to serve.
    Ready(Ready),
    /// The application does not import.
    ImportFailed(String),
    /// Alive, and how busy.
    Stats(Stats),
    /// Wishes to be replaced.
    WantsReplacement(Reason),
    /// Takes no more requests and has finished all.
    Retired,
    /// A record that belongs to no request.
    Log {
        /// 0 (most severe) to [`MAX_LEVEL`].
        level: u8,
        /// Lines separated by `\n`.
        text: String,
    },
    /// A script that the setup does not name is run, and a change of it is new code.
    Runs {
        /// Its absolute path, as the process sees it.
        path: String,
        /// When the file was changed last that it was loaded from, in microseconds since the epoch.
        mtime_us: i64,
    },
}

/// Adds one frame.
fn put(
    out: &mut Vec<u8>,
    kind: Kind,
    most: usize,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Fault> {
    let open = frame::open(out, kind as u8, 0, 0);
    fill(out);
    open.close(out, 0, most)
}

impl FromParent {
    /// Adds the frame. A plan that is too large is refused, and nothing is added.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Configure(configure) => {
                put(out, Kind::Configure, MAX_CONFIGURE, |out| configure.put(out))
            }
            Self::Group(plan) => put(out, Kind::Group, MAX_PLAN, |out| plan.put(out)),
            Self::RetireGeneration(generation) => {
                put(out, Kind::RetireGeneration, 64, |out| generation.put(out))
            }
            Self::Stop { graceful } => put(out, Kind::Stop, 64, |out| graceful.put(out)),
        }
    }

    /// Reads a frame that keeps the rules of [`from_parent`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Fault> {
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Configure => {
                let configure = Configure::take(&mut reader)?;
                if configure.groups > MAX_GROUPS {
                    return Err(Fault::TooMany);
                }
                if configure.log_level > MAX_LEVEL {
                    return Err(Fault::Value("a log level is none"));
                }
                if configure.syslog.as_ref().is_some_and(|syslog| syslog.facility > MAX_FACILITY) {
                    return Err(Fault::Value("a facility is none"));
                }
                Self::Configure(configure)
            }
            Kind::Group => Self::Group(Box::new(Plain::take(&mut reader)?)),
            Kind::RetireGeneration => Self::RetireGeneration(Plain::take(&mut reader)?),
            Kind::Stop => Self::Stop { graceful: Plain::take(&mut reader)? },
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl ToParent {
    /// Adds the frame; a reason that is too long is cut.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Configured(generation) => {
                put(out, Kind::Configured, 64, |out| generation.put(out))
            }
            Self::Refused { generation, reason } => put(out, Kind::Refused, MAX_TEXT, |out| {
                generation.put(out);
                out.extend_from_slice(bytes::clip(reason, MAX_TEXT - 8).as_bytes());
            }),
            Self::Stopped => put(out, Kind::Stopped, 0, |_| ()),
        }
    }

    /// Reads a frame that keeps the rules of [`to_parent`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Fault> {
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Configured => Self::Configured(Plain::take(&mut reader)?),
            Kind::Refused => Self::Refused {
                generation: Plain::take(&mut reader)?,
                reason: bytes::text(reader.rest())?.to_owned(),
            },
            Kind::Stopped => Self::Stopped,
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl ToDaemon {
    /// Adds the frame. A setup that is too large is refused, and nothing is added.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Setup(setup) => put(out, Kind::Setup, MAX_PLAN, |out| setup.put(out)),
            Self::Accept => put(out, Kind::Accept, 0, |_| ()),
            Self::Stay => put(out, Kind::Stay, 0, |_| ()),
            Self::Retire { reason, within } => put(out, Kind::Retire, 64, |out| {
                reason.put(out);
                within.put(out);
            }),
        }
    }

    /// Reads a frame that keeps the rules of [`to_daemon`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Fault> {
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Setup => Self::Setup(Box::new(Plain::take(&mut reader)?)),
            Kind::Accept => Self::Accept,
            Kind::Stay => Self::Stay,
            Kind::Retire => Self::Retire {
                reason: Plain::take(&mut reader)?,
                within: Plain::take(&mut reader)?,
            },
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl FromDaemon {
    /// Adds the frame, or as many as a log record needs; the text of a failed import keeps its end
    /// when it is too long, where Python says what went wrong.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Ready(ready) => put(out, Kind::Ready, 128, |out| ready.put(out)),
            Self::ImportFailed(text) => put(out, Kind::ImportFailed, MAX_TEXT, |out| {
                out.extend_from_slice(bytes::clip_start(text, MAX_TEXT).as_bytes());
            }),
            Self::Stats(stats) => put(out, Kind::Stats, 128, |out| stats.put(out)),
            Self::WantsReplacement(reason) => {
                put(out, Kind::WantsReplacement, 128, |out| reason.put(out))
            }
            Self::Retired => put(out, Kind::Retired, 0, |_| ()),
            Self::Log { level, text } => log(out, *level, text),
            Self::Runs { path, mtime_us } => put(out, Kind::Runs, MAX_RUNS, |out| {
                path.put(out);
                mtime_us.put(out);
            }),
        }
    }

    /// Reads a frame that keeps the rules of [`from_daemon`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Fault> {
        let mut reader = Reader::new(frame.payload);
        let message = match Kind::try_from(frame.header.kind)? {
            Kind::Ready => Self::Ready(Plain::take(&mut reader)?),
            Kind::ImportFailed => Self::ImportFailed(bytes::text(reader.rest())?.to_owned()),
            Kind::Stats => Self::Stats(Plain::take(&mut reader)?),
            Kind::WantsReplacement => Self::WantsReplacement(Plain::take(&mut reader)?),
            Kind::Retired => Self::Retired,
            Kind::Log => {
                let level = reader.u8()?;
                if level > MAX_LEVEL {
                    return Err(Fault::Value("a log level is none"));
                }
                Self::Log { level, text: bytes::text(some_or(reader.rest(), false)?)?.to_owned() }
            }
            Kind::Runs => {
                let path = String::take(&mut reader)?;
                if !path.starts_with('/') {
                    return Err(Fault::Value("a script has no absolute path"));
                }
                Self::Runs { path, mtime_us: Plain::take(&mut reader)? }
            }
            _ => return Err(Fault::Kind(frame.header.kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

/// Adds a record that belongs to no request, without a copy of its text.
pub fn log(out: &mut Vec<u8>, level: u8, text: &str) -> Result<(), Fault> {
    pieces(text).try_for_each(|piece| {
        put(out, Kind::Log, MAX_TEXT, |out| {
            out.push(level.min(MAX_LEVEL));
            out.extend_from_slice(piece.as_bytes());
        })
    })
}
