//! A daemon process with this test as its supervisor and as httpd.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use engine::os::socket::{self, Wait};
use engine::os::{Arrival, Inbound};
use engine::wire::control::{
    self, FromDaemon, InterpreterPlan, Life, Mount, PythonPlan, Reason, Server, Setup, Timeouts,
    ToDaemon, Variable,
};
use engine::wire::message::{
    self, Ending, FromDaemon as Said, Kind, RequestBody, RequestStart, Target,
};
use engine::wire::order::DaemonOrder;
use engine::wire::{Batch, Secret};
use engine::wsgi::Key;
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const BUILD: [u8; 32] = engine::BUILD;
pub(crate) const SECRET: [u8; 32] = [1; 32];

/// The mount that every daemon has.
pub(crate) const MOUNT: u64 = 0xfeed_face_dead_beef;

/// The object that a daemon's Python loads.
pub(crate) fn object() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    // Beside the test, where it was built along with it; the one above may be of an earlier build.
    program.with_file_name("libmod_wsgi_engine.so")
}

/// Pythons to test with: the system's, and those under the prefixes that `MOD_WSGI_RS_PYTHONS` names and that were
/// built into `build/pythons`.
pub(crate) fn pythons() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        std::env::var_os("MOD_WSGI_RS_PYTHONS").iter().flat_map(std::env::split_paths).collect();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = package.parent().unwrap().join("build/pythons");
    prefixes.extend(fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()));
    prefixes.sort();
    let mut found = vec![system_python()];
    found.extend(prefixes.iter().map(|prefix| prefix.join("bin/python3")).filter(|python| {
        let enough = "import sys; sys.exit(sys.version_info < (3, 9))";
        Command::new(python).args(["-c", enough]).status().is_ok_and(|status| status.success())
    }));
    found
}

pub(crate) fn system_python() -> PathBuf {
    PathBuf::from("/usr/bin/python3")
}

/// A daemon that has not been started.
pub(crate) struct Plan {
    pub(crate) python: PathBuf,
    pub(crate) setup: Setup,
    pub(crate) folder: TempDir,
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: Vec<Variable>,
}

impl Plan {
    pub(crate) fn new(threads: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("app.wsgi");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/app.wsgi"), &script)
            .unwrap();
        fs::write(folder.path().join("small"), b"012small file").unwrap();
        fs::write(folder.path().join("large"), vec![b'L'; 1_000_003]).unwrap();
        for name in ["here", "go"] {
            let path = CString::new(folder.path().join(name).to_str().unwrap()).unwrap();
            // SAFETY: a text closed by NUL.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }, 0);
        }
        let setup = Setup {
            group: "shop".to_owned(),
            group_id: 5,
            build: BUILD,
            secret: Secret::new(SECRET),
            // SAFETY: no precondition.
            peer_uid: unsafe { libc::getuid() },
            processes: 3,
            threads,
            alone: false,
            stack_size: None,
            display_name: None,
            locale: None,
            home: None,
            python: PythonPlan {
                destroy_interpreter: true,
                case_sensitivity: true,
                interpreter: InterpreterPlan {
                    restrict_signal: Some(false),
                    ..InterpreterPlan::default()
                },
                ..PythonPlan::default()
            },
            timeouts: Timeouts { socket: Some(DEADLINE), ..Timeouts::default() },
            life: Life { shutdown: Some(Duration::from_secs(5)), ..Life::default() },
            mounts: vec![Mount {
                id: MOUNT,
                path: script.to_str().unwrap().to_owned(),
                application_group: String::new(),
                callable: "application".to_owned(),
                preload: true,
                reloading: true,
            }],
            import_scripts: Vec::new(),
            server: Server { multiprocess: true, ..Server::default() },
        };
        Self {
            python: system_python(),
            setup,
            folder,
            wrapper: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn script(&self, text: &str) {
        fs::write(self.path("app.wsgi"), text).unwrap();
    }

    /// Starts it and tells it what to be.
    pub(crate) fn start(self) -> Daemon {
        let socket_path = self.path("listener");
        let listener = UnixListener::bind(&socket_path).unwrap();
        fs::set_permissions(&socket_path, fs::Permissions::from_mode(0o777)).unwrap();
        let (ours, theirs) = socket::pair().unwrap();
        let engine = File::open(object()).expect("the engine's object is built");
        let errors = File::create(self.path("stderr")).unwrap();
        let high = |descriptor: &dyn AsRawFd| {
            // SAFETY: numbers only.
            let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) };
            assert!(copy >= 0);
            copy
        };
        // Here its output is a file, which has no reader to be kept.
        let output = File::open("/dev/null").unwrap();
        let numbers = [high(&theirs), high(&listener), high(&engine), high(&output)];
        let python = self.python.to_str().unwrap();
        let call = engine::worker::call(python, &self.setup.python, &self.environment);
        let program = self.wrapper.first().map_or_else(|| self.python.clone(), PathBuf::from);
        let mut command = Command::new(program);
        command.args(self.wrapper.iter().skip(1));
        if !self.wrapper.is_empty() {
            command.arg(&self.python);
        }
        command
            .args(&call.arguments[1..])
            .env_clear()
            .envs(call.environment.into_iter().map(|variable| (variable.name, variable.value)))
            .stdin(Stdio::null())
            .stdout(errors.try_clone().unwrap())
            .stderr(errors);
        // SAFETY: system calls only between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for (target, source) in (3..).zip(numbers) {
                    if libc::dup2(source, target) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(theirs);
        for number in numbers {
            // SAFETY: made above, and nobody else has it.
            unsafe { libc::close(number) };
        }
        let mut frame = Vec::new();
        ToDaemon::Setup(Box::new(self.setup.clone())).encode(&mut frame).unwrap();
        socket::send(ours.as_fd(), &[&frame], &[], Wait::Yes).unwrap();
        let (sender, heard) = mpsc::channel();
        let receiving = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut inbound = Inbound::new(control::from_daemon, 0);
            loop {
                match inbound.frame().unwrap() {
                    Some((frame, _)) => {
                        if sender.send(FromDaemon::decode(&frame).unwrap()).is_err() {
                            return;
                        }
                    }
                    None => match inbound.receive(receiving.as_fd(), Wait::Yes) {
                        Ok(Arrival::Bytes) => {}
                        Ok(Arrival::End { .. }) | Err(_) => return,
                    },
                }
            }
        });
        Daemon {
            child,
            status: Some(ours),
            heard,
            log: Vec::new(),
            plan: self,
            socket_path,
            _listener: listener,
        }
    }

    /// Starts it and has it take requests.
    pub(crate) fn serve(self) -> Daemon {
        let mut daemon = self.start();
        daemon.ready();
        daemon.tell(&ToDaemon::Accept);
        daemon
    }
}

