//! Every option with what it accepts, what it refuses and what holds without it.

use std::collections::BTreeSet;

use super::*;

fn parse(options: &str) -> DaemonProcess {
    let text = format!("blog {options}");
    DaemonProcess::parse(&text).unwrap_or_else(|fault| panic!("{options}: {fault}"))
}

fn fault(options: &str) -> String {
    match DaemonProcess::parse(&format!("blog {options}")) {
        Ok(_) => panic!("{options}: accepted"),
        Err(fault) => fault.to_string(),
    }
}

fn named(name: &str) -> Account {
    Account::Name(name.to_owned())
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What an option does to a group that has none.
type Change = fn(&mut DaemonProcess);

/// An option, what it accepts and what that does, and what it refuses.
type Row = (&'static str, &'static [(&'static str, Change)], &'static [&'static str]);

const TABLE: &[Row] = &[
    (
        "user",
        &[
            ("www", |p| p.user = Some(named("www"))),
            ("#1000", |p| p.user = Some(Account::Id(1000))),
        ],
        &["#0", "#", "#x", "#-1", "#4294967295"],
    ),
    (
        "group",
        &[("www", |p| p.group = Some(named("www"))), ("#0", |p| p.group = Some(Account::Id(0)))],
        &["#", "#4294967296"],
    ),
    (
        "supplementary-groups",
        &[("a,#7", |p| p.supplementary_groups = Some(vec![named("a"), Account::Id(7)]))],
        &["a,,b", ",", "a,#x"],
    ),
    (
        "umask",
        &[("0027", |p| p.umask = Some(0o27)), ("777", |p| p.umask = Some(0o777))],
        &["8", "0x1", "1000", "-1", "00022"],
    ),
    ("chroot", &[("/srv", |p| p.chroot = text("/srv"))], &["srv"]),
    ("home", &[("'/my srv'", |p| p.home = text("/my srv"))], &["srv", "~"]),
    ("lang", &[("de_DE.UTF-8", |p| p.lang = text("de_DE.UTF-8"))], &[]),
    ("locale", &[("C.UTF-8", |p| p.locale = text("C.UTF-8"))], &[]),
    (
        "env",
        &[
            ("A=b=c", |p| p.env = vec![Assignment { name: "A".into(), value: "b=c".into() }]),
            ("\"_A1=b c\"", |p| {
                p.env = vec![Assignment { name: "_A1".into(), value: "b c".into() }];
            }),
            ("A=", |p| p.env = vec![Assignment { name: "A".into(), value: String::new() }]),
        ],
        &["A", "=b", "1A=b", "A-B=c", "'A B=c'"],
    ),
    ("env-file", &[("/etc/x", |p| p.env_files = vec!["/etc/x".to_owned()])], &["x"]),
    ("python-home", &[("/srv/venv", |p| p.python_home = text("/srv/venv"))], &[]),
    (
        "python-path",
        &[("/a:/b", |p| p.python_path = Some(vec!["/a".to_owned(), "/b".to_owned()]))],
        &[":"],
    ),
    ("python-eggs", &[("/tmp/eggs", |p| p.python_eggs = text("/tmp/eggs"))], &[]),
    ("display-name", &[("%{GROUP}", |p| p.display_name = text("%{GROUP}"))], &[]),
    ("script-user", &[("me", |p| p.script_user = Some(named("me")))], &["#x"]),
    ("script-group", &[("#7", |p| p.script_group = Some(Account::Id(7)))], &["#x"]),
    ("socket-user", &[("me", |p| p.socket_user = Some(named("me")))], &["#x"]),
    (
        "processes",
        &[("1", |p| p.processes = Some(1)), ("4096", |p| p.processes = Some(4096))],
        &["0", "4097", "-1", "two"],
    ),
    (
        "threads",
        &[("0", |p| p.threads = Some(0)), ("65533", |p| p.threads = Some(65533))],
        &["65534", "x"],
    ),
    ("stack-size", &[("512K", |p| p.stack_size = Some(512 << 10))], &["0", "x"]),
    ("listen-backlog", &[("500", |p| p.listen_backlog = Some(500))], &["0", "65536"]),
    ("queue-limit", &[("0", |p| p.queue_limit = Some(0))], &["-1", "1000001"]),
    (
        "cpu-priority",
        &[("-5", |p| p.cpu_priority = Some(-5)), ("19", |p| p.cpu_priority = Some(19))],
        &["20", "-21", "x"],
    ),
    ("switch-interval", &[("0.01", |p| p.switch_interval = Some(0.01))], &["0", "-1", "x"]),
    (
        "send-buffer-size",
        &[("0", |p| p.send_buffer_size = Some(0)), ("512", |p| p.send_buffer_size = Some(512))],
        &["511"],
    ),
    ("receive-buffer-size", &[("64K", |p| p.receive_buffer_size = Some(65536))], &["1"]),
    ("header-buffer-size", &[("8192", |p| p.header_buffer_size = Some(8192))], &["8191"]),
    ("response-buffer-size", &[("65536", |p| p.response_buffer_size = Some(65536))], &["65535"]),
    (
        "response-flush-delay",
        &[
            ("5", |p| p.response_flush_delay = Some(Duration::from_millis(5))),
            ("1s", |p| p.response_flush_delay = Some(secs(1))),
        ],
        &["x"],
    ),
    (
        "request-buffering",
        &[
            ("1M", |p| p.request_buffering = Some(1 << 20)),
            ("off", |p| p.request_buffering = Some(0)),
        ],
        &["On", "-1"],
    ),
    ("response-buffering", &[("Off", |p| p.response_buffering = Some(0))], &["x"]),
    ("server-metrics", &[("on", |p| p.server_metrics = Some(true))], &["1"]),
    ("connect-timeout", &[("30", |p| p.connect_timeout = Some(secs(30)))], &["x"]),
    ("socket-timeout", &[("30s", |p| p.socket_timeout = Some(secs(30)))], &["x"]),
    ("response-socket-timeout", &[("5m", |p| p.response_socket_timeout = Some(secs(300)))], &["x"]),
    ("queue-timeout", &[("500ms", |p| p.queue_timeout = Some(Duration::from_millis(500)))], &["x"]),
    ("startup-timeout", &[("1h", |p| p.startup_timeout = Some(secs(3600)))], &["x"]),
    (
        "request-timeout",
        &[("60", |p| p.request_timeout = Some(secs(60)))],
        &["one", "60sec", "1.5", "-1"],
    ),
    ("interrupt-timeout", &[("1", |p| p.interrupt_timeout = Some(secs(1)))], &["x"]),
    ("graceful-timeout", &[("1", |p| p.graceful_timeout = Some(secs(1)))], &["x"]),
    ("eviction-timeout", &[("0", |p| p.eviction_timeout = Some(secs(0)))], &["x"]),
    ("shutdown-timeout", &[("0", |p| p.shutdown_timeout = Some(secs(0)))], &["x"]),
    ("deadlock-timeout", &[("0", |p| p.deadlock_timeout = Some(secs(0)))], &["x"]),
    ("inactivity-timeout", &[("1d", |p| p.inactivity_timeout = Some(secs(86400)))], &["x"]),
    ("restart-interval", &[("1d", |p| p.restart_interval = Some(secs(86400)))], &["x"]),
    ("reload-wait", &[("2s", |p| p.reload_wait = Some(secs(2)))], &["x"]),
    ("maximum-requests", &[("1000", |p| p.maximum_requests = Some(1000))], &["x", "1K"]),
    ("cpu-time-limit", &[("60", |p| p.cpu_time_limit = Some(secs(60)))], &["x"]),
    ("memory-limit", &[("512M", |p| p.memory_limit = Some(512 << 20))], &["x", "512MB"]),
    ("virtual-memory-limit", &[("0", |p| p.virtual_memory_limit = Some(0))], &["x"]),
];

#[test]
fn every_option_is_in_the_table() {
    let tested: BTreeSet<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    let known: BTreeSet<&str> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(tested, known);
    assert_eq!(known.len(), OPTIONS.len(), "a name stands twice");
    // Those of mod_wsgi, and six of our own.
    assert_eq!(known.len(), 44 + 6);
}

#[test]
fn options_accept_and_refuse() {
    for (name, accepted, refused) in TABLE {
        for (value, change) in *accepted {
            let mut expected =
                DaemonProcess { name: "blog".to_owned(), ..DaemonProcess::default() };
            change(&mut expected);
            assert_eq!(parse(&format!("{name}={value}")), expected, "{name}={value}");
        }
        for value in *refused {
            let fault = fault(&format!("{name}={value}"));
            assert!(fault.starts_with(&format!("{name}=: ")), "{name}={value}: {fault}");
            assert!(fault.contains("write") && !fault.contains('\n'), "{name}={value}: {fault}");
        }
        for empty in [format!("{name}="), format!("{name}=''")] {
            assert_eq!(
                fault(&empty),
                format!("option '{name}' has no value: write {name}=value"),
                "{empty}"
            );
        }
    }
}

#[test]
fn the_last_of_two_holds_and_variables_add_up() {
    assert_eq!(parse("threads=1 threads=2").threads(), 2);
    let names: Vec<String> =
        parse("env=A=1 env=B=2 env-file=/x env-file=/y").env.into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["A", "B"]);
}

#[test]
fn names() {
    assert_eq!(DaemonProcess::parse("'my blog'").unwrap().name, "my blog");
    for text in ["", "''", "%{GLOBAL}", "%{SERVER} threads=1"] {
        assert!(DaemonProcess::parse(text).is_err(), "{text}");
    }
    assert_eq!(fault("proceses=2"), "unknown option 'proceses': did you mean processes=?");
    assert_eq!(fault("Threads=2"), "unknown option 'Threads': did you mean threads=?");
    assert_eq!(fault("threads"), "'threads' is not an option: options are written name=value");
    assert!(fault("script-user=a script-group=b").contains("exclude each other"));
}

#[test]
fn without_options_mod_wsgis_defaults_hold() {
    let group = parse("");
    assert_eq!(group.processes(), 1);
    assert!(!group.multiprocess());
    assert_eq!(group.threads(), 15);
    assert_eq!(group.listen_backlog(), 100);
    assert_eq!(group.queue_limit(), 100);
    assert_eq!(group.display_name(), None);
    assert_eq!(group.connect_timeout(), secs(15));
    assert_eq!(group.graceful_timeout(), Some(secs(15)));
    assert_eq!(group.eviction_timeout(), Some(secs(15)));
    assert_eq!(group.shutdown_timeout(), Some(secs(5)));
    assert_eq!(group.deadlock_timeout(), Some(secs(300)));
    for time in [
        group.socket_timeout(),
        group.response_socket_timeout(),
        group.queue_timeout(),
        group.startup_timeout(),
        group.request_timeout(),
        group.interrupt_timeout(),
        group.inactivity_timeout(),
        group.restart_interval(),
        group.reload_wait(),
    ] {
        assert_eq!(time, None);
    }
    for size in [
        group.memory_limit(),
        group.virtual_memory_limit(),
        group.maximum_requests(),
        group.cpu_time_limit(),
    ] {
        assert_eq!(size, None);
    }
    assert_eq!(group.request_buffering(), 16 << 20);
    assert_eq!(group.response_buffering(), 16 << 20);
    assert!(group.notices().is_empty());
}

#[test]
fn defaults_in_the_list_are_those_that_hold() {
    for option in OPTIONS {
        let written = option.default.split(',').next().unwrap_or_default();
        if !written.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let group = parse(&format!("{}={written}", option.name));
        let show = |group: &DaemonProcess| {
            format!(
                "{:?}",
                (
                    (group.processes(), group.threads(), group.listen_backlog()),
                    (group.request_buffering(), group.response_buffering()),
                    (group.connect_timeout(), group.queue_timeout(), group.startup_timeout()),
                    (group.request_timeout(), group.interrupt_timeout(), group.reload_wait()),
                    (group.graceful_timeout(), group.shutdown_timeout(), group.deadlock_timeout()),
                    (group.inactivity_timeout(), group.restart_interval()),
                    (group.maximum_requests(), group.cpu_time_limit()),
                    (group.memory_limit(), group.virtual_memory_limit()),
                    group.cpu_priority.unwrap_or(0),
                )
            )
        };
        assert_eq!(show(&group), show(&parse("")), "{}", option.name);
    }
}

#[test]
fn zero_turns_off_and_some_stand_in_for_others() {
    let off = parse(
        "graceful-timeout=0 shutdown-timeout=0 deadlock-timeout=0 maximum-requests=0 \
         memory-limit=0 cpu-time-limit=0 connect-timeout=0 request-buffering=0",
    );
    assert_eq!(off.graceful_timeout(), None);
    assert_eq!(off.eviction_timeout(), None);
    assert_eq!(off.shutdown_timeout(), None);
    assert_eq!(off.deadlock_timeout(), None);
    assert_eq!(off.maximum_requests(), None);
    assert_eq!(off.memory_limit(), None);
    assert_eq!(off.cpu_time_limit(), None);
    assert_eq!(off.connect_timeout(), Duration::ZERO);
    assert_eq!(off.request_buffering(), 0);

    assert_eq!(parse("graceful-timeout=7").eviction_timeout(), Some(secs(7)));
    assert_eq!(parse("graceful-timeout=7 eviction-timeout=3").eviction_timeout(), Some(secs(3)));
    assert_eq!(parse("socket-timeout=7").response_socket_timeout(), Some(secs(7)));
    let both = parse("socket-timeout=7 response-socket-timeout=3");
    assert_eq!(both.response_socket_timeout(), Some(secs(3)));
    assert_eq!(parse("listen-backlog=7").queue_limit(), 7);
    assert_eq!(parse("listen-backlog=7 queue-limit=9").queue_limit(), 9);
    assert_eq!(parse("cpu-time-limit=1500ms").cpu_time_limit(), Some(2));
    assert!(parse("processes=1").multiprocess());
    assert_eq!(parse("display-name=%{GROUP}").display_name().unwrap(), "(wsgi:blog)");
    assert_eq!(parse("display-name=x").display_name().unwrap(), "x");
}

#[test]
fn what_has_no_effect_is_told() {
    for option in OPTIONS.iter().filter(|option| !option.has_effect()) {
        let value = if option.value == "On|Off" { "On" } else { "1000000" };
        let notices = parse(&format!("{}={value}", option.name)).notices();
        assert_eq!(notices.len(), 1, "{}", option.name);
        assert!(notices[0].contains(&format!("'blog': {}= has no effect", option.name)));
    }
    assert_eq!(OPTIONS.iter().filter(|option| !option.has_effect()).count(), 6);
    assert!(parse("interrupt-timeout=1").notices()[0].contains("without request-timeout="));
    assert!(parse("interrupt-timeout=1 request-timeout=1").notices().is_empty());
    assert!(parse("eviction-timeout=0").notices()[0].contains("graceful-timeout= holds"));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", parse("env=KEY=hunter2"));
    assert!(shown.contains("KEY=…") && !shown.contains("hunter2"), "{shown}");
    for options in ["env=1KEY=hunter2", "env=KEY=a hunter2", "env=KEY=a hunter2 threads=1"] {
        let fault = fault(options);
        assert!(!fault.contains("hunter2"), "{options}: {fault}");
    }
    for file in ["1KEY=hunter2", "KEY hunter2", "\n\nhunter2"] {
        let fault = Assignment::parse_file(file).unwrap_err().to_string();
        assert!(!fault.contains("hunter2") && fault.starts_with("line "), "{fault}");
    }
}

#[test]
fn files_of_variables() {
    let text =
        "\n# comment\nA=1\r\nexport B = \n  C='x # y'  \nD=\"a\"b\"\nE=it's\nexport\tF=\"\"\n";
    assert!(Assignment::parse_file(text).is_err(), "a blank before '='");
    let text = text.replace("B = ", "B=a b");
    let found = Assignment::parse_file(&text).unwrap();
    let found: Vec<(&str, &str)> =
        found.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
    assert_eq!(
        found,
        [("A", "1"), ("B", "a b"), ("C", "x # y"), ("D", "a\"b"), ("E", "it's"), ("F", "")]
    );
    assert_eq!(
        Assignment::parse_file("A=1\nB").unwrap_err().to_string(),
        "line 2: a variable has a value without NUL: write NAME=value"
    );
    assert_eq!(
        Assignment::parse_file("A=1\nB=\"BEGIN\nEND\"").unwrap_err().to_string(),
        "line 2: \" is not closed; a value has one line"
    );
    assert_eq!(Assignment::parse_file("").unwrap(), []);
}

#[test]
fn secrets_are_concealed_and_nothing_else() {
    for (written, shown) in [
        ("blog threads=3", None),
        ("blog env=A=secret threads=3", Some("blog env=A=... threads=3")),
        (
            r#" "blog"  env="A=se\"cret two"  home='/a b' env= B=x=y"#,
            Some(r#""blog"  env=A=... home='/a b' env=B=..."#),
        ),
        ("blog env=A=", Some("blog env=A=...")),
    ] {
        assert_eq!(DaemonProcess::concealed(written).as_deref(), shown, "{written}");
    }
}
