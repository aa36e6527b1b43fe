//! A request over the socket, as the engine sees it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::{AT_ONCE, Line, Way};
use super::shared::{Shared, now_us};
use crate::os::own;
use crate::os::socket::Wait;
use crate::os::{Arrival, Inbound, socket};
use crate::wire::frame::MAX_STREAM;
use crate::wire::message::{Entry, FromChild, Kind, Request, RequestBody};
use crate::wire::order::{ChildOrder, Place};
use crate::wire::{Fault, Whole};
use crate::wsgi::{Environ, Exchange, Head, Key, Level, Outcome, ReadFault, SendFault, Then};

/// How much body the other side may have on its way: it never waits for this side to ask, and no more than this
/// waits here for the application.
const WINDOW: u32 = 512 * 1024;

/// While a response is being sent, how often a look is taken whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(50);

/// Blocks that follow each other within this time are left to the flusher. Of slower ones it would send each alone, and
/// its waking costs more than the send it saves the application.
const QUICK: Duration = Duration::from_micros(20);

/// How many of them there have to be first: a response of a few blocks is not worth waking the flusher for.
const STEADY: u32 = 3;

/// What a slow one takes off their count, which goes no further than to the sum of both. One among many says nothing:
/// the thread may have had to wait for a processor, or for Python.
const LAPSE: u32 = 2;

/// Files up to this size are sent as bytes: that takes fewer calls than passing a descriptor.
const SMALL_FILE: u64 = MAX_STREAM as u64;

/// The receiving side of a connection.
pub(super) struct Receiving {
    pub(super) inbound: Inbound,
    pub(super) order: ChildOrder,
}

/// One request.
pub(super) struct Remote<'a> {
    shared: &'static Shared,
    line: &'a Arc<Line>,
    receiving: &'a mut Receiving,
    request: Request<'a>,
    /// What of [`Request::inline`] the application has not read.
    inline: &'a [u8],
    file: Option<BodyFile>,
    asked: Asked,
    /// Whether the connection was made for it.
    first: bool,
    /// Why the body cannot be read any further.
    fault: Option<String>,
    looked: Option<Instant>,
    pace: Pace,
}

/// How quickly the blocks of a response follow each other.
#[derive(Default)]
struct Pace {
    /// When the last one had gone.
    last: Option<Instant>,
    /// When the next one came, and whether it is one of a quick row; once that was asked.
    next: Option<(Instant, bool)>,
    /// How many came quickly after the one before, see [`LAPSE`].
    quick: u32,
}

impl Pace {
    /// A block comes. Asked again before it has gone, the answer is the same.
    fn comes(&mut self) -> (Instant, bool) {
        *self.next.get_or_insert_with(|| {
            let now = Instant::now();
            self.quick = match self.last {
                Some(last) if now < last + QUICK => (self.quick + 1).min(STEADY + LAPSE),
                _ => self.quick.saturating_sub(LAPSE),
            };
            (now, self.quick >= STEADY)
        })
    }

    /// It has gone.
    fn went(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = None;
    }
}

/// A body in a file.
pub(super) struct BodyFile {
    file: File,
    at: u64,
    left: u64,
}

/// A body that comes when it is asked for.
#[derive(Default)]
struct Asked {
    first_done: bool,
    /// How much more may come without being asked for.
    credit: u32,
    /// How much of the body was received or asked for.
    covered: u64,
    /// A frame that the application has not read to its end, and how far it has.
    piece: Option<(Whole, usize)>,
    ended: bool,
}

impl<'a> Remote<'a> {
    pub(super) fn new(
        shared: &'static Shared,
        line: &'a Arc<Line>,
        receiving: &'a mut Receiving,
        request: Request<'a>,
        file: Option<OwnedFd>,
        first: bool,
    ) -> Self {
        let left = request.body_length.unwrap_or(0);
        let file = file.map(|file| BodyFile { file: file.into(), at: 0, left });
        let covered = u64::try_from(request.inline.len()).unwrap_or(u64::MAX);
        Self {
            shared,
            line,
            receiving,
            request,
            inline: request.inline,
            file,
            asked: Asked { covered, ..Asked::default() },
            first,
            fault: None,
            looked: None,
            pace: Pace::default(),
        }
    }

    fn active(&self, now: Instant) {
        if !self.request.ignore_activity {
            self.shared.active_at(now);
        }
    }

    /// Reads on as the child sends. 0 is the end.
    fn read_asked(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        if buffer.is_empty() {
            if !self.asked.first_done {
                self.asked.first_done = true;
                self.ask(0, true)?;
            }
            return Ok(0);
        }
        loop {
            if let Some(size) = self.take_piece(buffer) {
                return Ok(size);
            }
            if self.asked.ended {
                return Ok(0);
            }
            self.widen()?;
            self.receive()?;
        }
    }

