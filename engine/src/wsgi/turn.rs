//! One request's turn: what the Python objects of a request share.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::exchange::{Exchange, Level, SendFault, Then};
use super::input::Input;
use super::interpreter::Interpreter;
use super::meter::{Flow, Measured, Meter};
use super::response::{Account, Head};
use super::watch::Story;
use crate::python::lend::{Lent, Loan};

/// What `start_response`, `wsgi.input` and `wsgi.errors` of a request refer to. Outlives the request where the
/// application keeps them; what they act on does not.
pub(super) struct Turn {
    pub(super) interpreter: &'static Interpreter,
    pub(super) carrier: Lent<CarrierLoan>,
    pub(super) story: Story,
}

/// A [`Carrier`] for the time of its request.
pub(super) struct CarrierLoan;

impl Loan for CarrierLoan {
    type Of<'a> = Carrier<'a>;
}

/// The exchange of a request with the engine's account of it.
pub(super) struct Carrier<'a> {
    pub(super) exchange: &'a mut (dyn Exchange + 'a),
    pub(super) input: Input,
    /// Set by `start_response`, taken when the head is sent.
    pub(super) head: Option<Head>,
    /// Whether `start_response` has been called.
    pub(super) started: bool,
    pub(super) phase: Phase,
    pub(super) account: Account,
    /// Whether the response was cut as it ended before its Content-Length.
    short: bool,
    /// An unfinished line written to `wsgi.errors` or `sys.stderr`.
    pub(super) line: Vec<u8>,
    /// The status of the last `start_response`; 0 before.
    pub(super) status: u16,
    /// There where somebody wants to know what the request takes.
    pub(super) meter: Option<Box<Meter>>,
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been handed over.
    Before,
    /// The head, and maybe some of the body, has gone.
    Body,
    /// All has been handed over.
    Ended,
    /// No more will be taken: the client is gone, or the carrier answers by itself with this status.
    Closed(Option<u16>),
}

