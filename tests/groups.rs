//! Groups of daemon processes in the configuration: every option with what is accepted and refused, and what is
//! found before anything is started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::fs;

use engine::settings::daemon::OPTIONS;
use harness::{Site, pythons, site, skip, tools};

/// An option, values that are right, values that are wrong and a part of what is said.
type Row = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const TIMES: &[&str] = &["0", "30", "30s", "500ms", "5m", "2h", "1d"];
const NO_TIMES: &[(&str, &str)] =
    &[("60sec", "30 or 30s"), ("one", "30 or 30s"), ("1.5", "a time"), ("-1", "a time")];
const SIZES: &[&str] = &["0", "1073741824", "1048576K", "1024M", "1G", "1g"];
const NO_SIZES: &[(&str, &str)] = &[("1MB", "512K"), ("lots", "512K"), ("-1", "bytes")];

/// `@user@` and `@group@` stand for those of the tests, `@python@` for a Python.
const TABLE: &[Row] = &[
    ("user", &["@user@", "#1"], &[("#0", "not run as root"), ("#x", "#1000")]),
    ("group", &["@group@", "#1"], &[("#-1", "#1000")]),
    ("supplementary-groups", &["@group@", "@group@,#1"], &[("a,,b", "#1000")]),
    ("umask", &["0027", "22", "0"], &[("0x1", "octal"), ("1000", "octal"), ("8", "octal")]),
    ("chroot", &["/srv"], &[("srv", "absolute")]),
    ("home", &["/", "'@blank@'"], &[("~", "absolute"), ("srv", "absolute")]),
    ("lang", &["en_GB.UTF-8"], &[]),
    ("locale", &["C.UTF-8"], &[]),
    (
        "env",
        &["NAME=value", "NAME=", "\"NAME=two words\"", "_N1=a=b"],
        &[("NAME", "NAME=value"), ("1N=x", "not beginning with a digit"), ("A-B=x", "letters")],
    ),
    ("env-file", &["/dev/null"], &[("environment", "absolute")]),
    ("python-home", &["@python@"], &[]),
    ("python-path", &["/srv/lib", "/srv/lib:/srv/more"], &[("::", "no directory")]),
    ("python-eggs", &["/srv/eggs"], &[]),
    ("display-name", &["%{GROUP}", "'my site'"], &[]),
    ("script-user", &["@user@"], &[("#x", "#1000")]),
    ("script-group", &["@group@"], &[("#x", "#1000")]),
    ("socket-user", &["@user@"], &[("#x", "#1000")]),
    ("processes", &["1", "4096"], &[("0", "1 to 4096"), ("two", "1 to 4096"), ("2x", "1 to 4096")]),
    ("threads", &["0", "1", "65533"], &[("-1", "0 to 65533"), ("65534", "0 to 65533")]),
    ("stack-size", &["524288", "512K"], &[("0", "above 0"), ("big", "512K")]),
    ("listen-backlog", &["1", "65535"], &[("0", "1 to 65535"), ("65536", "1 to 65535")]),
    ("queue-limit", &["0", "1000"], &[("-1", "0 to 1000000"), ("none", "0 to 1000000")]),
    ("cpu-priority", &["-20", "0", "19"], &[("20", "-20 to 19"), ("low", "-20 to 19")]),
    ("switch-interval", &["0.005", "1"], &[("0", "above 0"), ("5ms", "above 0")]),
    ("send-buffer-size", &["0", "512", "64K"], &[("511", "from 512, or 0")]),
    ("receive-buffer-size", &["0", "512", "64K"], &[("511", "from 512, or 0")]),
    ("header-buffer-size", &["0", "8192", "32K"], &[("8191", "from 8192, or 0")]),
    ("response-buffer-size", &["0", "65536", "8M"], &[("65535", "from 65536, or 0")]),
    ("response-flush-delay", &["0", "5", "5ms"], &[("5us", "milliseconds")]),
    ("request-buffering", &["Off", "off", "1M"], &[("On", "or Off"), ("-1", "or Off")]),
    ("response-buffering", &["Off", "64K"], &[("On", "or Off")]),
    ("server-metrics", &["On", "off"], &[("1", "On or Off"), ("yes", "On or Off")]),
    ("connect-timeout", TIMES, NO_TIMES),
    ("socket-timeout", TIMES, NO_TIMES),
    ("response-socket-timeout", TIMES, NO_TIMES),
    ("queue-timeout", TIMES, NO_TIMES),
    ("startup-timeout", TIMES, NO_TIMES),
    ("request-timeout", TIMES, NO_TIMES),
    ("interrupt-timeout", TIMES, NO_TIMES),
    ("graceful-timeout", TIMES, NO_TIMES),
    ("eviction-timeout", TIMES, NO_TIMES),
    ("shutdown-timeout", TIMES, NO_TIMES),
    ("deadlock-timeout", TIMES, NO_TIMES),
    ("inactivity-timeout", TIMES, NO_TIMES),
    ("restart-interval", TIMES, NO_TIMES),
    ("reload-wait", TIMES, NO_TIMES),
    ("maximum-requests", &["0", "10000"], &[("1K", "0 to 4294967295"), ("-1", "0 to")]),
    ("cpu-time-limit", TIMES, NO_TIMES),
    ("memory-limit", SIZES, NO_SIZES),
    ("virtual-memory-limit", SIZES, NO_SIZES),
];

