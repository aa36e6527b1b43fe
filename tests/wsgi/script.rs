//! Scripts: how they are found, loaded, loaded again, and what happens when that fails.

use crate::harness::{Server, Site, both_modes};

/// An application that answers with a word.
fn saying(word: &str) -> String {
    format!(
        "def application(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return [b'{word}']\n"
    )
}

/// A site whose script is `site/app.py`, to be changed while it runs. A daemon process has requests wait
/// until another one has taken its place.
fn changing(site: Site, code: &str) -> Server {
    site.file("site/app.py", code)
        .conf("<Directory \"@root@/site\">\nRequire all granted\n</Directory>")
        .mount("/", "@root@/site/app.py", "")
        .group("reload-wait=60s")
        .start()
}

both_modes!(changed_script_is_loaded_again, |site| {
    let server = changing(site, &saying("one"));
    let mut client = server.client();
    assert_eq!(client.get("/").expect(200).text(), "one");
    server.write("site/app.py", &saying("two"), 500);
    assert_eq!(client.get("/").expect(200).text(), "two");
    // Any other time will do, an older one too: a file put back from a backup.
    server.write("site/app.py", &saying("three"), 2000);
    assert_eq!(client.get("/").expect(200).text(), "three");
    assert_eq!(client.get("/").expect(200).text(), "three");
});

both_modes!(unchanged_script_is_loaded_once, |site| {
    let code = "count = 0\n\
        def application(environ, start_response):\n\
        \x20   global count\n\
        \x20   count += 1\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [str(count).encode()]\n";
    let server = changing(site.conf("ServerLimit 1\nMaxRequestWorkers 8"), code);
    for expected in 1..5 {
        assert_eq!(server.get("/").expect(200).text(), expected.to_string());
    }
});

both_modes!(script_reloading_can_be_off, |site| {
    let server = changing(site.conf("WSGIScriptReloading Off"), &saying("one"));
    let mut client = server.client();
    assert_eq!(client.get("/").expect(200).text(), "one");
    server.write("site/app.py", &saying("two"), 500);
    assert_eq!(client.get("/").expect(200).text(), "one");
});

both_modes!(script_with_an_error_can_be_mended, |site| {
    let daemon = site.is_daemon();
    let server = changing(site, "def application(environ, start_response:\n    pass\n");
    // A request may come while a daemon process still tries by itself.
    server.allow_log("failed to load for another request");
    server.allow_log("exception raised while loading");
    for (broken, logged, age) in [
        ("def application(environ, start_response:\n    pass\n", "SyntaxError", 900),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere", 800),
        ("raise SystemExit('at import')\n", "SystemExit", 700),
        ("raise KeyboardInterrupt('at import')\n", "KeyboardInterrupt", 650),
        ("\u{e9} = 'not \\udc80' + undefined_name\n", "NameError", 600),
    ] {
        server.write("site/app.py", broken, age);
        // The old code goes on serving in a daemon group. There is none before the first.
        for _ in 0..if daemon && age < 900 { 0 } else { 2 } {
            let reply = server.get("/").expect(500);
            assert!(!reply.text().contains("Error:"), "{}", reply.text());
        }
        server.expect_log(logged);
        server.write("site/app.py", &saying("mended"), age - 10);
        assert_eq!(server.get("/").expect(200).text(), "mended", "after {logged}");
    }
});

both_modes!(failed_import_is_tried_again, |site| {
    let code = "import os\n\
        marker = os.environ['TEST_SCRATCH'] + '/tried'\n\
        with open(marker, 'a') as file:\n\
        \x20   file.write('tried\\n')\n\
        if os.path.getsize(marker) < 18:\n\
        \x20   raise RuntimeError('not yet')\n";
    let server = changing(site, &(code.to_owned() + &saying("at last")));
    // A daemon process has tried it before the first request, or together with it.
    let replies: Vec<u16> = (0..3).map(|_| server.get("/").status).collect();
    assert!(matches!(replies[..], [500, 500 | 200, 200]), "{replies:?}");
    assert_eq!(server.get("/").expect(200).text(), "at last");
    assert_eq!(server.read("scratch/tried").lines().count(), 3);
    server.expect_log("RuntimeError: not yet");
    server.allow_log("failed to load for another request");
});

both_modes!(missing_callable_is_said, |site| {
    let server = changing(site, "apllication = None\n");
    // The same in both modes, which mod_wsgi answers differently.
    let reply = server.get("/").expect(500);
    assert!(reply.complete);
    let line = server.expect_log("'application'");
    assert!(line.contains("app.py"), "{line}");
});

