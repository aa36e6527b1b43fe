//! What daemon processes are, and what they are kept apart from.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::site::{is_root, manifest, module_file};
use crate::harness::{Server, Site, skip, tools};
use crate::processes::{all_processes, stop as stop_process, wait_for_daemons, wait_for_end};

/// What an expression comes to in the application at `place`.
#[track_caller]
fn evaluate(server: &Server, place: &str, expression: &str) -> String {
    let headers = [("X-Expression", expression)];
    server.client().request("GET", place, &headers, b"").expect(200).text()
}

/// Whether these tests can change users.
fn can_change_users() -> bool {
    if !is_root() {
        skip("only root can have processes of another user");
    }
    is_root()
}

#[test]
fn identity_and_place_are_as_configured() {
    if !can_change_users() {
        return;
    }
    let server = Site::new("identity")
        .app("evaluate.py")
        .daemon()
        .group(
            "user=nobody group=nogroup supplementary-groups=#4242,#4243 umask=0027 \
             home=@root@/htdocs lang=C locale=C.UTF-8 cpu-priority=5 threads=3",
        )
        .start();
    let nobody: u32 =
        tools::run("id", &["-u", "nobody"]).trim().parse().expect("the number of nobody");
    for (expression, value) in [
        ("__import__('os').getresuid()", format!("({nobody}, {nobody}, {nobody})")),
        ("len(set(__import__('os').getresgid()))", "1".to_owned()),
        ("__import__('grp').getgrgid(__import__('os').getgid()).gr_name", "'nogroup'".to_owned()),
        (
            "sorted(set(__import__('os').getgroups()) - {__import__('os').getgid()})",
            "[4242, 4243]".to_owned(),
        ),
        ("__import__('os').umask(0o27)", "23".to_owned()),
        ("__import__('os').getcwd()", format!("'{}'", server.path("htdocs").display())),
        ("__import__('os').getpriority(0, 0)", "5".to_owned()),
        ("__import__('os').environ['LANG']", "'C'".to_owned()),
        ("__import__('os').environ['LC_ALL']", "'C.UTF-8'".to_owned()),
        ("__import__('os').environ['USER']", "'nobody'".to_owned()),
        ("__import__('locale').setlocale(0)", "'C.UTF-8'".to_owned()),
        // Nothing that was root's can be had again.
        (
            "caught(lambda: __import__('os').setuid(0))",
            "'PermissionError: [Errno 1] Operation not permitted'".to_owned(),
        ),
        (
            "[l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1].strip('0')",
            "''".to_owned(),
        ),
    ] {
        assert_eq!(evaluate(&server, "/", expression), value, "{expression}");
    }
}

#[test]
fn environment_is_what_is_documented() {
    let server = Site::new("environment")
        .env("LEAKED", "from httpd")
        .conf_before("")
        .app("evaluate.py")
        .conf("WSGIDaemonProcess bare threads=2 env=ONE=1 env=\"TWO=two words\" env-file=@root@/secrets")
        .file("secrets", "# a comment\nTHREE=3\nPASSWORD=correct horse\n")
        .conf("WSGIProcessGroup bare")
        .start();
    let names = evaluate(&server, "/", "sorted(__import__('os').environ)");
    for name in ["ONE", "TWO", "THREE", "PASSWORD", "PATH", "HOME", "LANG"] {
        assert!(names.contains(&format!("'{name}'")), "{name} is not in {names}");
    }
    for name in ["LEAKED", "TEST_SCRATCH", "APACHE", "NOTIFY_SOCKET", "LISTEN_FDS"] {
        assert!(!names.contains(name), "{name} is in {names}");
    }
    for (name, value) in [("TWO", "two words"), ("THREE", "3"), ("PASSWORD", "correct horse")] {
        let expression = format!("__import__('os').environ['{name}']");
        assert_eq!(evaluate(&server, "/", &expression), format!("'{value}'"));
    }
}

#[test]
fn secrets_are_seen_by_nobody_else() {
    let secret = "hunter-two-and-a-half";
    let site = || {
        Site::new("secrets")
            .module("info")
            .app("evaluate.py")
            .daemon()
            .group(&format!("env=SECRET={secret} env-file=@root@/secrets"))
            .file("secrets", format!("FILED={secret}\n"))
            .conf(
                "<Location /server-info>\nSetHandler server-info\nRequire all granted\n</Location>",
            )
            .conf("WSGIProcessGroup %{GLOBAL}\nLogLevel trace4")
    };
    let server = site().mount("/app", "evaluate.py", "process-group=tests").start();
    assert_eq!(
        evaluate(&server, "/app", "__import__('os').environ['SECRET']"),
        format!("'{secret}'")
    );
    for pid in all_processes(&server) {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).expect("a command line");
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        assert!(!arguments.contains(secret), "{pid}: {arguments}");
    }
    assert!(!server.log().contains(secret));
    let info = server.curl("/server-info", &[]).text();
    assert!(info.contains("WSGIDaemonProcess"), "mod_info shows the configuration");
    assert!(!info.contains(secret), "mod_info shows secrets");
    // Of the environment itself only the processes' own user is told.
    let pid = server.daemons()[0];
    if is_root() {
        let other = Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat"])
            .arg(format!("/proc/{pid}/environ"))
            .output()
            .expect("run setpriv");
        assert!(!other.status.success() && other.stdout.is_empty());
    }
}

