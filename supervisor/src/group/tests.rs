//! The life of groups, told with a clock that does what it is told.

use std::collections::BTreeMap;

use super::*;

const SECOND: Time = 1_000;

fn policy(processes: u32) -> Policy {
    Policy {
        processes,
        service: false,
        startup: Some(30 * SECOND),
        graceful: Some(15 * SECOND),
        eviction: Some(20 * SECOND),
        shutdown: Some(5 * SECOND),
        restart: None,
    }
}

/// A group with its clock.
struct Story {
    group: Group,
    now: Time,
}

impl Story {
    fn new(policy: Policy) -> Self {
        Self { group: Group::new(policy), now: 1_000_000 }
    }

    /// A group whose processes all serve; they are 1, 2, ….
    fn serving(policy: Policy) -> Self {
        let mut story = Self::new(policy.clone());
        let started = story.tell(Event::Scripts(1));
        assert_eq!(started.len(), usize::try_from(policy.processes).unwrap());
        for number in 1..=policy.processes {
            story.tell(Event::Ready(MemberId(number)));
        }
        assert!(story.group.complete());
        story
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.group.decide([event], self.now);
        assert!(
            self.group.due().is_none_or(|due| due > self.now),
            "what is due now has to be done now: {:#?}",
            self.group
        );
        actions
    }

    fn wait(&mut self, time: Time) -> Vec<Action> {
        self.now += time;
        let actions = self.group.decide([], self.now);
        assert!(self.group.due().is_none_or(|due| due > self.now), "{:#?}", self.group);
        actions
    }

    /// How long until something is due.
    fn pause(&self) -> Option<Time> {
        self.group.due().map(|due| due - self.now)
    }
}

fn id(number: u32) -> MemberId {
    MemberId(number)
}

fn failed(number: u32) -> Event {
    Event::ImportFailed(id(number), "Traceback".to_owned())
}

#[test]
fn all_processes_start_at_once_and_accept_when_ready() {
    let mut story = Story::new(policy(2));
    assert_eq!(story.tell(Event::Scripts(1)), [Action::Start(id(1)), Action::Start(id(2))]);
    assert_eq!(story.group.counts(), (0, 2, 0));
    assert_eq!(story.tell(Event::Ready(id(2))), [Action::Accept(id(2))]);
    assert!(!story.group.complete());
    assert_eq!(story.tell(Event::Ready(id(1))), [Action::Accept(id(1))]);
    assert!(story.group.complete());
    // Said twice, or by nobody.
    assert_eq!(story.tell(Event::Ready(id(1))), []);
    assert_eq!(story.tell(Event::Ready(id(9))), []);
    assert_eq!(story.pause(), None);
}

#[test]
fn a_replacement_serves_before_the_old_process_leaves() {
    let mut story = Story::serving(policy(1));
    assert_eq!(story.tell(Event::Wants(id(1), Why::MaximumRequests)), [Action::Start(id(2))]);
    // Asked again, nothing more happens.
    assert_eq!(story.tell(Event::Wants(id(1), Why::MaximumRequests)), []);
    assert_eq!(
        story.tell(Event::Ready(id(2))),
        [Action::Accept(id(2)), Action::Retire(id(1), Why::MaximumRequests, Some(15 * SECOND))]
    );
    assert_eq!(
        story.tell(Event::Gone(id(1))),
        [Action::Ended(id(1), Cause::Retired(Why::MaximumRequests))]
    );
    assert_eq!(story.group.counts(), (1, 0, 0));
    assert_eq!(story.pause(), None);
}

#[test]
fn one_place_at_a_time_is_replaced() {
    let mut story = Story::serving(policy(3));
    assert_eq!(story.tell(Event::Reload), [Action::Start(id(4))]);
    for (new, old) in [(4, 1), (5, 2), (6, 3)] {
        let mut expected =
            vec![Action::Accept(id(new)), Action::Retire(id(old), Why::Reload, Some(20 * SECOND))];
        if new < 6 {
            expected.push(Action::Start(id(new + 1)));
        }
        assert_eq!(story.tell(Event::Ready(id(new))), expected);
    }
    assert_eq!(story.group.counts(), (3, 0, 3));
}

