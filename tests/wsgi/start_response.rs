//! `start_response`: what it takes, what it refuses, and when it may be called.

use crate::harness::{Server, both_modes};

/// What an application may not say: (the arguments, the exception).
const REFUSED: &[(&str, &str)] = &[
    // status
    ("200, []", "TypeError"),
    ("b'200 OK', []", "TypeError"),
    ("None, []", "TypeError"),
    ("'', []", "ValueError"),
    ("'OK', []", "ValueError"),
    ("'20 OK', []", "ValueError"),
    ("'2000 OK', []", "ValueError"),
    ("'200OK', []", "ValueError"),
    ("' 200 OK', []", "ValueError"),
    ("'+20 OK', []", "ValueError"),
    ("'2\u{663}0 OK', []", "Error"),
    ("'200 OK\\r\\nX-Evil: 1', []", "ValueError"),
    ("'200 OK\\nX-Evil: 1', []", "ValueError"),
    ("'200 O\\0K', []", "ValueError"),
    ("'200 \\u20ac', []", "Error"),
    ("'000 Low', []", "ValueError"),
    ("'099 Low', []", "ValueError"),
    ("'100 Continue', []", "ValueError"),
    ("'101 Switching Protocols', []", "ValueError"),
    ("'199 Last', []", "ValueError"),
    // the list
    ("'200 OK', None", "TypeError"),
    ("'200 OK', ()", "TypeError"),
    ("'200 OK', {}", "TypeError"),
    ("'200 OK', iter([])", "TypeError"),
    ("'200 OK'", "TypeError"),
    ("'200 OK', [], None, None", "TypeError"),
    ("'200 OK', ['X-Evil: 1']", "TypeError"),
    ("'200 OK', [['X-Evil', '1']]", "TypeError"),
    ("'200 OK', [None]", "TypeError"),
    ("'200 OK', [('X-Evil',)]", "ValueError"),
    ("'200 OK', [('X-Evil', '1', '2')]", "ValueError"),
    // names
    ("'200 OK', [(b'X-Evil', '1')]", "TypeError"),
    ("'200 OK', [(1, '1')]", "TypeError"),
    ("'200 OK', [('', '1')]", "ValueError"),
    ("'200 OK', [('X Evil', '1')]", "ValueError"),
    ("'200 OK', [('X-Evil:', '1')]", "ValueError"),
    ("'200 OK', [('X:Evil', '1')]", "ValueError"),
    ("'200 OK', [('X-Evil\\r\\nX-More', '1')]", "ValueError"),
    ("'200 OK', [('X-Evil\\n', '1')]", "ValueError"),
    ("'200 OK', [('X-\\0Evil', '1')]", "ValueError"),
    ("'200 OK', [('X-\\u20ac', '1')]", "Error"),
    // values
    ("'200 OK', [('X-Evil', b'1')]", "TypeError"),
    ("'200 OK', [('X-Evil', 1)]", "TypeError"),
    ("'200 OK', [('X-Evil', None)]", "TypeError"),
    ("'200 OK', [('X-Evil', '1\\r\\nX-More: 2')]", "ValueError"),
    ("'200 OK', [('X-Evil', '1\\nX-More: 2')]", "ValueError"),
    ("'200 OK', [('X-Evil', '1\\r')]", "ValueError"),
    ("'200 OK', [('X-Evil', '1\\0002')]", "ValueError"),
    ("'200 OK', [('X-Evil', '\\u20ac')]", "Error"),
    ("'200 OK', [('Content-Length', 'abc')]", "ValueError"),
    ("'200 OK', [('Content-Length', '-1')]", "ValueError"),
    ("'200 OK', [('Content-Length', '+1')]", "ValueError"),
    ("'200 OK', [('Content-Length', '1.0')]", "ValueError"),
    ("'200 OK', [('Content-Length', '')]", "ValueError"),
    ("'200 OK', [('Content-Length', '99999999999999999999999')]", "ValueError"),
    // exc_info
    ("'200 OK', [], 5", "Error"),
    ("'200 OK', [], 'text'", "Error"),
];

