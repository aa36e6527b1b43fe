//! Memory that one process writes and the processes it forks can only read.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// A file that is memory and has no name in any folder; `name` is for who looks at the process.
pub fn memory_file(name: &'static CStr) -> io::Result<File> {
    // SAFETY: a text ended by NUL.
    let raw = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if raw == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) }.into())
}

/// Memory of 64-bit words, zero at first.
///
/// The process that made it can write it. Processes forked from that one see what it writes, then
/// and later, and cannot be brought to write it: they do not have the mapping, and the one that they
/// have is of a descriptor that is open for reading.
#[derive(Debug)]
pub struct Shared {
    written: NonNull<AtomicU64>,
    read: NonNull<AtomicU64>,
    words: usize,
    /// The process that can write.
    writer: u32,
}

// SAFETY: two addresses of words that are only used as atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// New memory of so many words.
    pub fn new(name: &'static CStr, words: usize) -> io::Result<Self> {
        let bytes = words * size_of::<u64>();
        let file = memory_file(name)?;
        file.set_len(u64::try_from(bytes).map_err(io::Error::other)?)?;
        // Another opening of the same file: rights to write cannot be added to it.
        let reading = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let written = map(&file, bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        let read = map(&reading, bytes, libc::PROT_READ)?;
        let shared = Self { written, read, words, writer: std::process::id() };
        // SAFETY: the mapping that was just made, of this length.
        let result = unsafe { libc::madvise(written.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(shared) }
    }

    /// The words, to be written; `None` in processes that may only read.
    #[must_use]
    pub fn writable(&self) -> Option<&[AtomicU64]> {
        if std::process::id() != self.writer {
            return None;
        }
        // SAFETY: in this process the mapping lives until `self` is dropped, is as long as that and
        // begins at a page; all bit patterns are words.
        Some(unsafe { std::slice::from_raw_parts(self.written.as_ptr(), self.words) })
    }

    /// The words, to be read. A store to one of them ends the process.
    #[must_use]
    pub fn readable(&self) -> &[AtomicU64] {
        // SAFETY: as above; loads of eight aligned bytes do not write on any machine that this is for.
        unsafe { std::slice::from_raw_parts(self.read.as_ptr(), self.words) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<u64>();
        // SAFETY: made by `new`, of this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.read.as_ptr().cast(), bytes) };
        // A forked process never had the other one, and may have something else there.
        if std::process::id() == self.writer {
            // SAFETY: as above.
            unsafe { libc::munmap(self.written.as_ptr().cast(), bytes) };
        }
    }
}

fn map(file: &File, bytes: usize, rights: libc::c_int) -> io::Result<NonNull<AtomicU64>> {
    // SAFETY: a new mapping, wherever the kernel wants it, of a descriptor that is open.
    let start = unsafe {
        libc::mmap(ptr::null_mut(), bytes, rights, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let shared = Shared::new(c"test", 1024).unwrap();
        assert!(shared.readable().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        shared.writable().unwrap()[1023].store(7, Ordering::Release);
        assert_eq!(shared.readable()[1023].load(Ordering::Acquire), 7);
        assert_eq!(shared.readable().len(), 1024);
    }

    #[test]
    fn a_forked_process_reads_and_cannot_write() {
        let shared = Shared::new(c"test", 16).unwrap();
        // SAFETY: the new process makes system calls and looks at memory that is there, nothing else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // What the parent writes after the fork arrives.
            while shared.readable()[0].load(Ordering::Acquire) != 7 {
                std::hint::spin_loop();
            }
            let page = shared.read.as_ptr().cast();
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a mapping of this process, whose rights are asked for and refused.
            let grown = unsafe { libc::mprotect(page, 128, rights) } == 0;
            let wrong = grown || shared.writable().is_some();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(wrong)) };
        }
        shared.writable().unwrap()[0].store(7, Ordering::Release);
        let mut status = 0;
        // SAFETY: the child made above, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
