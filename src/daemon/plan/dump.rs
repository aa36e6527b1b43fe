//! What a configuration comes to, as text for the administrator: `httpd -t -D DUMP_WSGI`.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use engine::settings::request::{Callable, Effective};
use engine::settings::{DaemonProcess, GroupName, MapHead, PassAuthorization, RequestSettings};
use engine::wire::control::GroupPlan;

use super::{Input, Outcome, Planned, System, Written, at};

/// Tells of all process groups and mounts. `python` is that of httpd's own processes.
pub(crate) fn text(
    input: &Input<'_>,
    outcome: &Outcome,
    system: &dyn System,
    python: &str,
) -> String {
    let mut dump = Dump { text: String::new(), input, outcome, system, python };
    dump.own_processes();
    for group in &outcome.groups {
        dump.group(group);
    }
    for mount in &input.mounts {
        dump.mount(mount);
    }
    dump.text
}

struct Dump<'a> {
    text: String,
    input: &'a Input<'a>,
    outcome: &'a Outcome,
    system: &'a dyn System,
    python: &'a str,
}

/// Where a request runs.
enum Place<'a> {
    /// In httpd's own processes.
    Httpd,
    /// In this group.
    Group(&'a Planned),
    /// In a group of this name, which does not exist.
    Missing(String),
    /// Each request says so.
    Open,
}

impl<'a> Dump<'a> {
    fn heading(&mut self, line: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn line(&mut self, name: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "    {name}: {value}");
    }

    fn own_processes(&mut self) {
        self.heading("httpd's own processes");
        self.line("Python", self.python);
        self.line("user", self.own_user());
        if self.input.settings.restrict_embedded() {
            self.line("applications", "none (WSGIRestrictEmbedded On)");
        }
        self.scripts("");
    }

    fn own_user(&self) -> String {
        let httpd = &self.input.httpd;
        match &httpd.user {
            Some(name) => format!("{name} ({})", httpd.uid),
            None => httpd.uid.to_string(),
        }
    }

    fn group(&mut self, group: &Planned) {
        let plan = &group.plan;
        let definition = self.input.settings.daemon.groups.iter();
        let place = definition
            .filter(|known| known.process.name == plan.name)
            .map(|known| format!(" ({})", at(&known.origin).trim_end_matches(": ")));
        let place = place.take(1).collect::<String>();
        self.heading(&format!("process group {}{place}", plan.name));
        self.line("Python", &plan.python);
        self.line("user", user(plan));
        if let Some(server) = &group.server {
            self.line("requests", format!("of virtual host {server} alone"));
        }
        self.line("options", options(group));
        self.scripts(&plan.name);
    }

    /// The scripts of `WSGIImportScript`, and of aliases that name both groups.
    fn scripts(&mut self, group: &str) {
        let scripts = &self.input.settings.import_scripts;
        for script in scripts.iter().filter(|script| script.process_group == group) {
            let interpreter = interpreter_name(&script.application_group);
            self.line("loaded at start", format!("{} in {interpreter}", script.path));
        }
    }

    fn mount(&mut self, mount: &Written<'a>) {
        let location = mount.location.unwrap_or("(a regular expression)");
        let (place, target) = (&mount.place, mount.target);
        let place = super::place(&place.file, place.line);
        self.heading(&format!("{location} -> {target} ({})", place.trim_end_matches(": ")));
        self.line("server", server(mount));
        let effective = RequestSettings::resolve(None, mount.request).with_alias(mount.options);
        let place = self.place(mount, effective.process_group);
        match &place {
            Place::Httpd => {
                self.line("process group", "none: httpd's own processes");
                self.line("Python", self.python);
                self.line("user", self.own_user());
            }
            Place::Group(group) => {
                self.line("process group", &group.plan.name);
                self.line("Python", &group.plan.python);
                self.line("user", user(&group.plan));
            }
            Place::Missing(name) => {
                self.line("process group", format!("{name}, which is not defined"))
            }
            Place::Open => self.line("process group", by_request(effective.process_group)),
        }
        let interpreter = self.interpreter(mount, &place, effective.application_group);
        self.line("interpreter", interpreter);
        self.line("application", callable(effective.callable));
        self.line("settings", settings(&effective));
        if let Some(script) = effective.dispatch {
            self.line("decided anew by", &script.path);
        }
    }

