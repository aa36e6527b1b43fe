//! Where daemon processes listen: a folder that only httpd's children get into, with a socket per group.
//!
//! The folder is locked by whoever made it. What a parent that was killed has left behind is found by
//! its name and removed once nobody holds its lock.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use engine::os::listener::{self, LONGEST_PATH};

/// The folder. Removed when dropped, by the process that made it.
#[derive(Debug)]
pub(crate) struct Room {
    prefix: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    lock: File,
    maker: u32,
    issued: u32,
}

/// Who gets into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Whether this process is root, and the children are not.
    pub(crate) root: bool,
    /// The children's primary group.
    pub(crate) gid: u32,
    /// Whether a socket belongs to a user who may not be in that group (`socket-user=`).
    pub(crate) others: bool,
}

impl Access {
    /// Root's folder, through which the group of httpd's children passes. The sockets in it are their
    /// user's alone.
    fn mode(self) -> u32 {
        match self {
            Self { root: false, .. } => 0o700,
            Self { others: false, .. } => 0o710,
            Self { others: true, .. } => 0o711,
        }
    }
}

impl Room {
    /// A folder called after `prefix` and this process.
    pub(crate) fn open(prefix: &Path, access: Access) -> Result<Self, String> {
        let maker = std::process::id();
        let path = named(prefix, maker);
        fits(&path)?;
        clear_leftovers(prefix, maker);
        let fault = |error: io::Error| unmade(&path, &error);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Of a process that had this number, too; or somebody wants to have it taken for ours.
                remove(&path, Holder::Nobody).map_err(fault)?;
                DirBuilder::new().mode(0o700).create(&path).map_err(fault)?;
            }
            made => made.map_err(fault)?,
        }
        let lock = File::open(&path).map_err(fault)?;
        if !listener::lock(&lock).map_err(fault)? {
            return Err(fault(io::ErrorKind::ResourceBusy.into()));
        }
        let room = Self { prefix: prefix.to_owned(), path, lock, maker, issued: 0 };
        room.admit(access)?;
        Ok(room)
    }

    /// Whether it is called after this prefix.
    pub(crate) fn is_at(&self, prefix: &Path) -> bool {
        self.prefix == prefix
    }

    /// Whether a socket is in it.
    pub(crate) fn holds(&self, listener: &Listener) -> bool {
        listener.path().parent() == Some(self.path.as_path())
    }

    /// Whether its path still leads to it: others remove what is old in /tmp.
    pub(crate) fn is_there(&self) -> bool {
        self.lock.metadata().is_ok_and(|own| is_at(&self.path, place(&own)))
    }

    /// Changes who gets into it.
    pub(crate) fn admit(&self, access: Access) -> Result<(), String> {
        let set = || {
            if access.root {
                chown(&self.path, Some(0), Some(access.gid))?;
            }
            fs::set_permissions(&self.path, Permissions::from_mode(access.mode()))
        };
        set().map_err(|error: io::Error| {
            format!("the folder for sockets {} cannot be given away: {error}", self.path.display())
        })
    }

    /// A socket in it, in which so many connections may wait; one at least.
    pub(crate) fn listen(&mut self, owner: Option<u32>, waiting: u32) -> Result<Listener, String> {
        self.issued += 1;
        let path = self.path.join(format!("{}.sock", self.issued));
        // Linux lets in one more than it is told.
        match listener::listen(&path, owner, waiting.saturating_sub(1)) {
            Ok(socket) => {
                let place = fs::symlink_metadata(&path).map(|facts| place(&facts));
                let place = place.map_err(|error| unmade(&path, &error))?;
                Ok(Listener { socket, path, place, maker: self.maker })
            }
            Err(error) => {
                let text = format!("the socket {} cannot be made: {error}", path.display());
                // It may have been made and not been given away.
                let _ = fs::remove_file(&path);
                Err(text)
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if std::process::id() == self.maker {
            // Nobody is there to be told; the next parent of this prefix removes what is left.
            let _ = remove(&self.path, Holder::Us);
        }
    }
}

/// What will keep a folder called after `prefix` from being made, as far as that is known before.
pub(crate) fn check(prefix: &Path) -> Result<(), String> {
    let path = named(prefix, std::process::id());
    fits(&path)?;
    match fs::metadata(path.parent().unwrap_or(&path)) {
        Ok(above) if above.is_dir() => Ok(()),
        Ok(_) => Err(unmade(&path, &io::ErrorKind::NotADirectory.into())),
        Err(error) => Err(unmade(&path, &error)),
    }
}

/// Whether sockets in a folder have paths that the system takes.
fn fits(path: &Path) -> Result<(), String> {
    // The longest name that a socket will have in it.
    let longest = path.as_os_str().len() + "/4294967295.sock".len();
    if longest <= LONGEST_PATH {
        return Ok(());
    }
    Err(format!(
        "sockets under {} would have paths of {longest} bytes, and at most {LONGEST_PATH} can be used: \
         write a shorter WSGISocketPrefix",
        path.display()
    ))
}

fn unmade(path: &Path, error: &io::Error) -> String {
    format!(
        "the folder for sockets {} cannot be made: {error}: write WSGISocketPrefix with a path in a \
         directory that is there",
        path.display()
    )
}

/// A socket that listens. Removed when dropped, by the process that made it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode.
    place: (u64, u64),
    maker: u32,
}

