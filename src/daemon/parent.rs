//! What httpd's parent keeps from one configuration to the next, in the pool of the process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::os::memory::memory_file;
use engine::os::news::{self, News, Teller};
use engine::os::random::random;
use engine::settings::ProcessSettings;
use engine::wire::Secret;
use engine::wire::control::{Configure, GroupPlan, Syslog};
use engine::wsgi::Level;

use super::link::{GroupLink, Links};
use super::pace::Pace;
use super::plan::{Outcome, Planned};
use super::sockets::{Access, Listener, Room};
use super::start::{Files, Listening, Supervisor, Trouble};
use crate::apache::parent::{self, Bereaved};
use crate::apache::{Pool, account, log};

const KEY: &CStr = c"mod_wsgi_rs: daemon processes";

/// Kept for the life of the process. When httpd ends, so does everything that was started.
pub(super) struct Parent {
    /// Others are forked from it, and clear their copy of the pool as well.
    pid: u32,
    state: Mutex<State>,
}

struct State {
    files: Result<Files, String>,
    memory: Option<Memory>,
    supervisor: Option<Running>,
    pace: Pace,
    /// When the supervisor is started again.
    due: Option<Instant>,
    /// The groups that somebody may still know.
    groups: Vec<Living>,
    /// The configurations that somebody may still have, oldest first.
    generations: Vec<Generation>,
    /// How many there have been.
    counted: u64,
    /// What a child that starts now is left with.
    links: Links,
    rooms: Vec<Room>,
    time_zone: Option<String>,
    /// Where `ErrorLog` is the system's log.
    syslog: Option<Syslog>,
}

/// Memory that outlives supervisors and configurations.
struct Memory {
    /// What processes there are.
    board: File,
    /// Why processes have ended: written by the supervisor, and by this process where there is none.
    news: File,
    teller: Teller,
    /// The same for children, who can only read it.
    told: Arc<News>,
}

struct Running {
    supervisor: Supervisor,
    since: Instant,
    /// Whether it has taken any configuration.
    of_use: bool,
}

/// A group, as long as any configuration has it unchanged.
struct Living {
    plan: GroupPlan,
    /// `None` for a service, which nobody connects to.
    listener: Option<Listener>,
    /// Whether a supervisor has taken it, so that there may be processes of it.
    taken: bool,
}

/// A configuration.
struct Generation {
    number: u64,
    /// Its groups, by their fingerprints.
    groups: Vec<u64>,
    /// At its end when no child of this configuration is left.
    lease: UnixStream,
    /// Whether children of a later configuration had use for its groups when that was looked at last.
    needed: bool,
}

