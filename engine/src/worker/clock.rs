//! The thread that keeps time. It never enters Python, so nothing an application does can stop it.
//!
//! It hears the supervisor and signals, answers for requests that take too long, sees to it that no connection is
//! starved, and has the process end when all is done.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::line::Answered;
use super::seat::{Count, Lateness, Seat, Serving};
use super::shared::Shared;
use super::teller::Teller;
use super::thread;
use crate::os::event;
use crate::os::own;
use crate::os::socket::Wait;
use crate::os::{Arrival, Inbound};
use crate::wire::control::{FromDaemon, Reason, Stats, ToDaemon};
use crate::wsgi::Level;

/// Longest time between two looks at everything.
const BEAT: Duration = Duration::from_secs(1);

/// How long the listener may have somebody waiting in it, while no thread is free, before something is done: another
/// process of the group may be quicker.
const GRACE: Duration = Duration::from_millis(2);

/// How long it is left to a request that ends to make room, before a connection without one is given back.
const PATIENCE: Duration = Duration::from_millis(5);

/// How long an answer waits for the stack of the request.
const INSPECTION: Duration = Duration::from_millis(500);

/// What worker threads have for a stack unless it is set: as much as those that Python makes.
pub const STACK: u64 = 8 * 1024 * 1024;

/// How long the process may take from SIGTERM to its end: the supervisor ends it by force after four seconds,
/// if not before (`shutdown-timeout`), so that nothing is left when httpd has stopped.
const TERMINATION: Duration = Duration::from_secs(4);

/// What the clock knows.
pub(super) struct Clock {
    shared: &'static Shared,
    inbound: Inbound,
    signals: OwnedFd,
    /// Since when somebody has been seen waiting in the listener.
    crowd_since: Option<Instant>,
    /// Since when a connection has been asked to be given back.
    pressed_since: Option<Instant>,
    drain: Option<Drain>,
    /// The process was told to end, and is ended by force then.
    killed: Option<Instant>,
    /// The process has to be gone by then.
    ending: Option<Instant>,
    told: Stats,
    told_at: Instant,
    beat: Instant,
    /// Whether inactivity was reported, and not ended since.
    inactive: bool,
    /// Whether it was reported that no connection can be accepted.
    starves: bool,
    /// Whether it was reported that scripts take too long to load.
    overdue: bool,
    teller: Teller,
}

/// How long a connection that was handed back may wait for a thread to see to it: none may ever come where the
/// application keeps the GIL.
const SWEEP: Duration = Duration::from_millis(250);

/// The process takes no more requests.
struct Drain {
    /// When connections that no thread sees to are ended by the clock.
    sweep: Instant,
    /// Those that have not ended by then are answered without their applications.
    until: Option<Instant>,
}

impl Clock {
    /// `inbound` may hold frames of the supervisor already.
    pub(super) fn new(shared: &'static Shared, inbound: Inbound, signals: OwnedFd) -> Self {
        Self {
            shared,
            inbound,
            signals,
            crowd_since: None,
            pressed_since: None,
            drain: None,
            killed: None,
            ending: None,
            told: Stats::default(),
            told_at: Instant::now(),
            beat: Instant::now(),
            inactive: false,
            starves: false,
            overdue: false,
            teller: Teller::default(),
        }
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self) -> ! {
        // What came together with SETUP.
        self.obey();
        loop {
            self.look();
            let timeout = self.timeout();
            let pool = &self.shared.pool;
            let mut watched = vec![pool.clock.as_fd(), self.signals.as_fd()];
            let status = (!self.shared.status.lost()).then(|| {
                watched.push(self.shared.status.socket());
                1 << (watched.len() - 1)
            });
            // Those in the listener, and those that were accepted and had nothing to say.
            let mut waiting: u64 = 0;
            let silent = if self.watches() { Some(pool.silent()) } else { None };
            if let Some(silent) = &silent {
                let first = watched.len();
                watched.push(pool.listener());
                watched.extend(silent.iter().map(|socket| (**socket).as_fd()));
                waiting = (1 << watched.len()) - (1 << first);
            }
            let ready = event::wait(&watched, Some(timeout)).unwrap_or_else(|error| {
                // Not to be expected; without a wait this would be a loop that eats a processor.
                self.shared.status.log(Level::Error, &format!("the clock cannot wait: {error}"));
                std::thread::sleep(BEAT);
                0
            });
            drop(watched);
            if ready & 1 != 0 {
                pool.clock.clear();
            }
            if status.is_some_and(|bit: u64| ready & bit != 0) {
                self.hear();
            }
            if ready & 2 != 0 {
                self.signalled();
            }
            if ready & waiting != 0 {
                self.shared.pool.seek();
                self.crowd_since = Some(Instant::now());
            }
        }
    }

