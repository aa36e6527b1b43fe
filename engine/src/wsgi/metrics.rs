//! What is counted of requests in this process, for `mod_wsgi.request_metrics()` and `process_metrics()`.
//!
//! Each serving thread has a [`Seat`] whose two counters are always kept: they are its own, and atomic. Everything else
//! waits until an application has called `start_recording_metrics()`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::meter::Measured;
use crate::os::usage::{self, Cpu};

/// Whether requests are recorded.
static RECORDING: AtomicBool = AtomicBool::new(false);
static RECORD: Mutex<Record> = Mutex::new(Record::new());
static SEATS: Mutex<Seats> = Mutex::new(Seats { all: Vec::new(), free: Vec::new() });
/// When the engine of this process began.
static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// A thread that serves requests, as a number from 1 on. A thread that has ended leaves its number to the next. In a
/// cache line of its own: the thread writes it with every request.
#[repr(align(64))]
pub(super) struct Seat {
    pub(super) number: usize,
    served: AtomicU64,
    /// Requests it is inside: a sub-request is served inside its main request.
    inside: AtomicU64,
}

struct Seats {
    all: Vec<&'static Seat>,
    free: Vec<&'static Seat>,
}

thread_local! {
    static SEAT: Taken = Taken::take();
}

/// A seat for the life of a thread.
struct Taken(&'static Seat);

impl Taken {
    fn take() -> Self {
        let mut seats = lock(&SEATS);
        let seat = seats.free.pop().unwrap_or_else(|| {
            let number = seats.all.len() + 1;
            let (served, inside) = (AtomicU64::new(0), AtomicU64::new(0));
            let seat = &*Box::leak(Box::new(Seat { number, served, inside }));
            seats.all.push(seat);
            seat
        });
        Self(seat)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = lock(&SEATS);
        seats.free.push(self.0);
        // The lowest number goes first.
        seats.free.sort_by_key(|seat| std::cmp::Reverse(seat.number));
    }
}

/// The seat of this thread.
pub(super) fn seat() -> &'static Seat {
    SEAT.with(|taken| taken.0)
}

