//! Building `environ`: straight from the carrier into the dict.
//!
//! Each application has a template dict that already holds every key which is always present, with the value of the
//! last request. A request gets a copy; a value that has not changed since costs one comparison, any
//! other replaces a slot. No key is made twice; those of headers are remembered as far as there is room.

use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::meter::Times;
use crate::python::{Gil, Kept, Obj, PyResult};

macro_rules! keys {
    ($( $variant:ident $name:literal $kind:ident ; )*) => {
        /// A key of `environ` that is known beforehand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the environ key of the same name, see docs/environ.md")]
        #[repr(u8)]
        pub enum Key { $( $variant ),* }

        /// Every key with its name and how it is kept.
        const KEYS: &[(Key, &CStr, Kind)] = &[ $( (Key::$variant, $name, Kind::$kind) ),* ];
    };
}

impl TryFrom<u8> for Key {
    type Error = ();

    /// The key of this number in the list.
    fn try_from(number: u8) -> Result<Self, ()> {
        KEYS.get(usize::from(number)).map(|(key, ..)| *key).ok_or(())
    }
}

/// How a key is kept in the template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Always present and often the same: the template holds the last value.
    Same,
    /// Always present, another value each time: the template only holds the place.
    Fresh,
    /// Present in some requests.
    Some,
}

keys! {
    RequestMethod c"REQUEST_METHOD" Same;
    ScriptName c"SCRIPT_NAME" Same;
    PathInfo c"PATH_INFO" Same;
    QueryString c"QUERY_STRING" Same;
    RequestUri c"REQUEST_URI" Same;
    ServerProtocol c"SERVER_PROTOCOL" Same;
    ServerName c"SERVER_NAME" Same;
    ServerPort c"SERVER_PORT" Same;
    ServerAddr c"SERVER_ADDR" Same;
    ServerSoftware c"SERVER_SOFTWARE" Same;
    RemoteAddr c"REMOTE_ADDR" Same;
    RemotePort c"REMOTE_PORT" Fresh;
    RequestScheme c"REQUEST_SCHEME" Same;
    DocumentRoot c"DOCUMENT_ROOT" Same;
    ScriptFilename c"SCRIPT_FILENAME" Same;
    ContextPrefix c"CONTEXT_PREFIX" Same;
    ContextDocumentRoot c"CONTEXT_DOCUMENT_ROOT" Same;
    ListenerHost c"mod_wsgi.listener_host" Same;
    ListenerPort c"mod_wsgi.listener_port" Same;
    RequestHandler c"mod_wsgi.request_handler" Same;
    HandlerScript c"mod_wsgi.handler_script" Same;
    ModScriptName c"mod_wsgi.script_name" Same;
    ModPathInfo c"mod_wsgi.path_info" Same;
    RequestStart c"mod_wsgi.request_start" Fresh;
    QueueStart c"mod_wsgi.queue_start" Fresh;
    DaemonStart c"mod_wsgi.daemon_start" Fresh;
    ApplicationStart c"mod_wsgi.application_start" Fresh;
    ThreadId c"mod_wsgi.thread_id" Fresh;
    RequestId c"mod_wsgi.request_id" Some;
    UrlScheme c"wsgi.url_scheme" Same;
    Input c"wsgi.input" Fresh;
    Errors c"wsgi.errors" Fresh;
    HttpHost c"HTTP_HOST" Some;
    ServerAdmin c"SERVER_ADMIN" Some;
    RemoteUser c"REMOTE_USER" Some;
    AuthType c"AUTH_TYPE" Some;
    RedirectRemoteUser c"REDIRECT_REMOTE_USER" Some;
    RedirectUrl c"REDIRECT_URL" Some;
    RedirectQueryString c"REDIRECT_QUERY_STRING" Some;
    ContentType c"CONTENT_TYPE" Some;
    ContentLength c"CONTENT_LENGTH" Some;
    HttpAuthorization c"HTTP_AUTHORIZATION" Some;
    HttpProxyAuthorization c"HTTP_PROXY_AUTHORIZATION" Some;
    ConnectionId c"mod_wsgi.connection_id" Some;
    ServerPid c"mod_wsgi.server_pid" Same;
    MountPoint c"mod_wsgi.mount_point" Some;
}

const _: () = assert!(KEYS.len() <= 64, "the set of keys is a u64");

