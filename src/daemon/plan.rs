//! From what is written to what shall run: one plan per group, with everything resolved. Looks at the
//! system through [`System`] alone.

pub(crate) mod dump;
mod mounts;
pub(crate) mod scripts;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use engine::settings::daemon::{Account, Assignment, Definition, Origin};
use engine::settings::{
    AliasOptions, DaemonProcess, GroupName, HashSeed, InterpreterSettings, ProcessSettings,
    RequestSettings,
};
use engine::wire::control::{
    FromParent, GroupPlan, Identity, InterpreterPlan, Life, Limits, PythonPlan, Section, Server,
    Setup, Timeouts, Variable,
};
use engine::wire::{BuildId, Secret};
use engine::worker::STACK;

use crate::apache::account::User;
use crate::apache::command::Place;

/// Everything that is written, and what is known of httpd.
pub(crate) struct Input<'a> {
    pub(crate) settings: &'a ProcessSettings,
    /// Script aliases of all servers, each once.
    pub(crate) mounts: Vec<Written<'a>>,
    /// The groups that servers name by `WSGIProcessGroup`.
    pub(crate) uses: Vec<Use<'a>>,
    pub(crate) httpd: Httpd,
}

/// One script alias.
pub(crate) struct Written<'a> {
    /// The URL path that it is at; `None` for a regular expression.
    pub(crate) location: Option<&'a str>,
    /// The file or directory, or a template for one.
    pub(crate) target: &'a str,
    pub(crate) options: &'a AliasOptions,
    /// What holds in the server it is written in.
    pub(crate) request: &'a RequestSettings,
    pub(crate) server: Name<'a>,
    pub(crate) place: Place,
}

/// A server that sends all its requests to one group.
pub(crate) struct Use<'a> {
    pub(crate) group: &'a GroupName,
    pub(crate) server: Name<'a>,
    pub(crate) place: Place,
}

/// What a server is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) name: &'a str,
    /// 0 where none is known.
    pub(crate) port: u16,
}

/// What is known of httpd.
pub(crate) struct Httpd {
    pub(crate) build: BuildId,
    /// `User`, by name where it has one.
    pub(crate) user: Option<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether it can start processes of other users.
    pub(crate) root: bool,
    /// `Timeout`
    pub(crate) timeout: Option<Duration>,
    /// `TZ` in its environment.
    pub(crate) time_zone: Option<String>,
    /// What applications are told of it.
    pub(crate) server: Server,
}

/// What a plan needs to know of the system.
pub(crate) trait System {
    /// A user by name.
    fn user_named(&self, name: &str) -> Option<User>;
    /// A user by number, known or not.
    fn user_numbered(&self, uid: u32) -> User;
    /// A group by name.
    fn group_named(&self, name: &str) -> Option<u32>;
    /// The primary group and all others of a user.
    fn groups_of(&self, name: &str, primary: u32) -> Vec<u32>;
    /// The interpreter of a home.
    fn python(&self, home: Option<&str>) -> Result<String, String>;
    /// The content of a file.
    fn read(&self, path: &str) -> Result<String, String>;
    /// What keeps a user with these groups from reading a file or entering a directory, and what to do,
    /// which may end in another way out.
    fn barrier(&self, path: &str, uid: u32, gids: &[u32], elsewhere: &str) -> Option<String>;
    /// Whether there is such a directory.
    fn is_directory(&self, path: &str) -> bool;
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Groups that can be started.
    pub(crate) groups: Vec<Planned>,
    /// What is wrong, each in one line with file and line.
    pub(crate) faults: Vec<String>,
    /// What is accepted but does not do what its writer may expect.
    pub(crate) notices: Vec<String>,
}

