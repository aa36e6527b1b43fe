//! Real applications from PyPI behind the module, driven by real clients: Django with its admin, Flask,
//! CherryPy and web.py; over HTTP/1.1, TLS and HTTP/2.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{Server, Site, both_modes, site, tools};

/// The virtual environment that applications and clients come from.
fn venv() -> PathBuf {
    let place = site::manifest().join("build/venv");
    assert!(
        place.join(".stamp").exists(),
        "{} is missing or half made: run scripts/test-venv.sh",
        place.display()
    );
    // The link that stands there where httpd's user cannot enter the repository.
    place.canonicalize().expect("the real place of build/venv")
}

/// A site that runs Python from the virtual environment, with a folder of `tests/sites` in it.
fn site_with(site: Site, folders: &[&str]) -> Site {
    let mut site = site
        .tls()
        .http2()
        .conf(&format!("WSGIPythonHome \"{}\"", venv().display()))
        .conf("<Directory \"@root@/sites\">\nRequire all granted\n</Directory>");
    for folder in folders {
        let from = site::manifest().join("tests/sites").join(folder);
        for file in files_below(&from) {
            let inside = file.strip_prefix(&from).expect("a file below its folder");
            let content = fs::read(&file).expect("read a file of the site");
            site = site.file(&format!("sites/{folder}/{}", inside.display()), content);
        }
    }
    site
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("read a folder of the site").flatten();
    let mut files = Vec::new();
    for entry in entries.filter(|entry| entry.file_name() != "__pycache__") {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// The processes that serve: httpd's children, and daemons.
fn processes(server: &Server) -> Vec<u32> {
    [server.children(), server.daemons()].concat()
}

/// What a client speaks.
#[derive(Clone, Copy)]
enum Speaks {
    /// HTTP/1.1 in the clear, by requests.
    Plain,
    /// HTTP/1.1 over TLS, by requests.
    Tls,
    /// HTTP/2 over TLS, by httpx.
    Http2,
}

const EVERY: [Speaks; 3] = [Speaks::Plain, Speaks::Tls, Speaks::Http2];

/// Starts one of `tests/clients` against what is mounted at `mount`.
fn client(server: &Server, script: &str, mount: &str, speaks: Speaks) -> Child {
    let cafile = server.path("cert.pem").into_os_string();
    let (base, kind, cafile) = match speaks {
        Speaks::Plain => (server.url(mount), "requests", OsStr::new("-")),
        Speaks::Tls => (server.tls_url(mount), "requests", cafile.as_os_str()),
        Speaks::Http2 => (server.tls_url(mount), "http2", cafile.as_os_str()),
    };
    Command::new(venv().join("bin/python"))
        .arg("-B")
        .arg(site::manifest().join("tests/clients").join(script))
        .args([OsStr::new(&base), OsStr::new(kind), cafile])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a client")
}

/// Waits for a client and fails with what it wrote, unless it says that all was right.
#[track_caller]
fn all_right(script: &str, client: Child) {
    let output = client.wait_with_output().expect("wait for a client");
    let text = tools::both(&output);
    assert!(output.status.success() && text.ends_with("all right\n"), "{script}:\n{text}");
}

#[track_caller]
fn drive(server: &Server, script: &str, mount: &str, speaks: Speaks) {
    all_right(script, client(server, script, mount, speaks));
}

/// Mounts `tests/sites/django` at `/`, its static files beside it.
fn with_django(site: Site) -> Site {
    site.module("alias")
        // What WSGIPythonPath is to httpd's own processes.
        .group("python-path=@root@/sites/django")
        .mount("/", "@root@/sites/django/project/wsgi.py", "")
        .conf(
            "WSGIPythonPath \"@root@/sites/django\"\n\
             Alias /static/ \"@root@/sites/django/data/static/\"\n\
             AddType text/css .css\n",
        )
        .file("sites/django/data/media/.keep", "")
}

/// Makes Django's database, its superuser and its static files, as whoever installs a site does.
fn install_django(server: &Server) {
    let python = venv().join("bin/python");
    let manage = |arguments: &[&str]| {
        let output = Command::new(&python)
            .arg("manage.py")
            .args(arguments)
            .current_dir(server.path("sites/django"))
            .env("DJANGO_SUPERUSER_PASSWORD", "correct horse")
            .output()
            .expect("run manage.py");
        assert!(output.status.success(), "manage.py {arguments:?}:\n{}", tools::both(&output));
    };
    manage(&["migrate", "--verbosity=0"]);
    manage(&["createsuperuser", "--noinput", "--username=admin", "--email=admin@localhost"]);
    manage(&["collectstatic", "--noinput", "--verbosity=0"]);
    give_away(&server.path("sites/django/data"));
}

/// Database and uploads belong to the user that httpd's children run as.
fn give_away(folder: &Path) {
    if let (true, Some(user)) = (site::is_root(), site::httpd_user()) {
        tools::run("chown", &["-R", &user, &folder.to_string_lossy()]);
    }
}

/// The log after the Django client: one view raised, one stream broke.
fn django_complaints(server: &Server) {
    server.expect_log("ZeroDivisionError: django view broke");
    server.expect_log("ArithmeticError: django stream broke");
}

fn django(site: Site, speaks: Speaks) {
    let server = with_django(site_with(site, &["django"])).start();
    install_django(&server);
    let before = processes(&server);
    drive(&server, "django_site.py", "", speaks);
    django_complaints(&server);
    assert_eq!(processes(&server), before, "the processes that serve");
}

both_modes!(django_over_http_1_1, |site| django(site, Speaks::Plain));

both_modes!(django_over_tls, |site| django(site, Speaks::Tls));

both_modes!(django_over_http_2, |site| django(site, Speaks::Http2));

/// A framework of one file, mounted below `/` and driven over every protocol in turn.
fn small(site: Site, name: &str, complaint: &str) {
    let mount = format!("/{name}");
    let server = site_with(site, &[name])
        .mount(&mount, &format!("@root@/sites/{name}/site.wsgi"), "")
        .conf("WSGIChunkedRequest On")
        .start();
    let before = processes(&server);
    for speaks in EVERY {
        drive(&server, &format!("{name}_site.py"), &mount, speaks);
    }
    server.expect_log(complaint);
    assert_eq!(processes(&server), before, "the processes that serve");
}

both_modes!(flask, |site| small(site, "flask", "ZeroDivisionError: flask view broke"));

both_modes!(cherrypy, |site| small(site, "cherrypy", "cherrypy handler is about to break"));

both_modes!(webpy, |site| small(site, "webpy", "ZeroDivisionError: web.py handler broke"));

// All of them in one server, each in an interpreter of its own, with all clients at once.
both_modes!(all_applications_side_by_side, |site| {
    let small = ["flask", "cherrypy", "webpy"];
    let mut site = with_django(site_with(site, &["django", "flask", "cherrypy", "webpy"]))
        .conf("WSGIChunkedRequest On");
    for name in small {
        site = site.mount(&format!("/{name}"), &format!("@root@/sites/{name}/site.wsgi"), "");
    }
    let server = site.start();
    install_django(&server);
    let before = processes(&server);
    for speaks in EVERY {
        let mut clients =
            vec![("django_site.py".to_owned(), client(&server, "django_site.py", "", speaks))];
        for name in small {
            let script = format!("{name}_site.py");
            let started = client(&server, &script, &format!("/{name}"), speaks);
            clients.push((script, started));
        }
        for (script, started) in clients {
            all_right(&script, started);
        }
    }
    django_complaints(&server);
    server.expect_log("ZeroDivisionError: flask view broke");
    server.expect_log("cherrypy handler is about to break");
    server.expect_log("ZeroDivisionError: web.py handler broke");
    let now = processes(&server);
    assert!(before.iter().all(|pid| now.contains(pid)), "of {before:?} are left {now:?}");
});
