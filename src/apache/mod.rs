//! Floor 1: httpd made safe. The only room that names `crate::sys`.
//!
//! Views such as [`Request`] and [`Pool`] are made by the trampolines in [`hook`] and live no longer than
//! the callback they were made for. The rules S1 to S6 that the SAFETY notes cite stand in SAFETY.md.

#![allow(unsafe_code, reason = "this room is the border to httpd; see SAFETY.md")]

pub(crate) mod account;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod facts;
pub(crate) mod guard;
pub(crate) mod hook;
pub(crate) mod loan;
pub(crate) mod log;
pub(crate) mod number;
pub(crate) mod optional;
pub(crate) mod output;
pub(crate) mod parent;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod regex;
pub(crate) mod reload;
pub(crate) mod request;
pub(crate) mod scoreboard;
pub(crate) mod server;
pub(crate) mod slot;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod wait;

pub(crate) use body::Body;
pub(crate) use command::Command;
pub(crate) use hook::Verdict;
pub(crate) use loan::Loan;
pub(crate) use output::{Output, Tail};
pub(crate) use pool::Pool;
pub(crate) use request::Request;
pub(crate) use server::Server;
pub(crate) use table::Table;

use std::ffi::{CStr, c_char};

/// The text at `pointer`; `None` for a null pointer.
///
/// # Safety
///
/// A pointer that is not null leads to a string that ends in NUL and stays unchanged for `'a`.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a CStr> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, the rest is the caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) })
}