    fn place(&self, mount: &Written<'_>, group: &GroupName) -> Place<'a> {
        let name = match group {
            GroupName::Global => return Place::Httpd,
            GroupName::Name(name) => name.clone(),
            GroupName::Server => server(mount),
            GroupName::Resource | GroupName::Host | GroupName::Env(_) => return Place::Open,
        };
        let known = self.outcome.groups.iter().find(|group| group.plan.name == name);
        known.map_or(Place::Missing(name), Place::Group)
    }

    fn interpreter(&self, mount: &Written<'_>, place: &Place<'_>, group: &GroupName) -> String {
        let alone = match place {
            Place::Group(planned) => planned.main_interpreter,
            _ => false,
        };
        if alone && mount.application_group().is_none() && mount.file(self.system).is_some() {
            return format!("{} (the group's only application)", interpreter_name(""));
        }
        let case_sensitive = self.input.settings.case_sensitivity();
        match mount.interpreter(Some(group), case_sensitive) {
            Some(name) => interpreter_name(&name),
            None => by_request(group),
        }
    }
}

fn interpreter_name(name: &str) -> String {
    if name.is_empty() { "the main interpreter".to_owned() } else { name.to_owned() }
}

fn by_request(group: &GroupName) -> String {
    format!("as each request says: {group}")
}

fn server(mount: &Written<'_>) -> String {
    let name = mount.server.name;
    match mount.server.port {
        0 | 80 | 443 => name.to_owned(),
        port => format!("{name}:{port}"),
    }
}

fn user(plan: &GroupPlan) -> String {
    let name = plan.env.iter().find(|variable| variable.name == "USER");
    let name = name.map_or_else(String::new, |variable| variable.value.clone());
    match &plan.user {
        Some(identity) => {
            let groups: Vec<String> = identity.groups.iter().map(u32::to_string).collect();
            let (uid, gid) = (identity.uid, identity.gid);
            let known = if name.is_empty() { uid.to_string() } else { format!("{name} ({uid})") };
            format!("{known}, group {gid}, groups {}", groups.join(" "))
        }
        None => format!("{name} (as httpd is started)").trim_start().to_owned(),
    }
}

fn callable(callable: Callable<'_>) -> String {
    match callable {
        Callable::Name(name) => name.to_owned(),
        Callable::Variable(name) => format!("as each request says: %{{ENV:{name}}}"),
    }
}

fn settings(effective: &Effective<'_>) -> String {
    let sendfile = effective.enable_sendfile;
    let mut lines = vec![
        ("WSGIPassAuthorization", name(PassAuthorization::CHOICES, effective.pass_authorization)),
        ("WSGIScriptReloading", on(effective.script_reloading)),
        ("WSGIErrorOverride", on(effective.error_override)),
        ("WSGIChunkedRequest", on(effective.chunked_request)),
        ("WSGIMapHEADToGET", name(MapHead::CHOICES, effective.map_head_to_get)),
        ("WSGIEnableSendfile", sendfile.map_or_else(|| "as EnableSendfile".to_owned(), on)),
        ("WSGIIgnoreActivity", on(effective.ignore_activity)),
    ];
    if let Some(groups) = effective.restrict_process {
        let named = |group: &String| if group.is_empty() { "%{GLOBAL}" } else { group }.to_owned();
        lines.push(("WSGIRestrictProcess", list(groups.iter().map(named))));
    }
    let proxies = effective.proxies;
    if !proxies.headers.is_empty() {
        let headers = proxies.headers.iter().map(|header| header.name().to_string_lossy());
        lines.push(("WSGITrustedProxyHeaders", list(headers)));
        let networks = list(proxies.networks.iter());
        lines.push(("WSGITrustedProxies", networks));
    }
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name} {value}")).collect();
    lines.join(", ")
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "(none)".to_owned() } else { items.join(" ") }
}

