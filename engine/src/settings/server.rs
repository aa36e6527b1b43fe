//! Settings of one virtual host.

use super::value::{Fault, Words, choice};
use super::{GroupName, ImportScript, PassAuthorization, RequestSettings};

/// What `WSGIScriptAlias` and `WSGIScriptAliasMatch` match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A URL path prefix; any run of slashes matches any run of slashes. See [`match_prefix`].
    Prefix(String),
    /// A regular expression, matched unanchored, with `$n` in the target.
    Regex(String),
}

/// Options behind the two arguments of a script alias.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AliasOptions {
    /// `process-group=`
    pub process_group: Option<GroupName>,
    /// `application-group=`
    pub application_group: Option<GroupName>,
    /// `callable-object=`, taken as it stands
    pub callable_object: Option<String>,
    /// `pass-authorization=`
    pub pass_authorization: Option<PassAuthorization>,
}

/// One `WSGIScriptAlias` or `WSGIScriptAliasMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptAlias {
    /// What of the URL it matches.
    pub pattern: Pattern,
    /// The file or directory it maps to.
    pub target: String,
    /// Its options.
    pub options: AliasOptions,
}

/// Settings of one virtual host, as written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSettings {
    /// Request behaviour written at server level.
    pub request: RequestSettings,
    /// Script aliases in file order.
    pub aliases: Vec<ScriptAlias>,
}

impl ServerSettings {
    /// The settings of a virtual host over those of the main server. Its aliases come first, then
    /// the main server's: the first that matches wins.
    #[must_use]
    pub fn merge(parent: &Self, child: &Self) -> Self {
        Self {
            request: RequestSettings::merge(&parent.request, &child.request),
            aliases: child.aliases.iter().chain(&parent.aliases).cloned().collect(),
        }
    }
}

impl ScriptAlias {
    /// Reads `URL-path file-or-directory [options]`.
    pub fn parse_prefix(text: &str) -> Result<Self, Fault> {
        Self::parse(text, |location| {
            if !location.starts_with('/') {
                return Err(Fault::new(format!("URL path '{location}' must begin with '/'")));
            }
            // Several slashes are the root too, whose rule for the target differs from all others'.
            let root = location.bytes().all(|b| b == b'/');
            Ok(Pattern::Prefix(if root { "/".to_owned() } else { location }))
        })
    }

    /// Reads `regex file-or-directory [options]`. Whether the expression is sound is for httpd to
    /// say, whose regular expressions these are.
    pub fn parse_regex(text: &str) -> Result<Self, Fault> {
        Self::parse(text, |regex| Ok(Pattern::Regex(regex)))
    }

    /// The script, if it can be loaded when a process starts: where it runs is then the same for
    /// every request, because both groups are named and the target does not depend on the URL.
    #[must_use]
    pub fn import_script(&self) -> Option<ImportScript> {
        if matches!(self.pattern, Pattern::Regex(_)) && self.target.contains('$') {
            return None;
        }
        let process_group = self.options.process_group.as_ref()?.fixed()?;
        let application_group = self.options.application_group.as_ref()?.fixed()?;
        if process_group.contains("%{") || application_group.contains("%{") {
            return None;
        }
        Some(ImportScript {
            path: self.target.clone(),
            process_group: process_group.to_owned(),
            application_group: application_group.to_owned(),
            ..ImportScript::default()
        })
    }

    fn parse(
        text: &str,
        pattern: impl FnOnce(String) -> Result<Pattern, Fault>,
    ) -> Result<Self, Fault> {
        let mut words = Words::new(text);
        let (Some(from), Some(target)) = (words.word(), words.word()) else {
            return Err(Fault::new("takes at least two arguments: what to match, and a script"));
        };
        if from.is_empty() || target.is_empty() {
            return Err(Fault::new("neither what to match nor the script may be empty"));
        }
        let pattern = pattern(from)?;
        let mut options = AliasOptions::default();
        while let Some((name, value)) = words.option()? {
            options.set(name, value)?;
        }
        Ok(Self { pattern, target, options })
    }
}

impl AliasOptions {
    fn set(&mut self, name: &str, value: String) -> Result<(), Fault> {
        match name {
            "process-group" => self.process_group = Some(GroupName::parse(&value)),
            "application-group" => self.application_group = Some(GroupName::parse(&value)),
            "callable-object" => self.callable_object = Some(value),
            "pass-authorization" => {
                let flag = choice(&value, PassAuthorization::CHOICES)
                    .map_err(|fault| Fault::new(format!("pass-authorization=: {fault}")))?;
                self.pass_authorization = Some(flag);
            }
            _ => {
                return Err(Fault::new(format!(
                    "unknown option '{name}': write process-group=, application-group=, \
                     callable-object= or pass-authorization="
                )));
            }
        }
        Ok(())
    }
}

