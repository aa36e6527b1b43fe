//! Scripts that httpd asks something: who may come in, who somebody is, which application is meant;
//! and scripts that answer for a handler.

use super::group::GroupName;
use super::request::PassAuthorization;
use super::value::{Fault, Words, choice};

/// A script that is asked in httpd's own processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookScript {
    /// The file.
    pub path: String,
    /// The interpreter: the main one, that of the server or of the host asked for, or one by name.
    pub application_group: GroupName,
}

impl HookScript {
    /// Reads `file [application-group=group]`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut words = Words::new(text);
        let path = file(words.word())?;
        let mut application_group = GroupName::Global;
        while let Some((name, value)) = words.option()? {
            match name {
                "application-group" => application_group = server_group(&value),
                _ => return Err(unknown(name, "application-group=")),
            }
        }
        Ok(Self { path, application_group })
    }
}

/// The groups that are known before it is known which resource is asked for. The other forms stand
/// for themselves, as they always have.
fn server_group(text: &str) -> GroupName {
    match GroupName::parse(text) {
        GroupName::Resource | GroupName::Env(_) => GroupName::Name(text.to_owned()),
        group => group,
    }
}

/// `WSGIHandlerScript`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerScript {
    /// The name that `SetHandler` and `AddHandler` know it by.
    pub name: String,
    /// The file.
    pub path: String,
    /// `process-group=`
    pub process_group: Option<GroupName>,
    /// `application-group=`
    pub application_group: Option<GroupName>,
    /// `pass-authorization=`
    pub pass_authorization: Option<PassAuthorization>,
}

impl HandlerScript {
    /// The name of its entry point.
    pub const CALLABLE: &str = "handle_request";

    /// Reads `name file [options]`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut words = Words::new(text);
        let name = words.word().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Fault::new("takes the name of a handler and a script"))?;
        let mut script = Self {
            name,
            path: file(words.word())?,
            process_group: None,
            application_group: None,
            pass_authorization: None,
        };
        while let Some((name, value)) = words.option()? {
            match name {
                "process-group" => script.process_group = Some(GroupName::parse(&value)),
                "application-group" => script.application_group = Some(GroupName::parse(&value)),
                "pass-authorization" => {
                    let flag = choice(&value, PassAuthorization::CHOICES)
                        .map_err(|fault| Fault::new(format!("pass-authorization=: {fault}")))?;
                    script.pass_authorization = Some(flag);
                }
                _ => {
                    return Err(unknown(
                        name,
                        "process-group=, application-group= or pass-authorization=",
                    ));
                }
            }
        }
        Ok(script)
    }
}

fn file(word: Option<String>) -> Result<String, Fault> {
    word.filter(|path| !path.is_empty()).ok_or_else(|| Fault::new("takes a script, none is given"))
}

fn unknown(name: &str, known: &str) -> Fault {
    Fault::new(format!("unknown option '{name}': write {known}"))
}

/// The scripts as written in one context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookSettings {
    /// `WSGIAccessScript`
    pub access: Option<HookScript>,
    /// `WSGIAuthUserScript`
    pub auth_user: Option<HookScript>,
    /// `WSGIAuthGroupScript`
    pub auth_group: Option<HookScript>,
    /// `WSGIDispatchScript`
    pub dispatch: Option<HookScript>,
    /// `WSGIHandlerScript`; of several with one name the first holds.
    pub handlers: Vec<HandlerScript>,
}

impl HookSettings {
    /// The settings of a child context over those of its parent: the child's where written, handlers
    /// by name.
    #[must_use]
    pub fn merge(parent: &Self, child: &Self) -> Self {
        let own = |script: &&HandlerScript| child.handler(script.name.as_bytes()).is_none();
        Self {
            access: child.access.clone().or_else(|| parent.access.clone()),
            auth_user: child.auth_user.clone().or_else(|| parent.auth_user.clone()),
            auth_group: child.auth_group.clone().or_else(|| parent.auth_group.clone()),
            dispatch: child.dispatch.clone().or_else(|| parent.dispatch.clone()),
            handlers: child
                .handlers
                .iter()
                .chain(parent.handlers.iter().filter(own))
                .cloned()
                .collect(),
        }
    }