impl Listener {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be connected to: others may have removed it, and an application may have shut it down.
    pub(crate) fn is_sound(&self) -> bool {
        is_at(&self.path, self.place) && !listener::is_shut(self.socket.as_fd())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another one may have its name by now.
        if std::process::id() == self.maker && is_at(&self.path, self.place) {
            // As above.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn place(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

fn is_at(path: &Path, known: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| place(&facts) == known)
}

fn named(prefix: &Path, pid: u32) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!(".{pid}"));
    PathBuf::from(name)
}

/// Removes the folders of parents that are gone.
fn clear_leftovers(prefix: &Path, own: u32) {
    let (Some(folder), Some(name)) = (prefix.parent(), prefix.file_name()) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let pid = found.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| {
            let digits = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
            digits.parse::<u32>().ok()
        });
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        // A process in another container can have a number that nobody has here, but then it has the lock;
        // one that has just made the folder and not yet locked it can be seen here.
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // What cannot be removed is not in the way.
            let _ = remove(&entry.path(), Holder::Nobody);
        }
    }
}

/// Who may hold the lock of a folder that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Us,
}

/// Removes a folder of sockets, if it is one of ours that nobody else holds.
fn remove(path: &Path, held_by: Holder) -> io::Result<()> {
    let facts = fs::symlink_metadata(path)?;
    if !facts.is_dir() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no folder"));
    }
    let file = File::open(path)?;
    // Folders in /tmp can be anybody's.
    if file.metadata()?.uid() != fs::metadata("/proc/self")?.uid() {
        let text = "it belongs to another user";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    if held_by != Holder::Us && !listener::lock(&file)? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            fs::remove_file(path)?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    const NOBODY: u32 = 65_534;

    fn is_root() -> bool {
        fs::metadata("/proc/self").unwrap().uid() == 0
    }

    fn access() -> Access {
        Access { root: is_root(), gid: if is_root() { NOBODY } else { 0 }, others: false }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn sockets_are_in_a_folder_that_few_get_into() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("wsgi");
        let mut room = Room::open(&prefix, access()).unwrap();
        assert!(room.is_at(&prefix) && !room.is_at(folder.path()));
        let path = folder.path().join(format!("wsgi.{}", std::process::id()));
        assert_eq!(mode(&path), if is_root() { 0o710 } else { 0o700 });
        let owner = is_root().then_some(NOBODY);
        let one = room.listen(owner, 5).unwrap();
        let other = room.listen(owner, 5).unwrap();
        assert_ne!(one.path(), other.path());
        assert_eq!(mode(one.path()), 0o700);
        if is_root() {
            let facts = fs::metadata(&path).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (0, NOBODY));
            assert_eq!(fs::metadata(one.path()).unwrap().uid(), NOBODY);
            room.admit(Access { others: true, ..access() }).unwrap();
            assert_eq!(mode(&path), 0o711);
        }
        drop(UnixStream::connect(one.path()).unwrap());

        // What is dropped is gone.
        let gone = one.path().to_owned();
        drop(one);
        assert!(!gone.exists() && other.path().exists());
        drop(other);
        drop(room);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_parent_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("wsgi");
        let make = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("1.sock"), "").unwrap();
            path
        };
        // No process has so high a number (the kernel's limit is 4,194,304).
        let left = make("wsgi.4294967294");
        let held = make("wsgi.4294967293");
        let lock = File::open(&held).unwrap();
        assert!(listener::lock(&lock).unwrap());
        let living = make("wsgi.1");
        let foreign = make("wsgi.txt");
        let other = make("other.4294967294");
        let unknown = make("wsgi.4294967292");
        fs::write(unknown.join("file"), "").unwrap();
        // A number that was ours before.
        let own = make(&format!("wsgi.{}", std::process::id()));

        let room = Room::open(&prefix, access()).unwrap();
        assert!(!left.exists());
        for kept in [&held, &living, &foreign, &other] {
            assert!(kept.join("1.sock").exists(), "{}", kept.display());
        }
        assert!(unknown.join("file").exists());
        assert!(!own.join("1.sock").exists() && own.exists());
        drop(room);
        assert!(!own.exists());
    }

    #[test]
    fn a_trap_is_not_walked_into() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("wsgi");
        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("1.sock"), "").unwrap();
        let path = named(&prefix, std::process::id());
        symlink(&target, &path).unwrap();
        assert!(Room::open(&prefix, access()).unwrap_err().contains("no folder"));
        assert!(target.join("1.sock").exists());
        fs::remove_file(&path).unwrap();
        if is_root() {
            fs::create_dir(&path).unwrap();
            chown(&path, Some(NOBODY), None).unwrap();
            assert!(Room::open(&prefix, access()).unwrap_err().contains("another user"));
        }
    }

    #[test]
    fn faults_say_what_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(100));
        let fault = Room::open(&long, access()).unwrap_err();
        assert!(fault.contains("write a shorter WSGISocketPrefix"), "{fault}");
        let fault = Room::open(&folder.path().join("no/wsgi"), access()).unwrap_err();
        assert!(fault.contains("in a directory that is there"), "{fault}");
    }
}
