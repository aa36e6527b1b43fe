//! The response body: iterables, `close()`, and what happens when something goes wrong half-way.

use crate::harness::{Server, Site, both_modes};

/// One function for each case; `noted` is a class of iterables that leave a note when closed.
const CASES: &str = r#"
import os

class Noted:
    """An iterator over blocks that notes its close() in a file."""

    def __init__(self, blocks, word):
        self.blocks = iter(blocks)
        self.word = word

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        with open(os.environ["TEST_SCRATCH"] + "/closed", "a") as file:
            file.write(self.word + "\n")

def a_list(environ):
    return [b"one ", b"two"]

def a_tuple(environ):
    return (b"one ", b"two")

def a_set(environ):
    return {b"one two"}

def a_generator(environ):
    yield b"one "
    yield b"two"

def a_generator_with_empty_blocks(environ):
    yield b""
    yield b"one "
    yield b""
    yield b"two"
    yield b""

def an_iterator(environ):
    return iter([b"one ", b"two"])

def an_iterator_with_close(environ):
    return Noted([b"one ", b"two"], "whole")

class OnlyIndexed:
    def __getitem__(self, index):
        return (b"one ", b"two")[index]

def a_sequence(environ):
    return OnlyIndexed()

class Bytes(bytes):
    pass

def bytes_of_a_subclass(environ):
    return [Bytes(b"one "), Bytes(b"two")]

def nothing(environ):
    return []

def only_empty_blocks(environ):
    return [b"", b""]

def an_empty_generator(environ):
    if False:
        yield b""

def text(environ):
    return ["never sent"]

def text_itself(environ):
    return "never sent"

def bytes_itself(environ):
    return b"never sent"

def a_number(environ):
    return [5]

def none(environ):
    return None

def not_iterable(environ):
    return 5

def a_bytearray(environ):
    return [bytearray(b"never sent")]

def a_memoryview(environ):
    return [memoryview(b"never sent")]

def none_inside(environ):
    return Noted([None], "none-inside")

def raises_in_the_call(environ):
    raise LookupError("in the call")

def raises_in_iter(environ):
    class Iterable:
        def __iter__(self):
            raise LookupError("in iter")
        def close(self):
            Noted([], "raised-in-iter").close()
    return Iterable()

def failing(blocks):
    yield from blocks
    raise LookupError("in the middle")

def raises_at_once(environ):
    return Noted(failing([]), "raised-at-once")

def raises_after_empty_blocks(environ):
    return Noted(failing([b"", b""]), "raised-after-empty-blocks")

def raises_in_the_middle(environ):
    return Noted(failing([b"one ", b"two"]), "raised-in-the-middle")

def text_in_the_middle(environ):
    return Noted([b"one ", "two"], "text-in-the-middle")

class Failing(Noted):
    def close(self):
        super().close()
        raise LookupError("in close")

def raises_in_close(environ):
    return Failing([b"one ", b"two"], "raised-in-close")

def raises_twice(environ):
    return Failing(failing([b"one "]), "raised-twice")

def exits_in_the_call(environ):
    raise SystemExit("leaving")

def exits_in_the_middle(environ):
    def blocks():
        yield b"one "
        raise SystemExit("leaving")
    return Noted(blocks(), "exited")

def interrupts(environ):
    raise KeyboardInterrupt("stop")

def ends_the_generator(environ):
    raise GeneratorExit("over")

def stops_iteration(environ):
    raise StopIteration("in the call")

def long_stream(environ):
    def blocks():
        try:
            with open(os.environ["TEST_SCRATCH"] + "/began", "w") as file:
                file.write("began")
            while True:
                yield b"x" * 65536
        finally:
            Noted([], "finally").close()
    return blocks()

def long_iterator(environ):
    def blocks():
        while True:
            yield b"x" * 65536
    return Noted(blocks(), "left")