/// One group: what the supervisor is told, but for the secret, and what is between.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Its `id` is the fingerprint; its secret is still zeros.
    pub(crate) plan: GroupPlan,
    /// Who shall own the socket.
    pub(crate) socket_owner: u32,
    /// As written, but without secrets.
    pub(crate) process: DaemonProcess,
    /// `socket-timeout=`, or httpd's `Timeout`.
    pub(crate) socket_timeout: Option<Duration>,
    /// The virtual host whose requests alone may use it.
    pub(crate) server: Option<String>,
    /// Whether its only application runs in the main interpreter unless something else is written.
    pub(crate) main_interpreter: bool,
    /// `script-user=`, resolved.
    pub(crate) script_user: Option<u32>,
    /// `script-group=`, resolved.
    pub(crate) script_group: Option<u32>,
}

/// Plans all groups.
pub(crate) fn plan(input: &Input<'_>, system: &dyn System) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.notices.extend(input.settings.daemon.notices());
    let mut known: BTreeMap<&str, &Definition> = BTreeMap::new();
    for definition in &input.settings.daemon.groups {
        let name = definition.process.name.as_str();
        match known.get(name) {
            None => {
                known.insert(name, definition);
                outcome.notices.extend(definition.process.notices());
            }
            // The same file may be included in two virtual hosts.
            Some(first) if first.process == definition.process => {}
            Some(first) => outcome.faults.push(format!(
                "{}WSGIDaemonProcess: process group '{name}' is defined differently in {}: give \
                 it another name",
                at(&definition.origin),
                at(&first.origin).trim_end_matches(": "),
            )),
        }
    }
    check_names(input, &known, &mut outcome.faults);
    for definition in known.values() {
        match group(input, definition, system, &mut outcome.notices) {
            Ok(planned) if is_idle(&planned.plan.setup) => outcome.notices.push(format!(
                "{}WSGIDaemonProcess: process group '{}' has threads=0 and no WSGIImportScript: there is \
                 nothing to run in it",
                at(&definition.origin),
                planned.plan.name
            )),
            Ok(planned) => {
                // Started all the same, again and again: the folder may come later.
                let missing = missing_folder(&definition.process, system);
                outcome.faults.extend(missing.map(|fault| {
                    format!("{}WSGIDaemonProcess: {fault}", at(&definition.origin))
                }));
                outcome.groups.push(planned);
            }
            Err(fault) => {
                outcome
                    .faults
                    .push(format!("{}WSGIDaemonProcess: {fault}", at(&definition.origin)));
            }
        }
    }
    outcome
}

/// Whether a group takes no requests and has no scripts either.
fn is_idle(setup: &Setup) -> bool {
    setup.threads == 0 && setup.import_scripts.is_empty()
}

fn at(origin: &Origin) -> String {
    place(&origin.file, origin.line)
}

/// `file:line: `, or nothing where it is not known.
pub(super) fn place(file: &str, line: u32) -> String {
    if file.is_empty() { String::new() } else { format!("{file}:{line}: ") }
}

/// Every group that is named must be defined, and for the server that names it.
fn check_names(input: &Input<'_>, known: &BTreeMap<&str, &Definition>, faults: &mut Vec<String>) {
    let mounts = input.mounts.iter().filter_map(|mount| {
        Some((
            "WSGIScriptAlias",
            mount.options.process_group.as_ref()?,
            Some(mount.server),
            &mount.place,
        ))
    });
    let uses = input
        .uses
        .iter()
        .map(|named| ("WSGIProcessGroup", named.group, Some(named.server), &named.place));
    let scripts: Vec<(GroupName, Place)> = input
        .settings
        .import_scripts
        .iter()
        .map(|script| {
            let Origin { file, line, .. } = script.origin.clone();
            (GroupName::parse_value(&script.process_group), Place { file, line })
        })
        .collect();
    let scripts = scripts.iter().map(|(group, place)| ("WSGIImportScript", group, None, place));
    let mut told = Vec::new();
    for (directive, group, server, written) in mounts.chain(uses).chain(scripts) {
        let Some(name) = group.fixed().filter(|name| !name.is_empty()) else { continue };
        let fault = match (known.get(name), server) {
            (None, _) => format!(
                "no daemon process group called '{name}' is defined: write WSGIDaemonProcess {name}"
            ),
            (Some(definition), Some(server)) if !is_for(&definition.origin, server.name) => {
                format!(
                    "process group '{name}' is defined in virtual host {}, whose requests alone may use \
                 it: define it in the main server",
                    definition.origin.server.as_deref().unwrap_or_default()
                )
            }
            // Import scripts are all that runs in such a group.
            (Some(definition), Some(_)) if definition.process.threads() == 0 => {
                format!(
                    "process group '{name}' has threads=0 and serves no requests: name another group, or \
                     give it threads"
                )
            }
            _ => continue,
        };
        // An alias that names both groups is in the list of import scripts as well.
        if server.is_none() && told.contains(&name) {
            continue;
        }
        told.push(name);
        faults.push(format!("{}{directive}: {fault}", place(&written.file, written.line)));
    }
}

