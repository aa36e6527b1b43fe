//! Several Pythons in one server, and each of them as if it were run by hand.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::site::manifest;
use crate::harness::{DEADLINE, Python, Server, Site, pythons, skip, tools, wait_for};
use crate::processes::{wait_for_daemons, wait_for_end};

/// What an interpreter says of itself.
const FACTS: &str = "[sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, \
                     '.'.join(map(str, sys.version_info[:3])), sys.abiflags, sys.getfilesystemencoding(), \
                     sys.flags.utf8_mode, sys.flags.isolated, sys.flags.ignore_environment, \
                     sys.flags.no_user_site, [p for p in sys.path if p], sys.implementation.name, \
                     sys.stdin is None]";

/// An application that evaluates what it is asked, as `tests/apps/evaluate.py`, with `sys` at hand.
fn mounted(python: &Python, name: &str, site: Site) -> Site {
    let executable = python.executable.display();
    site.conf(&format!("WSGIDaemonProcess {name} threads=2 python-home=\"{executable}\"")).mount(
        &format!("/{name}"),
        "evaluate.py",
        &format!("process-group={name}"),
    )
}

#[track_caller]
fn evaluate(server: &Server, place: &str, expression: &str) -> String {
    let headers = [("X-Expression", expression)];
    server.client().request("GET", place, &headers, b"").expect(200).text()
}

