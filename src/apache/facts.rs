//! The request: what CGI variables are made of. Nothing is copied that httpd keeps anyway.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use super::number::Digits;
use super::{Request, optional, text};
use crate::sys;
use crate::sys::constants::{MAGIC_CGI_PASS_AUTH, MAGIC_CGI_VAR_RULES, MAGIC_READ_BUF_SIZE};

impl<'r> Request<'r> {
    /// The request line.
    pub(crate) fn request_line(&self) -> &'r CStr {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().the_request) }.unwrap_or_default()
    }

    /// The method.
    pub(crate) fn method(&self) -> &'r CStr {
        // SAFETY: static text or text in the request's pool (S1).
        unsafe { text(self.record().method) }.unwrap_or_default()
    }

    /// Whether the method is HEAD.
    pub(crate) fn is_head(&self) -> bool {
        self.record().header_only != 0
    }

    /// `HTTP/1.1` and the like; `INCLUDED` for the sub-requests of mod_include.
    pub(crate) fn protocol(&self) -> &'r CStr {
        // SAFETY: static text or text in the request's pool (S1).
        unsafe { text(self.record().protocol) }.unwrap_or_default()
    }

    /// The query string.
    pub(crate) fn query(&self) -> &'r CStr {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().args) }.unwrap_or_default()
    }

    /// The query string, if there is one.
    pub(crate) fn optional_query(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().args) }
    }

    /// The user that httpd authenticated.
    pub(crate) fn user(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().user) }
    }

    /// How httpd authenticated that user.
    pub(crate) fn auth_type(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().ap_auth_type) }
    }

    /// The host that the client asked for.
    pub(crate) fn host(&self) -> Option<&'r CStr> {
        // SAFETY: text in the request's pool (S1).
        unsafe { text(self.record().hostname) }.filter(|host| !host.is_empty())
    }

    /// When the request line was read, in microseconds since the epoch.
    pub(crate) fn start(&self) -> i64 {
        self.record().request_time
    }

    /// The client's address, as mod_remoteip and the like see it.
    pub(crate) fn client_address(&self) -> &'r CStr {
        // SAFETY: text in the pool of the request or the connection (S1).
        unsafe { text(self.record().useragent_ip) }.unwrap_or_default()
    }

    /// The port of the peer of the connection.
    pub(crate) fn peer_port(&self) -> u16 {
        let address = self.connection().client_addr;
        // SAFETY: addresses of a connection live as long as it does (S1), or are null.
        unsafe { address.as_ref() }.map_or(0, |address| address.port)
    }

    /// The address that the connection came to.
    pub(crate) fn local_address(&self) -> &'r CStr {
        // SAFETY: text in the connection's pool (S1).
        unsafe { text(self.connection().local_ip) }.unwrap_or_default()
    }

    /// Host name, where httpd has one, and port of the listening socket.
    pub(crate) fn listener(&self) -> (Option<&'r CStr>, u16) {
        let address = self.connection().local_addr;
        // SAFETY: addresses of a connection live as long as it does (S1), or are null.
        match unsafe { address.as_ref() } {
            // SAFETY: text in the address's pool.
            Some(address) => (unsafe { text(address.hostname) }, address.port),
            None => (None, 0),
        }
    }

    /// The name of the server for URLs that lead to it, by `UseCanonicalName`.
    pub(crate) fn server_name(&self) -> &'r CStr {
        // SAFETY: the request is alive (S1); the text is the request's or the configuration's.
        unsafe { text(sys::ap_get_server_name_for_url(self.raw())) }.unwrap_or_default()
    }

    /// The `Server` header.
    pub(crate) fn server_banner(&self) -> &'r CStr {
        // SAFETY: httpd keeps the text as long as the configuration, which outlives its requests (S3).
        unsafe { text(sys::ap_get_server_banner()) }.unwrap_or_default()
    }

    /// The port of the server for URLs that lead to it.
    pub(crate) fn server_port(&self) -> u16 {
        // SAFETY: the request is alive (S1).
        unsafe { sys::ap_get_server_port(self.raw()) }
    }

    /// `http` or `https`, as httpd itself would write it.
    pub(crate) fn scheme(&self) -> &'r CStr {
        // SAFETY: the request is alive (S1); the hook gives static text.
        unsafe { text(sys::ap_run_http_scheme(self.raw())) }.unwrap_or_default()
    }

    /// Whether the connection came over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        // SAFETY: the connection outlives the request (S1) and this thread serves it.
        unsafe { optional::is_tls(self.record().connection) }
    }

    /// `DocumentRoot`
    pub(crate) fn document_root(&self) -> &'r CStr {
        // SAFETY: the request is alive (S1); the text is the request's or the configuration's.
        unsafe { text(sys::ap_document_root(self.raw())) }.unwrap_or_default()
    }

    /// The URL prefix of the context document root.
    pub(crate) fn context_prefix(&self) -> &'r CStr {
        // SAFETY: as for `document_root`.
        unsafe { text(sys::ap_context_prefix(self.raw())) }.unwrap_or_default()
    }

    /// The document root of an alias or a user's directory.
    pub(crate) fn context_document_root(&self) -> &'r CStr {
        // SAFETY: as for `document_root`.
        unsafe { text(sys::ap_context_document_root(self.raw())) }.unwrap_or_default()
    }

    /// `value` with the characters that mean something in HTML replaced.
    pub(crate) fn escape_html(&self, value: &'r CStr) -> &'r CStr {
        if !value.to_bytes().iter().any(|byte| b"<>&\"".contains(byte)) {
            return value;
        }
        let pool = self.pool();
        // SAFETY: the pool is alive (S1); the result is in it.
        unsafe { text(sys::ap_escape_html2(pool.raw(), value.as_ptr(), 0)) }.unwrap_or_default()
    }

    /// The identifier that the error log knows the request by (`%L`); made now if there is none yet.
    pub(crate) fn log_id(&self) -> Option<&'r CStr> {
        // A sub-request has no identifier of its own in the log.
        let main = self.record().main;
        let r = if main.is_null() { self.raw() } else { main };
        // SAFETY: the main request of a sub-request outlives it (S1).
        let id = unsafe { &raw mut (*r).log_id };
        // SAFETY: as above.
        if unsafe { *id }.is_null() {
            // SAFETY: the request and its connection are alive and this thread's; httpd's error log makes
            // the identifier with the same call.
            unsafe { sys::ap_run_generate_log_id((*r).connection, r, id) };
        }
        // SAFETY: text in the request's pool (S1).
        unsafe { text(*id) }
    }

    /// The identifier that the error log knows the connection by, if it has been made.
    pub(crate) fn connection_log_id(&self) -> Option<&'r CStr> {
        // SAFETY: text in the connection's pool (S1).
        unsafe { text(self.connection().log_id) }
    }

    /// Whether the filter that gets the response first may change its content. (Below the protocol level,
    /// a filter such as mod_deflate may need the body to say what the headers are.)
    pub(crate) fn has_content_filter(&self) -> bool {
        // SAFETY: filters of a request live as long as it does (S1), or null.
        let Some(filter) = (unsafe { self.record().output_filters.as_ref() }) else {
            return false;
        };
        // SAFETY: every filter has its registration.
        unsafe { (*filter.frec).ftype < sys::AP_FTYPE_PROTOCOL }
    }

    /// Has httpd leave a `Range` header to the application, whose answer is sent as it is.
    pub(crate) fn leave_ranges(&self) {
        if self.header(c"Range").is_none() {
            return;
        }
        let mut next = self.record().output_filters;
        // SAFETY: filters of a request live as long as it does (S1); the last one's successor is null.
        while let Some(filter) = unsafe { next.as_ref() } {
            let this = std::mem::replace(&mut next, filter.next);
            // SAFETY: every filter has its registration, with a name in lower case.
            if unsafe { super::text((*filter.frec).name) } == Some(c"byterange") {
                // SAFETY: a filter of this request, in the thread that serves it.
                unsafe { sys::ap_remove_output_filter(this) };
            }
        }
    }

    /// `CGIPassAuth On`
    pub(crate) fn passes_authorization(&self) -> bool {
        running_magic() >= MAGIC_CGI_PASS_AUTH
            && self.core().is_some_and(|core| {
                // SAFETY: the core's configuration, and this httpd has the field.
                unsafe { sys::mwrs_core_cgi_pass_auth(core) != 0 }
            })
    }

    /// `QualifyRedirectURL On`
    pub(crate) fn qualifies_redirect_url(&self) -> bool {
        running_magic() >= MAGIC_CGI_PASS_AUTH
            && self.core().is_some_and(|core| {
                // SAFETY: the core's configuration, and this httpd has the field.
                unsafe { sys::mwrs_core_qualify_redirect_url(core) != 0 }
            })
    }

    /// `CGIVar REQUEST_URI current-uri`
    pub(crate) fn wants_current_uri(&self) -> bool {
        if running_magic() < MAGIC_CGI_VAR_RULES {
            return false;
        }
        let rules = self.core().map_or(std::ptr::null_mut(), |core| core.cgi_var_rules);
        if rules.is_null() {
            return false;
        }
        let key = c"REQUEST_URI";
        // SAFETY: a hash of C strings that is frozen with the configuration (S3).
        let rule = unsafe {
            text(
                sys::apr_hash_get(rules, key.as_ptr().cast::<c_void>(), key.count_bytes() as _)
                    .cast(),
            )
        };
        rule == Some(c"current-uri")
    }

    /// Whether no `EnableSendfile Off` is in force.
    pub(super) fn core_sendfile(&self) -> bool {
        // SAFETY: the core's configuration; the field is as old as httpd 2.4.
        self.core().is_some_and(|core| unsafe { sys::mwrs_core_sendfile(core) != 0 })
    }

    /// `ReadBufferSize`; `None` for httpd's default.
    pub(super) fn read_buffer_size(&self) -> Option<usize> {
        if running_magic() < MAGIC_READ_BUF_SIZE {
            return None;
        }
        let size = self.core()?.read_buf_size;
        (size > 0).then_some(size)
    }

    /// The absolute URL of this request, as `QualifyRedirectURL On` wants it.
    pub(crate) fn absolute_url(&self) -> Option<&'r CStr> {
        let mut uri = self.record().parsed_uri;
        let pool = self.pool();
        if uri.scheme.is_null() {
            uri.scheme = self.scheme().as_ptr().cast_mut();
        }
        if uri.port == 0 {
            uri.port = self.server_port();
            let port = Digits::new(uri.port.into());
            uri.port_str = pool.text(&[port.as_bytes()]).as_ptr().cast_mut();
        }
        if uri.hostname.is_null() {
            uri.hostname = self.server_name().as_ptr().cast_mut();
        }
        // SAFETY: a copy of the request's own structure, whose parts live as long as the request.
        unsafe { text(sys::apr_uri_unparse(pool.raw(), &raw const uri, 0)) }
    }

    fn core(&self) -> Option<&'r sys::core_dir_config> {
        // SAFETY: the core has a configuration in every vector, frozen or this request's (S1, S3). Fields
        // newer than 2.4.0 are read only after a look at the running httpd's magic number.
        unsafe {
            sys::ap_get_core_module_config(self.record().per_dir_config)
                .cast::<sys::core_dir_config>()
                .as_ref()
        }
    }
}

/// Which additions the running httpd has.
pub(super) fn running_magic() -> i32 {
    static MAGIC: OnceLock<i32> = OnceLock::new();
    // SAFETY: the core module's record is constant.
    *MAGIC.get_or_init(|| unsafe { sys::mwrs_running_magic_minor() })
}
