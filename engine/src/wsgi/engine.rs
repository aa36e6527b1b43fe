//! The engine of one process: its Python, its interpreters, its end.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::exchange::{Level, Source};
use super::interpreter::Interpreter;
use super::scoreboard::Scoreboard;
use super::{fault, metrics, run, watch};
use crate::python::interpreter::{self, StartFault, StartOptions};
use crate::python::locate::Located;
use crate::python::{Exception, Gil, Home, Obj};
use crate::settings::{HashSeed, ProcessSettings};

pub use super::run::{Call, Outcome};

/// Version of this project.
pub const VERSION: (i32, i32, i32) = (
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
);

const fn number(text: &str) -> i32 {
    let bytes = text.as_bytes();
    let (mut value, mut index) = (0, 0);
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as i32;
        index += 1;
    }
    value
}

/// The newest Python whose `PyInterpreterConfig` is known to have the layout used here: tried with it.
const NEWEST_CONFIG: (u8, u8) = (3, 15);

/// How long exit functions and threads may take when a process ends.
pub(crate) const EXIT_DEADLINE: Duration = Duration::from_secs(5);

/// What the server tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of httpd.
    pub httpd_version: (i32, i32, i32),
    /// `apache.description`
    pub server_description: String,
    /// `apache.build_date`
    pub server_built: String,
    /// `event`, `worker`, `prefork`
    pub mpm_name: String,
    /// How many processes there may be.
    pub maximum_processes: i32,
    /// How many threads each has.
    pub threads_per_process: i32,
    /// `wsgi.multithread`
    pub multithread: bool,
    /// `wsgi.multiprocess`
    pub multiprocess: bool,
    /// Name of the daemon group; empty in embedded mode.
    pub process_group: String,
    /// In a process of a daemon group: its own figures.
    pub group: Option<GroupFacts>,
}

/// What is said of a daemon group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// `mod_wsgi.maximum_processes`
    pub processes: i32,
    /// `mod_wsgi.threads_per_process`
    pub threads: i32,
    /// `wsgi.run_once`
    pub run_once: bool,
}

/// What the process around the engine offers.
pub trait Host: Send + Sync {
    /// Writes a record that belongs to no request. Lines are separated by `\n` and stay together.
    fn log(&self, level: Level, text: &str);

    /// As [`Host::log`], for a record that says where in the application it was made.
    fn log_from(&self, source: Source<'_>, level: Level, text: &str) {
        let _ = source;
        self.log(level, text);
    }

    /// Whether a record of this level gets into the log. Must not wait. Who does not know says yes.
    fn logs(&self, level: Level) -> bool {
        let _ = level;
        true
    }

    /// What httpd's processes are doing, where applications of this process may know that.
    fn scoreboard(&self) -> Option<Scoreboard> {
        None
    }
}

static HOST: OnceLock<Box<dyn Host>> = OnceLock::new();

/// Writes a record that belongs to no request.
pub(super) fn process_log(level: Level, text: &str) {
    if let Some(host) = HOST.get() {
        host.log(level, text);
    }
}

/// As [`process_log`], from a line of an application.
pub(super) fn process_log_from(source: Source<'_>, level: Level, text: &str) {
    if let Some(host) = HOST.get() {
        host.log_from(source, level, text);
    }
}

/// Whether a record of this level, that belongs to no request, gets into the log.
pub(super) fn process_logs(level: Level) -> bool {
    HOST.get().is_some_and(|host| host.logs(level))
}

/// What httpd's processes are doing, where applications of this process may know that.
pub(super) fn scoreboard() -> Option<Scoreboard> {
    HOST.get().and_then(|host| host.scoreboard())
}

/// Python in this process.
pub struct Engine {
    main: &'static Interpreter,
    others: RwLock<HashMap<String, Arc<OnceCell<&'static Interpreter>>>>,
    settings: ProcessSettings,
    facts: Facts,
    version: (u8, u8),
    free_threaded: bool,
    stopped: AtomicBool,
}

