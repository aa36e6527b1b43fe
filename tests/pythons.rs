//! One module file, every CPython: the same `.so` starts each interpreter that this machine has, with and
//! without a GIL, and refuses in one clear line what it cannot start.
//!
//! `scripts/test-pythons.sh` puts interpreters into `build/pythons`; the system's own is always taken.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use harness::{DEADLINE, Mpm, Python, Server, Site, both_modes, pythons, site, tools, wait_for};

const GRID: &str = include_str!("grid/grid.py");
const EXTENSIONS: &str = include_str!("grid/extensions.py");
const TOGETHER: &str = include_str!("grid/together.py");
const SCIENTIFIC: &str = include_str!("grid/scientific.py");

/// A site for one Python, with the grid's applications in its server root, run as in another site.
fn grid(mode: &Site, name: &str, python: &Python) -> Site {
    let site = Site::new(&format!("{name}-{}", python.name()));
    let site = if mode.is_daemon() { site.daemon() } else { site };
    site.python(python)
        .conf("<Directory \"@root@/grid\">\nRequire all granted\n</Directory>")
        .file("grid/grid.py", GRID)
        .file("grid/extensions.py", EXTENSIONS)
        .file("grid/together.py", TOGETHER)
}

/// Every Python of this machine. Without the script that gathers them the grid would be a row of one.
fn every() -> &'static [Python] {
    let gathered = site::manifest().join("build/pythons");
    assert!(gathered.is_dir(), "{} is missing: run scripts/test-pythons.sh", gathered.display());
    let all = pythons::all();
    assert!(
        !all.is_empty(),
        "there is no Python that can be used: run scripts/install-deps.sh test"
    );
    all
}

/// Does the same with every one of these, and tells which ones failed.
fn with_each<'a>(chosen: impl IntoIterator<Item = &'a Python>, part: impl Fn(&Python)) {
    let mut failed = String::new();
    for python in chosen {
        println!("---- {} in {}", python.name(), python.prefix.display());
        if catch_unwind(AssertUnwindSafe(|| part(python))).is_err() {
            let _ = writeln!(failed, "{} in {}", python.name(), python.prefix.display());
        }
    }
    assert!(failed.is_empty(), "failed with:\n{failed}");
}

/// The free-threaded Python, or `None` where the script has said that there can be none.
fn free_threaded() -> Option<&'static Python> {
    let found = every().iter().find(|python| python.free_threaded);
    if found.is_none() {
        let reason = site::manifest().join("build/pythons/3.13t.skipped");
        let reason = fs::read_to_string(reason).expect(
            "a free-threaded Python, or the reason why there is none: run scripts/test-pythons.sh",
        );
        println!("SKIPPED, there is no free-threaded Python: {reason}");
    }
    found
}

/// Asks many times on several connections at once, in both interpreters; every answer is its own request's.
fn many_requests(server: &Server, python: &Python) {
    let version = format!("{}.{}", python.version.0, python.version.1);
    thread::scope(|scope| {
        for number in 0..6 {
            let version = &version;
            scope.spawn(move || {
                let mut client = server.client();
                for turn in 0..20 {
                    let token = format!("{number}-{turn}");
                    let (mount, group) =
                        if (number + turn) % 2 == 0 { ("main", "") } else { ("sub", "grid") };
                    let target = format!("/{mount}/caf%C3%A9?{token}");
                    let reply = client.post(&target, token.as_bytes()).expect(200);
                    assert_eq!(reply.value("token"), token);
                    assert_eq!(reply.value("input"), token);
                    assert_eq!(reply.value("group"), group);
                    assert_eq!(&reply.value("version"), version);
                    assert_eq!(reply.value("threads"), "True");
                }
            });
        }
    });
}