both_modes!(wrong_arguments_are_refused, |site| {
    let mut code = String::from("CASES = [\n");
    for (arguments, _) in REFUSED {
        code += &format!("    lambda start_response: start_response({arguments}),\n");
    }
    code += "]\n\
        def application(environ, start_response):\n\
        \x20   CASES[int(environ['QUERY_STRING'])](start_response)\n\
        \x20   return [b'the secret body']\n";
    let server = site.source("/", &code).start();
    server.allow_log("Error");
    let mut client = server.client();
    let mut faults = Vec::new();
    for (number, (arguments, exception)) in REFUSED.iter().enumerate() {
        let before = server.log().len();
        let reply = client.get(&format!("/?{number}"));
        let shown = format!("{} {:?} {}", reply.status, reply.headers, reply.text());
        let log = server.log()[before..].to_owned();
        let clean = reply.status == 500 && reply.complete;
        if !clean || ["Evil", "X-More", "secret"].iter().any(|part| shown.contains(part)) {
            faults.push(format!("start_response({arguments}) is answered with {shown}"));
        } else if !log.contains(exception) {
            faults.push(format!("start_response({arguments}): no {exception} in the log: {log}"));
        }
        client.settle(&reply);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
});

both_modes!(what_is_right_is_taken, |site| {
    let server = site
        .source(
            "/",
            r#"
class Headers(list):
    pass

class Text(str):
    pass

CASES = [
    ("200", []),
    ("200 ", []),
    ("299 An odd but fine reason", []),
    ("200 caf\xe9", [("X-Value", "caf\xe9 \xff")]),
    ("200 OK", Headers([(Text("X-Value"), Text("subclass"))])),
    ("200 OK", [("X-Value", "")]),
    ("200 OK", [("X-Value", "a\tb  c:d=\"e\"")]),
    ("599 Last", []),
]

def application(environ, start_response):
    start_response(*CASES[int(environ["QUERY_STRING"])])
    return [b"body"]
"#,
        )
        .start();
    let mut client = server.client();
    let expected = [
        (200, None),
        (200, None),
        (299, None),
        (200, Some("caf\u{e9} \u{ff}")),
        (200, Some("subclass")),
        (200, Some("")),
        (200, Some("a\tb  c:d=\"e\"")),
        (599, None),
    ];
    for (number, (status, value)) in expected.into_iter().enumerate() {
        let reply = client.get(&format!("/?{number}")).expect(status);
        assert_eq!(reply.header("X-Value"), value, "case {number}");
        assert_eq!(reply.text(), "body");
        match number {
            2 => assert_eq!(reply.reason, "An odd but fine reason"),
            3 => assert_eq!(reply.reason, "caf\u{e9}"),
            _ => {}
        }
    }
});

const TIMES: &str = r#"
import sys

def error():
    try:
        raise RuntimeError("the first failure")
    except RuntimeError:
        return sys.exc_info()

def replaced(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    start_response("404 Not Found", [("X-Second", "2")], error())
    return [b"second"]

def replaced_from_none(environ, start_response):
    start_response("404 Not Found", [("X-Second", "2")], error())
    return [b"second"]

def none_is_no_error(environ, start_response):
    start_response("200 OK", [], None)
    return [b"body"]

def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"never sent"]

def twice_after_the_head(environ, start_response):
    start_response("200 OK", [])
    yield b"first block"
    start_response("200 OK", [])
    yield b"never sent"

def reraised(environ, start_response):
    start_response("200 OK", [])
    yield b"first block"
    start_response("500 Failed", [], error())
    yield b"never sent"

def short_error(environ, start_response):
    start_response("200 OK", [])
    yield b"first block"
    start_response("500 Failed", [], (RuntimeError,))
    yield b"never sent"

def not_at_all(environ, start_response):
    return [b"never sent"]

def nor_without_a_body(environ, start_response):
    return []

def late(environ, start_response):
    yield b""
    start_response("200 OK", [])
    yield b"late but right"

def too_late(environ, start_response):
    yield b"never sent"
    start_response("200 OK", [])

def application(environ, start_response):
    return globals()[environ["QUERY_STRING"]](environ, start_response)
"#;

/// Asks for a response that must be a plain 500 with this in the log, and leave the connection usable.
#[track_caller]
fn fails(server: &Server, case: &str, logged: &str) {
    let mut client = server.client();
    let reply = client.get(&format!("/?{case}")).expect(500);
    assert!(!reply.text().contains("never sent"), "{case}: {}", reply.text());
    assert!(!reply.text().contains("Traceback"), "{case}: {}", reply.text());
    server.expect_log(logged);
    client.settle(&reply);
    assert_eq!(client.get("/?none_is_no_error").expect(200).text(), "body");
}

/// Asks for a response that must be cut after its first block.
#[track_caller]
fn is_cut(server: &Server, case: &str, logged: &str) {
    let mut client = server.client();
    let reply = client.get(&format!("/?{case}"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "first block"), "{case}");
    assert!(!reply.complete, "{case} looks complete");
    assert!(client.is_closed(), "{case}");
    server.expect_log(logged);
}

both_modes!(an_error_replaces_what_is_not_sent, |site| {
    let server = site.source("/", TIMES).start();
    let mut client = server.client();
    for case in ["replaced", "replaced_from_none"] {
        let reply = client.get(&format!("/?{case}")).expect(404);
        assert_eq!(reply.header("X-First"), None);
        assert_eq!(reply.header("X-Second"), Some("2"));
        assert_eq!(reply.text(), "second");
    }
});

both_modes!(second_call_without_an_error_is_refused, |site| {
    let server = site.source("/", TIMES).start();
    fails(&server, "twice", "RuntimeError: ");
});

both_modes!(second_call_after_the_head_is_refused, |site| {
    let server = site.source("/", TIMES).start();
    is_cut(&server, "twice_after_the_head", "RuntimeError: ");
});

both_modes!(an_error_after_the_head_is_raised_again, |site| {
    let server = site.source("/", TIMES).start();
    is_cut(&server, "reraised", "RuntimeError: the first failure");
    assert!(server.log().contains("in error"), "its own traceback: {}", server.log());
});

both_modes!(half_an_exc_info_is_refused, |site| {
    let server = site.source("/", TIMES).start();
    is_cut(&server, "short_error", "TypeError: ");
});

both_modes!(body_without_start_response_is_a_500, |site| {
    let server = site.source("/", TIMES).start();
    fails(&server, "not_at_all", "start_response");
    fails(&server, "nor_without_a_body", "start_response");
    fails(&server, "too_late", "start_response");
});

both_modes!(start_response_may_wait_for_the_first_block, |site| {
    let server = site.source("/", TIMES).start();
    assert_eq!(server.get("/?late").expect(200).text(), "late but right");
});

both_modes!(start_response_is_refused_after_the_request, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let mut ask = |expression: &str| {
        client.request("GET", "/", &[("X-Expression", expression)], b"").expect(200).text()
    };
    assert_eq!(ask("kept.append(start_response)"), "None");
    let result = ask("kept[0]('200 OK', [])");
    assert!(result.contains("RuntimeError: "), "{result}");
});

