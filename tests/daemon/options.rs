//! Options of `WSGIDaemonProcess`, and the ways to a group.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::harness::site::is_root;
use crate::harness::{DEADLINE, Server, Site, skip, tools, wait_for};
use crate::processes::{files, lives, wait_for_daemons, wait_for_end};

/// Says where it runs.
const WHERE: &str = r#"
import os
import mod_wsgi

def application(environ, start_response):
    body = "group=%s\npid=%d\nenviron=%s\napplication=%s\n" % (
        mod_wsgi.process_group, os.getpid(), environ["mod_wsgi.process_group"],
        environ["mod_wsgi.application_group"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body.encode()]
"#;

#[test]
fn every_way_to_a_group() {
    let server = Site::new("ways")
        .conf("WSGIDaemonProcess one threads=2\nWSGIDaemonProcess two threads=2")
        .source_with("/one", WHERE, "process-group=one")
        .mount("/two", "source-0.py", "process-group=two")
        .mount("/embedded", "source-0.py", "process-group=%{GLOBAL}")
        .mount("/variable", "source-0.py", "process-group=%{ENV:CHOSEN}")
        .mount("/section", "source-0.py", "")
        .mount("/unknown", "source-0.py", "process-group=nobody")
        .conf("SetEnvIf X-Group (.+) CHOSEN=$1")
        .conf("<Location /section>\nWSGIProcessGroup two\n</Location>")
        .start();
    for (place, group) in [("/one", "one"), ("/two", "two"), ("/embedded", ""), ("/section", "two")]
    {
        let reply = server.get(place).expect(200);
        assert_eq!(reply.value("group"), group, "{place}");
        assert_eq!(reply.value("environ"), group, "{place}");
    }
    for group in ["one", "two"] {
        let headers = [("X-Group", group)];
        let reply = server.client().request("GET", "/variable", &headers, b"").expect(200);
        assert_eq!(reply.value("group"), group);
    }
    assert_eq!(server.get("/unknown").status, 500);
    server.expect_log("no daemon process group called 'nobody'");
    // Two groups are two processes.
    let pids = [server.get("/one").value("pid"), server.get("/two").value("pid")];
    assert_ne!(pids[0], pids[1]);
}

/// Says something when it is imported, which is outside of any request.
const LOUD: &str = r#"
print("imported")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"#;

#[test]
fn what_is_said_outside_of_requests_names_process_and_group() {
    let server = Site::new("loud").source("/", LOUD).daemon().start();
    server.get("/").expect(200);
    let pid = wait_for_daemons(&server, 1, &[])[0];
    let line = server.expect_log("imported");
    assert!(line.contains(&format!("[pid {pid}] [group tests] imported")), "{line}");
}

#[test]
fn what_is_said_outside_of_requests_goes_to_the_systems_log() {
    let path = Path::new("/dev/log");
    if !is_root() || path.exists() {
        skip("only root can listen as the system's log, and only where nobody else does");
        return;
    }
    let server = Site::new("syslog").source("/", LOUD).daemon().start();
    server.get("/").expect(200);
    server.expect_log("imported");
    let log = UnixDatagram::bind(path).expect("listen as the system's log");
    let conf = server.read("httpd.conf") + "\nErrorLog syslog:local3:www\n";
    fs::write(server.path("httpd.conf"), conf).expect("write the configuration");
    tools::signal(server.pid(), "USR1");
    log.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut bytes = [0; 9000];
    let message = wait_for(DEADLINE, || {
        let length = log.recv(&mut bytes).expect("a message");
        let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
        message.contains("imported").then_some(message)
    });
    fs::remove_file(path).expect("remove the socket");
    // local3 is 19, and an error 3.
    let message = message.expect("what was said");
    assert!(message.starts_with("<155>") && message.contains(" www["), "{message}");
    assert!(message.ends_with("[group tests] imported"), "{message}");
}

#[test]
fn restricted_groups_are_out_of_reach() {
    let server = Site::new("restrict")
        .conf("WSGIDaemonProcess one threads=2\nWSGIDaemonProcess two threads=2")
        .source_with("/app", WHERE, "process-group=%{ENV:CHOSEN}")
        .conf("SetEnvIf X-Group (.+) CHOSEN=$1")
        .conf("<Location /app>\nWSGIRestrictProcess one\n</Location>")
        .start();
    for (group, status) in [("one", 200), ("two", 500)] {
        let headers = [("X-Group", group)];
        let reply = server.client().request("GET", "/app", &headers, b"");
        assert_eq!(reply.status, status, "{group}");
    }
    server.expect_log("WSGIRestrictProcess does not allow process group 'two'");
}

#[test]
fn group_of_a_virtual_host_is_its_own() {
    let server = Site::new("hosts")
        .source_with("/app", WHERE, "process-group=inner")
        .conf(
            "<VirtualHost *:@port@>\nServerName first\n</VirtualHost>\n\
             <VirtualHost *:@port@>\nServerName second\n\
             WSGIDaemonProcess inner threads=2\n</VirtualHost>",
        )
        .start();
    for (host, status) in [("second", 200), ("first", 500)] {
        let mut client = server.client();
        client.host(host);
        assert_eq!(client.get("/app").status, status, "{host}");
    }
    server.expect_log("is defined in another virtual host");
    // And once for all, at the start.
    server.expect_log("is defined in virtual host second");
}

#[test]
fn scripts_of_others_are_forbidden() {
    if !is_root() {
        skip("only root can give files away");
        return;
    }
    let server = Site::new("owners")
        .conf("WSGIDaemonProcess roots threads=1 script-user=root")
        .conf("WSGIDaemonProcess nobodys threads=1 script-user=nobody")
        .conf("WSGIDaemonProcess grouped threads=1 script-group=nogroup")
        .source_with("/roots", WHERE, "process-group=roots")
        .mount("/nobodys", "source-0.py", "process-group=nobodys")
        .mount("/grouped", "source-0.py", "process-group=grouped")
        .start();
    server.get("/roots").expect(200);
    for place in ["/nobodys", "/grouped"] {
        assert_eq!(server.get(place).status, 403, "{place}");
    }
    server.expect_log("script-user= of process group 'nobodys'");
    server.expect_log("script-group= of process group 'grouped'");
}

#[test]
fn display_name_is_seen_by_ps() {
    let server = Site::new("names")
        .conf("WSGIDaemonProcess one threads=1 display-name=%{GROUP}")
        .conf("WSGIDaemonProcess two threads=1 display-name=a-long-name-of-my-own")
        .source_with("/one", WHERE, "process-group=one")
        .mount("/two", "source-0.py", "process-group=two")
        .start();
    for (place, name) in [("/one", "(wsgi:one)"), ("/two", "a-long-name-of-my-own")] {
        let pid = server.get(place).expect(200).value("pid");
        let shown = fs::read(format!("/proc/{pid}/cmdline")).expect("a command line");
        let shown = String::from_utf8_lossy(&shown);
        assert_eq!(shown.trim_end_matches('\0'), name);
    }
}

#[test]
fn import_scripts_run_before_any_request() {
    let code = "import os, mod_wsgi\n\
                with open(os.environ['TEST_SCRATCH'] + '/imported', 'a') as file:\n\
                \x20   file.write('%s|%s|%d;' % (mod_wsgi.process_group, mod_wsgi.application_group, os.getpid()))\n";
    let server = Site::new("import")
        .daemon()
        .group("processes=2")
        .file("apps/first.py", code)
        .conf("WSGIImportScript @apps@/first.py process-group=tests application-group=%{GLOBAL}")
        .app("hello.py")
        .start();
    let daemons = wait_for_daemons(&server, 2, &[]);
    let came = wait_for(DEADLINE, || {
        let text = server.read("scratch/imported");
        daemons.iter().all(|pid| text.contains(&format!("tests||{pid};"))).then_some(())
    });
    assert!(came.is_some(), "{}", server.read("scratch/imported"));
}

#[test]
fn service_scripts_run_by_themselves() {
    let code = "import os, signal, sys, time\n\
                SCRATCH = os.environ['TEST_SCRATCH']\n\
                def note(name):\n\
                \x20   with open(SCRATCH + '/' + name, 'a') as file:\n\
                \x20       file.write('%d;' % os.getpid())\n\
                def end(number, frame):\n\
                \x20   note('told')\n\
                \x20   sys.exit(0)\n\
                signal.signal(signal.SIGTERM, end)\n\
                note('began')\n\
                while not os.path.exists(SCRATCH + '/return'):\n\
                \x20   time.sleep(0.01)\n\
                os.unlink(SCRATCH + '/return')\n\
                note('returned')\n";
    let mut server = Site::new("service")
        .conf("WSGIDaemonProcess worker threads=0 env=TEST_SCRATCH=@root@/scratch")
        .file("apps/service.py", code)
        .conf("WSGIImportScript @apps@/service.py process-group=worker application-group=%{GLOBAL}")
        .mount("/", "service.py", "process-group=worker")
        .start();
    let pids = |server: &Server, name: &str| -> Vec<u32> {
        let text = server.read(&format!("scratch/{name}"));
        text.split(';').filter_map(|pid| pid.parse().ok()).collect()
    };
    let latest = |server: &Server, count: usize| -> u32 {
        let began = wait_for(DEADLINE, || {
            let began = pids(server, "began");
            (began.len() == count).then_some(began)
        });
        let began = began.unwrap_or_else(|| panic!("{:?}", pids(server, "began")));
        *began.last().expect("a process")
    };
    let first = latest(&server, 1);
    assert!(lives(first));
    // It serves no requests.
    assert_eq!(server.get("/").status, 500);
    server.expect_log("process group");
    // One that returns is followed by another.
    server.write("scratch/return", "", 0);
    let second = latest(&server, 2);
    assert_eq!(pids(&server, "returned"), [first]);
    // A reload ends it as any program is ended, and then it is started anew.
    server.graceful();
    let third = latest(&server, 3);
    assert!(!lives(first) && !lives(second));
    assert_eq!(pids(&server, "told"), [second]);
    server.stop();
    wait_for_end(&[third]);
    assert_eq!(pids(&server, "told"), [second, third]);
}

#[test]
fn idle_processes_are_replaced() {
    let server =
        Site::new("idle").source("/", WHERE).daemon().group("inactivity-timeout=1").start();
    let old: u32 = server.get("/").expect(200).value("pid").parse().expect("a process");
    wait_for_end(&[old]);
    let new = wait_for_daemons(&server, 1, &[old]);
    assert_eq!(server.get("/").expect(200).value("pid"), new[0].to_string());
}

#[test]
fn group_that_cannot_start_answers_at_once() {
    // There is no Python that starts in so little.
    let server = Site::new("no-start")
        .app("hello.py")
        .conf("WSGIDaemonProcess broken threads=1 virtual-memory-limit=16M")
        .mount("/broken", "hello.py", "process-group=broken")
        .start();
    server.allow_log("group 'broken'");
    server.get("/").expect(200);
    let reply = server.get("/broken");
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("Retry-After"), Some("1"));
    server.expect_log("no process can be started");
    server.get("/").expect(200);
    // What Python itself said, or the kernel's loader.
    for text in ["Error", "error while loading", "memory"] {
        server.allow_log(text);
    }
}

