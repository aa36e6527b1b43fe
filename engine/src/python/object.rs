//! Holding Python objects: [`Obj`] now, [`Kept`] for later. Pointers stay inside this room.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::error::{PyResult, Raised};
use super::gil::{self, Gil};
use super::table::{PyObject, Ssize, api};

/// A strong reference, held while attached.
pub struct Obj<'py> {
    pointer: NonNull<PyObject>,
    gil: PhantomData<Gil<'py>>,
}

impl Drop for Obj<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: S4: 'py proves attachment; the reference is ours.
        unsafe { (api().Py_DecRef)(self.pointer.as_ptr()) };
    }
}

impl Clone for Obj<'_> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: S4: 'py proves attachment; the object is alive as self holds it.
        unsafe { (api().Py_IncRef)(self.pointer.as_ptr()) };
        Self { pointer: self.pointer, gil: PhantomData }
    }
}

/// Turns what the API returned into objects, at the spot where it returns it.
pub(super) trait FromApi {
    /// A new reference, or null with an exception set.
    ///
    /// # Safety
    /// The pointer is what such a call returned just now on this thread.
    unsafe fn owned_or_err(self, gil: Gil<'_>) -> PyResult<Obj<'_>>;
    /// A borrowed pointer that is alive now.
    ///
    /// # Safety
    /// The pointer is not null and alive.
    unsafe fn borrowed(self, gil: Gil<'_>) -> Obj<'_>;
}

impl FromApi for *mut PyObject {
    #[inline]
    unsafe fn owned_or_err(self, _gil: Gil<'_>) -> PyResult<Obj<'_>> {
        match NonNull::new(self) {
            Some(pointer) => Ok(Obj { pointer, gil: PhantomData }),
            None => Err(Raised),
        }
    }

    #[inline]
    unsafe fn borrowed(self, _gil: Gil<'_>) -> Obj<'_> {
        // SAFETY: the caller's promise that it is alive and not null.
        unsafe {
            (api().Py_IncRef)(self);
            Obj { pointer: NonNull::new_unchecked(self), gil: PhantomData }
        }
    }
}

/// Type flags that say what built-in an object is (object.h, equal in every version).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `int`
    Long = 1 << 24,
    /// `list`
    List = 1 << 25,
    /// `tuple`
    Tuple = 1 << 26,
    /// `bytes`
    Bytes = 1 << 27,
    /// `str`
    Str = 1 << 28,
    /// `dict`
    Dict = 1 << 29,
}

impl<'py> Obj<'py> {
    /// The pointer, for calls inside this room.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut PyObject {
        self.pointer.as_ptr()
    }

    /// Gives the reference away.
    #[inline]
    pub(super) fn into_ptr(self) -> *mut PyObject {
        let pointer = self.pointer.as_ptr();
        std::mem::forget(self);
        pointer
    }

    #[inline]
    fn gil(&self) -> Gil<'py> {
        // SAFETY: S4: an Obj<'py> exists only while attached for 'py.
        unsafe { Gil::assume() }
    }

    /// Keeps the reference beyond this attachment.
    #[must_use]
    pub fn keep(self) -> Kept {
        let pointer = self.pointer;
        std::mem::forget(self);
        Kept { pointer }
    }

    /// Whether both are the same object.
    #[must_use]
    pub fn is(&self, other: &Obj<'py>) -> bool {
        self.pointer == other.pointer
    }

    /// Whether it is `None`.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.as_ptr() == api()._Py_NoneStruct
    }

