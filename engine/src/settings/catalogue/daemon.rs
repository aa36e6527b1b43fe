//! The directives of daemon mode.

use super::{Apply, Entry, Scope};
use crate::settings::GroupName;
use crate::settings::daemon::{AcceptMutex, DaemonProcess, Definition};
use crate::settings::process::ImportScript;
use crate::settings::request::process_groups;
use crate::settings::value::{choice, on_off, one_word};

/// The directives of daemon mode.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "WSGIDaemonProcess",
        scope: Scope::Server,
        syntax: "WSGIDaemonProcess group [option=value]...",
        default: "none",
        help: "Defines a group of processes that run applications, and nothing else",
        apply: Apply::Process(|process, text| {
            let group = DaemonProcess::parse(text)?;
            process.daemon.groups.push(Definition { process: group, ..Definition::default() });
            Ok(())
        }),
    },
    Entry {
        name: "WSGIProcessGroup",
        scope: Scope::ServerDir,
        syntax: "WSGIProcessGroup name|%{GLOBAL}|%{SERVER}|%{RESOURCE}|%{HOST}|%{ENV:variable}",
        default: "%{GLOBAL}",
        help: "Names the processes that an application runs in",
        apply: Apply::Request(|request, text| {
            request.process_group = Some(GroupName::parse(&one_word(text)?));
            Ok(())
        }),
    },
    Entry {
        name: "WSGIRestrictProcess",
        scope: Scope::ServerDir,
        syntax: "WSGIRestrictProcess name|%{GLOBAL} [name|%{GLOBAL}]...",
        default: "none",
        help: "Names the process groups that applications may run in",
        apply: Apply::Request(|request, text| {
            request.restrict_process = Some(process_groups(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIImportScript",
        scope: Scope::Server,
        syntax: "WSGIImportScript file process-group=group application-group=group",
        default: "none",
        help: "Loads a script when a process starts",
        apply: Apply::Process(|process, text| {
            process.import_scripts.push(ImportScript::parse(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIIgnoreActivity",
        scope: Scope::ServerDirHtaccess,
        syntax: "WSGIIgnoreActivity On|Off",
        default: "Off",
        help: "Says whether requests leave the inactivity timeout of their process alone",
        apply: Apply::Request(|request, text| {
            request.ignore_activity = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGISocketPrefix",
        scope: Scope::Global,
        syntax: "WSGISocketPrefix path",
        default: "wsgi in httpd's runtime directory",
        help: "Says where the sockets between httpd and daemon processes are",
        apply: Apply::Process(|process, text| {
            process.daemon.socket_prefix = Some(one_word(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGISocketRotation",
        scope: Scope::Global,
        syntax: "WSGISocketRotation On|Off",
        default: "On",
        help: "Does nothing: sockets stay the same as long as their group does",
        apply: Apply::Process(|process, text| {
            process.daemon.socket_rotation = Some(on_off(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIAcceptMutex",
        scope: Scope::Global,
        syntax: "WSGIAcceptMutex default|flock|fcntl|sysvsem|posixsem|pthread",
        default: "default",
        help: "Does nothing: processes of a group need no lock to share their socket",
        apply: Apply::Process(|process, text| {
            process.daemon.accept_mutex = Some(choice(&one_word(text)?, AcceptMutex::CHOICES)?);
            Ok(())
        }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ProcessSettings, RequestSettings};

    fn entry(name: &str) -> &'static Entry {
        ENTRIES.iter().find(|entry| entry.name == name).unwrap()
    }

    fn process(lines: &[&str]) -> ProcessSettings {
        let mut process = ProcessSettings::default();
        for line in lines {
            let (name, text) = line.split_once(' ').unwrap();
            let Apply::Process(apply) = entry(name).apply else { panic!("{name}") };
            apply(&mut process, text).unwrap_or_else(|fault| panic!("{line}: {fault}"));
        }
        process
    }

    fn request(line: &str) -> Result<RequestSettings, String> {
        let mut request = RequestSettings::default();
        let (name, text) = line.split_once(' ').unwrap_or((line, ""));
        let Apply::Request(apply) = entry(name).apply else { panic!("{name}") };
        apply(&mut request, text).map(|()| request).map_err(|fault| fault.to_string())
    }

    fn refuses(line: &str, reason: &str) {
        let (name, text) = line.split_once(' ').unwrap_or((line, ""));
        let fault = match entry(name).apply {
            Apply::Process(apply) => {
                let mut process = ProcessSettings::default();
                let fault = apply(&mut process, text).unwrap_err();
                assert_eq!(process, ProcessSettings::default(), "{line} changed something");
                fault.to_string()
            }
            _ => request(line).unwrap_err(),
        };
        assert!(fault.contains(reason), "{line}: {fault}");
        assert!(!fault.contains("WSGI"), "the caller names the directive: {fault}");
    }

    #[test]
    fn groups_add_up() {
        let process = process(&["WSGIDaemonProcess a threads=2", "WSGIDaemonProcess b"]);
        let groups = process.daemon.groups;
        let names: Vec<&str> = groups.iter().map(|group| group.process.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(groups[0].process.threads(), 2);
        refuses("WSGIDaemonProcess", "takes the name of a process group");
        refuses("WSGIDaemonProcess a threads=x", "threads=: 'x' is not allowed");
    }

    #[test]
    fn process_group() {
        for (word, name) in [
            ("blog", GroupName::Name("blog".to_owned())),
            ("%{GLOBAL}", GroupName::Global),
            ("%{SERVER}", GroupName::Server),
            ("%{ENV:X}", GroupName::Env("X".to_owned())),
        ] {
            let found = request(&format!("WSGIProcessGroup {word}")).unwrap();
            assert_eq!(
                found,
                RequestSettings { process_group: Some(name), ..RequestSettings::default() }
            );
        }
        refuses("WSGIProcessGroup", "takes one argument");
        refuses("WSGIProcessGroup a b", "takes one argument");
        refuses("WSGIProcessGroup ''", "is empty");
    }

    #[test]
    fn restrict_process() {
        let found = request("WSGIRestrictProcess a %{GLOBAL}").unwrap();
        let names = Some(vec!["a".to_owned(), String::new()]);
        assert_eq!(
            found,
            RequestSettings { restrict_process: names, ..RequestSettings::default() }
        );
        refuses("WSGIRestrictProcess", "none is given");
    }

    #[test]
    fn ignore_activity() {
        for (word, flag) in [("On", true), ("off", false)] {
            let found = request(&format!("WSGIIgnoreActivity {word}")).unwrap();
            assert_eq!(
                found,
                RequestSettings { ignore_activity: Some(flag), ..RequestSettings::default() }
            );
        }
        refuses("WSGIIgnoreActivity 1", "write On or Off");
    }

    #[test]
    fn import_scripts_in_any_group() {
        let found =
            process(&["WSGIImportScript /a process-group=blog application-group=%{GLOBAL}"]);
        assert_eq!(found.import_scripts.len(), 1);
        assert_eq!(found.import_scripts[0].process_group, "blog");
        assert_eq!(found.import_scripts[0].application_group, "");
        refuses("WSGIImportScript /a process-group=blog", "application-group= is missing");
    }

    #[test]
    fn sockets_and_locks() {
        let found = process(&[
            "WSGISocketPrefix '/run/my sites/wsgi'",
            "WSGISocketRotation Off",
            "WSGIAcceptMutex Flock",
        ])
        .daemon;
        assert_eq!(found.socket_prefix.as_deref(), Some("/run/my sites/wsgi"));
        assert_eq!(found.socket_rotation, Some(false));
        assert_eq!(found.notices().len(), 2);
        assert!(process(&[]).daemon.notices().is_empty());
        refuses("WSGISocketPrefix", "takes one argument");
        refuses("WSGISocketRotation x", "write On or Off");
        refuses("WSGIAcceptMutex x", "write default, flock, fcntl, sysvsem, posixsem or pthread");
    }

    #[test]
    fn entries_are_well_formed() {
        for entry in ENTRIES {
            assert!(entry.syntax.starts_with(entry.name), "{}", entry.name);
            assert!(!entry.help.ends_with('.') && !entry.default.is_empty(), "{}", entry.name);
            assert!(Entry::find(entry.name).is_some(), "{}", entry.name);
        }
    }
}
