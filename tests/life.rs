//! Processes: how they end, how httpd restarts under load, and that memory stays where it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use harness::{Client, DEADLINE, Mpm, Reply, Server, Site, both_modes, wait_for};

/// Leaves notes at the end of its interpreter.
const NOTING: &str = r#"
import atexit
import os

SCRATCH = os.environ["TEST_SCRATCH"]

def note(name, text):
    with open(SCRATCH + "/" + name, "a") as file:
        file.write(text + "\n")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"body"]

atexit.register(lambda: note("ended", "%d" % os.getpid()))
note("began", "%d" % os.getpid())
"#;

fn lines(server: &Server, file: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        server.read(&format!("scratch/{file}")).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// One request on a connection of its own; false when it was not answered as it should be.
fn answered(port: u16, target: &str, status: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(DEADLINE)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_end(&mut answer).is_ok()
        && answer.starts_with(format!("HTTP/1.1 {status}").as_bytes())
        && answer.ends_with(b"body")
}

/// What threads that ask without pause have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    good: AtomicUsize,
    bad: AtomicUsize,
}

/// Ends a load when it goes out of scope: a test that fails meanwhile must not leave its threads asking for ever.
struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn run(&self, port: u16, target: &str) {
        while !self.over.load(Ordering::Relaxed) {
            let count = if answered(port, target, "200") { &self.good } else { &self.bad };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    fn bad(&self) -> usize {
        self.bad.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered.
    #[track_caller]
    fn wait_for(&self, more: usize) {
        let wanted = self.good() + more;
        let came = wait_for(DEADLINE, || (self.good() >= wanted).then_some(()));
        assert!(came.is_some(), "only {} of {wanted} requests were answered", self.good());
    }
}

/// Another site in the mode of this one.
fn like(mode: &Site, name: &str) -> Site {
    let site = Site::new(name);
    if mode.is_daemon() { site.daemon() } else { site }
}

both_modes!(exit_functions_run, |site| {
    for mpm in [Mpm::Event, Mpm::Worker, Mpm::Prefork] {
        let mut server = like(&site, "exit")
            .mpm(mpm)
            .source_with("/main", NOTING, "application-group=%{GLOBAL}")
            .mount("/sub", "source-0.py", "application-group=sub")
            .start();
        let mut client = server.client();
        client.get("/main").expect(200);
        client.get("/sub").expect(200);
        drop(client);
        server.stop();
        let began = lines(&server, "began");
        assert_eq!(began.len(), 2, "{mpm:?}");
        assert_eq!(lines(&server, "ended"), began, "{mpm:?}");
    }
});

both_modes!(exit_functions_run_under_load, |site| {
    for mpm in [Mpm::Event, Mpm::Worker, Mpm::Prefork] {
        let mut server = like(&site, "exit-load").mpm(mpm).source("/", NOTING).start();
        let (load, port) = (Load::default(), server.port());
        thread::scope(|scope| {
            let ending = Ending(&load);
            for _ in 0..4 {
                scope.spawn(|| load.run(port, "/"));
            }
            load.wait_for(200);
            match mpm {
                Mpm::Prefork => server.stop(),
                Mpm::Event | Mpm::Worker => server.stop_gracefully(),
            }
            drop(ending);
        });
        let began = lines(&server, "began");
        assert!(!began.is_empty());
        assert_eq!(lines(&server, "ended"), began, "{mpm:?}");
        assert!(!server.log().contains("exit signal"), "{}", server.log());
    }
});

both_modes!(exit_waits_for_a_request, |site| {
    // A graceful restart lets the request end that its child is busy with.
    let server = site
        .source(
            "/",
            &format!(
                "{NOTING}\n\
                 import time\n\
                 def slow(environ, start_response):\n\
                 \x20   start_response('200 OK', [])\n\
                 \x20   note('serving', 'yes')\n\
                 \x20   yield b'first '\n\
                 \x20   while not os.path.exists(SCRATCH + '/go'):\n\
                 \x20       time.sleep(0.005)\n\
                 \x20   yield b'last'\n"
            ),
        )
        .mount("/slow", "source-0.py", "callable-object=slow")
        .start();
    let mut slow = server.client();
    slow.send_request("GET", "/slow", &[], b"");
    server.wait_for_file("scratch/serving", "yes");
    server.graceful();
    server.client().get("/").expect(200);
    server.write("scratch/go", "", 0);
    assert_eq!(slow.read_response().expect(200).text(), "first last");
});

/// Threads that run beside requests until the end of the process.
const THREADED: &str = r#"
import os
import threading
import time

stop = threading.Event()

def busy():
    # Pure Python without end, and something that lets go of the GIL now and then.
    while True:
        sum(range(1000))
        os.stat("/")

def patient():
    while not stop.wait(0.001):
        pass
    note("joined", "%d" % os.getpid())

def sleeping():
    time.sleep(100000)

for function in (busy, sleeping):
    threading.Thread(target=function, daemon=True).start()
threading.Thread(target=patient, daemon=False).start()

# What concurrent.futures does, too: told before threads are joined.
threading._register_atexit(stop.set)
"#;

both_modes!(background_threads_do_not_disturb_the_end, |site| {
    let code = format!("{NOTING}\n{THREADED}");
    let mut server = site
        .source_with("/main", &code, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = Ending(&load);
        for target in ["/main", "/sub"] {
            let (server, load) = (&server, &load);
            scope.spawn(move || load.run(server.port(), target));
        }
        load.wait_for(100);
    });
    server.stop();
    let began = lines(&server, "began");
    assert_eq!(lines(&server, "joined"), began);
    assert_eq!(lines(&server, "ended"), began);
    assert!(!server.log().contains("exit signal"), "{}", server.log());
});

both_modes!(pools_and_loops_end_with_the_process, |site| {
    let code = r#"
import asyncio
import concurrent.futures
import threading

pool = concurrent.futures.ThreadPoolExecutor(4)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

async def twice(number):
    await asyncio.sleep(0)
    return number * 2

def application(environ, start_response):
    values = list(pool.map(lambda number: number + 1, range(5)))
    value = asyncio.run_coroutine_threadsafe(twice(21), loop).result()
    start_response("200 OK", [])
    return [repr((values, value)).encode()]
"#;
    let mut server = site.source("/", code).start();
    let mut client = server.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").expect(200).text(), "([1, 2, 3, 4, 5], 42)");
    }
    server.stop();
    assert!(!server.log().contains("exit signal"), "{}", server.log());
});