both_modes!(callable_that_is_none_is_an_error, |site| {
    let server = changing(site, "application = None\n");
    server.get("/").expect(500);
    server.expect_log("TypeError: ");
});

both_modes!(missing_script_is_a_404, |site| {
    let server = site.mount("/none", "@apps@/none.py", "").app("hello.py").start();
    let reply = server.get("/none").expect(404);
    assert!(!reply.text().contains("none.py"), "{}", reply.text());
    server.expect_log("none.py");
    server.get("/").expect(200);
});

both_modes!(directory_is_not_a_script, |site| {
    let server = site.mount("/dir", "@apps@", "").start();
    assert!(matches!(server.get("/dir").status, 403 | 404));
    server.allow_log("@apps@");
    server.allow_log("apps");
});

both_modes!(script_that_vanishes_is_a_404, |site| {
    let server = changing(site, &saying("here"));
    assert_eq!(server.get("/").expect(200).text(), "here");
    std::fs::remove_file(server.path("site/app.py")).expect("remove a file");
    server.get("/").expect(404);
    server.expect_log("app.py");
});

both_modes!(access_rules_hold_for_scripts, |site| {
    let server = site
        .mount("/closed", "hello.py", "")
        .conf("<Location /closed>\nRequire all denied\n</Location>")
        .start();
    server.get("/closed").expect(403);
    server.allow_log("AH01630");
});

both_modes!(hanging_import_stops_nobody_else, |site| {
    let code = "import os\n\
        import time\n\
        scratch = os.environ['TEST_SCRATCH']\n\
        with open(scratch + '/began', 'a') as file:\n\
        \x20   file.write('began\\n')\n\
        while not os.path.exists(scratch + '/go'):\n\
        \x20   time.sleep(0.005)\n";
    let server = site
        .conf("ServerLimit 1\nMaxRequestWorkers 8\nDocumentRoot @root@/htdocs")
        .file("htdocs/static.txt", "static")
        .source_with("/slow", &(code.to_owned() + &saying("slow")), "application-group=%{GLOBAL}")
        .source_with("/same", &saying("same"), "application-group=%{GLOBAL}")
        .source_with("/other", &saying("other"), "application-group=other")
        .start();
    server.get("/same").expect(200);
    let mut slow = server.client();
    slow.send_request("GET", "/slow", &[], b"");
    server.wait_for_file("scratch/began", "began");
    // A second request for the same script waits with the first.
    let mut second = server.client();
    second.send_request("GET", "/slow", &[], b"");
    for _ in 0..3 {
        assert_eq!(server.get("/same").expect(200).text(), "same");
        assert_eq!(server.get("/other").expect(200).text(), "other");
        assert_eq!(server.get("/static.txt").expect(200).text(), "static");
    }
    server.write("scratch/go", "", 0);
    assert_eq!(slow.read_response().expect(200).text(), "slow");
    assert_eq!(second.read_response().expect(200).text(), "slow");
    assert_eq!(server.read("scratch/began"), "began\n", "loaded more than once");
});

both_modes!(module_has_a_name_and_a_file, |site| {
    let server = site
        .source(
            "/",
            r#"
import sys

def application(environ, start_response):
    module = sys.modules[__name__]
    lines = [
        "name=%s" % __name__,
        "file=%s" % __file__,
        "same=%s" % (module.application is application),
        "mtime=%s" % (type(module.__mtime__).__name__),
        "argv=%s" % sys.argv,
    ]
    start_response("200 OK", [])
    return ["\n".join(lines).encode()]
"#,
        )
        .start();
    let reply = server.get("/").expect(200);
    let name = reply.value("name");
    assert!(name.starts_with("_mod_wsgi_") && name.len() == 42, "{name}");
    assert_eq!(reply.value("file"), server.path("apps/source-0.py").to_string_lossy());
    assert_eq!(reply.value("same"), "True");
    assert_eq!(reply.value("mtime"), "int");
    assert_eq!(reply.value("argv"), "['mod_wsgi']");
});

/// Notes in a file that it was imported, and by which process.
const NOTING: &str = "import os\n\
    with open(os.environ['TEST_SCRATCH'] + '/imported', 'a') as file:\n\
    \x20   file.write('imported %d\\n' % os.getpid())\n";

