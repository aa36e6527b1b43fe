//! Functions that not every httpd 2.4, APR or set of modules has.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

/// `ap_ssl_conn_is_ssl` of 2.4.47 and `ssl_is_https` of mod_ssl have the same signature.
type ConnectionIsSsl = unsafe extern "C" fn(*mut sys::conn_rec) -> c_int;
/// `apr_bucket_file_set_buf_size` of apr-util 1.6
type FileBufferSize =
    unsafe extern "C" fn(*mut sys::apr_bucket, sys::apr_size_t) -> sys::apr_status_t;

/// `ap_ssl_var_lookup` of 2.4.47; `ssl_var_lookup` of mod_ssl gives a text that may be written to, and is the
/// same otherwise
type TlsVariable = unsafe extern "C" fn(
    *mut sys::apr_pool_t,
    *mut sys::server_rec,
    *mut sys::conn_rec,
    *mut sys::request_rec,
    *mut c_char,
) -> *const c_char;

/// mod_ssl's function, if it is loaded. Looked up again with every configuration: mod_ssl may have come,
/// gone or moved.
static SSL_IS_HTTPS: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The same for its variables.
static SSL_VAR_LOOKUP: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Takes note of other modules' functions; for the optional-fn-retrieve phase.
pub(crate) fn retrieve() {
    for (name, place) in [(c"ssl_is_https", &SSL_IS_HTTPS), (c"ssl_var_lookup", &SSL_VAR_LOOKUP)] {
        // SAFETY: the name is a C string; the registry is complete in this phase, and this thread is alone.
        let found = unsafe { sys::apr_dynamic_fn_retrieve(name.as_ptr()) };
        let address = found.map_or(std::ptr::null_mut(), |function| function as *mut c_void);
        place.store(address, Ordering::Release);
    }
}

/// What mod_ssl knows under a name, as text in the request's pool or of the configuration; null if nothing.
///
/// # Safety
///
/// The request is alive and the calling thread's; the name ends in NUL.
pub(super) unsafe fn tls_variable(r: *mut sys::request_rec, name: *const c_char) -> *const c_char {
    static CORE: OnceLock<Option<TlsVariable>> = OnceLock::new();
    let core = CORE.get_or_init(|| {
        // SAFETY: http_ssl.h declares this name with this signature, wherever it exists.
        symbol(c"ap_ssl_var_lookup")
            .map(|address| unsafe { mem::transmute::<*mut c_void, TlsVariable>(address) })
    });
    let address = SSL_VAR_LOOKUP.load(Ordering::Acquire);
    let function = match core {
        Some(function) => *function,
        None if address.is_null() => return std::ptr::null(),
        // SAFETY: mod_ssl registers this name with this signature and stays loaded as long as the
        // configuration that `retrieve` ran for.
        None => unsafe { mem::transmute::<*mut c_void, TlsVariable>(address) },
    };
    // SAFETY: the request by the caller's promise, with its own pool, server and connection; the name is only
    // read.
    unsafe { function((*r).pool, (*r).server, (*r).connection, r, name.cast_mut()) }
}

/// Whether the connection came over TLS, as far as a module of httpd's says so.
///
/// # Safety
///
/// The connection is alive and the calling thread's.
pub(super) unsafe fn is_tls(connection: *mut sys::conn_rec) -> bool {
    static CORE: OnceLock<Option<ConnectionIsSsl>> = OnceLock::new();
    let core = CORE.get_or_init(|| {
        // SAFETY: http_ssl.h declares this name with this signature, wherever it exists.
        symbol(c"ap_ssl_conn_is_ssl")
            .map(|address| unsafe { mem::transmute::<*mut c_void, ConnectionIsSsl>(address) })
    });
    if let Some(function) = core {
        // SAFETY: the connection by the caller's promise.
        return unsafe { function(connection) } != 0;
    }
    let address = SSL_IS_HTTPS.load(Ordering::Acquire);
    if address.is_null() {
        return false;
    }
    // SAFETY: mod_ssl registers this name with this signature and stays loaded as long as the
    // configuration that `retrieve` ran for.
    let function = unsafe { mem::transmute::<*mut c_void, ConnectionIsSsl>(address) };
    // SAFETY: the connection by the caller's promise.
    unsafe { function(connection) != 0 }
}

/// Sets how much of a file bucket is read at once, where apr-util can.
///
/// # Safety
///
/// The bucket is a file bucket and the calling thread's.
pub(super) unsafe fn set_file_buffer_size(bucket: *mut sys::apr_bucket, size: usize) {
    static FUNCTION: OnceLock<Option<FileBufferSize>> = OnceLock::new();
    let function = FUNCTION.get_or_init(|| {
        // SAFETY: apr_buckets.h declares this name with this signature, wherever it exists.
        symbol(c"apr_bucket_file_set_buf_size")
            .map(|address| unsafe { mem::transmute::<*mut c_void, FileBufferSize>(address) })
    });
    if let Some(function) = function {
        // SAFETY: the bucket by the caller's promise.
        unsafe { function(bucket, size as sys::apr_size_t) };
    }
}

/// The address of a symbol of httpd's own program and libraries, which stay where they are for the life
/// of the process.
fn symbol(name: &'static CStr) -> Option<*mut c_void> {
    // SAFETY: a C string, and a lookup without side effects.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