/// Request headers common enough that their `HTTP_*` names are made once per interpreter.
const HEADERS: &[(&str, &CStr)] = &[
    ("accept", c"HTTP_ACCEPT"),
    ("accept-charset", c"HTTP_ACCEPT_CHARSET"),
    ("accept-encoding", c"HTTP_ACCEPT_ENCODING"),
    ("accept-language", c"HTTP_ACCEPT_LANGUAGE"),
    ("access-control-request-headers", c"HTTP_ACCESS_CONTROL_REQUEST_HEADERS"),
    ("access-control-request-method", c"HTTP_ACCESS_CONTROL_REQUEST_METHOD"),
    ("cache-control", c"HTTP_CACHE_CONTROL"),
    ("connection", c"HTTP_CONNECTION"),
    ("cookie", c"HTTP_COOKIE"),
    ("dnt", c"HTTP_DNT"),
    ("expect", c"HTTP_EXPECT"),
    ("forwarded", c"HTTP_FORWARDED"),
    ("from", c"HTTP_FROM"),
    ("host", c"HTTP_HOST"),
    ("if-match", c"HTTP_IF_MATCH"),
    ("if-modified-since", c"HTTP_IF_MODIFIED_SINCE"),
    ("if-none-match", c"HTTP_IF_NONE_MATCH"),
    ("if-range", c"HTTP_IF_RANGE"),
    ("if-unmodified-since", c"HTTP_IF_UNMODIFIED_SINCE"),
    ("keep-alive", c"HTTP_KEEP_ALIVE"),
    ("origin", c"HTTP_ORIGIN"),
    ("pragma", c"HTTP_PRAGMA"),
    ("priority", c"HTTP_PRIORITY"),
    ("range", c"HTTP_RANGE"),
    ("referer", c"HTTP_REFERER"),
    ("sec-ch-ua", c"HTTP_SEC_CH_UA"),
    ("sec-ch-ua-mobile", c"HTTP_SEC_CH_UA_MOBILE"),
    ("sec-ch-ua-platform", c"HTTP_SEC_CH_UA_PLATFORM"),
    ("sec-fetch-dest", c"HTTP_SEC_FETCH_DEST"),
    ("sec-fetch-mode", c"HTTP_SEC_FETCH_MODE"),
    ("sec-fetch-site", c"HTTP_SEC_FETCH_SITE"),
    ("sec-fetch-user", c"HTTP_SEC_FETCH_USER"),
    ("te", c"HTTP_TE"),
    ("traceparent", c"HTTP_TRACEPARENT"),
    ("tracestate", c"HTTP_TRACESTATE"),
    ("transfer-encoding", c"HTTP_TRANSFER_ENCODING"),
    ("upgrade-insecure-requests", c"HTTP_UPGRADE_INSECURE_REQUESTS"),
    ("user-agent", c"HTTP_USER_AGENT"),
    ("via", c"HTTP_VIA"),
    ("x-csrftoken", c"HTTP_X_CSRFTOKEN"),
    ("x-forwarded-for", c"HTTP_X_FORWARDED_FOR"),
    ("x-forwarded-host", c"HTTP_X_FORWARDED_HOST"),
    ("x-forwarded-port", c"HTTP_X_FORWARDED_PORT"),
    ("x-forwarded-proto", c"HTTP_X_FORWARDED_PROTO"),
    ("x-real-ip", c"HTTP_X_REAL_IP"),
    ("x-request-id", c"HTTP_X_REQUEST_ID"),
    ("x-requested-with", c"HTTP_X_REQUESTED_WITH"),
];

/// The key objects of one interpreter.
pub(super) struct Names {
    keys: Vec<Kept>,
    headers: Vec<(usize, &'static [u8], Kept)>,
    http: Kept,
    https: Kept,
}

impl Names {
    pub(super) fn new(gil: Gil<'_>) -> PyResult<Self> {
        let keys = KEYS
            .iter()
            .map(|(_, name, _)| Ok(Obj::interned(gil, name)?.keep()))
            .collect::<PyResult<_>>()?;
        let mut headers = HEADERS
            .iter()
            .map(|(name, key)| Ok((name.len(), name.as_bytes(), Obj::interned(gil, key)?.keep())))
            .collect::<PyResult<Vec<_>>>()?;
        headers.sort_by_key(|(length, ..)| *length);
        Ok(Self {
            keys,
            headers,
            http: Obj::interned(gil, c"http")?.keep(),
            https: Obj::interned(gil, c"https")?.keep(),
        })
    }

