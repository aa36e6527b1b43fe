//! A request for a script: may it run, and what does its answer mean to httpd?

use std::borrow::Cow;
use std::ffi::{CStr, OsStr};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use engine::settings::request::Effective;
use engine::settings::{GroupName, HandlerScript};
use engine::wire::message::Target;
use engine::wsgi::{Call, Level, Outcome};

use super::child::{self, Child};
use super::embedded::Embedded;
use super::groups::Group;
use super::mapping::{self, HANDLER};
use super::paths::Paths;
use super::remote::{self, Task};
use super::{asking, dispatch_script};
use crate::apache::hook::{RequestHook, Wiring};
use crate::apache::process::SignalsHeld;
use crate::apache::request::FileKind;
use crate::apache::{Request, Verdict, log};
use crate::config::attach::{DirectoryConfig, MountIndex, ServerConfig};
use crate::config::lookup;
use crate::daemon::link::GroupLink;

/// Answers requests whose handler is ours.
pub(crate) struct Answer<W>(PhantomData<W>);

impl<W> RequestHook for Answer<W>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig, Request = MountIndex>,
{
    fn run(request: &mut Request<'_>) -> Verdict {
        let Some(handler) = request.handler() else { return Verdict::Declined };
        let Some(server) = request.server() else { return Verdict::Declined };
        let Some(config) = server.config::<W>() else { return Verdict::Declined };
        let ours = handler == HANDLER || handler == c"application/x-httpd-wsgi";
        let script = if ours { None } else { handler_script::<W>(request, config, handler) };
        if !ours && script.is_none() {
            return Verdict::Declined;
        }
        match answer::<W>(request, config, script) {
            Ok(verdict) => verdict,
            Err(refusal) => {
                log::request(request, Level::Error, &refusal.reason);
                Verdict::Status(refusal.status)
            }
        }
    }
}

/// Why a request is not given to an application.
struct Refusal {
    status: u16,
    reason: String,
}

fn refuse<T>(status: u16, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, reason: reason.into() })
}

/// The script that `WSGIHandlerScript` gives a handler's name.
fn handler_script<'r, W>(
    request: &Request<'r>,
    config: &'r ServerConfig,
    handler: &CStr,
) -> Option<&'r HandlerScript>
where
    W: Wiring<Directory = DirectoryConfig>,
{
    let directory = request.directory::<W>().map(|directory| &directory.request.hooks);
    let name = handler.to_bytes();
    directory.and_then(|hooks| hooks.handler(name)).or_else(|| config.request.hooks.handler(name))
}

fn answer<'r, W>(
    request: &mut Request<'r>,
    config: &'r ServerConfig,
    handler: Option<&'r HandlerScript>,
) -> Result<Verdict, Refusal>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig, Request = MountIndex>,
{
    let aliased = handler.is_none() && mapping::is_aliased(request);
    if handler.is_none() {
        admit_file(request, aliased)?;
    }
    admit_path_info(request)?;
    let mount = if aliased {
        let index = request.recall::<W>().copied().or_else(|| {
            // An internal redirect that keeps the file (DirectoryIndex) comes without our own record.
            mapping::find(request, config).map(|(index, _)| index)
        });
        index.and_then(|index| config.mounts.get(index.0)).map(|mount| &**mount)
    } else {
        None
    };
    let effective = lookup::effective::<W>(request, config, mount);
    let effective = handler.map_or(effective, |script| effective.with_handler(script));
    admit_body(request, &effective)?;

    let Some(child) = child::this() else { return refuse(500, "this child has not started") };
    let paths = Paths::of(request);
    let Ok(effective) = dispatch_script::decide(request, config, effective, &paths) else {
        return Ok(Verdict::Status(500));
    };
    let case_sensitive = child.case_sensitive;
    let process_group =
        lookup::group(request, effective.process_group, &paths.script_name, case_sensitive);
    if !effective.admits(&process_group) {
        return refuse(
            500,
            format!("WSGIRestrictProcess does not allow process group '{process_group}' here"),
        );
    }
    if !process_group.is_empty() {
        let group = find_group(child, &process_group, request)?;
        return remote(request, &effective, &paths, child, group);
    }
    if child.restricted {
        return refuse(
            500,
            "WSGIRestrictEmbedded is On: no application may run in httpd's own processes",
        );
    }
    let application_group = lookup::group(
        request,
        effective.application_group,
        resource(&effective, &paths),
        case_sensitive,
    );
    let callable = lookup::callable(request, effective.callable);
    let (script, mtime) = script(request, &effective);

    let _held = SignalsHeld::hold();
    let engine = match child.engine(config) {
        Ok(engine) => engine,
        Err(fault) => return refuse(500, format!("Python is not started: {fault}")),
    };
    let call = Call {
        application_group: &application_group,
        script,
        mtime,
        callable: &callable,
        reloading: effective.script_reloading,
        handler: request.handler().unwrap_or_default().to_bytes(),
        resource: Some(request.filename().unwrap_or_default().to_bytes()),
    };
    let mut exchange = Embedded::new(request, &effective, &paths, child);
    let outcome = engine.serve(&call, &mut exchange);
    child::end_copy();
    Ok(match exchange.settled() {
        Some(verdict) => verdict,
        None => match outcome {
            Outcome::Sent => Verdict::Ok,
            Outcome::Refused(status) => Verdict::Status(status),
        },
    })
}

