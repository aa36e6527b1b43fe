//! One request from the call to `close()`.
//!
//! The thread attaches once, builds `environ`, calls the application and collects what it has, and lets go before
//! anything is sent. Only an application that produces its body piece by piece makes it attach again.

use std::cell::Cell;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::engine::process_log;
use super::environ::{Environ, Key};
use super::exchange::{Exchange, Level, Then};
use super::fault::{Fault, is_interruption, report, traceback};
use super::interpreter::Interpreter;
use super::metrics::{self, seconds};
use super::script::{Found, Loaded, RELOAD_REQUIRED, Target};
use super::start_response::StartResponse;
use super::turn::{self, Carrier, Phase, Turn};
use super::watch::{self, Story};
use crate::python::lend::Lent;
use crate::python::{Exception, Gil, Obj, PyResult, Raised, Waits, bound};

/// Bodies up to this size are copied, so that nothing of Python is held while they are sent.
const COPY_LIMIT: usize = 64 * 1024;

/// Which application a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name of the interpreter; empty is the main one.
    pub application_group: &'a str,
    /// Path of the script file.
    pub script: &'a [u8],
    /// Its modification time in microseconds.
    pub mtime: i64,
    /// Name of the callable in it.
    pub callable: &'a str,
    /// Whether a changed file is loaded again.
    pub reloading: bool,
    /// The handler httpd chose.
    pub handler: &'a [u8],
    /// The file that the URL leads to, which `reload_required()` of the script is asked about; `None`: it is not
    /// asked.
    pub resource: Option<&'a [u8]>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The response has been handed over, or cut.
    Sent,
    /// Nothing was sent; the carrier answers with this status. The reason is logged.
    Refused(u16),
}

/// What is logged for a request that waited while another one failed to load the script.
pub(super) const FAILED_ELSEWHERE: &str =
    "the script failed to load for another request at the same time, see its traceback";

/// What is left to do detached.
enum Rest {
    /// Send this as the whole, or the end, of the response.
    Send(Vec<u8>),
    /// All has been sent.
    Sent,
    /// The application failed; its traceback is in the log.
    Failed(u16),
}

impl Rest {
    /// The status of a failure.
    fn failed(&self) -> Option<u16> {
        match self {
            Self::Failed(status) => Some(*status),
            Self::Send(_) | Self::Sent => None,
        }
    }
}