#[test]
fn descriptors_are_its_own() {
    let server = Site::new("own-descriptors").tls().app("evaluate.py").daemon().start();
    server.curl_tls("/", &[]);
    // What each is, and of sockets to which family they belong.
    let expression = "sorted((n, os.readlink('/proc/self/fd/' + n)) for n in os.listdir('/proc/self/fd') \
                      if os.path.exists('/proc/self/fd/' + n) or os.path.islink('/proc/self/fd/' + n)) \
                      if [globals().__setitem__('os', __import__('os'))] else 0";
    let shown = evaluate(&server, "/", expression);
    let targets: Vec<&str> = shown.split('\'').skip(3).step_by(4).collect();
    assert!(targets.len() >= 6, "{shown}");
    for target in &targets {
        let known = *target == "/dev/null"
            || target.starts_with("anon_inode:")
            || target.starts_with("pipe:")
            || target.starts_with("socket:")
            || target.starts_with("/proc/");
        assert!(known, "{target} in {shown}");
    }
    // None of the sockets is one of the network.
    let network: String = ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default())
        .collect();
    for socket in targets.iter().filter_map(|target| target.strip_prefix("socket:[")) {
        let inode = format!(" {} ", socket.trim_end_matches(']'));
        assert!(!network.contains(&inode), "{socket} is a socket of the network");
    }
    // What the application starts gets none of them.
    let started = "__import__('subprocess').run(['ls', '-l', '/proc/self/fd'], capture_output=True, \
                   close_fds=False).stdout.decode()";
    let inherited = evaluate(&server, "/", started);
    assert!(!inherited.contains("socket:"), "{inherited}");
    assert!(!inherited.contains("anon_inode:"), "{inherited}");
}

/// What the kernel says of httpd's own descriptor of its error log, but for where it stands.
fn log_flags(server: &Server) -> String {
    let text = fs::read_to_string(format!("/proc/{}/fdinfo/2", server.pid()));
    let text = text.expect("httpd's descriptor");
    text.lines().find(|line| line.starts_with("flags:")).unwrap_or_default().to_owned()
}

#[test]
fn log_of_httpd_is_out_of_reach() {
    let server = Site::new("own-log").app("evaluate.py").daemon().start();
    let pid = evaluate(&server, "/", "__import__('os').getpid()");
    let (before, flags) = (server.log(), log_flags(&server));
    assert!(!before.is_empty() && flags.len() > "flags:".len());
    for descriptor in [1, 2] {
        for call in [
            format!("__import__('os').ftruncate({descriptor}, 0)"),
            format!("__import__('os').lseek({descriptor}, 0, 0)"),
        ] {
            let said = evaluate(&server, "/", &format!("caught(lambda: {call})"));
            assert!(said.contains("OSError"), "{call} gave {said}");
        }
        // All that F_SETFL can change, first none of it, then waiting for nothing.
        for flags in ["0", "__import__('os').O_NONBLOCK"] {
            let call = format!("__import__('fcntl').fcntl({descriptor}, 4, {flags})");
            evaluate(&server, "/", &call);
        }
        let call = format!("__import__('os').write({descriptor}, b'forged [{descriptor}]\\n')");
        evaluate(&server, "/", &call);
        let line = server.expect_log(&format!("forged [{descriptor}]"));
        let source = format!("[wsgi:error] [pid {pid}] [group tests] forged [{descriptor}]");
        assert!(line.starts_with('[') && line.ends_with(&source), "{line}");
    }
    assert!(server.log().starts_with(&before));
    assert_eq!(log_flags(&server), flags);
}

