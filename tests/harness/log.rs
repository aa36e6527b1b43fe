//! The error log, read the way an operator reads it.

use std::path::Path;

/// The format every test server logs with; [`Record::parse`] reads it back.
pub const FORMAT: &str =
    r"[%{u}t] [%-m:%-l] [pid\ %-P:tid\ %-T] [req\ %-L] [client\ %-a] [os\ %-E] %M";

/// One line of an error log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// httpd's module, `wsgi` for ours.
    pub module: String,
    /// Level name.
    pub level: String,
    /// Process and thread, as one word.
    pub thread: String,
    /// Request id, `-` outside of one.
    pub request: String,
    /// The text.
    pub message: String,
    /// The line as it stands in the file.
    pub line: String,
}

impl Record {
    /// Reads one line; a line without httpd's prefix (written straight to descriptor 2) is an error.
    pub fn parse(line: &str) -> Self {
        fn bracketed(text: &str) -> Option<(&str, &str)> {
            text.trim_start().strip_prefix('[')?.split_once(']')
        }
        let read = || {
            let (_time, rest) = bracketed(line)?;
            let (level, rest) = bracketed(rest)?;
            let (module, level) = level.split_once(':')?;
            let (thread, rest) = bracketed(rest)?;
            let thread = thread.strip_prefix("pid ")?;
            // The supervisor knows of no requests, and has nothing else to say in brackets.
            let (request, rest) = match bracketed(rest) {
                Some((request, rest)) if request.starts_with("req ") => {
                    let (_client, rest) = bracketed(rest)?;
                    let (_os_error, rest) = bracketed(rest)?;
                    (request.strip_prefix("req ")?, rest)
                }
                _ => ("-", rest),
            };
            Some(Self {
                module: module.to_owned(),
                level: level.to_owned(),
                thread: thread.to_owned(),
                request: request.to_owned(),
                message: rest.strip_prefix(' ').unwrap_or(rest).to_owned(),
                line: line.to_owned(),
            })
        };
        read().unwrap_or_else(|| Self {
            module: String::new(),
            level: "error".to_owned(),
            thread: String::new(),
            request: "-".to_owned(),
            message: line.to_owned(),
            line: line.to_owned(),
        })
    }

    /// True for what must not appear unless a test asked for it.
    pub fn is_alarming(&self) -> bool {
        let loud =
            ["emerg", "alert", "crit", "error", "warn", "warning"].contains(&self.level.as_str());
        // A child that died is told at level notice.
        loud || ["panicked", "AH00052", "AH00051", "exit signal"]
            .iter()
            .any(|sign| self.message.contains(sign))
    }

    /// The message without the file or the group of the application, where that is named in front.
    pub fn text(&self) -> &str {
        let mut fronts = ["[script ", "[group "].into_iter();
        let named = fronts.find_map(|front| self.message.strip_prefix(front));
        named.and_then(|rest| rest.split_once("] ")).map_or(&self.message, |(_, text)| text)
    }

    /// True when this line goes on with the text that `previous` began: a traceback is several lines.
    fn continues(&self, previous: &Self) -> bool {
        if self.thread != previous.thread || self.request != previous.request {
            return false;
        }
        let text = self.text();
        let indented = |text: &str| text.is_empty() || text.starts_with(' ');
        // What stands in front of a traceback, or of an exception that has none.
        let leading = |text: &str| {
            text.starts_with("Exception ignored in")
                || text.contains("exception raised")
                || text.contains("exception at the end")
                || text.contains("could not import; ")
        };
        let linking = text.starts_with("Traceback (most recent call last)")
            || text.starts_with("During handling of the above")
            || text.starts_with("The above exception was");
        indented(text) || linking || indented(previous.text()) || leading(previous.text())
    }
}

/// The log's lines, as records.
pub fn records(text: &str) -> Vec<Record> {
    text.lines().map(Record::parse).collect()
}

/// The log's records gathered into messages: each is a line and the lines that go on with it. Other threads may have
/// written theirs in between.
pub fn messages(text: &str) -> Vec<Vec<Record>> {
    let mut all: Vec<Vec<Record>> = Vec::new();
    for record in records(text) {
        let before = all.iter_mut().rev().find(|message| message[0].thread == record.thread);
        match before {
            Some(message) if message.last().is_some_and(|last| record.continues(last)) => {
                message.push(record);
            }
            _ => all.push(vec![record]),
        }
    }
    all
}

/// What httpd and this machine's packages say by themselves, whatever is tested.
const KNOWN: &[(&str, &str)] = &[
    ("AH01882", "mod_ssl was compiled against another patch release of OpenSSL"),
    ("AH03093", "httpd stops while a connection goes over to keep-alive"),
    ("mpd_setminalloc: ignoring", "CPython's _decimal, imported in a second interpreter"),
    ("AH00045", "a child takes three seconds to exit on a busy machine; AH00046 is to kill it"),
];

/// Lines that alarm and belong to no message with one of the expected texts.
pub fn unexpected(text: &str, expected: &[String]) -> Vec<String> {
    messages(text)
        .into_iter()
        .filter(|message| message.iter().any(Record::is_alarming))
        .filter(|message| {
            !message
                .iter()
                .any(|record| expected.iter().any(|part| record.line.contains(part.as_str())))
        })
        .filter(|message| {
            !message.iter().any(|record| KNOWN.iter().any(|(id, _)| record.line.contains(id)))
        })
        .flatten()
        .map(|record| record.line)
        .collect()
}

/// The text of a log file, empty while it does not exist.
pub fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