#[test]
fn the_most_urgent_wish_comes_first() {
    let mut story = Story::serving(policy(3));
    let wishes = [
        Event::Wants(id(1), Why::Inactive),
        Event::Wants(id(2), Why::Deadlock),
        Event::Wants(id(3), Why::Age),
    ];
    assert_eq!(story.group.decide(wishes, story.now), [Action::Start(id(4))]);
    assert_eq!(
        story.tell(Event::Ready(id(4)))[1],
        Action::Retire(id(2), Why::Deadlock, Some(15 * SECOND))
    );
}

#[test]
fn who_does_not_finish_is_told_to_end_and_then_killed() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Wants(id(1), Why::RequestTimeout));
    story.tell(Event::Ready(id(2)));
    assert_eq!(story.pause(), Some(15 * SECOND));
    assert_eq!(story.wait(15 * SECOND - 1), []);
    assert_eq!(story.wait(1), [Action::Terminate(id(1))]);
    assert_eq!(story.wait(5 * SECOND - 1), []);
    assert_eq!(story.wait(1), [Action::Kill(id(1))]);
    assert_eq!(story.pause(), None);
    assert_eq!(
        story.tell(Event::Gone(id(1))),
        [Action::Ended(id(1), Cause::Overdue(Why::RequestTimeout))]
    );
}

#[test]
fn without_time_to_finish_it_is_told_to_end_at_once() {
    let mut story = Story::serving(Policy { graceful: Some(0), ..policy(1) });
    story.tell(Event::Wants(id(1), Why::Age));
    assert_eq!(
        story.tell(Event::Ready(id(2))),
        [Action::Accept(id(2)), Action::Retire(id(1), Why::Age, Some(0)), Action::Terminate(id(1))]
    );
}

#[test]
fn who_gives_no_sign_of_life_has_no_time_to_finish() {
    let mut story = Story::serving(policy(1));
    assert_eq!(story.tell(Event::Wants(id(1), Why::Silent)), [Action::Start(id(2))]);
    assert_eq!(
        story.tell(Event::Ready(id(2))),
        [
            Action::Accept(id(2)),
            Action::Retire(id(1), Why::Silent, Some(0)),
            Action::Terminate(id(1))
        ]
    );
    assert_eq!(story.wait(5 * SECOND), [Action::Kill(id(1))]);
    assert_eq!(story.tell(Event::Gone(id(1))), [Action::Ended(id(1), Cause::Overdue(Why::Silent))]);
}

#[test]
fn who_leaves_without_limit_and_is_stuck_is_ended() {
    for why in [Why::Silent, Why::Deadlock] {
        let mut story = Story::serving(Policy { graceful: None, ..policy(1) });
        story.tell(Event::Wants(id(1), Why::MaximumRequests));
        assert_eq!(
            story.tell(Event::Ready(id(2))),
            [Action::Accept(id(2)), Action::Retire(id(1), Why::MaximumRequests, None)]
        );
        assert_eq!(story.tell(Event::Wants(id(1), Why::Memory)), []);
        assert_eq!(story.tell(Event::Wants(id(1), why)), [Action::Terminate(id(1))]);
        assert_eq!(story.wait(5 * SECOND), [Action::Kill(id(1))]);
    }
}

#[test]
fn without_limits_nothing_is_ever_due() {
    let unlimited = Policy { startup: None, graceful: None, shutdown: None, ..policy(1) };
    let mut story = Story::serving(unlimited);
    story.tell(Event::Wants(id(1), Why::Age));
    assert_eq!(story.pause(), None);
    assert_eq!(story.tell(Event::Ready(id(2)))[1], Action::Retire(id(1), Why::Age, None));
    assert_eq!(story.pause(), None);
}

