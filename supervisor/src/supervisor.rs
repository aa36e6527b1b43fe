//! The whole program: one loop that waits, and does what is to be done.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use engine::os::memory::Memory;
use engine::os::news::{ALL, Kind, Teller};
use engine::wire::control::{Configure, FromParent, GroupPlan, ToParent, from_parent};

use crate::Time;
use crate::board::{self, Board, RecordId, WORDS};
use crate::fleet::{Estate, Fleet};
use crate::group::{Event, MemberId};
use crate::link::{Heard, Link};
use crate::log::{Level, Log};
use crate::os::{self, Interest, Poller, Process};
use crate::output::Outputs;
use crate::spawn;
use crate::strays::Strays;
use crate::worker::Worker;

/// Descriptors that the program is started with, behind the three usual ones.
const CONTROL: i32 = 3;
const BOARD: i32 = 4;
const ENGINE: i32 = 5;
const NEWS: i32 = 6;

/// Out of the way of the numbers that daemon processes have.
const FREE: i32 = 16;

/// How often scripts and memory are looked at.
const LOOK: Time = 1_000;

/// How long what applications have left running may take to end.
const LAST: Time = 500;

/// How often it is looked for, if it goes on starting more.
const ROUNDS: usize = 100;

/// Descriptors of the parent's that may wait for their frames.
const WAITING: usize = 64;

/// Runs the program to its end.
///
/// Started by httpd's parent, with its end of the control socket as descriptor 3, the board as 4,
/// the engine's file as 5 and the news as 6. The log is 2 until the first configuration brings another.
pub fn run() -> io::Result<()> {
    let parent = os::parent();
    let control = given(CONTROL, "control socket")?;
    let board = given(BOARD, "board")?;
    let engine = given(ENGINE, "engine")?;
    let news = File::from(given(NEWS, "news")?);
    os::detach(NEWS + 1)?;
    // The numbers that daemon processes have are free from here on.
    let [control, board, engine] = [raise(control)?, raise(board)?, raise(engine)?];
    let board = File::from(board);
    let log = os::at_least(io::stderr().as_fd(), FREE)?;
    let nothing: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();

    let memory = Memory::map(&board, WORDS)?;
    let board = Board::open(memory.words()).ok_or(io::ErrorKind::InvalidData)?;
    let found: Vec<(RecordId, board::Entry)> = board.entries().collect();
    let log = Log::new(log);
    let mut supervisor = Supervisor {
        control: Some(Link::new(control, from_parent, WAITING)),
        // Gone already: the end of the control socket says so as well.
        parent: Process::open(parent).ok().filter(|_| os::parent() == parent),
        fleets: BTreeMap::new(),
        strays: Strays::default(),
        arriving: None,
        newest: None,
        estate: Estate {
            log,
            outputs: Outputs::default(),
            nothing,
            engine,
            board,
            news: Teller::open(&news)?,
            stopping: false,
        },
        begun: Instant::now(),
        looked: 0,
    };
    // It was mapped, and its number is one that daemon processes must not find taken.
    drop(news);
    supervisor.adopt(found);
    supervisor.turn()
}

