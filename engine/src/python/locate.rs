//! From what the administrator wrote to one interpreter and its shared library, by file names alone: safe in the
//! root parent, which never opens Python.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Oldest supported minor version of CPython 3.
pub const OLDEST_MINOR: u8 = 9;

/// The interpreter taken when `WSGIPythonHome` is not set.
const SYSTEM: [&str; 2] = ["/usr/bin/python3", "/usr/local/bin/python3"];

/// Library folders of the common distributions, behind the interpreter's own prefix.
const LIBRARY_FOLDERS: [&str; 7] = [
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "lib/arm-linux-gnueabihf",
    "lib/riscv64-linux-gnu",
    "lib/powerpc64le-linux-gnu",
];

/// An interpreter and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The interpreter as Python is to see itself: in the virtual environment, where there is one.
    pub program: PathBuf,
    /// Its libpython.
    pub library: PathBuf,
    /// The folder of its standard library.
    pub stdlib: PathBuf,
    minor: u8,
    free_threaded: bool,
}

/// Why there is none, in one line that names the path component and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateFault(String);

impl fmt::Display for LocateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault<T>(text: String) -> Result<T, LocateFault> {
    Err(LocateFault(text))
}

impl Located {
    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (u8, u8) {
        (3, self.minor)
    }

    /// Whether it is a free-threaded build.
    #[must_use]
    pub fn free_threaded(&self) -> bool {
        self.free_threaded
    }

    /// Checks by permission bits that a user with these groups reaches and reads all of it.
    ///
    /// # Errors
    /// Names the first component that stands in the way.
    pub fn check_readable(&self, uid: u32, gids: &[u32]) -> Result<(), LocateFault> {
        for path in [&self.program, &self.library, &self.stdlib.join("encodings/__init__.py")] {
            reach(path, uid, gids)?;
            // What is behind the links has to be reached as well.
            if let Ok(real) = path.canonicalize() {
                reach(&real, uid, gids)?;
            }
        }
        Ok(())
    }
}

/// Finds the interpreter of a prefix, a virtual environment, or an interpreter given itself, and what belongs to it;
/// without `home`, the system's `python3`.
///
/// # Errors
/// Says in one line what is wrong and what to do.
pub fn locate(home: Option<&Path>) -> Result<Located, LocateFault> {
    from_program(&interpreter(home)?)
}

/// As [`locate`], without a look at what belongs to it: for a Python that is to be executed, and says itself what it
/// is. The path is not followed to where its links lead: the name that Python is called by says what virtual
/// environment it is of.
///
/// # Errors
/// Says in one line what is wrong and what to do.
pub fn interpreter(home: Option<&Path>) -> Result<PathBuf, LocateFault> {
    let Some(home) = home else {
        let found = SYSTEM.iter().map(Path::new).find(|path| is_program(path));
        return found.map(Path::to_owned).ok_or_else(|| {
            LocateFault(format!("there is no {}; install Python 3, or name another", SYSTEM[0]))
        });
    };
    if !home.is_absolute() {
        return fault(format!("{} is no absolute path; write it from the root", home.display()));
    }
    let Ok(facts) = fs::metadata(home) else { return fault(missing(home)) };
    if !facts.is_dir() {
        if is_program(home) {
            return Ok(home.to_owned());
        }
        return fault(format!(
            "{} cannot be executed; name a prefix, a virtual environment or an interpreter",
            home.display()
        ));
    }
    let folder = home.join("bin");
    // A prefix has python3 always, an environment has both; a versioned name is the last resort.
    let names = ["python3", "python"].map(|name| folder.join(name));
    let found = names.iter().find(|path| is_program(path)).cloned();
    if let Some(program) = found.or_else(|| versioned_program(&folder)) {
        return Ok(program);
    }
    if !folder.is_dir() {
        return fault(format!(
            "{} is no Python home: there is no {}; name a prefix (the folder above bin), a virtual \
             environment or an interpreter",
            home.display(),
            folder.display()
        ));
    }
    match names.iter().rev().find(|path| path.is_symlink()) {
        Some(link) => fault(format!(
            "{} points to a Python that is gone; make the virtual environment again",
            link.display()
        )),
        None => fault(format!(
            "{} holds no python3; name a prefix, a virtual environment or an interpreter",
            folder.display()
        )),
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0)
}

