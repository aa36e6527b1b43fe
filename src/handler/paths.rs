//! `SCRIPT_NAME` and `PATH_INFO`, and which header names an application gets to see.

use std::borrow::Cow;
use std::ffi::CStr;

use crate::apache::Request;

/// The two halves of the URL's path, runs of slashes collapsed.
pub(crate) struct Paths<'r> {
    /// Up to and including the script.
    pub(crate) script_name: Cow<'r, [u8]>,
    /// Behind it.
    pub(crate) path_info: Cow<'r, [u8]>,
}

impl<'r> Paths<'r> {
    /// Splits the path of a request.
    pub(crate) fn of(request: &Request<'r>) -> Self {
        let uri = request.uri();
        let path_info = request.path_info();
        let end = match path_info {
            // Where it is not the end of the URL, as in a sub-request with the path info of its page, all of
            // the URL is the script's.
            Some(path_info) => Request::split_at_path_info(uri, path_info),
            None => uri.count_bytes(),
        };
        let script_name = uri.to_bytes().get(..end).unwrap_or_default();
        Self {
            script_name: collapse(script_name),
            path_info: collapse(path_info.map(CStr::to_bytes).unwrap_or_default()),
        }
    }
}

/// `path` with every run of slashes made one slash.
fn collapse(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.windows(2).any(|pair| pair == b"//") {
        return Cow::Borrowed(path);
    }
    let mut collapsed = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || collapsed.last() != Some(&b'/') {
            collapsed.push(*byte);
        }
    }
    Cow::Owned(collapsed)
}

/// The second word of a request line, as the client sent it.
pub(crate) fn original_uri(request_line: &[u8]) -> &[u8] {
    let mut words = request_line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next();
    words.next().unwrap_or_default()
}

/// Whether a header becomes an `HTTP_*` variable under its own name. Any other character than these would
/// turn into an underscore as well, so that a client could write `X_User` and have it taken for `X-User`.
pub(crate) fn is_plain(name: &[u8]) -> bool {
    name.iter().all(|byte| PLAIN[usize::from(*byte)])
}

/// By byte: looked at for each of every name.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-';
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_slashes_become_one() {
        for (path, expected) in [
            ("", ""),
            ("/", "/"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("//a///b//", "/a/b/"),
            ("a//", "a/"),
        ] {
            assert_eq!(collapse(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert!(matches!(collapse(b"/a/b"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_uri_is_the_second_word() {
        for (line, uri) in [
            ("GET /a?b HTTP/1.1", "/a?b"),
            ("GET  /a", "/a"),
            ("GET", ""),
            ("", ""),
            ("GET /a%20b HTTP/1.1", "/a%20b"),
        ] {
            assert_eq!(original_uri(line.as_bytes()), uri.as_bytes(), "{line}");
        }
    }

    #[test]
    fn header_names_that_could_pass_for_others_are_told() {
        for name in ["Host", "X-Forwarded-For", "DNT", "x1"] {
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        for name in ["X_Forwarded_For", "X.Y", "X Y", "X\u{e9}", "a!"] {
            assert!(!is_plain(name.as_bytes()), "{name}");
        }
    }
}
