//! Events of requests: their order, what subscribers can change, what they cannot.

use crate::harness::{DEADLINE, Site, both_modes, wait_for};

/// Writes down, for each path, what comes in which order.
const HEARING: &str = r#"
import sys
import mod_wsgi

heard = {}

@mod_wsgi.subscribe_events
def hear(name, **event):
    data = event.get("request_data")
    if name == "request_started":
        data["heard"] = heard.setdefault(event["request_environ"]["PATH_INFO"], [])
    if data is not None:
        data["heard"].append(name)

class Body:
    def __init__(self, words, heard):
        self.words = words
        self.heard = heard
    def __iter__(self):
        for word in self.words:
            self.heard.append("block")
            yield word
        if not self.words:
            raise RuntimeError("no words for a test")
    def close(self):
        self.heard.append("close")

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/heard":
        start_response("200 OK", [])
        return [" ".join(heard.get(environ["QUERY_STRING"], ())).encode()]
    ours = mod_wsgi.request_data()["heard"]
    ours.append("call")
    if path == "/early":
        raise ValueError("early for a test")
    start_response("200 OK", [])
    if path == "/list":
        return [b"a list"]
    if path == "/late":
        return Body([], ours)
    try:
        raise KeyError("changed its mind")
    except KeyError:
        start_response("202 Accepted", [], sys.exc_info())
    return Body([b"one", b"two"], ours)
"#;

both_modes!(events_come_in_order, |site| {
    let server = site.conf("ServerLimit 1\nMaxRequestWorkers 8").source("/", HEARING).start();
    for (path, status, order) in [
        ("/list", 200, "request_started call response_started request_finished"),
        (
            "/body",
            202,
            "request_started call response_started response_started block block close \
             request_finished",
        ),
        ("/early", 500, "request_started call request_exception request_finished"),
        (
            "/late",
            500,
            "request_started call response_started request_exception close request_finished",
        ),
    ] {
        server.get(path).expect(status);
        // The last event may come after the response.
        let heard = wait_for(DEADLINE, || {
            let heard = server.get(&format!("/heard?{path}")).expect(200).text();
            heard.contains("request_finished").then_some(heard)
        });
        assert_eq!(heard.as_deref(), Some(order), "{path}");
    }
    server.expect_log("early for a test");
    server.expect_log("no words for a test");
});

both_modes!(subscribers_can_wrap_the_application, |site| {
    let code = r#"
import mod_wsgi

@mod_wsgi.subscribe_events
def first(name, **event):
    if name == "request_started":
        event["request_environ"]["told"] = event["callable_object"]
        inner = event["application_object"]
        def wrapped(environ, start_response):
            def start(status, headers, *rest):
                return start_response(status, headers + [("X-Wrapped", environ["told"])], *rest)
            return inner(environ, start)
        return {"application_object": wrapped, "extra": 1}

@mod_wsgi.subscribe_events
def second(name, **event):
    if name == "request_started":
        event["request_data"]["seen"] = event["application_object"] is not application, event["extra"]

def application(environ, start_response):
    start_response("200 OK", [])
    return [repr(mod_wsgi.request_data()["seen"]).encode()]
"#;
    let server = site.source("/", code).start();
    let reply = server.get("/").expect(200);
    assert_eq!(reply.header("X-Wrapped"), Some("application"));
    assert_eq!(reply.text(), "(True, 1)");
});

both_modes!(faults_of_subscribers_change_nothing, |site| {
    let code = r#"
import mod_wsgi

heard = []

@mod_wsgi.subscribe_events
def first(name, **event):
    if "request_data" in event:
        raise SystemExit("a fault for a test")

@mod_wsgi.subscribe_events
def second(name, *, application_object=None, response_status=None, **event):
    heard.append(name)
    if name == "response_started":
        third(name, **event)

def third(name, *, nothing):
    pass

def application(environ, start_response):
    start_response("200 OK", [])
    return [" ".join(heard).encode()]
"#;
    let server = site.source("/", code).start();
    assert_eq!(server.get("/").expect(200).text(), "request_started response_started");
    server.expect_log("a subscriber of 'request_started'");
    server.expect_log("a fault for a test");
    server.expect_log("a subscriber of 'response_started'");
    server.expect_log("a subscriber of 'request_finished'");
    server.expect_log("TypeError");
});

both_modes!(data_of_a_request_is_its_own, |site| {
    let code = r#"
import threading
import mod_wsgi

active = mod_wsgi.active_requests

def outside():
    try:
        return mod_wsgi.request_data()
    except RuntimeError as error:
        return str(error)

def application(environ, start_response):
    data = mod_wsgi.request_data()
    data["key"] = environ["QUERY_STRING"]
    results = []
    thread = threading.Thread(target=lambda: results.append(outside()))
    thread.start()
    thread.join()
    lines = [
        "same=%s" % (data is mod_wsgi.request_data() is active[environ["mod_wsgi.request_id"]]),
        "fresh=%s" % (list(data) == ["key"]),
        "active=%d" % len(active),
        "outside=%s" % results[0],
    ]
    start_response("200 OK", [])
    return ["\n".join(lines).encode()]
"#;
    let server = site.source("/", code).start();
    for word in ["one", "two"] {
        let reply = server.get(&format!("/?{word}")).expect(200);
        assert_eq!(reply.value("same"), "True");
        assert_eq!(reply.value("fresh"), "True");
        assert_eq!(reply.value("active"), "1");
        assert_eq!(reply.value("outside"), "no active request for thread");
    }
});

#[test]
fn subscribers_have_to_be_callable() {
    let server = Site::new("subscribers").app("evaluate.py").start();
    for name in ["subscribe_events", "subscribe_shutdown", "subscribe_signals"] {
        let expression = format!("caught(lambda: __import__('mod_wsgi').{name}('no function'))");
        let headers = [("X-Expression", expression.as_str())];
        let reply = server.client().request("GET", "/", &headers, b"").expect(200).text();
        assert!(reply.contains("TypeError: a subscriber must be callable"), "{reply}");
    }
}