impl<'a> Carrier<'a> {
    pub(super) fn new(exchange: &'a mut (dyn Exchange + 'a)) -> Self {
        Self {
            exchange,
            input: Input::default(),
            head: None,
            started: false,
            phase: Phase::Before,
            account: Account::default(),
            short: false,
            line: Vec::new(),
            status: 0,
            meter: None,
        }
    }

    /// Measures from now on; gives when that began.
    pub(super) fn measure(&mut self) -> Instant {
        self.input.flow = Some(Flow::default());
        self.meter.insert(Box::new(Meter::new())).began()
    }

    /// What was measured, where it was. `failed` is the status that a failed request is answered with if it can be.
    pub(super) fn measured(&mut self, failed: Option<u16>) -> Option<Measured> {
        let status = match (self.phase, failed) {
            (Phase::Before, Some(status)) | (Phase::Closed(Some(status)), _) => status,
            _ if self.status == 0 => 500,
            _ => self.status,
        };
        let input = self.input.flow.unwrap_or_default();
        self.meter.as_mut().map(|meter| meter.read(input, status))
    }

    /// Sends blocks, clipped to what the head promises. Detached. A response that ends short of its promise is cut.
    pub(super) fn send(&mut self, blocks: &[&[u8]], then: Then) {
        let head = match self.phase {
            Phase::Before => self.head.take(),
            Phase::Body => None,
            Phase::Ended => {
                // Only counted: all that was promised has gone.
                for block in blocks {
                    self.account.book(block.len());
                }
                return;
            }
            Phase::Closed(_) => return,
        };
        if let Some(head) = &head {
            self.account = Account::new(head.promised());
        }
        let mut account = self.account;
        let whole = blocks.iter().all(|block| account.book(block.len()) == block.len());
        let clipped: Vec<&[u8]>;
        let blocks = if whole {
            blocks
        } else {
            clipped = blocks.iter().map(|block| &block[..self.account.book(block.len())]).collect();
            account = self.account;
            &clipped
        };
        self.account = account;
        let short = then != Then::Flush && account.short() && !self.exchange.head_only();
        let then = if short { Then::Flush } else { then };
        let began = self.meter.as_ref().map(|_| Instant::now());
        let result = self.exchange.send(head.as_ref(), blocks, then);
        if let (Some(meter), Some(began)) = (&mut self.meter, began) {
            let bytes = blocks.iter().map(|block| block.len()).sum();
            meter.output.add(bytes, u64::from(bytes != 0), began);
        }
        self.sent(result, then != Then::Flush);
        if short {
            self.short = self.phase == Phase::Body;
            self.cut();
        }
    }

    /// Sends a file as the whole body. Detached. The head promises no more than `length`.
    pub(super) fn send_file(&mut self, file: OwnedFd, offset: u64, length: u64) {
        let Some(head) = self.head.take() else { return };
        let length = head.promised().unwrap_or(length).min(length);
        self.account = Account::new(None);
        let began = self.meter.as_ref().map(|_| Instant::now());
        let result = self.exchange.send_file(Some(&head), file, offset, length);
        if let (Some(meter), Some(began)) = (&mut self.meter, began) {
            // Sent by the server, not written by the application.
            meter.output.add(usize::try_from(length).unwrap_or(usize::MAX), 0, began);
        }
        self.sent(result, true);
    }

    /// Sends one block of several. Detached. Whether the next one is wanted.
    pub(super) fn send_block(&mut self, block: &[u8]) -> bool {
        let promised = match (&self.head, self.phase) {
            (Some(head), Phase::Before) => Account::new(head.promised()),
            _ => self.account,
        };
        let mut ahead = promised;
        ahead.book(block.len());
        // With the last promised byte the response is complete for the client, whatever the application still does.
        let then = if ahead.complete() { Then::EndNow } else { Then::Flush };
        let before = self.phase;
        self.send(&[block], then);
        match self.phase {
            Phase::Body => !self.exchange.head_only(),
            // Asked once more, so that a generator runs to its end; a block too many ends it.
            Phase::Ended => before != Phase::Ended,
            Phase::Before | Phase::Closed(_) => false,
        }
    }

    /// Ends a response that was sent block by block, before the application's `close()` runs. Detached.
    pub(super) fn end(&mut self) {
        if matches!(self.phase, Phase::Before | Phase::Body) {
            self.send(&[], Then::EndNow);
        }
    }

    /// Says in the log where the application's body and its Content-Length disagree. Detached.
    pub(super) fn settle(&mut self) {
        let Some((promised, given)) = self.account.mismatch() else { return };
        if given > promised {
            let text = format!(
                "the application sent more than its Content-Length of {promised} bytes; the rest is \
                 dropped"
            );
            self.exchange.log(Level::Warning, &text);
        } else if self.short {
            let text = format!(
                "the application sent {given} bytes but announced a Content-Length of {promised}; \
                 the connection is closed, so that the client sees it"
            );
            self.exchange.log(Level::Error, &text);
        }
    }

    fn sent(&mut self, result: Result<(), SendFault>, ended: bool) {
        self.phase = match result {
            Ok(()) if ended => Phase::Ended,
            Ok(()) => Phase::Body,
            Err(SendFault::Gone) => Phase::Closed(None),
            Err(SendFault::Overridden(status)) => Phase::Closed(Some(status)),
        };
    }

    /// Cuts a response whose head has gone. Detached.
    pub(super) fn cut(&mut self) {
        if matches!(self.phase, Phase::Body | Phase::Ended) {
            self.exchange.abort();
            self.phase = Phase::Closed(None);
        }
    }

    /// Writes text to the request's log, whole lines at once; what follows the last newline waits.
    pub(super) fn write_log(&mut self, text: &[u8]) {
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(text);
            return;
        };
        self.line.extend_from_slice(&text[..end]);
        self.flush_log();
        self.line.extend_from_slice(&text[end + 1..]);
    }

    /// Writes out an unfinished line.
    pub(super) fn flush_log(&mut self) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.exchange.log(Level::Error, &String::from_utf8_lossy(&line));
        }
    }
}

thread_local! {
    /// The turn this thread is serving: where `print` and `sys.stderr` go.
    static CURRENT: RefCell<Option<Arc<Turn>>> = const { RefCell::new(None) };
}

/// The turn this thread is serving.
pub(super) fn current() -> Option<Arc<Turn>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `turn` the current one of this thread for the time of `work`. Turns nest: a sub-request may run inside a
/// send of the outer one.
pub(super) fn serving<R>(turn: &Arc<Turn>, work: impl FnOnce() -> R) -> R {
    struct Back(Option<Arc<Turn>>);
    impl Drop for Back {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _back = Back(CURRENT.replace(Some(Arc::clone(turn))));
    work()
}
