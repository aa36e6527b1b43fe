//! `WSGIAuthUserScript`: the provider `wsgi` of Basic and Digest authentication.

use crate::harness::{Reply, Server, Site, both_modes};

const BASIC: &str = r#"
def check_password(environ, user, password):
    assert type(user) is str and type(password) is str
    assert "HTTP_AUTHORIZATION" not in environ
    if user == "raise":
        raise RuntimeError("no database")
    return {
        "unknown": None, "spy": password == "right",
        "alias": "Real Name", "empty": "", "nul": "a\0b", "one": 1, "bytes": b"x", "list": ["x"],
        "J\xc3\xbcrgen": password == "gr\xc3\xbcn",
    }[user]
"#;

const SHOW: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    keys = ("REMOTE_USER", "AUTH_TYPE", "HTTP_AUTHORIZATION")
    return ["".join("%s=%s\n" % (key, environ.get(key)) for key in keys).encode("latin-1")]
"#;

fn guarded(site: Site, script: &str) -> Site {
    site.module("authn_core")
        .module("auth_basic")
        .module("authz_user")
        .file("apps/users.py", script)
        .source("/", SHOW)
        .conf("<Location />\nAuthType Basic\nAuthName realm\nAuthBasicProvider wsgi")
        .conf("WSGIAuthUserScript @apps@/users.py\nRequire valid-user\n</Location>")
}

fn encoded(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bytes = [group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
        let all = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for index in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * index)) as usize & 63];
            out.push(if index <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn login(server: &Server, user: &str, password: &str) -> Reply {
    let value = format!("Basic {}", encoded(&format!("{user}:{password}")));
    server.client().request("GET", "/", &[("Authorization", &value)], b"")
}

both_modes!(basic_authentication_asks_the_script, |site| {
    let server = guarded(site, BASIC).start();
    let reply = server.get("/").expect(401);
    assert_eq!(reply.header("WWW-Authenticate"), Some("Basic realm=\"realm\""));
    let reply = login(&server, "spy", "right").expect(200);
    assert_eq!(reply.value("REMOTE_USER"), "spy");
    assert_eq!(reply.value("AUTH_TYPE"), "Basic");
    // httpd checked the password: it is none of the application's business.
    assert_eq!(reply.value("HTTP_AUTHORIZATION"), "None");
    server.allow_log("AH01617");
    login(&server, "spy", "wrong").expect(401);
    server.allow_log("AH01618");
    login(&server, "unknown", "x").expect(401);
    // The script may know the user by another name.
    assert_eq!(login(&server, "alias", "x").expect(200).value("REMOTE_USER"), "Real Name");
    let reply = login(&server, "Jürgen", "grün").expect(200);
    assert_eq!(reply.value("REMOTE_USER"), "Jürgen");
});

both_modes!(whatever_is_no_answer_fails_the_request, |site| {
    let server = guarded(site, BASIC).start();
    server.allow_log("apps/users.py");
    for (user, text) in [
        ("raise", "RuntimeError: no database"),
        ("empty", "returned an empty string"),
        ("nul", "returned a string with a NUL"),
        ("one", "must return None, True, False or the name of a user, not int"),
        ("bytes", "not bytes"),
        ("list", "not list"),
        ("nobody", "KeyError"),
    ] {
        login(&server, user, "x").expect(500);
        server.expect_log(text);
    }
});

#[test]
fn no_script_is_no_answer() {
    let server = Site::new("no-script")
        .module("authn_core")
        .module("auth_basic")
        .module("authz_user")
        .file("htdocs/page.html", "page")
        .conf("<Location />\nAuthType Basic\nAuthName x\nAuthBasicProvider wsgi")
        .conf("Require valid-user\n</Location>")
        .start();
    login(&server, "a", "b").expect(500);
    server.expect_log("there is no WSGIAuthUserScript");
    let server = guarded(Site::new("digest-only"), "def get_realm_hash(*all): pass").start();
    server.allow_log("apps/users.py");
    login(&server, "a", "b").expect(500);
    server.expect_log("has no function 'check_password'");
}

both_modes!(other_providers_are_asked_about_unknown_users, |site| {
    let server = guarded(site, BASIC)
        .module("authn_file")
        // "right", as htpasswd -s writes it.
        .file("users", "unknown:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\nspy:{SHA}AAAA\n")
        .conf("<Location /both>\nAuthBasicProvider wsgi file\nAuthUserFile @root@/users")
        .conf("</Location>")
        .start();
    server.allow_log("AH01617");
    server.allow_log("AH01618");
    let status = |user: &str| {
        let value = format!("Basic {}", encoded(user));
        server.client().request("GET", "/both", &[("Authorization", &value)], b"").status
    };
    // The first that knows a user decides.
    assert_eq!(status("spy:right"), 200);
    assert_eq!(status("spy:wrong"), 401);
    assert_eq!(status("unknown:right"), 200);
    assert_eq!(status("unknown:wrong"), 401);
});

const DIGEST: &str = r#"
import hashlib

def get_realm_hash(environ, user, realm):
    assert type(user) is str and type(realm) is str
    value = hashlib.md5(("%s:%s:right" % (user, realm)).encode()).hexdigest()
    if user == "raise":
        raise RuntimeError("no database")
    return {
        "text": value, "bytes": value.encode(), "unknown": None,
        "empty": "", "one": 1, "wide": "\u1234",
    }[user]
"#;

both_modes!(digest_authentication_asks_the_script, |site| {
    let server = site
        .module("authn_core")
        .module("auth_digest")
        .module("authz_user")
        .file("apps/users.py", DIGEST)
        .source("/", SHOW)
        .conf("<Location />\nAuthType Digest\nAuthName \"my realm\"\nAuthDigestProvider wsgi")
        .conf("WSGIAuthUserScript @apps@/users.py\nRequire valid-user\n</Location>")
        .start();
    server.allow_log("apps/users.py");
    let log_in = |user: &str| server.curl("/", &["--digest", "-u", user]);
    for user in ["text", "bytes"] {
        let reply = log_in(&format!("{user}:right"));
        assert_eq!(reply.status, 200);
        assert!(reply.text().contains(&format!("REMOTE_USER={user}\nAUTH_TYPE=Digest\n")));
    }
    server.allow_log("AH01794");
    assert_eq!(log_in("text:wrong").status, 401);
    server.allow_log("AH01790");
    assert_eq!(log_in("unknown:right").status, 401);
    for (user, text) in [
        ("raise", "RuntimeError: no database"),
        ("empty", "get_realm_hash() returned an empty string"),
        ("one", "must return None, str or bytes, not int"),
        ("wide", "UnicodeEncodeError"),
    ] {
        let status = log_in(&format!("{user}:right")).status;
        assert_eq!(status, 500, "{user}");
        server.expect_log(text);
    }
});
