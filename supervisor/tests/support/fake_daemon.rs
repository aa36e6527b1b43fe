//! A daemon process without Python: it speaks the status protocol as a daemon process does, and
//! serves by doing what a connection's first line says. Its environment says how it starts.

#![expect(unsafe_code, reason = "the descriptors and signals of a daemon process")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's program may die of what it does not expect"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use engine::os::socket::{self, Rights, Wait};
use engine::wire::Decoder;
use engine::wire::control::{FromDaemon, Life, Ready, Reason, Setup, Stats, ToDaemon, to_daemon};

fn main() {
    // Before this program opens anything.
    let birth = birth();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let signals = signals(variable("ON_TERM") == "ignore");
    // SAFETY: the two descriptors that a daemon process is started with; nobody else here has them.
    let (status, listener) = unsafe { (OwnedFd::from_raw_fd(3), UnixListener::from_raw_fd(4)) };
    if variable("ON_START") == "exit" {
        std::process::exit(3);
    }
    let mut daemon = Daemon {
        birth,
        status: Some(status),
        decoder: Decoder::new(to_daemon),
        listener: Some(listener),
        signals,
        setup: None,
        accepts: false,
        held: Vec::new(),
        children: Vec::new(),
    };
    while daemon.setup.is_none() {
        daemon.turn();
    }
    let broken = variable("BROKEN_IF");
    match fs::read_to_string(&broken) {
        Ok(text) if !broken.is_empty() => daemon.say(&FromDaemon::ImportFailed(text)),
        _ if variable("ON_START") == "hang" => {}
        _ => {
            let ready = Ready { major: 3, minor: 13, free_threaded: false, loaded: true };
            daemon.say(&FromDaemon::Ready(ready));
        }
    }
    if daemon.setup.as_ref().unwrap().threads == 0 {
        daemon.listener = None;
        let text = format!("service runs as {}", std::process::id());
        daemon.say(&FromDaemon::Log { level: 1, text });
        if variable("ON_SERVICE") == "return" {
            daemon.say(&FromDaemon::WantsReplacement(Reason::ScriptEnded));
            std::process::exit(0);
        }
    }
    loop {
        daemon.turn();
    }
}

struct Daemon {
    birth: Vec<String>,
    status: Option<OwnedFd>,
    decoder: Decoder,
    listener: Option<UnixListener>,
    signals: OwnedFd,
    setup: Option<Setup>,
    accepts: bool,
    /// Connections whose answer is held back until they say more.
    held: Vec<BufReader<UnixStream>>,
    children: Vec<std::process::Child>,
}

