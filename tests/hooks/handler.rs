//! `WSGIHandlerScript`

use std::fs;

use crate::harness::{DEADLINE, Reply, Site, both_modes, wait_for};

const SCRIPT: &str = r#"
import os

def handle_request(environ, start_response):
    start_response("200 OK", [])
    keys = (
        "SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "mod_wsgi.handler_script",
        "mod_wsgi.request_handler", "mod_wsgi.callable_object", "mod_wsgi.application_group",
        "mod_wsgi.process_group", "HTTP_AUTHORIZATION",
    )
    lines = ["%s=%s\n" % (key, environ.get(key)) for key in keys]
    lines.append("exists=%s\n" % os.path.exists(environ["SCRIPT_FILENAME"]))
    return ["".join(lines).encode()]
"#;

#[track_caller]
fn same(reply: &Reply, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(reply.value(key), *value, "{key}");
    }
}

both_modes!(scripts_answer_for_files_and_urls, |site| {
    let server = site
        .file("apps/handler.py", SCRIPT)
        .file("htdocs/page.bfl", "a page")
        .file("htdocs/plain.txt", "plain")
        .conf("WSGIHandlerScript my-handler @apps@/handler.py application-group=%{GLOBAL}")
        .conf("WSGICallableObject ignored")
        .conf("<Directory @root@/htdocs>\nAddHandler my-handler .bfl\n</Directory>")
        .conf("<Location /virtual>\nSetHandler my-handler\n</Location>")
        .start();
    let script = server.path("apps/handler.py").to_string_lossy().into_owned();
    let page = server.path("htdocs/page.bfl").to_string_lossy().into_owned();
    let reply = server.get("/page.bfl/info").expect(200);
    let common = [
        ("mod_wsgi.handler_script", script.as_str()),
        ("mod_wsgi.request_handler", "my-handler"),
        ("mod_wsgi.callable_object", "handle_request"),
        ("mod_wsgi.application_group", ""),
    ];
    same(&reply, &common);
    same(
        &reply,
        &[
            ("SCRIPT_FILENAME", &page),
            ("SCRIPT_NAME", "/page.bfl"),
            ("PATH_INFO", "/info"),
            ("exists", "True"),
        ],
    );
    // Neither the file has to be there, nor may it be run by Options ExecCGI.
    let reply = server.get("/virtual/nothing").expect(200);
    same(&reply, &common);
    same(&reply, &[("exists", "False")]);
    assert_eq!(server.get("/plain.txt").expect(200).text(), "plain");
});

// Clients can think of as many URLs as they like, and each interpreter loads the script anew.
both_modes!(a_handler_has_one_interpreter_whatever_the_url, |site| {
    let server = site
        .file("apps/handler.py", SCRIPT)
        .file("htdocs/page.bfl", "a page")
        .conf("WSGIHandlerScript my-handler @apps@/handler.py")
        .conf("<Directory @root@/htdocs>\nAddHandler my-handler .bfl\n</Directory>")
        .start();
    let group = format!("localhost:{}|my-handler", server.port());
    for path in ["/page.bfl", "/page.bfl/info", "/none.bfl", "/other.bfl"] {
        same(&server.get(path).expect(200), &[("mod_wsgi.application_group", &group)]);
    }
});

both_modes!(inner_handlers_replace_outer_ones_by_name, |site| {
    let named = |name: &str| {
        format!(
            "def handle_request(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{name}']\n"
        )
    };
    let server = site
        .file("apps/one.py", named("one"))
        .file("apps/two.py", named("two"))
        .file("apps/three.py", named("three"))
        .conf("WSGIHandlerScript a @apps@/one.py\nWSGIHandlerScript b @apps@/two.py")
        .conf("<Location /a>\nSetHandler a\n</Location>\n<Location /b>\nSetHandler b\n</Location>")
        .conf("<Location /a/inner>\nWSGIHandlerScript a @apps@/three.py\n</Location>")
        .conf("<Location /b/inner>\nWSGIHandlerScript a @apps@/three.py\n</Location>")
        .start();
    for (path, text) in [("/a", "one"), ("/b", "two"), ("/a/inner", "three"), ("/b/inner", "two")] {
        assert_eq!(server.get(path).expect(200).text(), text, "{path}");
    }
});

both_modes!(options_win, |site| {
    let server = site
        .file("apps/handler.py", SCRIPT)
        .conf("WSGIPassAuthorization Off\nWSGIApplicationGroup outer")
        .conf("WSGIHandlerScript plain @apps@/handler.py")
        .conf("WSGIHandlerScript full @apps@/handler.py application-group=own \\")
        .conf("pass-authorization=On")
        .conf("<Location /plain>\nSetHandler plain\n</Location>")
        .conf("<Location /full>\nSetHandler full\n</Location>")
        .start();
    let ask = |path| {
        let headers = [("Authorization", "Token x")];
        server.client().request("GET", path, &headers, b"").expect(200)
    };
    let expected = [("mod_wsgi.application_group", "outer"), ("HTTP_AUTHORIZATION", "None")];
    same(&ask("/plain"), &expected);
    let expected = [("mod_wsgi.application_group", "own"), ("HTTP_AUTHORIZATION", "Token x")];
    same(&ask("/full"), &expected);
});

