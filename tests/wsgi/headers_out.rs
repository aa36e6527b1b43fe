//! Response headers: their order, their number, and those that are not the application's to set.

use crate::harness::{Reply, both_modes};

/// Answers with the header lines that the request's body lists, one `Name: value` a line.
const LISTED: &str = r#"
def application(environ, start_response):
    lines = environ["wsgi.input"].read().decode("latin-1").splitlines()
    start_response("200 OK", [tuple(line.split(": ", 1)) for line in lines])
    if environ["PATH_INFO"] == "/stream":
        return (block for block in (b"some ", b"body"))
    return [b"some body"]
"#;

fn names(reply: &Reply) -> Vec<&str> {
    reply.headers.iter().map(|(name, _)| name.as_str()).collect()
}

both_modes!(repeated_headers_stay_apart_and_in_order, |site| {
    let server = site.source("/", LISTED).start();
    let lines = "Set-Cookie: a=1\nX-One: 1\nSet-Cookie: b=2\nWWW-Authenticate: Basic realm=\"x\"\n\
        X-Two: 2\nX-One: 3\nWWW-Authenticate: Bearer\nSet-Cookie: c=3\nLink: </a>\nLink: </b>";
    let reply = server.client().post("/", lines.as_bytes()).expect(200);
    assert_eq!(reply.all("Set-Cookie"), ["a=1", "b=2", "c=3"]);
    assert_eq!(reply.all("WWW-Authenticate"), ["Basic realm=\"x\"", "Bearer"]);
    assert_eq!(reply.all("X-One"), ["1", "3"]);
    assert_eq!(reply.all("Link"), ["</a>", "</b>"]);
    let own: Vec<&str> = names(&reply)
        .into_iter()
        .filter(|name| name.starts_with("X-") || *name == "Link")
        .collect();
    assert_eq!(own, ["X-One", "X-Two", "X-One", "Link", "Link"]);
});

both_modes!(headers_with_a_place_of_their_own_arrive, |site| {
    let server = site.source("/", LISTED).start();
    let lines = "Content-Type: text/X-Own; charset=\"utf-8\"\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\n\
        ETag: \"own\"\nLocation: /elsewhere\nStatus: 404 Not Found\nContent-Language: de\n\
        Cache-Control: no-store\nVary: Cookie\nExpires: 0\nContent-Encoding: own\nAccept-Ranges: none";
    let reply = server.client().post("/", lines.as_bytes()).expect(200);
    for line in lines.lines() {
        let (name, value) = line.split_once(": ").expect("a header line");
        assert_eq!(reply.all(name), [value], "{name}");
    }
});

both_modes!(no_type_is_invented, |site| {
    let server = site.source("/", LISTED).start();
    let reply = server.client().post("/", b"X-Own: 1").expect(200);
    assert_eq!(reply.header("Content-Type"), None);
});

both_modes!(framing_is_the_servers, |site| {
    let server = site.source("/", LISTED).start();
    let mut client = server.client();
    for lines in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nContent-Length: 9",
        "Transfer-Encoding: gzip, chunked",
        "transfer-encoding: identity",
        "Keep-Alive: timeout=1\nTE: trailers\nTrailer: X-Own\nUpgrade: websocket",
    ] {
        for place in ["/", "/stream"] {
            let reply = client.post(place, lines.as_bytes()).expect(200);
            assert_eq!(reply.text(), "some body", "{place}: {lines}");
            for coding in reply.all("Transfer-Encoding") {
                assert_eq!(coding, "chunked", "{place}: {lines}");
            }
            assert!(reply.all("Transfer-Encoding").len() < 2, "{place}: {lines}");
            for name in ["TE", "Trailer", "Upgrade"] {
                assert_eq!(reply.header(name), None, "{name}");
            }
            client.settle(&reply);
        }
    }
});

both_modes!(close_asked_for_by_the_application_is_done, |site| {
    let server = site.source("/", LISTED).start();
    let mut client = server.client();
    let reply = client.post("/", b"Connection: close").expect(200);
    assert_eq!(reply.text(), "some body");
    assert_eq!(reply.all("Connection"), ["close"]);
    assert!(client.is_closed());
});

both_modes!(connection_keeps_to_what_httpd_says, |site| {
    let server = site.source("/", LISTED).start();
    let mut client = server.client();
    let reply = client.post("/", b"Connection: keep-alive, X-Own\nX-Own: 1").expect(200);
    client.settle(&reply);
    let reply = client.request("POST", "/", &[("Connection", "close")], b"Connection: keep-alive");
    assert_eq!(reply.expect(200).text(), "some body");
    assert!(client.is_closed());
});

both_modes!(many_and_large_headers_arrive, |site| {
    let server = site.source("/", LISTED).start();
    let mut lines: Vec<String> = (0..500).map(|number| format!("X-{number}: {number}")).collect();
    lines.push(format!("X-Large: {}", "v".repeat(60_000)));
    let reply = server.client().post("/", lines.join("\n").as_bytes()).expect(200);
    for number in 0..500 {
        assert_eq!(reply.all(&format!("X-{number}")), [number.to_string()]);
    }
    assert_eq!(reply.header("X-Large").map(str::len), Some(60_000));
});

both_modes!(headers_of_httpd_are_added, |site| {
    let server = site
        .source("/", LISTED)
        .module("headers")
        .conf("Header set X-Httpd yes\nHeader always set X-Always yes\nHeader unset X-Own")
        .start();
    let reply = server.client().post("/", b"X-Own: 1\nX-Kept: 1").expect(200);
    assert_eq!(reply.header("X-Httpd"), Some("yes"));
    assert_eq!(reply.header("X-Always"), Some("yes"));
    assert_eq!(reply.header("X-Own"), None);
    assert_eq!(reply.header("X-Kept"), Some("1"));
    assert!(reply.header("Date").is_some() && reply.header("Server").is_some());
});

both_modes!(output_filters_work, |site| {
    // Not too short: mod_deflate leaves alone what would only grow.
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2000")])
    blocks = [b"some body " * 100] * 2
    return iter(blocks) if environ["PATH_INFO"] == "/stream" else [b"".join(blocks)]
"#,
        )
        .module("filter")
        .module("deflate")
        .conf("AddOutputFilterByType DEFLATE text/plain")
        .start();
    for path in ["/", "/stream"] {
        let reply = server.curl(path, &["--compressed", "--include"]);
        let text = reply.text();
        assert_eq!(reply.code, 0, "{}", reply.complaint);
        assert!(text.contains("Content-Encoding: gzip"), "{text}");
        assert!(!text.contains("Content-Length: 2000"), "{text}");
        assert!(text.ends_with(&"some body ".repeat(200)), "{text}");
        let whole = server.get(path).expect(200);
        assert_eq!(whole.header("Content-Length"), Some("2000"));
    }
});
