//! A supervisor under test: this side plays httpd's parent and its children.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use engine::os::memory::memory_file;
use engine::os::news::{self, News, Teller};
use engine::os::socket::{self, Rights, Wait};
use engine::wire::control::{
    Configure, FromParent, GroupPlan, Life, Limits, Mount, PythonPlan, Server, Setup, Timeouts,
    ToParent, Variable, to_parent,
};
use engine::wire::{Decoder, Secret};
use tempfile::TempDir;

/// How long anything may take that has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// Descriptors that the supervisor is started with and does not want.
const LEFT_OPEN: [i32; 2] = [7, 50];

const PROGRAM: &str = env!("CARGO_BIN_EXE_mod_wsgi_supervisor");

/// A running supervisor and what belongs to it.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    /// What daemon processes execute.
    pub(crate) python: PathBuf,
    board: File,
    news: File,
    /// What httpd's children are told.
    pub(crate) told: News,
    engine: File,
    log: File,
    /// What the next configuration says of it.
    pub(crate) log_level: u8,
    lines: Receiver<String>,
    control: Option<OwnedFd>,
    decoder: Decoder,
    program: Option<Child>,
}

/// A listening socket, and the way to it.
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut bench = Self::idle();
        bench.start();
        bench
    }

    /// Everything but the supervisor.
    pub(crate) fn idle() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Processes of other users have to come here.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let python = folder.path().join("python");
        let fake = Path::new(PROGRAM).with_file_name("examples").join("fake_daemon");
        fs::copy(&fake, &python).unwrap_or_else(|error| {
            panic!("{} (made by cargo build --examples): {error}", fake.display())
        });
        let news = news::new().unwrap();
        // Makes it as long as it has to be, as httpd's parent does.
        Teller::open(&news).unwrap();
        let engine = folder.path().join("engine.so");
        fs::write(&engine, "the engine").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self {
            python,
            board: memory_file(c"board").unwrap(),
            told: News::open(&news).unwrap(),
            news,
            engine: File::open(engine).unwrap(),
            folder,
            log: OwnedFd::from(writer).into(),
            log_level: 2,
            lines,
            control: None,
            decoder: Decoder::new(to_parent),
            program: None,
        }
    }

    /// Starts a supervisor, with the board of the one before.
    pub(crate) fn start(&mut self) {
        let theirs = self.connect();
        let mut command = Command::new(PROGRAM);
        self.give(&mut command, theirs.as_raw_fd());
        self.program = Some(command.spawn().unwrap());
    }

    /// Starts a supervisor that may neither raise priorities nor limits, as in a container, with a limit of 512 MiB
    /// for data.
    pub(crate) fn start_confined(&mut self) {
        let theirs = self.connect();
        let drop = if is_root() {
            "setpriv --bounding-set -sys_nice,-sys_resource --inh-caps -sys_nice,-sys_resource"
        } else {
            ""
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -d 524288 && exec {drop} \"$0\""), PROGRAM]);
        self.give(&mut command, theirs.as_raw_fd());
        self.program = Some(command.spawn().unwrap());
    }

    /// Starts a supervisor as the child of a shell, which is given back.
    pub(crate) fn start_under_shell(&mut self) -> Child {
        let theirs = self.connect();
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" & echo $! >&2; wait", PROGRAM]);
        self.give(&mut command, theirs.as_raw_fd());
        command.spawn().unwrap()
    }

    fn connect(&mut self) -> OwnedFd {
        let (ours, theirs) = socket::pair().unwrap();
        socket::set_receive_timeout(ours.as_fd(), Some(DEADLINE)).unwrap();
        self.decoder = Decoder::new(to_parent);
        self.control = Some(ours);
        theirs
    }

    /// Lets a command have the descriptors of a supervisor.
    fn give(&self, command: &mut Command, control: i32) {
        let sources =
            [control, self.board.as_raw_fd(), self.engine.as_raw_fd(), self.news.as_raw_fd()];
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(self.log.try_clone().unwrap());
        let arrange = move || {
            // Out of the way first: they may be among the numbers that are overwritten.
            // SAFETY: takes numbers, between fork and exec.
            let high = sources.map(|fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100) });
            for (target, source) in (3..).zip(high) {
                // SAFETY: as above.
                if unsafe { libc::dup2(source, target) } == -1 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            // What a program of httpd's parent could have left open, and what the supervisor has to
            // close.
            for number in LEFT_OPEN {
                // SAFETY: as above.
                unsafe { libc::dup2(3, number) };
            }
            Ok(())
        };
        // SAFETY: makes system calls only.
        unsafe { command.pre_exec(arrange) };
    }

    /// Tells httpd's children something, as its parent does where there is no supervisor.
    pub(crate) fn tell_children(&self, group: u64, kind: news::Kind, text: &str) {
        Teller::open(&self.news).unwrap().tell(group, kind, text);
    }

    /// Waits until what httpd's children are told of a group is as it shall be.
    pub(crate) fn await_news(&self, mut is_told: impl FnMut(&News) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_told(&self.told) {
            assert!(Instant::now() < deadline, "nothing of the kind is told");
            std::thread::yield_now();
        }
    }

    /// The supervisor's process id.
    pub(crate) fn program(&self) -> u32 {
        self.program.as_ref().unwrap().id()
    }

    /// A new listening socket.
    pub(crate) fn door(&self, name: &str) -> Door {
        let path = self.folder.path().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        Door { listener, path }
    }

    /// A plan with one process, which is ready at once.
    pub(crate) fn plan(&self, name: &str, id: u64) -> GroupPlan {
        let life = Life {
            graceful: Some(Duration::from_secs(10)),
            shutdown: Some(Duration::from_secs(5)),
            ..Life::default()
        };
        GroupPlan {
            name: name.to_owned(),
            id,
            processes: 1,
            python: self.python.to_str().unwrap().to_owned(),
            user: None,
            umask: None,
            cwd: None,
            chroot: None,
            env: Vec::new(),
            limits: Limits::default(),
            nice: None,
            life: life.clone(),
            setup: Setup {
                group: name.to_owned(),
                group_id: id,
                build: engine::BUILD,
                secret: Secret::new([1; 32]),
                peer_uid: 0,
                processes: 1,
                threads: 5,
                alone: false,
                stack_size: None,
                display_name: None,
                locale: None,
                home: None,
                python: PythonPlan::default(),
                timeouts: Timeouts::default(),
                life,
                mounts: Vec::new(),
                import_scripts: Vec::new(),
                server: Server::default(),
            },
        }
    }

    pub(crate) fn tell(&mut self, what: &FromParent, descriptor: Option<&dyn AsFd>) {
        let mut frame = Vec::new();
        what.encode(&mut frame).unwrap();
        let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
        let control = self.control.as_ref().unwrap();
        socket::send(control.as_fd(), &[&frame], &descriptors, Wait::Yes).unwrap();
    }

    /// Tells a configuration and gives the answer. Groups that run already are replaced, as by a reload of httpd.
    pub(crate) fn configure(
        &mut self,
        generation: u64,
        groups: &[(&GroupPlan, &Door)],
    ) -> ToParent {
        self.configure_with(generation, true, groups)
    }

    /// As [`Bench::configure`], with a say in whether groups that run already are replaced.
    pub(crate) fn configure_with(
        &mut self,
        generation: u64,
        reload: bool,
        groups: &[(&GroupPlan, &Door)],
    ) -> ToParent {
        let count = u32::try_from(groups.len()).unwrap();
        let log = self.log.try_clone().unwrap();
        let log_level = self.log_level;
        let configure = Configure { generation, groups: count, reload, log_level, syslog: None };
        self.tell(&FromParent::Configure(configure), Some(&log));
        for (plan, door) in groups {
            let plan = FromParent::Group(Box::new((*plan).clone()));
            self.tell(&plan, Some(&door.listener));
        }
        self.told()
    }

    /// Tells a configuration with one group, which nobody can connect to.
    pub(crate) fn serve_nowhere(&mut self, generation: u64, plan: &GroupPlan) {
        let log = self.log.try_clone().unwrap();
        let log_level = self.log_level;
        let configure = Configure { generation, groups: 1, reload: true, log_level, syslog: None };
        self.tell(&FromParent::Configure(configure), Some(&log));
        let nothing = File::open("/dev/null").unwrap();
        self.tell(&FromParent::Group(Box::new(plan.clone())), Some(&nothing));
        assert_eq!(self.told(), ToParent::Configured(generation));
    }

    /// As [`Bench::configure`], for a configuration that is taken.
    pub(crate) fn serve(&mut self, generation: u64, groups: &[(&GroupPlan, &Door)]) {
        assert_eq!(self.configure(generation, groups), ToParent::Configured(generation));
    }

    /// The next thing that the supervisor says.
    pub(crate) fn told(&mut self) -> ToParent {
        loop {
            if let Some(frame) = self.decoder.frame().unwrap() {
                return ToParent::decode(&frame).unwrap();
            }
            let control = self.control.as_ref().unwrap();
            let space = self.decoder.space();
            let count =
                socket::receive(control.as_fd(), space, &mut Rights::new(0), Wait::Yes).unwrap();
            assert_ne!(count, 0, "the supervisor closed its control socket");
            self.decoder.filled(count);
        }
    }

    /// Closes the control socket.
    pub(crate) fn hang_up(&mut self) {
        self.control = None;
    }

    /// Waits for a line of the log that contains all of this, and gives it.
    pub(crate) fn expect_log(&self, parts: &[&str]) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{parts:?} is not in the log:\n{}", seen.join("\n"));
            };
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            seen.push(line);
        }
    }

    /// The lines of the log so far that were not looked at.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Ends everything at once, and the supervisor with it.
    pub(crate) fn stop(&mut self) {
        self.tell(&FromParent::Stop { graceful: false }, None);
        assert_eq!(self.told(), ToParent::Stopped);
        assert!(self.ended().success());
    }

    /// Waits for the supervisor's end.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        let mut program = self.program.take().unwrap();
        assert!(Watch::new(program.id()).ended_within(DEADLINE), "the supervisor does not end");
        program.wait().unwrap()
    }

    /// Kills the supervisor.
    pub(crate) fn kill(&mut self) {
        let mut program = self.program.take().unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The end of the control socket ends the supervisor, and with it its processes.
        self.control = None;
        if let Some(mut program) = self.program.take() {
            if !Watch::new(program.id()).ended_within(DEADLINE) {
                let _ = program.kill();
            }
            let _ = program.wait();
        }
        if std::thread::panicking() {
            eprintln!("log:\n{}", self.log().join("\n"));
        }
    }
}

