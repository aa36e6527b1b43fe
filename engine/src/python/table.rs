//! The symbol table: every function and object of CPython this project uses, found by name at run time.
//!
//! One list. It is loaded whole and refused whole: a library that lacks a required name is refused with
//! all the names it lacks. Nothing here depends on the layout of a Python structure but for the
//! few that are equal in every build from 3.9 on (SAFETY.md, P3).

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_longlong, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

/// `PyObject`, never laid out by us.
#[repr(C)]
pub struct PyObject {
    _opaque: [u8; 0],
}

/// `PyThreadState`, opaque.
#[repr(C)]
pub struct PyThreadState {
    _opaque: [u8; 0],
}

/// `PyInterpreterState`, opaque.
#[repr(C)]
pub struct PyInterpreterState {
    _opaque: [u8; 0],
}

/// `Py_ssize_t`
pub type Ssize = isize;

/// The C type of a `METH_FASTCALL` function.
pub type FastFunction =
    unsafe extern "C" fn(slf: *mut PyObject, args: *const *mut PyObject, n: Ssize) -> *mut PyObject;

/// `PyMethodDef` (methodobject.h), equal in every build.
#[repr(C)]
pub struct PyMethodDef {
    /// Name, or null in the closing entry.
    pub name: *const c_char,
    /// The function.
    pub function: Option<FastFunction>,
    /// `METH_*`
    pub flags: c_int,
    /// Docstring or null.
    pub doc: *const c_char,
}

/// `METH_FASTCALL` (methodobject.h)
pub const METH_FASTCALL: c_int = 0x80;

/// `PyType_Slot` (object.h), equal in every build.
#[repr(C)]
pub struct PyTypeSlot {
    /// Number from typeslots.h; 0 closes the list.
    pub slot: c_int,
    /// Function or table.
    pub function: *mut c_void,
}

/// `PyType_Spec` (object.h), equal in every build.
#[repr(C)]
pub struct PyTypeSpec {
    /// Dotted name.
    pub name: *const c_char,
    /// Size of an instance.
    pub basicsize: c_int,
    /// Size of an item.
    pub itemsize: c_int,
    /// `Py_TPFLAGS_*`
    pub flags: u32,
    /// The slots.
    pub slots: *mut PyTypeSlot,
}

/// `PyInterpreterConfig` (cpython/initconfig.h, equal from 3.12 to 3.15).
#[repr(C)]
pub struct PyInterpreterConfig {
    /// Share the main interpreter's allocator.
    pub use_main_obmalloc: c_int,
    /// `os.fork` allowed.
    pub allow_fork: c_int,
    /// `os.exec*` allowed.
    pub allow_exec: c_int,
    /// `threading` allowed.
    pub allow_threads: c_int,
    /// Daemon threads allowed.
    pub allow_daemon_threads: c_int,
    /// Refuse extension modules that do not declare support.
    pub check_multi_interp_extensions: c_int,
    /// 0 default, 1 shared, 2 own.
    pub gil: c_int,
}

/// `PyStatus` (cpython/initconfig.h), returned by value since 3.8.
#[repr(C)]
pub struct PyStatus {
    /// 0 ok, 1 error, 2 exit.
    pub kind: c_int,
    /// Function that failed.
    pub function: *const c_char,
    /// Message.
    pub message: *const c_char,
    /// Exit code.
    pub exitcode: c_int,
}

type Object = *mut PyObject;

