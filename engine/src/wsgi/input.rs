//! `wsgi.input`: the request body, read from the carrier as the application asks for it.

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Instant;

use super::exchange::Exchange;
use super::meter::Flow;
use super::turn::Turn;
use crate::python::{
    Args, BytesBuffer, Class, ClassSpec, Gil, Method, Obj, PyResult, Raised, method, next_by,
};

/// How much is asked of the carrier at once for lines.
const CHUNK: usize = 8 * 1024;
/// How much memory a read of unknown size takes at first.
const FIRST: usize = 64 * 1024;

/// The body as far as it has been fetched and not yet given to the application.
#[derive(Default)]
pub(super) struct Input {
    rest: Vec<u8>,
    start: usize,
    ended: bool,
    fault: Option<String>,
    /// There where somebody wants to know what reading takes.
    pub(super) flow: Option<Flow>,
}

impl Input {
    fn left(&self) -> &[u8] {
        &self.rest[self.start..]
    }

    fn take(&mut self, size: usize) {
        self.start += size;
        if self.start >= self.rest.len() {
            self.rest.clear();
            self.start = 0;
        }
    }

    /// Moves what is there into `buffer`.
    fn drain(&mut self, buffer: &mut [u8]) -> usize {
        let size = self.left().len().min(buffer.len());
        buffer[..size].copy_from_slice(&self.left()[..size]);
        self.take(size);
        size
    }

    /// Fills `buffer` as far as the body goes.
    fn fill(
        &mut self,
        exchange: &mut (dyn Exchange + '_),
        buffer: &mut [u8],
    ) -> Result<usize, String> {
        let mut filled = self.drain(buffer);
        while filled < buffer.len() && !self.ended {
            filled += self.fetch(exchange, &mut buffer[filled..])?;
        }
        Ok(filled)
    }

    fn fetch(
        &mut self,
        exchange: &mut (dyn Exchange + '_),
        buffer: &mut [u8],
    ) -> Result<usize, String> {
        if let Some(fault) = &self.fault {
            return Err(format!("{fault} (an earlier read has failed)"));
        }
        let began = self.flow.map(|_| Instant::now());
        let read = exchange.read(buffer);
        if let (Some(flow), Some(began)) = (&mut self.flow, began) {
            flow.add(read.as_ref().copied().unwrap_or(0), 1, began);
        }
        match read {
            Ok(0) if !buffer.is_empty() => {
                self.ended = true;
                Ok(0)
            }
            Ok(size) => Ok(size),
            Err(fault) => {
                self.fault = Some(fault.0.clone());
                Err(fault.0)
            }
        }
    }

    /// Length of the next line, at most `limit`, if all of it is there.
    fn line(&self, limit: usize) -> Option<usize> {
        let left = self.left();
        let seen = &left[..left.len().min(limit)];
        match seen.iter().position(|byte| *byte == b'\n') {
            Some(end) => Some(end + 1),
            None if seen.len() == limit || self.ended => Some(seen.len()),
            None => None,
        }
    }

    /// Fetches until a line is there.
    fn fetch_line(
        &mut self,
        exchange: &mut (dyn Exchange + '_),
        limit: usize,
    ) -> Result<usize, String> {
        loop {
            if let Some(length) = self.line(limit) {
                return Ok(length);
            }
            self.rest.drain(..self.start);
            self.start = 0;
            let held = self.rest.len();
            self.rest.resize(held + CHUNK, 0);
            let mut rest = std::mem::take(&mut self.rest);
            let fetched = self.fetch(exchange, &mut rest[held..]);
            rest.truncate(held + fetched.as_ref().copied().unwrap_or(0));
            self.rest = rest;
            fetched?;
        }
    }
}

/// The class of `wsgi.input`.
pub(super) fn class(gil: Gil<'_>) -> PyResult<Class<Turn>> {
    Class::define(
        gil,
        ClassSpec {
            name: c"mod_wsgi.Input",
            methods: vec![
                method::<Read>(),
                method::<ReadLine>(),
                method::<ReadLines>(),
                method::<Close>(),
                method::<Readable>(),
            ],
            getters: Vec::new(),
            next: Some(next_by::<Next>()),
        },
    )
}

fn over(gil: Gil<'_>, name: &str) -> Raised {
    Raised::runtime_error(gil, &format!("{name}() called on wsgi.input after request completed"))
}

fn failed(gil: Gil<'_>, fault: &str) -> Raised {
    Raised::os_error(gil, &format!("request data read error: {fault}"))
}

/// A size argument: `None` for all.
fn size_of_argument(args: &Args<'_, '_>, name: &str) -> PyResult<Option<usize>> {
    args.expect(name, 0, 1)?;
    let size = match args.at(0) {
        Some(size) => size.size_argument()?,
        None => None,
    };
    Ok(size.and_then(|size| usize::try_from(size).ok()))
}

/// `read([size])`
struct Read;

impl Method for Read {
    type Data = Turn;
    const NAME: &'static CStr = c"read";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let size = size_of_argument(&args, "read")?;
        let turn = turn.ok_or_else(|| over(gil, "read"))?;
        // Memory is taken as data comes: the size is the application's wish, not a promise of the client.
        let mut buffer = BytesBuffer::new(gil, size.unwrap_or(FIRST).min(FIRST))?;
        let mut filled = 0;
        loop {
            let space = &mut buffer.memory()[filled..];
            let wanted = space.len();
            let got = turn
                .carrier
                .with_attached(gil, |carrier| {
                    let ready = carrier.input.ended || carrier.input.left().len() >= wanted;
                    (ready && wanted > 0).then(|| carrier.input.drain(space))
                })
                .ok_or_else(|| over(gil, "read"))?;
            let got = match got {
                Some(got) => got,
                None => {
                    let space = &mut buffer.memory()[filled..];
                    turn.carrier
                        .with(gil, |carrier| {
                            if space.is_empty() {
                                // read(0) asks for nothing but may still send 100 Continue.
                                return carrier.input.fetch(carrier.exchange, space);
                            }
                            carrier.input.fill(carrier.exchange, space)
                        })
                        .ok_or_else(|| over(gil, "read"))?
                        .map_err(|fault| failed(gil, &fault))?
                }
            };
            filled += got;
            let full = size == Some(filled);
            if got < wanted || full {
                return buffer.finish(filled);
            }
            let more = (filled * 2).min(size.unwrap_or(usize::MAX));
            buffer.resize(more)?;
        }
    }
}

/// The next line, empty at the end.
fn next_line<'py>(
    gil: Gil<'py>,
    turn: Option<&Arc<Turn>>,
    name: &str,
    limit: Option<usize>,
) -> PyResult<Obj<'py>> {
    let turn = turn.ok_or_else(|| over(gil, name))?;
    let limit = limit.unwrap_or(usize::MAX);
    let ready = turn
        .carrier
        .with_attached(gil, |carrier| carrier.input.line(limit))
        .ok_or_else(|| over(gil, name))?;
    let length = match ready {
        Some(length) => length,
        None => turn
            .carrier
            .with(gil, |carrier| carrier.input.fetch_line(carrier.exchange, limit))
            .ok_or_else(|| over(gil, name))?
            .map_err(|fault| failed(gil, &fault))?,
    };
    let mut line = BytesBuffer::new(gil, length)?;
    let space = line.memory();
    let filled = turn
        .carrier
        .with_attached(gil, |carrier| carrier.input.drain(space))
        .ok_or_else(|| over(gil, name))?;
    line.finish(filled)
}

