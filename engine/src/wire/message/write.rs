//! Encoding of the frames between an httpd child and a daemon process.

use std::ffi::CStr;
use std::ops::ControlFlow;

use super::{
    Ending, HEADER, HTTPS, Kind, MAX_CREDIT, MAX_ENTRIES, MAX_HEADERS, MAX_LEVEL, MAX_PATH,
    MAX_REASON, RequestBody, SET, SET_FLOAT, SET_PATH, Target, VAR, flag,
};
use crate::wire::bytes::{self, put_long, put_short};
use crate::wire::frame::{self, Batch, Fault, MAX_HEAD, MAX_STREAM, Open};
use crate::wire::{BuildId, Secret};

/// Closes a frame that keeps its limit by how it was written.
fn close(open: Open, out: &mut Vec<u8>) {
    let closed = open.close(out, 0, MAX_HEAD);
    debug_assert!(closed.is_ok(), "{closed:?}");
}

/// Adds HELLO.
pub fn hello(out: &mut Vec<u8>, build: &BuildId, proof: &Secret) {
    let open = frame::open(out, Kind::Hello as u8, 0, 0);
    out.extend_from_slice(build);
    out.extend_from_slice(proof.bytes());
    close(open, out);
}

/// What a request begins with; see [`Request`] for the fields.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the field of the same name in Request")]
pub struct RequestStart<'a> {
    pub target: Target<'a>,
    pub handler: &'a [u8],
    pub mtime_us: i64,
    pub reloading: bool,
    pub request_start_us: u64,
    pub queue_start_us: u64,
    pub head_only: bool,
    pub ignore_activity: bool,
    pub log_level: u8,
    pub body: RequestBody,
    pub body_length: Option<u64>,
}

/// A REQUEST being written: takes the entries of environ, then [`RequestWriter::finish`].
pub struct RequestWriter<'o> {
    out: &'o mut Vec<u8>,
    open: Open,
    /// Where the number of entries and their length stand.
    counts: usize,
    count: u32,
    body: RequestBody,
    fits: bool,
}

/// Begins REQUEST.
#[must_use]
pub fn request<'o>(
    out: &'o mut Vec<u8>,
    number: u32,
    start: &RequestStart<'_>,
) -> RequestWriter<'o> {
    let mut open = frame::open(out, Kind::Request as u8, 0, number);
    open.flag(u8::from(start.reloading) * flag::RELOADING);
    open.flag(u8::from(start.head_only) * flag::HEAD_ONLY);
    open.flag(u8::from(start.ignore_activity) * flag::IGNORE_ACTIVITY);
    out.extend_from_slice(&start.request_start_us.to_le_bytes());
    out.extend_from_slice(&start.queue_start_us.to_le_bytes());
    out.extend_from_slice(&start.mtime_us.to_le_bytes());
    out.push(start.log_level.min(MAX_LEVEL));
    out.push(u8::from(start.body_length.is_some()));
    if let Some(length) = start.body_length {
        out.extend_from_slice(&length.to_le_bytes());
    }
    let mut fits = true;
    match start.target {
        Target::Mount(id) => {
            out.push(0);
            out.extend_from_slice(&id.to_le_bytes());
        }
        Target::Script { path, application_group, callable } => {
            out.push(1);
            fits &= path.len() <= MAX_PATH && put_short(out, path);
            fits &= put_short(out, application_group.as_bytes());
            fits &= put_short(out, callable.as_bytes());
        }
    }
    fits &= put_short(out, start.handler);
    let counts = out.len();
    out.extend_from_slice(&[0; 8]);
    RequestWriter { out, open, counts, count: 0, body: start.body, fits }
}

