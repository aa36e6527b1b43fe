//! The error log: of a request, and of the main server.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::wsgi::{Level, Source};

use super::{Request, hook};
use crate::sys;
use crate::sys::constants::{APLOG_CRIT, APLOG_DEBUG, APLOG_ERR, APLOG_INFO, APLOG_WARNING};

/// httpd cuts what is longer than 8,192 bytes with its prefix, so longer lines are logged in pieces.
const LONGEST: usize = 7_500;

/// Held while the lines of one record are written, so that records of several threads do not mix.
static RECORD: Mutex<()> = Mutex::new(());

/// Where a record was made, as httpd takes it: shown by `%F` in an `ErrorLogFormat`.
struct Place {
    file: CString,
    line: c_int,
}

impl Place {
    fn new(source: Option<Source<'_>>) -> Option<Self> {
        source.map(|source| Self {
            file: CString::new(source.path).unwrap_or_default(),
            line: c_int::try_from(source.line).unwrap_or(c_int::MAX),
        })
    }

    /// For the time of a borrow; null for what says nothing.
    fn parts(place: Option<&Self>) -> (*const c_char, c_int) {
        place.map_or((std::ptr::null(), 0), |place| (place.file.as_ptr(), place.line))
    }
}

/// Writes to the log of the request's virtual host, with the request's context.
pub(crate) fn request(request: &Request<'_>, level: Level, text: &str) {
    request_from(request, None, level, text);
}

/// As [`request`], from a line of an application.
pub(crate) fn request_from(
    request: &Request<'_>,
    source: Option<Source<'_>>,
    level: Level,
    text: &str,
) {
    if !wanted(request, level) {
        return;
    }
    let index = hook::module_index();
    let level = number(level);
    let place = Place::new(source);
    record(text, |line, length| {
        let (file, at) = Place::parts(place.as_ref());
        // SAFETY: the request is alive (S1), the place until the end of this function; the line is as long as
        // said.
        unsafe { sys::mwrs_log_request(file, at, index, level, request.raw(), length, line) };
    });
}

/// Whether the request's `LogLevel` lets this level through.
pub(crate) fn wanted(request: &Request<'_>, level: Level) -> bool {
    let index = hook::module_index();
    // SAFETY: the request is alive (S1).
    unsafe { sys::ap_get_request_module_loglevel(request.raw(), index) >= number(level) }
}

/// The least severe level that the request's `LogLevel` lets through.
pub(crate) fn most(request: &Request<'_>) -> Level {
    let index = hook::module_index();
    // SAFETY: the request is alive (S1).
    match unsafe { sys::ap_get_request_module_loglevel(request.raw(), index) } {
        APLOG_DEBUG.. => Level::Debug,
        APLOG_INFO => Level::Info,
        // APLOG_NOTICE lies between: no level of the engine's own.
        APLOG_WARNING..APLOG_INFO => Level::Warning,
        APLOG_ERR => Level::Error,
        _ => Level::Critical,
    }
}

/// Writes to the main server's log.
pub(crate) fn server(level: Level, text: &str) {
    to_server(None, number(level), text);
}

/// As [`server`], from a line of an application.
pub(crate) fn server_from(source: Source<'_>, level: Level, text: &str) {
    to_server(Some(source), number(level), text);
}

/// Whether the main server's `LogLevel` lets this level through.
pub(crate) fn server_wants(level: Level) -> bool {
    let main = main_server();
    let index = hook::module_index();
    // SAFETY: asked of a server that httpd has set.
    main.is_null() || unsafe { sys::ap_get_server_module_loglevel(main, index) } >= number(level)
}

/// As [`server`] at error level, in the form of httpd's own messages about its configuration: to the
/// terminal, without date and level.
pub(crate) fn startup(text: &str) {
    to_server(None, APLOG_ERR | sys::APLOG_STARTUP, text);
}

/// The main server; null means standard error.
fn main_server() -> *mut sys::server_rec {
    // SAFETY: httpd sets the pointer before modules run; it changes only while this process reads
    // configuration, in this thread.
    unsafe { sys::ap_server_conf }
}

fn to_server(source: Option<Source<'_>>, level: c_int, text: &str) {
    let index = hook::module_index();
    let main = main_server();
    // SAFETY: a server or null.
    if unsafe { sys::mwrs_server_logs(index, level, main) } == 0 {
        return;
    }
    let place = Place::new(source);
    record(text, |line, length| {
        let (file, at) = Place::parts(place.as_ref());
        // SAFETY: a server or null, and the place is there until the end of this function; the line is
        // as long as said.
        unsafe { sys::mwrs_log_server(file, at, index, level, main, length, line) };
    });
}

fn record(text: &str, mut write: impl FnMut(*const c_char, c_int)) {
    // httpd formats C strings, which would end at a NUL.
    let text = match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\\0")),
        false => Cow::Borrowed(text),
    };
    let _together: MutexGuard<'_, ()> = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    for line in text.trim_end_matches('\n').split('\n') {
        for piece in pieces(line) {
            // A piece is at most LONGEST bytes.
            write(piece.as_ptr().cast(), c_int::try_from(piece.len()).unwrap_or(c_int::MAX));
        }
    }
}

/// A line in pieces that httpd does not cut; characters stay whole. An empty line is one empty piece.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (piece, left) = line.split_at(line.floor_char_boundary_at(LONGEST));
        rest = (!left.is_empty()).then_some(left);
        Some(piece)
    })
}

trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        if index >= self.len() {
            return self.len();
        }
        (0..=index).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

fn number(level: Level) -> c_int {
    match level {
        Level::Critical => APLOG_CRIT,
        Level::Error => APLOG_ERR,
        Level::Warning => APLOG_WARNING,
        Level::Info => APLOG_INFO,
        Level::Debug => APLOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_rather_than_cut() {
        let line = "x".repeat(LONGEST * 2 + 1);
        let split: Vec<_> = pieces(&line).collect();
        assert_eq!(split.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [7500, 7500, 1]);
        assert_eq!(split.concat(), line);
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn characters_stay_whole() {
        let line = format!("{}é", "x".repeat(LONGEST - 1));
        let split: Vec<_> = pieces(&line).collect();
        assert_eq!(split, [&line[..LONGEST - 1], "é"]);
    }
}
