//! `WSGIAccessScript`

use crate::harness::{Site, both_modes};

/// Answers what the query string says.
const SCRIPT: &str = r#"
def allow_access(environ, host):
    assert type(host) is str
    query = environ["QUERY_STRING"]
    if query == "raise":
        raise ValueError("not today")
    if query == "exit":
        raise SystemExit(3)
    return {
        "yes": True, "no": False, "": None,
        "one": 1, "zero": 0, "text": "yes", "empty": "", "list": [],
    }[query]
"#;

fn guarded(site: Site, script: &str) -> Site {
    site.app("hello.py")
        .file("apps/access.py", script)
        .conf("<Location />\nWSGIAccessScript @apps@/access.py\n</Location>")
}

both_modes!(answers_decide_who_comes_in, |site| {
    let server = guarded(site, SCRIPT).start();
    for query in ["", "yes"] {
        assert_eq!(server.get(&format!("/?{query}")).expect(200).text(), "hello\n", "{query}");
    }
    server.get("/?no").expect(403);
    let line = server.expect_log("client denied by");
    assert!(line.contains("apps/access.py"), "{line}");
});

both_modes!(whatever_is_no_answer_keeps_out, |site| {
    let server = guarded(site, SCRIPT).start();
    for (query, text) in [
        ("one", "must return None, True or False, not int"),
        ("zero", "must return None, True or False, not int"),
        ("text", "must return None, True or False, not str"),
        ("empty", "must return None, True or False, not str"),
        ("list", "must return None, True or False, not list"),
        ("raise", "ValueError: not today"),
        ("exit", "SystemExit: 3"),
        ("unknown", "KeyError: 'unknown'"),
    ] {
        server.allow_log("apps/access.py");
        server.get(&format!("/?{query}")).expect(403);
        server.expect_log(text);
    }
    // Tracebacks belong to the request.
    let records = server.records();
    let raised = records.iter().find(|record| record.message.contains("not today")).unwrap();
    assert_ne!(raised.request, "-");
    assert_eq!(raised.module, "wsgi");
});

#[test]
fn scripts_that_cannot_be_asked_keep_out() {
    for (name, source, text) in [
        ("no-function", "def other(environ, host): return True", "has no function 'allow_access'"),
        ("syntax", "def allow_access(environ, host) return True", "SyntaxError"),
        ("import", "import not_there_at_all", "ModuleNotFoundError"),
        ("no-callable", "allow_access = True", "not callable"),
        ("arguments", "def allow_access(environ): return True", "TypeError"),
    ] {
        let server = guarded(Site::new(name), source).start();
        server.allow_log("apps/access.py");
        server.get("/").expect(403);
        server.expect_log(text);
    }
    let server = Site::new("missing")
        .app("hello.py")
        .conf("<Location />\nWSGIAccessScript @apps@/not-there.py\n</Location>")
        .start();
    server.get("/").expect(403);
    server.expect_log("not-there.py cannot be read");
}

