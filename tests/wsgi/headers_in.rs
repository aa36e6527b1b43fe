//! Request headers: which of them an application sees, and as what.

use crate::harness::{Reply, Server, Site, both_modes};

/// `user:secret`
const CREDENTIALS: &str = "Basic dXNlcjpzZWNyZXQ=";
/// The same for `AuthUserFile`: user `user`, password `secret`.
const PASSWORDS: &str = "user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

#[track_caller]
fn ask(server: &Server, target: &str, headers: &[(&str, &str)]) -> Reply {
    server.client().request("GET", target, headers, b"").expect(200)
}

/// A site whose `/private` is protected by httpd itself.
fn guarded(site: Site) -> Site {
    site.app("environ.py")
        .module("auth_basic")
        .module("authn_core")
        .module("authn_file")
        .module("authz_user")
        .file("passwords", PASSWORDS)
        .conf("<Location /private>\nAuthType Basic\nAuthName test\nAuthBasicProvider file")
        .conf("AuthUserFile \"@root@/passwords\"\nRequire valid-user\n</Location>")
}

both_modes!(names_are_converted, |site| {
    let server = site.app("environ.py").start();
    let reply = ask(&server, "/", &[("X-Some-Thing", "1"), ("x-other2", "2"), ("ACCEPT", "a/b")]);
    assert_eq!(reply.value("HTTP_X_SOME_THING"), "str:'1'");
    assert_eq!(reply.value("HTTP_X_OTHER2"), "str:'2'");
    assert_eq!(reply.value("HTTP_ACCEPT"), "str:'a/b'");
});

both_modes!(names_that_could_pass_for_others_are_dropped, |site| {
    let server = site.app("environ.py").start();
    let reply = ask(
        &server,
        "/",
        &[
            ("X_Under", "evil"),
            ("X_Forwarded-For", "evil"),
            ("X.Dot", "evil"),
            ("X~Tilde", "evil"),
            ("X!", "evil"),
            ("Proxy", "evil"),
            ("X-Good", "good"),
        ],
    );
    assert!(!reply.text().contains("evil"), "{}", reply.text());
    assert_eq!(reply.value("HTTP_X_GOOD"), "str:'good'");
});

both_modes!(underscore_does_not_replace_the_real_header, |site| {
    let server = site.app("environ.py").start();
    let reply = ask(&server, "/", &[("X_User", "evil"), ("X-User", "real"), ("X_User", "evil")]);
    assert_eq!(reply.value("HTTP_X_USER"), "str:'real'");
});

