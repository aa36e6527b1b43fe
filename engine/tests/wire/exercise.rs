//! What every input is put through: decoding in pieces, and the promise that what decodes is
//! exactly what encodes.
//!
//! Shared with the fuzz target, so it holds for any bytes.

use engine::wire::control;
use engine::wire::frame::{Decoder, Fault, Frame, HEADER, MAX_HEAD, MAX_STREAM, Rules};
use engine::wire::message::{
    self, Entry, FromChild, FromDaemon, RequestBody, RequestStart, RequestWriter,
};
use engine::wire::order::{ChildOrder, DaemonOrder};
use engine::wire::{Batch, Header};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Child,
    Daemon,
    Parent,
    ToParent,
    ToDaemon,
    FromDaemon,
}

impl Side {
    pub(crate) const ALL: [Self; 6] =
        [Self::Child, Self::Daemon, Self::Parent, Self::ToParent, Self::ToDaemon, Self::FromDaemon];

    pub(crate) fn rules(self) -> Rules {
        match self {
            Self::Child => message::from_child,
            Self::Daemon => message::from_daemon,
            Self::Parent => control::from_parent,
            Self::ToParent => control::to_parent,
            Self::ToDaemon => control::to_daemon,
            Self::FromDaemon => control::from_daemon,
        }
    }
}

/// Decodes a stream that arrives in pieces of `piece` bytes: the number of good frames before the
/// first fault.
pub(crate) fn decode(side: Side, bytes: &[u8], piece: usize) -> (usize, Result<(), Fault>) {
    let mut decoder = Decoder::new(side.rules());
    let mut child = ChildOrder::new();
    let mut daemon = DaemonOrder::new();
    daemon.request(true);
    let mut frames = 0;
    let mut fed = 0;
    for piece in bytes.chunks(piece.max(1)) {
        let mut piece = piece;
        while !piece.is_empty() {
            let count = decoder.feed(piece);
            assert!(count > 0, "there is always room");
            fed += count;
            piece = &piece[count..];
            assert!(
                decoder.held() <= (2 * (fed + HEADER)).clamp(16 * 1024, HEADER + MAX_HEAD),
                "{} bytes held after {fed}",
                decoder.held()
            );
            loop {
                match decoder.frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        // Whatever the conversation makes of it, it must survive it.
                        let _ = child.accept(&frame.header);
                        if !child.active() || frames % 3 == 2 {
                            child.finish();
                        }
                        match check(side, &frame) {
                            Ok(last) => {
                                let _ = daemon.accept(&frame.header, last);
                                daemon.request(true);
                            }
                            Err(fault) => return (frames, Err(fault)),
                        }
                        frames += 1;
                    }
                    Err(fault) => {
                        assert_eq!(decoder.frame(), Err(fault), "a fault stays");
                        return (frames, Err(fault));
                    }
                }
            }
        }
    }
    (frames, Ok(()))
}

/// Decodes one frame and encodes it again: the same bytes. `Some` is what GOAWAY names.
fn check(side: Side, frame: &Frame<'_>) -> Result<Option<u32>, Fault> {
    let mut out = Vec::new();
    let mut last = None;
    match side {
        Side::Child => encode_child(&mut out, &frame.header, &FromChild::decode(frame)?),
        Side::Daemon => {
            let message = FromDaemon::decode(frame)?;
            if let FromDaemon::GoAway { last: named } = message {
                last = Some(named);
            }
            encode_daemon(&mut out, &frame.header, &message);
        }
        Side::Parent => control::FromParent::decode(frame)?.encode(&mut out)?,
        Side::ToParent => control::ToParent::decode(frame)?.encode(&mut out)?,
        Side::ToDaemon => control::ToDaemon::decode(frame)?.encode(&mut out)?,
        Side::FromDaemon => control::FromDaemon::decode(frame)?.encode(&mut out)?,
    }
    let same = out.split_first_chunk::<HEADER>().is_some_and(|(header, payload)| {
        *header == frame.header.encode() && payload == frame.payload
    });
    assert!(same, "{frame:?} became {out:?}");
    Ok(last)
}

