//! Processes by descriptor, and what this one is.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::checked;

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By a signal.
    Signal {
        /// Which.
        number: i32,
        /// Whether its memory was written to a file.
        dumped: bool,
    },
    /// It was no child of this program.
    Unknown,
}

impl Exit {
    /// Whether it was not as a process ends that is done.
    pub(crate) fn is_fault(self) -> bool {
        match self {
            Self::Code(code) => code != 0,
            Self::Signal { number, .. } => number != libc::SIGTERM,
            Self::Unknown => false,
        }
    }
}

/// A process, by a descriptor: never another one that has got its number. Readable once it has
/// ended.
#[derive(Debug)]
pub(crate) struct Process {
    descriptor: OwnedFd,
    pid: u32,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: takes two numbers.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let descriptor = checked(RawFd::try_from(descriptor).unwrap_or(-1))?;
        // SAFETY: new, and nobody else's. The kernel makes it close-on-exec.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) }, pid })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. One that has ended already needs none.
    pub(crate) fn signal(&self, number: i32) -> io::Result<()> {
        let descriptor = self.descriptor.as_raw_fd();
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a process descriptor that is open; no details are passed.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, nothing, 0) };
        match checked(libc::c_int::try_from(result).unwrap_or(-1)) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// How it has ended; `None` if it has not. A child is gone for good then.
    pub(crate) fn reap(&self) -> io::Result<Option<Exit>> {
        let descriptor = libc::id_t::try_from(self.descriptor.as_raw_fd()).unwrap_or(0);
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG;
        // SAFETY: a process descriptor that is open, and a place for the answer.
        let result = unsafe { libc::waitid(libc::P_PIDFD, descriptor, info.as_mut_ptr(), flags) };
        match checked(result) {
            Ok(_) => {}
            // Adopted. It was readable, or the caller would not ask.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                return Ok(Some(Exit::Unknown));
            }
            Err(error) => return Err(error),
        }
        // SAFETY: zeroed before, and written by the call if a process has ended.
        let info = unsafe { info.assume_init() };
        if info.si_signo == 0 {
            return Ok(None);
        }
        // SAFETY: the call filled in what belongs to an ended child.
        let status = unsafe { info.si_status() };
        Ok(Some(match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            code => Exit::Signal { number: status, dumped: code == libc::CLD_DUMPED },
        }))
    }
}

/// The other processes of the session that this one leads: what it has started, and what that has started in turn, as
/// far as it has not made a session of its own. None where this process leads no session.
pub(crate) fn companions() -> Vec<Process> {
    let own = std::process::id();
    // The number stays the session's as long as it has a process, so it is never another one's.
    let is_one = |pid: u32| {
        pid != own && is_alive(pid) && stat_field(pid, 6).is_ok_and(|session| session == own.into())
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| is_one(*pid))
        .filter_map(|pid| Process::open(pid).ok())
        // Looked at once more: this is who is behind the descriptor.
        .filter(|process| is_one(process.pid))
        .collect()
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// When a process was started, in clock ticks since the machine was: with its number, what no other
/// process has.
pub(crate) fn start_time(pid: u32) -> io::Result<u64> {
    stat_field(pid, 22)
}

/// Whether a process has not ended; one that nobody has waited for has.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// Sets the nice value of a process that has one thread yet.
pub(crate) fn set_nice(pid: u32, nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) }).map(drop)
}

/// Bytes of memory of a process that are in use.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm"))?
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse::<u64>().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages.saturating_mul(u64::try_from(page).unwrap_or(4096)))
}

/// A field of `/proc/<pid>/stat`, counted from 1 as its manual page does, behind the name, which
/// can contain anything.
fn stat_field(pid: u32, field: usize) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(") ").ok_or(io::ErrorKind::InvalidData)?;
    rest.split(' ')
        .nth(field - 3)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The number of this process's parent.
pub(crate) fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Makes a descriptor the standard output and error, which hold whatever they were before
/// otherwise, and take a panic's message.
pub(crate) fn become_output(descriptor: &impl AsFd) {
    let descriptor = descriptor.as_fd().as_raw_fd();
    for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: takes numbers. If it fails, they stay what they were.
        unsafe { libc::dup2(descriptor, number) };
    }
}

/// Takes over a descriptor that this program was started with. `None`: there is none.
///
/// To be called for each number once, before anything else is opened.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: takes numbers; a descriptor that is not open gives an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    // SAFETY: it is open, and by the contract above nobody else in this program has it.
    (flags != -1).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy of a descriptor with a number of at least `least`, close-on-exec.
pub(crate) fn at_least(descriptor: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    let raw = descriptor.as_raw_fd();
    // SAFETY: takes numbers.
    let copy = checked(unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes this process one of its own: session, process group and signals, folder, and no descriptor
/// from `first` on.
pub(crate) fn detach(first: RawFd) -> io::Result<()> {
    // A leader of a group (started by hand, in a test) has to stay what it is.
    // SAFETY: takes nothing.
    if unsafe { libc::setsid() } == -1 {
        // SAFETY: takes numbers.
        unsafe { libc::setpgid(0, 0) };
    }
    // What ends this program is the end of httpd's parent, which it sees by itself. A signal to a
    // terminal's or a session's processes must not take the daemons' keeper away, nor one to a
    // socket whose other end has gone.
    for number in [
        libc::SIGPIPE,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
    ] {
        // SAFETY: no handler of ours is involved.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
    // Ended children are waited for, whatever the parent has set.
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a place for a set, filled by the first call and read by the second.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
    std::env::set_current_dir("/")?;
    close_from(first)
}

fn close_from(first: RawFd) -> io::Result<()> {
    let least = libc::c_uint::try_from(first).unwrap_or(0);
    // SAFETY: closes what no part of this program has opened; it has just begun.
    let result = unsafe { libc::syscall(libc::SYS_close_range, least, libc::c_uint::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    // Before Linux 5.9. The listing's own descriptor is among the names and closed by then.
    let names: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number >= first)
        .collect();
    for number in names {
        // SAFETY: as above.
        unsafe { libc::close(number) };
    }
    Ok(())
}
