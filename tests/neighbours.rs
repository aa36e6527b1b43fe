//! What other modules of httpd find out about a request reaches the application: users, certificates, addresses,
//! and variables that are set as late as in the fixups.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use harness::{Reply, Server, both_modes, site, skip, tools};

#[track_caller]
fn same(text: &str, expected: &[(&str, Option<&str>)]) {
    for (key, value) in expected {
        let prefix = format!("{key}=");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.map(|value| format!("str:'{value}'"));
        assert_eq!(found, value.as_deref(), "{key} in\n{text}");
    }
}

fn ask(server: &Server, target: &str, headers: &[(&str, &str)]) -> Reply {
    server.client().request("GET", target, headers, b"")
}

both_modes!(users_of_basic_authentication, |site| {
    let server = site
        .module("authn_core")
        .module("authn_file")
        .module("auth_basic")
        .module("authz_user")
        .app("environ.py")
        .file("passwords", "user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
        .conf("<Location />\nAuthType Basic\nAuthName staff\nAuthBasicProvider file")
        .conf("AuthUserFile @root@/passwords\nRequire valid-user\n</Location>")
        .start();
    ask(&server, "/", &[]).expect(401);
    // "secret"
    let reply = ask(&server, "/", &[("Authorization", "Basic dXNlcjpzZWNyZXQ=")]).expect(200);
    let user = [("REMOTE_USER", Some("user")), ("AUTH_TYPE", Some("Basic"))];
    same(&reply.text(), &user);
    same(&reply.text(), &[("HTTP_AUTHORIZATION", None)]);
    // Nobody becomes a user by saying so.
    ask(&server, "/", &[("Remote-User", "root"), ("REMOTE_USER", "root")]).expect(401);
});

both_modes!(users_of_digest_authentication, |site| {
    let server = site
        .module("authn_core")
        .module("authn_file")
        .module("auth_digest")
        .module("authz_user")
        .app("environ.py")
        .file("digests", "user:staff:00843cc728f54fea0f69a8533baa648b\n")
        .conf("<Location />\nAuthType Digest\nAuthName staff\nAuthDigestProvider file")
        .conf("AuthUserFile @root@/digests\nRequire valid-user\n</Location>")
        .start();
    let reply = server.curl("/", &["--digest", "-u", "user:secret"]);
    assert_eq!(reply.status, 200);
    let expected = [
        ("REMOTE_USER", Some("user")),
        ("AUTH_TYPE", Some("Digest")),
        ("HTTP_AUTHORIZATION", None),
    ];
    same(&reply.text(), &expected);
});

both_modes!(client_certificates, |site| {
    let clients = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| clients.path().join(name).to_string_lossy().into_owned();
    let (key, certificate) = (file("alice.key"), file("alice.pem"));
    let mut arguments: Vec<&str> =
        "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
         -days 2 -subj /O=Example/CN=alice -keyout"
            .split_whitespace()
            .collect();
    arguments.extend([key.as_str(), "-out", &certificate]);
    tools::run("openssl", &arguments);
    let server = site
        .tls()
        .app("environ.py")
        .conf(&format!("SSLCACertificateFile \"{certificate}\"\nSSLVerifyClient optional"))
        .conf("SSLUserName SSL_CLIENT_S_DN_CN\nSSLOptions +StdEnvVars +ExportCertData")
        .start();
    let reply = server.curl_tls("/", &["--cert", &certificate, "--key", &key]);
    assert_eq!(reply.status, 200, "{}", reply.complaint);
    let text = reply.text();
    let expected = [
        ("REMOTE_USER", Some("alice")),
        ("SSL_CLIENT_VERIFY", Some("SUCCESS")),
        ("SSL_CLIENT_S_DN_CN", Some("alice")),
        ("SSL_CLIENT_S_DN", Some("CN=alice,O=Example")),
        ("wsgi.url_scheme", Some("https")),
        ("HTTPS", None),
    ];
    same(&text, &expected);
    assert!(text.contains("SSL_CLIENT_CERT=str:'-----BEGIN CERTIFICATE-----"), "{text}");
    server.allow_log("AH02227");
    let without = server.curl_tls("/", &[]).text();
    same(&without, &[("REMOTE_USER", None), ("SSL_CLIENT_VERIFY", Some("NONE"))]);
});

both_modes!(addresses_of_mod_remoteip, |site| {
    let server = site
        .module("remoteip")
        .app("environ.py")
        .conf("RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1")
        // Who is the peer for these is what mod_remoteip says.
        .conf("WSGITrustedProxyHeaders X-Real-IP\nWSGITrustedProxies 203.0.113.9")
        .start();
    let spoken = [("X-Client", "203.0.113.8"), ("X-Real-IP", "198.51.100.1")];
    let reply = ask(&server, "/", &spoken).expect(200);
    same(&reply.text(), &[("REMOTE_ADDR", Some("203.0.113.8")), ("HTTP_X_REAL_IP", None)]);
    let spoken = [("X-Client", "203.0.113.9"), ("X-Real-IP", "198.51.100.1")];
    let reply = ask(&server, "/", &spoken).expect(200);
    same(&reply.text(), &[("REMOTE_ADDR", Some("198.51.100.1"))]);
    let reply = ask(&server, "/", &[]).expect(200);
    same(&reply.text(), &[("REMOTE_ADDR", Some("127.0.0.1"))]);
});

both_modes!(variables_and_headers_of_the_fixups, |site| {
    let server = site
        .module("rewrite")
        .module("headers")
        .module("unique_id")
        .app("environ.py")
        .conf("<Location />\nRewriteEngine On")
        .conf("RewriteRule .* - [E=MELLON_uid:alice,E=ACCOUNT:%{HTTP:X-Account}]")
        .conf("RequestHeader unset X-Claim-Mail\nRequestHeader set X-Claim-Name \"Alice A\"")
        .conf("</Location>")
        .start();
    let sent = [("X-Claim-Mail", "evil@example.org"), ("X-Claim-Name", "evil"), ("X-Account", "7")];
    let reply = ask(&server, "/", &sent).expect(200);
    let expected = [
        ("MELLON_uid", Some("alice")),
        ("ACCOUNT", Some("7")),
        ("HTTP_X_CLAIM_NAME", Some("Alice A")),
        ("HTTP_X_CLAIM_MAIL", None),
    ];
    same(&reply.text(), &expected);
    assert!(reply.value("UNIQUE_ID").len() > "str:''".len());
});

/// As modules for single sign-on do it: the user when httpd asks for one, the rest in the fixups.
const SIGN_ON: &str = r#"
require "apache2"

function check_user(r)
    if r.headers_in["X-Session"] ~= "valid" then
        return 401
    end
    r.user = "alice"
    return apache2.OK
end

function fixups(r)
    r.subprocess_env["AUTH_NAME_ID"] = "id of " .. (r.user or "nobody")
    r.subprocess_env["AUTH_mail"] = "alice@example.org"
    return apache2.DECLINED
end
"#;

both_modes!(users_of_single_sign_on, |site| {
    if !site::modules_directory().join("mod_lua.so").exists() {
        skip("httpd has no mod_lua");
        return;
    }
    let server = site
        .module("authn_core")
        .module("authz_user")
        .module("lua")
        .app("environ.py")
        .file("sign-on.lua", SIGN_ON)
        .conf("LuaHookCheckUserID @root@/sign-on.lua check_user early")
        .conf("LuaHookFixups @root@/sign-on.lua fixups")
        .conf("<Location />\nAuthType SingleSignOn\nAuthName x\nRequire valid-user\n</Location>")
        .start();
    ask(&server, "/", &[]).expect(401);
    let sent = [("X-Session", "valid"), ("Authorization", "Bearer token")];
    let reply = ask(&server, "/", &sent).expect(200);
    let expected = [
        ("REMOTE_USER", Some("alice")),
        ("AUTH_NAME_ID", Some("id of alice")),
        ("AUTH_mail", Some("alice@example.org")),
        // httpd knows the user: what the client sent besides is none of the application's business.
        ("HTTP_AUTHORIZATION", None),
    ];
    same(&reply.text(), &expected);
});
