//! A daemon process is killed before each frame of a conversation: what was not begun is sent again, what was begun
//! is never run a second time, and the client sees what became of it.

use std::thread;

use engine::wire::message::Kind;

use crate::between::Between;
use crate::harness::{Reply, Server, Site};

/// Writes down every request that it begins with, and by which process.
const APPLICATION: &str = r#"
import os

SCRATCH = os.environ["TEST_SCRATCH"]

with open(SCRATCH + "/file", "wb") as file:
    file.write(b"f" * 100_000)

class Stream:
    def __init__(self, environ):
        self.errors = environ["wsgi.errors"]

    def __iter__(self):
        yield b"one"
        yield b"two"

    def close(self):
        print("the application closes", file=self.errors)

def breaks():
    yield b"one"
    raise RuntimeError("in the middle")

def application(environ, start_response):
    with open(SCRATCH + "/book", "a") as book:
        book.write("%s %d\n" % (environ["QUERY_STRING"], os.getpid()))
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise RuntimeError("at once")
    if path == "/stream":
        environ["wsgi.input"].read()
        print("the application has read", file=environ["wsgi.errors"])
    start_response("200 OK", [])
    if path == "/stream":
        return Stream(environ)
    if path == "/breaks":
        return breaks()
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(SCRATCH + "/file", "rb"))
    return [b"small"]
"#;

/// What becomes of a request whose process is killed before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Another process answers it.
    Again,
    /// There is no head: 502.
    Lost,
    /// There is one, of which nothing has been sent yet: 502 as well.
    Unsent,
    /// The client has a part of the response, and sees that it is one.
    Cut,
    /// The client has all of it.
    Whole,
}

use Fate::{Again, Cut, Lost, Unsent, Whole};

/// A server whose only process is killed.
struct Scene<'s> {
    server: &'s Server,
    between: &'s Between<'s>,
    /// The status of the response, where nobody is killed.
    status: u16,
}

/// Asks as `ask` does, with the process killed before each of the frames that make up the conversation.
fn kill_before_each(
    path: &str,
    expected: &[(Kind, Fate)],
    status: u16,
    ask: impl Fn(&Scene<'_>, &str) -> Reply,
) {
    let server = Site::new("boundaries").source("/", APPLICATION).daemon().start();
    server.allow_log("RuntimeError");
    server.allow_log("the application ");
    let (between, ending) = Between::put(&server);
    let scene = Scene { server: &server, between: &between, status };
    thread::scope(|scope| {
        let _ending = ending;
        scope.spawn(|| between.run());
        // The name of a request is what its run is found by.
        let ask = |name: &str, deadly: Option<usize>| {
            between.listen(deadly);
            let reply = ask(&scene, &format!("{path}?{name}"));
            between.wait_for(expected.len());
            reply
        };
        let kinds: Vec<Kind> = expected.iter().map(|(kind, _)| *kind).collect();
        for name in ["new", "kept"] {
            assert_eq!(ask(name, None).status, status);
            assert!(between.frames().starts_with(&kinds), "{:?}", between.frames());
        }
        for (number, (_, fate)) in expected.iter().enumerate() {
            let name = format!("kept-{number}");
            let reply = ask(&name, Some(number));
            scene.check(&name, *fate, between.victim(), &reply);
            // The next one finds a connection that is kept.
            between.listen(None);
            server.get("/?between").expect(200);
        }
        // Between two requests, and before the first on a connection.
        let victim = between.kill();
        let reply = ask("idle", None);
        scene.check("idle", Again, victim, &reply);
        between.kill();
        let reply = ask("new-0", Some(0));
        scene.check("new-0", Again, between.victim(), &reply);
    });
}

impl Scene<'_> {
    /// Whether this became of a request, and it was run once.
    #[track_caller]
    fn check(&self, name: &str, fate: Fate, victim: u32, reply: &Reply) {
        let (status, complete, told) = match fate {
            Again => (self.status, self.status != 200 || reply.complete, None),
            Lost => (502, true, Some("there is no response after")),
            Unsent => (502, true, Some("the response is cut after")),
            Cut => (200, false, Some("the response is cut after")),
            Whole => (200, true, Some("the response is complete, what its process still did")),
        };
        assert_eq!((reply.status, reply.complete), (status, complete), "{name}: {reply:?}");
        let book = self.server.read("scratch/book");
        let named = format!("{name} ");
        let runs: Vec<&str> = book.lines().filter_map(|line| line.strip_prefix(&named)).collect();
        let [run] = runs[..] else { panic!("{name} was run {} times", runs.len()) };
        assert_eq!(run != victim.to_string(), fate == Again, "{name} was run by {run}");
        // That process has nobody else to answer.
        let cause = format!(": process {victim} was ended by SIGKILL");
        let causes = || -> Vec<String> {
            let log = self.server.log();
            log.lines().filter(|line| line.contains(&cause)).map(str::to_owned).collect()
        };
        let Some(told) = told else {
            assert!(causes().is_empty(), "{name}: {:?}", causes());
            return;
        };
        let said = self.server.expect_log(&cause);
        assert!(said.contains(told) && causes().len() == 1, "{name}: {:?}", causes());
    }
}

fn get(scene: &Scene<'_>, target: &str) -> Reply {
    scene.server.get(target)
}

#[test]
fn small_response() {
    let frames =
        [(Kind::Request, Again), (Kind::Head, Lost), (Kind::Data, Unsent), (Kind::End, Unsent)];
    kill_before_each("/small", &frames, 200, get);
}

#[test]
fn upload_and_stream() {
    let frames = [
        (Kind::Request, Again),
        (Kind::Read, Lost),
        (Kind::Body, Lost),
        (Kind::Body, Lost),
        (Kind::Body, Lost),
        (Kind::Log, Lost),
        (Kind::Head, Lost),
        (Kind::Data, Unsent),
        (Kind::Data, Cut),
        (Kind::End, Cut),
        (Kind::Log, Whole),
        (Kind::Done, Whole),
    ];
    kill_before_each("/stream", &frames, 200, |scene, target| {
        let mut client = scene.server.client();
        let headers = [("Expect", "100-continue"), ("Content-Length", "10")];
        client.send_request("POST", target, &headers, b"");
        let mut reply = client.read_head();
        if reply.status == 100 {
            client.send_raw(b"01234");
            // Not to come together with what follows.
            scene.between.wait_for(3);
            client.send_raw(b"56789");
            reply = client.read_head();
        }
        client.read_body(&mut reply, "POST");
        reply
    });
}

#[test]
fn file_response() {
    let frames =
        [(Kind::Request, Again), (Kind::Head, Lost), (Kind::File, Unsent), (Kind::Done, Whole)];
    kill_before_each("/file", &frames, 200, get);
}

#[test]
fn failure() {
    let frames = [(Kind::Request, Again), (Kind::Log, Lost), (Kind::Failed, Lost)];
    kill_before_each("/fails", &frames, 500, get);
}

#[test]
fn broken_response() {
    let frames = [
        (Kind::Request, Again),
        (Kind::Head, Lost),
        (Kind::Data, Unsent),
        (Kind::Log, Cut),
        (Kind::Abort, Cut),
    ];
    kill_before_each("/breaks", &frames, 200, get);
}