/// `readline([size])`
struct ReadLine;

impl Method for ReadLine {
    type Data = Turn;
    const NAME: &'static CStr = c"readline";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let limit = size_of_argument(&args, "readline")?;
        next_line(gil, turn, "readline", limit)
    }
}

/// `__next__`: an empty line ends the iteration.
struct Next;

impl Method for Next {
    type Data = Turn;
    const NAME: &'static CStr = c"__next__";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        _args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        next_line(gil, turn, "__next__", None)
    }
}

/// `readlines([hint])`
struct ReadLines;

impl Method for ReadLines {
    type Data = Turn;
    const NAME: &'static CStr = c"readlines";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        let hint = size_of_argument(&args, "readlines")?.filter(|hint| *hint > 0);
        let lines = Obj::list(gil)?;
        let mut total = 0;
        loop {
            let line = next_line(gil, turn, "readlines", None)?;
            let length = line.bytes().map_or(0, <[u8]>::len);
            if length == 0 {
                return Ok(lines);
            }
            lines.list_append(&line)?;
            total += length;
            if hint.is_some_and(|hint| total >= hint) {
                return Ok(lines);
            }
        }
    }
}

/// `close()`: does nothing, as PEP 3333 leaves the stream to the server.
struct Close;

impl Method for Close {
    type Data = Turn;
    const NAME: &'static CStr = c"close";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("close", 0, 0)?;
        turn.and_then(|turn| turn.carrier.with_attached(gil, |_| ()))
            .map(|()| Obj::none(gil))
            .ok_or_else(|| over(gil, "close"))
    }
}

/// `readable()`: asked by `io.BufferedReader` and friends.
struct Readable;

impl Method for Readable {
    type Data = Turn;
    const NAME: &'static CStr = c"readable";

    fn call<'py>(
        gil: Gil<'py>,
        _this: &Obj<'py>,
        _turn: Option<&Arc<Turn>>,
        args: Args<'_, 'py>,
    ) -> PyResult<Obj<'py>> {
        args.expect("readable", 0, 0)?;
        Obj::bool(gil, true)
    }
}
