//! httpd's request as the relay needs it: its body, its filters, and what a slow client has not taken yet.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::wire::message::{self, Head, RequestBody, RequestStart};
use engine::wire::{Fault, frame};
use engine::wsgi::{Level, ReadFault, SendFault};

use super::relay::{Client, Outcome};
use super::request::Entries;
use super::spool::Spool;
use super::{Gone, GroupLink, Task};
use crate::apache::wait::{Watched, wait};
use crate::apache::{Body, Output, Request, Tail, Verdict, body, log};
use crate::handler::describe::Description;
use crate::handler::response::{self, Line};

/// How much of a response is held back, so that one that ends within it goes to httpd whole: httpd says its
/// length then.
const HELD: usize = frame::MAX_STREAM;

/// How much is given to httpd at a time from what was kept for a slow client. With what encryption adds it stays
/// below the 64 KiB from which on httpd waits for the client.
const SLICE: usize = 32 * 1024;

/// How long a client may take to make room before what follows is kept for it: writing a file costs more than a
/// moment's wait, which a client on a fast network does not exceed.
const GRACE: Duration = Duration::from_millis(10);

/// Where httpd has no `Timeout`.
const LONG: Duration = Duration::from_secs(3600);

/// A request of httpd's.
pub(super) struct HttpClient<'x, 'r> {
    request: &'x Request<'r>,
    task: &'x Task<'x, 'r>,
    link: &'x GroupLink,
    /// `Content-Length` before any filter has seen the body.
    announced: Option<&'r CStr>,
    queue_start: u64,
    body: Body,
    output: Output,
    /// Whether status and headers have been given to httpd.
    begun: bool,
    /// Bytes of a response that has just begun.
    held: Vec<u8>,
    /// What the client has not taken; behind it comes nothing that was held.
    spool: Option<Spool>,
    /// Whether what was given to httpd has yet to be flushed.
    owed: bool,
}

impl<'x, 'r> HttpClient<'x, 'r> {
    pub(super) fn new(
        request: &'x Request<'r>,
        task: &'x Task<'x, 'r>,
        link: &'x GroupLink,
    ) -> Self {
        Self {
            request,
            task,
            link,
            announced: request.header(c"Content-Length"),
            queue_start: micros(SystemTime::now()),
            body: Body::new(),
            output: Output::new(),
            begun: false,
            held: Vec::new(),
            spool: None,
            owed: false,
        }
    }

    /// What the handler says to httpd.
    pub(super) fn settle(self, outcome: Outcome) -> Verdict {
        if self.begun {
            return Verdict::Ok;
        }
        if self.body.is_refused() {
            // httpd answered when it refused the body.
            return Verdict::Answered;
        }
        match outcome {
            Outcome::Sent => Verdict::Ok,
            Outcome::Status(status) => {
                if status == 503
                    && let Some(headers) = self.request.error_headers()
                {
                    let seconds = self.link.retry_after.to_string();
                    let seconds = self.request.pool().text(&[seconds.as_bytes()]);
                    headers.add(c"Retry-After", seconds);
                }
                Verdict::Status(status)
            }
        }
    }

    fn write(&mut self, bytes: &[u8], tail: Tail) -> Result<(), Gone> {
        self.output.write(self.request, &[bytes], tail).map_err(|_| Gone)
    }

