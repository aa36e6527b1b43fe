//! Every directive: its name, where it may stand, how it is written, what it does.
//!
//! The one list that httpd's command table, the reference page and the tests are made from or
//! checked against. An entry parses and stores; it looks at no file and knows nothing of other
//! directives.

use super::process::{HashSeed, InterpreterBlock, InterpreterSettings, python_path};
use super::request::{self, MapHead, PassAuthorization};
use super::value::{Fault, choice, on_off, one_word, seconds, whole};
use super::{GroupName, ProcessSettings, RequestSettings, ScriptAlias, ServerSettings};

mod daemon;
mod hooks;
mod idle;

pub use hooks::{ASKED_IN_HTTPD, notices};

/// One directive.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name as httpd's command table has it; a section's begins with `<`.
    pub name: &'static str,
    /// Where it may stand.
    pub scope: Scope,
    /// How it is written, in the notation of httpd's documentation.
    pub syntax: &'static str,
    /// What holds where it is not written; `none` where that is nothing at all.
    pub default: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// Reads its arguments into the settings.
    pub apply: Apply,
}

/// Where a directive may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The main server, outside all sections of httpd's own.
    Global,
    /// The main server and virtual hosts.
    Server,
    /// As `Server`, and `<Directory>`, `<Location>`, `<Files>` and their like.
    ServerDir,
    /// As `ServerDir`, and `.htaccess` where `AllowOverride` grants `FileInfo`.
    ServerDirHtaccess,
    /// As `ServerDir`, and `.htaccess` where `AllowOverride` grants `AuthConfig`.
    ServerDirAuth,
    /// `<Directory>` and its like, and `.htaccess` where `AllowOverride` grants `AuthConfig`.
    Dir,
}

/// Which settings a directive changes, and how it reads its arguments into them.
#[derive(Clone, Copy, Debug)]
pub enum Apply {
    /// Those of the process; there is one such structure, wherever the directive stands.
    Process(fn(&mut ProcessSettings, &str) -> Result<(), Fault>),
    /// Those of the section that the directive stands in, else the process's top level.
    Interpreter(fn(&mut InterpreterSettings, &str) -> Result<(), Fault>),
    /// Those of the virtual host.
    Server(fn(&mut ServerSettings, &str) -> Result<(), Fault>),
    /// Those of the directory, else of the virtual host.
    Request(fn(&mut RequestSettings, &str) -> Result<(), Fault>),
    /// Reads the opening line of a section.
    Section(fn(&mut InterpreterBlock, &str) -> Result<(), Fault>),
}

impl Entry {
    /// The entry of a directive, whose name may be in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The name as people write it: a section's ends with `>`.
    #[must_use]
    pub fn title(&self) -> String {
        if self.name.starts_with('<') { format!("{}>", self.name) } else { self.name.to_owned() }
    }

    /// Whether it may stand in `<WSGIInterpreterOptions>`.
    #[must_use]
    pub fn in_section(&self) -> bool {
        matches!(self.apply, Apply::Interpreter(_))
    }

    /// Where it may stand, in the words of httpd's documentation.
    #[must_use]
    pub fn context(&self) -> &'static str {
        match self.scope {
            Scope::Global if self.in_section() => "server config, <WSGIInterpreterOptions>",
            Scope::Global => "server config",
            Scope::Server => "server config, virtual host",
            Scope::ServerDir => "server config, virtual host, directory",
            Scope::ServerDirHtaccess => {
                "server config, virtual host, directory, .htaccess (AllowOverride FileInfo)"
            }
            Scope::ServerDirAuth => {
                "server config, virtual host, directory, .htaccess (AllowOverride AuthConfig)"
            }
            Scope::Dir => "directory, .htaccess (AllowOverride AuthConfig)",
        }
    }
}

/// Every directive there is, in the order of the reference page.
pub static CATALOGUE: &[Entry] = &ALL;

static ALL: [Entry; PARTS[0].len() + PARTS[1].len() + PARTS[2].len() + PARTS[3].len()] = joined();

const PARTS: [&[Entry]; 4] = [BASIC, daemon::ENTRIES, hooks::ENTRIES, idle::ENTRIES];

/// The parts in their order, as one table.
const fn joined<const COUNT: usize>() -> [Entry; COUNT] {
    let mut table = [PARTS[0][0]; COUNT];
    let (mut part, mut filled) = (0, 0);
    while part < PARTS.len() {
        let mut index = 0;
        while index < PARTS[part].len() {
            table[filled] = PARTS[part][index];
            filled += 1;
            index += 1;
        }
        part += 1;
    }
    table
}

