//! Sends a request to a process and relays its answer: the I/O around [`super::course`].

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use engine::os::{Arrival, Wait, socket};
use engine::wire::message::{self, Head, Kind, RequestBody};
use engine::wire::{Batch, Fault};
use engine::wsgi::{Level, ReadFault, SendFault};

use super::course::{Act, Fate, Loss, ONE_PIECE, Sent, Why};
use super::pool::Connection;
use super::upload::{Taken, Upload};
use super::{Gone, GroupLink, connect};
use crate::apache::wait::{Watched, wait};

/// How often a request is sent when it comes back unread each time. A process that is being replaced hands
/// back each of its connections once.
const ATTEMPTS: usize = 5;

/// How much request body is read at a time.
const STEP: usize = 64 * 1024;

/// How often a client whose socket cannot be watched is asked for more body.
const GLANCE: Duration = Duration::from_millis(20);

/// How much of a response that nobody wants is read, to keep the connection and to hear what the log has
/// to say.
const UNWANTED: usize = 256 * 1024;

/// How long an application is listened to that has been told that its client has gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// httpd and the client behind it, as the relay needs them.
pub(super) trait Client {
    /// Whether a body may follow.
    fn may_have_body(&self) -> bool;
    /// Its length, if the client has said it.
    fn announced_length(&self) -> Option<u64>;
    /// Whether the client waits for `100 Continue`.
    fn expects_continue(&self) -> bool;
    /// Whether the client wants only the head of the response.
    fn head_only(&self) -> bool;
    /// Writes REQUEST; see [`message::request`].
    fn write(
        &self,
        out: &mut Vec<u8>,
        number: u32,
        body: RequestBody,
        length: Option<u64>,
        inline: usize,
    ) -> Result<(), Fault>;