macro_rules! table {
    (
        required { $( fn $name:ident ( $($arg:ty),* $(; $variadic:tt)? ) $(-> $ret:ty)? ; )* }
        optional { $( fn $opt:ident ( $($oarg:ty),* ) $(-> $oret:ty)? ; )* }
        data { $( $data:ident : $dty:ty ; )* }
        optional_data { $( $odata:ident : $odty:ty ; )* }
    ) => {
        /// Pointers to everything used of one libpython.
        #[expect(non_snake_case, reason = "fields carry CPython's own names")]
        #[expect(missing_docs, reason = "documented by CPython's C API reference")]
        pub struct Api {
            $( pub $name: unsafe extern "C" fn($($arg),* $(, $variadic)?) $(-> $ret)?, )*
            $( pub $opt: Option<unsafe extern "C" fn($($oarg),*) $(-> $oret)?>, )*
            $( pub $data: *mut $dty, )*
            $( pub $odata: Option<*mut $odty>, )*
        }

        impl Api {
            /// Looks every name up in an open library.
            #[expect(non_snake_case, reason = "variables carry CPython's own names")]
            fn find(library: &Library) -> Result<Self, TableFault> {
                let mut missing = Vec::new();
                $( let $name = library.symbol(stringify!($name)); if $name.is_null() { missing.push(stringify!($name)); } )*
                $( let $data = library.symbol(stringify!($data)); if $data.is_null() { missing.push(stringify!($data)); } )*
                if !missing.is_empty() {
                    return Err(TableFault::Missing(missing));
                }
                // SAFETY: P1: each non-null symbol is the function or object of that name, and the
                // signatures above are those of CPython's headers from 3.9 on.
                unsafe {
                    $( let $opt = library.symbol(stringify!($opt)); )*
                    $( let $odata = library.symbol(stringify!($odata)); )*
                    Ok(Self {
                        $( $name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),* $(, $variadic)?) $(-> $ret)?>($name), )*
                        $( $opt: if $opt.is_null() { None } else {
                            Some(std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($oarg),*) $(-> $oret)?>($opt)) }, )*
                        $( $data: $data.cast(), )*
                        $( $odata: if $odata.is_null() { None } else { Some($odata.cast()) }, )*
                    })
                }
            }
        }
    };
}