impl RequestWriter<'_> {
    /// A known key, as latin-1.
    pub fn set(&mut self, key: u8, value: &[u8]) {
        self.entry(&[SET, key]);
        self.value(value);
    }

    /// A known key that is a path.
    pub fn set_path(&mut self, key: u8, value: &[u8]) {
        self.entry(&[SET_PATH, key]);
        self.value(value);
    }

    /// A known key that is a finite number of seconds.
    pub fn set_float(&mut self, key: u8, value: f64) {
        self.entry(&[SET_FLOAT, key]);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A request header.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        self.named(HEADER, name, value);
    }

    /// A variable of another module.
    pub fn var(&mut self, name: &[u8], value: &[u8]) {
        self.named(VAR, name, value);
    }

    /// Whether the client speaks TLS to httpd.
    pub fn https(&mut self, on: bool) {
        self.entry(&[HTTPS, u8::from(on)]);
    }

    /// Ends the frame. `inline` bytes of body have to be sent right behind it, from where they are.
    /// With [`RequestBody::File`] a descriptor has to be sent along with the frame.
    ///
    /// A request that is too large for the wire is taken out of the vector again; the client is
    /// answered by 431.
    pub fn finish(self, inline: usize) -> Result<(), Fault> {
        let Self { out, mut open, counts, count, body, fits } = self;
        let entries = u32::try_from(out.len() - counts - 8).unwrap_or(u32::MAX);
        out[counts..counts + 4].copy_from_slice(&count.to_le_bytes());
        out[counts + 4..counts + 8].copy_from_slice(&entries.to_le_bytes());
        let Ok(length) = u32::try_from(inline) else {
            out.truncate(open.start());
            return Err(Fault::TooLong(inline));
        };
        out.extend_from_slice(&length.to_le_bytes());
        open.flag(match body {
            RequestBody::Whole if inline == 0 => 0,
            RequestBody::Whole => flag::LAST_BODY,
            RequestBody::Asked => flag::EXPECTS_BODY,
            RequestBody::File => flag::HAS_FILE,
        });
        if !fits || count > MAX_ENTRIES {
            out.truncate(open.start());
            return Err(Fault::TooMany);
        }
        open.close(out, inline, MAX_HEAD)
    }

    fn entry(&mut self, start: &[u8; 2]) {
        self.count = self.count.saturating_add(1);
        self.out.extend_from_slice(start);
    }

    fn named(&mut self, tag: u8, name: &[u8], value: &[u8]) {
        self.count = self.count.saturating_add(1);
        self.out.push(tag);
        self.fits &= put_short(self.out, name);
        self.value(value);
    }

    fn value(&mut self, value: &[u8]) {
        self.fits &= value.len() <= MAX_HEAD && put_long(self.out, value);
    }
}

/// Adds bytes of a request's body, in as many BODY frames as they need.
pub fn body<'b>(batch: &mut Batch<'_, 'b>, number: u32, blocks: &[&'b [u8]], last: bool) {
    batch.stream(Kind::Body as u8, number, blocks, u8::from(last) * flag::LAST);
}

/// Adds BODY_FAULT; a reason that is too long is cut.
pub fn body_fault(out: &mut Vec<u8>, number: u32, reason: &str, refused: bool) {
    let flags = u8::from(refused) * flag::REFUSED;
    let open = frame::open(out, Kind::BodyFault as u8, flags, number);
    out.extend_from_slice(bytes::clip(reason, MAX_REASON).as_bytes());
    close(open, out);
}

/// Adds CANCEL.
pub fn cancel(out: &mut Vec<u8>, number: u32) {
    close(frame::open(out, Kind::Cancel as u8, 0, number), out);
}

/// Adds READ: `credit` from 1 to [`MAX_CREDIT`], or 0 with `first`.
pub fn read(out: &mut Vec<u8>, number: u32, credit: u32, first: bool) {
    let open = frame::open(out, Kind::Read as u8, u8::from(first) * flag::CONTINUE, number);
    out.extend_from_slice(&credit.min(MAX_CREDIT).to_le_bytes());
    close(open, out);
}

