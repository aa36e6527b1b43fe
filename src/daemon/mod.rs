//! Daemon mode in httpd's parent, which is root: what groups there are, where they listen, and the
//! supervisor that keeps their processes. And what its children are left with.
//!
//! `plan` says what shall run, `sockets` where it listens, `start` speaks with the supervisor, `parent`
//! keeps all of it from one configuration to the next. `link` is for children.

#![forbid(unsafe_code)]

pub(crate) mod link;
mod pace;
mod parent;
mod plan;
mod read;
mod sockets;
mod start;
mod syslog;

use std::io::{self, Write as _};
use std::marker::PhantomData;

use engine::wire::control::Syslog;

use self::parent::Parent;
use self::plan::Outcome;
use self::read::{Configuration, ThisSystem};
use crate::apache::hook::{ConfigHook, Refused, ServerHook, Wiring};
use crate::apache::parent::in_server_root;
use crate::apache::{Pool, Server, log, process, tree};
use crate::config::attach::ServerConfig;

/// The configuration has been read: a test of it fails by what is wrong with daemon mode, each told in
/// one line with file and line. A start says it by itself, and the rest of httpd serves.
pub(crate) struct Check<W>(PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ConfigHook for Check<W> {
    fn run(pool: &Pool<'_>, main: &Server<'_>) -> Result<(), Refused> {
        if !process::is_config_test() {
            return Ok(());
        }
        let configuration = Configuration::read::<W>(main);
        let input = configuration.input(read::httpd(main, engine::BUILD));
        let mut outcome = plan::plan(&input, &ThisSystem);
        // Where it is not written, the runtime directory may be made when httpd starts.
        if let Some(prefix) = &configuration.settings().daemon.socket_prefix
            && !outcome.groups.is_empty()
            && let Err(fault) = sockets::check(&in_server_root(pool, prefix))
        {
            const NAME: &str = "WSGISocketPrefix";
            let written = tree::written(|name| name.eq_ignore_ascii_case(NAME));
            let place = written.last().map(|written| written.place.clone()).unwrap_or_default();
            outcome.faults.push(format!("{}{NAME}: {fault}", plan::place(&place.file, place.line)));
        }
        for fault in &outcome.faults {
            log::startup(fault);
        }
        if !outcome.faults.is_empty() {
            return Err(Refused);
        }
        // The test does not fail by them: one site's missing script must not keep all others from a reload.
        let asked = tree::written(|name| {
            plan::scripts::ASKED.iter().any(|known| known.eq_ignore_ascii_case(name))
        });
        for script in plan::scripts::unreadable(&input, &asked, &outcome, &ThisSystem) {
            log::startup(&script);
        }
        Ok(())
    }
}

/// A configuration is tested: with `-D DUMP_WSGI`, tells what it comes to.
pub(crate) struct Tell<W>(PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ServerHook for Tell<W> {
    fn run(_pool: &Pool<'_>, main: &Server<'_>) {
        if !process::is_defined(c"DUMP_WSGI") {
            return;
        }
        let python =
            main.config::<W>().map_or_else(String::new, |config| match &config.process().located {
                Some(Ok(located)) => located.program.display().to_string(),
                Some(Err(fault)) => fault.clone(),
                None => "not looked for".to_owned(),
            });
        let configuration = Configuration::read::<W>(main);
        let input = configuration.input(read::httpd(main, engine::BUILD));
        let outcome = plan::plan(&input, &ThisSystem);
        let text = plan::dump::text(&input, &outcome, &ThisSystem, &python);
        let mut output = io::stdout();
        if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            log::startup(&format!("DUMP_WSGI cannot be written: {error}"));
        }
    }
}

/// The configuration has been read: has its groups run. At the start of httpd it is read twice, and the
/// first time only opens what is not to change.
pub(crate) struct Run<W>(PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ConfigHook for Run<W> {
    fn run(pool: &Pool<'_>, main: &Server<'_>) -> Result<(), Refused> {
        let Some(process) = main.process_pool() else { return Ok(()) };
        let configuration = Configuration::read::<W>(main);
        let parent = Parent::of(&process);
        if !crate::apache::parent::is_first_pass() {
            let outcome = outcome(&configuration, main);
            let settings = configuration.settings();
            parent.take_over(&process, pool, settings, &outcome, syslog_of(main));
        }
        Ok(())
    }
}

/// Every now and then: ends what nobody needs any more, and starts the supervisor again where that had
/// to wait.
pub(crate) struct Tick;

impl ServerHook for Tick {
    fn run(_pool: &Pool<'_>, main: &Server<'_>) {
        if let Some(process) = main.process_pool() {
            Parent::tick(&process);
        }
    }
}

/// A child has started: keeps what it needs to reach its groups, and gives up what is the parent's.
pub(crate) fn child_init(main: &Server<'_>) {
    let Some(process) = main.process_pool() else { return };
    if let Some(links) = Parent::leave(&process) {
        link::keep(links);
    }
}

fn syslog_of(main: &Server<'_>) -> Option<Syslog> {
    let [error_log, program] =
        [main.error_log(), main.program()].map(|text| text.unwrap_or_default().to_string_lossy());
    syslog::read(&error_log, &program)
}

fn outcome(configuration: &Configuration, main: &Server<'_>) -> Outcome {
    plan::plan(&configuration.input(read::httpd(main, engine::BUILD)), &ThisSystem)
}
