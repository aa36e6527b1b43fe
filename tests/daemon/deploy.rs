//! New code: how long it may take, who waits for it, and what becomes of requests that do not end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use crate::harness::site::is_root;
use crate::harness::{DEADLINE, Load, Site, skip, wait_for};
use crate::processes::{wait_for_daemons, wait_for_end};

/// An application that answers with a word.
fn saying(word: &str) -> String {
    format!(
        "import os, time\n\
         def application(environ, start_response):\n\
         \x20   if environ['PATH_INFO'] == '/slow':\n\
         \x20       with open(os.environ['TEST_SCRATCH'] + '/slow', 'w') as file:\n\
         \x20           file.write('begun')\n\
         \x20       time.sleep(1000)\n\
         \x20   start_response('200 OK', [('Content-Length', '{}')])\n\
         \x20   return [b'{word}']\n",
        word.len()
    )
}

#[test]
fn import_that_hangs_leaves_the_old_code_serving() {
    let server = Site::new("hangs")
        .source("/", &saying("one"))
        .daemon()
        .control()
        .group("startup-timeout=1")
        .start();
    server.get("/").expect(200);
    let load = Load::default();
    thread::scope(|scope| {
        let _ending = load.start(scope, server.port(), "/", 2);
        load.wait_for(50);
        server.write("apps/source-0.py", "import time\ntime.sleep(1000)\n", 50);
        server.expect_log("startup-timeout");
        load.wait_for(50);
        assert_eq!(load.bodies(), ["one"]);
        server.write("apps/source-0.py", &saying("two"), 40);
        load.wait_for_body("two");
    });
    load.expect_all_within(Duration::from_secs(5));
    server.allow_log("group 'tests'");
}

#[test]
fn first_import_that_hangs_is_not_for_ever() {
    let server = Site::new("hangs-first")
        .source("/", "import time\ntime.sleep(1000)\n")
        .mount("/other", "hello.py", "process-group=other")
        .daemon()
        .group("startup-timeout=2")
        .conf("WSGIDaemonProcess other threads=1")
        .start();
    let mut waits = server.client();
    waits.send_request("GET", "/", &[], b"");
    // Nobody else is held up.
    server.get("/other").expect(200);
    server.expect_log("startup-timeout");
    server.allow_log("group 'tests'");
    server.allow_log("the process ends before the request does");
    server.write("apps/source-0.py", &saying("two"), 40);
    let mended = wait_for(DEADLINE, || (server.get("/").status == 200).then_some(()));
    assert!(mended.is_some(), "{}", server.log());
    let reply = waits.read_response();
    assert!(matches!(reply.status, 200 | 502 | 503 | 504), "{}", reply.status);
}

/// Notes when it is loaded, and `rest`.
fn noting(rest: &str) -> String {
    format!(
        "import os, time\n\
         with open(os.environ['TEST_SCRATCH'] + '/loads', 'a') as file:\n\
         \x20   file.write('%f\\n' % time.monotonic())\n\
         {rest}\n"
    )
}