/// Whether requests of a server may use a group.
fn is_for(origin: &Origin, server: &str) -> bool {
    origin.server.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(server))
}

fn group(
    input: &Input<'_>,
    definition: &Definition,
    system: &dyn System,
    notices: &mut Vec<String>,
) -> Result<Planned, String> {
    let process = &definition.process;
    let httpd = &input.httpd;
    let user = user(process, httpd, system, notices)?;
    let home = process.python_home.as_deref().or(input.settings.python_home.as_deref());
    let python = system.python(home).map_err(|fault| format!("python-home=: {fault}"))?;
    let (mounts, main_interpreter) = mounts::mounts(input, process, system, notices);
    let life = life(process);
    let setup = Setup {
        group: process.name.clone(),
        group_id: 0,
        build: httpd.build,
        secret: Secret::new([0; 32]),
        peer_uid: httpd.uid,
        processes: process.processes(),
        threads: process.threads(),
        alone: false,
        stack_size: process.stack_size,
        display_name: process.display_name(),
        locale: process.locale.clone(),
        home: process.home.clone(),
        python: python_plan(input.settings, process),
        timeouts: Timeouts {
            request: process.request_timeout(),
            interrupt: process.interrupt_timeout(),
            queue: process.queue_timeout(),
            socket: process.socket_timeout().or(httpd.timeout),
        },
        life: life.clone(),
        import_scripts: mounts::import_scripts(input.settings, process, &mounts),
        mounts,
        server: Server { multiprocess: process.multiprocess(), ..httpd.server.clone() },
    };
    let socket_owner = match &process.socket_user {
        Some(account) => number(account, "socket-user", system)?,
        None => httpd.uid,
    };
    let mut plan = GroupPlan {
        name: process.name.clone(),
        id: 0,
        processes: process.processes(),
        python,
        umask: process.umask,
        cwd: folder(process, &user, httpd, system),
        chroot: process.chroot.clone(),
        env: environment(input, process, &user.account, system)?,
        user: user.identity,
        limits: Limits {
            cpu_seconds: process.cpu_time_limit(),
            data: data_limit(process),
            address_space: process.virtual_memory_limit(),
        },
        nice: process.cpu_priority,
        life,
        setup,
    };
    plan.id = fingerprint(&plan, (socket_owner, process.queue_limit()))?;
    plan.setup.group_id = plan.id;
    let script_number = |account: &Option<Account>, option: &str, group: bool| match account {
        None => Ok(None),
        Some(account) if group => group_number(account, option, system).map(Some),
        Some(account) => number(account, option, system).map(Some),
    };
    Ok(Planned {
        plan,
        socket_owner,
        socket_timeout: process.socket_timeout().or(httpd.timeout),
        server: definition.origin.server.clone(),
        main_interpreter,
        script_user: script_number(&process.script_user, "script-user", false)?,
        script_group: script_number(&process.script_group, "script-group", true)?,
        process: DaemonProcess { env: Vec::new(), env_files: Vec::new(), ..process.clone() },
    })
}

/// A number for all that, if it changes, needs other processes or another socket. Never 0.
fn fingerprint(plan: &GroupPlan, socket: (u32, u32)) -> Result<u64, String> {
    let mut bytes = Vec::new();
    FromParent::Group(Box::new(plan.clone())).encode(&mut bytes).map_err(|_| {
        "its environment, paths and scripts are more than 1 MiB: leave out some of them".to_owned()
    })?;
    Ok(hash(&(bytes, socket)))
}

