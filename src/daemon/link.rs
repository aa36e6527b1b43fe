//! What a child of httpd knows of the groups of its configuration.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use engine::os::news::News;
use engine::settings::DaemonProcess;
use engine::wire::control::Mount;
use engine::wire::{BuildId, Secret};

use super::plan::Planned;

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct GroupLink {
    /// Its name.
    pub(crate) name: String,
    /// Its fingerprint.
    pub(crate) id: u64,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// The build of this module, which has to be that of the processes.
    pub(crate) build: BuildId,
    /// What proves to the processes that this is httpd.
    pub(crate) secret: Secret,
    /// The user who has to have made the listener.
    pub(crate) listener_uid: u32,
    /// What is written, without secrets; its accessors say what holds.
    pub(crate) process: DaemonProcess,
    /// `socket-timeout=`, or httpd's `Timeout`.
    pub(crate) socket_timeout: Option<Duration>,
    /// Whether an application without an explicit interpreter runs in the main one.
    pub(crate) main_interpreter: bool,
    /// The only user whose scripts are run.
    pub(crate) script_user: Option<u32>,
    /// The only group whose scripts are run.
    pub(crate) script_group: Option<u32>,
    /// The group of this name in the configuration before, if this one takes its place and might not serve yet.
    pub(crate) former: Option<Box<Self>>,
    server: Option<String>,
    mounts: Vec<Mount>,
}

impl GroupLink {
    pub(super) fn new(planned: &Planned, socket: PathBuf, secret: Secret, uid: u32) -> Self {
        let setup = &planned.plan.setup;
        Self {
            name: planned.plan.name.clone(),
            id: planned.plan.id,
            socket,
            build: setup.build,
            secret,
            listener_uid: uid,
            process: planned.process.clone(),
            socket_timeout: planned.socket_timeout,
            main_interpreter: planned.main_interpreter,
            script_user: planned.script_user,
            script_group: planned.script_group,
            former: None,
            server: planned.server.clone(),
            mounts: setup.mounts.clone(),
        }
    }

    /// Takes note of the group that had its name in the configuration before, as it was known then. Its processes
    /// serve until those of this one do, where they have the same application: httpd ends children of the
    /// configuration before at once, so their successors are there long before new processes can be.
    pub(super) fn succeed(&mut self, before: &Self, news: &News) {
        let former = if before.id != self.id && !news.pending(before.id) {
            Some(Self { former: None, ..before.clone() })
        } else {
            before.former.as_deref().cloned()
        };
        self.former = former.map(Box::new);
    }

    /// The number of an application that the processes have loaded from the start; `None` for one that
    /// they have to be told the path of. The path is the one that httpd sees.
    pub(crate) fn mount(
        &self,
        path: &[u8],
        application_group: &str,
        callable: &str,
    ) -> Option<u64> {
        let path = self.inside(path)?;
        let found = self.mounts.iter().find(|mount| {
            mount.path.as_bytes() == path
                && mount.application_group == application_group
                && mount.callable == callable
        });
        found.map(|mount| mount.id)
    }

    /// A path as the processes see it; `None` if it is outside their `chroot=`.
    pub(crate) fn inside<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let Some(root) = &self.process.chroot else { return Some(path) };
        let rest = path.strip_prefix(root.trim_end_matches('/').as_bytes())?;
        rest.starts_with(b"/").then_some(rest)
    }

    /// Whether requests of a virtual host of this name may use the group.
    pub(crate) fn is_for(&self, server: &str) -> bool {
        self.server.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(server))
    }

    /// Most requests that run at the same time.
    pub(crate) fn capacity(&self) -> usize {
        let threads = u64::from(self.process.processes()) * u64::from(self.process.threads());
        usize::try_from(threads).unwrap_or(usize::MAX)
    }
}

/// All groups of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(super) groups: BTreeMap<String, GroupLink>,
    pub(super) news: Option<Arc<News>>,
    /// As long as any child holds this, the parent keeps what belongs to the configuration.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) lease: Option<UnixStream>,
}

/// How long a request whose connection broke waits to be told why.
const PATIENCE: Duration = Duration::from_millis(250);

