//! Directives to settings: what httpd keeps for us per server and directory, and how it is filled.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::python::locate::Located;
use engine::settings::catalogue::Apply;
use engine::settings::daemon::Origin;
use engine::settings::{
    AliasOptions, DaemonProcess, Entry, GroupName, ImportScript, InterpreterBlock, Pattern,
    ProcessSettings, RequestSettings, Scope, ScriptAlias, ServerSettings,
};

use crate::apache::command::Place;
use crate::apache::hook::Wiring;
use crate::apache::regex::Regex;
use crate::apache::{Command, Pool, Server};

/// What is kept per server.
pub(crate) struct ServerConfig {
    /// As written here and, after merging, in the main server.
    pub(crate) request: RequestSettings,
    /// Script aliases in the order they are tried.
    pub(crate) mounts: Vec<Arc<Mount>>,
    /// The process groups that are named in this server by `WSGIProcessGroup`, in sections as well.
    pub(crate) uses: Vec<GroupUse>,
    /// Which of the process's daemon groups are defined in this server.
    pub(crate) defined: Vec<usize>,
    /// The settings of the process; all servers share them.
    process: Arc<Mutex<Process>>,
}

/// One `WSGIProcessGroup`.
#[derive(Clone)]
pub(crate) struct GroupUse {
    /// What it names.
    pub(crate) group: GroupName,
    /// Where it stands.
    pub(crate) place: Place,
}

/// What is kept per directory.
#[derive(Default)]
pub(crate) struct DirectoryConfig {
    /// As written here and, after merging, in the directories above.
    pub(crate) request: RequestSettings,
}

/// Which of its server's mounts a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountIndex(pub(crate) usize);

/// One script alias, ready to be matched.
pub(crate) struct Mount {
    /// What of a URL it matches.
    pub(crate) matcher: Matcher,
    /// The file or directory, or a template for one, as httpd wants it.
    pub(crate) target: CString,
    /// Its options.
    pub(crate) options: AliasOptions,
    /// Where it stands.
    pub(crate) place: Place,
}

/// What a script alias matches.
pub(crate) enum Matcher {
    /// A URL path prefix.
    Prefix(String),
    /// A regular expression.
    Regex(Regex),
}

/// The settings of the process while they are read, and what was found out about them.
#[derive(Default)]
pub(crate) struct Process {
    /// The settings.
    pub(crate) settings: ProcessSettings,
    /// Where `WSGIPythonHome` stands.
    pub(crate) home_place: Place,
    /// Where the Python of that home is, or why it cannot be used; set when all has been read.
    pub(crate) located: Option<Result<Arc<Located>, String>>,
    /// The names of all directives that stand anywhere but in `.htaccess`.
    pub(crate) written: BTreeSet<&'static str>,
    /// The section whose directives are being read.
    section: Option<InterpreterBlock>,
}

const SHARED: &CStr = c"mod_wsgi_rs: settings of the process";

impl ServerConfig {
    /// A server's configuration before its directives are read.
    pub(crate) fn new(pool: &Pool<'_>, server: &Server<'_>) -> Self {
        // httpd sets up the main server first, in the same pool as the virtual hosts later on. The pool
        // goes with the configuration, so nothing of an earlier one is ever found here.
        let found = pool.recall::<Arc<Mutex<Process>>>(SHARED).filter(|_| server.is_virtual());
        let process = found.cloned().unwrap_or_else(|| {
            let process = Arc::<Mutex<Process>>::default();
            pool.remember(SHARED, Arc::clone(&process));
            process
        });
        let request = RequestSettings::default();
        Self { request, mounts: Vec::new(), uses: Vec::new(), defined: Vec::new(), process }
    }

    /// A virtual host's configuration over the main server's. Its mounts come first: the first that
    /// matches wins.
    pub(crate) fn merge(base: &Self, over: &Self) -> Self {
        Self {
            request: RequestSettings::merge(&base.request, &over.request),
            mounts: over.mounts.iter().chain(&base.mounts).map(Arc::clone).collect(),
            uses: over.uses.clone(),
            defined: over.defined.clone(),
            process: Arc::clone(&base.process),
        }
    }

    /// The settings of the process.
    pub(crate) fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectoryConfig {
    /// An inner directory's configuration over an outer one's.
    pub(crate) fn merge(base: &Self, over: &Self) -> Self {
        Self { request: RequestSettings::merge(&base.request, &over.request) }
    }
}

/// Applies one directive, and takes note that it is there.
pub(crate) fn apply<W>(entry: &'static Entry, command: &mut Command<'_>) -> Result<(), String>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    change::<W>(entry, command)?;
    // An .htaccess file is read by many threads; they leave what servers share alone.
    if !command.in_htaccess() {
        server::<W>(command)?.process().written.insert(entry.name);
    }
    Ok(())
}

