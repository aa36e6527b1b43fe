//! The environ: its keys, their types and where their values come from.

use crate::harness::{Mpm, Reply, Server, Site, both_modes};

/// What `environ.py` shows for a native string.
fn text(value: &str) -> String {
    format!("str:'{value}'")
}

fn boolean(value: bool) -> &'static str {
    if value { "bool:True" } else { "bool:False" }
}

#[track_caller]
fn number(reply: &Reply, key: &str) -> f64 {
    let value = reply.value(key);
    let (_, value) = value.split_once(':').expect("type:value");
    value.parse().unwrap_or_else(|_| panic!("{key} is {value}"))
}

#[track_caller]
fn same(reply: &Reply, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(reply.value(key), *value, "{key}");
    }
}

#[track_caller]
fn split(server: &Server, target: &str) -> (String, String) {
    let reply = server.get(target).expect(200);
    assert_eq!(reply.value("REQUEST_URI"), text(target));
    assert_eq!(reply.value("mod_wsgi.script_name"), reply.value("SCRIPT_NAME"));
    assert_eq!(reply.value("mod_wsgi.path_info"), reply.value("PATH_INFO"));
    (reply.value("SCRIPT_NAME"), reply.value("PATH_INFO"))
}

both_modes!(cgi_variables_are_complete, |site| {
    let server = site.mount("/app", "environ.py", "").start();
    let mut client = server.client();
    let headers = [("Content-Type", "text/x-test"), ("X-Test-Header", "some value")];
    let reply = client.request("POST", "/app/some%20path?a=b&c", &headers, b"12345").expect(200);

    let port = server.port().to_string();
    let root = server.path("htdocs").to_string_lossy().into_owned();
    let script = server.path("apps/environ.py").to_string_lossy().into_owned();
    same(
        &reply,
        &[
            ("REQUEST_METHOD", "str:'POST'"),
            ("SCRIPT_NAME", "str:'/app'"),
            ("PATH_INFO", "str:'/some path'"),
            ("QUERY_STRING", "str:'a=b&c'"),
            ("REQUEST_URI", "str:'/app/some%20path?a=b&c'"),
            ("SERVER_PROTOCOL", "str:'HTTP/1.1'"),
            ("SERVER_NAME", "str:'localhost'"),
            ("SERVER_PORT", &text(&port)),
            ("SERVER_ADDR", "str:'127.0.0.1'"),
            ("SERVER_ADMIN", "str:'admin@localhost'"),
            ("REMOTE_ADDR", "str:'127.0.0.1'"),
            ("REQUEST_SCHEME", "str:'http'"),
            ("DOCUMENT_ROOT", &text(&root)),
            ("CONTEXT_PREFIX", "str:''"),
            ("CONTEXT_DOCUMENT_ROOT", &text(&root)),
            ("SCRIPT_FILENAME", &text(&script)),
            ("CONTENT_TYPE", "str:'text/x-test'"),
            ("CONTENT_LENGTH", "str:'5'"),
            ("HTTP_HOST", &text(&format!("localhost:{port}"))),
            ("HTTP_X_TEST_HEADER", "str:'some value'"),
        ],
    );
    assert!(reply.value("SERVER_SOFTWARE").starts_with("str:'Apache"));
    assert!(reply.value("REMOTE_PORT").starts_with("str:'"));
    // Left out on purpose: they cost a look-up, tell the wrong thing or are dangerous.
    for key in [
        "PATH_TRANSLATED",
        "GATEWAY_INTERFACE",
        "SERVER_SIGNATURE",
        "REMOTE_HOST",
        "REMOTE_IDENT",
        "PATH",
        "LD_LIBRARY_PATH",
        "HTTPS",
        "REMOTE_USER",
        "AUTH_TYPE",
        "HTTP_CONTENT_TYPE",
        "HTTP_CONTENT_LENGTH",
        "REDIRECT_URL",
        "REDIRECT_QUERY_STRING",
        "REDIRECT_REMOTE_USER",
    ] {
        assert_eq!(reply.field(key), None, "{key}");
    }
    assert!(!reply.text().contains("mod_wsgi.x-"), "an internal key: {}", reply.text());
});