#[test]
fn import_script_is_loaded_before_the_first_request() {
    let mut server = Site::new("import-script")
        .conf("ServerLimit 1\nMaxRequestWorkers 8")
        .source_with("/", &(NOTING.to_owned() + &saying("preloaded")), "application-group=early")
        .conf("WSGIImportScript @apps@/source-0.py process-group=%{GLOBAL} application-group=early")
        .start();
    server.wait_for_file("scratch/imported", "imported");
    assert_eq!(server.get("/").expect(200).text(), "preloaded");
    let children = server.children();
    server.stop();
    assert_eq!(server.read("scratch/imported"), format!("imported {}\n", children[0]));
}

#[test]
fn import_script_that_fails_is_told_and_leaves_the_rest() {
    let server = Site::new("import-script-fails")
        .app("hello.py")
        .file("apps/broken.py", "raise RuntimeError('while importing')\n")
        .file("apps/early.py", NOTING)
        .conf("WSGIImportScript @apps@/broken.py process-group=%{GLOBAL} application-group=a")
        .conf("WSGIImportScript @apps@/missing.py process-group=%{GLOBAL} application-group=a")
        .conf(
            "WSGIImportScript @apps@/early.py process-group=%{GLOBAL} application-group=%{GLOBAL}",
        )
        .start();
    server.expect_log("RuntimeError: while importing");
    server.expect_log("missing.py");
    server.wait_for_file("scratch/imported", "imported");
    server.get("/").expect(200);
}

const NAMED: &str = r#"
def answering(word):
    def answer(environ, start_response):
        start_response("200 OK", [])
        return [word + b" " + environ["mod_wsgi.callable_object"].encode()]
    return answer

application = answering(b"application")
other = answering(b"other")

class Application:
    def __call__(self, environ, start_response):
        return answering(b"instance")(environ, start_response)

instance = Application()
"#;

both_modes!(callable_can_be_named, |site| {
    let server = site
        .source("/plain", NAMED)
        .mount("/option", "source-0.py", "callable-object=other")
        .mount("/location", "source-0.py", "")
        .mount("/instance", "source-0.py", "callable-object=instance")
        .mount("/env", "source-0.py", "")
        .mount("/both", "source-0.py", "callable-object=other")
        .conf("<Location /location>\nWSGICallableObject other\n</Location>")
        .conf("<Location /both>\nWSGICallableObject instance\n</Location>")
        .conf("<Location /env>\nSetEnv which other\nWSGICallableObject %{ENV:which}\n</Location>")
        .start();
    for (place, answer) in [
        ("/plain", "application application"),
        ("/option", "other other"),
        ("/location", "other other"),
        ("/instance", "instance instance"),
        ("/env", "other other"),
        ("/both", "other other"),
    ] {
        assert_eq!(server.get(place).expect(200).text(), answer, "{place}");
    }
});

/// Scripts by their file name, below a directory that httpd serves.
fn handled(site: Site, directory: &str, access: &str) -> Server {
    site.file("htdocs/app.wsgi", NAMED)
        .file("htdocs/sub/app.wsgi", NAMED)
        .file("htdocs/sub/plain.txt", "plain")
        .file("htdocs/sub/.htaccess", access)
        .conf(&format!("<Directory \"@root@/htdocs\">\n{directory}\n</Directory>"))
        .start()
}

both_modes!(scripts_are_handled_by_their_name, |site| {
    let conf = "Options ExecCGI\nAddHandler wsgi-script .wsgi";
    let server = handled(site, conf, "");
    assert_eq!(server.get("/app.wsgi").expect(200).text(), "application application");
    assert_eq!(server.get("/app.wsgi/path/info").expect(200).text(), "application application");
    assert_eq!(server.get("/sub/app.wsgi").expect(200).text(), "application application");
    assert_eq!(server.get("/sub/plain.txt").expect(200).text(), "plain");
    server.get("/none.wsgi").expect(404);
    server.allow_log("none.wsgi");
});

both_modes!(handler_splits_the_url_at_the_file, |site| {
    let server = site
        .conf(
            "<Directory \"@root@/htdocs\">\nOptions ExecCGI\nSetHandler wsgi-script\n</Directory>",
        )
        .file("htdocs/dir/show", include_str!("../apps/environ.py"))
        .start();
    let reply = server.get("/dir/show/more/info?query").expect(200);
    assert_eq!(reply.value("SCRIPT_NAME"), "str:'/dir/show'");
    assert_eq!(reply.value("PATH_INFO"), "str:'/more/info'");
    assert_eq!(reply.value("mod_wsgi.request_handler"), "str:'wsgi-script'");
});