const WRITING: &str = r#"
kept = []

def before(environ, start_response):
    write = start_response("200 OK", [("X-Case", "before")])
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three ", b"four"]

def only(environ, start_response):
    start_response("200 OK", [])(b"all")
    return []

def inside(environ, start_response):
    write = start_response("200 OK", [])
    yield b"one "
    write(b"two ")
    yield b"three"

def with_length(environ, start_response):
    write = start_response("200 OK", [("Content-Length", "6")])
    write(b"one")
    return [b"two"]

def empty_write_sends_the_head(environ, start_response):
    start_response("200 OK", [])(b"")
    try:
        start_response("200 OK", [])
    except RuntimeError:
        return [b"refused"]
    return [b"accepted"]

def wrong_type(environ, start_response):
    write = start_response("200 OK", [])
    results = []
    for block in ("text", None, 5, bytearray(b"x"), memoryview(b"x")):
        try:
            write(block)
            results.append("taken")
        except TypeError:
            results.append("TypeError")
    return [" ".join(results).encode()]

def keep(environ, start_response):
    kept.append(start_response("200 OK", []))
    return [b"kept"]

def late(environ, start_response):
    start_response("200 OK", [])
    try:
        kept[0](b"late")
    except RuntimeError:
        return [b"refused"]
    return [b"accepted"]

def application(environ, start_response):
    return globals()[environ["QUERY_STRING"]](environ, start_response)
"#;

both_modes!(write_comes_before_the_iterable, |site| {
    let server = site.source("/", WRITING).start();
    let mut client = server.client();
    for (case, body) in [
        ("before", "one two three four"),
        ("only", "all"),
        ("inside", "one two three"),
        ("with_length", "onetwo"),
        ("empty_write_sends_the_head", "refused"),
        ("wrong_type", "TypeError TypeError TypeError TypeError TypeError"),
        ("keep", "kept"),
        ("late", "refused"),
    ] {
        assert_eq!(client.get(&format!("/?{case}")).expect(200).text(), body, "{case}");
    }
});
