//! What an application answers: the checked head, and the account of its body.

use std::ffi::CStr;

use crate::wire::message::CONNECTION_HEADERS;

/// Status and headers of a response, checked: no CR, LF or NUL anywhere, names are tokens, and headers that belong
/// to the connection are not among them.
#[derive(Clone, Debug, Default)]
pub struct Head {
    status: u16,
    /// Status line and fields, each closed by NUL.
    text: Vec<u8>,
    /// Where in `text` the names and values begin.
    fields: Vec<(u32, u32)>,
    content_length: Option<u64>,
}

/// What is wrong with a status or a header. The text is for the application's developer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeadFault(pub(super) String);

fn fault<T>(text: impl Into<String>) -> Result<T, HeadFault> {
    Err(HeadFault(text.into()))
}

impl Head {
    /// A head with this status line, `"200 OK"` or a bare `"200"`.
    pub(super) fn new(line: &[u8]) -> Result<Self, HeadFault> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits != 3 {
            return fault(format!(
                "status code must be a 3 digit integer: {:?}",
                String::from_utf8_lossy(line)
            ));
        }
        if line.len() > 3 && line[3] != b' ' {
            return fault("no space following status code");
        }
        if line[3..].iter().any(|byte| byte.is_ascii_control()) {
            return fault("control character in the reason of the status line");
        }
        let status = line[..3].iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if status < 200 {
            return fault(format!(
                "status {status} is no final status: an application answers with 200 to 999"
            ));
        }
        let mut text = Vec::with_capacity(256);
        text.extend_from_slice(line);
        if line.len() == 3 {
            text.push(b' ');
        }
        text.push(0);
        Ok(Self { status, text, fields: Vec::with_capacity(8), content_length: None })
    }

    /// Checks a header and adds it.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadFault> {
        if name.is_empty() {
            return fault("a header name is empty");
        }
        if let Some(bad) = name.iter().find(|byte| !token(**byte)) {
            return fault(format!(
                "header name {:?} contains {:?}, which is not allowed in one",
                String::from_utf8_lossy(name),
                char::from(*bad)
            ));
        }
        if let Some(bad) = value.iter().find(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return fault(format!(
                "value of header {} contains the control character {:?}",
                String::from_utf8_lossy(name),
                char::from(*bad)
            ));
        }
        // Not the application's business; PEP 3333 forbids them to it.
        if CONNECTION_HEADERS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).ok_or_else(|| {
                HeadFault(format!(
                    "invalid Content-Length header value: '{}'",
                    String::from_utf8_lossy(value)
                ))
            })?;
            match self.content_length {
                Some(other) if other != length => {
                    return fault(format!("two Content-Length headers: {other} and {length}"));
                }
                Some(_) => return Ok(()),
                None => self.content_length = Some(length),
            }
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.push(0);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.text.push(0);
        match (u32::try_from(start), u32::try_from(middle)) {
            (Ok(start), Ok(middle)) => self.fields.push((start, middle)),
            _ => return fault("the headers are larger than 4 GiB"),
        }
        Ok(())
    }

    /// The status code, 200 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The status line without the protocol: `200 OK`.
    #[must_use]
    pub fn line(&self) -> &CStr {
        self.text_at(0)
    }

    /// The headers in the order the application gave them, repeated ones included.
    pub fn headers(&self) -> impl Iterator<Item = (&CStr, &CStr)> {
        self.fields
            .iter()
            .map(|(name, value)| (self.text_at(*name as usize), self.text_at(*value as usize)))
    }

    /// Value of `Content-Length`, if the application set it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Length of the body the client is promised: none for statuses that have no body (RFC 9110 section 6.4.1).
    pub(super) fn promised(&self) -> Option<u64> {
        match self.status {
            204 | 304 => None,
            _ => self.content_length,
        }
    }

    fn text_at(&self, start: usize) -> &CStr {
        CStr::from_bytes_until_nul(&self.text[start..]).unwrap_or_default()
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// By byte: looked at for each of every name.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};

/// A number of digits only.
fn decimal(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The account of a body against the length its head promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    promised: Option<u64>,
    given: u64,
}

impl Account {
    /// An account for a body of `promised` bytes, or of any length.
    pub(super) fn new(promised: Option<u64>) -> Self {
        Self { promised, given: 0 }
    }

    /// Books a block and says how much of it may be sent.
    pub(super) fn book(&mut self, size: usize) -> usize {
        let room = self.promised.map_or(u64::MAX, |promised| promised.saturating_sub(self.given));
        let size64 = size as u64;
        self.given = self.given.saturating_add(size64);
        usize::try_from(room).map_or(size, |room| room.min(size))
    }

    /// Whether all that was promised is there.
    pub(super) fn complete(&self) -> bool {
        self.promised.is_some_and(|promised| self.given >= promised)
    }

    /// `(promised, given)` where they differ.
    pub(super) fn mismatch(&self) -> Option<(u64, u64)> {
        self.promised
            .filter(|promised| *promised != self.given)
            .map(|promised| (promised, self.given))
    }

    /// Whether fewer bytes came than promised.
    pub(super) fn short(&self) -> bool {
        self.promised.is_some_and(|promised| self.given < promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_checked() {
        for (line, good) in [
            ("200 OK", true),
            ("200", true),
            ("200 ", true),
            ("299 Odd thing", true),
            ("999 x", true),
            ("", false),
            ("20", false),
            ("2000 OK", false),
            ("abc OK", false),
            ("200OK", false),
            ("200 O\rK", false),
            ("200 O\0K", false),
            ("100 Continue", false),
            ("101 Switching", false),
            ("099 x", false),
            ("000 x", false),
        ] {
            assert_eq!(Head::new(line.as_bytes()).is_ok(), good, "{line:?}");
        }
        assert_eq!(Head::new(b"404 Gone fishing").unwrap().line(), c"404 Gone fishing");
        assert_eq!(Head::new(b"404").unwrap().line(), c"404 ");
    }

    #[test]
    fn headers_are_checked_and_kept_in_order() {
        let mut head = Head::new(b"200 OK").unwrap();
        for (name, value) in
            [("B", "1"), ("a", ""), ("B", "2\t\u{e9}"), ("Transfer-Encoding", "chunked")]
        {
            head.add(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let kept: Vec<_> =
            head.headers().map(|(name, value)| (name.to_bytes(), value.to_bytes())).collect();
        assert_eq!(kept, [(&b"B"[..], &b"1"[..]), (b"a", b""), (b"B", "2\t\u{e9}".as_bytes())]);
        for (name, value) in [
            ("", "x"),
            ("X:Y", "x"),
            ("X Y", "x"),
            ("X\r", "x"),
            ("X\u{e9}", "x"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("Content-Length", "x"),
            ("Content-Length", "-1"),
            ("Content-Length", "+1"),
            ("Content-Length", ""),
            ("Content-Length", "99999999999999999999999"),
        ] {
            assert!(head.add(name.as_bytes(), value.as_bytes()).is_err(), "{name:?}: {value:?}");
        }
        head.add(b"content-length", b"12").unwrap();
        head.add(b"Content-Length", b"12").unwrap();
        assert!(head.add(b"Content-Length", b"13").is_err());
        assert_eq!(head.content_length(), Some(12));
    }

    #[test]
    fn the_account_clips_and_tells() {
        let mut account = Account::new(Some(5));
        assert_eq!(account.book(3), 3);
        assert!(!account.complete() && account.short());
        assert_eq!(account.book(4), 2);
        assert!(account.complete());
        assert_eq!(account.mismatch(), Some((5, 7)));
        let mut free = Account::new(None);
        assert_eq!(free.book(9), 9);
        assert!(!free.complete() && free.mismatch().is_none());
    }
}