    /// Its type.
    #[must_use]
    pub fn type_of(&self) -> Obj<'py> {
        // SAFETY: S4; PyObject_Type of a living object gives a new reference, never null.
        unsafe {
            Obj {
                pointer: NonNull::new_unchecked((api().PyObject_Type)(self.as_ptr())),
                gil: PhantomData,
            }
        }
    }

    /// Whether it is an instance of the built-in or of a subclass.
    #[must_use]
    pub fn is_kind(&self, kind: Kind) -> bool {
        // SAFETY: S4; type_of gives a type object.
        let flags = unsafe { (api().PyType_GetFlags)(self.type_of().as_ptr()) };
        flags & kind as std::ffi::c_ulong != 0
    }

    /// Name of its type, for messages.
    #[must_use]
    pub fn type_name(&self) -> String {
        self.type_of().attr(c"__name__").and_then(|name| name.text()).unwrap_or_else(|raised| {
            raised.clear(self.gil());
            "object".to_owned()
        })
    }

    /// An attribute by C string.
    ///
    /// # Errors
    /// As Python raises.
    pub fn attr(&self, name: &CStr) -> PyResult<Obj<'py>> {
        // SAFETY: S4; name is NUL-terminated.
        unsafe {
            (api().PyObject_GetAttrString)(self.as_ptr(), name.as_ptr()).owned_or_err(self.gil())
        }
    }

    /// An attribute by interned name; `None` where there is none.
    ///
    /// # Errors
    /// As Python raises, `AttributeError` apart.
    pub fn attr_opt(&self, name: &Obj<'py>) -> PyResult<Option<Obj<'py>>> {
        // SAFETY: S4; both are alive.
        let found = unsafe {
            (api().PyObject_GetAttr)(self.as_ptr(), name.as_ptr()).owned_or_err(self.gil())
        };
        match found {
            Ok(value) => Ok(Some(value)),
            // SAFETY: S4; PyExc_AttributeError is a living class.
            Err(raised) => unsafe {
                if (api().PyErr_ExceptionMatches)(*api().PyExc_AttributeError) == 0 {
                    return Err(raised);
                }
                (api().PyErr_Clear)();
                Ok(None)
            },
        }
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// As Python raises.
    pub fn set_attr(&self, name: &CStr, value: &Obj<'py>) -> PyResult<()> {
        // SAFETY: S4; all are alive, name is NUL-terminated.
        zero(unsafe {
            (api().PyObject_SetAttrString)(self.as_ptr(), name.as_ptr(), value.as_ptr())
        })
    }

    /// Calls it with positional arguments, without a tuple where the library can.
    ///
    /// # Errors
    /// As Python raises.
    pub fn call<const N: usize>(&self, args: [&Obj<'py>; N]) -> PyResult<Obj<'py>> {
        if let Some(vectorcall) = api().PyObject_Vectorcall {
            let pointers = args.map(Obj::as_ptr);
            // SAFETY: S4; N living arguments, no keywords.
            return unsafe {
                vectorcall(self.as_ptr(), pointers.as_ptr(), N, std::ptr::null_mut())
                    .owned_or_err(self.gil())
            };
        }
        let tuple = Obj::tuple(self.gil(), args)?;
        // SAFETY: S4; a tuple of arguments, no keywords.
        unsafe {
            (api().PyObject_Call)(self.as_ptr(), tuple.as_ptr(), std::ptr::null_mut())
                .owned_or_err(self.gil())
        }
    }

    /// Whether it can be called.
    #[must_use]
    pub fn callable(&self) -> bool {
        // SAFETY: S4
        unsafe { (api().PyCallable_Check)(self.as_ptr()) != 0 }
    }

    /// Whether it is an instance of `class`.
    ///
    /// # Errors
    /// As Python raises.
    pub fn instance_of(&self, class: &Obj<'py>) -> PyResult<bool> {
        // SAFETY: S4
        truth(unsafe { (api().PyObject_IsInstance)(self.as_ptr(), class.as_ptr()) })
    }

    /// Its truth value.
    ///
    /// # Errors
    /// As Python raises.
    pub fn truth(&self) -> PyResult<bool> {
        // SAFETY: S4
        truth(unsafe { (api().PyObject_IsTrue)(self.as_ptr()) })
    }

    /// `iter(self)`
    ///
    /// # Errors
    /// As Python raises.
    pub fn iter(&self) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyObject_GetIter)(self.as_ptr()).owned_or_err(self.gil()) }
    }

    /// The next item of an iterator; `None` at its end.
    ///
    /// # Errors
    /// As Python raises.
    pub fn next(&self) -> PyResult<Option<Obj<'py>>> {
        // SAFETY: S4; a null without an exception is the end.
        unsafe {
            let item = (api().PyIter_Next)(self.as_ptr());
            if item.is_null() && (api().PyErr_Occurred)().is_null() {
                return Ok(None);
            }
            item.owned_or_err(self.gil()).map(Some)
        }
    }

    /// `self` with another reference, as `tp_iter` of iterators returns it.
    #[must_use]
    pub fn itself(&self) -> Obj<'py> {
        self.clone()
    }

    /// A duplicate of the file descriptor behind it, close-on-exec; `None` where the system refuses one.
    ///
    /// # Errors
    /// As Python raises: no `fileno()`, or one that gives no descriptor.
    pub fn duplicate_descriptor(&self) -> PyResult<Option<OwnedFd>> {
        // SAFETY: S4; fcntl only reads the number, and what it returns is a new descriptor of our own.
        unsafe {
            let descriptor = (api().PyObject_AsFileDescriptor)(self.as_ptr());
            if descriptor < 0 {
                return Err(Raised);
            }
            let copy = libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3);
            Ok((copy >= 0).then(|| OwnedFd::from_raw_fd(copy)))
        }
    }

    /// The text of a `str`.
    ///
    /// # Errors
    /// As Python raises.
    pub fn text(&self) -> PyResult<String> {
        let mut size: Ssize = 0;
        // SAFETY: S4; a null sets an exception (not a str, or surrogates).
        let utf8 = unsafe { (api().PyUnicode_AsUTF8AndSize)(self.as_ptr(), &raw mut size) };
        if utf8.is_null() {
            return Err(Raised);
        }
        // SAFETY: the buffer of size bytes lives in the object, which self holds; copied at once.
        let bytes = unsafe { slice(utf8, size) };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Number of characters of a `str`.
    ///
    /// # Errors
    /// `TypeError` for other types.
    pub fn str_len(&self) -> PyResult<i64> {
        // SAFETY: S4
        let length = unsafe { (api().PyUnicode_GetLength)(self.as_ptr()) };
        if length < 0 { Err(Raised) } else { Ok(length as i64) }
    }

    /// `str(self)`, for messages.
    ///
    /// # Errors
    /// As Python raises.
    pub fn str_text(&self) -> PyResult<String> {
        // SAFETY: S4
        unsafe { (api().PyObject_Str)(self.as_ptr()).owned_or_err(self.gil())?.text() }
    }

    /// Runs `take` over the latin-1 bytes of a `str`.
    ///
    /// # Errors
    /// `TypeError` for other types, `UnicodeEncodeError` where a character does not fit.
    pub fn latin1<R>(&self, take: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        let mut size: Ssize = 0;
        // SAFETY: S4; a null sets an exception (not a str, or surrogates).
        let utf8 = unsafe { (api().PyUnicode_AsUTF8AndSize)(self.as_ptr(), &raw mut size) };
        if utf8.is_null() {
            Raised.clear(self.gil());
            if !self.is_kind(Kind::Str) {
                let message = format!("must be str, not {}", self.type_name());
                return Err(Raised::type_error(self.gil(), &message));
            }
        // SAFETY: S4; a str.
        } else if unsafe { (api().PyUnicode_GetLength)(self.as_ptr()) } == size {
            // As many bytes as characters: ASCII, and its own latin-1 form.
            // SAFETY: the buffer of size bytes lives in the object, which self holds.
            return Ok(take(unsafe { slice(utf8, size) }));
        }
        // SAFETY: S4; a str.
        let bytes =
            unsafe { (api().PyUnicode_AsLatin1String)(self.as_ptr()).owned_or_err(self.gil())? };
        Ok(take(bytes.bytes_of_bytes()))
    }

    /// The content of a `bytes` object, `None` for other types. Lives as long as the reference.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.is_kind(Kind::Bytes).then(|| self.bytes_of_bytes())
    }

    fn bytes_of_bytes(&self) -> &[u8] {
        // SAFETY: S4; a bytes object: its buffer does not move or change while it lives, and self holds it.
        unsafe {
            slice((api().PyBytes_AsString)(self.as_ptr()), (api().PyBytes_Size)(self.as_ptr()))
        }
    }

    /// Number of items of a list.
    #[must_use]
    pub fn list_len(&self) -> usize {
        // SAFETY: S4; -1 with an exception for other types, which reads as empty here.
        let size = unsafe { (api().PyList_Size)(self.as_ptr()) };
        usize::try_from(size).unwrap_or_else(|_| {
            Raised.clear(self.gil());
            0
        })
    }

    /// Number of items of a tuple.
    #[must_use]
    pub fn tuple_len(&self) -> usize {
        // SAFETY: S4; as `list_len`.
        let size = unsafe { (api().PyTuple_Size)(self.as_ptr()) };
        usize::try_from(size).unwrap_or_else(|_| {
            Raised.clear(self.gil());
            0
        })
    }

    /// Item of a tuple.
    ///
    /// # Errors
    /// `IndexError`, or `SystemError` when it is no tuple.
    pub fn tuple_item(&self, index: usize) -> PyResult<Obj<'py>> {
        // SAFETY: S4; a tuple does not change, so the borrowed item is alive until we hold it.
        unsafe {
            let item = (api().PyTuple_GetItem)(self.as_ptr(), index.cast_signed());
            if item.is_null() { Err(Raised) } else { Ok(item.borrowed(self.gil())) }
        }
    }

    /// Number of items of any sequence.
    ///
    /// # Errors
    /// As Python raises.
    pub fn sequence_len(&self) -> PyResult<usize> {
        // SAFETY: S4
        usize::try_from(unsafe { (api().PySequence_Size)(self.as_ptr()) }).map_err(|_| Raised)
    }

    /// Item of any sequence; safe against lists that other threads change.
    ///
    /// # Errors
    /// As Python raises.
    pub fn item(&self, index: usize) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe {
            (api().PySequence_GetItem)(self.as_ptr(), index.cast_signed()).owned_or_err(self.gil())
        }
    }

    /// As a size argument: an `int`-like, `None` for `None`. Values out of range are clipped.
    ///
    /// # Errors
    /// `TypeError` for what is no integer.
    pub fn size_argument(&self) -> PyResult<Option<isize>> {
        if self.is_none() {
            return Ok(None);
        }
        // SAFETY: S4; without an exception class the value is clipped.
        unsafe {
            let size = (api().PyNumber_AsSsize_t)(self.as_ptr(), std::ptr::null_mut());
            if size == -1 && !(api().PyErr_Occurred)().is_null() {
                return Err(Raised);
            }
            Ok(Some(size))
        }
    }

    /// Looks a key up in a dict.
    ///
    /// # Errors
    /// As Python raises (never for `str` keys).
    pub fn dict_get(&self, key: &Obj<'py>) -> PyResult<Option<Obj<'py>>> {
        // SAFETY: S4; the borrowed value is held at once.
        unsafe {
            let value = (api().PyDict_GetItemWithError)(self.as_ptr(), key.as_ptr());
            if !value.is_null() {
                return Ok(Some(value.borrowed(self.gil())));
            }
            if (api().PyErr_Occurred)().is_null() { Ok(None) } else { Err(Raised) }
        }
    }

    /// Sets a key of a dict.
    ///
    /// # Errors
    /// As Python raises.
    #[inline]
    pub fn dict_set(&self, key: &Obj<'py>, value: &Obj<'py>) -> PyResult<()> {
        // SAFETY: S4
        zero(unsafe { (api().PyDict_SetItem)(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Removes a key of a dict.
    ///
    /// # Errors
    /// `KeyError`
    pub fn dict_del(&self, key: &Obj<'py>) -> PyResult<()> {
        // SAFETY: S4
        zero(unsafe { (api().PyDict_DelItem)(self.as_ptr(), key.as_ptr()) })
    }

    /// A copy of a dict.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn dict_copy(&self) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyDict_Copy)(self.as_ptr()).owned_or_err(self.gil()) }
    }

    /// Appends to a list.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn list_append(&self, item: &Obj<'py>) -> PyResult<()> {
        // SAFETY: S4
        zero(unsafe { (api().PyList_Append)(self.as_ptr(), item.as_ptr()) })
    }

    /// `None`
    #[inline]
    #[must_use]
    pub fn none(gil: Gil<'py>) -> Obj<'py> {
        // SAFETY: S4; None is always alive.
        unsafe { api()._Py_NoneStruct.borrowed(gil) }
    }

    /// A `bool`.
    ///
    /// # Errors
    /// Never in practice.
    pub fn bool(gil: Gil<'py>, value: bool) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyBool_FromLong)(value.into()).owned_or_err(gil) }
    }

    /// An `int`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn int(gil: Gil<'py>, value: i64) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyLong_FromLongLong)(value).owned_or_err(gil) }
    }

    /// A `float`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn float(gil: Gil<'py>, value: f64) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyFloat_FromDouble)(value).owned_or_err(gil) }
    }

    /// A `bytes` object with a copy of `value`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn bytes_from(gil: Gil<'py>, value: &[u8]) -> PyResult<Obj<'py>> {
        // SAFETY: S4; pointer and length of a slice, copied by the call.
        unsafe {
            (api().PyBytes_FromStringAndSize)(value.as_ptr().cast(), value.len().cast_signed())
                .owned_or_err(gil)
        }
    }

    /// A `str` of characters 0 to 255: the bytes-as-text rule of PEP 3333.
    ///
    /// # Errors
    /// `MemoryError`
    #[inline]
    pub fn latin1_from(gil: Gil<'py>, value: &[u8]) -> PyResult<Obj<'py>> {
        // SAFETY: S4; pointer and length of a slice, copied by the call.
        unsafe {
            (api().PyUnicode_DecodeLatin1)(
                value.as_ptr().cast(),
                value.len().cast_signed(),
                std::ptr::null(),
            )
            .owned_or_err(gil)
        }
    }

    /// A `str` from UTF-8.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn str_from(gil: Gil<'py>, value: &str) -> PyResult<Obj<'py>> {
        // SAFETY: S4; pointer and length of a slice, copied by the call.
        unsafe {
            (api().PyUnicode_DecodeUTF8)(
                value.as_ptr().cast(),
                value.len().cast_signed(),
                std::ptr::null(),
            )
            .owned_or_err(gil)
        }
    }

    /// A `str` in the file-system encoding, with surrogateescape.
    ///
    /// # Errors
    /// As Python raises.
    pub fn path_from(gil: Gil<'py>, value: &[u8]) -> PyResult<Obj<'py>> {
        // SAFETY: S4; pointer and length of a slice, copied by the call.
        unsafe {
            (api().PyUnicode_DecodeFSDefaultAndSize)(
                value.as_ptr().cast(),
                value.len().cast_signed(),
            )
            .owned_or_err(gil)
        }
    }

    /// An interned `str`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn interned(gil: Gil<'py>, value: &CStr) -> PyResult<Obj<'py>> {
        // SAFETY: S4; NUL-terminated.
        unsafe { (api().PyUnicode_InternFromString)(value.as_ptr()).owned_or_err(gil) }
    }

    /// An empty dict.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn dict(gil: Gil<'py>) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyDict_New)().owned_or_err(gil) }
    }

    /// An empty list.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn list(gil: Gil<'py>) -> PyResult<Obj<'py>> {
        // SAFETY: S4
        unsafe { (api().PyList_New)(0).owned_or_err(gil) }
    }

    /// A tuple of the items.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn tuple<const N: usize>(gil: Gil<'py>, items: [&Obj<'py>; N]) -> PyResult<Obj<'py>> {
        // SAFETY: S4; every place of the new tuple is filled once, with a reference it takes over.
        unsafe {
            let tuple = (api().PyTuple_New)(N.cast_signed()).owned_or_err(gil)?;
            for (index, item) in items.into_iter().enumerate() {
                zero((api().PyTuple_SetItem)(
                    tuple.as_ptr(),
                    index.cast_signed(),
                    item.clone().into_ptr(),
                ))?;
            }
            Ok(tuple)
        }
    }

    /// Imports a module.
    ///
    /// # Errors
    /// As Python raises.
    pub fn import(gil: Gil<'py>, name: &CStr) -> PyResult<Obj<'py>> {
        // SAFETY: S4; NUL-terminated.
        unsafe { (api().PyImport_ImportModule)(name.as_ptr()).owned_or_err(gil) }
    }
}