both_modes!(scripts_see_the_request_and_no_credentials, |site| {
    let script = r#"
import sys

def allow_access(environ, host):
    print("host", host, file=environ["wsgi.errors"])
    for key in sorted(environ):
        value = environ[key]
        if not callable(value):
            print("%s=%r" % (key, value), file=sys.stderr)
    assert callable(environ["mod_ssl.is_https"]) and environ["mod_ssl.is_https"]() == 0
    assert environ["mod_ssl.var_lookup"]("SSL_PROTOCOL") in (None, "")
    assert environ["mod_ssl.var_lookup"](b"SSL_PROTOCOL") in (None, "")
    return True
"#;
    let server = guarded(site, script)
        .conf("ServerSignature On\nWSGIPassAuthorization On\n<Location />\nCGIPassAuth On\n</Location>")
        .conf("WSGITrustedProxyHeaders X-Forwarded-For\nWSGITrustedProxies 127.0.0.1")
        .start();
    let headers = [
        ("X-Test", "some value"),
        ("Authorization", "Basic eDp5"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy", "http://evil.example"),
        ("X_Underscore", "no"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("Content-Type", "text/x-test"),
    ];
    server.allow_log("=");
    server.allow_log("SERVER_SIGNATURE");
    server.allow_log("</address>");
    server.client().request("POST", "/some/where?a=b", &headers, b"123").expect(200);
    server.expect_log("host 127.0.0.1");
    let shown = |key: &str| {
        let prefix = format!("{key}=");
        let records = server.records();
        let found = records
            .iter()
            .find_map(|record| record.text().strip_prefix(&prefix).map(str::to_owned));
        found.map(|value| value.trim_matches('\'').to_owned())
    };
    let port = server.port().to_string();
    for (key, value) in [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/some/where?a=b"),
        ("QUERY_STRING", "a=b"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/some/where"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_ADMIN", "admin@localhost"),
        ("SERVER_PORT", port.as_str()),
        // Who it is, whatever a header says.
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_X_FORWARDED_FOR", "203.0.113.9"),
        ("HTTP_X_TEST", "some value"),
        ("CONTENT_TYPE", "text/x-test"),
        ("CONTENT_LENGTH", "3"),
        ("mod_wsgi.process_group", ""),
        ("mod_wsgi.application_group", ""),
        ("wsgi.url_scheme", "http"),
    ] {
        assert_eq!(shown(key).as_deref(), Some(value), "{key}");
    }
    for key in ["REMOTE_PORT", "DOCUMENT_ROOT", "SERVER_SIGNATURE", "SERVER_SOFTWARE"] {
        assert!(shown(key).is_some_and(|value| !value.is_empty()), "{key}");
    }
    for key in ["apache.version", "mod_wsgi.version"] {
        assert!(shown(key).is_some_and(|value| value.starts_with('(')), "{key}");
    }
    for key in [
        "HTTP_AUTHORIZATION",
        "HTTP_PROXY_AUTHORIZATION",
        "HTTP_PROXY",
        "HTTP_X_UNDERSCORE",
        "REMOTE_USER",
        "wsgi.input",
        "wsgi.version",
        "mod_wsgi.callable_object",
        "mod_wsgi.queue_start",
    ] {
        assert_eq!(shown(key), None, "{key}");
    }
});

both_modes!(changed_scripts_are_loaded_again, |site| {
    let server = guarded(site, "def allow_access(environ, host): return True").start();
    server.write("apps/access.py", "def allow_access(environ, host): return True", 100);
    server.get("/").expect(200);
    server.allow_log("client denied by");
    server.write("apps/access.py", "def allow_access(environ, host): return False", 50);
    server.get("/").expect(403);
});

both_modes!(groups_choose_the_interpreter, |site| {
    let script = r#"
def allow_access(environ, host):
    import mod_wsgi
    print("asked in '%s'" % mod_wsgi.application_group, file=environ["wsgi.errors"])
    assert mod_wsgi.application_group == environ["mod_wsgi.application_group"]
    return True
"#;
    let server = site
        .app("hello.py")
        .file("apps/access.py", script)
        .conf("<Location /main>\nWSGIAccessScript @apps@/access.py\n</Location>")
        .conf("<Location /server>")
        .conf("WSGIAccessScript @apps@/access.py application-group=%{SERVER}\n</Location>")
        .conf("<Location /named>")
        .conf("WSGIAccessScript @apps@/access.py application-group='my group'\n</Location>")
        .start();
    let in_server = format!("localhost:{}", server.port());
    for (path, group) in [("/main", ""), ("/server", in_server.as_str()), ("/named", "my group")] {
        server.get(path).expect(200);
        server.expect_log(&format!("asked in '{group}'"));
    }
});

both_modes!(what_is_kept_is_of_no_use_later, |site| {
    let script = r#"
kept = []

def allow_access(environ, host):
    for old in kept:
        for use in (
            lambda: old["mod_ssl.is_https"](),
            lambda: old["mod_ssl.var_lookup"]("HTTPS"),
            lambda: old["wsgi.errors"].write("late\n"),
        ):
            try:
                use()
            except RuntimeError as error:
                assert "after request completed" in str(error), error
            else:
                raise AssertionError("it still works")
    kept[:] = [environ]
    for name in ("", 1, None, "a\0b"):
        try:
            assert environ["mod_ssl.var_lookup"](name) in (None, "")
        except TypeError:
            pass
    return True
"#;
    let server = guarded(site, script).conf("WSGIRestrictStdout Off").start();
    for _ in 0..5 {
        server.get("/").expect(200);
    }
});

#[test]
fn scripts_learn_about_tls() {
    let script = r#"
def allow_access(environ, host):
    lookup = environ["mod_ssl.var_lookup"]
    assert environ["mod_ssl.is_https"]() == 1 and lookup("HTTPS") == "on"
    assert lookup("SSL_PROTOCOL").startswith("TLSv1") and lookup(b"SSL_CIPHER")
    assert environ["wsgi.url_scheme"] == "https"
    return True
"#;
    let server = guarded(Site::new("tls"), script).tls().start();
    let reply = server.curl_tls("/", &[]);
    assert_eq!(reply.status, 200);
}

#[test]
fn scripts_run_where_applications_may_not() {
    let server = Site::new("restricted")
        .file("htdocs/page.html", "page")
        .file("apps/access.py", SCRIPT)
        .conf("WSGIRestrictEmbedded On")
        .conf("<Location />\nWSGIAccessScript @apps@/access.py\n</Location>")
        .conf("WSGIScriptAlias /app @apps@/hello.py")
        .start();
    assert_eq!(server.get("/page.html").expect(200).text(), "page");
    server.allow_log("client denied by");
    server.get("/page.html?no").expect(403);
    server.get("/app").expect(500);
    server.expect_log("WSGIRestrictEmbedded");
}

#[test]
fn htaccess_may_name_a_script() {
    let script = "def allow_access(environ, host): return environ['QUERY_STRING'] != 'no'";
    let mut site = Site::new("access-htaccess")
        .file("htdocs/in/page.html", "page")
        .file("apps/access.py", script)
        .conf("<Directory @root@/htdocs/in>\nAllowOverride AuthConfig\n</Directory>");
    site = site.conf("<Directory @root@/htdocs/out>\nAllowOverride FileInfo\n</Directory>");
    let server = site.file("htdocs/out/page.html", "page").start();
    let line = format!("WSGIAccessScript {}\n", server.path("apps/access.py").display());
    server.write("htdocs/in/.htaccess", &line, 0);
    server.write("htdocs/out/.htaccess", &line, 0);
    server.get("/in/page.html").expect(200);
    server.allow_log("client denied by");
    server.get("/in/page.html?no").expect(403);
    server.get("/out/page.html").expect(500);
    server.expect_log("not allowed here");
}

#[test]
fn redirects_into_another_directory_are_asked_about() {
    let script = r#"
def allow_access(environ, host):
    return "secret" not in environ["REQUEST_URI"] and "secret" not in environ["SCRIPT_NAME"]
"#;
    let server = Site::new("redirected")
        .module("dir")
        .module("rewrite")
        .file("htdocs/open/index.html", "index")
        .file("htdocs/secret/page.html", "secret")
        .file("apps/access.py", script)
        .conf("DirectoryIndex index.html")
        .conf("<Directory @root@/htdocs>\nWSGIAccessScript @apps@/access.py\nRewriteEngine On")
        .conf("RewriteRule ^hidden$ /secret/page.html\n</Directory>")
        .start();
    assert_eq!(server.get("/open/").expect(200).text(), "index");
    server.allow_log("client denied by");
    server.get("/secret/page.html").expect(403);
    server.get("/hidden").expect(403);
}

#[test]
fn a_password_may_suffice() {
    let server = Site::new("satisfy")
        .module("access_compat")
        .module("authn_core")
        .module("auth_basic")
        .module("authz_user")
        .file("htdocs/page.html", "page")
        .file(
            "apps/access.py",
            "def allow_access(environ, host): return environ['QUERY_STRING'] != 'stranger'\n\
             def check_password(environ, user, password): return password == 'right'\n",
        )
        .conf("<Directory @root@/htdocs>\nSatisfy Any\nWSGIAccessScript @apps@/access.py")
        .conf("AuthType Basic\nAuthName x\nAuthBasicProvider wsgi\nRequire valid-user")
        .conf("WSGIAuthUserScript @apps@/access.py\n</Directory>")
        .start();
    server.get("/page.html").expect(200);
    server.get("/page.html?stranger").expect(401);
    let known = [("Authorization", "Basic dTpyaWdodA==")];
    server.client().request("GET", "/page.html?stranger", &known, b"").expect(200);
}
