//! `wsgi.input`: the request body as the application reads it.

use crate::harness::{Client, Reply, both_modes};

/// What an expression over `wsgi.input` gives for a request body.
#[track_caller]
fn evaluate(client: &mut Client, expression: &str, body: &[u8]) -> String {
    client.request("POST", "/", &[("X-Expression", expression)], body).expect(200).text()
}

/// The body as chunks of one size.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    for part in body.chunks(size) {
        raw.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        raw.extend_from_slice(part);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

#[track_caller]
fn send_chunked(client: &mut Client, target: &str, expression: &str, body: &[u8]) -> Reply {
    let headers = [("X-Expression", expression), ("Transfer-Encoding", "chunked")];
    client.request("POST", target, &headers, &chunked(body, 5))
}

/// (expression, body, result)
const READING: &[(&str, &str, &str)] = &[
    ("i.read()", "some body", "b'some body'"),
    ("i.read(-1)", "some body", "b'some body'"),
    ("i.read()", "", "b''"),
    ("i.read(5)", "", "b''"),
    (
        "[i.read(3), i.read(3), i.read(100), i.read(), i.read(1)]",
        "abcdefgh",
        "[b'abc', b'def', b'gh', b'', b'']",
    ),
    ("[i.read(0), i.read(2), i.read(0), i.read()]", "abcd", "[b'', b'ab', b'', b'cd']"),
    (
        "[i.readline(), i.readline(), i.readline(), i.readline(), i.readline()]",
        "a\nbb\n\nccc",
        "[b'a\\n', b'bb\\n', b'\\n', b'ccc', b'']",
    ),
    (
        "[i.readline(2), i.readline(0), i.readline(2), i.readline(-1)]",
        "abc\ndef\n",
        "[b'ab', b'', b'c\\n', b'def\\n']",
    ),
    (
        "[i.readline(3), i.read(2), i.readline(), i.readlines(), i.read(), i.readlines()]",
        "abcdefgh\nij\nkl",
        "[b'abc', b'de', b'fgh\\n', [b'ij\\n', b'kl'], b'', []]",
    ),
    ("i.readlines()", "a\nb\nc", "[b'a\\n', b'b\\n', b'c']"),
    (
        "[i.readlines(1), i.readlines(3), i.readlines(0)]",
        "aa\nbb\ncc\ndd\n",
        "[[b'aa\\n'], [b'bb\\n'], [b'cc\\n', b'dd\\n']]",
    ),
    (
        "[i.readlines(4), i.readlines(-1)]",
        "aa\nbb\ncc\ndd\n",
        "[[b'aa\\n', b'bb\\n'], [b'cc\\n', b'dd\\n']]",
    ),
    ("list(i)", "a\n\nb", "[b'a\\n', b'\\n', b'b']"),
    (
        "[next(i), i.read(1), list(i), list(i)]",
        "ab\ncd\nef\n",
        "[b'ab\\n', b'c', [b'd\\n', b'ef\\n'], []]",
    ),
    ("[iter(i) is i, next(i), next(i, 'end')]", "x", "[True, b'x', 'end']"),
    ("[i.close(), i.read()]", "x", "[None, b'x']"),
    (
        "[i.read(), i.read(), i.read(3), i.readline(), i.readlines(), list(i)]",
        "x",
        "[b'x', b'', b'', b'', [], []]",
    ),
    ("in_thread(lambda: [i.readline(), i.read()])", "a\nb", "[b'a\\n', b'b']"),
    ("[i.read(1), in_thread(lambda: i.read(1)), i.read(1)]", "abc", "[b'a', b'b', b'c']"),
];

both_modes!(every_way_of_reading, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    for (expression, body, result) in READING {
        assert_eq!(evaluate(&mut client, expression, body.as_bytes()), *result, "{expression}");
    }
});

both_modes!(every_way_of_reading_chunks, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    for (expression, body, result) in READING {
        let reply = send_chunked(&mut client, "/", expression, body.as_bytes()).expect(200);
        assert_eq!(reply.text(), *result, "{expression}");
    }
});

both_modes!(wrong_arguments_are_type_errors, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    for expression in ["i.read('1')", "i.read(1, 2)", "i.readline([])", "i.readlines('x')"] {
        let result = evaluate(&mut client, expression, b"body");
        assert!(result.contains("TypeError: "), "{expression}: {result}");
    }
});

both_modes!(size_is_a_limit_and_not_an_allocation, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    assert_eq!(evaluate(&mut client, "i.read(1 << 40)", b"little"), "b'little'");
    assert_eq!(evaluate(&mut client, "i.readline(1 << 40)", b"line\nrest"), "b'line\\n'");
});

