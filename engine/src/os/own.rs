//! What a process does to itself: descriptors it was born with, signals, forks, its name, its end.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::event::check;

/// Takes over a descriptor that this process was born with, and makes it close-on-exec. Each number can be
/// taken once: whoever asks again gets an error.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: [AtomicBool; 16] = [const { AtomicBool::new(false) }; 16];
    let place = usize::try_from(number).ok().and_then(|number| TAKEN.get(number));
    if place.is_none_or(|place| place.swap(true, Ordering::Relaxed)) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: numbers only.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as fcntl has just said; it was open before this process ran anything of ours,
    // and the mark above sees to it that it has one owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Opens the file behind a descriptor once more, to read: with a position of its own, so that it can be given
/// to another process.
pub fn open_again(file: BorrowedFd<'_>) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Ends a connection for both sides at once, whoever holds it. A thread that waits in it wakes up.
pub fn cut(socket: BorrowedFd<'_>) {
    // SAFETY: no memory is passed. It can only fail where the connection is over already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// `setlocale(LC_ALL, …)`. `false` where the system does not know it. To be called before there are threads.
#[must_use]
pub fn set_locale(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: a text closed by NUL; the caller has no other threads.
    !unsafe { libc::setlocale(libc::LC_ALL, name.as_ptr()) }.is_null()
}

/// Longest title.
const TITLE: usize = 4096;

/// Writes a name over the arguments of this process, where `ps` reads it.
pub fn set_title(title: &str) -> io::Result<()> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // After the name of the program, which may hold anything, closing parentheses too.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    // Fields 48 and 49 (proc(5)); the first one here is the third.
    let mut fields = fields.split_ascii_whitespace().skip(45);
    let mut next = || fields.next().and_then(|field| field.parse::<usize>().ok());
    let (Some(start), Some(end)) = (next(), next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if start == 0 || end <= start {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let room = (end - start).min(TITLE);
    let title = &title.as_bytes()[..title.len().min(room - 1)];
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that the arguments of this process lie there; they are its own to write
    // (environ(7) has programs do so), Python has copied what it needs of them, and NULs go over the rest.
    unsafe {
        std::ptr::write_bytes(place, 0, end - start);
        std::ptr::copy_nonoverlapping(title.as_ptr(), place, title.len());
    }
    Ok(())
}

/// Ends the process at once.
pub fn leave(status: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Where [`handler`] writes.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The process that has set the handlers.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// What was done with the signals before.
static BEFORE: OnceLock<Vec<(c_int, libc::sigaction)>> = OnceLock::new();

/// What a signal asks a daemon process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: end.
    End,
    /// SIGUSR1: be replaced.
    Replace,
    /// SIGXCPU: `cpu-time-limit` is reached.
    CpuTime,
    /// SIGHUP, SIGUSR2: the application is told.
    Tell,
}

impl Signal {
    const ALL: [(c_int, Self); 6] = [
        (libc::SIGTERM, Self::End),
        (libc::SIGINT, Self::End),
        (libc::SIGUSR1, Self::Replace),
        (libc::SIGXCPU, Self::CpuTime),
        (libc::SIGHUP, Self::Tell),
        (libc::SIGUSR2, Self::Tell),
    ];

    /// What the signal of this number, as [`catch`] has written it, asks for.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == c_int::from(number)).map(|(_, what)| *what)
    }
}

/// From now on the signals of [`Signal`] write their number into a pipe instead of what they did; with `service` those
/// that are a service script's own business are left alone: its end, and what it is told. In a process that is forked from this one they do what they did. Called once.
pub fn catch(service: bool, pipe: OwnedFd) -> io::Result<()> {
    // SAFETY: no precondition.
    OWNER.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    // Open for good.
    PIPE.store(pipe.into_raw_fd(), Ordering::Relaxed);
    let own = |what: &Signal| service && matches!(what, Signal::End | Signal::Tell);
    let signals = Signal::ALL.iter().filter(|(_, what)| !own(what));
    let signals: Vec<c_int> = signals.map(|(signal, _)| *signal).collect();
    let mut before = Vec::with_capacity(signals.len());
    for signal in &signals {
        // SAFETY: an all-zero sigaction is valid, and the call only fills it.
        let action = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            check(libc::sigaction(*signal, std::ptr::null(), &raw mut action))?;
            action
        };
        before.push((*signal, action));
    }
    if BEFORE.set(before).is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    for signal in signals {
        // SAFETY: an all-zero sigaction is valid; the handler is a function of the type without SA_SIGINFO and
        // makes async-signal-safe calls only.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))?;
        }
    }
    Ok(())
}

