//! Where mod_wsgi falls short: what docs/gaps.md says is fixed, and that no other file of tests shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use harness::{DEADLINE, Server, Site, both_modes, pythons, site, skip, tools, wait_for};

/// The text of all Rust sources of a place that docs/gaps.md names.
fn sources(place: &str) -> String {
    let top = site::manifest();
    let mut open = match place {
        "handler" => vec![top.join("src/handler")],
        "supervisor" | "daemon" => vec![top.join(place)],
        _ => vec![top.join("tests").join(format!("{place}.rs")), top.join("tests").join(place)],
    };
    let mut text = String::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("read a directory");
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            text += &fs::read_to_string(&path).expect("read a source file");
        }
    }
    text
}

#[test]
fn the_page_has_every_gap_and_names_tests_that_exist() {
    let page = fs::read_to_string(site::manifest().join("docs/gaps.md")).expect("read gaps.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let all: Vec<String> = (1..=67).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, all);
    for row in &rows {
        let [number, _, verdict, reason] = row.as_slice() else { panic!("{row:?}") };
        assert!(["fixed", "different", "the same"].contains(verdict), "{number}: {verdict}");
        let tests: Vec<(&str, &str)> =
            reason.split('`').filter_map(|word| word.split_once("::")).collect();
        assert!(!tests.is_empty() || *verdict != "fixed", "{number} names no test");
        assert!(!reason.is_empty(), "{number} gives no reason");
        for (place, name) in tests {
            let text = sources(place);
            let known = [format!("fn {name}()"), format!("both_modes!({name},")];
            assert!(known.iter().any(|known| text.contains(known)), "{number}: {place}::{name}");
        }
    }
}

/// `/wait` says that it has begun and ends when it is told to; every path answers with the process's number.
const GATED: &str = r#"
import os, time

scratch = os.environ["TEST_SCRATCH"]

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        open(scratch + "/began", "a").write("began\n")
        while not os.path.exists(scratch + "/go"):
            time.sleep(0.01)
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"#;

/// As many MiB in blocks as the path says, which is more than the sockets on the way hold; says when it has been
/// closed.
const LARGE: &str = r#"
import os

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/":
        return [b"%d" % os.getpid()]
    return Blocks(int(environ["PATH_INFO"][1:]))

class Blocks:
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (b"x" * 65536 for _ in range(self.count * 16))

    def close(self):
        open(os.environ["TEST_SCRATCH"] + "/closed", "a").write("closed\n")
"#;

fn pid(server: &Server) -> String {
    server.get("/").expect(200).text()
}

/// Lets the requests that wait go on.
fn open_gate(server: &Server) {
    fs::write(server.path("scratch/go"), "").expect("write a file");
}

fn daemon(name: &str) -> Site {
    Site::new(name).daemon()
}

#[test]
fn a_killed_process_leaves_a_visibly_cut_response() {
    let code = r#"
import os, signal

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/":
        return [b"%d" % os.getpid()]
    return dies()

def dies():
    yield b"x" * 100000
    os.kill(os.getpid(), signal.SIGKILL)
    yield b"never"
"#;
    let server = daemon("killed").source("/", code).start();
    let before = pid(&server);
    let mut client = server.client();
    let reply = client.get("/dies");
    assert_eq!((reply.status, reply.complete), (200, false));
    assert!(client.is_closed());
    let line = server.expect_log("the response is cut");
    assert!(line.contains("SIGKILL"), "{line}");
    server.allow_log("was ended by SIGKILL");
    // Whoever comes next waits for the successor.
    assert_ne!(pid(&server), before);
}

#[test]
fn requests_under_way_outlive_a_reload() {
    for conf in ["", "WSGISocketRotation Off", "WSGISocketRotation On"] {
        let server = daemon("reload").conf(conf).source("/", GATED).start();
        server.allow_log("WSGISocketRotation does nothing");
        let before = pid(&server);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| server.get("/wait"));
            server.wait_for_file("scratch/began", "began");
            server.graceful();
            // New requests are answered, and by a new process as soon as it is there, while the old one goes on.
            let replaced =
                wait_for(DEADLINE, || Some(pid(&server)).filter(|current| *current != before));
            open_gate(&server);
            let reply = waiting.join().expect("a request").expect(200);
            assert_eq!(reply.text(), before);
            assert!(replaced.is_some(), "the process of before the reload still serves");
        });
    }
}