both_modes!(wsgi_and_module_keys_are_complete, |site| {
    let daemon = site.is_daemon();
    // The only application of a group would get the main interpreter.
    let server = site.mount("/app", "environ.py", "").mount("/other", "environ.py", "").start();
    let reply = server.get("/app/x").expect(200);
    let port = server.port().to_string();
    same(
        &reply,
        &[
            ("wsgi.version", "tuple:(1, 0)"),
            ("wsgi.url_scheme", "str:'http'"),
            ("wsgi.input_terminated", "bool:True"),
            ("wsgi.multithread", "bool:True"),
            ("wsgi.multiprocess", boolean(!daemon)),
            ("wsgi.run_once", "bool:False"),
            ("mod_wsgi.application_group", &text(&format!("localhost:{port}|/app"))),
            ("mod_wsgi.callable_object", "str:'application'"),
            ("mod_wsgi.request_handler", "str:'wsgi-script'"),
            ("mod_wsgi.handler_script", "str:''"),
            ("mod_wsgi.script_name", "str:'/app'"),
            ("mod_wsgi.path_info", "str:'/x'"),
            ("mod_wsgi.listener_port", &text(&port)),
        ],
    );
    for (key, kind) in [
        ("wsgi.input", "Input:"),
        ("wsgi.errors", ""),
        ("wsgi.file_wrapper", "type:"),
        ("mod_wsgi.process_group", "str:"),
        ("mod_wsgi.listener_host", "str:"),
        ("mod_wsgi.server_pid", "str:"),
        ("mod_wsgi.request_id", "str:"),
        ("mod_wsgi.thread_id", "int:"),
        ("apache.version", "tuple:(2, 4, "),
    ] {
        let value = reply.value(key);
        assert!(value.starts_with(kind), "{key} is {value}");
    }
    assert_ne!(reply.value("mod_wsgi.request_id"), "str:''");
    assert!(number(&reply, "mod_wsgi.thread_id") >= 1.0);
    let start = number(&reply, "mod_wsgi.request_start");
    assert!(start > 1.0e9, "seconds since the epoch, not {start}");
    assert!(number(&reply, "mod_wsgi.application_start") >= start);
});

#[test]
fn embedded_mode_says_so() {
    let server = Site::new("embedded-keys").app("environ.py").start();
    let reply = server.get("/").expect(200);
    same(
        &reply,
        &[
            ("mod_wsgi.process_group", "str:''"),
            ("mod_wsgi.queue_start", "float:0.0"),
            ("mod_wsgi.daemon_start", "float:0.0"),
            ("mod_wsgi.server_pid", &text(&reply.value("pid"))),
        ],
    );
}

both_modes!(version_is_above_the_one_that_is_replaced, |site| {
    let reply = site.app("environ.py").start().get("/").expect(200);
    assert_eq!(reply.value("mod_wsgi.version"), "tuple:(7, 0, 0)");
});

both_modes!(absent_body_and_query_look_absent, |site| {
    let reply = site.app("environ.py").start().get("/").expect(200);
    assert_eq!(reply.value("QUERY_STRING"), "str:''");
    assert_eq!(reply.field("CONTENT_LENGTH"), None);
    assert_eq!(reply.field("CONTENT_TYPE"), None);
});

both_modes!(url_is_split_at_the_mount, |site| {
    let server = site.app("environ.py").mount("/app", "environ.py", "").start();
    let pair = |script: &str, path: &str| (text(script), text(path));
    assert_eq!(split(&server, "/"), pair("", "/"));
    assert_eq!(split(&server, "/a/b"), pair("", "/a/b"));
    assert_eq!(split(&server, "/a/"), pair("", "/a/"));
    assert_eq!(split(&server, "/app"), pair("/app", ""));
    assert_eq!(split(&server, "/app/"), pair("/app", "/"));
    assert_eq!(split(&server, "/app/x/y"), pair("/app", "/x/y"));
    assert_eq!(split(&server, "/apple"), pair("", "/apple"));
    assert_eq!(split(&server, "/x/../app/./y"), pair("/app", "/y"));
    assert_eq!(split(&server, "/%61pp/%7Eme"), pair("/app", "/~me"));
});

both_modes!(slashes_are_collapsed, |site| {
    let site = site.app("environ.py").mount("/app", "environ.py", "").conf("MergeSlashes Off");
    let server = site.start();
    let pair = |script: &str, path: &str| (text(script), text(path));
    assert_eq!(split(&server, "//a///b"), pair("", "/a/b"));
    assert_eq!(split(&server, "//app//x//"), pair("/app", "/x/"));
});

both_modes!(encoded_slashes_follow_httpd, |site| {
    let site = site.app("environ.py").conf("AllowEncodedSlashes NoDecode");
    let server = site.start();
    assert_eq!(split(&server, "/a%2Fb%2fc"), (text(""), text("/a%2Fb%2fc")));
});