    fn spooled(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::len)
    }

    /// Gives bytes to httpd if the client keeps up, else keeps them.
    fn offer(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.spooled() == 0 && self.keeps_up()? {
            return self.write(bytes, Tail::More);
        }
        self.keep(bytes)
    }

    /// Whether the client has taken all that httpd was given, or does so in a moment.
    fn keeps_up(&mut self) -> Result<bool, Gone> {
        if !self.request.has_pending_output() {
            return Ok(true);
        }
        let until = Instant::now() + GRACE;
        while self.request.has_pending_output() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait_for_room(left)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the client takes something, and sends it.
    fn wait_for_room(&mut self, time: Duration) -> Result<bool, Gone> {
        let watched =
            self.request.client_socket().map(|socket| Watched { socket, read: false, write: true });
        match wait([watched], time) {
            Ok([false]) => Ok(false),
            Ok([true]) => {
                self.request.push_pending_output().map_err(|_| Gone)?;
                Ok(true)
            }
            Err(_) => Err(Gone),
        }
    }

    /// Keeps bytes for later. Where that is not possible the client is waited for.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        let room = self.link.response_buffering.saturating_sub(self.spooled());
        if u64::try_from(bytes.len()).is_ok_and(|length| length > room) {
            self.make_room()?;
        }
        let kept = match &mut self.spool {
            Some(spool) => spool.put(bytes),
            None => Spool::new(&self.link.spool_directory)
                .and_then(|spool| self.spool.insert(spool).put(bytes)),
        };
        let Err(error) = kept else { return Ok(()) };
        self.note(&format!("a response cannot be kept in a file for a slow client: {error}"));
        self.empty()?;
        self.write(bytes, Tail::Flush)
    }

    /// Waits until half of what is kept has gone.
    fn make_room(&mut self) -> Result<(), Gone> {
        while self.spooled() > self.link.response_buffering / 2 {
            if self.request.has_pending_output() && !self.wait_for_room(self.write_timeout())? {
                return Err(Gone);
            }
            self.push()?;
        }
        Ok(())
    }

    /// Gives all that is kept to httpd, waiting for the client.
    fn empty(&mut self) -> Result<(), Gone> {
        let mut buffer = vec![0; SLICE];
        while self.spooled() > 0 {
            let count = self.take(&mut buffer)?;
            self.write(&buffer[..count], Tail::Flush)?;
        }
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Gone> {
        let Some(spool) = &mut self.spool else { return Ok(0) };
        match spool.take(buffer) {
            Ok(count) => Ok(count),
            Err(error) => {
                let text = format!("what was kept for a slow client cannot be read: {error}");
                self.log(Level::Error, &text);
                self.cut();
                Err(Gone)
            }
        }
    }

    /// Has the filters above the network give out what they keep, once the client has taken the rest.
    fn pay(&mut self) -> Result<(), Gone> {
        if !self.owed {
            return Ok(());
        }
        if self.request.has_pending_output() {
            self.request.push_pending_output().map_err(|_| Gone)?;
        }
        if !self.request.has_pending_output() {
            self.owed = false;
            self.write(&[], Tail::Flush)?;
        }
        Ok(())
    }

    /// Where the client cannot be watched: what is not flushed is kept, so that it goes on as a file, for which
    /// httpd does not wait; what is flushed goes at once.
    fn data_unwatched(&mut self, bytes: &[u8], flush: bool) -> Result<(), Gone> {
        let held = std::mem::take(&mut self.held);
        let length = u64::try_from(held.len() + bytes.len()).unwrap_or(u64::MAX);
        if !flush && self.spooled().saturating_add(length) <= self.link.response_buffering {
            self.keep(&held)?;
            return self.keep(bytes);
        }
        self.empty()?;
        self.write(&held, Tail::More)?;
        self.write(bytes, Tail::Flush)
    }
}

impl Client for HttpClient<'_, '_> {
    fn may_have_body(&self) -> bool {
        self.request.may_have_body()
    }

    fn announced_length(&self) -> Option<u64> {
        std::str::from_utf8(self.announced?.to_bytes()).ok()?.parse().ok()
    }

    fn expects_continue(&self) -> bool {
        self.request.expects_continue()
    }

    fn head_only(&self) -> bool {
        self.request.is_head()
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        number: u32,
        body: RequestBody,
        length: Option<u64>,
        inline: usize,
    ) -> Result<(), Fault> {
        let Task { effective, mtime, paths, target, pid, ignore_activity, .. } = *self.task;
        let start = RequestStart {
            target,
            handler: self.request.handler().unwrap_or_default().to_bytes(),
            mtime_us: mtime,
            reloading: effective.script_reloading,
            request_start_us: u64::try_from(self.request.start()).unwrap_or(0),
            queue_start_us: self.queue_start,
            head_only: self.request.is_head(),
            ignore_activity,
            log_level: log::most(self.request) as u8,
            body,
            body_length: length,
        };
        let mut entries = Entries(message::request(out, number, &start));
        let description =
            Description { request: self.request, effective, paths, pid, announced: self.announced };
        description.write(&mut entries);
        entries.0.finish(inline)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        self.body.read(self.request, buffer).map_err(words)
    }

