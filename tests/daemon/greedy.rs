//! Applications that take more than their share, or end their process, harm nobody but themselves.

use std::thread;
use std::time::Duration;

use crate::harness::{DEADLINE, Load, Reply, Server, Site, tools, wait_for};
use crate::processes::{all_processes, descriptors, lives, wait_for_daemons, wait_for_end};

const GREEDY: &str = r#"
import os
import sys
import threading
import time

eaten = []

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/descriptors":
        try:
            while True:
                eaten.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    elif path == "/memory":
        try:
            while True:
                eaten.append(bytearray(1 << 20))
        except MemoryError:
            eaten.clear()
            raise
    elif path == "/keep":
        # Pages count from when they are written to.
        for _ in range(100):
            eaten.append(os.urandom(1 << 20))
    elif path == "/cpu":
        while True:
            pass
    elif path == "/exit":
        os._exit(3)
    elif path == "/fault":
        import ctypes
        ctypes.string_at(0)
    elif path == "/system-exit":
        sys.exit(5)
    elif path == "/forks":
        for _ in range(200):
            if os.fork() == 0:
                time.sleep(1000)
                os._exit(0)
    elif path == "/garbage" or path == "/close":
        # Whatever sockets there are: to httpd, to the supervisor, the listener.
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                    if path == "/close":
                        os.close(int(name))
                    else:
                        os.write(int(name), b"\xff\x00garbage" * 500)
            except OSError:
                pass
    elif path == "/copies":
        # The copies come back to whoever has called.
        for _ in range(5):
            os.fork()
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

/// A group of its own with the greedy application at `/greedy`, another one at `/`, and a file.
fn site(name: &str, options: &str) -> Server {
    let server = Site::new(name)
        .daemon()
        .app("hello.py")
        .conf(&format!("WSGIDaemonProcess greedy threads=4 {options}"))
        .source_with("/greedy", GREEDY, "process-group=greedy application-group=%{GLOBAL}")
        .control()
        .start();
    server.get("/greedy").expect(200);
    server.get("/").expect(200);
    server
}

/// The other group and httpd's own files answer while `act` runs, and nothing of theirs is lost.
fn beside<T>(server: &Server, act: impl FnOnce() -> T) -> T {
    let (group, file) = (Load::default(), Load::default());
    let done = thread::scope(|scope| {
        let _endings = (
            group.start(scope, server.port(), "/", 1),
            file.start(scope, server.port(), "/control", 1),
        );
        let done = act();
        group.wait_for(20);
        file.wait_for(20);
        done
    });
    assert_eq!(group.lost(), (0, vec![]));
    assert_eq!(file.lost(), (0, vec![]));
    done
}

/// One request that fails, why httpd's log says it did, and that the group goes on in another process.
#[track_caller]
fn fails(server: &Server, path: &str, status: u16, reason: &str) -> String {
    let old = server.get("/greedy").expect(200).text();
    let reply: Reply = beside(server, || server.get(path));
    assert_eq!(reply.status, status, "{}", reply.text());
    let said = server.expect_log("there is no response after");
    assert!(said.contains(reason), "{said}");
    assert!(said.contains("group 'greedy'"), "{said}");
    assert_ne!(server.get("/greedy").expect(200).text(), old);
    said
}

#[test]
fn exit_is_told() {
    let server = site("exit", "");
    fails(&server, "/greedy/exit", 502, "exited with status 3");
    server.expect_log("exited with status 3 while it served");
}

#[test]
fn fault_is_told() {
    let server = site("fault", "");
    fails(&server, "/greedy/fault", 502, "SIGSEGV");
    server.expect_log("was ended by SIGSEGV");
}

#[test]
fn system_exit_is_an_exception_of_one_request() {
    let server = site("system-exit", "");
    let old = server.get("/greedy").expect(200).text();
    assert_eq!(server.get("/greedy/system-exit").status, 500);
    server.expect_log("SystemExit");
    assert_eq!(server.get("/greedy").expect(200).text(), old);
}

#[test]
fn memory_limit_fails_one_request() {
    let server = site("memory", "memory-limit=400M");
    let reply = beside(&server, || server.get("/greedy/memory"));
    assert_eq!(reply.status, 500);
    server.expect_log("MemoryError");
    // In this process, or in one that has taken its place because it came so far.
    server.get("/greedy").expect(200);
}

