//! Who wants to know of requests: subscribers, and whoever looks at the requests in progress. The Python side is
//! `api.py`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::process_log;
use super::exchange::Level;
use super::fault;
use super::interpreter::Interpreter;
use super::meter::Measured;
use super::turn::Turn;
use crate::python::{
    Args, Class, ClassSpec, Exception, Gil, Kept, Method, Obj, PyResult, Raised, method,
};

/// Whether anybody in an interpreter wants to know of its requests.
#[derive(Default)]
pub(super) struct Watch {
    on: AtomicBool,
}

impl Watch {
    /// Whether requests are to be told of.
    #[inline]
    pub(super) fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The object by which `api.py` switches it on.
    pub(super) fn switch<'py>(self: &Arc<Self>, gil: Gil<'py>) -> PyResult<Obj<'py>> {
        let spec = ClassSpec {
            name: c"mod_wsgi.Watch",
            methods: vec![method::<Begin>()],
            getters: Vec::new(),
            next: None,
        };
        Class::define(gil, spec)?.instance(gil, Arc::clone(self))
    }
}

/// `begin()`: requests are told of from now on.
struct Begin;

impl Method for Begin {
    type Data = Watch;
    const NAME: &'static CStr = c"begin";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        watch: Option<&Arc<Watch>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("begin", 0, 0)?;
        if let Some(watch) = watch {
            watch.on.store(true, Ordering::Relaxed);
        }
        Ok(Obj::none(gil))
    }
}

/// What a turn keeps of Python's for those who watch. Empty for a request of an application that uses none of it.
#[derive(Default)]
pub(super) struct Story {
    /// Whether there is anything below: spares other requests the lock.
    begun: AtomicBool,
    kept: Mutex<Keeping>,
}

#[derive(Default)]
struct Keeping {
    /// `request_data()`
    data: Option<Kept>,
    /// The request as `api.py` knows it.
    record: Option<Kept>,
}

impl Story {
    fn lock(&self) -> std::sync::MutexGuard<'_, Keeping> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dict of the request, made when it is asked for first.
    pub(super) fn data<'py>(&self, gil: Gil<'py>) -> PyResult<Obj<'py>> {
        if let Some(data) = &self.lock().data {
            return Ok(data.get(gil));
        }
        let data = Obj::dict(gil)?;
        self.begun.store(true, Ordering::Relaxed);
        Ok(self.lock().data.get_or_insert(data.keep()).get(gil))
    }

    fn record<'py>(&self, gil: Gil<'py>) -> Option<Obj<'py>> {
        if !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().record.as_ref().map(|record| record.get(gil))
    }

    fn keep(&self, record: Obj<'_>) {
        self.begun.store(true, Ordering::Relaxed);
        self.lock().record = Some(record.keep());
    }

    /// Lets go of all of it, attached to the interpreter it belongs to.
    pub(super) fn forget(&self, _gil: Gil<'_>) {
        if self.begun.load(Ordering::Relaxed) {
            let kept = std::mem::take(&mut *self.lock());
            // Destructors are Python code, and do not run under the lock.
            drop(kept);
        }
    }
}

/// A request is about to be given to its application: gives what is to be called in its place.
pub(super) fn started<'py>(
    gil: Gil<'py>,
    turn: &Turn,
    environ: &Obj<'py>,
    application: &Obj<'py>,
    connects: u32,
) -> PyResult<Obj<'py>> {
    let interpreter = turn.interpreter;
    let told = interpreter.helper(gil, c"_request_started")?.call([
        &turn.story.data(gil)?,
        environ,
        application,
        &Obj::int(gil, connects.into())?,
    ])?;
    turn.story.keep(told.tuple_item(1)?);
    told.tuple_item(0)
}

/// An application has called `start_response`; what it gave is not checked yet.
pub(super) fn answering<'py>(
    gil: Gil<'py>,
    turn: &Turn,
    (status, headers): (&Obj<'py>, &Obj<'py>),
    exc_info: Option<&Obj<'py>>,
) -> PyResult<()> {
    let Some(record) = turn.story.record(gil) else { return Ok(()) };
    let none = Obj::none(gil);
    let tell = turn.interpreter.helper(gil, c"_response_started")?;
    tell.call([&record, status, headers, exc_info.unwrap_or(&none)]).map(drop)
}

/// An exception of a request is going to be logged.
pub(super) fn failed<'py>(gil: Gil<'py>, turn: &Turn, exception: &Exception<'py>) {
    let Some(record) = turn.story.record(gil) else { return };
    let told = turn
        .interpreter
        .helper(gil, c"_request_exception")
        .and_then(|tell| tell.call([&record, &exception.value]));
    unheard(gil, turn.interpreter, told, "request_exception");
}

/// All that belongs to a request is done.
pub(super) fn finished<'py>(gil: Gil<'py>, turn: &Turn, measured: &Measured) {
    let Some(record) = turn.story.record(gil) else { return };
    let told = figures(gil, measured).and_then(|figures| {
        turn.interpreter.helper(gil, c"_request_finished")?.call([&record, &figures])
    });
    unheard(gil, turn.interpreter, told, "request_finished");
}

/// What `request_finished` carries of what was measured.
fn figures<'py>(gil: Gil<'py>, measured: &Measured) -> PyResult<Obj<'py>> {
    let figures = Obj::dict(gil)?;
    let set = |name: &CStr, value: Obj<'py>| figures.dict_set(&Obj::interned(gil, name)?, &value);
    let count = |value: u64| Obj::int(gil, i64::try_from(value).unwrap_or(i64::MAX));
    let time = |value: std::time::Duration| Obj::float(gil, value.as_secs_f64());
    set(c"input_reads", count(measured.input.calls)?)?;
    set(c"input_length", count(measured.input.bytes)?)?;
    set(c"input_time", time(measured.input.time)?)?;
    set(c"output_writes", count(measured.output.calls)?)?;
    set(c"output_length", count(measured.output.bytes)?)?;
    set(c"output_time", time(measured.output.time)?)?;
    set(c"application_finish", Obj::float(gil, measured.finish)?)?;
    set(c"application_time", time(measured.application)?)?;
    set(c"status", Obj::int(gil, measured.status.into())?)?;
    set(c"gil_wait_time", time(measured.waits.time)?)?;
    set(c"gil_wait_count", count(measured.waits.count)?)?;
    set(c"cpu_user_time", time(measured.cpu.user)?)?;
    set(c"cpu_system_time", time(measured.cpu.system)?)?;
    set(c"cpu_time", time(measured.cpu.user + measured.cpu.system)?)?;
    Ok(figures)
}

/// Tells everybody in an interpreter of an event of the process, attached.
pub(super) fn process_event<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    event: &CStr,
    words: impl FnOnce() -> PyResult<Obj<'py>>,
) {
    let told = words().and_then(|words| interpreter.helper(gil, event)?.call([&words]));
    unheard(gil, interpreter, told, &event.to_string_lossy());
}

/// Subscribers' own exceptions are logged by `api.py`; what comes here is an exception from outside, such as
/// `RequestTimeout`, or a fault of ours.
fn unheard<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    told: Result<Obj<'py>, Raised>,
    event: &str,
) {
    if let Err(raised) = told {
        let exception = Exception::take(gil, raised);
        let text = fault::traceback(gil, interpreter, &exception);
        let event = event.trim_start_matches('_');
        gil.detach(|| {
            process_log(Level::Error, &format!("'{event}' was not told to the end\n{text}"));
        });
    }
}
