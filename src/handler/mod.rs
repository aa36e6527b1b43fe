//! Floor 3: a request arrives.

#![forbid(unsafe_code)]

pub(crate) mod access;
mod asking;
pub(crate) mod child;
mod describe;
pub(crate) mod dispatch;
mod dispatch_script;
mod embedded;
mod groups;
pub(crate) mod mapping;
mod paths;
mod remote;
mod response;