impl Engine {
    /// Starts Python: once per process, in a process that never forks httpd children.
    ///
    /// # Errors
    /// Why it does not start, in one line.
    pub fn start(
        located: &Located,
        settings: ProcessSettings,
        facts: Facts,
        host: Box<dyn Host>,
    ) -> Result<Self, StartFault> {
        HOST.get_or_init(|| host);
        let free_threading = settings.free_threading(&facts.process_group);
        let options = StartOptions {
            optimize: settings.optimize(),
            dont_write_bytecode: settings.dont_write_bytecode(),
            warnings: settings.warnings.clone(),
            hash_seed: match settings.hash_seed() {
                HashSeed::Random => None,
                HashSeed::Fixed(seed) => Some(seed),
            },
            force_gil: located.free_threaded() && !free_threading,
        };
        let landmark = located.stdlib.join("encodings/__init__.py");
        if let Err(error) = std::fs::File::open(&landmark) {
            // Python ends the process when it finds no standard library; so it is not even tried.
            return Err(StartFault::Python(format!(
                "{} cannot be read: {error}; Python cannot start without its standard library",
                landmark.display()
            )));
        }
        let home = interpreter::start(&located.library, &located.program, &options)?;
        let running = interpreter::version();
        let (major, minor) = located.version();
        if !running.starts_with(&format!("{major}.{minor}.")) {
            return Err(StartFault::Version(format!(
                "{} is not Python {major}.{minor} but {running}",
                located.library.display()
            )));
        }
        if free_threading && !located.free_threaded() {
            process_log(
                Level::Warning,
                "WSGIFreeThreading is On, but this Python is not a free-threaded build; it runs \
                 with its GIL",
            );
        }
        let engine = Self::set_up(
            home,
            settings,
            facts,
            (located.version(), located.free_threaded() && free_threading),
        )?;
        process_log(
            Level::Info,
            &format!("Python {running} started from {}", located.library.display()),
        );
        Ok(engine)
    }

    /// Takes over the Python that runs in this process: once, detached, on its main thread.
    ///
    /// # Errors
    /// Why it cannot be used, in one line.
    pub fn adopt(
        home: Home,
        settings: ProcessSettings,
        facts: Facts,
        host: Box<dyn Host>,
    ) -> Result<Self, StartFault> {
        HOST.get_or_init(|| host);
        let running = interpreter::version();
        let version = version_of(&running).ok_or_else(|| {
            StartFault::Version(format!("what runs here is no Python but '{running}'"))
        })?;
        let free_threaded = home
            .attach(|gil| interpreter::runs_without_gil(gil).map_err(|raised| brief(gil, raised)))
            .map_err(StartFault::Python)?;
        if settings.free_threading(&facts.process_group) && !free_threaded {
            process_log(
                Level::Warning,
                "WSGIFreeThreading is On, but this Python runs with its GIL",
            );
        }
        Self::set_up(home, settings, facts, (version, free_threaded))
    }

    fn set_up(
        home: Home,
        settings: ProcessSettings,
        facts: Facts,
        (version, free_threaded): ((u8, u8), bool),
    ) -> Result<Self, StartFault> {
        metrics::process_starts();
        let main = home
            .attach(|gil| {
                Interpreter::new(gil, home, "", false, &settings, &facts)
                    .map_err(|raised| brief(gil, raised))
            })
            .map_err(|words| {
                StartFault::Python(format!(
                    "Python {} started, but its set-up failed: {words}",
                    interpreter::version()
                ))
            })?;
        Ok(Self {
            main: Box::leak(Box::new(main)),
            others: RwLock::default(),
            settings,
            facts,
            version,
            free_threaded,
            stopped: AtomicBool::new(false),
        })
    }

    /// Version of Python.
    #[must_use]
    pub fn version(&self) -> (u8, u8) {
        self.version
    }

    /// Whether Python runs without a GIL.
    #[must_use]
    pub fn free_threaded(&self) -> bool {
        self.free_threaded
    }

