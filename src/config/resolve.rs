//! When all has been read: does it hold together, and where is its Python?

use std::path::Path;
use std::sync::Arc;

use engine::python::locate::{self, Located};
use engine::settings::{GroupName, catalogue};
use engine::wsgi::{Level, VERSION};

use super::attach::{Process, ServerConfig};
use crate::apache::hook::{ConfigHook, PlainHook, Refused, Wiring};
use crate::apache::{Pool, Server, log, optional, process};

/// The configuration has been read: finds its Python and says what is wrong with it.
///
/// A test of the configuration fails by it. A start does not: the rest of httpd serves, and requests
/// for Python say in the log what is wrong.
pub(crate) struct Check<W>(std::marker::PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ConfigHook for Check<W> {
    fn run(_pool: &Pool<'_>, main: &Server<'_>) -> Result<(), Refused> {
        let Some(config) = main.config::<W>() else { return Ok(()) };
        let needed = needs_python::<W>(main);
        let mut process = config.process();
        let written = |name: &str| process.written.contains(name);
        let notices = process.settings.notices();
        for notice in notices.into_iter().chain(catalogue::notices(written)) {
            log::server(Level::Warning, &notice);
        }
        if !needed && process.settings.python_home.is_none() {
            // Nothing to complain about; where it is there, the banner still names it.
            process.located = find(&process).ok().map(Ok);
            return Ok(());
        }
        let found = find(&process);
        let problem = found.as_ref().err().cloned();
        process.located = Some(found);
        let Some(problem) = problem else { return Ok(()) };
        if process::is_config_test() {
            log::startup(&problem);
            return Err(Refused);
        }
        log::server(Level::Error, &problem);
        Ok(())
    }
}

/// Names this module, and the Python where it is known, in the `Server` header.
pub(crate) struct Announce<W>(std::marker::PhantomData<W>);

impl<W: Wiring<Server = ServerConfig>> ConfigHook for Announce<W> {
    fn run(pool: &Pool<'_>, main: &Server<'_>) -> Result<(), Refused> {
        let (major, minor, patch) = VERSION;
        let mut component = format!("mod_wsgi_rs/{major}.{minor}.{patch}");
        if let Some(config) = main.config::<W>()
            && let Some(Ok(located)) = &config.process().located
        {
            let (major, minor) = located.version();
            component.push_str(&format!(" Python/{major}.{minor}"));
        }
        process::add_version_component(pool, &component);
        Ok(())
    }
}

/// Takes note of functions that other modules offer.
pub(crate) struct Retrieve;

impl PlainHook for Retrieve {
    fn run() {
        optional::retrieve();
    }
}

/// Whether this configuration certainly runs Python in httpd's own processes. (A handler set by
/// `SetHandler` or in `.htaccess` is only known when a request comes.)
pub(crate) fn needs_python<W: Wiring<Server = ServerConfig>>(main: &Server<'_>) -> bool {
    let Some(config) = main.config::<W>() else { return false };
    {
        let process = config.process();
        if catalogue::ASKED_IN_HTTPD.iter().any(|name| process.written.contains(name)) {
            return true;
        }
        if process.settings.restrict_embedded() {
            return false;
        }
        if process.settings.import_scripts.iter().any(|script| script.process_group.is_empty()) {
            return true;
        }
    }
    let mut mounted = false;
    main.each(|server| {
        mounted |= server.config::<W>().is_some_and(|own| {
            // What a section of the main server says holds for all servers.
            let mut named = own.uses.iter().chain(&config.uses);
            let elsewhere = named.any(|named| named.group != GroupName::Global);
            own.mounts.iter().any(|mount| match &mount.options.process_group {
                Some(group) => *group == GroupName::Global,
                None => !elsewhere,
            })
        });
    });
    mounted
}

/// The Python of the configuration, by file names only; or what is wrong with it, in one line.
pub(crate) fn find(process: &Process) -> Result<Arc<Located>, String> {
    let home = process.settings.python_home.as_deref();
    let identity = process::identity();
    let found = locate::locate(home.map(Path::new)).and_then(|located| {
        located.check_readable(identity.uid, &identity.gids)?;
        Ok(Arc::new(located))
    });
    found.map_err(|fault| match home {
        Some(_) => {
            let place = &process.home_place;
            format!("{}:{}: WSGIPythonHome: {fault}", place.file, place.line)
        }
        None => format!("no Python: {fault}"),
    })
}
