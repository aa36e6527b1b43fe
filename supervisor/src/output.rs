//! What daemon processes write to their standard output and error, on its way to the log.
//!
//! Each process has a pipe of its own, so that none of them has the log itself. This program reads it by an opening
//! of its own: whether a read of it waits is not for the process to say, which has another one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, fchown};

use engine::worker::descriptor;

use crate::log::{LINE, Level, Log};

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// How many of those are read of one pipe before the others have their turn.
const TURN: usize = 4;

/// The same where there is no other turn: what a pipe holds, if nobody has made it larger.
const ALL: usize = 16;

/// Most pipes of processes that have ended. An application may leave programs that go on to hold them, and this
/// program needs its descriptors for the others.
const MOST_LEFT: usize = 128;

/// What a process writes to, before there is the process.
pub(crate) struct Pipe {
    /// The standard output and error of the process.
    pub(crate) writer: OwnedFd,
    /// What the process has open as well: while it lives nobody writes to a pipe without a reader, which would end
    /// him, even if this program is not there.
    pub(crate) kept: OwnedFd,
    /// What this program reads.
    pub(crate) reader: File,
}

impl Pipe {
    /// A pipe for a process of this user and group, if that is not who this program is.
    pub(crate) fn new(owner: Option<(u32, u32)>) -> io::Result<Self> {
        let (kept, writer) = io::pipe()?;
        let reader = open_again(kept.as_fd())?;
        if let Some((user, group)) = owner {
            // Without it, only programs that open /dev/stderr by its name are refused.
            let _ = fchown(&writer, Some(user), Some(group));
        }
        Ok(Self { writer: writer.into(), kept: kept.into(), reader })
    }
}

/// The pipe of a process that a former supervisor started. Not that of whatever else it may write to by now: that has
/// a reader.
pub(crate) fn adopt(pid: u32) -> io::Result<File> {
    let path = |number| format!("/proc/{pid}/fd/{number}");
    // Whatever that is, nothing happens to it by this, and it stays what is looked at.
    let found =
        File::options().read(true).custom_flags(libc::O_PATH).open(path(descriptor::OUTPUT))?;
    let name = fs::read_link(itself(found.as_fd()))?;
    let written =
        [libc::STDOUT_FILENO, libc::STDERR_FILENO].map(|number| fs::read_link(path(number)).ok());
    let is_pipe = name.to_str().is_some_and(|name| name.starts_with("pipe:["));
    if !is_pipe || !written.contains(&Some(name)) {
        return Err(ErrorKind::NotFound.into());
    }
    open_again(found.as_fd())
}

/// A pipe once more, to be read without waiting.
fn open_again(pipe: BorrowedFd<'_>) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(itself(pipe))
}

fn itself(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// The pipes of all processes: those that live, and those that have ended and left programs that hold them.
#[derive(Default)]
pub(crate) struct Outputs {
    all: BTreeMap<u64, Output>,
    next: u64,
}

impl Outputs {
    /// Reads from now on what a process writes; `None`: nobody knows any more which group it is of.
    pub(crate) fn add(&mut self, pid: u32, group: Option<&str>, reader: File) {
        let source = Source { pid, group: group.map(str::to_owned) };
        self.all.insert(self.next, Output { reader, source, lines: Lines::default(), left: false });
        self.next += 1;
    }

    /// What is to be waited for, and by what name.
    pub(crate) fn readers(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.all.iter().map(|(name, output)| (*name, output.reader.as_fd()))
    }

    /// There is something to be read, or the end of it.
    pub(crate) fn read(&mut self, name: u64, log: &mut Log) {
        let Some(output) = self.all.get_mut(&name) else { return };
        if output.read(TURN, log) == Found::End {
            output.finish(log);
            self.all.remove(&name);
        }
    }

    /// A process has ended. Its last words are written now; programs that it has left may have more to say.
    pub(crate) fn ended(&mut self, pid: u32, log: &mut Log) {
        // Another one may have had its number before.
        let is_its = |output: &Output| output.source.pid == pid && !output.left;
        let found = self.all.iter_mut().find(|(_, output)| is_its(output));
        let Some((name, output)) = found.map(|(name, output)| (*name, output)) else { return };
        output.left = true;
        let found = output.read(ALL, log);
        if found != Found::More {
            output.finish(log);
        }
        if found == Found::End {
            self.all.remove(&name);
        }
        self.forget_some(log);
    }

    fn forget_some(&mut self, log: &mut Log) {
        let mut left = self.all.iter().filter(|(_, output)| output.left).map(|(name, _)| *name);
        let Some(oldest) = left.next().filter(|_| left.count() >= MOST_LEFT) else { return };
        if let Some(mut output) = self.all.remove(&oldest) {
            output.finish(log);
            let text =
                "what it has started and left is not heard any more: there is too much of that";
            output.source.say(Level::WARNING, text, log);
        }
    }

    /// Reads what is there, for the last time.
    pub(crate) fn close(&mut self, log: &mut Log) {
        for mut output in mem::take(&mut self.all).into_values() {
            output.read(ALL, log);
            output.finish(log);
        }
    }
}

/// What a process writes.
struct Output {
    reader: File,
    source: Source,
    lines: Lines,
    /// The process has ended.
    left: bool,
}

/// Who writes.
struct Source {
    pid: u32,
    group: Option<String>,
}

impl Source {
    fn say(&self, level: Level, text: &str, log: &mut Log) {
        match &self.group {
            Some(group) => log.relay(level, self.pid, group, text),
            None => log.write(level, self.pid, text),
        }
    }
}

/// What a look at a pipe brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// As much as was to be read, and perhaps there is more.
    More,
    /// All that is there now.
    All,
    /// All that will ever be.
    End,
}

