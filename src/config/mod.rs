//! Floor 2: what the administrator wrote, from httpd's callbacks to what holds for one request.

#![forbid(unsafe_code)]

pub(crate) mod attach;
pub(crate) mod lookup;
pub(crate) mod resolve;
