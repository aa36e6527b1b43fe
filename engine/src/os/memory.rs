//! Memory that few processes write and others can only read.

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

/// 64-bit words of such a file, which others may have mapped as well, to be read and written.
///
/// Processes that are forked from this one do not have it, and cannot be brought to write it.
#[derive(Debug)]
pub struct Memory {
    map: Map,
    /// The process that has it.
    owner: u32,
}

/// The words, to be read. Processes that are forked from this one have them, too.
#[derive(Debug)]
pub struct View {
    map: Map,
}

impl Memory {
    /// Maps so many words. A file that is shorter is made longer, with zeros.
    pub fn map(file: &File, words: usize) -> io::Result<Self> {
        let length = length(words)?;
        if file.metadata()?.len() < length {
            file.set_len(length)?;
        }
        let map = Map::new(file, words, libc::PROT_READ | libc::PROT_WRITE)?;
        let memory = Self { map, owner: std::process::id() };
        // SAFETY: the mapping that was just made, of this length.
        let result = unsafe {
            libc::madvise(memory.map.start.as_ptr().cast(), memory.map.bytes(), libc::MADV_DONTFORK)
        };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(memory) }
    }

    /// The words; none in a forked process.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        if std::process::id() == self.owner { self.map.words() } else { &[] }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A forked process never had it, and may have something else there.
        if std::process::id() == self.owner {
            self.map.end();
        }
    }
}

impl View {
    /// Maps so many words, which the file has to have already.
    pub fn map(file: &File, words: usize) -> io::Result<Self> {
        if file.metadata()?.len() < length(words)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Another opening of the same file: rights to write cannot be added to it.
        let reading = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(Self { map: Map::new(&reading, words, libc::PROT_READ)? })
    }

    /// The words. A store to one of them ends the process.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.map.words()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.map.end();
    }
}

fn length(words: usize) -> io::Result<u64> {
    let bytes = words.checked_mul(size_of::<u64>()).and_then(|bytes| u64::try_from(bytes).ok());
    bytes.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A mapping, whose owner ends it.
#[derive(Debug)]
struct Map {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: an address of words that are only used as atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn new(file: &File, words: usize, rights: libc::c_int) -> io::Result<Self> {
        let bytes = words * size_of::<u64>();
        // SAFETY: a new mapping, wherever the kernel wants it, of a descriptor that is open.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), bytes, rights, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words })
    }

    fn bytes(&self) -> usize {
        self.words * size_of::<u64>()
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page, is as long as that and lives until its owner is dropped; the file is
        // never made shorter. All bit patterns are words, others write them word by word, and loads of eight aligned
        // bytes do not write on any machine that this is for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// To be called by its owner's destructor only.
    fn end(&self) {
        // SAFETY: made by `new`, of this length, and nothing borrows it any more. A failure leaves it mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn both(words: usize) -> (Memory, View) {
        let file = memory_file(c"test").unwrap();
        assert!(View::map(&file, words).is_err(), "nothing is there yet");
        (Memory::map(&file, words).unwrap(), View::map(&file, words).unwrap())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (memory, view) = both(1024);
        assert!(view.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        memory.words()[1023].store(7, Ordering::Release);
        assert_eq!(view.words()[1023].load(Ordering::Acquire), 7);
        assert_eq!(view.words().len(), 1024);
    }

    #[test]
    fn a_forked_process_reads_and_cannot_write() {
        let (memory, view) = both(16);
        // SAFETY: the new process makes system calls and looks at memory that is there, nothing else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // What the parent writes after the fork arrives.
            while view.words()[0].load(Ordering::Acquire) != 7 {
                std::hint::spin_loop();
            }
            let page = view.map.start.as_ptr().cast();
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a mapping of this process, whose rights are asked for and refused.
            let grown = unsafe { libc::mprotect(page, 128, rights) } == 0;
            let wrong = grown || !memory.words().is_empty();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(wrong)) };
        }
        memory.words()[0].store(7, Ordering::Release);
        let mut status = 0;
        // SAFETY: the child made above, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