#[test]
fn process_is_replaced_when_its_memory_is_used() {
    let server = site("memory-replaced", "memory-limit=120M");
    let old: u32 = server.get("/greedy").expect(200).text().parse().expect("a process");
    beside(&server, || {
        server.allow_log("MemoryError");
        // Either the limit itself or the share of it that asks for another process.
        assert!(matches!(server.get("/greedy/keep").status, 200 | 500));
        wait_for_end(&[old]);
    });
    let new: u32 = server.get("/greedy").expect(200).text().parse().expect("a process");
    assert_ne!(new, old);
    let said = wait_for(DEADLINE, || {
        server
            .log()
            .lines()
            .find(|line| line.contains("it reached its memory limit"))
            .map(str::to_owned)
    });
    assert!(said.is_some(), "{}", server.log());
}

#[test]
fn cpu_time_limit_ends_a_loop() {
    let server = site("cpu", "cpu-time-limit=1 graceful-timeout=1");
    let old = server.get("/greedy").expect(200).text();
    let reply = beside(&server, || server.get("/greedy/cpu"));
    assert_eq!(reply.status, 502, "{}", reply.text());
    let said = server.expect_log("group 'greedy'");
    eprintln!("{said}");
    server.allow_log("cpu-time-limit");
    server.allow_log("the process ends before the request does");
    assert_ne!(server.get("/greedy").expect(200).text(), old);
    let told = wait_for(DEADLINE, || server.log().contains("cpu-time-limit").then_some(()));
    assert!(told.is_some(), "{}", server.log());
}

#[test]
fn eaten_descriptors_harm_nobody_else() {
    let server = site("descriptors", "");
    let old: u32 = server.get("/greedy").expect(200).text().parse().expect("a process");
    server.allow_log("connections cannot be accepted");
    server.allow_log("descriptor");
    beside(&server, || {
        server.get("/greedy/descriptors").expect(200);
        assert!(descriptors(old) >= 1000, "{}", descriptors(old));
        // More at the same time than there are kept connections.
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.client();
                client.send_request("GET", "/greedy/x", &[], b"");
                client
            })
            .collect();
        for mut client in clients {
            assert_eq!(client.read_response().status, 200);
        }
    });
    wait_for_end(&[old]);
}

#[test]
fn forked_children_hold_nothing_and_end_with_the_server() {
    let mut server = site("forks", "");
    let daemon: u32 = server.get("/greedy").expect(200).text().parse().expect("a process");
    beside(&server, || {
        server.get("/greedy/forks").expect(200);
    });
    let children = crate::harness::site::children_of(daemon);
    assert_eq!(children.len(), 200);
    // The daemon is ended: its children hold neither the listener nor a connection.
    server.allow_log("was ended by SIGKILL");
    tools::signal(daemon, "KILL");
    wait_for_end(&[daemon]);
    assert_ne!(server.get("/greedy").expect(200).text(), daemon.to_string());
    let ours: Vec<u32> = all_processes(&server).into_iter().chain(children).collect();
    server.stop();
    wait_for_end(&ours);
}

#[test]
fn copies_that_come_back_end() {
    let server = site("copies", "");
    let daemon: u32 = server.get("/greedy").expect(200).text().parse().expect("a process");
    for _ in 0..3 {
        assert_eq!(server.get("/greedy/copies").expect(200).text(), daemon.to_string());
    }
    let gone = wait_for(Duration::from_secs(30), || {
        let children = crate::harness::site::children_of(daemon);
        children.iter().all(|pid| !lives(*pid)).then_some(())
    });
    assert!(gone.is_some(), "copies of the process go on");
    assert_eq!(server.get("/greedy").expect(200).text(), daemon.to_string());
    wait_for_daemons(&server, 2, &[]);
}

#[test]
fn garbage_on_its_sockets_harms_nobody_else() {
    for path in ["/greedy/garbage", "/greedy/close"] {
        let server = site("garbage", "");
        let old = server.get("/greedy").expect(200).text();
        let children = server.children();
        let supervisor = server.supervisor();
        server.allow_log("group 'greedy'");
        server.allow_log("a connection is ended");
        // A process that has no sockets any more cannot say what is wrong with it through them; a debug build
        // aborts over a descriptor that is not what it was.
        server.allow_log("IO Safety violation");
        server.allow_log("connections cannot be");
        server.allow_log("the clock cannot wait");
        beside(&server, || {
            let mut client = server.client();
            client.send_request("GET", path, &[], b"");
            let reply = client.read_response();
            assert!(matches!(reply.status, 200 | 502), "{path}: {}", reply.status);
            let again = wait_for(DEADLINE, || {
                let reply = server.get("/greedy");
                (reply.status == 200 && reply.text() != old).then_some(())
            });
            assert!(again.is_some(), "{path}: no other process takes its place");
        });
        assert_eq!(server.children(), children, "{path}");
        assert_eq!(server.supervisor(), supervisor, "{path}");
    }
}
