//! Events of processes, and exceptions from outside.

use crate::harness::{DEADLINE, Server, Site, both_modes, wait_for};

/// Writes what it hears to a file.
const ENDING: &str = r#"
import atexit
import os
import threading
import mod_wsgi

def note(*words):
    with open(os.environ["TEST_SCRATCH"] + "/notes", "a") as file:
        file.write(" ".join(words) + "\n")

group = mod_wsgi.application_group or "main"
over = threading.Event()

@mod_wsgi.subscribe_shutdown
def stop(name, *, shutdown_reason, **event):
    note(group, name, "reason=" + shutdown_reason)
    over.set()

@mod_wsgi.subscribe_events
def hear(name, **event):
    if name.startswith("process"):
        note(group, "heard", name)

def work():
    # The end waits for it, and it waits for being told.
    over.wait()
    note(group, "thread ended")

threading.Thread(target=work, daemon=False).start()
atexit.register(note, group, "atexit")

def application(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"#;

both_modes!(the_end_is_announced_before_threads_are_joined, |site| {
    let reason = if site.is_daemon() { "shutdown_signal" } else { "" };
    let mut server = site
        .conf("ServerLimit 1\nMaxRequestWorkers 8")
        .source_with("/main", ENDING, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    for place in ["/main", "/sub"] {
        server.get(place).expect(200);
    }
    server.stop();
    let notes = server.read("scratch/notes");
    for group in ["main", "sub"] {
        let own: Vec<&str> =
            notes.lines().filter_map(|line| line.strip_prefix(&format!("{group} "))).collect();
        let stopping = format!("process_stopping reason={reason}");
        let order = ["heard process_stopping", &stopping, "thread ended", "atexit"];
        assert_eq!(own, order, "{notes}");
    }
});

#[test]
fn the_end_of_a_daemon_process_has_a_reason() {
    type End = fn(&Server, &str);
    let ends: [(&str, &str, End); 3] = [
        ("maximum_requests", "maximum-requests=1", |_, _| ()),
        ("eviction_signal", "", |_, pid| signal(pid, "USR1")),
        ("script_reload", "", |server, _| {
            server.write("apps/source-0.py", &format!("{ENDING}\n# Changed.\n"), 60);
            server.get("/").expect(200);
        }),
    ];
    for (reason, options, end) in ends {
        let site = Site::new(reason)
            .conf(&format!("WSGIDaemonProcess ending env=TEST_SCRATCH=@root@/scratch {options}"))
            .source_with("/", ENDING, "process-group=ending application-group=%{GLOBAL}");
        let server = site.start();
        let pid = server.get("/").expect(200).text();
        end(&server, &pid);
        let expected = format!("main process_stopping reason={reason}\n");
        let found =
            wait_for(DEADLINE, || server.read("scratch/notes").contains(&expected).then_some(()));
        assert!(found.is_some(), "{reason}: {}", server.read("scratch/notes"));
    }
}

const SIGNALLED: &str = r#"
import os
import mod_wsgi

def note(*words):
    with open(os.environ["TEST_SCRATCH"] + "/notes", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")

@mod_wsgi.subscribe_signals
def signal(name, *, signame, signum, **event):
    note(mod_wsgi.application_group or "main", name, signame, signum, sorted(event))

def application(environ, start_response):
    start_response("200 OK", [])
    return [("%d %d" % (os.getpid(), len(mod_wsgi.signal_callbacks))).encode()]
"#;

fn signal(pid: &str, name: &str) {
    let sent = std::process::Command::new("kill").args(["-s", name, pid]).status();
    assert!(sent.expect("run kill").success());
}

#[test]
fn signals_reach_every_interpreter_of_a_daemon_process() {
    let server = Site::new("signals")
        .daemon()
        .source_with("/main", SIGNALLED, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    let main = server.get("/main").expect(200).text();
    assert_eq!(server.get("/sub").expect(200).text(), main);
    let (pid, count) = main.split_once(' ').expect("two numbers");
    assert_eq!(count, "1");
    for (name, number) in [("HUP", 1), ("USR2", 12)] {
        signal(pid, name);
        for group in ["main", "sub"] {
            let expected = format!("{group} process_signal SIG{name} {number} []\n");
            let found = wait_for(DEADLINE, || {
                let notes = server.read("scratch/notes");
                notes.contains(&expected).then_some(())
            });
            assert!(found.is_some(), "no '{expected}'");
        }
    }
    // They do nothing else.
    assert_eq!(server.get("/main").expect(200).text(), main);
    assert_eq!(server.read("scratch/notes").lines().count(), 4);
}

#[test]
fn signals_cannot_be_subscribed_to_in_httpd() {
    let server = Site::new("signals").source("/", SIGNALLED).start();
    let reply = server.get("/").expect(200).text();
    assert!(reply.ends_with(" 0"), "{reply}");
    let log = server.log();
    let note = log.lines().find(|line| line.contains("subscribe_signals() does nothing"));
    assert!(note.is_some_and(|note| note.contains("wsgi:info")), "{log}");
    assert!(log.contains("source-0.py\", line"), "{log}");
}

const STUCK: &str = r#"
import os
import mod_wsgi

heard = []

@mod_wsgi.subscribe_events
def hear(name, **event):
    heard.append((name, event.get("status")))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/heard":
        body = repr(heard).encode()
        start_response("200 OK", [])
        return [body]
    if path == "/stuck-late":
        def body():
            yield b"the beginning"
            while True:
                pass
        start_response("200 OK", [])
        return body()
    if path == "/stuck":
        try:
            while True:
                pass
        except Exception:
            # It is no Exception.
            pass
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"#;

fn interrupting(server: &Server) {
    let pid = server.get("/pid").expect(200).text();
    server.get("/stuck").expect(504);
    server.expect_log("RequestTimeout is raised in it");
    // The thread and its process go on.
    assert_eq!(server.get("/pid").expect(200).text(), pid);
}

#[test]
fn a_stuck_request_is_interrupted() {
    for group in ["%{GLOBAL}", "sub"] {
        let server = Site::new("interrupt")
            .conf("WSGIDaemonProcess stuck threads=1 request-timeout=1 interrupt-timeout=30")
            .source_with("/", STUCK, &format!("process-group=stuck application-group={group}"))
            .start();
        interrupting(&server);
        let heard = server.get("/heard").expect(200).text();
        assert!(heard.contains("('request_started', None), ('request_finished', 504)"), "{heard}");
        assert!(!heard.contains("request_exception"), "{heard}");
        let log = server.log();
        assert!(log.contains("the request was ended by RequestTimeout"), "{log}");
    }
}

#[test]
fn a_request_that_is_interrupted_late_is_cut() {
    let server = Site::new("interrupt-late")
        .conf("WSGIDaemonProcess stuck threads=1 request-timeout=1 interrupt-timeout=30")
        .source_with("/", STUCK, "process-group=stuck")
        .start();
    let pid = server.get("/pid").expect(200).text();
    let cut = server.curl("/stuck-late", &[]);
    assert_eq!((cut.status, cut.code), (200, 18), "{}", cut.complaint);
    server.expect_log("RequestTimeout is raised in it");
    assert_eq!(server.get("/pid").expect(200).text(), pid);
    let heard = server.get("/heard").expect(200).text();
    assert!(heard.contains("('response_started', None), ('request_finished', 200)"), "{heard}");
}

#[test]
fn an_application_may_end_a_request_by_the_exception() {
    let code = r#"
import mod_wsgi

def application(environ, start_response):
    raise mod_wsgi.RequestTimeout
"#;
    let server = Site::new("own-timeout").source("/", code).start();
    server.get("/").expect(504);
    assert!(server.log().contains("the request was ended by RequestTimeout"));
}
