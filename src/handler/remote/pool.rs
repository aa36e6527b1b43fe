//! The connections to a group that a child keeps, and the count of what is under way.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use engine::os::Inbound;
use engine::wire::message::from_daemon;

use super::course::Course;

/// A connection to some process of the group.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) inbound: Inbound,
    pub(super) course: Course,
    /// Where messages are written before they are sent.
    pub(super) out: Vec<u8>,
    /// Whether the process has not been greeted yet.
    pub(super) fresh: bool,
}

/// What is written for one message before it is sent; more is given back after the request.
const OUT_KEPT: usize = 64 * 1024;

impl Connection {
    /// A connection on which nothing has been sent.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            // FILE carries the only one.
            inbound: Inbound::new(from_daemon, 1),
            course: Course::default(),
            out: Vec::new(),
            fresh: true,
        }
    }
}

/// Connections on which a request has been served and another may be. Each reserves a thread of its process,
/// which takes it back when it is needed for others.
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
    most: usize,
    under_way: AtomicUsize,
}

impl Pool {
    /// An empty pool for at most this many connections.
    pub(crate) fn new(most: usize) -> Self {
        Self { idle: Mutex::new(Vec::new()), most, under_way: AtomicUsize::new(0) }
    }

    /// The connection that was used last: its process has most in its caches.
    pub(super) fn pop(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a connection, if there is room.
    pub(super) fn push(&self, mut connection: Connection) {
        if connection.out.capacity() > OUT_KEPT {
            connection.out = Vec::new();
        }
        let surplus = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.most {
                idle.push(connection);
                None
            } else {
                Some(connection)
            }
        };
        // Closed after the lock was given back.
        drop(surplus);
    }

    /// Counts a request in, unless as many as `bound` are under way.
    pub(super) fn enter(&self, bound: usize) -> Option<Seat<'_>> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(&self.under_way);
        (before < bound).then_some(seat)
    }
}

/// A request that is counted.
pub(super) struct Seat<'p>(&'p AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use engine::os::socket;

    use super::*;

    #[test]
    fn the_last_in_is_the_first_out_and_no_more_than_allowed_stay() {
        let pool = Pool::new(2);
        let (ends, others): (Vec<_>, Vec<_>) =
            (0..3).map(|_| socket::pair().unwrap()).collect::<Vec<_>>().into_iter().unzip();
        for (at, socket) in ends.into_iter().enumerate() {
            let mut connection = Connection::new(socket);
            connection.out.push(u8::try_from(at).unwrap());
            pool.push(connection);
        }
        assert_eq!(pool.pop().map(|connection| connection.out), Some(vec![1]));
        assert_eq!(pool.pop().map(|connection| connection.out), Some(vec![0]));
        assert!(pool.pop().is_none());
        drop(others);
    }

    #[test]
    fn seats_are_given_up_to_the_bound_and_come_back() {
        let pool = Pool::new(0);
        let one = pool.enter(2);
        let two = pool.enter(2);
        assert!(one.is_some() && two.is_some());
        assert!(pool.enter(2).is_none());
        drop(one);
        assert!(pool.enter(2).is_some());
    }
}
