//! What a request is, in the words of CGI: from httpd to whatever builds the environ.

use std::ffi::CStr;

use engine::settings::proxies::{Header, Testimony};
use engine::settings::request::Effective;
use engine::settings::{MapHead, PassAuthorization};
use engine::wsgi::{Key, Sink};

use super::paths::{self, Paths};
use crate::apache::Request;
use crate::apache::number::Digits;

/// A request with what else an environ is made of.
pub(crate) struct Description<'x, 'r> {
    /// The request.
    pub(crate) request: &'x Request<'r>,
    /// What is configured for it.
    pub(crate) effective: &'x Effective<'r>,
    /// Its URL in two halves.
    pub(crate) paths: &'x Paths<'r>,
    /// This process's number in digits.
    pub(crate) pid: &'x [u8],
    /// `Content-Length` as it was before the body was read, for a carrier that reads it first: input
    /// filters that change the length take the header away.
    pub(crate) announced: Option<&'r CStr>,
}

impl<'r> Description<'_, 'r> {
    /// Writes all of it.
    pub(crate) fn write(&self, environ: &mut impl Sink) {
        let said = self.proxies().unwrap_or_default();
        // Variables first: what httpd and the client say about the request wins over SetEnv.
        self.describe_variables(environ, &said);
        self.describe_server(environ, &said);
        self.describe_client(environ, &said);
        self.describe_request(environ, &said);
        self.describe_headers(environ, &said);
        if let Some(length) = self.announced {
            environ.set(Key::ContentLength, length.to_bytes());
        }
    }

    /// What trusted proxies say of the request.
    fn proxies(&self) -> Option<Testimony<'r>> {
        let request = self.request;
        self.effective.proxies.hear(request.client_address().to_bytes(), |header: Header| {
            let variable = || request.variables()?.value(header.variable());
            request.header(header.name()).or_else(variable).map(CStr::to_bytes)
        })
    }

    fn describe_variables(&self, environ: &mut impl Sink, said: &Testimony<'_>) {
        let Some(variables) = self.request.variables() else { return };
        // mod_include and others leave all CGI variables of the page for its includes, which have no
        // body of their own.
        let includes = self.request.is_sub_request();
        variables.each(|name, value| {
            let name = name.to_bytes();
            if includes && (name == b"CONTENT_LENGTH" || name == b"CONTENT_TYPE") {
                return;
            }
            // What a trusted proxy says of the scheme is not mixed with what mod_ssl says.
            if said.hides_variable(name) || (said.https.is_some() && name == b"HTTPS") {
                return;
            }
            environ.var(name, value.to_bytes());
        });
    }

    fn describe_server(&self, environ: &mut impl Sink, said: &Testimony<'_>) {
        let request = self.request;
        environ.set(Key::ServerSoftware, request.server_banner().to_bytes());
        match said.server_name {
            Some(name) => environ.set(Key::ServerName, name),
            None => {
                let name = request.escape_html(request.server_name());
                environ.set(Key::ServerName, name.to_bytes());
            }
        }
        let port = Digits::new(request.server_port().into());
        environ.set(Key::ServerPort, said.server_port.unwrap_or(port.as_bytes()));
        environ.set(Key::ServerAddr, request.local_address().to_bytes());
        if let Some(admin) = request.server().and_then(|server| server.admin()) {
            environ.set(Key::ServerAdmin, admin.to_bytes());
        }
        environ.set(Key::RequestScheme, request.scheme().to_bytes());
        environ.set_path(Key::DocumentRoot, request.document_root().to_bytes());
        environ.set(Key::ContextPrefix, request.context_prefix().to_bytes());
        environ.set_path(Key::ContextDocumentRoot, request.context_document_root().to_bytes());
        let (host, port) = request.listener();
        environ.set(Key::ListenerHost, host.unwrap_or_default().to_bytes());
        environ.set(Key::ListenerPort, Digits::new(port.into()).as_bytes());
        environ.set(Key::ServerPid, self.pid);
    }

    fn describe_client(&self, environ: &mut impl Sink, said: &Testimony<'_>) {
        let request = self.request;
        let client = said.client.unwrap_or(request.client_address().to_bytes());
        environ.set(Key::RemoteAddr, client);
        environ.set(Key::RemotePort, Digits::new(request.peer_port().into()).as_bytes());
        if let Some(user) = request.user() {
            environ.set(Key::RemoteUser, user.to_bytes());
        }
        if let Some(kind) = request.auth_type() {
            environ.set(Key::AuthType, kind.to_bytes());
        }
        let Some(previous) = request.previous() else { return };
        if request.user().is_none()
            && let Some(user) = earlier_user(request)
        {
            environ.set(Key::RedirectRemoteUser, user.to_bytes());
        }
        let url = if request.qualifies_redirect_url() {
            previous.absolute_url()
        } else {
            Some(previous.uri())
        };
        if let Some(url) = url {
            environ.set(Key::RedirectUrl, url.to_bytes());
        }
        if let Some(query) = previous.optional_query() {
            environ.set(Key::RedirectQueryString, query.to_bytes());
        }
    }

    fn describe_request(&self, environ: &mut impl Sink, said: &Testimony<'_>) {
        let request = self.request;
        environ.set(Key::RequestMethod, self.method());
        environ.set(Key::ServerProtocol, request.protocol().to_bytes());
        environ.set(Key::QueryString, request.query().to_bytes());
        let uri = if request.wants_current_uri() {
            request.uri().to_bytes()
        } else {
            paths::original_uri(request.request_line().to_bytes())
        };
        environ.set(Key::RequestUri, uri);
        environ.set_path(Key::ScriptFilename, self.script_filename());
        let Paths { script_name, path_info } = self.paths;
        environ.set(Key::ScriptName, said.script_name.unwrap_or(script_name));
        if let Some(mount_point) = said.script_name {
            environ.set(Key::MountPoint, mount_point);
        }
        environ.set(Key::PathInfo, path_info);
        environ.set(Key::ModScriptName, script_name);
        environ.set(Key::ModPathInfo, path_info);
        let script = self.effective.handler.map(|script| script.path.as_bytes());
        environ.set(Key::HandlerScript, script.unwrap_or_default());
        environ.set(Key::RequestHandler, request.handler().unwrap_or_default().to_bytes());
        if let Some(id) = request.log_id() {
            environ.set(Key::RequestId, id.to_bytes());
        }
        if let Some(id) = request.connection_log_id() {
            environ.set(Key::ConnectionId, id.to_bytes());
        }
        // Microseconds since 1970 fit a double exactly for the next two centuries.
        environ.set_float(Key::RequestStart, request.start() as f64 / 1e6);
        environ.https(said.https.unwrap_or_else(|| request.is_tls()));
    }

    fn describe_headers(&self, environ: &mut impl Sink, said: &Testimony<'_>) {
        let Some(headers) = self.request.headers() else { return };
        let by_httpd = self.request.passes_authorization();
        let authorization = by_httpd
            || match self.effective.pass_authorization {
                PassAuthorization::On => true,
                PassAuthorization::Off => false,
                // httpd checked the credentials itself: they are none of the application's business.
                PassAuthorization::Auto => {
                    self.request.user().is_none() && self.request.auth_type().is_none()
                }
            };
        headers.each(|name, value| {
            let (name, value) = (name.to_bytes(), value.to_bytes());
            if said.hides_header(name) {
                return;
            }
            match special(name) {
                Some(Special::ContentType) => environ.set(Key::ContentType, value),
                Some(Special::ContentLength) => environ.set(Key::ContentLength, value),
                // HTTP_PROXY would be taken for the variable that configures outgoing proxies.
                Some(Special::Proxy) => {}
                Some(Special::Authorization) => {
                    if authorization {
                        environ.set(Key::HttpAuthorization, value);
                    }
                }
                Some(Special::ProxyAuthorization) => {
                    if by_httpd {
                        environ.set(Key::HttpProxyAuthorization, value);
                    }
                }
                None => {
                    if paths::is_plain(name) {
                        environ.header(name, value);
                    }
                }
            }
        });
        if let Some(chain) = said.forwarded_for.filter(|_| !said.hides_header(FORWARDED_FOR)) {
            environ.header(FORWARDED_FOR, chain);
        }
        if let Some(host) = said.host {
            environ.header(b"Host", host);
        }
    }

    fn method(&self) -> &'r [u8] {
        let request = self.request;
        let to_get = request.is_head()
            && match self.effective.map_head_to_get {
                MapHead::On => true,
                MapHead::Off => false,
                MapHead::Auto => request.has_content_filter(),
            };
        if to_get { b"GET" } else { request.method().to_bytes() }
    }

    /// The file, without the query string that mod_proxy may have put behind it.
    fn script_filename(&self) -> &'r [u8] {
        let file = self.request.filename().unwrap_or_default().to_bytes();
        let noted = || self.request.notes()?.value(c"proxy-noquery");
        match file.iter().position(|byte| *byte == b'?') {
            Some(end) if noted().is_some() => file.get(..end).unwrap_or(file),
            _ => file,
        }
    }
}