    /// The interpreter of an application group, made when it is asked for first. Detached.
    pub(super) fn interpreter(&self, name: &str) -> Result<&'static Interpreter, String> {
        if name.is_empty() {
            return Ok(self.main);
        }
        let known = self.others.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let cell = known.unwrap_or_else(|| {
            let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(others.entry(name.to_owned()).or_default())
        });
        cell.get_or_try_init(|| self.make(name)).copied()
    }

    fn make(&self, name: &str) -> Result<&'static Interpreter, String> {
        let chosen = self.settings.interpreter_for(&self.facts.process_group, name);
        let mut own_gil = chosen.per_interpreter_gil();
        if own_gil && self.version > NEWEST_CONFIG {
            process_log(
                Level::Warning,
                &format!(
                    "WSGIPerInterpreterGIL has not been tried with this Python; '{name}' shares the \
                     GIL"
                ),
            );
            own_gil = false;
        }
        if own_gil && self.version < (3, 12) {
            process_log(
                Level::Warning,
                &format!(
                    "WSGIPerInterpreterGIL needs Python 3.12 or newer; '{name}' shares the GIL"
                ),
            );
            own_gil = false;
        }
        if own_gil && self.free_threaded {
            process_log(
                Level::Warning,
                &format!("WSGIPerInterpreterGIL means nothing without a GIL, for '{name}'"),
            );
            own_gil = false;
        }
        let made = interpreter::make(self.main.home, own_gil, |gil, home| {
            Interpreter::new(gil, home, name, own_gil, &self.settings, &self.facts)
                .map_err(|raised| brief(gil, raised))
        });
        let made = made
            .and_then(|made| made)
            .map_err(|words| format!("interpreter '{name}' could not be made: {words}"))?;
        process_log(Level::Info, &format!("interpreter '{name}' made"));
        Ok(Box::leak(Box::new(made)))
    }

    /// Loads a script before requests come (`WSGIImportScript`). Faults are logged.
    pub fn preload(&self, application_group: &str, script: &Path) {
        match self.interpreter(application_group) {
            Ok(interpreter) => run::preload(interpreter, script),
            Err(fault) => process_log(Level::Error, &fault),
        }
    }

    /// As [`Engine::preload`], for who wants to know whether it went well.
    ///
    /// # Errors
    /// What is wrong, with the traceback.
    pub fn import(&self, application_group: &str, script: &Path) -> Result<(), String> {
        run::import(self.interpreter(application_group)?, script)
    }

    /// Whether a script is loaded and has to be again: because its modification time, in microseconds, was another one
    /// then, or because it says so by itself when it is asked about the file of a request. Detached.
    #[must_use]
    pub fn is_stale<'f>(
        &self,
        application_group: &str,
        script: &[u8],
        mtime: i64,
        file: impl FnOnce() -> &'f [u8],
    ) -> bool {
        let Some(interpreter) = self.known(application_group) else { return false };
        let Some(loaded) = interpreter.scripts.loaded(script) else { return false };
        if loaded.mtime != mtime || !loaded.asks {
            return loaded.mtime != mtime;
        }
        interpreter.home.attach(|gil| {
            let required = run::reload_required(gil, interpreter, &loaded, file());
            // What may be the last reference to it goes while attached.
            drop(loaded);
            required
        })
    }

    /// The stack of a thread as Python would show it, where it is inside an interpreter now. Detached.
    #[must_use]
    pub fn stack(&self, application_group: &str, thread: u64) -> Option<String> {
        let interpreter = self.known(application_group)?;
        interpreter.home.attach(|gil| {
            let stack = interpreter.helper(gil, c"_stack").and_then(|stack| {
                let thread = Obj::int(gil, i64::from_ne_bytes(thread.to_ne_bytes()))?;
                stack.call([&thread])?.text()
            });
            let stack = stack.map_err(|raised| raised.clear(gil)).ok();
            stack.filter(|stack| !stack.is_empty())
        })
    }

    /// Has `RequestTimeout` raised in a thread that is inside an interpreter, or, without `on`, takes that back where
    /// it has not happened yet. Detached. `only_if` is asked when it would happen. `false`: it does not.
    pub fn interrupt(
        &self,
        application_group: &str,
        thread: u64,
        on: bool,
        only_if: impl FnOnce() -> bool,
    ) -> bool {
        let Some(known) = self.known(application_group) else { return false };
        known.home.attach(|gil| {
            let class = if on {
                match known.helper(gil, c"RequestTimeout") {
                    Ok(class) => Some(class),
                    Err(raised) => {
                        raised.clear(gil);
                        return false;
                    }
                }
            } else {
                None
            };
            only_if() && interpreter::raise_in(gil, thread, class.as_ref())
        })
    }

    /// Runs the handlers of signals that have come, on Python's main thread, detached. A handler that raises is
    /// reported; the result is whether it asks for the end of the process.
    pub fn check_signals(&self) -> bool {
        self.main.home.attach(|gil| {
            let Err(raised) = interpreter::check_signals(gil) else { return false };
            if raised.asks_to_exit(gil) {
                raised.clear(gil);
                return true;
            }
            let exception = Exception::take(gil, raised);
            let text = fault::traceback(gil, self.main, &exception);
            gil.detach(|| {
                process_log(Level::Error, &format!("exception in a signal handler\n{text}"))
            });
            false
        })
    }

    /// Has Python write a byte to a pipe whenever a signal comes that it handles. On Python's main thread, detached.
    ///
    /// # Errors
    /// Python's words.
    pub fn wake_by(&self, pipe: BorrowedFd<'_>) -> Result<(), String> {
        let number = i64::from(pipe.as_raw_fd());
        self.main.home.attach(|gil| {
            let done = self.main.helper(gil, c"_wake_by");
            let done = done.and_then(|wake| wake.call([&Obj::int(gil, number)?]));
            done.map(drop).map_err(|raised| brief(gil, raised))
        })
    }

    /// Runs a script as a program of its own would be, on Python's main thread, detached, until it returns. The
    /// result is what went wrong.
    ///
    /// # Errors
    /// What is wrong, with the traceback; `SystemExit` is not.
    pub fn run_service(&self, application_group: &str, script: &Path) -> Result<(), String> {
        let interpreter = self.interpreter(application_group)?;
        let ready = interpreter.home.attach(|gil| {
            let ready = interpreter.helper(gil, c"_end_by_exception");
            ready.and_then(|ready| ready.call([])).map(drop).map_err(|raised| brief(gil, raised))
        });
        ready.and_then(|()| run::service(interpreter, script))
    }

    /// The interpreter of an application group, if there is one.
    fn known(&self, name: &str) -> Option<&'static Interpreter> {
        if name.is_empty() {
            return Some(self.main);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(name).and_then(|cell| cell.get().copied())
    }

    /// Serves one request. Detached, from any thread.
    pub fn serve(&self, call: &Call<'_>, exchange: &mut dyn super::exchange::Exchange) -> Outcome {
        match self.interpreter(call.application_group) {
            Ok(interpreter) => run::serve(interpreter, call, exchange),
            Err(fault) => {
                exchange.log(Level::Error, &fault);
                Outcome::Refused(500)
            }
        }
    }

    /// Whether threads have to take turns in the main interpreter.
    #[must_use]
    pub fn takes_turns(&self) -> bool {
        !self.free_threaded
    }

    /// Attaches this thread to the main interpreter for the time of `work`. Detached.
    pub fn attached<R>(&self, work: impl for<'py> FnOnce(Attached<'py>) -> R) -> R {
        self.main.home.attach(|gil| work(Attached { gil, main: self.main }))
    }

    /// Whether the main interpreter has a script loaded as of this modification time, in microseconds, and nobody has to
    /// be asked whether that is right. Attached.
    #[must_use]
    pub fn is_current(&self, script: &[u8], mtime: i64) -> bool {
        let loaded = self.main.scripts.loaded(script);
        loaded.is_some_and(|loaded| loaded.mtime == mtime && !loaded.asks)
    }

    /// Tells the subscribers of every interpreter that a daemon process has got a signal. Detached, by a thread
    /// that can wait for them.
    pub fn signalled(&self, number: i32) {
        for interpreter in self.all() {
            interpreter.home.attach(|gil| {
                watch::process_event(gil, interpreter, c"_process_signal", || {
                    Obj::int(gil, number.into())
                });
            });
        }
    }

    /// All interpreters, the main one last.
    fn all(&self) -> Vec<&'static Interpreter> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let others = others.values().filter_map(|cell| cell.get().copied());
        others.chain([self.main]).collect()
    }

    /// As [`Engine::stop_because`], of a process of httpd, which does not say why it ends.
    pub fn stop(&self) {
        self.stop_because(Some(""), EXIT_DEADLINE);
    }

    /// Ends Python's part of this process: subscribers of `process_stopping` are told the reason, threads are joined
    /// and exit functions run, all of it within that time; then no Python code runs any more. Interpreters are
    /// not torn down: other threads may be inside them. Without a reason nobody is told. Called once, detached, by
    /// the thread that ends the process.
    pub fn stop_because(&self, reason: Option<&str>, within: Duration) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        interpreter::leave_directly();
        let watch = std::thread::Builder::new().name("wsgi-exit".to_owned()).spawn(move || {
            std::thread::sleep(within);
            process_log(
                Level::Warning,
                &format!(
                    "exit functions or threads have not ended {:.1} seconds after the end of the \
                     process began; it ends without them",
                    within.as_secs_f64()
                ),
            );
            interpreter::leave_now(0);
        });
        if let Err(error) = watch {
            process_log(
                Level::Error,
                &format!(
                    "no thread to watch the end of the process ({error}); exit functions are skipped"
                ),
            );
            return;
        }
        let all = self.all();
        if let Some(reason) = reason {
            for interpreter in &all {
                interpreter.home.attach(|gil| {
                    watch::process_event(gil, interpreter, c"_process_stopping", || {
                        Obj::str_from(gil, reason)
                    });
                });
            }
        }
        if self.settings.destroy_interpreter() {
            for interpreter in &all {
                interpreter.home.attach(|gil| finish(gil, interpreter));
            }
        }
        for interpreter in all.iter().filter(|interpreter| interpreter.own_gil) {
            freeze_elsewhere(interpreter.home);
        }
        if !self.free_threaded {
            self.main.home.freeze();
        }
    }
}

