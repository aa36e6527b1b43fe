//! One group: the machine that decides, and the processes it decides about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::os::event;
use engine::os::news::{Kind, Teller};
use engine::wire::control::{FromDaemon, GroupPlan, Reason, Setup, ToDaemon};

use crate::Time;
use crate::board::{Board, Standing};
use crate::death;
use crate::group::{Action, Event, Fate, Group, MemberId, Why};
use crate::log::{Level, Log};
use crate::os::{self, Exit, Recipe};
use crate::output::Outputs;
use crate::scripts::Scripts;
use crate::spawn;
use crate::worker::{Gifts, Silence, Started, Worker};

/// How long to wait for whoever has to see a process's end before this program does.
const NAP: Time = 100;

/// How long a process may live without its status socket before it is replaced for it.
const SILENCE: Time = 1_000;

/// How much later than it wanted this program may look at whether a process is silent, for that to say anything.
const LATE: Time = 1_000;

/// Processes in a row that never came as far as to have loaded their scripts, after which requests are not left to
/// wait for the next try.
const HOPELESS: u32 = 3;

/// Frames of one process that are looked at before the others have their turn.
const TURN: usize = 64;

/// What all groups share.
pub(crate) struct Estate<'m> {
    pub(crate) log: Log,
    pub(crate) outputs: Outputs,
    pub(crate) nothing: OwnedFd,
    pub(crate) engine: OwnedFd,
    pub(crate) board: Board<'m>,
    pub(crate) news: Teller,
    pub(crate) stopping: bool,
}

/// A group and its processes.
pub(crate) struct Fleet {
    plan: GroupPlan,
    recipe: Recipe,
    listener: OwnedFd,
    machine: Group,
    workers: BTreeMap<MemberId, Worker>,
    scripts: Scripts,
    /// Processes whose status socket has ended, and since when: mostly they are about to end
    /// themselves.
    silent: Vec<(MemberId, Time)>,
    shrunk: bool,
    waits: bool,
    /// Whether it takes the place of a group of its name, and does not serve yet.
    succeeds: bool,
    /// Whether any process has loaded its scripts.
    loaded: bool,
    /// Why a process has ended or could not be started, until that is told.
    fault: Option<String>,
    /// Whether httpd's children have been told that no process can be started; `None`: a former supervisor may
    /// have told them.
    down: Option<bool>,
    /// Configurations that have this group and whose httpd children may still be there.
    generations: BTreeSet<u64>,
}

impl Fleet {
    /// A group that is to be. One that succeeds another serves when its scripts are loaded and not
    /// before; if it is a service it starts nothing until [`Fleet::go`].
    pub(crate) fn new(plan: GroupPlan, recipe: Recipe, listener: OwnedFd, succeeds: bool) -> Self {
        let mut policy = spawn::policy(&plan);
        let waits = succeeds && policy.service;
        if waits {
            policy.processes = 0;
        }
        let machine = Group::new(policy);
        let scripts = Scripts::new(watched(&plan));
        Self {
            plan,
            recipe,
            listener,
            machine,
            workers: BTreeMap::new(),
            scripts,
            silent: Vec::new(),
            shrunk: false,
            waits,
            succeeds: succeeds && !waits,
            loaded: false,
            fault: None,
            down: None,
            generations: BTreeSet::new(),
        }
    }

