//! Types and functions of ours that Python code sees, defined from safe Rust.
//!
//! An instance is an `object` followed by one pointer-sized cell: where the cell stands is read from
//! `object.__basicsize__` at run time, since the object header differs between builds.

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use super::error::{PyResult, Raised};
use super::gil::Gil;
use super::object::{FromApi, Kept, Obj, zero};
use super::table::{
    FastFunction, METH_FASTCALL, PyMethodDef, PyObject, PyTypeSlot, PyTypeSpec, Ssize, api,
};

/// Positional arguments of a call, borrowed from the caller.
pub struct Args<'a, 'py> {
    pointers: &'a [*mut PyObject],
    gil: Gil<'py>,
}

impl<'py> Args<'_, 'py> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pointers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<Obj<'py>> {
        // SAFETY: S4; the caller keeps its arguments alive during the call.
        self.pointers.get(index).map(|pointer| unsafe { pointer.borrowed(self.gil) })
    }

    /// Checks the count.
    ///
    /// # Errors
    /// `TypeError` in Python's wording.
    pub fn expect(&self, name: &str, least: usize, most: usize) -> PyResult<()> {
        if (least..=most).contains(&self.len()) {
            return Ok(());
        }
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let message =
            format!("{name}() takes {wanted} positional arguments ({} given)", self.len());
        Err(Raised::type_error(self.gil, &message))
    }
}

/// A method or function implemented in Rust. `Data` is what instances of its class carry; functions of a module
/// carry nothing.
pub trait Method {
    /// What an instance refers to.
    type Data: Send + Sync + 'static;
    /// Name Python code sees.
    const NAME: &'static CStr;
    /// The work. `data` is `None` for an instance that Python code made by itself, and for module functions.
    ///
    /// # Errors
    /// The exception that is set.
    fn call<'py>(
        gil: Gil<'py>,
        this: &Obj<'py>,
        data: Option<&Arc<Self::Data>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>>;
}

/// A getter of a class.
pub trait Getter {
    /// What an instance refers to.
    type Data: Send + Sync + 'static;
    /// Name Python code sees.
    const NAME: &'static CStr;
    /// The value.
    ///
    /// # Errors
    /// The exception that is set.
    fn get<'py>(
        gil: Gil<'py>,
        this: &Obj<'py>,
        data: Option<&Arc<Self::Data>>,
    ) -> PyResult<Obj<'py>>;
}

/// One row of a method table.
pub struct MethodRow(PyMethodDef);

/// A row of a method table for `M`, a method of a class.
#[must_use]
pub const fn method<M: Method>() -> MethodRow {
    MethodRow(PyMethodDef {
        name: M::NAME.as_ptr(),
        function: Some(call_method::<M> as FastFunction),
        flags: METH_FASTCALL,
        doc: std::ptr::null(),
    })
}

/// A row of a method table for `M`, a function of a module.
#[must_use]
pub const fn function<M: Method>() -> MethodRow {
    MethodRow(PyMethodDef {
        name: M::NAME.as_ptr(),
        function: Some(call_function::<M> as FastFunction),
        flags: METH_FASTCALL,
        doc: std::ptr::null(),
    })
}

/// Adds functions to a module. The table lives as long as the process, as CPython wants it.
///
/// # Errors
/// `MemoryError`
pub fn functions_into(_gil: Gil<'_>, module: &Obj<'_>, rows: Vec<MethodRow>) -> PyResult<()> {
    // SAFETY: S4; a table closed by a null entry that is never freed.
    zero(unsafe { (api().PyModule_AddFunctions)(module.as_ptr(), closed(rows)) })
}

fn closed(rows: Vec<MethodRow>) -> *mut PyMethodDef {
    let mut table: Vec<PyMethodDef> = rows.into_iter().map(|row| row.0).collect();
    table.push(PyMethodDef {
        name: std::ptr::null(),
        function: None,
        flags: 0,
        doc: std::ptr::null(),
    });
    table.leak().as_mut_ptr()
}

/// `PyGetSetDef` (descrobject.h), equal in every build.
#[repr(C)]
struct PyGetSetDef {
    name: *const std::ffi::c_char,
    get: Option<unsafe extern "C" fn(*mut PyObject, *mut c_void) -> *mut PyObject>,
    set: *mut c_void,
    doc: *const std::ffi::c_char,
    closure: *mut c_void,
}

/// One row of a getter table.
pub struct GetterRow(PyGetSetDef);

/// A row of a getter table.
#[must_use]
pub const fn getter<G: Getter>() -> GetterRow {
    GetterRow(PyGetSetDef {
        name: G::NAME.as_ptr(),
        get: Some(call_getter::<G>),
        set: std::ptr::null_mut(),
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    })
}