#[test]
fn what_is_written_to_descriptors_is_in_the_log() {
    let site = Site::new("written").app("evaluate.py").daemon();
    let site = if is_root() { site.group("user=nobody group=nogroup") } else { site };
    let server = site.start();
    let pid = evaluate(&server, "/", "__import__('os').getpid()");
    let in_log = |text: &str| {
        let line = server.expect_log(text);
        let source = format!(" [wsgi:error] [pid {pid}] [group tests] {text}");
        assert!(line.starts_with('[') && line.ends_with(&source), "{line}");
    };
    evaluate(&server, "/", "__import__('os').write(2, b'by the process\\n')");
    in_log("by the process");
    // Written in parts, together with others, and never finished.
    let script = "printf half; printf ' and half\\none more\\nunfinished' >&2";
    let run = format!("__import__('subprocess').run(['sh', '-c', r\"{script}\"]).returncode");
    assert_eq!(evaluate(&server, "/", &run), "0");
    in_log("half and half");
    in_log("one more");
    // By the name that programs are told to write to.
    evaluate(&server, "/", "open('/dev/stderr', 'w').write(' by name\\n')");
    in_log("unfinished by name");
    // What nobody finishes is there all the same.
    evaluate(&server, "/", "__import__('os').write(1, b'last words')");
    evaluate(&server, "/", "__import__('os').kill(__import__('os').getpid(), 15)");
    in_log("last words");
}

#[test]
fn what_is_written_without_a_supervisor_is_not_lost() {
    let server = Site::new("unsupervised").app("evaluate.py").daemon().start();
    server.allow_log("mod_wsgi_supervisor");
    server.allow_log("the supervisor is lost");
    server.allow_log("the supervisor was restarted and takes over");
    let pid = evaluate(&server, "/", "__import__('os').getpid()");
    let stop = server.path("scratch/stop");
    let script = format!(
        "i=0; while [ ! -e {} ]; do i=$((i+1)); echo count $i. >&2; sleep 0.02; done; echo counted $i. >&2",
        stop.display()
    );
    let start = format!("kept.append(__import__('subprocess').Popen(['sh', '-c', '{script}']))");
    evaluate(&server, "/", &start);
    server.allow_log("count ");
    server.expect_log("count 2.");
    // Nobody starts another one while httpd's parent sleeps.
    stop_process(server.pid());
    let first = server.supervisor().expect("a supervisor");
    tools::signal(first, "KILL");
    wait_for_end(&[first]);
    let wrote = evaluate(&server, "/", "__import__('os').write(2, b'meanwhile\\n')");
    assert_eq!(wrote, "10");
    tools::signal(server.pid(), "CONT");
    let line = server.expect_log("meanwhile");
    assert!(line.contains(&format!("[wsgi:error] [pid {pid}] [group tests] ")), "{line}");
    // And what it has started goes on, also when it is gone itself.
    let pid = pid.parse().expect("a process");
    wait_for_end(&[pid]);
    server.write("scratch/stop", "", 0);
    let line = server.expect_log("counted ");
    let log = server.log();
    let counted = line.rsplit(' ').next().and_then(|last| last.trim_end_matches('.').parse().ok());
    let counted: u32 = counted.expect("a number");
    for number in 1..=counted {
        assert!(log.contains(&format!("[group tests] count {number}.")), "{number} of {counted}");
    }
}

#[test]
fn nothing_of_httpd_is_in_its_memory() {
    let server = Site::new("own-memory").tls().app("evaluate.py").daemon().start();
    server.curl_tls("/", &[]).text();
    let daemon = server.daemons()[0];
    let maps = fs::read_to_string(format!("/proc/{daemon}/maps")).expect("its maps");
    assert!(maps.contains("python") && maps.contains("mod_wsgi_engine"), "{maps}");
    for part in ["apache2", "httpd", "libapr", "mod_ssl", "libssl", "libmod_wsgi_rs"] {
        assert!(!maps.contains(part), "{part} in\n{maps}");
    }

    // The number that is the key, in both orders of bytes; see RFC 5915 for what stands before it.
    let key = server.path("key.pem").display().to_string();
    let der = server.path("key.der").display().to_string();
    tools::run("openssl", &["pkey", "-in", &key, "-outform", "DER", "-out", &der]);
    let bytes = fs::read(&der).expect("the key");
    let at = bytes.windows(5).position(|five| five == [2, 1, 1, 4, 32]).expect("the number") + 5;
    let number = bytes[at..at + 32].to_vec();
    let reversed: Vec<u8> = number.iter().rev().copied().collect();
    let text = fs::read(&key).expect("the key");
    let line = text.split(|byte| *byte == b'\n').nth(1).expect("a line of the key").to_vec();
    let needles = [number, reversed, line];
    let found = |pid: u32| needles.iter().any(|needle| holds(pid, needle));
    if !is_root() {
        skip("only root can look into httpd's memory");
        return;
    }
    assert!(found(server.children()[0]), "the search finds the key where it has to be");
    let supervisor = server.supervisor().expect("a supervisor");
    for pid in [daemon, supervisor] {
        assert!(!found(pid), "process {pid} holds the private key");
    }
}

