//! `wsgi.file_wrapper`: files as response bodies.

use std::fs::{File, OpenOptions};
use std::process::{Command, Stdio};

use crate::harness::{DEADLINE, Server, Site, both_modes, log, skip, tools, wait_for};

const CASES: &str = r#"
import io
import os

SCRATCH = os.environ["TEST_SCRATCH"]
CONTENT = bytes(range(256)) * 40

with open(SCRATCH + "/file", "wb") as file:
    file.write(CONTENT)
open(SCRATCH + "/empty", "wb").close()

class Noted(io.FileIO):
    def close(self):
        if not self.closed:
            with open(SCRATCH + "/closed", "a") as file:
                file.write("closed\n")
        super().close()

class Plain:
    """No file at all, only a read method that notes the sizes it is asked for."""

    def __init__(self):
        self.source = io.BytesIO(CONTENT)
        self.sizes = set()

    def read(self, size):
        self.sizes.add(size)
        block = self.source.read(size)
        if not block:
            with open(SCRATCH + "/sizes", "w") as file:
                file.write("%s\n" % sorted(self.sizes))
        return block

def whole(wrapper, write):
    return wrapper(open(SCRATCH + "/file", "rb"))

def unbuffered(wrapper, write):
    return wrapper(open(SCRATCH + "/file", "rb", buffering=0), 4096)

def offset(wrapper, write):
    file = open(SCRATCH + "/file", "rb")
    file.seek(10)
    return wrapper(file)

def partly_read(wrapper, write):
    file = open(SCRATCH + "/file", "rb")
    assert file.read(5) == CONTENT[:5]
    return wrapper(file)

def at_the_end(wrapper, write):
    file = open(SCRATCH + "/file", "rb")
    file.seek(0, 2)
    return wrapper(file)

def behind_the_end(wrapper, write):
    file = open(SCRATCH + "/file", "rb")
    file.seek(100000)
    return wrapper(file)

def empty(wrapper, write):
    return wrapper(open(SCRATCH + "/empty", "rb"))

def written_before(wrapper, write):
    write(b"before")
    return wrapper(open(SCRATCH + "/file", "rb"))

def memory(wrapper, write):
    return wrapper(io.BytesIO(CONTENT))

def plain(wrapper, write):
    return wrapper(Plain(), 1000)

def pipe(wrapper, write):
    reader, writer = os.pipe()
    os.write(writer, CONTENT[:4000])
    os.close(writer)
    return wrapper(os.fdopen(reader, "rb"))

def subclass(wrapper, write):
    class Own(wrapper):
        pass
    return Own(open(SCRATCH + "/file", "rb"))

def iterated(wrapper, write):
    return [b"".join(wrapper(open(SCRATCH + "/file", "rb"), 100))]

def noted(wrapper, write):
    return wrapper(Noted(SCRATCH + "/file"))

def large(wrapper, write):
    path = SCRATCH + "/large"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    return wrapper(open(path, "rb"))

def application(environ, start_response):
    case, *length = environ["QUERY_STRING"].split("&")
    headers = [("Content-Type", "application/octet-stream")]
    if length:
        headers.append(("Content-Length", length[0]))
    write = start_response("200 OK", headers)
    return globals()[case](environ["wsgi.file_wrapper"], write)
"#;

fn content() -> Vec<u8> {
    (0..=255).cycle().take(256 * 40).collect()
}

fn cases(site: Site) -> Server {
    site.source("/", CASES).start()
}

both_modes!(files_are_sent_whole, |site| {
    let server = cases(site);
    let mut client = server.client();
    let content = content();
    for (case, expected) in [
        ("whole", &content[..]),
        ("unbuffered", &content),
        ("offset", &content[10..]),
        ("partly_read", &content[5..]),
        ("at_the_end", b""),
        ("behind_the_end", b""),
        ("empty", b""),
        ("memory", &content),
        ("plain", &content),
        ("pipe", &content[..4000]),
        ("subclass", &content),
        ("iterated", &content),
        ("noted", &content),
    ] {
        let reply = client.get(&format!("/?{case}")).expect(200);
        assert!(reply.body == expected, "{case}: {} bytes", reply.body.len());
    }
    let reply = client.get("/?written_before").expect(200);
    assert!(reply.body == [b"before", &content[..]].concat());
    assert_eq!(server.wait_for_file("scratch/sizes", "\n"), "[1000]\n");
});

both_modes!(length_of_a_file_is_known, |site| {
    let server = cases(site);
    let mut client = server.client();
    for (case, length) in
        [("whole", "10240"), ("offset", "10230"), ("empty", "0"), ("subclass", "10240")]
    {
        let reply = client.get(&format!("/?{case}")).expect(200);
        assert_eq!(reply.all("Content-Length"), [length], "{case}");
        let reply = client.head(&format!("/?{case}")).expect(200);
        // httpd leaves a length of 0 out of its answers to HEAD.
        let shown = reply.header("Content-Length").unwrap_or("0");
        assert_eq!(shown, length, "HEAD of {case}");
    }
});

both_modes!(given_length_bounds_the_file, |site| {
    let server = cases(site);
    let mut client = server.client();
    for case in ["whole", "unbuffered", "memory", "plain"] {
        for length in [0_usize, 1, 100, 10240] {
            let reply = client.get(&format!("/?{case}&{length}")).expect(200);
            assert!(reply.body == content()[..length], "{case} {length}");
            client.settle(&reply);
        }
    }
    let reply = client.get("/?offset&100").expect(200);
    assert!(reply.body == content()[10..110]);
    server.allow_log("Content-Length");
});