both_modes!(thread_without_end_holds_nobody_up_for_ever, |site| {
    let code = format!(
        "{NOTING}\n\
         import threading\n\
         threading.Thread(target=threading.Event().wait, daemon=False).start()\n"
    );
    let mut server = site.source("/", &code).start();
    server.get("/").expect(200);
    server.allow_log("exit functions or threads have not ended");
    server.stop();
    assert!(!server.log().contains("SIGKILL"), "{}", server.log());
    assert!(!server.log().contains("exit signal"), "{}", server.log());
});

both_modes!(exit_function_that_fails_stops_no_other, |site| {
    let code = format!(
        "{NOTING}\n\
         def fail():\n\
         \x20   raise LookupError('at the end')\n\
         atexit.register(fail)\n"
    );
    let mut server = site.source("/", &code).start();
    server.get("/").expect(200);
    server.allow_log("at the end");
    server.stop();
    assert_eq!(lines(&server, "ended"), lines(&server, "began"));
    assert!(server.log().contains("LookupError: at the end"), "{}", server.log());
});

both_modes!(destroy_interpreter_off_skips_exit_functions, |site| {
    let mut server = site.source("/", NOTING).conf("WSGIDestroyInterpreter Off").start();
    server.get("/").expect(200);
    server.stop();
    assert_eq!(server.read("scratch/ended"), "");
});

both_modes!(one_process_serves_to_be_debugged, |site| {
    let server = site.app("hello.py").in_one_process().start();
    for _ in 0..3 {
        assert_eq!(server.get("/").expect(200).text(), "hello\n");
    }
});