    /// Whether no thread watches the listener, so that this one has to.
    fn watches(&self) -> bool {
        let pool = &self.shared.pool;
        self.crowd_since.is_none()
            && self.drain.is_none()
            && self.shared.asked.accept.load(Ordering::Relaxed)
            && pool.crowded()
            && !pool.pressed()
    }

    /// Everything that depends on time.
    fn look(&mut self) {
        let now = Instant::now();
        for text in self.shared.pool.complaints() {
            self.shared.complain(&text);
        }
        if self.shared.asked.leave.swap(false, Ordering::SeqCst) {
            self.retire(self.shared.setup.life.shutdown, "application");
        }
        self.relieve(now);
        self.requests(now);
        self.draining(now);
        if now >= self.beat {
            self.beat = now + BEAT;
            self.report(now);
        }
        if self.ending.is_some_and(|ending| now >= ending) {
            own::leave(0);
        }
    }

    /// When [`Clock::look`] has something to do again.
    fn timeout(&self) -> Duration {
        let now = Instant::now();
        let mut next = self.beat;
        let times = [
            self.crowd_since.map(|since| since + GRACE),
            self.pressed_since.map(|since| since + PATIENCE),
            self.drain.as_ref().and_then(|drain| drain.until),
            self.drain.as_ref().map(|drain| drain.sweep),
            self.ending,
            self.request_time(now),
        ];
        for time in times.into_iter().flatten() {
            next = next.min(time);
        }
        next.saturating_duration_since(now)
    }

    /// Has connections given back as long as somebody waits who gets no thread.
    fn relieve(&mut self, now: Instant) {
        let pool = &self.shared.pool;
        if !pool.crowded() || self.drain.is_some() {
            self.crowd_since = None;
            self.pressed_since = None;
            return;
        }
        if self.crowd_since.is_some_and(|since| now >= since + GRACE) {
            self.crowd_since = None;
            if pool.somebody_waits() {
                pool.press(true);
            }
        }
        if !pool.pressed() {
            self.pressed_since = None;
        } else if self.pressed_since.is_none_or(|since| now >= since + PATIENCE) {
            let again = self.pressed_since.is_some();
            self.pressed_since = Some(now);
            if again && pool.hand_back_one() {
                pool.press(false);
                self.pressed_since = None;
            }
        }
    }

    /// The next time at which a request takes too long.
    fn request_time(&self, now: Instant) -> Option<Instant> {
        let most = self.shared.setup.timeouts.request?;
        // One that begins later has all of its time.
        let mut next = now + most;
        for (serving, _) in self.shared.pool.seats.iter().filter_map(Seat::serving) {
            next = match serving.lateness {
                Lateness::Watched => next.min(serving.since + most),
                Lateness::Inspected { until, .. } | Lateness::Interrupted { until } => {
                    next.min(until)
                }
                Lateness::Abandoned => next,
            };
        }
        Some(next)
    }