#[test]
fn request_timeout_needs_no_other_limit() {
    let server = daemon("request-timeout")
        .group("request-timeout=500ms deadlock-timeout=0 threads=15")
        .source("/", GATED)
        .start();
    let before = pid(&server);
    server.get("/wait").expect(504);
    server.expect_log("longer than request-timeout allows");
    server.allow_log("a request ran longer than request-timeout");
    // The process, whose thread is lost, is replaced, and others are served meanwhile.
    let replaced = wait_for(DEADLINE, || Some(pid(&server)).filter(|current| *current != before));
    assert!(replaced.is_some());
    open_gate(&server);
}

#[test]
fn maximum_requests_hold_under_load() {
    let server = daemon("maximum-requests").group("maximum-requests=5").source("/", GATED).start();
    let seen = Mutex::new(BTreeSet::new());
    let enough = || seen.lock().expect("a list").len() >= 3;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reached = wait_for(DEADLINE, || {
                    seen.lock().expect("a list").insert(pid(&server));
                    enough().then_some(())
                });
                assert!(reached.is_some(), "{:?}", seen.lock().expect("a list"));
            });
        }
    });
}

both_modes!(every_log_level_is_safe, |site| {
    let server = site
        .conf("LogLevel wsgi:trace8")
        .source_with("/", GATED, "application-group=named")
        .start();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    pid(&server);
                }
            });
        }
    });
});

/// Has a file sent, and is not done with that.
const FILE_AND_MORE: &str = r#"
import os
import time

class File:
    def __init__(self):
        self.file = open(os.environ["TEST_SCRATCH"] + "/file", "w+b")
        self.file.truncate(12 << 20)

    def read(self, size):
        return self.file.read(size)

    def fileno(self):
        return self.file.fileno()

    def close(self):
        time.sleep(0.3)

def application(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](File())
"#;

#[test]
fn upload_and_response_cross_each_other() {
    let body = vec![b'u'; 16 << 20];
    for options in ["request-buffering=Off", "request-buffering=1M", ""] {
        let server = daemon("crossing")
            .group(options)
            .source("/", LARGE)
            .source("/file", FILE_AND_MORE)
            .start();
        for place in ["/12", "/file"] {
            // The application reads nothing of it, and the client nothing of the response, which is more than the
            // network holds, before it has sent it all.
            let reply = server.client().post(place, &body);
            assert_eq!((reply.status, reply.complete, reply.body.len()), (200, true, 12 << 20));
        }
    }
}

both_modes!(headers_of_applications_pass_for_nothing_else, |site| {
    let code = r#"
def application(environ, start_response):
    path = environ["PATH_INFO"]
    headers = {
        "/error": [("X-Own", "1")],
        "/status": [("Status", "404 Not Found")],
        "/colon": [("X:Y", "v")],
        "/break": [("X", "v\r\nStatus: 404 Not Found")],
    }[path]
    start_response("200 Error" if path == "/error" else "200 OK", headers)
    return [b"served"]
"#;
    let server = site.source("/", code).start();
    let reply = server.get("/error").expect(200);
    assert_eq!((reply.reason.as_str(), reply.text().as_str()), ("Error", "served"));
    assert_eq!(server.get("/status").expect(200).text(), "served");
    for path in ["/colon", "/break"] {
        let reply = server.get(path).expect(500);
        assert_eq!(reply.header("X"), None);
        assert_eq!(reply.header("X:Y"), None);
    }
    server.expect_log("ValueError");
});

#[test]
fn a_slow_client_holds_no_thread() {
    let server = daemon("slow").group("threads=1").source("/", LARGE).start();
    let mut slow = server.client();
    slow.send_request("GET", "/12", &[], b"");
    let mut reply = slow.read_head();
    // The only thread has done all of its work while the client has taken next to nothing of it.
    server.wait_for_file("scratch/closed", "closed");
    pid(&server);
    slow.read_body(&mut reply, "GET");
    assert_eq!((reply.complete, reply.body.len()), (true, 12 << 20));
}

