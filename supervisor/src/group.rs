//! The life of one group of daemon processes, as a machine without clock, processes or sockets.
//!
//! [`Group::decide`] takes what has happened and the time, and says what to do. A group has as many
//! *places* as it shall have processes; each place has at most one process that serves and one that
//! is being started, and any number that are leaving. *Replacing* is the one way in which a process
//! that works is changed for another: a new one is started in the same place, and the old one is
//! told to leave once the new one serves. One place at a time does that.

use crate::Time;
use crate::backoff::Backoff;

mod member;
mod settle;
#[cfg(test)]
mod tests;

pub use member::{Cause, MemberId, Why};

use member::{Member, State};

/// On the end of the server no process may take longer than this, whatever its timeouts say: all
/// are gone five seconds after the server is, this one included.
pub const END_WITHIN: Time = 4_000;

/// What a group shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many processes.
    pub processes: u32,
    /// `threads=0`: scripts that run by themselves. Two processes of one place never live at the
    /// same time, as two instances of such a script may not be the same as one.
    pub service: bool,
    /// How long a process may take to become ready.
    pub startup: Option<Time>,
    /// How long a process that leaves may go on with its requests.
    pub graceful: Option<Time>,
    /// The same, on a reload of the server.
    pub eviction: Option<Time>,
    /// How long a process that was told to end may take.
    pub shutdown: Option<Time>,
    /// The age at which a process is replaced.
    pub restart: Option<Time>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process takes requests although it has not imported what it shall serve.
    Early(MemberId),
    /// A process has imported what it shall serve.
    Ready(MemberId),
    /// A process could not import what it shall serve, for this reason. It waits.
    ImportFailed(MemberId, String),
    /// A process asks to be replaced.
    Wants(MemberId, Why),
    /// A process has left the listener of its own accord.
    Left(MemberId),
    /// The scripts of a service have returned: it ends by itself.
    ScriptEnded(MemberId),
    /// A process cannot be talked to any more.
    Lost(MemberId),
    /// A process has ended, or could not be started.
    Gone(MemberId),
    /// The scripts look like this now, from the start or since a change.
    Scripts(u64),
    /// The server was reloaded and the group stays as it is.
    Reload,
    /// From now on this many processes are wanted, even if the group was to end.
    Resize(u32),
    /// Nothing will be asked of the group any more; what it does may come to its end.
    Drain,
    /// The server ends, at once.
    Stop,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process.
    Start(MemberId),
    /// Let a process take requests.
    Accept(MemberId),
    /// Tell a process to leave the listener and to end when its requests are done, which may take
    /// so long.
    Retire(MemberId, Why, Option<Time>),
    /// Tell a process that no other follows it for now.
    Stay(MemberId),
    /// SIGTERM.
    Terminate(MemberId),
    /// SIGKILL.
    Kill(MemberId),
    /// Log that a process could not import its scripts, and whether it serves all the same.
    ImportFault {
        /// Which.
        member: MemberId,
        /// What it said.
        text: String,
        /// What becomes of it.
        fate: Fate,
    },
    /// A process has ended; log why if it was not meant to.
    Ended(MemberId, Cause),
}

/// What becomes of a process that could not import its scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The old process goes on.
    OldServes,
    /// Other processes of the group go on, and it is tried again.
    OthersServe,
    /// There is no other: it serves, so that requests are answered with an error instead of
    /// waiting.
    Serves,
}

/// One group. See the module's documentation.
#[derive(Debug)]
pub struct Group {
    policy: Policy,
    wanted: u32,
    members: Vec<Member>,
    /// The record of each place; grows with `wanted`, never shrinks.
    places: Vec<Backoff>,
    /// The record of replacements, for all places together.
    replacing: Backoff,
    scripts: u64,
    hold: Option<Hold>,
    /// The import fault that was logged last, with the scripts it was about.
    told: Option<(u64, String)>,
    phase: Phase,
    issued: u32,
}