#[test]
fn process_that_ends_in_its_import_says_so() {
    let server = Site::new("import-exit")
        .app("hello.py")
        .conf("WSGIDaemonProcess broken threads=1")
        .source_with("/broken", "import os\nos._exit(9)", "process-group=broken")
        .start();
    server.allow_log("group 'broken'");
    let reply = server.get("/broken");
    assert!(matches!(reply.status, 502 | 503), "{}", reply.status);
    server.get("/").expect(200);
    let said = wait_for(DEADLINE, || {
        server.get("/broken");
        server.log().contains("exited with status 9").then_some(())
    });
    assert!(said.is_some(), "{}", server.log());
    // It is mended without a restart of the server.
    server.write("apps/source-0.py", WHERE, 5);
    let mended = wait_for(DEADLINE, || (server.get("/broken").status == 200).then_some(()));
    assert!(mended.is_some(), "{}", server.log());
}

#[test]
fn request_that_waits_too_long_is_answered() {
    let code = format!(
        "import time\n{WHERE}\n\
         inner = application\n\
         def application(environ, start_response):\n\
         \x20   if environ['PATH_INFO'] == '/slow':\n\
         \x20       with open(os.environ['TEST_SCRATCH'] + '/slow', 'w') as file:\n\
         \x20           file.write('slow')\n\
         \x20       time.sleep(2)\n\
         \x20   return inner(environ, start_response)\n"
    );
    let server = Site::new("queue-timeout")
        .source("/", &code)
        .daemon()
        .group("threads=1 queue-timeout=1")
        .start();
    let mut slow = server.client();
    slow.send_request("GET", "/slow", &[], b"");
    server.wait_for_file("scratch/slow", "slow");
    assert_eq!(server.get("/").status, 504);
    server.expect_log("longer than queue-timeout");
    slow.read_response().expect(200);
    server.get("/").expect(200);
}

#[test]
fn sockets_are_where_they_are_wanted() {
    let mut server = Site::new("prefix")
        .conf(
            "WSGISocketPrefix @root@/scratch/sock\nWSGIAcceptMutex sysvsem\nWSGISocketRotation Off",
        )
        .app("hello.py")
        .daemon()
        .start();
    server.get("/").expect(200);
    let found = files(&server.path("scratch"));
    let folder = found.iter().find(|name| name.starts_with("sock")).expect("a folder for sockets");
    assert_eq!(files(&server.path("scratch").join(folder)).len(), 1);
    server.allow_log("WSGIAcceptMutex");
    server.allow_log("WSGISocketRotation");
    server.stop();
    let left = files(&server.path("scratch"));
    assert!(!left.iter().any(|name| name.starts_with("sock")), "{left:?}");
}
