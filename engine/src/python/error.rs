//! Python exceptions as Rust results.

use std::ffi::CString;

use super::gil::Gil;
use super::object::{FromApi, Obj};
use super::table::{PyObject, api};

/// An exception is set in this thread's state. Whoever gets it raises it on, or takes it with
/// [`Exception::take`].
#[derive(Debug)]
pub struct Raised;

/// A result whose error is the exception set in Python.
pub type PyResult<T> = Result<T, Raised>;

impl Raised {
    /// Sets a `TypeError`.
    #[must_use]
    pub fn type_error(gil: Gil<'_>, message: &str) -> Self {
        // SAFETY: PyExc_TypeError is set from start to end.
        Self::set(gil, unsafe { *api().PyExc_TypeError }, message)
    }

    /// Sets a `ValueError`.
    #[must_use]
    pub fn value_error(gil: Gil<'_>, message: &str) -> Self {
        // SAFETY: as above.
        Self::set(gil, unsafe { *api().PyExc_ValueError }, message)
    }

    /// Sets a `RuntimeError`.
    #[must_use]
    pub fn runtime_error(gil: Gil<'_>, message: &str) -> Self {
        // SAFETY: as above.
        Self::set(gil, unsafe { *api().PyExc_RuntimeError }, message)
    }

    /// Sets an `OSError`.
    #[must_use]
    pub fn os_error(gil: Gil<'_>, message: &str) -> Self {
        // SAFETY: as above.
        Self::set(gil, unsafe { *api().PyExc_OSError }, message)
    }

    fn set(_gil: Gil<'_>, class: *mut PyObject, message: &str) -> Self {
        let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
        // SAFETY: S4; a living exception class and a NUL-terminated text.
        unsafe { (api().PyErr_SetString)(class, message.as_ptr()) };
        Self
    }

    /// Raises again what `sys.exc_info()` gave: its value with its traceback. What is no exception becomes a
    /// `TypeError`.
    #[must_use]
    pub fn again<'py>(gil: Gil<'py>, value: &Obj<'py>, traceback: &Obj<'py>) -> Self {
        // SAFETY: PyExc_BaseException is set from start to end.
        let base = unsafe { (*api().PyExc_BaseException).borrowed(gil) };
        match value.instance_of(&base) {
            Ok(true) => {}
            Ok(false) => return Self::type_error(gil, "exc_info holds no exception"),
            Err(raised) => return raised,
        }
        // SAFETY: S4; PyErr_Restore takes over three references; a null traceback means none, and what is no
        // traceback is left out by the call itself.
        unsafe {
            (api().PyErr_Restore)(
                value.type_of().into_ptr(),
                value.clone().into_ptr(),
                if traceback.is_none() {
                    std::ptr::null_mut()
                } else {
                    traceback.clone().into_ptr()
                },
            );
        }
        Self
    }

    /// Whether it asks for the end of the program: a `SystemExit`.
    #[must_use]
    pub fn asks_to_exit(&self, _gil: Gil<'_>) -> bool {
        // SAFETY: S4; PyExc_SystemExit is a living class.
        unsafe { (api().PyErr_ExceptionMatches)(*api().PyExc_SystemExit) != 0 }
    }

    /// Drops the exception.
    pub fn clear(self, _gil: Gil<'_>) {
        // SAFETY: S4
        unsafe { (api().PyErr_Clear)() };
    }
}

/// An exception taken out of the thread state, with its traceback.
pub struct Exception<'py> {
    /// The exception object.
    pub value: Obj<'py>,
}

impl<'py> Exception<'py> {
    /// Takes the exception that is set. One that lost its way (none set) becomes a `RuntimeError`.
    #[must_use]
    pub fn take(gil: Gil<'py>, raised: Raised) -> Self {
        let Raised = raised;
        let (mut class, mut value, mut traceback) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: S4; the three calls are the documented sequence, each reference is taken over once.
        unsafe {
            if (api().PyErr_Occurred)().is_null() {
                (api().PyErr_SetString)(
                    *api().PyExc_RuntimeError,
                    c"an error was reported without an exception".as_ptr(),
                );
            }
            (api().PyErr_Fetch)(&raw mut class, &raw mut value, &raw mut traceback);
            (api().PyErr_NormalizeException)(&raw mut class, &raw mut value, &raw mut traceback);
            if !traceback.is_null() {
                (api().PyException_SetTraceback)(value, traceback);
                (api().Py_DecRef)(traceback);
            }
            if !class.is_null() {
                (api().Py_DecRef)(class);
            }
            let value = if value.is_null() {
                api()._Py_NoneStruct.borrowed(gil)
            } else {
                match value.owned_or_err(gil) {
                    Ok(value) => value,
                    Err(Raised) => Obj::none(gil),
                }
            };
            Self { value }
        }
    }
}
