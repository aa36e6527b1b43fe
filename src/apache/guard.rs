//! The panic fence: no panic leaves a callback (S5).

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use engine::wsgi::Level;

use super::log;

/// Runs the body of one callback. A panic ends it with `failure`; its message, file and line are in the
/// error log by then (see [`install`]).
pub(crate) fn fence<T>(failure: T, body: impl FnOnce() -> T) -> T {
    // AssertUnwindSafe: what a panic leaves half done is this request's or this start's alone; what
    // outlives it is frozen configuration (S3) or behind locks that are not poisoned by design.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(failure)
}

/// Sends the message of every panic in this module to httpd's error log. The hook belongs to this
/// module's own copy of the standard library, so no other Rust code in the process is affected.
pub(crate) fn install() {
    panic::set_hook(Box::new(|panic| log::server(Level::Critical, &describe(panic))));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let message = message(panic.payload());
    match panic.location() {
        Some(at) => {
            format!("mod_wsgi_rs panicked at {}:{}: {message}", at.file(), at.line())
        }
        None => format!("mod_wsgi_rs panicked: {message}"),
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(no message)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_failure_value() {
        assert_eq!(fence(500, || panic!("on purpose")), 500);
        assert_eq!(fence(500, || 200), 200);
    }

    #[test]
    fn both_kinds_of_payload_are_read() {
        assert_eq!(message(&"static"), "static");
        assert_eq!(message(&String::from("owned")), "owned");
        assert_eq!(message(&7_u8), "(no message)");
    }
}
