//! Lines for httpd's error log, in its form.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use crate::os::{self, Interest, Poller};

/// Most bytes that wait for a reader of the log that is slow. Beyond, lines are dropped and
/// counted: a log that nobody reads must not stop the supervisor.
const MOST: usize = 256 * 1024;

/// Bytes that a pipe which says it has room takes without making the writer wait.
const PIPE: usize = 4096;

/// Most bytes of one line's text, as in httpd.
const LINE: usize = 8000;

/// How bad something is, as on the wire: an index into httpd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(pub(crate) u8);

impl Level {
    pub(crate) const CRITICAL: Self = Self(0);
    pub(crate) const ERROR: Self = Self(1);
    pub(crate) const WARNING: Self = Self(2);
    pub(crate) const INFO: Self = Self(3);

    fn name(self) -> &'static str {
        const NAMES: [&str; 4] = ["crit", "error", "warn", "info"];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("debug")
    }
}

/// The log, and what waits to be written to it.
pub(crate) struct Log {
    file: File,
    /// The least severe that is written.
    level: Level,
    waiting: Vec<u8>,
    dropped: u64,
}

impl Log {
    /// A log in this descriptor, a file or a pipe; warnings are written until more is asked for.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { file: descriptor.into(), level: Level::WARNING, waiting: Vec::new(), dropped: 0 }
    }

    /// Goes on in another descriptor, with this level.
    pub(crate) fn reopen(&mut self, descriptor: OwnedFd, level: Level) {
        self.flush();
        self.file = descriptor.into();
        self.level = level;
    }

    /// Writes lines about a process, or of it, as far as `LogLevel` wants them.
    pub(crate) fn write(&mut self, level: Level, pid: u32, text: &str) {
        if level > self.level {
            return;
        }
        let lines = lines(&os::local_time(SystemTime::now()), level, pid, text);
        if self.waiting.len() + lines.len() > MOST {
            self.dropped += 1;
            return;
        }
        self.waiting.extend_from_slice(lines.as_bytes());
        self.flush();
    }

    /// Writes what is left, as far as it can be written without waiting.
    pub(crate) fn flush(&mut self) {
        while !self.waiting.is_empty() && self.has_room() {
            let length = self.waiting.len().min(PIPE);
            match self.file.write(&self.waiting[..length]) {
                Ok(written) => drop(self.waiting.drain(..written)),
                // There is no other place to say that the log is gone.
                Err(_) => self.waiting.clear(),
            }
        }
        if self.waiting.is_empty() && self.dropped > 0 {
            let text = format!("{} messages were lost as the log took no more", self.dropped);
            self.dropped = 0;
            self.write(Level::WARNING, std::process::id(), &text);
        }
    }

    /// Whether something is left to be written.
    pub(crate) fn pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn has_room(&self) -> bool {
        let mut poller = Poller::new();
        poller.add(self.file.as_fd(), Interest::Write, ());
        poller.wait(Some(0)).is_ok_and(|ready| !ready.is_empty())
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Each line of a text in httpd's form, with nothing in it that a terminal would obey.
fn lines(time: &str, level: Level, pid: u32, text: &str) -> String {
    let mut lines = String::new();
    for line in text.trim_end_matches('\n').split('\n') {
        lines.push_str(&format!("[{time}] [wsgi:{}] [pid {pid}] ", level.name()));
        let line = line.strip_suffix('\r').unwrap_or(line);
        let shown = line.char_indices().take_while(|(at, _)| *at < LINE);
        for (_, character) in shown {
            match character {
                '\t' => lines.push('\t'),
                '\\' => lines.push_str("\\\\"),
                _ if character.is_control() => lines.extend(character.escape_default()),
                _ => lines.push(character),
            }
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_of_the_log() {
        assert_eq!(
            lines("T", Level::ERROR, 7, "Traceback\n  File \"x\"\n\x1b[1m\u{e9}\n"),
            "[T] [wsgi:error] [pid 7] Traceback\n\
             [T] [wsgi:error] [pid 7]   File \"x\"\n\
             [T] [wsgi:error] [pid 7] \\u{1b}[1m\u{e9}\n"
        );
    }

    #[test]
    fn a_line_cannot_be_forged_nor_endless() {
        let text = "a\rb[Sun]".to_owned() + &"x".repeat(2 * LINE);
        let line = lines("T", Level::WARNING, 7, &text);
        assert!(line.starts_with("[T] [wsgi:warn] [pid 7] a\\rb[Sun]xxx"), "{line}");
        assert!(line.len() < LINE + 100);
    }

    #[test]
    fn a_log_that_nobody_reads_stops_nobody() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut log = Log::new(writer.into());
        let text = "x".repeat(1000);
        for _ in 0..1000 {
            log.write(Level::ERROR, 7, &text);
        }
        assert!(log.pending());
        assert!(log.dropped > 0);

        // Once it is read again, nothing that waited is lost, and what is lost is said.
        let mut read = String::new();
        let reading = std::thread::spawn(move || {
            let mut reader = std::io::BufReader::new(reader);
            std::io::Read::read_to_string(&mut reader, &mut read).map(|_| read)
        });
        while log.pending() {
            let mut poller = Poller::new();
            poller.add(log.as_fd(), Interest::Write, ());
            poller.wait(None).unwrap();
            log.flush();
        }
        drop(log);
        let read = reading.join().unwrap().unwrap();
        assert!(read.lines().count() > 200);
        assert!(read.ends_with("messages were lost as the log took no more\n"), "{read}");
    }
}