/// A daemon process.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) status: Option<OwnedFd>,
    heard: Receiver<FromDaemon>,
    /// What it has said for the log.
    pub(crate) log: Vec<String>,
    pub(crate) plan: Plan,
    pub(crate) socket_path: PathBuf,
    _listener: UnixListener,
}

impl Daemon {
    pub(crate) fn tell(&self, what: &ToDaemon) {
        let mut frame = Vec::new();
        what.encode(&mut frame).unwrap();
        let status = self.status.as_ref().unwrap();
        socket::send(status.as_fd(), &[&frame], &[], Wait::Yes).unwrap();
    }

    pub(crate) fn retire(&self, within: Option<Duration>) {
        self.tell(&ToDaemon::Retire { reason: Reason::Reload, within });
    }

    /// The next thing it says that is wanted. Its log is kept beside.
    pub(crate) fn expect(&mut self, wanted: impl Fn(&FromDaemon) -> bool) -> FromDaemon {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(said) => {
                    if let FromDaemon::Log { text, .. } = &said {
                        self.log.push(text.clone());
                    }
                    if wanted(&said) {
                        return said;
                    }
                }
                Err(error) => panic!(
                    "{error} while waiting; log {:?}, errors {:?}",
                    self.log,
                    fs::read_to_string(self.plan.path("stderr"))
                ),
            }
        }
    }

    pub(crate) fn ready(&mut self) -> control::Ready {
        match self.expect(|said| matches!(said, FromDaemon::Ready(_) | FromDaemon::ImportFailed(_)))
        {
            FromDaemon::Ready(ready) => ready,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wishes(&mut self, reason: Reason) {
        self.expect(|said| *said == FromDaemon::WantsReplacement(reason));
    }

    pub(crate) fn expect_log(&mut self, text: &str) {
        if !self.log.iter().any(|line| line.contains(text)) {
            self.expect(
                |said| matches!(said, FromDaemon::Log { text: line, .. } if line.contains(text)),
            );
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: numbers only; the process is ours and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end; log {:?}", self.log);
            std::thread::yield_now();
            // The end of the process ends its status socket, which the reader sees.
            let _ = self.heard.recv_timeout(Duration::from_millis(20)).map(|said| {
                if let FromDaemon::Log { text, .. } = said {
                    self.log.push(text);
                }
            });
        }
    }

    /// Waits until an application is in `hold()`.
    pub(crate) fn held(&self) {
        let mut byte = String::new();
        File::open(self.plan.path("here")).unwrap().read_to_string(&mut byte).unwrap();
        assert_eq!(byte, "x");
    }

    /// Lets one application that is in `hold()` go on.
    pub(crate) fn release(&self) {
        drop(File::options().write(true).open(self.plan.path("go")).unwrap());
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(&self.socket_path)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            while let Ok(said) = self.heard.try_recv() {
                self.log.push(format!("{said:?}"));
            }
            eprintln!("log: {:#?}", self.log);
            eprintln!("errors: {:?}", fs::read_to_string(self.plan.path("stderr")));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a daemon sends on a connection, owned.
#[derive(Debug)]
pub(crate) enum Frame {
    Read {
        credit: u32,
        first: bool,
    },
    Head {
        line: String,
        headers: Vec<(String, String)>,
    },
    Data {
        bytes: Vec<u8>,
        flush: bool,
    },
    End(Ending),
    File {
        file: OwnedFd,
        offset: u64,
        length: u64,
        ending: Ending,
    },
    Abort {
        ending: Ending,
    },
    Failed {
        status: u16,
        ending: Ending,
    },
    Log(String),
    GoAway(u32),
    Done {
        close: bool,
    },
    /// The other side has closed.
    Closed,
}

/// A whole response.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) log: Vec<String>,
    pub(crate) failed: Option<u16>,
    pub(crate) aborted: bool,
    pub(crate) lingered: bool,
    pub(crate) close: bool,
    pub(crate) file: bool,
    pub(crate) reads: Vec<(u32, bool)>,
    pub(crate) frames: usize,
    pub(crate) away: Option<u32>,
    pub(crate) closed: bool,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) path: &'a str,
    pub(crate) target: Target<'a>,
    pub(crate) body: RequestBody,
    pub(crate) inline: &'a [u8],
    pub(crate) length: Option<u64>,
    pub(crate) file: Option<&'a File>,
    pub(crate) mtime_us: i64,
    pub(crate) reloading: bool,
    pub(crate) queued_for: Duration,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(path: &'a str) -> Self {
        Self {
            path,
            target: Target::Mount(MOUNT),
            body: RequestBody::Whole,
            inline: b"",
            length: None,
            file: None,
            mtime_us: 0,
            reloading: false,
            queued_for: Duration::ZERO,
        }
    }

    pub(crate) fn asked(path: &'a str, length: Option<u64>, inline: &'a [u8]) -> Self {
        Self { body: RequestBody::Asked, length, inline, ..Self::new(path) }
    }
}

/// httpd's end of a connection.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    inbound: Inbound,
    pub(crate) order: DaemonOrder,
    greeted: bool,
    pub(crate) number: u32,
}