    pub(super) fn key<'a, 'py>(&'a self, gil: Gil<'py>, key: Key) -> &'a Obj<'py> {
        self.keys[key as usize].borrow(gil)
    }

    /// The `HTTP_*` key of a header: the interned one of a common header, otherwise a new one.
    fn header<'py>(&self, gil: Gil<'py>, name: &[u8]) -> PyResult<Obj<'py>> {
        let start = self.headers.partition_point(|(length, ..)| *length < name.len());
        let known = self.headers[start..]
            .iter()
            .take_while(|(length, ..)| *length == name.len())
            .find(|(_, known, _)| name.eq_ignore_ascii_case(known));
        if let Some((.., key)) = known {
            return Ok(key.get(gil));
        }
        let mut key = Vec::with_capacity(HTTP.len() + name.len());
        key.extend_from_slice(HTTP);
        key.extend(name.iter().map(|byte| match byte {
            b'-' => b'_',
            other => other.to_ascii_uppercase(),
        }));
        Obj::latin1_from(gil, &key)
    }
}

const HTTP: &[u8] = b"HTTP_";

/// The keys of headers that requests had lately, by the names as they were written. Clients choose those, so it has
/// a fixed number of places, and whoever sends ever new names only makes the others' keys be made anew. The keys are
/// not interned, since that is for ever in some builds of Python.
struct Recent {
    places: Vec<Option<(Vec<u8>, Kept)>>,
}

impl Recent {
    /// Two beside each other are for the same names.
    const PLACES: usize = 256;
    /// Longer names are not kept.
    const LONGEST: usize = 64;

    fn new() -> Self {
        Self { places: std::iter::repeat_with(|| None).take(Self::PLACES).collect() }
    }

    /// Which places are for a name: a cheap sum of it, since who provokes collisions gains nothing.
    fn set(name: &[u8]) -> usize {
        let (words, rest) = name.as_chunks();
        let add =
            |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        let sum = words.iter().map(|word| u64::from_le_bytes(*word)).fold(0, add);
        let sum = rest.iter().map(|byte| u64::from(*byte)).fold(sum, add);
        // The upper bits are the well mixed ones.
        (sum >> 32) as usize % (Self::PLACES / 2)
    }

    fn key<'py>(&mut self, gil: Gil<'py>, names: &Names, name: &[u8]) -> PyResult<Obj<'py>> {
        if name.len() > Self::LONGEST {
            return names.header(gil, name);
        }
        let set = Self::set(name);
        let [newer, older] = [2 * set, 2 * set + 1];
        for place in [newer, older] {
            if let Some((known, key)) = &self.places[place]
                && known == name
            {
                return Ok(key.get(gil));
            }
        }
        let key = names.header(gil, name)?;
        self.places.swap(newer, older);
        let kept = key.clone().keep();
        match &mut self.places[newer] {
            Some((known, key)) => {
                known.clear();
                known.extend_from_slice(name);
                *key = kept;
            }
            free => *free = Some((name.to_vec(), kept)),
        }
        Ok(key)
    }
}

/// The template of one application in one interpreter.
pub(super) struct Template {
    dict: Kept,
    /// Locked while a request copies and compares.
    memo: Mutex<Memo>,
}

/// What is known of the requests before.
struct Memo {
    /// The values of [`Kind::Same`] keys the template holds now.
    values: [Vec<u8>; KEYS.len()],
    headers: Recent,
}

/// Values longer than this are not remembered.
const MEMO_LIMIT: usize = 512;

