//! The engine's exchange over httpd's own request.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use engine::os::own;
use engine::settings::request::Effective;
use engine::wsgi::{Environ, Exchange, Head, Level, ReadFault, SendFault, Source, Then};

use super::child::Child;
use super::describe::Description;
use super::paths::Paths;
use super::response::{self, Line};
use crate::apache::body::Fault;
use crate::apache::{Body, Loan, Output, Request, Tail, Verdict, log};

/// A request of httpd's as the engine sees it.
pub(crate) struct Embedded<'x, 'r> {
    request: Loan<'x, 'r>,
    effective: &'x Effective<'r>,
    paths: &'x Paths<'r>,
    child: &'x Child,
    body: Body,
    output: Output,
    progress: Progress,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing has been given to httpd.
    Nothing,
    /// The head has; nothing else can be said any more.
    Begun,
    /// httpd's error document for this status takes its place.
    Overridden(u16),
}

impl<'x, 'r> Embedded<'x, 'r> {
    /// The exchange of a request that is about to be served.
    pub(crate) fn new(
        request: &'x mut Request<'r>,
        effective: &'x Effective<'r>,
        paths: &'x Paths<'r>,
        child: &'x Child,
    ) -> Self {
        Self {
            request: Loan::new(request),
            effective,
            paths,
            child,
            body: Body::new(),
            output: Output::new(),
            progress: Progress::Nothing,
        }
    }

    /// What the handler has to say to httpd, where what happened here leaves no choice.
    pub(crate) fn settled(&self) -> Option<Verdict> {
        match self.progress {
            Progress::Begun => Some(Verdict::Ok),
            // httpd answered when it refused the body.
            _ if self.body.is_refused() => Some(Verdict::Answered),
            Progress::Overridden(status) => Some(Verdict::Status(status)),
            Progress::Nothing => None,
        }
    }

    fn begin(&mut self, head: Option<&Head>) -> Result<(), SendFault> {
        if self.body.is_refused() || own::forked() {
            // httpd has answered, or the process that this one is a copy of will; anything more would be
            // taken for another response.
            return Err(SendFault::Gone);
        }
        let Some(head) = head else { return Ok(()) };
        let line = Line {
            status: head.status(),
            text: head.line(),
            content_length: head.content_length(),
        };
        let error_override = self.effective.error_override;
        match response::begin(&self.request, &line, head.headers(), error_override) {
            Ok(()) => {
                self.progress = Progress::Begun;
                Ok(())
            }
            Err(SendFault::Overridden(status)) => {
                self.progress = Progress::Overridden(status);
                Err(SendFault::Overridden(status))
            }
            Err(SendFault::Gone) => Err(SendFault::Gone),
        }
    }
}

impl Exchange for Embedded<'_, '_> {
    fn describe(&mut self, environ: &mut Environ<'_>) {
        let description = Description {
            request: &self.request,
            effective: self.effective,
            paths: self.paths,
            pid: self.child.pid.as_bytes(),
            announced: None,
        };
        description.write(environ);
    }

    fn head_only(&self) -> bool {
        self.request.is_head()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        self.body.read(&self.request, buffer).map_err(|fault| {
            ReadFault(match fault {
                Fault::Refused => "httpd refused the request body".to_owned(),
                Fault::Broken(reason) => reason,
            })
        })
    }

    fn send(&mut self, head: Option<&Head>, blocks: &[&[u8]], then: Then) -> Result<(), SendFault> {
        self.begin(head)?;
        let tail = match then {
            Then::Flush => Tail::Flush,
            Then::End => Tail::End,
            Then::EndNow => Tail::EndAndFlush,
        };
        self.output.write(&self.request, blocks, tail).map_err(|_| SendFault::Gone)
    }

    fn send_file(
        &mut self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        self.begin(head)?;
        self.output
            .write_file(&self.request, file, offset, length, self.effective.enable_sendfile)
            .map_err(|_| SendFault::Gone)
    }

    fn abort(&mut self) {
        if self.progress == Progress::Begun && !self.body.is_refused() && !own::forked() {
            self.output.cut(&self.request);
        }
    }

    fn log(&mut self, level: Level, text: &str) {
        log::request(&self.request, level, text);
    }

    fn log_from(&mut self, source: Source<'_>, level: Level, text: &str) {
        log::request_from(&self.request, Some(source), level, text);
    }

    fn tls_variable(&mut self, name: &CStr) -> Option<Vec<u8>> {
        self.request.tls_variable(name).map(|value| value.to_bytes().to_vec())
    }

    fn logs(&self, level: Level) -> bool {
        log::wanted(&self.request, level)
    }
}