impl Client {
    pub(crate) fn new(path: &Path) -> Self {
        let socket = socket::connect(path).unwrap();
        socket::set_receive_timeout(socket.as_fd(), Some(DEADLINE)).unwrap();
        Self {
            socket,
            inbound: Inbound::new(message::from_daemon, 1),
            order: DaemonOrder::new(),
            greeted: false,
            number: 0,
        }
    }

    pub(crate) fn raw(&self, bytes: &[u8]) {
        // The other side may have closed already.
        let _ = socket::send(self.socket.as_fd(), &[bytes], &[], Wait::Yes);
    }

    pub(crate) fn hello() -> Vec<u8> {
        let mut out = Vec::new();
        message::hello(&mut out, &BUILD, &Secret::new(SECRET));
        out
    }

    /// The bytes of a request, with HELLO before the first.
    pub(crate) fn encode(&mut self, ask: &Ask<'_>) -> Vec<u8> {
        let mut out = if self.greeted { Vec::new() } else { Self::hello() };
        self.greeted = true;
        self.number = self.order.request(ask.body == RequestBody::Asked).expect("reusable");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now_us = u64::try_from((now - ask.queued_for).as_micros()).unwrap();
        let start = RequestStart {
            target: ask.target,
            handler: b"wsgi-script",
            mtime_us: ask.mtime_us,
            reloading: ask.reloading,
            request_start_us: now_us,
            queue_start_us: now_us,
            head_only: false,
            ignore_activity: false,
            log_level: 4,
            body: ask.body,
            body_length: ask.length,
        };
        let (path, query) = ask.path.split_once('?').unwrap_or((ask.path, ""));
        let mut writer = message::request(&mut out, self.number, &start);
        writer.var(b"MY_VARIABLE", b"mine");
        writer.set(Key::RequestMethod as u8, b"GET");
        writer.set(Key::ScriptName as u8, b"");
        writer.set(Key::PathInfo as u8, path.as_bytes());
        writer.set(Key::QueryString as u8, query.as_bytes());
        writer.set_path(Key::DocumentRoot as u8, b"/srv/\xc3\xa9");
        writer.header(b"X-Some-Thing", b"caf\xe9");
        writer.https(true);
        writer.finish(ask.inline.len()).unwrap();
        out.extend_from_slice(ask.inline);
        out
    }

