//! The client's end of a request: what it takes slowly, and what it is asked for.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::time::Duration;

use super::Request;
use super::output::Gone;
use crate::sys;
use crate::sys::constants::APR_SUCCESS;

/// `HTTP_VERSION(2, 0)`
const HTTP_2: c_int = 2000;

impl Request<'_> {
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.record().expecting_100 != 0
    }

    /// Whether a body may follow the request's headers.
    pub(crate) fn may_have_body(&self) -> bool {
        if self.is_sub_request() {
            return false;
        }
        match self.header(c"Content-Length") {
            Some(length) => length.to_bytes() != b"0",
            // HTTP/2 ends a body without having announced one; reading tells.
            None => self.is_multiplexed() || self.header(c"Transfer-Encoding").is_some(),
        }
    }

    /// Whether the request shares its connection with others at the same time (HTTP/2). Its filters end in a
    /// buffer then and not in a socket.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.record().proto_num >= HTTP_2
    }

    /// Whether some of the response has been taken by httpd but not by the client.
    pub(crate) fn has_pending_output(&self) -> bool {
        self.connection().data_in_output_filters != 0
    }

    /// Sends what of that the client takes now, without waiting.
    pub(crate) fn push_pending_output(&self) -> Result<(), Gone> {
        let mut last = self.connection().output_filters;
        // SAFETY: filters of a connection live as long as it does (S1); the last one's successor is null.
        while let Some(filter) = unsafe { last.as_ref() } {
            if filter.next.is_null() {
                // SAFETY: every filter has its registration.
                let registration = unsafe { &*filter.frec };
                // SAFETY: as above; the name is static text.
                if unsafe { super::text(registration.name) } != Some(c"core") {
                    return Ok(());
                }
                // SAFETY: this is an output filter, so the union holds an output function.
                let Some(function) = (unsafe { registration.filter_func.out_func }) else {
                    return Ok(());
                };
                // SAFETY: without a brigade httpd's network filter goes on with what it has kept, as the MPMs
                // have it do; in the thread that works on the connection.
                let status = unsafe { function(last, ptr::null_mut()) };
                return if status == APR_SUCCESS && !self.is_aborted() {
                    Ok(())
                } else {
                    Err(Gone)
                };
            }
            last = filter.next;
        }
        Ok(())
    }

    /// The client's socket; none where the request shares its connection.
    pub(crate) fn client_socket(&self) -> Option<BorrowedFd<'_>> {
        if self.is_multiplexed() {
            return None;
        }
        // SAFETY: the connection is alive (S1).
        let socket = unsafe { sys::ap_get_conn_socket(self.record().connection) };
        if socket.is_null() {
            return None;
        }
        let mut descriptor: c_int = -1;
        // SAFETY: a socket of httpd's, and a place for its descriptor.
        let status = unsafe { sys::apr_os_sock_get(&raw mut descriptor, socket) };
        if status != APR_SUCCESS || descriptor < 0 {
            return None;
        }
        // SAFETY: open as long as the connection, which outlives this view of the request.
        Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    /// How long the client may take nothing and send nothing (`Timeout`).
    pub(crate) fn client_timeout(&self) -> Option<Duration> {
        // SAFETY: the connection is alive (S1).
        let socket = unsafe { sys::ap_get_conn_socket(self.record().connection) };
        if socket.is_null() {
            return None;
        }
        let mut timeout = -1;
        // SAFETY: a socket of httpd's, and a place for the number.
        let status = unsafe { sys::apr_socket_timeout_get(socket, &raw mut timeout) };
        if status != APR_SUCCESS {
            return None;
        }
        // Negative is for ever.
        u64::try_from(timeout).ok().filter(|timeout| *timeout > 0).map(Duration::from_micros)
    }
}
