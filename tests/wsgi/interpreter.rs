//! Application groups and interpreters, and what is restricted in them.

use crate::harness::{Python, Site, both_modes, pythons, skip};

/// Shows its application group, and whether somebody has been in this interpreter before.
const GROUP: &str = r#"
import sys

def application(environ, start_response):
    seen = getattr(sys, "_seen_by_a_test", None)
    sys._seen_by_a_test = environ["SCRIPT_NAME"]
    lines = [
        "group=%s" % environ["mod_wsgi.application_group"],
        "seen=%s" % seen,
    ]
    start_response("200 OK", [])
    return ["\n".join(lines).encode()]
"#;

both_modes!(groups_are_named, |site| {
    let server = site
        .conf("UseCanonicalName Off\nWSGICaseSensitivity On")
        .source("/default", GROUP)
        .mount("/Resource", "source-0.py", "application-group=%{RESOURCE}")
        .mount("/global", "source-0.py", "application-group=%{GLOBAL}")
        .mount("/server", "source-0.py", "application-group=%{SERVER}")
        .mount("/host", "source-0.py", "application-group=%{HOST}")
        .mount("/name", "source-0.py", "application-group=a-name")
        .mount("/odd", "source-0.py", "application-group=%{ODD}")
        .mount("/location", "source-0.py", "")
        .mount("/both", "source-0.py", "application-group=option")
        .mount("/env", "source-0.py", "application-group=%{ENV:variable}")
        .mount("/nested", "source-0.py", "application-group=%{ENV:variable}")
        .mount("/unset", "source-0.py", "application-group=%{ENV:variable}")
        .conf("<Location /location>\nWSGIApplicationGroup located\n</Location>")
        .conf("<Location /both>\nWSGIApplicationGroup located\n</Location>")
        .conf("<Location /env>\nSetEnv variable from-env\n</Location>")
        .conf("<Location /nested>\nSetEnv variable %{GLOBAL}\n</Location>")
        .start();
    let own = format!("localhost:{}", server.port());
    for (place, group) in [
        ("/default", format!("{own}|/default")),
        ("/Resource", format!("{own}|/Resource")),
        ("/global", String::new()),
        ("/server", own.clone()),
        ("/name", "a-name".to_owned()),
        ("/odd", "%{ODD}".to_owned()),
        ("/location", "located".to_owned()),
        ("/both", "option".to_owned()),
        ("/env", "from-env".to_owned()),
        ("/nested", String::new()),
        ("/unset", "%{ENV:variable}".to_owned()),
    ] {
        assert_eq!(server.get(place).expect(200).value("group"), group, "{place}");
        assert_eq!(server.get(&format!("{place}/x")).expect(200).value("group"), group, "{place}");
    }
    let mut client = server.client();
    client.host("some.host.example");
    let group = client.get("/host").expect(200).value("group");
    assert!(group.starts_with("some.host.example"), "{group}");
    assert_eq!(client.get("/server").expect(200).value("group"), own);
});

both_modes!(usual_ports_are_left_out_of_the_name, |site| {
    let server = site
        .source("/server", GROUP)
        .conf("WSGIApplicationGroup %{SERVER}\nUseCanonicalName On")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName plain.example:80\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName secure.example:443\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName odd.example:8080\n</VirtualHost>")
        .start();
    for (host, group) in [
        ("plain.example", "plain.example"),
        ("secure.example", "secure.example"),
        ("odd.example", "odd.example:8080"),
    ] {
        let mut client = server.client();
        client.host(host);
        assert_eq!(client.get("/server").expect(200).value("group"), group);
    }
});

// Each name that a client could bring about would be an interpreter, with all that applications load.
both_modes!(clients_do_not_choose_the_port_of_a_name, |site| {
    let server = site
        .source("/server", GROUP)
        .source_with("/resource", GROUP, "application-group=%{RESOURCE}")
        .conf("<Location /server>\nWSGIApplicationGroup %{SERVER}\n</Location>")
        .conf("<VirtualHost 127.0.0.1:@port@>\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName plain.example\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName odd.example:8080\n</VirtualHost>")
        .start();
    let port = server.port();
    for (name, group) in [
        ("unknown.example", format!("localhost:{port}")),
        ("plain.example", format!("plain.example:{port}")),
        ("odd.example", "odd.example:8080".to_owned()),
    ] {
        for port in ["", ":1", ":80", ":8080", ":65535"] {
            let mut client = server.client();
            client.host(&format!("{name}{port}"));
            assert_eq!(client.get("/server").expect(200).value("group"), group);
            let resource = client.get("/resource").expect(200);
            assert_eq!(resource.value("group"), format!("{group}|/resource"));
        }
    }
});

