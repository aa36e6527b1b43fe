//! `wsgi.errors`, and the functions behind `sys.stdout` and `sys.stderr`: text on its way to the error log.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::process_log;
use super::exchange::Level;
use super::turn::{self, Turn};
use crate::python::{
    Args, Class, ClassSpec, Getter, Gil, Kind, Method, Obj, PyResult, Raised, function,
    functions_into, getter, method,
};

/// The class of `wsgi.errors`: a text stream whose lines become records of the request's log.
pub(super) fn class(gil: Gil<'_>) -> PyResult<Class<Turn>> {
    Class::define(
        gil,
        ClassSpec {
            name: c"mod_wsgi.Log",
            methods: vec![
                method::<Write>(),
                method::<WriteBytes>(),
                method::<WriteLines>(),
                method::<Flush>(),
                method::<Close>(),
                method::<No<IsATty>>(),
                method::<No<IsReadable>>(),
                method::<No<IsSeekable>>(),
                method::<Writable>(),
                method::<FileNo>(),
            ],
            getters: vec![
                getter::<Text<NameOf>>(),
                getter::<Text<ModeOf>>(),
                getter::<Text<EncodingOf>>(),
                getter::<Text<ErrorsOf>>(),
                getter::<Closed>(),
                getter::<Buffer>(),
            ],
            next: None,
        },
    )
}

fn over(gil: Gil<'_>, name: &str) -> Raised {
    Raised::runtime_error(gil, &format!("{name}() called on wsgi.errors after request completed"))
}

/// A `str` as UTF-8; what cannot be encoded is escaped.
fn text_of<'py>(gil: Gil<'py>, value: &Obj<'py>, turn: &Turn) -> PyResult<Vec<u8>> {
    if !value.is_kind(Kind::Str) {
        let message = format!("write() argument must be str, not {}", value.type_name());
        return Err(Raised::type_error(gil, &message));
    }
    match value.text() {
        Ok(text) => Ok(text.into_bytes()),
        Err(raised) => {
            raised.clear(gil);
            let encoded = turn.interpreter.helper(gil, c"_encode")?.call([value])?;
            Ok(encoded.bytes().unwrap_or_default().to_vec())
        }
    }
}

fn write_to<'py>(gil: Gil<'py>, turn: &Turn, text: &[u8], name: &str) -> PyResult<Obj<'py>> {
    // An unfinished line only has to be kept; a whole one is written, and that can wait.
    let kept = if text.contains(&b'\n') {
        turn.carrier.with(gil, |carrier| carrier.write_log(text))
    } else {
        turn.carrier.with_attached(gil, |carrier| carrier.write_log(text))
    };
    kept.map(|()| Obj::none(gil)).ok_or_else(|| over(gil, name))
}

/// `write(text)`
struct Write;

impl Method for Write {
    type Data = Turn;
    const NAME: &'static CStr = c"write";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("write", 1, 1)?;
        let (Some(turn), Some(value)) = (turn, args.at(0)) else { return Err(over(gil, "write")) };
        let text = text_of(gil, &value, turn)?;
        write_to(gil, turn, &text, "write")?;
        Obj::int(gil, value.str_len()?)
    }
}

/// `_write(data)`: what `buffer` is written, `bytes`.
struct WriteBytes;

impl Method for WriteBytes {
    type Data = Turn;
    const NAME: &'static CStr = c"_write";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("_write", 1, 1)?;
        let (Some(turn), Some(data)) = (turn, args.at(0)) else { return Err(over(gil, "write")) };
        write_to(gil, turn, data.bytes().unwrap_or_default(), "write")
    }
}

/// `writelines(lines)`
struct WriteLines;

impl Method for WriteLines {
    type Data = Turn;
    const NAME: &'static CStr = c"writelines";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("writelines", 1, 1)?;
        let (Some(turn), Some(lines)) = (turn, args.at(0)) else {
            return Err(over(gil, "writelines"));
        };
        let lines = lines.iter()?;
        let mut text = Vec::new();
        while let Some(line) = lines.next()? {
            text.extend(text_of(gil, &line, turn)?);
        }
        write_to(gil, turn, &text, "writelines")
    }
}

/// `flush()`
struct Flush;

impl Method for Flush {
    type Data = Turn;
    const NAME: &'static CStr = c"flush";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("flush", 0, 0)?;
        let turn = turn.ok_or_else(|| over(gil, "flush"))?;
        let empty = turn.carrier.with_attached(gil, |carrier| carrier.line.is_empty());
        match empty {
            Some(true) => Ok(Obj::none(gil)),
            Some(false) => turn
                .carrier
                .with(gil, |carrier| carrier.flush_log())
                .map(|()| Obj::none(gil))
                .ok_or_else(|| over(gil, "flush")),
            None => Err(over(gil, "flush")),
        }
    }
}

/// `close()`: the stream is the server's; nothing is closed.
struct Close;

impl Method for Close {
    type Data = Turn;
    const NAME: &'static CStr = c"close";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("close", 0, 0)?;
        Ok(Obj::none(gil))
    }
}

/// A question about the stream.
trait Question {
    const NAME: &'static CStr;
}

macro_rules! question {
    ($($type:ident $name:literal;)*) => { $(
        struct $type;
        impl Question for $type { const NAME: &'static CStr = $name; }
    )* };
}

question! {
    IsATty c"isatty";
    IsReadable c"readable";
    IsSeekable c"seekable";
}

/// A method that answers no.
struct No<Q>(Q);

impl<Q: Question + 'static> Method for No<Q> {
    type Data = Turn;
    const NAME: &'static CStr = Q::NAME;

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _turn: Option<&Arc<Turn>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        Obj::bool(gil, false)
    }
}