fn filled(value: &str) -> String {
    let (user, group) = account();
    let python = pythons::default().expect("a usable Python");
    let blank = concat!(env!("CARGO_TARGET_TMPDIR"), "/with blank");
    fs::create_dir_all(blank).expect("make a directory");
    value
        .replace("@blank@", blank)
        .replace("@user@", &user)
        .replace("@group@", &group)
        .replace("@python@", &python.prefix.to_string_lossy())
}

/// A user who is not root, by name, and a group of which there is one, by number.
fn account() -> (String, String) {
    (site::httpd_user().unwrap_or_else(|| "nobody".to_owned()), "#1".to_owned())
}

/// What `httpd -t` says of lines that it does not refuse.
#[track_caller]
fn accepted(lines: &str) -> String {
    let output = Site::configtest(lines);
    let text = tools::both(&output);
    assert!(output.status.success(), "{lines}\n{text}");
    text
}

/// What is wrong with these lines, which have no fault of syntax: one line of output for each, which begins with
/// file and line.
#[track_caller]
fn faults(lines: &str) -> Vec<String> {
    let output = Site::configtest(lines);
    let text = tools::both(&output);
    assert!(!output.status.success(), "accepted: {lines}\n{text}");
    let of_file = |line: &&str| line.contains("httpd.conf:") && line.contains(": WSGI");
    let found: Vec<String> = text.lines().filter(of_file).map(str::to_owned).collect();
    assert!(!found.is_empty(), "{lines}\n{text}");
    for fault in &found {
        let number = fault.split("httpd.conf:").nth(1).and_then(|rest| rest.split(':').next());
        let number: usize = number.and_then(|digits| digits.parse().ok()).expect("a line number");
        assert!(number > 0, "{fault}");
    }
    found
}

#[test]
fn every_option_has_a_row() {
    let rows: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    let options: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(rows, options);
}

#[test]
fn right_values_are_accepted() {
    let mut lines = String::new();
    let mut count = 0;
    for (name, right, _) in TABLE {
        for value in *right {
            lines += &format!("WSGIDaemonProcess group-{count} {name}={}\n", filled(value));
            count += 1;
        }
    }
    accepted(&lines);
}