    /// Tells httpd's children, before there are any of its configuration, whether the group before serves as yet.
    pub(crate) fn announce(&self, estate: &Estate<'_>) {
        if self.succeeds {
            estate.news.tell(self.plan.id, Kind::Pending, "");
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(crate) fn generations(&mut self) -> &mut BTreeSet<u64> {
        &mut self.generations
    }

    /// The group is in a configuration.
    pub(crate) fn belongs_to(&self, generation: u64) -> bool {
        self.generations.contains(&generation)
    }

    pub(crate) fn complete(&self) -> bool {
        self.machine.complete()
    }

    pub(crate) fn over(&self) -> bool {
        self.machine.over()
    }

    pub(crate) fn due(&self) -> Option<Time> {
        let silent = self.silent.iter().map(|(_, since)| since + SILENCE);
        let asleep = self.workers.values().filter_map(Worker::asleep);
        let heard = self.workers.values().filter_map(Worker::heard).min();
        let stopped = self.patience().and_then(|most| Some(heard?.saturating_add(most)));
        silent.chain(asleep).chain(stopped).chain(self.machine.due()).min()
    }

    /// How long a process may say nothing.
    fn patience(&self) -> Option<Time> {
        self.plan.life.silence().map(|most| Time::try_from(most.as_millis()).unwrap_or(Time::MAX))
    }

    /// Whether it has to be looked at every now and then.
    pub(crate) fn watches(&self) -> bool {
        !self.scripts.is_empty() || self.plan.life.resident.is_some()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = (MemberId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    /// Takes over a process that a former supervisor started, and what it writes.
    pub(crate) fn adopt(
        &mut self,
        worker: Worker,
        output: Option<File>,
        serves: bool,
        now: Time,
        estate: &mut Estate<'_>,
    ) {
        self.loaded |= serves;
        if let Some(output) = output {
            estate.outputs.add(worker.pid(), Some(&self.plan.name), output);
        }
        let id = self.machine.adopt(serves, now);
        self.workers.insert(id, worker);
    }

    /// The group is in a new configuration, or the same is told again. With `reload` its processes are
    /// replaced.
    pub(crate) fn renew(
        &mut self,
        plan: GroupPlan,
        recipe: Recipe,
        reload: bool,
        now: Time,
        estate: &mut Estate<'_>,
    ) {
        self.plan = plan;
        self.recipe = recipe;
        self.shrunk = false;
        if !self.waits {
            self.step(Some(Event::Resize(self.plan.processes)), now, estate);
        }
        if reload {
            // What was deployed is new with the reload, and not once more when it is seen later.
            self.scripts.look();
            self.step(Some(Event::Reload), now, estate);
        }
    }

    /// Whether it takes the place of a group of its name, and does not serve yet.
    pub(crate) fn succeeds(&self) -> bool {
        self.succeeds
    }

    /// Whether its processes are scripts that run by themselves.
    pub(crate) fn is_service(&self) -> bool {
        self.plan.setup.threads == 0
    }

    /// Whether it waits for [`Fleet::go`].
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Starts what it was told to wait with.
    pub(crate) fn go(&mut self, now: Time, estate: &mut Estate<'_>) {
        self.waits = false;
        self.step(Some(Event::Resize(self.plan.processes)), now, estate);
    }

    /// Whether [`Fleet::shrink`] was called.
    pub(crate) fn shrunk(&self) -> bool {
        self.shrunk
    }

    /// Goes on with one process at most; a service, of which nobody outside can have need, with
    /// none.
    pub(crate) fn shrink(&mut self, now: Time, estate: &mut Estate<'_>) {
        self.shrunk = true;
        let event = if self.is_service() {
            Event::Drain
        } else {
            Event::Resize(self.plan.processes.min(1))
        };
        self.step(Some(event), now, estate);
    }

    /// Lets the machine decide, and does what it says.
    pub(crate) fn step(&mut self, event: Option<Event>, now: Time, estate: &mut Estate<'_>) {
        let mut events = vec![Event::Scripts(self.scripts.stamp())];
        events.extend(event);
        let lost = self.silent.extract_if(.., |(_, since)| now >= *since + SILENCE);
        events.extend(lost.map(|(id, _)| Event::Lost(id)));
        while !events.is_empty() {
            let actions = self.machine.decide(events, now);
            events =
                actions.into_iter().filter_map(|action| self.act(action, now, estate)).collect();
        }
        self.tell(estate);
    }

    /// Tells httpd's children whether it makes sense to wait for a process, and from when on to ask for one.
    fn tell(&mut self, estate: &Estate<'_>) {
        let (serving, ..) = self.machine.counts();
        if self.succeeds && self.loaded && self.machine.complete() {
            self.succeeds = false;
            estate.news.tell(self.plan.id, Kind::Ready, "");
        }
        let hopeless = self.hopeless();
        if serving > 0 && !hopeless {
            if self.down != Some(false) {
                estate.news.tell(self.plan.id, Kind::Up, "");
            }
            self.down = Some(false);
        } else if hopeless && let Some(fault) = self.fault.take() {
            // Told again with every failure, as there is no room for everything that is ever told.
            let text = format!("no process can be started: the last one, {fault}");
            estate.news.tell(self.plan.id, Kind::Down, &text);
            self.down = Some(true);
            self.turn_away();
        }
    }

    /// Whether nothing comes up.
    fn hopeless(&self) -> bool {
        self.machine.unready() >= HOPELESS && !self.machine.loaded()
    }

    /// Ends the connections that nobody has accepted: who has made them sees that nothing of them was read, and asks
    /// for the news.
    fn turn_away(&self) {
        let listener = self.listener.as_fd();
        // Where it waited, so would this program. A service listens to nobody.
        if event::set_nonblocking(listener).is_ok() {
            while let Ok(Some(connection)) = event::accept(listener) {
                drop(connection);
            }
        }
    }

    /// Looks at what nobody tells: whether scripts have changed, and how much memory processes use.
    pub(crate) fn look(&mut self, now: Time, estate: &mut Estate<'_>) {
        self.scripts.look();
        let most = self.plan.life.resident;
        let fat: Vec<MemberId> = self
            .workers()
            .filter(|(_, worker)| {
                most.is_some_and(|most| os::resident(worker.pid()).is_ok_and(|used| used >= most))
            })
            .map(|(id, _)| id)
            .collect();
        for id in fat {
            self.step(Some(Event::Wants(id, Why::Memory)), now, estate);
        }
        self.follow(now, estate);
    }

    /// Does what has become due.
    pub(crate) fn follow(&mut self, now: Time, estate: &mut Estate<'_>) {
        for worker in self.workers.values_mut() {
            if worker.asleep().is_some_and(|until| now >= until) {
                worker.sleep(None);
            }
        }
        for id in self.stopped(now) {
            self.step(Some(Event::Wants(id, Why::Silent)), now, estate);
        }
        self.step(None, now, estate);
    }

    /// Processes that have not said anything for too long, each once. To be asked when all is heard that has been
    /// said.
    fn stopped(&mut self, now: Time) -> Vec<MemberId> {
        let Some(most) = self.patience() else { return Vec::new() };
        let mut stopped = Vec::new();
        for (id, worker) in &mut self.workers {
            let Some(late) =
                worker.heard().and_then(|heard| now.checked_sub(heard.saturating_add(most)))
            else {
                continue;
            };
            if late > LATE {
                // This program has slept itself, and they may have with it.
                worker.note(Some(now));
            } else {
                worker.note(None);
                stopped.push(*id);
            }
        }
        stopped
    }

    /// Hears what a process says.
    pub(crate) fn hear(&mut self, id: MemberId, now: Time, estate: &mut Estate<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let flushed = worker.flush();
        let pid = worker.pid();
        let (heard, silence) = worker.hear(TURN);
        if silence.is_some() {
            worker.note(None);
        } else if !heard.is_empty() {
            worker.note(Some(now));
        }
        for message in heard {
            if let Some(event) = self.understand(id, pid, message, estate) {
                self.step(Some(event), now, estate);
            }
        }
        if let Some(Silence::Fault(fault)) = silence {
            let text = format!("{} sent {fault}, and is replaced", self.title(pid));
            estate.log.write(Level::ERROR, pid, &text);
        }
        if silence.is_some() || !flushed {
            self.silent.push((id, now));
        }
    }

    /// A process has ended.
    pub(crate) fn bury(&mut self, id: MemberId, now: Time, estate: &mut Estate<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let exit = match worker.process().reap() {
            // Readable, but not for us yet. Without a pause this would be asked again at once.
            Ok(None) => return worker.sleep(Some(now + NAP)),
            Ok(Some(exit)) => exit,
            Err(_) => Exit::Unknown,
        };
        // Its last words first: they say why.
        while let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.link().is_some())
        {
            let pid = worker.pid();
            let (heard, silence) = worker.hear(TURN);
            let done = heard.is_empty() || silence.is_some();
            for message in heard {
                if let Some(event) = self.understand(id, pid, message, estate) {
                    self.step(Some(event), now, estate);
                }
            }
            if done {
                break;
            }
        }
        let actions = self.machine.decide([Event::Gone(id)], now);
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Ended(member, cause) if member == id => self.mourn(id, exit, cause, estate),
                action => events.extend(self.act(action, now, estate)),
            }
        }
        for event in events {
            self.step(Some(event), now, estate);
        }
        self.tell(estate);
    }

    fn mourn(
        &mut self,
        id: MemberId,
        exit: Exit,
        cause: crate::group::Cause,
        estate: &mut Estate<'_>,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        estate.outputs.ended(worker.pid(), &mut estate.log);
        let obituary = death::describe(exit, worker.failure(), cause);
        let level = if obituary.fault { Level::ERROR } else { Level::INFO };
        let text = format!("{} {}", self.title(worker.pid()), obituary.text);
        // First: requests wait for this.
        if obituary.fault {
            let fault = format!("process {} {}", worker.pid(), obituary.text);
            estate.news.tell(self.plan.id, Kind::Ended, &fault);
            self.fault = Some(fault);
        }
        estate.log.write(level, worker.pid(), &text);
        worker.forget(&estate.board);
        self.silent.retain(|(silent, _)| *silent != id);
    }

    fn understand(
        &mut self,
        id: MemberId,
        pid: u32,
        message: FromDaemon,
        estate: &mut Estate<'_>,
    ) -> Option<Event> {
        match message {
            FromDaemon::Ready(ready) if !ready.loaded => Some(Event::Early(id)),
            FromDaemon::Ready(_) => {
                self.loaded = true;
                Some(Event::Ready(id))
            }
            FromDaemon::ImportFailed(text) => Some(Event::ImportFailed(id, text)),
            FromDaemon::WantsReplacement(Reason::ScriptEnded) => Some(Event::ScriptEnded(id)),
            FromDaemon::WantsReplacement(reason) => {
                if reason == Reason::ScriptChanged {
                    // Else the change would count once more when it is seen here.
                    self.scripts.look();
                }
                Some(Event::Wants(id, why(reason)))
            }
            FromDaemon::Retired => Some(Event::Left(id)),
            FromDaemon::Stats(stats) => {
                if let Some(worker) = self.workers.get(&id) {
                    worker.counts(stats.served, stats.busy.into(), &estate.board);
                }
                let stuck = Duration::from_millis(stats.stuck_ms);
                let deadlock = self.plan.life.deadlock.is_some_and(|deadlock| stuck >= deadlock);
                deadlock.then_some(Event::Wants(id, Why::Deadlock))
            }
            FromDaemon::Runs { path, mtime_us } => {
                self.scripts.add(outside(&self.plan, &path), mtime_us);
                None
            }
            FromDaemon::Log { level, text } => {
                estate.log.relay(Level(level), pid, &self.plan.name, &text);
                None
            }
        }
    }

    /// Does one thing; the result is what follows from it at once.
    fn act(&mut self, action: Action, now: Time, estate: &mut Estate<'_>) -> Option<Event> {
        match action {
            Action::Start(id) => self.start(id, estate),
            Action::Accept(id) => {
                let worker = self.workers.get_mut(&id)?;
                worker.stands(Standing::Serving, &estate.board);
                if !worker.tell(&ToDaemon::Accept) {
                    self.silent.push((id, now));
                }
                None
            }
            Action::Retire(id, why, within) => {
                let within = within.map(Duration::from_millis);
                let reason = reason(why, estate.stopping);
                let worker = self.workers.get_mut(&id)?;
                worker.stands(Standing::Leaving, &estate.board);
                if !worker.tell(&ToDaemon::Retire { reason, within }) {
                    self.signal(id, libc::SIGUSR1, estate);
                }
                None
            }
            Action::Stay(id) => {
                // One that is lost waits for nobody any more either.
                let _ = self.workers.get_mut(&id)?.tell(&ToDaemon::Stay);
                None
            }
            Action::Terminate(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.stands(Standing::Leaving, &estate.board);
                }
                self.signal(id, libc::SIGTERM, estate);
                None
            }
            Action::Kill(id) => {
                self.signal(id, libc::SIGKILL, estate);
                None
            }
            Action::ImportFault { member, text, fate } => {
                let pid = self.workers.get(&member)?.pid();
                let fate = match fate {
                    Fate::OldServes => "the process that it was to replace goes on",
                    Fate::OthersServe => "it will be tried again",
                    Fate::Serves if self.succeeds => {
                        "those that the configuration before has for this group go on"
                    }
                    Fate::Serves => "there is no other, so its requests fail until that is mended",
                };
                let text = format!("{} could not import; {fate}:\n{text}", self.title(pid));
                estate.log.write(Level::ERROR, pid, &text);
                None
            }
            // Only those whose start failed at once are not in the table; that is logged already.
            Action::Ended(..) => None,
        }
    }