/// `writable()`
struct Writable;

impl Method for Writable {
    type Data = Turn;
    const NAME: &'static CStr = c"writable";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _turn: Option<&Arc<Turn>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        Obj::bool(gil, true)
    }
}

/// `fileno()`: there is none.
struct FileNo;

impl Method for FileNo {
    type Data = Turn;
    const NAME: &'static CStr = c"fileno";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _turn: Option<&Arc<Turn>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        Err(Raised::os_error(gil, "wsgi.errors has no file descriptor: it is httpd's error log"))
    }
}

/// An attribute with a fixed text.
trait Fixed {
    const NAME: &'static CStr;
    const TEXT: &'static str;
}

macro_rules! fixed {
    ($($type:ident $name:literal $text:literal;)*) => { $(
        struct $type;
        impl Fixed for $type {
            const NAME: &'static CStr = $name;
            const TEXT: &'static str = $text;
        }
    )* };
}

fixed! {
    NameOf c"name" "<wsgi.errors>";
    ModeOf c"mode" "w";
    EncodingOf c"encoding" "utf-8";
    ErrorsOf c"errors" "replace";
}

/// A getter of a [`Fixed`].
struct Text<F>(F);

impl<F: Fixed + 'static> Getter for Text<F> {
    type Data = Turn;
    const NAME: &'static CStr = F::NAME;

    fn get<'py>(gil: Gil<'py>, _this: &Obj<'py>, _turn: Option<&Arc<Turn>>) -> PyResult<Obj<'py>> {
        Obj::str_from(gil, F::TEXT)
    }
}

/// `closed`
struct Closed;

impl Getter for Closed {
    type Data = Turn;
    const NAME: &'static CStr = c"closed";

    fn get<'py>(gil: Gil<'py>, _this: &Obj<'py>, _turn: Option<&Arc<Turn>>) -> PyResult<Obj<'py>> {
        Obj::bool(gil, false)
    }
}

/// `buffer`: the same stream for bytes.
struct Buffer;

impl Getter for Buffer {
    type Data = Turn;
    const NAME: &'static CStr = c"buffer";

    fn get<'py>(gil: Gil<'py>, this: &Obj<'py>, turn: Option<&Arc<Turn>>) -> PyResult<Obj<'py>> {
        let turn = turn.ok_or_else(|| over(gil, "buffer"))?;
        turn.interpreter.helper(gil, c"_Bytes")?.call([this])
    }
}

/// What was written outside any request and ends in no newline yet.
static PROCESS_LINE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Adds the functions behind `sys.stdout` and `sys.stderr` to the runtime module.
pub(super) fn functions(gil: Gil<'_>, module: &Obj<'_>) -> PyResult<()> {
    functions_into(
        gil,
        module,
        vec![function::<WriteLog>(), function::<FlushLog>(), function::<Report>()],
    )
}

/// `_write_log(data)`: to the log of the request this thread serves, else of the server.
struct WriteLog;

impl Method for WriteLog {
    type Data = ();
    const NAME: &'static CStr = c"_write_log";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("_write_log", 1, 1)?;
        let Some(value) = args.at(0) else { return Ok(Obj::none(gil)) };
        let text = value.bytes().unwrap_or_default();
        if let Some(turn) = turn::current()
            && write_to(gil, &turn, text, "write").map_err(|raised| raised.clear(gil)).is_ok()
        {
            return Ok(Obj::none(gil));
        }
        gil.detach(|| {
            let mut line = PROCESS_LINE.lock().unwrap_or_else(PoisonError::into_inner);
            line.extend_from_slice(text);
            if let Some(end) = line.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = line.drain(..=end).collect();
                process_log(Level::Error, &String::from_utf8_lossy(&whole[..end]));
            }
        });
        Ok(Obj::none(gil))
    }
}

/// `_flush_log()`
struct FlushLog;

impl Method for FlushLog {
    type Data = ();
    const NAME: &'static CStr = c"_flush_log";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        if let Some(turn) = turn::current() {
            let unfinished = turn.carrier.with_attached(gil, |carrier| !carrier.line.is_empty());
            if unfinished == Some(true) {
                turn.carrier.with(gil, |carrier| carrier.flush_log());
            }
            return Ok(Obj::none(gil));
        }
        gil.detach(|| {
            let mut line = PROCESS_LINE.lock().unwrap_or_else(PoisonError::into_inner);
            if !line.is_empty() {
                process_log(Level::Error, &String::from_utf8_lossy(&std::mem::take(&mut *line)));
            }
        });
        Ok(Obj::none(gil))
    }
}

/// `_report(level, text)`: a record of the module itself, level 0 (error) to 3 (debug).
struct Report;

impl Method for Report {
    type Data = ();
    const NAME: &'static CStr = c"_report";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _data: Option<&Arc<()>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("_report", 2, 2)?;
        let (Some(level), Some(text)) = (args.at(0), args.at(1)) else {
            return Ok(Obj::none(gil));
        };
        let level = match level.size_argument()? {
            Some(0) => Level::Error,
            Some(1) => Level::Warning,
            Some(2) => Level::Info,
            _ => Level::Debug,
        };
        let text = text.text()?;
        let logged = turn::current()
            .and_then(|turn| turn.carrier.with(gil, |carrier| carrier.exchange.log(level, &text)));
        if logged.is_none() {
            gil.detach(|| process_log(level, &text));
        }
        Ok(Obj::none(gil))
    }
}