#[test]
fn handlers_run_in_their_process_group() {
    let server = Site::new("handler-process")
        .file("apps/handler.py", SCRIPT)
        .conf("WSGIDaemonProcess pages")
        .conf("WSGIHandlerScript h @apps@/handler.py process-group=pages")
        .conf("<Location /x>\nSetHandler h\n</Location>")
        .start();
    let script = server.path("apps/handler.py").to_string_lossy().into_owned();
    let reply = server.get("/x").expect(200);
    same(&reply, &[("mod_wsgi.process_group", "pages"), ("mod_wsgi.handler_script", &script)]);
}

both_modes!(changed_scripts_are_loaded_again, |site| {
    let text = |name: &str| {
        format!(
            "{}    return [b'{name}']\n",
            "def handle_request(environ, start_response):\n    start_response('200 OK', [])\n"
        )
    };
    let server = site
        .conf("WSGIHandlerScript h @apps@/handler.py\n<Location /x>\nSetHandler h\n</Location>")
        .start();
    server.allow_log("apps/handler.py");
    server.get("/x").expect(500);
    server.expect_log("FileNotFoundError");
    server.write("apps/handler.py", &text("first"), 100);
    assert_eq!(server.get("/x").expect(200).text(), "first");
    server.write("apps/handler.py", &text("second"), 50);
    // A daemon process serves on with what it has until another one with the new code is there.
    let second = || (server.get("/x").expect(200).text() == "second").then_some(());
    assert!(wait_for(DEADLINE, second).is_some(), "the new code is never served");
    server.write("apps/handler.py", "x = 1\n", 20);
    assert!(wait_for(DEADLINE, || (server.get("/x").status == 500).then_some(())).is_some());
    server.expect_log("has no callable 'handle_request'");
});

both_modes!(scripts_say_by_themselves_that_they_are_stale, |site| {
    let script = r#"
import os, time

LOADED = "%d at %d" % (os.getpid(), time.monotonic_ns())

def reload_required(path):
    assert type(path) is str
    folder = os.path.dirname(path)
    if os.path.exists(folder + "/raise"):
        raise ValueError("no idea whether")
    return os.path.basename(path) == "page" and os.path.exists(folder + "/stale")

def handle_request(environ, start_response):
    start_response("200 OK", [])
    return [LOADED.encode()]
"#;
    let server = site
        .file("apps/handler.py", script)
        .file("htdocs/page", "")
        .conf("WSGIHandlerScript h @apps@/handler.py application-group=%{GLOBAL}")
        .conf("<Location />\nSetHandler h\n</Location>")
        .start();
    let loaded = |path: &str| server.get(path).expect(200).text();
    let first = loaded("/page");
    assert_eq!(loaded("/page"), first);
    server.write("htdocs/stale", "", 0);
    // Another file is none of its business.
    assert_eq!(loaded("/other"), first);
    let again = wait_for(DEADLINE, || Some(loaded("/page")).filter(|now| *now != first));
    assert!(again.is_some(), "it is never loaded again");
    fs::remove_file(server.path("htdocs/stale")).expect("remove a file");
    server.write("htdocs/raise", "", 0);
    // What went wrong with the question is told, and means no.
    loaded("/page");
    server.allow_log("apps/handler.py");
    server.allow_log("reload_required()");
    server.expect_log("ValueError: no idea whether");
});

#[test]
fn other_files_are_no_changes_of_the_script() {
    let script = "import os\n\ndef handle_request(environ, start_response):\n    \
        start_response('200 OK', [])\n    return [b'%d' % os.getpid()]\n";
    let server = Site::new("handler-files")
        .file("apps/handler.py", script)
        // A request for changed code waits for another process.
        .conf("WSGIDaemonProcess pages reload-wait=30s")
        .conf("WSGIHandlerScript h @apps@/handler.py process-group=pages application-group=a")
        .conf("<Location />\nSetHandler h\n</Location>")
        .start();
    server.write("htdocs/one", "", 1000);
    server.write("htdocs/two", "", 2000);
    let first = server.get("/one").expect(200).text();
    for path in ["/two", "/none", "/one", "/two"] {
        assert_eq!(server.get(path).expect(200).text(), first, "{path}");
    }
}

#[test]
fn path_info_may_be_refused() {
    let server = Site::new("handler-path-info")
        .file("apps/handler.py", SCRIPT)
        .file("htdocs/page.bfl", "a page")
        .conf("WSGIHandlerScript h @apps@/handler.py")
        .conf("<Directory @root@/htdocs>\nAddHandler h .bfl\nAcceptPathInfo Off\n</Directory>")
        .start();
    server.get("/page.bfl").expect(200);
    server.get("/page.bfl/more").expect(404);
    server.expect_log("AcceptPathInfo is Off");
}