/// Serves one request in an interpreter. Detached.
pub(super) fn serve(
    interpreter: &'static Interpreter,
    call: &Call<'_>,
    exchange: &mut (dyn Exchange + '_),
) -> Outcome {
    let _inside = metrics::seat().enter();
    // Begun before anything else, so that the first wait for the GIL is among them.
    let _waits = (metrics::recording() || interpreter.watch.on()).then(Waits::measure);
    let mut service = Service::new(interpreter, exchange);
    let rest = interpreter.home.attach(|gil| service.attached(gil, interpreter, call));
    service.end(rest)
}

/// As [`serve`], for a thread that is attached, and stays so where nothing has to be waited for.
pub(super) fn serve_attached(
    gil: Gil<'_>,
    interpreter: &'static Interpreter,
    call: &Call<'_>,
    exchange: &mut (dyn Exchange + '_),
) -> Outcome {
    let _inside = metrics::seat().enter();
    let _waits = (metrics::recording() || interpreter.watch.on()).then(Waits::measure);
    let mut service = Service::new(interpreter, exchange);
    let rest = service.attached(gil, interpreter, call);
    if service.ends_at_once(&rest) { service.end(rest) } else { gil.detach(|| service.end(rest)) }
}

/// What one request is served with.
struct Service<'x> {
    carrier: Carrier<'x>,
    turn: Arc<Turn>,
    recorded: bool,
}

impl<'x> Service<'x> {
    fn new(interpreter: &'static Interpreter, exchange: &'x mut (dyn Exchange + 'x)) -> Self {
        let turn = Turn { interpreter, carrier: Lent::default(), story: Story::default() };
        Self { carrier: Carrier::new(exchange), turn: Arc::new(turn), recorded: false }
    }

    fn attached(
        &mut self,
        gil: Gil<'_>,
        interpreter: &'static Interpreter,
        call: &Call<'_>,
    ) -> Rest {
        let Self { carrier, turn, recorded } = self;
        turn::serving(turn, || {
            let rest = attached(gil, interpreter, call, turn, carrier, recorded);
            turn.story.forget(gil);
            rest
        })
    }

    /// Whether [`Service::end`] waits for nothing. Attached.
    fn ends_at_once(&mut self, rest: &Rest) -> bool {
        match rest {
            Rest::Send(body) => {
                self.carrier.line.is_empty() && self.carrier.exchange.takes_at_once(body.len())
            }
            Rest::Sent | Rest::Failed(_) => false,
        }
    }

    fn end(mut self, rest: Rest) -> Outcome {
        self.carrier.flush_log();
        let failed = rest.failed();
        let outcome = conclude(&mut self.carrier, rest);
        if self.recorded
            && let Some(measured) = self.carrier.measured(failed)
        {
            metrics::end(metrics::seat(), &measured);
        }
        outcome
    }
}

/// What is left to do detached.
fn conclude(carrier: &mut Carrier<'_>, rest: Rest) -> Outcome {
    match rest {
        Rest::Send(body) => {
            carrier.send(&[&body], Then::End);
        }
        Rest::Sent => {}
        Rest::Failed(status) => match carrier.phase {
            Phase::Before => return Outcome::Refused(status),
            _ => carrier.cut(),
        },
    }
    carrier.settle();
    match carrier.phase {
        Phase::Closed(Some(status)) => Outcome::Refused(status),
        _ => Outcome::Sent,
    }
}

/// The attached part of a request.
fn attached<'py>(
    gil: Gil<'py>,
    interpreter: &'static Interpreter,
    call: &Call<'_>,
    turn: &Arc<Turn>,
    carrier: &mut Carrier<'_>,
    recorded: &mut bool,
) -> Rest {
    let found = turn.carrier.lend(gil, carrier, || load(gil, interpreter, call));
    let loaded = match found {
        Ok(Found::Ready(loaded)) => loaded,
        Ok(Found::FailedElsewhere) => {
            gil.detach(|| {
                carrier.exchange.log(Level::Error, FAILED_ELSEWHERE);
            });
            return Rest::Failed(500);
        }
        Err(raised) => {
            let exception = Exception::take(gil, raised);
            let fault = Fault::new("exception raised while loading", exception);
            report(gil, interpreter, call, carrier, fault);
            return Rest::Failed(500);
        }
    };
    // Asked now: the script may have begun to observe when it was loaded.
    let watched = interpreter.watch.on();
    *recorded = metrics::recording();
    if watched || *recorded {
        let began = carrier.measure();
        if *recorded {
            metrics::begin(metrics::seat(), began);
        }
    }
    let target =
        match loaded.target(gil, call.callable, || interpreter.template(gil, call.callable)) {
            Ok(target) => target,
            Err(raised) => {
                let exception = Exception::take(gil, raised);
                let fault = Fault::new("exception raised before the call of", exception);
                report(gil, interpreter, call, carrier, fault);
                return Rest::Failed(500);
            }
        };
    let connects = carrier.exchange.connects();
    let mut faults = Vec::new();
    let mut rest = match prepare(gil, interpreter, call, turn, carrier, (&loaded, &target)) {
        Ok(Some((application, environ))) => turn.carrier.lend(gil, carrier, || {
            let given = Given { application, environ, watched: watched.then_some(connects) };
            run(gil, interpreter, turn, given, &mut faults)
        }),
        Ok(None) => {
            let text = format!(
                "the script {} has no callable '{}' (WSGICallableObject)",
                String::from_utf8_lossy(call.script),
                call.callable
            );
            gil.detach(|| carrier.exchange.log(Level::Error, &text));
            Rest::Failed(500)
        }
        Err(raised) => {
            let exception = Exception::take(gil, raised);
            faults.push(Fault::new("exception raised before the call of", exception));
            Rest::Failed(500)
        }
    };
    if watched && let Rest::Send(body) = &rest {
        // Before those who watch hear that the request is finished.
        gil.detach(|| carrier.send(&[body], Then::End));
        rest = Rest::Sent;
    }
    for fault in faults {
        report(gil, interpreter, call, carrier, fault);
    }
    if watched && let Some(measured) = carrier.measured(rest.failed()) {
        turn.carrier.lend(gil, carrier, || watch::finished(gil, turn, &measured));
    }
    rest
}

/// Finds the script, executing it where it has to be.
pub(super) fn load(gil: Gil<'_>, interpreter: &Interpreter, call: &Call<'_>) -> PyResult<Found> {
    let fresh = Cell::new(false);
    let execute = || {
        fresh.set(true);
        let path = Obj::path_from(gil, call.script)?;
        interpreter.helper(gil, c"_load")?.call([&path, &Obj::int(gil, call.mtime)?])
    };
    let find = |stale: Option<&Arc<Loaded>>| {
        let (script, mtime, reloading) = (call.script, call.mtime, call.reloading);
        interpreter.scripts.find(gil, script, mtime, reloading, stale, execute)
    };
    let found = find(None)?;
    if let (Found::Ready(loaded), Some(resource)) = (&found, call.resource)
        && (loaded.asks && call.reloading && !fresh.get())
        && reload_required(gil, interpreter, loaded, resource)
    {
        return find(Some(loaded));
    }
    Ok(found)
}

/// Asks `reload_required(resource)` of a script. An exception in it is logged, and means no.
pub(super) fn reload_required(
    gil: Gil<'_>,
    interpreter: &Interpreter,
    loaded: &Loaded,
    resource: &[u8],
) -> bool {
    let answer = || {
        let Some(function) = loaded.global(gil, RELOAD_REQUIRED)? else { return Ok(false) };
        function.call([&Obj::path_from(gil, resource)?])?.truth()
    };
    answer().unwrap_or_else(|raised| {
        let exception = Exception::take(gil, raised);
        let text = traceback(gil, interpreter, &exception);
        let text = format!("exception raised by reload_required()\n{text}");
        let logged = interpreter
            .helper(gil, c"_report")
            .and_then(|report| report.call([&Obj::int(gil, 0)?, &Obj::str_from(gil, &text)?]));
        if let Err(raised) = logged {
            raised.clear(gil);
        }
        false
    })
}

/// The callable and its `environ`; `None` where the script has no such name.
fn prepare<'a>(
    gil: Gil<'a>,
    interpreter: &'static Interpreter,
    call: &Call<'_>,
    turn: &Arc<Turn>,
    carrier: &mut Carrier<'_>,
    (loaded, target): (&Loaded, &'a Target),
) -> PyResult<Option<(Obj<'a>, Obj<'a>)>> {
    let Some(application) = loaded.application(gil, target)? else { return Ok(None) };
    let mut environ = Environ::new(gil, &interpreter.names, &target.template)?;
    environ.set(Key::RequestHandler, call.handler);
    environ.set(Key::HandlerScript, b"");
    environ.set(Key::ListenerHost, b"");
    carrier.exchange.describe(&mut environ);
    environ.set_object(Key::Input, &interpreter.input.instance(gil, Arc::clone(turn))?)?;
    environ.set_object(Key::Errors, &interpreter.errors.instance(gil, Arc::clone(turn))?)?;
    let thread = i64::try_from(metrics::seat().number).unwrap_or(i64::MAX);
    environ.set_object(Key::ThreadId, &Obj::int(gil, thread)?)?;
    environ.set_float(Key::ApplicationStart, seconds(SystemTime::now()));
    if let Some(meter) = &mut carrier.meter {
        meter.calls(environ.times);
    }
    Ok(Some((application, environ.finish()?)))
}

/// What an application is called with.
struct Given<'py> {
    application: Obj<'py>,
    environ: Obj<'py>,
    /// There where somebody watches: how many connections were made for the request.
    watched: Option<u32>,
}