impl Output {
    /// Reads so many pieces, and writes the lines that they complete.
    fn read(&mut self, pieces: usize, log: &mut Log) -> Found {
        let mut bytes = [0; PIECE];
        for _ in 0..pieces {
            match self.reader.read(&mut bytes) {
                Ok(0) => return Found::End,
                Ok(count) => {
                    let bytes = bytes.get(..count).unwrap_or_default();
                    self.lines.add(bytes, |line| self.source.say(Level::ERROR, line, log));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Found::All,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Found::End,
            }
        }
        Found::More
    }

    /// Writes the line that nobody has finished.
    fn finish(&mut self, log: &mut Log) {
        self.lines.finish(|line| self.source.say(Level::ERROR, line, log));
    }
}

/// Bytes that become lines.
#[derive(Default)]
struct Lines {
    /// A line so far.
    begun: Vec<u8>,
}

impl Lines {
    /// Adds bytes, and gives the lines that are complete, and pieces of those that are too long.
    fn add(&mut self, bytes: &[u8], mut give: impl FnMut(&str)) {
        self.begun.extend_from_slice(bytes);
        let mut rest = self.begun.as_slice();
        loop {
            // The end of a line that is as long as may be comes behind it.
            let near = rest.get(..=LINE).unwrap_or(rest);
            if let Some(end) = near.iter().position(|byte| *byte == b'\n') {
                show(&rest[..end], &mut give);
                rest = &rest[end + 1..];
            } else if rest.len() > LINE {
                let (piece, more) = rest.split_at(cut(rest));
                show(piece, &mut give);
                rest = more;
            } else {
                break;
            }
        }
        let given = self.begun.len() - rest.len();
        self.begun.drain(..given);
    }

    /// Gives the line that nobody has finished, if there is one.
    fn finish(&mut self, mut give: impl FnMut(&str)) {
        let begun = mem::take(&mut self.begun);
        if !begun.is_empty() {
            show(&begun, &mut give);
        }
    }
}

/// Where to cut what is longer than a line: not within a character, if these are characters.
fn cut(bytes: &[u8]) -> usize {
    let begins = |at: &usize| bytes.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (LINE - 3..=LINE).rev().find(begins).unwrap_or(LINE)
}

/// Gives bytes as text, in pieces where that is longer than the bytes were.
fn show(bytes: &[u8], give: &mut impl FnMut(&str)) {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.as_ref();
    while rest.len() > LINE {
        let (piece, more) = rest.split_at(cut(rest.as_bytes()));
        give(piece);
        rest = more;
    }
    give(rest);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The lines of these pieces, those that are complete and what is left in the end.
    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let mut lines = Lines::default();
        let (mut complete, mut left) = (Vec::new(), Vec::new());
        for piece in pieces {
            lines.add(piece, |line| complete.push(line.to_owned()));
        }
        lines.finish(|line| left.push(line.to_owned()));
        (complete, left)
    }

