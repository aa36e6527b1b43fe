//! The engine's exchange over httpd's own request.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use engine::settings::request::Effective;
use engine::settings::{MapHead, PassAuthorization};
use engine::wsgi::{Environ, Exchange, Head, Key, Level, ReadFault, SendFault, Then};

use super::child::Child;
use super::paths::{self, Paths};
use super::response;
use crate::apache::body::Fault;
use crate::apache::number::Digits;
use crate::apache::{Body, Loan, Output, Request, Tail, Verdict, log};

/// A request of httpd's as the engine sees it.
pub(crate) struct Embedded<'x, 'r> {
    request: Loan<'x, 'r>,
    effective: &'x Effective<'r>,
    paths: &'x Paths<'r>,
    child: &'x Child,
    sendfile: Option<bool>,
    body: Body,
    output: Output,
    progress: Progress,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing has been given to httpd.
    Nothing,
    /// The head has; nothing else can be said any more.
    Begun,
    /// httpd's error document for this status takes its place.
    Overridden(u16),
}

impl<'x, 'r> Embedded<'x, 'r> {
    /// The exchange of a request that is about to be served.
    pub(crate) fn new(
        request: &'x mut Request<'r>,
        effective: &'x Effective<'r>,
        paths: &'x Paths<'r>,
        child: &'x Child,
        sendfile: Option<bool>,
    ) -> Self {
        Self {
            request: Loan::new(request),
            effective,
            paths,
            child,
            sendfile,
            body: Body::new(),
            output: Output::new(),
            progress: Progress::Nothing,
        }
    }

    /// What the handler has to say to httpd, where what happened here leaves no choice.
    pub(crate) fn settled(&self) -> Option<Verdict> {
        match self.progress {
            Progress::Begun => Some(Verdict::Ok),
            // httpd answered when it refused the body.
            _ if self.body.is_refused() => Some(Verdict::Answered),
            Progress::Overridden(status) => Some(Verdict::Status(status)),
            Progress::Nothing => None,
        }
    }

    fn begin(&mut self, head: Option<&Head>) -> Result<(), SendFault> {
        if self.body.is_refused() {
            // httpd has answered; anything more would be taken for another response.
            return Err(SendFault::Gone);
        }
        let Some(head) = head else { return Ok(()) };
        match response::begin(&self.request, head, self.effective.error_override) {
            Ok(()) => {
                self.progress = Progress::Begun;
                Ok(())
            }
            Err(SendFault::Overridden(status)) => {
                self.progress = Progress::Overridden(status);
                Err(SendFault::Overridden(status))
            }
            Err(SendFault::Gone) => Err(SendFault::Gone),
        }
    }

    fn describe_variables(&self, environ: &mut Environ<'_>) {
        let Some(variables) = self.request.variables() else { return };
        // mod_include and others leave all CGI variables of the page for its includes, which have no
        // body of their own.
        let includes = self.request.is_sub_request();
        variables.each(|name, value| {
            let name = name.to_bytes();
            if includes && (name == b"CONTENT_LENGTH" || name == b"CONTENT_TYPE") {
                return;
            }
            environ.var(name, value.to_bytes());
        });
    }

    fn describe_server(&self, environ: &mut Environ<'_>) {
        let request = &*self.request;
        environ.set(Key::ServerSoftware, request.server_banner().to_bytes());
        let name = request.escape_html(request.server_name());
        environ.set(Key::ServerName, name.to_bytes());
        environ.set(Key::ServerPort, Digits::new(request.server_port().into()).as_bytes());
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
        environ.set(Key::ServerPid, self.child.pid.as_bytes());
    }

    fn describe_client(&self, environ: &mut Environ<'_>) {
        let request = &*self.request;
        environ.set(Key::RemoteAddr, request.client_address().to_bytes());
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

    fn describe_request(&self, environ: &mut Environ<'_>) {
        let request = &*self.request;
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
        environ.set(Key::ScriptName, script_name);
        environ.set(Key::PathInfo, path_info);
        environ.set(Key::ModScriptName, script_name);
        environ.set(Key::ModPathInfo, path_info);
        environ.set(Key::RequestHandler, request.handler().unwrap_or_default().to_bytes());
        if let Some(id) = request.log_id() {
            environ.set(Key::RequestId, id.to_bytes());
        }
        if let Some(id) = request.connection_log_id() {
            environ.set(Key::ConnectionId, id.to_bytes());
        }
        // Microseconds since 1970 fit a double exactly for the next two centuries.
        environ.set_float(Key::RequestStart, request.start() as f64 / 1e6);
        environ.https(request.is_tls());
    }

    fn describe_headers(&self, environ: &mut Environ<'_>) {
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
    }

    fn method(&self) -> &'r [u8] {
        let request = &*self.request;
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

impl Exchange for Embedded<'_, '_> {
    fn describe(&mut self, environ: &mut Environ<'_>) {
        // Variables first: what httpd and the client say about the request wins over SetEnv.
        self.describe_variables(environ);
        self.describe_server(environ);
        self.describe_client(environ);
        self.describe_request(environ);
        self.describe_headers(environ);
    }

    fn head_only(&self) -> bool {
        self.request.is_head()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        self.body.read(&self.request, buffer).map_err(|fault| {
            ReadFault(match fault {
                Fault::Refused => "httpd refused the request body".to_owned(),
                Fault::Broken(reason) => reason,
            })
        })
    }

    fn send(&mut self, head: Option<&Head>, blocks: &[&[u8]], then: Then) -> Result<(), SendFault> {
        self.begin(head)?;
        let tail = match then {
            Then::Flush => Tail::Flush,
            Then::End => Tail::End,
            Then::EndNow => Tail::EndAndFlush,
        };
        self.output.write(&self.request, blocks, tail).map_err(|_| SendFault::Gone)
    }

    fn send_file(
        &mut self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        self.begin(head)?;
        self.output
            .write_file(&self.request, file, offset, length, self.sendfile)
            .map_err(|_| SendFault::Gone)
    }

    fn abort(&mut self) {
        if self.progress == Progress::Begun && !self.body.is_refused() {
            self.output.cut(&self.request);
        }
    }

    fn log(&mut self, level: Level, text: &str) {
        log::request(&self.request, level, text);
    }
}

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