/// Calls the application and relays what it returns.
fn run<'py>(
    gil: Gil<'py>,
    interpreter: &'static Interpreter,
    turn: &Arc<Turn>,
    given: Given<'py>,
    faults: &mut Vec<Fault<'py>>,
) -> Rest {
    let mut fault = |what, raised| {
        let exception = Exception::take(gil, raised);
        let interrupted = is_interruption(gil, interpreter, &exception);
        if !interrupted {
            watch::failed(gil, turn, &exception);
        }
        faults.push(Fault { what, exception, interrupted });
        Rest::Failed(if interrupted { 504 } else { 500 })
    };
    let Given { mut application, environ, watched } = given;
    if let Some(connects) = watched {
        match watch::started(gil, turn, &environ, &application, connects) {
            Ok(chosen) => application = chosen,
            Err(raised) => return fault("exception raised before the call of", raised),
        }
    }
    let called = interpreter
        .adapter
        .instance(gil, Arc::clone(turn))
        .and_then(|adapter| bound::<StartResponse>(gil, &adapter))
        .and_then(|start_response| application.call([&environ, &start_response]));
    let result = match called {
        Ok(result) => result,
        Err(raised) => return fault("exception raised by", raised),
    };
    let class = result.type_of();
    if class.is(interpreter.list_class.borrow(gil)) || class.is(interpreter.tuple_class.borrow(gil))
    {
        // A plain sequence: all of the body is there, and there is no close().
        return relay_sequence(gil, turn, &result)
            .unwrap_or_else(|raised| fault("exception raised in the response of", raised));
    }
    let relayed = relay(gil, interpreter, turn, &result)
        .unwrap_or_else(|raised| fault("exception raised in the response of", raised));
    let closed = match result.attr_opt(interpreter.close.borrow(gil)) {
        Ok(Some(close)) => close.call([]).map(drop),
        Ok(None) => Ok(()),
        Err(raised) => Err(raised),
    };
    if let Err(raised) = closed {
        // The response is complete whatever close() says.
        fault("exception raised in close() of the response of", raised);
    }
    relayed
}