    /// Adds a handler; a later one takes the place of an earlier one of its name.
    pub fn add_handler(&mut self, script: HandlerScript) {
        self.handlers.retain(|other| other.name != script.name);
        self.handlers.push(script);
    }

    /// The script of a handler.
    #[must_use]
    pub fn handler(&self, name: &[u8]) -> Option<&HandlerScript> {
        self.handlers.iter().find(|script| script.name.as_bytes() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(path: &str) -> HookScript {
        HookScript { path: path.to_owned(), application_group: GroupName::Global }
    }

    fn named(name: &str) -> GroupName {
        GroupName::Name(name.to_owned())
    }

    #[test]
    fn scripts_run_in_the_main_interpreter_unless_told_otherwise() {
        for (text, path, group) in [
            ("/a", "/a", GroupName::Global),
            ("'/a b'", "/a b", GroupName::Global),
            ("/a application-group=%{GLOBAL}", "/a", GroupName::Global),
            ("/a application-group=%{SERVER}", "/a", GroupName::Server),
            ("/a application-group=%{HOST}", "/a", GroupName::Host),
            ("/a application-group=\"b c\"", "/a", named("b c")),
            ("/a application-group=%{RESOURCE}", "/a", named("%{RESOURCE}")),
            ("/a application-group=%{ENV:X}", "/a", named("%{ENV:X}")),
        ] {
            let expected = HookScript { path: path.to_owned(), application_group: group };
            assert_eq!(HookScript::parse(text), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("", "takes a script"),
            ("''", "takes a script"),
            ("/a b", "options are written name=value"),
            ("/a process-group=b", "unknown option 'process-group'"),
            ("/a application-group=", "has no value"),
        ] {
            let fault = HookScript::parse(text).unwrap_err().to_string();
            assert!(fault.contains(reason), "{text}: {fault}");
        }
    }

    #[test]
    fn handlers_have_a_name_and_options() {
        let found = HandlerScript::parse(
            "my-handler /a process-group=p application-group=%{ENV:X} pass-authorization=on",
        );
        let expected = HandlerScript {
            name: "my-handler".to_owned(),
            path: "/a".to_owned(),
            process_group: Some(named("p")),
            application_group: Some(GroupName::Env("X".to_owned())),
            pass_authorization: Some(PassAuthorization::On),
        };
        assert_eq!(found, Ok(expected));
        for (text, reason) in [
            ("", "name of a handler"),
            ("'' /a", "name of a handler"),
            ("h", "takes a script"),
            ("h /a callable-object=b", "unknown option 'callable-object'"),
            ("h /a pass-authorization=maybe", "pass-authorization=: 'maybe' is not allowed"),
        ] {
            let fault = HandlerScript::parse(text).unwrap_err().to_string();
            assert!(fault.contains(reason), "{text}: {fault}");
        }
    }

    #[test]
    fn children_override_script_by_script_and_handler_by_name() {
        let handler = |text| HandlerScript::parse(text).unwrap();
        let mut parent = HookSettings {
            access: Some(script("/p")),
            auth_user: Some(script("/p")),
            auth_group: Some(script("/p")),
            dispatch: Some(script("/p")),
            handlers: Vec::new(),
        };
        parent.add_handler(handler("one /p1"));
        parent.add_handler(handler("two /p2"));
        let mut child = HookSettings { access: Some(script("/c")), ..HookSettings::default() };
        child.add_handler(handler("two /c1"));
        child.add_handler(handler("two /c2"));
        let merged = HookSettings::merge(&parent, &child);
        assert_eq!(merged.access, Some(script("/c")));
        assert_eq!(merged.auth_user, Some(script("/p")));
        assert_eq!(merged.auth_group, Some(script("/p")));
        assert_eq!(merged.dispatch, Some(script("/p")));
        let path = |name: &[u8]| merged.handler(name).map(|script| script.path.as_str());
        assert_eq!((path(b"one"), path(b"two"), path(b"three")), (Some("/p1"), Some("/c2"), None));
        assert_eq!(merged.handlers.len(), 2);
        assert_eq!(HookSettings::merge(&parent, &HookSettings::default()), parent);
        assert_eq!(HookSettings::merge(&HookSettings::default(), &child), child);
    }
}
