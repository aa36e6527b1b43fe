//! Frames as they arrive on a socket, with the descriptors that belong to them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::socket::{self, Rights, Wait};
use crate::wire::frame::{Decoder, Fault, Frame, Header, Rules, Whole};

/// What [`Inbound::receive`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Some bytes; perhaps a frame is whole now.
    Bytes,
    /// The other side has closed. `true`: in the middle of a frame.
    End {
        /// Whether a frame had begun.
        torn: bool,
    },
}

/// The receiving side of one connection.
///
/// A descriptor arrives with the first bytes of the `sendmsg` it was given to, so possibly some
/// frames before its own (HEAD before FILE); it waits here until the frame that carries one is
/// whole.
pub struct Inbound {
    decoder: Decoder,
    rights: Rights,
}

impl Inbound {
    /// The receiving side for one direction of a protocol. `most` descriptors may wait at a time.
    #[must_use]
    pub fn new(rules: Rules, most: usize) -> Self {
        Self { decoder: Decoder::new(rules), rights: Rights::new(most) }
    }

    /// Receives once. To be called when there is no whole frame.
    ///
    /// A receive timeout of the socket, and [`Wait::No`] with nothing there, are
    /// [`io::ErrorKind::WouldBlock`]; descriptors too many are [`io::ErrorKind::InvalidData`].
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<Arrival> {
        let space = self.decoder.space();
        match socket::receive(socket, space, &mut self.rights, wait)? {
            0 => Ok(Arrival::End { torn: !self.decoder.is_empty() }),
            count => {
                self.decoder.filled(count);
                Ok(Arrival::Bytes)
            }
        }
    }

    /// The next frame's header, possibly before its payload; see [`Decoder::header`].
    pub fn header(&mut self) -> Result<Option<Header>, Fault> {
        self.decoder.header()
    }

    /// The next frame, once it is whole, and its descriptor.
    pub fn frame(&mut self) -> Result<Option<(Frame<'_>, Option<OwnedFd>)>, Fault> {
        let rules = self.decoder.rules();
        let Some(frame) = self.decoder.frame()? else { return Ok(None) };
        let descriptor = claim(&mut self.rights, &frame.header, rules)?;
        Ok(Some((frame, descriptor)))
    }

    /// As [`Inbound::frame`], with the bytes; see [`Decoder::take`].
    pub fn take(&mut self) -> Result<Option<(Whole, Option<OwnedFd>)>, Fault> {
        let rules = self.decoder.rules();
        let Some(whole) = self.decoder.take()? else { return Ok(None) };
        let descriptor = claim(&mut self.rights, &whole.frame().header, rules)?;
        Ok(Some((whole, descriptor)))
    }

    /// See [`Decoder::give_back`].
    pub fn give_back(&mut self, whole: Whole) {
        self.decoder.give_back(whole);
    }

    /// Whether the other side is between two frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    /// Whether a descriptor waits for its frame. Where the conversation has come to a rest (a
    /// request was read, a response has ended) this is a fault of the other side, and the
    /// connection ends.
    #[must_use]
    pub fn stray(&self) -> bool {
        !self.rights.is_empty()
    }
}

fn claim(rights: &mut Rights, header: &Header, rules: Rules) -> Result<Option<OwnedFd>, Fault> {
    if !header.carries_descriptor(rules) {
        return Ok(None);
    }
    rights.take().map(Some).ok_or(Fault::Descriptor)
}