both_modes!(processes_can_be_started, |site| {
    let code = r#"
import os
import subprocess

def application(environ, start_response):
    shown = subprocess.run(["echo", "from a child"], stdout=subprocess.PIPE, check=True).stdout
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    start_response("200 OK", [])
    return [shown, b"%d" % status]
"#;
    let mut server = site.source_with("/", code, "application-group=%{GLOBAL}").start();
    for _ in 0..5 {
        assert_eq!(server.get("/").expect(200).text(), "from a child\n7");
    }
    server.stop();
});

both_modes!(signals_stay_httpds, |site| {
    // Importing signal must not give SIGINT, SIGTERM or SIGUSR1 another meaning.
    let code = format!("import signal, asyncio, threading\n{NOTING}");
    let mut server = site
        .source_with("/main", &code, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    server.get("/main").expect(200);
    server.get("/sub").expect(200);
    let began = lines(&server, "began");
    server.graceful();
    let ended = wait_for(DEADLINE, || {
        let ended = lines(&server, "ended");
        began.iter().all(|pid| ended.contains(pid)).then_some(ended)
    });
    assert_eq!(ended, Some(began), "processes of before the restart end, and no other");
    server.get("/main").expect(200);
    server.stop();
    assert_eq!(lines(&server, "ended"), lines(&server, "began"));
});

both_modes!(children_are_replaced_after_their_share, |site| {
    let mut server = site
        .source("/", NOTING)
        .conf("MaxConnectionsPerChild 20\nServerLimit 4")
        .group("maximum-requests=20")
        .start();
    let came = wait_for(DEADLINE, || {
        for _ in 0..30 {
            assert!(answered(server.port(), "/", "200"));
        }
        (lines(&server, "ended").len() >= 3).then_some(())
    });
    assert!(came.is_some(), "{:?}", lines(&server, "ended"));
    server.stop();
    assert_eq!(lines(&server, "ended"), lines(&server, "began"));
});

both_modes!(restart_loads_the_module_again, |site| {
    let server = site.app("hello.py").start();
    for _ in 0..3 {
        let before = server.children();
        server.restart();
        server.get("/").expect(200);
        assert!(server.children().iter().all(|child| !before.contains(child)));
    }
});

both_modes!(changed_configuration_is_in_force_after_graceful, |site| {
    let server = site.app("evaluate.py").conf("WSGIPythonOptimize 0").start();
    let ask = |server: &Server| {
        let headers = [("X-Expression", "__import__('sys').flags.optimize")];
        server.client().request("GET", "/", &headers, b"").expect(200).text()
    };
    assert_eq!(ask(&server), "0");
    let path = server.path("httpd.conf");
    let text = fs::read_to_string(&path).expect("read httpd.conf");
    fs::write(&path, text.replace("WSGIPythonOptimize 0", "WSGIPythonOptimize 2"))
        .expect("write httpd.conf");
    server.graceful();
    let changed = wait_for(DEADLINE, || (ask(&server) == "2").then_some(()));
    assert!(changed.is_some());
});

both_modes!(graceful_restarts_under_load_lose_nothing, |site| {
    let mut server = site.source("/app", NOTING).file("htdocs/file", "body").start();
    let (wsgi, other) = (Load::default(), Load::default());
    let (restarts, _) = size();
    thread::scope(|scope| {
        let _ending = (Ending(&wsgi), Ending(&other));
        for _ in 0..3 {
            scope.spawn(|| wsgi.run(server.port(), "/app"));
        }
        scope.spawn(|| other.run(server.port(), "/file"));
        for _ in 0..restarts {
            wsgi.wait_for(100);
            server.graceful();
        }
        wsgi.wait_for(100);
    });
    // What httpd itself loses of its own files, an application may lose, too.
    assert!(wsgi.bad() <= other.bad(), "lost {} of {}", wsgi.bad(), wsgi.good());
    server.stop();
    assert_eq!(lines(&server, "ended"), lines(&server, "began"));
    assert!(!server.log().contains("exit signal"), "{}", server.log());
});

/// How many graceful restarts and requests: a share of it, or all where MOD_WSGI_RS_FULL is set.
fn size() -> (usize, usize) {
    if std::env::var_os("MOD_WSGI_RS_FULL").is_some() { (50, 200_000) } else { (10, 20_000) }
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read /proc");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// How much more memory a process may have at the end than after its first tenth, in KiB. What leaks
/// grows with the number of requests: twenty thousand times 100 bytes is more than this already.
const ROOM: usize = 2_000;

const VARIED: &str = r#"
import io

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("asked for")
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Length", str(len(body))), ("Content-Type", "text/plain")])
    if path == "/stream":
        return (body[at:at + 100] for at in range(0, len(body), 100))
    if path == "/file":
        return environ["wsgi.file_wrapper"](io.BytesIO(body))
    if path == "/real":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return [body]
"#;

both_modes!(requests_leave_memory_flat, |site| {
    // One child, so that all requests are its own.
    let server = site
        .conf("ServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nLogLevel crit wsgi:crit")
        .source_with("/main", VARIED, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    let (_, total) = size();
    let round = |requests: usize| {
        thread::scope(|scope| {
            for number in 0..4_usize {
                let server = &server;
                let place = if number % 2 == 0 { "/main" } else { "/sub" };
                scope.spawn(move || ask(&mut server.client(), place, requests / 4));
            }
        });
    };
    let serving = || [server.children(), server.daemons()].concat();
    let processes = serving();
    let sizes = || -> Vec<usize> { processes.iter().map(|pid| resident(*pid)).collect() };
    round(total / 10);
    let before = sizes();
    round(total - total / 10);
    let after = sizes();
    assert_eq!(serving(), processes);
    eprintln!("{total} requests: {before:?} KiB, then {after:?} KiB");
    let flat = before.iter().zip(&after).all(|(before, after)| *after <= before + ROOM);
    assert!(flat, "grew from {before:?} to {after:?} KiB");
});

/// Requests of all kinds on one connection.
fn ask(client: &mut Client, place: &str, count: usize) {
    let body = [b'x'; 1000];
    let chunked = [b"3e8\r\n", &body[..], b"\r\n0\r\n\r\n"].concat();
    for number in 0..count {
        let reply: Reply = match number % 8 {
            0 => client.post(&format!("{place}/stream"), &body),
            1 => client.post(&format!("{place}/file"), &body),
            2 => client.get(&format!("{place}/real")),
            3 => {
                let headers = [("Transfer-Encoding", "chunked")];
                client.request("POST", place, &headers, &chunked)
            }
            4 if number % 64 == 4 => client.get(&format!("{place}/raise")),
            _ => client.get(&format!("{place}/x?a=b")),
        };
        assert!(reply.complete && matches!(reply.status, 200 | 500), "{}", reply.status);
        client.settle(&reply);
    }
}

both_modes!(graceful_restarts_leave_memory_flat, |site| {
    let server = site
        .source_with("/", VARIED, "application-group=%{GLOBAL}")
        .conf("WSGIImportScript @apps@/source-0.py process-group=%{GLOBAL} application-group=%{GLOBAL}")
        .start();
    let (restarts, _) = size();
    let again = |times: usize| {
        for _ in 0..times {
            server.graceful();
            assert_eq!(server.get("/x").expect(200).text(), "");
        }
    };
    again(5);
    // Those that live through a restart.
    let keepers: Vec<u32> = [server.pid()].into_iter().chain(server.supervisor()).collect();
    let sizes = || -> Vec<usize> { keepers.iter().map(|pid| resident(*pid)).collect() };
    let before = sizes();
    again(restarts);
    let after = sizes();
    eprintln!("{restarts} graceful restarts: {before:?} KiB, then {after:?} KiB");
    let flat = before.iter().zip(&after).all(|(before, after)| *after <= before + ROOM);
    assert!(flat, "grew from {before:?} to {after:?} KiB");
});