    fn start(&mut self, id: MemberId, estate: &mut Estate<'_>) -> Option<Event> {
        let gifts = Gifts {
            nothing: estate.nothing.as_fd(),
            listener: self.listener.as_fd(),
            engine: estate.engine.as_fd(),
        };
        // Where nothing comes up nobody waits any more, and none is to serve before it has loaded.
        let alone = self.machine.counts().0 == 0 && !self.succeeds && !self.hopeless();
        let setup = Setup { alone, ..self.plan.setup.clone() };
        match Worker::start(&self.recipe, &setup, &gifts, &estate.board) {
            Ok(Started { worker, output, without_nice }) => {
                if let Some(error) = without_nice {
                    let text = format!(
                        "{} runs without its cpu-priority, which cannot be set: {error}",
                        self.title(worker.pid())
                    );
                    estate.log.write(Level::WARNING, worker.pid(), &text);
                }
                estate.outputs.add(worker.pid(), Some(&self.plan.name), output);
                self.workers.insert(id, worker);
                None
            }
            Err(error) => {
                let name = &self.plan.name;
                let text =
                    format!("a daemon process of group '{name}' could not be started: {error}");
                estate.log.write(Level::ERROR, std::process::id(), &text);
                self.fault = Some(format!("which could not be made: {error}"));
                Some(Event::Gone(id))
            }
        }
    }

