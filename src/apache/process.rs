//! The process: what httpd's MPM says of it, as whom it runs, its signals.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use super::text;
use crate::sys;
use crate::sys::constants::APR_SUCCESS;

/// The user and groups that httpd's children run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's number.
    pub(crate) uid: u32,
    /// Primary and supplementary groups.
    pub(crate) gids: Vec<u32>,
}

/// Whether httpd was started to test its configuration (`-t`).
pub(crate) fn is_config_test() -> bool {
    // SAFETY: set before modules run and never again.
    unsafe { sys::ap_run_mode == sys::AP_SQ_RM_CONFIG_TEST }
}

/// Whether httpd was started with `-D name`.
pub(crate) fn is_defined(name: &CStr) -> bool {
    // SAFETY: a C string; the list of names is httpd's own and changes only while it reads a configuration.
    unsafe { sys::ap_exists_config_define(name.as_ptr()) != 0 }
}

/// The whole description, whatever `ServerTokens` says.
pub(crate) fn description() -> String {
    // SAFETY: httpd keeps the text as long as the configuration.
    owned(unsafe { text(sys::ap_get_server_description()) })
}

/// When httpd was built.
pub(crate) fn built() -> String {
    // SAFETY: static text in httpd.
    owned(unsafe { text(sys::ap_get_server_built()) })
}

/// The MPM's name.
pub(crate) fn mpm_name() -> String {
    // SAFETY: static text in the MPM.
    owned(unsafe { text(sys::ap_show_mpm()) })
}

/// The version of the httpd that runs.
pub(crate) fn httpd_version() -> (i32, i32, i32) {
    let mut version = sys::ap_version_t { major: 0, minor: 0, patch: 0, add_string: ptr::null() };
    // SAFETY: httpd fills the structure.
    unsafe { sys::ap_get_server_revision(&raw mut version) };
    (version.major, version.minor, version.patch)
}

/// The most children there can be.
pub(crate) fn maximum_processes() -> i32 {
    query(sys::AP_MPMQ_MAX_DAEMONS)
}

/// The most threads that a child can have.
pub(crate) fn threads_per_process() -> i32 {
    query(sys::AP_MPMQ_MAX_THREADS)
}

/// Whether a child serves requests in more than one thread.
pub(crate) fn is_threaded() -> bool {
    static THREADED: OnceLock<bool> = OnceLock::new();
    // Kept: the MPM cannot change while httpd runs, and the question costs a hook call.
    *THREADED.get_or_init(|| query(sys::AP_MPMQ_IS_THREADED) != 0)
}

/// Whether there are several children.
pub(crate) fn is_forked() -> bool {
    query(sys::AP_MPMQ_IS_FORKED) != 0
}

fn query(code: c_int) -> i32 {
    let mut answer: c_int = 0;
    // SAFETY: the MPM writes the answer.
    let status = unsafe { sys::ap_mpm_query(code, &raw mut answer) };
    if status == APR_SUCCESS { answer } else { 0 }
}

/// Adds words to the `Server` header of this configuration.
pub(crate) fn add_version_component(pool: &super::Pool<'_>, component: &str) {
    // SAFETY: the pool of the configuration; httpd copies the text into it.
    unsafe { sys::ap_add_version_component(pool.raw(), pool.message(component)) };
}

/// As whom the children run: `User` and `Group`, or as httpd itself if it cannot change that.
pub(crate) fn identity() -> Identity {
    let mut name = ptr::null();
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the shim writes all three.
    unsafe { sys::mwrs_identity(&raw mut name, &raw mut uid, &raw mut gid) };
    // SAFETY: no preconditions.
    let own = unsafe { libc::geteuid() };
    if own != 0 {
        return Identity { uid: own, gids: own_groups() };
    }
    // SAFETY: configuration text or null.
    let gids = unsafe { text(name) }.map_or_else(|| vec![gid], |name| groups_of(name, gid));
    Identity { uid, gids }
}

