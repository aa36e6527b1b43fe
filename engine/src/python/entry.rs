//! Being loaded as an extension by a Python that runs already.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::class::{MethodRow, functions_into};
use super::error::PyResult;
use super::gil::Gil;
use super::object::Obj;
use super::runtime;
use super::table::{self, api};

/// The whole of a `PyInit` function: leaves a module with these functions in `sys.modules` and refuses the import
/// all the same, by an `ImportError`. What shall be done with the process is done by whoever takes the module: inside
/// `PyInit` a free-threaded build holds a GIL, and a module object would have to have a layout.
///
/// To be called by `PyInit` only: attached.
pub fn leave_behind(name: &CStr, functions: impl FnOnce() -> Vec<MethodRow>) {
    if let Err(fault) = table::adopt() {
        // Without the table nothing can be raised; Python says that there was no exception.
        eprintln!("mod_wsgi_rs cannot use this Python: {fault}");
        return;
    }
    // SAFETY: S4: Python calls PyInit attached.
    let gil = unsafe { Gil::assume() };
    let left = catch_unwind(AssertUnwindSafe(|| leave(gil, name, functions())));
    if let Ok(Ok(())) | Err(_) = left {
        // SAFETY: S4; a living class and a text closed by NUL.
        unsafe {
            let refusal = c"this is no module: its loader takes what it has left in sys.modules";
            (api().PyErr_SetString)(*api().PyExc_ImportError, refusal.as_ptr());
        }
    }
}

fn leave(gil: Gil<'_>, name: &CStr, functions: Vec<MethodRow>) -> PyResult<()> {
    let (module, _) = runtime::new_module(gil, name)?;
    functions_into(gil, &module, functions)?;
    runtime::modules(gil).dict_set(&Obj::interned(gil, name)?, &module)
}