#[test]
fn new_code_that_does_not_import_leaves_the_old_serving_until_it_changes() {
    let mut story = Story::serving(policy(2));
    assert_eq!(story.tell(Event::Scripts(2)), [Action::Start(id(3))]);
    assert_eq!(
        story.tell(failed(3)),
        [
            Action::ImportFault {
                member: id(3),
                text: "Traceback".to_owned(),
                fate: Fate::OldServes
            },
            // Nobody is to wait for it.
            Action::Stay(id(1)),
            Action::Stay(id(2)),
            Action::Terminate(id(3))
        ]
    );
    assert_eq!(story.tell(Event::Gone(id(3))), [Action::Ended(id(3), Cause::NotImported)]);
    assert_eq!(story.group.counts(), (2, 0, 0));
    // Who sees the change only now is told, too.
    assert_eq!(story.tell(Event::Wants(id(2), Why::ScriptChanged)), [Action::Stay(id(2))]);
    assert_eq!(story.tell(Event::Wants(id(2), Why::Age)), []);
    // What was missing may have come later.
    assert_eq!(story.pause(), Some(60 * SECOND));
    assert_eq!(story.wait(60 * SECOND), [Action::Start(id(4))]);
    assert_eq!(story.tell(failed(4)).last(), Some(&Action::Terminate(id(4))));
    assert_eq!(story.tell(Event::Gone(id(4))), [Action::Ended(id(4), Cause::NotImported)]);

    // Mended.
    assert_eq!(story.tell(Event::Scripts(3)), [Action::Start(id(5))]);
    assert_eq!(
        story.tell(Event::Ready(id(5))),
        [
            Action::Accept(id(5)),
            Action::Retire(id(1), Why::ScriptChanged, Some(15 * SECOND)),
            Action::Start(id(6))
        ]
    );
    assert_eq!(story.tell(Event::Ready(id(6)))[0], Action::Accept(id(6)));
    assert_eq!(story.pause(), Some(15 * SECOND));
}

#[test]
fn a_change_while_a_replacement_imports_is_not_missed() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Scripts(2));
    assert_eq!(story.tell(Event::Scripts(3)), []);
    // What failed was about the scripts before the last change.
    let actions = story.tell(failed(2));
    assert_eq!(actions.last(), Some(&Action::Start(id(3))));
    assert_eq!(story.tell(Event::Scripts(4)), []);
    // And what imported has the old ones.
    let actions = story.tell(Event::Ready(id(3)));
    assert_eq!(actions.last(), Some(&Action::Start(id(4))));
}

#[test]
fn a_replacement_that_no_change_asked_for_is_tried_again_and_logged_once() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Wants(id(1), Why::MaximumRequests));
    assert_eq!(story.tell(failed(2)).len(), 3);
    story.tell(Event::Gone(id(2)));
    assert_eq!(story.pause(), Some(60 * SECOND));
    assert_eq!(story.wait(60 * SECOND), [Action::Start(id(3))]);
    assert_eq!(story.tell(failed(3)), [Action::Stay(id(1)), Action::Terminate(id(3))]);
    // A reload is a new try, and says it again.
    assert_eq!(story.tell(Event::Reload), [Action::Start(id(4))]);
    assert_eq!(story.tell(failed(4)).len(), 3);
    assert_eq!(story.tell(Event::Gone(id(4))).len(), 1);
}

#[test]
fn broken_code_serves_if_nothing_else_does() {
    let mut story = Story::new(policy(2));
    story.tell(Event::Scripts(1));
    let actions = story.tell(failed(1));
    assert!(matches!(&actions[0], Action::ImportFault { fate: Fate::Serves, .. }), "{actions:?}");
    assert_eq!(actions[1..], [Action::Accept(id(1))]);
    // The same words are not logged again.
    assert_eq!(story.tell(failed(2)), [Action::Accept(id(2))]);
    assert_eq!(story.tell(Event::Scripts(2)), [Action::Start(id(3))]);
    assert_eq!(
        story.tell(Event::Ready(id(3)))[..2],
        [Action::Accept(id(3)), Action::Retire(id(1), Why::ScriptChanged, Some(15 * SECOND))]
    );
}

#[test]
fn broken_code_does_not_join_processes_that_work() {
    let mut story = Story::serving(policy(2));
    story.tell(Event::Gone(id(1)));
    assert_eq!(story.wait(100), [Action::Start(id(3))]);
    let actions = story.tell(failed(3));
    assert!(
        matches!(&actions[0], Action::ImportFault { fate: Fate::OthersServe, .. }),
        "{actions:?}"
    );
    assert_eq!(actions[1..], [Action::Terminate(id(3))]);
    story.tell(Event::Gone(id(3)));
    assert_eq!(story.pause(), Some(200));
    assert_eq!(story.wait(200), [Action::Start(id(4))]);
}

