//! Bytes to frames and back.
//!
//! A frame is a header of twelve bytes (length of the payload, kind, flags, zero, number of the
//! request) and a payload. Which kinds there are, how long each may be, which flags it knows and
//! whether it belongs to a request is said by a [`Rules`] function, one for each direction of each
//! protocol; a header that breaks its rule is refused before a byte of the payload is waited for.

use std::fmt;
use std::ops::Range;

/// Bytes of a header.
pub const HEADER: usize = 12;

/// Most bytes in a frame of a stream (body, data, log): large enough that the cost of a frame is
/// lost in the cost of copying its bytes, small enough that a connection's buffer stays small.
pub const MAX_STREAM: usize = 64 * 1024;

/// Most bytes in a head (of a request, of a response): httpd's own limits for a request's fields
/// (100 of 8 KiB by default) stay below it, and a peer cannot make the other side hold more.
pub const MAX_HEAD: usize = 1024 * 1024;

/// What a decoder's buffer begins with, and what it returns to: holds usual requests and small
/// responses whole.
const INITIAL: usize = 16 * 1024;

/// A buffer that grew beyond this is given back once it is empty: it served a stream's frame well,
/// but a head of a megabyte is rare.
const KEPT: usize = HEADER + MAX_STREAM;

/// What is wrong with what the other side sent. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No frame of this kind comes from that side.
    Kind(u8),
    /// A flag that this kind does not have, or flags that exclude each other.
    Flags(u8),
    /// The reserved field is not zero.
    Reserved,
    /// A request's frame without a number, or a connection's frame with one, or the number of
    /// another request.
    Number(u32),
    /// The payload is longer than its kind may be.
    TooLong(usize),
    /// The payload ends inside a field.
    Short,
    /// The payload goes on after its last field.
    Trailing,
    /// More entries than a list may have.
    TooMany,
    /// A field has a value that it cannot have.
    Value(&'static str),
    /// A frame of this kind has no place here in the conversation.
    Order(u8),
    /// A descriptor came with no frame that carries one, or did not come with one that does.
    Descriptor,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a frame of unknown kind {kind}"),
            Self::Flags(flags) => write!(f, "a frame with flags {flags:#x} that it cannot have"),
            Self::Reserved => f.write_str("a frame whose reserved field is not zero"),
            Self::Number(number) => write!(f, "a frame for request {number}, which is not its own"),
            Self::TooLong(length) => write!(f, "a frame of {length} bytes, longer than allowed"),
            Self::Short => f.write_str("a frame that ends inside a field"),
            Self::Trailing => f.write_str("a frame with bytes after its last field"),
            Self::TooMany => f.write_str("a frame whose list has too many entries"),
            Self::Value(what) => write!(f, "a frame in which {what}"),
            Self::Order(kind) => write!(f, "a frame of kind {kind} where none may come"),
            Self::Descriptor => f.write_str("a descriptor too many, or one too few"),
        }
    }
}

impl std::error::Error for Fault {}

/// What holds for frames of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Most bytes of payload.
    pub most: usize,
    /// Flags it may have.
    pub flags: u8,
    /// Whether it belongs to a request (has a number from 1) or to the connection (has 0).
    pub numbered: bool,
    /// Whether a descriptor comes with it.
    pub carries: Carries,
}

/// Whether a descriptor comes with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Never.
    Nothing,
    /// Exactly one.
    Descriptor,
    /// Exactly one if this flag is set, otherwise none.
    DescriptorIf(u8),
}

/// The kinds that come from one side, with their rules; `None` for all others.
pub type Rules = fn(kind: u8) -> Option<Rule>;

/// What stands before every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub length: u32,
    /// What the payload is.
    pub kind: u8,
    /// Marks that belong to the kind.
    pub flags: u8,
    /// Which request of the connection, from 1; 0 for frames of the connection.
    pub number: u32,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a header and holds it against the rules.
    pub fn decode(bytes: &[u8; HEADER], rules: Rules) -> Result<Self, Fault> {
        let [l0, l1, l2, l3, kind, flags, r0, r1, n0, n1, n2, n3] = *bytes;
        let header = Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            number: u32::from_le_bytes([n0, n1, n2, n3]),
        };
        let rule = rules(kind).ok_or(Fault::Kind(kind))?;
        if (r0, r1) != (0, 0) {
            return Err(Fault::Reserved);
        }
        if flags & !rule.flags != 0 {
            return Err(Fault::Flags(flags));
        }
        if rule.numbered != (header.number != 0) {
            return Err(Fault::Number(header.number));
        }
        if header.payload() > rule.most {
            return Err(Fault::TooLong(header.payload()));
        }
        Ok(header)
    }

    /// Bytes of payload.
    #[must_use]
    pub fn payload(&self) -> usize {
        // Saturates where usize has 16 bits; every limit is below that.
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Whether a descriptor has to come with this frame.
    #[must_use]
    pub fn carries_descriptor(&self, rules: Rules) -> bool {
        match rules(self.kind).map(|rule| rule.carries) {
            Some(Carries::Descriptor) => true,
            Some(Carries::DescriptorIf(flag)) => self.flags & flag != 0,
            Some(Carries::Nothing) | None => false,
        }
    }
}

