//! One worker thread: a connection after the other, a request after the other.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::exchange::{Receiving, Remote};
use super::line::Line;
use super::pool::Fresh;
use super::seat::{Lateness, Seat, Serving};
use super::shared::{Shared, now_us};
use crate::os::Arrival;
use crate::os::own;
use crate::os::socket::Wait;
use crate::wire::frame::Header;
use crate::wire::message::{Entry, FromChild, Kind, Request, RequestBody, Target, flag};
use crate::wire::order::Place;
use crate::wire::{Fault, Whole};
use crate::wsgi::{Call, Engine, Key, Level, Outcome};

/// A request that has waited longer than this for a thread is looked at once more before it is run: whoever sent
/// it may have gone.
const LONG_WAIT: Duration = Duration::from_millis(10);

/// The life of one worker thread.
pub(super) fn run(shared: &'static Shared, me: usize) {
    let (Some(engine), Some(seat)) = (shared.engine(), shared.pool.seats.get(me)) else { return };
    while let Some(fresh) = shared.pool.next(me) {
        let worker = Worker { shared, engine, seat, me };
        // A fault of ours ends this connection, not the thread.
        let served = catch_unwind(AssertUnwindSafe(|| worker.converse(fresh)));
        if served.is_err() {
            shared.status.log(Level::Error, "internal error (a panic) while a request was served");
        }
        seat.leave();
        if shared.pool.retiring() {
            shared.pool.clock.set();
        }
    }
}

struct Worker {
    shared: &'static Shared,
    engine: &'static Engine,
    seat: &'static Seat,
    me: usize,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Next,
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
    fn converse(&self, fresh: Fresh) {
        let Fresh { line, mut receiving } = fresh;
        let mut first = true;
        loop {
            self.shared.pool.keep(self.me, &line, first);
            let Some((whole, file)) = self.next_request(&line, &mut receiving) else { return };
            if self.request(&line, &mut receiving, &whole, file, first) == Then::End {
                return;
            }
            receiving.inbound.give_back(whole);
            first = false;
        }
    }

    /// Waits for a whole head.
    fn next_request(
        &self,
        line: &Arc<Line>,
        receiving: &mut Receiving,
    ) -> Option<(Whole, Option<std::os::fd::OwnedFd>)> {
        loop {
            match receiving.inbound.take() {
                Err(fault) => {
                    self.broken(fault);
                    return None;
                }
                Ok(Some((whole, file))) => {
                    let header = whole.frame().header;
                    if needs_more(&header) && self.seat.handed_back() {
                        // Its body cannot be received any more.
                        line.go_away(receiving.order.latest());
                        return None;
                    }
                    match receiving.order.accept(&header) {
                        Ok(Place::Here) => return Some((whole, file)),
                        Ok(Place::Late) => receiving.inbound.give_back(whole),
                        Err(fault) => {
                            self.broken(fault);
                            return None;
                        }
                    }
                }
                Ok(None) => match receiving.inbound.receive(line.socket(), Wait::Yes) {
                    Ok(Arrival::Bytes) => {}
                    Ok(Arrival::End { .. }) => {
                        if self.seat.handed_back() {
                            line.go_away(receiving.order.latest());
                        }
                        return None;
                    }
                    // Nothing was said for a while, which is well between two requests.
                    Err(error)
                        if error.kind() == io::ErrorKind::WouldBlock
                            && receiving.inbound.is_empty() => {}
                    Err(_) => return None,
                },
            }
        }
    }

    fn broken(&self, fault: Fault) {
        self.shared.complain(&format!("a connection is ended: httpd's side sent {fault}"));
    }