impl Parent {
    /// What is kept, made the first time.
    pub(super) fn of(process: &Pool<'static>) -> &'static Self {
        if let Some(found) = process.recall::<Self>(KEY) {
            return found;
        }
        let files = match parent::module_file() {
            Some(module) => Files::open(&module),
            None => Err("the module does not know where it was loaded from".to_owned()),
        };
        let new = Self { pid: std::process::id(), state: Mutex::new(State::new(files)) };
        process.keep(KEY, new)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A configuration takes the place of the one before.
    pub(super) fn take_over(
        &'static self,
        process: &Pool<'static>,
        pool: &Pool<'_>,
        settings: &ProcessSettings,
        outcome: &Outcome,
        syslog: Option<Syslog>,
    ) {
        for fault in &outcome.faults {
            log::server(Level::Error, fault);
        }
        for notice in &outcome.notices {
            log::server(Level::Warning, notice);
        }
        let mut state = self.state();
        if outcome.groups.is_empty() && state.generations.is_empty() {
            return;
        }
        let prefix = match &settings.daemon.socket_prefix {
            Some(prefix) => parent::in_server_root(pool, prefix),
            None => parent::in_runtime_directory(pool, "wsgi"),
        };
        state.time_zone = std::env::var("TZ").ok();
        state.syslog = syslog;
        if let Err(fault) = state.renew(&prefix, outcome) {
            log::server(Level::Critical, &format!("no daemon processes can be reached: {fault}"));
            return;
        }
        if state.supervisor.is_some() {
            let told = state.tell_newest();
            self.judge(&mut state, told);
        }
        if state.supervisor.is_none() {
            self.start(&mut state, process);
        }
        state.clear();
    }

    /// Says what went wrong with the supervisor. One that is lost, or of no use from the start, is ended, so that
    /// another can take its place.
    fn judge(&self, state: &mut State, told: Result<(), Trouble>) {
        let Err(trouble) = told else { return };
        let useless = state
            .supervisor
            .take_if(|running| matches!(trouble, Trouble::Lost(_)) || !running.of_use);
        match useless {
            Some(running) => {
                // It must not come to itself and take the end of its socket for the end of httpd, nor tell
                // anything any more: there is one who does that.
                running.supervisor.kill();
                state.fail(&trouble.to_string());
            }
            None => log::server(Level::Critical, &trouble.to_string()),
        }
    }

    /// Starts a supervisor, and tells it all that shall run.
    fn start(&'static self, state: &mut State, process: &Pool<'static>) {
        state.due = None;
        let started = state.start().map(|supervisor| {
            parent::watch(process, self, supervisor.pid());
            state.supervisor = Some(Running { supervisor, since: Instant::now(), of_use: false });
        });
        match started {
            Ok(()) => {
                let told = state.tell_all();
                self.judge(state, told);
            }
            Err(fault) => state.fail(&fault),
        }
        if state.supervisor.is_none() {
            state.due = Some(Instant::now() + state.pace.wait(Duration::ZERO));
        }
    }

    /// In a child: gives up all that is the parent's.
    pub(super) fn leave(process: &Pool<'static>) -> Option<Links> {
        let parent = process.recall::<Self>(KEY)?;
        let mut state = parent.state();
        if parent.pid == std::process::id() {
            // httpd -X: the parent serves by itself.
            return Some(std::mem::take(&mut state.links));
        }
        let left = std::mem::replace(&mut *state, State::new(Err(String::new())));
        // Descriptors are closed, plans and their secrets freed; files belong to who made them.
        let State { links, .. } = left;
        Some(links)
    }

    /// Looks whether something is to be done.
    pub(super) fn tick(process: &Pool<'static>) {
        let Some(parent) = process.recall::<Self>(KEY) else { return };
        let mut state = parent.state();
        state.clear();
        if state.due.is_some_and(|due| due <= Instant::now()) {
            parent.start(&mut state, process);
        }
    }
}

impl Bereaved for Parent {
    fn died(&'static self, pid: u32, process: &Pool<'static>) {
        let mut state = self.state();
        // Another one may be in its place by now.
        let Some(running) = state.supervisor.take_if(|running| running.supervisor.pid() == pid)
        else {
            return;
        };
        let wait = state.pace.wait(running.since.elapsed());
        let text = format!(
            "mod_wsgi_supervisor ({pid}) has ended; daemon processes go on, and it is started again {}",
            if wait.is_zero() {
                "now".to_owned()
            } else {
                format!("in {} seconds", wait.as_secs())
            }
        );
        log::server(Level::Error, &text);
        if wait.is_zero() {
            self.start(&mut state, process);
        } else {
            state.due = Some(Instant::now() + wait);
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // No log any more: the configuration that it belongs to has gone before.
        if std::process::id() != self.pid {
            return;
        }
        let mut state = self.state();
        if state.supervisor.take().is_some_and(|mut running| running.supervisor.stop()) {
            return;
        }
        // It has ended before; its processes are there, and somebody has to end them.
        if state.groups.iter().any(|living| living.taken)
            && let Ok(mut supervisor) = state.start()
        {
            supervisor.stop();
        }
    }
}

impl State {
    fn new(files: Result<Files, String>) -> Self {
        Self {
            files,
            memory: None,
            supervisor: None,
            pace: Pace::default(),
            due: None,
            groups: Vec::new(),
            generations: Vec::new(),
            counted: 0,
            links: Links::default(),
            rooms: Vec::new(),
            time_zone: None,
            syslog: None,
        }
    }

    /// Makes the groups of a new configuration, or finds them where they have not changed.
    fn renew(&mut self, prefix: &Path, outcome: &Outcome) -> Result<(), String> {
        let (uid, _) = account::own();
        let (_, user, gid) = account::httpd();
        let others = outcome.groups.iter().any(|planned| planned.socket_owner != user);
        let access = Access { root: uid == 0, gid, others };
        // Before another one of its name is made.
        self.rooms.retain(Room::is_there);
        match self.rooms.iter().find(|room| room.is_at(prefix)) {
            Some(room) => room.admit(access)?,
            None => self.rooms.push(Room::open(prefix, access)?),
        }
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => Memory::new().map_err(|error| format!("no memory can be shared: {error}"))?,
        };
        let news = Some(Arc::clone(&memory.told));
        self.memory = Some(memory);
        let (ours, theirs) = lease().map_err(|error| format!("no socket can be made: {error}"))?;
        let mut links = Links { news: news.clone(), lease: Some(theirs), ..Links::default() };
        let mut ids = Vec::new();
        for planned in &outcome.groups {
            match self.group(prefix, planned, access.root) {
                Ok(living) => {
                    let socket =
                        living.listener.as_ref().map(|listener| listener.path().to_owned());
                    if let Some(socket) = socket {
                        let secret = living.plan.setup.secret.clone();
                        let mut link = GroupLink::new(planned, socket, secret, uid);
                        if let Some((before, news)) =
                            self.links.groups.get(&link.name).zip(news.as_ref())
                        {
                            link.succeed(before, news);
                        }
                        links.groups.insert(link.name.clone(), link);
                    }
                    ids.push(planned.plan.id);
                }
                Err(fault) => log::server(
                    Level::Error,
                    &format!("process group '{}' cannot run: {fault}", planned.plan.name),
                ),
            }
        }
        self.counted += 1;
        self.generations.push(Generation {
            number: self.counted,
            groups: ids,
            lease: ours,
            needed: false,
        });
        // With it goes our copy of the lease before, which only children of that configuration hold now.
        self.links = links;
        Ok(())
    }

    fn group(&mut self, prefix: &Path, planned: &Planned, root: bool) -> Result<&Living, String> {
        let known = self.groups.iter().position(|living| living.plan.id == planned.plan.id);
        let index = known.unwrap_or(self.groups.len());
        match self.groups.get(index).map(|living| living.listener.as_ref()) {
            Some(None) => {}
            Some(Some(listener)) if listener.is_sound() => {}
            Some(Some(listener)) => {
                let text = format!(
                    "process group '{}' has to have another socket, as {} was removed or shut down",
                    planned.plan.name,
                    listener.path().display()
                );
                log::server(Level::Warning, &text);
                let listener = self.listener(prefix, planned, root)?;
                if let Some(living) = self.groups.get_mut(index) {
                    living.listener = Some(listener);
                    living.taken = false;
                }
            }
            None => {
                let mut plan = planned.plan.clone();
                let secret = random().map_err(|error| format!("no random bytes: {error}"))?;
                plan.setup.secret = Secret::new(secret);
                let listener = match plan.setup.threads {
                    0 => None,
                    _ => Some(self.listener(prefix, planned, root)?),
                };
                self.groups.push(Living { plan, listener, taken: false });
            }
        }
        self.groups.get(index).ok_or_else(|| "it is gone".to_owned())
    }

    fn listener(
        &mut self,
        prefix: &Path,
        planned: &Planned,
        root: bool,
    ) -> Result<Listener, String> {
        let room = self.rooms.iter_mut().find(|room| room.is_at(prefix));
        let room = room.ok_or_else(|| "there is no folder for sockets".to_owned())?;
        room.listen(root.then_some(planned.socket_owner), planned.process.queue_limit())
    }

    fn start(&mut self) -> Result<Supervisor, String> {
        let files = self.files.as_ref().map_err(String::clone)?;
        let Some(memory) = &self.memory else { return Err("no memory is shared".to_owned()) };
        let memory = [memory.board.as_fd(), memory.news.as_fd()];
        Supervisor::start(files, memory, io::stderr().as_fd(), self.time_zone.as_deref())
    }

    /// Tells a new supervisor all configurations that somebody may have.
    fn tell_all(&mut self) -> Result<(), Trouble> {
        (0..self.generations.len()).try_for_each(|index| self.tell_one(index, false))
    }

    /// Tells the newest. People deploy by a reload of the server, so groups that stay as they are get new processes,
    /// too.
    fn tell_newest(&mut self) -> Result<(), Trouble> {
        self.tell_one(self.generations.len().saturating_sub(1), true)
    }

    fn tell_one(&mut self, index: usize, reload: bool) -> Result<(), Trouble> {
        let Some(generation) = self.generations.get(index) else { return Ok(()) };
        let Some(running) = &mut self.supervisor else { return Ok(()) };
        let nothing =
            File::open("/dev/null").map_err(|error| Trouble::Refused(error.to_string()))?;
        let of_it = |living: &&Living| generation.groups.contains(&living.plan.id);
        let groups: Vec<Listening<'_>> = self
            .groups
            .iter()
            .filter(of_it)
            .map(|living| {
                let listener = living.listener.as_ref().map_or(nothing.as_fd(), AsFd::as_fd);
                (&living.plan, listener)
            })
            .collect();
        // What httpd's error log is now, whichever way it is written.
        let log = io::stderr();
        let configure = Configure {
            generation: generation.number,
            groups: u32::try_from(groups.len()).unwrap_or(u32::MAX),
            reload,
            log_level: log_level(),
            syslog: self.syslog.clone(),
        };
        running.supervisor.configure(configure, log.as_fd(), &groups)?;
        running.of_use = true;
        for living in &mut self.groups {
            living.taken |= generation.groups.contains(&living.plan.id);
        }
        Ok(())
    }

    /// There is no supervisor. Says so, and tells children which groups have nobody who would answer; groups that
    /// any supervisor has taken before have processes, which go on.
    fn fail(&self, fault: &str) {
        log::server(Level::Critical, fault);
        let Some(memory) = &self.memory else { return };
        let down = |group| memory.teller.tell(group, news::Kind::Down, fault);
        if self.groups.iter().any(|living| living.taken) {
            let new = self.groups.iter().filter(|living| !living.taken);
            new.for_each(|living| down(living.plan.id));
        } else {
            down(news::ALL);
        }
    }

    /// The names of groups that do not serve yet, and whose requests those before them take.
    fn awaited(&self) -> Vec<String> {
        let (Some(memory), Some(newest)) = (&self.memory, self.generations.last()) else {
            return Vec::new();
        };
        let pending = |living: &&Living| {
            newest.groups.contains(&living.plan.id) && memory.told.pending(living.plan.id)
        };
        self.groups.iter().filter(pending).map(|living| living.plan.name.clone()).collect()
    }

    /// Lets go of configurations that no child has any more, except for the newest, which children are
    /// still to be started with, and of those whose processes stand in for it; and of what belongs to
    /// them alone.
    fn clear(&mut self) {
        let newest = self.counted;
        let awaited = self.awaited();
        let (mut over, mut left) = (Vec::new(), Vec::new());
        for mut generation in std::mem::take(&mut self.generations) {
            let needs = self.groups.iter().any(|living| {
                generation.groups.contains(&living.plan.id) && awaited.contains(&living.plan.name)
            });
            // Kept for one more look: who has just seen that it has to may be about to ask its processes.
            let needed = std::mem::replace(&mut generation.needed, needs);
            if generation.number == newest || needs || needed || !generation.is_over() {
                left.push(generation);
            } else {
                over.push(generation);
            }
        }
        self.generations = left;
        if let Some(running) = &mut self.supervisor {
            for generation in &over {
                // One that is lost is seen to be by its end.
                let _ = running.supervisor.retire(generation.number);
            }
        }
        let known = |id: u64| self.generations.iter().any(|one| one.groups.contains(&id));
        self.groups.retain(|living| known(living.plan.id));
        let groups = &self.groups;
        let used = |room: &Room| {
            groups.iter().filter_map(|living| living.listener.as_ref()).any(|one| room.holds(one))
        };
        let last = self.rooms.len().saturating_sub(1);
        let mut index = 0;
        self.rooms.retain(|room| {
            index += 1;
            index - 1 == last || used(room)
        });
    }
}

impl Memory {
    fn new() -> io::Result<Self> {
        let (board, news) = (memory_file(c"mod_wsgi_rs board")?, news::new()?);
        let (teller, told) = (Teller::open(&news)?, Arc::new(News::open(&news)?));
        Ok(Self { board, news, teller, told })
    }
}

impl Generation {
    fn is_over(&self) -> bool {
        // Nobody ever writes to it.
        matches!((&self.lease).read(&mut [0]), Ok(0))
    }
}

/// The least severe level that the main server's log takes.
fn log_level() -> u8 {
    let levels = [Level::Debug, Level::Info, Level::Warning, Level::Error];
    levels.into_iter().find(|level| log::server_wants(*level)).unwrap_or(Level::Critical) as u8
}

/// Two ends, of which the first sees when all copies of the second are closed.
fn lease() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_when_its_last_copy_is_closed() {
        let (ours, theirs) = lease().unwrap();
        let generation = Generation { number: 1, groups: Vec::new(), lease: ours, needed: false };
        let copy = theirs.try_clone().unwrap();
        assert!(!generation.is_over());
        drop(theirs);
        assert!(!generation.is_over());
        drop(copy);
        assert!(generation.is_over());
    }
}