/// The directives of both modes.
const BASIC: &[Entry] = &[
    // What a URL leads to.
    Entry {
        name: "WSGIScriptAlias",
        scope: Scope::Server,
        syntax: "WSGIScriptAlias URL-path file-or-directory [process-group=group] \
                 [application-group=group] [callable-object=name] [pass-authorization=On|Off|Auto]",
        default: "none",
        help: "Maps a URL path to a WSGI script, or to a directory of them",
        apply: Apply::Server(|server, text| {
            server.aliases.push(ScriptAlias::parse_prefix(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIScriptAliasMatch",
        scope: Scope::Server,
        syntax: "WSGIScriptAliasMatch regex file-or-directory [process-group=group] \
                 [application-group=group] [callable-object=name] [pass-authorization=On|Off|Auto]",
        default: "none",
        help: "Maps the URL paths that a regular expression matches to a WSGI script",
        apply: Apply::Server(|server, text| {
            server.aliases.push(ScriptAlias::parse_regex(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGICallableObject",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGICallableObject name|%{ENV:variable}",
        default: "application",
        help: "Names the application within a WSGI script",
        apply: Apply::Request(|request, text| {
            request.callable_object = Some(request::callable_object(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIApplicationGroup",
        scope: Scope::ServerDir,
        syntax: "WSGIApplicationGroup name|%{GLOBAL}|%{SERVER}|%{RESOURCE}|%{HOST}|%{ENV:variable}",
        default: "%{RESOURCE}",
        help: "Names the Python interpreter that an application runs in",
        apply: Apply::Request(|request, text| {
            request.application_group = Some(GroupName::parse(&one_word(text)?));
            Ok(())
        }),
    },
    Entry {
        name: "<WSGIInterpreterOptions",
        scope: Scope::Global,
        syntax: "<WSGIInterpreterOptions [process-group=group] [application-group=group]> ... \
                 </WSGIInterpreterOptions>",
        default: "none",
        help: "Holds settings for some interpreters only",
        apply: Apply::Section(|block, text| {
            *block = InterpreterBlock::parse(text)?;
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPerInterpreterGIL",
        scope: Scope::Global,
        syntax: "WSGIPerInterpreterGIL On|Off",
        default: "Off",
        help: "Gives every sub-interpreter a lock of its own (Python 3.12 and newer)",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.per_interpreter_gil = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIFreeThreading",
        scope: Scope::Global,
        syntax: "WSGIFreeThreading On|Off",
        default: "Off",
        help: "Runs a free-threaded Python without its global lock (Python 3.13 and newer)",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.free_threading = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGISwitchInterval",
        scope: Scope::Global,
        syntax: "WSGISwitchInterval seconds",
        default: "Python's own, 0.005",
        help: "Sets how long a thread may keep the interpreter lock while others wait",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.switch_interval = Some(seconds(&one_word(text)?)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPythonPath",
        scope: Scope::Global,
        syntax: "WSGIPythonPath directory[:directory]...",
        default: "none",
        help: "Puts directories at the front of Python's module search path",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.python_path = python_path(text)?;
            Ok(())
        }),
    },
    Entry {
        name: "WSGIRestrictStdin",
        scope: Scope::Global,
        syntax: "WSGIRestrictStdin On|Off",
        default: "Off",
        help: "Makes every use of sys.stdin an error",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.restrict_stdin = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIRestrictStdout",
        scope: Scope::Global,
        syntax: "WSGIRestrictStdout On|Off",
        default: "Off",
        help: "Makes every use of sys.stdout an error",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.restrict_stdout = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIRestrictSignal",
        scope: Scope::Global,
        syntax: "WSGIRestrictSignal On|Off",
        default: "On",
        help: "Makes signal.signal() do nothing but write to the error log",
        apply: Apply::Interpreter(|interpreter, text| {
            interpreter.restrict_signal = Some(on_off(text)?);
            Ok(())
        }),
    },
    // How a request is treated.
    Entry {
        name: "WSGIPassAuthorization",
        scope: Scope::ServerDirAuth,
        syntax: "WSGIPassAuthorization On|Off|Auto",
        default: "Auto",
        help: "Says whether applications see the Authorization header",
        apply: Apply::Request(|request, text| {
            let flag = choice(&one_word(text)?, PassAuthorization::CHOICES)?;
            request.pass_authorization = Some(flag);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIScriptReloading",
        scope: Scope::ServerDir,
        syntax: "WSGIScriptReloading On|Off",
        default: "On",
        help: "Loads a script again when its file has changed",
        apply: Apply::Request(|request, text| {
            request.script_reloading = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIErrorOverride",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGIErrorOverride On|Off",
        default: "Off",
        help: "Lets ErrorDocument replace an application's error responses",
        apply: Apply::Request(|request, text| {
            request.error_override = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIChunkedRequest",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGIChunkedRequest On|Off",
        default: "On",
        help: "Accepts request bodies that do not say how long they are",
        apply: Apply::Request(|request, text| {
            request.chunked_request = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIMapHEADToGET",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGIMapHEADToGET On|Off|Auto",
        default: "Auto",
        help: "Says whether applications see GET instead of HEAD",
        apply: Apply::Request(|request, text| {
            request.map_head_to_get = Some(choice(&one_word(text)?, MapHead::CHOICES)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIEnableSendfile",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGIEnableSendfile On|Off",
        default: "On",
        help: "Lets the kernel send the files that an application returns",
        apply: Apply::Request(|request, text| {
            request.enable_sendfile = Some(on_off(text)?);
            Ok(())
        }),
    },
    // Which Python, and how it is started.
    Entry {
        name: "WSGIPythonHome",
        scope: Scope::Global,
        syntax: "WSGIPythonHome path",
        default: "the system's python3",
        help: "Names the Python to run: a virtual environment, a prefix or an interpreter",
        apply: Apply::Process(|process, text| {
            process.python_home = Some(one_word(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPythonEggs",
        scope: Scope::Global,
        syntax: "WSGIPythonEggs directory",
        default: "none",
        help: "Names the directory that Python eggs are unpacked to",
        apply: Apply::Process(|process, text| {
            process.python_eggs = Some(one_word(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPythonOptimize",
        scope: Scope::Global,
        syntax: "WSGIPythonOptimize 0|1|2",
        default: "0",
        help: "Sets the level of optimisation, as Python's option -O does",
        apply: Apply::Process(|process, text| {
            process.optimize = u8::try_from(whole(&one_word(text)?, 0, 2)?).ok();
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPythonWarnings",
        scope: Scope::Global,
        syntax: "WSGIPythonWarnings filter",
        default: "none",
        help: "Adds a warning filter, as Python's option -W does",
        apply: Apply::Process(|process, text| {
            process.warnings.push(one_word(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIPythonHashSeed",
        scope: Scope::Global,
        syntax: "WSGIPythonHashSeed random|number",
        default: "random",
        help: "Fixes the seed of Python's string hashing",
        apply: Apply::Process(|process, text| {
            process.hash_seed = Some(hash_seed(&one_word(text)?)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIDontWriteBytecode",
        scope: Scope::Global,
        syntax: "WSGIDontWriteBytecode On|Off",
        default: "Off",
        help: "Keeps Python from writing .pyc files",
        apply: Apply::Process(|process, text| {
            process.dont_write_bytecode = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIDestroyInterpreter",
        scope: Scope::Global,
        syntax: "WSGIDestroyInterpreter On|Off",
        default: "On",
        help: "Says whether interpreters are ended in order when a process exits",
        apply: Apply::Process(|process, text| {
            process.destroy_interpreter = Some(on_off(text)?);
            Ok(())
        }),
    },
    // The server as a whole.
    Entry {
        name: "WSGIRestrictEmbedded",
        scope: Scope::Global,
        syntax: "WSGIRestrictEmbedded On|Off",
        default: "Off",
        help: "Refuses to run applications in httpd's own processes",
        apply: Apply::Process(|process, text| {
            process.restrict_embedded = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGICaseSensitivity",
        scope: Scope::Global,
        syntax: "WSGICaseSensitivity On|Off",
        default: "On",
        help: "Says whether file names that differ in case are different files",
        apply: Apply::Process(|process, text| {
            process.case_sensitivity = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIServerMetrics",
        scope: Scope::Global,
        syntax: "WSGIServerMetrics On|Off",
        default: "Off",
        help: "Lets applications see what httpd's processes are doing",
        apply: Apply::Process(|process, text| {
            process.server_metrics = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIVerboseDebugging",
        scope: Scope::Global,
        syntax: "WSGIVerboseDebugging On|Off",
        default: "Off",
        help: "Does nothing: use LogLevel instead",
        apply: Apply::Process(|process, text| {
            process.verbose_debugging = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGILazyInitialization",
        scope: Scope::Global,
        syntax: "WSGILazyInitialization On|Off",
        default: "On",
        help: "Does nothing: Python is never started in httpd's parent",
        apply: Apply::Process(|process, text| {
            process.lazy_initialization = Some(on_off(text)?);
            Ok(())
        }),
    },
];

fn hash_seed(word: &str) -> Result<HashSeed, Fault> {
    if word == "random" {
        return Ok(HashSeed::Random);
    }
    whole(word, 0, u64::from(u32::MAX))
        .ok()
        .and_then(|seed| u32::try_from(seed).ok())
        .map(HashSeed::Fixed)
        .ok_or_else(|| {
            Fault::new(format!(
                "'{word}' is not allowed: write random or a whole number from 0 to {}",
                u32::MAX
            ))
        })
}

#[cfg(test)]
mod tests;
