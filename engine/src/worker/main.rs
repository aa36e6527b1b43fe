//! From the bootstrap to the end of the process, on Python's main thread.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock::Clock;
use super::pool::{Admission, NURSERY, Pool, guarded};
use super::setup;
use super::shared::{Shared, scripts};
use super::status::{Status, ToSupervisor};
use crate::os::Inbound;
use crate::os::event::{self, Wake};
use crate::os::own;
use crate::os::socket::Wait;
use crate::os::{Arrival, socket};
use crate::python::{Args, Gil, Home, Method, Obj, PyResult, Raised, interpreter};
use crate::wire::control::{FromDaemon, Reason, Setup, ToDaemon, to_daemon};
use crate::wsgi::{Engine, Level};

/// Numbers of the descriptors a daemon process is born with, beside 0 (nothing), 1 and 2 (a pipe to the supervisor, who
/// writes to the error log what comes).
pub mod descriptor {
    /// The connection to the supervisor.
    pub const STATUS: i32 = 3;
    /// The group's listener.
    pub const LISTENER: i32 = 4;
    /// The file of the engine.
    pub const ENGINE: i32 = 5;
    /// The pipe that is 1 and 2, to be read, which nobody does: with it there is a reader also while there is no
    /// supervisor, and who writes goes on.
    pub const OUTPUT: i32 = 6;
}

/// How often the main thread enters Python if nothing else has it do so: signals are not lost even where an
/// application has taken the pipe that tells of them.
const ROUND: Duration = Duration::from_secs(5);
/// The same where `deadlock-timeout` wants to know.
const WATCHED_ROUND: Duration = Duration::from_secs(1);
/// How long a send to the supervisor may wait.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// `serve()`: the life of the process. Does not return.
pub(super) struct Serve;

impl Method for Serve {
    type Data = ();
    const NAME: &'static CStr = c"serve";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("serve", 0, 0)?;
        let home = interpreter::adopt(gil);
        let Err(words) = gil.detach(|| serve(home));
        Err(Raised::runtime_error(gil, &words))
    }
}

/// What is in the way before the supervisor can be told of anything.
fn serve(home: Home) -> Result<Infallible, String> {
    let born = |number, what: &str| {
        own::inherited(number)
            .map_err(|error| format!("descriptor {number} is not {what} of a daemon: {error}"))
    };
    let status = born(descriptor::STATUS, "the supervisor")?;
    let listener = born(descriptor::LISTENER, "the listener")?;
    drop(born(descriptor::ENGINE, "the engine")?);
    // Open for good, also in processes that are forked from this one.
    let _ = born(descriptor::OUTPUT, "the output")?.into_raw_fd();
    let (setup, inbound) = receive_setup(&status)?;
    if setup.build != crate::BUILD {
        return Err("this file of the engine comes from another build than the Apache module: \
                    install all files of one build, then stop and start httpd"
            .to_owned());
    }
    let threads = usize::try_from(setup.threads).unwrap_or(usize::MAX);
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    own::guard_forks(threads.saturating_add(NURSERY + 8)).map_err(failed("forks"))?;
    socket::set_send_timeout(status.as_fd(), Some(STATUS_TIMEOUT)).map_err(failed("status"))?;
    let status = Arc::new(Status::new(guarded(status)));
    let admission = Admission {
        uid: setup.peer_uid,
        build: setup.build,
        secret: setup.secret.clone(),
        timeout: setup.timeouts.socket,
    };
    let pool = Pool::new(guarded(listener), threads, admission).map_err(failed("the listener"))?;
    let main = Wake::new().map_err(failed("the main thread"))?;
    let (signals, signal_end) = event::pipe().map_err(failed("signals"))?;
    let (nudge, nudge_end) = event::pipe().map_err(failed("signals"))?;
    own::catch(setup.threads == 0, signal_end).map_err(failed("signals"))?;
    if let Some(locale) = &setup.locale
        && !own::set_locale(locale)
    {
        status.log(Level::Warning, &format!("locale={locale} is not known to this system"));
    }
    if let Some(title) = &setup.display_name
        && let Err(error) = own::set_title(title)
    {
        status.log(Level::Warning, &format!("display-name= has no effect: {error}"));
    }
    let mounts = setup::mounts(&setup);
    let shared: &'static Shared =
        Box::leak(Box::new(Shared::new(setup, mounts, status, pool, main)));
    let clock = Clock::new(shared, inbound, signals);
    std::thread::Builder::new()
        .name("wsgi-clock".to_owned())
        .spawn(move || clock.run())
        .map_err(failed("no thread for the clock"))?;
    run(shared, home, &nudge, nudge_end)
}

