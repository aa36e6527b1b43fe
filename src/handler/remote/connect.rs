//! A new connection to a group.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use engine::os::socket;

use super::GroupLink;
use super::pool::Connection;

/// Pauses between attempts: the first is short, as a listener is mostly missing for a moment only.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectFault {
    /// As many wait for it as may.
    Full(usize),
    /// Nobody listened in time.
    Busy(io::Error, Duration),
    /// It cannot be made.
    Failed(io::Error),
    /// Somebody else listens.
    Stranger(u32),
    /// The group cannot serve now.
    Down(String),
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(waiting) => {
                write!(f, "its queue is full: {waiting} requests wait for a thread (queue-limit)")
            }
            Self::Busy(error, time) => {
                write!(
                    f,
                    "no connection within {} s (connect-timeout): {error}",
                    time.as_secs_f64()
                )
            }
            Self::Failed(error) => write!(f, "no connection: {error}"),
            Self::Stranger(uid) => {
                write!(f, "its socket was made by user {uid}, who is not the one httpd is run by")
            }
            Self::Down(reason) => f.write_str(reason),
        }
    }
}

/// Connects through the listener, which is one queue over all processes of the group.
pub(super) fn connect(link: &GroupLink) -> Result<Connection, ConnectFault> {
    if let Some(reason) = (link.down)(link.id) {
        return Err(ConnectFault::Down(reason));
    }
    let socket = attempt(link)?;
    let peer = socket::peer(socket.as_fd()).map_err(ConnectFault::Failed)?;
    if peer.uid != link.listener_uid {
        return Err(ConnectFault::Stranger(peer.uid));
    }
    let silence = link.patience.map_or(link.socket_timeout, |all| all.min(link.socket_timeout));
    socket::set_receive_timeout(socket.as_fd(), Some(silence)).map_err(ConnectFault::Failed)?;
    socket::set_send_timeout(socket.as_fd(), Some(silence)).map_err(ConnectFault::Failed)?;
    Ok(Connection::new(socket))
}

fn attempt(link: &GroupLink) -> Result<OwnedFd, ConnectFault> {
    let deadline = Instant::now() + link.connect_timeout;
    let [mut pause, longest] = PAUSES;
    loop {
        let error = match socket::connect(&link.socket) {
            Ok(socket) => return Ok(socket),
            // One queue for all children of httpd. Who waits for room in it would wait in vain, or keep one of
            // httpd's own threads from others.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ConnectFault::Full(link.waiting));
            }
            Err(error) => error,
        };
        if error.kind() != ErrorKind::ConnectionRefused {
            return Err(ConnectFault::Failed(error));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectFault::Busy(error, link.connect_timeout));
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest);
    }
}
