//! Clients that ask without pause on kept connections, and what they have seen.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::{DEADLINE, wait_for};

/// How many faults are kept word by word.
const SHOWN: usize = 20;

/// A load on one address. Several threads run it at the same time.
///
/// One more asks for `/control` ([`super::Site::control`]): what httpd's own file waits for, a busy machine or a
/// child of httpd that has to be started, is not held against applications.
#[derive(Default)]
pub struct Load {
    over: AtomicBool,
    asked: AtomicUsize,
    answered: AtomicUsize,
    closed: AtomicUsize,
    seen: Mutex<Seen>,
    control: Mutex<Duration>,
}

#[derive(Default)]
struct Seen {
    bodies: BTreeMap<String, usize>,
    lost: usize,
    faults: Vec<String>,
    longest: Duration,
}

/// Ends a load when it goes out of scope: a test that fails meanwhile must not leave its threads asking for ever.
pub struct Ending<'l>(&'l Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// What became of one request.
enum Fate {
    /// Status, body, and whether the connection goes on.
    Answered(u16, String, bool),
    /// A kept connection was closed before a byte of the answer.
    Closed,
    /// Anything else.
    Broken(String),
}

impl Load {
    /// Has this many clients ask for `target`, in which `{}` is another number for each request, until the result
    /// is dropped.
    pub fn start<'scope, 'env>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        port: u16,
        target: &'scope str,
        clients: usize,
    ) -> Ending<'scope> {
        for _ in 0..clients {
            scope.spawn(move || self.run(port, target));
        }
        scope.spawn(move || self.compare(port));
        Ending(self)
    }

    fn compare(&self, port: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            // On a connection of its own, at a measured pace: it is not to be a load.
            if let Fate::Answered(200, ..) = ask(&mut None, address, "/control") {
                let mut longest = self.control.lock().expect("no client panics");
                *longest = longest.max(begun.elapsed());
            }
            wait_for(Duration::from_millis(50), || self.over.load(Ordering::Relaxed).then_some(()));
        }
    }

    fn run(&self, port: u16, target: &str) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut kept = None;
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let reused = kept.is_some();
            let number = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
            let target = target.replace("{}", &number);
            let mut fate = ask(&mut kept, address, &target);
            if reused && matches!(fate, Fate::Closed) {
                // httpd may close a connection that is idle at any time; a client asks again on another
                // one (RFC 9112 section 9.3.1). The wait goes on.
                self.closed.fetch_add(1, Ordering::Relaxed);
                kept = None;
                fate = ask(&mut kept, address, &target);
            }
            self.note(fate, begun.elapsed(), &mut kept);
        }
    }

    fn note(&self, fate: Fate, took: Duration, kept: &mut Option<TcpStream>) {
        let mut seen = self.seen();
        seen.longest = seen.longest.max(took);
        let fault = match fate {
            Fate::Answered(200, body, goes_on) => {
                *seen.bodies.entry(body).or_default() += 1;
                if !goes_on {
                    *kept = None;
                }
                drop(seen);
                self.answered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Fate::Answered(status, body, _) => format!("status {status}: {body}"),
            Fate::Closed => "closed without an answer".to_owned(),
            Fate::Broken(text) => text,
        };
        *kept = None;
        seen.lost += 1;
        if seen.faults.len() < SHOWN {
            seen.faults.push(format!("after {took:?}: {fault}"));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no client panics")
    }

    /// How many requests were answered by 200 so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many were not, and the first of them in words.
    pub fn lost(&self) -> (usize, Vec<String>) {
        let seen = self.seen();
        (seen.lost, seen.faults.clone())
    }

    /// How often a kept connection was closed between two requests, without saying so beforehand.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// The longest that any request has taken.
    pub fn longest(&self) -> Duration {
        self.seen().longest
    }

    /// The bodies that came so far.
    pub fn bodies(&self) -> Vec<String> {
        self.seen().bodies.keys().cloned().collect()
    }

    /// Waits until this many more requests were answered.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let wanted = self.answered() + more;
        let came = wait_for(DEADLINE, || (self.answered() >= wanted).then_some(()));
        assert!(came.is_some(), "{} of {wanted} requests were answered", self.answered());
    }

    /// Waits until this body has come.
    #[track_caller]
    pub fn wait_for_body(&self, body: &str) {
        let came = wait_for(DEADLINE, || self.seen().bodies.contains_key(body).then_some(()));
        assert!(came.is_some(), "'{body}' never came, but {:?}", self.bodies());
    }

    /// Nothing was lost. Says what the longest waits were; with `MOD_WSGI_RS_FULL=1`, on a machine that does nothing
    /// else, none has to be as long as this.
    #[track_caller]
    pub fn expect_all_within(&self, bound: Duration) {
        let (lost, faults) = self.lost();
        let longest = self.longest();
        let control = *self.control.lock().expect("no client panics");
        eprintln!(
            "{} requests answered, {lost} lost, longest {longest:?} (a file of httpd's own {control:?}), {} idle \
             connections closed",
            self.answered(),
            self.closed()
        );
        assert_eq!(lost, 0, "{faults:#?}");
        let alone = std::env::var_os("MOD_WSGI_RS_FULL").is_some();
        let bound = if alone { bound } else { DEADLINE };
        assert!(longest < bound, "a request took {longest:?}");
    }
}

fn ask(kept: &mut Option<TcpStream>, address: SocketAddr, target: &str) -> Fate {
    let stream = match kept {
        Some(stream) => stream,
        None => match connect(address) {
            Ok(stream) => kept.insert(stream),
            Err(fault) => return Fate::Broken(format!("no connection: {fault}")),
        },
    };
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = Vec::new();
    // Where sending fails the server has closed, and reading says so.
    let _ = stream.write_all(request.as_bytes());
    let mut buffer = [0; 8192];
    loop {
        match read_answer(&answer) {
            Some(fate) => return fate,
            None => match stream.read(&mut buffer) {
                Ok(0) if answer.is_empty() => return Fate::Closed,
                Err(fault)
                    if answer.is_empty() && fault.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Fate::Closed;
                }
                Ok(0) => return Fate::Broken("cut within the answer".to_owned()),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(fault) => return Fate::Broken(fault.to_string()),
            },
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An answer with Content-Length, once it is whole.
fn read_answer(bytes: &[u8]) -> Option<Fate> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let body = &bytes[end + 4..];
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let length: Option<usize> = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok());
    let (Some(status), Some(length)) = (status, length) else {
        return Some(Fate::Broken(format!("an answer without status or length:\n{head}")));
    };
    let closes = head.lines().any(|line| line.trim_end() == "connection: close");
    (body.len() >= length).then(|| {
        Fate::Answered(status, String::from_utf8_lossy(&body[..length]).into_owned(), !closes)
    })
}