    fn read_now(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ReadFault> {
        self.body.read_now(self.request, buffer).map_err(words)
    }

    fn time_out(&mut self) -> ReadFault {
        words(self.body.time_out(self.request))
    }

    fn refused(&self) -> bool {
        self.body.is_refused()
    }

    fn begin(&mut self, head: &Head<'_>) -> Result<(), SendFault> {
        if self.body.is_refused() {
            // httpd has answered; anything more would be taken for another response.
            return Err(SendFault::Gone);
        }
        let line = Line {
            status: head.status(),
            text: head.line(),
            content_length: head.content_length(),
        };
        let error_override = self.task.effective.error_override;
        response::begin(self.request, &line, head.headers(), error_override)?;
        self.begun = true;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8], flush: bool) -> Result<(), Gone> {
        if self.body.is_refused() {
            return Err(Gone);
        }
        // A full frame is one of many, and no end is near.
        let small = bytes.len() < frame::MAX_STREAM && self.held.len() + bytes.len() <= HELD;
        if !flush && small && self.spooled() == 0 && !self.owed {
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        if self.request.is_multiplexed() {
            return self.data_unwatched(bytes, flush);
        }
        let mut held = std::mem::take(&mut self.held);
        let given = self.give(&held, bytes, flush);
        held.clear();
        self.held = held;
        given
    }

    fn end(&mut self, flush: bool) -> Result<(), Gone> {
        let held = std::mem::take(&mut self.held);
        if self.spooled() > 0 {
            return self.end_with_file(flush);
        }
        self.write(&held, Tail::End)?;
        self.owe(flush)
    }

    fn file(&mut self, file: OwnedFd, part: (u64, u64), flush: bool) -> Result<(), Gone> {
        let (offset, length) = part;
        let sendfile = self.task.effective.enable_sendfile;
        let written = self.output.write_file(self.request, file, offset, length, sendfile);
        written.map_err(|_| Gone)?;
        self.owe(flush)
    }

    fn cut(&mut self) {
        if self.begun && !self.body.is_refused() {
            self.held.clear();
            self.spool = None;
            self.output.cut(self.request);
        }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.request.client_socket()
    }

    fn timeout(&self) -> Duration {
        self.request.client_timeout().unwrap_or(LONG)
    }

    fn write_timeout(&self) -> Duration {
        self.link.write_timeout.unwrap_or_else(|| self.timeout())
    }

    fn lags(&self) -> bool {
        // Where the client cannot be watched nothing is waited for.
        (self.owed || self.spooled() > 0) && !self.request.is_multiplexed()
    }

    fn push(&mut self) -> Result<(), Gone> {
        if self.request.has_pending_output() {
            self.request.push_pending_output().map_err(|_| Gone)?;
        }
        if self.spooled() > 0 && !self.request.has_pending_output() {
            let mut buffer = vec![0; SLICE];
            while self.spooled() > 0 && !self.request.has_pending_output() {
                let count = self.take(&mut buffer)?;
                self.write(&buffer[..count], Tail::More)?;
            }
        }
        if self.spooled() == 0 { self.pay() } else { Ok(()) }
    }

    fn log(&mut self, level: Level, text: &str) {
        log::request(self.request, level, text);
    }
}

impl HttpClient<'_, '_> {
    /// Gives what was held, and what follows it, to httpd or keeps it for the client.
    fn give(&mut self, held: &[u8], bytes: &[u8], flush: bool) -> Result<(), Gone> {
        if self.link.response_buffering == 0 {
            self.write(held, Tail::More)?;
            return self.write(bytes, if flush { Tail::Flush } else { Tail::More });
        }
        self.offer(held)?;
        self.offer(bytes)?;
        self.owed |= flush;
        self.pay()
    }

    /// The end of a response of which a part is kept: the file goes to httpd, which sends it when the client
    /// takes it, without this thread where the MPM can do that.
    fn end_with_file(&mut self, flush: bool) -> Result<(), Gone> {
        let Some(spool) = self.spool.take() else { return Ok(()) };
        let (file, start, length) = spool.into_part();
        let written = self.output.write_file(self.request, file, start, length, None);
        written.map_err(|_| Gone)?;
        self.owe(flush)
    }

    /// All has been given to httpd. With `flush` the client is to have it before httpd goes on with the connection,
    /// but is not waited for: it may be about to send what is left of its request, and read after that.
    fn owe(&mut self, flush: bool) -> Result<(), Gone> {
        if !flush {
            return Ok(());
        }
        if self.request.is_multiplexed() {
            return self.write(&[], Tail::Flush);
        }
        self.owed = true;
        self.pay()
    }
}

fn words(fault: body::Fault) -> ReadFault {
    ReadFault(match fault {
        body::Fault::Refused => "httpd refused the request body".to_owned(),
        body::Fault::Broken(reason) => reason,
    })
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