    /// Reads body, waiting for at least a byte; 0 is the end. With an empty buffer it only has
    /// `100 Continue` sent.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault>;
    /// As `read` into a buffer that is not empty, without waiting: `None` if nothing is there yet.
    fn read_now(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ReadFault>;
    /// The client sends nothing; the body cannot be read further.
    fn time_out(&mut self) -> ReadFault;
    /// Whether httpd has refused the body, and answered the request by that.
    fn refused(&self) -> bool;

    /// Takes status and headers.
    fn begin(&mut self, head: &Head<'_>) -> Result<(), SendFault>;
    /// Takes body. With `flush` all so far has to reach the client as soon as it can. A slow client is waited
    /// for only when no more can be kept for it.
    fn data(&mut self, bytes: &[u8], flush: bool) -> Result<(), Gone>;
    /// The response is complete. With `flush` it has to reach the client as soon as it can, as it does with
    /// [`Client::push`] where it lags.
    fn end(&mut self, flush: bool) -> Result<(), Gone>;
    /// A part of a file is the body, and the response is complete; as [`Client::end`].
    fn file(&mut self, file: OwnedFd, part: (u64, u64), flush: bool) -> Result<(), Gone>;
    /// The response cannot be completed: the client has to see it.
    fn cut(&mut self);

    /// The client's socket, to be waited for.
    fn socket(&self) -> Option<BorrowedFd<'_>>;
    /// How long the client may send nothing.
    fn timeout(&self) -> Duration;
    /// How long the client may take nothing.
    fn write_timeout(&self) -> Duration;
    /// Whether something is kept that the client has not taken yet.
    fn lags(&self) -> bool;
    /// Sends of that what the client takes now.
    fn push(&mut self) -> Result<(), Gone>;

    /// Writes to the request's log.
    fn log(&mut self, level: Level, text: &str);
    /// Writes something off to the log that was served all the same.
    fn note(&mut self, text: &str) {
        self.log(Level::Warning, text);
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The response has been handed over, or cut, or nobody wants it.
    Sent,
    /// Nothing was handed over: httpd answers with this status. The reason is in the log.
    Status(u16),
}

/// Serves a request.
pub(super) fn serve(client: &mut impl Client, link: &GroupLink) -> Outcome {
    let mut upload = Upload::gather(client, link);
    let bound = link.capacity.saturating_add(link.waiting);
    // Counted from here: a slow upload keeps nobody waiting.
    let Some(_seat) = link.pool.enter(bound) else {
        let text = format!(
            "daemon process group '{}': {bound} requests of this httpd process are with it, as many \
             as its {} threads and {} waiting ones",
            link.name, link.capacity, link.waiting
        );
        client.log(Level::Error, &text);
        return Outcome::Status(503);
    };
    let mut kept = link.pool.pop();
    for _ in 0..ATTEMPTS {
        // Only the first attempt takes a kept connection: where one was handed back, others may have been.
        let connection = kept.take().map_or_else(|| connect::connect(link), Ok);
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(fault) => {
                let text = format!("daemon process group '{}': {fault}", link.name);
                client.log(Level::Error, &text);
                return Outcome::Status(503);
            }
        };
        let mut turn = Turn::new(&mut connection, &mut upload, client, link);
        let (end, reusable) = (turn.run(), turn.reusable());
        if reusable {
            link.pool.push(connection);
        }
        if let Some(outcome) = end {
            return outcome;
        }
    }
    let text = format!(
        "daemon process group '{}': {ATTEMPTS} processes in a row handed the request back unread",
        link.name
    );
    client.log(Level::Error, &text);
    Outcome::Status(503)
}

/// A request on one connection.
struct Turn<'t, C> {
    connection: &'t mut Connection,
    upload: &'t mut Upload,
    client: &'t mut C,
    link: &'t GroupLink,
    number: u32,
    sent_at: Instant,
    /// When the process last sent something or was given some of the body, and when the client last took or sent
    /// something, or was first expected to.
    heard: Instant,
    moved: Instant,
    /// Whether the client was expected to take something when this last waited.
    lagged: bool,
    /// Body frames that the process's socket has not taken yet.
    unsent: Vec<u8>,
    /// Whether the process takes no more.
    deaf: bool,
    /// Whether the head has been handed over.
    begun: bool,
    /// The response is not wanted: what to answer instead, and how much of it is still read.
    unwanted: Option<(Outcome, usize)>,
    /// Whether the connection has gone wrong.
    broken: bool,
    /// Whether the client is to have what was handed over as soon as nothing more is there to go with it.
    due: bool,
}

/// Why a turn ends.
enum Stop {
    /// With this.
    With(Outcome),
    /// The connection is lost.
    Lost(Loss),
    /// The request was not read.
    Again,
}

impl From<Loss> for Stop {
    fn from(loss: Loss) -> Self {
        Self::Lost(loss)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Lost(Loss::Wrong(fault))
    }
}

impl<'t, C: Client> Turn<'t, C> {
    fn new(
        connection: &'t mut Connection,
        upload: &'t mut Upload,
        client: &'t mut C,
        link: &'t GroupLink,
    ) -> Self {
        let now = Instant::now();
        Self {
            connection,
            upload,
            client,
            link,
            number: 0,
            sent_at: now,
            heard: now,
            moved: now,
            lagged: false,
            unsent: Vec::new(),
            deaf: false,
            begun: false,
            unwanted: None,
            broken: false,
            due: false,
        }
    }

    /// Serves the request; `None`: it was not read, and is to be sent again.
    fn run(&mut self) -> Option<Outcome> {
        let stop = match self.send() {
            Ok(()) => self.converse(),
            Err(stop) => stop,
        };
        match stop {
            Stop::With(outcome) => Some(outcome),
            Stop::Again => {
                self.broken = true;
                None
            }
            Stop::Lost(loss) => {
                self.broken = true;
                self.lost(&loss)
            }
        }
    }

    /// Whether the connection may be kept.
    fn reusable(&self) -> bool {
        !self.broken
            && self.unsent.is_empty()
            && !self.deaf
            && self.connection.course.reusable()
            && !self.connection.inbound.stray()
    }

