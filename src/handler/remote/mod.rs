//! Daemon mode, the httpd child's side: hands a request to a process of a group and relays the answer.
//!
//! `course` decides (frames and losses in, actions out; no I/O), `relay` receives and sends, `upload` and
//! `client` are the two sides of httpd, `pool` and `connect` the way to the group.

mod client;
mod connect;
mod course;
mod pool;
mod relay;
mod request;
mod spool;
mod upload;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use engine::settings::request::Effective;
use engine::wire::message::Target;
use engine::wire::{BuildId, Secret};

use self::client::HttpClient;
pub(super) use self::pool::Pool;
use super::paths::Paths;
use crate::apache::{Request, Verdict};

/// What a child knows of a daemon process group. One per child and group: the connections it keeps are
/// its own.
pub(crate) struct GroupLink {
    /// What it is known by where news are told.
    pub(crate) id: u64,
    /// The name, for the log.
    pub(crate) name: String,
    /// Where the group listens.
    pub(crate) socket: PathBuf,
    /// The build of this module, which has to be that of the processes.
    pub(crate) build: BuildId,
    /// What proves to the processes that this is httpd.
    pub(crate) secret: Secret,
    /// The user who has to have made the listener: root, or our own where httpd is not run by root.
    pub(crate) listener_uid: u32,
    /// Most requests that run at the same time: processes times threads.
    pub(crate) capacity: usize,
    /// How many more than that this child hands to the group before it answers 503.
    pub(crate) waiting: usize,
    /// How long to try for a connection.
    pub(crate) connect_timeout: Duration,
    /// How long a process may be silent before the request is answered by 504, or its response cut.
    pub(crate) socket_timeout: Duration,
    /// How long the client may take nothing; `None` is httpd's `Timeout`.
    pub(crate) write_timeout: Option<Duration>,
    /// How long a request may take in all from when it is sent, where there is a bound. The processes have
    /// bounds of their own, which are to be reached first: this is for the case that they cannot act.
    pub(crate) patience: Option<Duration>,
    /// Up to how many bytes a request body is gathered before a thread is taken; 0 never.
    pub(crate) request_buffering: u64,
    /// Up to how many bytes of response are kept for a slow client; 0 for none.
    pub(crate) response_buffering: u64,
    /// Where files without a name can be made.
    pub(crate) spool_directory: PathBuf,
    /// `Retry-After` of a 503, in seconds.
    pub(crate) retry_after: u32,
    /// Why a process of this group has ended since then, if one has. May wait a moment for the news.
    pub(crate) reason: fn(group: u64, since: SystemTime) -> Option<String>,
    /// Why no process of this group can serve now, if so. Asked before a new connection is made.
    pub(crate) down: fn(group: u64) -> Option<String>,
    /// The connections that are kept, and what is under way.
    pub(crate) pool: Pool,
}

/// What a request needs besides itself to be handed over.
pub(crate) struct Task<'x, 'r> {
    /// What is configured for it.
    pub(crate) effective: &'x Effective<'r>,
    /// When its script was last changed, in microseconds since the epoch.
    pub(crate) mtime: i64,
    /// Its URL in two halves.
    pub(crate) paths: &'x Paths<'r>,
    /// What serves it.
    pub(crate) target: Target<'x>,
    /// This process's number in digits.
    pub(crate) pid: &'x [u8],
    /// `WSGIIgnoreActivity`
    pub(crate) ignore_activity: bool,
}

/// Has a process of the group answer a request.
pub(crate) fn answer<'r>(
    request: &mut Request<'r>,
    task: &Task<'_, 'r>,
    link: &GroupLink,
) -> Verdict {
    let mut client = HttpClient::new(request, task, link);
    let outcome = relay::serve(&mut client, link);
    client.settle(outcome)
}

/// A response that begins or goes on has nobody who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gone;
