//! `WSGIAuthGroupScript`: the provider `wsgi-group` of `Require`.

use crate::harness::{Server, Site, both_modes};

const SCRIPT: &str = r#"
def check_password(environ, user, password):
    return True

def groups_for_user(environ, user):
    assert environ["REMOTE_USER"] == user
    if user == "raise":
        raise RuntimeError("no directory")
    if user == "generator":
        return (name for name in ("x", "admin"))
    return {
        "admin": ["x", "admin"], "bytes": (b"admin",), "set": {"admin"}, "dict": {"admin": 1},
        "none": [], "other": ["administrator", "ADMIN", ""], "blank": ["web masters"],
        "wide": ["\u4e2d\u6587", "J\xfcrgen"],
        "missing": None, "text": "admin", "plain": b"admin", "one": 1,
        "mixed": ["admin", 1], "flag": True,
    }[user]
"#;

fn guarded(site: Site, require: &str) -> Site {
    site.module("authn_core")
        .module("auth_basic")
        .module("authz_user")
        .file("apps/groups.py", SCRIPT)
        .file("htdocs/page.html", "page")
        .conf("<Location />\nAuthType Basic\nAuthName x\nAuthBasicProvider wsgi")
        .conf("WSGIAuthUserScript @apps@/groups.py\nWSGIAuthGroupScript @apps@/groups.py")
        .conf(require)
        .conf("</Location>")
}

fn status(server: &Server, user: &str) -> u16 {
    server.curl("/page.html", &["-u", &format!("{user}:x")]).status
}

both_modes!(members_come_in, |site| {
    let server = guarded(site, "Require wsgi-group editors \"web masters\" admin").start();
    for user in ["admin", "bytes", "set", "dict", "generator", "blank"] {
        assert_eq!(status(&server, user), 200, "{user}");
    }
    server.allow_log("AH01631");
    for user in ["none", "other", "wide"] {
        assert_eq!(status(&server, user), 401, "{user}");
    }
    assert_eq!(server.get("/page.html").status, 401);
});

#[test]
fn names_outside_of_ascii_are_tried_as_both() {
    let server = guarded(Site::new("wide"), "Require wsgi-group Jürgen").start();
    assert_eq!(status(&server, "wide"), 200);
    let server = guarded(Site::new("wide"), "Require wsgi-group 中文").start();
    assert_eq!(status(&server, "wide"), 200);
}

#[test]
fn whatever_is_no_answer_keeps_out() {
    // Also where the answer is turned round.
    let negated = "<RequireAll>\nRequire valid-user\nRequire not wsgi-group banned\n</RequireAll>";
    for require in ["Require wsgi-group admin", negated] {
        let site = if require == negated { Site::new("negated") } else { Site::new("plain") };
        let server = guarded(site, require).start();
        server.allow_log("apps/groups.py");
        for (user, text) in [
            ("raise", "RuntimeError: no directory"),
            ("missing", "TypeError"),
            ("text", "must return an iterable of groups, not str"),
            ("plain", "must return an iterable of groups, not bytes"),
            ("one", "TypeError"),
            ("flag", "TypeError"),
            ("mixed", "must return an iterable of str or bytes, not int"),
        ] {
            assert_eq!(status(&server, user), 500, "{user} {require}");
            server.expect_log(text);
        }
    }
}

#[test]
fn no_script_is_no_answer() {
    let server = Site::new("no-group-script")
        .module("authn_core")
        .module("auth_basic")
        .file("apps/groups.py", SCRIPT)
        .file("htdocs/page.html", "page")
        .conf("<Location />\nAuthType Basic\nAuthName x\nAuthBasicProvider wsgi")
        .conf("WSGIAuthUserScript @apps@/groups.py\nRequire wsgi-group admin\n</Location>")
        .start();
    assert_eq!(status(&server, "admin"), 500);
    server.expect_log("there is no WSGIAuthGroupScript");
}
