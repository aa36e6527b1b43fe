//! `WSGITrustedProxyHeaders` and `WSGITrustedProxies`: what an application sees behind a reverse proxy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use harness::{Reply, Server, Site, both_modes, tools};

const HEADERS: &str = "WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Host X-Forwarded-Server \
    X-Forwarded-Port X-Script-Name X-Forwarded-Proto";

/// What a proxy says.
const SENT: [(&str, &str); 8] = [
    ("X-Forwarded-For", "1.1.1.1, 203.0.113.9, 127.0.0.5"),
    ("X-Forwarded-Host", "www.example.org:8443"),
    ("X-Forwarded-Server", "front.example.org"),
    ("X-Forwarded-Port", "8443"),
    ("X-Script-Name", "/public"),
    ("X-Forwarded-Proto", "https"),
    // Of the same topics as the others, and not named in the configuration.
    ("X-Real-IP", "6.6.6.6"),
    ("X-Forwarded-SSL", "off"),
];

fn ask(server: &Server, target: &str) -> Reply {
    server.client().request("GET", target, &SENT, b"").expect(200)
}

#[track_caller]
fn same(reply: &Reply, expected: &[(&str, Option<&str>)]) {
    for (key, value) in expected {
        let value = value.map(|value| format!("str:'{value}'"));
        assert_eq!(reply.field(key), value, "{key}");
    }
}

both_modes!(trusted_proxies_speak_for_the_client, |site| {
    let server = site
        .mount("/app", "environ.py", "")
        .conf(HEADERS)
        .conf("WSGITrustedProxies 192.0.2.1\nWSGITrustedProxies 127.0.0.0/8")
        .start();
    let reply = ask(&server, "/app/some/where");
    same(
        &reply,
        &[
            ("REMOTE_ADDR", Some("203.0.113.9")),
            ("HTTP_X_FORWARDED_FOR", Some("203.0.113.9, 127.0.0.5")),
            ("HTTP_HOST", Some("www.example.org:8443")),
            ("SERVER_NAME", Some("front.example.org")),
            ("SERVER_PORT", Some("8443")),
            ("SCRIPT_NAME", Some("/public")),
            ("PATH_INFO", Some("/some/where")),
            ("mod_wsgi.script_name", Some("/app")),
            ("mod_wsgi.mount_point", Some("/public")),
            ("wsgi.url_scheme", Some("https")),
            ("REQUEST_SCHEME", Some("http")),
            ("HTTP_X_FORWARDED_HOST", Some("www.example.org:8443")),
            ("HTTP_X_FORWARDED_PROTO", Some("https")),
            ("HTTP_X_REAL_IP", None),
            ("HTTP_X_FORWARDED_SSL", None),
            ("HTTPS", None),
        ],
    );
    // The next request on the same connection has nothing of it.
    let mut client = server.client();
    client.request("GET", "/app", &SENT, b"").expect(200);
    let port = server.port().to_string();
    same(
        &client.get("/app").expect(200),
        &[
            ("REMOTE_ADDR", Some("127.0.0.1")),
            ("HTTP_X_FORWARDED_FOR", None),
            ("SERVER_NAME", Some("localhost")),
            ("SERVER_PORT", Some(&port)),
            ("SCRIPT_NAME", Some("/app")),
            ("mod_wsgi.mount_point", None),
            ("wsgi.url_scheme", Some("http")),
        ],
    );
});