/// Replacements did not import: none is tried while the scripts stay as they are.
#[derive(Clone, Copy, Debug)]
struct Hold {
    scripts: u64,
    /// Tried again then: what was missing may be there, be it a module that was deployed after its script.
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Stopping,
}

impl Group {
    /// A group without processes; the first [`Group::decide`] starts them.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            wanted: policy.processes,
            policy,
            members: Vec::new(),
            places: Vec::new(),
            replacing: Backoff::default(),
            scripts: 0,
            hold: None,
            told: None,
            phase: Phase::Running,
            issued: 0,
        }
    }

    /// Takes over a process that a former supervisor started: one that serves, which is replaced
    /// soon, or one that was leaving.
    pub fn adopt(&mut self, serves: bool, now: Time) -> MemberId {
        let id = self.issue();
        let taken = self.members.iter().filter(|member| member.serves()).count();
        let place = u32::try_from(taken).unwrap_or(u32::MAX);
        let mut member = Member::new(id, place, self.scripts, now);
        // That it had not would have to be told anew.
        member.loaded = true;
        if serves {
            member.state = State::Serving { since: now };
            member.want = Some(Why::TakenOver);
        } else {
            member.cause = Some(Cause::Retired(Why::TakenOver));
            member.state = State::Retiring { until: after(now, self.policy.graceful) };
        }
        self.members.push(member);
        id
    }

    /// Takes what has happened, and says what to do, in this order.
    #[must_use]
    pub fn decide(&mut self, events: impl IntoIterator<Item = Event>, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        for event in events {
            self.take(event, now, &mut actions);
        }
        self.settle(now, &mut actions);
        actions
    }

    /// How many processes serve, are being started, and are leaving.
    #[must_use]
    pub fn counts(&self) -> (u32, u32, u32) {
        let mut counts = (0, 0, 0);
        for member in &self.members {
            match member.state {
                State::Serving { .. } => counts.0 += 1,
                State::Starting { .. } => counts.1 += 1,
                _ => counts.2 += 1,
            }
        }
        counts
    }

    /// Whether a process serves that has loaded its scripts.
    #[must_use]
    pub fn loaded(&self) -> bool {
        self.members.iter().any(|member| member.serves() && member.loaded)
    }

    /// Whether as many processes serve as are wanted.
    #[must_use]
    pub fn complete(&self) -> bool {
        (0..self.wanted).all(|place| self.serving(place).is_some())
    }

    /// Whether the group has been told to end and nothing of it is left.
    #[must_use]
    pub fn over(&self) -> bool {
        self.phase != Phase::Running && self.members.is_empty()
    }

    /// Most processes of one place in a row that ended before they had loaded their scripts.
    #[must_use]
    pub fn unready(&self) -> u32 {
        self.places.iter().map(Backoff::unready).max().unwrap_or(0)
    }

    fn issue(&mut self) -> MemberId {
        self.issued += 1;
        MemberId(self.issued)
    }

    fn serving(&self, place: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.place == place && member.serves())
    }

    fn starting(&self, place: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.place == place && member.starts())
    }

    fn member(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    fn take(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Early(id) => self.ready(id, now, actions),
            Event::Ready(id) => {
                self.ready(id, now, actions);
                if let Some(member) = self.member(id) {
                    member.loaded = true;
                }
            }
            Event::ImportFailed(id, text) => self.import_failed(id, text, now, actions),
            Event::Wants(id, why) => self.wants(id, why, now, actions),
            Event::Left(id) => self.left(id, now),
            Event::ScriptEnded(id) => {
                if let Some(member) = self.member(id).filter(|member| member.serves()) {
                    member.cause = Some(Cause::ScriptEnded);
                }
            }
            Event::Lost(id) => self.lost(id, now, actions),
            Event::Gone(id) => self.gone(id, now, actions),
            Event::Scripts(scripts) => self.changed(scripts),
            Event::Reload => self.reload(),
            Event::Resize(wanted) => {
                self.wanted = wanted;
                if self.phase == Phase::Draining {
                    self.phase = Phase::Running;
                }
            }
            Event::Drain if self.phase == Phase::Running => {
                self.phase = Phase::Draining;
                self.wanted = 0;
            }
            Event::Drain => {}
            Event::Stop => self.stop(now, actions),
        }
    }

    fn ready(&mut self, id: MemberId, now: Time, actions: &mut Vec<Action>) {
        let service = self.policy.service;
        let Some(member) = self.member(id).filter(|member| member.starts()) else { return };
        member.state = State::Serving { since: now };
        let (place, wish) = (member.place, member.want);
        if !service {
            actions.push(Action::Accept(id));
        }
        let old: Vec<(MemberId, Why)> = self
            .members
            .iter()
            .filter(|old| old.place == place && old.serves() && old.id != id)
            .map(|old| (old.id, old.want.or(wish).unwrap_or(Why::Reload)))
            .collect();
        if !old.is_empty() {
            self.replacing.reset();
            self.hold = None;
        }
        for (old, why) in old {
            self.retire(old, why, now, actions);
        }
    }

    fn import_failed(&mut self, id: MemberId, text: String, now: Time, actions: &mut Vec<Action>) {
        let Some(member) = self.member(id).filter(|member| member.starts()) else { return };
        let (place, scripts) = (member.place, member.scripts);
        let fate = if self.serving(place).is_some() {
            Fate::OldServes
        } else if self.members.iter().any(|other| other.serves() && !other.broken) {
            Fate::OthersServe
        } else {
            Fate::Serves
        };
        // Services have nobody waiting for an answer, and nothing to answer with.
        let fate = if self.policy.service { Fate::OthersServe } else { fate };
        let told = Some((scripts, text));
        if self.told != told {
            if let Some((_, text)) = &told {
                let text = text.clone();
                actions.push(Action::ImportFault { member: id, text, fate });
            }
            self.told = told;
        }
        match fate {
            Fate::Serves => {
                if let Some(member) = self.member(id) {
                    member.broken = true;
                    member.loaded = true;
                    member.state = State::Serving { since: now };
                }
                actions.push(Action::Accept(id));
            }
            Fate::OldServes => {
                self.hold = Some(Hold { scripts, until: now + HELD });
                // Unless they have changed once more, which is another try.
                if scripts == self.scripts {
                    let serving = self.members.iter().filter(|member| member.serves());
                    actions.extend(serving.map(|member| Action::Stay(member.id)));
                }
                self.end(id, Cause::NotImported, now, actions);
            }
            Fate::OthersServe => {
                self.record(place).failed(now);
                self.end(id, Cause::NotImported, now, actions);
            }
        }
    }

    fn wants(&mut self, id: MemberId, why: Why, now: Time, actions: &mut Vec<Action>) {
        let known = self.hold.is_some_and(|hold| hold.scripts == self.scripts);
        let Some(member) = self.member(id) else { return };
        match member.state {
            // It has seen what others have seen before, and nothing comes of it.
            State::Serving { .. } if why == Why::ScriptChanged && known => {
                member.wish(why);
                actions.push(Action::Stay(id));
            }
            // It has all the time that it likes to finish its requests, and does not.
            State::Retiring { until: None } if matches!(why, Why::Deadlock | Why::Silent) => {
                self.end(id, Cause::Overdue(why), now, actions);
            }
            _ => member.wish(why),
        }
    }

    fn left(&mut self, id: MemberId, now: Time) {
        let until = after(now, self.policy.graceful);
        let Some(member) = self.member(id).filter(|member| member.serves()) else { return };
        member.cause = Some(Cause::Retired(member.want.unwrap_or(Why::OwnAccord)));
        member.state = State::Retiring { until };
    }

    fn lost(&mut self, id: MemberId, now: Time, actions: &mut Vec<Action>) {
        let Some(member) = self.member(id) else { return };
        if member.starts() {
            self.end(id, Cause::Unready, now, actions);
            self.start_failed(id, now);
        } else {
            member.wish(Why::Lost);
        }
    }

    fn gone(&mut self, id: MemberId, now: Time, actions: &mut Vec<Action>) {
        let Some(index) = self.members.iter().position(|member| member.id == id) else { return };
        let state = self.members[index].state;
        if matches!(state, State::Starting { .. }) {
            self.start_failed(id, now);
        }
        let member = self.members.swap_remove(index);
        if let State::Serving { since } = state {
            let record = self.record(member.place);
            if member.loaded {
                record.died(now.saturating_sub(since), now);
            } else {
                record.failed(now);
            }
        }
        let cause = member.cause.unwrap_or(match state {
            State::Serving { .. } if !member.loaded => Cause::Unready,
            State::Starting { .. } => Cause::Unready,
            _ => Cause::Crashed,
        });
        actions.push(Action::Ended(id, cause));
    }

    /// A process was not going to become ready: whatever asked for it waits.
    fn start_failed(&mut self, id: MemberId, now: Time) {
        let Some(place) = self.member(id).map(|member| member.place) else { return };
        if self.serving(place).is_some() {
            self.replacing.failed(now);
        } else {
            self.record(place).failed(now);
        }
    }

    fn changed(&mut self, scripts: u64) {
        if self.scripts == scripts {
            return;
        }
        // The first look is no change.
        if self.scripts == 0 {
            for member in &mut self.members {
                member.scripts = scripts;
            }
        }
        self.scripts = scripts;
        self.replacing.reset();
        for place in &mut self.places {
            place.reset();
        }
    }

    fn reload(&mut self) {
        self.hold = None;
        self.told = None;
        self.replacing.reset();
        for place in &mut self.places {
            place.reset();
        }
        // One that is being started may have read half of what was deployed.
        for member in &mut self.members {
            member.wish(Why::Reload);
        }
    }

    fn stop(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.phase = Phase::Stopping;
        self.wanted = 0;
        let latest = now + END_WITHIN;
        let until = after(now, self.policy.shutdown).map_or(latest, |until| latest.min(until));
        for member in &mut self.members {
            match &mut member.state {
                State::Killed => {}
                State::Ending { until: earlier } => {
                    *earlier = Some(earlier.map_or(until, |earlier| earlier.min(until)));
                }
                _ => {
                    member.cause = member.cause.or(Some(Cause::Stopped));
                    member.state = State::Ending { until: Some(until) };
                    actions.push(Action::Terminate(member.id));
                }
            }
        }
    }

    fn retire(&mut self, id: MemberId, why: Why, now: Time, actions: &mut Vec<Action>) {
        let within = match why {
            Why::Reload => self.policy.eviction,
            // It does not hear that either.
            Why::Silent => Some(0),
            _ => self.policy.graceful,
        };
        if self.policy.service {
            return self.end(id, Cause::Retired(why), now, actions);
        }
        if let Some(member) = self.member(id) {
            member.cause = Some(Cause::Retired(why));
            member.state = State::Retiring { until: after(now, within) };
            actions.push(Action::Retire(id, why, within));
        }
    }

    fn end(&mut self, id: MemberId, cause: Cause, now: Time, actions: &mut Vec<Action>) {
        let until = after(now, self.policy.shutdown);
        if let Some(member) = self.member(id) {
            member.cause = Some(cause);
            member.state = State::Ending { until };
            actions.push(Action::Terminate(id));
        }
    }

    fn record(&mut self, place: u32) -> &mut Backoff {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        if self.places.len() <= index {
            self.places.resize_with(index + 1, Backoff::default);
        }
        &mut self.places[index]
    }
}

fn after(now: Time, within: Option<Time>) -> Option<Time> {
    within.map(|within| now.saturating_add(within))
}

/// A replacement that did not import is tried again after this long, even if its script has not changed: what was
/// missing may be a module or a database.
const HELD: Time = 60_000;
