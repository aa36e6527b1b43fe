//! A server root of its own and the httpd that runs in it.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::client::Client;
use super::log::{self, Record};
use super::pythons::{self, Python};
use super::tools::{self, Curl};
use super::{DEADLINE, wait_for};

/// httpd's process model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mpm {
    /// Threads, and idle connections parked in one of them.
    Event,
    /// Threads, one for each connection.
    Worker,
    /// One process for each connection.
    Prefork,
}

impl Mpm {
    fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Worker => "worker",
            Self::Prefork => "prefork",
        }
    }
}

/// A server to be: settings first, [`Site::start`] last.
///
/// In every text given to [`Site::conf`], `@root@` stands for the server root, `@apps@` for the copy of
/// `tests/apps`, `@port@` for the port and `@tls@` for the TLS port.
pub struct Site {
    name: String,
    mpm: Mpm,
    mounts: Vec<(String, String)>,
    conf: String,
    before: String,
    modules: Vec<String>,
    tls: bool,
    http2: bool,
    load: bool,
    alone: bool,
    daemon: bool,
    group: String,
    python: Option<Python>,
    environment: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    sources: usize,
}

/// A running httpd. Dropping it stops it and reads its error logs.
pub struct Server {
    root: TempDir,
    process: Child,
    port: u16,
    tls_port: u16,
    expected: Mutex<Vec<String>>,
    stopped: bool,
}

