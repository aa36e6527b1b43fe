//! The daemon process groups that a child can hand requests to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::remote::{self, Pool};
use crate::daemon::link::{self, GroupLink};

/// `Retry-After` of a 503, in seconds. A queue that is full has room again in no time; a group that
/// cannot start is tried again in seconds.
const RETRY_AFTER: u32 = 1;

/// How long a process may be silent where neither `socket-timeout=` nor `Timeout` says so.
const SILENCE: Duration = Duration::from_secs(60);

/// How much later than a process itself a child acts on a request that takes too long.
const GRACE: Duration = Duration::from_secs(10);

/// One group.
pub(crate) struct Group {
    /// What is configured.
    pub(crate) link: &'static GroupLink,
    /// The way to it.
    pub(crate) remote: remote::GroupLink,
    former: Option<Box<Former>>,
}

/// The group of the same name in the configuration before.
struct Former {
    group: Group,
    /// Whether the new one serves by now.
    over: AtomicBool,
}

/// The groups of this child by their names. To be called when the child has started.
pub(crate) fn groups() -> BTreeMap<&'static str, Group> {
    link::all().map(|link| (link.name.as_str(), Group::new(link))).collect()
}

fn reach(link: &GroupLink) -> remote::GroupLink {
    let process = &link.process;
    let capacity = link.capacity();
    // Without a bound on waiting, none on both together.
    let patience = process
        .request_timeout()
        .zip(process.queue_timeout())
        .map(|(run, wait)| run + wait + process.interrupt_timeout().unwrap_or_default() + GRACE);
    remote::GroupLink {
        id: link.id,
        name: link.name.clone(),
        socket: link.socket.clone(),
        build: link.build,
        secret: link.secret.clone(),
        listener_uid: link.listener_uid,
        capacity,
        waiting: usize::try_from(process.queue_limit()).unwrap_or(usize::MAX),
        connect_timeout: process.connect_timeout(),
        socket_timeout: link.socket_timeout.unwrap_or(SILENCE),
        write_timeout: process.response_socket_timeout(),
        patience,
        request_buffering: process.request_buffering(),
        response_buffering: process.response_buffering(),
        spool_directory: std::env::temp_dir(),
        retry_after: RETRY_AFTER,
        reason: link::ended,
        down: link::down,
        pool: Pool::new(capacity),
    }
}

impl Group {
    fn new(link: &'static GroupLink) -> Self {
        let former = link
            .former
            .as_deref()
            .map(|link| Box::new(Former { group: Self::new(link), over: AtomicBool::new(false) }));
        Self { link, remote: reach(link), former }
    }

    /// The group that serves an application now. It is the one of this name before as long as this one has nobody
    /// who serves, if that has the application, too: a request does not wait for an import because of a reload.
    pub(crate) fn serving(&self, has: impl Fn(&GroupLink) -> bool) -> &Self {
        let Some(former) = &self.former else { return self };
        if former.over.load(Ordering::Relaxed) {
            return self;
        }
        if !link::pending(self.link.id) {
            former.over.store(true, Ordering::Relaxed);
            return self;
        }
        if has(former.group.link) { &former.group } else { self }
    }

    /// Why `script-user=` or `script-group=` forbids this script, in words; `None` if it may run.
    pub(crate) fn forbids(&self, script: &Path) -> Option<String> {
        let (user, group) = (self.link.script_user, self.link.script_group);
        if user.is_none() && group.is_none() {
            return None;
        }
        let name = &self.link.name;
        let folder = script.parent().unwrap_or(Path::new("/"));
        [script, folder].into_iter().find_map(|path| {
            let shown = path.display();
            let found = match fs::metadata(path) {
                Ok(found) => found,
                Err(error) => return Some(format!("{shown} cannot be looked at: {error}")),
            };
            if let Some(user) = user.filter(|user| *user != found.uid()) {
                let owner = found.uid();
                return Some(format!(
                    "{shown} belongs to user {owner}, not to user {user} (script-user= of process \
                     group '{name}')"
                ));
            }
            if let Some(group) = group.filter(|group| *group != found.gid()) {
                let owner = found.gid();
                return Some(format!(
                    "{shown} belongs to group {owner}, not to group {group} (script-group= of \
                     process group '{name}')"
                ));
            }
            // Who may write to it may make it run anything as the group's user.
            let others = if user.is_some() { 0o022 } else { 0o002 };
            (found.mode() & others != 0).then(|| {
                format!(
                    "{shown} can be written to by others than its owner, see script-user= and \
                         script-group= of process group '{name}'"
                )
            })
        })
    }
}