/// A request is being served; dropping it counts the request.
pub(super) struct Inside(&'static Seat);

impl Seat {
    /// A request begins.
    pub(super) fn enter(&'static self) -> Inside {
        add(&self.inside, 1);
        Inside(self)
    }
}

/// Adds to a counter that this thread alone writes: no other can come between.
fn add(counter: &AtomicU64, change: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
}

impl Drop for Inside {
    fn drop(&mut self) {
        add(&self.0.inside, u64::MAX);
        add(&self.0.served, 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of the time at which this process began.
pub(super) fn process_starts() {
    LazyLock::force(&STARTED);
}

/// Whether requests are recorded.
#[inline]
pub(super) fn recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Records requests from now on.
pub(super) fn start_recording() {
    let mut record = lock(&RECORD);
    if record.window.is_none() {
        record.window = Some(Window::begin());
        RECORDING.store(true, Ordering::Release);
    }
}

/// A time, in all requests of a window.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) total: Duration,
    pub(super) least: Option<Duration>,
    pub(super) most: Option<Duration>,
    pub(super) buckets: [u64; BUCKETS],
}

/// Each doubling from 1 ms to 65,536 ms in four equal parts, and what is longer.
pub(super) const BUCKETS: usize = 16 * 4 + 1;

impl Phase {
    const NEW: Self =
        Self { total: Duration::ZERO, least: None, most: None, buckets: [0; BUCKETS] };

    fn add(&mut self, time: Duration) {
        self.total += time;
        self.least = Some(self.least.map_or(time, |least| least.min(time)));
        self.most = Some(self.most.map_or(time, |most| most.max(time)));
        self.buckets[bucket(time)] += 1;
    }
}

/// Where a time is counted. What is below a millisecond is in the first.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let millis = micros / 1000;
    if millis == 0 {
        return 0;
    }
    let octave = usize::try_from(millis.ilog2()).unwrap_or(usize::MAX);
    if octave >= 16 {
        return BUCKETS - 1;
    }
    // The part of the octave that is over, in quarters.
    let start = 1000_u64 << octave;
    let quarter = (micros - start) * 4 / start;
    octave * 4 + usize::try_from(quarter).unwrap_or(3).min(3)
}

/// Names of the phases, in the order of [`Window::phases`].
pub(super) const PHASES: [&str; 8] = [
    "server_time",
    "queue_time",
    "daemon_time",
    "application_time",
    "request_time",
    "input_read_time",
    "output_write_time",
    "gil_wait_time",
];

/// What a thread did in a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) completed: u64,
    pub(super) busy: Duration,
    pub(super) cpu: Duration,
    pub(super) longest: Duration,
    /// How long the request has taken that it is in.
    pub(super) elapsed: Duration,
}

/// What has been recorded since the last look.
pub(super) struct Window {
    pub(super) start: SystemTime,
    began: Instant,
    cpu_before: Cpu,
    /// Set when the window ends.
    pub(super) stop: SystemTime,
    /// Length of the window.
    pub(super) period: Duration,
    /// Used in the window.
    pub(super) cpu: Cpu,
    pub(super) requests: u64,
    pub(super) phases: [Phase; PHASES.len()],
    pub(super) waits: u64,
    pub(super) input: (u64, u64),
    pub(super) output: (u64, u64),
    /// Of the status classes 1xx to 5xx.
    pub(super) statuses: [u64; 5],
    pub(super) slots: Vec<Slot>,
    /// Threads that have served so far.
    pub(super) threads: usize,
}

impl Window {
    fn begin() -> Self {
        let start = SystemTime::now();
        Self {
            start,
            began: Instant::now(),
            cpu_before: usage::of_process(),
            stop: start,
            period: Duration::ZERO,
            cpu: Cpu::default(),
            requests: 0,
            phases: [Phase::NEW; PHASES.len()],
            waits: 0,
            input: (0, 0),
            output: (0, 0),
            statuses: [0; 5],
            slots: Vec::new(),
            threads: 0,
        }
    }

    fn slot(&mut self, number: usize) -> &mut Slot {
        if self.slots.len() < number {
            self.slots.resize(number, Slot::default());
        }
        // `number` is 1 or more.
        &mut self.slots[number - 1]
    }
}

/// A request that a thread is in.
#[derive(Clone, Copy)]
struct Running {
    seat: usize,
    since: Instant,
    /// Since when it belongs to the present window.
    counted: Instant,
}

struct Record {
    /// `None` until recording begins.
    window: Option<Window>,
    running: Vec<Running>,
    /// Time that threads have spent in requests that have ended.
    busy: Duration,
}

impl Record {
    const fn new() -> Self {
        Self { window: None, running: Vec::new(), busy: Duration::ZERO }
    }
}

/// A request begins that is recorded.
pub(super) fn begin(seat: &Seat, since: Instant) {
    let running = Running { seat: seat.number, since, counted: since };
    lock(&RECORD).running.push(running);
}

/// The request that began last on this thread has ended.
pub(super) fn end(seat: &Seat, measured: &Measured) {
    let mut record = lock(&RECORD);
    let now = Instant::now();
    let last = record.running.iter().rposition(|running| running.seat == seat.number);
    let running = last.map(|place| record.running.remove(place));
    let whole = running.map_or(Duration::ZERO, |running| now - running.since);
    let counted = running.map_or(Duration::ZERO, |running| now - running.counted);
    record.busy += whole;
    let Some(window) = &mut record.window else { return };
    window.requests += 1;
    for (phase, time) in window.phases.iter_mut().zip(measured.phases()) {
        if let Some(time) = time {
            phase.add(time);
        }
    }
    window.waits += measured.waits.count;
    window.input.0 += measured.input.bytes;
    window.input.1 += measured.input.calls;
    window.output.0 += measured.output.bytes;
    window.output.1 += measured.output.calls;
    let class = usize::from(measured.status / 100);
    if let Some(count) = class.checked_sub(1).and_then(|class| window.statuses.get_mut(class)) {
        *count += 1;
    }
    let slot = window.slot(seat.number);
    slot.completed += 1;
    slot.busy += counted;
    slot.cpu += measured.cpu.user + measured.cpu.system;
    slot.longest = slot.longest.max(whole);
}

/// What was recorded since the last call; `None` while nothing is.
pub(super) fn drain() -> Option<Window> {
    let mut record = lock(&RECORD);
    let Record { window, running, .. } = &mut *record;
    let mut ended = window.take()?;
    let next = Window::begin();
    let now = next.began;
    for running in running {
        let slot = ended.slot(running.seat);
        slot.busy += now - running.counted;
        slot.elapsed = slot.elapsed.max(now - running.since);
        running.counted = now;
    }
    ended.stop = next.start;
    ended.period = now - ended.began;
    ended.cpu = next.cpu_before.since(ended.cpu_before);
    ended.threads = lock(&SEATS).all.len();
    *window = Some(next);
    Some(ended)
}

/// What has been counted since the process began.
pub(super) struct Process {
    pub(super) started: SystemTime,
    pub(super) cpu: Cpu,
    pub(super) busy: Duration,
    pub(super) active: u64,
    /// Requests by thread, in the order of their numbers.
    pub(super) threads: Vec<u64>,
}

/// What has been counted since the process began; `None` while nothing is recorded.
pub(super) fn process() -> Option<Process> {
    if !recording() {
        return None;
    }
    let seats: Vec<&'static Seat> = lock(&SEATS).all.clone();
    let record = lock(&RECORD);
    let running: Duration = record.running.iter().map(|running| running.since.elapsed()).sum();
    Some(Process {
        started: *STARTED,
        cpu: usage::of_process(),
        busy: record.busy + running,
        active: seats.iter().map(|seat| seat.inside.load(Ordering::Relaxed)).sum(),
        threads: seats.iter().map(|seat| seat.served.load(Ordering::Relaxed)).collect(),
    })
}

/// Seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_find_their_buckets() {
        for (micros, place) in [
            (0, 0),
            (999, 0),
            (1_000, 0),
            (1_249, 0),
            (1_250, 1),
            (1_999, 3),
            (2_000, 4),
            (2_500, 5),
            (1_000_000, 9 * 4 + 3),
            (1_024_000, 40),
            (65_535_999, 63),
            (65_536_000, 64),
            (u64::MAX, 64),
        ] {
            assert_eq!(bucket(Duration::from_micros(micros)), place, "{micros}");
        }
    }

    #[test]
    fn phases_know_their_extremes() {
        let mut phase = Phase::NEW;
        assert_eq!((phase.least, phase.most), (None, None));
        for millis in [5, 2, 9] {
            phase.add(Duration::from_millis(millis));
        }
        assert_eq!(phase.least, Some(Duration::from_millis(2)));
        assert_eq!(phase.most, Some(Duration::from_millis(9)));
        assert_eq!(phase.total, Duration::from_millis(16));
        assert_eq!(phase.buckets.iter().sum::<u64>(), 3);
    }

    #[test]
    fn ended_threads_leave_their_numbers() {
        let first = std::thread::spawn(|| seat().number).join().unwrap();
        let second = std::thread::spawn(|| seat().number).join().unwrap();
        assert_eq!(first, second);
        let served = std::thread::spawn(|| {
            drop(seat().enter());
            seat().served.load(Ordering::Relaxed)
        });
        assert!(served.join().unwrap() >= 1);
    }
}
