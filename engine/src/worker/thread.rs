//! One worker thread: a request after the other, on whichever connection it comes.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::exchange::{Receiving, Remote};
use super::line::Line;
use super::pool::Arrived;
use super::seat::{Lateness, Seat, Serving};
use super::shared::{Shared, now_us};
use crate::os::Arrival;
use crate::os::own;
use crate::os::socket::Wait;
use crate::wire::frame::Header;
use crate::wire::message::{Entry, FromChild, Kind, Request, RequestBody, Target, flag};
use crate::wire::order::Place;
use crate::wire::{Fault, Whole};
use crate::wsgi::{Attached, Call, Engine, Key, Level, Outcome};

/// A request that has waited longer than this for a thread is looked at once more before it is run: whoever sent
/// it may have gone.
const LONG_WAIT: Duration = Duration::from_millis(10);

/// How long a thread may go from request to request without letting go of the GIL in between: others of the
/// application wait for it as well.
const STRETCH: Duration = Duration::from_micros(250);

/// The life of one worker thread.
pub(super) fn run(shared: &'static Shared) {
    let Some(engine) = shared.engine() else { return };
    let worker = Worker { shared, engine };
    let queue = &shared.pool.queue;
    // Worth it where they have the main interpreter to go on with.
    let turns = engine.takes_turns() && shared.mounts.values().any(|mount| mount.group.is_empty());
    if !turns {
        loop {
            worker.attend(queue.next(), None);
        }
    }
    loop {
        queue.stand_by();
        engine.attached(|python| {
            let began = Instant::now();
            let mut next = queue.begin();
            while let Some(number) = next {
                worker.attend(number, Some(python));
                next = if began.elapsed() < STRETCH { queue.more() } else { None };
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Worker {
    shared: &'static Shared,
    engine: &'static Engine,
}

/// What becomes of a connection after a request.
enum Then {
    Next,
    End,
    /// The request has to be served detached.
    Detach(Option<OwnedFd>),
}

/// A request that was received, and the file of its body.
struct Known(Whole, Option<OwnedFd>);

/// How far a connection was heard.
enum Heard {
    /// Nothing more is there.
    All,
    /// It is over.
    End,
    /// This has to be served detached.
    Known(Known),
}

/// What has come on a connection.
enum Came {
    /// A whole head.
    Request(Known),
    /// Nothing, or a part of one.
    Nothing,
    /// Its end.
    End,
}

/// What is known before a request is run.
enum Before {
    Run,
    /// Nobody waits for it.
    Drop,
    /// It is answered with this status, and why.
    Refuse(u16, Option<String>),
    /// It goes back, to be sent to another process.
    Back,
}

impl Worker {
    /// Does what is behind a number of the queue; attached or detached.
    fn attend(self, number: u64, python: Option<Attached<'_>>) {
        let pool = &self.shared.pool;
        match python {
            // Letting somebody in may take a while.
            Some(python) if !pool.is_seat(number) => python.detach(|| self.attend(number, None)),
            _ => {
                if let Some(arrived) = pool.arrived(number) {
                    self.hear(arrived, None, python);
                }
            }
        }
    }

    /// Serves what has come on a connection, until nothing more is there. `known` has been received already.
    fn hear(self, mut arrived: Arrived, known: Option<Known>, python: Option<Attached<'_>>) {
        let pool = &self.shared.pool;
        let (place, line) = (arrived.place, Arc::clone(&arrived.line));
        // A fault of ours ends this connection, not the thread.
        let then = catch_unwind(AssertUnwindSafe(|| self.converse(&mut arrived, known, python)));
        let then = then.unwrap_or_else(|_| {
            let text = "internal error (a panic) while a request was served";
            self.shared.status.log(Level::Error, text);
            Heard::End
        });
        match (then, python) {
            (Heard::All, _) => pool.keep(arrived),
            // To the end, where the next request may already wait: not even the GIL is waited for before that.
            (Heard::Known(known), Some(python)) => {
                python.detach(|| self.hear(arrived, Some(known), None));
            }
            (Heard::End | Heard::Known(_), _) => {
                drop(arrived);
                pool.leave(place, &line);
            }
        }
    }

    fn converse(
        self,
        arrived: &mut Arrived,
        mut known: Option<Known>,
        python: Option<Attached<'_>>,
    ) -> Heard {
        let Some(seat) = self.shared.pool.seats.get(arrived.place) else { return Heard::End };
        let Arrived { line, receiving, first, .. } = arrived;
        loop {
            let Known(whole, file) = match known.take() {
                Some(known) => known,
                None => match self.came(seat, line, receiving) {
                    Came::Request(known) => known,
                    Came::Nothing => return Heard::All,
                    Came::End => return Heard::End,
                },
            };
            let turn = Turn { worker: self, seat, line, first: *first };
            match turn.request(receiving, &whole, file, python) {
                Then::Next => {}
                Then::End => return Heard::End,
                Then::Detach(file) => return Heard::Known(Known(whole, file)),
            }
            receiving.inbound.give_back(whole);
            *first = false;
            if receiving.inbound.is_empty() {
                return Heard::All;
            }
        }
    }

    /// Receives, without waiting.
    fn came(self, seat: &Seat, line: &Line, receiving: &mut Receiving) -> Came {
        loop {
            match receiving.inbound.take() {
                Err(fault) => {
                    self.broken(fault);
                    return Came::End;
                }
                Ok(Some((whole, file))) => {
                    let header = whole.frame().header;
                    if needs_more(&header) && seat.handed_back() {
                        // Its body cannot be received any more.
                        line.go_away(receiving.order.latest());
                        return Came::End;
                    }
                    match receiving.order.accept(&header) {
                        Ok(Place::Here) => return Came::Request(Known(whole, file)),
                        Ok(Place::Late) => receiving.inbound.give_back(whole),
                        Err(fault) => {
                            self.broken(fault);
                            return Came::End;
                        }
                    }
                }
                Ok(None) => match receiving.inbound.receive(line.socket(), Wait::No) {
                    Ok(Arrival::Bytes) => {}
                    Ok(Arrival::End { .. }) => {
                        if seat.handed_back() {
                            line.go_away(receiving.order.latest());
                        }
                        return Came::End;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Came::Nothing;
                    }
                    Err(_) => return Came::End,
                },
            }
        }
    }

    fn broken(self, fault: Fault) {
        self.shared.complain(&format!("a connection is ended: httpd's side sent {fault}"));
    }
}

/// One request on its connection.
#[derive(Clone, Copy)]
struct Turn<'t> {
    worker: Worker,
    seat: &'t Seat,
    line: &'t Arc<Line>,
    first: bool,
}

impl Turn<'_> {
    fn request(
        self,
        receiving: &mut Receiving,
        whole: &Whole,
        file: Option<OwnedFd>,
        python: Option<Attached<'_>>,
    ) -> Then {
        let Self { worker: Worker { shared, .. }, seat, line, .. } = self;
        let frame = whole.frame();
        let request = match FromChild::decode(&frame) {
            Ok(FromChild::Request(request)) => request,
            Ok(_) => {
                self.worker.broken(Fault::Order(frame.header.kind));
                return Then::End;
            }
            Err(fault) => {
                self.worker.broken(fault);
                return Then::End;
            }
        };
        if receiving.inbound.stray() {
            self.worker.broken(Fault::Descriptor);
            return Then::End;
        }
        let number = frame.header.number;
        let Some((target, group)) = target(shared, &request) else {
            line.begin(number);
            let text = "httpd names an application that this process does not know";
            return self.refuse(receiving, 500, Some(text));
        };
        let start_us = now_us();
        if python.is_some() && !self.is_plain(&request, &target, start_us) {
            return Then::Detach(file);
        }
        line.begin(number);
        seat.serve(Serving {
            id: next_id(),
            since: Instant::now(),
            start_us,
            group,
            thread: own::thread(),
            lateness: Lateness::Watched,
        });
        if request.body == RequestBody::Asked && seat.handed_back() {
            // That happened while it was being read: its body cannot be received any more.
            line.go_away(number.saturating_sub(1));
            return Then::End;
        }
        if python.is_some() {
            return self.serve(receiving, request, &target, file, python);
        }
        match self.before(receiving, &request, &target, start_us) {
            Before::Run => self.serve(receiving, request, &target, file, None),
            Before::Drop => Then::End,
            Before::Back => {
                line.go_away(number.saturating_sub(1));
                Then::End
            }
            Before::Refuse(status, text) => self.refuse(receiving, status, text.as_deref()),
        }
    }

    /// Whether there is nothing to be looked at before a request is run, which is then attached already.
    fn is_plain(self, request: &Request<'_>, target: &Application<'_>, now: u64) -> bool {
        let Worker { shared, engine } = self.worker;
        let waited = waited(request, now);
        target.group.is_empty()
            && !self.first
            && waited <= LONG_WAIT
            && shared.setup.timeouts.queue.is_none_or(|most| waited <= most)
            && shared.asked.loaded.load(Ordering::Relaxed)
            && (!request.reloading || engine.is_current(target.path, request.mtime_us))
    }

    fn serve(
        self,
        receiving: &mut Receiving,
        request: Request<'_>,
        target: &Application<'_>,
        file: Option<OwnedFd>,
        python: Option<Attached<'_>>,
    ) -> Then {
        let Self { worker: Worker { shared, engine }, seat, line, first } = self;
        if !request.ignore_activity {
            shared.active();
        }
        let call = Call {
            application_group: target.group,
            script: target.path,
            mtime: request.mtime_us,
            callable: target.callable,
            // New code is served by a new process.
            reloading: false,
            handler: request.handler,
            resource: None,
        };
        let mut remote = Remote::new(shared, line, receiving, request, file, first);
        let mut outcome = match python {
            Some(python) => python.serve(&call, &mut remote),
            None => engine.serve(&call, &mut remote),
        };
        if own::forked() {
            // The application has forked, and the copy has come back here, where it has no business.
            own::leave(0);
        }
        if request.reloading && matches!(request.target, Target::Script { .. }) {
            shared.runs(target.path, request.mtime_us);
        }
        let end = || {
            if let Lateness::Interrupted { .. } = seat.served() {
                engine.interrupt(target.group, own::thread(), false, || true);
                if outcome == Outcome::Refused(500) {
                    outcome = Outcome::Refused(504);
                }
            }
            shared.count();
            let close = shared.pool.yields() || seat.handed_back();
            if remote.finish(outcome, close) { Then::Next } else { Then::End }
        };
        match python {
            Some(python) if !seat.is_watched() || !line.takes_at_once() => python.detach(end),
            _ => end(),
        }
    }

    fn refuse(self, receiving: &mut Receiving, status: u16, text: Option<&str>) -> Then {
        if let Some(text) = text {
            self.line.log(Level::Error, text);
        }
        receiving.order.finish();
        let close = self.worker.shared.pool.yields() || self.seat.handed_back();
        self.seat.served();
        if self.line.finish(Outcome::Refused(status), close) { Then::Next } else { Then::End }
    }

    fn before(
        self,
        receiving: &mut Receiving,
        request: &Request<'_>,
        target: &Application<'_>,
        now: u64,
    ) -> Before {
        let Worker { shared, engine } = self.worker;
        let waited = waited(request, now);
        if let Some(most) = shared.setup.timeouts.queue
            && waited > most
        {
            return Before::Refuse(
                504,
                Some(format!(
                    "the request has waited {:.1} seconds for a thread, longer than queue-timeout \
                     allows; it was not run",
                    waited.as_secs_f64()
                )),
            );
        }
        if (self.first || waited > LONG_WAIT) && !self.seat.handed_back() {
            match taken_back(self.line, receiving) {
                None => {}
                Some(TakenBack { stays: false }) => return Before::Drop,
                Some(TakenBack { stays: true }) => return Before::Refuse(503, None),
            }
        }
        if request.reloading
            && engine.is_stale(target.group, target.path, request.mtime_us, || file(request))
            && shared.wait_for_new_code(target.path, request.mtime_us)
        {
            return Before::Back;
        }
        if target.group.is_empty() && !shared.asked.loaded.load(Ordering::Relaxed) {
            shared.imports.wait(target.path);
        }
        Before::Run
    }
}

/// What serves a request, and the name of its interpreter once more, to be kept.
fn target<'t>(
    shared: &'static Shared,
    request: &Request<'t>,
) -> Option<(Application<'t>, Arc<str>)> {
    match request.target {
        Target::Mount(id) => {
            let mount = shared.mounts.get(&id)?;
            let application = Application {
                group: &mount.group,
                path: mount.path.as_bytes(),
                callable: &mount.callable,
            };
            Some((application, Arc::clone(&mount.group)))
        }
        Target::Script { path, application_group, callable } => {
            let application = Application { group: application_group, path, callable };
            Some((application, application_group.into()))
        }
    }
}

/// How long a request has waited for a thread.
fn waited(request: &Request<'_>, now: u64) -> Duration {
    Duration::from_micros(now.saturating_sub(request.queue_start_us))
}

/// The file that a request's URL leads to.
fn file<'a>(request: &Request<'a>) -> &'a [u8] {
    let named = request.entries.clone().find_map(|entry| match entry {
        Entry::SetPath { key, value } if key == Key::ScriptFilename as u8 => Some(value),
        _ => None,
    });
    named.unwrap_or_default()
}

/// An application in a process.
struct Application<'t> {
    group: &'t str,
    path: &'t [u8],
    callable: &'t str,
}

/// Whether a request needs more than its head.
fn needs_more(header: &Header) -> bool {
    header.kind == Kind::Request as u8 && header.flags & flag::EXPECTS_BODY != 0
}

/// Nobody wants a request any more; whether who sent it is still there.
struct TakenBack {
    stays: bool,
}

/// Whether whoever sent a request has gone, or has taken it back and stays.
fn taken_back(line: &Line, receiving: &mut Receiving) -> Option<TakenBack> {
    let taken = |stays| Some(TakenBack { stays });
    loop {
        match receiving.inbound.header() {
            Ok(Some(header)) if header.kind == Kind::Cancel as u8 => {
                let Ok(Some((frame, None))) = receiving.inbound.frame() else {
                    return taken(false);
                };
                return taken(receiving.order.accept(&frame.header).is_ok());
            }
            // What is wrong with it is found where it is read.
            Ok(Some(_)) | Err(_) => return None,
            Ok(None) => match receiving.inbound.receive(line.socket(), Wait::No) {
                Ok(Arrival::Bytes) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(Arrival::End { .. }) | Err(_) => return taken(false),
            },
        }
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
