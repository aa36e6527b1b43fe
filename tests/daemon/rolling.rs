//! Processes are replaced under a steady load of kept connections, and no request is lost or waits for it.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::{DEADLINE, Load, Server, Site, wait_for};
use crate::processes::{wait_for_daemons, wait_for_end};

/// How long the import of [`steady`]'s scripts takes. A request that waited for one would wait as long.
const IMPORT: Duration = Duration::from_secs(2);

/// No request is ever to wait as long as this.
const STALL: Duration = Duration::from_secs(1);

/// Clients of a load.
const CLIENTS: usize = 4;

/// An application that says which version of its code serves.
fn steady(version: &str) -> String {
    format!(
        r#"
import os
import time

time.sleep({import})

def application(environ, start_response):
    time.sleep(0.005)
    body = b"{version}"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#,
        import = IMPORT.as_secs()
    )
}

/// How often something is done: a share, or as often as promised where `MOD_WSGI_RS_FULL` is set.
fn times(share: usize, full: usize) -> usize {
    if std::env::var_os("MOD_WSGI_RS_FULL").is_some() { full } else { share }
}

#[test]
fn graceful_restarts_lose_nothing() {
    let server = Site::new("graceful").source("/", &steady("one")).daemon().control().start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        for _ in 0..times(4, 20) {
            let old = server.daemons();
            load.wait_for(50);
            server.graceful();
            // Another one before the new process is there must not hurt either.
            load.wait_for(20);
            server.graceful();
            wait_for_daemons(&server, 1, &old);
        }
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
}

#[test]
fn restarts_of_two_processes_lose_nothing() {
    let server = Site::new("graceful-two")
        .source("/", &steady("one"))
        .daemon()
        .control()
        .group("processes=2")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        for _ in 0..times(2, 20) {
            let old = wait_for_daemons(&server, 2, &[]);
            load.wait_for(50);
            server.graceful();
            wait_for_daemons(&server, 2, &old);
        }
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
}

#[test]
fn touched_scripts_lose_nothing() {
    let server = Site::new("touch").source("/", &steady("version 0")).daemon().control().start();
    server.get("/").expect(200);
    let load = Load::default();
    let count = times(3, 10);
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        load.wait_for(50);
        for version in 1..=count {
            let text = format!("version {version}");
            let age = 100 - u64::try_from(version).expect("a small number");
            server.write("apps/source-0.py", &steady(&text), age);
            load.wait_for_body(&text);
            load.wait_for(20);
        }
    });
    load.expect_all_within(STALL);
    assert_eq!(load.closed(), 0, "httpd had no reason to close a connection");
    assert_eq!(load.bodies().len(), count + 1);
}

#[test]
fn touch_is_noticed_without_a_request() {
    let server = Site::new("touch-quiet").source("/", &steady("one")).daemon().start();
    server.get("/").expect(200);
    let old = server.daemons();
    server.write("apps/source-0.py", &steady("two"), 10);
    wait_for_daemons(&server, 1, &old);
    assert_eq!(server.get("/").expect(200).text(), "two");
}

#[test]
fn maximum_requests_lose_nothing() {
    let server = Site::new("maximum")
        .source("/", &steady("one").replace("time.sleep(0.005)", ""))
        .daemon()
        .control()
        .group("maximum-requests=200")
        .start();
    server.get("/").expect(200);
    let first = server.daemons();
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        let mut old = first.clone();
        for _ in 0..times(3, 10) {
            wait_for_end(&old);
            load.wait_for(200);
            old = wait_for_daemons(&server, 1, &old);
        }
    });
    load.expect_all_within(STALL);
    assert_eq!(load.closed(), 0, "httpd had no reason to close a connection");
}

#[test]
fn age_loses_nothing() {
    let server = Site::new("age")
        .source("/", &steady("one"))
        .daemon()
        .control()
        .group("processes=2 restart-interval=3")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        let old = wait_for_daemons(&server, 2, &[]);
        wait_for_end(&old);
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
    assert_eq!(load.closed(), 0, "httpd had no reason to close a connection");
}

