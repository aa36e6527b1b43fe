//! Applications that break every rule and clients that send rubbish: the server stays well, every answer
//! is right or a plain error, and no connection gets out of step.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod harness;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use broken::applications::{self, Case, Outcome};
use broken::requests::{self, Answer, Exchange, Then};
use harness::{Client, DEADLINE, Mpm, Reply, Server, Site, both_modes, pythons, tools, wait_for};

/// The good application beside the broken ones: says what it was sent, so that an answer that belongs to
/// another request is seen.
const ECHO: &str = include_str!("broken/echo.py");

/// A site with the broken applications at `/case/<name>.py` and the good one at `/echo`.
fn with_cases(site: Site) -> Site {
    let site = site
        .mount("/case", "@root@/cases", "")
        .mount("/echo", "@root@/cases/echo.py", "")
        .conf("<Directory \"@root@/cases\">\nRequire all granted\n</Directory>")
        .file("cases/echo.py", ECHO)
        .file("cases/kept.py", KEPT);
    applications::all()
        .iter()
        .fold(site, |site, case| site.file(&format!("cases/{}.py", case.name), &case.script))
}

/// What went wrong, gathered: one broken case should not hide the others.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.0, "{name}: {text}");
    }

    #[track_caller]
    fn none(self, server: &Server) {
        if !self.0.is_empty() {
            panic!("{}\n{}", self.0, server.path("logs").display());
        }
    }
}

/// The processes that have to live through everything: httpd's children, and daemons.
fn processes(server: &Server) -> Vec<u32> {
    [server.children(), server.daemons()].concat()
}

