//! Processes die: of signals, with their supervisor, with httpd. What is lost then, and what is left.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::site::children_of;
use crate::harness::{DEADLINE, Load, Mpm, Server, Site, both_modes, tools, wait_for};
use crate::processes::{all_processes, files, lives, wait_for_daemons, wait_for_end};

/// `/slow/NAME` notes its process in `serving-NAME`, and goes on when there is a file `go`.
const SLOW: &str = r#"
import os
import time

SCRATCH = os.environ["TEST_SCRATCH"]

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/slow/"):
        with open(SCRATCH + "/serving-" + path[6:], "w") as file:
            file.write("%d;" % os.getpid())
        while not os.path.exists(SCRATCH + "/go"):
            time.sleep(0.005)
    else:
        time.sleep(0.003)
    body = b"served"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

/// Begins a slow request, and says which process serves it.
fn begin(server: &Server, name: &str) -> (crate::harness::Client, u32) {
    let mut client = server.client();
    client.send_request("GET", &format!("/slow/{name}"), &[], b"");
    let text = server.wait_for_file(&format!("scratch/serving-{name}"), ";");
    (client, text.trim_end_matches(';').parse().expect("a process"))
}

#[test]
fn killed_process_loses_only_what_it_was_running() {
    let server =
        Site::new("kill").source("/", SLOW).daemon().control().group("processes=2").start();
    server.get("/").expect(200);
    let both = wait_for_daemons(&server, 2, &[]);
    // As long as all of them are in one process, there are too few.
    let mut slow = Vec::new();
    for number in 0..12 {
        slow.push(begin(&server, &number.to_string()));
        if both.iter().all(|pid| slow.iter().any(|(_, serving)| serving == pid)) {
            break;
        }
    }
    let victim = slow[0].1;
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 2);
        load.wait_for(100);
        tools::signal(victim, "KILL");
        wait_for_end(&[victim]);
        // At full strength again.
        wait_for_daemons(&server, 2, &[victim]);
        load.wait_for(100);
    });
    let (lost, faults) = load.lost();
    eprintln!("{} answered, {lost} lost, longest {:?}", load.answered(), load.longest());
    assert!(lost <= 2, "each client lost one request at most: {faults:#?}");
    assert!(faults.iter().all(|fault| fault.contains("status 502")), "{faults:#?}");

    server.write("scratch/go", "", 0);
    let mut cut = lost;
    for (mut client, pid) in slow {
        let reply = client.read_response();
        let expected = if pid == victim { 502 } else { 200 };
        assert_eq!(reply.status, expected, "{}", reply.text());
        cut += usize::from(pid == victim);
    }
    let said = server.expect_log("there is no response after");
    assert!(said.contains("SIGKILL"), "{said}");
    let log = server.log();
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("there is no response after")).collect();
    assert_eq!(told.len(), cut, "each with a cause: {told:#?}");
    assert!(told.iter().all(|line| line.contains("SIGKILL")), "{told:#?}");
    server.expect_log("was ended by SIGKILL");
}

