//! What the administrator wrote, as values: no files, no Apache, no unsafe.
//!
//! Directives fill these structures field by field; every field that can be left out is an
//! `Option`, and what an unset field means is said by the accessor that resolves it. See
//! `catalogue` for the list.

#![forbid(unsafe_code)]

pub mod catalogue;
pub mod daemon;
pub mod group;
pub mod hooks;
pub mod process;
pub mod proxies;
pub mod request;
pub mod server;
pub mod value;

pub use catalogue::{Apply, CATALOGUE, Entry, Scope};
pub use daemon::{DaemonProcess, DaemonSettings};
pub use group::GroupName;
pub use hooks::{HandlerScript, HookScript, HookSettings};
pub use process::{HashSeed, ImportScript, InterpreterBlock, InterpreterSettings, ProcessSettings};
pub use proxies::{Proxies, ProxySettings};
pub use request::{Callable, Effective, MapHead, PassAuthorization, RequestSettings};
pub use server::{AliasOptions, Pattern, ScriptAlias, ServerSettings, match_prefix};
pub use value::Fault;
