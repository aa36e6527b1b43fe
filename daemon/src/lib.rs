//! The one function that the Python of a daemon process looks for in the engine's file.

use std::ffi::c_void;

/// Leaves the engine's module in `sys.modules` and refuses to be imported; see `engine::python::entry`.
#[expect(unsafe_code, reason = "a name that Python looks up")]
// SAFETY: nothing else in the process is called so.
#[unsafe(no_mangle)]
pub extern "C" fn PyInit_mod_wsgi_engine() -> *mut c_void {
    engine::worker::init(c"mod_wsgi_engine");
    std::ptr::null_mut()
}
