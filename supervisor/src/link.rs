//! A connection to httpd's parent or to a daemon process: frames in and out, without ever waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::os::socket::{self, Rights, Wait};
use engine::wire::frame::Rules;
use engine::wire::{Decoder, Fault, Frame};

/// One end of a stream socket.
pub(crate) struct Link {
    socket: OwnedFd,
    decoder: Decoder,
    rights: Rights,
    /// What the other side has not taken yet.
    out: Vec<u8>,
}

/// What a look at a connection brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Bytes.
    Something,
    /// Nothing so far.
    Nothing,
    /// The other side has gone.
    End,
}

impl Link {
    /// A connection whose other side may send frames of these kinds, with so many descriptors
    /// waiting at once.
    pub(crate) fn new(socket: OwnedFd, rules: Rules, descriptors: usize) -> Self {
        let (decoder, rights) = (Decoder::new(rules), Rights::new(descriptors));
        Self { socket, decoder, rights, out: Vec::new() }
    }

    /// Sends frames, now or when there is room.
    pub(crate) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(frames);
        self.flush()
    }

    /// Sends what is left.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let sent = match socket::send(self.socket.as_fd(), &[&self.out], &[], Wait::No) {
            Ok(()) => self.out.len(),
            Err(fault) if fault.error.kind() == io::ErrorKind::WouldBlock => fault.sent,
            Err(fault) => return Err(fault.error),
        };
        self.out.drain(..sent);
        Ok(())
    }

    /// Whether something is left to be sent.
    pub(crate) fn pending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Receives what is there, up to a bound.
    pub(crate) fn receive(&mut self) -> io::Result<Heard> {
        let space = self.decoder.space();
        match socket::receive(self.socket.as_fd(), space, &mut self.rights, Wait::No) {
            Ok(0) => Ok(Heard::End),
            Ok(count) => {
                self.decoder.filled(count);
                Ok(Heard::Something)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The next frame that is whole, made into something, with the descriptor that came with it if
    /// one does.
    pub(crate) fn next<T>(
        &mut self,
        decode: impl FnOnce(&Frame<'_>) -> Result<T, Fault>,
    ) -> Result<Option<(T, Option<OwnedFd>)>, Fault> {
        let rules = self.decoder.rules();
        let Some(frame) = self.decoder.frame()? else { return Ok(None) };
        let descriptor = if frame.header.carries_descriptor(rules) {
            Some(self.rights.take().ok_or(Fault::Descriptor)?)
        } else {
            None
        };
        Ok(Some((decode(&frame)?, descriptor)))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
