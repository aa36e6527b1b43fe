//! The engine without httpd: a carrier in memory, the system's Python.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use engine::python::locate;
use engine::settings::ProcessSettings;
use engine::wsgi::{
    Call, Engine, Environ, Exchange, Facts, Head, Host, Key, Level, Outcome, ReadFault, SendFault,
    Then,
};

/// An exchange whose request and response are in memory.
#[derive(Default)]
struct Memory {
    body: Vec<u8>,
    read: usize,
    status: u16,
    headers: Vec<(String, String)>,
    sent: Vec<u8>,
    sends: Vec<Then>,
    cut: bool,
    log: Vec<String>,
    gone_after: Option<usize>,
}

impl Exchange for Memory {
    fn describe(&mut self, environ: &mut Environ<'_>) {
        environ.var(b"PATH", b"/bin");
        environ.var(b"MY_VAR", b"x");
        environ.set(Key::RequestMethod, b"GET");
        environ.set(Key::ServerSoftware, b"Test/1");
        environ.set(Key::ScriptName, b"");
        environ.set(Key::PathInfo, b"/caf\xe9");
        environ.header(b"X-Some-Thing", b"1");
        environ.header(b"host", b"example.org");
        environ.https(true);
    }

    fn head_only(&self) -> bool {
        false
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        // Small steps, so that reads have to be put together.
        let size = buffer.len().min(7).min(self.body.len() - self.read);
        buffer[..size].copy_from_slice(&self.body[self.read..self.read + size]);
        self.read += size;
        Ok(size)
    }

    fn send(&mut self, head: Option<&Head>, blocks: &[&[u8]], then: Then) -> Result<(), SendFault> {
        if let Some(head) = head {
            self.status = head.status();
            let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
            self.headers = head.headers().map(|(name, value)| (text(name), text(value))).collect();
        }
        blocks.iter().for_each(|block| self.sent.extend_from_slice(block));
        self.sends.push(then);
        match self.gone_after {
            Some(limit) if self.sent.len() >= limit => Err(SendFault::Gone),
            _ => Ok(()),
        }
    }

    fn send_file(
        &mut self,
        head: Option<&Head>,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), SendFault> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        std::fs::File::from(file).read_exact_at(&mut bytes, offset).unwrap();
        self.send(head, &[&bytes], Then::End)
    }

    fn abort(&mut self) {
        self.cut = true;
    }

    fn log(&mut self, level: Level, text: &str) {
        self.log.push(format!("{level:?} {text}"));
    }
}

struct Printer;

impl Host for Printer {
    fn log(&self, level: Level, text: &str) {
        println!("{level:?} {text}");
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let home = std::env::var_os("ENGINE_TEST_PYTHON").map(PathBuf::from);
        let located = locate::locate(home.as_deref()).unwrap();
        Engine::start(&located, ProcessSettings::default(), Facts::default(), Box::new(Printer))
            .unwrap()
    })
}

/// Writes a script and serves `exchange` with it.
fn serve(group: &str, source: &str, exchange: &mut Memory) -> Outcome {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let number = {
        let mut count = COUNT.lock().unwrap();
        *count += 1;
        *count
    };
    let path = std::env::temp_dir().join(format!("engine-{}-{number}.wsgi", std::process::id()));
    std::fs::File::create(&path).unwrap().write_all(source.as_bytes()).unwrap();
    let outcome = call(group, &path, exchange);
    std::fs::remove_file(&path).unwrap();
    outcome
}

fn call(group: &str, path: &Path, exchange: &mut Memory) -> Outcome {
    let call = Call {
        application_group: group,
        script: path.as_os_str().as_bytes(),
        mtime: 1,
        callable: "application",
        reloading: true,
        handler: b"wsgi-script",
        resource: None,
    };
    engine().serve(&call, exchange)
}

const HELLO: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('X', '1'), ('X', '2')])
    return [b'Hello ', b'World\\n']
";