/// The same by the interpreter itself.
fn by_hand(python: &Python, expression: &str) -> String {
    let program = format!("import sys; sys.path.pop(0); print(ascii({expression}), end='')");
    let output = Command::new(&python.executable)
        .args(["-c", &program])
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("HOME", "/")
        .current_dir("/")
        .output()
        .expect("run Python");
    assert!(output.status.success(), "{}", tools::both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn all_pythons_serve_side_by_side_as_if_by_hand() {
    let all = pythons::all();
    assert!(!all.is_empty(), "there is no Python");
    if all.len() < 2 {
        skip("only one Python: run scripts/test-pythons.sh");
    }
    let mut site = Site::new("side-by-side");
    let named: Vec<(String, &Python)> =
        all.iter().enumerate().map(|(number, python)| (format!("p{number}"), python)).collect();
    for (name, python) in &named {
        site = mounted(python, name, site);
    }
    let server = site.start();
    for (name, python) in &named {
        let place = format!("/{name}");
        let expression = FACTS.replace("sys.", "__import__('sys').");
        let here = evaluate(&server, &place, &expression);
        let hand = by_hand(python, FACTS);
        assert_eq!(here, hand, "{} in {}", python.name(), python.prefix.display());
    }
    for (name, python) in &named {
        // And they start programs, copies of themselves, and processes of multiprocessing.
        let place = format!("/{name}");
        let version = format!("{}.{}", python.version.0, python.version.1);
        let asked = "__import__('subprocess').run([__import__('sys').executable, '-c', \
                     'import sys; print(\"%d.%d\" % sys.version_info[:2], sys.prefix, end=\"\")'], \
                     capture_output=True).stdout.decode()";
        let said = evaluate(&server, &place, asked);
        assert_eq!(said, format!("'{version} {}'", python.prefix.display()));
    }
}

/// What applications do with processes and signals.
const PROCESSES: &str = r#"
import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

SCRATCH = os.environ["TEST_SCRATCH"]
got = []

def note(name, text):
    with open(SCRATCH + "/" + name, "a") as file:
        file.write(text + "\n")

def handler(number, frame):
    got.append((number, threading.current_thread() is threading.main_thread()))

signal.signal(signal.SIGUSR2, handler)
signal.signal(signal.SIGALRM, handler)
atexit.register(lambda: note("ended", "%d" % os.getpid()))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fork":
        pid = os.fork()
        if not pid:
            os._exit(7)
        body = "%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    elif path == "/subprocess":
        program = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"
        done = subprocess.run([sys.executable, "-c", program], input=b"text", capture_output=True)
        body = "%s %d" % (done.stdout.decode(), done.returncode)
    elif path.startswith("/pool/"):
        with multiprocessing.get_context(path[6:]).Pool(2) as pool:
            body = repr(pool.map(abs, [-1, -2, 3]))
    elif path == "/signal":
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        body = "sent"
    elif path == "/got":
        body = repr(sorted(set(got)))
    elif path == "/handlers":
        own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ignored = signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        body = "%s %s" % (own, ignored)
    else:
        body = "%d" % os.getpid()
    body = body.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

#[test]
fn processes_and_signals_are_pythons_own() {
    let mut server = Site::new("processes")
        .source("/", PROCESSES)
        .conf("WSGIRestrictSignal Off")
        .daemon()
        .start();
    let pid = server.get("/").expect(200).text();
    assert_eq!(server.get("/fork").expect(200).text(), "7");
    assert_eq!(server.get("/subprocess").expect(200).text(), "TEXT 3");
    for method in ["fork", "spawn", "forkserver"] {
        assert_eq!(
            server.get(&format!("/pool/{method}")).expect(200).text(),
            "[1, 2, 3]",
            "{method}"
        );
    }
    server.get("/signal").expect(200);
    let came = wait_for(DEADLINE, || {
        (server.get("/got").expect(200).text() == "[(12, True), (14, True)]").then_some(())
    });
    assert!(came.is_some(), "{}", server.get("/got").text());
    assert_eq!(server.get("/handlers").expect(200).text(), "True True");
    // The same process served all of it, and its end is Python's.
    assert_eq!(server.get("/").expect(200).text(), pid);
    server.stop();
    assert_eq!(server.read("scratch/ended").trim(), pid);
}

#[test]
fn scripts_are_loaded_by_the_main_thread_even_for_an_early_request() {
    let early = "import signal\n\
                 signal.signal(signal.SIGUSR2, lambda number, frame: None)\n\
                 def application(environ, start_response):\n\
                 \x20   start_response('200 OK', [])\n\
                 \x20   return [b'early']\n";
    // The main thread is busy with this one.
    let slow = format!("import time\ntime.sleep(1)\n{early}");
    let server = Site::new("early")
        .source_with("/aaa-slow", &slow, "application-group=%{GLOBAL}")
        .source_with("/b", early, "application-group=%{GLOBAL}")
        .conf("WSGIRestrictSignal Off")
        .daemon()
        .start();
    assert_eq!(server.get("/b").expect(200).text(), "early");
    server.get("/aaa-slow").expect(200);
}

#[test]
fn end_signals_retire_a_process() {
    let server = Site::new("end-signals").source("/", PROCESSES).daemon().start();
    for name in ["TERM", "INT", "USR1"] {
        let old: u32 = server.get("/").expect(200).text().parse().expect("a process");
        tools::signal(old, name);
        wait_for_end(&[old]);
        assert_ne!(server.get("/").expect(200).text(), old.to_string(), "SIG{name}");
        wait_for_daemons(&server, 1, &[old]);
        let ended = server.read("scratch/ended");
        assert!(ended.contains(&old.to_string()), "SIG{name} skips what runs at exit: {ended}");
    }
}

#[test]
fn numpy_runs_beside_other_pythons() {
    let home = manifest().join("build/venv");
    assert!(home.join(".stamp").exists(), "build/venv is missing: run scripts/test-venv.sh");
    let home: PathBuf = home.canonicalize().expect("the real place of build/venv");
    if tools::run(
        &home.join("bin/python").to_string_lossy(),
        &["-c", "import importlib.util as u; print(u.find_spec('numpy'))"],
    )
    .trim()
        == "None"
    {
        skip("no numpy in build/venv");
        return;
    }
    let code = "import numpy\n\
                def application(environ, start_response):\n\
                \x20   start_response('200 OK', [])\n\
                \x20   return [repr(numpy.arange(6).reshape(2, 3).dot([1, 2, 3]).tolist()).encode()]\n";
    // The only mount of its group: no application group has to be named.
    let server = Site::new("numpy")
        .app("hello.py")
        .conf(&format!("WSGIDaemonProcess science threads=4 python-home=\"{}\"", home.display()))
        .conf("WSGIDaemonProcess plain threads=2")
        .source_with("/numpy", code, "process-group=science")
        .mount("/plain", "hello.py", "process-group=plain")
        .start();
    for _ in 0..3 {
        assert_eq!(server.get("/numpy").expect(200).text(), "[8, 26]");
        server.get("/plain").expect(200);
        server.get("/").expect(200);
    }
}