    fn requests(&self, now: Instant) {
        let Some(most) = self.shared.setup.timeouts.request else { return };
        for (place, seat) in self.shared.pool.seats.iter().enumerate() {
            let Some((since, _)) = seat.serving_since() else { continue };
            if now < since + most {
                continue;
            }
            let Some((serving, line)) = seat.serving() else { continue };
            match &serving.lateness {
                Lateness::Watched => self.inspect(place, seat, &serving, now),
                Lateness::Inspected { until, stack } if stack.is_some() || now >= *until => {
                    let stack = match stack.as_deref() {
                        Some("") => "it is not in Python code now",
                        Some(stack) => stack,
                        None => "its stack cannot be seen: its interpreter does not answer",
                    };
                    self.give_up(seat, &serving, &line, &format!("its stack:\n{stack}"));
                }
                Lateness::Interrupted { until } if now >= *until => {
                    self.give_up(seat, &serving, &line, "RequestTimeout has not ended it");
                }
                _ => {}
            }
        }
    }

    /// Has a look taken at a request that takes too long, by a thread that may hang.
    fn inspect(&self, place: usize, seat: &Seat, serving: &Serving, now: Instant) {
        let shared = self.shared;
        let within = shared.setup.timeouts.interrupt;
        let until = now + within.unwrap_or(INSPECTION);
        let marked = seat.mark(serving.id, |lateness| match lateness {
            Lateness::Watched => Some(Lateness::Inspected { until, stack: None }),
            _ => None,
        });
        if !marked {
            return;
        }
        let job = serving.clone();
        let spawned =
            std::thread::Builder::new().name("wsgi-inspect".to_owned()).spawn(move || {
                inspection(shared, place, &job, within);
                shared.pool.clock.set();
            });
        if let Err(error) = spawned {
            let text = format!("no thread to look at a request that takes too long: {error}");
            shared.status.log(Level::Error, &text);
        }
    }

    /// Answers a request whose thread does not, and asks for a process that has all its threads.
    fn give_up(&self, seat: &Seat, serving: &Serving, line: &super::line::Line, stack: &str) {
        if !seat.mark(serving.id, |_| Some(Lateness::Abandoned)) {
            return;
        }
        let text = format!(
            "the request has run for {:.1} seconds, longer than request-timeout allows; it is \
             answered without its application, {stack}",
            serving.since.elapsed().as_secs_f64()
        );
        if line.answer_for(504, Level::Error, &text) == Answered::Yes {
            self.shared.status.wish(Reason::RequestTimeout);
        }
    }

    /// Ends the process when it is time.
    fn draining(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if self.ending.is_some() {
            return;
        }
        let pool = &self.shared.pool;
        if now >= drain.sweep {
            drain.sweep = now + SWEEP;
            pool.sweep();
        }
        let quiet = pool.quiet();
        let late = drain.until.is_some_and(|until| now >= until);
        if self.shared.setup.threads == 0 && !late {
            // The main thread ends the process when its script does.
            return;
        }
        if !quiet && late {
            for (serving, line) in pool.seats.iter().filter_map(Seat::serving) {
                let text = format!(
                    "the process ends before the request does, which has run for {:.1} seconds",
                    serving.since.elapsed().as_secs_f64()
                );
                line.answer_for(502, Level::Error, &text);
            }
        }
        if quiet || late {
            self.shared.status.tell(&FromDaemon::Retired);
            self.end(now);
        }
    }

    /// Has the main thread end the process.
    fn end(&mut self, now: Instant) {
        if let Some(killed) = self.killed {
            let left = killed.saturating_duration_since(now);
            let most = (left - left / 4).as_millis().max(1);
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            self.shared.asked.exit_ms.store(most, Ordering::SeqCst);
        }
        // What keeps that time does not need more.
        let most = self.shared.exit_time();
        self.ending = Some(now + most + most / 8);
        self.shared.asked.end.store(true, Ordering::SeqCst);
        self.shared.main.set();
    }

