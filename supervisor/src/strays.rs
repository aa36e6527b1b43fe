//! Processes of a former supervisor whose group has not been told yet.

use std::fs::File;

use crate::Time;
use crate::board::{Entry, Standing};
use crate::fleet::Estate;
use crate::group::END_WITHIN;
use crate::os::Process;
use crate::output::Outputs;
use crate::worker::Worker;

/// How long after the first configuration the groups of older ones may still be told.
const PATIENCE: Time = 10_000;

/// Processes that belong to no group yet, and perhaps never will.
#[derive(Default)]
pub(crate) struct Strays {
    list: Vec<Stray>,
    /// When those that are left are ended.
    until: Option<Time>,
    /// When they are killed.
    last: Option<Time>,
}

struct Stray {
    entry: Entry,
    worker: Worker,
    /// What it writes. Left alone until it is known for which group it speaks, or that nobody will know.
    output: Option<File>,
}

impl Strays {
    /// Adds one. One that was not told to take requests never will be: its status socket is gone.
    pub(crate) fn add(&mut self, entry: Entry, worker: Worker, output: Option<File>) {
        if entry.standing == Standing::Starting {
            // Nothing depends on it, so nothing is lost if this fails.
            let _ = worker.signal(libc::SIGKILL);
        }
        self.list.push(Stray { entry, worker, output });
    }

    /// Gives those that belong to a group, each with what it writes and whether it serves.
    pub(crate) fn claim(&mut self, group: u64) -> Vec<(Worker, Option<File>, bool)> {
        let ours = |stray: &mut Stray| {
            stray.entry.group == group && stray.entry.standing != Standing::Starting
        };
        let claimed = self.list.extract_if(.., ours);
        claimed
            .map(|stray| (stray.worker, stray.output, stray.entry.standing == Standing::Serving))
            .collect()
    }

    /// All of them, with their numbers.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (u32, &Process)> {
        self.list.iter().map(|stray| (stray.worker.pid(), stray.worker.process()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn due(&self) -> Option<Time> {
        if self.list.is_empty() { None } else { self.until.or(self.last) }
    }

    /// One has ended.
    pub(crate) fn bury(&mut self, pid: u32, estate: &mut Estate<'_>) {
        for mut stray in self.list.extract_if(.., |stray| stray.worker.pid() == pid) {
            stray.speak(&mut estate.outputs);
            estate.outputs.ended(pid, &mut estate.log);
            stray.worker.forget(&estate.board);
        }
    }

    /// A configuration has come: those that no later one claims will be ended.
    pub(crate) fn give_up(&mut self, now: Time) {
        self.until = Some(now + PATIENCE);
    }

    /// The server ends.
    pub(crate) fn stop(&mut self, now: Time, outputs: &mut Outputs) {
        self.until = Some(now);
        self.follow(now, outputs);
    }

    /// Ends those whose time has come.
    pub(crate) fn follow(&mut self, now: Time, outputs: &mut Outputs) {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.last = Some(now + END_WITHIN);
            self.signal(libc::SIGTERM);
            self.list.iter_mut().for_each(|stray| stray.speak(outputs));
        }
        if self.last.is_some_and(|last| now >= last) {
            self.last = None;
            self.signal(libc::SIGKILL);
        }
    }

    fn signal(&self, number: i32) {
        for stray in &self.list {
            // It has ended, or belongs to the kernel; there is nothing else to try.
            let _ = stray.worker.signal(number);
        }
    }
}

impl Stray {
    /// Has read what it writes, without the name of a group.
    fn speak(&mut self, outputs: &mut Outputs) {
        if let Some(output) = self.output.take() {
            outputs.add(self.worker.pid(), None, output);
        }
    }
}
