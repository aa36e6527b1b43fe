//! Whether the scripts of a group have changed.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The scripts that a group loads before it serves.
#[derive(Debug)]
pub(crate) struct Scripts {
    seen: Vec<(PathBuf, Option<Look>)>,
}

/// What of a file shows that it is not what it was. Links are followed, so a link that is turned to
/// another release counts, even if all files of all releases bear the same date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Scripts {
    /// These files, as they are now.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let mut scripts = Self { seen: paths.into_iter().map(|path| (path, None)).collect() };
        scripts.look();
        scripts
    }

    /// Looks at the files. A file that is not there, as between the two halves of a deployment, is
    /// taken to be what it was.
    pub(crate) fn look(&mut self) {
        for (path, seen) in &mut self.seen {
            if let Ok(file) = fs::metadata(path) {
                *seen = Some(Look {
                    device: file.dev(),
                    inode: file.ino(),
                    size: file.size(),
                    seconds: file.mtime(),
                    nanoseconds: file.mtime_nsec(),
                });
            }
        }
    }

    /// A number for all files as they were seen last, never 0.
    pub(crate) fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seen.hash(&mut hasher);
        hasher.finish() | 1
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_touch_a_swap_and_a_gap_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.wsgi");
        fs::write(&path, "one").unwrap();
        let mut scripts = Scripts::new(vec![path.clone()]);
        let first = scripts.stamp();
        scripts.look();
        assert_eq!(scripts.stamp(), first);

        let touched = SystemTime::now() + Duration::from_secs(3600);
        fs::File::open(&path).unwrap().set_modified(touched).unwrap();
        scripts.look();
        let second = scripts.stamp();
        assert_ne!(second, first);

        let away = folder.path().join("away");
        fs::rename(&path, &away).unwrap();
        scripts.look();
        assert_eq!(scripts.stamp(), second);
        fs::rename(&away, &path).unwrap();
        scripts.look();
        assert_eq!(scripts.stamp(), second);

        // Another file of the same size and date in its place.
        let other = folder.path().join("other");
        fs::write(&other, "two").unwrap();
        fs::File::open(&other).unwrap().set_modified(touched).unwrap();
        fs::rename(&other, &path).unwrap();
        scripts.look();
        assert_ne!(scripts.stamp(), second);
    }
}
