//! Tables of strings: headers, notes, environment variables.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::text;
use crate::sys;

/// A table of httpd's that lives for `'p`. Names compare without regard to case.
pub(crate) struct Table<'p> {
    raw: NonNull<sys::apr_table_t>,
    life: PhantomData<&'p ()>,
}

impl<'p> Table<'p> {
    /// A view of a table of httpd's; `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// A pointer that is not null leads to a table that lives for `'p` and is the calling thread's.
    pub(super) unsafe fn new(raw: *mut sys::apr_table_t) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, life: PhantomData })
    }

    /// The value of the first entry of this name.
    pub(crate) fn value(&self, name: &CStr) -> Option<&'p CStr> {
        // SAFETY: the table is alive (S1); the name is NUL-terminated.
        let value = unsafe { sys::apr_table_get(self.raw.as_ptr(), name.as_ptr()) };
        // SAFETY: values are strings in the table's pool; replacing an entry leaves the old text there.
        unsafe { text(value) }
    }

    /// Calls `each` for all entries in order, without copying any.
    pub(crate) fn each(&self, mut each: impl FnMut(&'p CStr, &'p CStr)) {
        for entry in self.entries() {
            // SAFETY: keys and values of entries are strings in the table's pool or null.
            if let (Some(name), Some(value)) = unsafe { (text(entry.key), text(entry.val)) } {
                each(name, value);
            }
        }
    }

    /// Adds an entry, besides others of the same name; both texts are copied.
    pub(crate) fn add(&self, name: &CStr, value: &CStr) {
        // SAFETY: the table is alive (S1) and this thread's; both texts are NUL-terminated.
        unsafe { sys::apr_table_add(self.raw.as_ptr(), name.as_ptr(), value.as_ptr()) };
    }

    /// Replaces the entries of this name by a text that is not copied.
    pub(crate) fn set_static(&self, name: &'static CStr, value: &'static CStr) {
        // SAFETY: the table is alive (S1) and this thread's; static texts outlive it.
        unsafe { sys::apr_table_setn(self.raw.as_ptr(), name.as_ptr(), value.as_ptr()) };
    }

    fn entries(&self) -> &[Entry] {
        // SAFETY: the table is alive (S1).
        let array = unsafe { sys::apr_table_elts(self.raw.as_ptr()) };
        // SAFETY: every table has its array.
        let array = unsafe { &*array };
        let count = usize::try_from(array.nelts).unwrap_or(0);
        if count == 0 || array.elts.is_null() {
            return &[];
        }
        // SAFETY: `elts` leads to `nelts` entries; the callers of this function change no table while
        // they hold the slice.
        unsafe { std::slice::from_raw_parts(array.elts.cast::<Entry>(), count) }
    }
}

/// `apr_table_entry_t`
#[repr(C)]
struct Entry {
    key: *const c_char,
    val: *const c_char,
    checksum: u32,
}

const _: () = assert!(size_of::<Entry>() == size_of::<sys::apr_table_entry_t>());
