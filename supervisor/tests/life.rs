//! The supervisor as it runs, without httpd and without Python: a fake daemon speaks the status
//! protocol.

#![expect(
    unsafe_code,
    reason = "descriptors of the program under test, and processes by descriptor"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "the harness is test code as well")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use engine::os::news::{ALL, Kind};
use engine::wire::control::{FromParent, Identity, ToParent};

mod support;

use support::{Bench, DEADLINE, Watch, is_root, mount, variable};

#[test]
fn starts_serves_and_stops() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.processes = 2;
    bench.serve(1, &[(&plan, &door)]);
    let first = door.pid();
    let second = door.other_than(first);
    let watches = [Watch::new(first), Watch::new(second)];
    bench.stop();
    for watch in watches {
        assert!(watch.ended_within(Duration::ZERO), "a process outlives STOPPED");
    }
    assert_eq!(bench.log(), [""; 0]);
}

#[test]
fn what_an_application_has_started_ends_with_the_server_and_not_before() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let earlier = Watch::new(door.ask("child").parse().unwrap());
    let watch = Watch::new(old);
    bench.serve(2, &[(&plan, &door)]);
    door.other_than(old);
    assert!(watch.ended_within(DEADLINE));
    assert!(!earlier.ended_within(Duration::ZERO));

    let child = Watch::new(door.ask("child").parse().unwrap());
    bench.stop();
    // They are deaf to SIGTERM.
    assert!(child.ended_within(Duration::ZERO) && earlier.ended_within(Duration::ZERO));
}

#[test]
fn a_replacement_leaves_no_gap() {
    let mut bench = Bench::new();
    let door = Arc::new(bench.door("socket"));
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let first = door.pid();
    let done = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let (door, done) = (door.clone(), done.clone());
        move || {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                // Panics if there is no answer.
                door.pid();
                answers += 1;
            }
            answers
        }
    });
    let mut old = first;
    for _ in 0..5 {
        let watch = Watch::new(old);
        assert_eq!(door.ask("want").parse::<u32>().unwrap(), old);
        old = door.other_than(old);
        assert!(watch.ended_within(DEADLINE), "the old process stays");
    }
    done.store(true, Ordering::Relaxed);
    assert_ne!(asking.join().unwrap(), 0);
    bench.stop();
    assert_eq!(bench.log(), [""; 0]);
}

#[test]
fn an_old_process_finishes_what_it_has() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let watch = Watch::new(old);
    let mut held = door.knock("hold");
    held.read_exact(&mut [0; 5]).unwrap();
    door.ask("want");
    door.other_than(old);
    assert!(!watch.ended_within(Duration::from_millis(50)));
    held.write_all(b"go\n").unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, old.to_string());
    assert!(watch.ended_within(DEADLINE));

    // The same when the server stops gracefully.
    let mut held = door.knock("hold");
    held.read_exact(&mut [0; 5]).unwrap();
    bench.tell(&FromParent::Stop { graceful: true }, None);
    held.write_all(b"go\n").unwrap();
    answer.clear();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.parse::<u32>().is_ok(), "{answer:?}");
    assert_eq!(bench.told(), ToParent::Stopped);
    assert!(bench.ended().success());
}

#[test]
fn who_does_not_finish_is_ended() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.life.graceful = Some(Duration::from_millis(100));
    plan.life.shutdown = Some(Duration::from_millis(100));
    plan.env.push(variable("ON_TERM", "ignore"));
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let watch = Watch::new(old);
    let mut held = door.knock("hold");
    held.read_exact(&mut [0; 5]).unwrap();
    door.ask("want");
    assert!(watch.ended_within(DEADLINE));
    let pid = format!("daemon process {old} of group 'site'");
    bench.expect_log(&[
        "[wsgi:error]",
        &pid,
        "it served maximum-requests",
        "did not finish in time",
        "SIGKILL",
    ]);
}

#[test]
fn a_death_is_logged_with_its_reason_and_made_good() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    for (number, name) in [(libc::SIGSEGV, "SIGSEGV"), (libc::SIGXCPU, "cpu-time-limit")] {
        let old = door.pid();
        let since = SystemTime::now();
        door.ask(&format!("kill {number}"));
        let line = bench.expect_log(&[&format!("[pid {old}]"), name, "while it served"]);
        assert!(line.contains("[wsgi:error]"), "{line}");
        assert_ne!(door.pid(), old);
        // The requests that it had are told as well.
        let told = bench.told.ended(1, since).unwrap();
        assert!(told.starts_with(&format!("process {old} ")) && told.contains(name), "{told}");
    }
    let since = SystemTime::now();
    let old = door.pid();
    let watch = Watch::new(old);
    door.ask("want");
    assert!(watch.ended_within(DEADLINE));
    bench.stop();
    assert_eq!(bench.told.ended(1, since), None, "an end that was meant is nobody's fault");
}