    /// Bytes that are there already.
    fn take_piece(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (whole, at) = self.asked.piece.as_mut()?;
        let left = &whole.frame().payload[*at..];
        let size = left.len().min(buffer.len());
        buffer[..size].copy_from_slice(&left[..size]);
        *at += size;
        if size == left.len()
            && let Some((whole, _)) = self.asked.piece.take()
        {
            self.receiving.inbound.give_back(whole);
        }
        Some(size)
    }

    /// Asks for more where little is on its way.
    fn widen(&mut self) -> Result<(), String> {
        if self.asked.credit > WINDOW / 2 {
            return Ok(());
        }
        let mut credit = WINDOW - self.asked.credit;
        if let Some(length) = self.request.body_length {
            let left = length.saturating_sub(self.asked.covered);
            credit = credit.min(u32::try_from(left).unwrap_or(u32::MAX));
        }
        let first = !self.asked.first_done;
        if credit == 0 && !first {
            return Ok(());
        }
        self.asked.first_done = true;
        self.asked.credit += credit;
        self.asked.covered = self.asked.covered.saturating_add(credit.into());
        self.ask(credit, first)
    }

    fn ask(&self, credit: u32, first: bool) -> Result<(), String> {
        if self.line.ask(credit, first) {
            Ok(())
        } else {
            Err("the response has ended, or nobody waits for it any more".to_owned())
        }
    }

    /// Receives until there is a frame of the body.
    fn receive(&mut self) -> Result<(), String> {
        loop {
            match self.receiving.inbound.take() {
                Err(fault) => return Err(self.broken(fault)),
                Ok(Some((whole, None))) => {
                    if let Some(done) = self.body_frame(whole) {
                        return done;
                    }
                }
                Ok(Some((_, Some(_)))) => return Err(self.broken(Fault::Descriptor)),
                Ok(None) => {
                    let socket = self.line.socket();
                    match self.receiving.inbound.receive(socket, Wait::Yes) {
                        Ok(Arrival::Bytes) => self.active(Instant::now()),
                        Ok(Arrival::End { .. }) => return Err(self.gone()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Err("no more of it came within socket-timeout".to_owned());
                        }
                        Err(_) => return Err(self.gone()),
                    }
                }
            }
        }
    }

    /// `None`: it has nothing for the application.
    fn body_frame(&mut self, whole: Whole) -> Option<Result<(), String>> {
        let frame = whole.frame();
        match self.receiving.order.accept(&frame.header) {
            Ok(Place::Here) => {}
            Ok(Place::Late) => return None,
            Err(fault) => return Some(Err(self.broken(fault))),
        }
        match FromChild::decode(&frame) {
            Ok(FromChild::Body { bytes, last }) => {
                let Some(credit) = u32::try_from(bytes.len())
                    .ok()
                    .and_then(|size| self.asked.credit.checked_sub(size))
                else {
                    let fault = Fault::Value("there is more body than was asked for");
                    return Some(Err(self.broken(fault)));
                };
                self.asked.credit = credit;
                self.asked.ended = last;
                if bytes.is_empty() {
                    self.receiving.inbound.give_back(whole);
                } else {
                    self.asked.piece = Some((whole, 0));
                }
                Some(Ok(()))
            }
            Ok(FromChild::BodyFault { reason, refused: _ }) => Some(Err(reason.to_owned())),
            Ok(FromChild::Cancel) => Some(Err(self.gone())),
            Ok(FromChild::Hello(_) | FromChild::Request(_)) => {
                Some(Err(self.broken(Fault::Order(frame.header.kind))))
            }
            Err(fault) => Some(Err(self.broken(fault))),
        }
    }

    fn gone(&mut self) -> String {
        self.line.cancel();
        "the client has gone".to_owned()
    }

    fn broken(&mut self, fault: Fault) -> String {
        self.line.forsake();
        own::cut(self.line.socket());
        self.shared.complain(&format!("a connection is ended: httpd's side sent {fault}"));
        "the connection to httpd is broken".to_owned()
    }

    /// Looks, from time to time, whether the client has gone, as far as that can be seen without taking body in.
    fn look(&mut self, now: Instant) {
        if self.looked.is_none_or(|looked| now < looked + LOOK) {
            self.looked.get_or_insert(now);
            return;
        }
        self.looked = Some(now);
        loop {
            match self.receiving.inbound.header() {
                Ok(Some(header)) if header.kind == Kind::Cancel as u8 => {
                    if let Ok(Some((frame, None))) = self.receiving.inbound.frame()
                        && self.receiving.order.accept(&frame.header) == Ok(Place::Here)
                    {
                        self.gone();
                    }
                    return;
                }
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => match self.receiving.inbound.receive(self.line.socket(), Wait::No) {
                    Ok(Arrival::Bytes) => {}
                    Ok(Arrival::End { .. }) => {
                        // Ended here, where the connection is being handed back: that says nothing.
                        return;
                    }
                    Err(_) => return,
                },
            }
        }
    }