#[test]
fn first_import_that_kills_its_process_is_tried_later_and_later() {
    for (death, cause) in [
        ("os._exit(3)", "exited with status 3 before it was ready"),
        ("import signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ] {
        let server = Site::new("import-kills")
            .source("/", &noting(death))
            .daemon()
            .group("processes=2")
            .start();
        server.allow_log("group 'tests'");
        // Until it is clear that waiting is in vain.
        let down = wait_for(DEADLINE, || {
            let reply = server.get("/");
            assert!(matches!(reply.status, 502 | 503), "{}", reply.status);
            (reply.status == 503).then_some(reply)
        });
        let down = down.unwrap_or_else(|| panic!("requests go on waiting: {}", server.log()));
        assert!(down.header("Retry-After").is_some());
        let said = server.expect_log("no process can be started");
        assert!(said.contains(cause), "{said}");
        // One that had served would be followed within a second.
        let pause = wait_for(DEADLINE, || {
            assert_eq!(server.get("/").status, 503);
            let loads: Vec<f64> =
                server.read("scratch/loads").lines().filter_map(|line| line.parse().ok()).collect();
            loads.windows(2).map(|pair| pair[1] - pair[0]).find(|pause| *pause > 1.5)
        });
        assert!(pause.is_some(), "{}", server.read("scratch/loads"));
        server.write("apps/source-0.py", &saying("mended"), 40);
        let mended = wait_for(DEADLINE, || (server.get("/").status == 200).then_some(()));
        assert!(mended.is_some(), "{}", server.log());
    }
}

#[test]
fn request_that_kills_its_process_closes_no_group() {
    let code = "import os\n\
                def application(environ, start_response):\n\
                \x20   if environ['PATH_INFO'] == '/die':\n\
                \x20       os.abort()\n\
                \x20   start_response('200 OK', [])\n\
                \x20   return [b'served']\n";
    // Also where the process has not come to the end of what it loads first.
    for second in [saying("two"), "import time\ntime.sleep(1000)\n".to_owned()] {
        let server =
            Site::new("kills").source("/", code).source("/second", &second).daemon().start();
        server.allow_log("group 'tests'");
        server.allow_log("Fatal Python error: Aborted");
        server.allow_log("Current thread");
        for _ in 0..6 {
            assert_eq!(server.get("/die").status, 502);
        }
        assert_eq!(server.get("/").expect(200).text(), "served");
    }
}

#[test]
fn requests_wait_for_new_code_where_that_is_wanted() {
    let server =
        Site::new("waits").source("/", &saying("0")).daemon().group("reload-wait=60").start();
    server.get("/").expect(200);
    for number in 1..=3 {
        let text = number.to_string();
        server.write("apps/source-0.py", &saying(&text), 100 - number);
        assert_eq!(server.get("/").expect(200).text(), text, "the code before");
    }
}

#[test]
fn request_that_outlives_its_process_is_answered() {
    for (option, status) in [("graceful-timeout=1", 502), ("graceful-timeout=1 processes=2", 502)] {
        let server =
            Site::new("outlives").source("/", &saying("one")).daemon().group(option).start();
        server.get("/").expect(200);
        let mut slow = server.client();
        slow.send_request("GET", "/slow", &[], b"");
        server.wait_for_file("scratch/slow", "begun");
        let old = server.daemons();
        server.write("apps/source-0.py", &saying("two"), 40);
        assert_eq!(slow.read_response().status, status);
        server.expect_log("the process ends before the request does");
        server.allow_log("group 'tests'");
        wait_for_end(&old);
        wait_for_daemons(&server, old.len(), &old);
        assert_eq!(server.get("/").expect(200).text(), "two");
    }
}

#[test]
fn code_that_does_not_import_is_not_waited_for() {
    let server = Site::new("waits-not")
        .source("/", &saying("one"))
        .daemon()
        .group("reload-wait=600 processes=2")
        .start();
    wait_for_daemons(&server, 2, &[]);
    server.get("/").expect(200);
    server.write("apps/source-0.py", "import nothing_of_this_name\n", 50);
    // Far sooner than the ten minutes that it may take, which nobody here waits.
    assert_eq!(server.get("/").expect(200).text(), "one");
    server.expect_log("could not import; the process that it was to replace goes on");
    server.allow_log("nothing_of_this_name");
    // In either process, also where it has not been asked for before.
    for _ in 0..8 {
        assert_eq!(server.get("/").expect(200).text(), "one");
    }
    server.write("apps/source-0.py", &saying("two"), 40);
    assert_eq!(server.get("/").expect(200).text(), "two");
}

#[test]
fn scripts_of_handlers_and_directories_are_looked_at_without_a_request() {
    for (conf, path) in [
        (
            "AddHandler wsgi-script .py\n<Directory \"@root@/htdocs\">\nOptions +ExecCGI\n</Directory>",
            "htdocs/app.py",
        ),
        ("WSGIScriptAlias /app.py \"@root@/apps/folder/\"", "apps/folder/app.py"),
    ] {
        let server = Site::new("looked-at")
            .file(path, saying("one"))
            .conf(conf)
            .daemon()
            .group("processes=2")
            .start();
        let place = if path.starts_with("apps") { "/app.py/app.py" } else { "/app.py" };
        for word in ["one", "two"] {
            if word == "two" {
                let old = wait_for_daemons(&server, 2, &[]);
                server.write(path, &saying(word), 50);
                wait_for_end(&old);
            }
            for _ in 0..6 {
                assert_eq!(server.get(place).expect(200).text(), word);
            }
        }
    }
}

#[test]
fn script_that_changes_while_it_is_loaded_for_the_first_time_is_loaded_anew() {
    let slow = format!(
        "import os, time\n\
         open(os.environ['TEST_SCRATCH'] + '/begun', 'w').write('begun')\n\
         while not os.path.exists(os.environ['TEST_SCRATCH'] + '/go'):\n\
         \x20   time.sleep(0.01)\n{}",
        saying("one")
    );
    let server = Site::new("in-between")
        .file("apps/folder/app.py", slow)
        .conf("WSGIScriptAlias /app \"@root@/apps/folder/\"")
        .daemon()
        .start();
    let old = wait_for_daemons(&server, 1, &[]);
    let mut first = server.client();
    first.send_request("GET", "/app/app.py", &[], b"");
    server.wait_for_file("scratch/begun", "begun");
    server.write("apps/folder/app.py", &saying("two"), 50);
    fs::write(server.path("scratch/go"), "").expect("let it go on");
    assert_eq!(first.read_response().expect(200).text(), "one");
    wait_for_end(&old);
    assert_eq!(server.get("/app/app.py").expect(200).text(), "two");
}

#[test]
fn import_scripts_are_looked_at() {
    let noting = |word: &str| format!("import builtins\nbuiltins.warmed = {word:?}\n");
    let server = Site::new("warmed")
        .source_with(
            "/",
            "def application(environ, start_response):\n\
             \x20   start_response('200 OK', [])\n\
             \x20   return [warmed.encode()]\n",
            "application-group=%{GLOBAL}",
        )
        .file("apps/warm.py", noting("one"))
        .conf(
            "WSGIImportScript \"@root@/apps/warm.py\" process-group=tests \
             application-group=%{GLOBAL}",
        )
        .daemon()
        .start();
    assert_eq!(server.get("/").expect(200).text(), "one");
    let old = wait_for_daemons(&server, 1, &[]);
    server.write("apps/warm.py", &noting("two"), 50);
    wait_for_end(&old);
    assert_eq!(server.get("/").expect(200).text(), "two");
}

#[test]
fn script_that_becomes_readable_is_tried_again() {
    let server = Site::new("readable").source("/", &saying("one")).daemon().start();
    server.get("/").expect(200);
    let old = wait_for_daemons(&server, 1, &[]);
    let file = server.path("apps/source-0.py");
    let set = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&file, mode).expect("change the mode");
    };
    if !is_root() {
        skip("whoever runs the tests may read all of his files");
        return;
    }
    fs::remove_file(&file).expect("remove the script");
    fs::write(&file, saying("two")).expect("write the script");
    set(0o600);
    server.expect_log("could not import");
    server.allow_log("PermissionError");
    assert_eq!(server.daemons(), old);
    set(0o644);
    wait_for_end(&old);
    assert_eq!(server.get("/").expect(200).text(), "two");
}
