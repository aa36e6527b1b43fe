//! Valid streams of every direction: every kind of frame, every form of every field.

use std::time::Duration;

use engine::wire::control::{
    Configure, FromDaemon as DaemonSays, FromParent, GroupPlan, Identity, ImportScript,
    InterpreterPlan, Life, Limits, Mount, PythonPlan, Ready, Reason, Section, Server, Setup, Stats,
    Syslog, Timeouts, ToDaemon, ToParent, Variable,
};
use engine::wire::message::{self, Ending, RequestBody, RequestStart, Target};
use engine::wire::{Batch, Secret};

use crate::exercise::Side;

/// One valid stream.
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) bytes: Vec<u8>,
    /// How many frames are in it.
    pub(crate) frames: usize,
}

pub(crate) fn start(target: Target<'_>, body: RequestBody) -> RequestStart<'_> {
    RequestStart {
        target,
        handler: b"wsgi-script",
        mtime_us: -1,
        reloading: true,
        request_start_us: 1_700_000_000_000_000,
        queue_start_us: 1_700_000_000_000_100,
        head_only: false,
        ignore_activity: false,
        log_level: 3,
        body,
        body_length: None,
    }
}

/// A usual request, with `inline` as its whole body.
pub(crate) fn request(out: &mut Vec<u8>, number: u32, inline: &[u8]) {
    let mut start = start(Target::Mount(0x0123_4567_89ab_cdef), RequestBody::Whole);
    start.body_length = Some(inline.len() as u64);
    let mut writer = message::request(out, number, &start);
    writer.var(b"SITE_MODE", b"test");
    writer.set(0, b"GET");
    writer.set_path(14, b"/srv/app.wsgi");
    writer.set_float(23, 1_700_000_000.25);
    writer.header(b"Host", b"example.org");
    writer.header(b"Cookie", b"a=b; \xe9\xff");
    writer.header(b"X-Empty", b"");
    writer.https(true);
    writer.finish(inline.len()).unwrap();
    out.extend_from_slice(inline);
}

fn child() -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut add = |name, frames: usize, fill: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        message::hello(&mut bytes, &[7; 32], &Secret::new([9; 32]));
        fill(&mut bytes);
        streams.push(Stream { name, side: Side::Child, bytes, frames: frames + 1 });
    };
    add("one request", 1, &|out| request(out, 1, b""));
    add("three requests", 3, &|out| (1..=3).for_each(|number| request(out, number, b"a=1")));
    add("a script, body in pieces", 5, &|out| {
        let script = Target::Script {
            path: b"/srv/\xff/app.wsgi",
            application_group: "gr\u{fc}ppe",
            callable: "application",
        };
        let mut start = start(script, RequestBody::Asked);
        (start.head_only, start.ignore_activity) = (true, true);
        let writer = message::request(out, 1, &start);
        writer.finish(3).unwrap();
        out.extend_from_slice(b"abc");
        let mut batch = Batch::new(out);
        message::body(&mut batch, 1, &[b"one", b"", b"two"], false);
        message::body(&mut batch, 1, &[b"\0\xff"], false);
        message::body(&mut batch, 1, &[], true);
        message::cancel(out, 1);
    });
    add("a file as body", 1, &|out| {
        let mut start = start(Target::Mount(0), RequestBody::File);
        start.body_length = Some(u64::MAX);
        message::request(out, 1, &start).finish(0).unwrap();
    });
    add("a body that breaks off", 2, &|out| {
        let mut start = start(Target::Mount(1), RequestBody::Asked);
        start.body_length = Some(10);
        start.reloading = false;
        message::request(out, 1, &start).finish(0).unwrap();
        message::body_fault(out, 1, "the client went away \u{2014} gone", true);
    });
    streams
}

fn daemon() -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut add = |name, frames: usize, fill: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        fill(&mut bytes);
        streams.push(Stream { name, side: Side::Daemon, bytes, frames });
    };
    let head = |out: &mut Vec<u8>| {
        let headers = [
            (c"Content-Type", c"text/plain"),
            (c"Content-Length", c"5"),
            (c"Set-Cookie", c"a=\xe9\tb"),
            (c"set-cookie", c""),
        ];
        message::head(out, 1, c"200 OK", headers).unwrap();
    };
    add("a small response", 3, &|out| {
        head(out);
        message::data(&mut Batch::new(out), 1, &[b"hel", b"lo"], false);
        message::end(out, 1, Ending::default());
    });
    add("a conversation", 8, &|out| {
        message::read(out, 1, 65_536, true);
        message::read(out, 1, 1, false);
        message::log(out, 1, 1, "Traceback:\n  line \u{fc}");
        message::head(out, 1, c"999 ", []).unwrap();
        message::data(&mut Batch::new(out), 1, &[b"x"], true);
        message::data(&mut Batch::new(out), 1, &[], true);
        message::end(out, 1, Ending { flush: true, close: false, linger: true });
        message::done(out, 1, true);
    });
    add("a file", 2, &|out| {
        head(out);
        let ending = Ending { flush: true, close: true, linger: false };
        message::file(out, 1, 1, i64::MAX as u64 - 1, ending);
    });
    add("cut", 2, &|out| {
        head(out);
        message::abort(out, 1, "the application raised", Ending::default());
    });
    add("failed, and away", 2, &|out| {
        let ending = Ending { flush: true, close: true, linger: false };
        message::failed(out, 1, 504, ending);
        message::go_away(out, 1);
    });
    streams
}

