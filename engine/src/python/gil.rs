//! Attachment: which thread may call Python, and for which interpreter.
//!
//! Threads are attached by explicit thread states, one per thread and interpreter, kept for the life of the
//! thread. The simplified `PyGILState` calls are not used: they cannot tell interpreters apart.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::table::{PyInterpreterState, PyThreadState, api};

/// Proof that this thread is attached to an interpreter. Zero-sized; cannot leave its thread.
#[derive(Clone, Copy)]
pub struct Gil<'py>(PhantomData<(&'py (), *mut ())>);

thread_local! {
    /// This thread's states, one per interpreter it has entered. A handful: searched in order.
    static STATES: RefCell<Vec<(*mut PyInterpreterState, *mut PyThreadState)>> =
        const { RefCell::new(Vec::new()) };
    /// Whether `attach` of this module holds an interpreter for this thread right now.
    static ATTACHED: Cell<bool> = const { Cell::new(false) };
    /// How long this thread has waited to attach since [`Waits::measure`], where somebody wants to know.
    static WAITS: Cell<Option<Waits>> = const { Cell::new(None) };
}

/// How long a thread has waited to attach, and how often it has attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// All waits together.
    pub time: Duration,
    /// How many there were, those of no length included.
    pub count: u64,
}

impl Waits {
    /// Begins to measure the waits of this thread, from nothing. Ends when the result is dropped.
    #[must_use]
    pub fn measure() -> Measuring {
        Measuring(WAITS.replace(Some(Self::default())), PhantomData)
    }

    /// What has been measured so far on this thread; nothing where it is not measured.
    #[must_use]
    pub fn so_far() -> Self {
        WAITS.get().unwrap_or_default()
    }
}

/// Waits of this thread are measured as long as it exists. Measurements nest: the outer one goes on without what
/// the inner one has seen.
pub struct Measuring(Option<Waits>, PhantomData<*mut ()>);

impl Drop for Measuring {
    fn drop(&mut self) {
        WAITS.set(self.0);
    }
}

/// Makes a state current on this thread, and takes the time where that is wanted.
///
/// # Safety
/// The state belongs to this thread, which is not attached.
unsafe fn restore(state: *mut PyThreadState) {
    let Some(mut waits) = WAITS.get() else {
        // SAFETY: the caller's promise.
        return unsafe { (api().PyEval_RestoreThread)(state) };
    };
    let began = Instant::now();
    // SAFETY: the caller's promise.
    unsafe { (api().PyEval_RestoreThread)(state) };
    waits.time += began.elapsed();
    waits.count += 1;
    WAITS.set(Some(waits));
}

/// Where a thread can attach. Interpreters live as long as the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    state: *mut PyInterpreterState,
    main: *mut PyInterpreterState,
}

// SAFETY: P4: an interpreter state is never freed by us, and is only passed to calls that take any thread.
unsafe impl Send for Home {}
// SAFETY: P4, as above.
unsafe impl Sync for Home {}

impl Home {
    /// The interpreter of the thread state that is current now, which becomes this thread's own for it.
    ///
    /// # Safety
    /// The caller is attached through `state`, the state of this thread for its interpreter, and the table is
    /// loaded.
    pub(super) unsafe fn adopt(state: *mut PyThreadState) -> Self {
        // SAFETY: the caller's promise.
        let interpreter = unsafe { (api().PyThreadState_GetInterpreter)(state) };
        // SAFETY: no precondition but a started Python, which an attached caller proves.
        let main = unsafe { (api().PyInterpreterState_Main)() };
        STATES.with_borrow_mut(|states| states.push((interpreter, state)));
        Self { state: interpreter, main }
    }

    /// This thread's state for the interpreter, made when it enters for the first time.
    fn thread_state(self) -> *mut PyThreadState {
        let known = STATES.with_borrow(|states| {
            states.iter().find(|(home, _)| *home == self.state).map(|(_, state)| *state)
        });
        if let Some(state) = known {
            return state;
        }
        if self.state != self.main {
            // Until 3.11 the first state a thread makes is what PyGILState calls of extension modules find; that
            // has to be the main interpreter's.
            Home { state: self.main, main: self.main }.thread_state();
        }
        // SAFETY: P4: the interpreter exists; PyThreadState_New may be called detached.
        let state = unsafe { (api().PyThreadState_New)(self.state) };
        STATES.with_borrow_mut(|states| states.push((self.state, state)));
        state
    }

    /// Attaches this thread for the time of `work`. Waits for the GIL where there is one.
    pub fn attach<R>(self, work: impl for<'py> FnOnce(Gil<'py>) -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                ATTACHED.set(false);
                // SAFETY: S4: attach made this thread current below, and every detach inside has ended.
                unsafe { (api().PyEval_SaveThread)() };
            }
        }
        let state = self.thread_state();
        // SAFETY: S4: the state belongs to this thread, which is not attached: serving code calls attach only
        // detached.
        unsafe { restore(state) };
        ATTACHED.set(true);
        let _leave = Leave;
        work(Gil(PhantomData))
    }

    /// Attaches this thread and never lets go: no Python thread of this interpreter runs again.
    pub fn freeze(self) {
        let state = self.thread_state();
        // SAFETY: S4, as in `attach`.
        unsafe { (api().PyEval_RestoreThread)(state) };
    }
}

impl<'py> Gil<'py> {
    /// Takes attachment as given.
    ///
    /// # Safety
    /// Python called us on this thread, or this thread is attached by other means, for as long as `'py`.
    #[inline]
    pub(super) unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// Lets go of the interpreter while `work` runs: around every wait. What is not `Send`, objects above all,
    /// cannot be taken along.
    pub fn detach<R>(self, work: impl FnOnce() -> R + Send) -> R {
        struct Return {
            state: *mut PyThreadState,
            attached: bool,
        }
        impl Drop for Return {
            fn drop(&mut self) {
                // SAFETY: S4: the state was current on this thread until SaveThread below.
                unsafe { restore(self.state) };
                ATTACHED.set(self.attached);
            }
        }
        // SAFETY: S4: self is the proof.
        let state = unsafe { (api().PyEval_SaveThread)() };
        let _return = Return { state, attached: ATTACHED.replace(false) };
        work()
    }
}

/// Whether this thread is attached by [`Home::attach`].
pub(super) fn attached() -> bool {
    ATTACHED.get()
}