both_modes!(case_of_names_can_be_ignored, |site| {
    let conf = "WSGICaseSensitivity Off";
    // The only application of a daemon group would get the main interpreter.
    let server = site.source("/App", GROUP).source("/other", GROUP).conf(conf).start();
    let group = server.get("/App").expect(200).value("group");
    assert_eq!(group, format!("localhost:{}|/app", server.port()));
});

both_modes!(groups_are_interpreters, |site| {
    let server = site
        .conf("ServerLimit 1\nMaxRequestWorkers 8")
        .source_with("/a1", GROUP, "application-group=a")
        .mount("/a2", "source-0.py", "application-group=a")
        .mount("/b", "source-0.py", "application-group=b")
        .mount("/main1", "source-0.py", "application-group=%{GLOBAL}")
        .mount("/main2", "source-0.py", "application-group=%{GLOBAL}")
        .start();
    for (place, seen) in [
        ("/a1", "None"),
        ("/b", "None"),
        ("/main1", "None"),
        ("/a2", "/a1"),
        ("/main2", "/main1"),
        ("/b", "/b"),
    ] {
        assert_eq!(server.get(place).expect(200).value("seen"), seen, "{place}");
    }
});

both_modes!(extension_modules_work_in_every_group, |site| {
    let code = r#"
import decimal
import hashlib
import json
import socket
import sqlite3
import threading
import zlib

def application(environ, start_response):
    connection = sqlite3.connect(":memory:")
    value = connection.execute("select 6 * 7").fetchone()[0]
    results = []
    thread = threading.Thread(target=lambda: results.append(str(decimal.Decimal(value))))
    thread.start()
    thread.join()
    body = json.dumps(results + [hashlib.sha256(zlib.compress(b"x")).hexdigest()[:0]]).encode()
    start_response("200 OK", [])
    return [body]
"#;
    let server = site
        .source_with("/a", code, "application-group=a")
        .mount("/b", "source-0.py", "application-group=b")
        .mount("/main", "source-0.py", "application-group=%{GLOBAL}")
        .start();
    for place in ["/a", "/b", "/main", "/a", "/main"] {
        assert_eq!(server.get(place).expect(200).text(), "[\"42\", \"\"]", "{place}");
    }
});

both_modes!(threads_keep_their_locals, |site| {
    // Each thread that serves is one thread of Python for its whole life.
    let code = r#"
import threading

local = threading.local()

def application(environ, start_response):
    local.count = getattr(local, "count", 0) + 1
    start_response("200 OK", [])
    return [("%d" % local.count).encode()]
"#;
    let server = site
        .conf("ServerLimit 1\nThreadsPerChild 1\nMaxRequestWorkers 1\nMinSpareThreads 1")
        .group("threads=1")
        .source_with("/main", code, "application-group=%{GLOBAL}")
        .mount("/sub", "source-0.py", "application-group=sub")
        .start();
    for place in ["/main", "/sub"] {
        for count in 1..4 {
            assert_eq!(server.get(place).expect(200).text(), count.to_string(), "{place}");
        }
    }
});

/// Says what happens to reads, prints and signal handlers.
const RESTRICTED: &str = r#"
import signal
import sys

def outcome(function):
    try:
        function()
        return "done"
    except Exception as fault:
        return type(fault).__name__

def application(environ, start_response):
    lines = [
        "stdin=%s" % outcome(lambda: sys.stdin.read()),
        "stdout=%s" % outcome(lambda: print("printed by a test")),
        "signal=%s" % outcome(lambda: signal.signal(signal.SIGUSR1, lambda *given: None)),
    ]
    start_response("200 OK", [])
    return ["\n".join(lines).encode()]
"#;

both_modes!(signal_handlers_are_not_the_applications, |site| {
    let server = site.source("/", RESTRICTED).start();
    server.allow_log("printed by a test");
    let reply = server.get("/").expect(200);
    assert_eq!(reply.value("stdin"), "done");
    assert_eq!(reply.value("stdout"), "done");
    assert_eq!(reply.value("signal"), "done");
    // Only a note, at level info, with the place that asked for it.
    let log = server.log();
    let note = log.lines().find(|line| line.contains("signal") && line.contains("wsgi:info"));
    assert!(note.is_some(), "{log}");
});

both_modes!(standard_streams_can_be_restricted, |site| {
    let conf = "WSGIRestrictStdin On\nWSGIRestrictStdout On\nWSGIRestrictSignal Off";
    let server = site.source("/", RESTRICTED).conf(conf).start();
    let reply = server.get("/").expect(200);
    assert_eq!(reply.value("stdin"), "OSError");
    assert_eq!(reply.value("stdout"), "OSError");
    // Python's own answer, in a thread that is not its first.
    assert_eq!(reply.value("signal"), "ValueError");
});

