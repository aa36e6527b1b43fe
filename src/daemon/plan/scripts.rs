//! Whether the scripts that a configuration names can be read by those who are to run them.

use super::{Input, Outcome, System, place};

/// What keeps scripts from being read, each in one line with file and line. Only for those that are known
/// before a request comes.
pub(crate) fn unreadable(input: &Input<'_>, outcome: &Outcome, system: &dyn System) -> Vec<String> {
    let httpd = &input.httpd;
    let httpds = match &httpd.user {
        Some(name) => system.groups_of(name, httpd.gid),
        None => vec![httpd.gid],
    };
    let mut told = Vec::new();
    for mount in &input.mounts {
        let Some(file) = mount.file(system) else { continue };
        let group = mount.group().unwrap_or_default();
        let planned = outcome.groups.iter().find(|planned| planned.plan.name == group);
        let (uid, gids) = match planned.and_then(|planned| planned.plan.user.as_ref()) {
            Some(user) => (user.uid, [&user.groups[..], &[user.gid]].concat()),
            None => (httpd.uid, httpds.clone()),
        };
        if let Some(barrier) = system.barrier(file, uid, &gids) {
            let at = place(&mount.place.file, mount.place.line);
            told.push(format!("{at}WSGIScriptAlias: requests for {file} will fail: {barrier}"));
        }
    }
    told
}