/// Whether these bytes are anywhere in what a process can write to.
fn holds(pid: u32, needle: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (range, _) = line.split_once(' ').unwrap_or_default();
        let (from, to) = range.split_once('-').unwrap_or_default();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let size = usize::try_from(to - from).expect("a size");
        let mut bytes = vec![0; size];
        // Some ranges, as the kernel's own, cannot be read.
        memory.seek(SeekFrom::Start(from)).is_ok()
            && memory.read_exact(&mut bytes).is_ok()
            && bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn sockets_are_unreachable_for_others() {
    if !can_change_users() {
        return;
    }
    let server = Site::new("reach")
        .daemon()
        .app("hello.py")
        .conf("WSGIDaemonProcess other user=nobody group=nogroup threads=2")
        .mount("/other", "evaluate.py", "process-group=other")
        .start();
    server.get("/").expect(200);
    wait_for_daemons(&server, 2, &[]);
    let run = server.path("run");
    let folders: Vec<_> = fs::read_dir(&run)
        .expect("the folder of sockets")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let sockets: Vec<_> =
        fs::read_dir(&folders[0]).expect("sockets").flatten().map(|entry| entry.path()).collect();
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    for path in sockets.iter().chain(&folders) {
        let expression =
            format!("caught(lambda: __import__('socket').socket(1).connect('{}'))", path.display());
        let said = evaluate(&server, "/other", &expression);
        assert!(said.contains("PermissionError"), "{said}");
    }
    // Who runs as the same user as httpd reaches it, and has no secret to show.
    let socket = sockets[0].display();
    let expression = format!(
        "[s.connect('{socket}'), s.settimeout(30), s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n' * 9), \
         caught(lambda: s.recv(100))] if [globals().__setitem__('s', __import__('socket').socket(1))] else 0"
    );
    let same = Site::new("reach-same").app("evaluate.py").start();
    let said = evaluate(&same, "/", &expression);
    assert!(said.ends_with("b'']") || said.contains("ConnectionResetError"), "{said}");
    server.expect_log("a connection is ended");
    server.get("/").expect(200);
}

/// A folder that something is mounted on.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `/proc`; `None` where that is not allowed.
    fn proc(folder: &Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "proc", "proc"]).arg(folder).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn chroot_is_all_there_is() {
    if !can_change_users() {
        return;
    }
    // The system's Python and what it needs, and nothing else.
    let jail = tempfile::Builder::new().prefix("wsgi-jail-").tempdir().expect("a folder");
    let root = jail.path();
    let python = Path::new("/usr/bin/python3").canonicalize().expect("the system's Python");
    let says = "import sys, sysconfig, glob; print(sys.prefix); print(sysconfig.get_path('stdlib')); \
                print(' '.join(glob.glob(sysconfig.get_path('stdlib') + '/lib-dynload/*.so')))";
    let said = tools::run("/usr/bin/python3", &["-I", "-c", says]);
    let lines: Vec<&str> = said.lines().collect();
    let mut files = vec![python.display().to_string(), module_file().display().to_string()];
    files.extend(lines[2].split(' ').map(str::to_owned));
    let needed = tools::run("ldd", &files);
    let libraries =
        needed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    let mut wanted: BTreeSet<String> = libraries.map(str::to_owned).collect();
    wanted.insert(python.display().to_string());
    wanted.insert(lines[1].to_owned());
    let wanted: Vec<String> = ["-RL", "--parents"]
        .iter()
        .map(|text| (*text).to_owned())
        .chain(wanted)
        .chain([root.display().to_string()])
        .collect();
    tools::run("cp", &wanted);
    for folder in ["proc", "srv", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::copy(manifest().join("tests/apps/evaluate.py"), root.join("srv/app.py")).expect("a script");
    tools::run("chmod", &["-R", "go+rX", &root.display().to_string()]);
    let Some(_mounted) = Mounted::proc(&root.join("proc")) else {
        skip("this machine does not allow mounting");
        return;
    };
    let shown = root.display();
    let server = Site::new("chroot")
        .conf(&format!(
            "WSGIDaemonProcess jailed threads=2 chroot={shown} home=/srv python-home={}\n\
             <Directory {shown}/srv>\nRequire all granted\n</Directory>",
            python.display()
        ))
        .mount("/", &format!("{shown}/srv/app.py"), "process-group=jailed")
        .start();
    for (expression, value) in [
        ("sorted(__import__('os').listdir('/srv'))", "['__pycache__', 'app.py']"),
        ("__import__('os').path.exists('/etc/passwd')", "False"),
        ("__import__('os').getcwd()", "'/srv'"),
        ("environ['SCRIPT_FILENAME'].endswith('/srv/app.py')", "True"),
    ] {
        assert_eq!(
            evaluate(&server, "/", expression).replace("'__pycache__', ", ""),
            value.replace("'__pycache__', ", ""),
            "{expression}"
        );
    }
}
