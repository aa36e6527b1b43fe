//! A graceful restart without the second in which nobody serves.
//!
//! The children of the old configuration stop to accept connections at once. Those of the new one are started when the
//! parent's first wait of its loop is over, which is a second unless a signal ends it (`ap_wait_or_timeout` in
//! mpm_common.c): after that the MPM starts as many as it has room for. So the parent is sent a signal that means
//! nothing else, until it has started one.

use std::ffi::c_int;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::hook::PlainHook;
use super::process;
use crate::sys;

/// Ignored where nobody handles it, so one that comes late does no harm.
const SIGNAL: c_int = libc::SIGURG;

/// The parent may still have to do something before it waits, so it is woken more than once.
const FIRST: Duration = Duration::from_millis(2);
const THEN: Duration = Duration::from_millis(10);
/// After so many it waits as long as it likes: it cannot start a child.
const TIMES: u32 = 100;

/// Null where there is none. Timers are not inherited, and only the parent ever makes one.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
static LEFT: AtomicU32 = AtomicU32::new(0);

/// A configuration has been read, and nothing is left but to go on with it: keeps the MPM from waiting, if children of
/// another configuration are there and there is room for new ones beside them.
pub(crate) struct Hasten;

impl PlainHook for Hasten {
    fn run() {
        if has_children_and_room()
            && handle()
            && let Some(timer) = timer()
        {
            LEFT.store(TIMES, Ordering::Relaxed);
            set(timer, FIRST);
        }
    }
}

/// A child has been started: the MPM may wait again.
pub(crate) struct Started;

impl PlainHook for Started {
    fn run() {
        rest();
    }
}

fn rest() {
    let timer = TIMER.load(Ordering::Relaxed);
    if !timer.is_null() {
        set(timer, Duration::ZERO);
    }
}

/// Where all places are taken the MPM waits for children to end, and starts others in their places one by one; to be
/// woken would do no good.
fn has_children_and_room() -> bool {
    // SAFETY: no precondition.
    if unsafe { sys::ap_exists_scoreboard_image() } == 0 {
        return false;
    }
    let taken = (0..process::maximum_processes()).filter_map(|place| {
        // SAFETY: null for what is out of range, else a place in the image, which is there.
        let place = unsafe { sys::ap_get_scoreboard_process(place).as_ref() };
        place.map(|process| process.pid != 0)
    });
    let (mut children, mut room) = (false, false);
    for taken in taken {
        children |= taken;
        room |= !taken;
    }
    children && room
}

/// Sees to it that the signal interrupts a wait, and nothing else. `false`: somebody has another use for it.
fn handle() -> bool {
    // SAFETY: a structure of integers and addresses, for which zero is a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only reads what is set.
    unsafe { libc::sigaction(SIGNAL, ptr::null(), &raw mut action) };
    let ours = wake as extern "C" fn(c_int) as usize;
    if action.sa_sigaction == ours {
        return true;
    }
    if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN {
        return false;
    }
    action.sa_sigaction = ours;
    // All other calls go on by themselves.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a handler that does what handlers may, and stays mapped (-z nodelete).
    unsafe { libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) == 0 }
}

fn timer() -> Option<*mut libc::c_void> {
    let known = TIMER.load(Ordering::Relaxed);
    if !known.is_null() {
        return Some(known);
    }
    // SAFETY: as above.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = SIGNAL;
    // SAFETY: no precondition.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = ptr::null_mut();
    // SAFETY: a place for the answer; the thread is the parent's only one.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    (made == 0).then(|| {
        TIMER.store(timer, Ordering::Relaxed);
        timer
    })
}

/// Has a timer go off after that time; never for none.
fn set(timer: *mut libc::c_void, first: Duration) {
    let time = |time: Duration| libc::timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let times = libc::itimerspec { it_interval: time(THEN), it_value: time(first) };
    // SAFETY: a timer that was made and is never deleted; may be called in a handler.
    unsafe { libc::timer_settime(timer, 0, &raw const times, ptr::null_mut()) };
}

extern "C" fn wake(_signal: c_int) {
    if LEFT.fetch_sub(1, Ordering::Relaxed) <= 1 {
        rest();
    }
}