/// A plan in which no field has its default.
pub(crate) fn plan() -> GroupPlan {
    let interpreter = InterpreterPlan {
        per_interpreter_gil: Some(true),
        free_threading: Some(false),
        switch_interval: Some(0.01),
        python_path: vec!["/a".into(), "/b".into()],
        restrict_stdin: Some(true),
        restrict_stdout: Some(false),
        restrict_signal: None,
    };
    let second = Duration::from_secs(1);
    let life = Life {
        startup: Some(second),
        graceful: Some(second * 2),
        eviction: Some(second * 3),
        shutdown: Some(second * 4),
        deadlock: Some(second * 5),
        inactivity: Some(second * 6),
        restart_interval: Some(second * 7),
        reload_wait: Some(Duration::from_micros(1)),
        maximum_requests: Some(8),
        resident: Some(9),
    };
    let script =
        |group: &str| ImportScript { path: "/srv/warm.py".into(), application_group: group.into() };
    GroupPlan {
        name: "blog".into(),
        id: 77,
        processes: 2,
        python: "/srv/venv/bin/python".into(),
        user: Some(Identity { uid: 33, gid: 34, groups: vec![35, 36] }),
        umask: Some(0o27),
        cwd: Some("/srv".into()),
        chroot: Some("/jail".into()),
        env: vec![
            Variable { name: "LANG".into(), value: "C.UTF-8".into() },
            Variable { name: "DATABASE".into(), value: "hunter2-very-secret".into() },
        ],
        limits: Limits { cpu_seconds: Some(1), data: Some(2), address_space: Some(3) },
        nice: Some(-5),
        life: life.clone(),
        setup: Setup {
            group: "blog".into(),
            group_id: 77,
            build: [1; 32],
            secret: Secret::new([0xab; 32]),
            peer_uid: 33,
            processes: 2,
            threads: 15,
            alone: true,
            stack_size: Some(1 << 20),
            display_name: Some("(wsgi:blog)".into()),
            locale: Some("de_DE.UTF-8".into()),
            home: Some("/srv".into()),
            python: PythonPlan {
                path: vec!["/srv/lib".into()],
                eggs: Some("/tmp/eggs".into()),
                switch_interval: Some(0.005),
                optimize: 2,
                warnings: vec!["error".into()],
                hash_seed: Some(42),
                dont_write_bytecode: true,
                gil: true,
                destroy_interpreter: true,
                case_sensitivity: true,
                interpreter: interpreter.clone(),
                sections: vec![Section {
                    process_group: Some("blog".into()),
                    application_group: None,
                    settings: interpreter,
                }],
            },
            timeouts: Timeouts {
                request: Some(second),
                interrupt: Some(second),
                queue: Some(second),
                socket: Some(Duration::from_micros(u64::MAX)),
            },
            life,
            mounts: vec![Mount {
                id: 5,
                path: "/srv/app.wsgi".into(),
                application_group: String::new(),
                callable: "application".into(),
                preload: true,
                reloading: true,
            }],
            import_scripts: vec![script(""), script("other")],
            server: Server {
                major: 2,
                minor: 4,
                patch: 71,
                description: "Apache/2.4.71 (Unix)".into(),
                built: "today".into(),
                mpm_name: "event".into(),
                maximum_processes: 16,
                threads_per_process: 25,
                multiprocess: true,
            },
        },
    }
}

fn control() -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut bytes = Vec::new();
    let parent = [
        FromParent::Configure(Configure {
            generation: 3,
            groups: 1,
            reload: true,
            log_level: 4,
            syslog: Some(Syslog { facility: 23, tag: "httpd".to_owned() }),
        }),
        FromParent::Group(Box::new(plan())),
        FromParent::RetireGeneration(2),
        FromParent::Stop { graceful: true },
    ];
    for message in &parent {
        message.encode(&mut bytes).unwrap();
    }
    streams.push(Stream { name: "the parent", side: Side::Parent, bytes, frames: parent.len() });

    let mut bytes = Vec::new();
    let answers = [
        ToParent::Configured(3),
        ToParent::Refused { generation: 4, reason: "no such user".into() },
        ToParent::Stopped,
    ];
    for message in &answers {
        message.encode(&mut bytes).unwrap();
    }
    let frames = answers.len();
    streams.push(Stream { name: "to the parent", side: Side::ToParent, bytes, frames });

    let mut bytes = Vec::new();
    let orders = [
        ToDaemon::Setup(Box::new(plan().setup)),
        ToDaemon::Accept,
        ToDaemon::Stay,
        ToDaemon::Retire { reason: Reason::Reload, within: Some(Duration::from_secs(15)) },
        ToDaemon::Retire { reason: Reason::Stop, within: None },
    ];
    for message in &orders {
        message.encode(&mut bytes).unwrap();
    }
    let frames = orders.len();
    streams.push(Stream { name: "to a daemon", side: Side::ToDaemon, bytes, frames });

    let mut bytes = Vec::new();
    let mut reports = vec![
        DaemonSays::Ready(Ready { major: 3, minor: 14, free_threaded: true, loaded: true }),
        DaemonSays::ImportFailed("Traceback\n".into()),
        DaemonSays::Stats(Stats {
            busy: 1,
            kept: 2,
            served: 3,
            oldest_start_us: 4,
            active_us: 5,
            stuck_ms: 6,
        }),
        DaemonSays::Retired,
        DaemonSays::Log { level: 4, text: "hello\nworld".into() },
        DaemonSays::Runs { path: "/srv/app.wsgi".into(), mtime_us: -1 },
    ];
    reports.extend(Reason::ALL.iter().copied().map(DaemonSays::WantsReplacement));
    for message in &reports {
        message.encode(&mut bytes).unwrap();
    }
    let frames = reports.len();
    streams.push(Stream { name: "from a daemon", side: Side::FromDaemon, bytes, frames });
    streams
}

/// All of them.
pub(crate) fn streams() -> Vec<Stream> {
    [child(), daemon(), control()].into_iter().flatten().collect()
}