fn encode_child(out: &mut Vec<u8>, header: &Header, message: &FromChild<'_>) {
    match message {
        FromChild::Hello(hello) => message::hello(out, &hello.build, &hello.proof),
        FromChild::Request(request) => {
            let start = RequestStart {
                target: request.target,
                handler: request.handler,
                mtime_us: request.mtime_us,
                reloading: request.reloading,
                request_start_us: request.request_start_us,
                queue_start_us: request.queue_start_us,
                head_only: request.head_only,
                ignore_activity: request.ignore_activity,
                log_level: request.log_level,
                body: request.body,
                body_length: request.body_length,
            };
            let mut writer = message::request(out, header.number, &start);
            request.entries.for_each(|entry| add(&mut writer, entry));
            let closed = writer.finish(request.inline.len());
            assert_eq!(closed, Ok(()));
            out.extend_from_slice(request.inline);
            assert!(request.inline.is_empty() || request.body != RequestBody::File);
        }
        FromChild::Body { bytes, last } => {
            stream(out, |batch| message::body(batch, header.number, &[bytes], *last));
        }
        FromChild::BodyFault { reason, refused } => {
            message::body_fault(out, header.number, reason, *refused);
        }
        FromChild::Cancel => message::cancel(out, header.number),
    }
}

fn add(writer: &mut RequestWriter<'_>, entry: Entry<'_>) {
    match entry {
        Entry::Set { key, value } => writer.set(key, value),
        Entry::SetPath { key, value } => writer.set_path(key, value),
        Entry::SetFloat { key, value } => writer.set_float(key, value),
        Entry::Header { name, value } => writer.header(name, value),
        Entry::Var { name, value } => writer.var(name, value),
        Entry::Https(on) => writer.https(on),
    }
}

fn encode_daemon(out: &mut Vec<u8>, header: &Header, message: &FromDaemon<'_>) {
    let number = header.number;
    match *message {
        FromDaemon::Read { credit, first } => message::read(out, number, credit, first),
        FromDaemon::Head(head) => {
            assert!((200..=999).contains(&head.status()));
            let closed = message::head(out, number, head.line(), head.headers());
            assert_eq!(closed, Ok(()));
        }
        FromDaemon::Data { bytes, flush } => {
            stream(out, |batch| message::data(batch, number, &[bytes], flush));
        }
        FromDaemon::End(ending) => message::end(out, number, ending),
        FromDaemon::File { offset, length, ending } => {
            message::file(out, number, offset, length, ending);
        }
        FromDaemon::Abort { reason, ending } => message::abort(out, number, reason, ending),
        FromDaemon::Failed { status, ending } => message::failed(out, number, status, ending),
        FromDaemon::Log { level, text } => message::log(out, number, level, text),
        FromDaemon::GoAway { last } => message::go_away(out, last),
        FromDaemon::Done { close } => message::done(out, number, close),
    }
}

/// What a batch sends, as one piece.
pub(crate) fn stream<'b>(out: &mut Vec<u8>, fill: impl FnOnce(&mut Batch<'_, 'b>)) {
    let mut own = Vec::new();
    let mut batch = Batch::new(&mut own);
    fill(&mut batch);
    let sent = batch.slices().concat();
    assert_eq!(sent.len(), batch.len());
    assert!(sent.len() <= batch.len() && MAX_STREAM < MAX_HEAD);
    out.extend_from_slice(&sent);
}

/// An input of the fuzzer: who sends, in pieces of what size, and the bytes.
pub(crate) fn fuzz(input: &[u8]) {
    let Some((&[side, piece], bytes)) = input.split_first_chunk() else { return };
    let side = Side::ALL[usize::from(side) % Side::ALL.len()];
    let piece = if piece == 0 { usize::MAX } else { piece.into() };
    let (whole, end) = decode(side, bytes, piece);
    assert_eq!(decode(side, bytes, usize::MAX), (whole, end), "pieces do not matter");
}
