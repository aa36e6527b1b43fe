//! Directives: what httpd says of mistakes, where each may stand, and a Python that cannot be used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

use engine::settings::{CATALOGUE, Entry, Scope};
use harness::{Mpm, Server, Site, both_modes, pythons, site, skip, tools};

/// (directive, arguments that are right, arguments that are wrong and a part of what is said)
type Row = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const SWITCH: &[&str] = &["On", "off", "ON", "\"Off\""];
const NO_SWITCH: &[(&str, &str)] = &[
    ("", "one argument"),
    ("Maybe", "On"),
    ("1", "On"),
    ("\"\"", "empty"),
    ("On Off", "too much"),
];
const THREE_WAY: &[&str] = &["On", "off", "Auto", "AUTO"];

const ASKED: &[&str] = &[
    "/srv/asked.py",
    "\"/srv/with blank.py\" application-group=%{SERVER}",
    "/srv/asked.py application-group='a group'",
];
const NOT_ASKED: &[(&str, &str)] = &[
    ("", "takes a script"),
    ("\"\"", "takes a script"),
    ("/srv/asked.py other", "name=value"),
    ("/srv/asked.py process-group=a", "unknown option 'process-group'"),
    ("/srv/asked.py application-group=", "no value"),
];

const TABLE: &[Row] = &[
    (
        "WSGIScriptAlias",
        &[
            "/ /srv/app.py",
            "/x \"/srv/with blank.py\" application-group=%{GLOBAL}",
            "/x /srv/ process-group=%{GLOBAL} application-group='a b' callable-object=main",
            "/x /srv/app.py pass-authorization=On",
            "/x /srv/app.py application-group=%{ENV:variable}",
        ],
        &[
            ("", "two arguments"),
            ("/x", "two arguments"),
            ("x /srv/app.py", "begin with '/'"),
            ("/x \"\"", "empty"),
            ("/x /srv/app.py other", "name=value"),
            ("/x /srv/app.py other=1", "other"),
            ("/x /srv/app.py application-group =a", "blank"),
            ("/x /srv/app.py application-group=", "application-group"),
            ("/x /srv/app.py pass-authorization=Maybe", "Auto"),
        ],
    ),
    (
        "WSGIScriptAliasMatch",
        &["^/x/(.*)$ /srv/$1.py", "\"^/a b\" /srv/app.py application-group=name"],
        &[
            ("", "two arguments"),
            ("^/x", "two arguments"),
            ("^/(x /srv/app.py", "regular expression"),
            ("^/x /srv/app.py other=1", "other"),
        ],
    ),
    (
        "WSGICallableObject",
        &["main", "%{ENV:variable}"],
        &[("", "one argument"), ("a b", "too much"), ("%{UNKNOWN}", "%{ENV:name}")],
    ),
    (
        "WSGIImportScript",
        &["/srv/app.py process-group=%{GLOBAL} application-group=%{GLOBAL}"],
        &[
            ("", "script"),
            ("/srv/app.py", "process-group"),
            ("/srv/app.py process-group=%{GLOBAL}", "application-group"),
            ("/srv/app.py application-group=%{GLOBAL}", "process-group"),
            ("/srv/app.py process-group=%{GLOBAL} application-group=a other=b", "other"),
        ],
    ),
    (
        "WSGIApplicationGroup",
        &["name", "%{GLOBAL}", "%{SERVER}", "%{RESOURCE}", "%{HOST}", "%{ENV:variable}"],
        &[("", "one argument"), ("a b", "too much"), ("\"\"", "empty")],
    ),
    (
        "<WSGIInterpreterOptions",
        &[
            ">\n</WSGIInterpreterOptions>",
            "application-group=a>\nWSGIPythonPath /srv\n</WSGIInterpreterOptions>",
            "PROCESS-GROUP=%{GLOBAL}>\nWSGIRestrictStdin On\n</WSGIInterpreterOptions>",
            "process-group=%{GLOBAL} application-group=b>\n</WSGIInterpreterOptions>",
        ],
        &[
            ("other=a>\n</WSGIInterpreterOptions>", "other"),
            ("name>\n</WSGIInterpreterOptions>", "name=value"),
            ("application-group=a application-group=b>\n</WSGIInterpreterOptions>", "twice"),
            ("application-group=a\n</WSGIInterpreterOptions>", ">"),
            (">\nWSGIPythonHome /usr\n</WSGIInterpreterOptions>", "not allowed in this section"),
            (">\nDocumentRoot /srv\n</WSGIInterpreterOptions>", "not allowed in this section"),
            (">\nWSGIRestrictStdin Maybe\n</WSGIInterpreterOptions>", "On"),
        ],
    ),
    ("WSGIPerInterpreterGIL", SWITCH, NO_SWITCH),
    ("WSGIFreeThreading", SWITCH, NO_SWITCH),
    (
        "WSGISwitchInterval",
        &["0.005", "1", "\".5\""],
        &[
            ("", "one argument"),
            ("0", "above 0"),
            ("-1", "above 0"),
            ("1s", "above 0"),
            ("inf", "above 0"),
            ("nan", "above 0"),
        ],
    ),
    (
        "WSGIPythonPath",
        &["/srv/lib", "/srv/lib:/srv/other", "\"/srv/with blank\""],
        &[("", "one argument"), ("/a /b", "too much"), (":", "no directory")],
    ),
    ("WSGIRestrictStdin", SWITCH, NO_SWITCH),
    ("WSGIRestrictStdout", SWITCH, NO_SWITCH),
    ("WSGIRestrictSignal", SWITCH, NO_SWITCH),
    ("WSGIPassAuthorization", THREE_WAY, NO_SWITCH),
    ("WSGIScriptReloading", SWITCH, NO_SWITCH),
    ("WSGIErrorOverride", SWITCH, NO_SWITCH),
    ("WSGIChunkedRequest", SWITCH, NO_SWITCH),
    ("WSGIMapHEADToGET", THREE_WAY, NO_SWITCH),
    ("WSGIEnableSendfile", SWITCH, NO_SWITCH),
    (
        "WSGITrustedProxyHeaders",
        &["X-Forwarded-For", "x-real-ip X-Forwarded-Proto", "\"X-Forwarded-Host\" X-HTTPS"],
        &[
            ("", "none is given"),
            ("Forwarded", "no header that is understood"),
            ("X_Forwarded_For", "no header that is understood"),
            ("X-Forwarded-For \"\"", "no header that is understood"),
        ],
    ),
    (
        "WSGITrustedProxies",
        &["127.0.0.1", "10.0.0.0/8 192.168 172.16.0.0/255.240.0.0", "::1 FD00::/8"],
        &[
            ("", "none is given"),
            ("localhost", "no IP address"),
            ("10.0.0.0/33", "no IP address"),
            ("10.0.0.0/255.0.255.0", "no IP address"),
            ("::1 *", "no IP address"),
        ],
    ),
    ("WSGIAccessScript", ASKED, NOT_ASKED),
    ("WSGIAuthUserScript", ASKED, NOT_ASKED),
    ("WSGIAuthGroupScript", ASKED, NOT_ASKED),
    ("WSGIDispatchScript", ASKED, NOT_ASKED),
    (
        "WSGIHandlerScript",
        &[
            "name /srv/handler.py",
            "'a name' \"/srv/with blank.py\" application-group=%{GLOBAL}",
            "name /srv/handler.py process-group=%{GLOBAL} application-group=%{ENV:x}",
            "name /srv/handler.py pass-authorization=Auto",
        ],
        &[
            ("", "name of a handler"),
            ("name", "takes a script"),
            ("name /srv/handler.py other", "name=value"),
            ("name /srv/handler.py callable-object=a", "unknown option 'callable-object'"),
            ("name /srv/handler.py pass-authorization=Maybe", "Auto"),
            ("name /srv/handler.py process-group=", "no value"),
        ],
    ),
    ("WSGIPassApacheRequest", SWITCH, NO_SWITCH),
    ("WSGIGroupAuthoritative", SWITCH, NO_SWITCH),
    (
        "WSGITelemetryService",
        &["unix:/run/telemetry.sock", "unix:/run/telemetry.sock interval=2.5"],
        &[
            ("", "unix:/path"),
            ("udp:localhost:9", "unix:/path"),
            ("unix:/a interval=often", "interval="),
            ("unix:/a other=1", "unknown option 'other'"),
        ],
    ),
    (
        "WSGITelemetryOptions",
        &["None", "All", "CaptureUserAgent", "+CaptureUserAgent -captureuseragent"],
        &[
            ("", "none is given"),
            ("Other", "CaptureUserAgent"),
            ("All -CaptureUserAgent", "or none"),
        ],
    ),
    (
        "WSGISlowRequests",
        &["0", "2.5"],
        &[("", "one argument"), ("one", "number of seconds"), ("-1", "number of seconds")],
    ),
    // The right ones depend on the machine; see the tests below.
    ("WSGIPythonHome", &[], &[("", "one argument"), ("/a /b", "too much"), ("\"\"", "empty")]),
    ("WSGIPythonEggs", &["/srv/eggs"], &[("", "one argument"), ("/a /b", "too much")]),
    (
        "WSGIPythonOptimize",
        &["0", "1", "2"],
        &[
            ("", "one argument"),
            ("3", "0 to 2"),
            ("-1", "0 to 2"),
            ("one", "0 to 2"),
            ("1x", "0 to 2"),
        ],
    ),
    (
        "WSGIPythonWarnings",
        &["default", "error::DeprecationWarning"],
        &[("", "one argument"), ("a b", "too much")],
    ),
    (
        "WSGIPythonHashSeed",
        &["random", "0", "4294967295"],
        &[
            ("", "one argument"),
            ("4294967296", "4294967295"),
            ("-1", "4294967295"),
            ("often", "random"),
            ("1.5", "random"),
        ],
    ),
    ("WSGIDontWriteBytecode", SWITCH, NO_SWITCH),
    ("WSGIDestroyInterpreter", SWITCH, NO_SWITCH),
    ("WSGIRestrictEmbedded", SWITCH, NO_SWITCH),
    ("WSGICaseSensitivity", SWITCH, NO_SWITCH),
    ("WSGIServerMetrics", SWITCH, NO_SWITCH),
    ("WSGIVerboseDebugging", SWITCH, NO_SWITCH),
    ("WSGILazyInitialization", SWITCH, NO_SWITCH),
    // Its options have a table of their own in tests/groups.rs.
    (
        "WSGIDaemonProcess",
        &["one", "\"two words\" processes=2 threads=5", "three env=\"A=b c\" env=B="],
        &[
            ("", "name of a process group"),
            ("\"\"", "name of a process group"),
            ("%{GLOBAL}", "a word of your own"),
            ("name other", "name=value"),
            ("name processes", "name=value"),
            ("name threads =5", "blank before '='"),
            ("name threads=", "no value"),
            ("name Threads=5", "did you mean threads=?"),
            ("name procesess=2", "did you mean processes=?"),
        ],
    ),
    (
        "WSGIProcessGroup",
        &["%{SERVER}", "%{RESOURCE}", "%{HOST}", "%{ENV:variable}", "%{GLOBAL}"],
        &[("", "one argument"), ("a b", "too much"), ("\"\"", "empty")],
    ),
    (
        "WSGIRestrictProcess",
        &["name", "one %{GLOBAL} \"two words\""],
        &[("", "none is given"), ("a \"\"", "empty")],
    ),
    ("WSGIIgnoreActivity", SWITCH, NO_SWITCH),
    ("WSGISocketPrefix", &["run/wsgi"], &[("", "one argument"), ("a b", "too much")]),
    ("WSGISocketRotation", SWITCH, NO_SWITCH),
    (
        "WSGIAcceptMutex",
        &["default", "flock", "fcntl", "sysvsem", "posixsem", "Pthread"],
        &[("", "one argument"), ("other", "flock"), ("flock fcntl", "too much")],
    ),
];

