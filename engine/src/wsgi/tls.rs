//! What mod_ssl knows of a request's connection, for scripts and applications that run in httpd's processes.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::sync::Arc;

use super::hooks::bytes;
use super::turn::Turn;
use crate::python::{Args, Gil, Method, Obj, PyResult, Raised};

/// Under which names the two functions are found.
pub(super) trait Names: 'static {
    const IS_HTTPS: &'static CStr;
    const VAR_LOOKUP: &'static CStr;
}

/// In the environ of scripts that are asked something: after `mod_ssl.`.
pub(super) struct InEnviron;

impl Names for InEnviron {
    const IS_HTTPS: &'static CStr = c"is_https";
    const VAR_LOOKUP: &'static CStr = c"var_lookup";
}

/// As methods of what `start_response` belongs to.
pub(super) struct OfAdapter;

impl Names for OfAdapter {
    const IS_HTTPS: &'static CStr = c"ssl_is_https";
    const VAR_LOOKUP: &'static CStr = c"ssl_var_lookup";
}

/// Whether the client speaks TLS to httpd: 1 or 0.
pub(super) struct IsHttps<N>(PhantomData<N>);

impl<N: Names> Method for IsHttps<N> {
    type Data = Turn;
    const NAME: &'static CStr = N::IS_HTTPS;

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect(&N::IS_HTTPS.to_string_lossy(), 0, 0)?;
        let value = variable(gil, turn, N::IS_HTTPS, c"HTTPS")?;
        Obj::int(gil, value.is_some_and(|value| value == b"on").into())
    }
}

/// A variable of mod_ssl's by its name: a `str`, or `None`.
pub(super) struct VarLookup<N>(PhantomData<N>);

impl<N: Names> Method for VarLookup<N> {
    type Data = Turn;
    const NAME: &'static CStr = N::VAR_LOOKUP;

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let function = N::VAR_LOOKUP.to_string_lossy();
        args.expect(&function, 1, 1)?;
        let name = match args.at(0) {
            Some(name) => bytes(&name)?,
            None => None,
        };
        let Some(name) = name.and_then(|name| CString::new(name).ok()) else {
            let message =
                format!("{function}() takes the name of a variable, as str or bytes without NUL");
            return Err(Raised::type_error(gil, &message));
        };
        match variable(gil, turn, N::VAR_LOOKUP, &name)? {
            Some(value) => Obj::latin1_from(gil, &value),
            None => Ok(Obj::none(gil)),
        }
    }
}

fn variable(
    gil: Gil<'_>,
    turn: Option<&Arc<Turn>>,
    function: &CStr,
    name: &CStr,
) -> PyResult<Option<Vec<u8>>> {
    let value =
        turn.and_then(|turn| turn.carrier.with(gil, |carrier| carrier.exchange.tls_variable(name)));
    value.ok_or_else(|| {
        let function = function.to_string_lossy();
        Raised::runtime_error(gil, &format!("{function}() called after request completed"))
    })
}