fn hash(value: &impl Hash) -> u64 {
    // Without keys: the same in every pass over the configuration.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Who the processes run as.
struct Runner {
    account: User,
    /// `None`: as httpd itself, which cannot change that.
    identity: Option<Identity>,
    /// Whether it is another user than that of httpd's children.
    other: bool,
}

fn user(
    process: &DaemonProcess,
    httpd: &Httpd,
    system: &dyn System,
    notices: &mut Vec<String>,
) -> Result<Runner, String> {
    let default = || {
        let named = httpd.user.as_deref().and_then(|name| system.user_named(name));
        named
            .filter(|user| user.uid == httpd.uid)
            .unwrap_or_else(|| system.user_numbered(httpd.uid))
    };
    let account = match &process.user {
        None => default(),
        Some(Account::Id(uid)) => system.user_numbered(*uid),
        Some(Account::Name(name)) => {
            system.user_named(name).ok_or_else(|| format!("user=: there is no user '{name}'"))?
        }
    };
    let gid = match &process.group {
        None => httpd.gid,
        Some(account) => group_number(account, "group", system)?,
    };
    if !httpd.root {
        if account.uid != httpd.uid || gid != httpd.gid {
            notices.push(format!(
                "process group '{}': user= and group= have no effect, as httpd is not run by root",
                process.name
            ));
        }
        return Ok(Runner { account: default(), identity: None, other: false });
    }
    if account.uid == 0 {
        return Err("applications do not run as root: write user= with another user".to_owned());
    }
    let mut groups = match (&process.supplementary_groups, &account.name) {
        (Some(written), _) => {
            let numbers =
                written.iter().map(|account| group_number(account, "supplementary-groups", system));
            std::iter::once(Ok(gid)).chain(numbers).collect::<Result<Vec<u32>, String>>()?
        }
        (None, Some(name)) => system.groups_of(name, gid),
        (None, None) => vec![gid],
    };
    groups.sort_unstable();
    groups.dedup();
    let (uid, other) = (account.uid, account.uid != httpd.uid);
    Ok(Runner { account, identity: Some(Identity { uid, gid, groups }), other })
}

fn number(account: &Account, option: &str, system: &dyn System) -> Result<u32, String> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => system
            .user_named(name)
            .map(|user| user.uid)
            .ok_or_else(|| format!("{option}=: there is no user '{name}'")),
    }
}

fn group_number(account: &Account, option: &str, system: &dyn System) -> Result<u32, String> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => {
            system.group_named(name).ok_or_else(|| format!("{option}=: there is no group '{name}'"))
        }
    }
}

/// Where the processes start; `None` is `/`.
fn folder(
    process: &DaemonProcess,
    user: &Runner,
    httpd: &Httpd,
    system: &dyn System,
) -> Option<String> {
    if process.home.is_some() {
        return process.home.clone();
    }
    let home = user.account.home.clone().filter(|_| user.other || !httpd.root)?;
    // Users of services often have a home that does not exist.
    let seen = format!("{}{home}", process.chroot.as_deref().unwrap_or_default());
    system.is_directory(&seen).then_some(home)
}

/// What of the folders that are written for the processes to go to is not there.
fn missing_folder(process: &DaemonProcess, system: &dyn System) -> Option<String> {
    let root = process.chroot.as_deref().map(|root| root.trim_end_matches('/')).unwrap_or_default();
    let home = process.home.as_deref().map(|home| ("home", format!("{root}{home}")));
    let named = [process.chroot.clone().map(|root| ("chroot", root)), home];
    let (option, folder) =
        named.into_iter().flatten().find(|(_, folder)| !system.is_directory(folder))?;
    Some(format!("{option}=: there is no directory {folder}: correct the path or create it"))
}

