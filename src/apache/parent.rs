//! httpd's parent process: where it stands in its life, where its files are, which other children it has.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use super::{Pool, guard, hook, text};
use crate::sys;

/// Whether the configuration is read for the first of the two times at the start of httpd: what is made
/// now would be made again.
pub(crate) fn is_first_pass() -> bool {
    // SAFETY: a question without side effects.
    let state = unsafe { sys::ap_state_query(sys::AP_SQ_MAIN_STATE as _) };
    state == sys::AP_SQ_MS_CREATE_PRE_CONFIG as c_int
}

/// The file that this module was loaded from.
pub(crate) fn module_file() -> Option<PathBuf> {
    // SAFETY: pointers, for which null is a value.
    let mut info: libc::Dl_info = unsafe { mem::zeroed() };
    // SAFETY: an address of this module, and a place for the answer.
    if unsafe { libc::dladdr(hook::module().cast(), &raw mut info) } == 0 {
        return None;
    }
    // SAFETY: the name that the loader keeps for the module, which is never unloaded, or null.
    let name = unsafe { text(info.dli_fname) }?;
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// `ap_runtime_dir_relative`, of 2.4.2
type RuntimeDirectory = unsafe extern "C" fn(*mut sys::apr_pool_t, *const c_char) -> *mut c_char;

/// A path in httpd's runtime directory, or from the root of the server where this httpd has none.
pub(crate) fn in_runtime_directory(pool: &Pool<'_>, name: &str) -> PathBuf {
    let name = pool.message(name);
    // SAFETY: a C string, and a lookup without side effects.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"ap_runtime_dir_relative".as_ptr()) };
    let path = if found.is_null() {
        // SAFETY: the pool of the configuration, and a C string.
        unsafe { sys::ap_server_root_relative(pool.raw(), name) }
    } else {
        // SAFETY: http_config.h declares this name with this signature, wherever it exists.
        let function = unsafe { mem::transmute::<*mut c_void, RuntimeDirectory>(found) };
        // SAFETY: as above.
        unsafe { function(pool.raw(), name) }
    };
    owned(path)
}

/// A path from the root of the server, or itself where it is absolute.
pub(crate) fn in_server_root(pool: &Pool<'_>, name: &str) -> PathBuf {
    // SAFETY: the pool of the configuration, and a C string.
    owned(unsafe { sys::ap_server_root_relative(pool.raw(), pool.message(name)) })
}

fn owned(path: *const c_char) -> PathBuf {
    // SAFETY: text in the pool that the call was given, or null.
    let path: &CStr = unsafe { text(path) }.unwrap_or_default();
    Path::new(OsStr::from_bytes(path.to_bytes())).to_owned()
}

/// What is told about the end of a child that is none of the MPM's.
pub(crate) trait Bereaved: Sized + 'static {
    /// The child with this number has ended. The pool is the process's.
    fn died(&'static self, pid: u32, pool: &Pool<'static>);
}

/// Has httpd tell `bereaved` when the child with this number ends. The pool is the process's.
pub(crate) fn watch<B: Bereaved>(pool: &Pool<'static>, bereaved: &'static B, pid: u32) {
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut child: sys::apr_proc_t = unsafe { mem::zeroed() };
    child.pid = pid.cast_signed();
    let watched = pool.place(Watched { child, bereaved, pool: pool.raw() }).as_ptr();
    // SAFETY: the pool lives as long as the process, and what was placed in it with it; the module is
    // never unloaded, so the function stays.
    unsafe {
        sys::apr_proc_other_child_register(
            &raw mut (*watched).child,
            Some(changed::<B>),
            watched.cast(),
            std::ptr::null_mut(),
            pool.raw(),
        );
    }
}

/// One child that is watched.
struct Watched<B: 'static> {
    child: sys::apr_proc_t,
    bereaved: &'static B,
    pool: *mut sys::apr_pool_t,
}

unsafe extern "C" fn changed<B: Bereaved>(reason: c_int, data: *mut c_void, _status: c_int) {
    guard::fence((), || {
        // A reload asks, too, whether the child shall go on (it shall).
        if reason != sys::APR_OC_REASON_DEATH as c_int && reason != sys::APR_OC_REASON_LOST as c_int
        {
            return;
        }
        // SAFETY: registered by `watch` with what it placed, of which httpd changes no field that is read
        // here.
        let Some(watched) = (unsafe { data.cast::<Watched<B>>().as_ref() }) else { return };
        let Some(pool) = NonNull::new(watched.pool) else { return };
        // SAFETY: the pool of the process, in the parent's only thread.
        let pool = unsafe { Pool::new(pool) };
        watched.bereaved.died(watched.child.pid.cast_unsigned(), &pool);
    });
}
