//! Floor 3: a request arrives.

#![forbid(unsafe_code)]

pub(crate) mod child;
mod describe;
pub(crate) mod dispatch;
mod embedded;
pub(crate) mod mapping;
mod paths;
#[expect(dead_code, reason = "called once daemon groups can be configured")]
mod remote;
mod response;
