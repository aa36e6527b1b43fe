//! What a carrier offers the engine: one HTTP exchange, by whatever way it arrived.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;

use super::environ::Environ;
use super::response::Head;

/// One request and its response. Embedded mode implements it over httpd's request, daemon mode over
/// the socket.
///
/// The engine calls every method but [`Exchange::describe`] *detached* (without the GIL), one call at a
/// time, possibly from another thread than the one that serves the request: an application may read its
/// input in a thread of its own while the serving thread waits.
pub trait Exchange: Send {
    /// Puts the CGI variables, request headers and server facts into `environ`. Called once, attached,
    /// before the application; must not wait.
    fn describe(&mut self, environ: &mut Environ<'_>);

    /// Whether the client asked for the head only (HEAD): a body that is missing is no fault then.
    fn head_only(&self) -> bool;

    /// Reads request body into `buffer`, at most its length; waits for at least one byte. 0 is the end.
    /// Sends `100 Continue` where the client waits for it (also when `buffer` is empty).
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault>;

    /// Sends body blocks, in order. `head` is given with the first call of a response and only there;
    /// `blocks` may be empty. [`Then::Flush`] means that all so far has to be on its way to the client,
    /// [`Then::End`] that the response is complete.
    fn send(&mut self, head: Option<&Head>, blocks: &[&[u8]], then: Then) -> Result<(), SendFault>;

    /// Sends `length` bytes of a regular file from `offset` as the whole of the body and ends the
    /// response. The descriptor is this call's to close, whatever happens.
    fn send_file(
        &mut self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault>;

    /// The response cannot be completed although its head has gone: cut it so that the client sees it.
    fn abort(&mut self);

    /// Writes text to the log of the request (virtual host, level, request id). Lines are separated by
    /// `\n`; the lines of one call stay together.
    fn log(&mut self, level: Level, text: &str);

    /// What mod_ssl knows of the connection under a name such as `SSL_CLIENT_S_DN`; `HTTPS` is `on` or `off`. A
    /// carrier that is not in httpd's processes knows nothing.
    fn tls_variable(&mut self, _name: &CStr) -> Option<Vec<u8>> {
        None
    }

    /// As [`Exchange::log`], for a record that says where in the application it was made. A carrier that has no use
    /// for that leaves it out.
    fn log_from(&mut self, source: Source<'_>, level: Level, text: &str) {
        let _ = source;
        self.log(level, text);
    }

    /// Whether a [`Exchange::send`] of so many bytes would not wait now. Attached. It is then made attached: to give
    /// the GIL to others and to take it again costs more than such a send does.
    fn takes_at_once(&mut self, size: usize) -> bool {
        let _ = size;
        false
    }

    /// Whether a record of this level gets into the log. Attached; must not wait. A carrier that does not know says
    /// yes.
    fn logs(&self, level: Level) -> bool {
        let _ = level;
        true
    }

    /// How many connections were made to a daemon process for this request; none in embedded mode. Attached.
    fn connects(&self) -> u32 {
        0
    }
}

/// Where in an application a log record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Path of the file.
    pub path: &'a str,
    /// Line in it, from 1 on; 0 is not known.
    pub line: u32,
}

/// What follows the blocks of one [`Exchange::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More may come, at any time: what was given must reach the client now.
    Flush,
    /// The response is complete; the carrier sends it when it sees fit.
    End,
    /// The response is complete and the application goes on running (`close()`): send it now.
    EndNow,
}

/// Severity of a log record, with httpd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A condition that needs an administrator.
    Critical,
    /// A request or a process failed.
    Error,
    /// Something is off but was served.
    Warning,
    /// Life of processes and interpreters.
    Info,
    /// For whoever debugs an application or this module.
    Debug,
}

/// Why the request body could not be read. The text is shown to the application in an `OSError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFault(pub String);

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a response stops here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// The client is gone; nobody will see the rest.
    Gone,
    /// The carrier replaces the response by its own error document for this status
    /// (`WSGIErrorOverride`); the application's body is not wanted. Only in answer to a `head`.
    Overridden(u16),
}
