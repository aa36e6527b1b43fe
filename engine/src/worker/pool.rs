//! Which connections there are, and which are given back.
//!
//! A connection has a seat, and there are as many seats as threads: kept and active ones never exceed the threads,
//! so that there is one for each request that comes. While no seat is free the listener is left to other processes. A
//! connection that has not said who it is has no seat.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exchange::Receiving;
use super::line::Line;
use super::queue::Queue;
use super::seat::{Count, Seat};
use crate::os::event::{self, Set, Wake};
use crate::os::listener::is_shut;
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

/// The number of the listener in the [`Queue`]; those of seats begin with 0.
const LISTENER: u64 = u64::MAX;
/// That of the first connection that has not said who it is.
const FIRST_INFANT: u64 = 1 << 32;

/// The connections and what is waited for.
pub(super) struct Pool {
    pub(super) seats: Vec<Seat>,
    pub(super) queue: Queue,
    listener: Guarded,
    admission: Admission,
    door: Mutex<Door>,
    /// Wakes the clock.
    pub(super) clock: Wake,
    retiring: AtomicBool,
    /// No seat is free.
    crowded: AtomicBool,
    /// Somebody has been seen waiting in the listener while no seat was free, and perhaps does still.
    sought: AtomicBool,
    /// One connection is to be given back: somebody waits in the listener.
    pressed: AtomicBool,
    /// How often in a row nothing could be accepted.
    failures: AtomicU32,
    complaints: Mutex<Vec<String>>,
}

/// Where connections come in. Held by whoever lets one in or has one leave.
struct Door {
    nursery: Vec<Infant>,
    next: u64,
}

/// A connection that has not said who it is.
struct Infant {
    number: u64,
    socket: Arc<Guarded>,
    since: Instant,
}

/// A connection on which something has come.
pub(super) struct Arrived {
    /// Its seat.
    pub(super) place: usize,
    pub(super) line: Arc<Line>,
    pub(super) receiving: Receiving,
    /// Whether there was no request on it before.
    pub(super) first: bool,
}

/// What a connection has said of itself.
enum Word {
    Nothing(Arc<Guarded>),
    Good(Arc<Line>, Box<Receiving>),
    Bad,
    /// There can be none now.
    Starved,
    /// Nobody can connect any more.
    Shut,
}