table! {
    required {
        fn Py_InitializeEx(c_int);
        fn Py_IsInitialized() -> c_int;
        fn Py_GetVersion() -> *const c_char;
        fn Py_DecodeLocale(*const c_char, *mut usize) -> *mut libc::wchar_t;

        fn PyEval_SaveThread() -> *mut PyThreadState;
        fn PyEval_RestoreThread(*mut PyThreadState);
        fn PyThreadState_New(*mut PyInterpreterState) -> *mut PyThreadState;
        fn PyThreadState_Swap(*mut PyThreadState) -> *mut PyThreadState;
        fn PyThreadState_Get() -> *mut PyThreadState;
        fn PyThreadState_GetInterpreter(*mut PyThreadState) -> *mut PyInterpreterState;
        fn PyInterpreterState_Main() -> *mut PyInterpreterState;
        fn Py_NewInterpreter() -> *mut PyThreadState;

        fn Py_IncRef(Object);
        fn Py_DecRef(Object);
        fn PyObject_Type(Object) -> Object;
        fn PyObject_GetAttr(Object, Object) -> Object;
        fn PyObject_GetAttrString(Object, *const c_char) -> Object;
        fn PyObject_SetAttrString(Object, *const c_char, Object) -> c_int;
        fn PyObject_Call(Object, Object, Object) -> Object;
        fn PyObject_GetIter(Object) -> Object;
        fn PyIter_Next(Object) -> Object;
        fn PyCallable_Check(Object) -> c_int;
        fn PyObject_IsInstance(Object, Object) -> c_int;
        fn PyObject_IsTrue(Object) -> c_int;
        fn PyObject_Str(Object) -> Object;
        fn PyObject_AsFileDescriptor(Object) -> c_int;
        fn PyObject_SelfIter(Object) -> Object;

        fn PyUnicode_DecodeLatin1(*const c_char, Ssize, *const c_char) -> Object;
        fn PyUnicode_DecodeUTF8(*const c_char, Ssize, *const c_char) -> Object;
        fn PyUnicode_DecodeFSDefaultAndSize(*const c_char, Ssize) -> Object;
        fn PyUnicode_InternFromString(*const c_char) -> Object;
        fn PyUnicode_AsUTF8AndSize(Object, *mut Ssize) -> *const c_char;
        fn PyUnicode_AsLatin1String(Object) -> Object;
        fn PyUnicode_GetLength(Object) -> Ssize;

        fn PyBytes_FromStringAndSize(*const c_char, Ssize) -> Object;
        fn PyBytes_AsString(Object) -> *mut c_char;
        fn PyBytes_Size(Object) -> Ssize;
        fn _PyBytes_Resize(*mut Object, Ssize) -> c_int;

        fn PyDict_New() -> Object;
        fn PyDict_Copy(Object) -> Object;
        fn PyDict_SetItem(Object, Object, Object) -> c_int;
        fn PyDict_GetItemWithError(Object, Object) -> Object;
        fn PyDict_DelItem(Object, Object) -> c_int;

        fn PyList_New(Ssize) -> Object;
        fn PyList_Append(Object, Object) -> c_int;
        fn PyList_Size(Object) -> Ssize;
        fn PyTuple_New(Ssize) -> Object;
        fn PyTuple_SetItem(Object, Ssize, Object) -> c_int;
        fn PyTuple_Size(Object) -> Ssize;
        fn PyTuple_GetItem(Object, Ssize) -> Object;
        fn PySequence_Size(Object) -> Ssize;
        fn PySequence_GetItem(Object, Ssize) -> Object;

        fn PyLong_FromLongLong(c_longlong) -> Object;
        fn PyFloat_FromDouble(f64) -> Object;
        fn PyBool_FromLong(c_long) -> Object;
        fn PyNumber_AsSsize_t(Object, Object) -> Ssize;

        fn PyErr_Occurred() -> Object;
        fn PyErr_Clear();
        fn PyErr_Fetch(*mut Object, *mut Object, *mut Object);
        fn PyErr_NormalizeException(*mut Object, *mut Object, *mut Object);
        fn PyErr_Restore(Object, Object, Object);
        fn PyErr_SetString(Object, *const c_char);
        fn PyErr_ExceptionMatches(Object) -> c_int;
        fn PyException_SetTraceback(Object, Object) -> c_int;
        fn PyErr_CheckSignals() -> c_int;
        fn PyThreadState_SetAsyncExc(std::ffi::c_ulong, Object) -> c_int;

        fn PyModule_New(*const c_char) -> Object;
        fn PyModule_GetDict(Object) -> Object;
        fn PyModule_AddFunctions(Object, *mut PyMethodDef) -> c_int;
        fn PyImport_ImportModule(*const c_char) -> Object;
        fn PyImport_GetModuleDict() -> Object;
        fn Py_CompileString(*const c_char, *const c_char, c_int) -> Object;
        fn PyEval_EvalCode(Object, Object, Object) -> Object;
        fn PyEval_GetBuiltins() -> Object;

        fn PyCFunction_NewEx(*const PyMethodDef, Object, Object) -> Object;
        fn PyType_FromSpec(*mut PyTypeSpec) -> Object;
        fn PyType_GenericAlloc(Object, Ssize) -> Object;
        fn PyType_GetSlot(Object, c_int) -> *mut c_void;
        fn PyType_GetFlags(Object) -> std::ffi::c_ulong;
    }
    optional {
        // A call without an argument tuple; public since 3.11 (as a symbol).
        fn PyObject_Vectorcall(Object, *const Object, usize, Object) -> Object;
        // Interpreters with a GIL of their own, since 3.12.
        fn Py_NewInterpreterFromConfig(*mut *mut PyThreadState, *const PyInterpreterConfig) -> PyStatus;
        // The legacy way to configure the start, until 3.14.
        fn Py_SetProgramName(*const libc::wchar_t);
        fn PySys_AddWarnOption(*const libc::wchar_t);
        // The way from 3.14 on.
        fn PyInitConfig_Create() -> *mut c_void;
        fn PyInitConfig_Free(*mut c_void);
        fn PyInitConfig_SetInt(*mut c_void, *const c_char, i64) -> c_int;
        fn PyInitConfig_SetStr(*mut c_void, *const c_char, *const c_char) -> c_int;
        fn PyInitConfig_SetStrList(*mut c_void, *const c_char, usize, *const *const c_char) -> c_int;
        fn PyInitConfig_GetError(*mut c_void, *mut *const c_char) -> c_int;
        fn Py_InitializeFromInitConfig(*mut c_void) -> c_int;
    }
    data {
        _Py_NoneStruct: PyObject;
        PyBaseObject_Type: PyObject;
        PyExc_BaseException: Object;
        PyExc_TypeError: Object;
        PyExc_ValueError: Object;
        PyExc_RuntimeError: Object;
        PyExc_OSError: Object;
        PyExc_AttributeError: Object;
        PyExc_StopIteration: Object;
        PyExc_SystemExit: Object;
        PyExc_ImportError: Object;
        PyExc_OverflowError: Object;
    }
    optional_data {
        Py_OptimizeFlag: c_int;
        Py_DontWriteBytecodeFlag: c_int;
        Py_UTF8Mode: c_int;
    }
}

