//! Settings that may differ by virtual host, directory and `.htaccess`.

use super::group::{GroupName, literal, variable};
use super::hooks::{HandlerScript, HookScript, HookSettings};
use super::proxies::{Proxies, ProxySettings};
use super::server::AliasOptions;
use super::value::{Fault, Words, one_word};

/// `WSGIPassAuthorization`: whether `Authorization` becomes `HTTP_AUTHORIZATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassAuthorization {
    /// Always.
    On,
    /// Never (but httpd's own `CGIPassAuth On` still does).
    Off,
    /// The default: unless httpd itself authenticated the request.
    Auto,
}

impl PassAuthorization {
    /// The names it is written by.
    pub const CHOICES: &[(&str, Self)] =
        &[("On", Self::On), ("Off", Self::Off), ("Auto", Self::Auto)];
}

/// `WSGIMapHEADToGET`: what `REQUEST_METHOD` says for a HEAD request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapHead {
    /// Always GET.
    On,
    /// Always HEAD.
    Off,
    /// The default: GET when a content filter may need the body to compute headers.
    Auto,
}

impl MapHead {
    /// The names it is written by.
    pub const CHOICES: &[(&str, Self)] =
        &[("On", Self::On), ("Off", Self::Off), ("Auto", Self::Auto)];
}

/// Which global of a script is the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callable<'a> {
    /// The one of this name.
    Name(&'a str),
    /// The one that this variable names; [`Callable::DEFAULT`] where it is not set.
    Variable(&'a str),
}

impl Callable<'_> {
    /// The name where nothing else is said.
    pub const DEFAULT: &'static str = "application";
}

/// Request behaviour as written in one context; `None` is "not written here".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestSettings {
    /// `WSGIProcessGroup`
    pub process_group: Option<GroupName>,
    /// `WSGIRestrictProcess`: names of groups, empty for httpd's own processes
    pub restrict_process: Option<Vec<String>>,
    /// `WSGIIgnoreActivity`
    pub ignore_activity: Option<bool>,
    /// `WSGIApplicationGroup`
    pub application_group: Option<GroupName>,
    /// `WSGICallableObject`; may be `%{ENV:name}`
    pub callable_object: Option<String>,
    /// `WSGIPassAuthorization`
    pub pass_authorization: Option<PassAuthorization>,
    /// `WSGIScriptReloading`
    pub script_reloading: Option<bool>,
    /// `WSGIErrorOverride`
    pub error_override: Option<bool>,
    /// `WSGIChunkedRequest`
    pub chunked_request: Option<bool>,
    /// `WSGIMapHEADToGET`
    pub map_head_to_get: Option<MapHead>,
    /// `WSGIEnableSendfile`
    pub enable_sendfile: Option<bool>,
    /// `WSGITrustedProxyHeaders` and `WSGITrustedProxies`
    pub proxies: ProxySettings,
    /// `WSGIAccessScript` and its like
    pub hooks: HookSettings,
}

/// What holds for one request: every setting has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective<'a> {
    /// The processes that serve.
    pub process_group: &'a GroupName,
    /// The process groups that may serve; `None` is any.
    pub restrict_process: Option<&'a [String]>,
    /// Whether the request does not count against `inactivity-timeout=`.
    pub ignore_activity: bool,
    /// The interpreter.
    pub application_group: &'a GroupName,
    /// The application within the script.
    pub callable: Callable<'a>,
    /// Whether the application sees `Authorization`.
    pub pass_authorization: PassAuthorization,
    /// Whether a changed script is loaded again.
    pub script_reloading: bool,
    /// Whether httpd's error documents replace the application's.
    pub error_override: bool,
    /// Whether bodies of unknown length are accepted.
    pub chunked_request: bool,
    /// What the application sees of HEAD.
    pub map_head_to_get: MapHead,
    /// Whether files are sent by the kernel; `None` where it is not written: then httpd's own
    /// `EnableSendfile` can turn it off.
    pub enable_sendfile: Option<bool>,
    /// The reverse proxies that are believed, and by which headers.
    pub proxies: Proxies<'a>,
    /// The script that is asked which application is meant.
    pub dispatch: Option<&'a HookScript>,
    /// The script that answers in place of the file that the URL leads to.
    pub handler: Option<&'a HandlerScript>,
}

