//! `start_response` and the `write` callable it returns (PEP 3333).

use std::ffi::CStr;
use std::sync::Arc;

use super::exchange::Then;
use super::response::Head;
use super::tls::{IsHttps, OfAdapter, VarLookup};
use super::turn::{Phase, Turn};
use super::watch;
use crate::python::{
    Args, Class, ClassSpec, Gil, Kind, Method, Obj, PyResult, Raised, bound, method,
};

/// The class whose bound methods are `start_response` and `write`; mod_wsgi has it offer what mod_ssl knows as well.
pub(super) fn class(gil: Gil<'_>) -> PyResult<Class<Turn>> {
    Class::define(
        gil,
        ClassSpec {
            name: c"mod_wsgi.Adapter",
            methods: vec![
                method::<StartResponse>(),
                method::<Write>(),
                method::<IsHttps<OfAdapter>>(),
                method::<VarLookup<OfAdapter>>(),
            ],
            getters: Vec::new(),
            next: None,
        },
    )
}

/// `start_response(status, headers[, exc_info])`
pub(super) struct StartResponse;

impl Method for StartResponse {
    type Data = Turn;
    const NAME: &'static CStr = c"start_response";

    fn call<'py>(
        gil: Gil<'py>,
        this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let over = || Raised::runtime_error(gil, "start_response() called after request completed");
        let turn = turn.ok_or_else(over)?;
        let (started, phase) = turn
            .carrier
            .with_attached(gil, |carrier| (carrier.started, carrier.phase))
            .ok_or_else(over)?;
        args.expect("start_response", 2, 3)?;
        let (Some(status), Some(headers)) = (args.at(0), args.at(1)) else { return Err(over()) };
        let exc_info = args.at(2).filter(|value| !value.is_none());
        match &exc_info {
            Some(exc_info) => {
                if !exc_info.is_kind(Kind::Tuple) {
                    return Err(Raised::type_error(
                        gil,
                        "start_response() argument 'exc_info' must be a 3-tuple or None",
                    ));
                }
                if exc_info.tuple_len() != 3 {
                    return Err(Raised::type_error(
                        gil,
                        "start_response() argument 'exc_info' must be a tuple of 3 items",
                    ));
                }
                if phase != Phase::Before {
                    return Err(Raised::again(
                        gil,
                        &exc_info.tuple_item(1)?,
                        &exc_info.tuple_item(2)?,
                    ));
                }
            }
            None if started => {
                return Err(Raised::runtime_error(
                    gil,
                    "start_response() called more than once without exc_info",
                ));
            }
            None => {}
        }
        if turn.interpreter.watch.on() {
            watch::answering(gil, turn, (&status, &headers), exc_info.as_ref())?;
        }
        let head = head(gil, &status, &headers)?;
        turn.carrier
            .with_attached(gil, |carrier| {
                carrier.status = head.status();
                carrier.head = Some(head);
                carrier.started = true;
            })
            .ok_or_else(over)?;
        bound::<Write>(gil, this)
    }
}

/// Reads and checks what `start_response` was given.
fn head<'py>(gil: Gil<'py>, status: &Obj<'py>, headers: &Obj<'py>) -> PyResult<Head> {
    let refuse = |fault: super::response::HeadFault| Raised::value_error(gil, &fault.0);
    let mut head = status.latin1(Head::new)?.map_err(refuse)?;
    if !headers.is_kind(Kind::List) {
        let message = format!("headers must be a list, not {}", headers.type_name());
        return Err(Raised::type_error(gil, &message));
    }
    let mut index = 0;
    while index < headers.list_len() {
        let item = headers.item(index)?;
        index += 1;
        let length = item.tuple_len();
        if length != 2 {
            if !item.is_kind(Kind::Tuple) {
                let message =
                    format!("list of tuples expected for headers, {} found", item.type_name());
                return Err(Raised::type_error(gil, &message));
            }
            let message = format!("tuple of length 2 expected for header, length is {length}");
            return Err(Raised::value_error(gil, &message));
        }
        let (name, value) = (item.tuple_item(0)?, item.tuple_item(1)?);
        name.latin1(|name| value.latin1(|value| head.add(name, value)))??.map_err(refuse)?;
    }
    Ok(head)
}

/// `write(data)`
pub(super) struct Write;

impl Method for Write {
    type Data = Turn;
    const NAME: &'static CStr = c"write";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("write", 1, 1)?;
        let over = || Raised::runtime_error(gil, "write() called after request completed");
        let (Some(turn), Some(data)) = (turn, args.at(0)) else { return Err(over()) };
        let Some(block) = data.bytes() else {
            let message = format!("write() argument must be bytes, not {}", data.type_name());
            return Err(Raised::type_error(gil, &message));
        };
        let phase = turn
            .carrier
            .with(gil, |carrier| {
                let before = carrier.phase;
                carrier.send(&[block], Then::Flush);
                (before, carrier.phase)
            })
            .ok_or_else(over)?;
        match phase {
            (Phase::Ended, _) => {
                Err(Raised::runtime_error(gil, "write() called after the response was complete"))
            }
            (_, Phase::Closed(None)) => {
                Err(Raised::os_error(gil, "the client has closed the connection"))
            }
            _ => Ok(Obj::none(gil)),
        }
    }
}