#[test]
fn response_of_a_killed_process_is_cut_where_everybody_sees_it() {
    let code = r#"
import os
import signal

def application(environ, start_response):
    length = environ["QUERY_STRING"]
    start_response("200 OK", [("Content-Length", length)] if length else [])
    yield b"x" * 5000
    # Not before the client has that.
    gate = os.environ["TEST_SCRATCH"] + environ["PATH_INFO"]
    while environ["PATH_INFO"] != "/" and not os.path.exists(gate):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
    yield b"never"
"#;
    let server = Site::new("cut").tls().http2().source("/", code).daemon().start();
    server.allow_log("was ended by SIGKILL");
    for query in ["", "?10000"] {
        let mut client = server.client();
        let gate = format!("gate{}", query.len());
        client.send_request("GET", &format!("/{gate}{query}"), &[], b"");
        let mut reply = client.read_head();
        assert_eq!(reply.status, 200);
        server.write(&format!("scratch/{gate}"), "", 0);
        client.read_body(&mut reply, "GET");
        assert!(!reply.complete, "a cut response looks whole");
        assert_eq!(reply.body.len(), 5000);
        assert!(client.is_closed());
        // 18 is a transfer that was cut, 92 a stream that was reset. What curl got of the head depends on how
        // quick the end came.
        let tls = server.curl_tls(&format!("/{query}"), &["--http1.1"]);
        assert!(matches!((tls.status, tls.code), (200, 18 | 56) | (502, 0)), "{tls:?}");
        for curl in [
            server.curl_tls(&format!("/{query}"), &["--http2"]),
            server.curl(&format!("/{query}"), &["--http2-prior-knowledge"]),
        ] {
            // Without a head there was no answer, so none of this version.
            assert_eq!(curl.version, if curl.status == 0 { "0" } else { "2" });
            assert!(matches!((curl.status, curl.code), (0 | 200, 92) | (502, 0)), "{curl:?}");
        }
    }
    let said = server.expect_log("the response is cut after");
    assert!(said.contains("SIGKILL"), "{said}");
    server.allow_log("there is no response after");
}

#[test]
fn killed_supervisor_loses_nothing() {
    let server = Site::new("kill-supervisor")
        .source("/", SLOW)
        .daemon()
        .control()
        .group("processes=2 graceful-timeout=60")
        .start();
    server.get("/").expect(200);
    let (mut slow, _) = begin(&server, "one");
    let old = wait_for_daemons(&server, 2, &[]);
    let first = server.supervisor().expect("a supervisor");
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 3);
        load.wait_for(50);
        server.allow_log("mod_wsgi_supervisor");
        server.allow_log("the supervisor was restarted and takes over");
        tools::signal(first, "KILL");
        let second = wait_for(DEADLINE, || server.supervisor().filter(|pid| *pid != first));
        assert!(second.is_some(), "no other supervisor takes over");
        // Those of its own take the place of those it has found.
        wait_for_daemons(&server, 2, &old);
        load.wait_for(100);
        server.write("scratch/go", "", 0);
        assert_eq!(slow.read_response().expect(200).text(), "served");
        wait_for_end(&old);
        load.wait_for(50);
    });
    load.expect_all_within(Duration::from_secs(2));
    server.expect_log("takes over 2 processes");
}

#[test]
fn killed_httpd_leaves_no_process_of_ours() {
    // With a request that does not end, and one that ignores what it is told.
    let code = format!("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLOW}");
    let mut server = Site::new("kill-httpd")
        .source_with("/", &code, "application-group=%{GLOBAL}")
        .daemon()
        .group("processes=2")
        .start();
    server.get("/").expect(200);
    wait_for_daemons(&server, 2, &[]);
    let (slow, _) = begin(&server, "one");
    let httpds: Vec<u32> = server.children();
    let ours: Vec<u32> = all_processes(&server)
        .into_iter()
        .filter(|pid| *pid != server.pid() && !httpds.contains(pid))
        .collect();
    assert!(ours.len() >= 3, "{ours:?}");
    tools::signal(server.pid(), "KILL");
    // Five seconds, and what a busy machine takes.
    let gone =
        wait_for(Duration::from_secs(15), || ours.iter().all(|pid| !lives(*pid)).then_some(()));
    let left: Vec<&u32> = ours.iter().filter(|pid| lives(**pid)).collect();
    // httpd's own children go on without their parent, and are this test's to end.
    for pid in httpds.iter().filter(|pid| lives(**pid)) {
        tools::signal(*pid, "KILL");
    }
    drop(slow);
    assert!(gone.is_some(), "left: {left:?}");
    server.allow_log("");
    server.stop();
}