/// What is wrong with a path that cannot be found: its first missing component.
fn missing(path: &Path) -> String {
    let mut known = PathBuf::from("/");
    for component in path.components() {
        known.push(component);
        match fs::metadata(&known) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return format!("{} cannot be entered: {error}", parent(&known).display());
            }
            Err(_) if known.is_symlink() => {
                return format!("{} is a link to something that does not exist", known.display());
            }
            Err(_) => {
                return format!(
                    "{} does not exist; correct the path or create it",
                    known.display()
                );
            }
        }
    }
    format!("{} cannot be read", path.display())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn from_program(program: &Path) -> Result<Located, LocateFault> {
    let Ok(real) = program.canonicalize() else { return fault(missing(program)) };
    // A virtual environment says beside its bin folder where its Python is; the link may say it, too.
    let environment = parent(parent(program)).join("pyvenv.cfg");
    let base = match fs::read_to_string(&environment) {
        Ok(text) => match setting(&text, "home") {
            Some(home) => {
                let base = PathBuf::from(home);
                let version = setting(&text, "version").or_else(|| setting(&text, "version_info"));
                if minor_of(&real).is_some() || version.is_none() {
                    real
                } else {
                    let minor: Vec<&str> = version.unwrap_or_default().split('.').take(2).collect();
                    let named = base.join(format!("python{}", minor.join(".")));
                    named.canonicalize().unwrap_or(real)
                }
            }
            None => real,
        },
        Err(_) => real,
    };
    let prefix = parent(parent(&base)).to_owned();
    let Some((minor, free_threaded)) = minor_of(&base).or_else(|| only_stdlib(&prefix)) else {
        return fault(format!(
            "the Python version of {} cannot be told from file names; name an interpreter called \
             python3.N",
            program.display()
        ));
    };
    if minor < OLDEST_MINOR {
        return fault(format!(
            "{} is Python 3.{minor}; Python 3.{OLDEST_MINOR} or newer is needed",
            program.display()
        ));
    }
    // A free-threaded build may be installed under the plain name, too: its standard library tells.
    let stdlib = |suffix: &str| {
        ["lib", "lib64"]
            .iter()
            .map(|folder| prefix.join(folder).join(format!("python3.{minor}{suffix}")))
            .find(|folder| folder.join("encodings").is_dir())
    };
    let (stdlib, free_threaded) = match stdlib("") {
        Some(folder) if !free_threaded => (Some(folder), false),
        _ => (stdlib("t"), true),
    };
    let Some(stdlib) = stdlib else {
        return fault(format!(
            "{} has no standard library ({}/lib/python3.{minor}/encodings is missing); install Python 3.{minor} \
             completely",
            program.display(),
            prefix.display()
        ));
    };
    let name = format!("3.{minor}{}", if free_threaded { "t" } else { "" });
    let Some(library) = library(&prefix, &name) else {
        return fault(format!(
            "{} has no shared library: there is no libpython{name}.so.1.0 under {}; install it \
             (Debian and Ubuntu: libpython{name}, Fedora and Rocky: python3-libs, own builds: configure with \
             --enable-shared)",
            program.display(),
            prefix.join("lib").display()
        ));
    };
    Ok(Located { program: program.to_owned(), library, stdlib, minor, free_threaded })
}

/// `key = value` of a pyvenv.cfg.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().eq_ignore_ascii_case(key)).then(|| value.trim())
    })
}

/// Minor version and build from a file name like `python3.13t`.
fn minor_of(program: &Path) -> Option<(u8, bool)> {
    let name = program.file_name()?.to_str()?;
    let rest = name.strip_prefix("python3.")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let free_threaded = match &rest[digits..] {
        "" => false,
        "t" => true,
        _ => return None,
    };
    Some((rest[..digits].parse().ok()?, free_threaded))
}

/// The only `lib/python3.N` of a prefix, for interpreters with no version in their name.
fn only_stdlib(prefix: &Path) -> Option<(u8, bool)> {
    let mut found = None;
    for entry in fs::read_dir(prefix.join("lib")).ok()?.flatten() {
        let Some(version) = minor_of(&entry.path()) else { continue };
        if found.is_some_and(|other| other != version) {
            return None;
        }
        if entry.path().join("encodings").is_dir() {
            found = Some(version);
        }
    }
    found
}

/// The newest `python3.N` of a bin folder.
fn versioned_program(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter_map(|entry| minor_of(&entry.path()).map(|version| (version, entry.path())))
        .filter(|(_, path)| is_program(path))
        .max()
        .map(|(_, path)| path)
}

