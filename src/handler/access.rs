//! Who may come in: `WSGIAccessScript`, and the providers `wsgi` and `wsgi-group`.

use std::ffi::CStr;
use std::marker::PhantomData;

use engine::settings::proxies::Proxies;
use engine::settings::request::Effective;
use engine::settings::value::Words;
use engine::settings::{HookScript, HookSettings};
use engine::wsgi::{Asked, Engine, Exchange, Level, Password, Unanswered};

use super::asking::{self, Matter};
use super::paths::Paths;
use crate::apache::auth::{Authentication, Authorization, GroupProvider, UserProvider};
use crate::apache::hook::{RequestHook, Wiring};
use crate::apache::{Request, Verdict, log};
use crate::config::attach::{DirectoryConfig, ServerConfig};
use crate::config::lookup;

/// Asks `WSGIAccessScript`.
pub(crate) struct Admit<W>(PhantomData<W>);

impl<W> RequestHook for Admit<W>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    fn run(request: &mut Request<'_>) -> Verdict {
        let Some(script) = script::<W>(request, |hooks| hooks.access.as_ref()) else {
            return Verdict::Declined;
        };
        let host = request.remote_host().unwrap_or(request.client_address());
        let answer = ask::<W, _>(request, script, |engine, asked, exchange| {
            engine.allow_access(asked, exchange, host.to_bytes())
        });
        match answer {
            Ok(Some(true)) => Verdict::Ok,
            Ok(None) => Verdict::Declined,
            Ok(Some(false)) | Err(Unanswered) => {
                if answer.is_ok() && !request.password_suffices() {
                    let file = request.filename().unwrap_or_default().to_string_lossy();
                    let text = format!("client denied by {}: {file}", script.path);
                    log::request(request, Level::Error, &text);
                }
                Verdict::Status(403)
            }
        }
    }
}

/// Asks `WSGIAuthUserScript`.
pub(crate) struct Users<W>(PhantomData<W>);

impl<W> UserProvider for Users<W>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    fn check_password(request: &mut Request<'_>, user: &CStr, password: &CStr) -> Authentication {
        let Some(script) = configured::<W>(request, AUTH_USER, |hooks| hooks.auth_user.as_ref())
        else {
            return Authentication::Failed;
        };
        let answer = ask::<W, _>(request, script, |engine, asked, exchange| {
            engine.check_password(asked, exchange, user.to_bytes(), password.to_bytes())
        });
        match answer {
            Ok(Password::Right) => Authentication::Granted,
            Ok(Password::RightFor(name)) => {
                request.rename_user(request.pool().text(&[&name]));
                Authentication::Granted
            }
            Ok(Password::Wrong) => Authentication::Denied,
            Ok(Password::Unknown) => Authentication::Unknown,
            Err(Unanswered) => Authentication::Failed,
        }
    }

    fn realm_hash<'r>(
        request: &mut Request<'r>,
        user: &CStr,
        realm: &CStr,
    ) -> Result<Option<&'r CStr>, ()> {
        let script = configured::<W>(request, AUTH_USER, |hooks| hooks.auth_user.as_ref());
        let answer = ask::<W, _>(request, script.ok_or(())?, |engine, asked, exchange| {
            engine.realm_hash(asked, exchange, user.to_bytes(), realm.to_bytes())
        });
        let hash = answer.map_err(|Unanswered| ())?;
        Ok(hash.map(|hash| request.pool().text(&[&hash])))
    }
}

/// Asks `WSGIAuthGroupScript`.
pub(crate) struct Groups<W>(PhantomData<W>);

impl<W> GroupProvider for Groups<W>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    fn check(request: &mut Request<'_>, required: &CStr) -> Authorization {
        let Some(user) = request.user() else { return Authorization::NoUser };
        let Some(script) = configured::<W>(request, AUTH_GROUP, |hooks| hooks.auth_group.as_ref())
        else {
            return Authorization::Failed;
        };
        let wanted = names(required);
        let answer = ask::<W, _>(request, script, |engine, asked, exchange| {
            engine.in_group(asked, exchange, user.to_bytes(), |group| {
                wanted.iter().any(|name| name.as_bytes() == group)
            })
        });
        match answer {
            Ok(true) => Authorization::Granted,
            Ok(false) => {
                let text = format!(
                    "user '{}' is in none of the groups of 'Require wsgi-group {}'",
                    user.to_string_lossy(),
                    required.to_string_lossy()
                );
                log::request(request, Level::Info, &text);
                Authorization::Denied
            }
            Err(Unanswered) => Authorization::Failed,
        }
    }
}

const AUTH_USER: &str = "WSGIAuthUserScript";
const AUTH_GROUP: &str = "WSGIAuthGroupScript";

/// The names of groups behind `Require wsgi-group`.
fn names(required: &CStr) -> Vec<String> {
    let required = required.to_string_lossy();
    let mut words = Words::new(&required);
    std::iter::from_fn(|| words.word()).collect()
}

/// A script of the request's directory. Where none is configured this is all that is done.
fn script<'r, W>(
    request: &Request<'r>,
    which: impl FnOnce(&'r HookSettings) -> Option<&'r HookScript>,
) -> Option<&'r HookScript>
where
    W: Wiring<Directory = DirectoryConfig>,
{
    which(&request.directory::<W>()?.request.hooks)
}

/// The same where there has to be one.
fn configured<'r, W>(
    request: &Request<'r>,
    directive: &str,
    which: impl FnOnce(&'r HookSettings) -> Option<&'r HookScript>,
) -> Option<&'r HookScript>
where
    W: Wiring<Directory = DirectoryConfig>,
{
    let script = script::<W>(request, which);
    if script.is_none() {
        log::request(request, Level::Error, &format!("there is no {directive} for this request"));
    }
    script
}

fn ask<'r, W, R>(
    request: &mut Request<'r>,
    script: &HookScript,
    question: impl FnOnce(&Engine, &Asked<'_>, &mut dyn Exchange) -> Result<R, Unanswered>,
) -> Result<R, Unanswered>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    let server = request.server();
    let config = server.as_ref().and_then(|server| server.config::<W>()).ok_or(Unanswered)?;
    // Who decides whether a client may come in is told who that is, not what a header says of it.
    let proxies = Proxies::default();
    let effective = Effective { proxies, ..lookup::effective::<W>(request, config, None) };
    let paths = Paths::of(request);
    let matter = Matter { effective: &effective, paths: &paths, at_the_door: true };
    asking::ask(request, config, script, &matter, question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_everywhere_in_httpd() {
        assert_eq!(names(c"admin 'web masters' \"x y\""), ["admin", "web masters", "x y"]);
        assert_eq!(names(c""), [""; 0]);
    }
}