    fn send_bytes(
        &mut self,
        head: Option<&Head>,
        file: &File,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        let mut buffer = vec![0; usize::try_from(length).map_or(MAX_STREAM, |l| l.min(MAX_STREAM))];
        let (mut at, mut left, mut head) = (offset, length, head);
        loop {
            let size = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            if file.read_exact_at(&mut buffer[..size], at).is_err() {
                // Shorter than it was when it was looked at.
                self.line.send(head, &[], Then::Flush)?;
                self.line.abort("the file has become shorter");
                return Ok(());
            }
            at += size as u64;
            left -= size as u64;
            let then = if left == 0 { Then::EndNow } else { Then::Flush };
            self.line.send(head.take(), &[&buffer[..size]], then)?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Ends the exchange. `true`: another request can come on this connection.
    pub(super) fn finish(self, outcome: Outcome, close: bool) -> bool {
        if let Some((whole, _)) = self.asked.piece {
            self.receiving.inbound.give_back(whole);
        }
        self.receiving.order.finish();
        self.line.finish(outcome, close)
    }
}

impl Exchange for Remote<'_> {
    fn describe(&mut self, environ: &mut Environ<'_>) {
        // Its script is there, and what the process dies of from here on is the request.
        self.shared.loaded();
        environ.set_float(Key::RequestStart, seconds(self.request.request_start_us));
        environ.set_float(Key::QueueStart, seconds(self.request.queue_start_us));
        environ.set_float(Key::DaemonStart, seconds(now_us()));
        for entry in self.request.entries {
            match entry {
                Entry::Set { key, value } => {
                    if let Ok(key) = Key::try_from(key) {
                        environ.set(key, value);
                    }
                }
                Entry::SetPath { key, value } => {
                    if let Ok(key) = Key::try_from(key) {
                        environ.set_path(key, value);
                    }
                }
                Entry::SetFloat { key, value } => {
                    if let Ok(key) = Key::try_from(key) {
                        environ.set_float(key, value);
                    }
                }
                Entry::Header { name, value } => environ.header(name, value),
                Entry::Var { name, value } => environ.var(name, value),
                Entry::Https(on) => environ.https(on),
            }
        }
    }

    fn head_only(&self) -> bool {
        self.request.head_only
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        if let Some(fault) = &self.fault {
            return Err(ReadFault(fault.clone()));
        }
        if !self.inline.is_empty() {
            let size = self.inline.len().min(buffer.len());
            buffer[..size].copy_from_slice(&self.inline[..size]);
            self.inline = &self.inline[size..];
            return Ok(size);
        }
        let read = match (self.request.body, &mut self.file) {
            (RequestBody::Asked, _) => self.read_asked(buffer),
            (RequestBody::File, Some(file)) => file.read(buffer),
            (RequestBody::Whole | RequestBody::File, _) => Ok(0),
        };
        read.map_err(|fault| {
            self.fault = Some(fault.clone());
            ReadFault(fault)
        })
    }

    fn send(&mut self, head: Option<&Head>, blocks: &[&[u8]], then: Then) -> Result<(), SendFault> {
        if then != Then::Flush {
            return self.line.send(head, blocks, then);
        }
        let (now, quick) = self.pace.comes();
        self.active(now);
        self.look(now);
        let size: usize = blocks.iter().map(|block| block.len()).sum();
        if head.is_none()
            && (1..=AT_ONCE).contains(&size)
            && self.shared.flusher.take(self.line, blocks, quick)
        {
            self.pace.went(now);
            return Ok(());
        }
        let sent = self.line.send(head, blocks, then);
        self.pace.went(Instant::now());
        sent
    }

    fn takes_at_once(&mut self, size: usize) -> bool {
        if size > AT_ONCE {
            return false;
        }
        match self.line.way(size) {
            Way::Open | Way::Joins => true,
            Way::Free => {
                let (_, quick) = self.pace.comes();
                quick && self.shared.flusher.is_there() || socket::takes_at_once(self.line.socket())
            }
            Way::Behind => false,
        }
    }

    fn send_file(
        &mut self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        if length > SMALL_FILE {
            // A descriptor with a position of its own: the application may be using the same file object in
            // another response.
            if let Ok(again) = own::open_again(file.as_fd()) {
                return self.line.send_file(head, again.into(), offset, length);
            }
        }
        self.send_bytes(head, &file.into(), offset, length)
    }

    fn abort(&mut self) {
        self.line.abort("the application's response broke off");
    }

    fn logs(&self, level: Level) -> bool {
        level as u8 <= self.request.log_level
    }

    fn connects(&self) -> u32 {
        u32::from(self.first)
    }

    fn log(&mut self, level: Level, text: &str) {
        if !text.is_empty() && !self.line.log(level, text) {
            self.shared.status.log(level, text);
        }
    }
}

impl BodyFile {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..most], self.at) {
            Ok(0) => Err("the file it was gathered in is too short".to_owned()),
            Ok(size) => {
                self.at += size as u64;
                self.left -= size as u64;
                Ok(size)
            }
            Err(error) => Err(format!("the file it was gathered in cannot be read: {error}")),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time in microseconds has 51 bits until 2041")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}