    pub(crate) fn send(&mut self, ask: &Ask<'_>) {
        let bytes = self.encode(ask);
        let files: Vec<_> = ask.file.iter().map(|file| file.as_fd()).collect();
        socket::send(self.socket.as_fd(), &[&bytes], &files, Wait::Yes).unwrap();
    }

    pub(crate) fn body(&self, bytes: &[u8], last: bool) {
        let mut out = Vec::new();
        let mut batch = Batch::new(&mut out);
        message::body(&mut batch, self.number, &[bytes], last);
        socket::send(self.socket.as_fd(), &batch.slices(), &[], Wait::Yes).unwrap();
    }

    /// The next frame. Every one has to have its place.
    pub(crate) fn next(&mut self) -> Frame {
        loop {
            if let Some((frame, file)) = self.inbound.frame().unwrap() {
                let said = Said::decode(&frame).unwrap();
                let away = if let Said::GoAway { last } = said { Some(last) } else { None };
                self.order.accept(&frame.header, away).unwrap();
                return match said {
                    Said::Read { credit, first } => Frame::Read { credit, first },
                    Said::Head(head) => {
                        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
                        Frame::Head {
                            line: text(head.line()),
                            headers: head.headers().map(|(n, v)| (text(n), text(v))).collect(),
                        }
                    }
                    Said::Data { bytes, flush } => Frame::Data { bytes: bytes.to_vec(), flush },
                    Said::End(ending) => Frame::End(ending),
                    Said::File { offset, length, ending } => {
                        Frame::File { file: file.unwrap(), offset, length, ending }
                    }
                    Said::Abort { ending, .. } => Frame::Abort { ending },
                    Said::Failed { status, ending } => Frame::Failed { status, ending },
                    Said::Log { text, .. } => Frame::Log(text.to_owned()),
                    Said::GoAway { last } => Frame::GoAway(last),
                    Said::Done { close } => Frame::Done { close },
                };
            }
            match self.inbound.receive(self.socket.as_fd(), Wait::Yes) {
                Ok(Arrival::Bytes) => {}
                Ok(Arrival::End { torn }) => {
                    assert!(!torn, "in the middle of a frame");
                    return Frame::Closed;
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Frame::Closed;
                }
                Err(error) => panic!("{error} while waiting for a frame"),
            }
        }
    }

    /// Takes frames up to the end of the response; READ is told to `feed`.
    pub(crate) fn response(&mut self, mut feed: impl FnMut(&Self, u32)) -> Response {
        let mut response = Response::default();
        loop {
            let frame = self.next();
            response.frames += 1;
            let mut ended = None;
            match frame {
                Frame::Read { credit, first } => {
                    response.reads.push((credit, first));
                    feed(self, credit);
                }
                Frame::Head { line, headers } => {
                    (response.line, response.headers) = (line, headers)
                }
                Frame::Data { bytes, .. } => response.body.extend(bytes),
                Frame::Log(text) => response.log.push(text),
                Frame::End(ending) => ended = Some(ending),
                Frame::File { file, offset, length, ending } => {
                    use std::os::unix::fs::FileExt;
                    let mut bytes = vec![0; usize::try_from(length).unwrap()];
                    File::from(file).read_exact_at(&mut bytes, offset).unwrap();
                    response.body = bytes;
                    response.file = true;
                    ended = Some(ending);
                }
                Frame::Abort { ending } => {
                    response.aborted = true;
                    ended = Some(ending);
                }
                Frame::Failed { status, ending } => {
                    response.failed = Some(status);
                    ended = Some(ending);
                }
                Frame::Done { close } => {
                    response.close = close;
                    return response;
                }
                Frame::GoAway(last) => {
                    response.away = Some(last);
                }
                Frame::Closed => {
                    response.closed = true;
                    return response;
                }
            }
            if let Some(ending) = ended {
                response.lingered = ending.linger;
                response.close = ending.close;
                if !ending.linger {
                    return response;
                }
            }
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(&Ask::new(path));
        self.response(|_, _| ())
    }

    /// Whether the other side closes without a word, or with that one.
    pub(crate) fn is_turned_away(&mut self) -> bool {
        matches!(self.next(), Frame::Closed)
    }

    pub(crate) fn cancel(&self) {
        let mut out = Vec::new();
        message::cancel(&mut out, self.number);
        self.raw(&out);
    }

    /// A frame of a kind, with any payload.
    pub(crate) fn frame(kind: Kind, flags: u8, number: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let header = engine::wire::Header { length, kind: kind as u8, flags, number };
        let mut out = header.encode().to_vec();
        out.write_all(payload).unwrap();
        out
    }
}
