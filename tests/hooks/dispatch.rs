//! `WSGIDispatchScript`

use crate::harness::{Site, both_modes};

/// Shows where it runs, under two names.
const APPLICATION: &str = r#"
def show(environ, start_response, name):
    start_response("200 OK", [])
    keys = ("mod_wsgi.process_group", "mod_wsgi.application_group", "mod_wsgi.callable_object")
    lines = ["%s=%s\n" % (key, environ[key]) for key in keys]
    return [("name=%s\n" % name + "".join(lines)).encode("latin-1")]

def application(environ, start_response):
    return show(environ, start_response, "application")

def other(environ, start_response):
    return show(environ, start_response, "other")
"#;

/// Answers what the query string says, `function:value`, with `None` for all else.
const DISPATCH: &str = r#"
def answer(environ, name):
    assert "wsgi.input" not in environ and environ["mod_wsgi.process_group"] == ""
    assert "mod_wsgi.callable_object" not in environ
    function, _, value = environ["QUERY_STRING"].partition(":")
    if function != name:
        return None
    if value == "raise":
        raise ValueError("no idea")
    return {"int": 1, "bytes": b"by-bytes", "wide": "\u1234", "nul": "a\0b"}.get(value, value)

def process_group(environ):
    return answer(environ, "process")

def application_group(environ):
    return answer(environ, "group")

def callable_object(environ):
    return answer(environ, "callable")
"#;

both_modes!(scripts_say_where_applications_run, |site| {
    let server = site
        .source("/", APPLICATION)
        .file("apps/dispatch.py", DISPATCH)
        .conf("WSGIDispatchScript @apps@/dispatch.py\nWSGIApplicationGroup usual")
        .conf("SetEnv WHICH other")
        .start();
    let here = format!("localhost:{}", server.port());
    for (query, name, group, callable) in [
        ("", "application", "usual", "application"),
        ("group:", "application", "", "application"),
        ("group:mine", "application", "mine", "application"),
        ("group:bytes", "application", "by-bytes", "application"),
        ("group:%{GLOBAL}", "application", "", "application"),
        ("group:%{SERVER}", "application", here.as_str(), "application"),
        ("group:%{ENV:WHICH}", "application", "other", "application"),
        ("callable:other", "other", "usual", "other"),
        ("callable:%{ENV:WHICH}", "other", "usual", "other"),
    ] {
        let reply = server.get(&format!("/?{query}")).expect(200);
        assert_eq!(reply.value("name"), name, "{query}");
        assert_eq!(reply.value("mod_wsgi.application_group"), group, "{query}");
        assert_eq!(reply.value("mod_wsgi.callable_object"), callable, "{query}");
    }
});

#[test]
fn scripts_choose_process_groups() {
    let server = Site::new("dispatch-process")
        .source("/", APPLICATION)
        .file("apps/dispatch.py", DISPATCH)
        .conf("WSGIDaemonProcess blog\nWSGIDispatchScript @apps@/dispatch.py")
        .conf("WSGIRestrictProcess blog shop %{GLOBAL}")
        .start();
    for (query, group) in [("", ""), ("process:blog", "blog"), ("process:%{GLOBAL}", "")] {
        let reply = server.get(&format!("/?{query}")).expect(200);
        assert_eq!(reply.value("mod_wsgi.process_group"), group, "{query}");
    }
    server.get("/?process:shop").expect(500);
    server.expect_log("no daemon process group called 'shop'");
    server.get("/?process:other").expect(500);
    server.expect_log("WSGIRestrictProcess does not allow process group 'other'");
}

both_modes!(whatever_is_no_answer_fails_the_request, |site| {
    let server = site
        .source("/", APPLICATION)
        .file("apps/dispatch.py", DISPATCH)
        .conf("WSGIDispatchScript @apps@/dispatch.py")
        .start();
    server.allow_log("apps/dispatch.py");
    for (value, text) in [
        ("raise", "ValueError: no idea"),
        ("int", "must return None, str or bytes, not int"),
        ("wide", "UnicodeEncodeError"),
        ("nul", "returned a string with a NUL"),
    ] {
        for function in ["process", "group", "callable"] {
            server.get(&format!("/?{function}:{value}")).expect(500);
        }
        server.expect_log(text);
    }
});

#[test]
fn a_script_that_does_not_load_fails_the_request() {
    for (name, source, text) in [
        ("dispatch-syntax", "def process_group(environ) return None", "SyntaxError"),
        ("dispatch-raise", "raise ValueError('at import')", "at import"),
    ] {
        let server = Site::new(name)
            .source("/", APPLICATION)
            .file("apps/dispatch.py", source)
            .conf("WSGIDispatchScript @apps@/dispatch.py")
            .start();
        server.allow_log("apps/dispatch.py");
        server.get("/").expect(500);
        server.expect_log(text);
    }
    // None of the functions has to be there.
    let server = Site::new("dispatch-empty")
        .source("/", APPLICATION)
        .file("apps/dispatch.py", "")
        .conf("WSGIDispatchScript @apps@/dispatch.py")
        .start();
    server.get("/").expect(200);
}