fn own_groups() -> Vec<u32> {
    // SAFETY: no preconditions.
    let primary = unsafe { libc::getegid() };
    let mut groups = vec![0; 256];
    // SAFETY: room for as many groups as said.
    let count = unsafe { libc::getgroups(256, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups.push(primary);
    groups
}

fn groups_of(user: &CStr, primary: u32) -> Vec<u32> {
    let mut groups = vec![0; 256];
    let mut count: c_int = 256;
    // SAFETY: the name is a C string; room for `count` groups.
    let code =
        unsafe { libc::getgrouplist(user.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count) };
    if code < 0 {
        return vec![primary];
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups
}

/// The signals by which a parent ends its children at once.
const ENDING: [c_int; 2] = [libc::SIGTERM, libc::SIGHUP];

/// What httpd had set for each of [`ENDING`]; 0 where our handler is not installed.
static BEFORE: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// The process that installed the handler, how deep its thread is inside the engine, and what came meanwhile.
static INSTALLED_IN: AtomicU32 = AtomicU32::new(0);
static INSIDE: AtomicU32 = AtomicU32::new(0);
static PENDING: AtomicI32 = AtomicI32::new(0);

/// Puts a handler of ours before httpd's in a child of an MPM without threads, see [`SignalsHeld`].
pub(crate) fn defer_ending_signals() {
    if is_threaded() {
        return;
    }
    INSTALLED_IN.store(std::process::id(), Ordering::Relaxed);
    for (signal, before) in ENDING.into_iter().zip(&BEFORE) {
        // SAFETY: a structure of integers and addresses, filled by sigaction before it is read.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only reads what is set.
        unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
        if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
            continue;
        }
        before.store(action.sa_sigaction, Ordering::Relaxed);
        action.sa_sigaction = ending as extern "C" fn(c_int) as usize;
        // SAFETY: a handler that only touches atomics, and stays mapped (-z nodelete).
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

extern "C" fn ending(signal: c_int) {
    // SAFETY: async-signal-safe, no preconditions.
    let here = unsafe { libc::getpid() };
    if here.cast_unsigned() != INSTALLED_IN.load(Ordering::Relaxed) {
        // A process that the application forked: the signal means what it means anywhere.
        // SAFETY: async-signal-safe; the default action is taken when the handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    if INSIDE.load(Ordering::Relaxed) > 0 {
        PENDING.store(signal, Ordering::Relaxed);
        return;
    }
    let before = ENDING.iter().position(|known| *known == signal).and_then(|at| BEFORE.get(at));
    let before = before.map_or(0, |before| before.load(Ordering::Relaxed));
    if before != 0 {
        // SAFETY: httpd's own handler, as sigaction gave it.
        let before = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(before) };
        before(signal);
    }
}

/// While it lives, the signals that end the child wait.
///
/// An MPM without threads runs the cleanups of the child, ours among them, inside the handler of the
/// signal, between any two instructions; inside the engine that would be in the middle of Python. A
/// threaded MPM handles signals in a thread of its own, and nothing is done there. The mask of the process
/// is left alone: programs that the application runs would inherit it.
pub(crate) struct SignalsHeld(bool);

impl SignalsHeld {
    /// Holds the signals back from here on, if the MPM needs it.
    pub(crate) fn hold() -> Self {
        let held = !is_threaded();
        if held {
            INSIDE.fetch_add(1, Ordering::Relaxed);
        }
        Self(held)
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        if self.0 && INSIDE.fetch_sub(1, Ordering::Relaxed) == 1 {
            let signal = PENDING.swap(0, Ordering::Relaxed);
            if signal != 0 {
                // SAFETY: a valid signal, whose handler now goes on to httpd's.
                unsafe { libc::raise(signal) };
            }
        }
    }
}

fn owned(text: Option<&CStr>) -> String {
    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
