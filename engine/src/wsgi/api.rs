//! The functions of the module `mod_wsgi` that are implemented here; the others are in `api.py`.

use std::ffi::CStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::engine::{process_log_from, process_logs, scoreboard};
use super::exchange::{Level, Source};
use super::metrics::{self, PHASES, Phase, Window, seconds};
use super::scoreboard::Scoreboard;
use super::turn;
use crate::os::usage;
use crate::python::{Args, Gil, Method, Obj, PyResult, Raised, function, functions_into};

/// Adds the functions to the runtime module.
pub(super) fn functions(gil: Gil<'_>, module: &Obj<'_>) -> PyResult<()> {
    functions_into(
        gil,
        module,
        vec![
            function::<RequestData>(),
            function::<StartRecording>(),
            function::<Recorded>(),
            function::<Counted>(),
            function::<Server>(),
            function::<Logged>(),
            function::<Log>(),
        ],
    )
}

/// A dict under construction.
struct Dict<'py> {
    gil: Gil<'py>,
    object: Obj<'py>,
}

impl<'py> Dict<'py> {
    fn new(gil: Gil<'py>) -> PyResult<Self> {
        Ok(Self { gil, object: Obj::dict(gil)? })
    }

    fn set(&self, name: &CStr, value: Obj<'py>) -> PyResult<()> {
        self.object.dict_set(&Obj::interned(self.gil, name)?, &value)
    }

    fn count(&self, name: &CStr, value: u64) -> PyResult<()> {
        self.set(name, count(self.gil, value)?)
    }

    fn float(&self, name: &CStr, value: f64) -> PyResult<()> {
        self.set(name, Obj::float(self.gil, value)?)
    }

    fn time(&self, name: &CStr, value: Duration) -> PyResult<()> {
        self.float(name, value.as_secs_f64())
    }

    fn text(&self, name: &CStr, value: &[u8]) -> PyResult<()> {
        self.set(name, Obj::latin1_from(self.gil, value)?)
    }
}

fn count(gil: Gil<'_>, value: u64) -> PyResult<Obj<'_>> {
    Obj::int(gil, i64::try_from(value).unwrap_or(i64::MAX))
}

fn list<'py, T>(
    gil: Gil<'py>,
    items: impl IntoIterator<Item = T>,
    make: impl Fn(T) -> PyResult<Obj<'py>>,
) -> PyResult<Obj<'py>> {
    let list = Obj::list(gil)?;
    for item in items {
        list.list_append(&make(item)?)?;
    }
    Ok(list)
}

/// `request_data()`
struct RequestData;

impl Method for RequestData {
    type Data = ();
    const NAME: &'static CStr = c"request_data";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("request_data", 0, 0)?;
        match turn::current() {
            Some(turn) => turn.story.data(gil),
            None => Err(Raised::runtime_error(gil, "no active request for thread")),
        }
    }
}

/// `start_recording_metrics()`
struct StartRecording;

impl Method for StartRecording {
    type Data = ();
    const NAME: &'static CStr = c"start_recording_metrics";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("start_recording_metrics", 0, 0)?;
        metrics::start_recording();
        Ok(Obj::none(gil))
    }
}

/// `_recorded()`: what `request_metrics()` is made of, or `None`.
struct Recorded;

impl Method for Recorded {
    type Data = ();
    const NAME: &'static CStr = c"_recorded";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        match metrics::drain() {
            Some(window) => recorded(gil, &window),
            None => Ok(Obj::none(gil)),
        }
    }
}

fn recorded<'py>(gil: Gil<'py>, window: &Window) -> PyResult<Obj<'py>> {
    let dict = Dict::new(gil)?;
    dict.count(c"pid", std::process::id().into())?;
    dict.float(c"start_time", seconds(window.start))?;
    dict.float(c"stop_time", seconds(window.stop))?;
    dict.time(c"sample_period", window.period)?;
    dict.count(c"request_count", window.requests)?;
    dict.count(c"request_threads_started", window.threads as u64)?;
    dict.count(c"gil_wait_count", window.waits)?;
    dict.count(c"input_bytes", window.input.0)?;
    dict.count(c"input_reads", window.input.1)?;
    dict.count(c"output_bytes", window.output.0)?;
    dict.count(c"output_writes", window.output.1)?;
    let classes = [c"status_1xx", c"status_2xx", c"status_3xx", c"status_4xx", c"status_5xx"];
    for (name, requests) in classes.into_iter().zip(window.statuses) {
        dict.count(name, requests)?;
    }
    dict.count(c"memory_rss", usage::memory())?;
    dict.count(c"memory_max_rss", usage::most_memory())?;
    let time = |time: Duration| Obj::float(gil, time.as_secs_f64());
    dict.set(c"cpu", Obj::tuple(gil, [&time(window.cpu.user)?, &time(window.cpu.system)?])?)?;
    let slots = list(gil, &window.slots, |slot| {
        let (completed, busy, cpu) =
            (count(gil, slot.completed)?, time(slot.busy)?, time(slot.cpu)?);
        Obj::tuple(gil, [&completed, &busy, &cpu, &time(slot.elapsed)?, &time(slot.longest)?])
    })?;
    dict.set(c"slots", slots)?;
    let phases = list(gil, PHASES.iter().zip(&window.phases), |(name, phase)| {
        Obj::tuple(gil, [&Obj::str_from(gil, name)?, &phase_of(gil, phase)?])
    })?;
    dict.set(c"phases", phases)?;
    Ok(dict.object)
}

