//! A daemon process alone: the real Python, the engine as its extension, and this test as supervisor and as httpd.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and passes descriptors to a process it starts"
)]

mod support;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use engine::os::socket::{self, Wait};
use engine::wire::Secret;
use engine::wire::control::{FromDaemon, ImportScript, Mount, Reason, ToDaemon, Variable};
use engine::wire::message::{self, Kind, RequestBody, Target, flag};
use support::{Ask, BUILD, Client, DEADLINE, Daemon, Frame, Plan, SECRET, pythons};

fn daemon(threads: u32) -> Daemon {
    Plan::new(threads).serve()
}

#[test]
fn every_python_serves() {
    for python in pythons() {
        let mut plan = Plan::new(2);
        plan.python.clone_from(&python);
        let mut daemon = plan.start();
        let ready = daemon.ready();
        daemon.tell(&ToDaemon::Accept);
        let mut client = daemon.connect();
        let response = client.get("/hello");
        assert_eq!(response.text(), "Hello World", "{python:?} {response:?}");
        assert_eq!(response.line, "200 Fine");
        let facts = client.get("/python").text();
        let expected = format!("('{}', ['mod_wsgi'], [", python.display());
        assert!(facts.starts_with(&expected), "{facts}");
        let expected = format!(
            "[], False, 'shop', 2, True, True, False, True, ({}, {}))",
            ready.major, ready.minor
        );
        assert!(facts.ends_with(&expected), "{facts}");
        assert!(
            !facts.contains("['',"),
            "the folder it was started in is no place of modules: {facts}"
        );
        assert!(client.get("/raise").logged("RuntimeError: the application fails"));
        assert_eq!(client.get("/forked").text(), "0", "{python:?}");
        daemon.retire(None);
        let frame = client.next();
        assert!(matches!(frame, Frame::GoAway(4)), "{python:?} {frame:?}");
        daemon.expect(|said| *said == FromDaemon::Retired);
        assert_eq!(daemon.wait().code(), Some(0), "{python:?}");
        let said = fs::read_to_string(daemon.plan.path("atexit")).unwrap();
        assert_eq!(said, "atexit ran\n", "{python:?}");
    }
}

#[test]
fn the_engine_of_another_build_does_not_serve() {
    let mut plan = Plan::new(1);
    plan.setup.build[0] ^= 1;
    let mut daemon = plan.start();
    assert_eq!(daemon.wait().code(), Some(1));
    let errors = fs::read_to_string(daemon.plan.path("stderr")).unwrap();
    assert!(errors.contains("another build than the Apache module"), "{errors}");
}

#[test]
fn options_hold_for_the_process_and_not_for_its_programs() {
    for python in pythons() {
        let options = |seed: Option<u32>, environment: &[Variable]| {
            let mut plan = Plan::new(1);
            plan.python.clone_from(&python);
            plan.environment = environment.to_vec();
            let settings = &mut plan.setup.python;
            (settings.optimize, settings.dont_write_bytecode) = (1, true);
            settings.warnings = vec!["ignore::ImportWarning".to_owned()];
            (settings.hash_seed, settings.gil) = (seed, true);
            plan.serve().get("/options").text()
        };
        let first = options(Some(7), &[]);
        let expected = "(1, False, 1, ['ignore::ImportWarning'], 1, True, ";
        assert!(first.starts_with(expected), "{python:?} {first}");
        assert!(first.ends_with(", [], '0 []\\n')"), "{python:?} {first}");
        assert_eq!(options(Some(7), &[]), first, "hashes are the same in every process");
        assert_ne!(options(Some(8), &[]), first);

        // What the administrator wrote is there for all.
        let own = Variable { name: "PYTHONHASHSEED".to_owned(), value: "7".to_owned() };
        let written = options(Some(8), &[own]);
        let hash = |text: &str| text.split(", ").nth(6).map(str::to_owned);
        assert_eq!(hash(&written), hash(&first));
        let expected = ", ['PYTHONHASHSEED'], \"0 ['PYTHONHASHSEED']\\n\")";
        assert!(written.ends_with(expected), "{python:?} {written}");
    }
}