/// The libpython of a prefix: the one of its own, else, for a system's Python, that of the system.
fn library(prefix: &Path, version: &str) -> Option<PathBuf> {
    let name = format!("libpython{version}.so.1.0");
    let alias = format!("libpython{version}.so.1");
    let own = LIBRARY_FOLDERS.iter().map(|folder| prefix.join(folder));
    let system = (prefix == Path::new("/usr"))
        .then(|| LIBRARY_FOLDERS.iter().map(|folder| Path::new("/").join(folder)))
        .into_iter()
        .flatten();
    own.chain(system)
        .flat_map(|folder| [folder.join(&name), folder.join(&alias)])
        .find(|path| path.exists())
}

/// Checks that every folder above `path` can be entered and `path` itself be read.
fn reach(path: &Path, uid: u32, gids: &[u32]) -> Result<(), LocateFault> {
    match barrier(path, uid, gids, "or put Python elsewhere") {
        None => Ok(()),
        Some(text) => fault(text),
    }
}

/// What keeps a user with these groups from reading a file, by permission bits: the first component that is not
/// there or in the way, and what to do, which may end in another way out.
#[must_use]
pub fn barrier(path: &Path, uid: u32, gids: &[u32], elsewhere: &str) -> Option<String> {
    let mut known = PathBuf::new();
    for component in path.components() {
        known.push(component);
        let Ok(facts) = fs::metadata(&known) else { return Some(missing(&known)) };
        let (need, verb) = if facts.is_dir() { (0o1, "entered") } else { (0o4, "read") };
        if !allowed(&facts, uid, gids, need) {
            let letter = if need == 0o1 { "x" } else { "r" };
            return Some(format!(
                "{} cannot be {verb} by user {uid}: its mode is {:04o}; allow it (chmod o+{letter} {}) \
                 {elsewhere}",
                known.display(),
                facts.mode() & 0o7777,
                known.display()
            ));
        }
    }
    // Links were followed, but not looked at on the way: a virtual environment's Python is one, and may lead into
    // somebody's home.
    let real = path.canonicalize().ok().filter(|real| real != path)?;
    barrier(&real, uid, gids, elsewhere)
}

fn allowed(facts: &fs::Metadata, uid: u32, gids: &[u32], need: u32) -> bool {
    let shift = match () {
        () if uid == 0 => return true,
        () if facts.uid() == uid => 6,
        () if gids.contains(&facts.gid()) => 3,
        () => 0,
    };
    facts.mode() >> shift & need == need
}

