//! The engine of one process: its Python, its interpreters, its end.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::exchange::Level;
use super::interpreter::Interpreter;
use super::run;
use crate::python::interpreter::{self, StartFault, StartOptions};
use crate::python::locate::Located;
use crate::python::{Exception, Gil, Home};
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

/// How long exit functions and threads may take when a process ends.
const EXIT_DEADLINE: Duration = Duration::from_secs(5);

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
}

/// What the process around the engine offers.
pub trait Host: Send + Sync {
    /// Writes a record that belongs to no request. Lines are separated by `\n` and stay together.
    fn log(&self, level: Level, text: &str);
}

static HOST: OnceLock<Box<dyn Host>> = OnceLock::new();

/// Writes a record that belongs to no request.
pub(super) fn process_log(level: Level, text: &str) {
    if let Some(host) = HOST.get() {
        host.log(level, text);
    }
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
        let main = home
            .attach(|gil| {
                Interpreter::new(gil, home, "", false, &settings, &facts)
                    .map_err(|raised| brief(gil, raised))
            })
            .map_err(|words| {
                StartFault::Python(format!(
                    "Python {running} started, but its set-up failed: {words}"
                ))
            })?;
        process_log(
            Level::Info,
            &format!("Python {running} started from {}", located.library.display()),
        );
        Ok(Self {
            main: Box::leak(Box::new(main)),
            others: RwLock::default(),
            settings,
            facts,
            version: located.version(),
            free_threaded: located.free_threaded() && free_threading,
            stopped: AtomicBool::new(false),
        })
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

    /// Ends Python's part of this process: threads are joined and exit functions run, under a deadline; then no
    /// Python code runs any more. Interpreters are not torn down: other threads may be inside them. Called
    /// once, detached, by the thread that ends the process.
    pub fn stop(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        interpreter::leave_directly();
        let watch = std::thread::Builder::new().name("wsgi-exit".to_owned()).spawn(|| {
            std::thread::sleep(EXIT_DEADLINE);
            process_log(
                Level::Warning,
                &format!(
                    "exit functions or threads have not ended {} seconds after the end of the \
                     process began; it ends without them",
                    EXIT_DEADLINE.as_secs()
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
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<_> = others.values().filter_map(|cell| cell.get().copied()).collect();
        if self.settings.destroy_interpreter() {
            for interpreter in others.iter().copied().chain([self.main]) {
                interpreter.home.attach(|gil| finish(gil, interpreter));
            }
        }
        for interpreter in others.iter().filter(|interpreter| interpreter.own_gil) {
            freeze_elsewhere(interpreter.home);
        }
        if !self.free_threaded {
            self.main.home.freeze();
        }
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
