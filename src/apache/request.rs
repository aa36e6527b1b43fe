//! The request: what the phases before and at the handler look at and change.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::hook::{self, Wiring};
use super::slot::Tagged;
use super::{Pool, Server, Table, text};
use crate::sys;

/// The request that httpd is running, for as long as the callback it was made for.
///
/// Neither `Clone` nor `Send`: it may not be kept, and it belongs to the thread that serves it.
pub(crate) struct Request<'r> {
    raw: NonNull<sys::request_rec>,
    life: PhantomData<&'r mut ()>,
}

/// What the file system has at the request's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Nothing, or nothing that can be looked at.
    Missing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl<'r> Request<'r> {
    /// A view of a request; `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// A pointer that is not null leads to a request that httpd has set up, that lives for `'r` and that no
    /// other thread works on meanwhile.
    pub(super) unsafe fn new(raw: *mut sys::request_rec) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, life: PhantomData })
    }

    /// The raw request, for calls within this room.
    pub(super) fn raw(&self) -> *mut sys::request_rec {
        self.raw.as_ptr()
    }

    /// The fields of the request. Not held across calls into httpd, which changes them.
    pub(super) fn record(&self) -> &sys::request_rec {
        // SAFETY: alive by the promise given to `new` (S1).
        unsafe { self.raw.as_ref() }
    }

    /// The connection's record.
    pub(super) fn connection(&self) -> &'r sys::conn_rec {
        // SAFETY: every request has a connection, which outlives it (S1).
        unsafe { &*self.record().connection }
    }

    /// The request's pool.
    pub(crate) fn pool(&self) -> Pool<'r> {
        // SAFETY: every request has a pool, which outlives it (S1), and this thread works on it.
        unsafe { Pool::new(NonNull::new_unchecked(self.record().pool)) }
    }

    /// The virtual host that serves it.
    pub(crate) fn server(&self) -> Option<Server<'r>> {
        // SAFETY: the configuration outlives its requests (S3).
        unsafe { Server::new(self.record().server) }
    }

    /// The path of the URL, decoded.
    pub(crate) fn uri(&self) -> &'r CStr {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().uri) }.unwrap_or_default()
    }

    /// The file that the URL leads to.
    pub(crate) fn filename(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().filename) }
    }

    /// What of the URL's path is behind the file; `None` if nothing is.
    pub(crate) fn path_info(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().path_info) }.filter(|path| !path.is_empty())
    }

    /// The name of the handler that is to answer.
    pub(crate) fn handler(&self) -> Option<&'r CStr> {
        // SAFETY: configuration text or text in the request's pool (S1, S3).
        unsafe { text(self.record().handler) }
    }

    /// Says which file the URL leads to and who handles it.
    pub(crate) fn map(&self, filename: &'r CStr, handler: &'static CStr) {
        // SAFETY: this thread's request; both texts live as long as it does.
        unsafe {
            (*self.raw()).filename = filename.as_ptr().cast_mut();
            (*self.raw()).handler = handler.as_ptr();
        }
    }

    /// What the file system has at [`Request::filename`].
    pub(crate) fn file_kind(&self) -> FileKind {
        match self.record().finfo.filetype {
            sys::APR_NOFILE => FileKind::Missing,
            sys::APR_DIR => FileKind::Directory,
            _ => FileKind::File,
        }
    }

    /// When that file was last changed, in microseconds since the epoch.
    pub(crate) fn file_mtime(&self) -> i64 {
        self.record().finfo.mtime
    }

    /// Whether `AcceptPathInfo Off` holds.
    pub(crate) fn rejects_path_info(&self) -> bool {
        self.record().used_path_info == sys::AP_REQ_REJECT_PATH_INFO
    }

    /// Whether `Options ExecCGI` holds.
    pub(crate) fn may_execute(&self) -> bool {
        // SAFETY: the request is alive (S1).
        let options = unsafe { sys::ap_allow_options(self.raw()) };
        c_int::from(options) & sys::OPT_EXECCGI != 0
    }

    /// `LimitRequestBody`; `None` if there is no limit.
    pub(crate) fn body_limit(&self) -> Option<u64> {
        // SAFETY: the request is alive (S1).
        let limit = unsafe { sys::ap_get_limit_req_body(self.raw()) };
        u64::try_from(limit).ok().filter(|limit| *limit > 0)
    }

    /// Notes that modules leave for each other.
    pub(crate) fn notes(&self) -> Option<Table<'r>> {
        // SAFETY: a table of this request (S1).
        unsafe { Table::new(self.record().notes) }
    }

    /// Variables for scripts.
    pub(crate) fn variables(&self) -> Option<Table<'r>> {
        // SAFETY: a table of this request (S1).
        unsafe { Table::new(self.record().subprocess_env) }
    }

    /// The client's headers.
    pub(crate) fn headers(&self) -> Option<Table<'r>> {
        // SAFETY: a table of this request (S1).
        unsafe { Table::new(self.record().headers_in) }
    }

    /// A header of the client's.
    pub(crate) fn header(&self, name: &CStr) -> Option<&'r CStr> {
        self.headers()?.value(name)
    }

    /// Whether this is a sub-request, such as an include of mod_include.
    pub(crate) fn is_sub_request(&self) -> bool {
        !self.record().main.is_null()
    }

    /// The request that was redirected internally to this one.
    pub(crate) fn previous(&self) -> Option<Request<'r>> {
        // SAFETY: earlier requests of a chain of redirects live as long as this one, in the same thread.
        unsafe { Self::new(self.record().prev) }
    }

    /// This module's configuration of the directory.
    pub(crate) fn directory<W: Wiring>(&self) -> Option<&'r W::Directory> {
        // SAFETY: a configuration vector made by httpd, which holds a slot for this module.
        let slot =
            unsafe { sys::ap_get_module_config(self.record().per_dir_config, hook::module()) };
        // SAFETY: what `hook` placed, in the configuration's pool or this request's; not written to
        // any more (S3).
        unsafe { Tagged::read(slot) }
    }

    /// What [`Request::remember`] kept.
    pub(crate) fn recall<W: Wiring>(&self) -> Option<&'r W::Request> {
        // SAFETY: a configuration vector made by httpd, which holds a slot for this module.
        let slot =
            unsafe { sys::ap_get_module_config(self.record().request_config, hook::module()) };
        // SAFETY: what `remember` placed in this request's pool; never written to.
        unsafe { Tagged::read(slot) }
    }

    /// Keeps a value with the request.
    pub(crate) fn remember<W: Wiring>(&self, value: W::Request) {
        let placed = self.pool().place(Tagged::new(value));
        // SAFETY: this request's vector, and a value that lives as long as the request (S1).
        unsafe {
            sys::ap_set_module_config(
                self.record().request_config,
                hook::module(),
                placed.as_ptr().cast(),
            );
        }
    }

    /// How many bytes of `uri` come before `path_info`, by httpd's own rule.
    pub(crate) fn split_at_path_info(uri: &CStr, path_info: &CStr) -> usize {
        // SAFETY: two C strings.
        let at = unsafe { sys::ap_find_path_info(uri.as_ptr(), path_info.as_ptr()) };
        usize::try_from(at).unwrap_or(0).min(uri.count_bytes())
    }
}
