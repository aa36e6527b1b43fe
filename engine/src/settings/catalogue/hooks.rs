//! The directives of trusted proxies.

use super::{Apply, Entry, Scope};

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
];

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
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_need_proxies() {
        let with = |names: &[&str]| notices(|name| names.contains(&name)).len();
        assert_eq!(with(&[]), 0);
        assert_eq!(with(&["WSGITrustedProxies"]), 0);
        assert_eq!(with(&["WSGITrustedProxyHeaders"]), 1);
        assert_eq!(with(&["WSGITrustedProxyHeaders", "WSGITrustedProxies"]), 0);
    }
}
