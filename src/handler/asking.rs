//! Scripts that httpd asks something about a request, in this child's own Python.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::settings::HookScript;
use engine::settings::request::Effective;
use engine::wsgi::{
    Asked, Engine, Environ, Exchange, Head, Key, Level, ReadFault, SendFault, Sink, Then,
    Unanswered,
};

use super::child::{self, Child};
use super::describe::Description;
use super::paths::Paths;
use crate::apache::process::SignalsHeld;
use crate::apache::{Loan, Request, log};
use crate::config::attach::ServerConfig;
use crate::config::lookup;

/// What is known of a request when a script is asked.
pub(crate) struct Matter<'x, 'r> {
    /// What is configured for it.
    pub(crate) effective: &'x Effective<'r>,
    /// Its URL in two halves.
    pub(crate) paths: &'x Paths<'r>,
    /// Whether nobody has let the client in yet: then the script sees no credentials, and some more that CGI
    /// knows.
    pub(crate) at_the_door: bool,
}

/// Asks a script. Whatever keeps it from answering is in the request's log.
pub(crate) fn ask<'r, R>(
    request: &mut Request<'r>,
    config: &ServerConfig,
    script: &HookScript,
    matter: &Matter<'_, 'r>,
    question: impl FnOnce(&Engine, &Asked<'_>, &mut dyn Exchange) -> Result<R, Unanswered>,
) -> Result<R, Unanswered> {
    let refuse = |request: &Request<'_>, reason: &str| {
        log::request(request, Level::Error, reason);
        Err(Unanswered)
    };
    let Some(child) = child::this() else {
        return refuse(request, "this child has not started");
    };
    let mtime = match modified(&script.path) {
        Ok(mtime) => mtime,
        Err(error) => {
            return refuse(request, &format!("script {} cannot be read: {error}", script.path));
        }
    };
    // Scripts are asked before there is a script name to build a group's name from.
    let group = lookup::group(request, &script.application_group, b"", child.case_sensitive);
    let _held = SignalsHeld::hold();
    let engine = match child.engine(config) {
        Ok(engine) => engine,
        Err(fault) => return refuse(request, &format!("Python is not started: {fault}")),
    };
    let asked = Asked {
        application_group: &group,
        script: script.path.as_bytes(),
        mtime,
        reloading: matter.effective.script_reloading,
    };
    let answer =
        question(engine, &asked, &mut Asking { request: Loan::new(request), matter, child });
    child::end_copy();
    answer
}

/// When a file was last changed, in microseconds since the epoch.
pub(crate) fn modified(path: &str) -> io::Result<i64> {
    let facts = fs::metadata(Path::new(OsStr::from_bytes(path.as_bytes())))?;
    Ok(facts.mtime().saturating_mul(1_000_000).saturating_add(facts.mtime_nsec() / 1000))
}

/// A request that a script is asked about: it has a log, but no body and no response.
struct Asking<'x, 'r> {
    request: Loan<'x, 'r>,
    matter: &'x Matter<'x, 'r>,
    child: &'x Child,
}

impl Exchange for Asking<'_, '_> {
    fn describe(&mut self, environ: &mut Environ<'_>) {
        let request: &Request<'_> = &self.request;
        let Matter { effective, paths, at_the_door } = *self.matter;
        let pid = self.child.pid.as_bytes();
        let description = Description { request, effective, paths, pid, announced: None };
        if !at_the_door {
            description.write(environ);
            return;
        }
        environ.var(b"SERVER_SIGNATURE", request.signature().to_bytes());
        if let Some(host) = request.remote_host() {
            environ.var(b"REMOTE_HOST", host.to_bytes());
        }
        description.write(&mut Discreet(environ));
    }

    fn head_only(&self) -> bool {
        self.request.is_head()
    }

    fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, ReadFault> {
        Err(ReadFault("there is no request body before the application runs".to_owned()))
    }

    fn send(
        &mut self,
        _head: Option<&Head>,
        _blocks: &[&[u8]],
        _then: Then,
    ) -> Result<(), SendFault> {
        Err(SendFault::Gone)
    }

    fn send_file(
        &mut self,
        _head: Option<&Head>,
        _file: OwnedFd,
        _offset: u64,
        _length: u64,
    ) -> Result<(), SendFault> {
        Err(SendFault::Gone)
    }

    fn abort(&mut self) {}

    fn log(&mut self, level: Level, text: &str) {
        log::request(&self.request, level, text);
    }

    fn tls_variable(&mut self, name: &CStr) -> Option<Vec<u8>> {
        self.request.tls_variable(name).map(|value| value.to_bytes().to_vec())
    }
}

/// An environ without the credentials that the client sent: who is asked gets what concerns it as an argument.
struct Discreet<'a, S>(&'a mut S);

impl<S: Sink> Sink for Discreet<'_, S> {
    fn set(&mut self, key: Key, value: &[u8]) {
        if !matches!(key, Key::HttpAuthorization | Key::HttpProxyAuthorization) {
            self.0.set(key, value);
        }
    }

    fn set_path(&mut self, key: Key, value: &[u8]) {
        self.0.set_path(key, value);
    }

    fn set_float(&mut self, key: Key, value: f64) {
        self.0.set_float(key, value);
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.0.header(name, value);
    }

    fn var(&mut self, name: &[u8], value: &[u8]) {
        self.0.var(name, value);
    }

    fn https(&mut self, on: bool) {
        self.0.https(on);
    }
}