both_modes!(long_lines_come_whole, |site| {
    let server = site.app("evaluate.py").start();
    let body = [vec![b'x'; 300_000], vec![b'\n'], vec![b'y'; 100_000]].concat();
    let expression = "[len(i.readline()), len(i.readline(70000)), len(i.readline())]";
    let result = evaluate(&mut server.client(), expression, &body);
    assert_eq!(result, "[300001, 70000, 30000]");
});

both_modes!(content_length_bounds_the_body, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let head =
        "POST / HTTP/1.1\r\nHost: x\r\nX-Expression: i.read(100)\r\nContent-Length: 4\r\n\r\n";
    let next = "GET / HTTP/1.1\r\nHost: x\r\nX-Expression: 'second'\r\n\r\n";
    client.send_raw(format!("{head}body{next}").as_bytes());
    assert_eq!(client.read_response().expect(200).text(), "b'body'");
    assert_eq!(client.read_response().expect(200).text(), "'second'");
});

both_modes!(no_framing_is_no_body, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nX-Expression: i.read()\r\n\r\n";
    client.send_raw(head.as_bytes());
    assert_eq!(client.read_response().expect(200).text(), "b''");
});

both_modes!(chunked_body_has_no_content_length, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let expression = "[environ.get('CONTENT_LENGTH'), i.read()]";
    let reply = send_chunked(&mut client, "/", expression, b"0123456789").expect(200);
    assert_eq!(reply.text(), "[None, b'0123456789']");
    assert_eq!(evaluate(&mut client, "i.read()", b"next"), "b'next'");
});

both_modes!(chunked_requests_can_be_refused, |site| {
    let server = site.app("evaluate.py").conf("WSGIChunkedRequest Off").start();
    let mut client = server.client();
    assert_eq!(send_chunked(&mut client, "/", "i.read()", b"body").status, 411);
    server.allow_log("chunked");
});

both_modes!(other_transfer_codings_are_refused, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nX-Expression: 1\r\nTransfer-Encoding: gzip\r\n\r\n";
    client.send_raw(head.as_bytes());
    let status = client.read_response().status;
    // Newer httpd refuses it itself, as a bad request.
    assert!(matches!(status, 400 | 501), "{status}");
    server.allow_log("gzip");
    server.allow_log("Transfer-Encoding");
});

both_modes!(body_is_read_as_it_comes, |site| {
    let server = site
        .group("request-buffering=0")
        .source(
            "/",
            r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for line in environ["wsgi.input"]:
        yield b"got " + line
"#,
        )
        .start();
    let mut client = server.client();
    client.send_request("POST", "/", &[("Transfer-Encoding", "chunked")], b"");
    for line in ["first\n", "second\n", "third\n"] {
        client.send_raw(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
        if line == "first\n" {
            assert_eq!(client.read_head().status, 200);
        }
        let chunk = client.read_chunk().expect("an answer to each line");
        assert_eq!(String::from_utf8_lossy(&chunk), format!("got {line}"));
    }
    client.send_raw(b"0\r\n\r\n");
    assert_eq!(client.read_chunk(), Some(Vec::new()));
});

both_modes!(large_upload_comes_unchanged, |site| {
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    source = environ["wsgi.input"]
    parts = list(iter(lambda: source.read(65536), b""))
    body = b"".join(parts)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#,
        )
        .start();
    let mut seed = 1_u32;
    let body: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    })
    .take(10 << 20)
    .collect();
    let mut client = server.client();
    assert!(client.post("/", &body).expect(200).body == body, "plain");
    let headers = [("Transfer-Encoding", "chunked")];
    let reply = client.request("POST", "/", &headers, &chunked(&body, 100_000)).expect(200);
    assert!(reply.body == body, "chunked");
});

both_modes!(limit_with_length_is_413, |site| {
    let server = site.app("evaluate.py").conf("LimitRequestBody 10").start();
    let reply = server.client().request("POST", "/", &[("X-Expression", "1")], b"01234567890");
    assert_eq!(reply.status, 413);
    assert!(reply.complete);
    assert_eq!(evaluate(&mut server.client(), "i.read()", b"0123456789"), "b'0123456789'");
    // Told by httpd or by us.
    server.allow_log("larger than the configured limit");
    server.allow_log("LimitRequestBody");
});

/// Reads until it cannot, and leaves a note of what it saw; answers 200 all the same.
const STUBBORN: &str = r#"
import os

def application(environ, start_response):
    source = environ["wsgi.input"]
    seen = []
    for read in (source.read, source.readline, lambda: source.read(1), lambda: next(source)):
        try:
            seen.append(read())
        except Exception as fault:
            seen.append(type(fault).__name__)
    with open(os.environ["TEST_SCRATCH"] + "/seen", "w") as file:
        file.write(repr(seen) + "\n")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"fine"]
"#;