#[test]
fn a_process_that_dies_is_started_again_later_and_later() {
    let mut story = Story::serving(policy(1));
    let mut number = 1;
    for expected in [100, 200, 400, 800, 1_000, 1_000] {
        assert_eq!(
            story.tell(Event::Gone(id(number))),
            [Action::Ended(id(number), Cause::Crashed)]
        );
        assert_eq!(story.pause(), Some(expected));
        number += 1;
        assert_eq!(story.wait(expected), [Action::Start(id(number))]);
        story.tell(Event::Ready(id(number)));
    }
    // A minute of health is enough to forget all that.
    story.wait(60 * SECOND);
    assert_eq!(
        story.tell(Event::Gone(id(number))),
        [Action::Ended(id(number), Cause::Crashed), Action::Start(id(number + 1))]
    );
}

#[test]
fn a_process_that_dies_before_it_has_loaded_its_scripts_never_served() {
    let mut story = Story::new(policy(1));
    story.tell(Event::Scripts(1));
    let mut number = 1;
    for (failures, expected) in (1..).zip([100, 200, 400, 800, 1_600]) {
        assert_eq!(story.tell(Event::Early(id(number))), [Action::Accept(id(number))]);
        assert!(story.group.complete());
        // However long it took.
        story.wait(120 * SECOND);
        assert_eq!(
            story.tell(Event::Gone(id(number))),
            [Action::Ended(id(number), Cause::Unready)]
        );
        assert_eq!((story.pause(), story.group.unready()), (Some(expected), failures));
        number += 1;
        assert_eq!(story.wait(expected), [Action::Start(id(number))]);
    }
    // One that has loaded them, at last.
    story.tell(Event::Early(id(number)));
    assert_eq!(story.tell(Event::Ready(id(number))), []);
    assert_eq!(story.tell(Event::Gone(id(number))), [Action::Ended(id(number), Cause::Crashed)]);
    assert_eq!((story.pause(), story.group.unready()), (Some(1_000), 0));
}

#[test]
fn a_replacement_that_dies_costs_the_old_process_nothing() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Reload);
    assert_eq!(story.tell(Event::Gone(id(2))), [Action::Ended(id(2), Cause::Unready)]);
    assert_eq!(story.group.counts(), (1, 0, 0));
    assert_eq!(story.wait(100), [Action::Start(id(3))]);
    story.tell(Event::Gone(id(3)));
    assert_eq!(story.pause(), Some(200));
    assert_eq!(story.wait(200), [Action::Start(id(4))]);
    assert_eq!(story.tell(Event::Ready(id(4)))[0], Action::Accept(id(4)));
}

#[test]
fn an_old_process_that_dies_while_it_is_replaced_is_not_replaced_twice() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Reload);
    assert_eq!(story.tell(Event::Gone(id(1))), [Action::Ended(id(1), Cause::Crashed)]);
    assert_eq!(story.wait(60 * SECOND / 3), []);
    assert_eq!(story.tell(Event::Ready(id(2))), [Action::Accept(id(2))]);
}

#[test]
fn who_is_not_ready_in_time_is_ended_and_tried_again() {
    let mut story = Story::new(policy(1));
    story.tell(Event::Scripts(1));
    assert_eq!(story.wait(30 * SECOND), [Action::Terminate(id(1))]);
    assert_eq!(story.wait(100), [Action::Start(id(2))]);
    assert_eq!(story.tell(Event::Gone(id(1))), [Action::Ended(id(1), Cause::StartupTimeout)]);
    // Too late to count.
    assert_eq!(story.tell(Event::Ready(id(1))), []);
}

#[test]
fn an_age_limit_replaces() {
    let mut story = Story::serving(Policy { restart: Some(3_600 * SECOND), ..policy(2) });
    assert_eq!(story.pause(), Some(3_600 * SECOND));
    assert_eq!(story.wait(3_600 * SECOND), [Action::Start(id(3))]);
    let actions = story.tell(Event::Ready(id(3)));
    assert_eq!(actions[1], Action::Retire(id(1), Why::Age, Some(15 * SECOND)));
    assert_eq!(actions[2], Action::Start(id(4)));
}

