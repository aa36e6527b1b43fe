//! Scripts that are asked something about a request: who may come in, who somebody is, which application
//! is meant. They run attached like an application and have the request's log, but no body and no response.

use std::ffi::CStr;
use std::sync::Arc;

use super::engine::Engine;
use super::environ::{Environ, Key};
use super::exchange::{Exchange, Level};
use super::fault::{self, Fault};
use super::run::{self, Call};
use super::script::{Found, Loaded, Target};
use super::tls::{InEnviron, IsHttps, VarLookup};
use super::turn::{self, Carrier, Turn};
use super::watch::Story;
use crate::python::lend::Lent;
use crate::python::{Exception, Gil, Kind, Obj, PyResult, Raised, bound};

/// A script that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Name of the interpreter; empty is the main one.
    pub application_group: &'a str,
    /// Path of the script file.
    pub script: &'a [u8],
    /// Its modification time in microseconds.
    pub mtime: i64,
    /// Whether a changed file is loaded again.
    pub reloading: bool,
}

/// There is no answer: the script failed, or answered what it may not. The reason is in the request's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// What a script says of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// It does not know the user; somebody else may.
    Unknown,
    /// It is wrong.
    Wrong,
    /// It is right.
    Right,
    /// It is right, and the user is to be called by this name; not empty and without NUL.
    RightFor(Vec<u8>),
}

/// Where a script wants a request to run; `None` leaves it as configured. Texts may be forms such as
/// `%{SERVER}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The process group.
    pub process_group: Option<Vec<u8>>,
    /// The interpreter.
    pub application_group: Option<Vec<u8>>,
    /// The name of the application.
    pub callable: Option<Vec<u8>>,
}

impl Engine {
    /// Asks `allow_access(environ, host)`: `None` is "others decide". Detached, as all that follow.
    ///
    /// # Errors
    /// There is no answer.
    pub fn allow_access(
        &self,
        asked: &Asked<'_>,
        exchange: &mut dyn Exchange,
        host: &[u8],
    ) -> Result<Option<bool>, Unanswered> {
        let name = c"allow_access";
        self.consult(asked, exchange, name, true, |question| {
            let gil = question.gil;
            let Some(function) = question.function(name)? else { return Ok(None) };
            let answer = function.call([&question.environ, &Obj::latin1_from(gil, host)?])?;
            if answer.is_none() {
                return Ok(Some(None));
            }
            match flag(gil, &answer)? {
                Some(flag) => Ok(Some(Some(flag))),
                None => Err(wrong(gil, name, "None, True or False", &answer)),
            }
        })
    }

    /// Asks `check_password(environ, user, password)`.
    ///
    /// # Errors
    /// There is no answer.
    pub fn check_password(
        &self,
        asked: &Asked<'_>,
        exchange: &mut dyn Exchange,
        user: &[u8],
        password: &[u8],
    ) -> Result<Password, Unanswered> {
        let name = c"check_password";
        self.consult(asked, exchange, name, true, |question| {
            let gil = question.gil;
            let Some(function) = question.function(name)? else { return Ok(None) };
            let (user, password) = (Obj::latin1_from(gil, user)?, Obj::latin1_from(gil, password)?);
            let answer = function.call([&question.environ, &user, &password])?;
            if answer.is_none() {
                return Ok(Some(Password::Unknown));
            }
            if answer.is_kind(Kind::Str) {
                let name = usable(gil, name, answer.text()?.into_bytes())?;
                return Ok(Some(Password::RightFor(name)));
            }
            match flag(gil, &answer)? {
                Some(true) => Ok(Some(Password::Right)),
                Some(false) => Ok(Some(Password::Wrong)),
                None => Err(wrong(gil, name, "None, True, False or the name of a user", &answer)),
            }
        })
    }

    /// Asks `get_realm_hash(environ, user, realm)`: the hash is not empty and without NUL; `None` is "no such
    /// user".
    ///
    /// # Errors
    /// There is no answer.
    pub fn realm_hash(
        &self,
        asked: &Asked<'_>,
        exchange: &mut dyn Exchange,
        user: &[u8],
        realm: &[u8],
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        let name = c"get_realm_hash";
        self.consult(asked, exchange, name, true, |question| {
            let gil = question.gil;
            let Some(function) = question.function(name)? else { return Ok(None) };
            let (user, realm) = (Obj::latin1_from(gil, user)?, Obj::latin1_from(gil, realm)?);
            let answer = function.call([&question.environ, &user, &realm])?;
            if answer.is_none() {
                return Ok(Some(None));
            }
            match bytes(&answer)? {
                Some(hash) => usable(gil, name, hash).map(|hash| Some(Some(hash))),
                None => Err(wrong(gil, name, "None, str or bytes", &answer)),
            }
        })
    }

