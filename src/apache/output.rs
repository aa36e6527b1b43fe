//! The response: status, headers, brigades, and cutting it short.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use engine::wsgi::Level;

use super::{Request, Table, log, optional, text};
use crate::sys;
use crate::sys::constants::APR_SUCCESS;

/// Where a response is written to.
pub(crate) struct Output {
    /// Made by the first write, reused by all; lives in the request's pool.
    brigade: *mut sys::apr_bucket_brigade,
}

// SAFETY: the brigade belongs to one request, and is only touched together with a view of it, which one
// thread has at a time.
unsafe impl Send for Output {}

/// How much of a file is read at once, where `ReadBufferSize` says nothing. Of 16 KiB to 1 MiB, sizes
/// from here to twice this cost the least; a copy remains that httpd's own mapped files do without, and
/// that `EnableSendfile` or `WSGIEnableSendfile` saves.
const FILE_BUFFER: usize = 256 * 1024;

/// What follows the data of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// More to come soon: goes out when there is enough of it, or when something below wants it.
    More,
    /// More to come; what was written goes out now.
    Flush,
    /// The response is complete.
    End,
    /// The response is complete and goes out now.
    EndAndFlush,
}

/// The client is gone, or a filter refused the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Output {
    /// Nothing written.
    pub(crate) fn new() -> Self {
        Self { brigade: ptr::null_mut() }
    }

    /// Writes blocks, without copying what the network takes at once.
    pub(crate) fn write(
        &mut self,
        request: &Request<'_>,
        blocks: &[&[u8]],
        tail: Tail,
    ) -> Result<(), Gone> {
        let brigade = self.brigade(request);
        let allocator = request.connection().bucket_alloc;
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            // SAFETY: the data outlives the brigade's contents: `pass` empties it before this returns, and
            // filters that keep a transient bucket copy it (set-aside).
            unsafe {
                let bucket = sys::apr_bucket_transient_create(
                    block.as_ptr().cast(),
                    block.len() as _,
                    allocator,
                );
                sys::mwrs_brigade_append(brigade, bucket);
            }
        }
        Self::finish(brigade, allocator, tail);
        Self::pass(request, brigade)
    }

    /// Writes `length` bytes of a regular file from `offset` as the rest of the response and ends it.
    pub(crate) fn write_file(
        &mut self,
        request: &Request<'_>,
        file: OwnedFd,
        offset: u64,
        length: u64,
        sendfile: Option<bool>,
    ) -> Result<(), Gone> {
        let brigade = self.brigade(request);
        let allocator = request.connection().bucket_alloc;
        if length > 0 {
            let sendfile = sendfile.unwrap_or_else(|| request.core_sendfile());
            let range = (sys::apr_off_t::try_from(offset), sys::apr_off_t::try_from(length));
            let (Ok(offset), Ok(length)) = range else {
                return Err(self.give_up(request, "range"));
            };
            let Some(file) = adopt(request, &file, sendfile) else {
                return Err(self.give_up(request, "descriptor"));
            };
            // SAFETY: our own brigade; the file is in the request's pool, open, and closed with it.
            unsafe {
                let bucket = sys::apr_brigade_insert_file(
                    brigade,
                    file,
                    offset,
                    length,
                    request.record().pool,
                );
                // A file that shrinks while it is mapped would end the child by SIGBUS.
                sys::apr_bucket_file_enable_mmap(bucket, 0);
                let size = request.read_buffer_size().unwrap_or(FILE_BUFFER);
                optional::set_file_buffer_size(bucket, size);
            }
        }
        drop(file);
        Self::finish(brigade, allocator, Tail::End);
        Self::pass(request, brigade)
    }

    /// Ends a response that cannot be completed, so that the client sees it: httpd writes no final chunk
    /// and closes the connection, or resets the stream.
    pub(crate) fn cut(&mut self, request: &Request<'_>) {
        let brigade = self.brigade(request);
        let allocator = request.connection().bucket_alloc;
        Self::clear(brigade);
        // SAFETY: this thread's request.
        unsafe { (*request.raw()).no_cache = 1 };
        // SAFETY: our own brigade; pool and allocator outlive the request (S1).
        unsafe {
            let bucket =
                sys::ap_bucket_error_create(502, ptr::null(), request.record().pool, allocator);
            sys::mwrs_brigade_append(brigade, bucket);
        }
        Self::finish(brigade, allocator, Tail::End);
        // Whether it arrives is no longer of interest: nothing more will be sent.
        let _ = Self::pass(request, brigade);
    }

    /// Ends a response whose file cannot be sent.
    fn give_up(&mut self, request: &Request<'_>, what: &str) -> Gone {
        let text = format!("the file of this response cannot be sent: no {what} to read it by");
        log::request(request, Level::Error, &text);
        self.cut(request);
        Gone
    }

    fn brigade(&mut self, request: &Request<'_>) -> *mut sys::apr_bucket_brigade {
        if self.brigade.is_null() {
            // SAFETY: pool and allocator outlive the request (S1); this value is only used together with
            // a view of it.
            self.brigade = unsafe {
                sys::apr_brigade_create(request.record().pool, request.connection().bucket_alloc)
            };
        }
        self.brigade
    }

    fn finish(
        brigade: *mut sys::apr_bucket_brigade,
        allocator: *mut sys::apr_bucket_alloc_t,
        tail: Tail,
    ) {
        // SAFETY: our own brigade and the allocator it was made with.
        unsafe {
            if matches!(tail, Tail::End | Tail::EndAndFlush) {
                sys::mwrs_brigade_append(brigade, sys::apr_bucket_eos_create(allocator));
            }
            if matches!(tail, Tail::Flush | Tail::EndAndFlush) {
                sys::mwrs_brigade_append(brigade, sys::apr_bucket_flush_create(allocator));
            }
        }
    }

    fn pass(request: &Request<'_>, brigade: *mut sys::apr_bucket_brigade) -> Result<(), Gone> {
        // SAFETY: the request's own filters, in the thread that serves it.
        let status = unsafe { sys::ap_pass_brigade(request.record().output_filters, brigade) };
        Self::clear(brigade);
        if status == APR_SUCCESS && !request.is_aborted() { Ok(()) } else { Err(Gone) }
    }

    fn clear(brigade: *mut sys::apr_bucket_brigade) {
        // SAFETY: our own brigade; filters have emptied it or are done with what is in it.
        unsafe { sys::apr_brigade_cleanup(brigade.cast()) };
    }
}