/// What `%{RESOURCE}` means within its server: where the script is mounted, or the name of the handler, which
/// is one however many URLs lead to it.
fn resource<'e>(effective: &Effective<'e>, paths: &'e Paths<'_>) -> &'e [u8] {
    effective.handler.map_or(&paths.script_name, |script| script.name.as_bytes())
}

/// The script that answers, and when it was last changed.
fn script<'r>(request: &Request<'r>, effective: &Effective<'r>) -> (&'r [u8], i64) {
    match effective.handler {
        // A file that is gone is another one than the one that was loaded.
        Some(script) => (script.path.as_bytes(), asking::modified(&script.path).unwrap_or(0)),
        None => (request.filename().unwrap_or_default().to_bytes(), request.file_mtime()),
    }
}

/// The daemon process group of this name, if the request may use it.
fn find_group<'c>(
    child: &'c Child,
    name: &str,
    request: &Request<'_>,
) -> Result<&'c Group, Refusal> {
    let Some(group) = child.groups.get(name) else {
        return refuse(
            500,
            format!("no daemon process group called '{name}' runs and serves requests"),
        );
    };
    let server = request.server().and_then(|server| server.name()).unwrap_or_default();
    if !group.link.is_for(&server.to_string_lossy()) {
        return refuse(
            500,
            format!(
                "daemon process group '{name}' is defined in another virtual host, whose requests \
                 alone may use it"
            ),
        );
    }
    Ok(group)
}

/// Has a daemon process answer.
fn remote<'r>(
    request: &mut Request<'r>,
    effective: &Effective<'r>,
    paths: &Paths<'r>,
    child: &Child,
    group: &Group,
) -> Result<Verdict, Refusal> {
    let (script, mtime) = script(request, effective);
    let callable = lookup::callable(request, effective.callable);
    let application_group = |link: &GroupLink| match effective.application_group {
        // The default: an application that is alone gets the interpreter that every extension knows.
        GroupName::Resource if link.main_interpreter => Cow::Borrowed(""),
        named => lookup::group(request, named, resource(effective, paths), child.case_sensitive),
    };
    let group =
        group.serving(|link| link.mount(script, &application_group(link), &callable).is_some());
    let link = group.link;
    if let Some(reason) = group.forbids(Path::new(OsStr::from_bytes(script))) {
        return refuse(403, reason);
    }
    let application_group = application_group(link);
    let target = match link.mount(script, &application_group, &callable) {
        Some(id) => Target::Mount(id),
        None => match link.inside(script) {
            Some(path) => {
                Target::Script { path, application_group: &application_group, callable: &callable }
            }
            None => {
                let shown = String::from_utf8_lossy(script);
                return refuse(
                    500,
                    format!("{shown} is not under the chroot= of process group '{}'", link.name),
                );
            }
        },
    };
    let task = Task {
        effective,
        mtime,
        paths,
        target,
        pid: child.pid.as_bytes(),
        ignore_activity: effective.ignore_activity,
    };
    Ok(remote::answer(request, &task, &group.remote))
}

/// May this file run?
fn admit_file(request: &Request<'_>, aliased: bool) -> Result<(), Refusal> {
    let file = || request.filename().unwrap_or_default().to_string_lossy();
    if !aliased && !request.may_execute() {
        return refuse(403, format!("Options ExecCGI is off in this directory: {}", file()));
    }
    match request.file_kind() {
        FileKind::Missing => {
            refuse(404, format!("there is no such script, or it cannot be read: {}", file()))
        }
        FileKind::Directory => refuse(403, format!("a directory is no WSGI script: {}", file())),
        FileKind::File => Ok(()),
    }
}

/// May something stand behind the file in its URL?
fn admit_path_info(request: &Request<'_>) -> Result<(), Refusal> {
    if request.rejects_path_info() && request.path_info().is_some() {
        let file = request.filename().unwrap_or_default().to_string_lossy();
        return refuse(404, format!("AcceptPathInfo is Off for this script: {file}"));
    }
    Ok(())
}

/// Can its body be given to an application?
fn admit_body(request: &Request<'_>, effective: &Effective<'_>) -> Result<(), Refusal> {
    if let Some(coding) = request.header(c"Transfer-Encoding") {
        if !coding.to_bytes().eq_ignore_ascii_case(b"chunked") {
            let coding = coding.to_string_lossy();
            return refuse(501, format!("Transfer-Encoding '{coding}' is not supported"));
        }
        if !effective.chunked_request {
            return refuse(411, "WSGIChunkedRequest is Off, and the request body is chunked");
        }
    }
    if let Some(given) = request.header(c"Content-Length") {
        let Some(length) = decimal(given.to_bytes()) else {
            let given = given.to_string_lossy();
            return refuse(400, format!("Content-Length '{given}' is not a length"));
        };
        if let Some(limit) = request.body_limit()
            && length > limit
        {
            return refuse(
                413,
                format!("a request body of {length} bytes is more than LimitRequestBody {limit}"),
            );
        }
    }
    Ok(())
}

/// A length as HTTP writes it: digits and nothing else, of what a file can be long.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    u64::try_from(length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits() {
        for (text, length) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("0x1", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), length, "{text:?}");
        }
    }
}
