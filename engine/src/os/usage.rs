//! What this process and this thread have used of the machine.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::c_int;
use std::time::Duration;

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In the program's own code.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl Cpu {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// What this thread has used since it began.
#[must_use]
pub fn of_thread() -> Cpu {
    cpu(&usage(libc::RUSAGE_THREAD))
}

/// What all threads of this process have used since it began.
#[must_use]
pub fn of_process() -> Cpu {
    cpu(&usage(libc::RUSAGE_SELF))
}

/// Bytes of this process that were in memory when that was most (`ru_maxrss`).
#[must_use]
pub fn most_memory() -> u64 {
    // The kernel counts kibibytes here, and may be behind what it says of the present.
    let most = u64::try_from(usage(libc::RUSAGE_SELF).ru_maxrss).unwrap_or(0);
    most.saturating_mul(1024).max(memory())
}

/// Bytes of this process that are in memory now (proc(5), `statm`); 0 where that cannot be read.
#[must_use]
pub fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: no precondition.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.saturating_mul(u64::try_from(page).unwrap_or(0))
}

fn usage(of: c_int) -> libc::rusage {
    // SAFETY: an all-zero rusage is valid, and the call only fills it; it cannot fail for these two.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(of, &raw mut usage);
        usage
    }
}

fn cpu(usage: &libc::rusage) -> Cpu {
    let duration = |time: &libc::timeval| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Cpu { user: duration(&usage.ru_utime), system: duration(&usage.ru_stime) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_counted() {
        let before = of_thread();
        let mut sum = 0_u64;
        // Until the kernel has noticed: its clock may tick slowly.
        while of_thread().since(before) == Cpu::default() {
            sum = std::hint::black_box(sum + 1);
        }
        let process = of_process();
        assert!(process.user + process.system >= before.user + before.system);
        assert!(memory() > 0 && most_memory() > 0);
    }
}
