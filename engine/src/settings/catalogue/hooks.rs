//! The directives of trusted proxies and of scripts that httpd asks.

use super::idle::INSTEAD;
use super::{Apply, Entry, Scope};
use crate::settings::hooks::{HandlerScript, HookScript};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: HEADERS,
        scope: Scope::ServerDir,
        syntax: "WSGITrustedProxyHeaders header [header]...",
        default: "none",
        help: "Names the headers by which reverse proxies tell of the original request",
        apply: Apply::Request(|request, text| request.proxies.add_headers(text)),
    },
    Entry {
        name: PROXIES,
        scope: Scope::ServerDir,
        syntax: "WSGITrustedProxies address|network [address|network]...",
        default: "none",
        help: "Names the reverse proxies whose headers are believed",
        apply: Apply::Request(|request, text| request.proxies.add_networks(text)),
    },
    Entry {
        name: ACCESS,
        scope: Scope::Dir,
        syntax: "WSGIAccessScript file [application-group=group]",
        default: "none",
        help: "Names the script that says which clients may come in",
        apply: Apply::Request(|request, text| {
            request.hooks.access = Some(HookScript::parse(text)?);
            Ok(())
        }),
    },
    Entry {
        name: AUTH_USER,
        scope: Scope::Dir,
        syntax: "WSGIAuthUserScript file [application-group=group]",
        default: "none",
        help: "Names the script that knows users and their passwords",
        apply: Apply::Request(|request, text| {
            request.hooks.auth_user = Some(HookScript::parse(text)?);
            Ok(())
        }),
    },
    Entry {
        name: AUTH_GROUP,
        scope: Scope::Dir,
        syntax: "WSGIAuthGroupScript file [application-group=group]",
        default: "none",
        help: "Names the script that knows which groups a user belongs to",
        apply: Apply::Request(|request, text| {
            request.hooks.auth_group = Some(HookScript::parse(text)?);
            Ok(())
        }),
    },
    Entry {
        name: DISPATCH,
        scope: Scope::ServerDir,
        syntax: "WSGIDispatchScript file [application-group=group]",
        default: "none",
        help: "Names the script that says where an application runs",
        apply: Apply::Request(|request, text| {
            request.hooks.dispatch = Some(HookScript::parse(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "WSGIHandlerScript",
        scope: Scope::ServerDir,
        syntax: "WSGIHandlerScript name file [process-group=group] [application-group=group] \
                 [pass-authorization=On|Off|Auto]",
        default: "none",
        help: "Makes a script a handler, which answers for files and URLs of any kind",
        apply: Apply::Request(|request, text| {
            request.hooks.add_handler(HandlerScript::parse(text)?);
            Ok(())
        }),
    },
];

/// The directives whose scripts run in httpd's own processes, also where applications may not.
pub const ASKED_IN_HTTPD: [&str; 4] = [ACCESS, AUTH_USER, AUTH_GROUP, DISPATCH];

const ACCESS: &str = "WSGIAccessScript";
const AUTH_USER: &str = "WSGIAuthUserScript";
const AUTH_GROUP: &str = "WSGIAuthGroupScript";
const DISPATCH: &str = "WSGIDispatchScript";

const HEADERS: &str = "WSGITrustedProxyHeaders";
const PROXIES: &str = "WSGITrustedProxies";

/// What the administrator should know of directives that are right by themselves: those that do
/// nothing here, and those that need another one. `written` says whether a directive is there.
pub fn notices(written: impl Fn(&str) -> bool) -> Vec<String> {
    let mut notices = Vec::new();
    if written(HEADERS) && !written(PROXIES) {
        notices.push(
            "WSGITrustedProxyHeaders is written without WSGITrustedProxies: no proxy is trusted, and \
             the headers are removed; name the addresses of the proxies"
                .to_owned(),
        );
    }
    for (name, instead) in INSTEAD {
        if written(name) {
            notices.push(format!("{name} does nothing and can be removed: {instead}"));
        }
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_another_or_does_nothing_is_told() {
        let with = |names: &[&str]| notices(|name| names.contains(&name)).len();
        assert_eq!(with(&[]), 0);
        assert_eq!(with(&["WSGITrustedProxies"]), 0);
        assert_eq!(with(&["WSGITrustedProxyHeaders"]), 1);
        assert_eq!(with(&["WSGITrustedProxyHeaders", "WSGITrustedProxies"]), 0);
        assert_eq!(with(&["WSGISlowRequests", "WSGIPassApacheRequest"]), 2);
    }
}
