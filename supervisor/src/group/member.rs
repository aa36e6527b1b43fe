//! One process of a group, as the machine knows it.

use std::fmt;

use crate::Time;

/// Names a process within its group; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u32);

/// Why a process is replaced. The later ones are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It has not had a request for `inactivity-timeout`.
    Inactive,
    /// It is as old as `restart-interval` allows.
    Age,
    /// It has had `maximum-requests`.
    MaximumRequests,
    /// There are more processes than wanted, or the group is not wanted any more.
    Surplus,
    /// It was started by a supervisor that is gone.
    TakenOver,
    /// The server was reloaded.
    Reload,
    /// A script that it has loaded has changed.
    ScriptChanged,
    /// It left, or asked to, for a reason of its own.
    OwnAccord,
    /// It did not load its scripts within `startup-timeout`, and serves meanwhile.
    Startup,
    /// It has used its memory.
    Memory,
    /// It has used its CPU time.
    Cpu,
    /// A request takes longer than `request-timeout`.
    RequestTimeout,
    /// It cannot accept connections any more.
    Starved,
    /// Its status socket is gone.
    Lost,
    /// Its interpreter did not answer for `deadlock-timeout`.
    Deadlock,
    /// It did not say anything for as long: it is stopped.
    Silent,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "it had no request for inactivity-timeout",
            Self::Age => "it reached the age of restart-interval",
            Self::MaximumRequests => "it served maximum-requests",
            Self::Surplus => "it is no longer wanted",
            Self::TakenOver => "the supervisor was restarted",
            Self::Reload => "the server was reloaded",
            Self::ScriptChanged => "its script changed",
            Self::OwnAccord => "it asked to",
            Self::Startup => "it did not load its scripts within startup-timeout",
            Self::Memory => "it reached its memory limit",
            Self::Cpu => "it reached cpu-time-limit",
            Self::RequestTimeout => "a request ran longer than request-timeout",
            Self::Starved => "it had no descriptors or memory left to accept connections",
            Self::Lost => "its status socket was lost",
            Self::Deadlock => "its interpreter was stuck for deadlock-timeout",
            Self::Silent => "it gave no sign of life for deadlock-timeout",
        })
    }
}

/// Why a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Unasked, while it served.
    Crashed,
    /// Unasked, before it was ready.
    Unready,
    /// It was ended because it was not ready within `startup-timeout`.
    StartupTimeout,
    /// It was ended because it could not import its scripts.
    NotImported,
    /// It is a service, and its scripts returned.
    ScriptEnded,
    /// It was replaced, and finished its requests.
    Retired(Why),
    /// It was replaced, and did not finish its requests in time.
    Overdue(Why),
    /// It did not end when told to, and was killed.
    Killed,
    /// The server ends.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Started, not yet ready.
    Starting { since: Time },
    /// Takes requests.
    Serving { since: Time },
    /// Finishes its requests.
    Retiring { until: Option<Time> },
    /// Was sent SIGTERM.
    Ending { until: Option<Time> },
    /// Was sent SIGKILL; nothing more can be done.
    Killed,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) place: u32,
    pub(super) state: State,
    pub(super) born: Time,
    /// What the scripts looked like when it was started.
    pub(super) scripts: u64,
    /// Why it shall be replaced.
    pub(super) want: Option<Why>,
    /// It has come to the end of its scripts, or runs the application of one: what it dies of is something else.
    pub(super) loaded: bool,
    /// It serves although it could not import its scripts.
    pub(super) broken: bool,
    /// Why it ends, once that is decided.
    pub(super) cause: Option<Cause>,
}

impl Member {
    pub(super) fn new(id: MemberId, place: u32, scripts: u64, now: Time) -> Self {
        Self {
            id,
            place,
            state: State::Starting { since: now },
            born: now,
            scripts,
            want: None,
            loaded: false,
            broken: false,
            cause: None,
        }
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.state, State::Serving { .. })
    }

    pub(super) fn starts(&self) -> bool {
        matches!(self.state, State::Starting { .. })
    }

    /// Notes that it shall be replaced; the most urgent reason stays.
    pub(super) fn wish(&mut self, why: Why) {
        self.want = self.want.max(Some(why));
    }
}