impl RequestSettings {
    /// The settings of a child context over those of its parent: the child's where written.
    #[must_use]
    pub fn merge(parent: &Self, child: &Self) -> Self {
        Self {
            process_group: child.process_group.clone().or_else(|| parent.process_group.clone()),
            restrict_process: child
                .restrict_process
                .clone()
                .or_else(|| parent.restrict_process.clone()),
            ignore_activity: child.ignore_activity.or(parent.ignore_activity),
            application_group: child
                .application_group
                .clone()
                .or_else(|| parent.application_group.clone()),
            callable_object: child
                .callable_object
                .clone()
                .or_else(|| parent.callable_object.clone()),
            pass_authorization: child.pass_authorization.or(parent.pass_authorization),
            script_reloading: child.script_reloading.or(parent.script_reloading),
            error_override: child.error_override.or(parent.error_override),
            chunked_request: child.chunked_request.or(parent.chunked_request),
            map_head_to_get: child.map_head_to_get.or(parent.map_head_to_get),
            enable_sendfile: child.enable_sendfile.or(parent.enable_sendfile),
            proxies: ProxySettings::merge(&parent.proxies, &child.proxies),
            hooks: HookSettings::merge(&parent.hooks, &child.hooks),
        }
    }

    /// What holds for a request: its directory's setting where written, else its server's, else the
    /// default. Allocates nothing.
    #[must_use]
    pub fn resolve<'a>(dir: Option<&'a Self>, server: &'a Self) -> Effective<'a> {
        fn first<'a, T>(
            dir: Option<&'a RequestSettings>,
            server: &'a RequestSettings,
            field: impl Fn(&'a RequestSettings) -> Option<T>,
        ) -> Option<T> {
            dir.and_then(&field).or_else(|| field(server))
        }
        Effective {
            process_group: first(dir, server, |s| s.process_group.as_ref())
                .unwrap_or(&GroupName::Global),
            restrict_process: first(dir, server, |s| s.restrict_process.as_deref()),
            ignore_activity: first(dir, server, |s| s.ignore_activity).unwrap_or(false),
            application_group: first(dir, server, |s| s.application_group.as_ref())
                .unwrap_or(&GroupName::Resource),
            callable: first(dir, server, |s| s.callable_object.as_deref())
                .map_or(Callable::Name(Callable::DEFAULT), |name| {
                    variable(name).map_or(Callable::Name(name), Callable::Variable)
                }),
            pass_authorization: first(dir, server, |s| s.pass_authorization)
                .unwrap_or(PassAuthorization::Auto),
            script_reloading: first(dir, server, |s| s.script_reloading).unwrap_or(true),
            error_override: first(dir, server, |s| s.error_override).unwrap_or(false),
            chunked_request: first(dir, server, |s| s.chunked_request).unwrap_or(true),
            map_head_to_get: first(dir, server, |s| s.map_head_to_get).unwrap_or(MapHead::Auto),
            enable_sendfile: first(dir, server, |s| s.enable_sendfile),
            proxies: Proxies {
                headers: first(dir, server, |s| s.proxies.headers.as_deref()).unwrap_or_default(),
                networks: first(dir, server, |s| s.proxies.networks.as_deref()).unwrap_or_default(),
            },
            dispatch: first(dir, server, |s| s.hooks.dispatch.as_ref()),
            handler: None,
        }
    }
}

impl<'a> Effective<'a> {
    /// The same with the options of the script alias that mapped the request, which win.
    #[must_use]
    pub fn with_alias(self, options: &'a AliasOptions) -> Self {
        Self {
            process_group: options.process_group.as_ref().unwrap_or(self.process_group),
            application_group: options.application_group.as_ref().unwrap_or(self.application_group),
            callable: options.callable_object.as_deref().map_or(self.callable, Callable::Name),
            pass_authorization: options.pass_authorization.unwrap_or(self.pass_authorization),
            ..self
        }
    }