    /// Sends greeting and request at once.
    fn send(&mut self) -> Result<(), Stop> {
        let Connection { socket, course, out, fresh, .. } = &mut *self.connection;
        let form = self.upload.form();
        let expects_body = form == RequestBody::Asked;
        let Some(number) = course.request(expects_body, self.client.head_only()) else {
            return Err(Stop::Again);
        };
        self.number = number;
        out.clear();
        if std::mem::take(fresh) {
            message::hello(out, &self.link.build, &self.link.secret);
        }
        let inline = self.upload.inline();
        let length = self.upload.length();
        if let Err(fault) = self.client.write(out, number, form, length, inline.len()) {
            let text = format!("the request is too large for daemon mode: {fault}");
            self.client.log(Level::Error, &text);
            self.broken = true;
            return Err(Stop::With(Outcome::Status(431)));
        }
        let descriptor = self.upload.file().map(AsFd::as_fd);
        let sent = socket::send(socket.as_fd(), &[out, inline], descriptor.as_slice(), Wait::Yes);
        match sent {
            Ok(()) if out.len() + inline.len() <= ONE_PIECE => course.sent(Sent::InOnePiece),
            Ok(()) => course.sent(Sent::InPieces),
            Err(fault) => match fault.error.kind() {
                ErrorKind::WouldBlock => return Err(Loss::Silent.into()),
                // What the process said before it closed is still there to be read.
                _ => self.deaf = true,
            },
        }
        Ok(())
    }

    fn converse(&mut self) -> Stop {
        loop {
            match self.step() {
                Ok(()) => {}
                Err(stop) => return stop,
            }
        }
    }

    /// Acts on one frame, or gets more.
    fn step(&mut self) -> Result<(), Stop> {
        if self.data()? {
            return Ok(());
        }
        // The frame takes its bytes along, so that the connection can be written to meanwhile.
        let Some((whole, descriptor)) = self.connection.inbound.take()? else {
            return self.more();
        };
        let acted = match self.connection.course.frame(&whole.frame()) {
            Ok(act) => self.act(act, descriptor),
            Err(fault) => Err(fault.into()),
        };
        self.connection.inbound.give_back(whole);
        acted?;
        let course = &self.connection.course;
        match self.unwanted {
            // What goes on afterwards is not waited for: the client has no answer yet.
            Some((outcome, _)) if course.has_ended() => Err(self.leave(outcome)),
            None if self.begun && course.is_over() => Err(Stop::With(Outcome::Sent)),
            _ => Ok(()),
        }
    }

    /// Hands over a piece of the response from where it was received. `false`: something else is next.
    fn data(&mut self) -> Result<bool, Stop> {
        let Connection { inbound, course, .. } = &mut *self.connection;
        let is_data = inbound.header()?.is_some_and(|header| header.kind == Kind::Data as u8);
        if !is_data || self.unwanted.is_some() {
            return Ok(false);
        }
        let Some((frame, _)) = inbound.frame()? else { return Ok(false) };
        let Act::Data { bytes, flush } = course.frame(&frame)? else { return Ok(true) };
        // Blocks that came together go on together.
        self.due |= flush;
        let sent = self.client.data(bytes, false);
        self.handed(sent)?;
        Ok(true)
    }