    fn request(
        &self,
        line: &Arc<Line>,
        receiving: &mut Receiving,
        whole: &Whole,
        file: Option<std::os::fd::OwnedFd>,
        first: bool,
    ) -> Then {
        let frame = whole.frame();
        let request = match FromChild::decode(&frame) {
            Ok(FromChild::Request(request)) => request,
            Ok(_) => {
                self.broken(Fault::Order(frame.header.kind));
                return Then::End;
            }
            Err(fault) => {
                self.broken(fault);
                return Then::End;
            }
        };
        if receiving.inbound.stray() {
            self.broken(Fault::Descriptor);
            return Then::End;
        }
        let number = frame.header.number;
        let Some((target, group)) = self.target(&request) else {
            line.begin(number);
            let text = "httpd names an application that this process does not know";
            return self.refuse(line, receiving, 500, Some(text));
        };
        let start_us = now_us();
        line.begin(number);
        self.seat.serve(Serving {
            id: next_id(),
            since: Instant::now(),
            start_us,
            group,
            thread: own::thread(),
            lateness: Lateness::Watched,
        });
        if request.body == RequestBody::Asked && self.seat.handed_back() {
            // That happened while it was being read: its body cannot be received any more.
            line.go_away(number.saturating_sub(1));
            return Then::End;
        }
        match self.before(line, receiving, &request, &target, first, start_us) {
            Before::Run => {}
            Before::Drop => return Then::End,
            Before::Back => {
                line.go_away(number.saturating_sub(1));
                return Then::End;
            }
            Before::Refuse(status, text) => {
                return self.refuse(line, receiving, status, text.as_deref());
            }
        }
        if !request.ignore_activity {
            self.shared.active();
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
        let mut remote = Remote::new(self.shared, line, receiving, request, file, first);
        let mut outcome = self.engine.serve(&call, &mut remote);
        if own::forked() {
            // The application has forked, and the copy has come back here, where it has no business.
            own::leave(0);
        }
        if let Lateness::Interrupted { .. } = self.seat.served() {
            self.engine.interrupt(target.group, own::thread(), false, || true);
            if outcome == Outcome::Refused(500) {
                outcome = Outcome::Refused(504);
            }
        }
        self.shared.count();
        let close = self.shared.pool.yields() || self.seat.handed_back();
        if remote.finish(outcome, close) { Then::Next } else { Then::End }
    }

    fn refuse(
        &self,
        line: &Line,
        receiving: &mut Receiving,
        status: u16,
        text: Option<&str>,
    ) -> Then {
        if let Some(text) = text {
            line.log(Level::Error, text);
        }
        receiving.order.finish();
        let close = self.shared.pool.yields() || self.seat.handed_back();
        self.seat.served();
        if line.finish(Outcome::Refused(status), close) { Then::Next } else { Then::End }
    }

    /// What serves a request, and the name of its interpreter once more, to be kept.
    fn target<'t>(&'t self, request: &Request<'t>) -> Option<(Application<'t>, Arc<str>)> {
        match request.target {
            Target::Mount(id) => {
                let mount = self.shared.mounts.get(&id)?;
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

    fn before(
        &self,
        line: &Line,
        receiving: &mut Receiving,
        request: &Request<'_>,
        target: &Application<'_>,
        first: bool,
        now: u64,
    ) -> Before {
        let waited = Duration::from_micros(now.saturating_sub(request.queue_start_us));
        if let Some(most) = self.shared.setup.timeouts.queue
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
        if (first || waited > LONG_WAIT) && !self.seat.handed_back() {
            match gone(line, receiving) {
                None => {}
                Some(Then::End) => return Before::Drop,
                Some(Then::Next) => return Before::Refuse(503, None),
            }
        }
        if request.reloading
            && self.engine.is_stale(target.group, target.path, request.mtime_us, || file(request))
            && self.shared.wait_for_new_code(target.path, request.mtime_us)
        {
            return Before::Back;
        }
        if target.group.is_empty() && !self.shared.asked.loaded.load(Ordering::Relaxed) {
            self.shared.imports.wait(target.path);
        }
        Before::Run
    }
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

/// Whether whoever sent a request has gone, or has taken it back and stays.
fn gone(line: &Line, receiving: &mut Receiving) -> Option<Then> {
    loop {
        match receiving.inbound.header() {
            Ok(Some(header)) if header.kind == Kind::Cancel as u8 => {
                let Ok(Some((frame, None))) = receiving.inbound.frame() else {
                    return Some(Then::End);
                };
                return match receiving.order.accept(&frame.header) {
                    Ok(_) => Some(Then::Next),
                    Err(_) => Some(Then::End),
                };
            }
            // What is wrong with it is found where it is read.
            Ok(Some(_)) | Err(_) => return None,
            Ok(None) => match receiving.inbound.receive(line.socket(), Wait::No) {
                Ok(Arrival::Bytes) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(Arrival::End { .. }) | Err(_) => return Some(Then::End),
            },
        }
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