/// Whether a path is a virtual environment: its own `pyvenv.cfg` says so.
#[must_use]
pub fn is_environment(home: &Path) -> bool {
    home.join(OsStr::from_bytes(b"pyvenv.cfg")).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder that looks like a Python prefix.
    struct Prefix(PathBuf);

    impl Prefix {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("locate-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder.canonicalize().unwrap())
        }

        fn python(self, version: &str, library: bool) -> Self {
            for folder in ["bin", &format!("lib/python{version}/encodings")] {
                fs::create_dir_all(self.0.join(folder)).unwrap();
            }
            program(&self.0.join(format!("bin/python{version}")));
            symlink(format!("python{version}"), self.0.join("bin/python3")).unwrap();
            fs::write(self.0.join(format!("lib/python{version}/encodings/__init__.py")), "")
                .unwrap();
            if library {
                fs::write(self.0.join(format!("lib/libpython{version}.so.1.0")), "").unwrap();
            }
            self
        }
    }

    fn program(path: &Path) {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    impl Drop for Prefix {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn words(result: Result<Located, LocateFault>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn a_prefix_is_found_by_its_bin_folder() {
        let prefix = Prefix::new("prefix").python("3.12", true);
        let found = locate(Some(&prefix.0)).unwrap();
        assert_eq!(found.version(), (3, 12));
        assert!(!found.free_threaded());
        assert_eq!(found.library, prefix.0.join("lib/libpython3.12.so.1.0"));
        assert_eq!(found.program, prefix.0.join("bin/python3"));
    }

    #[test]
    fn a_free_threaded_build_is_known_by_its_t() {
        let prefix = Prefix::new("free").python("3.13t", true);
        let found = locate(Some(&prefix.0.join("bin/python3.13t"))).unwrap();
        assert!(found.free_threaded());
        symlink("python3.13t", prefix.0.join("bin/python3.13")).unwrap();
        assert!(locate(Some(&prefix.0.join("bin/python3.13"))).unwrap().free_threaded());
        fs::remove_file(prefix.0.join("bin/python3.13")).unwrap();
        program(&prefix.0.join("bin/python3.13"));
        assert!(locate(Some(&prefix.0.join("bin/python3.13"))).unwrap().free_threaded());
        assert_eq!(found.version(), (3, 13));
    }

    #[test]
    fn a_virtual_environment_keeps_its_program_and_takes_the_base_library() {
        let base = Prefix::new("base").python("3.11", true);
        let environment = Prefix::new("venv");
        fs::create_dir_all(environment.0.join("bin")).unwrap();
        fs::write(
            environment.0.join("pyvenv.cfg"),
            format!("home = {}/bin\nversion = 3.11.2\n", base.0.display()),
        )
        .unwrap();
        symlink(base.0.join("bin/python3.11"), environment.0.join("bin/python3")).unwrap();
        let found = locate(Some(&environment.0)).unwrap();
        assert_eq!(found.program, environment.0.join("bin/python3"));
        assert_eq!(found.library, base.0.join("lib/libpython3.11.so.1.0"));
        assert!(is_environment(&environment.0));
    }

    #[test]
    fn faults_name_the_component_and_what_to_do() {
        let prefix = Prefix::new("faults");
        let gone = prefix.0.join("gone/deeper");
        assert!(
            words(locate(Some(&gone)))
                .starts_with(&format!("{} does not exist", prefix.0.join("gone").display()))
        );
        assert!(words(locate(Some(&prefix.0))).contains("is no Python home"));
        assert!(words(locate(Some(Path::new("relative")))).contains("no absolute path"));
        let old = Prefix::new("old").python("3.8", true);
        assert!(words(locate(Some(&old.0))).contains("Python 3.9 or newer"));
        let fixed = Prefix::new("static").python("3.12", false);
        assert!(words(locate(Some(&fixed.0))).contains("no libpython3.12.so.1.0"));
        let broken = Prefix::new("broken");
        fs::create_dir_all(broken.0.join("bin")).unwrap();
        symlink("/nowhere/python3", broken.0.join("bin/python3")).unwrap();
        assert!(words(locate(Some(&broken.0))).contains("Python that is gone"));
    }

    #[test]
    fn an_interpreter_is_found_by_its_name_alone() {
        let home = Prefix::new("names");
        let bin = home.0.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let refused = |home: &Path| interpreter(Some(home)).unwrap_err().to_string();
        assert!(refused(&home.0).contains("holds no python3"));
        for name in ["python3.9", "python3.13t", "python3.13-config", "python", "python3"] {
            program(&bin.join(name));
            let found = interpreter(Some(&home.0)).unwrap();
            let expected = if name == "python3.13-config" { "python3.13t" } else { name };
            assert_eq!(found, bin.join(expected));
        }
        assert_eq!(interpreter(Some(&bin.join("python"))), Ok(bin.join("python")));
        fs::set_permissions(bin.join("python"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(&bin.join("python")).contains("cannot be executed"));
    }

    #[test]
    fn a_link_into_a_closed_folder_is_followed() {
        let (open, closed) = (Prefix::new("open"), Prefix::new("hidden").python("3.12", true));
        let link = open.0.join("python3");
        symlink(closed.0.join("bin/python3.12"), &link).unwrap();
        assert_eq!(barrier(&link, 12345, &[], ""), None);
        fs::set_permissions(&closed.0, fs::Permissions::from_mode(0o700)).unwrap();
        let found = barrier(&link, 12345, &[], "").unwrap();
        assert!(found.contains("hidden cannot be entered by user 12345"), "{found}");
    }

    #[test]
    fn a_closed_folder_is_named() {
        let prefix = Prefix::new("closed").python("3.12", true);
        let found = locate(Some(&prefix.0)).unwrap();
        let other = fs::metadata(&prefix.0).unwrap().uid() + 1;
        fs::set_permissions(&prefix.0, fs::Permissions::from_mode(0o700)).unwrap();
        let words = found.check_readable(other, &[]).unwrap_err().to_string();
        assert!(words.contains(&format!("{} cannot be entered", prefix.0.display())), "{words}");
        assert!(found.check_readable(0, &[]).is_ok());
        fs::set_permissions(&prefix.0, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(found.check_readable(other, &[]).is_ok());
    }
}