    fn signal(&self, id: MemberId, number: i32, estate: &mut Estate<'_>) {
        let Some(worker) = self.workers.get(&id) else { return };
        if let Err(error) = worker.signal(number) {
            let title = self.title(worker.pid());
            let text = format!("{title} could not be sent signal {number}: {error}");
            estate.log.write(Level::CRITICAL, worker.pid(), &text);
        }
    }

    fn title(&self, pid: u32) -> String {
        format!("daemon process {pid} of group '{}'", self.plan.name)
    }
}

/// The scripts whose change means new code, as this program sees them.
fn watched(plan: &GroupPlan) -> Vec<PathBuf> {
    let mounts = plan.setup.mounts.iter().filter(|mount| mount.preload && mount.reloading);
    let imports = plan.setup.import_scripts.iter().map(|script| &script.path);
    mounts.map(|mount| &mount.path).chain(imports).map(|path| outside(plan, path)).collect()
}

/// A path of the processes as this program sees it.
fn outside(plan: &GroupPlan, path: &str) -> PathBuf {
    Path::new(plan.chroot.as_deref().unwrap_or("/")).join(path.trim_start_matches('/'))
}

fn why(reason: Reason) -> Why {
    match reason {
        Reason::ScriptChanged => Why::ScriptChanged,
        Reason::MaximumRequests => Why::MaximumRequests,
        Reason::RestartInterval => Why::Age,
        Reason::Memory => Why::Memory,
        Reason::CpuTime => Why::Cpu,
        Reason::RequestTimeout => Why::RequestTimeout,
        Reason::Deadlock => Why::Deadlock,
        Reason::Inactivity => Why::Inactive,
        Reason::Reload => Why::Reload,
        Reason::StartupTimeout => Why::Startup,
        Reason::Starved => Why::Starved,
        Reason::Stop | Reason::Signal | Reason::Application | Reason::ScriptEnded => Why::OwnAccord,
    }
}

fn reason(why: Why, stopping: bool) -> Reason {
    match why {
        Why::Surplus if stopping => Reason::Stop,
        Why::Surplus | Why::TakenOver | Why::Reload | Why::Lost => Reason::Reload,
        Why::Inactive => Reason::Inactivity,
        Why::Age => Reason::RestartInterval,
        Why::MaximumRequests => Reason::MaximumRequests,
        Why::ScriptChanged => Reason::ScriptChanged,
        Why::OwnAccord => Reason::Application,
        Why::Startup => Reason::StartupTimeout,
        Why::Starved => Reason::Starved,
        Why::Memory => Reason::Memory,
        Why::Cpu => Reason::CpuTime,
        Why::RequestTimeout => Reason::RequestTimeout,
        Why::Deadlock | Why::Silent => Reason::Deadlock,
    }
}