/// Set in children only, once.
static LINKS: OnceLock<Links> = OnceLock::new();

/// A child has started: these are its groups.
pub(super) fn keep(links: Links) {
    LINKS.get_or_init(|| links);
}

/// All groups that serve requests, in a child.
pub(crate) fn all() -> impl Iterator<Item = &'static GroupLink> {
    LINKS.get().into_iter().flat_map(|links| links.groups.values())
}

/// Why a process of a group has ended, if one has since then that was not meant to. Waits a moment for the news: a
/// connection breaks before its process has ended, and the supervisor sees it after that.
pub(crate) fn ended(group: u64, since: SystemTime) -> Option<String> {
    heard(LINKS.get()?.news.as_ref()?, group, since)
}

/// Whether a group takes the place of another of its name, and does not serve yet.
pub(crate) fn pending(group: u64) -> bool {
    let news = LINKS.get().and_then(|links| links.news.as_ref());
    news.is_some_and(|news| news.pending(group))
}

fn heard(news: &News, group: u64, since: SystemTime) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let reason = news.ended(group, since);
        let left = deadline.saturating_duration_since(Instant::now());
        if reason.is_some() || left.is_zero() {
            return reason;
        }
        thread::sleep(pause.min(left));
        pause *= 2;
    }
}

/// Why no process of a group can be started, if that is so.
pub(crate) fn down(group: u64) -> Option<String> {
    LINKS.get()?.news.as_ref()?.down(group)
}

#[cfg(test)]
mod tests {
    use engine::os::news::{self, Kind, Teller};

    use super::*;

    fn link(chroot: Option<&str>, server: Option<&str>) -> GroupLink {
        let mount = Mount {
            id: 7,
            path: "/srv/a.wsgi".to_owned(),
            application_group: "x".to_owned(),
            callable: "application".to_owned(),
            preload: true,
            reloading: true,
        };
        GroupLink {
            name: "blog".to_owned(),
            id: 1,
            socket: PathBuf::from("/run/1.sock"),
            build: [0; 32],
            secret: Secret::new([0; 32]),
            listener_uid: 0,
            process: DaemonProcess {
                chroot: chroot.map(str::to_owned),
                processes: Some(2),
                ..DaemonProcess::default()
            },
            socket_timeout: None,
            main_interpreter: false,
            script_user: None,
            script_group: None,
            former: None,
            server: server.map(str::to_owned),
            mounts: vec![mount],
        }
    }

    #[test]
    fn a_mount_is_known_by_all_that_is_in_it() {
        let plain = link(None, None);
        assert_eq!(plain.mount(b"/srv/a.wsgi", "x", "application"), Some(7));
        assert_eq!(plain.mount(b"/srv/b.wsgi", "x", "application"), None);
        assert_eq!(plain.mount(b"/srv/a.wsgi", "", "application"), None);
        assert_eq!(plain.mount(b"/srv/a.wsgi", "x", "app"), None);
        let jailed = link(Some("/jail/"), None);
        assert_eq!(jailed.mount(b"/jail/srv/a.wsgi", "x", "application"), Some(7));
        assert_eq!(jailed.mount(b"/srv/a.wsgi", "x", "application"), None);
        assert_eq!(jailed.inside(b"/jailbreak"), None);
    }

    #[test]
    fn news_may_come_a_little_later() {
        let file = news::new().unwrap();
        let (teller, news) = (Teller::open(&file).unwrap(), News::open(&file).unwrap());
        let since = SystemTime::now();
        assert_eq!(heard(&news, 7, since), None);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| heard(&news, 7, since));
            teller.tell(7, Kind::Ended, "process 9 exited");
            assert_eq!(asked.join().unwrap().as_deref(), Some("process 9 exited"));
        });
    }

    #[test]
    fn a_virtual_hosts_group_is_its_own() {
        assert!(link(None, None).is_for("anything"));
        let own = link(None, Some("www.example.org"));
        assert!(own.is_for("WWW.example.org") && !own.is_for("example.org"));
        assert_eq!(own.capacity(), 30);
    }
}