fn not_started(gil: Gil<'_>) -> Raised {
    Raised::runtime_error(
        gil,
        "start_response() must be called before response content is produced",
    )
}

fn wrong_block(gil: Gil<'_>, block: &Obj<'_>) -> Raised {
    let message = format!("response iterable must yield bytes, not {}", block.type_name());
    Raised::type_error(gil, &message)
}

/// Whether `start_response` has been called, and how far the response is.
fn progress(gil: Gil<'_>, turn: &Turn) -> (bool, Phase) {
    turn.carrier
        .with_attached(gil, |carrier| (carrier.started, carrier.phase))
        .unwrap_or((false, Phase::Closed(None)))
}

/// A list or tuple: sent as one.
fn relay_sequence<'py>(gil: Gil<'py>, turn: &Turn, result: &Obj<'py>) -> PyResult<Rest> {
    let mut blocks = Vec::new();
    let mut size = 0;
    // The list may change meanwhile, so its length is asked each time.
    while blocks.len() < result.sequence_len()? {
        let block = match result.item(blocks.len()) {
            Ok(block) => block,
            // IndexError: another thread has made it shorter.
            Err(raised) => {
                raised.clear(gil);
                break;
            }
        };
        match block.bytes() {
            Some(bytes) => size += bytes.len(),
            None => return Err(wrong_block(gil, &block)),
        }
        blocks.push(block);
    }
    if !progress(gil, turn).0 {
        return Err(not_started(gil));
    }
    if size <= COPY_LIMIT {
        let mut body = Vec::with_capacity(size);
        blocks.iter().for_each(|block| body.extend_from_slice(block.bytes().unwrap_or_default()));
        return Ok(Rest::Send(body));
    }
    let views: Vec<&[u8]> = blocks.iter().filter_map(Obj::bytes).collect();
    turn.carrier.with(gil, |carrier| carrier.send(&views, Then::End));
    Ok(Rest::Sent)
}

