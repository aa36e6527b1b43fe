//! Memory pools: allocation, values with a destructor, cleanups.

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::guard;
use crate::sys;
use crate::sys::constants::{APR_EGENERAL, APR_SUCCESS};

/// A pool that lives at least as long as `'p`.
///
/// Neither `Clone` nor `Send`: a pool belongs to one request or one configuration, and to the thread that
/// works on it.
pub(crate) struct Pool<'p> {
    raw: NonNull<sys::apr_pool_t>,
    life: PhantomData<&'p ()>,
}

/// What runs when a pool is about to be cleared, while everything in it is still whole.
pub(crate) trait Farewell {
    /// Runs once.
    fn run();
}

impl<'p> Pool<'p> {
    /// A view of a pool of httpd's.
    ///
    /// # Safety
    ///
    /// The pool lives for `'p`, and only the calling thread uses it meanwhile.
    pub(super) unsafe fn new(raw: NonNull<sys::apr_pool_t>) -> Self {
        Self { raw, life: PhantomData }
    }

    /// The raw pool, for calls within this room.
    pub(super) fn raw(&self) -> *mut sys::apr_pool_t {
        self.raw.as_ptr()
    }

    /// Room for `length` bytes, aligned for any ordinary value. APR ends the process when memory is out,
    /// so this does not fail.
    fn allocate(&self, length: usize) -> *mut c_void {
        // SAFETY: the pool is alive (S1) and this thread's.
        unsafe { sys::apr_palloc(self.raw(), length as sys::apr_size_t) }
    }

    /// The parts one after the other, followed by a NUL that C callers rely on. What stands behind a NUL
    /// within the parts is lost to them.
    pub(crate) fn text(&self, parts: &[&[u8]]) -> &'p CStr {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let start = self.allocate(length + 1).cast::<u8>();
        let mut at = start;
        for part in parts {
            // SAFETY: the room was made for the sum of all parts; `at` has advanced by those before.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), at, part.len()) };
            // SAFETY: still within the room, at most at its last byte.
            at = unsafe { at.add(part.len()) };
        }
        // SAFETY: the last byte of the room.
        unsafe { at.write(0) };
        // SAFETY: ends in NUL; pool memory stays for 'p and nobody else has its address (S1).
        unsafe { CStr::from_ptr(start.cast::<c_char>()) }
    }

    /// Moves `value` into the pool; its destructor runs when the pool is cleared.
    pub(crate) fn place<T: 'static>(&self, value: T) -> NonNull<T> {
        const { assert!(align_of::<T>() <= 8, "pools align to eight bytes") };
        let room = self.allocate(size_of::<T>()).cast::<T>();
        // SAFETY: fresh room of this size and alignment.
        unsafe { room.write(value) };
        if std::mem::needs_drop::<T>() {
            // SAFETY: the pool is alive; `drop_placed` is given exactly what was placed above, once.
            unsafe {
                sys::apr_pool_cleanup_register(
                    self.raw(),
                    room.cast(),
                    Some(drop_placed::<T>),
                    Some(sys::apr_pool_cleanup_null),
                );
            }
        }
        // SAFETY: apr_palloc never returns null; it ends the process instead.
        unsafe { NonNull::new_unchecked(room) }
    }

    /// Keeps `value` as long as the pool.
    pub(crate) fn hold<T: 'static>(&self, value: T) -> &'p T {
        let placed = self.place(value);
        // SAFETY: just placed; it stays as long as the pool and nobody writes it (S1).
        unsafe { placed.as_ref() }
    }

    /// Has `F` run first of all when the pool is cleared: before its sub-pools go and before its other
    /// cleanups, so that threads of ours can still end in good order.
    pub(crate) fn before_cleared<F: Farewell>(&self) {
        // SAFETY: the pool is alive; the callback takes no data.
        unsafe {
            sys::apr_pool_pre_cleanup_register(self.raw(), ptr::null(), Some(farewell::<F>));
        }
    }

    /// Keeps `value` in the pool under `key`, for [`Pool::recall`] in later callbacks.
    pub(crate) fn remember<T: 'static>(&self, key: &'static CStr, value: T) {
        self.keep(key, value);
    }

    /// As [`Pool::remember`], and gives it back.
    pub(crate) fn keep<T: 'static>(&self, key: &'static CStr, value: T) -> &'p T {
        let placed = self.place(super::slot::Tagged::new(value));
        // SAFETY: the pool is alive, the key is static, and the value has its own cleanup already.
        unsafe {
            sys::apr_pool_userdata_setn(placed.as_ptr().cast(), key.as_ptr(), None, self.raw());
        }
        // SAFETY: just placed as this type; it stays as long as the pool and nobody writes it (S1).
        unsafe { placed.as_ref() }.value()
    }

    /// What [`Pool::remember`] kept; `None` if there is nothing or a value of another type.
    pub(crate) fn recall<T: 'static>(&self, key: &'static CStr) -> Option<&'p T> {
        let mut found: *mut c_void = ptr::null_mut();
        // SAFETY: the pool is alive and `found` is ours to write.
        let status =
            unsafe { sys::apr_pool_userdata_get(&raw mut found, key.as_ptr(), self.raw()) };
        if status != APR_SUCCESS {
            return None;
        }
        // SAFETY: only `remember` writes under this module's keys, always a tagged value of this pool.
        unsafe { super::slot::Tagged::<T>::read(found) }
    }

    /// A copy of `text` for httpd to keep, cut at the first NUL.
    pub(crate) fn message(&self, text: &str) -> *const c_char {
        match CString::new(text) {
            Ok(text) => self.text(&[text.as_bytes()]).as_ptr(),
            Err(_) => self.text(&[text.replace('\0', " ").as_bytes()]).as_ptr(),
        }
    }
}

/// Cleanup: runs the destructor of a placed value.
unsafe extern "C" fn drop_placed<T>(data: *mut c_void) -> sys::apr_status_t {
    guard::fence(APR_EGENERAL, || {
        // SAFETY: registered by `place` with the address of a T that nothing uses any more (S1).
        unsafe { ptr::drop_in_place(data.cast::<T>()) };
        APR_SUCCESS
    })
}

/// Cleanup: runs a farewell.
unsafe extern "C" fn farewell<F: Farewell>(_data: *mut c_void) -> sys::apr_status_t {
    guard::fence(APR_EGENERAL, || {
        F::run();
        APR_SUCCESS
    })
}
