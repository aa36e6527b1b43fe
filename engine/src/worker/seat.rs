//! What is being done on each connection, as the clock sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::exchange::Receiving;
use super::line::Line;
use crate::os::socket;

/// The place of one connection, for which there is a thread.
#[derive(Default)]
pub(super) struct Seat {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Option<Arc<Line>>,
    /// Its receiving side, while it waits for a request, and whether there was none before.
    receiving: Option<(Receiving, bool)>,
    doing: Doing,
    /// The receiving side was ended here, to hand the connection back.
    handed_back: bool,
}

#[derive(Default)]
enum Doing {
    /// There is no connection, or a thread looks at what has come on it.
    #[default]
    Nothing,
    /// It waits for its next request.
    Kept { since: Instant },
    /// A request is served.
    Serving(Serving),
}

/// A request that is being served.
#[derive(Clone)]
pub(super) struct Serving {
    /// Names it, in this process.
    pub(super) id: u64,
    pub(super) since: Instant,
    /// In microseconds since the epoch.
    pub(super) start_us: u64,
    /// The interpreter it is in.
    pub(super) group: Arc<str>,
    /// The thread, as Python numbers it.
    pub(super) thread: u64,
    pub(super) lateness: Lateness,
}

/// What has been done about a request that takes too long.
#[derive(Clone, Default)]
pub(super) enum Lateness {
    /// Nothing.
    #[default]
    Watched,
    /// Its stack is being looked at.
    Inspected {
        /// When it is answered whether that is known or not.
        until: Instant,
        /// Its stack, or why there is none.
        stack: Option<String>,
    },
    /// An exception was raised in it.
    Interrupted {
        /// When it is answered if that does not end it.
        until: Instant,
    },
    /// It was answered; its thread has not come back.
    Abandoned,
}

/// What a seat is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Free,
    Kept,
    Serving,
    Abandoned,
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection takes the place.
    pub(super) fn sit(&self, line: &Arc<Line>) {
        let mut state = self.lock();
        state.line = Some(Arc::clone(line));
        state.handed_back = false;
        state.doing = Doing::Kept { since: Instant::now() };
    }

    /// The connection waits for a request, without a thread.
    pub(super) fn keep(&self, receiving: Receiving, first: bool) {
        let mut state = self.lock();
        state.receiving = Some((receiving, first));
        state.doing = Doing::Kept { since: Instant::now() };
    }

    /// What is needed to see what has come; `None` where a thread is with it already.
    pub(super) fn take(&self) -> Option<(Arc<Line>, Receiving, bool)> {
        let mut state = self.lock();
        let (receiving, first) = state.receiving.take()?;
        Some((Arc::clone(state.line.as_ref()?), receiving, first))
    }

    /// The connection is over.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        let left = (state.line.take(), state.receiving.take());
        state.doing = Doing::Nothing;
        drop(state);
        drop(left);
    }

    /// A thread begins with a request.
    pub(super) fn serve(&self, serving: Serving) {
        self.lock().doing = Doing::Serving(serving);
    }

    /// What became of the request that was finished.
    pub(super) fn served(&self) -> Lateness {
        let mut state = self.lock();
        match std::mem::take(&mut state.doing) {
            Doing::Serving(serving) => serving.lateness,
            Doing::Nothing | Doing::Kept { .. } => Lateness::Watched,
        }
    }

    /// Whether nothing has been done about the request that is being served.
    pub(super) fn is_watched(&self) -> bool {
        let state = self.lock();
        matches!(&state.doing, Doing::Serving(Serving { lateness: Lateness::Watched, .. }))
    }

    /// Whether the connection's receiving side was ended to hand it back.
    pub(super) fn handed_back(&self) -> bool {
        self.lock().handed_back
    }

    /// Hands the connection back if it waits for a request. What has arrived is still read.
    pub(super) fn hand_back(&self) -> bool {
        let mut state = self.lock();
        if state.handed_back || !matches!(state.doing, Doing::Kept { .. }) {
            return false;
        }
        state.handed_back = true;
        if let Some(line) = &state.line {
            // It can only fail where the connection is over.
            let _ = socket::stop_receiving(line.socket());
        }
        true
    }

    /// Since when it is kept, if it can be handed back.
    pub(super) fn kept_since(&self) -> Option<Instant> {
        let state = self.lock();
        match state.doing {
            Doing::Kept { since } if !state.handed_back => Some(since),
            _ => None,
        }
    }

    pub(super) fn count(&self) -> Count {
        let state = self.lock();
        match &state.doing {
            Doing::Nothing if state.line.is_none() => Count::Free,
            // Between a request and the next.
            Doing::Nothing | Doing::Kept { .. } => Count::Kept,
            Doing::Serving(Serving { lateness: Lateness::Abandoned, .. }) => Count::Abandoned,
            Doing::Serving(_) => Count::Serving,
        }
    }

    /// The request that is being served, and its connection.
    pub(super) fn serving(&self) -> Option<(Serving, Arc<Line>)> {
        let state = self.lock();
        match (&state.doing, &state.line) {
            (Doing::Serving(serving), Some(line)) => Some((serving.clone(), Arc::clone(line))),
            _ => None,
        }
    }

    /// When the request began that is being served, without a copy of what else is known of it.
    pub(super) fn serving_since(&self) -> Option<(Instant, u64)> {
        match &self.lock().doing {
            Doing::Serving(serving) => Some((serving.since, serving.start_us)),
            Doing::Nothing | Doing::Kept { .. } => None,
        }
    }

    /// Takes note of what is done about a request, if it is still being served.
    pub(super) fn mark(
        &self,
        id: u64,
        lateness: impl FnOnce(&Lateness) -> Option<Lateness>,
    ) -> bool {
        let mut state = self.lock();
        match &mut state.doing {
            Doing::Serving(serving) if serving.id == id => match lateness(&serving.lateness) {
                Some(new) => {
                    serving.lateness = new;
                    true
                }
                None => false,
            },
            _ => false,
        }
    }
}