/// The whole environment: what every program may expect, then what is written.
fn environment(
    input: &Input<'_>,
    process: &DaemonProcess,
    user: &User,
    system: &dyn System,
) -> Result<Vec<Variable>, String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        variables.insert(name.to_owned(), value.to_owned());
    };
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // Else Python would take texts of the system for ASCII.
    set("LANG", process.lang.as_deref().unwrap_or("C.UTF-8"));
    if let Some(locale) = &process.locale {
        set("LC_ALL", locale);
    }
    if let Some(name) = &user.name {
        set("USER", name);
        set("LOGNAME", name);
    }
    if let Some(home) = &user.home {
        set("HOME", home);
    }
    if let Some(zone) = &input.httpd.time_zone {
        set("TZ", zone);
    }
    if let Some(eggs) = &process.python_eggs {
        set("PYTHON_EGG_CACHE", eggs);
    }
    for path in &process.env_files {
        let text = system.read(path).map_err(|fault| format!("env-file=: {path}: {fault}"))?;
        for Assignment { name, value } in
            Assignment::parse_file(&text).map_err(|fault| format!("env-file=: {path}: {fault}"))?
        {
            set(&name, &value);
        }
    }
    for Assignment { name, value } in &process.env {
        set(name, value);
    }
    Ok(variables.into_iter().map(|(name, value)| Variable { name, value }).collect())
}

/// `memory-limit=` as the kernel counts: the stacks of our threads are data, too, from their first moment and in full.
fn data_limit(process: &DaemonProcess) -> Option<u64> {
    let stack = process.stack_size.unwrap_or(STACK);
    let stacks = u64::from(process.threads()).saturating_mul(stack);
    process.memory_limit().map(|limit| limit.saturating_add(stacks))
}

fn life(process: &DaemonProcess) -> Life {
    Life {
        startup: process.startup_timeout(),
        graceful: process.graceful_timeout(),
        eviction: process.eviction_timeout(),
        shutdown: process.shutdown_timeout(),
        deadlock: process.deadlock_timeout(),
        inactivity: process.inactivity_timeout(),
        restart_interval: process.restart_interval(),
        reload_wait: process.reload_wait(),
        maximum_requests: process.maximum_requests(),
        // Before the limit itself makes every allocation fail.
        resident: process.memory_limit().map(|limit| limit - limit / 10),
    }
}

fn python_plan(settings: &ProcessSettings, process: &DaemonProcess) -> PythonPlan {
    let name = process.name.as_str();
    let of_this = |group: &Option<String>| group.as_deref().is_none_or(|group| group == name);
    PythonPlan {
        path: process.python_path.clone().unwrap_or_default(),
        eggs: process.python_eggs.clone(),
        switch_interval: process.switch_interval,
        optimize: settings.optimize(),
        warnings: settings.warnings.clone(),
        hash_seed: match settings.hash_seed() {
            HashSeed::Random => None,
            HashSeed::Fixed(seed) => Some(seed),
        },
        dont_write_bytecode: settings.dont_write_bytecode(),
        gil: !settings.free_threading(name),
        destroy_interpreter: settings.destroy_interpreter(),
        case_sensitivity: settings.case_sensitivity(),
        // These two of the top level are for httpd's own processes.
        interpreter: InterpreterPlan {
            switch_interval: None,
            python_path: Vec::new(),
            ..interpreter_plan(&settings.interpreter)
        },
        // A section for another group must not change the fingerprint of this one.
        sections: settings
            .blocks
            .iter()
            .filter(|block| of_this(&block.process_group))
            .map(|block| Section {
                process_group: block.process_group.clone(),
                application_group: block.application_group.clone(),
                settings: interpreter_plan(&block.settings),
            })
            .collect(),
    }
}

fn interpreter_plan(settings: &InterpreterSettings) -> InterpreterPlan {
    InterpreterPlan {
        per_interpreter_gil: settings.per_interpreter_gil,
        free_threading: settings.free_threading,
        switch_interval: settings.switch_interval,
        python_path: settings.python_path.clone(),
        restrict_stdin: settings.restrict_stdin,
        restrict_stdout: settings.restrict_stdout,
        restrict_signal: settings.restrict_signal,
    }
}

#[cfg(test)]
mod tests;
