//! The thread that sends blocks of responses while their applications make the next ones.
//!
//! It never enters Python and never waits in a send: what a socket does not take waits here until it does, and the
//! other connections go on. It takes all that has piled up for a connection at once, which is why it costs less than
//! sends of single blocks where an application is quicker than these.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::line::{Flushed, Line, Piled};
use crate::os::event::{Wake, wait_for_room};
use crate::os::own;

/// How long it stays away from a wait that fails. Not to be expected; without that it would be a loop that eats a
/// processor.
const AGAIN: Duration = Duration::from_millis(100);

/// The flusher as the others see it.
pub(super) struct Flusher {
    /// How long a connection may take nothing.
    timeout: Option<Duration>,
    /// There once it was needed; `None` where it could not be made.
    desk: OnceLock<Option<Arc<Desk>>>,
}

/// What is put before it.
struct Desk {
    tray: Mutex<Tray>,
    wake: Wake,
}

#[derive(Default)]
struct Tray {
    lines: Vec<Arc<Line>>,
    /// Whether it has to be woken.
    asleep: bool,
}

/// A connection that takes nothing just now.
struct Stalled {
    line: Arc<Line>,
    since: Instant,
}

impl Flusher {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, desk: OnceLock::new() }
    }

    /// Takes blocks, to be sent as soon as that can be: if they are `quick`, or if it has others of that line to send.
    /// `false`: it has not, and they are to be sent. Does not wait.
    pub(super) fn take(&self, line: &Arc<Line>, blocks: &[&[u8]], quick: bool) -> bool {
        let desk = if quick { self.desk() } else { self.desk.get().and_then(Option::as_ref) };
        let Some(desk) = desk else { return false };
        match line.pile(blocks, quick) {
            Piled::Not => return false,
            Piled::Yes => {}
            Piled::First => desk.put(Arc::clone(line)),
        }
        true
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.desk().is_some()
    }

    fn desk(&self) -> Option<&Arc<Desk>> {
        if own::forked() {
            // No thread is there, and what it shares with the others may be locked for ever.
            return None;
        }
        self.desk.get_or_init(|| Desk::new(self.timeout)).as_ref()
    }
}

impl Desk {
    /// A desk with a thread at it.
    fn new(timeout: Option<Duration>) -> Option<Arc<Self>> {
        let wake = Wake::new().ok()?;
        let desk = Arc::new(Self { tray: Mutex::default(), wake });
        let clerk = Clerk {
            desk: Arc::clone(&desk),
            timeout,
            lines: VecDeque::new(),
            stalled: Vec::new(),
            spare: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("wsgi-flush".to_owned());
        thread.spawn(move || clerk.run()).ok().map(|_| desk)
    }

    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: Arc<Line>) {
        let mut tray = self.tray();
        tray.lines.push(line);
        if std::mem::take(&mut tray.asleep) {
            drop(tray);
            self.wake.set();
        }
    }
}

/// The thread's own part.
struct Clerk {
    desk: Arc<Desk>,
    timeout: Option<Duration>,
    lines: VecDeque<Arc<Line>>,
    stalled: Vec<Stalled>,
    spare: Vec<u8>,
}

impl Clerk {
    fn run(mut self) -> ! {
        loop {
            let mut tray = self.desk.tray();
            self.lines.extend(tray.lines.drain(..));
            tray.asleep = self.lines.is_empty();
            drop(tray);
            match self.lines.pop_front() {
                Some(line) => self.flush(line, None),
                None => self.wait(),
            }
        }
    }

