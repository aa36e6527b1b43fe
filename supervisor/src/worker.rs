//! One daemon process, as a process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::os::socket;
use engine::wire::Fault;
use engine::wire::control::{FromDaemon, Setup, ToDaemon, from_daemon};

use crate::Time;
use crate::board::{Board, Entry, RecordId, Standing};
use crate::link::{Heard, Link};
use crate::os::{self, Failure, Process, Recipe};
use crate::output::{self, Pipe};

/// What every daemon process is given.
pub(crate) struct Gifts<'a> {
    /// `/dev/null`
    pub(crate) nothing: BorrowedFd<'a>,
    /// The group's listener.
    pub(crate) listener: BorrowedFd<'a>,
    /// The engine's file.
    pub(crate) engine: BorrowedFd<'a>,
}

/// A daemon process.
pub(crate) struct Worker {
    process: Process,
    /// `None`: it is adopted, or does not talk any more.
    link: Option<Link>,
    /// Where it says what step of its start went wrong.
    channel: Option<OwnedFd>,
    /// `None`: the board was full.
    record: Option<RecordId>,
    entry: Entry,
    /// When it last said something; `None` where nothing is expected.
    heard: Option<Time>,
    /// It has ended, but somebody else (a debugger) has to be told first; looked at again then.
    asleep: Option<Time>,
}

/// A process that was started.
pub(crate) struct Started {
    pub(crate) worker: Worker,
    /// What it writes, to be read.
    pub(crate) output: File,
    /// Why it does not have the nice value that it was to have: in a container even root may not give every one.
    pub(crate) without_nice: Option<io::Error>,
}

impl Worker {
    /// Starts a process, and tells it what to be.
    pub(crate) fn start(
        recipe: &Recipe,
        setup: &Setup,
        gifts: &Gifts<'_>,
        board: &Board<'_>,
    ) -> io::Result<Started> {
        let (ours, theirs) = socket::pair()?;
        let mut link = Link::new(ours, from_daemon, 0);
        let mut frame = Vec::new();
        ToDaemon::Setup(Box::new(setup.clone())).encode(&mut frame).map_err(io::Error::other)?;
        link.send(&frame)?;
        let owner = recipe.identity.as_ref().map(|(user, group, _)| (*user, *group));
        let pipe = Pipe::new(owner)?;
        let descriptors = [
            gifts.nothing,
            pipe.writer.as_fd(),
            pipe.writer.as_fd(),
            theirs.as_fd(),
            gifts.listener,
            gifts.engine,
            pipe.kept.as_fd(),
        ];
        let newborn = os::fork(recipe, descriptors)?;
        let pid = newborn.pid();
        let start = os::start_time(pid)?;
        let entry = Entry { group: setup.group_id, pid, start, standing: Standing::Starting };
        // Before it is released, so that there is no moment at which it runs and nobody would find
        // it.
        let record = board.add(&entry);
        let without_nice = recipe.nice.and_then(|nice| os::set_nice(pid, nice).err());
        match newborn.release() {
            Ok((process, channel)) => {
                let (link, channel) = (Some(link), Some(channel));
                let worker =
                    Self { process, link, channel, record, entry, heard: None, asleep: None };
                Ok(Started { worker, output: pipe.reader, without_nice })
            }
            Err(error) => {
                if let Some(record) = record {
                    board.remove(record);
                }
                Err(error)
            }
        }
    }

    /// Takes over a process from the board, if it is there still, and with it what it writes, if that can be read.
    pub(crate) fn adopt(record: RecordId, entry: Entry) -> io::Result<(Self, Option<File>)> {
        let process = Process::open(entry.pid)?;
        let output = output::adopt(entry.pid).ok();
        // Looked at after the descriptors were made: what has this start time now is what the
        // descriptors are of.
        if os::start_time(entry.pid)? != entry.start || !os::is_alive(entry.pid) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let record = Some(record);
        let (link, channel) = (None, None);
        let worker = Self { process, link, channel, record, entry, heard: None, asleep: None };
        Ok((worker, output))
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Leaves its end alone until then.
    pub(crate) fn sleep(&mut self, until: Option<Time>) {
        self.asleep = until;
    }

    /// Until when its end is left alone.
    pub(crate) fn asleep(&self) -> Option<Time> {
        self.asleep
    }

    /// Takes note of when it has said something, or that nothing more is expected.
    pub(crate) fn note(&mut self, heard: Option<Time>) {
        self.heard = heard;
    }

    /// When it last said something, if more is expected.
    pub(crate) fn heard(&self) -> Option<Time> {
        self.heard
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Notes on the board what it is doing.
    pub(crate) fn stands(&mut self, standing: Standing, board: &Board<'_>) {
        self.entry.standing = standing;
        if let Some(record) = self.record {
            board.set(record, &self.entry);
        }
    }

    /// Notes on the board what it says of itself.
    pub(crate) fn counts(&self, served: u64, busy: u64, board: &Board<'_>) {
        if let Some(record) = self.record {
            board.count(record, served, busy);
        }
    }

    /// Tells it something. `false`: it cannot be told.
    pub(crate) fn tell(&mut self, what: &ToDaemon) -> bool {
        let mut frame = Vec::new();
        let Some(link) = self.link.as_mut() else { return false };
        let told = what.encode(&mut frame).is_ok() && link.send(&frame).is_ok();
        if !told {
            self.link = None;
        }
        told
    }

    /// Sends it what is left. `false`: it cannot be told.
    pub(crate) fn flush(&mut self) -> bool {
        let sent = self.link.as_mut().is_none_or(|link| link.flush().is_ok());
        if !sent {
            self.link = None;
        }
        sent
    }

    /// Hears what it says, at most so many frames; the second is why it cannot be heard any more,
    /// if that is so now.
    pub(crate) fn hear(&mut self, most: usize) -> (Vec<FromDaemon>, Option<Silence>) {
        let mut heard = Vec::new();
        let Some(link) = self.link.as_mut() else { return (heard, None) };
        let silence = loop {
            match link.next(FromDaemon::decode) {
                Ok(Some((message, _))) => heard.push(message),
                Ok(None) => match link.receive() {
                    Ok(Heard::Something) if heard.len() < most => {}
                    Ok(Heard::Something | Heard::Nothing) => break None,
                    Ok(Heard::End) | Err(_) => break Some(Silence::End),
                },
                Err(fault) => break Some(Silence::Fault(fault)),
            }
        };
        if silence.is_some() {
            self.link = None;
        }
        (heard, silence)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, number: i32) -> io::Result<()> {
        self.process.signal(number)
    }

    /// After its end: what step of its start went wrong.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.channel.as_ref().and_then(|channel| os::failure(channel.as_fd()))
    }

    /// After its end: takes it off the board.
    pub(crate) fn forget(&self, board: &Board<'_>) {
        if let Some(record) = self.record {
            board.remove(record);
        }
    }
}

/// Why a process is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has closed its end.
    End,
    /// It said what cannot be understood.
    Fault(Fault),
}
