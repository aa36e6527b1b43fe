//! Programs that are executed by descriptor: the file that was opened runs, whatever has become of its
//! name since.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

use super::socket::{self, Rights, Wait};

/// Numbers from here on are out of the way of the descriptors that a program is given.
const FREE: RawFd = 32;

/// A program's file.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
}

/// What a program is started with.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its arguments, the name it is called by first.
    pub arguments: &'a [&'a CStr],
    /// Its whole environment, `NAME=value`.
    pub environment: &'a [CString],
    /// Its descriptors, from 0 on; it has no others.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// Opens a file whose content root or this process will trust: nobody else may be able to change it.
pub fn open_trusted(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let facts = file.metadata()?;
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    let fault = if !facts.is_file() {
        "it is no file".to_owned()
    } else if facts.uid() != 0 && facts.uid() != own {
        format!("it belongs to user {}, neither to root nor to httpd's own", facts.uid())
    } else if facts.mode() & 0o002 != 0 {
        "everybody can write to it".to_owned()
    } else {
        return Ok(file);
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, fault))
}

impl Program {
    /// Opens a program, see [`open_trusted`].
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_trusted(path)?;
        if file.metadata()?.mode() & 0o111 == 0 {
            let text = "it is not executable";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { file: above(file.as_fd())? })
    }

    /// Starts it as a child of this process and returns its number once it runs.
    pub fn start(&self, call: &Call<'_>) -> io::Result<u32> {
        // All that needs memory is made before the fork (S6).
        let arguments: Vec<*const c_char> = closed(call.arguments.iter().map(|text| text.as_ptr()));
        let environment = closed(call.environment.iter().map(|text| text.as_ptr()));
        let given: Vec<OwnedFd> =
            call.descriptors.iter().map(|given| above(*given)).collect::<io::Result<_>>()?;
        let numbers: Vec<RawFd> = given.iter().map(AsRawFd::as_raw_fd).collect();
        let (ours, low) = socket::pair()?;
        let theirs = above(low.as_fd())?;
        // While a copy is open here, its end in the new process would not be seen.
        drop(low);
        let plan = Plan {
            program: self.file.as_raw_fd(),
            arguments: &arguments,
            environment: &environment,
            numbers: &numbers,
            channel: theirs.as_raw_fd(),
        };
        // SAFETY: the new process goes into `become_it` and does not come back.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            become_it(&plan);
        }
        let Ok(pid) = u32::try_from(pid) else { return Err(io::Error::last_os_error()) };
        drop(theirs);
        match fault(&ours) {
            None => Ok(pid),
            Some(error) => {
                // SAFETY: a child of ours that has ended, or is about to; its status is not asked for.
                unsafe { libc::waitpid(pid.cast_signed(), ptr::null_mut(), 0) };
                Err(error)
            }
        }
    }
}

/// Ends a child of this process by force. The number is a child's as long as nobody has waited for it.
pub fn kill(pid: u32) {
    // SAFETY: takes numbers. One that is none is refused.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

/// What the new process needs, all of it made.
struct Plan<'a> {
    program: RawFd,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    numbers: &'a [RawFd],
    channel: RawFd,
}

/// In the new process: system calls and nothing else (S6).
fn become_it(plan: &Plan<'_>) -> ! {
    let mut done = true;
    for (target, source) in (0..).zip(plan.numbers) {
        // The copy stays open when the program is executed. No source has a number this low.
        // SAFETY: S6; numbers.
        done &= unsafe { libc::dup2(*source, target) } != -1;
    }
    // All of ours are closed at exec anyway; this is for those of others. Where the kernel does not know
    // it, the program has to close them.
    // SAFETY: S6; numbers.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            plan.numbers.len(),
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done {
        // SAFETY: S6; lists closed by null of texts closed by NUL.
        unsafe {
            libc::fexecve(plan.program, plan.arguments.as_ptr(), plan.environment.as_ptr());
        }
    }
    // SAFETY: the address of this thread's own number.
    let number: c_int = unsafe { *libc::__errno_location() };
    let bytes = number.to_le_bytes();
    // SAFETY: S6; as many bytes as said. The channel is empty, so it takes them.
    unsafe { libc::write(plan.channel, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: S6.
    unsafe { libc::_exit(1) }
}

/// Why the program was not executed; `None` if it was, and the channel was closed by that.
fn fault(channel: &OwnedFd) -> Option<io::Error> {
    let mut bytes = [0; 4];
    match socket::receive(channel.as_fd(), &mut bytes, &mut Rights::new(0), Wait::Yes) {
        Ok(0) => None,
        Ok(_) => Some(io::Error::from_raw_os_error(c_int::from_le_bytes(bytes))),
        Err(error) => Some(error),
    }
}

fn closed(texts: impl Iterator<Item = *const c_char>) -> Vec<*const c_char> {
    texts.chain([ptr::null()]).collect()
}

/// A copy of a descriptor with a number that is out of the way, close-on-exec.
fn above(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FREE) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn wait(pid: u32) -> c_int {
        let mut status = 0;
        // SAFETY: a child of this test, and a place for its status.
        let ended = unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
        assert_eq!(ended, pid.cast_signed());
        status
    }

    #[test]
    fn a_program_gets_what_it_is_given_and_nothing_else() {
        let nothing = File::open("/dev/null").unwrap();
        // Not close-on-exec, as descriptors of other modules may be.
        // SAFETY: takes a number and gives a new one.
        let stray = unsafe { libc::dup(nothing.as_raw_fd()) };
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let program = Program::open(Path::new("/bin/sh")).unwrap();
        let script =
            c"echo $0-$A; for n in 0 1 2 3 4 5 6 7 8 9 $1; do [ -e /proc/$$/fd/$n ] && printf $n; done; \
              echo; env";
        let stray_number = CString::new(stray.to_string()).unwrap();
        let call = Call {
            arguments: &[c"name", c"-c", script, c"zero", &stray_number],
            environment: &[c"A=b".to_owned(), c"PATH=/usr/bin:/bin".to_owned()],
            descriptors: &[nothing.as_fd(), theirs.as_fd(), theirs.as_fd(), nothing.as_fd()],
        };
        let pid = program.start(&call).unwrap();
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert_eq!(wait(pid), 0);
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("zero-b"));
        assert_eq!(lines.next(), Some("0123"), "{said}");
        let mut environment: Vec<&str> =
            lines.filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
        environment.retain(|line| !line.starts_with("OLDPWD="));
        assert_eq!(environment, ["A=b", "PATH=/usr/bin:/bin"]);
        // SAFETY: the descriptor made above, which nobody else has.
        drop(unsafe { OwnedFd::from_raw_fd(stray) });
    }

    #[test]
    fn the_file_that_was_opened_runs() {
        let folder = std::env::temp_dir().join(format!("mwrs-program-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let program = Program::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::copy("/bin/false", &path).unwrap();
        let call = Call { arguments: &[c"x"], environment: &[], descriptors: &[] };
        assert_eq!(wait(program.start(&call).unwrap()), 0);

        // What is no program is refused, with the kernel's word for it.
        std::fs::write(&path, "neither a program nor a script").unwrap();
        let program = Program::open(&path).unwrap();
        assert_eq!(program.start(&call).unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let fault = Program::open(&path).unwrap_err().to_string();
        assert!(fault.contains("not executable"), "{fault}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o757)).unwrap();
        let fault = Program::open(&path).unwrap_err().to_string();
        assert!(fault.contains("everybody can write"), "{fault}");
        let fault = Program::open(&folder).unwrap_err().to_string();
        assert!(fault.contains("no file"), "{fault}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