// SAFETY: P1: the table holds addresses that never change after loading; what they point to is guarded by the
// GIL rules (S4), not by this type.
unsafe impl Send for Api {}
// SAFETY: P1, as above.
unsafe impl Sync for Api {}

static API: OnceLock<Api> = OnceLock::new();

/// The loaded table.
///
/// # Panics
/// Never once a [`super::Gil`] exists: attaching needs the table. The fence of the callback turns it into
/// an error otherwise.
#[inline]
#[must_use]
pub fn api() -> &'static Api {
    match API.get() {
        Some(api) => api,
        None => unloaded(),
    }
}

#[cold]
#[expect(clippy::panic, reason = "an order of calls that cannot happen; a fence stands above")]
fn unloaded() -> ! {
    panic!("Python used before its library was loaded")
}

/// Whether a library has been loaded in this process.
#[must_use]
pub fn loaded() -> bool {
    API.get().is_some()
}

/// Opens a libpython, globally visible (extension modules resolve their symbols in it), and fills the table.
///
/// # Errors
/// The dynamic linker's words, or the names that are missing.
pub fn load(library: &Path) -> Result<&'static Api, TableFault> {
    if let Some(api) = API.get() {
        return Ok(api);
    }
    let api = Api::find(&Library::open(library)?)?;
    Ok(API.get_or_init(|| api))
}

/// Fills the table from the Python that runs in this process already, wherever its functions are: in the program
/// itself or in a library of its.
///
/// # Errors
/// The names that are missing.
pub fn adopt() -> Result<&'static Api, TableFault> {
    if let Some(api) = API.get() {
        return Ok(api);
    }
    let api = Api::find(&Library::running()?)?;
    Ok(API.get_or_init(|| api))
}

/// Why a libpython cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableFault {
    /// The dynamic linker refused it; its own words.
    Open(String),
    /// It lacks required functions.
    Missing(Vec<&'static str>),
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(words) => f.write_str(words),
            Self::Missing(names) => {
                write!(f, "it lacks {} (CPython 3.9 or newer is needed)", names.join(", "))
            }
        }
    }
}

/// An open library, never closed: Python cannot be unloaded.
struct Library(*mut c_void);

impl Library {
    fn open(path: &Path) -> Result<Self, TableFault> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| TableFault::Open("the path holds a NUL byte".to_owned()))?;
        // SAFETY: P1: name is a NUL-terminated string; the initialisers of libpython touch nothing of ours.
        Self::checked(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) })
    }

    /// The program with all that it was linked to.
    fn running() -> Result<Self, TableFault> {
        // SAFETY: without a name nothing is opened.
        Self::checked(unsafe { libc::dlopen(std::ptr::null(), libc::RTLD_NOW) })
    }

    fn checked(handle: *mut c_void) -> Result<Self, TableFault> {
        if handle.is_null() {
            // SAFETY: dlerror returns null or a string valid until the next dl call of this thread.
            let words = unsafe { libc::dlerror() };
            if words.is_null() {
                return Err(TableFault::Open("the dynamic linker gives no reason".to_owned()));
            }
            // SAFETY: not null, see above; copied at once.
            let words = unsafe { CStr::from_ptr(words) };
            return Err(TableFault::Open(words.to_string_lossy().into_owned()));
        }
        Ok(Self(handle))
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let Ok(name) = CString::new(name) else { return std::ptr::null_mut() };
        // SAFETY: the handle is open for good and name is NUL-terminated.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }
}
