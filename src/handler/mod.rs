//! Floor 3: a request arrives.

#![forbid(unsafe_code)]

pub(crate) mod child;
pub(crate) mod dispatch;
mod embedded;
pub(crate) mod mapping;
mod paths;
mod response;