impl Pool {
    pub(super) fn new(listener: Guarded, threads: usize, admission: Admission) -> io::Result<Self> {
        event::set_nonblocking(listener.as_fd())?;
        Ok(Self {
            seats: (0..threads).map(|_| Seat::default()).collect(),
            queue: Queue::new(Set::new()?),
            listener,
            admission,
            door: Mutex::new(Door { nursery: Vec::new(), next: FIRST_INFANT }),
            clock: Wake::new()?,
            retiring: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            sought: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
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

    /// Whether the connection of a request that was served is given back: who is kept goes before all who wait in the
    /// listener, so nobody is kept while somebody waits there.
    pub(super) fn yields(&self) -> bool {
        if self.gives_way() {
            return true;
        }
        if !self.sought.load(Ordering::SeqCst) {
            return false;
        }
        let sought = self.waits(&[]);
        self.sought.store(sought, Ordering::SeqCst);
        sought
    }

    fn gives_way(&self) -> bool {
        self.retiring() || self.pressed.swap(false, Ordering::SeqCst)
    }

    /// Takes note that somebody has been seen waiting in the listener.
    pub(super) fn seek(&self) {
        self.sought.store(true, Ordering::SeqCst);
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

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections from now on.
    ///
    /// # Errors
    /// The system's, where the listener cannot be watched.
    pub(super) fn open(&self) -> io::Result<()> {
        self.queue.set.watch(self.listener(), LISTENER)
    }

    /// Leaves the listener, and hands back every connection that waits for a request.
    pub(super) fn retire(&self) {
        self.retiring.store(true, Ordering::SeqCst);
        let mut door = self.door();
        self.queue.set.forget(self.listener());
        // Says to connections that have said nothing that nothing is read here.
        let mut frame = Vec::new();
        message::go_away(&mut frame, 0);
        for infant in door.nursery.drain(..) {
            // Where it fails there is nobody.
            let _ = socket::send((*infant.socket).as_fd(), &[&frame], &[], Wait::No);
            self.queue.set.forget((*infant.socket).as_fd());
        }
        drop(door);
        for seat in &self.seats {
            seat.hand_back();
        }
    }

    /// Ends connections that wait for a thread after they were handed back. Requests on them were not read, and are
    /// sent elsewhere.
    pub(super) fn sweep(&self) {
        for (place, seat) in self.seats.iter().enumerate() {
            if !seat.handed_back() {
                continue;
            }
            if let Some((line, receiving, _)) = seat.take() {
                line.go_away(receiving.order.latest());
                drop(receiving);
                self.leave(place, &line);
            }
        }
    }

    /// Hands the connection back that has waited longest for a request. `false`: there is none.
    pub(super) fn hand_back_one(&self) -> bool {
        let kept = self.seats.iter().filter_map(|seat| Some((seat.kept_since()?, seat)));
        let longest = kept.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, seat)| seat.hand_back())
    }

    pub(super) fn count(&self, what: Count) -> usize {
        self.seats.iter().filter(|seat| seat.count() == what).count()
    }

    fn free(&self) -> Option<usize> {
        self.seats.iter().position(|seat| seat.count() == Count::Free)
    }

    /// The connection behind a number of the queue; `None` where there is nothing to be served.
    pub(super) fn arrived(&self, number: u64) -> Option<Arrived> {
        match usize::try_from(number).ok().and_then(|place| Some((place, self.seats.get(place)?))) {
            Some((place, seat)) => {
                let (line, receiving, first) = seat.take()?;
                Some(Arrived { place, line, receiving, first })
            }
            None => self.let_in(number),
        }
    }

    /// Whether a number of the queue is that of a seat.
    pub(super) fn is_seat(&self, number: u64) -> bool {
        usize::try_from(number).is_ok_and(|place| place < self.seats.len())
    }

    /// Waits for the next request of a connection, which stays in its seat.
    pub(super) fn keep(&self, arrived: Arrived) {
        let Arrived { place, line, receiving, first } = arrived;
        let Some(seat) = self.seats.get(place) else { return };
        seat.keep(receiving, first);
        // Looked at after that, so that either this thread sees it or who has set it sees the seat. Who comes from
        // the listener has not had its turn yet and gives way to nobody.
        if if first { self.retiring() } else { self.gives_way() } {
            seat.hand_back();
        }
        // Another thread may have it from here on.
        if self.watch(line.socket(), place as u64).is_err() {
            self.leave(place, &line);
        }
    }

    /// The connection in a seat has ended.
    pub(super) fn leave(&self, place: usize, line: &Line) {
        self.queue.set.forget(line.socket());
        let door = self.door();
        if let Some(seat) = self.seats.get(place) {
            seat.leave();
        }
        if self.retiring() {
            drop(door);
            self.clock.set();
        } else if self.crowded.swap(false, Ordering::SeqCst) {
            let _ = self.watch(self.listener(), LISTENER);
            for infant in &door.nursery {
                let _ = self.watch((*infant.socket).as_fd(), infant.number);
            }
        }
    }

    fn watch(&self, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let done = self.queue.set.watch(descriptor, number);
        if let Err(error) = &done {
            self.complain(format!("a connection cannot be waited for: {error}"));
        }
        done
    }

    /// Lets a connection in where a seat is free: from the listener, or one that has something to say now.
    fn let_in(&self, number: u64) -> Option<Arrived> {
        let mut door = self.door();
        if self.retiring() {
            return None;
        }
        let place = self.free();
        let word = match place {
            Some(_) if number == LISTENER => self.accept(),
            Some(_) => {
                let index = door.nursery.iter().position(|infant| infant.number == number)?;
                Some(self.listen_to(door.nursery.remove(index).socket))
            }
            None => None,
        };
        let starved = matches!(word, Some(Word::Starved));
        let shut = matches!(word, Some(Word::Shut));
        let arrived = match (place, word) {
            (Some(place), Some(Word::Good(line, receiving))) => {
                // From here on its seat says that it is there.
                self.seats.get(place)?.sit(&line);
                Some(Arrived { place, line, receiving: *receiving, first: true })
            }
            (_, Some(Word::Nothing(socket))) => {
                if door.nursery.len() == NURSERY {
                    let oldest = door.nursery.remove(0);
                    self.queue.set.forget((*oldest.socket).as_fd());
                }
                let number = door.next;
                door.next += 1;
                if self.watch((*socket).as_fd(), number).is_ok() {
                    door.nursery.push(Infant { number, socket, since: Instant::now() });
                }
                None
            }
            _ => None,
        };
        let full = self.free().is_none();
        // Who waits while a seat is free is about to have it, unless more have been waiting for longer.
        let sought = (full || self.sought.load(Ordering::SeqCst)) && self.waits(&door.nursery);
        self.sought.store(sought, Ordering::SeqCst);
        if !sought {
            self.press(false);
        }
        if full {
            self.crowded.store(true, Ordering::SeqCst);
            // It watches the listener as long as nobody else does.
            self.clock.set();
        } else if number == LISTENER && !shut {
            if starved {
                drop(door);
                // There is a thread for each seat, and this seat's is this one.
                std::thread::sleep(STARVED);
            }
            let _ = self.watch(self.listener(), LISTENER);
        }
        arrived
    }

    /// The next connection in the listener; `None` where there is none, or it is nobody's who may come in.
    fn accept(&self) -> Option<Word> {
        let socket = match event::accept(self.listener()) {
            Ok(Some(socket)) => {
                self.failures.store(0, Ordering::Relaxed);
                Arc::new(Guarded::new(socket))
            }
            Ok(None) if is_shut(self.listener()) => {
                self.complain(
                    "nobody can connect any more: the listener was shut down, which only the \
                     application can have done; reload httpd"
                        .to_owned(),
                );
                return Some(Word::Shut);
            }
            Ok(None) => return None,
            Err(error) => {
                // No descriptors or no memory: that passes when requests end.
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.complain(format!("connections cannot be accepted: {error}"));
                return Some(Word::Starved);
            }
        };
        if let Err(words) = self.check_peer((*socket).as_fd()) {
            self.complain(words);
            return None;
        }
        Some(self.listen_to(socket))
    }

    fn waits(&self, nursery: &[Infant]) -> bool {
        let mut watched = vec![self.listener()];
        watched.extend(nursery.iter().map(|infant| (*infant.socket).as_fd()));
        event::wait(&watched, Some(Duration::ZERO)).is_ok_and(|ready| ready != 0)
    }

    /// Whether somebody waits for a seat now, while none is free.
    pub(super) fn somebody_waits(&self) -> bool {
        self.crowded() && self.waits(&self.door().nursery)
    }

    /// Connections that have said nothing, to be watched while no seat is free. Those that have done so for too long
    /// are ended.
    pub(super) fn silent(&self) -> Vec<Arc<Guarded>> {
        let mut door = self.door();
        let now = Instant::now();
        door.nursery.retain(|infant| {
            let stays = infant.since + HELLO_WITHIN > now;
            if !stays {
                self.queue.set.forget((*infant.socket).as_fd());
            }
            stays
        });
        door.nursery.iter().map(|infant| Arc::clone(&infant.socket)).collect()
    }

    /// Whether no connection is left, and none is about to be accepted.
    pub(super) fn quiet(&self) -> bool {
        let Ok(_door) = self.door.try_lock() else { return false };
        self.seats.iter().all(|seat| matches!(seat.count(), Count::Free | Count::Abandoned))
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
                    return Word::Good(line, Box::new(Receiving { inbound, order }));
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

/// Takes a listener over from the process's birth.
pub(super) fn guarded(descriptor: OwnedFd) -> Guarded {
    Guarded::new(descriptor)
}
