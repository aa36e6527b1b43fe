//! One child of httpd: its engine, from the start to the end of the process.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::OnceLock;

use engine::os::own;
use engine::wsgi::{Engine, Facts, Host, Level, Scoreboard, Source};
use once_cell::sync::OnceCell;

use super::groups::{self, Group};
use crate::apache::hook::{ServerHook, Wiring};
use crate::apache::number::Digits;
use crate::apache::pool::Farewell;
use crate::apache::process::SignalsHeld;
use crate::apache::{Pool, Server, log, process, scoreboard};
use crate::config::attach::ServerConfig;
use crate::config::resolve;
use crate::daemon;

/// What a child keeps besides its configuration. Set in children only: the parent, whose memory they
/// start with, never has a Python.
pub(crate) struct Child {
    engine: OnceCell<Engine>,
    /// Why there is no engine. Python is not started twice in one process.
    fault: OnceLock<String>,
    /// The daemon process groups by their names.
    pub(crate) groups: BTreeMap<&'static str, Group>,
    /// `WSGIRestrictEmbedded`
    pub(crate) restricted: bool,
    /// `WSGICaseSensitivity`
    pub(crate) case_sensitive: bool,
    /// The number of the process, in digits: asking the kernel costs a call for each request.
    pub(crate) pid: Digits,
}

static CHILD: OnceLock<Child> = OnceLock::new();

/// The child that this process is; `None` before it has started.
pub(crate) fn this() -> Option<&'static Child> {
    CHILD.get()
}

/// A child has started. Where it is known that Python will be needed, it is started before the child
/// has threads and takes traffic, and what is to be loaded beforehand is.
pub(crate) struct Start<W>(PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ServerHook for Start<W> {
    fn run(pool: &Pool<'_>, main: &Server<'_>) {
        let Some(config) = main.config::<W>() else { return };
        daemon::child_init(main);
        let child = CHILD.get_or_init(|| {
            let settings = &config.process().settings;
            Child {
                engine: OnceCell::new(),
                fault: OnceLock::new(),
                groups: groups::groups(),
                restricted: settings.restrict_embedded(),
                case_sensitive: settings.case_sensitivity(),
                pid: Digits::new(std::process::id().into()),
            }
        });
        process::defer_ending_signals();
        pool.before_cleared::<Stop>();
        // A home that cannot be used has been complained about, and requests will say it again.
        if !resolve::needs_python::<W>(main) || matches!(config.process().located, Some(Err(_))) {
            return;
        }
        let _held = SignalsHeld::hold();
        match child.engine(config) {
            Ok(engine) => preload(engine, config),
            Err(fault) => log::server(Level::Critical, &format!("Python is not started: {fault}")),
        }
    }
}

/// Ends this process if an application has forked it and let it come back: the request and httpd's threads and
/// sockets are the original's.
pub(crate) fn end_copy() {
    if own::forked() {
        own::leave(0);
    }
}

/// The child ends.
struct Stop;

impl Farewell for Stop {
    fn run() {
        if let Some(engine) = CHILD.get().and_then(|child| child.engine.get()) {
            engine.stop();
        }
    }
}

impl Child {
    /// The engine, started by the first who asks; or why there is none, in one line.
    pub(crate) fn engine(&self, config: &ServerConfig) -> Result<&Engine, &str> {
        let started = self.engine.get_or_try_init(|| {
            if self.fault.get().is_some() {
                return Err(());
            }
            start(config).map_err(|fault| {
                // Set once: whoever comes here holds the cell's own lock.
                self.fault.get_or_init(|| fault);
            })
        });
        started.map_err(|()| self.fault.get().map_or("it failed before", String::as_str))
    }
}

fn start(config: &ServerConfig) -> Result<Engine, String> {
    let (located, settings) = {
        let process = config.process();
        let located = match &process.located {
            Some(found) => found.clone(),
            None => resolve::find(&process),
        };
        (located?, process.settings.clone())
    };
    own::guard_forks(0).map_err(|error| format!("forks cannot be noticed: {error}"))?;
    let around = Around { shows_scoreboard: settings.server_metrics() };
    let engine = Engine::start(&located, settings, facts(), Box::new(around));
    engine.map_err(|fault| fault.to_string())
}

fn preload(engine: &Engine, config: &ServerConfig) {
    let scripts = config.process().settings.import_scripts.clone();
    for script in scripts.iter().filter(|script| script.process_group.is_empty()) {
        let path = Path::new(&script.path);
        // An alias to a folder of scripts names both groups too; which script is meant is known later.
        if !path.is_dir() {
            engine.preload(&script.application_group, path);
            end_copy();
        }
    }
}

fn facts() -> Facts {
    let (maximum_processes, threads_per_process) =
        (process::maximum_processes(), process::threads_per_process());
    Facts {
        httpd_version: process::httpd_version(),
        server_description: process::description(),
        server_built: process::built(),
        mpm_name: process::mpm_name(),
        maximum_processes,
        threads_per_process,
        multithread: process::is_threaded() && threads_per_process != 1,
        multiprocess: process::is_forked() && maximum_processes != 1,
        process_group: String::new(),
        group: None,
    }
}

/// What is around the engine: the log outside requests, and httpd's other processes.
struct Around {
    /// `WSGIServerMetrics`
    shows_scoreboard: bool,
}

impl Host for Around {
    fn log(&self, level: Level, text: &str) {
        log::server(level, text);
    }

    fn log_from(&self, source: Source<'_>, level: Level, text: &str) {
        log::server_from(source, level, text);
    }

    fn logs(&self, level: Level) -> bool {
        log::server_wants(level)
    }

    fn scoreboard(&self) -> Option<Scoreboard> {
        if self.shows_scoreboard { scoreboard::scoreboard() } else { None }
    }
}