/// Takes over one of the descriptors above, which this program was started with.
fn given(number: i32, what: &str) -> io::Result<OwnedFd> {
    os::inherited(number).ok_or_else(|| {
        let text = format!("no {what} on descriptor {number}: this program is started by httpd");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Gives a descriptor another number, out of the way.
fn raise(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    os::at_least(descriptor.as_fd(), FREE)
}

struct Supervisor<'m> {
    /// `None`: httpd's parent has gone.
    control: Option<Link>,
    parent: Option<Process>,
    fleets: BTreeMap<Key, Fleet>,
    strays: Strays,
    /// A configuration of which groups are still to come.
    arriving: Option<Arriving>,
    newest: Option<u64>,
    estate: Estate<'m>,
    begun: Instant,
    looked: Time,
}

/// What makes a group the same one: the id of its plan, and its listener. A plan that comes back
/// with another listener, as its first one was closed in between, is another group: the children
/// that know the one do not know the other.
type Key = (u64, u64);

struct Arriving {
    configure: Configure,
    /// Groups that are still to come.
    left: u32,
    log: OwnedFd,
    groups: Vec<(GroupPlan, OwnedFd)>,
}

/// Whom a descriptor belongs to.
#[derive(Clone, Copy)]
enum Name {
    Control,
    Parent,
    Log,
    Output(u64),
    Status(Key, MemberId),
    Process(Key, MemberId),
    Stray(u32),
}

impl Supervisor<'_> {
    fn now(&self) -> Time {
        Time::try_from(self.begun.elapsed().as_millis()).unwrap_or(Time::MAX)
    }

    /// The loop.
    fn turn(&mut self) -> io::Result<()> {
        let mut poller = Poller::new();
        loop {
            if self.estate.stopping && self.fleets.is_empty() && self.strays.is_empty() {
                sweep();
                self.estate.outputs.close(&mut self.estate.log);
                self.say(&ToParent::Stopped);
                return Ok(());
            }
            self.list(&mut poller);
            let timeout = self.due().map(|due| due.saturating_sub(self.now()));
            let happened = poller.wait(timeout)?;
            let now = self.now();
            for name in happened {
                self.happened(name, now)?;
            }
            self.follow(now);
        }
    }

    fn list(&self, poller: &mut Poller<Name>) {
        poller.clear();
        if let Some(control) = &self.control {
            poller.add(control.as_fd(), interest(control), Name::Control);
        }
        if let Some(parent) = &self.parent {
            poller.add(parent.as_fd(), Interest::Read, Name::Parent);
        }
        if self.estate.log.pending() {
            poller.add(self.estate.log.as_fd(), Interest::Write, Name::Log);
        }
        for (name, reader) in self.estate.outputs.readers() {
            poller.add(reader, Interest::Read, Name::Output(name));
        }
        for (group, fleet) in &self.fleets {
            for (id, worker) in fleet.workers() {
                if worker.asleep().is_none() {
                    poller.add(worker.process().as_fd(), Interest::Read, Name::Process(*group, id));
                }
                if let Some(link) = worker.link() {
                    poller.add(link.as_fd(), interest(link), Name::Status(*group, id));
                }
            }
        }
        for (pid, process) in self.strays.processes() {
            poller.add(process.as_fd(), Interest::Read, Name::Stray(pid));
        }
    }

    fn due(&self) -> Option<Time> {
        let look = self.fleets.values().any(Fleet::watches).then(|| self.looked + LOOK);
        let fleets = self.fleets.values().filter_map(Fleet::due);
        fleets.chain(look).chain(self.strays.due()).min()
    }

    fn happened(&mut self, name: Name, now: Time) -> io::Result<()> {
        match name {
            Name::Control => self.hear(now)?,
            Name::Parent => self.orphaned(now),
            Name::Log => self.estate.log.flush(),
            Name::Output(name) => self.estate.outputs.read(name, &mut self.estate.log),
            Name::Status(group, id) => {
                if let Some(fleet) = self.fleets.get_mut(&group) {
                    fleet.hear(id, now, &mut self.estate);
                }
            }
            Name::Process(group, id) => {
                if let Some(fleet) = self.fleets.get_mut(&group) {
                    fleet.bury(id, now, &mut self.estate);
                }
            }
            Name::Stray(pid) => self.strays.bury(pid, &mut self.estate),
        }
        Ok(())
    }

    /// Does what the time asks for, and what follows from all that has happened.
    fn follow(&mut self, now: Time) {
        let look = now >= self.looked + LOOK;
        if look {
            self.looked = now;
        }
        for fleet in self.fleets.values_mut() {
            if look && fleet.watches() {
                fleet.look(now, &mut self.estate);
            } else if fleet.due().is_some_and(|due| now >= due) {
                fleet.follow(now, &mut self.estate);
            }
        }
        self.strays.follow(now, &mut self.estate.outputs);
        self.fleets.retain(|_, fleet| !fleet.over());
        self.succeed(now);
    }

    /// A group that the newest configuration does not have any more serves what old httpd children
    /// have left, once there is one in its place: one process is enough for that.
    fn succeed(&mut self, now: Time) {
        let Some(newest) = self.newest else { return };
        let names = |chosen: &dyn Fn(&Fleet) -> bool| -> Vec<String> {
            let chosen = self.fleets.values().filter(|fleet| chosen(fleet));
            chosen.map(|fleet| fleet.name().to_owned()).collect()
        };
        let incomplete =
            names(&|fleet| fleet.belongs_to(newest) && (fleet.succeeds() || !fleet.complete()));
        let old = names(&|fleet| !fleet.belongs_to(newest));
        for fleet in self.fleets.values_mut() {
            let has = |names: &[String]| names.iter().any(|name| name == fleet.name());
            if fleet.belongs_to(newest) {
                if fleet.waits() && !self.estate.stopping && !has(&old) {
                    fleet.go(now, &mut self.estate);
                }
            } else if !fleet.shrunk() && (fleet.is_service() || !has(&incomplete)) {
                fleet.shrink(now, &mut self.estate);
            }
        }
    }

    fn hear(&mut self, now: Time) -> io::Result<()> {
        loop {
            let Some(control) = self.control.as_mut() else { return Ok(()) };
            // What is told and not taken is no reason to stop listening; the end is seen below.
            let _ = control.flush();
            match control.next(FromParent::decode) {
                Ok(Some((message, descriptor))) => self.obey(message, descriptor, now),
                Ok(None) => match control.receive() {
                    Ok(Heard::Something) => {}
                    Ok(Heard::Nothing) => return Ok(()),
                    Ok(Heard::End) => {
                        self.orphaned(now);
                        return Ok(());
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        self.orphaned(now);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
                // The parent starts another supervisor, which takes over: better than to go on with
                // half of what was said.
                Err(fault) => {
                    let text = format!("the supervisor was sent {fault} and has to be restarted");
                    self.estate.log.write(Level::CRITICAL, std::process::id(), &text);
                    return Err(io::Error::other(fault));
                }
            }
        }
    }

    fn obey(&mut self, message: FromParent, descriptor: Option<OwnedFd>, now: Time) {
        match (message, descriptor) {
            (FromParent::Configure(configure), Some(log)) => {
                let left = configure.groups;
                self.arriving = Some(Arriving { configure, left, log, groups: Vec::new() });
            }
            (FromParent::Group(plan), Some(listener)) => {
                if let Some(arriving) = self.arriving.as_mut() {
                    arriving.groups.push((*plan, listener));
                    arriving.left = arriving.left.saturating_sub(1);
                }
            }
            (FromParent::RetireGeneration(generation), _) => self.retire(generation, now),
            (FromParent::Stop { graceful }, _) => {
                self.stop(if graceful { Event::Drain } else { Event::Stop }, now);
            }
            // Both carry a descriptor, or the link would not have given them.
            (FromParent::Configure(_) | FromParent::Group(_), None) => {}
        }
        if let Some(arrived) = self.arriving.take_if(|arriving| arriving.left == 0) {
            let generation = arrived.configure.generation;
            let groups: Vec<(u64, String)> =
                arrived.groups.iter().map(|(plan, _)| (plan.id, plan.name.clone())).collect();
            let answer = match self.configure(arrived, now) {
                Ok(()) => ToParent::Configured(generation),
                Err(reason) => {
                    self.decline(&groups, &reason);
                    ToParent::Refused { generation, reason }
                }
            };
            self.say(&answer);
        }
    }

    /// Takes over a whole configuration, or nothing of it.
    fn configure(&mut self, arrived: Arriving, now: Time) -> Result<(), String> {
        if self.estate.stopping {
            return Err("the server is about to stop".to_owned());
        }
        let Configure { generation, reload, log_level, syslog, .. } = arrived.configure;
        let mut groups = Vec::new();
        for (plan, listener) in arrived.groups {
            let recipe = spawn::recipe(&plan)?;
            let listener = raise(listener).map_err(|error| {
                format!("the listener of group '{}' cannot be kept: {error}", plan.name)
            })?;
            groups.push((plan, recipe, File::from(listener)));
        }
        let log = raise(arrived.log);
        let log = log.map_err(|error| format!("the log cannot be kept: {error}"))?;
        self.estate.log.reopen(log, syslog, Level(log_level));
        os::become_output(&self.estate.log);

        let first = self.newest.is_none();
        if first {
            // There is a supervisor again, if there was none.
            self.estate.news.tell(ALL, Kind::Up, "");
        }
        self.newest = self.newest.max(Some(generation));
        // A service does not start before the one of its name that it follows is gone.
        let names: Vec<String> =
            self.fleets.values().map(|fleet| fleet.name().to_owned()).collect();
        for (plan, recipe, listener) in groups {
            let (id, key) = (plan.id, (plan.id, listener.metadata().map_or(0, |file| file.ino())));
            let fleet = match self.fleets.entry(key) {
                Entry::Occupied(occupied) => {
                    let fleet = occupied.into_mut();
                    fleet.renew(plan, recipe, reload, now, &mut self.estate);
                    fleet
                }
                Entry::Vacant(vacant) => {
                    let succeeds = names.contains(&plan.name);
                    let fleet = vacant.insert(Fleet::new(plan, recipe, listener.into(), succeeds));
                    fleet.announce(&self.estate);
                    fleet
                }
            };
            fleet.generations().insert(generation);
            for (worker, output, serves) in self.strays.claim(id) {
                fleet.adopt(worker, output, serves, now, &mut self.estate);
            }
            fleet.step(None, now, &mut self.estate);
        }
        if first {
            self.strays.give_up(now);
        }
        Ok(())
    }

    /// Tells httpd's children of a configuration that was not taken which of its groups do not serve: nobody is to
    /// wait for what is not started. What ran before goes on, also for groups that were to take its place.
    fn decline(&self, groups: &[(u64, String)], reason: &str) {
        for (id, name) in groups {
            if self.fleets.keys().any(|(known, _)| known == id) {
                continue;
            }
            if self.fleets.values().any(|fleet| fleet.name() == name) {
                self.estate.news.tell(*id, Kind::Pending, "");
            }
            self.estate.news.tell(*id, Kind::Down, reason);
        }
    }

    /// What a former supervisor has left.
    fn adopt(&mut self, found: Vec<(RecordId, board::Entry)>) {
        for (record, entry) in found {
            match Worker::adopt(record, entry) {
                Ok((worker, output)) => self.strays.add(entry, worker, output),
                Err(_) => self.estate.board.remove(record),
            }
        }
        let count = self.strays.processes().count();
        if count > 0 {
            let text = format!("the supervisor was restarted and takes over {count} processes");
            self.estate.log.write(Level::WARNING, std::process::id(), &text);
        }
    }

    /// No httpd child of this configuration is left.
    fn retire(&mut self, generation: u64, now: Time) {
        if self.newest == Some(generation) {
            return;
        }
        for fleet in self.fleets.values_mut() {
            let was = fleet.generations().remove(&generation);
            if was && fleet.generations().is_empty() {
                fleet.step(Some(Event::Drain), now, &mut self.estate);
            }
        }
    }

    /// httpd's parent has gone: so has everything.
    fn orphaned(&mut self, now: Time) {
        self.control = None;
        self.parent = None;
        self.stop(Event::Stop, now);
    }

    fn stop(&mut self, how: Event, now: Time) {
        self.estate.stopping = true;
        self.arriving = None;
        self.strays.stop(now, &mut self.estate.outputs);
        for fleet in self.fleets.values_mut() {
            fleet.step(Some(how.clone()), now, &mut self.estate);
        }
    }

    fn say(&mut self, what: &ToParent) {
        let mut frame = Vec::new();
        if let Some(control) = self.control.as_mut()
            && what.encode(&mut frame).is_ok()
        {
            // A parent that has gone is seen when it is listened to.
            let _ = control.send(&frame);
        }
    }
}

/// Ends what applications have started and left, as httpd does with the processes of its group when it ends; then only,
/// so that it outlives replacements.
fn sweep() {
    let begun = Instant::now();
    let mut left = os::companions();
    for process in &left {
        // Who has ended meanwhile is not waited for, who cannot be told is killed.
        let _ = process.signal(libc::SIGTERM);
    }
    let mut poller = Poller::new();
    while !left.is_empty() {
        let time = LAST.saturating_sub(Time::try_from(begun.elapsed().as_millis()).unwrap_or(LAST));
        poller.clear();
        for (index, process) in left.iter().enumerate() {
            poller.add(process.as_fd(), Interest::Read, index);
        }
        let ended = poller.wait(Some(time)).unwrap_or_default();
        if ended.is_empty() && time == 0 {
            break;
        }
        for index in ended.into_iter().rev() {
            left.swap_remove(index);
        }
    }
    // Those may start others until they are gone themselves.
    for _ in 0..ROUNDS {
        let left = os::companions();
        if left.is_empty() {
            break;
        }
        for process in left {
            let _ = process.signal(libc::SIGKILL);
        }
    }
}

fn interest(link: &Link) -> Interest {
    if link.pending() { Interest::ReadWrite } else { Interest::Read }
}