fn row(entry: &Entry) -> &'static Row {
    let found = TABLE.iter().find(|(name, ..)| *name == entry.name);
    found.unwrap_or_else(|| panic!("{} has no row in this test", entry.name))
}

/// Right lines of a directive; of `WSGIPythonHome` one that is right here.
fn right(entry: &Entry) -> Vec<String> {
    if entry.name == "WSGIPythonHome" {
        let python = pythons::default().expect("a usable Python");
        return vec![format!("WSGIPythonHome \"{}\"", python.prefix.display())];
    }
    row(entry).1.iter().map(|arguments| format!("{} {arguments}", entry.name)).collect()
}

#[track_caller]
fn accepted(lines: &str) {
    let output = Site::configtest(lines);
    assert!(output.status.success(), "{lines}\n{}", tools::both(&output));
}

/// httpd refuses these lines; returns what it says.
#[track_caller]
fn refused(lines: &str) -> String {
    let output: Output = Site::configtest(lines);
    let text = tools::both(&output);
    assert!(!output.status.success(), "accepted: {lines}\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn every_directive_has_a_row() {
    for entry in CATALOGUE {
        row(entry);
    }
    for (name, ..) in TABLE {
        assert!(Entry::find(name).is_some(), "{name} is no directive");
    }
}

#[test]
fn right_arguments_are_accepted() {
    let (sections, others): (Vec<_>, Vec<_>) =
        CATALOGUE.iter().partition(|entry| entry.scope == Scope::Dir);
    let lines = |entries: Vec<&Entry>| {
        entries.into_iter().flat_map(right).collect::<Vec<String>>().join("\n")
    };
    let (sections, others) = (lines(sections), lines(others));
    accepted(&format!("{others}\n<Directory /srv>\n{sections}\n</Directory>"));
}

#[test]
fn wrong_arguments_are_told() {
    let mut faults = Vec::new();
    for (name, _, wrong) in TABLE {
        for (arguments, part) in *wrong {
            let line = format!("{name} {arguments}");
            let only_in_sections = Entry::find(name).unwrap().scope == Scope::Dir;
            let lines = match only_in_sections {
                true => format!("<Directory /srv>\n{line}\n</Directory>"),
                false => line.clone(),
            };
            let output = Site::configtest(&lines);
            let text = tools::both(&output);
            let told = text.contains(name.trim_start_matches('<')) && text.contains(part);
            if output.status.success() || !told || !text.contains("Syntax error on line") {
                faults.push(format!("{line}: '{part}' is not in: {text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn directives_stand_where_they_may() {
    let mut faults = Vec::new();
    for entry in CATALOGUE {
        let Some(line) = right(entry).pop() else { continue };
        let in_host = format!("<VirtualHost 127.0.0.1:1>\n{line}\n</VirtualHost>");
        let in_directory = format!("<Directory /srv>\n{line}\n</Directory>");
        let in_location = format!("<Location /x>\n{line}\n</Location>");
        let in_files = format!("<Files x>\n{line}\n</Files>");
        let (host, directory) = match entry.scope {
            Scope::Global => (false, false),
            Scope::Server => (true, false),
            Scope::ServerDir | Scope::ServerDirHtaccess | Scope::ServerDirAuth => (true, true),
            Scope::Dir => (false, true),
        };
        for (lines, allowed) in [
            (line, entry.scope != Scope::Dir),
            (in_host, host),
            (in_directory, directory),
            (in_location, directory),
            (in_files, directory),
        ] {
            let output = Site::configtest(&lines);
            let text = tools::both(&output);
            let said = ["not allowed here", "not allowed in", "cannot occur within"];
            let said = said.iter().any(|words| text.contains(words));
            if output.status.success() != allowed || !allowed && !said {
                faults.push(format!("{lines}\n{text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn htaccess_files_hold_what_they_may() {
    let mut site = Site::new("htaccess");
    let mut expected = Vec::new();
    for class in ["FileInfo", "AuthConfig", "Options Indexes Limit"] {
        for entry in CATALOGUE {
            let Some(line) = right(entry).pop() else { continue };
            let folder = format!("{}-{}", class.replace(' ', ""), entry.name.replace('<', ""));
            site = site
                .file(&format!("htdocs/{folder}/file"), "served")
                .file(&format!("htdocs/{folder}/.htaccess"), line)
                .conf(&format!("<Directory \"@root@/htdocs/{folder}\">\nAllowOverride {class}"))
                .conf("</Directory>");
            let allowed = matches!(
                (entry.scope, class),
                (Scope::ServerDirHtaccess, "FileInfo")
                    | (Scope::ServerDirAuth | Scope::Dir, "AuthConfig")
            );
            expected.push((folder, allowed));
        }
    }
    let server = site.start();
    server.allow_log("not allowed here");
    server.allow_log("/srv/asked.py cannot be read");
    for (folder, allowed) in expected {
        let reply = server.get(&format!("/{folder}/file"));
        let status = match allowed {
            false => 500,
            // Its script is asked, and does not exist.
            true if folder.ends_with("WSGIAccessScript") => 403,
            true => 200,
        };
        assert_eq!(reply.status, status, "{folder}");
    }
}

/// Says which application group and callable it runs by.
const SHOWING: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    return [environ["mod_wsgi.application_group"].encode()]
"#;

both_modes!(nearest_context_wins, |site| {
    let server = site
        .file("apps/show.py", SHOWING)
        .conf("WSGIApplicationGroup main")
        .conf("WSGIScriptAlias / @apps@/show.py")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName plain\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName host\nWSGIApplicationGroup host")
        .conf("<Location /in>\nWSGIApplicationGroup in\n</Location>")
        .conf("<Location /in/side>\nWSGIApplicationGroup inside\n</Location>")
        .conf("<Location /in/other>\nWSGIScriptReloading Off\n</Location>\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName slash\nWSGIApplicationGroup host")
        .conf("<Location />\nWSGIApplicationGroup slash\n</Location>\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName twice\nWSGIApplicationGroup one")
        .conf("WSGIApplicationGroup two\n</VirtualHost>")
        .start();
    for (host, target, group) in [
        ("plain", "/", "main"),
        ("host", "/", "host"),
        ("host", "/in", "in"),
        ("host", "/in/side/x", "inside"),
        ("host", "/in/other", "in"),
        ("slash", "/", "slash"),
        ("twice", "/", "two"),
    ] {
        let mut client = server.client();
        client.host(host);
        assert_eq!(client.get(target).expect(200).text(), group, "{host}{target}");
    }
});

#[test]
fn module_is_known_by_both_names() {
    accepted("<IfModule !mod_wsgi.c>\nNonsense\n</IfModule>");
    accepted("<IfModule !wsgi_module>\nNonsense\n</IfModule>");
    for name in ["mod_wsgi.c", "wsgi_module"] {
        let text = refused(&format!("<IfModule {name}>\nNonsense\n</IfModule>"));
        assert!(text.contains("Nonsense"), "{text}");
    }
}

#[test]
fn banner_names_the_module_and_its_python() {
    let server = Site::new("banner").app("hello.py").start();
    let reply = server.get("/").expect(200);
    let banner = reply.header("Server").expect("a header Server").to_owned();
    let (major, minor) = pythons::default().expect("a usable Python").version;
    assert!(banner.contains("mod_wsgi_rs/7.0.0"), "{banner}");
    assert!(banner.contains(&format!("Python/{major}.{minor}")), "{banner}");
    drop(server);
    let server = Site::new("banner").app("hello.py").conf("ServerTokens Prod").start();
    assert_eq!(server.get("/").expect(200).header("Server"), Some("Apache"));
}

#[test]
fn directive_without_effect_is_told() {
    let server = Site::new("verbose").app("hello.py").conf("WSGIVerboseDebugging On").start();
    server.get("/").expect(200);
    let line = server.expect_log("WSGIVerboseDebugging");
    assert!(line.contains("LogLevel"), "{line}");
}

#[test]
fn directives_that_do_nothing_say_what_to_do_instead() {
    let server = Site::new("idle")
        .app("hello.py")
        .conf("WSGIPassApacheRequest On\nWSGITelemetryService unix:@root@/run/telemetry")
        .conf("WSGITelemetryOptions All\nWSGISlowRequests 1\nWSGILazyInitialization Off")
        .conf("<Location />\nWSGIGroupAuthoritative Off\n</Location>")
        .start();
    server.get("/").expect(200);
    for (name, instead) in [
        ("WSGIPassApacheRequest", "environ"),
        ("WSGITelemetryService", "metrics functions"),
        ("WSGITelemetryOptions", "metrics functions"),
        ("WSGISlowRequests", "access log"),
        ("WSGIGroupAuthoritative", "<RequireAny>"),
        ("WSGILazyInitialization", "never starts Python"),
    ] {
        let line = server.expect_log(&format!("{name} does nothing"));
        assert!(line.contains(instead), "{line}");
    }
}

#[test]
fn a_test_of_the_configuration_tells_what_it_comes_to() {
    let site = Site::new("dump")
        .conf("WSGIDaemonProcess blog threads=4 env=SECRET=s3cret")
        .conf("WSGIScriptAlias /blog @apps@/hello.py process-group=blog")
        .conf("WSGIScriptAlias /own @apps@/hello.py application-group=%{GLOBAL}");
    let output = site.check_with(&["-D", "DUMP_WSGI"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", tools::both(&output));
    for line in [
        "httpd's own processes\n",
        "process group blog (",
        " threads=4 ",
        "\n/blog -> ",
        "    process group: blog\n",
        "\n/own -> ",
        "    interpreter: the main interpreter\n",
        "    application: application\n",
        "WSGIScriptReloading On",
    ] {
        assert!(told.contains(line), "no '{line}' in\n{told}");
    }
    assert!(told.matches("    Python: /").count() == 4, "{told}");
    assert!(!told.contains("s3cret"), "{told}");
    let plain = String::from_utf8_lossy(&site.check().stdout).into_owned();
    assert!(!plain.contains("process group"), "{plain}");
}

/// Makes a home for `WSGIPythonHome`; returns what to write there and what is to be said of it.
type Broken = (&'static str, fn(&Path) -> (String, String));

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Files that look like those of a Python of this version, but for its shared library.
fn pretend(home: &Path, version: &str) {
    let library = home.join(format!("lib/python{version}"));
    fs::create_dir_all(home.join("bin")).expect("make a directory");
    fs::create_dir_all(library.join("encodings")).expect("make a directory");
    fs::write(library.join("os.py"), "").expect("write a file");
    fs::write(library.join("encodings/__init__.py"), "").expect("write a file");
    let program = home.join(format!("bin/python{version}"));
    fs::write(&program, "#!/bin/sh\n").expect("write a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set a mode");
    symlink(format!("python{version}"), home.join("bin/python3")).expect("make a link");
}

const BROKEN: &[Broken] = &[
    ("missing", |root| {
        let home = root.join("missing");
        (text(&home), text(&home))
    }),
    ("missing-inside", |root| {
        let first = root.join("absent");
        (text(&first.join("deep/inside")), format!("{} ", text(&first)))
    }),
    ("a-file", |root| {
        let file = root.join("a-file");
        fs::write(&file, "no Python").expect("write a file");
        (text(&file), text(&file))
    }),
    ("below-a-file", |root| {
        let file = root.join("a-file");
        fs::write(&file, "no Python").expect("write a file");
        (text(&file.join("home")), text(&file))
    }),
    ("empty-directory", |root| {
        let home = root.join("empty");
        fs::create_dir(&home).expect("make a directory");
        (text(&home), text(&home))
    }),
    ("no-interpreter", |root| {
        let home = root.join("no-interpreter");
        fs::create_dir_all(home.join("bin")).expect("make a directory");
        (text(&home), text(&home.join("bin")))
    }),
    ("environment-without-python", |root| {
        let home = root.join("environment");
        fs::create_dir_all(home.join("bin")).expect("make a directory");
        fs::write(home.join("pyvenv.cfg"), "home = /nowhere/bin\nversion = 3.11.2\n")
            .expect("write a file");
        symlink("/nowhere/bin/python3.11", home.join("bin/python3.11")).expect("make a link");
        symlink("python3.11", home.join("bin/python")).expect("make a link");
        (text(&home), text(&home.join("bin/python")))
    }),
    ("no-shared-library", |root| {
        let home = root.join("static");
        pretend(&home, "3.11");
        (text(&home), "libpython3.11".to_owned())
    }),
    ("no-standard-library", |root| {
        let home = root.join("stripped");
        pretend(&home, "3.11");
        fs::remove_dir_all(home.join("lib")).expect("remove a directory");
        (text(&home), "encodings".to_owned())
    }),
    ("too-old", |root| {
        let home = root.join("old");
        pretend(&home, "3.8");
        (text(&home), "3.8".to_owned())
    }),
    ("relative", |_| ("opt/python".to_owned(), "opt/python".to_owned())),
];

/// A broken home in a directory of its own, which is to be kept as long as it is used.
fn broken(make: fn(&Path) -> (String, String)) -> (tempfile::TempDir, String, String) {
    let root = tempfile::Builder::new().prefix("wsgi-home-").tempdir().expect("a directory");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("set a mode");
    let (home, said) = make(root.path());
    (root, home, said)
}

#[test]
fn broken_homes_fail_the_configtest() {
    for (name, make) in BROKEN {
        let (_root, home, said) = broken(*make);
        let conf = format!("WSGIPythonHome \"{home}\"\nWSGIScriptAlias / /srv/app.py");
        let output = Site::configtest(&conf);
        let text = tools::both(&output);
        assert!(!output.status.success(), "{name}: {text}");
        let told: Vec<&str> = text.lines().filter(|line| line.contains("WSGIPythonHome")).collect();
        assert_eq!(told.len(), 1, "{name} is not said in one line: {text}");
        assert!(told[0].contains(&said), "{name}: '{said}' is not in: {}", told[0]);
        assert!(told[0].contains("httpd.conf"), "{name}: the place is not in: {}", told[0]);
    }
}

/// Applications answer 500 and say why; files are served.
#[track_caller]
fn serves_only_files(site: Site, said: &str) {
    let server = site.mount("/app", "hello.py", "").file("htdocs/file.txt", "served").start();
    server.allow_log(said);
    for _ in 0..2 {
        let reply = server.get("/app").expect(500);
        assert!(!reply.text().contains(said), "{}", reply.text());
        assert_eq!(server.get("/file.txt").expect(200).text(), "served");
    }
    server.expect_log(said);
}

#[test]
fn broken_homes_leave_the_rest_of_the_server() {
    for (name, make) in BROKEN {
        let (_root, home, said) = broken(*make);
        let conf = format!("WSGIPythonHome \"{home}\"");
        serves_only_files(Site::new(name).conf(&conf), &said);
    }
}

#[test]
fn home_that_is_closed_to_httpds_user_is_told() {
    if !site::is_root() {
        skip("only root can take rights away from the user httpd runs as");
        return;
    }
    let python = pythons::default().expect("a usable Python");
    let (root, home, _) = broken(|root| {
        let home = root.join("closed/inner");
        fs::create_dir_all(&home).expect("make a directory");
        (text(&home), String::new())
    });
    let made =
        tools::run(&python.executable.to_string_lossy(), &["-m", "venv", "--without-pip", &home]);
    assert_eq!(made, "");
    let closed = root.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("set a mode");
    let conf = format!("WSGIPythonHome \"{home}\"\nWSGIScriptAlias / /srv/app.py");
    let said = refused_as_user(&conf);
    assert!(said.contains(&format!("{} ", closed.display())), "{said}");
    serves_only_files(
        Site::new("closed").conf(&format!("WSGIPythonHome \"{home}\"")),
        &text(&closed),
    );

    // The same home, open again, is all right.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("set a mode");
    let server =
        Site::new("open").app("hello.py").conf(&format!("WSGIPythonHome \"{home}\"")).start();
    server.get("/").expect(200);
}

/// What the configuration test says of a home that httpd's user cannot use.
#[track_caller]
fn refused_as_user(conf: &str) -> String {
    let output = Site::configtest(conf);
    let text = tools::both(&output);
    assert!(!output.status.success(), "{text}");
    let line = text.lines().find(|line| line.contains("WSGIPythonHome"));
    line.unwrap_or_else(|| panic!("WSGIPythonHome is not named: {text}")).to_owned()
}

#[test]
fn unused_broken_home_is_told_as_well() {
    let text = refused("WSGIPythonHome /no/such/home");
    assert!(text.contains("WSGIPythonHome"), "{text}");
}

#[test]
fn homes_of_every_kind_are_taken() {
    let python = pythons::default().expect("a usable Python");
    for home in [&python.prefix, &python.executable] {
        let conf = format!("WSGIPythonHome \"{}\"", home.display());
        accepted(&conf);
        let server = Site::new("home").app("hello.py").conf(&conf).start();
        server.get("/").expect(200);
    }
}

/// Whether a process has a Python in its memory.
fn has_python(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read /proc");
    maps.lines().any(|line| line.contains("libpython"))
}

#[track_caller]
fn no_child_has_python(server: &Server) {
    let children = server.children();
    assert!(!children.is_empty());
    for child in children {
        assert!(!has_python(child), "child {child} has a Python");
    }
}

#[test]
fn parent_never_opens_python() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let server = Site::new("parent")
            .mpm(mpm)
            .app("hello.py")
            .conf("WSGIImportScript @apps@/hello.py process-group=%{GLOBAL} application-group=a")
            .start();
        server.get("/").expect(200);
        assert!(!has_python(server.pid()));
        assert!(server.children().into_iter().any(has_python));
        server.graceful();
        server.get("/").expect(200);
        assert!(!has_python(server.pid()));
    }
}

#[test]
fn unused_module_opens_no_python() {
    let server = Site::new("unused").file("htdocs/file.txt", "served").start();
    server.get("/file.txt").expect(200);
    no_child_has_python(&server);
}

#[test]
fn script_without_a_mount_opens_python_when_asked_for() {
    let server = Site::new("handler")
        .file("htdocs/file.txt", "served")
        .file("htdocs/app.wsgi", include_str!("apps/hello.py"))
        .conf("<Directory \"@root@/htdocs\">\nOptions ExecCGI\nAddHandler wsgi-script .wsgi")
        .conf("</Directory>")
        .start();
    server.get("/file.txt").expect(200);
    no_child_has_python(&server);
    assert_eq!(server.get("/app.wsgi").expect(200).text(), "hello\n");
    assert!(server.children().into_iter().any(has_python));
    assert!(!has_python(server.pid()));
}

#[test]
fn restricted_embedded_mode_opens_no_python() {
    let server = Site::new("restricted")
        .mount("/app", "hello.py", "")
        .file("htdocs/file.txt", "served")
        .conf("WSGIRestrictEmbedded On")
        .start();
    server.get("/app").expect(500);
    server.expect_log("WSGIRestrictEmbedded");
    assert_eq!(server.get("/file.txt").expect(200).text(), "served");
    no_child_has_python(&server);
}

/// A line about a daemon group with what this machine has of users, Pythons and files.
fn on_this_machine(line: &str, python: &pythons::Python) -> String {
    let word = |word: &str| match word.split_once('=') {
        Some(("user", _)) => {
            format!("user={}", site::httpd_user().unwrap_or_else(|| "nobody".to_owned()))
        }
        Some(("group", _)) => "group=#1".to_owned(),
        Some(("python-home", _)) => format!("python-home=\"{}\"", python.prefix.display()),
        Some(("env-file", _)) => "env-file=/dev/null".to_owned(),
        _ => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<String>>().join(" ")
}

#[test]
fn example_configurations_are_right() {
    let folder = site::manifest().join("apache-conf");
    let python = pythons::default().expect("a usable Python");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("read apache-conf").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("read a file");
        let comments = text.lines().take(2).filter(|line| line.starts_with("# ")).count();
        assert_eq!(comments, 2, "{name} does not begin by saying when to use it");
        let mut lines = Vec::new();
        for line in text.lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let directive = line.split_whitespace().next().unwrap_or_default();
            if line.contains("python-home=") || line.contains("env-file=") {
                lines.push(on_this_machine(line, &python));
                continue;
            }
            lines.push(match directive {
                "LoadModule" if line.contains("wsgi_module") => {
                    assert!(line.contains("mod_wsgi_rs.so"), "{name}: {line}");
                    format!("LoadModule wsgi_module \"{}\"", site::module_file().display())
                }
                "WSGIPythonHome" => format!("{indent}{directive} \"{}\"", python.prefix.display()),
                "ErrorLog" | "CustomLog" => format!("{indent}ErrorLog logs/example-error.log"),
                "SSLCertificateFile" => format!("{indent}{directive} \"@root@/cert.pem\""),
                "SSLCertificateKeyFile" => format!("{indent}{directive} \"@root@/key.pem\""),
                _ => line.to_owned(),
            });
        }
        let mut site = Site::new(&name).module("alias").tls().http2().conf(&lines.join("\n"));
        if text.contains("LoadModule wsgi_module") {
            site = site.without_module();
        }
        let output = site.check();
        assert!(output.status.success(), "{name}: {}", tools::both(&output));
        seen += 1;
    }
    assert!(seen > 0, "nothing in {}", folder.display());
}