both_modes!(directory_target_maps_the_rest_of_the_url, |site| {
    let server = site.mount("/apps/", "@apps@/", "").start();
    let reply = server.get("/apps/environ.py/rest").expect(200);
    assert_eq!(reply.value("SCRIPT_NAME"), text("/apps/environ.py"));
    assert_eq!(reply.value("PATH_INFO"), text("/rest"));
});

both_modes!(bytes_come_as_latin_1, |site| {
    let server = site.app("environ.py").conf("HttpProtocolOptions Unsafe").start();
    let mut client = server.client();
    let mut raw = b"GET /caf\xc3\xa9/%c3%a9%FF?q=\xc3\xa9&r=%C3%A9 HTTP/1.1\r\n".to_vec();
    raw.extend_from_slice(b"Host: localhost\r\nX-Bytes: caf\xc3\xa9 \xff\r\n\r\n");
    client.send_raw(&raw);
    let reply = client.read_response().expect(200);
    same(
        &reply,
        &[
            ("PATH_INFO", r"str:'/caf\xc3\xa9/\xc3\xa9\xff'"),
            ("QUERY_STRING", r"str:'q=\xc3\xa9&r=%C3%A9'"),
            ("REQUEST_URI", r"str:'/caf\xc3\xa9/%c3%a9%FF?q=\xc3\xa9&r=%C3%A9'"),
            ("HTTP_X_BYTES", r"str:'caf\xc3\xa9 \xff'"),
        ],
    );
});

both_modes!(variables_of_other_modules_are_seen, |site| {
    let site = site
        .app("environ.py")
        .env("FROM_OUTSIDE", "outside")
        .conf("PassEnv FROM_OUTSIDE\nSetEnv from.setenv \"a value\"\nSetEnv EMPTY \"\"")
        .conf("SetEnv TEXT \"caf\u{e9}\"")
        .conf("SetEnvIf Request_URI \"^/matched\" from_setenvif=yes from_capture=$0")
        .conf("<Location /inside>\nSetEnv from.setenv inner\n</Location>");
    let server = site.start();
    let reply = server.get("/matched").expect(200);
    same(
        &reply,
        &[
            ("FROM_OUTSIDE", "str:'outside'"),
            ("from.setenv", "str:'a value'"),
            ("EMPTY", "str:''"),
            ("TEXT", r"str:'caf\xc3\xa9'"),
            ("from_setenvif", "str:'yes'"),
            ("from_capture", "str:'/matched'"),
        ],
    );
    let reply = server.get("/inside").expect(200);
    assert_eq!(reply.value("from.setenv"), "str:'inner'");
    assert_eq!(reply.field("from_setenvif"), None);
});

both_modes!(variables_do_not_replace_what_the_server_knows, |site| {
    let mut site = site.app("environ.py");
    let names = [
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "SERVER_NAME",
        "REMOTE_ADDR",
        "HTTP_HOST",
        "SCRIPT_FILENAME",
        "wsgi.version",
        "wsgi.url_scheme",
        "wsgi.multithread",
        "mod_wsgi.version",
        "mod_wsgi.application_group",
        "PATH",
        "HTTPS",
        "mod_wsgi.x-own",
    ];
    for name in names {
        site = site.conf(&format!("SetEnv {name} wrong"));
    }
    let reply = site.start().get("/x").expect(200);
    assert!(!reply.text().contains("wrong"), "{}", reply.text());
    assert_eq!(reply.value("PATH_INFO"), "str:'/x'");
    assert_eq!(reply.value("wsgi.url_scheme"), "str:'http'");
});

both_modes!(https_variable_makes_the_scheme, |site| {
    let conf = "SetEnvIf X-Secure \"(.+)\" HTTPS=$1";
    let server = site.app("environ.py").conf(conf).start();
    let mut client = server.client();
    let table =
        [("on", "https"), ("ON", "https"), ("1", "https"), ("off", "http"), ("yes", "http")];
    for (value, scheme) in table {
        let reply = client.request("GET", "/", &[("X-Secure", value)], b"").expect(200);
        assert_eq!(reply.value("wsgi.url_scheme"), text(scheme), "HTTPS={value}");
        assert_eq!(reply.field("HTTPS"), None);
    }
});

