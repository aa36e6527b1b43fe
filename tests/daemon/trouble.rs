//! Several things go wrong at the same time, under load.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::{DEADLINE, Load, Mpm, Server, Site, site, tools, wait_for};
use crate::processes::{files, wait_for_daemons, wait_for_end};

/// Writes down every request that it begins with, by its query.
const BOOKKEEPING: &str = r#"
import os
import time

book = os.open(os.environ["TEST_SCRATCH"] + "/book-%d" % os.getpid(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def application(environ, start_response):
    os.write(book, environ["QUERY_STRING"].encode() + b"\n")
    time.sleep(0.002)
    body = b"served"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

/// The requests that were begun with, in all processes.
fn booked(server: &Server) -> Vec<String> {
    let names = files(&server.path("scratch"));
    let books = names.iter().filter(|name| name.starts_with("book-"));
    books
        .flat_map(|name| {
            let text = server.read(&format!("scratch/{name}"));
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Kills a process that may be about to end by itself.
fn kill(pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).output();
}

#[test]
fn no_request_runs_twice() {
    let server = Site::new("twice")
        .source("/", BOOKKEEPING)
        .daemon()
        .control()
        .group("processes=2 threads=2 maximum-requests=50")
        .start();
    server.get("/?first").expect(200);
    wait_for_daemons(&server, 2, &[]);
    server.allow_log("was ended by SIGKILL");
    server.allow_log("daemon process group 'tests': ");
    let load = Load::default();
    thread::scope(|scope| {
        // More clients than threads, so that some wait in the listener and some connections are handed back.
        let _ending = load.start(scope, server.port(), "/?{}", 6);
        for _ in 0..5 {
            load.wait_for(60);
            let victim = wait_for(DEADLINE, || server.daemons().first().copied());
            let victim = victim.expect("a daemon process");
            kill(victim);
            wait_for_end(&[victim]);
        }
        load.wait_for(200);
    });
    let (lost, faults) = load.lost();
    assert!(faults.iter().all(|fault| fault.contains("status 502")), "{faults:#?}");
    assert!(lost <= 5 * 2, "more than what was running: {faults:#?}");
    let booked = booked(&server);
    let distinct: BTreeSet<&String> = booked.iter().collect();
    assert_eq!(distinct.len(), booked.len(), "requests were run twice");
    // All that was answered was run, and of what was lost at most that.
    let answered = load.answered() + 1;
    assert!((answered..=answered + lost).contains(&booked.len()), "{answered}, {lost} lost");
}

/// Another version of an application whose import takes a while.
fn version(number: usize) -> String {
    format!(
        "import time\ntime.sleep(1)\n\
         def application(environ, start_response):\n\
         \x20   time.sleep(0.003)\n\
         \x20   start_response('200 OK', [('Content-Length', '1')])\n\
         \x20   return [b'{number}']\n"
    )
}

#[test]
fn supervisor_that_dies_while_it_replaces_loses_nothing() {
    let server = Site::new("dies-replacing")
        .source("/", &version(0))
        .daemon()
        .control()
        .group("processes=2")
        .start();
    server.get("/").expect(200);
    server.allow_log("mod_wsgi_supervisor");
    server.allow_log("the supervisor was restarted and takes over");
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 3);
        for number in 1..=2 {
            let old = wait_for_daemons(&server, 2, &[]);
            load.wait_for(30);
            server.write("apps/source-0.py", &version(number), 100 - number as u64);
            let more = wait_for(DEADLINE, || (server.daemons().len() > 2).then_some(()));
            assert!(more.is_some(), "no process is started");
            let first = server.supervisor().expect("a supervisor");
            tools::signal(first, "KILL");
            let second = wait_for(DEADLINE, || server.supervisor().filter(|pid| *pid != first));
            assert!(second.is_some(), "no other supervisor takes over");
            load.wait_for_body(&number.to_string());
            wait_for_end(&old);
        }
        load.wait_for(30);
    });
    load.expect_all_within(Duration::from_secs(2));
}

#[test]
fn reload_without_a_supervisor_loses_nothing() {
    let server = Site::new("reload-alone")
        .source("/", &version(0))
        .daemon()
        .control()
        .group("processes=2")
        .start();
    server.get("/").expect(200);
    server.allow_log("mod_wsgi_supervisor");
    server.allow_log("the supervisor is lost");
    server.allow_log("the supervisor was restarted and takes over");
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 3);
        let old = wait_for_daemons(&server, 2, &[]);
        load.wait_for(30);
        // Ended in a row, so that the next one has to wait for its time.
        for _ in 0..2 {
            let first = wait_for(DEADLINE, || server.supervisor()).expect("a supervisor");
            tools::signal(first, "KILL");
            wait_for_end(&[first]);
        }
        server.graceful();
        load.wait_for(50);
        wait_for_end(&old);
        load.wait_for(50);
    });
    load.expect_all_within(Duration::from_secs(3));
}

