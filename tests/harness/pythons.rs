//! The Python interpreters of this machine that a test can use.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::skip;

/// One CPython with a shared libpython.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The interpreter.
    pub executable: PathBuf,
    /// `sys.prefix`
    pub prefix: PathBuf,
    /// Major and minor.
    pub version: (u8, u8),
    /// Whether the build has no GIL.
    pub free_threaded: bool,
    /// What `WSGIPythonHome` has to say; `None` for the system's own.
    pub home: Option<PathBuf>,
}

impl Python {
    /// A short name for messages: `3.13t`.
    pub fn name(&self) -> String {
        let suffix = if self.free_threaded { "t" } else { "" };
        format!("{}.{}{suffix}", self.version.0, self.version.1)
    }

    /// Looks at an interpreter; says why it cannot be used.
    pub fn probe(executable: &Path, home: Option<PathBuf>) -> Result<Self, String> {
        let script = "import sys, sysconfig\n\
             v = sysconfig.get_config_var\n\
             print(sys.prefix)\n\
             print(sys.version_info[0], sys.version_info[1])\n\
             print(1 if v('Py_GIL_DISABLED') else 0)\n\
             print('%s/%s' % (v('LIBDIR'), v('INSTSONAME')))";
        let output = Command::new(executable)
            .args(["-I", "-c", script])
            .output()
            .map_err(|fault| format!("{}: {fault}", executable.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let [prefix, version, free, library] = lines[..] else {
            return Err(format!("{}: does not run", executable.display()));
        };
        let mut numbers = version.split(' ').filter_map(|number| number.parse::<u8>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < (3, 9) {
            return Err(format!("{}: older than Python 3.9", executable.display()));
        }
        if !library.contains(".so") || !Path::new(library).exists() {
            return Err(format!("{}: no shared libpython ({library})", executable.display()));
        }
        if let Some(closed) = closed_part(Path::new(prefix)) {
            return Err(format!(
                "{}: {} is closed to the user httpd runs as",
                executable.display(),
                closed.display()
            ));
        }
        Ok(Self {
            executable: executable.to_owned(),
            prefix: PathBuf::from(prefix),
            version,
            free_threaded: free == "1",
            home,
        })
    }
}

/// The Python a test gets that asks for none: the first usable one.
pub fn default() -> Option<Python> {
    all().first().cloned()
}

/// Every usable Python, the system's first. Why others are left out is printed once.
pub fn all() -> &'static [Python] {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found: Vec<Python> = Vec::new();
        let mut keep = |probed: Result<Python, String>| match probed {
            Ok(python) => {
                if !found.iter().any(|other| other.prefix == python.prefix) {
                    found.push(python);
                }
            }
            Err(reason) => skip(&format!("Python {reason}")),
        };
        keep(Python::probe(Path::new("/usr/bin/python3"), None));
        for prefix in prefixes() {
            match interpreter(&prefix) {
                Some(executable) => keep(Python::probe(&executable, Some(prefix.clone()))),
                None => skip(&format!("Python {}: no bin/python3", prefix.display())),
            }
        }
        found
    })
}

/// Prefixes to look at: those named in the environment, and those built into `build/pythons`.
fn prefixes() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = env::var("MOD_WSGI_RS_PYTHONS")
        .unwrap_or_default()
        .split(':')
        .filter(|prefix| !prefix.is_empty())
        .map(PathBuf::from)
        .collect();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/pythons");
    // It may be a link out of a clone that httpd's user cannot enter.
    let built = built.canonicalize().unwrap_or(built);
    let mut found: Vec<PathBuf> =
        built.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    prefixes.extend(found);
    prefixes
}

fn interpreter(prefix: &Path) -> Option<PathBuf> {
    ["bin/python3", "bin/python", "bin/python3t"]
        .iter()
        .map(|name| prefix.join(name))
        .find(|path| path.exists())
}

/// The first directory on the way to `path` that others may not pass through. Tests that run as root
/// have httpd run as somebody else.
pub fn closed_part(path: &Path) -> Option<PathBuf> {
    if !super::site::is_root() {
        return None;
    }
    let real = path.canonicalize().ok()?;
    real.ancestors()
        .find(|part| {
            part.metadata().map(|data| data.permissions().mode() & 0o001 == 0).unwrap_or(true)
        })
        .map(Path::to_owned)
}
