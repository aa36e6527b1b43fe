//! `wsgiref.validate` around an application that uses everything.

use crate::harness::{Server, both_modes};

const VALIDATED: &str = r#"
import io
import warnings
from wsgiref.validate import validator

# What the validator only warns about is an error here.
warnings.simplefilter("error")

class Body:
    def __init__(self, blocks):
        self.blocks = iter(blocks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        self.blocks = None

def read(source):
    return [source.read(3), source.readline(), source.readline(4), source.read(1000000)]

def lines(source):
    return source.readlines()

def hinted(source):
    return source.readlines(5) + list(source)

def iterated(source):
    return list(source)

def unread(source):
    return []

READERS = {"read": read, "lines": lines, "hinted": hinted, "iterated": iterated, "unread": unread}

@validator
def application(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("validated\n")
    errors.writelines(["validated\n", "validated\n"])
    errors.flush()
    how, answer = environ["PATH_INFO"].strip("/").split("/")
    body = b"".join(READERS[how](environ["wsgi.input"]))
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Length", str(len(body)))]
    if answer == "empty":
        start_response("204 No Content", [])
        return Body([])
    write = start_response("200 OK", headers)
    if answer == "written":
        write(body)
        return Body([])
    if answer == "wrapped":
        return environ["wsgi.file_wrapper"](io.BytesIO(body), 10)
    if answer == "both":
        write(body[:5])
        return Body([body[5:]])
    return Body([body[:5], body[5:]])
"#;

const BODY: &[u8] = b"first line\nsecond\n\nthe last without an end";

#[track_caller]
fn exercise(server: &Server) {
    let mut client = server.client();
    for how in ["read", "lines", "hinted", "iterated", "unread"] {
        let expected: &[u8] = if how == "unread" { b"" } else { BODY };
        for answer in ["blocks", "written", "both", "wrapped"] {
            let target = format!("/{how}/{answer}?a=b");
            let reply = client.post(&target, BODY).expect(200);
            assert!(reply.body == expected, "{target}: {}", reply.text());
            let chunk = [b"2a\r\n", BODY, b"\r\n0\r\n\r\n"].concat();
            let headers = [("Transfer-Encoding", "chunked")];
            let reply = client.request("POST", &target, &headers, &chunk).expect(200);
            assert!(reply.body == expected, "{target} chunked: {}", reply.text());
            client.get(&target).expect(200);
        }
        client.get(&format!("/{how}/empty")).expect(204);
    }
    server.expect_log("validated");
    assert!(!server.log().contains("AssertionError"), "{}", server.log());
}

both_modes!(everything_is_valid, |site| {
    assert_eq!(BODY.len(), 0x2a);
    exercise(&site.source("/", VALIDATED).start());
});

both_modes!(everything_is_valid_in_the_main_interpreter, |site| {
    exercise(&site.source_with("/", VALIDATED, "application-group=%{GLOBAL}").start());
});