#[test]
fn where_nothing_can_be_started_nobody_is_left_to_wait() {
    let mut bench = Bench::idle();
    bench.tell_children(ALL, Kind::Down, "there is no supervisor");
    bench.start();
    let (door, other) = (bench.door("one"), bench.door("two"));
    let mut plan = bench.plan("site", 1);
    let good = bench.plan("good", 2);
    plan.env.push(variable("ON_START", "exit"));
    let mut early = door.knock("pid");
    bench.serve(1, &[(&plan, &door), (&good, &other)]);
    bench.await_news(|news| news.down(1).is_some());
    let told = bench.told.down(1).unwrap();
    assert!(told.starts_with("no process can be started: the last one, process "), "{told}");
    assert!(told.ends_with(" exited with status 3 before it was ready"), "{told}");
    // Who came before that was told sees that nothing of what it has sent was read.
    let fault = early.read(&mut [0]).unwrap_err();
    assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionReset);
    other.pid();
    assert_eq!(bench.told.down(2), None);

    // A supervisor that takes over does not know, and says so once it does.
    bench.kill();
    bench.start();
    assert!(bench.told.down(1).is_some());
    plan.env.clear();
    bench.serve(1, &[(&plan, &door), (&good, &other)]);
    door.pid();
    bench.await_news(|news| news.down(1).is_none());
    bench.stop();
}

#[test]
fn a_process_that_cannot_start_is_tried_less_and_less_often() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.env.push(variable("ON_START", "exit"));
    bench.serve(1, &[(&plan, &door)]);
    bench.expect_log(&["exited with status 3 before it was ready"]);
    let first = Instant::now();
    for _ in 0..3 {
        bench.expect_log(&["exited with status 3 before it was ready"]);
    }
    // 100, 200 and 400 milliseconds, less the time that a line may lie about.
    assert!(first.elapsed() > Duration::from_millis(650), "{:?}", first.elapsed());
    bench.stop();
}

#[test]
fn a_step_that_fails_is_named() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut python = bench.plan("nopython", 1);
    python.python = "/nonexistent/bin/python3".to_owned();
    let mut folder = bench.plan("nofolder", 2);
    folder.cwd = Some("/nonexistent".to_owned());
    bench.serve(1, &[(&python, &door)]);
    bench.expect_log(&[
        "[wsgi:error]",
        "group 'nopython' could not be started: executing Python failed: No such file or directory",
    ]);
    bench.serve(2, &[(&folder, &door)]);
    bench.expect_log(&[
        "group 'nofolder' could not be started: going to the home folder failed: No such file",
    ]);
    bench.stop();
}

#[test]
fn nothing_outlives_the_control_socket() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.life.shutdown = None;
    plan.env.push(variable("ON_TERM", "ignore"));
    bench.serve(1, &[(&plan, &door)]);
    let watch = Watch::new(door.pid());
    let begun = Instant::now();
    bench.hang_up();
    assert!(watch.ended_within(Duration::from_secs(5)));
    assert!(begun.elapsed() > Duration::from_secs(3), "it had no time to end by itself");
    assert!(bench.ended().success());
}

#[test]
fn nothing_outlives_the_parent() {
    let mut bench = Bench::idle();
    let mut shell = bench.start_under_shell();
    let program: u32 = bench.expect_log(&[""]).parse().unwrap();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let watches = [Watch::new(door.pid()), Watch::new(program)];
    // This side keeps the control socket: what is seen is the end of the process.
    shell.kill().unwrap();
    shell.wait().unwrap();
    for watch in watches {
        assert!(watch.ended_within(Duration::from_secs(5)));
    }
}

#[test]
fn what_root_of_a_container_may_not_set_keeps_no_process_from_running() {
    let mut bench = Bench::idle();
    bench.start_confined();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.nice = Some(-5);
    plan.limits.data = Some(1 << 30);
    bench.serve(1, &[(&plan, &door)]);
    let facts = door.ask("facts");
    assert!(facts.contains("nice 0\n"), "{facts}");
    assert!(facts.contains(&format!("Max data size {0} {0} bytes\n", 512 << 20)), "{facts}");
    bench.expect_log(&["[wsgi:warn]", "runs without its cpu-priority"]);
    bench.stop();
}