#[test]
fn a_body_too_long_to_be_held_back_is_told_the_length_of() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    let mut lengths = |path: &str| -> Vec<String> {
        let response = client.get(path);
        assert!(!response.aborted, "{path}");
        let headers = response.headers.into_iter();
        headers.filter(|(n, _)| n.eq_ignore_ascii_case("content-length")).map(|(_, v)| v).collect()
    };
    // httpd sees the length of what it gets at once.
    for path in ["/sized?0", "/sized?65535", "/stream", "/nothing"] {
        assert!(lengths(path).is_empty(), "{path}");
    }
    for size in ["65536", "65537", "1000000"] {
        assert_eq!(lengths(&format!("/sized?{size}")), [size]);
        assert_eq!(lengths(&format!("/sized?{size}!")), [size]);
    }
}

#[test]
fn a_process_has_the_name_it_is_given() {
    let mut plan = Plan::new(1);
    plan.setup.display_name = Some("(wsgi:shop)".to_owned());
    let daemon = plan.serve();
    let arguments = fs::read(format!("/proc/{}/cmdline", daemon.child.id())).unwrap();
    assert!(arguments.starts_with(b"(wsgi:shop)\0\0"), "{arguments:?}");
    // Python itself has read its arguments before.
    let facts = daemon.get("/python").text();
    assert!(facts.starts_with("('/usr/bin/python3', "), "{facts}");
}

#[test]
fn a_kept_connection_carries_one_request_after_the_other() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    for _ in 0..3 {
        let response = client.get("/hello");
        assert_eq!(response.text(), "Hello World");
        assert!(!response.close && !response.lingered);
        assert_eq!(response.frames, 3, "head, data and end");
    }
    assert_eq!(client.number, 3);
}

#[test]
fn the_environ_is_what_was_sent() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    for (key, value) in [
        ("MY_VARIABLE", "'mine'"),
        ("HTTP_X_SOME_THING", "'caf\\xe9'"),
        ("wsgi.url_scheme", "'https'"),
        ("wsgi.multithread", "False"),
        ("mod_wsgi.process_group", "'shop'"),
        ("mod_wsgi.application_group", "''"),
        ("mod_wsgi.callable_object", "'application'"),
        ("mod_wsgi.request_handler", "'wsgi-script'"),
        ("SCRIPT_NAME", "''"),
    ] {
        // The value is what repr gives, whose escape of é is é itself.
        let value = value.replace("\\xe9", "é");
        assert_eq!(client.get(&format!("/environ?{key}")).text(), value, "{key}");
    }
}

#[test]
fn a_script_by_path_runs_in_its_interpreter() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    let path = daemon.plan.path("app.wsgi");
    let target = Target::Script {
        path: path.to_str().unwrap().as_bytes(),
        application_group: "other",
        callable: "application",
    };
    client.send(&Ask { target, ..Ask::new("/environ?mod_wsgi.application_group") });
    assert_eq!(client.response(|_, _| ()).text(), "'other'");
    client.send(&Ask { target: Target::Mount(1), ..Ask::new("/hello") });
    let response = client.response(|_, _| ());
    assert_eq!(response.failed, Some(500));
    assert!(response.logged("does not know"), "{response:?}");
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn a_body_comes_inline_by_credit_or_as_a_file() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    client.send(&Ask { inline: b"all of it", length: Some(9), ..Ask::new("/echo") });
    assert_eq!(client.response(|_, _| ()).text(), "all of it");

    client.send(&Ask::asked("/echo", Some(12), b"begun,"));
    let response = client.response(|client, credit| {
        assert_eq!(credit, 6, "no more is asked for than there is");
        client.body(b" ended", true);
    });
    assert_eq!(response.text(), "begun, ended");
    assert_eq!(response.reads, [(6, true)]);

    client.send(&Ask::asked("/lines", None, b""));
    let response = client.response(|client, credit| {
        assert!(credit > 100);
        client.body(b"one\ntw", false);
        client.body(b"o\nthree", true);
    });
    assert_eq!(response.text(), "one|two|three|");

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"gathered").unwrap();
    file.rewind().unwrap();
    let (body, length) = (RequestBody::File, Some(8));
    client.send(&Ask { body, length, file: Some(&file), ..Ask::new("/echo") });
    assert_eq!(client.response(|_, _| ()).text(), "gathered");
}