const FORWARDED_FOR: &[u8] = Header::XForwardedFor.name().to_bytes();

/// The user of the nearest earlier request in a chain of internal redirects.
fn earlier_user<'r>(request: &Request<'r>) -> Option<&'r CStr> {
    let mut earlier = request.previous();
    while let Some(request) = earlier {
        if let Some(user) = request.user() {
            return Some(user);
        }
        earlier = request.previous();
    }
    None
}

/// Headers that do not simply become `HTTP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    ContentType,
    ContentLength,
    Proxy,
    Authorization,
    ProxyAuthorization,
}

fn special(name: &[u8]) -> Option<Special> {
    // Lengths first: most headers are none of these.
    match name.len() {
        5 if name.eq_ignore_ascii_case(b"proxy") => Some(Special::Proxy),
        12 if name.eq_ignore_ascii_case(b"content-type") => Some(Special::ContentType),
        13 if name.eq_ignore_ascii_case(b"authorization") => Some(Special::Authorization),
        14 if name.eq_ignore_ascii_case(b"content-length") => Some(Special::ContentLength),
        19 if name.eq_ignore_ascii_case(b"proxy-authorization") => {
            Some(Special::ProxyAuthorization)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_rules_of_their_own_are_told_in_any_case() {
        assert_eq!(special(b"PROXY"), Some(Special::Proxy));
        assert_eq!(special(b"content-type"), Some(Special::ContentType));
        assert_eq!(special(b"Content-Length"), Some(Special::ContentLength));
        assert_eq!(special(b"Authorization"), Some(Special::Authorization));
        assert_eq!(special(b"Proxy-Authorization"), Some(Special::ProxyAuthorization));
        for name in [&b"Proxies"[..], b"Host", b"Accept-Types", b""] {
            assert_eq!(special(name), None);
        }
    }
}