impl<'r> Request<'r> {
    /// Sets the status. `line` is code and reason; where httpd would say the same it is not kept.
    pub(crate) fn set_status(&self, status: u16, line: &CStr) {
        let code = c_int::from(status);
        // SAFETY: static text in httpd.
        let usual = unsafe { text(sys::ap_get_status_line(code)) };
        let line = match usual {
            Some(usual) if usual == line => ptr::null(),
            _ => self.pool().text(&[line.to_bytes()]).as_ptr(),
        };
        // SAFETY: this thread's request; the line lives as long as it does.
        unsafe {
            (*self.raw()).status = code;
            (*self.raw()).status_line = line;
        }
    }

    /// Sets `Content-Type`; filters that go by the type see it.
    pub(crate) fn set_content_type(&self, value: &CStr) {
        let value = self.pool().text(&[value.to_bytes()]);
        // SAFETY: this thread's request; the text lives as long as it does.
        unsafe { sys::ap_set_content_type(self.raw(), value.as_ptr()) };
    }

    /// Sets `Content-Length`.
    pub(crate) fn set_content_length(&self, length: u64) {
        if let Ok(length) = sys::apr_off_t::try_from(length) {
            // SAFETY: this thread's request.
            unsafe { sys::ap_set_content_length(self.raw(), length) };
        }
    }

    /// Headers of the response.
    pub(crate) fn response_headers(&self) -> Option<Table<'r>> {
        // SAFETY: a table of this request (S1).
        unsafe { Table::new(self.record().headers_out) }
    }

    /// Headers that also go with an error document.
    pub(crate) fn error_headers(&self) -> Option<Table<'r>> {
        // SAFETY: a table of this request (S1).
        unsafe { Table::new(self.record().err_headers_out) }
    }

    /// Whether the connection is known to be broken.
    pub(crate) fn is_aborted(&self) -> bool {
        self.connection().aborted != 0
    }
}

/// Makes a descriptor APR's own, so that it is closed with whatever holds it last.
///
/// Filters that keep a file beyond the request, as those of HTTP/2 do, take it over by `apr_file_setaside`,
/// which moves APR's own cleanup with it. A descriptor that APR was only lent has no such cleanup, and
/// one of ours on the request's pool would close it too early; hence the duplicate.
fn adopt(request: &Request<'_>, file: &OwnedFd, sendfile: bool) -> Option<*mut sys::apr_file_t> {
    let pool = request.record().pool;
    let flags = sys::APR_FOPEN_READ | if sendfile { sys::APR_FOPEN_SENDFILE_ENABLED } else { 0 };
    let mut descriptor: c_int = file.as_raw_fd();
    let mut lent = ptr::null_mut();
    let mut owned = ptr::null_mut();
    // SAFETY: an open descriptor; the pool is this request's (S1); both results are ours.
    let status = unsafe { sys::apr_os_file_put(&raw mut lent, &raw mut descriptor, flags, pool) };
    if status != APR_SUCCESS {
        return None;
    }
    // SAFETY: as above.
    let status = unsafe { sys::apr_file_dup(&raw mut owned, lent, pool) };
    (status == APR_SUCCESS).then_some(owned)
}