both_modes!(file_shorter_than_its_length_is_cut, |site| {
    let server = cases(site);
    for case in ["whole", "unbuffered", "memory", "empty"] {
        let mut client = server.client();
        let reply = client.get(&format!("/?{case}&20000"));
        // A file's size is known before the head is sent, so failing as a whole is right, too.
        if reply.status == 500 {
            assert!(reply.complete, "{case}");
        } else {
            assert_eq!(reply.status, 200, "{case}");
            assert!(!reply.complete, "{case} looks complete");
        }
        assert!(client.is_closed(), "{case}: the client is left waiting");
    }
    server.expect_log("Content-Length");
});

both_modes!(file_is_closed_once, |site| {
    let mut server = cases(site);
    server.get("/?noted").expect(200);
    server.wait_for_file("scratch/closed", "closed\n");
    server.stop();
    assert_eq!(server.read("scratch/closed"), "closed\n");
});

both_modes!(large_file_is_sent_whole, |site| {
    let server = cases(site);
    let reply = server.get("/?large").expect(200);
    assert_eq!(reply.body.len(), 64 << 20);
    assert!(reply.body.iter().all(|&byte| byte == 0));
});

both_modes!(file_that_shrinks_kills_nobody, |site| {
    let server = cases(site);
    server.allow_log("large");
    server.allow_log("file");
    let before = server.children();
    let mut client = server.client();
    client.send_request("GET", "/?large", &[], b"");
    let mut reply = client.read_head();
    assert_eq!(reply.status, 200);
    // More than any socket buffer holds is still to be sent.
    let file = OpenOptions::new().write(true).open(server.path("scratch/large"));
    file.and_then(|file| file.set_len(4096)).expect("truncate the file");
    client.read_body(&mut reply, "GET");
    assert!(!reply.complete, "{} bytes", reply.body.len());
    assert!(client.is_closed());
    server.get("/?empty").expect(200);
    assert_eq!(server.children(), before);
    assert!(!server.log().contains("exit signal"), "{}", server.log());
});

both_modes!(ranges_are_left_to_the_application, |site| {
    let server = site
        .source("/file", CASES)
        .source(
            "/own",
            r#"
def application(environ, start_response):
    if environ["PATH_INFO"] == "/whole":
        start_response("200 OK", [("Content-Length", "10")])
        return [b"0123456789"]
    assert environ["HTTP_RANGE"] == "bytes=2-4"
    start_response("206 Partial Content", [("Content-Range", "bytes 2-4/10")])
    return [b"234"]
"#,
        )
        .start();
    let mut client = server.client();
    let range = [("Range", "bytes=2-4")];
    for (target, length) in [("/file?whole", 10240), ("/file?memory", 10240), ("/own/whole", 10)] {
        let reply = client.request("GET", target, &range, b"").expect(200);
        assert_eq!(reply.body.len(), length, "{target}");
        assert_eq!(reply.header("Content-Range"), None, "{target}");
    }
    let reply = client.request("GET", "/own", &range, b"").expect(206);
    assert_eq!(reply.text(), "234");
    assert_eq!(reply.all("Content-Range"), ["bytes 2-4/10"]);
});

/// Names of the system calls that sent the body of `/?large`, or why this cannot be seen here.
fn sending(server: &Server) -> Result<String, String> {
    if !tools::has("strace") {
        return Err("strace is not installed".to_owned());
    }
    let (trace, notes) = (server.path("trace"), server.path("notes"));
    let pids: Vec<String> = server.children().iter().map(|pid| format!("-p{pid}")).collect();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=sendfile,sendfile64,writev,write", "-o"])
        .arg(&trace)
        .args(&pids)
        .stderr(File::create(&notes).expect("create a file"))
        .stdin(Stdio::null())
        .spawn()
        .expect("start strace");
    // Attached when a request shows up in the trace.
    let attached = wait_for(DEADLINE, || {
        if strace.try_wait().expect("look at strace").is_some() {
            return Some(false);
        }
        server.get("/?empty").expect(200);
        (!log::read(&trace).is_empty()).then_some(true)
    });
    if attached == Some(true) {
        server.get("/?large").expect(200);
    }
    if strace.try_wait().expect("look at strace").is_none() {
        tools::signal(strace.id(), "INT");
        strace.wait().expect("end strace");
    }
    match attached {
        Some(true) => Ok(log::read(&trace)),
        _ => Err(format!("strace cannot attach: {}", log::read(&notes))),
    }
}

both_modes!(sendfile_is_used_when_enabled, |site| {
    let server = site.source("/", CASES).conf("WSGIEnableSendfile On").start();
    match sending(&server) {
        Ok(trace) => assert!(trace.contains("sendfile"), "no sendfile in the trace"),
        Err(reason) => skip(&reason),
    }
});

both_modes!(sendfile_is_used_by_default, |site| {
    let server = cases(site);
    match sending(&server) {
        Ok(trace) => assert!(trace.contains("sendfile"), "no sendfile in the trace"),
        Err(reason) => skip(&reason),
    }
});

both_modes!(sendfile_is_not_used_where_httpd_may_not, |site| {
    let server = site.source("/", CASES).conf("EnableSendfile Off").start();
    match sending(&server) {
        Ok(trace) => assert!(!trace.contains("sendfile"), "sendfile against the configuration"),
        Err(reason) => skip(&reason),
    }
});