impl Site {
    /// A site with the event MPM, the module loaded, and nothing mounted.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mpm: Mpm::Event,
            mounts: Vec::new(),
            conf: String::new(),
            before: String::new(),
            modules: Vec::new(),
            tls: false,
            http2: false,
            load: true,
            alone: false,
            daemon: false,
            group: String::new(),
            python: None,
            environment: Vec::new(),
            files: Vec::new(),
            sources: 0,
        }
    }

    /// Another process model than event.
    pub fn mpm(mut self, mpm: Mpm) -> Self {
        self.mpm = mpm;
        self
    }

    /// Serves a file of `tests/apps` at `/`.
    pub fn app(self, file: &str) -> Self {
        self.mount("/", file, "")
    }

    /// Serves a file of `tests/apps` (or an absolute path) at a place, with `WSGIScriptAlias`'s options.
    /// Longer places come first, whatever the order of the calls.
    pub fn mount(mut self, place: &str, file: &str, options: &str) -> Self {
        let path =
            if file.starts_with(['/', '@']) { file.into() } else { format!("@apps@/{file}") };
        self.mounts.push((place.to_owned(), format!("\"{path}\" {options}")));
        self
    }

    /// Serves an application given as its source; see [`Site::mount`].
    pub fn source(self, place: &str, code: &str) -> Self {
        self.source_with(place, code, "")
    }

    /// The same with `WSGIScriptAlias`'s options. The first source is `apps/source-0.py`.
    pub fn source_with(self, place: &str, code: &str, options: &str) -> Self {
        let file = format!("source-{}.py", self.sources);
        let mut site = self.file(&format!("apps/{file}"), code).mount(place, &file, options);
        site.sources += 1;
        site
    }

    /// Configuration lines of the main server.
    pub fn conf(mut self, lines: &str) -> Self {
        self.conf += lines;
        self.conf.push('\n');
        self
    }

    /// Configuration lines that come before the module is loaded.
    pub fn conf_before(mut self, lines: &str) -> Self {
        self.before += lines;
        self.before.push('\n');
        self
    }

    /// A further module of httpd, as `mod_ssl` or `ssl`.
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.trim_start_matches("mod_").to_owned());
        self
    }

    /// Leaves the module under test out.
    pub fn without_module(mut self) -> Self {
        self.load = false;
        self
    }

    /// Has httpd serve in one process, as `httpd -X` does to be debugged.
    pub fn in_one_process(mut self) -> Self {
        self.alone = true;
        self.conf_before("Define ONE_PROCESS")
    }

    /// Runs applications in a daemon process group, `tests`, where nothing else is said.
    pub fn daemon(mut self) -> Self {
        self.daemon = true;
        self
    }

    /// Options of that group; without meaning in embedded mode.
    pub fn group(mut self, options: &str) -> Self {
        self.group.push(' ');
        self.group += options;
        self
    }

    /// Has httpd serve a file of its own at `/control`, for comparison: see [`super::Load`].
    pub fn control(self) -> Self {
        self.module("alias")
            .file("htdocs/control", "a file")
            .conf("Alias /control \"@root@/htdocs/control\"")
    }

    /// Whether applications run in daemon processes.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Serves the same over TLS on a second port, with a self-signed certificate.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks HTTP/2, plain and where there is TLS.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Runs applications with this Python.
    pub fn python(mut self, python: &Python) -> Self {
        self.python = Some(python.clone());
        self
    }

    /// A variable of httpd's own environment, which is otherwise nearly empty.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file below the server root. Directories are made; `htdocs` is what httpd itself serves, and what is in a
    /// `bin` can be executed.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((path.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// Starts httpd and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Server {
        // A port found free can be taken by somebody else before httpd binds it.
        for _ in 0..5 {
            match self.try_start() {
                Ok(server) => return server,
                Err(text) if text.contains("AH00072") => {}
                Err(text) => panic!("{}: httpd did not start:\n{text}", self.name),
            }
        }
        panic!("{}: no port stays free", self.name);
    }

    /// What `httpd -t` says about this site.
    pub fn check(&self) -> Output {
        self.check_with(&[])
    }

    /// The same with further arguments.
    pub fn check_with(&self, arguments: &[&str]) -> Output {
        let root = self.prepare(free_port(), free_port());
        self.command(root.path()).arg("-t").args(arguments).output().expect("run httpd -t")
    }

    /// What `httpd -t` says about these lines in an otherwise empty site.
    pub fn configtest(lines: &str) -> Output {
        Self::new("configtest").conf(lines).check()
    }

    fn try_start(&self) -> Result<Server, String> {
        let (port, tls_port) = (free_port(), free_port());
        let root = self.prepare(port, tls_port);
        let output = File::create(root.path().join("logs/stderr.txt")).expect("create a log");
        let mut process = self
            .command(root.path())
            .arg("-DFOREGROUND")
            .stdout(output.try_clone().expect("share a log"))
            .stderr(output)
            .spawn()
            .expect("start httpd");
        let log = root.path().join("logs/error.log");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ready = wait_for(DEADLINE, || {
            if process.try_wait().expect("look at httpd").is_some() {
                return Some(false);
            }
            // Where there is no other process, nothing is said at the start.
            let begun = self.alone || banners(&log) > 0;
            let serves = begun && TcpStream::connect(address).is_ok();
            serves.then_some(true)
        });
        if ready == Some(true) {
            let expected = Mutex::new(Vec::new());
            return Ok(Server { root, process, port, tls_port, expected, stopped: false });
        }
        let mut text = all_logs(root.path());
        if ready.is_none() {
            text += "(no answer within the deadline)\n";
            end(&mut process);
        }
        Err(text)
    }

    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(httpd());
        command
            // httpd signals its whole process group; this program must not be in it.
            .process_group(0)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TEST_SCRATCH", root.join("scratch"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg("-d")
            .arg(root)
            .arg("-f")
            .arg(root.join("httpd.conf"));
        command
    }

    /// Makes the server root. It can be read by the user httpd runs as, whoever runs the tests.
    fn prepare(&self, port: u16, tls_port: u16) -> TempDir {
        let prefix = format!("wsgi-{}-", self.name.replace(['/', ' '], "-"));
        let root =
            tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory");
        let at = |path: &str| root.path().join(path);
        set_mode(root.path(), 0o755);
        for directory in ["htdocs", "logs", "apps", "scratch", "run"] {
            fs::create_dir(at(directory)).expect("make a directory");
        }
        set_mode(&at("scratch"), 0o777);
        copy_tree(&manifest().join("tests/apps"), &at("apps"));
        for (path, content) in &self.files {
            let path = at(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
            fs::write(&path, content).expect("write a file");
            if path.parent().is_some_and(|folder| folder.ends_with("bin")) {
                set_mode(&path, 0o755);
            }
        }
        if self.tls {
            tools::certificate(root.path());
        }
        let text = self
            .render(root.path())
            .replace("@root@", &root.path().to_string_lossy())
            .replace("@apps@", &at("apps").to_string_lossy())
            .replace("@port@", &port.to_string())
            .replace("@tls@", &tls_port.to_string());
        fs::write(at("httpd.conf"), text).expect("write httpd.conf");
        root
    }

    fn render(&self, _root: &Path) -> String {
        let mut modules = vec![format!("mpm_{}", self.mpm.name())];
        let base = ["unixd", "log_config", "authz_core", "mime", "env", "setenvif"];
        modules.extend(base.iter().map(|name| (*name).to_owned()));
        if self.tls {
            // Its session cache, where httpd has one, lives in a module of its own.
            modules.extend(["socache_shmcb".to_owned(), "ssl".to_owned()]);
        }
        if self.http2 {
            modules.push("http2".to_owned());
        }
        modules.extend(self.modules.iter().cloned());

        let mut text = String::from("ServerRoot \"@root@\"\nServerName localhost:@port@\n");
        let mut loaded: Vec<&str> = Vec::new();
        for name in &modules {
            if !built_in(name) && !loaded.contains(&name.as_str()) {
                let file = modules_directory().join(format!("mod_{name}.so"));
                let _ = writeln!(text, "LoadModule {name}_module \"{}\"", file.display());
                loaded.push(name);
            }
        }
        text += &self.before;
        if self.load {
            let _ = writeln!(text, "LoadModule wsgi_module \"{}\"", module_file().display());
        }
        text += "Listen 127.0.0.1:@port@\nPidFile run/httpd.pid\nDefaultRuntimeDir run\n";
        text += "ErrorLog logs/error.log\nLogLevel info\n";
        let _ = writeln!(text, "ErrorLogFormat \"{}\"", log::FORMAT);
        text += "CustomLog logs/access.log \"%h %l %u %t \\\"%r\\\" %>s %B %X\"\n";
        text +=
            "TypesConfig /dev/null\nDocumentRoot \"@root@/htdocs\"\nServerAdmin admin@localhost\n";
        // Longer than any test waits: a connection that ends has been closed for a reason.
        text += "Timeout 300\nKeepAlive On\nKeepAliveTimeout 300\nMaxKeepAliveRequests 0\n";
        if let (true, Some(user)) = (is_root(), httpd_user()) {
            let _ = writeln!(text, "User {user}\nGroup #{}", group_of(&user));
        }
        text += match self.mpm {
            // Small, but with room beside children that finish their work in a graceful restart.
            Mpm::Event | Mpm::Worker => {
                "StartServers 1\nServerLimit 8\nThreadLimit 16\nThreadsPerChild 8\n\
                 MaxRequestWorkers 32\nMinSpareThreads 1\nMaxSpareThreads 32\n"
            }
            Mpm::Prefork => {
                "StartServers 2\nServerLimit 16\nMaxRequestWorkers 16\nMinSpareServers 1\n\
                 MaxSpareServers 16\n"
            }
        };
        text += "<Directory \"/\">\n  AllowOverride None\n  Require all denied\n</Directory>\n";
        for place in ["htdocs", "apps"] {
            let _ = writeln!(
                text,
                "<Directory \"@root@/{place}\">\n  Require all granted\n</Directory>"
            );
        }
        if let Some(home) = self.python.as_ref().and_then(|python| python.home.as_ref()) {
            let _ = writeln!(text, "WSGIPythonHome \"{}\"", home.display());
        }
        if self.daemon {
            text += "WSGIDaemonProcess tests threads=8 env=TEST_SCRATCH=@root@/scratch";
            for (name, value) in &self.environment {
                let _ = write!(text, " env=\"{name}={value}\"");
            }
            text += &self.group;
            text += "\nWSGIProcessGroup tests\n";
        }
        // For a comparison with a module that has other defaults.
        text += &env::var("MOD_WSGI_RS_TEST_CONF").unwrap_or_default();
        text.push('\n');
        let mut mounts: Vec<&(String, String)> = self.mounts.iter().collect();
        mounts.sort_by_key(|(place, _)| std::cmp::Reverse(place.len()));
        for (place, target) in mounts {
            let _ = writeln!(text, "WSGIScriptAlias {place} {target}");
        }
        if self.http2 {
            text += "Protocols h2 h2c http/1.1\n";
        }
        text += &self.conf;
        if self.tls {
            text += "Listen 127.0.0.1:@tls@\nSSLSessionCache shmcb:run/ssl(65536)\n\
                 <VirtualHost 127.0.0.1:@tls@>\n  ServerName localhost:@tls@\n  SSLEngine on\n\
                 \x20 SSLCertificateFile \"@root@/cert.pem\"\n\
                 \x20 SSLCertificateKeyFile \"@root@/key.pem\"\n</VirtualHost>\n";
        }
        text
    }
}

