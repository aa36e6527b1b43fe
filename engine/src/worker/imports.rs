//! What Python's main thread loads before and beside the first requests, so that no other thread does it in its
//! place: applications set handlers of signals when they are loaded, and only the main thread can.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a request waits for the main thread to begin with its script while that loads another: one that hangs
/// must not stop all.
const TURN: Duration = Duration::from_secs(5);

/// Scripts of the main interpreter; in others no handler can be set.
#[derive(Default)]
pub(super) struct Imports {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    left: Vec<Box<[u8]>>,
    /// The one that is being loaded.
    current: Option<Box<[u8]>>,
}

impl Imports {
    /// Nothing of these has been loaded.
    pub(super) fn new<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let left = paths.into_iter().map(Into::into).collect();
        Self { state: Mutex::new(State { left, current: None }), done: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main thread loads a script now.
    pub(super) fn begin(&self, path: &[u8]) {
        self.lock().current = Some(path.into());
    }

    /// It has done so, or failed.
    pub(super) fn finish(&self, path: &[u8]) {
        let mut state = self.lock();
        state.current = None;
        state.left.retain(|left| **left != *path);
        drop(state);
        self.done.notify_all();
    }

    /// Waits until the main thread has had its turn with a script, if it is one of its own.
    pub(super) fn wait(&self, path: &[u8]) {
        let until = Instant::now() + TURN;
        let mut state = self.lock();
        while state.left.iter().any(|left| **left == *path) {
            let left = until.saturating_duration_since(Instant::now());
            let begun = state.current.as_deref() == Some(path);
            if left.is_zero() && !begun {
                return;
            }
            let left = if begun { TURN } else { left };
            let waited = self.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn whoever_comes_early_waits_for_its_script() {
        let imports = Imports::new([&b"/one"[..], b"/two"]);
        // Not the main thread's.
        imports.wait(b"/three");
        let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let two = scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                imports.wait(b"/two");
                assert!(over.load(Ordering::SeqCst), "before it was loaded");
            });
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            imports.begin(b"/one");
            imports.finish(b"/one");
            imports.wait(b"/one");
            imports.begin(b"/two");
            over.store(true, Ordering::SeqCst);
            imports.finish(b"/two");
            two.join().unwrap();
        });
        imports.wait(b"/two");
    }
}