    #[test]
    fn lines_are_what_ends_with_a_newline() {
        let (complete, left) = lines(&[b"one\ntw", b"", b"o", b"\n\nfour\r\nfi", b"ve"]);
        assert_eq!(complete, ["one", "two", "", "four\r"]);
        assert_eq!(left, ["five"]);
        assert_eq!(lines(&[b"one\n"]).1, [""; 0]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let longest = "x".repeat(LINE);
        let (complete, left) = lines(&[longest.as_bytes(), b"\n", longest.as_bytes()]);
        assert_eq!((complete, left), (vec![longest.clone()], vec![longest.clone()]));

        let (complete, left) = lines(&[longest.as_bytes(), b"yz\n"]);
        assert_eq!(complete, [longest.as_str(), "yz"]);
        assert_eq!(left, [""; 0]);

        // Of three bytes each, and the bound is not a multiple of three.
        let text = "\u{20ac}".repeat(LINE);
        let (complete, left) = lines(&[text.as_bytes()]);
        assert!(complete.iter().all(|line| line.len() == LINE / 3 * 3), "{complete:?}");
        assert_eq!(complete.concat() + &left.concat(), text);
    }

    #[test]
    fn what_is_no_text_is_shown_and_does_not_become_too_long() {
        assert_eq!(lines(&[b"a\xffb\n"]).0, ["a\u{fffd}b"]);
        // A character that comes in two pieces is one.
        assert_eq!(lines(&[b"\xc3", b"\xa9\n"]).0, ["\u{e9}"]);
        let (complete, left) = lines(&[&[0x80; 2 * LINE]]);
        let all = complete.concat() + &left.concat();
        assert_eq!(all.chars().filter(|character| *character == '\u{fffd}').count(), 2 * LINE);
        assert!(complete.iter().chain(&left).all(|line| line.len() <= LINE));
    }

    /// A log, and what is in it when that is asked for.
    fn log() -> (Log, impl FnOnce(Log) -> String) {
        let (mut reader, writer) = io::pipe().unwrap();
        let read = move |log| {
            drop(log);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        };
        (Log::new(writer.into()), read)
    }

    /// What every line of the log ends with, behind its time.
    fn said(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.split_once("] ").unwrap().1).collect()
    }

    #[test]
    fn what_a_process_leaves_goes_on_when_it_has_ended() {
        let (mut log, text) = log();
        let mut outputs = Outputs::default();
        let Pipe { writer, kept, reader } = Pipe::new(None).unwrap();
        let mut own = File::from(writer);
        let mut other = own.try_clone().unwrap();
        outputs.add(7, Some("blog"), reader);
        let name = outputs.readers().next().unwrap().0;
        // Nothing is there, and nobody waits for it.
        outputs.read(name, &mut log);

        own.write_all(b"first\nlast").unwrap();
        drop((own, kept));
        outputs.ended(7, &mut log);
        // Its number may be another one's now.
        outputs.ended(7, &mut log);
        other.write_all(b"later\nunfinished").unwrap();
        outputs.read(name, &mut log);
        drop(other);
        outputs.read(name, &mut log);
        assert_eq!(outputs.readers().count(), 0);
        let text = text(log);
        let expected = ["first", "last", "later", "unfinished"]
            .map(|line| format!("[wsgi:error] [pid 7] [group blog] {line}"));
        assert_eq!(said(&text), expected);
    }

    #[test]
    fn who_writes_without_end_does_not_keep_others_from_their_turn() {
        let mut outputs = Outputs::default();
        let mut log = Log::new(File::open("/dev/null").unwrap().into());
        let Pipe { writer, kept, reader } = Pipe::new(None).unwrap();
        outputs.add(7, None, reader);
        File::from(writer).write_all(&[b'x'; 2 * TURN * PIECE]).unwrap();
        outputs.read(0, &mut log);
        let mut left = Vec::new();
        File::from(kept).read_to_end(&mut left).unwrap();
        assert_eq!(left.len(), TURN * PIECE);
    }

    #[test]
    fn the_oldest_of_too_many_that_are_left_is_not_heard_any_more() {
        let (mut log, text) = log();
        let mut outputs = Outputs::default();
        let mut writers = Vec::new();
        for pid in 0..=u32::try_from(MOST_LEFT).unwrap() {
            let pipe = Pipe::new(None).unwrap();
            outputs.add(pid, Some("blog"), pipe.reader);
            writers.push(pipe.writer);
            outputs.ended(pid, &mut log);
        }
        assert_eq!(outputs.readers().count(), MOST_LEFT);
        let text = text(log);
        assert!(said(&text)[0].starts_with("[wsgi:warn] [pid 0] [group blog] what it has started"));
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn what_is_there_in_the_end_is_written() {
        let (mut log, text) = log();
        let mut outputs = Outputs::default();
        let pipe = Pipe::new(None).unwrap();
        outputs.add(7, None, pipe.reader);
        let mut writer = File::from(pipe.writer);
        writer.write_all(b"one\ntwo").unwrap();
        outputs.close(&mut log);
        drop(pipe.kept);
        assert!(writer.write(b"three").is_err(), "it is not closed");
        let text = text(log);
        assert_eq!(said(&text), ["[wsgi:error] [pid 7] one", "[wsgi:error] [pid 7] two"]);
    }
}
