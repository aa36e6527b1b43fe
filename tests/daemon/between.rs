//! Stands between httpd's children and a daemon process: what they say to each other goes through a thread of the
//! test, frame by frame, which kills the process before the one that is chosen.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use engine::os::{Arrival, Inbound, Rights, Wait, event, socket};
use engine::wire::message::{Kind, from_child, from_daemon};

use crate::harness::{DEADLINE, Server, tools, wait_for};
use crate::processes::{files, wait_for_daemons, wait_for_end};

/// Makes a connection as the user that daemon processes take for httpd, and hands it over on its standard output.
const CONNECT: &str = "import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
socket.send_fds(socket.socket(fileno=1), [b'.'], [connection.fileno()])
";

/// In the place of the listener of a server's only group.
pub(crate) struct Between<'s> {
    server: &'s Server,
    listener: UnixListener,
    /// Where the group's own listener is now, and whose it is.
    group: PathBuf,
    user: u32,
    talk: Mutex<Talk>,
    /// Closed when the test is over.
    over: UnixStream,
}

/// What has been said since [`Between::listen`].
#[derive(Default)]
struct Talk {
    frames: Vec<Kind>,
    /// Before which frame the process is killed, and which one it was.
    deadly: Option<usize>,
    victim: Option<u32>,
}

impl Talk {
    /// How many of so many frames there will be: those of a request that is sent again are counted from its start.
    fn bound(&self, count: usize) -> usize {
        self.deadly.filter(|deadly| *deadly > 0).map_or(count, |deadly| deadly.min(count))
    }
}

impl<'s> Between<'s> {
    /// Takes the place of the group's listener. The second has [`Between::run`] return when it is dropped.
    pub(crate) fn put(server: &'s Server) -> (Self, UnixStream) {
        let run = server.path("run");
        let names = files(&run);
        let folder = run.join(names.iter().find(|name| name.starts_with("wsgi")).expect("sockets"));
        let [name] = &files(&folder)[..] else { panic!("not one socket in {}", folder.display()) };
        let (path, group) = (folder.join(name), run.join("group.sock"));
        fs::rename(&path, &group).expect("move the listener");
        let user = fs::metadata(&group).expect("the listener").uid();
        // Children connect to nobody but the user who runs httpd.
        let listener = UnixListener::bind(&path).expect("listen");
        chown(&path, Some(user), None).expect("give the listener to httpd's user");
        let (over, ending) = UnixStream::pair().expect("two sockets");
        (Self { server, listener, group, user, talk: Mutex::default(), over }, ending)
    }

    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().expect("nobody panics meanwhile")
    }

    /// Counts frames from the next one on, and kills the process before the one of this number.
    pub(crate) fn listen(&self, deadly: Option<usize>) {
        *self.talk() = Talk { deadly, ..Talk::default() };
    }

    /// The frames that have been passed on.
    pub(crate) fn frames(&self) -> Vec<Kind> {
        self.talk().frames.clone()
    }

    /// The process that was killed before the frame that was chosen.
    #[track_caller]
    pub(crate) fn victim(&self) -> u32 {
        wait_for(DEADLINE, || self.talk().victim).expect("nobody was killed")
    }

    /// Waits until so many frames have been passed on, or there will be no more.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        let passed = wait_for(DEADLINE, || {
            let talk = self.talk();
            (talk.frames.len() >= talk.bound(count)).then_some(())
        });
        assert!(passed.is_some(), "{:?} and no more", self.frames());
    }

    /// Kills the process, and waits until everybody who asks is told so.
    pub(crate) fn kill(&self) -> u32 {
        let victim = wait_for_daemons(self.server, 1, &[])[0];
        tools::signal(victim, "KILL");
        wait_for_end(&[victim]);
        self.server.expect_log(&format!("process {victim} of group 'tests' was ended by SIGKILL"));
        victim
    }

    /// Carries connections until the test is over.
    pub(crate) fn run(&self) {
        thread::scope(|scope| {
            let watched = [self.listener.as_fd(), self.over.as_fd()];
            while event::wait(&watched, None).expect("wait") & 2 == 0 {
                let (child, _) = self.listener.accept().expect("a connection");
                scope.spawn(move || self.carry(&child, &self.connect()));
            }
        });
    }

    fn connect(&self) -> OwnedFd {
        let (ours, theirs) = socket::pair().expect("two sockets");
        let status = Command::new("/usr/bin/python3")
            .args(["-c", CONNECT])
            .arg(&self.group)
            .uid(self.user)
            .stdout(Stdio::from(theirs))
            .status();
        assert!(status.is_ok_and(|status| status.success()), "no connection");
        let mut rights = Rights::new(1);
        socket::receive(ours.as_fd(), &mut [0], &mut rights, Wait::Yes).expect("a connection");
        rights.take().expect("a connection")
    }

    /// Both close when this returns, with what has not been received: the other side sees what it would see of the
    /// process itself.
    fn carry(&self, child: &UnixStream, process: &OwnedFd) {
        let (child, process) = (child.as_fd(), process.as_fd());
        let mut said = [Inbound::new(from_child, 1), Inbound::new(from_daemon, 1)];
        loop {
            let watched = [child, process, self.over.as_fd()];
            let ready = event::wait(&watched, None).expect("wait");
            if ready & 4 != 0 {
                return;
            }
            for (index, (from, to)) in [(child, process), (process, child)].into_iter().enumerate()
            {
                let there = ready & (1 << index) != 0;
                if there && !self.pass(&mut said[index], from, to, index == 0) {
                    return;
                }
            }
        }
    }

    /// Passes on what is there. `false`: that was all.
    fn pass(
        &self,
        said: &mut Inbound,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        of_child: bool,
    ) -> bool {
        // What a child says is left where it is, as the process has not received it.
        if of_child && self.ends() {
            return false;
        }
        if !matches!(said.receive(from, Wait::No), Ok(Arrival::Bytes)) {
            return false;
        }
        while let Some((whole, descriptor)) = said.take().expect("a frame") {
            let frame = whole.frame();
            let kind = Kind::try_from(frame.header.kind).expect("a kind");
            // The greeting comes together with the first request. What the process says before that is the end of the
            // conversation before, which the child has not waited for.
            let counts = kind != Kind::Hello && (of_child || !self.talk().frames.is_empty());
            if counts && self.ends() {
                return false;
            }
            if counts {
                self.talk().frames.push(kind);
            }
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            let bytes = [&frame.header.encode()[..], frame.payload];
            if socket::send(to, &bytes, &descriptors, Wait::Yes).is_err() {
                return false;
            }
            said.give_back(whole);
        }
        true
    }

    /// Whether the next frame is the deadly one; the process is dead then.
    fn ends(&self) -> bool {
        let ends = {
            let talk = self.talk();
            talk.victim.is_none() && talk.deadly == Some(talk.frames.len())
        };
        if ends {
            let victim = self.kill();
            self.talk().victim = Some(victim);
        }
        ends
    }
}
