//! Who accepts the next connection, and which connections are given back.
//!
//! A thread without a connection takes part in accepting: one leads (waits for the listener), the others wait to
//! lead, the one that came last first. A thread has one connection at a time, so kept and active ones never exceed the
//! threads. A connection that has not said who it is has no thread: the leader keeps it beside the listener.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exchange::Receiving;
use super::line::Line;
use super::seat::{Count, Seat};
use crate::os::event::{self, Wake};
use crate::os::own::Guarded;
use crate::os::socket::{self, Wait};
use crate::os::{Arrival, Inbound};
use crate::wire::message::{self, FromChild, Hello};
use crate::wire::order::ChildOrder;
use crate::wire::{BuildId, Secret};

/// Connections that have said nothing yet, at most. The oldest gives way.
pub(super) const NURSERY: usize = 32;

/// How long a connection may say nothing. HELLO is sent right after connecting.
const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// How long nothing is accepted when the process has no descriptors left.
const STARVED: Duration = Duration::from_millis(100);
/// Failures in a row after which the process is not expected to get over it.
const HOPELESS: u32 = 20;

/// Who may connect.
pub(super) struct Admission {
    pub(super) uid: u32,
    pub(super) build: BuildId,
    pub(super) secret: Secret,
    pub(super) timeout: Option<Duration>,
}

/// The threads and what they wait for.
pub(super) struct Pool {
    pub(super) seats: Vec<Seat>,
    listener: Guarded,
    admission: Admission,
    gate: Mutex<Gate>,
    /// Wakes the leader.
    lead: Wake,
    /// Wakes the clock.
    pub(super) clock: Wake,
    retiring: AtomicBool,
    /// No thread is without a connection.
    crowded: AtomicBool,
    /// One connection is to be given back: somebody waits in the listener.
    pressed: AtomicBool,
    starved: AtomicBool,
    /// How often in a row that was so.
    failures: AtomicU32,
    complaints: Mutex<Vec<String>>,
}

struct Gate {
    led: bool,
    waiting: Vec<usize>,
    promoted: Option<usize>,
    nursery: Vec<Infant>,
}

/// A connection that has not said who it is.
struct Infant {
    socket: Arc<Guarded>,
    since: Instant,
}

/// A connection that is who it has to be.
pub(super) struct Fresh {
    pub(super) line: Arc<Line>,
    pub(super) receiving: Receiving,
}

/// What a connection has said of itself.
enum Word {
    Nothing(Arc<Guarded>),
    Good(Box<Fresh>),
    Bad,
}

impl Pool {
    pub(super) fn new(listener: Guarded, threads: usize, admission: Admission) -> io::Result<Self> {
        event::set_nonblocking(listener.as_fd())?;
        Ok(Self {
            seats: (0..threads).map(|_| Seat::new()).collect(),
            listener,
            admission,
            gate: Mutex::new(Gate {
                led: false,
                waiting: Vec::new(),
                promoted: None,
                nursery: Vec::new(),
            }),
            lead: Wake::new()?,
            clock: Wake::new()?,
            retiring: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            complaints: Mutex::default(),
        })
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    pub(super) fn retiring(&self) -> bool {
        self.retiring.load(Ordering::SeqCst)
    }

    pub(super) fn crowded(&self) -> bool {
        self.crowded.load(Ordering::SeqCst)
    }

    /// Whether a connection is to be given back.
    pub(super) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }

    /// Asks for, or does not ask any more for, a connection to be given back.
    pub(super) fn press(&self, on: bool) {
        self.pressed.store(on, Ordering::SeqCst);
    }

    /// Whether it is the calling thread that gives its connection back, after the request it has served.
    pub(super) fn yields(&self) -> bool {
        self.retiring() || self.pressed.swap(false, Ordering::SeqCst)
    }

    /// Whether those who want to connect have not been accepted for a while, for want of descriptors or memory.
    pub(super) fn starves(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= HOPELESS
    }

    /// What went wrong with connections since the last call.
    pub(super) fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn complain(&self, text: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < NURSERY {
            complaints.push(text);
            self.clock.set();
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the listener, and hands back every connection that waits for a request.
    pub(super) fn retire(&self) {
        self.retiring.store(true, Ordering::SeqCst);
        self.lead.set();
        let mut gate = self.gate();
        if !gate.led {
            turn_away(&mut gate.nursery);
        }
        drop(gate);
        for seat in &self.seats {
            seat.turn.notify_all();
            seat.hand_back();
        }
    }

    /// Hands the connection back that has waited longest for a request. `false`: there is none.
    pub(super) fn hand_back_one(&self) -> bool {
        let kept = self.seats.iter().filter_map(|seat| Some((seat.kept_since()?, seat)));
        let longest = kept.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, seat)| seat.hand_back())
    }