/// Any other iterable: block by block, each on its way before the next is asked for.
fn relay<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    turn: &Turn,
    result: &Obj<'py>,
) -> PyResult<Rest> {
    if result.instance_of(interpreter.file_wrapper.borrow(gil))? && relay_file(gil, turn, result)? {
        return Ok(Rest::Sent);
    }
    let blocks = result.iter()?;
    while let Some(block) = blocks.next()? {
        let Some(bytes) = block.bytes() else { return Err(wrong_block(gil, &block)) };
        if bytes.is_empty() {
            continue;
        }
        if !progress(gil, turn).0 {
            return Err(not_started(gil));
        }
        let sent = turn.carrier.with_attached(gil, |carrier| {
            carrier.exchange.takes_at_once(bytes.len()).then(|| carrier.send_block(bytes))
        });
        let go_on = match sent {
            Some(Some(go_on)) => go_on,
            Some(None) => {
                turn.carrier.with(gil, |carrier| carrier.send_block(bytes)).unwrap_or(false)
            }
            None => false,
        };
        if !go_on {
            break;
        }
    }
    if !progress(gil, turn).0 {
        return Err(not_started(gil));
    }
    turn.carrier.with(gil, |carrier| carrier.end());
    Ok(Rest::Sent)
}

/// A file wrapper around a regular file: sent as a file. `false` where it has to be iterated.
fn relay_file<'py>(gil: Gil<'py>, turn: &Turn, result: &Obj<'py>) -> PyResult<bool> {
    let (started, phase) = progress(gil, turn);
    if !started || phase != Phase::Before {
        return Ok(false);
    }
    let filelike = result.attr(c"filelike")?;
    let file = match filelike.duplicate_descriptor() {
        Ok(Some(file)) => std::fs::File::from(file),
        Ok(None) => return Ok(false),
        Err(raised) => {
            raised.clear(gil);
            return Ok(false);
        }
    };
    let offset = filelike.attr(c"tell").and_then(|tell| tell.call([]));
    let offset = match offset.and_then(|offset| offset.size_argument()) {
        Ok(Some(offset)) => u64::try_from(offset).unwrap_or(0),
        Ok(None) => return Ok(false),
        Err(raised) => {
            raised.clear(gil);
            return Ok(false);
        }
    };
    let sent = turn.carrier.with(gil, |carrier| {
        let Ok(facts) = file.metadata() else { return false };
        let length = facts.len().saturating_sub(offset);
        let promised = carrier.head.as_ref().and_then(super::response::Head::promised);
        // A file that is shorter than promised goes the ordinary way, which ends in a visible cut.
        if !facts.is_file() || promised.is_some_and(|promised| promised > length) {
            return false;
        }
        carrier.send_file(file.into(), offset, length);
        true
    });
    Ok(sent == Some(true))
}

/// Loads a script outside of a request, for `WSGIImportScript`. Detached.
pub(super) fn preload(interpreter: &'static Interpreter, script: &Path) {
    if let Err(text) = import(interpreter, script) {
        process_log(Level::Error, &text);
    }
}

/// Loads a script outside of a request; says what is wrong. Detached.
pub(super) fn import(interpreter: &'static Interpreter, script: &Path) -> Result<(), String> {
    execute(interpreter, script, |_, _| false)
}

/// Runs a script that ends by itself or by `SystemExit`; says what is wrong otherwise. Detached.
pub(super) fn service(interpreter: &'static Interpreter, script: &Path) -> Result<(), String> {
    execute(interpreter, script, |gil, raised| raised.asks_to_exit(gil))
}

/// Loads a script; what it raises is no fault where `well` says so.
fn execute(
    interpreter: &'static Interpreter,
    script: &Path,
    well: impl FnOnce(Gil<'_>, &Raised) -> bool,
) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(script)
        .map_err(|error| format!("script {} cannot be read: {error}", script.display()))?;
    let call = Call {
        application_group: &interpreter.name,
        script: script.as_os_str().as_bytes(),
        mtime: facts.mtime() * 1_000_000 + facts.mtime_nsec() / 1000,
        callable: "",
        reloading: true,
        handler: b"",
        resource: None,
    };
    let loaded = interpreter.home.attach(|gil| match load(gil, interpreter, &call) {
        Ok(_) => Ok(()),
        Err(raised) if well(gil, &raised) => {
            raised.clear(gil);
            Ok(())
        }
        Err(raised) => {
            let exception = Exception::take(gil, raised);
            Err(traceback(gil, interpreter, &exception))
        }
    });
    loaded.map_err(|text| {
        format!(
            "exception raised while loading WSGI script '{}' in {}\n{text}",
            script.display(),
            interpreter.title()
        )
    })
}