fn says_close(reply: &Reply) -> bool {
    reply.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The connection for the next request: this one, or a new one where the server has said that it closes
/// this one. One that stays open although the server said so, or after a cut response, is a fault.
fn connection_after(reply: &Reply, mut client: Client, server: &Server) -> Result<Client, String> {
    if says_close(reply) || !reply.complete {
        return if client.is_closed() {
            Ok(server.client())
        } else {
            Err("the server sends on after the end".to_owned())
        };
    }
    Ok(client)
}

fn good_request(client: &mut Client, token: &str) -> Result<(), String> {
    let reply = client.request("POST", &format!("/echo?token={token}"), &[], token.as_bytes());
    if reply.status != 200 || !reply.complete {
        return Err(format!("then a good request got {} {}", reply.status, reply.text()));
    }
    if reply.field("token").as_deref() != Some(token)
        || reply.field("body").as_deref() != Some(token)
    {
        return Err(format!("then a good request got another's answer: {}", reply.text()));
    }
    Ok(())
}

fn compare(case: &Case, reply: &Reply) -> Result<(), String> {
    let found = || {
        format!(
            "{:?} wanted, got {} {:?}, complete: {}",
            case.outcome,
            reply.status,
            reply.text().chars().take(300).collect::<String>(),
            reply.complete
        )
    };
    let right = match &case.outcome {
        Outcome::Status(status) => reply.status == *status && reply.complete,
        Outcome::Body(body) => {
            reply.status == 200 && reply.complete && reply.body == body.as_bytes()
        }
        Outcome::Cut(body) => {
            let beginning = body == "*" || body.as_bytes().starts_with(&reply.body);
            reply.status == 200 && !reply.complete && beginning
        }
        Outcome::Any => true,
    };
    if !right {
        return Err(found());
    }
    // What an application may never decide.
    for name in ["X-Injected", "Upgrade", "Trailer", "TE"] {
        if reply.header(name).is_some() {
            return Err(format!("the client got the header {name}"));
        }
    }
    for (name, allowed) in [("Transfer-Encoding", "chunked"), ("Content-Length", "")] {
        let values = reply.all(name);
        if values.len() > 1 || (!allowed.is_empty() && values.iter().any(|v| *v != allowed)) {
            return Err(format!("the client got {name}: {values:?}"));
        }
    }
    if reply.header("Keep-Alive").is_some_and(|value| value.contains("99999")) {
        return Err("the application's Keep-Alive reached the client".to_owned());
    }
    Ok(())
}

/// Every broken application once, on one connection as long as it lasts.
fn broken_applications(site: Site) {
    let mut server = site.start();
    let mut faults = Faults::default();
    let mut client = server.client();
    good_request(&mut client, "first").expect("a good request before all");
    let before = processes(&server);
    let cases = applications::all();
    assert!(cases.len() >= 60, "{} broken applications", cases.len());

    for case in &cases {
        let kept = client;
        let after = guarded(&case.name, &mut faults, |faults| {
            broken_application(case, kept, &server, faults)
        });
        client = after.unwrap_or_else(|| server.client());
    }
    if processes(&server) != before {
        faults.add("processes", &format!("were {before:?}, are {:?}", processes(&server)));
    }
    // Very long lines are written in pieces, and only the first piece has the words.
    server.allow_log("yyyyyyyyyyyyyyyy");
    // What follows the line break in an odd message; httpd writes the escape character so.
    server.allow_log("\\x1b[2J");
    // Warnings of Python itself about what these applications do.
    server.allow_log("was never awaited");
    faults.none(&server);
    // With a connection at rest: httpd's own shutdown trips over one that is being closed right then.
    server.stop();
    drop(client);
}

/// One broken application, and a good request behind it on the connection that this one leaves.
fn broken_application(
    case: &Case,
    mut client: Client,
    server: &Server,
    faults: &mut Faults,
) -> Option<Client> {
    let before = server.log().len();
    let reply = client.get(&format!("/case/{}.py", case.name));
    if let Err(text) = compare(case, &reply) {
        faults.add(&case.name, &text);
    }
    if !case.log.is_empty() {
        // Only what this case wrote counts: other cases have the same words.
        let said = || server.log().get(before..).is_some_and(|new| new.contains(&case.log));
        if wait_for(DEADLINE, || said().then_some(())).is_none() {
            let log = server.log();
            faults.add(&case.name, &format!("log has no {:?} in {}", case.log, &log[before..]));
        }
        server.allow_log(&case.log);
        server.allow_log(&format!("/{}.py", case.name));
    }
    let mut client = match connection_after(&reply, client, server) {
        Ok(client) => client,
        Err(text) => {
            faults.add(&case.name, &text);
            return None;
        }
    };
    match good_request(&mut client, &format!("after-{}", case.name)) {
        Ok(()) => Some(client),
        Err(text) => {
            faults.add(&case.name, &text);
            None
        }
    }
}

/// The client panics at what is no HTTP at all, and at silence; that is this case's fault and no other's.
fn guarded<T>(
    name: &str,
    faults: &mut Faults,
    part: impl FnOnce(&mut Faults) -> Option<T>,
) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| part(faults))).unwrap_or_else(|payload| {
        faults.add(name, &words(&*payload));
        None
    })
}

/// What a panic said.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

both_modes!(broken_applications_in_the_main_interpreter, |site| {
    broken_applications(with_cases(site).conf("WSGIApplicationGroup %{GLOBAL}"));
});

both_modes!(broken_applications_in_a_sub_interpreter, |site| {
    broken_applications(with_cases(site).mpm(Mpm::Worker).conf("WSGIApplicationGroup hostile"));
});

// Every Python has its own ways to fail; those of the virtual environments are those of their base.
both_modes!(broken_applications_with_every_python, |site| {
    let daemon = site.is_daemon();
    let bases = pythons::all().iter().filter(|python| !python.prefix.join("pyvenv.cfg").exists());
    let mut failed = String::new();
    for python in bases.skip(1) {
        let name = format!("broken-{}", python.name());
        let site = if daemon { Site::new(&name).daemon() } else { Site::new(&name) };
        let site = with_cases(site).python(python).conf("WSGIApplicationGroup %{GLOBAL}");
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| broken_applications(site))) {
            let _ = writeln!(failed, "---- {name}\n{}", words(&*payload));
        }
    }
    assert!(failed.is_empty(), "{failed}");
});

