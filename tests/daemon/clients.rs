//! Clients that go away, and clients that take their time.

use std::thread;

use crate::harness::{Client, DEADLINE, Server, Site, wait_for};
use crate::processes::{descriptors, status};

const BODIES: &str = r#"
import os
import time

closed = 0
begun = 0

class Stream:
    def __init__(self, size):
        global begun
        begun += 1
        self.left = size

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"x" * 65536

    def close(self):
        global closed
        closed += 1

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [])
        return Stream(10000)
    if path == "/big":
        start_response("200 OK", [("Content-Length", str(160 * 65536))])
        return Stream(160)
    if path == "/counts":
        body = b"begun=%d\nclosed=%d\npid=%d\n" % (begun, closed, os.getpid())
    else:
        body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;

/// One child of httpd's with as many threads as there are slow clients, and one process of ours.
fn site(name: &str, threads: usize) -> Server {
    let server = Site::new(name)
        .source_with("/", BODIES, "application-group=%{GLOBAL}")
        .conf("ThreadLimit 80\nServerLimit 1\nThreadsPerChild 80\nMaxRequestWorkers 80")
        .daemon()
        .group(&format!("threads={threads}"))
        .start();
    server.get("/counts").expect(200);
    server
}

/// How many: a share, or as many as promised where `MOD_WSGI_RS_FULL` is set.
fn number(share: usize, full: usize) -> usize {
    if std::env::var_os("MOD_WSGI_RS_FULL").is_some() { full } else { share }
}

#[test]
fn aborted_requests_leak_nothing() {
    let server = site("aborts", 5);
    let total = number(200, 1000);
    let (child, daemon) = (server.children()[0], server.daemons()[0]);
    let abort = |count: usize| {
        for number in 0..count {
            let mut client = server.client();
            match number % 4 {
                // Within a response.
                0 => {
                    client.send_request("GET", "/stream", &[], b"");
                    assert_eq!(client.read_head().status, 200);
                }
                // Within a body that is gathered, and one that the application asks for.
                1 => client
                    .send_raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nsome"),
                2 => {
                    client.send_raw(
                        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
                          Content-Length: 100000\r\n\r\n",
                    );
                    assert_eq!(client.read_head().status, 100);
                    client.send_raw(b"some");
                }
                // Before the answer.
                _ => client.send_request("GET", "/stream", &[], b""),
            }
        }
    };
    let settled = || {
        let done = wait_for(DEADLINE, || {
            let reply = server.get("/counts").expect(200);
            (reply.value("begun") == reply.value("closed")).then_some(reply)
        });
        let reply = done.expect("close() is called for every response");
        assert_eq!(reply.value("pid"), daemon.to_string());
        reply.value("closed").parse::<usize>().expect("a number")
    };
    server.allow_log("body");
    server.allow_log("OSError");
    abort(total / 10);
    let before = settled();
    let look = || {
        (
            descriptors(child),
            descriptors(daemon),
            status(child, "Threads"),
            status(daemon, "Threads"),
        )
    };
    let first = look();
    abort(total - total / 10);
    assert!(settled() >= before + (total - total / 10) / 4);
    let last = wait_for(DEADLINE, || {
        let last = look();
        // A kept connection more or less is none that leaks.
        (last.0 <= first.0 + 5 && last.1 <= first.1 + 5 && last.3 == first.3).then_some(last)
    });
    eprintln!("{first:?}, then {last:?}");
    assert!(last.is_some(), "{first:?}, then {:?}", look());
    assert_eq!(server.daemons(), [daemon]);
    assert_eq!(server.children(), [child]);
}

/// As many requests as a group has threads, at the same time, and then some.
#[track_caller]
fn answers_others(server: &Server) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    server.get("/counts").expect(200);
                }
            });
        }
    });
}

/// Says something when its response is not wanted any more.
const FAREWELL: &str = r#"
class Stream:
    def __iter__(self):
        try:
            while True:
                yield b"x" * 65536
        finally:
            print("the generator ends")

class Body:
    def __init__(self):
        self.stream = iter(Stream())

    def __iter__(self):
        return self.stream

    def close(self):
        self.stream.close()
        raise ValueError("close fails")

def application(environ, start_response):
    start_response("200 OK", [])
    return Body()
"#;