def application(environ, start_response):
    result = globals()[environ["QUERY_STRING"].partition("&")[0]](environ)
    headers = []
    if environ["PATH_INFO"] == "/length":
        headers.append(("Content-Length", "100"))
    start_response("200 OK", headers)
    return result
"#;

fn cases(site: Site) -> Server {
    site.source("/", CASES).start()
}

/// Stops the server and counts the notes that `close()` left.
#[track_caller]
fn closed_once(mut server: Server, words: &[&str]) {
    for word in words {
        server.wait_for_file("scratch/closed", word);
    }
    server.stop();
    let mut notes: Vec<String> = server.read("scratch/closed").lines().map(str::to_owned).collect();
    notes.sort();
    let mut words = words.to_vec();
    words.sort_unstable();
    assert_eq!(notes, words);
}

both_modes!(any_iterable_is_taken, |site| {
    let server = cases(site);
    let mut client = server.client();
    for case in [
        "a_list",
        "a_tuple",
        "a_set",
        "a_generator",
        "a_generator_with_empty_blocks",
        "an_iterator",
        "an_iterator_with_close",
        "a_sequence",
        "bytes_of_a_subclass",
    ] {
        assert_eq!(client.get(&format!("/?{case}")).expect(200).text(), "one two", "{case}");
    }
    for case in ["nothing", "only_empty_blocks", "an_empty_generator"] {
        assert_eq!(client.get(&format!("/?{case}")).expect(200).text(), "", "{case}");
    }
    closed_once(server, &["whole"]);
});

both_modes!(every_block_is_sent_at_once, |site| {
    let server = site
        .source(
            "/",
            r#"
import threading

go_on = threading.Event()

def blocks():
    yield b"first"
    assert go_on.wait(60)
    yield b"second"

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/go":
        go_on.set()
        return [b"gone"]
    return blocks()
"#,
        )
        .start();
    let mut client = server.client();
    client.send_request("GET", "/", &[], b"");
    assert_eq!(client.read_head().status, 200);
    // The application waits for the next request; the first block must be here by now.
    assert_eq!(client.read_chunk().as_deref(), Some(&b"first"[..]));
    server.get("/go").expect(200);
    assert_eq!(client.read_chunk().as_deref(), Some(&b"second"[..]));
    assert_eq!(client.read_chunk().as_deref(), Some(&b""[..]));
});

both_modes!(wrong_blocks_are_a_500, |site| {
    let server = cases(site);
    server.allow_log("Error");
    for case in [
        "text",
        "text_itself",
        "bytes_itself",
        "a_number",
        "none",
        "not_iterable",
        "a_bytearray",
        "a_memoryview",
        "none_inside",
    ] {
        let before = server.log().len();
        let reply = server.get(&format!("/?{case}")).expect(500);
        assert!(!reply.text().contains("never sent"), "{case}: {}", reply.text());
        let log = server.log()[before..].to_owned();
        assert!(log.contains("TypeError: "), "{case}: {log}");
    }
    closed_once(server, &["none-inside"]);
});

both_modes!(error_before_the_head_is_a_plain_500, |site| {
    let server = cases(site);
    let mut client = server.client();
    for (case, logged) in [
        ("raises_in_the_call", "LookupError: in the call"),
        ("raises_in_iter", "LookupError: in iter"),
        ("raises_at_once", "LookupError: in the middle"),
        ("raises_after_empty_blocks", "LookupError: in the middle"),
        ("exits_in_the_call", "SystemExit"),
        ("interrupts", "KeyboardInterrupt"),
        ("ends_the_generator", "GeneratorExit"),
        ("stops_iteration", "StopIteration"),
    ] {
        for place in ["/", "/length"] {
            let reply = client.get(&format!("{place}?{case}")).expect(500);
            let page = reply.text();
            assert!(page.contains("500 Internal Server Error"), "{case}: {page}");
            assert!(!page.contains("Traceback") && !page.contains("Lookup"), "{case}: {page}");
            server.expect_log(logged);
            client.settle(&reply);
        }
    }
    let notes = ["raised-in-iter", "raised-at-once", "raised-after-empty-blocks"];
    closed_once(server, &notes.repeat(2));
});