/// How many bytes of a URL path a script alias's location takes up; `None` if it does not match.
///
/// Any run of slashes in the location matches any run of slashes in the path, everything else
/// matches itself. The match must end where a path component does. Paths may hold any bytes: they
/// are decoded.
pub fn match_prefix(location: &str, uri: impl AsRef<[u8]>) -> Option<usize> {
    let uri = uri.as_ref();
    let mut location = location.as_bytes();
    let mut at = 0;
    let mut last = None;
    while let Some((&byte, rest)) = location.split_first() {
        if uri.get(at) != Some(&byte) {
            return None;
        }
        at += 1;
        location = rest;
        last = Some(byte);
        if byte == b'/' {
            while let Some((b'/', rest)) = location.split_first() {
                location = rest;
            }
            while uri.get(at) == Some(&b'/') {
                at += 1;
            }
        }
    }
    let whole_component = last? == b'/' || matches!(uri.get(at), None | Some(b'/'));
    whole_component.then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_by_component_and_runs_of_slashes() {
        let table = [
            ("/", "/", Some(1)),
            ("/", "/a/b", Some(1)),
            ("/", "///a", Some(3)),
            ("//", "/a", Some(1)),
            ("/", "", None),
            ("/", "*", None),
            ("/app", "/app", Some(4)),
            ("/app", "/app/", Some(4)),
            ("/app", "/app/x", Some(4)),
            ("/app", "//app//x", Some(5)),
            ("/app", "/application", None),
            ("/app", "/ap", None),
            ("/app", "/App", None),
            ("/app", "/", None),
            ("//app", "/app", Some(4)),
            ("/app/", "/app", None),
            ("/app/", "/app/", Some(5)),
            ("/app/", "/app///x", Some(7)),
            ("/app//", "/app/x", Some(5)),
            ("/a/b", "/a///b/c", Some(6)),
            ("/a//b", "/a/b", Some(4)),
            ("/a/b", "/a/bc", None),
            ("", "/a", None),
            ("app", "/app", None),
        ];
        for (location, uri, expected) in table {
            assert_eq!(match_prefix(location, uri), expected, "{location} on {uri}");
        }
        assert_eq!(match_prefix("/app", b"/app/\xff"), Some(4));
    }

    #[test]
    fn a_virtual_hosts_aliases_come_before_the_main_servers() {
        let alias = |target: &str| ScriptAlias::parse_prefix(&format!("/ {target}")).unwrap();
        let main = ServerSettings {
            request: RequestSettings {
                error_override: Some(true),
                chunked_request: Some(false),
                ..RequestSettings::default()
            },
            aliases: vec![alias("/m1"), alias("/m2")],
        };
        let host = ServerSettings {
            request: RequestSettings { error_override: Some(false), ..RequestSettings::default() },
            aliases: vec![alias("/v1"), alias("/v2")],
        };
        let merged = ServerSettings::merge(&main, &host);
        let targets: Vec<&str> = merged.aliases.iter().map(|a| a.target.as_str()).collect();
        assert_eq!(targets, ["/v1", "/v2", "/m1", "/m2"]);
        assert_eq!(merged.request.error_override, Some(false));
        assert_eq!(merged.request.chunked_request, Some(false));
    }

    #[test]
    fn a_script_with_both_groups_fixed_is_loaded_at_start() {
        let table = [
            ("/ /s application-group=a process-group=%{GLOBAL}", Some("a")),
            ("/ /$1 application-group=%{GLOBAL} process-group=%{GLOBAL}", Some("")),
            ("/ /s application-group=a", None),
            ("/ /s process-group=%{GLOBAL}", None),
            ("/ /s application-group=%{SERVER} process-group=%{GLOBAL}", None),
            ("/ /s application-group=x%{SERVER} process-group=%{GLOBAL}", None),
            ("/ /s application-group=a process-group=%{ENV:X}", None),
        ];
        for (line, expected) in table {
            let found = ScriptAlias::parse_prefix(line).unwrap().import_script();
            assert_eq!(found.map(|s| s.application_group).as_deref(), expected, "{line}");
        }
        let groups = "application-group=a process-group=%{GLOBAL}";
        let fixed = ScriptAlias::parse_regex(&format!("^/x /s {groups}")).unwrap();
        assert_eq!(fixed.import_script().map(|s| s.path).as_deref(), Some("/s"));
        let moving = ScriptAlias::parse_regex(&format!("^/(x) /$1 {groups}")).unwrap();
        assert_eq!(moving.import_script(), None);
    }
}
