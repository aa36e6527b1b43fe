//! Values in httpd's configuration vectors, with the type they were stored as.
//!
//! A vector holds bare pointers. The tag in front of each value of ours makes reading one back a checked
//! step instead of a promise.

use std::any::TypeId;
use std::ffi::c_void;

/// A value that knows its type.
#[repr(C)]
pub(crate) struct Tagged<T> {
    tag: TypeId,
    value: T,
}

impl<T: 'static> Tagged<T> {
    pub(super) fn new(value: T) -> Self {
        Self { tag: TypeId::of::<T>(), value }
    }

    /// The value.
    pub(super) fn value(&self) -> &T {
        &self.value
    }

    /// The value at `pointer`, if one of this type is there.
    ///
    /// # Safety
    ///
    /// The pointer is null or leads to a `Tagged` of some type that lives for `'a` and is not written to
    /// meanwhile.
    pub(super) unsafe fn read<'a>(pointer: *const c_void) -> Option<&'a T> {
        // SAFETY: passed on to the caller.
        let tagged = unsafe { Self::checked(pointer.cast_mut()) }?;
        // SAFETY: a value of this type by its tag, readable by the caller's promise.
        Some(unsafe { &(*tagged).value })
    }

    /// As [`Tagged::read`], to write.
    ///
    /// # Safety
    ///
    /// As for `read`, and nobody else holds a reference to the value for `'a`.
    pub(super) unsafe fn write<'a>(pointer: *mut c_void) -> Option<&'a mut T> {
        // SAFETY: passed on to the caller.
        let tagged = unsafe { Self::checked(pointer) }?;
        // SAFETY: a value of this type by its tag, ours alone by the caller's promise.
        Some(unsafe { &mut (*tagged).value })
    }

    /// # Safety
    ///
    /// The pointer is null or leads to a live `Tagged` of some type.
    unsafe fn checked(pointer: *mut c_void) -> Option<*mut Self> {
        let tag = pointer.cast::<TypeId>();
        if tag.is_null() {
            return None;
        }
        // SAFETY: every Tagged begins with its tag (repr(C)), whatever its type.
        (unsafe { *tag } == TypeId::of::<T>()).then_some(pointer.cast::<Self>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_only_its_own_type() {
        let mut tagged = Tagged::new(7_u32);
        let pointer = (&raw mut tagged).cast::<c_void>();
        // SAFETY: `tagged` outlives these calls and nothing else refers to it.
        unsafe {
            assert_eq!(Tagged::<u32>::read(pointer), Some(&7));
            assert_eq!(Tagged::<i32>::read(pointer), None);
            assert_eq!(Tagged::<u32>::read(std::ptr::null()), None);
            *Tagged::<u32>::write(pointer).unwrap() = 8;
        }
        assert_eq!(tagged.value, 8);
    }
}