    /// Asks `groups_for_user(environ, user)`: whether one of the groups is one that `wanted` wants. A `str` that has
    /// characters outside of ASCII is tried as latin-1 and as UTF-8.
    ///
    /// # Errors
    /// There is no answer.
    pub fn in_group(
        &self,
        asked: &Asked<'_>,
        exchange: &mut dyn Exchange,
        user: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Unanswered> {
        let name = c"groups_for_user";
        self.consult(asked, exchange, name, true, |question| {
            let gil = question.gil;
            let Some(function) = question.function(name)? else { return Ok(None) };
            let answer = function.call([&question.environ, &Obj::latin1_from(gil, user)?])?;
            if answer.is_kind(Kind::Str) || answer.is_kind(Kind::Bytes) {
                // Iterable as well, but of single characters.
                return Err(wrong(gil, name, "an iterable of groups", &answer));
            }
            let groups = answer.iter()?;
            let mut found = false;
            // To the end, so that a wrong item is found whatever stands before it.
            while let Some(group) = groups.next()? {
                found |= match group.bytes() {
                    Some(bytes) => wanted(bytes),
                    None if group.is_kind(Kind::Str) => {
                        let text = group.text()?;
                        let latin1: Option<Vec<u8>> =
                            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                        wanted(text.as_bytes()) || latin1.is_some_and(|latin1| wanted(&latin1))
                    }
                    None => return Err(wrong(gil, name, "an iterable of str or bytes", &group)),
                };
            }
            Ok(Some(found))
        })
    }

    /// Asks `process_group(environ)`, `application_group(environ)` and `callable_object(environ)`, of which the
    /// script has those it wants.
    ///
    /// # Errors
    /// There is no answer.
    pub fn place(
        &self,
        asked: &Asked<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Place, Unanswered> {
        self.consult(asked, exchange, c"process_group", false, |question| {
            let answer = |name: &CStr| {
                let Some(function) = question.function(name)? else { return Ok(None) };
                let answer = function.call([&question.environ])?;
                if answer.is_none() {
                    return Ok(None);
                }
                match bytes(&answer)? {
                    Some(text) if text.contains(&0) => Err(nul(question.gil, name)),
                    Some(text) => Ok(Some(text)),
                    None => Err(wrong(question.gil, name, "None, str or bytes", &answer)),
                }
            };
            Ok(Some(Place {
                process_group: answer(c"process_group")?,
                application_group: answer(c"application_group")?,
                callable: answer(c"callable_object")?,
            }))
        })
    }

    /// Has `work` ask a script. It says `None` where the script lacks the function `name`. With `tls` the environ
    /// offers what mod_ssl knows.
    fn consult<R>(
        &self,
        asked: &Asked<'_>,
        exchange: &mut (dyn Exchange + '_),
        name: &CStr,
        tls: bool,
        work: impl for<'py> FnOnce(&Question<'py>) -> PyResult<Option<R>>,
    ) -> Result<R, Unanswered> {
        let interpreter = match self.interpreter(asked.application_group) {
            Ok(interpreter) => interpreter,
            Err(fault) => {
                exchange.log(Level::Error, &fault);
                return Err(Unanswered);
            }
        };
        let mut carrier = Carrier::new(exchange);
        let turn =
            Arc::new(Turn { interpreter, carrier: Lent::default(), story: Story::default() });
        let call = Call {
            application_group: asked.application_group,
            script: asked.script,
            mtime: asked.mtime,
            callable: "",
            reloading: asked.reloading,
            handler: b"",
            resource: None,
        };
        let answer = turn::serving(&turn, || {
            interpreter.home.attach(|gil| {
                let answer = ask(gil, &call, &turn, &mut carrier, (name, tls), work);
                let answer = answer.unwrap_or_else(|raised| {
                    let exception = Exception::take(gil, raised);
                    let fault = Fault::new("exception raised by", exception);
                    fault::report(gil, interpreter, &call, &mut carrier, fault);
                    None
                });
                turn.story.forget(gil);
                answer
            })
        });
        carrier.flush_log();
        answer.ok_or(Unanswered)
    }
}

/// A script and what it is asked with.
struct Question<'a> {
    gil: Gil<'a>,
    loaded: &'a Loaded,
    environ: Obj<'a>,
}

impl<'a> Question<'a> {
    fn function(&self, name: &CStr) -> PyResult<Option<Obj<'a>>> {
        self.loaded.global(self.gil, name)
    }
}