/// What a class offers.
pub struct ClassSpec {
    /// Dotted name.
    pub name: &'static CStr,
    /// Its methods.
    pub methods: Vec<MethodRow>,
    /// Its getters.
    pub getters: Vec<GetterRow>,
    /// Its `__next__`, if it is an iterator over itself.
    pub next: Option<NextSlot>,
}

/// `__next__` of a class.
pub struct NextSlot(unsafe extern "C" fn(*mut PyObject) -> *mut PyObject);

/// `__next__` by `M`, called without arguments; an item that is an empty `bytes` ends the iteration.
#[must_use]
pub const fn next_by<M: Method>() -> NextSlot {
    NextSlot(call_next::<M>)
}

/// Numbers of slots (typeslots.h).
const TP_DEALLOC: c_int = 52;
const TP_ITER: c_int = 62;
const TP_ITERNEXT: c_int = 63;
const TP_METHODS: c_int = 64;
const TP_GETSET: c_int = 73;
const TP_FREE: c_int = 74;
/// `Py_TPFLAGS_DEFAULT` of 3.9 (later versions ignore the bit).
const TPFLAGS_DEFAULT: u32 = 1 << 18;

/// Where the cell of our instances stands: `object.__basicsize__`.
static OFFSET: OnceLock<usize> = OnceLock::new();

/// A class of one interpreter whose instances refer to a `D`.
pub struct Class<D> {
    class: Kept,
    data: std::marker::PhantomData<fn() -> D>,
}

impl<D: Send + Sync + 'static> Class<D> {
    /// Defines the class in the current interpreter.
    ///
    /// # Errors
    /// As Python raises.
    pub fn define(gil: Gil<'_>, spec: ClassSpec) -> PyResult<Self> {
        let offset = object_size(gil)?;
        let mut getters: Vec<PyGetSetDef> = spec.getters.into_iter().map(|row| row.0).collect();
        getters.push(PyGetSetDef {
            name: std::ptr::null(),
            get: None,
            set: std::ptr::null_mut(),
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        });
        let mut slots = vec![
            PyTypeSlot { slot: TP_DEALLOC, function: dealloc::<D> as *mut c_void },
            PyTypeSlot { slot: TP_METHODS, function: closed(spec.methods).cast() },
            PyTypeSlot { slot: TP_GETSET, function: getters.leak().as_mut_ptr().cast() },
        ];
        if let Some(NextSlot(next)) = spec.next {
            slots.push(PyTypeSlot {
                slot: TP_ITER,
                function: api().PyObject_SelfIter as *mut c_void,
            });
            slots.push(PyTypeSlot { slot: TP_ITERNEXT, function: next as *mut c_void });
        }
        slots.push(PyTypeSlot { slot: 0, function: std::ptr::null_mut() });
        let basicsize = c_int::try_from(offset + size_of::<Option<Arc<D>>>()).unwrap_or(c_int::MAX);
        let mut spec = PyTypeSpec {
            name: spec.name.as_ptr(),
            basicsize,
            itemsize: 0,
            flags: TPFLAGS_DEFAULT,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: S4; the method and getter tables are leaked, the rest is copied by the call.
        let class = unsafe { (api().PyType_FromSpec)(&raw mut spec).owned_or_err(gil)? };
        Ok(Self { class: class.keep(), data: std::marker::PhantomData })
    }

    /// The class object.
    #[must_use]
    pub fn object<'py>(&self, gil: Gil<'py>) -> Obj<'py> {
        self.class.get(gil)
    }

    /// A new instance that refers to `data`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn instance<'py>(&self, gil: Gil<'py>, data: Arc<D>) -> PyResult<Obj<'py>> {
        // SAFETY: S4; GenericAlloc gives zeroed memory of basicsize bytes, so the cell reads as None.
        unsafe {
            let object = (api().PyType_GenericAlloc)(self.class.borrow(gil).as_ptr(), 0)
                .owned_or_err(gil)?;
            cell::<D>(object.as_ptr()).write(Some(data));
            Ok(object)
        }
    }
}

/// A callable bound to an instance: the method `M` without the attribute look-up.
///
/// # Errors
/// `MemoryError`
pub fn bound<'py, M: Method>(gil: Gil<'py>, this: &Obj<'py>) -> PyResult<Obj<'py>> {
    struct Row<M>(std::marker::PhantomData<M>);
    impl<M: Method> Row<M> {
        const ROW: &'static MethodRow = &method::<M>();
    }
    // SAFETY: S4; the row is static, the instance is of the class M belongs to (its cell is checked by type of
    // Data at definition: classes and their methods are declared together in one room).
    unsafe {
        (api().PyCFunction_NewEx)(&raw const Row::<M>::ROW.0, this.as_ptr(), std::ptr::null_mut())
            .owned_or_err(gil)
    }
}

