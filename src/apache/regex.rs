//! httpd's regular expressions.

use std::ffi::{CStr, CString, c_char};

use super::Pool;
use crate::sys;

/// A compiled expression, owned by us and freed when dropped.
pub(crate) struct Regex {
    // Boxed: httpd's functions take its address, and the value may move with its owner.
    raw: Box<sys::ap_regex_t>,
}

// SAFETY: ap_regexec only reads the compiled expression; httpd shares its own between threads so (S2).
unsafe impl Send for Regex {}
// SAFETY: as above.
unsafe impl Sync for Regex {}

/// Where an expression matched in the subject, whole match and groups.
pub(crate) struct Matches {
    spans: [sys::ap_regmatch_t; GROUPS],
}

const GROUPS: usize = sys::AP_MAX_REG_MATCH as usize;

impl Regex {
    /// Compiles an expression; the error says what is wrong with it.
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        let text = CString::new(pattern).map_err(|_| "a NUL in the expression".to_owned())?;
        // SAFETY: a structure of integers and pointers, for which zero is a value; regcomp fills it.
        let mut raw = Box::new(unsafe { std::mem::zeroed::<sys::ap_regex_t>() });
        // SAFETY: both are valid for the call; the expression keeps no reference to its text.
        let code = unsafe { sys::ap_regcomp(&raw mut *raw, text.as_ptr(), sys::AP_REG_EXTENDED) };
        if code == 0 {
            return Ok(Self { raw });
        }
        let mut buffer = [0_u8; 200];
        // SAFETY: the buffer is of the length given; regerror ends what it writes with NUL.
        unsafe {
            sys::ap_regerror(
                code,
                &raw const *raw,
                buffer.as_mut_ptr().cast::<c_char>(),
                buffer.len() as _,
            );
        }
        let reason = CStr::from_bytes_until_nul(&buffer).unwrap_or_default().to_string_lossy();
        Err(format!("'{pattern}' is not a regular expression: {}", reason.trim_end()))
    }

    /// Matches anywhere in the subject.
    pub(crate) fn find(&self, subject: &CStr) -> Option<Matches> {
        let mut spans = [sys::ap_regmatch_t { rm_so: -1, rm_eo: -1 }; GROUPS];
        // SAFETY: the expression was compiled; there is room for as many spans as named.
        let code = unsafe {
            sys::ap_regexec(
                &raw const *self.raw,
                subject.as_ptr(),
                GROUPS as _,
                spans.as_mut_ptr(),
                0,
            )
        };
        (code == 0).then_some(Matches { spans })
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled by `compile`, freed once.
        unsafe { sys::ap_regfree(&raw mut *self.raw) };
    }
}

impl Matches {
    /// The offset behind the match.
    pub(crate) fn end(&self) -> usize {
        usize::try_from(self.spans[0].rm_eo).unwrap_or(0)
    }

    /// `template` with `$0` to `$9` and `&` replaced by what matched in `subject`; `None` if the result is
    /// too long for httpd.
    pub(crate) fn expand<'p>(
        &self,
        pool: &Pool<'p>,
        template: &CStr,
        subject: &CStr,
    ) -> Option<&'p CStr> {
        // SAFETY: the spans are those of this subject (callers pass the one they matched; pregsub checks
        // no more than httpd does for its own aliases), the result is in the pool or null.
        unsafe {
            super::text(sys::ap_pregsub(
                pool.raw(),
                template.as_ptr(),
                subject.as_ptr(),
                GROUPS as _,
                self.spans.as_ptr().cast_mut(),
            ))
        }
    }
}