#[test]
fn what_is_said_after_the_client_has_gone_is_in_the_log_of_the_request() {
    let server = Site::new("farewell")
        .source("/", FAREWELL)
        .daemon()
        .conf("<VirtualHost *:*>\nServerName localhost\nErrorLog logs/host.log\n</VirtualHost>")
        .start();
    let mut client = server.client();
    client.send_request("GET", "/", &[], b"");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    for text in ["the generator ends", "ValueError: close fails"] {
        let line = server.expect_log_in("host.log", text);
        assert!(line.contains("[client 127.0.0.1"), "{line}");
    }
}

#[test]
fn slow_uploads_occupy_no_thread() {
    let server = site("slow-uploads", 5);
    let count = 50;
    let size = 100_000;
    let mut clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = server.client();
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\nx");
            client.send_raw(head.as_bytes());
            client
        })
        .collect();
    answers_others(&server);
    // A piece at a time.
    for piece in 0..5 {
        let left = if piece == 4 { size - 1 - 4 } else { 1 };
        for client in &mut clients {
            client.send_raw(&vec![b'x'; left]);
        }
        answers_others(&server);
    }
    for mut client in clients {
        assert_eq!(client.read_response().expect(200).text(), size.to_string());
    }
}

#[test]
fn slow_chunked_uploads_occupy_no_thread() {
    let server = site("slow-chunks", 5);
    let mut clients: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = server.client();
            client.send_raw(
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            );
            client
        })
        .collect();
    answers_others(&server);
    for client in &mut clients {
        client.send_raw(b"2\r\nxx\r\n0\r\n\r\n");
    }
    for mut client in clients {
        assert_eq!(client.read_response().expect(200).text(), "3");
    }
}

#[test]
fn slow_readers_occupy_no_thread() {
    let server = site("slow-readers", 5);
    let clients: Vec<Client> = (0..number(12, 50))
        .map(|_| {
            let mut client = server.client();
            client.send_request("GET", "/big", &[], b"");
            client
        })
        .collect();
    answers_others(&server);
    for mut client in clients {
        let reply = client.read_response().expect(200);
        assert_eq!(reply.body.len(), 160 * 65536);
    }
    let counts = server.get("/counts");
    assert_eq!(counts.value("begun"), counts.value("closed"));
}

#[test]
fn slow_readers_of_tls_and_http_2_occupy_no_thread() {
    let server = Site::new("slow-tls")
        .tls()
        .http2()
        .source_with("/", BODIES, "application-group=%{GLOBAL}")
        .conf("ThreadLimit 80\nServerLimit 1\nThreadsPerChild 80\nMaxRequestWorkers 80")
        .daemon()
        .group("threads=2")
        .start();
    server.get("/counts").expect(200);
    thread::scope(|scope| {
        let mut slow = Vec::new();
        for version in ["--http1.1", "--http1.1", "--http2", "--http2"] {
            let server = &server;
            slow.push(
                scope.spawn(move || server.curl_tls("/big", &[version, "--limit-rate", "3M"])),
            );
        }
        // All of them have begun, more than there are threads.
        let begun = wait_for(DEADLINE, || {
            (server.get("/counts").expect(200).value("begun") == "4").then_some(())
        });
        assert!(begun.is_some());
        answers_others(&server);
        for curl in slow {
            let curl = curl.join().expect("curl");
            assert_eq!((curl.code, curl.status, curl.body.len()), (0, 200, 160 * 65536));
        }
    });
}

#[test]
fn bodies_are_streamed_where_that_is_wanted() {
    let code = r#"
def application(environ, start_response):
    # One byte for each that came, as it comes.
    write = start_response("200 OK", [])
    while True:
        piece = environ["wsgi.input"].read(1)
        if not piece:
            return []
        write(piece.upper())
"#;
    for (options, headers) in [("request-buffering=Off", ""), ("", "Expect: 100-continue\r\n")] {
        let server = Site::new("streamed").source("/", code).daemon().group(options).start();
        let mut client = server.client();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 3\r\n\r\n");
        client.send_raw(head.as_bytes());
        if !headers.is_empty() {
            assert_eq!(client.read_head().status, 100);
        }
        client.send_raw(b"a");
        let reply = client.read_head();
        assert_eq!(reply.status, 200);
        assert_eq!(client.read_chunk().as_deref(), Some(b"A".as_slice()));
        for (sent, came) in [(b"b", b"B"), (b"c", b"C")] {
            client.send_raw(sent);
            assert_eq!(client.read_chunk().as_deref(), Some(came.as_slice()));
        }
        assert_eq!(client.read_chunk().as_deref(), Some(b"".as_slice()));
    }
}