#[test]
fn wrong_values_are_told() {
    let mut faults = Vec::new();
    for (name, _, wrong) in TABLE {
        for (value, part) in *wrong {
            let line = format!("WSGIDaemonProcess group {name}={value}");
            let output = Site::configtest(&line);
            let text = tools::both(&output);
            let told = text.contains(&format!("WSGIDaemonProcess {name}=: "))
                || text.contains(&format!("WSGIDaemonProcess: {name}=: "));
            if output.status.success()
                || !told
                || !text.contains(part)
                || !text.contains("Syntax error on line")
            {
                faults.push(format!("{line}: '{part}' is not in: {text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn values_of_variables_are_never_repeated() {
    for line in [
        "env=1A=hush-hush",
        "env=A-B=hush-hush",
        "env=NAME=a hush-hush=b",
        "env=NAME=a hush-hush",
        "env=NAME=a =hush-hush",
    ] {
        let output = Site::configtest(&format!("WSGIDaemonProcess group {line}"));
        let text = tools::both(&output);
        assert!(!output.status.success(), "{line} is accepted");
        assert!(text.contains("env="), "{line}: {text}");
        assert!(!text.contains("hush"), "{line}: {text}");
    }
}

#[test]
fn groups_that_are_not_defined_are_told() {
    for (lines, directive) in [
        ("WSGIScriptAlias / /srv/app.py process-group=missing", "WSGIScriptAlias"),
        ("WSGIScriptAliasMatch ^/x /srv/app.py process-group=missing", "WSGIScriptAlias"),
        ("WSGIProcessGroup missing", "WSGIProcessGroup"),
        ("<VirtualHost *:1>\nWSGIProcessGroup missing\n</VirtualHost>", "WSGIProcessGroup"),
        (
            "WSGIImportScript /srv/a.py process-group=missing application-group=a",
            "WSGIImportScript",
        ),
    ] {
        let found = faults(&format!("WSGIDaemonProcess other\n{lines}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let said = format!(
            ": {directive}: no daemon process group called 'missing' is defined: write \
             WSGIDaemonProcess missing"
        );
        assert!(found[0].contains(&said), "{found:?}");
    }
}

#[test]
fn groups_may_be_defined_after_they_are_named() {
    accepted(
        "WSGIScriptAlias /a /srv/a.py process-group=late application-group=%{GLOBAL}\n\
         WSGIImportScript /srv/b.py process-group=late application-group=%{GLOBAL}\n\
         WSGIProcessGroup late\nWSGIDaemonProcess late",
    );
}

#[test]
fn one_name_is_one_group() {
    let found = faults("WSGIDaemonProcess group threads=2\nWSGIDaemonProcess group threads=3");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("process group 'group' is defined differently"), "{found:?}");
    // Both places are named.
    assert_eq!(found[0].matches("httpd.conf:").count(), 2, "{found:?}");
    // The same file may be included in two virtual hosts.
    accepted("WSGIDaemonProcess group threads=2\nWSGIDaemonProcess group threads=2");
    let found = faults("WSGIDaemonProcess group env=A=hush\nWSGIDaemonProcess group env=A=hushed");
    assert!(!found.concat().contains("hush"), "{found:?}");
}

#[test]
fn group_of_a_virtual_host_is_for_its_requests_alone() {
    let own = "ServerName own.example.org\nWSGIDaemonProcess group";
    for user in ["WSGIProcessGroup group", "WSGIScriptAlias / /srv/app.py process-group=group"] {
        let found = faults(&format!(
            "<VirtualHost *:1>\n{own}\n</VirtualHost>\n\
             <VirtualHost *:1>\nServerName other.example.org\n{user}\n</VirtualHost>"
        ));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("defined in virtual host own.example.org")
                && found[0].contains("define it in the main server"),
            "{found:?}"
        );
        accepted(&format!("<VirtualHost *:1>\n{own}\n{user}\n</VirtualHost>"));
        // One site, plain and over TLS.
        accepted(&format!(
            "<VirtualHost *:1>\n{own}\n</VirtualHost>\n\
             <VirtualHost *:2>\nServerName OWN.example.org\n{user}\n</VirtualHost>"
        ));
        accepted(&format!("WSGIDaemonProcess group\n<VirtualHost *:1>\n{user}\n</VirtualHost>"));
    }
}

#[test]
fn what_the_system_does_not_have_is_told() {
    let folder = tempfile::tempdir().expect("a directory");
    let broken = folder.path().join("environment");
    fs::write(&broken, "# comment\nGOOD=1\nhush-hush\n").expect("write a file");
    let mut table = vec![
        ("python-home=/no/such/home".to_owned(), "python-home=: /no does not exist"),
        ("python-home=relative".to_owned(), "relative is no absolute path"),
        ("python-home=/etc".to_owned(), "python-home=: /etc"),
        ("env-file=/no/such/file".to_owned(), "/no/such/file"),
        (format!("env-file={}", broken.display()), "line 3: "),
        ("socket-user=nobody-knows".to_owned(), "socket-user=: there is no user 'nobody-knows'"),
        ("script-user=nobody-knows".to_owned(), "script-user=: there is no user 'nobody-knows'"),
        ("script-group=nobody-knows".to_owned(), "script-group=: there is no group"),
        ("user=nobody-knows".to_owned(), "user=: there is no user 'nobody-knows'"),
        ("group=nobody-knows".to_owned(), "group=: there is no group 'nobody-knows'"),
        ("home=/no/such/home".to_owned(), "home=: there is no directory /no/such/home"),
        ("chroot=/no/such/root".to_owned(), "chroot=: there is no directory /no/such/root"),
    ];
    if site::is_root() {
        table.push((
            "supplementary-groups=nobody-knows".to_owned(),
            "supplementary-groups=: there is no group 'nobody-knows'",
        ));
        table.push(("user=root".to_owned(), "applications do not run as root"));
    } else {
        skip("only root can give processes other users and groups");
    }
    for (option, said) in table {
        let found = faults(&format!("WSGIDaemonProcess group {option}"));
        assert_eq!(found.len(), 1, "{option}: {found:?}");
        assert!(found[0].contains(said), "{option}: '{said}' is not in: {found:?}");
        assert!(!found[0].contains("hush"), "{found:?}");
    }
}

#[test]
fn sockets_that_cannot_be_made_are_told() {
    let long = format!("/tmp/{}", "x".repeat(100));
    for (prefix, said) in [
        ("/no/such/folder/wsgi", "/no/such/folder/wsgi."),
        ("nowhere/wsgi", "/nowhere/wsgi."),
        ("/etc/passwd/wsgi", "cannot be made"),
        (&long, "write a shorter WSGISocketPrefix"),
    ] {
        let prefix = format!("WSGISocketPrefix {prefix}");
        let found = faults(&format!("{prefix}\nWSGIDaemonProcess group"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("WSGISocketPrefix: ") && found[0].contains(said), "{found:?}");
        // Nobody wants sockets.
        accepted(&prefix);
    }
}

#[test]
fn script_user_and_group_exclude_each_other() {
    let output = Site::configtest("WSGIDaemonProcess group script-user=#1 script-group=#1");
    assert!(!output.status.success());
    assert!(tools::both(&output).contains("exclude each other"));
}

#[test]
fn options_without_effect_are_told_once_and_the_group_serves() {
    let server = Site::new("in-vain")
        .conf("WSGIDaemonProcess group header-buffer-size=32K response-buffer-size=1M \\")
        .conf(" response-flush-delay=5 send-buffer-size=64K receive-buffer-size=64K \\")
        .conf(" interrupt-timeout=5")
        .conf("WSGISocketRotation Off\nWSGIAcceptMutex flock")
        .mount("/", "hello.py", "process-group=group")
        .start();
    server.get("/").expect(200);
    for text in [
        "process group 'group': header-buffer-size= has no effect",
        "process group 'group': response-buffer-size= has no effect",
        "process group 'group': response-flush-delay= has no effect",
        "process group 'group': send-buffer-size= has no effect",
        "process group 'group': receive-buffer-size= has no effect",
        "process group 'group': interrupt-timeout= has no effect without request-timeout=",
        "WSGISocketRotation does nothing",
        "WSGIAcceptMutex does nothing",
    ] {
        server.expect_log(text);
        assert_eq!(server.log().matches(text).count(), 1, "{text}");
    }
}

#[test]
fn group_without_threads_serves_no_requests() {
    let server = Site::new("service")
        .conf("WSGIDaemonProcess service threads=0 processes=1")
        .conf(
            "WSGIImportScript @apps@/service.py process-group=service application-group=%{GLOBAL}",
        )
        .file(
            "apps/service.py",
            "import signal\nprint('service runs', flush=True)\nsignal.pause()\n",
        )
        .mount("/", "hello.py", "process-group=service")
        .start();
    server.allow_log("service runs");
    server.expect_log("service runs");
    server.expect_log("process group 'service' has threads=0 and serves no requests");
    server.get("/").expect(500);
    server.expect_log("no daemon process group called 'service' runs and serves requests");
}

#[test]
fn a_script_that_is_missing_is_told_and_keeps_no_other_site_down() {
    for lines in [
        "WSGIScriptAlias /x \"@apps@/gone.py\"",
        "WSGIImportScript \"@apps@/gone.py\" process-group=%{GLOBAL} application-group=x",
        "<Location /x>\nWSGIAccessScript \"@apps@/gone.py\"\n</Location>",
        "WSGIHandlerScript pages \"@apps@/gone.py\"",
    ] {
        let text = accepted(lines);
        let line = text.lines().find(|line| line.contains("gone.py")).unwrap_or_default();
        assert!(line.contains("httpd.conf:") && line.contains("does not exist"), "{text}");
    }
}
