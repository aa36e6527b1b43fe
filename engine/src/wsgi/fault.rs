//! What goes wrong in an application, and how the log tells it.

use super::exchange::Level;
use super::interpreter::Interpreter;
use super::run::Call;
use super::turn::Carrier;
use crate::python::{Exception, Gil};

/// What goes wrong with an application, and what it is called in the log.
pub(super) struct Fault<'py> {
    pub(super) what: &'static str,
    pub(super) exception: Exception<'py>,
    /// It is `RequestTimeout`, which somebody else has raised and said so.
    pub(super) interrupted: bool,
}

impl<'py> Fault<'py> {
    pub(super) fn new(what: &'static str, exception: Exception<'py>) -> Self {
        Self { what, exception, interrupted: false }
    }
}

/// Writes the traceback of an application's exception to the request's log.
pub(super) fn report<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    call: &Call<'_>,
    carrier: &mut Carrier<'_>,
    fault: Fault<'py>,
) {
    if fault.interrupted {
        drop(fault);
        gil.detach(|| {
            carrier.flush_log();
            carrier.exchange.log(Level::Info, "the request was ended by RequestTimeout");
        });
        return;
    }
    let text = traceback(gil, interpreter, &fault.exception);
    let text = format!(
        "{} WSGI script '{}' in {}\n{text}",
        fault.what,
        String::from_utf8_lossy(call.script),
        interpreter.title()
    );
    // Freed attached; the traceback keeps the frames of the request alive.
    drop(fault);
    gil.detach(|| {
        carrier.flush_log();
        carrier.exchange.log(Level::Error, &text);
    });
}

/// Whether an exception is the `RequestTimeout` of its interpreter.
pub(super) fn is_interruption<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    exception: &Exception<'py>,
) -> bool {
    let class = interpreter.helper(gil, c"RequestTimeout");
    let is = class.and_then(|class| exception.value.instance_of(&class));
    is.unwrap_or_else(|raised| {
        raised.clear(gil);
        false
    })
}

/// The traceback as text.
pub(super) fn traceback<'py>(
    gil: Gil<'py>,
    interpreter: &Interpreter,
    exception: &Exception<'py>,
) -> String {
    let text = interpreter
        .helper(gil, c"_format")
        .and_then(|format| format.call([&exception.value]))
        .and_then(|text| text.text());
    text.unwrap_or_else(|raised| {
        raised.clear(gil);
        format!("{} (its traceback cannot be formatted)", exception.value.type_name())
    })
}