fn change<W>(entry: &'static Entry, command: &mut Command<'_>) -> Result<(), String>
where
    W: Wiring<Server = ServerConfig, Directory = DirectoryConfig>,
{
    if entry.scope == Scope::Global
        && let Some(refusal) = command.refused_outside_main_server()
    {
        return Err(refusal);
    }
    let Ok(text) = command.arguments().to_str().map(str::to_owned) else {
        return Err("the arguments are not valid UTF-8".to_owned());
    };
    match entry.apply {
        Apply::Process(set) => {
            let place = command.place();
            let config = server::<W>(command)?;
            let mut process = config.process();
            set(&mut process.settings, &text).map_err(|fault| fault.to_string())?;
            match entry.name {
                HOME => process.home_place = place,
                IMPORT => {
                    if let Some(script) = process.settings.import_scripts.last_mut() {
                        script.origin = origin(place);
                    }
                }
                DAEMON => {
                    let groups = &mut process.settings.daemon.groups;
                    if let Some(group) = groups.last_mut() {
                        group.origin = origin(place);
                    }
                    let last = groups.len().saturating_sub(1);
                    drop(process);
                    config.defined.push(last);
                    if let Some(shown) = DaemonProcess::concealed(&text) {
                        command.show(&shown);
                    }
                }
                _ => {}
            }
            Ok(())
        }
        Apply::Interpreter(set) => {
            let config = server::<W>(command)?;
            let mut process = config.process();
            let Process { settings, section, .. } = &mut *process;
            let target = match section {
                Some(block) => &mut block.settings,
                None => &mut settings.interpreter,
            };
            set(target, &text).map_err(|fault| fault.to_string())
        }
        Apply::Server(set) => {
            let mut written = ServerSettings::default();
            set(&mut written, &text).map_err(|fault| fault.to_string())?;
            let place = command.place();
            let config = server::<W>(command)?;
            for alias in written.aliases {
                config.mount(alias, &place)?;
            }
            Ok(())
        }
        Apply::Request(set) => {
            let settings = if command.in_directory() {
                command.directory::<W>().map(|config| &mut config.request)
            } else {
                command.server::<W>().map(|config| &mut config.request)
            };
            let settings = settings.ok_or(NO_CONFIG)?;
            set(settings, &text).map_err(|fault| fault.to_string())?;
            if entry.name == GROUP
                && let Some(group) = settings.process_group.clone()
            {
                let place = command.place();
                server::<W>(command)?.uses.push(GroupUse { group, place });
            }
            Ok(())
        }
        Apply::Section(open) => {
            let mut block = InterpreterBlock::default();
            open(&mut block, &text).map_err(|fault| fault.to_string())?;
            section::<W>(command, block)
        }
    }
}

// What is kept of where these stand, for what can only be found out when all has been read.
const HOME: &str = "WSGIPythonHome";
const IMPORT: &str = "WSGIImportScript";
const DAEMON: &str = "WSGIDaemonProcess";
const GROUP: &str = "WSGIProcessGroup";

fn origin(place: Place) -> Origin {
    Origin { file: place.file, line: place.line, server: None }
}

const NO_CONFIG: &str = "httpd gave no place to keep this";

fn server<'c, W>(command: &'c mut Command<'_>) -> Result<&'c mut ServerConfig, String>
where
    W: Wiring<Server = ServerConfig>,
{
    command.server::<W>().ok_or_else(|| NO_CONFIG.to_owned())
}

/// Reads what stands in a section, and keeps it as a block.
fn section<W>(command: &mut Command<'_>, block: InterpreterBlock) -> Result<(), String>
where
    W: Wiring<Server = ServerConfig>,
{
    for name in command.names_inside() {
        if !Entry::find(&name).is_some_and(Entry::in_section) {
            return Err(format!("{name} is not allowed in this section"));
        }
    }
    server::<W>(command)?.process().section = Some(block);
    let result = command.walk_inside();
    let mut process = server::<W>(command)?.process();
    if let Some(block) = process.section.take() {
        process.settings.blocks.push(block);
    }
    result
}

impl ServerConfig {
    fn mount(&mut self, alias: ScriptAlias, place: &Place) -> Result<(), String> {
        if let Some(script) = alias.import_script() {
            let script = ImportScript { origin: origin(place.clone()), ..script };
            self.process().settings.import_scripts.push(script);
        }
        let matcher = match alias.pattern {
            Pattern::Prefix(location) => Matcher::Prefix(location),
            Pattern::Regex(pattern) => Matcher::Regex(Regex::compile(&pattern)?),
        };
        let target = CString::new(alias.target).map_err(|_| "a NUL in the target")?;
        let (options, place) = (alias.options, place.clone());
        self.mounts.push(Arc::new(Mount { matcher, target, options, place }));
        Ok(())
    }
}
