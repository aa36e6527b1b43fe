//! Settings of the Python in a process, as the application sees them.

use std::process::Command;

use crate::harness::{Server, Site, both_modes, pythons, skip};

/// Asks `evaluate.py` for an expression.
#[track_caller]
fn ask(server: &Server, expression: &str) -> String {
    let headers = [("X-Expression", expression)];
    server.client().request("GET", "/", &headers, b"").expect(200).text()
}

both_modes!(python_path_comes_first, |site| {
    let server = site
        .app("evaluate.py")
        .file("one/test_module_a.py", "place = 'one'\n")
        .file("two/test_module_a.py", "place = 'two'\n")
        .file("two/test_module_b.py", "place = 'two'\n")
        // Hides one of the standard library.
        .file("one/this.py", "place = 'one'\n")
        // Read as site-packages are.
        .file("two/more.pth", "@nothing-here\n../three\n")
        .file("three/test_module_c.py", "place = 'three'\n")
        // What stands at the top level is for httpd's own processes.
        .conf("WSGIPythonPath @root@/one:@root@/two")
        .group("python-path=@root@/one:@root@/two")
        .start();
    for (module, place) in [
        ("test_module_a", "one"),
        ("test_module_b", "two"),
        ("test_module_c", "three"),
        ("this", "one"),
    ] {
        let expression = format!("__import__('{module}').place");
        assert_eq!(ask(&server, &expression), format!("'{place}'"), "{module}");
    }
    assert!(ask(&server, "__import__('sys').path[0]").ends_with("/one'"));
});

both_modes!(optimisation_is_set, |site| {
    for (level, has_assertions, has_docs) in
        [(0, "True", "True"), (1, "False", "True"), (2, "False", "False")]
    {
        let site = Site::new("optimize");
        let code = r#"
def application(environ, start_response):
    "documented"
    asserted = "False"
    def note():
        nonlocal asserted
        asserted = "True"
        return True
    assert note()
    documented = str(application.__doc__ is not None)
    start_response("200 OK", [])
    return ["assert={}\ndoc={}".format(asserted, documented).encode()]
"#;
        let server = site.source("/", code).conf(&format!("WSGIPythonOptimize {level}")).start();
        let reply = server.get("/").expect(200);
        assert_eq!(reply.value("assert"), has_assertions, "level {level}");
        assert_eq!(reply.value("doc"), has_docs, "level {level}");
    }
    let server = site.app("evaluate.py").start();
    assert_eq!(ask(&server, "__import__('sys').flags.optimize"), "0");
});

both_modes!(warnings_are_set, |site| {
    let conf = "WSGIPythonWarnings error::DeprecationWarning\nWSGIPythonWarnings ignore";
    let server = site.app("evaluate.py").conf(conf).start();
    let options = ask(&server, "__import__('sys').warnoptions");
    assert_eq!(options, "['error::DeprecationWarning', 'ignore']");
});

both_modes!(fixed_hash_seed_is_the_same_everywhere, |site| {
    let expression = "(__import__('sys').flags.hash_randomization, hash('a text'))";
    let with_seed = |site: Site, seed: &str| {
        let server = site.app("evaluate.py").conf(&format!("WSGIPythonHashSeed {seed}")).start();
        ask(&server, expression)
    };
    let first = with_seed(site, "12345");
    assert!(first.starts_with("(1, "), "{first}");
    assert_eq!(with_seed(Site::new("seed"), "12345"), first);
    assert_ne!(with_seed(Site::new("seed"), "12346"), first);
    assert!(with_seed(Site::new("seed"), "0").starts_with("(0, "));
});

both_modes!(random_hash_seed_is_random, |site| {
    let expression = "(__import__('sys').flags.hash_randomization, hash('a text'))";
    let conf = "WSGIPythonHashSeed random";
    let first = ask(&site.app("evaluate.py").conf(conf).start(), expression);
    assert!(first.starts_with("(1, "), "{first}");
    let second = ask(&Site::new("seed").app("evaluate.py").start(), expression);
    assert!(second.starts_with("(1, "), "{second}");
    assert_ne!(first, second);
});

both_modes!(bytecode_is_written_unless_refused, |site| {
    for (value, expected) in [("On", "True"), ("Off", "False")] {
        let conf = format!("WSGIDontWriteBytecode {value}");
        let server = Site::new("bytecode").app("evaluate.py").conf(&conf).start();
        assert_eq!(ask(&server, "__import__('sys').dont_write_bytecode"), expected);
    }
    let server = site.app("evaluate.py").start();
    assert_eq!(ask(&server, "__import__('sys').dont_write_bytecode"), "False");
});

both_modes!(switch_interval_is_set, |site| {
    let site = site.conf("WSGISwitchInterval 0.0625").group("switch-interval=0.0625");
    let server = site.app("evaluate.py").start();
    assert_eq!(ask(&server, "__import__('sys').getswitchinterval()"), "0.0625");
});

both_modes!(text_is_utf_8_without_a_locale, |site| {
    let server = site.app("evaluate.py").start();
    assert_eq!(ask(&server, "__import__('sys').getfilesystemencoding()"), "'utf-8'");
    let expression = "__import__('locale').getpreferredencoding(False).lower()";
    assert_eq!(ask(&server, expression), "'utf-8'");
});

both_modes!(virtual_environment_is_used, |site| {
    let Some(python) = pythons::default() else {
        skip("no usable Python");
        return;
    };
    let place = tempfile::Builder::new().prefix("wsgi-venv-").tempdir().expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), mode).expect("set a directory's mode");
    let home = place.path().join("env");
    let made = Command::new(&python.executable)
        .args(["-m", "venv", "--without-pip"])
        .arg(&home)
        .output()
        .expect("run venv");
    if !made.status.success() {
        skip("this Python has no venv");
        return;
    }
    let (major, minor) = python.version;
    let packages = home.join(format!("lib/python{major}.{minor}/site-packages"));
    std::fs::write(packages.join("only_in_the_environment.py"), "word = 'found'\n").expect("write");
    // A virtual environment, and its interpreter, are both a home.
    for given in [home.clone(), home.join("bin/python")] {
        let conf = format!("WSGIPythonHome \"{}\"", given.display());
        let server = Site::new("venv").app("evaluate.py").conf(&conf).start();
        let prefix = ask(&server, "__import__('sys').prefix");
        assert_eq!(prefix, format!("'{}'", home.display()));
        assert_eq!(ask(&server, "__import__('only_in_the_environment').word"), "'found'");
        assert_ne!(ask(&server, "__import__('sys').base_prefix"), prefix);
    }
    drop(site);
});

#[test]
fn environment_variables_of_python_are_heard() {
    let server = Site::new("environment")
        .app("evaluate.py")
        .file("extra/extra_module.py", "word = 'extra'\n")
        .env("PYTHONPATH", "/nonexistent-for-the-test")
        .start();
    let path = ask(&server, "__import__('sys').path");
    assert!(path.contains("/nonexistent-for-the-test"), "{path}");
}