#[test]
fn a_service_is_never_there_twice() {
    let mut story = Story::new(Policy { service: true, ..policy(2) });
    story.tell(Event::Scripts(1));
    assert_eq!(story.tell(Event::Ready(id(1))), []);
    assert_eq!(story.tell(Event::Ready(id(2))), []);
    assert_eq!(story.tell(Event::Reload), [Action::Terminate(id(1))]);
    assert_eq!(story.wait(SECOND), []);
    assert_eq!(
        story.tell(Event::Gone(id(1))),
        [Action::Ended(id(1), Cause::Retired(Why::Reload)), Action::Start(id(3))]
    );
    assert_eq!(story.tell(Event::Ready(id(3))), [Action::Terminate(id(2))]);
    assert_eq!(story.wait(5 * SECOND), [Action::Kill(id(2))]);
    assert_eq!(
        story.tell(Event::Gone(id(2))),
        [Action::Ended(id(2), Cause::Killed), Action::Start(id(4))]
    );
}

#[test]
fn a_service_that_ends_is_started_again_with_restraint() {
    let mut story = Story::new(Policy { service: true, ..policy(1) });
    story.tell(Event::Scripts(1));
    story.tell(Event::Ready(id(1)));
    story.tell(Event::Gone(id(1)));
    assert_eq!(story.pause(), Some(100));
    story.wait(100);
    story.tell(Event::Gone(id(2)));
    assert_eq!(story.pause(), Some(200));
    // Scripts that return end their process, which nobody disturbs in that.
    story.wait(200);
    story.tell(Event::Ready(id(3)));
    assert_eq!(story.tell(Event::ScriptEnded(id(3))), []);
    assert_eq!(story.wait(SECOND), []);
    assert_eq!(story.tell(Event::Gone(id(3))), [Action::Ended(id(3), Cause::ScriptEnded)]);
    assert_eq!(story.pause(), Some(400));
    // One that is told to leave may say so as well.
    story.wait(400);
    story.tell(Event::Ready(id(4)));
    assert_eq!(story.tell(Event::Reload), [Action::Terminate(id(4))]);
    assert_eq!(story.tell(Event::ScriptEnded(id(4))), []);
    let ended = Action::Ended(id(4), Cause::Retired(Why::Reload));
    assert_eq!(story.tell(Event::Gone(id(4))), [ended, Action::Start(id(5))]);
}

#[test]
fn a_process_that_leaves_by_itself_is_followed_by_another() {
    let mut story = Story::serving(policy(1));
    assert_eq!(story.tell(Event::Left(id(1))), [Action::Start(id(2))]);
    assert_eq!(
        story.tell(Event::Gone(id(1))),
        [Action::Ended(id(1), Cause::Retired(Why::OwnAccord))]
    );
}

#[test]
fn a_process_that_cannot_be_talked_to_is_replaced() {
    let mut story = Story::serving(policy(1));
    assert_eq!(story.tell(Event::Lost(id(1))), [Action::Start(id(2))]);
    assert_eq!(story.tell(Event::Lost(id(2))), [Action::Terminate(id(2))]);
    story.tell(Event::Gone(id(2)));
    assert_eq!(story.wait(100), [Action::Start(id(3))]);
    assert_eq!(
        story.tell(Event::Ready(id(3)))[1],
        Action::Retire(id(1), Why::Lost, Some(15 * SECOND))
    );
}

#[test]
fn processes_of_a_former_supervisor_are_replaced_one_by_one() {
    let mut story = Story::new(policy(2));
    let first = story.group.adopt(true, story.now);
    let second = story.group.adopt(true, story.now);
    let leaving = story.group.adopt(false, story.now);
    assert_eq!((first, second, leaving), (id(1), id(2), id(3)));
    assert_eq!(story.tell(Event::Scripts(1)), [Action::Start(id(4))]);
    assert_eq!(
        story.tell(Event::Ready(id(4))),
        [
            Action::Accept(id(4)),
            Action::Retire(id(1), Why::TakenOver, Some(15 * SECOND)),
            Action::Start(id(5))
        ]
    );
    story.tell(Event::Ready(id(5)));
    assert_eq!(
        story.wait(15 * SECOND),
        [Action::Terminate(id(1)), Action::Terminate(id(2)), Action::Terminate(id(3))]
    );
}