/// A `bytes` object that is being filled: nobody else holds it yet.
pub struct BytesBuffer<'py> {
    object: *mut PyObject,
    size: usize,
    gil: Gil<'py>,
}

impl<'py> BytesBuffer<'py> {
    /// A new one of `size` zero bytes.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn new(gil: Gil<'py>, size: usize) -> PyResult<Self> {
        // SAFETY: S4; a null pointer asks for an object to be filled.
        let object =
            unsafe { (api().PyBytes_FromStringAndSize)(std::ptr::null(), size.cast_signed()) };
        if object.is_null() { Err(Raised) } else { Ok(Self { object, size, gil }) }
    }

    /// Its memory. What has not been written yet reads as anything.
    pub fn memory(&mut self) -> &mut [u8] {
        // SAFETY: S4; the object is ours alone, so its size bytes may be written.
        unsafe {
            std::slice::from_raw_parts_mut((api().PyBytes_AsString)(self.object).cast(), self.size)
        }
    }

    /// Changes the size; the beginning stays.
    ///
    /// # Errors
    /// `MemoryError`; the object is gone then.
    pub fn resize(&mut self, size: usize) -> PyResult<()> {
        // SAFETY: S4; the object has one reference, ours; on failure the call frees it and leaves null.
        let result = unsafe { (api()._PyBytes_Resize)(&raw mut self.object, size.cast_signed()) };
        self.size = if result == 0 { size } else { 0 };
        zero(result)
    }

    /// The finished object, cut to `size`.
    ///
    /// # Errors
    /// `MemoryError`
    pub fn finish(mut self, size: usize) -> PyResult<Obj<'py>> {
        if size != self.size {
            self.resize(size)?;
        }
        let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
        // SAFETY: a new reference, not null as resize succeeded.
        unsafe { object.owned_or_err(self.gil) }
    }
}