#[test]
fn a_process_has_what_it_shall_have_and_nothing_else() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.umask = Some(0o027);
    plan.cwd = Some("/usr".to_owned());
    plan.nice = Some(5);
    plan.limits.cpu_seconds = Some(1000);
    plan.limits.data = Some(1 << 30);
    plan.limits.address_space = Some(1 << 32);
    plan.env.push(variable("LANG", "C.UTF-8"));
    if is_root() {
        plan.user = Some(Identity { uid: 65534, gid: 65533, groups: vec![65533, 1234, 77] });
    }
    bench.serve(1, &[(&plan, &door)]);
    let facts = door.ask("facts");
    let facts: Vec<&str> = facts.lines().collect();
    let mut expected = vec![
        "Umask: 0027".to_owned(),
        "SigBlk: 0000000000000000".to_owned(),
        // The Rust runtime of the fake daemon has ignored SIGPIPE.
        "SigIgn: 0000000000001000".to_owned(),
        "Max cpu time 1000 1006 seconds".to_owned(),
        format!("Max data size {0} {0} bytes", 1 << 30),
        format!("Max address space {0} {0} bytes", 1_u64 << 32),
        "cwd /usr".to_owned(),
        "nice 5".to_owned(),
        format!("arg {}", bench.python.display()),
        "arg -c".to_owned(),
        "setup site 5".to_owned(),
    ];
    if is_root() {
        expected.extend(
            [
                "Uid: 65534 65534 65534 65534",
                "Gid: 65533 65533 65533 65533",
                "Groups: 77 1234 65533",
                "CapPrm: 0000000000000000",
                "CapEff: 0000000000000000",
            ]
            .map(str::to_owned),
        );
    }
    for line in expected {
        assert!(facts.contains(&line.as_str()), "{line:?} is not among {facts:#?}");
    }
    let pid = door.pid();
    assert!(facts.contains(&format!("pgrp {pid} pid {pid}").as_str()), "{facts:#?}");

    let environment: Vec<&&str> = facts.iter().filter(|line| line.starts_with("env ")).collect();
    assert_eq!(environment, [&"env LANG=C.UTF-8"]);

    let descriptors: Vec<&&str> = facts.iter().filter(|line| line.starts_with("fd ")).collect();
    let engine = format!("fd 5 {}", bench.folder.path().join("engine.so").display());
    let beginnings = [
        "fd 0 /dev/null",
        "fd 1 pipe:",
        "fd 2 pipe:",
        "fd 3 socket:",
        "fd 4 socket:",
        &engine,
        "fd 6 pipe:",
    ];
    assert_eq!(descriptors.len(), beginnings.len(), "{descriptors:#?}");
    for (descriptor, beginning) in descriptors.iter().zip(beginnings) {
        assert!(descriptor.starts_with(beginning), "{descriptors:#?}");
    }
    // The pipe is one, and not the one that is the log.
    let pipe = |number: usize| descriptors[number].split_once("pipe:").unwrap().1;
    assert!(pipe(1) == pipe(2) && pipe(2) == pipe(6));
    let log = fs::read_link(format!("/proc/{}/fd/2", bench.program())).unwrap();
    assert_ne!(log.to_str().unwrap(), format!("pipe:{}", pipe(2)));
    bench.stop();
}

