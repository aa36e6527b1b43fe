//! From `python-home=` to the program to execute, by file names alone: the root parent runs none of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The interpreter taken where no home is written.
const SYSTEM: [&str; 2] = ["/usr/bin/python3", "/usr/local/bin/python3"];

/// The interpreter of a prefix, of a virtual environment, or given itself; without `home`, the system's.
///
/// The path is not followed to where its links lead: the name that Python is called by says what virtual
/// environment it is of. Which version it is, and whether it can be used, it says itself when it runs.
pub(crate) fn program(home: Option<&Path>) -> Result<PathBuf, String> {
    let Some(home) = home else {
        let found = SYSTEM.iter().map(Path::new).find(|path| is_program(path));
        return found.map(Path::to_owned).ok_or_else(|| {
            format!("there is no {}: install Python 3, or write python-home=", SYSTEM[0])
        });
    };
    if !home.is_absolute() {
        return Err(format!("'{}' is not allowed: write an absolute path", home.display()));
    }
    if is_program(home) {
        return Ok(home.to_owned());
    }
    let folder = home.join("bin");
    let usual = ["python3", "python"].map(|name| folder.join(name));
    if let Some(found) = usual.iter().find(|path| is_program(path)) {
        return Ok(found.clone());
    }
    if let Some(found) = versioned(&folder) {
        return Ok(found);
    }
    Err(match usual.iter().find(|path| path.is_symlink()) {
        Some(link) => format!(
            "{} leads to a Python that is gone: make the virtual environment again",
            link.display()
        ),
        None if home.exists() => format!(
            "{} is no Python: write a prefix or a virtual environment (the folder above bin), or an \
             interpreter",
            home.display()
        ),
        None => format!("{} does not exist", home.display()),
    })
}

/// Prefixes of own builds may have a name with a version only; the newest counts.
fn versioned(folder: &Path) -> Option<PathBuf> {
    let names =
        fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let minor = name.strip_prefix("python3.")?.trim_end_matches('t').parse::<u8>().ok()?;
            Some((minor, folder.join(name)))
        })
        .filter(|(_, path)| is_program(path))
        .max()
        .map(|(_, path)| path)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn homes_of_all_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| folder.path().join(name);
        for (name, programs) in [
            ("prefix", &["python3", "python3.12"][..]),
            ("venv", &["python"]),
            ("build", &["python3.9", "python3.13t", "python3.13-config"]),
            ("empty", &[]),
        ] {
            let bin = home(name).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                symlink("/bin/true", bin.join(program)).unwrap();
            }
        }
        for (name, expected) in
            [("prefix", "bin/python3"), ("venv", "bin/python"), ("build", "bin/python3.13t")]
        {
            assert_eq!(program(Some(&home(name))), Ok(home(name).join(expected)));
        }
        let itself = home("venv").join("bin/python");
        assert_eq!(program(Some(&itself)), Ok(itself));
        assert!(program(Some(&home("empty"))).unwrap_err().contains("is no Python"));
        assert!(program(Some(&home("nowhere"))).unwrap_err().contains("does not exist"));
        assert!(program(Some(Path::new("venv"))).unwrap_err().contains("absolute path"));
        symlink(home("nowhere"), home("empty").join("bin/python3")).unwrap();
        assert!(program(Some(&home("empty"))).unwrap_err().contains("is gone"));
    }
}