impl Template {
    /// A template with `constants`, and a place for every key that is always there.
    pub(super) fn new<'py>(
        gil: Gil<'py>,
        names: &Names,
        constants: &[(&CStr, Obj<'py>)],
    ) -> PyResult<Self> {
        let dict = Obj::dict(gil)?;
        for (name, value) in constants {
            dict.dict_set(&Obj::interned(gil, name)?, value)?;
        }
        let zero = Obj::float(gil, 0.0)?;
        let empty = Obj::latin1_from(gil, b"")?;
        for (key, _, kind) in KEYS {
            let place = match key {
                Key::QueueStart | Key::DaemonStart => &zero,
                Key::UrlScheme => names.http.borrow(gil),
                _ => &empty,
            };
            if *kind != Kind::Some {
                dict.dict_set(names.key(gil, *key), place)?;
            }
        }
        let memo = Memo { values: [const { Vec::new() }; KEYS.len()], headers: Recent::new() };
        Ok(Self { dict: dict.keep(), memo: Mutex::new(memo) })
    }
}

/// Keys that have the same value in all requests of an application; their values come with [`Template::new`].
const CONSTANTS: [&[u8]; 11] = [
    b"wsgi.version",
    b"wsgi.multithread",
    b"wsgi.multiprocess",
    b"wsgi.run_once",
    b"wsgi.input_terminated",
    b"wsgi.file_wrapper",
    b"mod_wsgi.version",
    b"mod_wsgi.process_group",
    b"mod_wsgi.application_group",
    b"mod_wsgi.callable_object",
    b"apache.version",
];

/// Keys that have a meaning without being set: they stay as the template has them.
const DEFAULTED: u64 = bit(Key::QueueStart) | bit(Key::DaemonStart) | bit(Key::UrlScheme);

const fn bit(key: Key) -> u64 {
    1 << key as u64
}

/// Every key of a kind.
const fn every(kind: Kind) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < KEYS.len() {
        if KEYS[index].2 as u8 == kind as u8 {
            mask |= bit(KEYS[index].0);
        }
        index += 1;
    }
    mask
}

/// Every key whose value is remembered.
const SAME: u64 = every(Kind::Same);

/// Every key that is in the template.
const PLACED: u64 = SAME | every(Kind::Fresh);

/// `environ` while it is being built. Attached.
pub struct Environ<'a> {
    dict: Obj<'a>,
    template: &'a Template,
    /// What the copied template holds; `None` when another thread was building at the same time: then every key
    /// is set anew.
    memo: Option<MutexGuard<'a, Memo>>,
    names: &'a Names,
    gil: Gil<'a>,
    set: u64,
    https: bool,
    /// What was said of times.
    pub(super) times: Times,
    failed: PyResult<()>,
}

