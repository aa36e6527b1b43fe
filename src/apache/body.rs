//! Reading the request body through the input filters.

use std::ffi::{CStr, c_char};
use std::ptr;

use super::Request;
use crate::sys;
use crate::sys::constants::{AP_FILTER_ERROR, APR_EOF, APR_INCOMPLETE, APR_SUCCESS, APR_TIMEUP};

/// The body of a request, as far as it has not been read.
pub(crate) struct Body {
    /// Made by the first read; lives in the request's pool.
    brigade: *mut sys::apr_bucket_brigade,
    /// How much of the first bucket has been taken.
    taken: usize,
    state: State,
}

// SAFETY: the brigade belongs to one request, and is only touched together with a view of it, which one
// thread has at a time.
unsafe impl Send for Body {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed(sys::apr_status_t),
}

/// Why the body cannot be read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// httpd has refused the body and has already answered (too large, malformed).
    Refused,
    /// The connection failed; APR's words for it.
    Broken(String),
}

impl Body {
    /// A body of which nothing has been read.
    pub(crate) fn new() -> Self {
        Self { brigade: ptr::null_mut(), taken: 0, state: State::Open }
    }

    /// Whether httpd refused the body and answered the request by that.
    pub(crate) fn is_refused(&self) -> bool {
        self.state == State::Failed(AP_FILTER_ERROR)
    }

    /// Reads at least one byte and at most what fits; 0 is the end. With an empty buffer it only has
    /// `100 Continue` sent to a client that waits for it.
    pub(crate) fn read(
        &mut self,
        request: &Request<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, Fault> {
        if buffer.is_empty() {
            // Filters above HTTP_IN may want to look at data for any read, and block for it; only a
            // client that waits for leave to send is worth that.
            if self.state == State::Open && request.expects_continue() {
                self.fill(request, 0, sys::APR_BLOCK_READ)?;
            }
            return Ok(0);
        }
        loop {
            let read = self.drain(request, buffer)?;
            if read > 0 || self.state == State::Ended {
                return Ok(read);
            }
            self.fill(request, buffer.len(), sys::APR_BLOCK_READ)?;
        }
    }

    /// As [`Body::read`] into a buffer that is not empty, without waiting: `None` if nothing is there yet.
    pub(crate) fn read_now(
        &mut self,
        request: &Request<'_>,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Fault> {
        loop {
            let read = self.drain(request, buffer)?;
            if read > 0 || self.state == State::Ended {
                return Ok(Some(read));
            }
            if !self.fill(request, buffer.len(), sys::APR_NONBLOCK_READ)? {
                return Ok(None);
            }
        }
    }

    /// Takes note that the client has stopped sending; the body cannot be read further.
    pub(crate) fn time_out(&mut self, request: &Request<'_>) -> Fault {
        self.fail(request, APR_TIMEUP)
    }

    /// Copies what the brigade holds.
    fn drain(&mut self, request: &Request<'_>, buffer: &mut [u8]) -> Result<usize, Fault> {
        self.check()?;
        let mut filled = 0;
        while filled < buffer.len() && self.state == State::Open && !self.brigade.is_null() {
            // SAFETY: our own brigade.
            let bucket = unsafe { sys::mwrs_brigade_first(self.brigade) };
            if bucket.is_null() {
                break;
            }
            // SAFETY: a bucket of our brigade.
            if unsafe { sys::mwrs_bucket_is_eos(bucket) } != 0 {
                self.state = State::Ended;
                break;
            }
            // SAFETY: as above.
            if unsafe { sys::mwrs_bucket_is_metadata(bucket) } != 0 {
                self.delete(bucket);
                continue;
            }
            let (mut data, mut length): (*const c_char, sys::apr_size_t) = (ptr::null(), 0);
            // SAFETY: a bucket of our brigade; both results are ours.
            let status = unsafe { sys::mwrs_bucket_read(bucket, &raw mut data, &raw mut length) };
            if status != APR_SUCCESS {
                return Err(self.fail(request, status));
            }
            let left = length.saturating_sub(self.taken);
            let count = left.min(buffer.len() - filled);
            if count > 0 {
                // SAFETY: the bucket holds `length` bytes at `data` until it is deleted; `taken + count`
                // is within them, `filled + count` within the buffer.
                unsafe {
                    ptr::copy_nonoverlapping(
                        data.cast::<u8>().add(self.taken),
                        buffer.as_mut_ptr().add(filled),
                        count,
                    );
                }
            }
            filled += count;
            if count == left {
                self.delete(bucket);
            } else {
                self.taken += count;
            }
        }
        Ok(filled)
    }

    fn delete(&mut self, bucket: *mut sys::apr_bucket) {
        self.taken = 0;
        // SAFETY: a bucket of our brigade that nothing refers to any more.
        unsafe { sys::mwrs_bucket_delete(bucket) };
    }

    /// Gets more from the filters, waiting for it with `APR_BLOCK_READ`; whether anything came.
    fn fill(
        &mut self,
        request: &Request<'_>,
        wanted: usize,
        mode: sys::apr_read_type_e,
    ) -> Result<bool, Fault> {
        self.check()?;
        if self.brigade.is_null() {
            // SAFETY: pool and allocator outlive the request (S1); this value does not outlive it either,
            // as it is only used together with a view of it.
            self.brigade = unsafe {
                sys::apr_brigade_create(request.record().pool, request.connection().bucket_alloc)
            };
        }
        let wanted = sys::apr_off_t::try_from(wanted).unwrap_or(sys::apr_off_t::MAX);
        // SAFETY: the request's own filters, in the thread that serves it.
        let status = unsafe {
            sys::ap_get_brigade(
                request.record().input_filters,
                self.brigade,
                sys::AP_MODE_READBYTES,
                mode,
                wanted,
            )
        };
        match status {
            // SAFETY: our own brigade.
            APR_SUCCESS => Ok(unsafe { !sys::mwrs_brigade_first(self.brigade).is_null() }),
            libc::EAGAIN if mode == sys::APR_NONBLOCK_READ => Ok(false),
            _ => Err(self.fail(request, status)),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        match self.state {
            State::Failed(status) => Err(describe(status)),
            State::Open | State::Ended => Ok(()),
        }
    }

    fn fail(&mut self, request: &Request<'_>, status: sys::apr_status_t) -> Fault {
        self.state = State::Failed(status);
        // What is left of the body may not be taken for the next request.
        // SAFETY: the connection outlives the request (S1) and this thread serves it.
        unsafe { (*request.record().connection).keepalive = sys::AP_CONN_CLOSE };
        describe(status)
    }
}

fn describe(status: sys::apr_status_t) -> Fault {
    if status == AP_FILTER_ERROR {
        return Fault::Refused;
    }
    // APR's own words for these say nothing to whoever reads the application's traceback.
    match status {
        APR_INCOMPLETE | APR_EOF | libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE => {
            return Fault::Broken("the client went away before the end of the body".to_owned());
        }
        APR_TIMEUP | libc::EAGAIN => {
            return Fault::Broken(
                "the client sent nothing for as long as Timeout allows".to_owned(),
            );
        }
        _ => {}
    }
    let mut buffer = [0_u8; 200];
    // SAFETY: the buffer is of the length given; strerror ends what it writes with NUL.
    unsafe {
        sys::apr_strerror(status, buffer.as_mut_ptr().cast::<c_char>(), buffer.len() as _);
    }
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    Fault::Broken(text.to_string_lossy().into_owned())
}
