//! `Content-Length`, HEAD, and statuses without a body.

use crate::harness::{Client, Reply, Server, Site, both_modes};

/// Answers with the status, the length and the blocks that the query asks for:
/// `?status&length&block&block…`, an empty length for none.
const SHAPED: &str = r#"
from urllib.parse import unquote_to_bytes

def application(environ, start_response):
    status, length, *blocks = environ["QUERY_STRING"].split("&")
    headers = [("X-Method", environ["REQUEST_METHOD"])]
    if length:
        headers.append(("Content-Length", length))
    start_response(status + " Shaped", headers)
    blocks = [unquote_to_bytes(block) for block in blocks]
    if environ["PATH_INFO"] == "/stream":
        return (block for block in blocks)
    return blocks
"#;

fn shaped(site: Site) -> Server {
    site.source("/", SHAPED).start()
}

/// The connection is in step: the next response is the next request's.
#[track_caller]
fn in_step(client: &mut Client) {
    assert_eq!(client.get("/?207&6&inside").expect(207).text(), "inside");
}

both_modes!(exact_length_is_kept, |site| {
    let server = shaped(site);
    let mut client = server.client();
    for place in ["/", "/stream"] {
        for query in ["200&4&body", "200&4&bo&dy", "200&0&", "200&4&&body&"] {
            let reply = client.get(&format!("{place}?{query}")).expect(200);
            let length = reply.body.len().to_string();
            assert_eq!(reply.all("Content-Length"), [length.as_str()], "{query}");
            assert_eq!(reply.header("Transfer-Encoding"), None);
        }
    }
    in_step(&mut client);
});

both_modes!(surplus_is_dropped, |site| {
    let server = shaped(site);
    server.allow_log("Content-Length");
    let mut client = server.client();
    for place in ["/", "/stream"] {
        for query in ["200&4&body%20and%20more", "200&4&body&more", "200&4&bo&dymore&more"] {
            let reply = client.get(&format!("{place}?{query}")).expect(200);
            assert_eq!(reply.text(), "body", "{place}?{query}");
            client.settle(&reply);
            in_step(&mut client);
        }
        let reply = client.get(&format!("{place}?200&0&surplus")).expect(200);
        assert_eq!(reply.text(), "");
        client.settle(&reply);
        in_step(&mut client);
    }
});

both_modes!(short_body_closes_the_connection, |site| {
    let server = shaped(site);
    for place in ["/", "/stream"] {
        for (query, body) in [("200&100&some", "some"), ("200&5&so&me", "some"), ("200&7&", "")] {
            let mut client = server.client();
            let reply = client.get(&format!("{place}?{query}"));
            if reply.status == 500 {
                // Nothing had been sent yet, so the whole can be said to have failed.
                assert!(reply.complete, "{query}");
            } else {
                assert_eq!((reply.status, reply.text().as_str()), (200, body), "{query}");
                assert!(!reply.complete);
            }
            assert!(client.is_closed(), "{place}?{query}: the client is left waiting");
        }
    }
    server.allow_log("Content-Length");
    server
        .expect_log("sent 4 bytes but announced a Content-Length of 100; the connection is closed");
});

both_modes!(length_of_a_single_block_is_known, |site| {
    let server = shaped(site);
    let mut client = server.client();
    let reply = client.get("/?200&&whole%20body").expect(200);
    assert_eq!(reply.header("Content-Length"), Some("10"));
    assert_eq!(reply.text(), "whole body");
    let reply = client.get("/?200&&").expect(200);
    assert_eq!(reply.header("Content-Length"), Some("0"));
    in_step(&mut client);
});

both_modes!(unknown_length_is_chunked, |site| {
    let server = shaped(site);
    let mut client = server.client();
    let reply = client.get("/stream?200&&some&body").expect(200);
    assert_eq!(reply.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(reply.header("Content-Length"), None);
    assert_eq!(reply.text(), "somebody");
    in_step(&mut client);
});

both_modes!(old_clients_get_no_chunks, |site| {
    let server = shaped(site);
    let mut client = server.client();
    client.send_raw(b"GET /stream?200&&some&body HTTP/1.0\r\n\r\n");
    let reply = client.read_response();
    assert_eq!((reply.status, reply.text().as_str()), (200, "somebody"));
    assert_eq!(reply.header("Transfer-Encoding"), None);
    assert!(client.is_closed());

    let mut client = server.client();
    client.send_raw(b"GET /?200&4&body HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.read_response().expect(200).text(), "body");
    in_step(&mut client);
});

both_modes!(statuses_without_a_body_have_none, |site| {
    let server = shaped(site);
    let mut client = server.client();
    for status in [204, 304] {
        for place in ["/", "/stream"] {
            for query in ["", "&", "&surplus", "4&body"] {
                client.send_request("GET", &format!("{place}?{status}&{query}"), &[], b"");
                let reply = client.read_response();
                assert_eq!(reply.status, status, "{query}");
                assert_eq!(reply.header("Transfer-Encoding"), None, "{query}");
                // Had a body followed, this would read it as a status line.
                client.settle(&reply);
                in_step(&mut client);
            }
        }
    }
    server.allow_log("Content-Length");
});

/// HEAD in every shape; a body that followed would be taken for the next response.
#[track_caller]
fn heads(client: &mut Client, method: &str) {
    for (query, length) in [
        ("/?200&4&body", Some("4")),
        ("/?200&4", Some("4")),
        ("/stream?200&4&body", Some("4")),
        ("/stream?200&&some&body", None),
    ] {
        let reply = client.head(query).expect(200);
        assert_eq!(reply.header("X-Method"), Some(method), "{query}");
        if let Some(length) = length {
            assert_eq!(reply.header("Content-Length"), Some(length), "{query}");
        }
        in_step(client);
    }
}

both_modes!(head_is_head_without_content_filters, |site| {
    let server = shaped(site);
    heads(&mut server.client(), "HEAD");
});

both_modes!(head_is_get_for_a_content_filter, |site| {
    let server = site
        .source("/", SHAPED)
        .module("filter")
        .module("deflate")
        .conf("SetOutputFilter DEFLATE")
        .start();
    let reply = server.client().head("/?200&4&body").expect(200);
    assert_eq!(reply.header("X-Method"), Some("GET"));
});

both_modes!(head_can_always_be_get, |site| {
    let server = site.source("/", SHAPED).conf("WSGIMapHEADToGET On").start();
    heads(&mut server.client(), "GET");
});

both_modes!(head_can_always_be_head, |site| {
    let server = site
        .source("/", SHAPED)
        .module("filter")
        .module("deflate")
        .conf("SetOutputFilter DEFLATE\nWSGIMapHEADToGET Off")
        .start();
    let reply = server.client().head("/?200&4&body").expect(200);
    assert_eq!(reply.header("X-Method"), Some("HEAD"));
});

both_modes!(head_of_a_surplus_or_missing_body_is_in_step, |site| {
    let server = shaped(site);
    server.allow_log("Content-Length");
    let mut client = server.client();
    for query in ["/?200&4&body%20and%20more", "/stream?200&4&bo&dymore", "/stream?200&4&"] {
        let reply: Reply = client.head(query).expect(200);
        client.settle(&reply);
        in_step(&mut client);
    }
});

both_modes!(head_of_an_error_has_no_body, |site| {
    let server = site.source("/", "def application(environ, start_response):\n    1 / 0\n").start();
    let mut client = server.client();
    for _ in 0..2 {
        let reply = client.head("/").expect(500);
        client.settle(&reply);
    }
    server.expect_log("ZeroDivisionError");
});
