//! Connections: pipelining, keep-alive after failures, error documents, TLS and HTTP/2.

use crate::harness::{both_modes, skip, tools};

const MIXED: &str = r#"
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("asked for")
    if path == "/raise-after-reading":
        environ["wsgi.input"].read(3)
        raise ValueError("asked for")
    if path == "/read":
        body = environ["wsgi.input"].read()
    elif path == "/read-some":
        body = environ["wsgi.input"].read(2)
    else:
        body = b""
    start_response("200 OK", [("X-Query", environ["QUERY_STRING"])])
    return [environ["REQUEST_METHOD"].encode(), b" ", path.encode(), b" ", body]
"#;

both_modes!(pipelined_requests_are_answered_in_order, |site| {
    let server = site.source("/", MIXED).start();
    let mut client = server.client();
    let mut raw = String::new();
    for number in 0..5 {
        raw += &format!("GET /first?{number} HTTP/1.1\r\nHost: x\r\n\r\n");
        for path in ["read", "read-some", "unread"] {
            let body = "GET /inside HTTP/1.1\r\nHost: x\r\n\r\n";
            raw += &format!(
                "POST /{path}?{number} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            raw += &format!(
                "POST /{path}?{number} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            );
        }
        raw += &format!("HEAD /head?{number} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    client.send_raw(raw.as_bytes());
    for number in 0..5 {
        let expected = number.to_string();
        let next = |client: &mut crate::harness::Client, method: &str| {
            let reply = client.read_reply_to(method).expect(200);
            assert_eq!(reply.header("X-Query"), Some(expected.as_str()));
            reply.text()
        };
        assert_eq!(next(&mut client, "GET"), "GET /first ");
        for answer in ["POST /read GET /inside", "POST /read-some GE", "POST /unread "] {
            for _ in 0..2 {
                assert!(next(&mut client, "POST").starts_with(answer));
            }
        }
        next(&mut client, "HEAD");
    }
    assert_eq!(client.get("/last").expect(200).text(), "GET /last ");
});

both_modes!(connections_stay_in_step_after_an_error, |site| {
    let server = site.source("/", MIXED).start();
    let mut client = server.client();
    for path in ["/raise", "/raise-after-reading"] {
        for _ in 0..3 {
            let reply = client.post(path, b"0123456789").expect(500);
            client.settle(&reply);
            assert_eq!(client.post("/read", b"body").expect(200).text(), "POST /read body");
        }
    }
    server.expect_log("ValueError: asked for");
});

both_modes!(large_unread_bodies_leave_the_connection_in_step, |site| {
    let server = site.source("/", MIXED).start();
    let mut client = server.client();
    let body = vec![b'x'; 1 << 20];
    for _ in 0..3 {
        let reply = client.post("/unread", &body).expect(200);
        client.settle(&reply);
        assert_eq!(client.get("/next").expect(200).text(), "GET /next ");
    }
});

both_modes!(error_document_replaces_our_500, |site| {
    let server = site
        .source("/app", MIXED)
        .source(
            "/error",
            r#"
def application(environ, start_response):
    body = "sorry, %s" % environ["REDIRECT_STATUS"]
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [body.encode()]
"#,
        )
        .conf("ErrorDocument 500 /error")
        .start();
    assert_eq!(server.get("/app/raise").expect(500).text(), "sorry, 500");
    server.expect_log("ValueError: asked for");
});

const REFUSING: &str = r#"
import os

class Body:
    def __iter__(self):
        return iter([b"the application's ", b"own page"])

    def close(self):
        with open(os.environ["TEST_SCRATCH"] + "/closed", "a") as file:
            file.write("closed\n")

def application(environ, start_response):
    headers = [("Content-Type", "text/plain"), ("X-Own", "1")]
    if environ["QUERY_STRING"].startswith("401"):
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(environ["QUERY_STRING"].replace("+", " "), headers)
    return Body()
"#;

both_modes!(application_errors_are_its_own_by_default, |site| {
    let server = site.source("/", REFUSING).conf("ErrorDocument 404 \"the server's page\"").start();
    let mut client = server.client();
    for status in [200, 302, 400, 401, 404, 500, 503] {
        let reply = client.get(&format!("/?{status}+Own+Reason")).expect(status);
        assert_eq!(reply.text(), "the application's own page");
        assert_eq!(reply.reason, "Own Reason");
        client.settle(&reply);
    }
});

#[test]
fn error_override_uses_the_servers_pages() {
    let mut server = crate::harness::Site::new("error-override")
        .source("/", REFUSING)
        .conf("WSGIErrorOverride On\nErrorDocument 404 \"the server's page\"")
        .start();
    let mut client = server.client();
    for (status, own) in
        [(200, true), (302, true), (399, true), (400, false), (404, false), (503, false)]
    {
        let reply = client.get(&format!("/?{status}+Own")).expect(status);
        assert_eq!(reply.text().contains("the application's own page"), own, "{status}");
        if status == 404 {
            assert_eq!(reply.text(), "the server's page");
        }
        client.settle(&reply);
    }
    let reply = client.get("/?401+Own").expect(401);
    assert_eq!(reply.header("WWW-Authenticate"), Some("Bearer"));
    assert!(!reply.text().contains("own page"));
    let reply = client.head("/?404+Own").expect(404);
    client.settle(&reply);
    server.stop();
    assert_eq!(server.read("scratch/closed"), "closed\n".repeat(8));
}

both_modes!(error_override_is_set_by_place, |site| {
    let server = site
        .source("/", REFUSING)
        .conf("ErrorDocument 404 \"the server's page\"")
        .conf("<Location /override>\nWSGIErrorOverride On\n</Location>")
        .start();
    let mut client = server.client();
    assert_eq!(client.get("/?404+Own").expect(404).text(), "the application's own page");
    assert_eq!(client.get("/override?404+Own").expect(404).text(), "the server's page");
});

both_modes!(http2_serves, |site| {
    let server = site.source("/", MIXED).tls().http2().start();
    for reply in [
        server.curl("/read", &["--http2-prior-knowledge", "--data", "body"]),
        server.curl_tls("/read", &["--http2", "--data", "body"]),
    ] {
        assert_eq!((reply.code, reply.version.as_str()), (0, "2"), "{}", reply.complaint);
        assert_eq!((reply.status, reply.text().as_str()), (200, "POST /read body"));
    }
    let reply = server.curl_tls("/raise", &["--http2"]);
    assert_eq!((reply.code, reply.status), (0, 500));
    let reply = server.curl_tls("/x", &["--http2", "--head"]);
    assert_eq!((reply.code, reply.status), (0, 200));
    server.expect_log("ValueError: asked for");
});

both_modes!(http2_carries_large_bodies, |site| {
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    start_response("200 OK", [])
    return iter(lambda: environ["wsgi.input"].read(50000), b"")
"#,
        )
        .tls()
        .http2()
        .start();
    let body: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    std::fs::write(server.path("upload"), &body).expect("write a file");
    let upload = format!("@{}", server.path("upload").display());
    for options in [["--http2"], ["--http1.1"]] {
        let reply = server.curl_tls("/", &[options[0], "--data-binary", &upload]);
        assert_eq!((reply.code, reply.status), (0, 200), "{}", reply.complaint);
        assert!(reply.body == body, "{} bytes", reply.body.len());
    }
});

both_modes!(http2_serves_many_streams, |site| {
    let server = site.source("/", MIXED).http2().start();
    if !tools::has("h2load") {
        skip("h2load is not installed");
        return;
    }
    let url = server.url("/x").replace("localhost", "127.0.0.1");
    let told = tools::run("h2load", &["-n", "500", "-c", "4", "-m", "20", &url]);
    assert!(told.contains("500 succeeded, 0 failed, 0 errored"), "{told}");
    assert!(told.contains("status codes: 500 2xx"), "{told}");
});