both_modes!(tls_is_seen, |site| {
    let server = site.app("environ.py").tls().start();
    let shown = server.curl_tls("/secure", &[]);
    assert_eq!(shown.status, 200, "{}", shown.complaint);
    let lines = shown.text();
    for line in ["wsgi.url_scheme=str:'https'", "REQUEST_SCHEME=str:'https'"] {
        assert!(lines.contains(line), "{lines}");
    }
    assert!(!lines.contains("\nHTTPS="), "{lines}");
    assert_eq!(server.get("/").value("wsgi.url_scheme"), "str:'http'");
});

both_modes!(tls_variables_are_seen, |site| {
    let server = site.app("environ.py").tls().conf("SSLOptions +StdEnvVars").start();
    let lines = server.curl_tls("/", &[]).text();
    assert!(lines.contains("SSL_PROTOCOL=str:'TLSv1."), "{lines}");
    assert!(lines.contains("SSL_SERVER_S_DN_CN=str:'localhost'"), "{lines}");
});

both_modes!(error_document_sees_what_went_before, |site| {
    let server = site
        .mount("/app", "environ.py", "")
        .conf("ErrorDocument 404 /app/missing?own=query")
        .conf("SetEnv from.setenv original")
        .start();
    let reply = server.get("/no/such?a=b");
    assert!(reply.complete);
    same(
        &reply,
        &[
            ("REDIRECT_STATUS", "str:'404'"),
            ("REDIRECT_URL", "str:'/no/such'"),
            ("REDIRECT_QUERY_STRING", "str:'a=b'"),
            ("SCRIPT_NAME", "str:'/app'"),
            ("PATH_INFO", "str:'/missing'"),
            ("QUERY_STRING", "str:'own=query'"),
            ("REQUEST_URI", "str:'/no/such?a=b'"),
        ],
    );
});

both_modes!(internal_redirect_renames_variables, |site| {
    let server = site
        .mount("/app", "environ.py", "")
        .module("rewrite")
        .conf("<Directory @root@/htdocs>\nRewriteEngine On\nOptions FollowSymLinks")
        .conf("RewriteRule ^anything /app/other [E=mark:yes]\n</Directory>")
        .start();
    let reply = server.get("/anything?a=b").expect(200);
    same(
        &reply,
        &[
            ("REDIRECT_URL", "str:'/anything'"),
            ("REDIRECT_QUERY_STRING", "str:'a=b'"),
            ("REDIRECT_mark", "str:'yes'"),
            ("SCRIPT_NAME", "str:'/app'"),
            ("PATH_INFO", "str:'/other'"),
            ("QUERY_STRING", "str:'a=b'"),
            ("REQUEST_URI", "str:'/anything?a=b'"),
        ],
    );
});

// CGI's SCRIPT_NAME has the path info in it there, which makes no URL, and would make an interpreter of each.
both_modes!(included_urls_are_split_at_the_mount, |site| {
    let server = site
        .mount("/app", "environ.py", "")
        .module("include")
        .file("htdocs/page.shtml", "<!--#include virtual=\"/app/some/path?a=b\" -->")
        .conf("<Directory @root@/htdocs>\nOptions +Includes\nAddOutputFilter INCLUDES .shtml")
        .conf("AddType text/html .shtml\n</Directory>")
        .start();
    let reply = server.get("/page.shtml").expect(200);
    same(
        &reply,
        &[
            ("SCRIPT_NAME", "str:'/app'"),
            ("PATH_INFO", "str:'/some/path'"),
            ("QUERY_STRING", "str:'a=b'"),
            ("mod_wsgi.script_name", "str:'/app'"),
        ],
    );
    let direct = server.get("/app").expect(200);
    let group = "mod_wsgi.application_group";
    assert_eq!(reply.value(group), direct.value(group));
});

both_modes!(prefork_has_one_thread, |site| {
    let daemon = site.is_daemon();
    let server = site.app("environ.py").mpm(Mpm::Prefork).start();
    let reply = server.get("/").expect(200);
    // A group has the threads and processes that it was given.
    let (threads, processes) = if daemon { (true, false) } else { (false, true) };
    assert_eq!(reply.value("wsgi.multithread"), boolean(threads));
    assert_eq!(reply.value("wsgi.multiprocess"), boolean(processes));
});

both_modes!(worker_has_threads, |site| {
    let server = site.app("environ.py").mpm(Mpm::Worker).start();
    let reply = server.get("/").expect(200);
    assert_eq!(reply.value("wsgi.multithread"), "bool:True");
});

both_modes!(single_process_is_told, |site| {
    let conf = "ServerLimit 1\nMaxRequestWorkers 8";
    let server = site.app("environ.py").conf(conf).start();
    assert_eq!(server.get("/").expect(200).value("wsgi.multiprocess"), "bool:False");
});