    /// The same for a request that a handler script answers, whose options win.
    #[must_use]
    pub fn with_handler(self, script: &'a HandlerScript) -> Self {
        Self {
            process_group: script.process_group.as_ref().unwrap_or(self.process_group),
            application_group: script.application_group.as_ref().unwrap_or(self.application_group),
            callable: Callable::Name(HandlerScript::CALLABLE),
            pass_authorization: script.pass_authorization.unwrap_or(self.pass_authorization),
            handler: Some(script),
            ..self
        }
    }

    /// Whether `WSGIRestrictProcess` lets a process group serve; the empty name is httpd's own
    /// processes.
    #[must_use]
    pub fn admits(&self, process_group: &str) -> bool {
        self.restrict_process.is_none_or(|names| names.iter().any(|name| name == process_group))
    }
}

/// Reads the names of process groups, of which `%{GLOBAL}` is httpd's own processes.
pub fn process_groups(text: &str) -> Result<Vec<String>, Fault> {
    let mut words = Words::new(text);
    let mut names = Vec::new();
    while let Some(word) = words.word() {
        if word.is_empty() {
            return Err(Fault::new("the name of a process group is empty"));
        }
        names.push(literal(&word));
    }
    if names.is_empty() {
        return Err(Fault::new("takes names of process groups, none is given"));
    }
    Ok(names)
}