#[test]
fn the_supervisor_keeps_nothing_of_its_parent() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    door.pid();
    let proc = format!("/proc/{}", bench.program());
    // The control socket was given to it under several numbers.
    let mut sockets: Vec<String> = fs::read_dir(format!("{proc}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .filter(|target| target.starts_with("socket:"))
        .collect();
    let all = sockets.len();
    sockets.sort();
    sockets.dedup();
    assert_eq!(sockets.len(), all);
    let stat = fs::read_to_string(format!("{proc}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Process group and session.
    assert_eq!(fields[2..4], [bench.program().to_string(), bench.program().to_string()]);
    // Signals that take others down leave it alone.
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
        let program = i32::try_from(bench.program()).unwrap();
        // SAFETY: our child.
        assert_eq!(unsafe { libc::kill(program, number) }, 0);
    }
    let old = door.pid();
    door.ask("want");
    door.other_than(old);
    bench.stop();
}

#[test]
fn a_changed_script_means_new_processes_if_it_imports() {
    let mut bench = Bench::new();
    let script = bench.folder.path().join("app.wsgi");
    let broken = bench.folder.path().join("broken");
    fs::write(&script, "").unwrap();
    let touch = |hours: u64| {
        let time = SystemTime::now() + Duration::from_secs(3600 * hours);
        File::open(&script).unwrap().set_modified(time).unwrap();
    };
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.setup.mounts.push(mount(&script));
    plan.env.push(variable("BROKEN_IF", broken.to_str().unwrap()));
    bench.serve(1, &[(&plan, &door)]);
    let first = door.pid();
    touch(1);
    let second = door.other_than(first);

    fs::write(&broken, "Traceback\nNameError: nothing").unwrap();
    touch(2);
    let line = bench.expect_log(&["could not import; the process that it was to replace goes on"]);
    assert!(line.contains("[wsgi:error]"), "{line}");
    bench.expect_log(&["NameError: nothing"]);
    assert_eq!(door.pid(), second);

    fs::remove_file(&broken).unwrap();
    touch(3);
    door.other_than(second);
    // Said once.
    bench.stop();
    assert_eq!(bench.log(), [""; 0]);
}

#[test]
fn a_script_that_is_not_to_be_reloaded_is_not_looked_at() {
    let mut bench = Bench::new();
    let scripts = ["first", "second"].map(|name| bench.folder.path().join(name));
    let (door, other) = (bench.door("one"), bench.door("two"));
    let [mut quiet, mut watched] = [bench.plan("quiet", 1), bench.plan("watched", 2)];
    for (plan, script) in [&mut quiet, &mut watched].into_iter().zip(&scripts) {
        fs::write(script, "").unwrap();
        plan.setup.mounts.push(mount(script));
    }
    quiet.setup.mounts[0].reloading = false;
    bench.serve(1, &[(&quiet, &door), (&watched, &other)]);
    let (first, second) = (door.pid(), other.pid());
    for script in &scripts {
        let time = SystemTime::now() + Duration::from_secs(3600);
        File::open(script).unwrap().set_modified(time).unwrap();
    }
    // Both are looked at in the same moment.
    other.other_than(second);
    assert_eq!(door.pid(), first);
    bench.stop();
}

#[test]
fn the_log_has_what_log_level_lets_through() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    door.ask("want");
    let next = door.other_than(old);
    bench.log_level = 3;
    bench.serve(2, &[(&plan, &door)]);
    let line = bench.expect_log(&["the server was reloaded"]);
    assert!(line.contains("[wsgi:info]") && line.contains(&format!("[pid {next}]")), "{line}");
    bench.stop();
}

#[test]
fn code_that_never_imported_answers_all_the_same() {
    let mut bench = Bench::new();
    let broken = bench.folder.path().join("broken");
    fs::write(&broken, "Traceback").unwrap();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.env.push(variable("BROKEN_IF", broken.to_str().unwrap()));
    bench.serve(1, &[(&plan, &door)]);
    door.pid();
    bench.expect_log(&["could not import; there is no other"]);
    bench.stop();
}

#[test]
fn who_is_never_ready_is_given_up() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.life.startup = Some(Duration::from_millis(200));
    plan.env.push(variable("ON_START", "hang"));
    bench.serve(1, &[(&plan, &door)]);
    bench.expect_log(&["was not ready within startup-timeout"]);
    bench.stop();
}

#[test]
fn a_stuck_a_garbled_and_a_silent_process_are_replaced() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.life.deadlock = Some(Duration::from_millis(500));
    bench.serve(1, &[(&plan, &door)]);
    let mut old = door.pid();
    door.ask("stuck 499");
    assert_eq!(door.pid(), old);
    for complaint in ["stuck 500", "garbage", "silence"] {
        let watch = Watch::new(old);
        door.ask(complaint);
        old = door.other_than(old);
        assert!(watch.ended_within(DEADLINE), "after {complaint}");
    }
    bench.expect_log(&["sent a frame", "and is replaced"]);
    door.ask("log said by the application");
    bench.expect_log(&[&format!("[pid {old}]"), "[wsgi:error]", "said by the application"]);
    bench.stop();
}

