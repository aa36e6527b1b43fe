//! Whether the scripts that a configuration names can be read by those who are to run them, and the folders
//! entered.

use engine::settings::hooks::{HandlerScript, HookScript};

use super::{Input, Outcome, System, place};
use crate::apache::command::Place;
use crate::apache::tree::Written;

/// The directives whose scripts are known from the configuration's text alone.
pub(crate) const ASKED: [&str; 5] = [
    "WSGIAccessScript",
    "WSGIAuthUserScript",
    "WSGIAuthGroupScript",
    "WSGIDispatchScript",
    "WSGIHandlerScript",
];

/// What keeps scripts from being read and folders from being entered, each in one line with file and line.
/// Only for those that are known before a request comes.
pub(crate) fn unreadable(
    input: &Input<'_>,
    asked: &[Written],
    outcome: &Outcome,
    system: &dyn System,
) -> Vec<String> {
    let mut named: Vec<(&str, String, String, Place)> = Vec::new();
    for mount in &input.mounts {
        if let Some(file) = mount.file(system) {
            let group = mount.group().unwrap_or_default().to_owned();
            named.push(("WSGIScriptAlias", file.to_owned(), group, mount.place.clone()));
        }
    }
    for script in &input.settings.import_scripts {
        // An alias that names both groups is among them.
        if named.iter().all(|(_, file, _, _)| *file != script.path) {
            let place = Place { file: script.origin.file.clone(), line: script.origin.line };
            let (file, group) = (script.path.clone(), script.process_group.clone());
            named.push(("WSGIImportScript", file, group, place));
        }
    }
    for Written { name, arguments, place } in asked {
        let script = match HandlerScript::parse(arguments) {
            Ok(script) if name.eq_ignore_ascii_case("WSGIHandlerScript") => {
                let group = script.process_group.as_ref().and_then(|group| group.fixed());
                Some((script.path, group.unwrap_or_default().to_owned()))
            }
            _ => HookScript::parse(arguments).ok().map(|script| (script.path, String::new())),
        };
        if let Some((file, group)) = script {
            named.push((name, file, group, place.clone()));
        }
    }
    let httpd = &input.httpd;
    let httpds = match &httpd.user {
        Some(name) => system.groups_of(name, httpd.gid),
        None => vec![httpd.gid],
    };
    let told = named.into_iter().filter_map(|(directive, file, group, written)| {
        let planned = outcome.groups.iter().find(|planned| planned.plan.name == group);
        let (uid, gids) = match planned.and_then(|planned| planned.plan.user.as_ref()) {
            Some(user) => (user.uid, [&user.groups[..], &[user.gid]].concat()),
            None => (httpd.uid, httpds.clone()),
        };
        let at = place(&written.file, written.line);
        if !file.starts_with('/') {
            // It is looked for from wherever httpd or the process happens to be.
            return Some(format!(
                "{at}{directive}: {file} may not be found: it is no absolute path; write it from the root"
            ));
        }
        let barrier = system.barrier(&file, uid, &gids, "or put the script elsewhere")?;
        Some(format!("{at}{directive}: {file} will not run: {barrier}"))
    });
    told.chain(closed(input, outcome, system)).collect()
}

/// What keeps daemon processes from going to the folders that are written for them, and from their Python.
fn closed(input: &Input<'_>, outcome: &Outcome, system: &dyn System) -> Vec<String> {
    let mut told = Vec::new();
    for planned in &outcome.groups {
        let Some(user) = &planned.plan.user else { continue };
        // Of what is in a chroot, too little is known.
        if planned.process.chroot.is_some() {
            continue;
        }
        let groups = [&user.groups[..], &[user.gid]].concat();
        let home = planned.process.home.as_deref().filter(|home| system.is_directory(home));
        let python = Some(planned.plan.python.as_str());
        let named = [
            ("home=", home, "or name another folder"),
            ("python-home=", python, "or name another Python"),
        ];
        for (option, path, elsewhere) in named {
            let barrier = path.and_then(|path| system.barrier(path, user.uid, &groups, elsewhere));
            let origin = input.settings.daemon.groups.iter().find_map(|definition| {
                (definition.process.name == planned.plan.name).then_some(&definition.origin)
            });
            if let Some((barrier, origin)) = barrier.zip(origin) {
                let at = place(&origin.file, origin.line);
                told.push(format!(
                    "{at}WSGIDaemonProcess: {option}: no process will start: {barrier}"
                ));
            }
        }
    }
    told
}