/// Sends SIGTERM to this process.
pub fn tell_to_end() {
    // SAFETY: numbers only; a process may always send itself a signal.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

extern "C" fn handler(signal: c_int) {
    // SAFETY: S6; the address of this thread's own number, getpid, write, sigaction and raise.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        if libc::getpid() == OWNER.load(Ordering::Relaxed) {
            let number = u8::try_from(signal).unwrap_or(0);
            libc::write(PIPE.load(Ordering::Relaxed), (&raw const number).cast(), 1);
        } else if let Some(before) = BEFORE.get() {
            for (_, action) in before.iter().filter(|(known, _)| *known == signal) {
                libc::sigaction(signal, action, std::ptr::null_mut());
            }
            // Delivered when this handler returns.
            libc::raise(signal);
        }
        *errno = saved;
    }
}

/// Descriptors that forked processes must not have; -1 is free.
static GUARDED: OnceLock<Box<[AtomicI32]>> = OnceLock::new();
/// `/dev/null`
static NOTHING: AtomicI32 = AtomicI32::new(-1);
static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from the one that called [`guard_forks`]: nothing of what it inherited is its
/// business.
#[must_use]
pub fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// From now on a process that is forked from this one loses what is [`Guarded`], up to `most` descriptors. Called
/// once.
pub fn guard_forks(most: usize) -> io::Result<()> {
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<unsafe extern "C" fn()>,
            parent: Option<unsafe extern "C" fn()>,
            child: Option<unsafe extern "C" fn()>,
        ) -> c_int;
    }
    // In a chroot there may be none by that name; what a daemon was born with as its standard input is one.
    let opened = File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let nothing = opened.or_else(|_| io::stdin().as_fd().try_clone_to_owned())?;
    let places = (0..most).map(|_| AtomicI32::new(-1)).collect();
    if GUARDED.set(places).is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    NOTHING.store(nothing.into_raw_fd(), Ordering::Relaxed);
    // SAFETY: a function that stays mapped: Python never unmaps an extension, nor is the module unmapped that is
    // linked with `nodelete`.
    match unsafe { pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// In the forked process. The numbers stay taken: whoever still believes in one of them finds nothing behind it,
/// and not what the application has opened since.
unsafe extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
    let nothing = NOTHING.load(Ordering::Relaxed);
    for place in GUARDED.get().into_iter().flatten() {
        let number = place.load(Ordering::Relaxed);
        if number >= 0 {
            // SAFETY: S6; numbers only.
            unsafe { libc::dup3(nothing, number, libc::O_CLOEXEC) };
        }
    }
}

/// A descriptor that forked processes do not have.
#[derive(Debug)]
pub struct Guarded {
    descriptor: OwnedFd,
    place: Option<&'static AtomicI32>,
}

impl Guarded {
    /// Guards a descriptor, if there is a place left.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        let number = descriptor.as_raw_fd();
        let (order, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        let place = GUARDED
            .get()
            .into_iter()
            .flatten()
            .find(|place| place.compare_exchange(-1, number, order, relaxed).is_ok());
        Self { descriptor, place }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            place.store(-1, Ordering::Release);
        }
    }
}

impl AsFd for Guarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The number by which Python knows the calling thread.
#[must_use]
pub fn thread() -> u64 {
    // SAFETY: no precondition.
    unsafe { libc::pthread_self() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_title_is_what_ps_reads() {
        set_title("(wsgi:blog)").unwrap();
        let arguments = std::fs::read("/proc/self/cmdline").unwrap();
        assert!(arguments.starts_with(b"(wsgi:blog)\0"), "{arguments:?}");
        assert!(arguments[12..].iter().all(|byte| *byte == 0), "{arguments:?}");
    }

    #[test]
    fn a_file_opened_again_has_a_position_of_its_own() {
        use std::io::{Read, Seek, Write};
        let path = std::env::temp_dir().join(format!("open-again-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"text").unwrap();
        let mut again = open_again(file.as_fd()).unwrap();
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        file.rewind().unwrap();
        assert_eq!(again.stream_position().unwrap(), 4);
    }

    #[test]
    fn what_no_process_is_born_with_is_not_taken() {
        assert!(inherited(-1).is_err());
        assert!(inherited(16).is_err());
    }
}
