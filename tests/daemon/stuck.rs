//! Requests that do not end, interpreters that do not answer, groups that are full.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{DEADLINE, Load, Server, Site, wait_for};
use crate::processes::{stop, wait_for_daemons, wait_for_end};

/// `/python` and `/sleep` do not end; `/held` does not let go of the GIL either; `/wait` ends when there is a file
/// `go`.
const STUCK: &str = r#"
import ctypes
import os
import time

SCRATCH = os.environ["TEST_SCRATCH"]

def note(name):
    with open(SCRATCH + "/" + name, "a") as file:
        file.write("%d;" % os.getpid())

def turns_for_ever():
    while True:
        time.sleep(0.01)

def sleeps_for_ever():
    time.sleep(100000)

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/python":
        note("python")
        turns_for_ever()
    elif path == "/sleep":
        note("sleep")
        sleeps_for_ever()
    elif path == "/held":
        note("held")
        ctypes.PyDLL(None).sleep(100000)
    elif path == "/wait":
        note("wait")
        while not os.path.exists(SCRATCH + "/go"):
            time.sleep(0.005)
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

fn site(name: &str, options: &str) -> Server {
    let server = Site::new(name)
        .daemon()
        .app("hello.py")
        .conf(&format!("WSGIDaemonProcess stuck env=TEST_SCRATCH=@root@/scratch {options}"))
        .source_with("/stuck", STUCK, "process-group=stuck application-group=%{GLOBAL}")
        .control()
        .start();
    server.get("/stuck").expect(200);
    server.get("/").expect(200);
    server
}

/// A request that is under way.
fn begin(server: &Server, path: &str) -> crate::harness::Client {
    let mut client = server.client();
    client.send_request("GET", &format!("/stuck/{path}"), &[], b"");
    server.wait_for_file(&format!("scratch/{path}"), ";");
    client
}

#[test]
fn request_timeout_answers_and_shows_the_stack() {
    for (path, function) in [("python", "turns_for_ever"), ("sleep", "sleeps_for_ever")] {
        let server = site("timeout", "threads=3 request-timeout=1 graceful-timeout=1");
        let old: u32 = server.get("/stuck").expect(200).text().parse().expect("a process");
        let load = Load::default();
        thread::scope(|scope| {
            let _ending = load.start(scope, server.port(), "/stuck", 2);
            let mut client = begin(&server, path);
            assert_eq!(client.read_response().status, 504);
            load.wait_for(100);
            // A process that has all its threads takes the place of this one.
            wait_for_end(&[old]);
            load.wait_for(100);
        });
        assert_eq!(load.lost(), (0, vec![]));
        let said = server.expect_log("longer than request-timeout allows");
        assert!(said.contains("[wsgi:error]"), "{said}");
        assert!(server.log().contains(function), "{}", server.log());
        // Its thread never ends, and the process does all the same.
        server.allow_log("group 'stuck'");
    }
}

#[test]
fn interrupt_ends_a_request_and_keeps_the_process() {
    let server = site("interrupt", "threads=3 request-timeout=1 interrupt-timeout=30");
    let old = server.get("/stuck").expect(200).text();
    let mut client = begin(&server, "python");
    assert_eq!(client.read_response().status, 504);
    server.expect_log("RequestTimeout");
    assert_eq!(server.get("/stuck").expect(200).text(), old);
}

#[test]
fn held_interpreter_costs_only_its_own_requests() {
    let server = site("deadlock", "threads=3 processes=2 deadlock-timeout=2 graceful-timeout=1");
    let daemons = wait_for_daemons(&server, 3, &[]);
    let mut held = begin(&server, "held");
    let text = server.read("scratch/held");
    let victim: u32 = text.trim_end_matches(';').parse().expect("a process");
    assert!(daemons.contains(&victim));
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 1);
        wait_for_end(&[victim]);
        load.wait_for(20);
    });
    assert_eq!(load.lost(), (0, vec![]));
    assert_eq!(held.read_response().status, 502);
    server.expect_log("deadlock-timeout");
    server.allow_log("group 'stuck'");
    server.allow_log("the process ends before the request does");
    for _ in 0..6 {
        assert_ne!(server.get("/stuck").expect(200).text(), victim.to_string());
    }
}

#[test]
fn stopped_process_is_replaced() {
    let server = site("stopped", "threads=2 deadlock-timeout=1 shutdown-timeout=1");
    let old: u32 = server.get("/stuck").expect(200).text().parse().expect("a process");
    let mut begun = begin(&server, "wait");
    stop(old);
    // On a kept connection nobody reads it, and on a new one nobody accepts it.
    let replies = thread::scope(|scope| {
        let asked = [(); 3].map(|()| scope.spawn(|| server.get("/stuck")));
        asked.map(|asked| asked.join().expect("an answer"))
    });
    for reply in replies {
        assert_ne!(reply.expect(200).text(), old.to_string());
    }
    wait_for_end(&[old]);
    assert_eq!(begun.read_response().status, 502);
    let said = server.expect_log("there is no response after");
    assert!(said.contains("it gave no sign of life for deadlock-timeout"), "{said}");
    server.allow_log("group 'stuck'");
}

#[test]
fn request_timeout_is_kept_where_the_interpreter_does_not_answer() {
    let server =
        site("held-timeout", "threads=3 request-timeout=1 deadlock-timeout=60 graceful-timeout=1");
    let old: u32 = server.get("/stuck").expect(200).text().parse().expect("a process");
    let mut held = begin(&server, "held");
    assert_eq!(held.read_response().status, 504);
    server.expect_log("its interpreter does not answer");
    server.allow_log("group 'stuck'");
    // Others of its process wait with it; none of them for ever.
    let reply = server.get("/stuck");
    assert!(matches!(reply.status, 200 | 502 | 504), "{}", reply.status);
    server.allow_log("longer than request-timeout allows");
    server.allow_log("the process ends before the request does");
    wait_for_end(&[old]);
    assert_ne!(server.get("/stuck").expect(200).text(), old.to_string());
}

#[test]
fn full_group_answers_at_once_and_alone() {
    let server = site("full", "threads=1 queue-limit=2");
    let mut first = begin(&server, "wait");
    let (load, refused) = (Load::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _endings = (
            load.start(scope, server.port(), "/", 1),
            load.start(scope, server.port(), "/control", 1),
        );
        // Some wait for the thread, the others are too many.
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let reply = server.get("/stuck");
                    if reply.status == 503 {
                        assert_eq!(reply.header("Retry-After"), Some("1"));
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    reply.status
                })
            })
            .collect();
        let full = wait_for(DEADLINE, || (refused.load(Ordering::Relaxed) >= 6).then_some(()));
        load.wait_for(100);
        server.write("scratch/go", "", 0);
        let mut statuses: Vec<u16> =
            clients.into_iter().map(|client| client.join().expect("an answer")).collect();
        statuses.sort_unstable();
        assert!(full.is_some(), "{statuses:?}");
        assert_eq!(statuses, [200, 200, 503, 503, 503, 503, 503, 503]);
    });
    assert_eq!(load.lost(), (0, vec![]));
    first.read_response().expect(200);
    server.expect_log("group 'stuck'");
}
