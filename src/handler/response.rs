//! The head of a response: status and headers, from the application to httpd.

use std::ffi::CStr;

use engine::wsgi::SendFault;

use crate::apache::Request;

/// The first line of a response, and what its headers say about its length.
pub(crate) struct Line<'h> {
    /// The status code.
    pub(crate) status: u16,
    /// Code and reason.
    pub(crate) text: &'h CStr,
    /// `Content-Length`, which is among the headers too.
    pub(crate) content_length: Option<u64>,
}

/// Gives the head to httpd. With `error_override`, a status of 400 or more is not sent: httpd's error
/// document for it is, with the application's headers where that document has room for them.
pub(crate) fn begin<'h>(
    request: &Request<'_>,
    line: &Line<'_>,
    headers: impl Iterator<Item = (&'h CStr, &'h CStr)>,
    error_override: bool,
) -> Result<(), SendFault> {
    let overridden = error_override && line.status >= 400;
    if !overridden {
        request.leave_ranges();
        request.set_status(line.status, line.text);
        if let Some(length) = line.content_length {
            request.set_content_length(length);
        }
    }
    let (usual, always) = (request.response_headers(), request.error_headers());
    for (name, value) in headers {
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
    if overridden { Err(SendFault::Overridden(line.status)) } else { Ok(()) }
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