impl Server {
    /// A new connection.
    pub fn client(&self) -> Client {
        Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> super::Reply {
        self.client().get(target)
    }

    /// The port of plain HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a path over plain HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// The URL of a path over TLS.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls_port)
    }

    /// A request by curl over plain HTTP.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Curl {
        tools::curl(&self.url(path), arguments)
    }

    /// A request by curl over TLS.
    pub fn curl_tls(&self, path: &str, arguments: &[&str]) -> Curl {
        tools::curl(&self.tls_url(path), arguments)
    }

    /// A path below the server root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Writes a file below the server root, with an own modification time: `age` seconds ago. Nobody ever sees half
    /// of it, or another time.
    pub fn write(&self, path: &str, content: &str, age: u64) {
        let (path, new) = (self.path(path), self.path(&format!("{path}.new")));
        fs::write(&new, content).expect("write a file");
        let file = File::options().write(true).open(&new).expect("open a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("set a file's time");
        fs::rename(&new, &path).expect("put a file in its place");
    }

    /// The text of a file below the server root, empty while it does not exist.
    pub fn read(&self, path: &str) -> String {
        log::read(&self.path(path))
    }

    /// Waits until a file below the server root has this text in it, and returns it whole.
    #[track_caller]
    pub fn wait_for_file(&self, path: &str, text: &str) -> String {
        let found = wait_for(DEADLINE, || Some(self.read(path)).filter(|all| all.contains(text)));
        found.unwrap_or_else(|| panic!("'{text}' did not appear in {path}: {}", self.read(path)))
    }

    /// The error log so far.
    pub fn log(&self) -> String {
        self.read("logs/error.log")
    }

    /// The error log so far, line by line.
    pub fn records(&self) -> Vec<Record> {
        log::records(&self.log())
    }

    /// Waits for a text in the error log and counts the messages that have it as expected. Returns the
    /// first such line.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> String {
        self.expect_log_in("error.log", text)
    }

    /// The same in another file of `logs`.
    #[track_caller]
    pub fn expect_log_in(&self, file: &str, text: &str) -> String {
        self.allow_log(text);
        let path = self.path("logs").join(file);
        let found = wait_for(DEADLINE, || {
            log::read(&path).lines().find(|line| line.contains(text)).map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("'{text}' did not appear in {file}"))
    }

    /// Counts messages with this text as expected, should there be any.
    pub fn allow_log(&self, text: &str) {
        self.expected.lock().expect("one thread at a time").push(text.to_owned());
    }

    /// The server's parent process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The processes that serve.
    pub fn children(&self) -> Vec<u32> {
        let mut children = children_of(self.pid());
        children.retain(|pid| !is_supervisor(*pid));
        children
    }

    /// The supervisor of the daemon processes.
    pub fn supervisor(&self) -> Option<u32> {
        children_of(self.pid()).into_iter().find(|pid| is_supervisor(*pid))
    }

    /// The daemon processes, of all groups.
    pub fn daemons(&self) -> Vec<u32> {
        self.supervisor().map(children_of).unwrap_or_default()
    }

    /// `httpd -k graceful`, until the new configuration is in force.
    #[track_caller]
    pub fn graceful(&self) {
        self.again("USR1");
    }

    /// `httpd -k restart`, until the new configuration is in force.
    #[track_caller]
    pub fn restart(&self) {
        self.again("HUP");
    }

    /// Stops httpd and reads its logs; what [`Drop`] does, for tests that look at what is left.
    #[track_caller]
    pub fn stop(&mut self) {
        self.settle();
        self.end_by("TERM");
    }

    /// `httpd -k graceful-stop`: requests under way are finished. The way to stop a threaded MPM under load, see
    /// `settle`.
    #[track_caller]
    pub fn stop_gracefully(&mut self) {
        self.end_by("WINCH");
    }

    #[track_caller]
    fn end_by(&mut self, signal: &str) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        if self.process.try_wait().expect("look at httpd").is_none() {
            tools::signal(self.pid(), signal);
        }
        let pid = self.pid();
        let ended = wait_for(DEADLINE, || self.process.try_wait().expect("look at httpd"));
        if ended.is_none() {
            let left = children_of(pid);
            end(&mut self.process);
            panic!("httpd did not stop; its children were {left:?}");
        }
        let mut bad = Vec::new();
        let expected = self.expected.lock().expect("one thread at a time");
        for path in error_logs(self.root.path()) {
            bad.extend(log::unexpected(&log::read(&path), &expected));
        }
        assert!(bad.is_empty(), "lines nobody expected in the error log:\n{}", bad.join("\n"));
    }

    /// Waits a moment for connections that clients have closed. The threaded MPMs look at the sockets of
    /// their workers when they stop, and crash now and then when a worker is just done with one.
    fn settle(&self) {
        let _ = wait_for(Duration::from_millis(500), || {
            let open = [self.port, self.tls_port].iter().any(|&port| has_connections(port));
            (!open).then_some(())
        });
    }

    #[track_caller]
    fn again(&self, signal: &str) {
        let log = self.path("logs/error.log");
        let before = banners(&log);
        tools::signal(self.pid(), signal);
        let done = wait_for(DEADLINE, || (banners(&log) > before).then_some(()));
        assert!(done.is_some(), "httpd did not come back after SIG{signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop()));
            if let Err(payload) = stopped {
                eprintln!("{}", all_logs(self.root.path()));
                std::panic::resume_unwind(payload);
            }
            return;
        }
        eprintln!("{}", all_logs(self.root.path()));
        if !self.stopped {
            let children = self.children();
            tools::signal(self.pid(), "TERM");
            let ended = wait_for(DEADLINE, || self.process.try_wait().ok().flatten());
            if ended.is_none() {
                eprintln!("httpd did not stop; its children were {children:?}");
                end(&mut self.process);
            }
        }
    }
}

