//! Lines for httpd's error log, in its form.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use engine::wire::control;

use crate::os::{self, Interest, Poller};

/// Most bytes that wait for a reader of the log that is slow. Beyond, lines are dropped and
/// counted: a log that nobody reads must not stop the supervisor.
const MOST: usize = 256 * 1024;

/// Bytes that a pipe which says it has room takes without making the writer wait.
const PIPE: usize = 4096;

/// Where the system's log listens.
const SYSLOG: &str = "/dev/log";

/// Most bytes of one line's text, as in httpd.
pub(crate) const LINE: usize = 8000;

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

    /// As in RFC 3164.
    fn severity(self) -> u32 {
        const SEVERITIES: [u32; 4] = [2, 3, 4, 6];
        SEVERITIES.get(usize::from(self.0)).copied().unwrap_or(7)
    }
}

/// The log, and what waits to be written to it.
pub(crate) struct Log {
    file: File,
    /// Written to instead of the file.
    syslog: Option<Syslog>,
    /// The least severe that is written.
    level: Level,
    waiting: Vec<u8>,
    dropped: u64,
}

impl Log {
    /// A log in this descriptor, a file or a pipe; warnings are written until more is asked for.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self {
            file: descriptor.into(),
            syslog: None,
            level: Level::WARNING,
            waiting: Vec::new(),
            dropped: 0,
        }
    }

    /// Goes on in another place, with this level.
    pub(crate) fn reopen(
        &mut self,
        descriptor: OwnedFd,
        syslog: Option<control::Syslog>,
        level: Level,
    ) {
        self.flush();
        self.file = descriptor.into();
        self.syslog = syslog.map(|syslog| Syslog::new(Path::new(SYSLOG), syslog));
        self.level = level;
    }

    /// Writes lines about a process as far as `LogLevel` wants them.
    pub(crate) fn write(&mut self, level: Level, pid: u32, text: &str) {
        self.put(level, pid, &format!("[pid {pid}]"), text);
    }

    /// The same with what a process of a group says itself.
    pub(crate) fn relay(&mut self, level: Level, pid: u32, group: &str, text: &str) {
        self.put(level, pid, &format!("[pid {pid}] [group {group}]"), text);
    }

    fn put(&mut self, level: Level, pid: u32, source: &str, text: &str) {
        if level > self.level {
            return;
        }
        let time = os::local_time(SystemTime::now());
        if let Some(syslog) = &mut self.syslog {
            if !syslog.write(&time, level, pid, &lines("", level, source, text)) {
                self.dropped += 1;
            } else if self.dropped > 0 {
                self.tell_dropped();
            }
            return;
        }
        let lines = lines(&format!("[{time}] "), level, source, text);
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
        if self.waiting.is_empty() && self.syslog.is_none() && self.dropped > 0 {
            self.tell_dropped();
        }
    }

    fn tell_dropped(&mut self) {
        let text = format!("{} messages were lost as the log took no more", self.dropped);
        self.dropped = 0;
        self.write(Level::WARNING, std::process::id(), &text);
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

/// The system's log, as RFC 3164 has it.
struct Syslog {
    path: PathBuf,
    syslog: control::Syslog,
    /// None before the first line, and after its daemon has gone.
    socket: Option<UnixDatagram>,
}

impl Syslog {
    fn new(path: &Path, syslog: control::Syslog) -> Self {
        Self { path: path.to_owned(), syslog, socket: None }
    }

    /// Writes lines, without waiting; `false` if not all of them were taken.
    fn write(&mut self, time: &str, level: Level, pid: u32, lines: &str) -> bool {
        // "Mon Nov 30 23:47:32.627691 2026", of which the month to the second are wanted.
        let time = time.get(4..19).unwrap_or_default();
        let control::Syslog { facility, tag } = &self.syslog;
        let front =
            format!("<{}>{time} {tag}[{pid}]: ", u32::from(*facility) * 8 + level.severity());
        lines.lines().all(|line| self.send(&format!("{front}{line}")).is_ok())
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        // Its daemon may have been started again since.
        if let Some(socket) = &self.socket {
            match socket.send(line.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.socket = None,
            }
        }
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_nonblocking(true)?;
        self.socket.insert(socket).send(line.as_bytes()).map(drop)
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Each line of a text in httpd's form, with nothing in it that a terminal would obey.
fn lines(time: &str, level: Level, source: &str, text: &str) -> String {
    let mut lines = String::new();
    for line in text.trim_end_matches('\n').split('\n') {
        lines.push_str(&format!("{time}[wsgi:{}] {source} ", level.name()));
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
            lines("[T] ", Level::ERROR, "[pid 7]", "Traceback\n  File \"x\"\n\x1b[1m\u{e9}\n"),
            "[T] [wsgi:error] [pid 7] Traceback\n\
             [T] [wsgi:error] [pid 7]   File \"x\"\n\
             [T] [wsgi:error] [pid 7] \\u{1b}[1m\u{e9}\n"
        );
    }

    #[test]
    fn a_line_cannot_be_forged_nor_endless() {
        let text = "a\rb[Sun]".to_owned() + &"x".repeat(2 * LINE);
        let line = lines("[T] ", Level::WARNING, "[pid 7]", &text);
        assert!(line.starts_with("[T] [wsgi:warn] [pid 7] a\\rb[Sun]xxx"), "{line}");
        assert!(line.len() < LINE + 100);
    }

    #[test]
    fn syslog_has_a_message_for_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let listen = || {
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let next = |socket: &UnixDatagram| {
            let mut bytes = [0; 2000];
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let mut log = Log::new(File::open("/dev/null").unwrap().into());
        let syslog = control::Syslog { facility: 16, tag: "www".to_owned() };
        log.syslog = Some(Syslog::new(&path, syslog));
        // Nobody is there yet.
        log.write(Level::ERROR, 7, "lost");
        let first = listen();
        log.relay(Level::ERROR, 7, "blog", "Traceback\n  File \"x\"\n");
        log.write(Level::INFO, 7, "not wanted");
        let line = next(&first);
        assert!(line.starts_with("<131>"), "{line}");
        assert!(line.ends_with(" www[7]: [wsgi:error] [pid 7] [group blog] Traceback"), "{line}");
        assert_eq!(&line[8..9], " ", "{line}");
        assert!(next(&first).ends_with("[group blog]   File \"x\""));
        assert!(next(&first).ends_with("1 messages were lost as the log took no more"));
        assert!(first.recv(&mut [0]).is_err());

        // It is started again.
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = listen();
        log.write(Level::CRITICAL, 7, "back");
        assert!(next(&second).starts_with("<130>"));

        // And takes nothing any more.
        for _ in 0..10_000 {
            log.write(Level::ERROR, 7, "x");
        }
        assert!(log.dropped > 0 && !log.pending());
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