impl Drop for BytesBuffer<'_> {
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: S4; our own reference.
            unsafe { (api().Py_DecRef)(self.object) };
        }
    }
}

/// A reference kept beyond an attachment. Used and dropped only attached to the interpreter it came from; a drop
/// elsewhere leaks the object, which is safe.
pub struct Kept {
    pointer: NonNull<PyObject>,
}

// SAFETY: P5: a Kept is a bare address until `get`, which demands the attachment.
unsafe impl Send for Kept {}
// SAFETY: P5, as above.
unsafe impl Sync for Kept {}

impl Kept {
    /// The object, as something held now.
    #[inline]
    #[must_use]
    pub fn get<'py>(&self, gil: Gil<'py>) -> Obj<'py> {
        // SAFETY: S4; the kept reference keeps it alive.
        unsafe { self.pointer.as_ptr().borrowed(gil) }
    }

    /// The object without another reference, for the time of a borrow.
    #[inline]
    #[must_use]
    pub fn borrow<'a, 'py>(&'a self, _gil: Gil<'py>) -> &'a Obj<'py> {
        // SAFETY: Obj is one pointer plus a zero-sized marker, as Kept is (checked below); the borrow cannot
        // outlive the kept reference, and Drop does not run on a borrow.
        unsafe { &*std::ptr::from_ref(self).cast::<Obj<'py>>() }
    }
}

const _: () = assert!(size_of::<Kept>() == size_of::<Obj<'static>>());

impl Drop for Kept {
    fn drop(&mut self) {
        if gil::attached() {
            // SAFETY: S4; attached, and the reference is ours.
            unsafe { (api().Py_DecRef)(self.pointer.as_ptr()) };
        }
    }
}

/// Bytes behind an API pointer.
///
/// # Safety
/// `pointer` has `size` readable bytes for `'a`.
unsafe fn slice<'a>(pointer: *const c_char, size: Ssize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(pointer.cast(), size.cast_unsigned()) }
}

pub(super) fn zero(result: std::ffi::c_int) -> PyResult<()> {
    if result == 0 { Ok(()) } else { Err(Raised) }
}

fn truth(result: std::ffi::c_int) -> PyResult<bool> {
    match result {
        0 => Ok(false),
        1.. => Ok(true),
        _ => Err(Raised),
    }
}