/// The module file under test.
pub fn module_file() -> PathBuf {
    let path = env::var_os("MOD_WSGI_RS_SO").map_or_else(
        || {
            let program = env::current_exe().expect("this program's own path");
            let profile = program.ancestors().nth(2).expect("target/<profile>");
            profile.join("libmod_wsgi_rs.so")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run 'cargo build' first", path.display());
    path
}

/// The httpd program.
pub fn httpd() -> PathBuf {
    let given = env::var_os("HTTPD").map(PathBuf::from);
    let places = ["/usr/sbin/apache2", "/usr/sbin/httpd", "/usr/local/apache2/bin/httpd"];
    given
        .or_else(|| places.iter().map(PathBuf::from).find(|path| path.exists()))
        .expect("httpd is not installed; or set HTTPD")
}

/// Whether the tests run as root, so that httpd changes its user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// The user httpd's children run as when the tests are root's.
pub fn httpd_user() -> Option<String> {
    ["www-data", "apache", "daemon", "nobody"]
        .iter()
        .find(|name| passwd_field(name, 2).is_some())
        .map(|name| (*name).to_owned())
}

/// The top directory of the repository.
pub fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The processes whose parent is `pid`.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|&process| parent_of(process) == Some(pid))
        .collect();
    found.sort_unstable();
    found
}