both_modes!(more_names_than_are_remembered, |site| {
    let server = site.app("environ.py").start();
    let long = format!("X-{}", "long-".repeat(20));
    for round in (0..5).chain(0..5) {
        let names = (0..80).map(|number| match number % 2 {
            0 => format!("X-Name-{}", round * 80 + number),
            _ => format!("x-nAME-{}", round * 80 + number),
        });
        let headers: Vec<(String, String)> =
            names.chain([long.clone()]).map(|name| (name.clone(), format!("of {name}"))).collect();
        let sent: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = ask(&server, "/", &sent);
        for (name, value) in &headers {
            let key = format!("HTTP_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(reply.value(&key), format!("str:'{value}'"));
        }
        assert_eq!(reply.text().matches("HTTP_X_").count(), headers.len());
    }
});

both_modes!(repeated_headers_are_joined, |site| {
    let server = site.app("environ.py").start();
    let reply = ask(
        &server,
        "/",
        &[("X-Dup", "1"), ("X-Dup", "2"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("X-Dup", "3")],
    );
    assert_eq!(reply.value("HTTP_X_DUP"), "str:'1, 2, 3'");
    assert_eq!(reply.value("HTTP_COOKIE"), "str:'a=1, b=2'");
});

both_modes!(authorization_is_passed_when_httpd_does_not_use_it, |site| {
    let server = guarded(site).start();
    let reply = ask(&server, "/open", &[("Authorization", "Bearer token")]);
    assert_eq!(reply.value("HTTP_AUTHORIZATION"), "str:'Bearer token'");
    assert_eq!(reply.field("REMOTE_USER"), None);

    let reply = ask(&server, "/private", &[("Authorization", CREDENTIALS)]);
    assert_eq!(reply.field("HTTP_AUTHORIZATION"), None);
    assert_eq!(reply.value("REMOTE_USER"), "str:'user'");
    assert_eq!(reply.value("AUTH_TYPE"), "str:'Basic'");
});

both_modes!(authorization_can_be_passed_always, |site| {
    let server = guarded(site).conf("WSGIPassAuthorization On").start();
    for target in ["/open", "/private"] {
        let reply = ask(&server, target, &[("Authorization", CREDENTIALS)]);
        assert_eq!(reply.value("HTTP_AUTHORIZATION"), format!("str:'{CREDENTIALS}'"));
    }
});

both_modes!(authorization_can_be_kept_back_always, |site| {
    let server = guarded(site).conf("WSGIPassAuthorization Off").start();
    for target in ["/open", "/private"] {
        let reply = ask(&server, target, &[("Authorization", CREDENTIALS)]);
        assert_eq!(reply.field("HTTP_AUTHORIZATION"), None, "{target}");
    }
});

both_modes!(authorization_is_an_option_of_the_mount, |site| {
    let server = site
        .mount("/on", "environ.py", "pass-authorization=On")
        .mount("/off", "environ.py", "pass-authorization=Off")
        .conf("<Location /on>\nWSGIPassAuthorization Off\n</Location>")
        .conf("<Location /off>\nWSGIPassAuthorization On\n</Location>")
        .start();
    let headers = [("Authorization", "Bearer token")];
    let reply = ask(&server, "/on", &headers);
    assert_eq!(reply.value("HTTP_AUTHORIZATION"), "str:'Bearer token'");
    assert_eq!(ask(&server, "/off", &headers).field("HTTP_AUTHORIZATION"), None);
});

both_modes!(cgi_pass_auth_passes_both, |site| {
    let server = site
        .app("environ.py")
        .conf("WSGIPassAuthorization Off\n<Location />\nCGIPassAuth On\n</Location>")
        .start();
    let headers = [("Authorization", "Bearer one"), ("Proxy-Authorization", "Bearer two")];
    let reply = ask(&server, "/", &headers);
    assert_eq!(reply.value("HTTP_AUTHORIZATION"), "str:'Bearer one'");
    assert_eq!(reply.value("HTTP_PROXY_AUTHORIZATION"), "str:'Bearer two'");
});

both_modes!(proxy_authorization_is_the_proxys, |site| {
    let server = site.app("environ.py").conf("WSGIPassAuthorization On").start();
    let reply = ask(&server, "/", &[("Proxy-Authorization", "Bearer two")]);
    assert_eq!(reply.field("HTTP_PROXY_AUTHORIZATION"), None);
});

both_modes!(user_of_the_redirecting_request_is_kept, |site| {
    let server = guarded(site)
        .mount("/none", "@apps@/no-such-file.py", "")
        .conf("<Location /none>\nAuthType Basic\nAuthName test\nAuthBasicProvider file")
        .conf("AuthUserFile \"@root@/passwords\"\nRequire valid-user\n</Location>")
        .conf("ErrorDocument 404 /open/missing")
        .start();
    server.allow_log("no-such-file.py");
    let reply = server.client().request("GET", "/none", &[("Authorization", CREDENTIALS)], b"");
    assert_eq!(reply.value("REDIRECT_REMOTE_USER"), "str:'user'");
    assert_eq!(reply.value("REDIRECT_URL"), "str:'/none'");
});

both_modes!(remote_user_of_another_module_is_seen, |site| {
    let server =
        site.app("environ.py").tls().conf("SSLUserName SSL_SERVER_S_DN_CN\nSSLOptions +StdEnvVars");
    let lines = server.start().curl_tls("/", &[]).text();
    assert!(lines.contains("REMOTE_USER=str:'localhost'"), "{lines}");
});