    /// `reason` is what subscribers of `process_stopping` are told, if it is the first.
    fn retire(&mut self, within: Option<Duration>, reason: &'static str) {
        self.shared.ends_for(reason);
        let until = within.map(|within| Instant::now() + within);
        match &mut self.drain {
            Some(drain) => {
                drain.until = match (drain.until, until) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
            None => self.drain = Some(Drain { sweep: Instant::now() + SWEEP, until }),
        }
        self.shared.retire();
        if self.shared.setup.threads == 0 {
            // A service script is told as any program would be.
            own::tell_to_end();
        }
    }

    fn report(&mut self, now: Instant) {
        let shared = self.shared;
        let pool = &shared.pool;
        // Ends those that have said nothing for too long.
        drop(pool.silent());
        let count = |what| u32::try_from(pool.count(what)).unwrap_or(u32::MAX);
        let stuck = shared.stuck();
        let oldest = pool.seats.iter().filter_map(Seat::serving_since).map(|(_, us)| us).min();
        let inactive = shared.inactive();
        let stats = Stats {
            busy: count(Count::Serving) + count(Count::Abandoned),
            kept: count(Count::Kept),
            served: shared.served(),
            oldest_start_us: oldest.unwrap_or(0),
            active_us: inactive.map_or(0, |inactive| {
                super::shared::now_us()
                    .saturating_sub(u64::try_from(inactive.as_micros()).unwrap_or(u64::MAX))
            }),
            // A moment is no news.
            stuck_ms: if stuck < BEAT {
                0
            } else {
                u64::try_from(stuck.as_millis()).unwrap_or(u64::MAX)
            },
        };
        // The time of activity alone goes on by small errors.
        let same = Stats { active_us: self.told.active_us, ..stats } == self.told;
        // Without news it is a sign of life.
        let silent = now - self.told_at;
        if !same || shared.setup.life.beat().is_some_and(|beat| silent >= beat) {
            shared.status.tell(&FromDaemon::Stats(stats));
            self.told = stats;
            self.told_at = now;
        }
        let idle = stats.busy == 0
            && shared
                .setup
                .life
                .inactivity
                .is_some_and(|most| inactive.is_some_and(|inactive| inactive >= most));
        if idle && !self.inactive {
            shared.status.wish(Reason::Inactivity);
        }
        self.inactive = idle;
        if pool.starves() && !self.starves {
            self.starves = true;
            shared.status.wish(Reason::Starved);
        }
        // Before that the supervisor sees to it.
        if shared.setup.alone
            && !self.overdue
            && !shared.asked.loaded.load(Ordering::SeqCst)
            && shared.setup.life.startup.is_some_and(|most| shared.age() >= most)
        {
            self.overdue = true;
            shared.status.log(
                Level::Error,
                "scripts were not loaded within startup-timeout; another process tries it",
            );
            shared.status.wish(Reason::StartupTimeout);
        }
    }

    /// Hears the supervisor.
    fn hear(&mut self) {
        loop {
            match self.inbound.receive(self.shared.status.socket(), Wait::No) {
                Ok(Arrival::Bytes) => self.obey(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It may be replaced, and its successor sends signals; requests are served meanwhile.
                Ok(Arrival::End { .. }) | Err(_) => {
                    self.shared.status.lose();
                    return;
                }
            }
        }
    }

    fn obey(&mut self) {
        loop {
            let said = match self.inbound.frame() {
                Ok(Some((frame, _))) => ToDaemon::decode(&frame),
                Ok(None) => return,
                Err(fault) => Err(fault),
            };
            match said {
                Ok(ToDaemon::Accept) => self.accept(),
                Ok(ToDaemon::Retire { reason, within }) => self.retire(within, told(reason)),
                Ok(ToDaemon::Stay) => self.shared.stay(),
                Ok(ToDaemon::Setup(_)) => {}
                Err(fault) => {
                    let text = format!("the supervisor sent {fault}");
                    self.shared.status.log(Level::Error, &text);
                    self.shared.status.lose();
                    return;
                }
            }
        }
    }

    /// Takes requests from now on.
    fn accept(&mut self) {
        if self.shared.asked.accept.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shared.main.set();
        let shared = self.shared;
        if let Err(error) = shared.pool.open() {
            let text = format!("the listener cannot be waited for: {error}");
            shared.status.log(Level::Error, &text);
            own::leave(1);
        }
        let stack = shared.setup.stack_size.unwrap_or(STACK);
        let stack = usize::try_from(stack).unwrap_or(usize::MAX);
        for me in 0..shared.pool.seats.len() {
            let builder =
                std::thread::Builder::new().name(format!("wsgi-{}", me + 1)).stack_size(stack);
            if let Err(error) = builder.spawn(move || thread::run(shared)) {
                let text = format!(
                    "only {me} of {} threads can be started: {error}",
                    shared.pool.seats.len()
                );
                shared.status.log(Level::Error, &text);
                if me == 0 {
                    own::leave(1);
                }
                return;
            }
        }
    }

    fn signalled(&mut self) {
        let mut numbers = [0; 64];
        let count = event::drain(self.signals.as_fd(), &mut numbers);
        for number in &numbers[..count] {
            let life = &self.shared.setup.life;
            match own::Signal::of(*number) {
                Some(own::Signal::End) => {
                    let within = life.shutdown.unwrap_or(TERMINATION).min(TERMINATION);
                    self.killed.get_or_insert(Instant::now() + within);
                    // What is left is Python's.
                    self.retire(Some(within / 2), "shutdown_signal");
                }
                // Without a supervisor, this is how its successor has the process go.
                Some(own::Signal::Replace) if self.shared.status.lost() => {
                    self.retire(life.eviction.or(life.graceful), told(Reason::Signal));
                }
                Some(own::Signal::Replace) => {
                    // The supervisor does not tell signals from other wishes of the process.
                    self.shared.ends_for(told(Reason::Signal));
                    self.shared.status.wish(Reason::Signal);
                }
                Some(own::Signal::CpuTime) if self.shared.status.lost() => {
                    self.retire(life.graceful, told(Reason::CpuTime));
                }
                Some(own::Signal::CpuTime) => {
                    self.shared.status.wish(Reason::CpuTime);
                }
                Some(own::Signal::Tell) => self.teller.tell(self.shared, *number),
                None => {}
            }
        }
    }
}

/// A reason as subscribers of `process_stopping` are told it: mod_wsgi's words where it has any.
fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::ScriptChanged => "script_reload",
        Reason::MaximumRequests => "maximum_requests",
        Reason::RestartInterval => "restart_interval",
        Reason::Memory => "memory_limit",
        Reason::CpuTime => "cpu_time_limit",
        Reason::RequestTimeout => "request_timeout",
        Reason::Deadlock => "deadlock_timeout",
        Reason::Inactivity => "inactivity_timeout",
        Reason::Reload => "graceful_signal",
        Reason::Stop => "shutdown_signal",
        Reason::Signal => "eviction_signal",
        Reason::Application => "application",
        Reason::ScriptEnded => "script_ended",
        Reason::StartupTimeout => "startup_timeout",
        Reason::Starved => "starved",
    }
}