    /// The thread waits for a request on its connection from now on.
    pub(super) fn keep(&self, me: usize, line: &Arc<Line>, first: bool) {
        let Some(seat) = self.seats.get(me) else { return };
        seat.keep(line);
        // Looked at after that, so that either this thread sees it or who has set it sees the seat. Who comes from
        // the listener has not had its turn yet and gives way to nobody.
        if if first { self.retiring() } else { self.yields() } {
            seat.hand_back();
        }
    }

    pub(super) fn count(&self, what: Count) -> usize {
        self.seats.iter().filter(|seat| seat.count() == what).count()
    }

    /// The next connection for a thread; `None` when no more are taken.
    pub(super) fn next(&self, me: usize) -> Option<Fresh> {
        let mut gate = self.gate();
        if gate.led {
            gate.waiting.push(me);
            while gate.promoted != Some(me) {
                if self.retiring() {
                    return None;
                }
                let seat = self.seats.get(me)?;
                gate = seat.turn.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            gate.promoted = None;
        }
        gate.led = true;
        let mut nursery = std::mem::take(&mut gate.nursery);
        drop(gate);
        self.crowded.store(false, Ordering::SeqCst);
        let fresh = self.lead(&mut nursery);
        if let (Some(fresh), Some(seat)) = (&fresh, self.seats.get(me)) {
            // From here on its seat says that it is there.
            seat.keep(&fresh.line);
        }
        let mut gate = self.gate();
        gate.nursery = nursery;
        match gate.waiting.pop() {
            Some(next) if !self.retiring() => {
                gate.promoted = Some(next);
                drop(gate);
                if let Some(seat) = self.seats.get(next) {
                    seat.turn.notify_one();
                }
            }
            _ => {
                gate.led = false;
                if self.retiring() {
                    turn_away(&mut gate.nursery);
                }
                drop(gate);
                self.crowded.store(true, Ordering::SeqCst);
                // It watches the listener as long as no thread does.
                self.clock.set();
            }
        }
        fresh
    }

    fn lead(&self, nursery: &mut Vec<Infant>) -> Option<Fresh> {
        loop {
            if self.retiring() {
                turn_away(nursery);
                return None;
            }
            let now = Instant::now();
            nursery.retain(|infant| infant.since + HELLO_WITHIN > now);
            let starved = self.starved.load(Ordering::Relaxed);
            let timeout = nursery.first().map(|oldest| oldest.since + HELLO_WITHIN - now);
            let timeout =
                if starved { Some(timeout.unwrap_or(STARVED).min(STARVED)) } else { timeout };
            let mut watched = Vec::with_capacity(nursery.len() + 2);
            watched.push(self.lead.as_fd());
            watched.extend(nursery.iter().map(|infant| (*infant.socket).as_fd()));
            if !starved {
                watched.push(self.listener());
            }
            let listener = watched.len() - 1;
            let ready = match event::wait(&watched, timeout) {
                Ok(ready) => ready,
                Err(error) => {
                    self.complain(format!("connections cannot be waited for: {error}"));
                    // Whoever cannot wait must not spin.
                    std::thread::sleep(STARVED);
                    continue;
                }
            };
            drop(watched);
            self.starved.store(false, Ordering::Relaxed);
            for index in (0..nursery.len()).rev() {
                if ready & (1 << (index + 1)) != 0 {
                    let infant = nursery.remove(index);
                    match self.listen_to(infant.socket) {
                        Word::Good(fresh) => {
                            self.look_behind(nursery);
                            return Some(*fresh);
                        }
                        Word::Nothing(socket) => {
                            nursery.push(Infant { socket, since: infant.since });
                            nursery.sort_by_key(|infant| infant.since);
                        }
                        Word::Bad => {}
                    }
                }
            }
            if !starved
                && ready & (1 << listener) != 0
                && let Some(fresh) = self.accept(nursery)
            {
                return Some(fresh);
            }
        }
    }

    fn accept(&self, nursery: &mut Vec<Infant>) -> Option<Fresh> {
        if self.retiring() {
            return None;
        }
        let socket = match event::accept(self.listener()) {
            Ok(Some(socket)) => {
                self.failures.store(0, Ordering::Relaxed);
                Arc::new(Guarded::new(socket))
            }
            Ok(None) => {
                self.press(false);
                return None;
            }
            Err(error) => {
                // No descriptors or no memory: that passes when requests end.
                self.starved.store(true, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.complain(format!("connections cannot be accepted: {error}"));
                return None;
            }
        };
        if let Err(words) = self.check_peer((*socket).as_fd()) {
            self.complain(words);
            return None;
        }
        match self.listen_to(socket) {
            Word::Good(fresh) => {
                self.look_behind(nursery);
                Some(*fresh)
            }
            Word::Nothing(socket) => {
                if nursery.len() == NURSERY {
                    nursery.remove(0);
                }
                nursery.push(Infant { socket, since: Instant::now() });
                None
            }
            Word::Bad => None,
        }
    }

    /// Asks for another connection to be given back where more wait than there are threads.
    fn look_behind(&self, nursery: &[Infant]) {
        let more = self.gate().waiting.is_empty() && self.waits(nursery);
        self.press(more);
    }

    fn waits(&self, nursery: &[Infant]) -> bool {
        let mut watched = vec![self.listener()];
        watched.extend(nursery.iter().map(|infant| (*infant.socket).as_fd()));
        event::wait(&watched, Some(Duration::ZERO)).is_ok_and(|ready| ready != 0)
    }

    /// Whether somebody waits for a thread now, while none leads.
    pub(super) fn somebody_waits(&self) -> bool {
        let gate = self.gate();
        !gate.led && self.waits(&gate.nursery)
    }

    /// Connections that have said nothing, to be watched while no thread leads. Those that have done so for too long
    /// are ended.
    pub(super) fn silent(&self) -> Vec<Arc<Guarded>> {
        let mut gate = self.gate();
        let now = Instant::now();
        gate.nursery.retain(|infant| infant.since + HELLO_WITHIN > now);
        gate.nursery.iter().map(|infant| Arc::clone(&infant.socket)).collect()
    }

    /// Whether no connection is left, and none is about to be accepted.
    pub(super) fn quiet(&self) -> bool {
        !self.gate().led
            && self.seats.iter().all(|seat| matches!(seat.count(), Count::Free | Count::Abandoned))
    }

    fn check_peer(&self, socket: BorrowedFd<'_>) -> Result<(), String> {
        let peer = socket::peer(socket).map_err(|error| {
            format!("a connection is ended: who has made it is not known ({error})")
        })?;
        if peer.uid != self.admission.uid {
            return Err(format!(
                "a connection is ended: process {} with user id {} has made it, not httpd",
                peer.pid, peer.uid
            ));
        }
        Ok(())
    }

    /// Hears what a connection says of itself. All of that comes at once.
    fn listen_to(&self, socket: Arc<Guarded>) -> Word {
        let mut inbound = Inbound::new(message::from_child, 1);
        match inbound.receive((*socket).as_fd(), Wait::No) {
            Ok(Arrival::Bytes) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Word::Nothing(socket);
            }
            Ok(Arrival::End { .. }) | Err(_) => return Word::Bad,
        }
        let mut order = ChildOrder::new();
        let hello = match inbound.frame() {
            Ok(Some((frame, None))) => order
                .accept(&frame.header)
                .and_then(|_| FromChild::decode(&frame))
                .map_err(|fault| format!("a connection is ended: it began with {fault}")),
            Ok(_) => Err("a connection is ended: it did not say who it is".to_owned()),
            Err(fault) => Err(format!("a connection is ended: it began with {fault}")),
        };
        let words = match hello {
            Ok(FromChild::Hello(hello)) => match self.check(&hello) {
                Ok(()) => {
                    // How long one call may wait; a connection without it still works.
                    let _ = socket::set_receive_timeout((*socket).as_fd(), self.admission.timeout);
                    let _ = socket::set_send_timeout((*socket).as_fd(), self.admission.timeout);
                    let line = Arc::new(Line::new(socket));
                    let receiving = Receiving { inbound, order };
                    return Word::Good(Box::new(Fresh { line, receiving }));
                }
                Err(words) => words.to_owned(),
            },
            Ok(_) => "a connection is ended: it did not say who it is".to_owned(),
            Err(words) => words,
        };
        self.complain(words);
        Word::Bad
    }

    fn check(&self, hello: &Hello) -> Result<(), &'static str> {
        // The secret first: nobody else is told anything.
        if !self.admission.secret.proved_by(&hello.proof) {
            return Err("a connection is ended: it does not know the secret of this group");
        }
        if hello.build != self.admission.build {
            return Err(
                "a connection is ended: it comes from an httpd with another version of this \
                        module",
            );
        }
        Ok(())
    }
}

/// Says to connections that have said nothing that nothing is read here.
fn turn_away(nursery: &mut Vec<Infant>) {
    let mut frame = Vec::new();
    message::go_away(&mut frame, 0);
    for infant in nursery.drain(..) {
        // Where it fails there is nobody.
        let _ = socket::send((*infant.socket).as_fd(), &[&frame], &[], Wait::No);
    }
}

/// Takes a listener over from the process's birth.
pub(super) fn guarded(descriptor: OwnedFd) -> Guarded {
    Guarded::new(descriptor)
}