fn name<T: Copy + PartialEq>(choices: &[(&str, T)], value: T) -> String {
    let known = choices.iter().find(|(_, known)| *known == value);
    known.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn on(flag: bool) -> String {
    if flag { "On" } else { "Off" }.to_owned()
}

/// The options that have a value, as they could be written. `env=` and `env-file=` are left out: they hold secrets.
fn options(group: &Planned) -> String {
    let options = OPTIONS.iter().filter_map(|(name, value)| {
        let value = value(group)?;
        let quoted = value.contains([' ', '\t']);
        Some(if quoted { format!("{name}=\"{value}\"") } else { format!("{name}={value}") })
    });
    options.collect::<Vec<_>>().join(" ")
}

type Value = fn(&Planned) -> Option<String>;

/// The options, but for those that the other lines tell of.
pub(super) const OPTIONS: &[(&str, Value)] = &[
    ("umask", |g| g.plan.umask.map(|umask| format!("{umask:04o}"))),
    ("chroot", |g| g.plan.chroot.clone()),
    ("home", |g| g.plan.cwd.clone()),
    ("lang", |g| variable(&g.plan, "LANG")),
    ("locale", |g| g.process.locale.clone()),
    ("python-path", |g| Some(g.process.python_path.as_ref()?.join(":"))),
    ("python-eggs", |g| g.process.python_eggs.clone()),
    ("display-name", |g| g.process.display_name()),
    ("script-user", |g| Some(format!("#{}", g.script_user?))),
    ("script-group", |g| Some(format!("#{}", g.script_group?))),
    ("socket-user", |g| Some(format!("#{}", g.socket_owner))),
    ("processes", |g| Some(g.plan.processes.to_string())),
    ("threads", |g| Some(g.process.threads().to_string())),
    ("stack-size", |g| Some(g.process.stack_size?.to_string())),
    ("listen-backlog", |g| Some(g.process.listen_backlog().to_string())),
    ("queue-limit", |g| Some(g.process.queue_limit().to_string())),
    ("cpu-priority", |g| Some(g.process.cpu_priority?.to_string())),
    ("switch-interval", |g| Some(g.process.switch_interval?.to_string())),
    ("request-buffering", |g| Some(g.process.request_buffering().to_string())),
    ("response-buffering", |g| Some(g.process.response_buffering().to_string())),
    ("connect-timeout", |g| Some(time(g.process.connect_timeout()))),
    ("socket-timeout", |g| g.socket_timeout.map(time)),
    ("response-socket-timeout", |g| g.process.response_socket_timeout().map(time)),
    ("queue-timeout", |g| of(g, DaemonProcess::queue_timeout)),
    ("startup-timeout", |g| of(g, DaemonProcess::startup_timeout)),
    ("request-timeout", |g| of(g, DaemonProcess::request_timeout)),
    ("interrupt-timeout", |g| of(g, DaemonProcess::interrupt_timeout)),
    ("graceful-timeout", |g| of(g, DaemonProcess::graceful_timeout)),
    ("eviction-timeout", |g| of(g, DaemonProcess::eviction_timeout)),
    ("shutdown-timeout", |g| of(g, DaemonProcess::shutdown_timeout)),
    ("deadlock-timeout", |g| of(g, DaemonProcess::deadlock_timeout)),
    ("inactivity-timeout", |g| of(g, DaemonProcess::inactivity_timeout)),
    ("restart-interval", |g| of(g, DaemonProcess::restart_interval)),
    ("reload-wait", |g| of(g, DaemonProcess::reload_wait)),
    ("maximum-requests", |g| Some(g.process.maximum_requests()?.to_string())),
    ("cpu-time-limit", |g| Some(g.process.cpu_time_limit()?.to_string())),
    ("memory-limit", |g| Some(g.process.memory_limit()?.to_string())),
    ("virtual-memory-limit", |g| Some(g.process.virtual_memory_limit()?.to_string())),
];

fn variable(plan: &GroupPlan, name: &str) -> Option<String> {
    plan.env.iter().find(|known| known.name == name).map(|known| known.value.clone())
}

/// A limit; one that is off is told as `0`, as it is written.
fn of(group: &Planned, limit: fn(&DaemonProcess) -> Option<Duration>) -> Option<String> {
    Some(limit(&group.process).map_or_else(|| "0".to_owned(), time))
}

fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => time.as_secs().to_string(),
        _ => format!("{}ms", time.as_millis()),
    }
}
