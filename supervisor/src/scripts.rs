//! Whether the scripts of a group have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most scripts that processes have told of.
const TOLD: usize = 256;

/// The scripts that a group loads before it serves, and those that its processes say they run.
#[derive(Debug)]
pub(crate) struct Scripts {
    seen: Vec<(PathBuf, Option<Look>)>,
    told: usize,
    /// Counts changes, from 1.
    stamp: u64,
}

/// What of a file shows that it is not what it was. Links are followed, so a link that is turned to
/// another release counts, even if all files of all releases bear the same date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    /// Who may read it now, and could not before.
    mode: u32,
    owner: u32,
    group: u32,
}

impl Scripts {
    /// These files, as they are now.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = paths.into_iter().map(|path| {
            let look = Look::at(&path);
            (path, look)
        });
        Self { seen: seen.collect(), told: 0, stamp: 1 }
    }

    /// One more, loaded from a file of this time, which is a change if it has another one by now; not if there are too
    /// many, or it is known.
    pub(crate) fn add(&mut self, path: PathBuf, mtime_us: i64) {
        if self.told < TOLD && self.seen.iter().all(|(known, _)| *known != path) {
            let look = Look::at(&path);
            self.stamp += u64::from(look.is_some_and(|look| look.mtime_us() != mtime_us));
            self.seen.push((path, look));
            self.told += 1;
        }
    }

    /// Looks at the files. A file that is not there, as between the two halves of a deployment, is
    /// taken to be what it was.
    pub(crate) fn look(&mut self) {
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            if let Some(look) = Look::at(path)
                && *seen != Some(look)
            {
                *seen = Some(look);
                changed = true;
            }
        }
        self.stamp += u64::from(changed);
    }

    /// A number for all files as they were seen last, never 0.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

impl Look {
    /// As httpd counts.
    fn mtime_us(&self) -> i64 {
        self.seconds.saturating_mul(1_000_000).saturating_add(self.nanoseconds / 1000)
    }

    /// `None` for a file that is not there.
    fn at(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
            mode: file.mode(),
            owner: file.uid(),
            group: file.gid(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
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

    #[test]
    fn a_script_that_is_told_of_is_no_change_and_its_mode_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..=TOLD + 1).map(|number| folder.path().join(number.to_string())).collect();
        let mut scripts = Scripts::new(vec![paths[0].clone()]);
        fs::write(&paths[1], "x").unwrap();
        let first = scripts.stamp();
        let mtime_us = Look::at(&paths[1]).unwrap().mtime_us();
        scripts.add(paths[1].clone(), mtime_us);
        scripts.add(paths[1].clone(), 0);
        scripts.look();
        assert_eq!((scripts.stamp(), scripts.told), (first, 1));
        fs::set_permissions(&paths[1], fs::Permissions::from_mode(0o600)).unwrap();
        scripts.look();
        let second = scripts.stamp();
        assert_ne!(second, first);

        // One that has changed since it was loaded.
        fs::write(&paths[2], "x").unwrap();
        scripts.add(paths[2].clone(), mtime_us - 1);
        assert_ne!(scripts.stamp(), second);
        let second = scripts.stamp();

        // One that was not there, and is; and one too many.
        for path in &paths {
            scripts.add(path.clone(), 0);
        }
        fs::write(&paths[TOLD + 1], "x").unwrap();
        scripts.look();
        assert_eq!(scripts.stamp(), second);
        fs::write(&paths[0], "x").unwrap();
        scripts.look();
        assert_ne!(scripts.stamp(), second);
    }
}