both_modes!(error_after_the_head_cuts_the_response, |site| {
    let server = cases(site);
    for (case, body, logged) in [
        ("raises_in_the_middle", "one two", "LookupError: in the middle"),
        ("text_in_the_middle", "one ", "TypeError: "),
        ("exits_in_the_middle", "one ", "SystemExit"),
        ("raises_twice", "one ", "LookupError: in close"),
    ] {
        for place in ["/", "/length"] {
            let mut client = server.client();
            let reply = client.get(&format!("{place}?{case}"));
            assert_eq!((reply.status, reply.text().as_str()), (200, body), "{case}");
            assert!(!reply.complete, "{case} at {place} looks complete");
            assert!(client.is_closed(), "{case} at {place} leaves the connection open");
            server.expect_log(logged);
        }
    }
    let notes = ["raised-in-the-middle", "text-in-the-middle", "exited", "raised-twice"];
    closed_once(server, &notes.repeat(2));
});

both_modes!(cut_response_is_seen_by_old_and_new_clients, |site| {
    let server = site.source("/", CASES).tls().http2().start();
    server.allow_log("in the middle");
    let path = "/?raises_in_the_middle";
    // 18: transfer closed with data outstanding; 92: HTTP/2 stream not closed cleanly.
    // 56: TLS closed without notice.
    let http1 = server.curl(path, &["--http1.1"]);
    assert_eq!((http1.code, http1.text().as_str()), (18, "one two"), "{}", http1.complaint);
    let tls = server.curl_tls(path, &["--http1.1"]);
    assert!(matches!(tls.code, 18 | 56), "{} {}", tls.code, tls.complaint);
    for reply in
        [server.curl(path, &["--http2-prior-knowledge"]), server.curl_tls(path, &["--http2"])]
    {
        assert_eq!(reply.code, 92, "{}", reply.complaint);
    }
});

both_modes!(error_in_close_leaves_the_response_whole, |site| {
    let server = cases(site);
    let mut client = server.client();
    assert_eq!(client.get("/?raises_in_close").expect(200).text(), "one two");
    assert_eq!(client.get("/?a_list").expect(200).text(), "one two");
    server.expect_log("LookupError: in close");
    closed_once(server, &["raised-in-close"]);
});

both_modes!(close_is_called_when_the_client_has_left, |site| {
    let server = cases(site);
    for case in ["long_stream", "long_iterator"] {
        let mut client = server.client();
        client.send_request("GET", &format!("/?{case}"), &[], b"");
        assert_eq!(client.read_head().status, 200);
        drop(client);
    }
    closed_once(server, &["finally", "left"]);
});

both_modes!(write_tells_that_the_client_has_left, |site| {
    let server = site
        .source(
            "/",
            r#"
import os

def application(environ, start_response):
    write = start_response("200 OK", [])
    try:
        while True:
            write(b"x" * 65536)
    except OSError as fault:
        with open(os.environ["TEST_SCRATCH"] + "/seen", "w") as file:
            file.write(type(fault).__name__ + "\n")
    return []
"#,
        )
        .start();
    let mut client = server.client();
    client.send_request("GET", "/", &[], b"");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    server.wait_for_file("scratch/seen", "OSError\n");
});

both_modes!(large_bodies_come_unchanged, |site| {
    let server = site
        .source(
            "/",
            r#"
BLOCK = bytes(range(256)) * 256

def application(environ, start_response):
    count = int(environ["QUERY_STRING"])
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/one":
        return [BLOCK * count]
    return (BLOCK for number in range(count))
"#,
        )
        .start();
    let mut client = server.client();
    let expected: Vec<u8> = (0..=255).cycle().take(160 * 65536).collect();
    for place in ["/one", "/many"] {
        let reply = client.get(&format!("{place}?160")).expect(200);
        assert!(reply.body == expected, "{place}");
    }
});
