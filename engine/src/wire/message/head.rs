//! The head of a response: what the httpd child may hand to httpd without a further look.

use std::ffi::CStr;

use super::{CONNECTION_HEADERS, MAX_HEADERS};
use crate::wire::bytes::{Reader, c_text};
use crate::wire::frame::Fault;

/// Status and headers of a response, checked: nothing in them can be taken for anything else
/// further on.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    line: &'a CStr,
    status: u16,
    content_length: Option<u64>,
    count: u16,
    reader: Reader<'a>,
}

impl<'a> Head<'a> {
    /// The status code, 200 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The status line without the protocol: `200 OK`.
    #[must_use]
    pub fn line(&self) -> &'a CStr {
        self.line
    }

    /// The headers in order, repeated ones included.
    pub fn headers(&self) -> impl Iterator<Item = (&'a CStr, &'a CStr)> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| header(&mut reader).ok())
    }

    /// Value of `Content-Length`, which is among the headers too.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let line = c_text(reader.short()?)?;
        let status = status_of(line.to_bytes())?;
        let count = reader.u16()?;
        if count > MAX_HEADERS {
            return Err(Fault::TooMany);
        }
        let mut content_length = None;
        let headers = Reader::new(reader.rest());
        let mut walk = headers;
        for _ in 0..count {
            let (name, value) = header(&mut walk)?;
            let (name, value) = (name.to_bytes(), value.to_bytes());
            if name.is_empty() || !name.iter().copied().all(token) {
                return Err(Fault::Value("a header name is no token"));
            }
            if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
                return Err(Fault::Value("a header value has a control character"));
            }
            if CONNECTION_HEADERS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                return Err(Fault::Value("a header belongs to the connection"));
            }
            if name.eq_ignore_ascii_case(b"content-length") {
                let length = decimal(value).ok_or(Fault::Value("Content-Length is no number"))?;
                if content_length.replace(length).is_some() {
                    return Err(Fault::Value("Content-Length is there twice"));
                }
            }
        }
        walk.end()?;
        Ok(Self { line, status, content_length, count, reader: headers })
    }
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<(&'a CStr, &'a CStr), Fault> {
    Ok((c_text(reader.short()?)?, c_text(reader.long()?)?))
}

fn status_of(line: &[u8]) -> Result<u16, Fault> {
    let wrong = Fault::Value("a status line is none");
    let Some(([a, b, c, b' '], reason)) = line.split_first_chunk() else { return Err(wrong) };
    let digits = [*a, *b, *c];
    if !digits.iter().all(u8::is_ascii_digit) || reason.iter().any(u8::is_ascii_control) {
        return Err(wrong);
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if status < 200 { Err(wrong) } else { Ok(status) }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn decimal(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