#[test]
fn a_client_that_waited_long_may_take_its_time() {
    let code = r#"
import os
import time

def application(environ, start_response):
    time.sleep(1.5)
    start_response("200 OK", [])
    return Blocks()

class Blocks:
    def __iter__(self):
        return (b"x" * 65536 for _ in range(192))

    def close(self):
        open(os.environ["TEST_SCRATCH"] + "/closed", "a").write("closed\n")
        time.sleep(0.3)
"#;
    // What the client had to wait for is no time in which it took nothing.
    for (options, conf) in [("response-socket-timeout=1s", ""), ("socket-timeout=60s", "Timeout 1")]
    {
        let server = daemon("patient").group(options).source("/", code).conf(conf).start();
        let mut slow = server.client();
        slow.send_request("GET", "/", &[], b"");
        let mut reply = slow.read_head();
        server.wait_for_file("scratch/closed", "closed");
        slow.read_body(&mut reply, "GET");
        assert_eq!((reply.complete, reply.body.len()), (true, 12 << 20));
    }
}

#[test]
fn an_application_that_waited_for_a_slow_upload_has_its_time_afterwards() {
    let code = r#"
import time

def application(environ, start_response):
    length = len(environ["wsgi.input"].read())
    time.sleep(0.5)
    start_response("200 OK", [])
    return [b"%d" % length]
"#;
    let server = daemon("waited")
        .group("request-buffering=Off socket-timeout=1s request-timeout=60s queue-timeout=60s")
        .source("/", code)
        .start();
    let mut slow = server.client();
    slow.send_raw(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n");
    // Each byte in time, all together later than the process may be silent.
    for byte in b"slow" {
        thread::sleep(Duration::from_millis(400));
        slow.send_raw(&[*byte]);
    }
    assert_eq!(slow.read_response().expect(200).text(), "4");
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let server = daemon("response-socket-timeout")
        .group("threads=1 response-socket-timeout=1s response-buffering=64K")
        .source("/", LARGE)
        .start();
    let mut slow = server.client();
    slow.send_request("GET", "/64", &[], b"");
    let mut reply = slow.read_head();
    // httpd's own Timeout is longer than this test may take.
    server.wait_for_file("scratch/closed", "closed");
    pid(&server);
    slow.read_body(&mut reply, "GET");
    let (complete, length) = (reply.complete, reply.body.len());
    assert!(!complete && length < 64 << 20, "{complete} {length}");
}

#[test]
fn a_full_queue_is_told_at_once() {
    let server = daemon("full").group("threads=1 queue-limit=0").source("/", GATED).start();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.get("/wait"));
        server.wait_for_file("scratch/began", "began");
        let refused = server.get("/").expect(503);
        assert!(refused.header("Retry-After").is_some());
        open_gate(&server);
        waiting.join().expect("a request").expect(200);
    });
    server.expect_log("daemon process group 'tests': ");
    pid(&server);
}

#[test]
fn a_process_that_grows_is_replaced_before_it_fails() {
    let code = r#"
import os

kept = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/grow":
        kept.append(b"x" * (462 << 20))
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"#;
    let server = daemon("memory").group("memory-limit=512M threads=1").source("/", code).start();
    let before = pid(&server);
    assert_eq!(server.get("/grow").expect(200).text(), before);
    let replaced = wait_for(DEADLINE, || Some(pid(&server)).filter(|current| *current != before));
    assert!(replaced.is_some());
}

#[test]
fn one_application_alone_is_in_the_main_interpreter() {
    let code = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    return [environ["mod_wsgi.application_group"].encode()]
"#;
    let server = daemon("alone").source("/", code).start();
    assert_eq!(server.get("/").expect(200).text(), "");
    drop(server);
    let server = daemon("two").source("/a", code).source("/b", code).start();
    let group = |path: &str| server.get(path).expect(200).text();
    assert!(group("/a").ends_with("|/a") && group("/b").ends_with("|/b"));
    drop(server);
    let server = daemon("named").source_with("/", code, "application-group=own").start();
    assert_eq!(server.get("/").expect(200).text(), "own");
}

