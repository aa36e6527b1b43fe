//! The request body on its way to a process: gathered before a thread is taken, or streamed as it is asked
//! for.

use std::path::Path;

use engine::wire::message::RequestBody;
use engine::wsgi::ReadFault;

use super::GroupLink;
use super::relay::Client;
use super::spool::Spool;

/// Bodies up to this size go with the request. With a usual head that makes one piece
/// ([`super::course::ONE_PIECE`]).
const INLINE: usize = 24 * 1024;

/// How much is read at a time.
const STEP: usize = 64 * 1024;

/// A request body. What was gathered comes first: the file, then the memory, then the rest.
pub(super) struct Upload {
    file: Option<Spool>,
    memory: Vec<u8>,
    taken: usize,
    rest: Rest,
}

/// What comes behind what was gathered.
enum Rest {
    /// Nothing.
    End,
    /// What the client sends.
    Client,
    /// The end that is none.
    Fault(ReadFault),
}

/// What [`Upload::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many bytes, and whether they are the last.
    Bytes(usize, bool),
    /// Nothing yet.
    Later,
    /// The body cannot be read further.
    Fault(ReadFault),
}

impl Upload {
    /// Gathers the body, if it is to be gathered.
    pub(super) fn gather(client: &mut impl Client, link: &GroupLink) -> Self {
        let mut upload = Self { file: None, memory: Vec::new(), taken: 0, rest: Rest::End };
        if !client.may_have_body() {
            return upload;
        }
        upload.rest = Rest::Client;
        let announced = client.announced_length();
        let bound = link.request_buffering;
        // A client that waits for leave to send gets it from the application.
        if bound == 0 || client.expects_continue() || announced.is_some_and(|length| length > bound)
        {
            return upload;
        }
        upload.read(client, bound, announced, &link.spool_directory);
        upload
    }

    fn read(
        &mut self,
        client: &mut impl Client,
        bound: u64,
        announced: Option<u64>,
        directory: &Path,
    ) {
        // One byte more than announced, so that the end is seen by the same read.
        let expected = announced.and_then(|length| usize::try_from(length).ok());
        let room = expected.map_or(INLINE, |length| length.min(INLINE)) + 1;
        let mut gathered = 0_u64;
        while gathered <= bound {
            let start = if self.file.is_some() { 0 } else { self.memory.len() };
            let size = if self.file.is_some() { STEP } else { room.max(start + 1) };
            self.memory.resize(size, 0);
            let read = client.read(&mut self.memory[start..]);
            self.memory.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    self.rest = Rest::End;
                    return;
                }
                Ok(count) => gathered += u64::try_from(count).unwrap_or(u64::MAX),
                Err(fault) => {
                    self.rest = Rest::Fault(fault);
                    return;
                }
            }
            if self.file.is_none() && self.memory.len() <= INLINE {
                continue;
            }
            // Without room for a file the rest is streamed.
            if let Err(error) = self.spill(directory) {
                client.note(&format!("a request body cannot be gathered in a file: {error}"));
                return;
            }
        }
    }

    /// Moves what is in memory to the file.
    fn spill(&mut self, directory: &Path) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(Spool::new(directory)?),
        };
        file.put(&self.memory)?;
        self.memory.clear();
        Ok(())
    }

    /// How the request says where its body is.
    pub(super) fn form(&self) -> RequestBody {
        match (&self.rest, &self.file) {
            (Rest::End, Some(_)) if self.memory.is_empty() => RequestBody::File,
            (Rest::End, None) => RequestBody::Whole,
            _ => RequestBody::Asked,
        }
    }

    /// Length of a body that is all there.
    pub(super) fn length(&self) -> Option<u64> {
        match self.form() {
            RequestBody::Whole => u64::try_from(self.memory.len()).ok(),
            RequestBody::File => self.file.as_ref().map(Spool::len),
            // What filters of httpd make of it is not known before.
            RequestBody::Asked => None,
        }
    }

    /// The body that goes with the request.
    pub(super) fn inline(&self) -> &[u8] {
        match self.form() {
            RequestBody::Whole => &self.memory,
            RequestBody::File | RequestBody::Asked => &[],
        }
    }

    /// The file that goes with the request.
    pub(super) fn file(&self) -> Option<&std::fs::File> {
        let whole = self.form() == RequestBody::File;
        self.file.as_ref().filter(|_| whole).map(Spool::file)
    }

    /// The client has sent nothing for as long as it may.
    pub(super) fn time_out(&mut self, client: &mut impl Client) {
        self.rest = Rest::Fault(client.time_out());
    }

    /// Takes body that was asked for, without waiting for the client.
    pub(super) fn take(&mut self, client: &mut impl Client, buffer: &mut [u8]) -> Taken {
        let ends = matches!(self.rest, Rest::End);
        if let Some(file) = self.file.as_mut().filter(|file| !file.is_empty()) {
            return match file.take(buffer) {
                Ok(count) => Taken::Bytes(count, ends && file.is_empty() && self.memory.is_empty()),
                Err(error) => Taken::Fault(ReadFault(format!("its file cannot be read: {error}"))),
            };
        }
        let left = &self.memory[self.taken..];
        if !left.is_empty() {
            let count = left.len().min(buffer.len());
            buffer[..count].copy_from_slice(&left[..count]);
            self.taken += count;
            return Taken::Bytes(count, ends && self.taken == self.memory.len());
        }
        match &self.rest {
            Rest::End => Taken::Bytes(0, true),
            Rest::Fault(fault) => Taken::Fault(fault.clone()),
            Rest::Client => match client.read_now(buffer) {
                Ok(Some(0)) => {
                    self.rest = Rest::End;
                    Taken::Bytes(0, true)
                }
                Ok(Some(count)) => Taken::Bytes(count, false),
                Ok(None) => Taken::Later,
                Err(fault) => {
                    self.rest = Rest::Fault(fault.clone());
                    Taken::Fault(fault)
                }
            },
        }
    }
}