#[test]
fn reloads_with_other_process_models_lose_nothing() {
    for mpm in [Mpm::Worker, Mpm::Prefork] {
        let server =
            Site::new("models").mpm(mpm).source("/", &version(0)).daemon().control().start();
        server.get("/").expect(200);
        let load = Load::default();
        thread::scope(|scope| {
            let _ending = load.start(scope, server.port(), "/", 3);
            let old = wait_for_daemons(&server, 1, &[]);
            load.wait_for(30);
            server.graceful();
            wait_for_end(&old);
            load.wait_for(30);
            server.write("apps/source-0.py", &version(1), 50);
            load.wait_for_body("1");
            load.wait_for(30);
        });
        eprintln!("{mpm:?}");
        load.expect_all_within(Duration::from_secs(5));
    }
}

#[test]
fn reloads_in_a_burst_lose_nothing_and_pile_nothing_up() {
    let server = Site::new("burst")
        .source("/", &version(0))
        .daemon()
        .control()
        .group("processes=2")
        .conf("ServerLimit 16\nMaxRequestWorkers 128")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    let mut most = 0;
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 3);
        let old = wait_for_daemons(&server, 2, &[]);
        for _ in 0..12 {
            server.graceful();
            most = most.max(server.daemons().len());
        }
        let last = server.daemons();
        load.wait_for(50);
        wait_for_end(&old);
        let settled = wait_for(DEADLINE, || {
            let daemons = server.daemons();
            most = most.max(daemons.len());
            (daemons.len() == 2 && daemons.iter().all(|pid| !old.contains(pid))).then_some(())
        });
        assert!(settled.is_some(), "{last:?}, then {:?}", server.daemons());
        load.wait_for(50);
    });
    // Those that serve, one that is being started, and those that finish their requests.
    assert!(most <= 8, "{most} processes at the same time");
    load.expect_all_within(Duration::from_secs(5));
}

#[test]
fn reloads_without_room_for_more_children_lose_nothing() {
    let server = Site::new("tight")
        .source("/", &version(0))
        .daemon()
        .control()
        .conf("ServerLimit 1\nMaxRequestWorkers 8")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 3);
        for _ in 0..3 {
            let old = server.children();
            load.wait_for(30);
            server.graceful();
            wait_for_end(&old);
            load.wait_for(30);
        }
    });
    load.expect_all_within(Duration::from_secs(5));
}

/// Shuts down the socket that its process listens on.
const SHUTS_DOWN: &str = r#"
import os
import socket

def application(environ, start_response):
    if environ["PATH_INFO"] == "/shut":
        for name in os.listdir("/proc/self/fd"):
            try:
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

