//! What a daemon process says to its supervisor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::os::own::{self, Guarded};
use crate::os::socket::{self, Wait};
use crate::wire::control::{self, FromDaemon, Reason};
use crate::wsgi::{Host, Level};

/// The supervisor's end of this process.
pub(super) struct Status {
    socket: Guarded,
    sending: Mutex<Vec<u8>>,
    lost: AtomicBool,
}

impl Status {
    pub(super) fn new(socket: Guarded) -> Self {
        Self { socket, sending: Mutex::new(Vec::new()), lost: AtomicBool::new(false) }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether there is no supervisor any more.
    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// `false`: it is not heard.
    pub(super) fn tell(&self, what: &FromDaemon) -> bool {
        self.send(|out| what.encode(out).is_ok())
    }

    pub(super) fn wish(&self, reason: Reason) -> bool {
        self.tell(&FromDaemon::WantsReplacement(reason))
    }

    fn send(&self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        // In a forked process the lock may be held by a thread that is not there.
        if own::forked() || self.lost() {
            return false;
        }
        let mut out = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        out.clear();
        if !fill(&mut out) {
            return false;
        }
        match socket::send(self.socket(), &[&out], &[], Wait::Yes) {
            Ok(()) => true,
            Err(_) => {
                self.lose();
                false
            }
        }
    }

    /// Writes a record that belongs to no request.
    pub(super) fn log(&self, level: Level, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.send(|out| control::log(out, level as u8, text).is_ok()) {
            // What comes that way is written when there is a supervisor again.
            eprintln!("{text}");
        }
    }
}

/// The engine's log outside of requests.
pub(super) struct ToSupervisor(pub(super) Arc<Status>);

impl Host for ToSupervisor {
    fn log(&self, level: Level, text: &str) {
        self.0.log(level, text);
    }
}