    /// Sends once on a line. `since`: it has been stalled until now.
    fn flush(&mut self, line: Arc<Line>, since: Option<Instant>) {
        match line.flush_pile(&mut self.spare) {
            Flushed::All => {}
            // The others come first.
            Flushed::More => self.lines.push_back(line),
            Flushed::Full { moved } => {
                let since = since.filter(|_| !moved).unwrap_or_else(Instant::now);
                self.stalled.push(Stalled { line, since });
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) {
        let sockets: Vec<BorrowedFd<'_>> =
            self.stalled.iter().map(|stalled| stalled.line.socket()).collect();
        let first = self.stalled.iter().map(|stalled| stalled.since).min();
        let until = first.zip(self.timeout).map(|(first, timeout)| first + timeout);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let ready = wait_for_room(&self.desk.wake, &sockets, left).unwrap_or_else(|_| {
            std::thread::sleep(AGAIN);
            Vec::new()
        });
        self.desk.tray().asleep = false;
        self.desk.wake.clear();
        if self.stalled.is_empty() {
            return;
        }
        let now = Instant::now();
        let stalled = std::mem::take(&mut self.stalled);
        for (place, Stalled { line, since }) in stalled.into_iter().enumerate() {
            if ready.get(place) == Some(&true) {
                self.flush(line, Some(since));
            } else if self.timeout.is_some_and(|timeout| now >= since + timeout) {
                line.give_up();
            } else {
                self.stalled.push(Stalled { line, since });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::line::tests::{fill, heard, in_body};
    use super::*;
    use crate::os::event;
    use crate::wire::message::Kind;
    use crate::wsgi::Then;

    /// Nothing takes that long here.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn blocks_arrive_without_more_being_sent() {
        let flusher = Flusher::new(None);
        let (line, theirs) = in_body();
        for round in 0..100 {
            assert!(flusher.take(&line, &[b"x"], true), "{round}");
            assert_eq!(event::wait(&[theirs.as_fd()], Some(DEADLINE)).unwrap(), 1, "{round}");
            let mut bytes = [0; 64];
            assert_ne!(event::drain(theirs.as_fd(), &mut bytes), 0);
        }
    }

    #[test]
    fn quick_blocks_stay_in_order() {
        let flusher = Flusher::new(None);
        let (line, theirs) = in_body();
        let mut all = Vec::new();
        let heard = std::thread::scope(|scope| {
            let reader = scope.spawn(|| heard(&theirs, usize::MAX));
            for number in 0_usize..20_000 {
                let block = vec![b'a' + u8::try_from(number % 23).unwrap(); 1 + number % 1017];
                all.extend_from_slice(&block);
                if !flusher.take(&line, &[&block], true) {
                    line.send(None, &[&block], Then::Flush).unwrap();
                }
            }
            line.abort("enough");
            reader.join().unwrap()
        });
        assert_eq!(heard.last(), Some(&(Kind::Abort, b"enough".to_vec())));
        assert!(heard[0].1 == all, "{} bytes instead of {}", heard[0].1.len(), all.len());
    }

    #[test]
    fn who_takes_nothing_keeps_nobody_else_waiting() {
        let flusher = Flusher::new(None);
        let (stalled, its) = in_body();
        let mut all = fill(&stalled);
        let block = vec![b'z'; 1000];
        while flusher.take(&stalled, &[&block], true) {
            all.extend_from_slice(&block);
        }
        let (line, theirs) = in_body();
        assert!(flusher.take(&line, &[b"x"], true));
        assert_eq!(event::wait(&[theirs.as_fd()], Some(DEADLINE)).unwrap(), 1);
        // Once it takes something again it gets the rest, though nobody else sends.
        let received = heard(&its, all.len());
        assert!(received[0].1 == all, "{} bytes instead of {}", received[0].1.len(), all.len());
    }

    #[test]
    fn who_takes_nothing_for_too_long_is_cut_off() {
        let flusher = Flusher::new(Some(Duration::from_millis(1)));
        let (line, _theirs) = in_body();
        fill(&line);
        assert!(flusher.take(&line, &[b"x"], true));
        // Readable is what has come to its end.
        assert_eq!(event::wait(&[line.socket()], Some(DEADLINE)).unwrap(), 1);
        assert!(!flusher.take(&line, &[b"x"], true));
        assert!(line.send(None, &[b"x"], Then::Flush).is_err());
    }
}