#[test]
fn every_group_has_its_own_python() {
    let code = r#"
import sys

def application(environ, start_response):
    start_response("200 OK", [])
    return [("%d.%d %s" % (*sys.version_info[:2], sys.executable)).encode()]
"#;
    let mut pythons: Vec<&pythons::Python> = Vec::new();
    for python in pythons::all() {
        if pythons.iter().all(|other| other.version != python.version) {
            pythons.push(python);
        }
    }
    if pythons.len() < 2 {
        skip("there is only one version of Python here");
        return;
    }
    let mut site = Site::new("pythons").file("apps/version.py", code);
    for (number, python) in pythons.iter().enumerate() {
        let home = python.executable.display();
        site = site
            .conf(&format!("WSGIDaemonProcess group-{number} threads=1 python-home=\"{home}\""))
            .mount(&format!("/{number}"), "version.py", &format!("process-group=group-{number}"));
    }
    let server = site.start();
    for (number, python) in pythons.iter().enumerate() {
        let text = server.get(&format!("/{number}")).expect(200).text();
        let (major, minor) = python.version;
        assert!(text.starts_with(&format!("{major}.{minor} ")), "{number}: {text}");
    }
}

both_modes!(changes_of_the_environment_stay_in_their_interpreter, |site| {
    // What the scripts do that Django makes for a new project.
    let code = |settings: &str| {
        format!(
            r#"
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
scratch = os.environ.pop("TEST_SCRATCH")

def application(environ, start_response):
    start_response("200 OK", [])
    return [os.environ["DJANGO_SETTINGS_MODULE"].encode(), b" %d" % ("TEST_SCRATCH" in os.environ)]
"#
        )
    };
    // A folder of scripts: each is loaded when it is asked for.
    let server = site
        .file("apps/sites/one.py", code("one.settings"))
        .file("apps/sites/two.py", code("two.settings"))
        .conf("WSGIScriptAlias /sites @apps@/sites")
        .start();
    for name in ["one", "two", "one"] {
        let text = server.get(&format!("/sites/{name}.py")).expect(200).text();
        assert_eq!(text, format!("{name}.settings 0"));
    }
});

/// The memory that a process can write to, as far as it can be read.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read /proc");
    let file = File::open(format!("/proc/{pid}/mem")).expect("open /proc");
    let areas = maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        rights.starts_with("rw").then_some((from, to))
    });
    areas
        .filter_map(|(from, to)| {
            let mut bytes = vec![0; usize::try_from(to - from).ok()?];
            let mut read = 0;
            while read < bytes.len() {
                let at = from + u64::try_from(read).ok()?;
                match file.read_at(&mut bytes[read..], at) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => read += count,
                }
            }
            bytes.truncate(read);
            Some(bytes)
        })
        .collect()
}

/// Whether a process has these bytes in its memory.
fn holds(pid: u32, needle: &[u8]) -> bool {
    memory(pid).iter().any(|area| area.windows(needle.len()).any(|bytes| bytes == needle))
}

/// The secret number of a key, as OpenSSL has it in memory: the lowest byte first.
fn secret_of(key: &Path) -> Vec<u8> {
    let text = tools::run("openssl", &["ec", "-in", &key.to_string_lossy(), "-noout", "-text"]);
    let digits = text.split("priv:").nth(1).and_then(|rest| rest.split("pub:").next());
    let digits = digits.expect("the number of a key");
    let mut bytes: Vec<u8> = digits
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect();
    bytes.reverse();
    bytes.truncate(24);
    bytes
}

#[test]
fn a_daemon_process_has_nothing_of_httpd() {
    if !site::is_root() {
        skip("only root can look into the memory of other users' processes");
        return;
    }
    let server = daemon("keys").tls().app("hello.py").start();
    assert_eq!(server.curl_tls("/", &["-k"]).text(), "hello\n");
    let secret = secret_of(&server.path("key.pem"));
    assert_eq!(secret.len(), 24);
    let child = *server.children().first().expect("a child of httpd");
    assert!(holds(child, &secret), "the key is not even found in httpd");
    let supervisor = server.supervisor().expect("a supervisor");
    let daemons = server.daemons();
    assert!(!daemons.is_empty());
    for pid in daemons.into_iter().chain([supervisor]) {
        assert!(!holds(pid, &secret), "process {pid} has httpd's key");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read /proc");
        // Neither httpd's code nor its scoreboard, which is shared memory without a name.
        for foreign in ["httpd", "apache2", "libapr", "mod_ssl", "/dev/zero", "/SYSV"] {
            assert!(!maps.contains(foreign), "process {pid} has {foreign}");
        }
    }
}