both_modes!(restrictions_can_be_set_by_interpreter, |site| {
    let server = site
        .source_with("/free", RESTRICTED, "application-group=free")
        .mount("/bound", "source-0.py", "application-group=bound")
        .conf("<WSGIInterpreterOptions application-group=bound>\nWSGIRestrictStdout On")
        .conf("WSGIRestrictStdin On\n</WSGIInterpreterOptions>")
        .start();
    server.allow_log("printed by a test");
    assert_eq!(server.get("/free").expect(200).value("stdout"), "done");
    let reply = server.get("/bound").expect(200);
    assert_eq!((reply.value("stdout"), reply.value("stdin")), ("OSError".into(), "OSError".into()));
});

fn newest(wanted: impl Fn(&&Python) -> bool) -> Option<&'static Python> {
    pythons::all().iter().filter(wanted).max_by_key(|python| python.version)
}

/// Blocks inside a C function that keeps the GIL, until somebody writes into a pipe.
const HOLDING: &str = r#"
import ctypes
import os

def application(environ, start_response):
    path = os.environ["TEST_SCRATCH"] + "/pipe"
    if environ["PATH_INFO"] == "/make":
        os.mkfifo(path)
    if environ["PATH_INFO"] == "/hold":
        with open(os.environ["TEST_SCRATCH"] + "/began", "w") as file:
            file.write("began")
        pipe = os.open(path, os.O_RDWR)
        ctypes.PyDLL(None).read(pipe, ctypes.create_string_buffer(1), 1)
        os.close(pipe)
    start_response("200 OK", [])
    return [b"done"]
"#;

#[test]
fn interpreters_can_have_a_gil_of_their_own() {
    let Some(python) = newest(|python| python.version >= (3, 13) && !python.free_threaded) else {
        skip("no Python 3.13 with a GIL found");
        return;
    };
    let server = Site::new("own-gil")
        .python(python)
        .conf("WSGIPerInterpreterGIL On\nServerLimit 1\nMaxRequestWorkers 8")
        .source_with("/holding", HOLDING, "application-group=holding")
        .source_with("/free", GROUP, "application-group=free")
        .start();
    server.get("/free").expect(200);
    server.get("/holding/make").expect(200);
    let mut holding = server.client();
    holding.send_request("GET", "/holding/hold", &[], b"");
    server.wait_for_file("scratch/began", "began");
    // With one GIL for both, this would wait for ever.
    for _ in 0..3 {
        server.get("/free").expect(200);
    }
    std::fs::write(server.path("scratch/pipe"), b"x").expect("write into a pipe");
    assert_eq!(holding.read_response().expect(200).text(), "done");
}

#[test]
fn gil_of_its_own_refuses_old_extensions() {
    let found = newest(|python| python.version == (3, 12));
    let Some(python) = found else {
        skip("no Python 3.12 found");
        return;
    };
    let code = r#"
def application(environ, start_response):
    try:
        import _ctypes
        word = b"imported"
    except ImportError:
        word = b"refused"
    start_response("200 OK", [])
    return [word]
"#;
    let server = Site::new("own-gil-3.12")
        .python(python)
        .conf("<WSGIInterpreterOptions application-group=own>\nWSGIPerInterpreterGIL On")
        .conf("</WSGIInterpreterOptions>")
        .source_with("/own", code, "application-group=own")
        .mount("/shared", "source-0.py", "application-group=shared")
        .start();
    assert_eq!(server.get("/own").expect(200).text(), "refused");
    assert_eq!(server.get("/shared").expect(200).text(), "imported");
}

#[test]
fn gil_of_its_own_needs_a_new_python() {
    let Some(python) = newest(|python| python.version < (3, 12)) else {
        skip("no Python older than 3.12 found");
        return;
    };
    let server = Site::new("own-gil-old")
        .python(python)
        .conf("WSGIPerInterpreterGIL On")
        .source_with("/", GROUP, "application-group=group")
        .start();
    server.get("/").expect(200);
    server.expect_log("WSGIPerInterpreterGIL");
}

#[test]
fn free_threading_is_a_choice() {
    let Some(python) = newest(|python| python.free_threaded) else {
        skip("no free-threaded Python found");
        return;
    };
    let code = r#"
import sys

def application(environ, start_response):
    start_response("200 OK", [])
    return [str(sys._is_gil_enabled()).encode()]
"#;
    for (conf, enabled) in [("WSGIFreeThreading On", "False"), ("WSGIFreeThreading Off", "True")] {
        let server = Site::new("free-threading")
            .python(python)
            .conf(conf)
            .source_with("/", code, "application-group=%{GLOBAL}")
            .start();
        assert_eq!(server.get("/").expect(200).text(), enabled, "{conf}");
    }
}

#[test]
fn free_threading_needs_such_a_python() {
    let Some(python) = newest(|python| !python.free_threaded) else {
        skip("no Python with a GIL found");
        return;
    };
    let server = Site::new("free-threading-gil")
        .python(python)
        .conf("WSGIFreeThreading On")
        .app("hello.py")
        .start();
    server.get("/").expect(200);
    server.expect_log("WSGIFreeThreading");
}
