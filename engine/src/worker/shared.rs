//! What all threads of a daemon process share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::flusher::Flusher;
use super::imports::Imports;
use super::pool::Pool;
use super::setup::Mount;
use super::status::Status;
use crate::os::event::Wake;
use crate::wire::control::{FromDaemon, Ready, Reason, Setup};
use crate::wsgi::{EXIT_DEADLINE, Engine, Level};

/// All of it lives as long as the process.
pub(super) struct Shared {
    pub(super) setup: Setup,
    pub(super) mounts: HashMap<u64, Mount>,
    pub(super) status: Arc<Status>,
    pub(super) pool: Pool,
    pub(super) flusher: Flusher,
    /// Wakes Python's main thread.
    pub(super) main: Wake,
    /// What the clock and Python's main thread ask of each other.
    pub(super) asked: Asked,
    /// What the main thread loads.
    pub(super) imports: Imports,
    engine: OnceLock<Engine>,
    /// Why the process ends, in the words of `process_stopping`.
    ends_for: OnceLock<&'static str>,
    started: Instant,
    served: AtomicU64,
    /// Milliseconds since the start, from 1.
    active_ms: AtomicU64,
    /// Since when the main thread has been trying to enter Python; 0 while it is not.
    entering_ms: AtomicU64,
    complained_ms: AtomicU64,
    silent_complaints: AtomicU64,
    /// Scripts that the setup does not name and that the supervisor was told of.
    told: RwLock<HashSet<Box<[u8]>>>,
    /// Scripts whose files have changed.
    changes: Mutex<HashMap<Box<[u8]>, Change>>,
    retiring: Condvar,
}

/// Most scripts that the supervisor is told of; changes of others are seen when they are asked for.
const TOLD: usize = 256;

/// A file that has another time than the code that was loaded from it.
struct Change {
    mtime: i64,
    /// How long requests wait for a process with the new code.
    until: Instant,
}

