//! The house itself: which room may import which, where unsafe may stand, what the module file needs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{site, tools};

/// Floors of the module and their rooms, lowest first: a room imports from lower floors only, never from
/// its neighbours.
const MODULE: &[&[&str]] =
    &[&["sys"], &["apache"], &["config"], &["daemon"], &["handler"], &["module"]];
/// Floors of the engine.
const ENGINE: &[&[&str]] = &[&["settings", "wire"], &["os", "python"], &["wsgi"], &["worker"]];
/// The rooms in which unsafe is open, with the folder of their crate.
const UNSAFE: &[(&str, &str)] = &[
    ("src", "sys"),
    ("src", "apache"),
    ("engine/src", "os"),
    ("engine/src", "python"),
    ("supervisor/src", "os"),
];

/// One source file without comments and without what is inside strings.
struct Source {
    path: PathBuf,
    /// The room: the first name below the crate's folder.
    room: String,
    /// Names of modules from the crate to this file's.
    module: Vec<String>,
    code: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let top = site::manifest().join(folder);
    let mut found = Vec::new();
    let mut open = vec![top.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("read a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&top, path));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn source(top: &Path, path: PathBuf) -> Source {
    let below = path.strip_prefix(top).expect("a path below the crate").with_extension("");
    let mut module: Vec<String> =
        below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    let room = module.first().cloned().unwrap_or_default();
    let text = fs::read_to_string(&path).expect("read a source file");
    Source { path, room, module, code: code(&text) }
}

/// The text without comments, and with strings emptied.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |at| at + 5)
        } else if first == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if let Some(escape) = rest.strip_prefix("'\\") {
            // Its first character may be a quote itself.
            escape.char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(2, |(at, _)| at + 3)
        } else {
            0
        };
        let step = if skipped == 0 { first.len_utf8() } else { skipped };
        if skipped == 0 {
            kept.push(first);
        } else {
            kept.push(' ');
        }
        rest = &rest[step..];
    }
    kept
}

/// The length of the string literal that `rest` begins with.
fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The words of some code, with `::` as a word.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for character in code.chars() {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !character.is_whitespace() {
            words.push(character.to_string());
        }
    }
    words
}

/// The rooms of its own crate that a file names by path, in `use` lines or in code.
fn named_rooms(source: &Source, rooms: &[&str]) -> BTreeSet<String> {
    let words = words(&source.code);
    let mut named = BTreeSet::new();
    let mut note = |at: usize| {
        // `crate::{a, b}` names several.
        let listed = words.get(at).is_some_and(|word| word == "{");
        let mut depth = 0;
        for word in words.iter().skip(at) {
            match word.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                name if rooms.contains(&name) && (!listed || depth == 1) => {
                    named.insert(name.to_owned());
                }
                _ => {}
            }
            if !listed || depth == 0 {
                break;
            }
        }
    };
    for (at, word) in words.iter().enumerate() {
        let path_follows = |at: usize| {
            words.get(at).is_some_and(|word| word == ":")
                && words.get(at + 1).is_some_and(|word| word == ":")
        };
        if word == "crate" && path_follows(at + 1) {
            note(at + 3);
        }
        if word == "super" && path_follows(at + 1) {
            // Only a chain that climbs up to the crate names a room.
            let mut climbed = 1;
            let mut next = at + 3;
            while words.get(next).is_some_and(|word| word == "super") && path_follows(next + 1) {
                climbed += 1;
                next += 3;
            }
            if climbed == source.module.len() {
                note(next);
            }
        }
    }
    named
}

fn floors_hold(folder: &str, floors: &[&[&str]]) -> Vec<String> {
    let floor_of = |name: &str| floors.iter().position(|rooms| rooms.contains(&name));
    let mut faults = Vec::new();
    for source in sources(folder) {
        if source.module.is_empty() {
            continue;
        }
        let Some(floor) = floor_of(&source.room) else {
            faults.push(format!("{}: '{}' is on no floor", source.path.display(), source.room));
            continue;
        };
        for name in named_rooms(&source, &floors.concat()) {
            if name != source.room && floor_of(&name) >= Some(floor) {
                faults.push(format!("{} imports {name}", source.path.display()));
            }
            if name == "sys" && !["sys", "apache"].contains(&source.room.as_str()) {
                faults.push(format!("{} names sys, which is apache's", source.path.display()));
            }
        }
    }
    faults
}