fn object_size(gil: Gil<'_>) -> PyResult<usize> {
    if let Some(size) = OFFSET.get() {
        return Ok(*size);
    }
    // SAFETY: S4; the type `object` is always alive.
    let object = unsafe { api().PyBaseObject_Type.borrowed(gil) };
    let size = object.attr(c"__basicsize__")?.size_argument()?.unwrap_or(0);
    let size = usize::try_from(size).unwrap_or(0);
    if size < size_of::<usize>() * 2 || size % align_of::<usize>() != 0 {
        return Err(Raised::runtime_error(gil, "object.__basicsize__ is not plausible"));
    }
    Ok(*OFFSET.get_or_init(|| size))
}

/// The cell of an instance.
///
/// # Safety
/// `object` is an instance of a class made by `Class::<D>::define`.
unsafe fn cell<D>(object: *mut PyObject) -> *mut Option<Arc<D>> {
    let offset = OFFSET.get().copied().unwrap_or(0);
    // SAFETY: the caller's promise: basicsize is offset plus the cell.
    unsafe { object.cast::<u8>().add(offset).cast() }
}

unsafe extern "C" fn dealloc<D>(object: *mut PyObject) {
    // SAFETY: S4 (tp_dealloc is called attached). The cell is emptied once, the memory given back by the type's
    // own tp_free, and the reference an instance holds to its heap type (since 3.8) dropped, plus the one
    // PyObject_Type gave us.
    unsafe {
        let data = cell::<D>(object).replace(None);
        let class = (api().PyObject_Type)(object);
        let free = (api().PyType_GetSlot)(class, TP_FREE);
        if !free.is_null() {
            let free: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(free);
            free(object.cast());
        }
        (api().Py_DecRef)(class);
        (api().Py_DecRef)(class);
        drop(catch_unwind(AssertUnwindSafe(|| drop(data))));
    }
}

unsafe extern "C" fn call_method<M: Method>(
    this: *mut PyObject,
    args: *const *mut PyObject,
    count: Ssize,
) -> *mut PyObject {
    // SAFETY: S4; CPython calls methods with an instance of their class, or of a subclass, and count arguments.
    unsafe { enter::<M>(this, true, args, count) }
}

unsafe extern "C" fn call_function<M: Method>(
    this: *mut PyObject,
    args: *const *mut PyObject,
    count: Ssize,
) -> *mut PyObject {
    // SAFETY: S4; CPython calls functions with their module and count arguments.
    unsafe { enter::<M>(this, false, args, count) }
}

/// # Safety
/// Called by CPython: attached, `this` alive, `args` points to `count` objects; with `cell_there` an instance of a
/// class whose cells hold `M::Data`.
unsafe fn enter<M: Method>(
    this: *mut PyObject,
    cell_there: bool,
    args: *const *mut PyObject,
    count: Ssize,
) -> *mut PyObject {
    // SAFETY: S4 and the caller's promise.
    let (gil, this, data, pointers) = unsafe {
        let gil = Gil::assume();
        let data = if cell_there { (*cell::<M::Data>(this)).as_ref() } else { None };
        let count = usize::try_from(count).unwrap_or(0);
        let pointers: &[*mut PyObject] =
            if count == 0 { &[] } else { std::slice::from_raw_parts(args, count) };
        (gil, this.borrowed(gil), data, pointers)
    };
    fence(gil, || M::call(gil, &this, data, Args { pointers, gil }))
}

unsafe extern "C" fn call_getter<G: Getter>(
    this: *mut PyObject,
    _closure: *mut c_void,
) -> *mut PyObject {
    // SAFETY: S4; CPython calls getters with an instance of their class.
    let (gil, this, data) = unsafe {
        let gil = Gil::assume();
        (gil, this.borrowed(gil), (*cell::<G::Data>(this)).as_ref())
    };
    fence(gil, || G::get(gil, &this, data))
}

unsafe extern "C" fn call_next<M: Method>(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: S4; as `call_method`, without arguments.
    let item = unsafe { enter::<M>(this, true, std::ptr::null(), 0) };
    if item.is_null() {
        return item;
    }
    // SAFETY: a new reference, not null.
    let gil = unsafe { Gil::assume() };
    // SAFETY: as above.
    match unsafe { item.owned_or_err(gil) } {
        // Null without an exception is the end of an iteration.
        Ok(item) if item.bytes().is_some_and(<[u8]>::is_empty) => std::ptr::null_mut(),
        Ok(item) => item.into_ptr(),
        Err(Raised) => std::ptr::null_mut(),
    }
}

/// No panic leaves a callback (S5): it becomes a `RuntimeError`.
fn fence<'py>(gil: Gil<'py>, work: impl FnOnce() -> PyResult<Obj<'py>>) -> *mut PyObject {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(Raised)) => std::ptr::null_mut(),
        Err(_) => {
            let Raised = Raised::runtime_error(gil, "internal error in mod_wsgi_rs (a panic)");
            std::ptr::null_mut()
        }
    }
}