#[test]
fn a_process_that_is_stopped_is_replaced_and_killed() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.life.deadlock = Some(Duration::from_millis(500));
    plan.life.shutdown = Some(Duration::from_millis(500));
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let watch = Watch::new(old);
    let _stopped = door.knock(&format!("kill {}", libc::SIGSTOP));
    door.other_than(old);
    assert!(watch.ended_within(DEADLINE));
    let line = bench.expect_log(&["it gave no sign of life for deadlock-timeout"]);
    assert!(line.contains("SIGKILL"), "{line}");
    bench.stop();
}

#[test]
fn what_processes_write_is_in_the_log() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let line = |text: &str| format!("[wsgi:error] [pid {old}] [group site] {text}");
    door.ask("write one\\ntwo");
    assert!(bench.expect_log(&["one"]).ends_with(&line("one")));
    let file = bench.folder.path().join("speak");
    door.ask(&format!("leave {}", file.display()));
    door.ask("write three");
    let watch = Watch::new(old);
    door.ask("want");
    let next = door.other_than(old);
    assert!(watch.ended_within(DEADLINE));
    // What was not finished, once there is nobody left to finish it.
    assert!(bench.expect_log(&["two"]).ends_with(&line("twothree")));
    fs::write(&file, "").unwrap();
    assert!(bench.expect_log(&["left"]).ends_with(&line("left")));

    // What is there in the end, and the reason of an end comes behind the last words.
    bench.log_level = 3;
    bench.serve(2, &[(&plan, &door)]);
    let last = door.other_than(next);
    door.ask("write bye");
    bench.stop();
    let log = bench.log();
    let place = |text: &str| log.iter().position(|line| line.contains(text));
    let words = place(&format!("[pid {last}] [group site] bye"));
    let end = place(&format!("daemon process {last} of group 'site' exited"));
    assert!(words.is_some() && end.is_some() && words < end, "{log:#?}");
}

#[test]
fn what_is_written_without_a_supervisor_waits_for_one() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let file = bench.folder.path().join("speak");
    door.ask(&format!("leave {}", file.display()));
    bench.kill();
    door.ask("write one\\n");
    fs::write(&file, "").unwrap();
    let deadline = Instant::now() + DEADLINE;
    while file.exists() {
        assert!(Instant::now() < deadline, "it does not live to speak");
        std::thread::yield_now();
    }
    bench.start();
    bench.expect_log(&["takes over"]);
    bench.serve(1, &[(&plan, &door)]);
    bench.expect_log(&[&format!("[wsgi:error] [pid {old}] [group site] one")]);
    bench.expect_log(&[&format!("[wsgi:error] [pid {old}] [group site] left")]);

    // Where nobody knows the group any more, its name is all that is missing.
    let next = door.other_than(old);
    bench.kill();
    door.ask("write two\\n");
    bench.start();
    bench.stop();
    let log = bench.log();
    let line = format!("[wsgi:error] [pid {next}] two");
    assert!(log.iter().any(|entry| entry.ends_with(&line)), "{log:#?}");
}

#[test]
fn a_new_supervisor_takes_over() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let old = door.pid();
    let watch = Watch::new(old);
    let mut held = door.knock("hold");
    held.read_exact(&mut [0; 5]).unwrap();

    bench.kill();
    assert_eq!(door.pid(), old, "it goes on without a supervisor");
    bench.start();
    bench.expect_log(&["[wsgi:warn]", "takes over 1 processes"]);
    bench.serve(1, &[(&plan, &door)]);
    door.other_than(old);
    held.write_all(b"go\n").unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, old.to_string());
    assert!(watch.ended_within(DEADLINE));
    bench.stop();
    assert_eq!(bench.log(), [""; 0]);
}

#[test]
fn what_no_configuration_claims_ends_with_the_server() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let watch = Watch::new(door.pid());
    bench.kill();
    bench.start();
    bench.expect_log(&["takes over"]);
    bench.stop();
    assert!(watch.ended_within(Duration::ZERO));
}

#[test]
fn a_process_that_was_not_yet_ready_is_not_taken_over() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("site", 1);
    plan.env.push(variable("ON_START", "hang"));
    plan.env.push(variable("ON_TERM", "ignore"));
    bench.serve(1, &[(&plan, &door)]);
    bench.kill();
    bench.start();
    plan.env.clear();
    bench.serve(1, &[(&plan, &door)]);
    door.pid();
    bench.stop();
}