/// Keeps what belongs to a request and uses it in a later one.
const KEPT: &str = include_str!("broken/kept.py");

both_modes!(what_an_earlier_request_was_given_is_refused, |site| {
    let server = with_cases(site).conf("WSGIApplicationGroup %{GLOBAL}").start();
    let mut client = server.client();
    let before = processes(&server);
    for _ in 0..3 {
        client.get("/case/kept.py?keep").expect(200);
        let reply = client.get("/case/kept.py?use").expect(200);
        for call in ["start", "write", "read", "readline", "readlines", "next", "errors"] {
            assert_eq!(reply.value(call), "RuntimeError", "{call} after the end of its request");
        }
        // The later request is none the worse for it.
        assert_eq!(reply.value("own"), "body");
        good_request(&mut client, "kept").expect("a good request afterwards");
    }
    assert_eq!(processes(&server), before);
});

/// Forks in the middle of a request. Only in the main interpreter: up to Python 3.11 a process forked in a
/// sub-interpreter ends in a fatal error of Python's own.
const FORKS: &str = "\
import os

def application(environ, start_response):
    pid = os.fork()
    if not pid:
        os._exit(7)
    status = os.waitpid(pid, 0)[1]
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str(os.WEXITSTATUS(status)).encode()]
";

both_modes!(a_forked_process_leaves_the_server_alone, |site| {
    let server = with_cases(site)
        .file("cases/forks.py", FORKS)
        .conf("WSGIApplicationGroup %{GLOBAL}")
        .start();
    let mut client = server.client();
    let before = processes(&server);
    for _ in 0..5 {
        assert_eq!(client.get("/case/forks.py").expect(200).text(), "7");
        good_request(&mut client, "fork").expect("a good request afterwards");
    }
    assert_eq!(processes(&server), before);
    // Python 3.12 and newer warn about forking where there are threads.
    server.allow_log("DeprecationWarning");
});

/// Its copy comes back from the application, and must be gone before the original goes on.
const COPIES: &str = "\
import os

def application(environ, start_response):
    how = environ['QUERY_STRING']
    if how == 'late':
        start_response('200 OK', [('Content-Type', 'text/plain')])(b'begun, ')
    pid = os.fork()
    if not pid:
        if how == 'leave':
            raise SystemExit(3)
        if how == 'raise':
            raise ValueError('raised in a copy')
        if how != 'late':
            start_response('200 OK', [('Content-Type', 'text/plain')])
        return [b'copy']
    os.waitpid(pid, 0)
    if how != 'late':
        start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'original']
";

both_modes!(a_copy_that_comes_back_says_nothing_and_ends, |site| {
    let server = with_cases(site)
        .file("cases/copies.py", COPIES)
        .conf("WSGIApplicationGroup %{GLOBAL}")
        .start();
    // What a copy is told is in the log; what it says by its connection to httpd is not heard.
    for text in ["raised in a copy", "SystemExit: 3", "Traceback", "DeprecationWarning"] {
        server.allow_log(text);
    }
    let mut client = server.client();
    let before = processes(&server);
    for (how, body) in [
        ("return", "original"),
        ("leave", "original"),
        ("raise", "original"),
        ("late", "begun, original"),
    ] {
        let reply = client.get(&format!("/case/copies.py?{how}")).expect(200);
        assert_eq!(reply.text(), body, "{how}");
        good_request(&mut client, how).expect("a good request afterwards");
    }
    assert_eq!(processes(&server), before);
});

/// Its import waits for as long as nobody writes to a pipe.
const HANGS: &str = "\
import os

scratch = os.environ['TEST_SCRATCH']
with open(os.path.join(scratch, 'began'), 'a') as file:
    file.write('began\\n')
with open(os.path.join(scratch, 'gate')) as file:
    text = file.read()

def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [text.encode()]
";