#[test]
fn a_list_is_one_send() {
    for group in ["", "other"] {
        let mut exchange = Memory::default();
        assert_eq!(serve(group, HELLO, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
        assert_eq!(exchange.sent, b"Hello World\n");
        assert_eq!(exchange.sends, [Then::End]);
        assert_eq!(exchange.status, 200);
        assert_eq!(exchange.headers.len(), 3);
        assert!(exchange.log.is_empty(), "{:?}", exchange.log);
    }
}

#[test]
fn environ_is_what_the_carrier_says() {
    let source = "
def application(environ, start_response):
    start_response('200 OK', [])
    assert all(type(key) is str for key in environ)
    text = '|'.join(str(environ.get(key)) for key in (
        'PATH', 'MY_VAR', 'PATH_INFO', 'HTTP_X_SOME_THING', 'HTTP_HOST', 'wsgi.url_scheme', 'SERVER_SOFTWARE',
        'QUERY_STRING', 'wsgi.version', 'mod_wsgi.version'))
    yield text.encode('latin-1')
";
    let mut exchange = Memory::default();
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent);
    let text: String = exchange.sent.iter().map(|byte| char::from(*byte)).collect();
    assert_eq!(text, "None|x|/caf\u{e9}|1|example.org|https|Test/1|None|(1, 0)|(7, 0, 0)");
    assert_eq!(exchange.sends, [Then::Flush, Then::EndNow]);
}

#[test]
fn input_reads_in_every_way() {
    let source = "
def application(environ, start_response):
    i = environ['wsgi.input']
    parts = [i.read(3), i.readline(), i.readline(2), i.readlines(5), i.read(0), next(i), i.read(), i.read(), list(i)]
    start_response('200 OK', [])
    return [repr(parts).encode()]
";
    let body = b"abcdef\nsecond line\nthird\n4\nfifth line is here\nrest of it all".to_vec();
    let mut exchange = Memory { body, ..Memory::default() };
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    assert_eq!(
        String::from_utf8(exchange.sent).unwrap(),
        "[b'abc', b'def\\n', b'se', [b'cond line\\n'], b'', b'third\\n', \
         b'4\\nfifth line is here\\nrest of it all', b'', []]"
    );
}

#[test]
fn a_raising_application_is_refused_with_its_traceback() {
    let mut exchange = Memory::default();
    let source = "
def application(environ, start_response):
    print('printed', file=environ['wsgi.errors'])
    raise ValueError('no such luck')
";
    assert_eq!(serve("", source, &mut exchange), Outcome::Refused(500));
    assert_eq!(exchange.log[0], "Error printed");
    assert!(exchange.log[1].contains("Traceback (most recent call last):"), "{:?}", exchange.log);
    assert!(exchange.log[1].ends_with("ValueError: no such luck"), "{:?}", exchange.log);
    assert!(exchange.sends.is_empty());
}

#[test]
fn a_failure_after_the_head_cuts_and_still_closes() {
    let source = "
class Body:
    def __init__(self, errors): self.errors = errors
    def __iter__(self):
        yield b'one'
        raise RuntimeError('half-way')
    def close(self): self.errors.write('closed\\n')

def application(environ, start_response):
    start_response('200 OK', [])
    return Body(environ['wsgi.errors'])
";
    let mut exchange = Memory::default();
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent);
    assert!(exchange.cut);
    assert_eq!(exchange.log[0], "Error closed");
    assert!(exchange.log[1].contains("half-way"));
}

#[test]
fn close_is_called_when_the_client_has_gone() {
    let source = "
def application(environ, start_response):
    start_response('200 OK', [])
    try:
        for n in range(1000): yield b'x' * 10
    finally:
        environ['wsgi.errors'].write(f'ended at {n}\\n')
";
    let mut exchange = Memory { gone_after: Some(25), ..Memory::default() };
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent);
    assert_eq!(exchange.log, ["Error ended at 2"]);
}

#[test]
fn short_bodies_are_cut_and_long_ones_clipped() {
    let answer = |length: &str, body: &str| {
        format!(
            "
def application(environ, start_response):
    start_response('200 OK', [('Content-Length', '{length}')])
    return {body}
"
        )
    };
    let mut short = Memory::default();
    assert_eq!(serve("", &answer("10", "[b'abc']"), &mut short), Outcome::Sent);
    assert!(short.cut && short.log[0].contains("3 bytes"), "{:?}", short.log);
    let mut long = Memory::default();
    assert_eq!(serve("", &answer("4", "iter([b'abc', b'def'])"), &mut long), Outcome::Sent);
    assert_eq!(long.sent, b"abcd");
    assert!(!long.cut && long.log[0].contains("more than"), "{:?}", long.log);
}

#[test]
fn files_are_sent_as_files() {
    let source = "
import tempfile
def application(environ, start_response):
    file = tempfile.TemporaryFile()
    file.write(b'0123456789'); file.seek(4)
    start_response('200 OK', [])
    return environ['wsgi.file_wrapper'](file)
";
    let mut exchange = Memory::default();
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent);
    assert_eq!(exchange.sent, b"456789");
    assert_eq!(exchange.sends, [Then::End]);
}

#[test]
fn what_is_kept_past_the_request_says_so() {
    let source = "
kept = []
def application(environ, start_response):
    if kept:
        old_environ, old_start = kept.pop()
        for what in (lambda: old_start('200 OK', []), lambda: old_environ['wsgi.input'].read(),
                     lambda: old_environ['wsgi.errors'].write('x')):
            try:
                what()
            except RuntimeError as error:
                print(error)
    else:
        kept.append((environ, start_response))
    write = start_response('200 OK', [])
    write(b'written ')
    return (b'returned',)
";
    let path = std::env::temp_dir().join(format!("engine-{}-kept.wsgi", std::process::id()));
    std::fs::write(&path, source).unwrap();
    let mut first = Memory::default();
    assert_eq!(call("", &path, &mut first), Outcome::Sent);
    assert_eq!(first.sent, b"written returned");
    let mut second = Memory::default();
    assert_eq!(call("", &path, &mut second), Outcome::Sent);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(second.log.len(), 3, "{:?}", second.log);
    assert!(second.log.iter().all(|line| line.contains("after request completed")));
}