#[test]
fn a_large_upload_never_exceeds_its_credit() {
    const SIZE: usize = 20_000_000;
    let daemon = daemon(1);
    let mut client = daemon.connect();
    client.send(&Ask::asked("/count", Some(SIZE as u64), b""));
    let block = vec![b'u'; 65_536];
    let mut left = SIZE;
    let response = client.response(|client, credit| {
        let mut credit = usize::try_from(credit).unwrap();
        assert!(credit <= left);
        while credit > 0 {
            let size = credit.min(block.len());
            credit -= size;
            left -= size;
            client.body(&block[..size], left == 0);
        }
    });
    assert!(response.text().starts_with("20000000 "), "{response:?}");
    assert!(response.reads.len() < 100, "{}", response.reads.len());
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn a_body_that_breaks_is_an_error_to_the_application() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    client.send(&Ask::asked("/echo", Some(100), b""));
    let response = client.response(|client, _| {
        let mut out = Vec::new();
        message::body_fault(&mut out, client.number, "the client was too slow", true);
        client.raw(&out);
    });
    assert_eq!(response.failed, Some(500));
    assert!(
        response.logged("OSError: request data read error: the client was too slow"),
        "{response:?}"
    );
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn a_body_nobody_reads_is_nobodys_fault() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    client.send(&Ask::asked("/early", Some(1_000_000), b"some"));
    let response = client.response(|_, _| panic!("nothing is asked for"));
    assert_eq!(response.text(), "not read");
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn large_bodies_and_streams_arrive_whole() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    let response = client.get("/large");
    assert_eq!(response.body.len(), 2_000_000);
    assert_eq!((response.body[999_999], response.body[1_000_000]), (b'a', b'b'));
    client.send(&Ask::new("/stream"));
    let mut blocks = Vec::new();
    loop {
        match client.next() {
            Frame::Data { bytes, flush } => {
                assert!(flush);
                blocks.push(bytes);
            }
            Frame::End(ending) => {
                assert!(ending.linger, "close() of the application runs after the end");
                break;
            }
            Frame::Head { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(blocks, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert!(matches!(client.next(), Frame::Log(text) if text == "closed"));
    assert!(matches!(client.next(), Frame::Done { close: false }));
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn a_file_goes_as_a_descriptor() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    for _ in 0..2 {
        let response = client.get("/file?large");
        assert!(response.file && response.lingered, "{:?}", response.line);
        assert_eq!(response.body, vec![b'L'; 1_000_000]);
    }
    let response = client.get("/file?small");
    assert!(!response.file, "a small one is sent as bytes");
    assert_eq!(response.text(), "small file");
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn what_fails_is_told_and_logged() {
    let daemon = daemon(1);
    let mut client = daemon.connect();
    let response = client.get("/raise");
    assert_eq!(response.failed, Some(500));
    assert!(response.logged("RuntimeError: the application fails"), "{response:?}");
    let response = client.get("/broken");
    assert!(response.aborted);
    assert_eq!(response.text(), "begun");
    assert!(response.logged("RuntimeError: in the middle"), "{response:?}");
    let response = client.get("/log");
    for text in ["to errors", "to stdout"] {
        assert!(response.logged(text), "{response:?}");
    }
    assert_eq!(client.get("/hello").text(), "Hello World");
    let mut daemon = daemon;
    daemon.expect_log("from a thread");
}

#[test]
fn a_client_that_goes_frees_the_thread() {
    let mut daemon = daemon(1);
    for cancel in [false, true] {
        let mut client = daemon.connect();
        client.send(&Ask::new("/endless"));
        assert!(matches!(client.next(), Frame::Head { .. }));
        if cancel {
            client.cancel();
            // It has to take what comes until then.
            let response = client.response(|_, _| ());
            assert!(response.aborted);
            assert_eq!(client.get("/hello").text(), "Hello World");
        }
        drop(client);
        assert_eq!(daemon.get("/hello").text(), "Hello World");
    }
    let closed = fs::read_to_string(daemon.plan.path("closed")).unwrap();
    assert_eq!(closed, "closed\nclosed\n", "close() was called for both");
    daemon.retire(None);
    daemon.wait();
}

#[test]
fn whoever_went_before_its_turn_is_not_served() {
    let daemon = daemon(1);
    let mut busy = daemon.connect();
    busy.send(&Ask::new("/hold"));
    daemon.held();
    let mut gone = daemon.connect();
    gone.send(&Ask::new("/stream"));
    drop(gone);
    let mut back = daemon.connect();
    back.send(&Ask::new("/stream"));
    back.cancel();
    let mut last = daemon.connect();
    last.send(&Ask::new("/hello"));
    daemon.release();
    assert_eq!(busy.response(|_, _| ()).text(), "Hello World");
    assert_eq!(back.response(|_, _| ()).failed, Some(503));
    assert_eq!(last.response(|_, _| ()).text(), "Hello World");
    assert!(!daemon.plan.path("closed").exists(), "neither was run");
}

#[test]
fn a_request_that_did_not_arrive_whole_is_not_run() {
    let daemon = daemon(1);
    let count = Ask { inline: b"and its body", length: Some(12), ..Ask::new("/count-me") };
    let whole = daemon.connect().encode(&count);
    for left in [1, 12, 13, whole.len() - Client::hello().len() - 1] {
        daemon.connect().raw(&whole[..whole.len() - left]);
    }
    // The only thread has had its turn with each of them.
    assert_eq!(daemon.get("/hello").text(), "Hello World");
    assert!(!daemon.plan.path("counted").exists());
    daemon.connect().get("/count-me");
    assert!(daemon.plan.path("counted").exists());
}

#[test]
fn more_connections_than_threads_all_get_their_turn() {
    let daemon = daemon(2);
    let mut clients: Vec<Client> = (0..8).map(|_| daemon.connect()).collect();
    for client in &mut clients {
        client.send(&Ask::new("/hello"));
    }
    let (mut served, mut handed_back) = (0, 0);
    // Each wants three responses; whose connection is given back makes another, as httpd does.
    let mut wanted = vec![3; clients.len()];
    while wanted.iter().any(|left| *left > 0) {
        for (client, left) in clients.iter_mut().zip(&mut wanted) {
            if *left == 0 {
                continue;
            }
            let response = client.response(|_, _| ());
            if response.away.is_some() || response.closed {
                assert!(client.order.unread(), "{response:?}");
                *client = daemon.connect();
                client.send(&Ask::new("/hello"));
                handed_back += 1;
                continue;
            }
            assert_eq!(response.text(), "Hello World", "{response:?}");
            served += 1;
            *left -= 1;
            if *left > 0 {
                if client.order.reusable() {
                    // It may have been given back just now, which the next frame says then.
                    let bytes = client.encode(&Ask::new("/hello"));
                    client.raw(&bytes);
                } else {
                    *client = daemon.connect();
                    client.send(&Ask::new("/hello"));
                    handed_back += 1;
                }
            }
        }
    }
    assert_eq!(served, 24);
    assert!(handed_back > 0);
}

/// As httpd does: a connection is used again while it can be, and what was not read is sent again.
fn persist(path: &std::path::Path, times: usize) -> (usize, usize) {
    let (mut client, mut connections, mut again) = (Client::new(path), 1, 0);
    for _ in 0..times {
        loop {
            if !client.order.reusable() {
                (client, connections) = (Client::new(path), connections + 1);
            }
            let bytes = client.encode(&Ask::new("/count-me"));
            client.raw(&bytes);
            let response = client.response(|_, _| ());
            if response.line == "200 Fine" {
                break;
            }
            assert!(client.order.unread(), "{response:?}");
            (client, connections) = (Client::new(path), connections + 1);
            again += 1;
        }
    }
    (connections, again)
}

#[test]
fn a_crowd_is_served_once_each() {
    let daemon = daemon(4);
    let path = &daemon.socket_path;
    let start = Instant::now();
    let counts: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(|| persist(path, 50))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let connections: usize = counts.iter().map(|(connections, _)| connections).sum();
    let again: usize = counts.iter().map(|(_, again)| again).sum();
    let took = start.elapsed();
    println!("1200 requests in {took:?}, {connections} connections, {again} sent again");
    assert!(took < DEADLINE);
    let counted = fs::read(daemon.plan.path("counted")).unwrap();
    assert_eq!(counted.len(), 24 * 50, "each was run once");
}

#[test]
fn an_idle_connection_gives_way_and_is_told() {
    let daemon = daemon(1);
    let mut idle = daemon.connect();
    idle.get("/hello");
    assert_eq!(daemon.get("/hello").text(), "Hello World");
    assert!(matches!(idle.next(), Frame::GoAway(1)));
    assert!(matches!(idle.next(), Frame::Closed));
    assert!(!idle.order.reusable());
}

#[test]
fn a_busy_process_retires_without_losing_its_request() {
    let mut daemon = daemon(3);
    let mut idle = daemon.connect();
    idle.get("/hello");
    let mut silent = daemon.connect();
    let mut busy = daemon.connect();
    busy.send(&Ask::asked("/hold-body", Some(4), b""));
    assert!(matches!(busy.next(), Frame::Read { credit: 4, first: true }));
    busy.body(b"body", true);
    daemon.held();
    daemon.retire(None);
    assert!(matches!(idle.next(), Frame::GoAway(1)));
    assert!(matches!(idle.next(), Frame::Closed));
    assert!(matches!(silent.next(), Frame::GoAway(0)));
    daemon.release();
    let response = busy.response(|_, _| ());
    assert!(response.text().starts_with("4 "), "{response:?}");
    assert!(response.close);
    daemon.expect(|said| *said == FromDaemon::Retired);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn whoever_does_not_end_in_time_is_answered_at_the_end() {
    let mut daemon = daemon(1);
    let mut busy = daemon.connect();
    busy.send(&Ask::new("/hold"));
    daemon.held();
    daemon.retire(Some(Duration::from_millis(50)));
    let response = busy.response(|_, _| ());
    assert_eq!(response.failed, Some(502));
    assert!(response.logged("the process ends before the request"), "{response:?}");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn an_application_that_eats_all_descriptors_is_replaced() {
    let mut plan = Plan::new(2);
    let limit = "ulimit -n 64 && exec \"$0\" \"$@\"";
    plan.wrapper = ["/bin/sh", "-c", limit].map(str::to_owned).to_vec();
    let mut daemon = plan.serve();
    let mut kept = daemon.connect();
    assert_eq!(kept.get("/eat-descriptors").text(), "Hello World");
    // Who comes now waits, and gets the next process.
    let mut next = daemon.connect();
    let bytes = next.encode(&Ask::new("/count-me"));
    next.raw(&bytes);
    daemon.wishes(Reason::Starved);
    assert_eq!(kept.get("/hello").text(), "Hello World");
    daemon.retire(None);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.log.iter().any(|line| line.contains("connections cannot be accepted")));
    assert!(!daemon.plan.path("counted").exists());
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let daemon = daemon(1);
    let hello = Client::hello();
    let mut wrong_secret = Vec::new();
    let mut other = SECRET;
    other[31] ^= 1;
    message::hello(&mut wrong_secret, &BUILD, &Secret::new(other));
    let mut wrong_build = Vec::new();
    message::hello(&mut wrong_build, &[8; 32], &Secret::new(SECRET));
    let request = daemon.connect().encode(&Ask::new("/hello"));
    let pieces: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 500],
        vec![0xff; 500],
        hello[..40].to_vec(),
        request[hello.len()..].to_vec(),
        wrong_secret,
        wrong_build,
        [hello.clone(), hello.clone()].concat(),
        [hello.clone(), Client::frame(Kind::Request, 0, 1, b"short")].concat(),
        [hello.clone(), Client::frame(Kind::Request, 0, 2, b"")].concat(),
        [hello.clone(), Client::frame(Kind::Body, flag::LAST, 1, b"")].concat(),
        [hello.clone(), Client::frame(Kind::End, 0, 1, b"")].concat(),
        [hello.clone(), Client::frame(Kind::Request, flag::HAS_FILE, 1, b"")].concat(),
    ];
    for piece in &pieces {
        let mut client = daemon.connect();
        client.raw(piece);
        assert!(client.is_turned_away(), "{piece:?}");
    }
    // A descriptor that belongs to no frame.
    let mut client = daemon.connect();
    let bytes = client.encode(&Ask::new("/hello"));
    let file = File::open("/dev/null").unwrap();
    socket::send(client.socket.as_fd(), &[&bytes], &[file.as_fd()], Wait::Yes).unwrap();
    assert!(client.is_turned_away());
    // More body than was asked for.
    let mut client = daemon.connect();
    client.send(&Ask::asked("/count", Some(4), b""));
    assert!(matches!(client.next(), Frame::Read { credit: 4, .. }));
    client.body(b"five!", false);
    assert!(client.is_turned_away());
    assert_eq!(daemon.get("/hello").text(), "Hello World");
    let mut daemon = daemon;
    daemon.expect_log("a connection is ended");
}

#[test]
fn connections_that_say_nothing_hold_no_thread() {
    let daemon = daemon(1);
    let mut silent: Vec<Client> = (0..40).map(|_| daemon.connect()).collect();
    for _ in 0..3 {
        assert_eq!(daemon.get("/hello").text(), "Hello World");
    }
    // One that speaks at last is heard, also while the only thread has another connection.
    let mut kept = daemon.connect();
    kept.get("/hello");
    assert_eq!(silent[39].get("/hello").text(), "Hello World");
    // Those too many were given up at once, the others after a while.
    assert!(silent[0].is_turned_away());
    assert!(silent[38].is_turned_away());
}

#[test]
fn other_users_are_turned_away() {
    let mut plan = Plan::new(1);
    plan.setup.peer_uid += 1;
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    let bytes = client.encode(&Ask::new("/hello"));
    client.raw(&bytes);
    assert!(client.is_turned_away());
    daemon.expect_log("has made it, not httpd");
}

#[test]
fn an_application_that_does_not_import_is_told() {
    let plan = Plan::new(1);
    plan.script("import nothing_of_this_name\n");
    let mut daemon = plan.start();
    let said = daemon.expect(|said| matches!(said, FromDaemon::ImportFailed(_)));
    let FromDaemon::ImportFailed(text) = said else { panic!("{said:?}") };
    assert!(text.contains("ModuleNotFoundError: No module named 'nothing_of_this_name'"), "{text}");
    assert!(text.contains("app.wsgi\", line 1"), "{text}");
    // It may serve all the same, and the next request tries again.
    daemon.tell(&ToDaemon::Accept);
    assert_eq!(daemon.get("/").failed, Some(500));
    daemon.plan.script(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n",
    );
    assert_eq!(daemon.get("/").text(), "mended");
    daemon.retire(None);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn signals_are_what_they_are_in_python() {
    let mut daemon = daemon(1);
    daemon.signal(libc::SIGUSR2);
    let deadline = Instant::now() + DEADLINE;
    while !fs::read_to_string(daemon.plan.path("usr2")).is_ok_and(|text| text == "main\n") {
        assert!(Instant::now() < deadline);
        // The process is at work meanwhile; each request is a moment.
        assert_eq!(daemon.get("/hello").text(), "Hello World");
    }
    daemon.signal(libc::SIGUSR1);
    daemon.wishes(Reason::Signal);
    let mut busy = daemon.connect();
    busy.send(&Ask::new("/hold"));
    daemon.held();
    daemon.signal(libc::SIGTERM);
    daemon.release();
    assert_eq!(busy.response(|_, _| ()).text(), "Hello World");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.plan.path("atexit").exists());
}

#[test]
fn without_a_supervisor_it_serves_on() {
    let mut daemon = daemon(1);
    drop(daemon.status.take());
    assert_eq!(daemon.get("/log").text(), "Hello World");
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_killed_process_is_seen_at_once() {
    let mut daemon = daemon(1);
    let mut busy = daemon.connect();
    busy.send(&Ask::new("/hold"));
    daemon.held();
    daemon.signal(libc::SIGKILL);
    assert!(busy.is_turned_away());
    assert!(!busy.order.answered() && !busy.order.unread());
    daemon.wait();
}

#[test]
fn a_request_that_takes_too_long_is_answered_with_its_stack() {
    let mut plan = Plan::new(2);
    plan.setup.timeouts.request = Some(Duration::from_millis(300));
    let mut daemon = plan.serve();
    let mut stuck = daemon.connect();
    let start = Instant::now();
    stuck.send(&Ask::new("/hold"));
    daemon.held();
    let response = stuck.response(|_, _| ());
    assert_eq!(response.failed, Some(504));
    assert!(response.close);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(response.logged("in hold\n"), "{response:?}");
    daemon.wishes(Reason::RequestTimeout);
    // The other thread goes on, and the lost one when it comes back.
    assert_eq!(daemon.get("/hello").text(), "Hello World");
    daemon.release();
    let mut both: Vec<Client> = (0..2).map(|_| daemon.connect()).collect();
    for client in &mut both {
        assert_eq!(client.get("/hello").text(), "Hello World");
    }
}

#[test]
fn a_request_that_waits_for_its_body_ends_as_well() {
    let mut plan = Plan::new(1);
    plan.setup.timeouts.request = Some(Duration::from_millis(200));
    let daemon = plan.serve();
    let mut client = daemon.connect();
    client.send(&Ask::asked("/echo", Some(5), b""));
    assert_eq!(client.response(|_, _| ()).failed, Some(504));
    assert_eq!(daemon.get("/hello").text(), "Hello World");
}

#[test]
fn an_interrupted_request_unwinds() {
    let mut plan = Plan::new(1);
    plan.setup.timeouts.request = Some(Duration::from_millis(200));
    plan.setup.timeouts.interrupt = Some(Duration::from_secs(10));
    let daemon = plan.serve();
    let mut client = daemon.connect();
    let response = client.get("/spin");
    assert_eq!(response.failed, Some(504));
    assert!(response.logged("RequestTimeout is raised in it"), "{response:?}");
    assert!(response.logged("in spin\n"), "{response:?}");
    assert!(!response.close, "the thread and its connection go on");
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn a_held_gil_is_noticed_and_its_request_answered() {
    let mut plan = Plan::new(2);
    plan.setup.timeouts.request = Some(Duration::from_millis(200));
    plan.setup.life.deadlock = Some(Duration::from_secs(1));
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    let response = client.get("/stuck?6000");
    assert_eq!(response.failed, Some(504));
    assert!(response.logged("its interpreter does not answer"), "{response:?}");
    daemon.expect(|said| matches!(said, FromDaemon::Stats(stats) if stats.stuck_ms >= 1000));
}

#[test]
fn requests_that_nobody_can_read_are_handed_back() {
    let daemon = Plan::new(2).serve();
    let mut kept = daemon.connect();
    kept.get("/hello");
    let mut holding = daemon.connect();
    holding.send(&Ask::new("/hold-gil"));
    daemon.held();
    kept.send(&Ask::new("/count-me"));
    daemon.retire(None);
    assert!(matches!(kept.next(), Frame::GoAway(1)));
    daemon.release();
    assert_eq!(holding.response(|_, _| ()).text(), "Hello World");
    assert!(!daemon.plan.path("counted").exists());
}

#[test]
fn a_request_that_waited_too_long_is_not_run() {
    let mut plan = Plan::new(1);
    plan.setup.timeouts.queue = Some(Duration::from_secs(1));
    let daemon = plan.serve();
    let mut client = daemon.connect();
    client.send(&Ask { queued_for: Duration::from_secs(5), ..Ask::new("/stream") });
    let response = client.response(|_, _| ());
    assert_eq!(response.failed, Some(504));
    assert!(response.logged("queue-timeout"), "{response:?}");
    assert!(!daemon.plan.path("closed").exists());
    assert_eq!(client.get("/hello").text(), "Hello World");
}

#[test]
fn limits_ask_for_a_replacement_and_lose_nothing() {
    let mut plan = Plan::new(1);
    plan.setup.life.maximum_requests = Some(3);
    plan.setup.life.inactivity = Some(Duration::from_millis(100));
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/hello").text(), "Hello World");
    }
    daemon.wishes(Reason::MaximumRequests);
    daemon.wishes(Reason::Inactivity);
    assert_eq!(client.get("/hello").text(), "Hello World");
}

fn mtime_us(daemon: &Daemon) -> i64 {
    let facts = fs::metadata(daemon.plan.path("app.wsgi")).unwrap();
    facts.mtime() * 1_000_000 + facts.mtime_nsec() / 1000
}

#[test]
fn new_code_is_another_processs_business() {
    let mut plan = Plan::new(2);
    plan.setup.life.reload_wait = Some(DEADLINE);
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    let mtime_us = mtime_us(&daemon);
    client.send(&Ask { reloading: true, mtime_us, ..Ask::new("/hello") });
    assert_eq!(client.response(|_, _| ()).text(), "Hello World", "the code is the one it has");
    client.send(&Ask { reloading: true, mtime_us: mtime_us + 1, ..Ask::new("/hello") });
    daemon.wishes(Reason::ScriptChanged);
    // The new process is there.
    daemon.retire(None);
    assert!(
        matches!(client.next(), Frame::GoAway(1)),
        "it was not run, and goes to the new process"
    );
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn old_code_serves_when_the_new_does_not_come() {
    let mut plan = Plan::new(1);
    plan.setup.life.reload_wait = Some(Duration::from_millis(100));
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    for _ in 0..2 {
        client.send(&Ask { reloading: true, mtime_us: 1, ..Ask::new("/hello") });
        assert_eq!(client.response(|_, _| ()).text(), "Hello World");
    }
    daemon.wishes(Reason::ScriptChanged);
}

#[test]
fn a_fork_leaves_nothing_of_ours_behind() {
    let mut daemon = daemon(2);
    let mut kept = daemon.connect();
    kept.get("/hello");
    let mut client = daemon.connect();
    assert_eq!(client.get("/forked").text(), "0");
    assert_eq!(client.get("/return-from-fork").text(), "Hello World");
    assert_eq!(client.get("/hello").text(), "Hello World");
    assert_eq!(kept.get("/hello").text(), "Hello World");
    daemon.retire(None);
    assert_eq!(daemon.wait().code(), Some(0));
    let errors = fs::read_to_string(daemon.plan.path("stderr")).unwrap();
    assert!(errors.contains("from the child"), "{errors}");
}

#[test]
fn a_service_script_has_the_main_thread() {
    let mut plan = Plan::new(0);
    plan.script(
        "import os, signal, sys, threading
assert threading.current_thread() is threading.main_thread()
here = os.path.dirname(__file__)
try:
    print('service runs', flush=True)
    with open(os.path.join(here, 'go')) as go:
        go.read()
finally:
    print('service cleans up', flush=True)
",
    );
    plan.setup.mounts.clear();
    plan.setup.import_scripts = vec![ImportScript {
        path: plan.path("app.wsgi").to_str().unwrap().to_owned(),
        application_group: String::new(),
    }];
    let mut daemon = plan.start();
    daemon.ready();
    daemon.expect_log("service runs");
    daemon.signal(libc::SIGTERM);
    daemon.expect_log("service cleans up");
    daemon.wishes(Reason::ScriptEnded);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn service_scripts_run_one_after_the_other_whatever_becomes_of_them() {
    let mut plan = Plan::new(0);
    plan.setup.mounts.clear();
    for (name, text) in [
        ("first.py", "raise RuntimeError('the first')"),
        ("second.py", "import sys; sys.exit(3)"),
        ("third.py", "import atexit; atexit.register(print, 'at exit'); print('the third')"),
    ] {
        fs::write(plan.path(name), text).unwrap();
        plan.setup.import_scripts.push(ImportScript {
            path: plan.path(name).to_str().unwrap().to_owned(),
            application_group: String::new(),
        });
    }
    let mut daemon = plan.start();
    daemon.ready();
    daemon.expect_log("RuntimeError: the first");
    daemon.expect_log("the third");
    daemon.wishes(Reason::ScriptEnded);
    daemon.expect_log("at exit");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn mounts_share_what_they_name() {
    let mut plan = Plan::new(1);
    let first = plan.setup.mounts[0].clone();
    plan.setup.mounts.push(Mount { id: 2, application_group: "two".to_owned(), ..first.clone() });
    plan.setup.mounts.push(Mount { id: 3, ..first });
    let daemon = plan.serve();
    let mut client = daemon.connect();
    for (id, name) in [(2, "'two'"), (3, "''")] {
        let ask = Ask::new("/environ?mod_wsgi.application_group");
        client.send(&Ask { target: Target::Mount(id), ..ask });
        assert_eq!(client.response(|_, _| ()).text(), name);
    }
}

/// System calls between two marks, of the thread that makes them.
#[test]
fn a_small_kept_request_takes_five_system_calls() {
    let Ok(found) = std::process::Command::new("strace").arg("-V").output() else {
        eprintln!("skipped: no strace here");
        return;
    };
    assert!(found.status.success());
    let mut plan = Plan::new(1);
    let trace = plan.path("trace");
    plan.wrapper =
        ["strace", "-f", "-qq", "-o", trace.to_str().unwrap()].map(str::to_owned).to_vec();
    let mut daemon = plan.serve();
    let mut client = daemon.connect();
    client.get("/hello");
    client.get("/mark?begin");
    for _ in 0..100 {
        assert_eq!(client.get("/hello").text(), "Hello World");
    }
    client.get("/mark?end");
    daemon.retire(None);
    daemon.wait();
    let text = fs::read_to_string(&trace).unwrap();
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let mark = |name: &str| {
        text.lines().position(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}"))
    };
    let (begin, end) = (mark("/mark-begin"), mark("/mark-end"));
    let lines: Vec<&str> = text.lines().collect();
    let serving = thread(lines[begin]);
    let calls: Vec<&&str> = lines[begin + 1..end]
        .iter()
        .filter(|line| thread(line) == serving && !line.contains("resumed>"))
        .collect();
    // It waits, receives, sends, watches the connection again and looks whether something else has come. Beside
    // that there are the rest of the first mark and the beginning of the last.
    let extra = 5;
    assert!(calls.len() <= 500 + extra, "{} calls: {:#?}", calls.len(), &calls[..20]);
}
