//! Modules made from Python source that is shipped inside the binary.

use std::ffi::{CStr, c_int};

use super::error::PyResult;
use super::gil::Gil;
use super::object::{FromApi, Obj};
use super::table::api;

/// `Py_file_input` (compile.h)
const FILE_INPUT: c_int = 257;

/// A new, empty module that is not in `sys.modules`, and its dict.
///
/// # Errors
/// `MemoryError`
pub fn new_module<'py>(gil: Gil<'py>, name: &CStr) -> PyResult<(Obj<'py>, Obj<'py>)> {
    // SAFETY: S4; the dict is borrowed from the module, which is alive.
    unsafe {
        let module = (api().PyModule_New)(name.as_ptr()).owned_or_err(gil)?;
        let dict = (api().PyModule_GetDict)(module.as_ptr()).borrowed(gil);
        let builtins = (api().PyEval_GetBuiltins)().borrowed(gil);
        dict.dict_set(&Obj::interned(gil, c"__builtins__")?, &builtins)?;
        Ok((module, dict))
    }
}

/// Runs source text in a module's dict.
///
/// # Errors
/// As Python raises.
pub fn run(gil: Gil<'_>, source: &CStr, file: &CStr, dict: &Obj<'_>) -> PyResult<()> {
    // SAFETY: S4; both texts are NUL-terminated, code and dict are alive.
    unsafe {
        let code = (api().Py_CompileString)(source.as_ptr(), file.as_ptr(), FILE_INPUT)
            .owned_or_err(gil)?;
        (api().PyEval_EvalCode)(code.as_ptr(), dict.as_ptr(), dict.as_ptr()).owned_or_err(gil)?;
    }
    Ok(())
}

/// `sys.modules`
#[must_use]
pub fn modules(gil: Gil<'_>) -> Obj<'_> {
    // SAFETY: S4; borrowed from the interpreter.
    unsafe { (api().PyImport_GetModuleDict)().borrowed(gil) }
}