#[test]
fn more_processes_than_wanted_leave() {
    let mut story = Story::serving(policy(3));
    assert_eq!(
        story.tell(Event::Resize(1)),
        [
            Action::Retire(id(2), Why::Surplus, Some(15 * SECOND)),
            Action::Retire(id(3), Why::Surplus, Some(15 * SECOND))
        ]
    );
    assert_eq!(story.tell(Event::Resize(2)), [Action::Start(id(4))]);
}

#[test]
fn a_drain_lets_requests_finish_and_starts_nothing() {
    let mut story = Story::serving(policy(1));
    story.tell(Event::Reload);
    assert_eq!(
        story.tell(Event::Drain),
        [Action::Retire(id(1), Why::Surplus, Some(15 * SECOND)), Action::Terminate(id(2))]
    );
    story.tell(Event::Gone(id(2)));
    assert!(!story.group.over());
    assert_eq!(
        story.tell(Event::Gone(id(1))),
        [Action::Ended(id(1), Cause::Retired(Why::Surplus))]
    );
    assert!(story.group.over());
}

#[test]
fn the_end_is_bounded_whatever_timeouts_say() {
    let mut story = Story::serving(Policy { shutdown: None, graceful: None, ..policy(2) });
    story.tell(Event::Drain);
    assert_eq!(story.tell(Event::Stop), [Action::Terminate(id(1)), Action::Terminate(id(2))]);
    assert_eq!(story.pause(), Some(END_WITHIN));
    story.tell(Event::Gone(id(1)));
    assert_eq!(story.wait(END_WITHIN), [Action::Kill(id(2))]);
    story.tell(Event::Gone(id(2)));
    assert!(story.group.over());

    let mut short = Story::serving(Policy { shutdown: Some(SECOND), ..policy(1) });
    assert_eq!(short.tell(Event::Stop), [Action::Terminate(id(1))]);
    assert_eq!(short.wait(SECOND), [Action::Kill(id(1))]);
}

#[test]
fn changes_faster_than_requests_do_not_pile_up_processes() {
    let mut story = Story::serving(Policy { graceful: None, ..policy(1) });
    let mut ended = 0;
    for scripts in 2..40 {
        let mut actions = story.tell(Event::Scripts(scripts));
        let started = actions.iter().find_map(|action| match action {
            Action::Start(id) => Some(*id),
            _ => None,
        });
        actions.extend(story.tell(Event::Ready(started.unwrap())));
        for action in actions {
            if let Action::Terminate(id) = action {
                ended += 1;
                story.tell(Event::Gone(id));
            }
        }
        let (_, _, leaving) = story.group.counts();
        assert!(leaving <= 4, "{leaving} processes are leaving");
    }
    assert!(ended > 30);
}

/// What is true of a group at any time, in lives made by chance.
#[test]
fn no_course_of_events_breaks_the_rules() {
    for seed in 1..=300_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let service = chance.below(4) == 0;
        let restart = (chance.below(3) == 0).then_some(100 * SECOND);
        let shutdown = (chance.below(3) != 0).then_some(5 * SECOND);
        let policy = Policy { service, restart, shutdown, ..policy(1 + chance.below(4)) };
        Life::new(policy).run(&mut chance, seed);
    }
}

/// A generator of numbers that is the same everywhere (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(bound)).unwrap()
    }
}

/// What the world knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Starting,
    Serving,
    Leaving,
    Killed,
}

struct Life {
    story: Story,
    service: bool,
    bodies: BTreeMap<MemberId, Body>,
}

impl Life {
    fn new(policy: Policy) -> Self {
        let service = policy.service;
        Self { story: Story::new(policy), service, bodies: BTreeMap::new() }
    }