#[test]
fn subscribers_are_told_of_every_step() {
    let source = "
import mod_wsgi
heard = mod_wsgi.heard = []

@mod_wsgi.subscribe_events
def first(name, **event):
    heard.append(name)
    mod_wsgi.request_data()[name] = sorted(event)
    if name == 'request_started':
        inner = event['application_object']
        def wrapped(environ, start_response):
            environ['wrapped'] = 'yes'
            return inner(environ, start_response)
        return {'application_object': wrapped}
    raise SystemExit('of no consequence')

@mod_wsgi.subscribe_events
def second(name, **event):
    heard.append((name, event.get('exception_info') and event['exception_info'][0].__name__,
                  event.get('status'), event['request_data'] is mod_wsgi.request_data()))

class Body:
    def __iter__(self):
        yield b'one'
        raise ValueError('half-way')
    def close(self): heard.append('close')

def application(environ, start_response):
    heard.append(environ['wrapped'])
    start_response('200 OK', [])
    return Body()
";
    let mut exchange = Memory::default();
    assert_eq!(serve("events", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    let told: Vec<_> =
        exchange.log.iter().filter(|line| line.contains("raised by a subscriber of")).collect();
    assert_eq!(told.len(), 3, "{:?}", exchange.log);
    let mut exchange = Memory::default();
    let source = "
import mod_wsgi
def application(environ, start_response):
    heard = list(mod_wsgi.heard)
    mod_wsgi.event_callbacks.clear()
    start_response('200 OK', [])
    return [repr(heard).encode()]
";
    assert_eq!(serve("events", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    assert_eq!(
        String::from_utf8(exchange.sent).unwrap(),
        "['request_started', ('request_started', None, None, True), 'yes', \
         'response_started', ('response_started', None, None, True), \
         'request_exception', ('request_exception', 'ValueError', None, True), 'close', \
         'request_finished', ('request_finished', None, 200, True), \
         'request_started', ('request_started', None, None, True)]"
    );
}

#[test]
fn requests_are_recorded_from_the_start_on() {
    let source = "
import mod_wsgi
before = mod_wsgi.request_metrics(), mod_wsgi.process_metrics()
mod_wsgi.start_recording_metrics()
def application(environ, start_response):
    length = len(environ['wsgi.input'].read())
    start_response('404 Not Found', [])
    yield b'x' * 10
    yield repr((before, length, mod_wsgi.process_metrics()['active_requests'] > 0)).encode()
";
    let mut exchange = Memory { body: vec![b'b'; 20], ..Memory::default() };
    assert_eq!(serve("metrics", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    assert_eq!(&exchange.sent[10..], b"((None, None), 20, True)");
    let source = "
import mod_wsgi
def application(environ, start_response):
    m = mod_wsgi.request_metrics()
    start_response('200 OK', [])
    yield repr((m['request_count'] >= 1, m['status_4xx'], m['input_bytes'] >= 20,
                m['output_writes'] >= 2, sum(m['application_time_buckets']) == m['request_count'],
                m['queue_time'], len(m['request_threads_completed']) == m['request_threads_maximum'],
                sum(m['request_threads_completed']) == m['request_count'])).encode()
";
    let mut exchange = Memory::default();
    assert_eq!(serve("metrics", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    assert_eq!(
        String::from_utf8(exchange.sent).unwrap(),
        "(True, 1, True, True, True, None, True, True)"
    );
}

#[test]
fn an_interrupted_request_is_a_timeout() {
    let source = "
import mod_wsgi
def application(environ, start_response):
    raise mod_wsgi.RequestTimeout
";
    let mut exchange = Memory::default();
    assert_eq!(serve("", source, &mut exchange), Outcome::Refused(504));
    assert_eq!(exchange.log, ["Info the request was ended by RequestTimeout"]);
}

#[test]
fn records_of_logging_have_their_level() {
    let source = "
import logging, mod_wsgi
log = logging.getLogger('of a test')
log.propagate = False
log.setLevel(1)
log.addHandler(mod_wsgi.LogHandler(logging.INFO))
def application(environ, start_response):
    for level in (10, 20, 30, 40, 50):
        log.log(level, 'level %d\\n and more\\udc80', level)
    log.error('%d', 'no number')
    start_response('200 OK', [])
    return []
";
    let mut exchange = Memory::default();
    assert_eq!(serve("", source, &mut exchange), Outcome::Sent, "{:?}", exchange.log);
    assert_eq!(
        &exchange.log[..4],
        [
            "Info level 20\n and more\\udc80",
            "Warning level 30\n and more\\udc80",
            "Error level 40\n and more\\udc80",
            "Critical level 50\n and more\\udc80",
        ]
    );
    assert!(exchange.log[4].contains("Logging error"), "{:?}", exchange.log);
}