impl Daemon {
    /// Waits for something, and does it.
    fn turn(&mut self) {
        let mut list = vec![(self.signals.as_raw_fd(), 's')];
        list.extend(self.status.as_ref().map(|status| (status.as_raw_fd(), 'c')));
        if let Some(listener) = self.listener.as_ref().filter(|_| self.accepts) {
            list.push((listener.as_raw_fd(), 'l'));
        }
        list.extend(self.held.iter().map(|held| (held.get_ref().as_raw_fd(), 'h')));
        let mut polls: Vec<libc::pollfd> = list
            .iter()
            .map(|(fd, _)| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 })
            .collect();
        let life = self.setup.as_ref().map(|setup| &setup.life);
        let beat = life.and_then(Life::beat).map_or(-1, |beat| beat.as_millis() as i32);
        // SAFETY: as many entries as said.
        if unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, beat) } == 0 {
            self.say(&FromDaemon::Stats(Stats::default()));
        }
        let ready: Vec<_> = polls
            .iter()
            .zip(list)
            .filter(|(poll, _)| poll.revents != 0)
            .map(|(_, entry)| entry)
            .collect();
        for (fd, what) in ready {
            match what {
                's' => self.signalled(),
                'c' => self.told(),
                'l' => self.serve(),
                _ => self.finish(fd),
            }
        }
        if self.listener.is_none() && self.accepts && self.held.is_empty() {
            self.say(&FromDaemon::Retired);
            std::process::exit(0);
        }
    }

    fn signalled(&mut self) {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let mut file = fs::File::from(self.signals.try_clone().unwrap());
        file.read_exact(&mut info).unwrap();
        match i32::from_ne_bytes(*info.first_chunk().unwrap()) {
            libc::SIGUSR1 => self.listener = None,
            libc::SIGTERM => std::process::exit(0),
            other => panic!("signal {other}"),
        }
    }

    fn told(&mut self) {
        let Some(status) = self.status.as_ref() else { return };
        let space = self.decoder.space();
        let count = socket::receive(status.as_fd(), space, &mut Rights::new(0), Wait::Yes);
        match count {
            // Life goes on without a supervisor for those that take requests.
            Ok(0) | Err(_) if self.accepts => {
                self.status = None;
                return;
            }
            Ok(0) | Err(_) => std::process::exit(1),
            Ok(count) => self.decoder.filled(count),
        }
        while let Some(frame) = self.decoder.frame().unwrap() {
            match ToDaemon::decode(&frame).unwrap() {
                ToDaemon::Setup(setup) => self.setup = Some(*setup),
                ToDaemon::Accept => self.accepts = true,
                ToDaemon::Stay => {}
                ToDaemon::Retire { .. } => self.listener = None,
            }
        }
    }

    fn serve(&mut self) {
        let Some(listener) = &self.listener else { return };
        listener.set_nonblocking(true).unwrap();
        // Another process of the group may have been faster.
        let Ok((connection, _)) = listener.accept() else { return };
        connection.set_nonblocking(false).unwrap();
        let mut connection = BufReader::new(connection);
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let (command, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let answer = match command {
            "pid" => std::process::id().to_string(),
            "facts" => facts(&self.birth, self.setup.as_ref().unwrap()),
            "hold" => {
                connection.get_mut().write_all(b"held\n").unwrap();
                self.held.push(connection);
                return;
            }
            "child" => {
                // Deaf to SIGTERM, as a child that was forked and not executed may be.
                let script = "trap '' TERM; echo; exec sleep 1000";
                let mut child = std::process::Command::new("/bin/sh")
                    .args(["-c", script])
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
                let pid = child.id().to_string();
                self.children.push(child);
                pid
            }
            "want" => {
                self.say(&FromDaemon::WantsReplacement(Reason::MaximumRequests));
                std::process::id().to_string()
            }
            "log" => {
                self.say(&FromDaemon::Log { level: 1, text: rest.to_owned() });
                String::new()
            }
            "write" => {
                std::io::stderr().write_all(rest.replace("\\n", "\n").as_bytes()).unwrap();
                String::new()
            }
            "leave" => {
                // Speaks when the file is there.
                let script = "until [ -e \"$0\" ]; do sleep 0.01; done; printf left >&2; rm \"$0\"";
                let child =
                    std::process::Command::new("/bin/sh").args(["-c", script, rest]).spawn();
                self.children.push(child.unwrap());
                String::new()
            }
            "stuck" => {
                let stuck_ms = rest.parse().unwrap();
                self.say(&FromDaemon::Stats(Stats { stuck_ms, ..Stats::default() }));
                String::new()
            }
            "garbage" => {
                let status = self.status.as_ref().unwrap();
                socket::send(status.as_fd(), &[&[0xff; 64]], &[], Wait::Yes).unwrap();
                String::new()
            }
            "silence" => {
                self.status = None;
                String::new()
            }
            "kill" => {
                let number = rest.parse().unwrap();
                // SAFETY: takes a number.
                unsafe {
                    libc::signal(number, libc::SIG_DFL);
                    libc::raise(number);
                }
                panic!("still alive");
            }
            other => panic!("no command {other}"),
        };
        let _ = connection.get_mut().write_all(answer.as_bytes());
    }

    /// Ends a connection that was held, once it says something or ends.
    fn finish(&mut self, fd: i32) {
        let index = self.held.iter().position(|held| held.get_ref().as_raw_fd() == fd).unwrap();
        let mut held = self.held.swap_remove(index);
        let mut line = String::new();
        held.read_line(&mut line).unwrap();
        let _ = held.get_mut().write_all(std::process::id().to_string().as_bytes());
    }

    fn say(&mut self, what: &FromDaemon) {
        let mut frame = Vec::new();
        what.encode(&mut frame).unwrap();
        let Some(status) = &self.status else { return };
        let _ = socket::send(status.as_fd(), &[&frame], &[], Wait::Yes);
    }
}

/// What the kernel says about this process before it has done anything, a line each.
fn birth() -> Vec<String> {
    let mut lines = Vec::new();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for name in ["Uid", "Gid", "Groups", "Umask", "SigIgn", "SigBlk", "CapPrm", "CapEff"] {
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        lines.push(line.replace('\t', " ").trim_end().to_owned());
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    for name in ["Max cpu time", "Max data size", "Max address space"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let mut descriptors: Vec<(i32, String)> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            // The listing is this function's own.
            (!target.contains("/proc/")).then_some((number, target))
        })
        .collect();
    descriptors.sort();
    lines.extend(descriptors.iter().map(|(number, target)| format!("fd {number} {target}")));
    lines
}

/// What this process knows about itself, a line each.
fn facts(birth: &[String], setup: &Setup) -> String {
    let mut lines = birth.to_vec();
    let here = std::env::current_dir().unwrap();
    lines.push(format!("cwd {}", here.display()));
    // SAFETY: takes numbers.
    let (group, nice) = unsafe { (libc::getpgrp(), libc::getpriority(libc::PRIO_PROCESS, 0)) };
    lines.push(format!("pgrp {group} pid {}", std::process::id()));
    lines.push(format!("nice {nice}"));
    for (name, value) in std::env::vars() {
        lines.push(format!("env {name}={value}"));
    }
    for argument in std::env::args().take(2) {
        lines.push(format!("arg {argument}"));
    }
    lines.push(format!("setup {} {}", setup.group, setup.threads));
    lines.join("\n")
}

/// Signals as something to read.
fn signals(ignore_term: bool) -> OwnedFd {
    // SAFETY: a set of our own; the descriptor is new.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        if ignore_term {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
        } else {
            libc::sigaddset(&raw mut set, libc::SIGTERM);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        assert_ne!(descriptor, -1);
        OwnedFd::from_raw_fd(descriptor)
    }
}
