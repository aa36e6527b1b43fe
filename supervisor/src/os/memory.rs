//! Shared memory of 64-bit words.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A file mapped into memory that others may have mapped as well.
pub(crate) struct Memory {
    start: NonNull<AtomicU64>,
    words: usize,
}

impl Memory {
    /// Maps a file, which is made as long as needed.
    pub(crate) fn map(file: &File, bytes: usize) -> io::Result<Self> {
        let length = u64::try_from(bytes).unwrap_or(u64::MAX);
        if file.metadata()?.len() < length {
            file.set_len(length)?;
        }
        // SAFETY: a new mapping, wherever the kernel wants it, of a descriptor that is open.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words: bytes / size_of::<AtomicU64>() })
    }

    /// The words. All bit patterns are words, and whoever else writes them does so word by word.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is as long as that, begins at a page, and lives until `self` is
        // dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `map`, of this length, and nothing borrows it any more. A failure leaves
        // it mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}
