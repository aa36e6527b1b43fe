//! Bytes that wait in a file without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was put in at one end and not yet taken out at the other.
pub(super) struct Spool {
    file: File,
    start: u64,
    end: u64,
}

impl Spool {
    /// An empty one. Its file is in `directory` and goes with the last descriptor of it.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: nameless(directory)?, start: 0, end: 0 })
    }

    /// Puts bytes in, all or none.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        Ok(())
    }

    /// Takes bytes out, as many as there are and fit.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.len()).map_or(buffer.len(), |len| len.min(buffer.len()));
        self.file.read_exact_at(&mut buffer[..count], self.start)?;
        self.start += u64::try_from(count).map_err(io::Error::other)?;
        if self.is_empty() {
            // The room is used again, so that the file is no longer than what waited at a time.
            self.start = 0;
            self.end = 0;
        }
        Ok(count)
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The file, and which part of it waits.
    pub(super) fn into_part(self) -> (OwnedFd, u64, u64) {
        let length = self.len();
        (self.file.into(), self.start, length)
    }
}

fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        // File systems that cannot (NFS, older overlays).
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::IsADirectory) => {}
        done => return done,
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".mod_wsgi-spool-{}-{number}", std::process::id()));
    // Left by an earlier process of this number that was killed right here.
    let _ = fs::remove_file(&path);
    let file = options.create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        spool.put(b"one").unwrap();
        spool.put(b"two").unwrap();
        let mut buffer = [0; 4];
        assert_eq!((spool.take(&mut buffer).unwrap(), &buffer), (4, b"onet"));
        spool.put(b"three").unwrap();
        assert_eq!(spool.len(), 7);
        assert_eq!((spool.take(&mut buffer).unwrap(), &buffer), (4, b"woth"));
        assert_eq!((spool.take(&mut buffer).unwrap(), &buffer[..3]), (3, &b"ree"[..]));
        assert_eq!(spool.take(&mut buffer).unwrap(), 0);
        spool.put(b"again").unwrap();
        assert_eq!(spool.file().metadata().unwrap().len(), 11, "the room is used again");
        let (_, start, length) = spool.into_part();
        assert_eq!((start, length), (0, 5));
    }

    #[test]
    fn a_directory_that_is_missing_is_told() {
        assert!(Spool::new(Path::new("/nonexistent/spool")).is_err());
    }
}
