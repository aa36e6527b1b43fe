//! Names, types, keys: against the tables in `tests/apps/api.py`.

use crate::harness::{Site, both_modes, site};

/// What an application that compared found.
const RIGHT: &str = "as it should be";

both_modes!(names_are_those_of_mod_wsgi, |site| {
    let server = site
        .mount("/main", "api.py", "application-group=%{GLOBAL}")
        .mount("/sub", "api.py", "application-group=sub")
        .start();
    for place in ["/main", "/sub"] {
        for check in ["names", "apache", "environ", "process_metrics"] {
            let found = server.get(&format!("{place}/{check}")).expect(200).text();
            assert_eq!(found, RIGHT, "{place}/{check}");
        }
    }
});

both_modes!(payloads_have_the_keys_of_mod_wsgi, |site| {
    let server = site.conf("ServerLimit 1\nMaxRequestWorkers 8").mount("/", "api.py", "").start();
    server.get("/raise").expect(500);
    server.client().post("/read", b"some body").expect(200);
    assert_eq!(server.get("/events").expect(200).text(), RIGHT);
    server.expect_log("raised for a test");
});

both_modes!(metrics_have_the_keys_of_mod_wsgi, |site| {
    let server = site.conf("ServerLimit 1\nMaxRequestWorkers 8").mount("/", "api.py", "").start();
    let mut client = server.client();
    client.post("/read", b"some body").expect(200);
    assert_eq!(client.get("/request_metrics").expect(200).text(), RIGHT);
    assert_eq!(client.get("/process_metrics").expect(200).text(), RIGHT);
});

both_modes!(who_observes_nothing_has_nothing_made, |site| {
    let server = site.app("evaluate.py").start();
    let expression = "[n for n in ('event_callbacks', 'active_requests', 'LogHandler') \
                      if n in vars(__import__('mod_wsgi'))]";
    for _ in 0..2 {
        let headers = [("X-Expression", expression)];
        let reply = server.client().request("GET", "/", &headers, b"").expect(200);
        assert_eq!(reply.text(), "[]");
    }
});

both_modes!(groups_are_named_to_the_module, |site| {
    let daemon = site.is_daemon();
    let server = site
        .mount("/main", "evaluate.py", "application-group=%{GLOBAL}")
        .mount("/sub", "evaluate.py", "application-group=sub")
        .start();
    for (place, group) in [("/main", ""), ("/sub", "sub")] {
        let expression = "[getattr(__import__('mod_wsgi'), n) for n in \
                          ('process_group', 'application_group', 'threads_per_process')]";
        let headers = [("X-Expression", expression)];
        let reply = server.client().request("GET", place, &headers, b"").expect(200);
        let process_group = if daemon { "tests" } else { "" };
        assert_eq!(reply.text(), format!("['{process_group}', '{group}', 8]"));
    }
});

#[test]
fn the_page_has_every_name() {
    let page = std::fs::read_to_string(site::manifest().join("docs/python-api.md"))
        .expect("docs/python-api.md");
    let server = Site::new("page").app("api.py").start();
    let names = server.get("/tables").expect(200).text();
    assert!(names.lines().count() > 100, "{names}");
    for name in names.lines() {
        let found =
            ["`", "()`", "(callback)`"].iter().any(|end| page.contains(&format!("`{name}{end}")));
        assert!(found, "{name} is not in docs/python-api.md");
    }
}

#[test]
fn what_mod_ssl_knows_is_told_in_httpd_only() {
    let expression = "(lambda adapter: [adapter.ssl_is_https(), \
                      (adapter.ssl_var_lookup('SSL_PROTOCOL') or '')[:4], \
                      adapter.ssl_var_lookup('NO_SUCH_NAME') or ''])(start_response.__self__)";
    let header = format!("X-Expression: {expression}");
    let server = Site::new("ssl").app("evaluate.py").tls().start();
    assert_eq!(server.curl_tls("/", &["-H", &header]).text(), "[1, 'TLSv', '']");
    assert_eq!(server.curl("/", &["-H", &header]).text(), "[0, '', '']");
    let server = Site::new("ssl-daemon").daemon().app("evaluate.py").tls().start();
    assert_eq!(server.curl_tls("/", &["-H", &header]).text(), "[0, '', '']");
}

#[test]
fn a_marker_tells_the_module_from_mod_wsgi() {
    let server = Site::new("marker").app("evaluate.py").start();
    let expression = "(lambda m: ('.'.join(map(str, m.version)) == m.mod_wsgi_rs, m.version >= (7,), \
                      m.RequestTimeout.__bases__, m.RequestTimeout.__module__))(__import__('mod_wsgi'))";
    let reply =
        server.client().request("GET", "/", &[("X-Expression", expression)], b"").expect(200);
    assert_eq!(reply.text(), "(True, True, (<class 'BaseException'>,), 'mod_wsgi')");
}