/// A whole frame, borrowed from where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header, which keeps the rules.
    pub header: Header,
    /// Its payload, not looked into yet.
    pub payload: &'a [u8],
}

/// A whole frame that owns its bytes, so that more can be received while it is used. See
/// [`Decoder::take`].
#[derive(Debug)]
pub struct Whole {
    header: Header,
    buffer: Vec<u8>,
    payload: Range<usize>,
}

impl Whole {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame { header: self.header, payload: &self.buffer[self.payload.clone()] }
    }
}

/// Takes bytes in whatever pieces they arrive, and gives whole frames.
///
/// Bytes are received straight into its buffer ([`Decoder::space`], [`Decoder::filled`]) and frames
/// are borrowed from it. The buffer grows with what has arrived, not with what a header announces,
/// and never beyond the largest frame the rules allow.
pub struct Decoder {
    rules: Rules,
    buffer: Vec<u8>,
    /// Bytes that are not yet given out: `buffer[start..end]`.
    start: usize,
    end: usize,
    spare: Vec<u8>,
    fault: Option<Fault>,
}

impl Decoder {
    /// An empty decoder for one direction of a protocol.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, buffer: Vec::new(), start: 0, end: 0, spare: Vec::new(), fault: None }
    }

    /// Where to receive into; never empty. Whole frames are to be taken out first: only what has
    /// begun to arrive is made room for.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.is_empty() {
            self.buffer = vec![0; INITIAL];
        }
        let whole = self.expected();
        if self.start != 0 && self.start + whole > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Only a frame longer than the buffer gets here: it is at the front and fills the
            // buffer.
            let doubled = self.buffer.len() * 2;
            self.buffer.resize(doubled.min(whole).max(self.end + 1), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Says that `count` bytes were received into [`Decoder::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Takes a copy of bytes that were received elsewhere, as many as fit, and says how many: the
    /// rest comes after the frames that are whole were taken.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// The next frame's header as soon as it is there, possibly before its payload.
    ///
    /// Lets a receiver refuse a frame that has no place before it waits for the rest.
    pub fn header(&mut self) -> Result<Option<Header>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(bytes) = self.buffer[self.start..self.end].first_chunk() else { return Ok(None) };
        Header::decode(bytes, self.rules).map(Some).inspect_err(|fault| self.fault = Some(*fault))
    }

    /// The next frame, once it is whole. After a fault there is nothing but that fault.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, Fault> {
        let Some((header, payload)) = self.whole()? else { return Ok(None) };
        self.start = payload.end;
        Ok(Some(Frame { header, payload: &self.buffer[payload] }))
    }

    /// As [`Decoder::frame`], but the frame takes the buffer with it. Give it back with
    /// [`Decoder::give_back`].
    pub fn take(&mut self) -> Result<Option<Whole>, Fault> {
        let Some((header, payload)) = self.whole()? else { return Ok(None) };
        let mut next = std::mem::take(&mut self.spare);
        // What has already arrived behind the frame; mostly nothing.
        let behind = &self.buffer[payload.end..self.end];
        if next.len() < behind.len() {
            next = vec![0; behind.len().max(INITIAL)];
        }
        next[..behind.len()].copy_from_slice(behind);
        self.start = 0;
        self.end = behind.len();
        let buffer = std::mem::replace(&mut self.buffer, next);
        Ok(Some(Whole { header, buffer, payload }))
    }

    /// Takes the buffer of a frame that is done with, to use it again.
    pub fn give_back(&mut self, whole: Whole) {
        if whole.buffer.len() <= KEPT {
            self.spare = whole.buffer;
        }
    }

    /// Whether nothing has arrived that was not given out: the other side is between two frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity() + self.spare.capacity()
    }

    /// The rules this decoder holds frames against.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    fn whole(&mut self) -> Result<Option<(Header, Range<usize>)>, Fault> {
        let Some(header) = self.header()? else { return Ok(None) };
        let payload = self.start + HEADER..self.start + HEADER + header.payload();
        Ok((payload.end <= self.end).then_some((header, payload)))
    }

    /// Bytes of the frame that has begun to arrive, as far as is known.
    fn expected(&mut self) -> usize {
        match self.header() {
            Ok(Some(header)) => HEADER + header.payload(),
            Ok(None) | Err(_) => HEADER,
        }
    }
}

/// A frame being written: its header is in `out`, its payload follows.
pub(super) struct Open {
    start: usize,
    header: Header,
}

/// Begins a frame at the end of `out`.
pub(super) fn open(out: &mut Vec<u8>, kind: u8, flags: u8, number: u32) -> Open {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    Open { start, header: Header { length: 0, kind, flags, number } }
}

impl Open {
    /// Adds flags.
    pub(super) fn flag(&mut self, flags: u8) {
        self.header.flags |= flags;
    }

    /// Where the frame begins.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Ends the frame, whose payload is what was added to `out` since and `behind` further bytes
    /// that are sent from elsewhere. A frame longer than `most` is taken out again.
    pub(super) fn close(
        mut self,
        out: &mut Vec<u8>,
        behind: usize,
        most: usize,
    ) -> Result<(), Fault> {
        let payload = (out.len() - self.start - HEADER).saturating_add(behind);
        match u32::try_from(payload) {
            Ok(length) if payload <= most => {
                self.header.length = length;
                out[self.start..self.start + HEADER].copy_from_slice(&self.header.encode());
                Ok(())
            }
            _ => {
                out.truncate(self.start);
                Err(Fault::TooLong(payload))
            }
        }
    }
}

/// Blocks up to this size are copied behind their header instead of being sent from where they are:
/// an entry of a `writev` costs about as much.
const COPIED: usize = 1024;

/// Frames to be sent by one `writev`: encoded bytes, with borrowed blocks between them.
///
/// The encoded bytes live in a vector of the caller, which is used again.
pub struct Batch<'o, 'b> {
    own: &'o mut Vec<u8>,
    /// Each block with the number of own bytes before it.
    blocks: Vec<(usize, &'b [u8])>,
}

impl<'o, 'b> Batch<'o, 'b> {
    /// A batch that begins with what is in `own` already.
    pub fn new(own: &'o mut Vec<u8>) -> Self {
        Self { own, blocks: Vec::new() }
    }

    /// Where the encode functions add frames.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.own
    }

    /// Adds a block of payload bytes.
    pub(super) fn block(&mut self, block: &'b [u8]) {
        if block.len() <= COPIED {
            self.own.extend_from_slice(block);
        } else {
            self.blocks.push((self.own.len(), block));
        }
    }

    /// The slices to send, in order; none is empty.
    #[must_use]
    pub fn slices(&self) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(self.blocks.len() * 2 + 1);
        let mut from = 0;
        for (to, block) in &self.blocks {
            if from < *to {
                slices.push(&self.own[from..*to]);
            }
            slices.push(block);
            from = *to;
        }
        if from < self.own.len() {
            slices.push(&self.own[from..]);
        }
        slices
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.blocks.iter().map(|(_, block)| block.len()).sum::<usize>()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.blocks.is_empty()
    }

    /// Adds blocks as frames of one kind, each as full as it may be; `last` are the flags of the
    /// last one. No bytes and no flags: no frame.
    pub(super) fn stream(&mut self, kind: u8, number: u32, blocks: &[&'b [u8]], last: u8) {
        let mut left: usize = blocks.iter().map(|block| block.len()).sum();
        if left == 0 && last != 0 {
            self.header(kind, last, number, 0);
        }
        let mut room = 0;
        for block in blocks {
            let mut block = *block;
            while !block.is_empty() {
                if room == 0 {
                    room = left.min(MAX_STREAM);
                    let flags = if room == left { last } else { 0 };
                    self.header(kind, flags, number, room);
                }
                let (now, later) = block.split_at(block.len().min(room));
                self.block(now);
                room -= now.len();
                left -= now.len();
                block = later;
            }
        }
    }

    fn header(&mut self, kind: u8, flags: u8, number: u32, length: usize) {
        // At most MAX_STREAM.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.own.extend_from_slice(&Header { length, kind, flags, number }.encode());
    }
}
