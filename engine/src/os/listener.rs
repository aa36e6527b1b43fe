//! Listening Unix sockets that one user can reach, and folders for them that tell whose they are.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::lchown;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Longest path that the address of a Unix socket takes, without the NUL that ends it.
pub const LONGEST_PATH: usize = 107;

/// A listening socket at `path`, where nothing may be yet. Only `owner` (where given) and root can
/// connect to it. It does not wait in `accept`, and is closed when another program is executed.
///
/// For a process with one thread: the mask of new files' modes, which all threads share, is changed
/// for a moment.
pub fn listen(path: &Path, owner: Option<u32>, backlog: u32) -> io::Result<OwnedFd> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        let text = format!(
            "{} has {length} bytes, and the path of a socket has at most {LONGEST_PATH}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let listener = {
        let _mask = Mask::set(0o077);
        UnixListener::bind(path)?
    };
    listener.set_nonblocking(true)?;
    let backlog = c_int::try_from(backlog).unwrap_or(c_int::MAX);
    // The standard library has chosen a number of its own; asking again sets another one.
    // SAFETY: no memory is passed.
    if unsafe { libc::listen(listener.as_raw_fd(), backlog) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // Last: from now on somebody else may connect.
    if owner.is_some() {
        lchown(path, owner, None)?;
    }
    Ok(listener.into())
}

/// Whether somebody has shut a listener down, so that nobody can connect any more.
#[must_use]
pub fn is_shut(listener: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: listener.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, as said.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 && entry.revents & libc::POLLHUP != 0 }
}

/// Locks a file or a folder for as long as any copy of this descriptor, in this process or in those that
/// it forks, is open. `false`: somebody else has it.
pub fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// The mask of new files' modes, set back when dropped.
struct Mask(libc::mode_t);

impl Mask {
    fn set(mask: libc::mode_t) -> Self {
        // SAFETY: no memory is passed, and it cannot fail.
        Self(unsafe { libc::umask(mask) })
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::umask(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mwrs-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_socket_is_its_owners_alone() {
        let folder = folder("listen");
        let path = folder.join("a.sock");
        // SAFETY: takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let owner = if root { Some(65_534) } else { None };
        let listener = listen(&path, owner, 5).unwrap();
        let facts = fs::symlink_metadata(&path).unwrap();
        assert_eq!(facts.mode() & 0o777, 0o700);
        if root {
            assert_eq!(facts.uid(), 65_534);
        }
        drop(UnixStream::connect(&path).unwrap());
        let listener = UnixListener::from(listener);
        assert!(listener.accept().is_ok());
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The mask is what it was.
        let file = folder.join("file");
        fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&file).unwrap();
        assert_ne!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        // What is there is not touched.
        assert_eq!(listen(&path, None, 5).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_said_to_be() {
        let path = Path::new("/tmp").join("x".repeat(LONGEST_PATH));
        let fault = listen(&path, None, 5).unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::InvalidInput);
        assert!(fault.to_string().contains("has 112 bytes"), "{fault}");
    }

    #[test]
    fn a_folder_is_locked_by_one() {
        let folder = folder("lock");
        let (one, other) = (File::open(&folder).unwrap(), File::open(&folder).unwrap());
        assert!(lock(&one).unwrap());
        assert!(lock(&one).unwrap());
        assert!(!lock(&other).unwrap());
        drop(one);
        assert!(lock(&other).unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }
}
