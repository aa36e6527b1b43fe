//! What one request took: measured only where somebody has asked for it.

use std::time::{Duration, Instant, SystemTime};

use super::metrics::seconds;
use crate::os::usage::{self, Cpu};
use crate::python::Waits;

/// When a request came by, in seconds since the epoch; 0 where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    /// httpd read it.
    pub(super) request: f64,
    /// It was handed to a daemon group.
    pub(super) queue: f64,
    /// A thread of a daemon process had it.
    pub(super) daemon: f64,
    /// The application was called.
    pub(super) application: f64,
}

/// Bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) bytes: u64,
    pub(super) calls: u64,
    pub(super) time: Duration,
}

impl Flow {
    /// Counts `bytes` that were moved by so many calls.
    pub(super) fn add(&mut self, bytes: usize, calls: u64, began: Instant) {
        self.bytes += bytes as u64;
        self.calls += calls;
        self.time += began.elapsed();
    }
}

/// Measures one request.
pub(super) struct Meter {
    began: Instant,
    called: Instant,
    cpu: Cpu,
    times: Times,
    pub(super) output: Flow,
    finished: Option<(f64, Instant)>,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) times: Times,
    /// The application was done with the request, in seconds since the epoch.
    pub(super) finish: f64,
    /// From the call of the application on.
    pub(super) application: Duration,
    pub(super) input: Flow,
    pub(super) output: Flow,
    pub(super) cpu: Cpu,
    pub(super) waits: Waits,
    /// What the client was told, or would have been.
    pub(super) status: u16,
}

impl Meter {
    /// Begins now.
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self {
            began,
            called: began,
            cpu: usage::of_thread(),
            times: Times::default(),
            output: Flow::default(),
            finished: None,
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The application is called now.
    pub(super) fn calls(&mut self, times: Times) {
        self.times = times;
        self.called = Instant::now();
    }

    /// What has been measured up to now; the application's time ends with the first call. On the thread that began.
    pub(super) fn read(&mut self, input: Flow, status: u16) -> Measured {
        let (finish, at) =
            *self.finished.get_or_insert_with(|| (seconds(SystemTime::now()), Instant::now()));
        Measured {
            times: self.times,
            finish,
            application: at - self.called,
            input,
            output: self.output,
            cpu: usage::of_thread().since(self.cpu),
            waits: Waits::so_far(),
            status,
        }
    }
}

impl Measured {
    /// In the order of [`super::metrics::PHASES`]; `None` for what does not exist in embedded mode.
    pub(super) fn phases(&self) -> [Option<Duration>; super::metrics::PHASES.len()] {
        let Times { request, queue, daemon, application } = self.times;
        let remote = queue != 0.0;
        let server = between(request, if remote { queue } else { application });
        let queued = if remote { between(queue, daemon) } else { Duration::ZERO };
        let inside = if remote { between(daemon, application) } else { Duration::ZERO };
        [
            Some(server),
            remote.then_some(queued),
            remote.then_some(inside),
            Some(self.application),
            Some(server + queued + inside + self.application),
            Some(self.input.time),
            Some(self.output.time),
            Some(self.waits.time),
        ]
    }
}

/// From one time to another; nothing where a clock was set back.
fn between(from: f64, to: f64) -> Duration {
    Duration::try_from_secs_f64(to - from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other() {
        let mut meter = Meter::new();
        meter.calls(Times { request: 10.0, queue: 11.0, daemon: 13.0, application: 16.0 });
        let phases = meter.read(Flow::default(), 200).phases();
        let seconds = |place: usize| phases[place].map(|time| time.as_secs());
        assert_eq!((seconds(0), seconds(1), seconds(2)), (Some(1), Some(2), Some(3)));
        assert_eq!(seconds(4), Some(6));
        meter.calls(Times { request: 10.0, application: 9.0, ..Times::default() });
        let phases = meter.read(Flow::default(), 200).phases();
        assert_eq!((phases[0], phases[1], phases[2]), (Some(Duration::ZERO), None, None));
    }
}