#[test]
fn rooms_import_from_below() {
    let mut faults = floors_hold("src", MODULE);
    faults.extend(floors_hold("engine/src", ENGINE));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn raw_bindings_know_no_engine() {
    for source in sources("src").iter().filter(|source| source.room == "sys") {
        assert!(!words(&source.code).contains(&"engine".to_owned()), "{}", source.path.display());
    }
}

#[test]
fn engine_knows_no_apache() {
    let manifest = fs::read_to_string(site::manifest().join("engine/Cargo.toml")).expect("read");
    assert!(!manifest.contains("path = \"..\""), "the engine depends on the module");
    for source in sources("engine/src") {
        let words = words(&source.code);
        let foreign = words.iter().find(|word| word.starts_with("ap_") || word.starts_with("apr_"));
        assert_eq!(foreign, None, "{}", source.path.display());
    }
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let mut faults = Vec::new();
    for folder in ["src", "engine/src", "supervisor/src"] {
        for source in sources(folder) {
            let open = UNSAFE.contains(&(folder, source.room.as_str()));
            let words = words(&source.code);
            let used = words.iter().any(|word| word == "unsafe");
            let allowed = words.windows(3).any(|three| {
                ["allow", "expect"].contains(&three[0].as_str()) && three[2] == "unsafe_code"
            });
            if !open && source.module.is_empty() {
                // The room list is where the rooms are opened.
                continue;
            }
            if !open && (used || allowed) {
                faults.push(source.path.display().to_string());
            }
        }
    }
    assert!(faults.is_empty(), "unsafe outside its rooms: {}", faults.join(", "));
}

#[test]
fn pure_rooms_forbid_unsafe() {
    for room in ["settings", "wire", "wsgi"] {
        let file = site::manifest().join("engine/src").join(room).join("mod.rs");
        let text = fs::read_to_string(file).expect("read a room");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{room}");
    }
}

/// A symbol that the module file wants from others.
struct Wanted {
    name: String,
    version: String,
    weak: bool,
}

fn wanted() -> Vec<Wanted> {
    let file = site::module_file();
    let listed = tools::run("nm", &["-D", "--undefined-only", &file.to_string_lossy()]);
    let symbols: Vec<Wanted> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let weak = words.next()? != "U";
            let (name, version) =
                words.next().map(|name| name.split_once('@').unwrap_or((name, "")))?;
            let version = version.trim_start_matches('@').to_owned();
            Some(Wanted { name: name.to_owned(), version, weak })
        })
        .collect();
    assert!(symbols.iter().any(|symbol| symbol.name.starts_with("ap_")), "no symbols in: {listed}");
    symbols
}

#[test]
fn module_needs_httpd_and_the_c_library_only() {
    let mut faults = Vec::new();
    for symbol in wanted() {
        let httpd = symbol.name.starts_with("ap_")
            || symbol.name.starts_with("apr_")
            || symbol.name == "core_module";
        let bound = match symbol.version.split_once('_') {
            Some(("GLIBC", version)) => at_most(version, &[2, 34]),
            Some(("GCC", version)) => at_most(version, &[4, 2]),
            _ => httpd || symbol.weak,
        };
        if !bound || symbol.name.starts_with("Py") || symbol.name.starts_with("_Py") {
            faults.push(format!("{}@{}", symbol.name, symbol.version));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join(", "));
}

fn at_most(version: &str, limit: &[u32]) -> bool {
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    !numbers.is_empty() && numbers[..numbers.len().min(limit.len())] <= *limit
}

#[test]
fn module_needs_nothing_newer_than_the_first_httpd_2_4() {
    let header = include_directory().join("ap_mmn.h");
    let Ok(text) = fs::read_to_string(&header) else {
        panic!("{} is missing: install httpd's headers", header.display());
    };
    // The header lists what each release has added; the first of 2.4 is the line with ".0".
    let since = text.find(" * 20120211.1 ").expect("the history of 2.4 in ap_mmn.h");
    let history = words(&text[since..]);
    let newer: Vec<String> = wanted()
        .into_iter()
        .map(|symbol| symbol.name)
        .filter(|name| name.starts_with("ap_") && history.contains(name))
        .collect();
    assert!(newer.is_empty(), "not in every httpd 2.4: {}", newer.join(", "));
}

fn include_directory() -> PathBuf {
    let tool = std::env::var("APXS").unwrap_or_else(|_| "apxs".to_owned());
    PathBuf::from(tools::run(&tool, &["-q", "INCLUDEDIR"]).trim())
}

#[test]
fn module_offers_its_record_only() {
    let file = site::module_file();
    let listed = tools::run("nm", &["-D", "--defined-only", &file.to_string_lossy()]);
    let names: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(names, ["wsgi_module"], "{listed}");
}

#[test]
fn module_links_no_python_and_stays_loaded() {
    let file = site::module_file();
    let listed = tools::run("readelf", &["-d", &file.to_string_lossy()]);
    for line in listed.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libgcc_s.so", "libc.so", "libm.so", "libpthread.so", "libdl.so", "ld-linux"];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
    assert!(listed.contains("NODELETE"), "{listed}");
    assert!(!listed.contains("RUNPATH") && !listed.contains("RPATH"), "{listed}");
}

#[test]
fn the_check_of_floors_sees_what_it_should() {
    let source = |module: &[&str], text: &str| Source {
        path: PathBuf::new(),
        room: module[0].to_owned(),
        module: module.iter().map(|&name| name.to_owned()).collect(),
        code: code(text),
    };
    let rooms = |module: &[&str], text: &str| -> Vec<String> {
        named_rooms(&source(module, text), &MODULE.concat()).into_iter().collect()
    };
    assert_eq!(rooms(&["apache", "log"], "use crate::config::x;"), ["config"]);
    assert_eq!(
        rooms(&["apache", "log"], "use crate::{sys, handler::{config}};"),
        ["handler", "sys"]
    );
    assert_eq!(rooms(&["apache", "log"], "fn f() { crate::module::g() }"), ["module"]);
    assert_eq!(rooms(&["apache"], "use super::handler;"), ["handler"]);
    assert_eq!(rooms(&["apache", "log"], "use super::handler;"), [""; 0]);
    assert_eq!(rooms(&["apache", "log"], "use super::super::handler;"), ["handler"]);
    assert_eq!(rooms(&["apache", "log"], "// crate::config\nlet x = \"crate::config\";"), [""; 0]);
    assert!(words(&code("let c = '\"'; unsafe {}")).contains(&"unsafe".to_owned()));
    assert!(
        !words(&code("r#\"unsafe \" \"#; \"un\\\"safe unsafe\"")).contains(&"unsafe".to_owned())
    );
}