/// Adds HEAD: a checked status line and checked headers. Headers that are too many or too large for
/// the wire are refused, and nothing is added.
pub fn head<'h>(
    out: &mut Vec<u8>,
    number: u32,
    line: &CStr,
    headers: impl IntoIterator<Item = (&'h CStr, &'h CStr)>,
) -> Result<(), Fault> {
    let open = frame::open(out, Kind::Head as u8, 0, number);
    let mut fits = put_short(out, line.to_bytes_with_nul());
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    let counted = headers.into_iter().try_fold(0_u16, |count, (name, value)| {
        fits &= put_short(out, name.to_bytes_with_nul());
        fits &= put_long(out, value.to_bytes_with_nul());
        // Looked at here so that an endless list does not have to be written first.
        if !fits || count == MAX_HEADERS || out.len() - open.start() > frame::HEADER + MAX_HEAD {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(count + 1)
        }
    });
    let ControlFlow::Continue(count) = counted else {
        out.truncate(open.start());
        return Err(Fault::TooMany);
    };
    out[at..at + 2].copy_from_slice(&count.to_le_bytes());
    open.close(out, 0, MAX_HEAD)
}

/// Adds bytes of a response's body, in as many DATA frames as they need.
pub fn data<'b>(batch: &mut Batch<'_, 'b>, number: u32, blocks: &[&'b [u8]], flush: bool) {
    batch.stream(Kind::Data as u8, number, blocks, u8::from(flush) * flag::FLUSH);
}

/// Adds END.
pub fn end(out: &mut Vec<u8>, number: u32, ending: Ending) {
    close(frame::open(out, Kind::End as u8, ending.flags(), number), out);
}

/// Adds FILE; a descriptor has to be sent along with it.
pub fn file(out: &mut Vec<u8>, number: u32, offset: u64, length: u64, ending: Ending) {
    let open = frame::open(out, Kind::File as u8, ending.flags(), number);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    close(open, out);
}

/// Adds ABORT; a reason that is too long is cut. `flush` has no meaning here.
pub fn abort(out: &mut Vec<u8>, number: u32, reason: &str, ending: Ending) {
    let flags = ending.flags() & !flag::FLUSH;
    let open = frame::open(out, Kind::Abort as u8, flags, number);
    out.extend_from_slice(bytes::clip(reason, MAX_REASON).as_bytes());
    close(open, out);
}

/// Adds FAILED. `flush` has no meaning here.
pub fn failed(out: &mut Vec<u8>, number: u32, status: u16, ending: Ending) {
    let flags = ending.flags() & !flag::FLUSH;
    let open = frame::open(out, Kind::Failed as u8, flags, number);
    out.extend_from_slice(&status.to_le_bytes());
    close(open, out);
}

/// Adds LOG: as many records as the text needs, divided between lines where there are any.
pub fn log(out: &mut Vec<u8>, number: u32, level: u8, text: &str) {
    for piece in pieces(text) {
        let open = frame::open(out, Kind::Log as u8, 0, number);
        out.push(level.min(MAX_LEVEL));
        out.extend_from_slice(piece.as_bytes());
        close(open, out);
    }
}

/// Divides a text into pieces that fit a LOG frame.
pub(crate) fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let clipped = bytes::clip(text, MAX_STREAM - 1);
        let piece = match clipped.rfind('\n') {
            Some(line) if clipped.len() < text.len() && line > 0 => &clipped[..line],
            _ => clipped,
        };
        text = &text[piece.len()..];
        if piece.len() < clipped.len() {
            // The line break that the end of the record stands for.
            text = &text[1..];
        }
        Some(piece)
    })
}

/// Adds GOAWAY.
pub fn go_away(out: &mut Vec<u8>, last: u32) {
    let open = frame::open(out, Kind::GoAway as u8, 0, 0);
    out.extend_from_slice(&last.to_le_bytes());
    close(open, out);
}

/// Adds DONE.
pub fn done(out: &mut Vec<u8>, number: u32, close_after: bool) {
    let flags = u8::from(close_after) * flag::CLOSE;
    close(frame::open(out, Kind::Done as u8, flags, number), out);
}