#[test]
fn a_reload_replaces_and_a_changed_group_lives_as_long_as_its_children() {
    let mut bench = Bench::new();
    let (door, other) = (bench.door("one"), bench.door("two"));
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let first = door.pid();
    bench.serve(2, &[(&plan, &door)]);
    let second = door.other_than(first);
    // Told once more, as to a new supervisor: nothing changes.
    let told = bench.configure_with(2, false, &[(&plan, &door)]);
    assert_eq!(told, ToParent::Configured(2));

    let changed = bench.plan("site", 2);
    bench.serve(3, &[(&changed, &other)]);
    let third = other.pid();
    assert_ne!(third, second);
    assert_eq!(door.pid(), second, "children of the old configuration are still there");
    bench.tell(&FromParent::RetireGeneration(1), None);
    assert_eq!(door.pid(), second);
    let watch = Watch::new(second);
    bench.tell(&FromParent::RetireGeneration(2), None);
    assert!(watch.ended_within(DEADLINE));
    assert_eq!(other.pid(), third);
    bench.stop();
    assert_eq!(bench.log(), [""; 0]);
}

#[test]
fn a_configuration_that_cannot_be_is_refused_whole() {
    let mut bench = Bench::new();
    let (door, other) = (bench.door("one"), bench.door("two"));
    let plan = bench.plan("site", 1);
    bench.serve(1, &[(&plan, &door)]);
    let pid = door.pid();
    let mut root = bench.plan("root", 2);
    root.user = Some(Identity { uid: 0, gid: 0, groups: Vec::new() });
    let mut relative = bench.plan("relative", 3);
    relative.python = "python3".to_owned();
    let mut foreign = bench.plan("foreign", 4);
    foreign.setup.build[0] ^= 1;
    for (bad, reason) in [(root, "as root"), (relative, "not absolute"), (foreign, "another build")]
    {
        match bench.configure(2, &[(&plan, &door), (&bad, &other)]) {
            ToParent::Refused { generation: 2, reason: given } => {
                assert!(given.contains(reason), "{given}");
            }
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(door.pid(), pid);
    // Nobody waits for what is not started; what was there before goes on for what was to take its place.
    assert_eq!(bench.told.down(1), None);
    let told = bench.told.down(4).unwrap();
    assert!(told.contains("another build") && !bench.told.pending(4), "{told}");
    let mut changed = bench.plan("site", 5);
    changed.python = "python3".to_owned();
    assert!(matches!(bench.configure(2, &[(&changed, &other)]), ToParent::Refused { .. }));
    assert!(bench.told.down(5).is_some() && bench.told.pending(5));
    changed = bench.plan("site", 5);
    bench.serve(3, &[(&changed, &other)]);
    assert_ne!(other.pid(), pid);
    bench.await_news(|news| news.down(5).is_none() && !news.pending(5));
    bench.stop();
}

#[test]
fn a_service_is_replaced_without_ever_being_there_twice() {
    let mut bench = Bench::new();
    let door = bench.door("socket");
    let mut plan = bench.plan("service", 1);
    plan.setup.threads = 0;
    bench.serve(1, &[(&plan, &door)]);
    let line = bench.expect_log(&["service runs as"]);
    let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
    let watch = Watch::new(pid);
    bench.serve(2, &[(&plan, &door)]);
    let line = bench.expect_log(&["service runs as"]);
    assert!(watch.ended_within(Duration::ZERO));

    let watch = Watch::new(line.rsplit(' ').next().unwrap().parse().unwrap());
    let mut changed = bench.plan("service", 2);
    changed.setup.threads = 0;
    bench.serve(3, &[(&changed, &door)]);
    bench.expect_log(&["service runs as"]);
    assert!(watch.ended_within(Duration::ZERO));
    bench.stop();
}

#[test]
fn a_service_whose_scripts_return_is_run_again_less_and_less_often() {
    let mut bench = Bench::new();
    let mut plan = bench.plan("service", 1);
    plan.setup.threads = 0;
    plan.env.push(variable("ON_SERVICE", "return"));
    bench.log_level = 3;
    // As httpd gives it: nobody connects to a service.
    bench.serve_nowhere(1, &plan);
    bench.expect_log(&["service runs as"]);
    let first = Instant::now();
    for _ in 0..3 {
        let line = bench.expect_log(&["exited with status 0 after its scripts had ended"]);
        assert!(line.contains("[wsgi:info]"), "{line}");
        bench.expect_log(&["service runs as"]);
    }
    assert!(first.elapsed() > Duration::from_millis(650), "{:?}", first.elapsed());
    bench.stop();
}