/// Looks at a request, and interrupts it where that is wanted. May hang for ever.
fn inspection(shared: &'static Shared, place: usize, job: &Serving, within: Option<Duration>) {
    let (Some(engine), Some(seat)) = (shared.engine(), shared.pool.seats.get(place)) else {
        return;
    };
    let stack = engine.stack(&job.group, job.thread).unwrap_or_default();
    let Some(within) = within else {
        seat.mark(job.id, |lateness| match lateness {
            Lateness::Inspected { until, .. } => {
                Some(Lateness::Inspected { until: *until, stack: Some(stack) })
            }
            _ => None,
        });
        return;
    };
    let Some((_, line)) = seat.serving().filter(|(serving, _)| serving.id == job.id) else {
        return;
    };
    let text = format!(
        "the request has run for {:.1} seconds, longer than request-timeout allows; RequestTimeout is \
         raised in it, its stack:\n{stack}",
        job.since.elapsed().as_secs_f64()
    );
    line.log(Level::Error, &text);
    // Marked while the GIL is held: whoever ends the request then takes back what was to be raised.
    engine.interrupt(&job.group, job.thread, true, || {
        seat.mark(job.id, |lateness| match lateness {
            Lateness::Inspected { .. } => {
                Some(Lateness::Interrupted { until: Instant::now() + within })
            }
            _ => None,
        })
    });
}
