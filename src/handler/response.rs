//! The head of a response: status and headers, from the application to httpd.

use std::ffi::CStr;

use engine::wsgi::{Head, SendFault};

use crate::apache::Request;

/// Gives the head to httpd. With `error_override`, a status of 400 or more is not sent: httpd's error
/// document for it is, with the application's headers where that document has room for them.
pub(crate) fn begin(
    request: &Request<'_>,
    head: &Head,
    error_override: bool,
) -> Result<(), SendFault> {
    let overridden = error_override && head.status() >= 400;
    if !overridden {
        request.leave_ranges();
        request.set_status(head.status(), head.line());
        if let Some(length) = head.content_length() {
            request.set_content_length(length);
        }
    }
    let (usual, always) = (request.response_headers(), request.error_headers());
    for (name, value) in head.headers() {
        match kind(name) {
            Kind::ContentType if !overridden => request.set_content_type(value),
            // Length and type of the application's body say nothing about the error document's.
            Kind::ContentType | Kind::ContentLength => {}
            // A challenge has to survive whatever httpd makes of a 401.
            Kind::Challenge => {
                if let Some(table) = &always {
                    table.add(name, value);
                }
            }
            Kind::Other => {
                if let Some(table) = &usual {
                    table.add(name, value);
                }
            }
        }
    }
    if overridden { Err(SendFault::Overridden(head.status())) } else { Ok(()) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ContentType,
    ContentLength,
    Challenge,
    Other,
}

fn kind(name: &CStr) -> Kind {
    let name = name.to_bytes();
    // Lengths first: most headers are none of these.
    match name.len() {
        12 if name.eq_ignore_ascii_case(b"content-type") => Kind::ContentType,
        14 if name.eq_ignore_ascii_case(b"content-length") => Kind::ContentLength,
        16 if name.eq_ignore_ascii_case(b"www-authenticate") => Kind::Challenge,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_a_place_of_their_own_are_told() {
        assert_eq!(kind(c"content-TYPE"), Kind::ContentType);
        assert_eq!(kind(c"Content-Length"), Kind::ContentLength);
        assert_eq!(kind(c"WWW-Authenticate"), Kind::Challenge);
        for name in [c"Content-Typo", c"Set-Cookie", c"X", c""] {
            assert_eq!(kind(name), Kind::Other);
        }
    }
}