/// Waits for the supervisor to say what this process is to be.
fn receive_setup(status: &OwnedFd) -> Result<(Setup, Inbound), String> {
    let mut inbound = Inbound::new(to_daemon, 0);
    loop {
        let said = match inbound.frame() {
            Ok(Some((frame, _))) => Some(ToDaemon::decode(&frame)),
            Ok(None) => None,
            Err(fault) => Some(Err(fault)),
        };
        match said {
            Some(Ok(ToDaemon::Setup(setup))) => return Ok((*setup, inbound)),
            Some(Ok(_)) => return Err("the supervisor did not begin with SETUP".to_owned()),
            Some(Err(fault)) => return Err(format!("the supervisor sent {fault}")),
            None => match inbound.receive(status.as_fd(), Wait::Yes) {
                Ok(Arrival::Bytes) => {}
                Ok(Arrival::End { .. }) => return Err("the supervisor has gone".to_owned()),
                Err(error) => return Err(format!("the supervisor is not heard: {error}")),
            },
        }
    }
}

/// Imports, serves, ends.
fn run(
    shared: &'static Shared,
    home: Home,
    nudge: &OwnedFd,
    nudge_end: OwnedFd,
) -> Result<Infallible, String> {
    let setup = &shared.setup;
    let host = Box::new(ToSupervisor(Arc::clone(&shared.status)));
    let engine = match Engine::adopt(home, setup::settings(setup), setup::facts(setup), host) {
        Ok(engine) => shared.set_engine(engine),
        Err(fault) => {
            shared.status.tell(&FromDaemon::ImportFailed(fault.to_string()));
            own::leave(1);
        }
    };
    // Kept open for good, as what Python writes to.
    let nudge_end = Box::leak(Box::new(guarded(nudge_end)));
    if let Err(words) = engine.wake_by(nudge_end.as_fd()) {
        shared.status.log(Level::Warning, &format!("signal handlers will be slow: {words}"));
    }
    if setup.threads == 0 {
        shared.loaded();
    } else if setup.alone {
        shared.ready(false);
        for fault in import(shared, engine) {
            shared.status.log(Level::Error, &fault);
        }
        shared.loaded();
    } else {
        match import(shared, engine) {
            faults if faults.is_empty() => shared.loaded(),
            faults => drop(shared.status.tell(&FromDaemon::ImportFailed(faults.join("\n")))),
        }
    }
    shared.asked.loaded.store(true, Ordering::SeqCst);
    if setup.threads == 0 {
        service(shared, engine);
    } else {
        attend(shared, engine, nudge);
    }
    engine.stop_because(shared.end_reason(), shared.exit_time());
    own::leave(0)
}

/// Runs handlers of signals until the process shall end.
fn attend(shared: &Shared, engine: &Engine, nudge: &OwnedFd) {
    let round = if shared.setup.life.deadlock.is_some() { WATCHED_ROUND } else { ROUND };
    let mut exits = false;
    while !exits && !shared.asked.end.load(Ordering::SeqCst) {
        // A failure to wait ends at once, and the round is made anyway.
        let _ = event::wait(&[nudge.as_fd(), shared.main.as_fd()], Some(round));
        let mut bytes = [0; 64];
        while event::drain(nudge.as_fd(), &mut bytes) == bytes.len() {}
        shared.main.clear();
        shared.entering(true);
        exits = engine.check_signals();
        shared.entering(false);
    }
    if exits {
        // A handler of the application wants the end.
        shared.asked.leave.store(true, Ordering::SeqCst);
        shared.pool.clock.set();
        while !shared.asked.end.load(Ordering::SeqCst) {
            let _ = event::wait(&[shared.main.as_fd()], Some(round));
        }
    }
}

/// Loads what is to be there before the first request; gives what went wrong.
fn import(shared: &Shared, engine: &Engine) -> Vec<String> {
    let mut done = Vec::new();
    let mut faults = Vec::new();
    for script in scripts(&shared.setup) {
        if done.contains(&script) {
            continue;
        }
        done.push(script);
        let (group, path) = script;
        // Those of other interpreters are nobody's turn.
        let own = group.is_empty().then_some(path.as_bytes());
        own.inspect(|path| shared.imports.begin(path));
        if let Err(fault) = engine.import(group, Path::new(path)) {
            faults.push(fault);
        }
        own.inspect(|path| shared.imports.finish(path));
    }
    faults
}

/// The scripts of a group without threads, one after the other.
fn service(shared: &Shared, engine: &Engine) {
    for script in &shared.setup.import_scripts {
        if let Err(fault) = engine.run_service(&script.application_group, Path::new(&script.path)) {
            shared.status.log(Level::Error, &fault);
        }
    }
    shared.status.wish(Reason::ScriptEnded);
}