    fn act(&mut self, act: Act<'_>, descriptor: Option<OwnedFd>) -> Result<(), Stop> {
        if let Some((outcome, left)) = &mut self.unwanted {
            let size = match &act {
                Act::Log { level, text } => {
                    let level = severity(*level);
                    self.client.log(level, text);
                    return Ok(());
                }
                Act::Data { bytes, .. } => bytes.len(),
                _ => 0,
            };
            let outcome = *outcome;
            return match left.checked_sub(size) {
                Some(rest) => {
                    *left = rest;
                    Ok(())
                }
                None => Err(self.hang_up(outcome)),
            };
        }
        match act {
            Act::Nothing => Ok(()),
            Act::Again => Err(Stop::Again),
            Act::Log { level, text } => {
                self.client.log(severity(level), text);
                Ok(())
            }
            Act::Feed { first } => {
                if first && self.client.expects_continue() {
                    // A fault comes up again when the body is read.
                    let _ = self.client.read(&mut []);
                }
                self.moved = Instant::now();
                Ok(())
            }
            Act::Begin(head) => match self.client.begin(&head) {
                Ok(()) => {
                    self.begun = true;
                    Ok(())
                }
                Err(SendFault::Overridden(status)) => {
                    self.unwanted = Some((Outcome::Status(status), UNWANTED));
                    Ok(())
                }
                Err(SendFault::Gone) => Err(self.hang_up(Outcome::Sent)),
            },
            Act::Data { bytes, flush } => {
                let sent = self.client.data(bytes, flush);
                self.handed(sent)
            }
            Act::End { flush } => {
                // Not together with it: how a response is framed is not to depend on what arrived when.
                self.let_go()?;
                // An application that goes on running keeps this thread, but not the client.
                let flush = flush || !self.connection.course.is_over();
                let sent = self.client.end(flush);
                self.handed(sent)
            }
            Act::File { offset, length, flush } => {
                let flush = flush || !self.connection.course.is_over();
                let Some(file) = descriptor else { return Err(Fault::Descriptor.into()) };
                let (file, has) = size_of(file);
                if offset.checked_add(length).is_none_or(|end| end > has) {
                    let text = format!(
                        "daemon process group '{}': a file of {has} bytes was sent as {length} bytes \
                         from {offset} on",
                        self.link.name
                    );
                    self.client.log(Level::Error, &text);
                    self.let_go()?;
                    self.client.cut();
                    return Err(self.leave(Outcome::Sent));
                }
                let sent = self.client.file(file, (offset, length), flush);
                self.handed(sent)
            }
            Act::Cut(why) => {
                // What the process says about it is in the log already.
                if let Why::Short { promised, given } = why {
                    let text = format!(
                        "daemon process group '{}': a response of {promised} bytes ended after {given}",
                        self.link.name
                    );
                    self.client.log(Level::Error, &text);
                }
                self.let_go()?;
                self.client.cut();
                Err(self.leave(Outcome::Sent))
            }
            Act::Answer(status) => Err(self.leave(Outcome::Status(status))),
        }
    }

    /// Has the client get what it is to have by now.
    fn let_go(&mut self) -> Result<(), Stop> {
        if !std::mem::take(&mut self.due) {
            return Ok(());
        }
        let sent = self.client.data(&[], true);
        self.handed(sent)
    }

    /// Goes on, unless the client is gone.
    fn handed(&mut self, sent: Result<(), Gone>) -> Result<(), Stop> {
        match sent {
            Ok(()) => Ok(()),
            // All of the response is there: its process is not to be disturbed in what it does afterwards.
            Err(Gone) if self.connection.course.is_over() => Ok(()),
            Err(Gone) => Err(self.hang_up(Outcome::Sent)),
        }
    }

    /// Ends the turn after the last frame of the response. Where the application goes on running, its
    /// connection is given up: it may be stuck, and the client is not to wait for that.
    fn leave(&mut self, outcome: Outcome) -> Stop {
        self.broken |= !self.connection.course.is_over();
        Stop::With(outcome)
    }

    /// Tells the process that nobody wants the response any more.
    fn hang_up(&mut self, outcome: Outcome) -> Stop {
        self.broken = true;
        if self.begun {
            // A client that was too slow is still there, and must not take what it has for all.
            self.client.cut();
        }
        if self.unsent.is_empty() && !self.deaf {
            let Connection { socket, out, .. } = &mut *self.connection;
            out.clear();
            message::cancel(out, self.number);
            // Closing says the same to a process that does not listen.
            if socket::send(socket.as_fd(), &[out], &[], Wait::No).is_ok() && self.begun {
                self.hear_out();
            }
        }
        Stop::With(outcome)
    }