/// Nothing is left of these processes and below the server's folder for sockets.
fn expect_nothing_left(server: &Server, ours: &[u32]) {
    wait_for_end(ours);
    let run = server.path("run");
    let left: Vec<String> = files(&run)
        .into_iter()
        .filter(|name| name.contains("wsgi"))
        .flat_map(|name| {
            let inside = files(&run.join(&name));
            inside.into_iter().map(move |file| format!("{name}/{file}"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn one_process_leaves_nothing() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let mut server =
            Site::new("alone").mpm(mpm).source("/", SLOW).daemon().in_one_process().start();
        server.get("/").expect(200);
        wait_for_daemons(&server, 1, &[]);
        let ours = all_processes(&server);
        assert_eq!(ours.len(), 3, "{ours:?}");
        server.stop();
        wait_for_end(&ours);
    }
}

#[test]
fn stop_leaves_nothing() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let mut server = Site::new("stop")
            .mpm(mpm)
            .source("/", SLOW)
            .daemon()
            .group("processes=2")
            .conf("WSGIDaemonProcess other threads=1")
            .start();
        server.get("/").expect(200);
        wait_for_daemons(&server, 3, &[]);
        let ours = all_processes(&server);
        assert!(ours.len() >= 6, "{ours:?}");
        server.stop();
        expect_nothing_left(&server, &ours);
    }
}

#[test]
fn stop_ends_a_request_that_does_not_end() {
    let mut server = Site::new("stop-stuck").source("/", SLOW).daemon().start();
    server.get("/").expect(200);
    let (slow, pid) = begin(&server, "one");
    let ours = all_processes(&server);
    assert!(ours.contains(&pid));
    server.allow_log("");
    server.stop();
    expect_nothing_left(&server, &ours);
    drop(slow);
}

#[test]
fn graceful_stop_drains() {
    let mut server = Site::new("drain").source("/", SLOW).daemon().start();
    server.get("/").expect(200);
    let (mut slow, _) = begin(&server, "one");
    let ours = all_processes(&server);
    let go = server.path("scratch/go");
    let banner = server.path("logs/error.log");
    thread::scope(|scope| {
        let answered = scope.spawn(move || slow.read_response());
        scope.spawn(move || {
            let told = wait_for(DEADLINE, || {
                let log = fs::read_to_string(&banner).unwrap_or_default();
                log.contains("AH00492").then_some(())
            });
            fs::write(&go, "").expect("write a file");
            assert!(told.is_some(), "httpd does not say that it stops");
        });
        server.stop_gracefully();
        let reply = answered.join().expect("an answer");
        assert_eq!(reply.expect(200).text(), "served");
    });
    expect_nothing_left(&server, &ours);
}

#[test]
fn restart_leaves_nothing_of_before() {
    let server = Site::new("restart").source("/", SLOW).daemon().group("processes=2").start();
    server.get("/").expect(200);
    let mut old = wait_for_daemons(&server, 2, &[]);
    for _ in 0..3 {
        server.restart();
        server.get("/").expect(200);
        wait_for_end(&old);
        old = wait_for_daemons(&server, 2, &old);
    }
    let supervisor = server.supervisor().expect("a supervisor");
    assert_eq!(children_of(supervisor), old);
    // One socket for the one group that there is.
    let run = server.path("run");
    let sockets: Vec<String> = files(&run)
        .into_iter()
        .filter(|name| name.contains("wsgi"))
        .flat_map(|name| files(&run.join(name)))
        .filter(|name| name.ends_with(".sock"))
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
}

both_modes!(service_goes_on_after_a_crash, |site| {
    // What the child or the process serves afterwards is not harmed by the one before it.
    let code = r#"
import os

def application(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        os.abort()
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"#;
    let daemon = site.is_daemon();
    let server = site.source("/", code).start();
    let first = server.get("/").expect(200).text();
    let mut client = server.client();
    client.send_request("GET", "/die", &[], b"");
    if daemon {
        assert_eq!(client.read_response().status, 502);
        let said = server.expect_log("there is no response after");
        assert!(said.contains("SIGABRT"), "{said}");
        server.expect_log("was ended by SIGABRT");
    } else {
        assert!(client.is_closed());
        server.expect_log("exit signal Abort");
    }
    let second = server.get("/").expect(200).text();
    assert_ne!(first, second);
    server.allow_log("Fatal Python error: Aborted");
    server.allow_log("Current thread");
});