both_modes!(limit_with_chunks_is_an_os_error, |site| {
    let server = site.source("/", STUBBORN).conf("LimitRequestBody 10").start();
    let mut client = server.client();
    let headers = [("Transfer-Encoding", "chunked")];
    let reply = client.request("POST", "/", &headers, &chunked(b"0123456789012345", 5));
    let seen = server.wait_for_file("scratch/seen", "\n");
    assert_eq!(seen, "['OSError', 'OSError', 'OSError', 'OSError']\n");
    // httpd answers itself, before the application does.
    reply.expect(413);
    // Where the next request would begin is not known.
    assert!(client.is_closed());
    server.expect_log("larger than the configured limit");
});

both_modes!(malformed_chunk_is_an_os_error, |site| {
    let server = site.source("/", STUBBORN).start();
    let mut client = server.client();
    let headers = [("Transfer-Encoding", "chunked")];
    let reply = client.request("POST", "/", &headers, b"3\r\nabc\r\nnot a size\r\n");
    let seen = server.wait_for_file("scratch/seen", "\n");
    assert_eq!(seen, "['OSError', 'OSError', 'OSError', 'OSError']\n");
    reply.expect(400);
    assert!(client.is_closed());
    server.allow_log("chunk");
});

both_modes!(continue_is_sent_at_the_first_read, |site| {
    let server = site.app("evaluate.py").start();
    for expression in ["i.read()", "[i.read(0), i.read()][1]", "i.readline()", "next(i)"] {
        let mut client = server.client();
        let headers =
            [("X-Expression", expression), ("Expect", "100-continue"), ("Content-Length", "4")];
        client.send_request("POST", "/", &headers, b"");
        assert_eq!(client.read_head().status, 100, "{expression}");
        client.send_raw(b"body");
        let reply = client.read_response().expect(200);
        assert_eq!(reply.text(), "b'body'");
        assert!(reply.interim.is_empty(), "100 Continue came twice");
    }
});

both_modes!(continue_is_not_sent_when_the_answer_is_there, |site| {
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    start_response("401 Unauthorized", [("Content-Length", "2")])
    return [b"no"]
"#,
        )
        .start();
    let mut client = server.client();
    let headers = [("Expect", "100-continue"), ("Content-Length", "4")];
    client.send_request("POST", "/", &headers, b"");
    let reply = client.read_response();
    assert_eq!((reply.status, reply.text().as_str()), (401, "no"));
    assert!(reply.interim.is_empty(), "100 Continue for a body nobody wants");
    // Whether httpd keeps the connection or not, it must not take a request for the missing body.
    if !reply.closes() {
        client.send_raw(b"body");
    }
    client.settle(&reply);
    assert_eq!(client.get("/").status, 401);
});

both_modes!(client_that_goes_away_is_an_os_error, |site| {
    let server = site
        .group("request-buffering=0")
        .source(
            "/",
            r#"
import os

def application(environ, start_response):
    source = environ["wsgi.input"]
    seen = [source.read(4)]
    with open(os.environ["TEST_SCRATCH"] + "/began", "w") as file:
        file.write("began")
    for attempt in range(2):
        try:
            seen.append(source.read(1000))
        except OSError as fault:
            seen.append(type(fault).__name__)
    with open(os.environ["TEST_SCRATCH"] + "/seen", "w") as file:
        file.write(repr(seen) + "\n")
    start_response("200 OK", [])
    return []
"#,
        )
        .start();
    let mut client = server.client();
    client.send_request("POST", "/", &[("Content-Length", "1000")], b"0123456789");
    server.wait_for_file("scratch/began", "began");
    drop(client);
    let seen = server.wait_for_file("scratch/seen", "\n");
    assert_eq!(seen, "[b'0123', 'OSError', 'OSError']\n");
});

both_modes!(use_after_the_request_is_refused, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    assert_eq!(evaluate(&mut client, "kept.append(i)", b"unread"), "None");
    for call in ["read()", "read(1)", "readline()", "readlines()", "__next__()"] {
        let result = evaluate(&mut client, &format!("kept[0].{call}"), b"other");
        assert!(result.contains("RuntimeError: "), "{call}: {result}");
    }
    assert_eq!(
        evaluate(&mut client, "[caught(kept[0].read) and 1, i.read()]", b"own"),
        "[1, b'own']"
    );
});

both_modes!(input_filters_may_change_the_length, |site| {
    // "hello hello hello hello hello hello " compressed by gzip.
    let body: &[u8] = include_bytes!("hello.gz");
    let server = site.app("evaluate.py").module("deflate").conf("SetInputFilter DEFLATE").start();
    let headers = [("X-Expression", "i.read()"), ("Content-Encoding", "gzip")];
    let reply = server.client().request("POST", "/", &headers, body).expect(200);
    assert_eq!(reply.text(), format!("b'{}'", "hello ".repeat(6)));
});