impl Door {
    /// Asks whatever serves here.
    pub(crate) fn ask(&self, what: &str) -> String {
        let mut connection = self.knock(what);
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Says something to whatever serves here.
    pub(crate) fn knock(&self, what: &str) -> UnixStream {
        let mut connection = UnixStream::connect(&self.path).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(format!("{what}\n").as_bytes()).unwrap();
        connection
    }

    /// The process that serves here.
    pub(crate) fn pid(&self) -> u32 {
        self.ask("pid").parse().unwrap()
    }

    /// Asks until another process than that one serves, and gives it. Every question has to be
    /// answered.
    pub(crate) fn other_than(&self, old: u32) -> u32 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let pid = self.pid();
            if pid != old {
                return pid;
            }
            assert!(Instant::now() < deadline, "process {old} serves and is not replaced");
        }
    }
}

/// A process that is looked at.
pub(crate) struct Watch(Option<OwnedFd>);

impl Watch {
    pub(crate) fn new(pid: u32) -> Self {
        // SAFETY: takes numbers.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let descriptor = i32::try_from(descriptor).unwrap();
        // SAFETY: new, and nobody else's.
        Self((descriptor != -1).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    pub(crate) fn ended_within(&self, time: Duration) -> bool {
        let Some(descriptor) = &self.0 else { return true };
        let mut entry =
            libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time = i32::try_from(time.as_millis()).unwrap();
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut entry, 1, time) == 1 }
    }
}

/// `NAME=value`, for a plan.
pub(crate) fn variable(name: &str, value: &str) -> Variable {
    Variable { name: name.to_owned(), value: value.to_owned() }
}

/// A mount that is loaded before a process serves.
pub(crate) fn mount(path: &Path) -> Mount {
    Mount {
        id: 1,
        path: path.to_str().unwrap().to_owned(),
        application_group: String::new(),
        callable: "application".to_owned(),
        preload: true,
        reloading: true,
    }
}

/// Whether this test may become other users.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing.
    unsafe { libc::geteuid() == 0 }
}
