//! Writes the id of the build: what the module, the engine's file and the supervisor know each other by.
//!
//! It is made of every source that is compiled into the three with a part in what they say to each other:
//! the packages below, the manifests and the locked versions. The module's own sources are left out, so that
//! a change there does not compile the engine again; what the module says on a socket is built by `wire`.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::error::Error;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

/// Files and folders with the sources, from the workspace's root.
const SOURCES: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "daemon/Cargo.toml",
    "daemon/src",
    "engine/Cargo.toml",
    "engine/src",
    "supervisor/Cargo.toml",
    "supervisor/src",
];

fn main() -> Result<(), Box<dyn Error>> {
    let package = env::var_os("CARGO_MANIFEST_DIR").ok_or("not run by cargo")?;
    let root = Path::new(&package).parent().ok_or("the package is not in its workspace")?;
    let mut files = Vec::new();
    for source in SOURCES {
        let path = root.join(source);
        println!("cargo::rerun-if-changed={}", path.display());
        list(&path, &mut files)?;
    }
    // Folders are read in no order.
    files.sort();
    // 64 bits four times, each begun differently. This tells versions apart and keeps nobody out.
    let mut hashers: [DefaultHasher; 4] = Default::default();
    for (seed, hasher) in hashers.iter_mut().enumerate() {
        seed.hash(hasher);
    }
    for file in &files {
        let name = file.strip_prefix(root)?;
        let content = fs::read(file)?;
        for hasher in &mut hashers {
            (name, &content).hash(hasher);
        }
    }
    let id: Vec<u8> = hashers.iter().flat_map(|hasher| hasher.finish().to_le_bytes()).collect();
    let out = env::var_os("OUT_DIR").ok_or("not run by cargo")?;
    fs::write(Path::new(&out).join("build.id"), id)?;
    Ok(())
}

/// The files at or below `path`.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // `bootstrap.py` leaves these when it is run by hand.
        if path.file_name().is_some_and(|name| name != "__pycache__") {
            list(&path, files)?;
        }
    }
    Ok(())
}
