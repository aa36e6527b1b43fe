//! Which applications a group has that are known before a request comes.

use engine::settings::request::Callable;
use engine::settings::{DaemonProcess, GroupName, ProcessSettings, RequestSettings};
use engine::wire::control::{ImportScript, Mount};

use super::{Input, System, Written, hash, place};

/// The scripts of `WSGIImportScript` for a group, without those that are mounted as well.
pub(super) fn import_scripts(
    settings: &ProcessSettings,
    process: &DaemonProcess,
    mounts: &[Mount],
) -> Vec<ImportScript> {
    let mut scripts: Vec<ImportScript> = Vec::new();
    for script in settings.import_scripts.iter().filter(|s| s.process_group == process.name) {
        let path = inside(&script.path, process.chroot.as_deref()).unwrap_or(&script.path);
        let script = ImportScript {
            path: path.to_owned(),
            application_group: script.application_group.clone(),
        };
        // A service runs its scripts and serves nothing.
        let mounted = process.threads() > 0
            && mounts.iter().any(|mount| {
                mount.path == script.path && mount.application_group == script.application_group
            });
        if !mounted && !scripts.contains(&script) {
            scripts.push(script);
        }
    }
    scripts
}

/// The applications of a group that are known before a request comes, and whether the group has one
/// application alone, which gets the main interpreter.
pub(super) fn mounts(
    input: &Input<'_>,
    process: &DaemonProcess,
    system: &dyn System,
    notices: &mut Vec<String>,
) -> (Vec<Mount>, bool) {
    let of_group: Vec<&Written<'_>> =
        input.mounts.iter().filter(|mount| mount.group() == Some(&process.name)).collect();
    let main_interpreter = match of_group.as_slice() {
        [only] => only.application_group().is_none() && only.file(system).is_some(),
        _ => false,
    };
    let mut mounts: Vec<Mount> = Vec::new();
    for written in of_group {
        let Some(file) = written.file(system) else { continue };
        let Some(path) = inside(file, process.chroot.as_deref()) else {
            notices.push(format!(
                "{}WSGIScriptAlias: {file} is not under the chroot= of process group '{}': its \
                 requests will fail",
                place(&written.place.file, written.place.line),
                process.name
            ));
            continue;
        };
        let group = match written.application_group() {
            None if main_interpreter => Some(String::new()),
            group => written.interpreter(group, input.settings.case_sensitivity()),
        };
        let (Some(application_group), Some(callable)) = (group, written.callable()) else {
            continue;
        };
        let id = mount_id(&process.name, path, &application_group, callable);
        if mounts.iter().all(|mount| mount.id != id) {
            mounts.push(Mount {
                id,
                path: path.to_owned(),
                application_group,
                callable: callable.to_owned(),
                preload: true,
                reloading: written.reloading(),
            });
        }
    }
    (mounts, main_interpreter)
}

/// What a resolved mount is called on the wire: a number that stays the same as long as the mount does.
pub(super) fn mount_id(group: &str, path: &str, application_group: &str, callable: &str) -> u64 {
    hash(&(group, path, application_group, callable))
}

/// A path as it is seen from within a chroot; `None` if it is outside.
fn inside<'p>(path: &'p str, chroot: Option<&str>) -> Option<&'p str> {
    let Some(root) = chroot else { return Some(path) };
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    rest.starts_with('/').then_some(rest)
}

impl Written<'_> {
    /// The group it runs in, where no request is needed to know. (A directory section may say otherwise;
    /// then the application is loaded there as well.)
    pub(super) fn group(&self) -> Option<&str> {
        let written = self.options.process_group.as_ref().or(self.request.process_group.as_ref());
        written?.fixed()
    }

    pub(super) fn application_group(&self) -> Option<&GroupName> {
        self.options.application_group.as_ref().or(self.request.application_group.as_ref())
    }

    /// The script, where it is the same for every request.
    pub(super) fn file(&self, system: &dyn System) -> Option<&str> {
        let template = self.location.is_none() && self.target.contains('$');
        // With `/` the rest of the URL path is added to the target, and `/app.wsgi/` is a directory.
        let directory = self.target.ends_with('/') || system.is_directory(self.target);
        (!template && !directory).then_some(self.target)
    }

    /// The name of the interpreter that most requests will name.
    pub(super) fn interpreter(
        &self,
        group: Option<&GroupName>,
        case_sensitive: bool,
    ) -> Option<String> {
        let server = || match self.server.port {
            0 | 80 | 443 => self.server.name.to_owned(),
            port => format!("{}:{port}", self.server.name),
        };
        match group.unwrap_or(&GroupName::Resource) {
            GroupName::Global => Some(String::new()),
            GroupName::Name(name) => Some(name.clone()),
            GroupName::Server => Some(server()),
            GroupName::Resource => {
                // The root has no script name.
                let name = self.location?.trim_end_matches('/');
                let name = if case_sensitive { name.to_owned() } else { name.to_ascii_lowercase() };
                Some(format!("{}|{name}", server()))
            }
            GroupName::Host | GroupName::Env(_) => None,
        }
    }

    /// Whether a change of the script is looked for. (A directory section may say otherwise for requests; processes are
    /// replaced by this alone.)
    fn reloading(&self) -> bool {
        RequestSettings::resolve(None, self.request).script_reloading
    }

    /// The name of the application, where no request is needed to know.
    fn callable(&self) -> Option<&str> {
        if let Some(name) = &self.options.callable_object {
            return Some(name);
        }
        match RequestSettings::resolve(None, self.request).callable {
            Callable::Name(name) => Some(name),
            Callable::Variable(_) => None,
        }
    }
}