both_modes!(nobody_else_is_believed, |site| {
    let server = site
        .mount("/app", "environ.py", "")
        .conf(HEADERS)
        .conf("WSGITrustedProxies 192.0.2.0/24 ::1")
        .conf("<Location /app/unset>\nWSGITrustedProxyHeaders X-Forwarded-Proto\n</Location>")
        .start();
    let port = server.port().to_string();
    let host = format!("localhost:{port}");
    let unchanged = [
        ("REMOTE_ADDR", Some("127.0.0.1")),
        ("HTTP_HOST", Some(host.as_str())),
        ("SERVER_NAME", Some("localhost")),
        ("SERVER_PORT", Some(port.as_str())),
        ("SCRIPT_NAME", Some("/app")),
        ("mod_wsgi.mount_point", None),
        ("wsgi.url_scheme", Some("http")),
        ("HTTP_X_FORWARDED_PROTO", None),
        ("HTTP_X_FORWARDED_SSL", None),
    ];
    let reply = ask(&server, "/app");
    same(&reply, &unchanged);
    for key in ["FOR", "HOST", "SERVER", "PORT"] {
        assert_eq!(reply.field(&format!("HTTP_X_FORWARDED_{key}")), None);
    }
    assert_eq!(reply.field("HTTP_X_REAL_IP"), None);
    assert_eq!(reply.field("HTTP_X_SCRIPT_NAME"), None);
    // A list of its own replaces the outer one: of other topics nothing is said, and nothing removed.
    let reply = ask(&server, "/app/unset");
    same(&reply, &unchanged);
    same(&reply, &[("HTTP_X_FORWARDED_FOR", Some(SENT[0].1)), ("HTTP_X_REAL_IP", Some("6.6.6.6"))]);
});

both_modes!(without_a_list_of_proxies_nobody_is_trusted, |site| {
    let server = site.app("environ.py").conf(HEADERS).start();
    same(
        &ask(&server, "/"),
        &[
            ("REMOTE_ADDR", Some("127.0.0.1")),
            ("wsgi.url_scheme", Some("http")),
            ("HTTP_X_FORWARDED_FOR", None),
            ("HTTP_X_FORWARDED_PROTO", None),
        ],
    );
    let line = server.expect_log("WSGITrustedProxies");
    assert!(line.contains("no proxy is trusted"), "{line}");
});

both_modes!(headers_nobody_named_are_passed_on, |site| {
    let server = site.app("environ.py").conf("WSGITrustedProxies 127.0.0.1").start();
    let reply = ask(&server, "/");
    same(&reply, &[("REMOTE_ADDR", Some("127.0.0.1")), ("wsgi.url_scheme", Some("http"))]);
    for (name, value) in SENT {
        let key = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        same(&reply, &[(&key, Some(value))]);
    }
});

both_modes!(variables_do_not_pass_for_what_a_proxy_said, |site| {
    let server = site
        .module("headers")
        .app("environ.py")
        .conf("WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Proto")
        .conf("WSGITrustedProxies 192.0.2.1")
        .conf("SetEnv HTTP_X_FORWARDED_FOR 6.6.6.6\nSetEnv HTTP_X_REAL_IP 6.6.6.6")
        .start();
    let none = [("HTTP_X_FORWARDED_FOR", None), ("HTTP_X_REAL_IP", None)];
    same(&ask(&server, "/"), &none);
    let reply = server.client().request("GET", "/", &[("X_Forwarded_For", "6.6.6.6")], b"");
    same(&reply.expect(200), &none);
});

both_modes!(the_proxys_word_on_the_scheme_counts, |site| {
    let server = site
        .tls()
        .app("environ.py")
        .conf("WSGITrustedProxyHeaders X-Forwarded-Proto X-Forwarded-SSL")
        .conf("WSGITrustedProxies 127.0.0.1\nSetEnvIf Request_URI ^/set HTTPS=on")
        .start();
    for (path, header, scheme) in [
        ("/", "X-Forwarded-Proto: http", "http"),
        ("/", "X-Forwarded-SSL: off", "http"),
        ("/", "X-Forwarded-Proto: HTTPS", "https"),
        ("/", "X-Forwarded-Proto: wss", "https"),
        ("/", "X-Other: x", "https"),
        ("/set", "X-Forwarded-Proto: http", "http"),
        ("/set", "X-Other: x", "https"),
    ] {
        let shown = server.curl_tls(path, &["-H", header]);
        let line = format!("wsgi.url_scheme=str:'{scheme}'");
        let body = String::from_utf8_lossy(&shown.body);
        assert!(body.contains(&line), "{path} {header}: {body}");
    }
});

#[test]
fn mistakes_are_told_at_configtest() {
    for (line, part) in [
        ("WSGITrustedProxies proxy.example.org", "names are not looked up"),
        ("WSGITrustedProxies 10.0.0.0/33", "no IP address"),
        ("WSGITrustedProxyHeaders Forwarded", "no header that is understood"),
    ] {
        let output = Site::configtest(line);
        let text = tools::both(&output);
        assert!(!output.status.success() && text.contains(part), "{line}\n{text}");
    }
}