    fn run(&mut self, chance: &mut Chance, seed: u64) {
        self.tell(Event::Scripts(1), seed);
        for step in 0..200 {
            let event = self.event(chance, step);
            match event {
                Some(event) => self.tell(event, seed),
                None => {
                    // To what is due, or a while if nothing is.
                    let time = self.story.pause().unwrap_or(SECOND).min(100 * SECOND);
                    let actions = self.story.wait(time);
                    self.obey(actions, seed);
                }
            }
        }
        self.tell(Event::Stop, seed);
        let actions = self.story.wait(END_WITHIN);
        self.obey(actions, seed);
        for (id, body) in self.bodies.clone() {
            assert_eq!(body, Body::Killed, "seed {seed}: {id:?} outlives the server");
            self.tell(Event::Gone(id), seed);
        }
        assert!(self.story.group.over(), "seed {seed}");
    }

    fn event(&mut self, chance: &mut Chance, step: u64) -> Option<Event> {
        let which = chance.below(u32::try_from(self.bodies.len().max(1)).unwrap());
        let (id, body) = self.bodies.iter().nth(usize::try_from(which).unwrap())?;
        let (id, body) = (*id, *body);
        Some(match (chance.below(12), body) {
            (0, _) => Event::Scripts(step + 2),
            (1, _) => Event::Reload,
            (2, _) => Event::Gone(id),
            (3, Body::Serving) => Event::Wants(id, Why::Memory),
            (4, Body::Serving) => Event::Left(id),
            (5, _) => Event::Lost(id),
            (6, Body::Starting) => failed(id.0),
            (7..=9, Body::Starting) => Event::Ready(id),
            (11, Body::Starting) if !self.service => Event::Early(id),
            (7..=9, Body::Leaving | Body::Killed) => Event::Gone(id),
            (10, _) => Event::Resize(1 + chance.below(4)),
            _ => return None,
        })
    }

    fn tell(&mut self, event: Event, seed: u64) {
        match &event {
            Event::Gone(id) => drop(self.bodies.remove(id)),
            Event::Ready(id) if self.service => drop(self.bodies.insert(*id, Body::Serving)),
            Event::Left(id) => drop(self.bodies.insert(*id, Body::Leaving)),
            _ => {}
        }
        let actions = self.story.tell(event);
        self.obey(actions, seed);
    }

    fn obey(&mut self, actions: Vec<Action>, seed: u64) {
        let served = self.bodies.values().filter(|body| **body == Body::Serving).count();
        let mut retired = 0;
        for action in actions {
            match action {
                Action::Start(id) => {
                    assert_eq!(self.bodies.insert(id, Body::Starting), None, "seed {seed}");
                }
                Action::Accept(id) => {
                    assert!(!self.service, "seed {seed}: a service cannot accept");
                    let was = self.bodies.insert(id, Body::Serving);
                    assert_eq!(was, Some(Body::Starting), "seed {seed}");
                }
                Action::Retire(id, why, _) => {
                    let was = self.bodies.insert(id, Body::Leaving);
                    assert_eq!(was, Some(Body::Serving), "seed {seed}");
                    retired += usize::from(why != Why::Surplus);
                }
                Action::Terminate(id) => {
                    assert!(self.bodies.insert(id, Body::Leaving).is_some(), "seed {seed}");
                }
                Action::Kill(id) => {
                    let was = self.bodies.insert(id, Body::Killed);
                    assert_eq!(was, Some(Body::Leaving), "seed {seed}");
                }
                Action::Ended(id, _) => {
                    assert!(!self.bodies.contains_key(&id), "seed {seed}: {id:?} still lives");
                }
                Action::Stay(id) => {
                    assert_eq!(self.bodies.get(&id), Some(&Body::Serving), "seed {seed}");
                }
                Action::ImportFault { .. } => {}
            }
        }
        assert!(retired <= 1, "seed {seed}: {retired} processes are replaced at one moment");
        let serves = self.bodies.values().filter(|body| **body == Body::Serving).count();
        if retired == 1 {
            assert!(serves >= served.min(1), "seed {seed}: a gap");
        }
        let (serving, starting, _) = self.story.group.counts();
        let counts = self.bodies.values().fold((0, 0), |(serving, starting), body| match body {
            Body::Serving => (serving + 1, starting),
            Body::Starting => (serving, starting + 1),
            _ => (serving, starting),
        });
        assert_eq!((serving, starting), counts, "seed {seed}");
    }
}
