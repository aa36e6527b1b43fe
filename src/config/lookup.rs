//! From a request to the interpreter and the application that serve it.

use std::borrow::Cow;
use std::ffi::CStr;

use engine::settings::request::{Callable, Effective};
use engine::settings::{GroupName, RequestSettings};

use super::attach::{DirectoryConfig, Mount, ServerConfig};
use crate::apache::Request;
use crate::apache::hook::Wiring;
use crate::apache::number::Digits;

/// What holds for a request that came in by `mount`, or by a handler where there is none.
pub(crate) fn effective<'r, W>(
    request: &Request<'r>,
    server: &'r ServerConfig,
    mount: Option<&'r Mount>,
) -> Effective<'r>
where
    W: Wiring<Directory = DirectoryConfig>,
{
    let directory = request.directory::<W>().map(|directory| &directory.request);
    let effective = RequestSettings::resolve(directory, &server.request);
    match mount {
        Some(mount) => effective.with_alias(&mount.options),
        None => effective,
    }
}

/// The name of an interpreter, empty for the main one, or of a process group, empty for httpd's own
/// processes.
pub(crate) fn group<'r>(
    request: &Request<'r>,
    group: &'r GroupName,
    script_name: &[u8],
    case_sensitive: bool,
) -> Cow<'r, str> {
    match group {
        GroupName::Name(name) => Cow::Borrowed(name),
        GroupName::Env(name) => match variable(request, name) {
            Some(value) => match GroupName::parse_value(&value) {
                GroupName::Name(name) => Cow::Owned(name),
                form => expand(request, &form, script_name, case_sensitive),
            },
            // As it stands, so that the log says which variable is missing.
            None => Cow::Owned(format!("%{{ENV:{name}}}")),
        },
        form => expand(request, form, script_name, case_sensitive),
    }
}

/// The name that a form without a text of its own stands for.
fn expand<'r>(
    request: &Request<'r>,
    form: &GroupName,
    script_name: &[u8],
    case_sensitive: bool,
) -> Cow<'r, str> {
    match form {
        GroupName::Server => in_server(request, None),
        GroupName::Host => {
            let name = request.host().unwrap_or_else(|| server_name(request));
            named(request, name, request.server_port(), None)
        }
        GroupName::Resource if case_sensitive => in_server(request, Some(script_name)),
        GroupName::Resource => in_server(request, Some(&script_name.to_ascii_lowercase())),
        GroupName::Global | GroupName::Name(_) | GroupName::Env(_) => Cow::Borrowed(""),
    }
}

/// The name of the application within the script.
pub(crate) fn callable<'r>(request: &Request<'r>, callable: Callable<'r>) -> Cow<'r, str> {
    match callable {
        Callable::Name(name) => Cow::Borrowed(name),
        Callable::Variable(name) => {
            variable(request, name).map_or(Cow::Borrowed(Callable::DEFAULT), Cow::Owned)
        }
    }
}

/// A variable: of the request's notes, of the request's environment, of the process.
fn variable(request: &Request<'_>, name: &str) -> Option<String> {
    let key = request.pool().text(&[name.as_bytes()]);
    let found = request
        .notes()
        .and_then(|notes| notes.value(key))
        .or_else(|| request.variables().and_then(|variables| variables.value(key)));
    match found {
        Some(value) => Some(decode(value.to_bytes()).into_owned()),
        None => std::env::var(name).ok(),
    }
}

fn server_name<'r>(request: &Request<'r>) -> &'r CStr {
    request.server().and_then(|server| server.name()).unwrap_or_default()
}

/// A name in this server, as the configuration alone says it. Of the port that a client writes in `Host`
/// there are too many: each would make an interpreter.
fn in_server<'r>(request: &Request<'r>, script_name: Option<&[u8]>) -> Cow<'r, str> {
    let port = request.server().map_or(0, |server| server.port());
    named(request, server_name(request), port, script_name)
}

/// `name`, the port unless it is a usual one or none is known, and the script name where one is given.
fn named<'r>(
    request: &Request<'r>,
    name: &CStr,
    port: u16,
    script_name: Option<&[u8]>,
) -> Cow<'r, str> {
    let digits = Digits::new(port.into());
    let port: [&[u8]; 2] =
        if matches!(port, 0 | 80 | 443) { [b"", b""] } else { [b":", digits.as_bytes()] };
    let script: [&[u8]; 2] = script_name.map_or([b"", b""], |script| [b"|", script]);
    let text = request.pool().text(&[name.to_bytes(), port[0], port[1], script[0], script[1]]);
    decode(text.to_bytes())
}

/// Text as UTF-8; text that is not is taken as latin-1, so that different names stay different.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_utf8_stay_different() {
        assert_eq!(decode("/é".as_bytes()), "/é");
        assert_eq!(decode(b"/\xfe"), "/þ");
        assert_ne!(decode(b"/\xfe"), decode(b"/\xff"));
    }
}