#[test]
fn broken_deploy_leaves_the_old_code_serving() {
    let server = Site::new("broken").source("/", &steady("one")).daemon().control().start();
    server.get("/").expect(200);
    let old = server.daemons();
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        load.wait_for(50);
        server.write("apps/source-0.py", "raise LookupError('deployed too early')", 50);
        server.expect_log("deployed too early");
        load.wait_for(200);
        // A reload of the server with the code still broken.
        server.graceful();
        load.wait_for(200);
        assert_eq!(load.bodies(), ["one"]);
        assert_eq!(server.daemons().first(), old.first(), "the old process goes on");
        server.write("apps/source-0.py", &steady("two"), 40);
        load.wait_for_body("two");
        wait_for_end(&old);
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
    assert_eq!(load.bodies(), ["one", "two"]);
    // Once for the change, and once for the reload.
    assert_eq!(server.log().matches("LookupError: deployed too early").count(), 2);
}

/// Another value for the variable `WHICH` of the group, in force from the next reload on.
fn change(server: &Server, from: &str, to: &str) {
    let path = server.path("httpd.conf");
    let text = fs::read_to_string(&path).expect("read httpd.conf");
    fs::write(&path, text.replace(&format!("WHICH={from}"), &format!("WHICH={to}")))
        .expect("write httpd.conf");
}

fn which(code: &str) -> String {
    code.replace(r#"b"one""#, r#"os.environ["WHICH"].encode()"#)
}

#[test]
fn changed_group_loses_nothing() {
    let server = Site::new("changed")
        .source("/", &which(&steady("one")))
        .daemon()
        .control()
        .group("env=WHICH=one")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        load.wait_for(50);
        let first = server.daemons();
        change(&server, "one", "two");
        server.graceful();
        load.wait_for_body("two");
        let second: Vec<u32> =
            server.daemons().into_iter().filter(|pid| !first.contains(pid)).collect();
        // The next change comes before the one before it serves.
        change(&server, "two", "three");
        server.graceful();
        load.wait_for(50);
        change(&server, "three", "four");
        server.graceful();
        load.wait_for_body("four");
        wait_for_end(&first);
        wait_for_end(&second);
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
    assert_eq!(load.bodies(), ["four", "one", "two"]);
}

#[test]
fn changed_group_that_does_not_import_leaves_the_one_before_serving() {
    let server = Site::new("changed-broken")
        .source("/", &which(&steady("one")))
        .daemon()
        .control()
        .group("env=WHICH=one")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", CLIENTS);
        load.wait_for(50);
        let first = server.daemons();
        let broken = which(&steady("one"))
            .replace("def application", "raise LookupError('early')\ndef application");
        server.write("apps/source-0.py", &broken, 50);
        change(&server, "one", "two");
        server.graceful();
        server.expect_log("LookupError: early");
        load.wait_for(300);
        assert_eq!(load.bodies(), ["one"]);
        // Nor does it harm when httpd has no children of the configuration before any more.
        server.graceful();
        load.wait_for(300);
        assert_eq!(load.bodies(), ["one"]);
        server.write("apps/source-0.py", &which(&steady("one")), 40);
        load.wait_for_body("two");
        wait_for_end(&first);
        load.wait_for(50);
    });
    load.expect_all_within(STALL);
}

#[test]
fn long_requests_are_finished_by_the_old_process() {
    let code = r#"
import os
import time

def application(environ, start_response):
    go = os.environ["TEST_SCRATCH"] + "/go"
    start_response("200 OK", [])
    yield b"first "
    while environ["PATH_INFO"] == "/slow" and not os.path.exists(go):
        time.sleep(0.005)
    yield b"last"
"#;
    let server = Site::new("long").source("/", code).daemon().group("graceful-timeout=60").start();
    let mut slow = server.client();
    slow.send_request("GET", "/slow", &[], b"");
    let mut reply = slow.read_head();
    let old = server.daemons();
    server.graceful();
    let came = wait_for(DEADLINE, || {
        let daemons = server.daemons();
        (daemons.len() == 2).then_some(daemons)
    });
    assert!(came.is_some(), "the old process has to be there beside the new one");
    for _ in 0..20 {
        assert_eq!(server.get("/").expect(200).text(), "first last");
    }
    server.write("scratch/go", "", 0);
    slow.read_body(&mut reply, "GET");
    assert!(reply.complete);
    assert_eq!(reply.text(), "first last");
    wait_for_end(&old);
}