/// The attached part; `None` where the reason why there is no answer has been logged.
fn ask<R>(
    gil: Gil<'_>,
    call: &Call<'_>,
    turn: &Arc<Turn>,
    carrier: &mut Carrier<'_>,
    (name, tls): (&CStr, bool),
    work: impl for<'a> FnOnce(&Question<'a>) -> PyResult<Option<R>>,
) -> PyResult<Option<R>> {
    let interpreter = turn.interpreter;
    let found = turn.carrier.lend(gil, carrier, || run::load(gil, interpreter, call))?;
    let Found::Ready(loaded) = found else {
        gil.detach(|| carrier.exchange.log(Level::Error, run::FAILED_ELSEWHERE));
        return Ok(None);
    };
    let target = loaded.target(gil, &name.to_string_lossy(), || interpreter.hook_template(gil))?;
    let environ = environ(gil, turn, carrier, &target, tls)?;
    let question = Question { gil, loaded: &loaded, environ };
    let answer = turn.carrier.lend(gil, carrier, || work(&question))?;
    if answer.is_none() {
        let text = format!(
            "the script {} has no function '{}'",
            String::from_utf8_lossy(call.script),
            name.to_string_lossy()
        );
        gil.detach(|| carrier.exchange.log(Level::Error, &text));
    }
    Ok(answer)
}

fn environ<'a>(
    gil: Gil<'a>,
    turn: &Arc<Turn>,
    carrier: &mut Carrier<'_>,
    target: &'a Target,
    tls: bool,
) -> PyResult<Obj<'a>> {
    let interpreter = turn.interpreter;
    let mut environ = Environ::new(gil, &interpreter.names, &target.template)?;
    environ.set(Key::ListenerHost, b"");
    carrier.exchange.describe(&mut environ);
    environ.set_object(Key::Errors, &interpreter.errors.instance(gil, Arc::clone(turn))?)?;
    let environ = environ.finish()?;
    for key in [Key::QueueStart, Key::DaemonStart] {
        environ.dict_del(interpreter.names.key(gil, key))?;
    }
    if tls {
        let adapter = interpreter.adapter.instance(gil, Arc::clone(turn))?;
        for (name, function) in [
            (c"mod_ssl.is_https", bound::<IsHttps<InEnviron>>(gil, &adapter)?),
            (c"mod_ssl.var_lookup", bound::<VarLookup<InEnviron>>(gil, &adapter)?),
        ] {
            environ.dict_set(&Obj::interned(gil, name)?, &function)?;
        }
    }
    Ok(environ)
}

/// `True` or `False` itself; `None` for anything else, whatever its truth.
fn flag<'py>(gil: Gil<'py>, answer: &Obj<'py>) -> PyResult<Option<bool>> {
    for flag in [true, false] {
        if answer.is(&Obj::bool(gil, flag)?) {
            return Ok(Some(flag));
        }
    }
    Ok(None)
}

/// What `bytes`, or a `str` as latin-1, hold; `None` for other types.
pub(super) fn bytes(answer: &Obj<'_>) -> PyResult<Option<Vec<u8>>> {
    if let Some(bytes) = answer.bytes() {
        return Ok(Some(bytes.to_vec()));
    }
    if answer.is_kind(Kind::Str) { answer.latin1(|bytes| Some(bytes.to_vec())) } else { Ok(None) }
}

/// A text that httpd can keep as it is.
fn usable(gil: Gil<'_>, function: &CStr, text: Vec<u8>) -> PyResult<Vec<u8>> {
    if text.is_empty() {
        let message = format!("{}() returned an empty string", function.to_string_lossy());
        return Err(Raised::value_error(gil, &message));
    }
    if text.contains(&0) { Err(nul(gil, function)) } else { Ok(text) }
}

fn nul(gil: Gil<'_>, function: &CStr) -> Raised {
    let message = format!("{}() returned a string with a NUL in it", function.to_string_lossy());
    Raised::value_error(gil, &message)
}

fn wrong(gil: Gil<'_>, function: &CStr, wanted: &str, answer: &Obj<'_>) -> Raised {
    let function = function.to_string_lossy();
    let message = format!("{function}() must return {wanted}, not {}", answer.type_name());
    Raised::type_error(gil, &message)
}