/// What the clock and Python's main thread ask of each other.
#[derive(Default)]
pub(super) struct Asked {
    /// Requests are taken from now on.
    pub(super) accept: AtomicBool,
    /// The supervisor knows that scripts have been loaded.
    pub(super) told_loaded: AtomicBool,
    /// Scripts that were to be loaded before requests are, or have failed to.
    pub(super) loaded: AtomicBool,
    /// The main thread shall end the process.
    pub(super) end: AtomicBool,
    /// The clock shall see to the end.
    pub(super) leave: AtomicBool,
    /// Milliseconds that the end of Python's part may take; 0 is as long as `shutdown-timeout` says.
    pub(super) exit_ms: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        setup: Setup,
        mounts: HashMap<u64, Mount>,
        status: Arc<Status>,
        pool: Pool,
        main: Wake,
    ) -> Self {
        let own = scripts(&setup).filter(|(group, _)| group.is_empty());
        let imports = Imports::new(own.map(|(_, path)| path.as_bytes()));
        let flusher = Flusher::new(setup.timeouts.socket);
        Self {
            setup,
            mounts,
            status,
            pool,
            flusher,
            main,
            asked: Asked::default(),
            imports,
            engine: OnceLock::new(),
            ends_for: OnceLock::new(),
            started: Instant::now(),
            served: AtomicU64::new(0),
            active_ms: AtomicU64::new(0),
            entering_ms: AtomicU64::new(0),
            complained_ms: AtomicU64::new(0),
            silent_complaints: AtomicU64::new(0),
            told: RwLock::default(),
            changes: Mutex::default(),
            retiring: Condvar::new(),
        }
    }

    /// Tells the supervisor, once, that scripts have been loaded or that an application runs: before that an end of
    /// the process is a failure to start.
    pub(super) fn loaded(&self) {
        if self.asked.told_loaded.load(Ordering::Relaxed)
            || self.asked.told_loaded.swap(true, Ordering::Relaxed)
        {
            return;
        }
        self.ready(true);
    }

    /// Tells the supervisor that requests can be taken.
    pub(super) fn ready(&self, loaded: bool) {
        let Some(engine) = self.engine() else { return };
        let (major, minor) = engine.version();
        let free_threaded = engine.free_threaded();
        self.status.tell(&FromDaemon::Ready(Ready { major, minor, free_threaded, loaded }));
    }

    /// The engine, once it is there.
    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.get()
    }

    pub(super) fn set_engine(&self, engine: Engine) -> &Engine {
        self.engine.get_or_init(|| engine)
    }

    /// Takes note of why the process ends; the first reason counts.
    pub(super) fn ends_for(&self, reason: &'static str) {
        self.ends_for.get_or_init(|| reason);
    }

    /// Why the process ends; `None` for those that nobody subscribes in.
    pub(super) fn end_reason(&self) -> Option<&'static str> {
        (self.setup.threads != 0).then(|| self.ends_for.get().copied().unwrap_or(""))
    }

    /// Milliseconds since the start, from 1.
    fn ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    fn ms_at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How long there has been anything.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes note that a request does something.
    pub(super) fn active(&self) {
        self.active_at(Instant::now());
    }

    /// As [`Shared::active`], where the time is known.
    pub(super) fn active_at(&self, now: Instant) {
        self.active_ms.store(self.ms_at(now), Ordering::Relaxed);
    }

    /// How long no request has done anything; `None` before the first.
    pub(super) fn inactive(&self) -> Option<Duration> {
        match self.active_ms.load(Ordering::Relaxed) {
            0 => None,
            active => Some(Duration::from_millis(self.ms().saturating_sub(active))),
        }
    }

    /// Takes note that the main thread begins, or has managed, to enter Python.
    pub(super) fn entering(&self, begins: bool) {
        self.entering_ms.store(if begins { self.ms() } else { 0 }, Ordering::Relaxed);
    }

    /// How long the main thread has been trying to enter Python.
    pub(super) fn stuck(&self) -> Duration {
        match self.entering_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.ms().saturating_sub(since)),
        }
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Counts a request.
    pub(super) fn count(&self) {
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self.setup.life.maximum_requests == Some(served) {
            self.status.wish(Reason::MaximumRequests);
        }
    }

    /// Writes down what others do wrong on connections, no more than once a second: they could fill the log.
    pub(super) fn complain(&self, text: &str) {
        let (now, last) = (self.ms(), self.complained_ms.load(Ordering::Relaxed));
        if last != 0 && now < last + 1000 {
            self.silent_complaints.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.complained_ms.store(now, Ordering::Relaxed);
        match self.silent_complaints.swap(0, Ordering::Relaxed) {
            0 => self.status.log(Level::Warning, text),
            more => self.status.log(Level::Warning, &format!("{text} (and {more} times the like)")),
        }
    }

    /// How long the end of Python's part may take.
    pub(super) fn exit_time(&self) -> Duration {
        match self.asked.exit_ms.load(Ordering::SeqCst) {
            0 => self.setup.life.shutdown.unwrap_or(EXIT_DEADLINE),
            ms => Duration::from_millis(ms),
        }
    }

    /// Takes no more requests, and lets go of those who wait for that.
    pub(super) fn retire(&self) {
        self.pool.retire();
        drop(self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        self.retiring.notify_all();
    }

    /// A script that the setup does not name is run: the supervisor looks after its file from now on.
    pub(super) fn runs(&self, script: &[u8], mtime_us: i64) {
        let is_told = |told: &HashSet<Box<[u8]>>| told.len() >= TOLD || told.contains(script);
        if is_told(&self.told.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if is_told(&told) {
            return;
        }
        told.insert(script.into());
        drop(told);
        if let Ok(path) = std::str::from_utf8(script) {
            self.status.tell(&FromDaemon::Runs { path: path.to_owned(), mtime_us });
        }
    }

    /// No process with new code will come: nobody waits for it any more.
    pub(super) fn stay(&self) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        changes.values_mut().for_each(|change| change.until = now);
        drop(changes);
        self.retiring.notify_all();
    }

    /// A script's file has another time than when it was loaded: asks for a process with the new code, and waits
    /// for it as long as `reload-wait` says, once for each change. Whether it is there.
    pub(super) fn wait_for_new_code(&self, script: &[u8], mtime: i64) -> bool {
        let wait = self.setup.life.reload_wait.unwrap_or_default();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.get(script).is_none_or(|change| change.mtime != mtime) {
            changes.insert(script.into(), Change { mtime, until: Instant::now() + wait });
            self.status.wish(Reason::ScriptChanged);
        }
        while !self.pool.retiring() {
            // It may have been told meanwhile that nothing will come.
            let until = changes.get(script).map(|change| change.until);
            let left = until
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = self.retiring.wait_timeout(changes, left);
            changes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// What the main thread loads before the first request or beside it: interpreter and path, some of them more than
/// once.
pub(super) fn scripts(setup: &Setup) -> impl Iterator<Item = (&String, &String)> {
    let scripts =
        setup.import_scripts.iter().map(|script| (&script.application_group, &script.path));
    let mounts = setup
        .mounts
        .iter()
        .filter(|mount| mount.preload)
        .map(|mount| (&mount.application_group, &mount.path));
    scripts.chain(mounts)
}

/// Microseconds since the epoch.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