fn serves(mode: &Site, python: &Python, mpm: Mpm) {
    let mut server = grid(mode, "grid", python)
        .mpm(mpm)
        .mount("/main", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
        .mount("/sub", "@root@/grid/grid.py", "application-group=grid")
        .start();
    let children = server.children();
    let reply = server.client().request("POST", "/main/caf%C3%A9?first", &[], b"body").expect(200);
    assert_eq!(reply.value("prefix"), python.prefix.to_string_lossy(), "sys.prefix");
    assert!(
        Path::new(&reply.value("executable")).starts_with(python.prefix.join("bin")),
        "sys.executable: {}",
        reply.value("executable")
    );
    assert_eq!(reply.value("info"), "/caf\u{e9}");
    assert_eq!(reply.value("argv"), "['mod_wsgi']");
    for fact in ["str", "path", "served"] {
        assert_eq!(reply.value(fact), "True", "{fact}");
    }
    assert_eq!(reply.value("free"), if python.free_threaded { "True" } else { "False" });
    // Without WSGIFreeThreading there is a GIL, whatever the build.
    assert_eq!(reply.value("gil"), "True");

    many_requests(&server, python);
    if mpm != Mpm::Prefork {
        let now = server.children();
        assert!(
            children.iter().all(|child| now.contains(child)),
            "of {children:?} are left {now:?}"
        );
    }

    server.stop();
    let left = server.read("scratch/atexit");
    for line in ["left \n", "left grid\n"] {
        assert!(left.contains(line), "{line:?} is not among what ran at exit: {left:?}");
    }
}

both_modes!(every_python_serves, |site| {
    with_each(every(), |python| serves(&site, python, Mpm::Event));
});

// One process for each connection: interpreters start in each, and each exits.
both_modes!(the_oldest_and_the_newest_python_serve_with_prefork, |site| {
    let oldest = every().iter().min_by_key(|python| python.version);
    let newest = every().iter().max_by_key(|python| python.version);
    with_each(oldest.into_iter().chain(newest), |python| serves(&site, python, Mpm::Prefork));
});

// Virtual environments are entered: `sys.prefix` is theirs, the standard library that of their Python.
both_modes!(a_virtual_environment_is_entered, |site| {
    let environments = || every().iter().filter(|python| python.prefix.join("pyvenv.cfg").exists());
    if every().len() > 1 {
        assert!(environments().next().is_some(), "build/pythons has no virtual environment");
    }
    with_each(environments(), |python| {
        let server = grid(&site, "venv", python)
            .mount("/", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
            .start();
        let reply = server.get("/").expect(200);
        assert_eq!(reply.value("prefix"), python.prefix.to_string_lossy());
        assert_ne!(reply.value("base"), reply.value("prefix"), "sys.base_prefix");
    });
});

// `WSGIPythonHome` may name the interpreter itself.
both_modes!(the_home_may_be_an_interpreter, |site| {
    with_each(every(), |python| {
        let python = Python { home: Some(python.executable.clone()), ..python.clone() };
        let server = grid(&site, "program", &python)
            .mount("/", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
            .start();
        let reply = server.get("/").expect(200);
        assert_eq!(reply.value("prefix"), python.prefix.to_string_lossy());
    });
});

// Extension modules look for libpython's symbols among those that are globally visible.
both_modes!(extension_modules_find_libpython, |site| {
    with_each(every(), |python| {
        let server = grid(&site, "extensions", python)
            .mount("/main", "@root@/grid/extensions.py", "application-group=%{GLOBAL}")
            .mount("/sub", "@root@/grid/extensions.py", "application-group=grid")
            .start();
        for mount in ["/main", "/sub"] {
            let reply = server.get(mount).expect(200);
            for module in ["ctypes", "decimal", "hashlib", "sqlite3"] {
                assert_eq!(reply.value(module), "True", "{module} at {mount}");
            }
            println!("not built into this Python: {}", reply.value("missing"));
        }
    });
});

both_modes!(numpy_works_in_the_main_interpreter, |site| {
    let home = site::manifest().join("build/venv");
    assert!(home.join(".stamp").exists(), "build/venv is missing: run scripts/test-venv.sh");
    let home = home.canonicalize().expect("the real place of build/venv");
    let python =
        Python::probe(&home.join("bin/python3"), Some(home)).expect("the test environment");
    let library =
        format!("lib/python{}.{}/site-packages/numpy", python.version.0, python.version.1);
    if !python.prefix.join(library).exists() {
        // tests/sites/requirements.txt asks for it where there is a build of it.
        assert!(python.version >= (3, 14), "build/venv is without numpy: run scripts/test-venv.sh");
        println!("SKIPPED: no numpy for Python {}", python.name());
        return;
    }
    let server = grid(&site, "numpy", &python)
        .file("grid/scientific.py", SCIENTIFIC)
        .mount("/", "@root@/grid/scientific.py", "application-group=%{GLOBAL}")
        .start();
    let mut client = server.client();
    for _ in 0..3 {
        let reply = client.get("/").expect(200);
        assert_eq!(reply.value("product"), "[[3.0, 3.0], [12.0, 12.0]]");
    }
});

/// Has one request spin in Python code and another one end it: only possible where both run at once.
fn run_together(server: &Server, waits: &str, signals: &str) {
    let mut waiting = server.client();
    waiting.send_request("GET", &format!("{waits}?wait"), &[], b"");
    let mut client = server.client();
    let spins = wait_for(DEADLINE, || {
        let reply = client.get(&format!("{signals}?spins")).expect(200);
        (reply.value("spins") == "1").then_some(())
    });
    assert!(spins.is_some(), "the first request does not run");
    client.get(&format!("{signals}?signal")).expect(200);
    let reply = waiting.read_response().expect(200);
    assert_eq!(reply.value("signalled"), "1");
}

// Since Python 3.12 sub-interpreters can each have a GIL of their own.
both_modes!(interpreters_with_a_gil_of_their_own_run_at_once, |site| {
    let able = |python: &&Python| python.version >= (3, 12) && !python.free_threaded;
    with_each(every().iter().filter(able), |python| {
        let mut server = grid(&site, "own-gil", python)
            .conf("WSGIPerInterpreterGIL On")
            .mount("/one", "@root@/grid/together.py", "application-group=one")
            .mount("/two", "@root@/grid/together.py", "application-group=two")
            .mount("/main", "@root@/grid/together.py", "application-group=%{GLOBAL}")
            .mount("/grid", "@root@/grid/grid.py", "application-group=three")
            .start();
        run_together(&server, "/one", "/two");
        fs::write(server.path("scratch/shared"), b"\0\0").expect("set the shared bytes back");
        run_together(&server, "/two", "/main");
        let reply = server.client().post("/grid?token", b"body").expect(200);
        assert_eq!(reply.value("threads"), "True");
        assert_eq!(reply.value("input"), "body");
        server.stop();
        assert!(server.read("scratch/atexit").contains("left three\n"), "what runs at exit");
    });
});

// Older ones have none: the directive is said to be without effect, and all is served.
both_modes!(a_python_without_own_gils_says_so, |site| {
    let unable = |python: &&Python| python.version < (3, 12);
    with_each(every().iter().filter(unable), |python| {
        let server = grid(&site, "no-own-gil", python)
            .conf("WSGIPerInterpreterGIL On")
            .mount("/", "@root@/grid/grid.py", "application-group=one")
            .start();
        server.get("/").expect(200);
        server.expect_log("WSGIPerInterpreterGIL");
    });
});

both_modes!(free_threading_runs_without_a_gil, |site| {
    let Some(python) = free_threaded() else { return };
    let mut server = grid(&site, "free-threading", python)
        .conf("WSGIFreeThreading On")
        .mount("/together", "@root@/grid/together.py", "application-group=%{GLOBAL}")
        .mount("/main", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
        .mount("/sub", "@root@/grid/grid.py", "application-group=grid")
        .start();
    for mount in ["/main", "/sub"] {
        let reply = server.get(mount).expect(200);
        assert_eq!(reply.value("free"), "True");
        // Python has the GIL for as long as it loads an extension module, as another script may just be doing.
        let free = wait_for(DEADLINE, || {
            (server.get(mount).expect(200).value("gil") == "False").then_some(())
        });
        assert!(free.is_some(), "sys._is_gil_enabled() at {mount}");
    }
    // Or else threads that compute wait for each other at the counts of what is written in the script. In
    // sub-interpreters Python counts it all the same.
    assert_eq!(server.get("/main").expect(200).value("uncounted"), "True");
    run_together(&server, "/together", "/together");
    many_requests(&server, python);
    assert_eq!(server.get("/main").expect(200).value("gil"), "False", "after all that");
    server.stop();
    assert!(server.read("scratch/atexit").contains("left grid\n"), "what runs at exit");
});

both_modes!(free_threading_off_keeps_the_gil, |site| {
    let Some(python) = free_threaded() else { return };
    for line in ["", "WSGIFreeThreading Off"] {
        let server = grid(&site, "with-gil", python)
            .conf(line)
            .mount("/main", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
            .mount("/sub", "@root@/grid/grid.py", "application-group=grid")
            .start();
        for mount in ["/main", "/sub"] {
            let reply = server.get(mount).expect(200);
            assert_eq!(reply.value("free"), "True");
            assert_eq!(reply.value("gil"), "True", "sys._is_gil_enabled() at {mount}");
        }
        many_requests(&server, python);
    }
});

// A Python with a GIL cannot do without: that is said, and all is served.
both_modes!(free_threading_without_a_free_threaded_build_says_so, |site| {
    let python = every().iter().find(|python| !python.free_threaded).expect("an ordinary Python");
    let server = grid(&site, "not-free", python)
        .conf("WSGIFreeThreading On")
        .mount("/main", "@root@/grid/grid.py", "application-group=%{GLOBAL}")
        .start();
    assert_eq!(server.get("/main").expect(200).value("gil"), "True");
    server.expect_log("WSGIFreeThreading");
});

/// The module `mod_wsgi` is what it has to be in the main interpreter and in others, while requests overlap.
fn observes(site: Site, conf: &str) {
    let server = site
        .conf("ServerLimit 1\nMaxRequestWorkers 8")
        .conf(conf)
        .mount("/main", "api.py", "application-group=%{GLOBAL}")
        .mount("/sub", "api.py", "application-group=sub")
        .start();
    thread::scope(|scope| {
        for number in 0..4 {
            let place = if number % 2 == 0 { "/main" } else { "/sub" };
            let server = &server;
            scope.spawn(move || {
                for _ in 0..5 {
                    server.client().post(&format!("{place}/read"), b"body").expect(200);
                    server.get(&format!("{place}/raise")).expect(500);
                }
            });
        }
    });
    for place in ["/main", "/sub"] {
        for check in ["names", "apache", "environ", "events", "request_metrics", "process_metrics"]
        {
            let found = server.get(&format!("{place}/{check}")).expect(200).text();
            assert_eq!(found, "as it should be", "{place}/{check} with '{conf}'");
        }
    }
    server.expect_log("raised for a test");
}

#[test]
fn every_python_can_be_observed() {
    with_each(every(), |python| {
        let site = || Site::new(&format!("observed-{}", python.name())).python(python);
        let mut confs = vec![""];
        if python.version >= (3, 12) && !python.free_threaded {
            confs.push("WSGIPerInterpreterGIL On");
        }
        if python.free_threaded {
            confs.push("WSGIFreeThreading On");
        }
        for conf in confs {
            observes(site(), conf);
            observes(site().daemon(), conf);
        }
    });
}

/// Files that look like an installed Python to whoever reads names only.
fn looks_like_python(site: Site, home: &str, version: &str, library: bool) -> Site {
    let site = site
        .file(&format!("{home}/bin/python{version}"), "")
        .file(&format!("{home}/bin/python3"), "")
        .file(&format!("{home}/lib/python{version}/os.py"), "")
        .file(&format!("{home}/lib/python{version}/encodings/__init__.py"), "");
    if library { site.file(&format!("{home}/lib/libpython{version}.so.1.0"), "") } else { site }
}

/// A home that cannot work: one line names it and says what to do, at configtest and in the log; its
/// applications get a 500, and the rest of the server serves on.
#[track_caller]
fn refused(make: impl Fn() -> Site, says: &[&str]) {
    let site = || {
        make()
            .conf("<Directory \"@root@/grid\">\nRequire all granted\n</Directory>")
            .mount("/app", "@root@/grid/grid.py", "")
            .file("grid/grid.py", GRID)
            .file("htdocs/static.txt", "static")
    };
    let right = |line: &str| says.iter().all(|part| line.contains(part));

    let output = tools::both(&site().check());
    assert!(output.lines().any(right), "no line of httpd -t has all of {says:?}:\n{output}");

    let server = site().start();
    server.get("/app").expect(500);
    assert_eq!(server.get("/static.txt").expect(200).text(), "static");
    server.get("/app").expect(500);
    let log = server.log();
    assert!(log.lines().any(right), "no line of the log has all of {says:?}:\n{log}");
    // Every line about it names what is wrong, or the application that cannot be served for that.
    server.allow_log(says[0]);
    server.allow_log("grid.py");
    assert_eq!(server.children().len(), 1, "the child that serves");
}

#[test]
fn a_static_interpreter_is_refused_with_what_to_install() {
    refused(
        || {
            looks_like_python(Site::new("static"), "home", "3.12", false)
                .conf("WSGIPythonHome \"@root@/home\"")
        },
        &["/home", "libpython3.12", "install"],
    );
}

#[test]
fn a_python_that_is_too_old_is_refused() {
    let gathered = site::manifest().join("build/pythons");
    let mut homes: Vec<PathBuf> = fs::read_dir(&gathered)
        .expect("build/pythons: run scripts/test-pythons.sh")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("lib/python3.8").is_dir())
        .collect();
    homes.sort();
    // Real ones, where there are any, and their virtual environments.
    for home in &homes {
        let home = home.canonicalize().expect("a home in build/pythons");
        let line = format!("WSGIPythonHome \"{}\"", home.display());
        refused(
            || Site::new("too-old").conf(&line),
            &[&*home.to_string_lossy(), "3.8", "3.9 or newer"],
        );
    }
    refused(
        || {
            looks_like_python(Site::new("too-old"), "home", "3.8", true)
                .conf("WSGIPythonHome \"@root@/home\"")
        },
        &["/home", "3.8", "3.9 or newer"],
    );
}

/// A library that is none, behind right names: known only when it is opened, in the child.
#[test]
fn a_libpython_that_cannot_be_loaded_is_said_in_the_log() {
    let server = looks_like_python(Site::new("no-library"), "home", "3.12", true)
        .conf("WSGIPythonHome \"@root@/home\"")
        .conf("<Directory \"@root@/grid\">\nRequire all granted\n</Directory>")
        .mount("/app", "@root@/grid/grid.py", "")
        .file("grid/grid.py", GRID)
        .file("htdocs/static.txt", "static")
        .start();
    server.get("/app").expect(500);
    assert_eq!(server.get("/static.txt").expect(200).text(), "static");
    server.expect_log("/home/lib/libpython3.12.so.1.0");
    server.allow_log("grid.py");
}