/// Reads the name of a callable: a name or `%{ENV:name}`.
pub fn callable_object(text: &str) -> Result<String, Fault> {
    let word = one_word(text)?;
    if word.starts_with('%') && variable(&word).is_none() {
        return Err(Fault::new(format!(
            "'{word}' is not allowed: write the name of a callable in the script, or %{{ENV:name}}"
        )));
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field set; two of them differ in every field.
    fn full(flag: bool) -> RequestSettings {
        let name = if flag { "one" } else { "two" };
        RequestSettings {
            process_group: Some(GroupName::Name(name.to_owned())),
            restrict_process: Some(vec![name.to_owned()]),
            ignore_activity: Some(flag),
            application_group: Some(GroupName::Name(name.to_owned())),
            callable_object: Some(name.to_owned()),
            pass_authorization: Some(if flag {
                PassAuthorization::On
            } else {
                PassAuthorization::Off
            }),
            script_reloading: Some(flag),
            error_override: Some(flag),
            chunked_request: Some(flag),
            map_head_to_get: Some(if flag { MapHead::On } else { MapHead::Off }),
            enable_sendfile: Some(flag),
            proxies: proxies(if flag { "10.0.0.1" } else { "10.0.0.2" }),
            hooks: HookSettings {
                dispatch: HookScript::parse(name).ok(),
                handlers: vec![HandlerScript::parse(&format!("handler /{name}")).unwrap()],
                ..HookSettings::default()
            },
        }
    }

    fn proxies(network: &str) -> ProxySettings {
        let mut proxies = ProxySettings::default();
        proxies.add_headers("X-Real-IP").unwrap();
        proxies.add_networks(network).unwrap();
        proxies
    }

    #[test]
    fn a_child_overrides_field_by_field() {
        let (one, two, none) = (full(true), full(false), RequestSettings::default());
        assert_eq!(RequestSettings::merge(&one, &two), two);
        assert_eq!(RequestSettings::merge(&one, &none), one);
        assert_eq!(RequestSettings::merge(&none, &two), two);
        let child = RequestSettings { error_override: Some(false), ..none };
        let merged = RequestSettings::merge(&one, &child);
        assert_eq!(merged, RequestSettings { error_override: Some(false), ..one });
    }

    #[test]
    fn nothing_written_gives_the_documented_defaults() {
        let none = RequestSettings::default();
        let defaults = Effective {
            process_group: &GroupName::Global,
            restrict_process: None,
            ignore_activity: false,
            application_group: &GroupName::Resource,
            callable: Callable::Name("application"),
            pass_authorization: PassAuthorization::Auto,
            script_reloading: true,
            error_override: false,
            chunked_request: true,
            map_head_to_get: MapHead::Auto,
            enable_sendfile: None,
            proxies: Proxies::default(),
            dispatch: None,
            handler: None,
        };
        assert_eq!(RequestSettings::resolve(None, &none), defaults);
        assert_eq!(RequestSettings::resolve(Some(&none), &none), defaults);
    }

    #[test]
    fn the_directory_wins_over_the_server() {
        let (one, two, none) = (full(true), full(false), RequestSettings::default());
        for (dir, server, expected) in [
            (Some(&one), &two, &one),
            (Some(&two), &one, &two),
            (Some(&none), &one, &one),
            (None, &two, &two),
        ] {
            let found = RequestSettings::resolve(dir, server);
            let flag = expected == &one;
            assert_eq!(Some(found.process_group), expected.process_group.as_ref());
            assert_eq!(found.restrict_process, expected.restrict_process.as_deref());
            assert_eq!(Some(found.application_group), expected.application_group.as_ref());
            assert_eq!(found.callable, Callable::Name(if flag { "one" } else { "two" }));
            assert_eq!(Some(found.pass_authorization), expected.pass_authorization);
            assert_eq!(Some(found.map_head_to_get), expected.map_head_to_get);
            assert_eq!(found.dispatch, expected.hooks.dispatch.as_ref());
            assert_eq!(Some(found.proxies.networks), expected.proxies.networks.as_deref());
            assert_eq!(Some(found.proxies.headers), expected.proxies.headers.as_deref());
            for value in [
                found.ignore_activity,
                found.script_reloading,
                found.error_override,
                found.chunked_request,
                found.enable_sendfile == Some(true),
            ] {
                assert_eq!(value, flag);
            }
        }
    }

    #[test]
    fn alias_options_win_and_their_callable_stands_as_it_is() {
        let server = full(true);
        let plain = RequestSettings::resolve(None, &server);
        assert_eq!(plain.with_alias(&AliasOptions::default()), plain);
        let options = AliasOptions {
            process_group: Some(GroupName::Server),
            application_group: Some(GroupName::Global),
            callable_object: Some("%{ENV:X}".to_owned()),
            pass_authorization: Some(PassAuthorization::Off),
        };
        let expected = Effective {
            process_group: &GroupName::Server,
            application_group: &GroupName::Global,
            callable: Callable::Name("%{ENV:X}"),
            pass_authorization: PassAuthorization::Off,
            ..plain
        };
        assert_eq!(plain.with_alias(&options), expected);
    }

    #[test]
    fn options_of_handler_scripts_win_and_their_callable_is_fixed() {
        let server = full(true);
        let plain = RequestSettings::resolve(None, &server);
        let script = HandlerScript::parse("handler /script").unwrap();
        let callable = Callable::Name("handle_request");
        let handler = Some(&script);
        assert_eq!(plain.with_handler(&script), Effective { callable, handler, ..plain });
        let script = HandlerScript::parse(
            "handler /script process-group=%{SERVER} application-group=%{GLOBAL} \
             pass-authorization=Off",
        )
        .unwrap();
        let expected = Effective {
            process_group: &GroupName::Server,
            application_group: &GroupName::Global,
            callable,
            pass_authorization: PassAuthorization::Off,
            handler: Some(&script),
            ..plain
        };
        assert_eq!(plain.with_handler(&script), expected);
    }

    #[test]
    fn process_groups_are_admitted_by_name() {
        assert_eq!(process_groups("a %{GLOBAL} 'b c'").unwrap(), ["a", "", "b c"]);
        for (text, reason) in [("", "none is given"), ("a ''", "is empty")] {
            let fault = process_groups(text).unwrap_err().to_string();
            assert!(fault.contains(reason), "{fault}");
        }
        let settings = RequestSettings {
            restrict_process: Some(process_groups("a %{GLOBAL}").unwrap()),
            ..RequestSettings::default()
        };
        let found = RequestSettings::resolve(None, &settings);
        assert!(found.admits("a") && found.admits("") && !found.admits("b"));
        let settings = RequestSettings::default();
        assert!(RequestSettings::resolve(None, &settings).admits("anything"));
    }

    #[test]
    fn a_callable_may_come_from_a_variable() {
        let settings = RequestSettings {
            callable_object: Some(callable_object("%{ENV:SITE_APP}").unwrap()),
            ..RequestSettings::default()
        };
        let found = RequestSettings::resolve(None, &settings);
        assert_eq!(found.callable, Callable::Variable("SITE_APP"));
    }
}