both_modes!(scripts_are_handled_by_their_type, |site| {
    let conf = "Options ExecCGI\nAddType application/x-httpd-wsgi .wsgi";
    let server = handled(site, conf, "");
    assert_eq!(server.get("/app.wsgi").expect(200).text(), "application application");
});

both_modes!(scripts_need_exec_cgi, |site| {
    let server = handled(site, "AddHandler wsgi-script .wsgi", "");
    server.get("/app.wsgi").expect(403);
    let line = server.expect_log("ExecCGI");
    assert!(line.contains("app.wsgi"), "{line}");
});

both_modes!(path_info_can_be_refused, |site| {
    let conf = "Options ExecCGI\nAddHandler wsgi-script .wsgi\nAcceptPathInfo Off";
    let server = handled(site, conf, "");
    server.get("/app.wsgi").expect(200);
    server.get("/app.wsgi/info").expect(404);
    server.allow_log("app.wsgi");
});

both_modes!(htaccess_files_may_set_what_is_theirs, |site| {
    let access = "Options +ExecCGI\nAddHandler wsgi-script .wsgi\nWSGICallableObject other\n\
        WSGIPassAuthorization On\nWSGIChunkedRequest On\n\
        WSGIErrorOverride On\nWSGIMapHEADToGET Off\nWSGIEnableSendfile On\n";
    let server = handled(site, "AllowOverride AuthConfig FileInfo Options", access);
    assert_eq!(server.get("/sub/app.wsgi").expect(200).text(), "other other");
    // Without a handler it is a file like any other.
    assert!(server.get("/app.wsgi").expect(200).text().contains("def answering"));
});

both_modes!(htaccess_files_need_the_permission, |site| {
    let server = handled(site, "AllowOverride AuthConfig", "WSGICallableObject other\n");
    server.get("/sub/plain.txt").expect(500);
    server.expect_log("WSGICallableObject not allowed here");
});

both_modes!(script_alias_match_substitutes, |site| {
    let server = site
        .conf("WSGIScriptAliasMatch \"^/v([0-9])/(env[a-z]+)\" @apps@/$2.py")
        .conf("WSGIScriptAliasMatch \"/ends$\" @apps@/hello.py")
        .start();
    let reply = server.get("/v1/environ/rest?a=b").expect(200);
    assert_eq!(reply.value("PATH_INFO"), "str:'/rest'");
    assert_eq!(reply.value("SCRIPT_NAME"), "str:'/v1/environ'");
    assert_eq!(server.get("/anything/ends").expect(200).text(), "hello\n");
    server.get("/v1/none").expect(404);
    server.get("/x/v1/environ").expect(404);
    server.allow_log("File does not exist");
});

both_modes!(first_alias_that_matches_wins, |site| {
    let server = site
        .file("apps/word.py", saying("first"))
        .file("apps/last.py", saying("last"))
        .conf("WSGIScriptAlias /a @apps@/word.py\nWSGIScriptAlias /a/b @apps@/last.py")
        .start();
    assert_eq!(server.get("/a/b").expect(200).text(), "first");
});

both_modes!(virtual_hosts_come_before_the_main_server, |site| {
    let server = site
        .file("apps/word.py", saying("main"))
        .file("apps/host.py", saying("host"))
        .conf("WSGIScriptAlias /a @apps@/word.py\nWSGIScriptAlias /main @apps@/word.py")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName host\nWSGIScriptAlias /a @apps@/host.py")
        .conf("</VirtualHost>")
        .start();
    let mut client = server.client();
    client.host("host");
    assert_eq!(client.get("/a").expect(200).text(), "host");
    assert_eq!(client.get("/main").expect(200).text(), "main");
});

both_modes!(alias_of_httpd_comes_first, |site| {
    let server = site
        .app("hello.py")
        .module("alias")
        .file("htdocs/file.txt", "static")
        .conf("Alias /static @root@/htdocs")
        .start();
    assert_eq!(server.get("/static/file.txt").expect(200).text(), "static");
    assert_eq!(server.get("/other/file.txt").expect(200).text(), "hello\n");
});

both_modes!(the_rest_of_the_site_is_httpds, |site| {
    let server = site.mount("/app", "hello.py", "").file("htdocs/file.txt", "static").start();
    assert_eq!(server.get("/file.txt").expect(200).text(), "static");
    assert_eq!(server.get("/app/file.txt").expect(200).text(), "hello\n");
    server.get("/apple").expect(404);
});