fn phase_of<'py>(gil: Gil<'py>, phase: &Phase) -> PyResult<Obj<'py>> {
    let extreme = |time: Option<Duration>| match time {
        Some(time) => count(gil, u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        None => Ok(Obj::none(gil)),
    };
    let buckets = list(gil, phase.buckets, |requests| count(gil, requests))?;
    let total = Obj::float(gil, phase.total.as_secs_f64())?;
    Obj::tuple(gil, [&total, &extreme(phase.least)?, &extreme(phase.most)?, &buckets])
}

/// `_counted()`: what `process_metrics()` is made of, or `None`.
struct Counted;

impl Method for Counted {
    type Data = ();
    const NAME: &'static CStr = c"_counted";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let Some(process) = metrics::process() else { return Ok(Obj::none(gil)) };
        let dict = Dict::new(gil)?;
        dict.count(c"pid", std::process::id().into())?;
        dict.time(c"request_busy_time", process.busy)?;
        dict.count(c"memory_rss", usage::memory())?;
        dict.count(c"memory_max_rss", usage::most_memory())?;
        dict.time(c"cpu_user_time", process.cpu.user)?;
        dict.time(c"cpu_system_time", process.cpu.system)?;
        dict.float(c"restart_time", seconds(process.started))?;
        dict.float(c"current_time", seconds(SystemTime::now()))?;
        dict.count(c"active_requests", process.active)?;
        dict.set(c"served", list(gil, process.threads, |served| count(gil, served))?)?;
        Ok(dict.object)
    }
}

/// `_server()`: `server_metrics()`, or `None`.
struct Server;

impl Method for Server {
    type Data = ();
    const NAME: &'static CStr = c"_server";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        match scoreboard() {
            Some(board) => server(gil, &board),
            None => Ok(Obj::none(gil)),
        }
    }
}

fn server<'py>(gil: Gil<'py>, board: &Scoreboard) -> PyResult<Obj<'py>> {
    let now = SystemTime::now();
    let top = Dict::new(gil)?;
    top.count(c"server_limit", board.server_limit)?;
    top.count(c"thread_limit", board.thread_limit)?;
    top.count(c"running_generation", board.generation)?;
    top.float(c"restart_time", seconds(board.restarted))?;
    top.float(c"current_time", seconds(now))?;
    let running = now.duration_since(board.restarted).map_or(0, |running| running.as_secs());
    top.count(c"running_time", running)?;
    let processes = list(gil, board.processes.iter().zip(0..), |(process, number)| {
        let dict = Dict::new(gil)?;
        dict.count(c"process_num", number)?;
        dict.count(c"pid", process.pid.into())?;
        dict.count(c"generation", process.generation)?;
        dict.set(c"quiescing", Obj::bool(gil, process.quiescing)?)?;
        let workers = list(gil, &process.workers, |worker| {
            let dict = Dict::new(gil)?;
            dict.count(c"thread_num", worker.number)?;
            dict.count(c"generation", worker.generation)?;
            dict.text(c"status", &[worker.status])?;
            dict.count(c"access_count", worker.accesses)?;
            dict.count(c"bytes_served", worker.bytes)?;
            dict.float(c"start_time", seconds(worker.start))?;
            dict.float(c"stop_time", seconds(worker.stop))?;
            dict.float(c"last_used", seconds(worker.used))?;
            dict.text(c"client", &worker.client)?;
            dict.text(c"request", &worker.request)?;
            dict.text(c"vhost", &worker.host)?;
            Ok(dict.object)
        })?;
        dict.set(c"workers", workers)?;
        Ok(dict.object)
    })?;
    top.set(c"processes", processes)?;
    Ok(top.object)
}

/// A level as `api.py` numbers them.
fn level(argument: Option<Obj<'_>>) -> PyResult<Level> {
    let number = argument.map_or(Ok(None), |level| level.size_argument())?;
    Ok(match number {
        Some(0) => Level::Critical,
        Some(1) => Level::Error,
        Some(2) => Level::Warning,
        Some(3) => Level::Info,
        _ => Level::Debug,
    })
}

/// `_logged(level)`: whether a record of this level gets into the log.
struct Logged;

impl Method for Logged {
    type Data = ();
    const NAME: &'static CStr = c"_logged";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let level = level(args.at(0))?;
        let logged = turn::current().and_then(|turn| {
            turn.carrier.with_attached(gil, |carrier| carrier.exchange.logs(level))
        });
        Obj::bool(gil, logged.unwrap_or_else(|| process_logs(level)))
    }
}

/// `_log(level, text, path, line)`: a record of the application's, from that line of that file.
struct Log;

impl Method for Log {
    type Data = ();
    const NAME: &'static CStr = c"_log";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("_log", 4, 4)?;
        let level = level(args.at(0))?;
        let (Some(text), Some(path), Some(line)) = (args.at(1), args.at(2), args.at(3)) else {
            return Ok(Obj::none(gil));
        };
        let text = String::from_utf8_lossy(text.bytes().unwrap_or_default()).into_owned();
        let path = String::from_utf8_lossy(path.bytes().unwrap_or_default()).into_owned();
        let line = line.size_argument()?.and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
        let source = Source { path: &path, line };
        let logged = turn::current().and_then(|turn| {
            turn.carrier.with(gil, |carrier| {
                carrier.flush_log();
                carrier.exchange.log_from(source, level, &text);
            })
        });
        if logged.is_none() {
            gil.detach(|| process_log_from(source, level, &text));
        }
        Ok(Obj::none(gil))
    }
}