    /// Logs what the application says as it ends, which belongs to the request. That takes a moment where it is in
    /// the middle of a stream; others are not waited for.
    fn hear_out(&mut self) {
        let until = Instant::now() + FAREWELL;
        while !self.connection.course.has_ended() {
            let Connection { socket, inbound, course, .. } = &mut *self.connection;
            match inbound.take() {
                Ok(Some((whole, _))) => {
                    match course.frame(&whole.frame()) {
                        Ok(Act::Log { level, text }) => self.client.log(severity(level), text),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                    inbound.give_back(whole);
                    continue;
                }
                Ok(None) => {}
                Err(_) => return,
            }
            let left = until.saturating_duration_since(Instant::now());
            let watched = Watched { socket: socket.as_fd(), read: true, write: false };
            if left.is_zero()
                || !matches!(wait([Some(watched)], left), Ok([true]))
                || self.receive(Wait::No).is_err()
            {
                return;
            }
        }
    }

    /// Receives more, and meanwhile moves what else there is to move.
    fn more(&mut self) -> Result<(), Stop> {
        self.let_go()?;
        let later = self.feed()?;
        if !later && self.unsent.is_empty() && !self.client.lags() && self.may_block() {
            return self.receive(Wait::Yes).map(drop);
        }
        if self.receive(Wait::No)? {
            return Ok(());
        }
        self.wait(later)
    }

    /// Whether a receive can be left to its socket's own timeout.
    fn may_block(&self) -> bool {
        // The first one has all of the time that is allowed, which is what the timeout was set to.
        self.link.patience.is_none() || self.heard == self.sent_at
    }

    /// Receives once; whether anything came.
    fn receive(&mut self, wait: Wait) -> Result<bool, Stop> {
        let Connection { socket, inbound, .. } = &mut *self.connection;
        match inbound.receive(socket.as_fd(), wait) {
            Ok(Arrival::Bytes) => {
                self.heard = Instant::now();
                Ok(true)
            }
            Ok(Arrival::End { torn }) => Err(Loss::Closed { torn }.into()),
            Err(error) => Err(match error.kind() {
                ErrorKind::WouldBlock if wait == Wait::No => return Ok(false),
                ErrorKind::WouldBlock => Loss::Silent,
                ErrorKind::ConnectionReset => Loss::Reset { torn: !inbound.is_empty() },
                ErrorKind::InvalidData => Loss::Wrong(Fault::Descriptor),
                _ => Loss::Failed(error.to_string()),
            }
            .into()),
        }
    }

    /// Sends request body that was asked for. Whether more is asked for than the client has sent so far.
    fn feed(&mut self) -> Result<bool, Stop> {
        while self.connection.course.wants_body() && self.unsent.is_empty() && !self.deaf {
            let mut buffer = vec![0; self.connection.course.credit().min(STEP)];
            let out = &mut self.connection.out;
            out.clear();
            let mut batch = Batch::new(out);
            match self.upload.take(self.client, &mut buffer) {
                Taken::Later => return Ok(true),
                Taken::Bytes(count, last) => {
                    message::body(&mut batch, self.number, &[&buffer[..count]], last);
                    self.connection.course.fed(count, last);
                }
                Taken::Fault(ReadFault(reason)) => {
                    let refused = self.client.refused();
                    message::body_fault(batch.out(), self.number, &reason, refused);
                    self.connection.course.fed(0, true);
                }
            }
            let slices = batch.slices();
            let socket = self.connection.socket.as_fd();
            if let Err(fault) = socket::send(socket, &slices, &[], Wait::No) {
                if fault.error.kind() == ErrorKind::WouldBlock {
                    self.unsent.extend(slices.concat().drain(fault.sent..));
                } else {
                    self.deaf = true;
                }
            }
            self.moved = Instant::now();
            // It had nothing to go on with before.
            self.heard = self.moved;
        }
        Ok(false)
    }

    /// Sends on what the process's socket had not taken.
    fn resume(&mut self) {
        let socket = self.connection.socket.as_fd();
        match socket::send(socket, &[&self.unsent], &[], Wait::No) {
            Ok(()) => self.unsent.clear(),
            Err(fault) if fault.error.kind() == ErrorKind::WouldBlock => {
                self.unsent.drain(..fault.sent);
            }
            Err(_) => {
                self.unsent.clear();
                self.deaf = true;
            }
        }
    }

    /// Waits for the process and for the client. `later`: the client has to send body first.
    fn wait(&mut self, later: bool) -> Result<(), Stop> {
        let now = Instant::now();
        let lags = self.client.lags();
        if lags && !self.lagged {
            self.moved = now;
        }
        self.lagged = lags;
        let mut until = None;
        let mut sooner = |at: Option<Instant>| {
            until = match (until, at) {
                (Some(one), Some(other)) => Some(std::cmp::min::<Instant>(one, other)),
                (one, other) => one.or(other),
            };
        };
        // A process that waits for the client's body may be silent.
        let silence = (!later).then(|| self.heard.checked_add(self.link.socket_timeout)).flatten();
        let patience = self.link.patience.and_then(|patience| self.sent_at.checked_add(patience));
        let idle = match (lags, later) {
            (true, _) => self.moved.checked_add(self.client.write_timeout()),
            (false, true) => self.moved.checked_add(self.client.timeout()),
            (false, false) => None,
        };
        sooner(silence);
        sooner(patience);
        sooner(idle);
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(silence) || passed(patience) {
            return Err(Loss::Silent.into());
        }
        if passed(idle) {
            if lags {
                // What has ended is httpd's, which has patience of its own.
                let ended = self.connection.course.has_ended();
                let outcome = Outcome::Sent;
                return Err(if ended { self.leave(outcome) } else { self.hang_up(outcome) });
            }
            self.upload.time_out(self.client);
            self.moved = now;
            return Ok(());
        }
        let mut time = until.map_or(self.link.socket_timeout, |until| until - now);
        let client = self.client.socket().filter(|_| later || lags);
        if client.is_none() && later {
            time = time.min(GLANCE);
        }
        let client = client.map(|socket| Watched { socket, read: later, write: lags });
        let process = Watched {
            socket: self.connection.socket.as_fd(),
            read: true,
            write: !self.unsent.is_empty(),
        };
        let [process, client] =
            wait([Some(process), client], time).map_err(|error| Loss::Failed(error.to_string()))?;
        if process && !self.unsent.is_empty() {
            self.resume();
        }
        if client {
            self.moved = Instant::now();
            if lags {
                let pushed = self.client.push();
                return self.handed(pushed);
            }
        }
        Ok(())
    }

    /// The connection is lost: `None` to send the request again.
    fn lost(&mut self, loss: &Loss) -> Option<Outcome> {
        let fate = self.connection.course.lost(loss);
        if fate == Fate::Again {
            return None;
        }
        if let Some((outcome, _)) = self.unwanted {
            // The answer is settled.
            return Some(outcome);
        }
        let after = self.sent_at.elapsed();
        let since = SystemTime::now().checked_sub(after).unwrap_or(SystemTime::UNIX_EPOCH);
        let reason = match loss {
            Loss::Closed { .. } | Loss::Reset { .. } => (self.link.reason)(self.link.id, since),
            _ => None,
        };
        let what = match fate {
            Fate::Complete => "the response is complete, what its process still did is not known",
            Fate::Cut => "the response is cut",
            Fate::Answer(_) | Fate::Again => "there is no response",
        };
        let (name, seconds) = (&self.link.name, after.as_secs_f64());
        let text = match reason {
            Some(reason) => {
                format!("daemon process group '{name}': {what} after {seconds:.3} s: {reason}")
            }
            None => format!("daemon process group '{name}': {what} after {seconds:.3} s: {loss}"),
        };
        self.client.log(Level::Error, &text);
        Some(match fate {
            Fate::Answer(status) => Outcome::Status(status),
            Fate::Cut => {
                self.client.cut();
                Outcome::Sent
            }
            Fate::Complete | Fate::Again => Outcome::Sent,
        })
    }
}

/// A file's size; 0 for what is no regular file.
fn size_of(file: OwnedFd) -> (OwnedFd, u64) {
    let file = std::fs::File::from(file);
    let size = file.metadata().ok().filter(|facts| facts.is_file()).map_or(0, |facts| facts.len());
    (file.into(), size)
}

fn severity(level: u8) -> Level {
    match level {
        0 => Level::Critical,
        1 => Level::Error,
        2 => Level::Warning,
        3 => Level::Info,
        _ => Level::Debug,
    }
}