impl<'a> Environ<'a> {
    pub(super) fn new(gil: Gil<'a>, names: &'a Names, template: &'a Template) -> PyResult<Self> {
        let memo = match template.memo.try_lock() {
            Ok(memo) => Some(memo),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let dict = template.dict.borrow(gil).dict_copy()?;
        Ok(Self {
            dict,
            template,
            memo,
            names,
            gil,
            set: 0,
            https: false,
            times: Times::default(),
            failed: Ok(()),
        })
    }

    /// Sets a known key to bytes, as latin-1.
    #[inline]
    pub fn set(&mut self, key: Key, value: &[u8]) {
        self.set |= bit(key);
        if !self.stands(key, value) {
            self.put(key, value, Obj::latin1_from);
        }
    }

    /// Sets a known key to a path, in the file-system encoding.
    #[inline]
    pub fn set_path(&mut self, key: Key, value: &[u8]) {
        self.set |= bit(key);
        if !self.stands(key, value) {
            self.put(key, value, |gil, value| {
                Obj::path_from(gil, value).or_else(|raised| {
                    raised.clear(gil);
                    Obj::latin1_from(gil, value)
                })
            });
        }
    }

    /// Whether the copied template has this value already.
    #[inline]
    fn stands(&self, key: Key, value: &[u8]) -> bool {
        SAME & bit(key) != 0
            && self.set & VARIABLE == 0
            && self.memo.as_ref().is_some_and(|memo| memo.values[key as usize] == value)
    }

    /// Replaces a value. Kept out of line, so that to find nothing to replace stays cheap.
    #[inline(never)]
    fn put(
        &mut self,
        key: Key,
        value: &[u8],
        make: impl FnOnce(Gil<'a>, &[u8]) -> PyResult<Obj<'a>>,
    ) {
        let done = make(self.gil, value).and_then(|object| {
            let name = self.names.key(self.gil, key);
            if let Some(memo) = &mut self.memo
                && SAME & bit(key) != 0
                && value.len() <= MEMO_LIMIT
            {
                self.template.dict.borrow(self.gil).dict_set(name, &object)?;
                let known = &mut memo.values[key as usize];
                known.clear();
                known.extend_from_slice(value);
            }
            self.dict.dict_set(name, &object)
        });
        self.note(done);
    }

    /// Sets a known key to a number of seconds.
    pub fn set_float(&mut self, key: Key, value: f64) {
        match key {
            Key::RequestStart => self.times.request = value,
            Key::QueueStart => self.times.queue = value,
            Key::DaemonStart => self.times.daemon = value,
            Key::ApplicationStart => self.times.application = value,
            _ => {}
        }
        let done = Obj::float(self.gil, value);
        let done = done.and_then(|value| self.set_object(key, &value));
        self.note(done);
    }

    pub(super) fn set_object(&mut self, key: Key, value: &Obj<'a>) -> PyResult<()> {
        self.set |= bit(key);
        self.dict.dict_set(self.names.key(self.gil, key), value)
    }

    /// Sets the `HTTP_*` key of a request header. Which headers an application may see is the carrier's decision.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let done = Obj::latin1_from(self.gil, value).and_then(|value| {
            let key = match &mut self.memo {
                Some(memo) => memo.headers.key(self.gil, self.names, name)?,
                None => self.names.header(self.gil, name)?,
            };
            self.dict.dict_set(&key, &value)
        });
        self.note(done);
    }

    /// Sets a variable of another module (`SetEnv` and the like). Call it before everything else: what the engine and
    /// the carrier say themselves wins.
    pub fn var(&mut self, name: &[u8], value: &[u8]) {
        match name {
            // Folded into wsgi.url_scheme.
            b"HTTPS" => {
                self.https = value == b"1" || value.eq_ignore_ascii_case(b"on");
                return;
            }
            // The server's own search path is none of the application's business.
            b"PATH" => return,
            _ if name.starts_with(b"mod_wsgi.x-") => return,
            _ => {}
        }
        let known = KEYS.iter().any(|(_, known, _)| known.to_bytes() == name);
        if (known || CONSTANTS.contains(&name)) && name.contains(&b'.') {
            // What the engine itself says about a request cannot be set.
            return;
        }
        if known {
            // Its place in the copy no longer holds the template's value.
            self.set |= VARIABLE;
        }
        let done = Obj::latin1_from(self.gil, name)
            .and_then(|name| self.dict.dict_set(&name, &Obj::latin1_from(self.gil, value)?));
        self.note(done);
    }

    /// Whether the client speaks TLS to httpd, when no `HTTPS` variable says so.
    pub fn https(&mut self, on: bool) {
        self.https |= on;
    }

    fn note(&mut self, done: PyResult<()>) {
        if let Err(raised) = done {
            if self.failed.is_ok() {
                self.failed = Err(raised);
            } else {
                raised.clear(self.gil);
            }
        }
    }

    /// The finished dict.
    pub(super) fn finish(mut self) -> PyResult<Obj<'a>> {
        std::mem::replace(&mut self.failed, Ok(()))?;
        if self.https {
            let https = self.names.https.borrow(self.gil);
            self.dict.dict_set(self.names.key(self.gil, Key::UrlScheme), https)?;
        }
        let absent = PLACED & !self.set & !DEFAULTED;
        if absent != 0 {
            for (key, ..) in KEYS.iter().filter(|(key, ..)| absent & bit(*key) != 0) {
                self.dict.dict_del(self.names.key(self.gil, *key))?;
            }
        }
        Ok(self.dict)
    }
}

/// What describes a request writes to: [`Environ`] itself, or a message to the process that builds it.
pub trait Sink {
    /// See [`Environ::set`].
    fn set(&mut self, key: Key, value: &[u8]);
    /// See [`Environ::set_path`].
    fn set_path(&mut self, key: Key, value: &[u8]);
    /// See [`Environ::set_float`].
    fn set_float(&mut self, key: Key, value: f64);
    /// See [`Environ::header`].
    fn header(&mut self, name: &[u8], value: &[u8]);
    /// See [`Environ::var`].
    fn var(&mut self, name: &[u8], value: &[u8]);
    /// See [`Environ::https`].
    fn https(&mut self, on: bool);
}

impl Sink for Environ<'_> {
    #[inline]
    fn set(&mut self, key: Key, value: &[u8]) {
        Environ::set(self, key, value);
    }

    #[inline]
    fn set_path(&mut self, key: Key, value: &[u8]) {
        Environ::set_path(self, key, value);
    }

    fn set_float(&mut self, key: Key, value: f64) {
        Environ::set_float(self, key, value);
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        Environ::header(self, name, value);
    }

    fn var(&mut self, name: &[u8], value: &[u8]) {
        Environ::var(self, name, value);
    }

    fn https(&mut self, on: bool) {
        Environ::https(self, on);
    }
}

/// Mark in [`Environ::set`]: a variable has overwritten a known key.
const VARIABLE: u64 = 1 << 63;
const _: () = assert!(KEYS.len() < 63);
