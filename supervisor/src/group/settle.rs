//! What follows from the state of a group and the time alone.

use super::member::{Cause, Member, MemberId, State, Why};
use super::{Action, Group, Phase};
use crate::Time;

impl Group {
    /// When [`Group::decide`] has to be called again even if nothing happens.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        let members = self.members.iter().filter_map(|member| self.member_due(member));
        let running = self.phase == Phase::Running;
        let vacant = (0..self.wanted)
            .filter(|place| running && self.vacant(*place))
            .map(|place| self.place_due(place));
        let replacement = if running { self.replacement_due() } else { None };
        members.chain(vacant).chain(replacement).min()
    }

    pub(super) fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        if self.phase != Phase::Stopping {
            self.shrink(now, actions);
        }
        if self.phase == Phase::Running {
            self.fill(now, actions);
            self.replace(now, actions);
        }
        // What was told to leave just now may have no time at all to do so.
        self.expire(now, actions);
    }

    fn member_due(&self, member: &Member) -> Option<Time> {
        match member.state {
            State::Starting { since } => self.policy.startup.map(|startup| since + startup),
            State::Serving { .. } if member.want.is_none() => {
                self.policy.restart.map(|restart| member.born + restart)
            }
            State::Retiring { until } | State::Ending { until } => until,
            State::Serving { .. } | State::Killed => None,
        }
    }

    fn place_due(&self, place: u32) -> Time {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        self.places.get(index).map_or(0, |record| record.due())
    }

    /// Whether a process has to be started in a place where none serves.
    fn vacant(&self, place: u32) -> bool {
        if self.policy.service {
            self.members.iter().all(|member| member.place != place)
        } else {
            self.serving(place).is_none() && self.starting(place).is_none()
        }
    }

    /// When the next replacement may begin; `None` if none is wanted or something has to happen
    /// first.
    fn replacement_due(&self) -> Option<Time> {
        self.candidate()?;
        if self.blocked() {
            return None;
        }
        match self.hold.filter(|hold| hold.scripts == self.scripts) {
            None => Some(self.replacing.due()),
            Some(hold) => Some(hold.until.max(self.replacing.due())),
        }
    }

    /// Whether a replacement is under way; for services, whether any place is without its process.
    fn blocked(&self) -> bool {
        if self.policy.service {
            !self.complete()
        } else {
            (0..self.wanted)
                .any(|place| self.serving(place).is_some() && self.starting(place).is_some())
        }
    }

    /// The process to be replaced next.
    fn candidate(&self) -> Option<(MemberId, u32, Why)> {
        self.members
            .iter()
            .filter(|member| member.serves() && member.place < self.wanted)
            .filter_map(|member| member.want.map(|why| (member, why)))
            .max_by_key(|(member, why)| (*why, std::cmp::Reverse(member.id)))
            .map(|(member, why)| (member.id, member.place, why))
    }

    /// Acts on what has taken too long.
    fn expire(&mut self, now: Time, actions: &mut Vec<Action>) {
        let startup = self.policy.startup;
        let overdue = |member: &&Member| match member.state {
            State::Starting { since } => startup.is_some_and(|startup| now >= since + startup),
            State::Retiring { until } => until.is_some_and(|until| now >= until),
            _ => false,
        };
        let late: Vec<(MemberId, bool, Cause)> = self
            .members
            .iter()
            .filter(overdue)
            .map(|member| match member.cause {
                Some(Cause::Retired(why)) => (member.id, false, Cause::Overdue(why)),
                _ => (member.id, member.starts(), Cause::StartupTimeout),
            })
            .collect();
        for (id, starts, cause) in late {
            if starts {
                self.start_failed(id, now);
            }
            self.end(id, cause, now, actions);
        }
        let (scripts, restart) = (self.scripts, self.policy.restart);
        for member in &mut self.members {
            match member.state {
                State::Ending { until: Some(until) } if now >= until => {
                    // Why it was overdue says more than that it had to be killed.
                    if matches!(member.cause, None | Some(Cause::Retired(_) | Cause::Stopped)) {
                        member.cause = Some(Cause::Killed);
                    }
                    member.state = State::Killed;
                    actions.push(Action::Kill(member.id));
                }
                State::Serving { .. } => {
                    if restart.is_some_and(|restart| now >= member.born + restart) {
                        member.wish(Why::Age);
                    }
                    if member.scripts != scripts {
                        member.wish(Why::ScriptChanged);
                    }
                }
                _ => {}
            }
        }
    }

    /// Lets go what is in places that are not wanted.
    fn shrink(&mut self, now: Time, actions: &mut Vec<Action>) {
        let surplus: Vec<(MemberId, bool)> = self
            .members
            .iter()
            .filter(|member| member.place >= self.wanted)
            .filter(|member| member.serves() || member.starts())
            .map(|member| (member.id, member.serves()))
            .collect();
        for (id, serves) in surplus {
            if serves {
                self.retire(id, Why::Surplus, now, actions);
            } else {
                self.end(id, Cause::Retired(Why::Surplus), now, actions);
            }
        }
    }

    /// Starts what is missing.
    fn fill(&mut self, now: Time, actions: &mut Vec<Action>) {
        for place in 0..self.wanted {
            if self.vacant(place) && now >= self.place_due(place) {
                self.start(place, now, actions);
            }
        }
    }

    fn replace(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.replacement_due().is_none_or(|due| now < due) {
            return;
        }
        let Some((id, place, why)) = self.candidate() else { return };
        if self.policy.service {
            return self.end(id, Cause::Retired(why), now, actions);
        }
        self.crowd(now, actions);
        self.start(place, now, actions);
    }

    /// Replacing faster than old processes finish must not fill the machine: beyond a bound the one
    /// that has been leaving for longest has to end.
    fn crowd(&mut self, now: Time, actions: &mut Vec<Action>) {
        let retiring: Vec<MemberId> = self
            .members
            .iter()
            .filter(|member| matches!(member.state, State::Retiring { .. }))
            .map(|member| member.id)
            .collect();
        let bound = usize::try_from(self.wanted).unwrap_or(usize::MAX).saturating_mul(2).max(4);
        if retiring.len() < bound {
            return;
        }
        // Ids are given in the order of starts.
        if let Some(oldest) = retiring.into_iter().min() {
            let why = match self.member(oldest).and_then(|member| member.cause) {
                Some(Cause::Retired(why)) => why,
                _ => Why::Surplus,
            };
            self.end(oldest, Cause::Overdue(why), now, actions);
        }
    }

    fn start(&mut self, place: u32, now: Time, actions: &mut Vec<Action>) {
        let id = self.issue();
        self.members.push(Member::new(id, place, self.scripts, now));
        actions.push(Action::Start(id));
    }
}
