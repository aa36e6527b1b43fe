//! Numbers and texts in a payload.

use std::ffi::CStr;

use super::frame::Fault;

/// What is left of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

macro_rules! numbers {
    ($( $name:ident: $type:ident, )*) => {
        impl Reader<'_> {
            $(
                pub(super) fn $name(&mut self) -> Result<$type, Fault> {
                    self.array().map($type::from_le_bytes)
                }
            )*
        }
    };
}

numbers! { u16: u16, u32: u32, u64: u64, i64: i64, f64: f64, }

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Value("a truth value is neither 0 nor 1")),
        }
    }

    /// Bytes with their length, up to 64 KiB.
    pub(super) fn short(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// Bytes with their length.
    pub(super) fn long(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Fault::Short)?)
    }

    pub(super) fn short_text(&mut self) -> Result<&'a str, Fault> {
        text(self.short()?)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Says that nothing may be left.
    pub(super) fn end(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Trailing) }
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Value("a text is not UTF-8"))
}

/// Bytes closed by their only NUL.
pub(super) fn c_text(bytes: &[u8]) -> Result<&CStr, Fault> {
    CStr::from_bytes_with_nul(bytes)
        .map_err(|_| Fault::Value("a text has not exactly one NUL, at its end"))
}

/// Refuses a NUL where the text goes on to where one would end it.
pub(super) fn no_nul(bytes: &[u8]) -> Result<&[u8], Fault> {
    if bytes.contains(&0) { Err(Fault::Value("a text contains NUL")) } else { Ok(bytes) }
}

/// Adds bytes after their length in 16 bits. `false`: they are too long, and nothing was added.
#[must_use]
pub(super) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Ok(length) = u16::try_from(bytes.len()) else { return false };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// Adds bytes after their length in 32 bits. `false`: they are too long, and nothing was added.
#[must_use]
pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Ok(length) = u32::try_from(bytes.len()) else { return false };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// The longest beginning of a text that has at most `most` bytes and ends between characters.
pub(super) fn clip(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The longest end of a text that has at most `most` bytes and begins between characters.
pub(super) fn clip_start(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