fn is_supervisor(pid: u32) -> bool {
    // The kernel keeps 15 bytes of a name.
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim_end() == "mod_wsgi_superv")
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent follow it.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process still holds a connection that came in by this port.
fn has_connections(port: u16) -> bool {
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    text.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (words.get(1), words.get(3), words.get(9))
        else {
            return false;
        };
        local.ends_with(&format!(":{port:04X}")) && *state != "0A" && *inode != "0"
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
    listener.local_addr().expect("a bound port").port()
}

/// How often httpd has said that it serves.
fn banners(log: &Path) -> usize {
    log::read(log).matches("resuming normal operations").count()
}

fn error_logs(root: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(root.join("logs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with("error.log"))
        .collect();
    logs.sort();
    logs
}

fn all_logs(root: &Path) -> String {
    let mut text = log::read(&root.join("logs/stderr.txt"));
    for path in error_logs(root) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _ = write!(text, "---- {name}\n{}", log::read(&path));
    }
    text
}

/// Ends a server that does not stop by itself, and the children it leaves.
fn end(process: &mut Child) {
    let children = children_of(process.id());
    let _ = process.kill();
    let _ = process.wait();
    for child in children {
        if Path::new(&format!("/proc/{child}")).exists() {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {child}")]).output();
        }
    }
}

fn passwd_field(user: &str, field: usize) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(field).map(str::to_owned)
}

fn group_of(user: &str) -> String {
    passwd_field(user, 3).expect("the user's group")
}

fn built_in(module: &str) -> bool {
    static LIST: OnceLock<String> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let output = Command::new(httpd()).arg("-l").output().expect("run httpd -l");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    list.lines().any(|line| line.trim() == format!("mod_{module}.c"))
}

pub fn modules_directory() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let tool = env::var("APXS").unwrap_or_else(|_| "apxs".to_owned());
            let asked = Command::new(tool).args(["-q", "LIBEXECDIR"]).output().ok();
            let asked = asked
                .filter(|output| output.status.success())
                .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
            asked.unwrap_or_else(|| PathBuf::from("/usr/lib/apache2/modules"))
        })
        .clone()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set a file's mode");
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("read a directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_name() == "__pycache__" {
            continue;
        }
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("make a directory");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copy a file");
        }
    }
}