/// A thread that is attached to the main interpreter, see [`Engine::attached`].
#[derive(Clone, Copy)]
pub struct Attached<'py> {
    gil: Gil<'py>,
    main: &'static Interpreter,
}

impl Attached<'_> {
    /// Serves a request of the main interpreter. Still attached afterwards; meanwhile only where nothing has to be
    /// waited for.
    pub fn serve(self, call: &Call<'_>, exchange: &mut dyn super::exchange::Exchange) -> Outcome {
        run::serve_attached(self.gil, self.main, call, exchange)
    }

    /// Lets go of the interpreter while `work` runs: around every wait.
    pub fn detach<R>(self, work: impl FnOnce() -> R + Send) -> R {
        self.gil.detach(work)
    }
}

/// Runs the end of one interpreter.
fn finish(gil: Gil<'_>, interpreter: &Interpreter) {
    let done = interpreter.helper(gil, c"_stop").and_then(|stop| stop.call([]));
    if let Err(raised) = done {
        let words = brief(gil, raised);
        gil.detach(|| {
            process_log(
                Level::Error,
                &format!("the end of {} failed: {words}", interpreter.title()),
            );
        });
    }
}

/// Takes a GIL for good, by a thread of its own: the thread that ends the process can hold one only.
fn freeze_elsewhere(home: Home) {
    let _ = std::thread::Builder::new().name("wsgi-freeze".to_owned()).spawn(move || {
        home.freeze();
        loop {
            std::thread::park();
        }
    });
}

/// The first two numbers of what `Py_GetVersion` says.
fn version_of(text: &str) -> Option<(u8, u8)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// An exception in one line.
fn brief(gil: Gil<'_>, raised: crate::python::Raised) -> String {
    let exception = Exception::take(gil, raised);
    let words = exception.value.str_text();
    let class = exception.value.type_name();
    match words {
        Ok(words) => format!("{class}: {words}").replace('\n', " "),
        Err(raised) => {
            raised.clear(gil);
            class
        }
    }
}
