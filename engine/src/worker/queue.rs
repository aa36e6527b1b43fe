//! Which thread serves what has come.
//!
//! Connections that wait for a request, the listener, and connections that have not said who they are, form one set,
//! in which threads without work wait. Whatever is handed from thread to thread costs more than a small request does:
//! waking one, and its wait for the GIL. So where one GIL is for all requests, the thread that has it goes on with what
//! has come meanwhile. No more than one other thread waits for the GIL: it *stands by*, and gets it when the
//! application waits for something, when the time of the first is over, or when nothing is left. The rest of them
//! *rest*, so that what comes wakes nobody, until one that stands by has gone to work.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::os::event::Set;
use crate::os::socket::Wait;

/// How long a thread pauses that cannot wait.
const PAUSE: Duration = Duration::from_millis(100);

/// What is waited for, by numbers that mean something to [`super::pool`].
pub(super) struct Queue {
    pub(super) set: Set,
    state: Mutex<State>,
    rest: Condvar,
}

/// Each number in `ready` was left there by a thread that stands by or rests, so that there is one to be called for it.
#[derive(Default)]
struct State {
    /// What has come and was not begun with.
    ready: VecDeque<u64>,
    /// Whether a thread waits for the GIL, to begin with the first of them.
    stands_by: bool,
    /// Threads that wait in the set.
    watching: usize,
    /// Threads that rest, and how many of those were called.
    resting: usize,
    called: usize,
}

impl Queue {
    pub(super) fn new(set: Set) -> Self {
        Self { set, state: Mutex::default(), rest: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> Option<u64> {
        self.set.next(Wait::Yes).unwrap_or_else(|_| {
            // Not to be expected, and whoever cannot wait must not spin.
            std::thread::sleep(PAUSE);
            None
        })
    }

    /// Waits for the next one: for threads that need not wait for each other. Detached.
    pub(super) fn next(&self) -> u64 {
        loop {
            if let Some(number) = self.watch() {
                return number;
            }
        }
    }

    /// Waits until something is there and nobody stands by; the calling thread does then. Detached.
    pub(super) fn stand_by(&self) {
        let mut state = self.lock();
        loop {
            if state.stands_by {
                state.resting += 1;
                while state.called == 0 {
                    state = self.rest.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.called -= 1;
                state.resting -= 1;
            } else if !state.ready.is_empty() {
                state.stands_by = true;
                return;
            } else {
                state.watching += 1;
                drop(state);
                let number = self.watch();
                state = self.lock();
                state.watching -= 1;
                state.ready.extend(number);
            }
        }
    }

    /// What the thread that stood by begins with, now that it has the GIL; `None` where others have done all.
    pub(super) fn begin(&self) -> Option<u64> {
        let mut state = self.lock();
        state.stands_by = false;
        self.pick(state)
    }

    /// What a thread that has the GIL goes on with; `None` where nothing is left.
    pub(super) fn more(&self) -> Option<u64> {
        self.pick(self.lock())
    }

    fn pick<'s>(&'s self, mut state: MutexGuard<'s, State>) -> Option<u64> {
        let number = match state.ready.pop_front() {
            Some(number) => number,
            None => {
                drop(state);
                let number = self.set.next(Wait::No).ok()??;
                state = self.lock();
                number
            }
        };
        // This thread may be away for long: somebody has to see what comes, and what is there already.
        let seen = state.stands_by || (state.watching > 0 && state.ready.is_empty());
        if !seen && state.called == 0 && state.resting > 0 {
            state.called += 1;
            self.rest.notify_one();
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::os::event::Wake;

    const THREADS: usize = 4;
    const CONNECTIONS: usize = 12;
    const REQUESTS: usize = 400;

    /// What comes is marked by `wakes`; who has served it sends its number.
    fn work(queue: &Queue, gil: &Mutex<()>, wakes: &[Wake], served: &mpsc::Sender<usize>) {
        loop {
            queue.stand_by();
            let mut held = Some(gil.lock().unwrap());
            let mut next = queue.begin();
            let mut count = 0;
            while let Some(number) = next {
                count += 1;
                let index = usize::try_from(number).unwrap();
                if (index + count).is_multiple_of(3) {
                    // As an application that waits for something.
                    drop(held.take());
                    thread::yield_now();
                    held = Some(gil.lock().unwrap());
                }
                wakes[index].clear();
                if served.send(index).is_err() {
                    return;
                }
                queue.set.watch(wakes[index].as_fd(), number).unwrap();
                next = if count < 5 { queue.more() } else { None };
            }
        }
    }

    #[test]
    fn all_that_comes_is_served_once() {
        let queue: &Queue = Box::leak(Box::new(Queue::new(Set::new().unwrap())));
        let gil: &Mutex<()> = Box::leak(Box::default());
        let wakes: &[Wake] =
            Box::leak((0..CONNECTIONS).map(|_| Wake::new().unwrap()).collect::<Vec<_>>().into());
        for (number, wake) in wakes.iter().enumerate() {
            queue.set.watch(wake.as_fd(), number as u64).unwrap();
        }
        let (sender, served) = mpsc::channel();
        for _ in 0..THREADS {
            let sender = sender.clone();
            thread::spawn(move || work(queue, gil, wakes, &sender));
        }
        let mut counts = [0; CONNECTIONS];
        wakes.iter().for_each(Wake::set);
        while counts.iter().any(|count| *count < REQUESTS) {
            // A number that is lost is waited for until here.
            let index = served.recv_timeout(Duration::from_secs(20)).expect("one that was lost");
            counts[index] += 1;
            if counts[index] < REQUESTS {
                wakes[index].set();
            }
        }
        assert_eq!(counts, [REQUESTS; CONNECTIONS]);
    }
}
