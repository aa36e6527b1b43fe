//! Whether the scripts that a configuration names can be read by those who are to run them.

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

/// What keeps scripts from being read, each in one line with file and line. Only for those that are known
/// before a request comes.
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
        let barrier = system.barrier(&file, uid, &gids)?;
        let at = place(&written.file, written.line);
        Some(format!("{at}{directive}: {file} will not run: {barrier}"))
    });
    told.collect()
}