both_modes!(an_import_that_hangs_stops_no_other_script, |site| {
    let server = with_cases(site)
        .file("cases/hangs.py", HANGS)
        .mount("/other", "@root@/cases/echo.py", "application-group=other")
        .conf("WSGIApplicationGroup %{GLOBAL}")
        .start();
    let gate = server.path("scratch/gate");
    tools::run("mkfifo", &["-m", "666", &gate.to_string_lossy()]);
    let mut waiting = [server.client(), server.client()];
    for client in &mut waiting {
        client.send_request("GET", "/case/hangs.py", &[], b"");
    }
    server.wait_for_file("scratch/began", "began");
    // The same interpreter and another one, scripts that are loaded now.
    let mut client = server.client();
    for _ in 0..3 {
        good_request(&mut client, "beside").expect("a script beside the one that hangs");
        client.post("/other?token=other", b"").expect(200);
        client.get("/case/no_headers.py").expect(200);
    }
    fs::write(&gate, "at last").expect("open the gate");
    for client in &mut waiting {
        assert_eq!(client.read_response().expect(200).text(), "at last");
    }
    assert_eq!(server.read("scratch/began"), "began\n", "the script is loaded once");
});

both_modes!(malformed_requests, |site| {
    let mut server = with_cases(site)
        .conf("WSGIApplicationGroup %{GLOBAL}\nWSGIChunkedRequest On\nLimitRequestBody 1000000")
        .start();
    let mut faults = Faults::default();
    good_request(&mut server.client(), "first").expect("a good request before all");
    let before = processes(&server);
    let table = requests::all();
    assert!(table.len() >= 60, "{} malformed requests", table.len());
    let names: BTreeSet<&str> = table.iter().map(|exchange| exchange.name).collect();
    assert_eq!(names.len(), table.len(), "a name is used twice");

    for exchange in &table {
        guarded(exchange.name, &mut faults, |faults| {
            for result in [talk(exchange, &server), good_request(&mut server.client(), "after")] {
                if let Err(text) = result {
                    faults.add(exchange.name, &text);
                }
            }
            Some(())
        });
    }
    if processes(&server) != before {
        faults.add("processes", &format!("were {before:?}, are {:?}", processes(&server)));
    }
    // httpd's own complaints about what these clients send, and the application's about its input.
    for text in requests::COMPLAINTS {
        server.allow_log(text);
    }
    faults.none(&server);
    let mut last = server.client();
    good_request(&mut last, "last").expect("a good request after all");
    // With a connection at rest: httpd's own shutdown trips over one that is being closed right then.
    server.stop();
    drop(last);
});

/// One exchange: sends it, compares the answers in order, and looks at the connection afterwards.
fn talk(exchange: &Exchange, server: &Server) -> Result<(), String> {
    let mut client = server.client();
    client.send_raw(&exchange.bytes);
    if exchange.half_closed {
        client.finish_sending();
    }
    let mut closes = true;
    for (number, answer) in exchange.answers.iter().enumerate() {
        if let Answer::Bare(text) = answer {
            let all = String::from_utf8_lossy(&client.read_to_close()).into_owned();
            return if all.contains(text) {
                Ok(())
            } else {
                Err(format!("no {text:?} in the bare answer {all:?}"))
            };
        }
        // `is_closed` waits for either, so a missing answer is told from a late one.
        if client.is_closed() {
            return match answer {
                Answer::Maybe(_) => Ok(()),
                _ => Err(format!("no answer {}: {answer:?} wanted", number + 1)),
            };
        }
        let reply = client.read_reply_to(if answer.to_head() { "HEAD" } else { "GET" });
        answer.check(&reply).map_err(|text| format!("answer {}: {text}", number + 1))?;
        closes = says_close(&reply);
    }
    let then = match exchange.then {
        Then::AsSaid if closes => Then::Closed,
        Then::AsSaid => Then::Open,
        then => then,
    };
    match then {
        Then::Closed if !client.is_closed() => {
            Err("something follows, or it stays open".to_owned())
        }
        Then::Open => good_request(&mut client, "same-connection"),
        _ => Ok(()),
    }
}