#[test]
fn a_reload_brings_back_sockets_that_are_gone() {
    let server =
        Site::new("sockets").source("/", SHUTS_DOWN).daemon().group("connect-timeout=1s").start();
    server.get("/").expect(200);
    server.allow_log("has to have another socket");
    server.allow_log("no connection");
    let run = server.path("run");
    let folder = files(&run).into_iter().find(|name| name.starts_with("wsgi."));
    let folder = run.join(folder.expect("the folder for sockets"));
    let remove_sockets = || {
        for name in files(&folder) {
            fs::remove_file(folder.join(name)).expect("remove a socket");
        }
    };
    let remove_folder = || fs::remove_dir_all(&folder).expect("remove the folder");
    let shut_down = || {
        server.get("/shut").expect(200);
        // Seen, and not tried again and again.
        server.expect_log("nobody can connect any more");
    };
    let harms: [&dyn Fn(); 3] = [&remove_sockets, &remove_folder, &shut_down];
    for harm in harms {
        let old = wait_for_daemons(&server, 1, &[]);
        harm();
        server.graceful();
        // Those that nobody can reach any more end as any others.
        wait_for_end(&old);
        for _ in 0..3 {
            server.get("/").expect(200);
        }
    }
    server.graceful();
    server.get("/").expect(200);
}

#[test]
fn stop_without_a_supervisor_leaves_nothing() {
    let code = "import os\n\
                def application(environ, start_response):\n\
                \x20   start_response('200 OK', [])\n\
                \x20   return [b'%d' % os.getpid()]\n";
    let mut server = Site::new("stop-alone").source("/", code).daemon().start();
    server.get("/").expect(200);
    server.allow_log("mod_wsgi_supervisor");
    server.allow_log("the supervisor is lost");
    server.allow_log("the supervisor was restarted and takes over");
    // So often in a row that the next one has to wait for its time.
    let mut killed = Vec::new();
    for _ in 0..4 {
        let next = || server.supervisor().filter(|pid| !killed.contains(pid));
        let supervisor = wait_for(DEADLINE, next).expect("a supervisor");
        tools::signal(supervisor, "KILL");
        killed.push(supervisor);
    }
    let left: u32 = server.get("/").expect(200).text().parse().expect("a number");
    server.stop();
    wait_for_end(&[left]);
}

#[test]
fn many_groups_start_reload_and_stop() {
    let mut site = Site::new("many");
    for number in 0..24 {
        site = site.conf(&format!("WSGIDaemonProcess g{number} threads=1")).mount(
            &format!("/g{number}"),
            "hello.py",
            &format!("process-group=g{number}"),
        );
    }
    let mut server = site.start();
    for _ in 0..2 {
        for number in 0..24 {
            server.get(&format!("/g{number}")).expect(200);
        }
        let old = wait_for_daemons(&server, 24, &[]);
        server.graceful();
        wait_for_end(&old);
    }
    let last = wait_for_daemons(&server, 24, &[]);
    server.stop();
    wait_for_end(&last);
}

/// A supervisor that is of no use: of another build, or a program that ends at once.
#[test]
fn where_no_supervisor_can_serve_requests_are_answered_at_once() {
    let built = |name: &str| {
        let module = site::module_file();
        let file = module.with_file_name(name);
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let mut foreign = built("mod_wsgi_supervisor");
    let size = engine::BUILD.len();
    let place = foreign.windows(size).position(|bytes| bytes == engine::BUILD);
    foreign[place.expect("the id of the build")] ^= 1;
    let nothing = fs::read("/bin/true").expect("a program");
    let reasons = ["another build", "the supervisor is lost"];
    for (supervisor, reason) in [foreign, nothing].into_iter().zip(reasons) {
        let server = Site::new("no-supervisor")
            .without_module()
            .conf_before("LoadModule wsgi_module \"@root@/bin/libmod_wsgi_rs.so\"")
            .file("bin/libmod_wsgi_rs.so", built("libmod_wsgi_rs.so"))
            .file("bin/libmod_wsgi_engine.so", built("libmod_wsgi_engine.so"))
            .file("bin/mod_wsgi_supervisor", supervisor)
            .file("htdocs/static.txt", "static")
            .app("hello.py")
            .daemon()
            .start();
        server.allow_log(reason);
        for _ in 0..3 {
            let reply = server.get("/").expect(503);
            assert!(reply.header("Retry-After").is_some());
        }
        let text = server.expect_log("daemon process group 'tests'");
        assert!(text.contains(reason), "{text}");
        server.graceful();
        server.get("/").expect(503);
    }
}
