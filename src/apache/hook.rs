//! Hooks and configuration callbacks: typed outside, one generic trampoline each inside.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use engine::settings::Entry;

use super::command::CommandTable;
use super::slot::Tagged;
use super::{Command, Pool, Request, Server, guard};
use crate::sys;
use crate::sys::constants::AP_FILTER_ERROR;

/// What a hook of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done.
    Ok,
    /// Not ours.
    Declined,
    /// Answer with this HTTP status.
    Status(u16),
    /// A filter has already answered.
    Answered,
}

impl Verdict {
    fn code(self) -> c_int {
        match self {
            Self::Ok => sys::OK,
            Self::Declined => sys::DECLINED,
            Self::Status(status) => c_int::from(status),
            Self::Answered => AP_FILTER_ERROR,
        }
    }
}

/// A hook that runs for requests.
pub(crate) trait RequestHook {
    /// Runs once per request, in any thread (S2).
    fn run(request: &mut Request<'_>) -> Verdict;
}

/// A hook that runs when the configuration has been read; twice at the start of httpd.
pub(crate) trait ConfigHook {
    /// Runs in the parent. `Err` ends the start; the reason has been logged.
    fn run(pool: &Pool<'_>, main: &Server<'_>) -> Result<(), Refused>;
}

/// The start of httpd, or the test of its configuration, ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A hook of the whole server.
pub(crate) trait ServerHook {
    /// When a child has started: once per child, before its threads; the pool is cleared when the child
    /// ends. As a monitor: in the parent, every few seconds, with the configuration's pool. As a test: when a
    /// configuration has been read that is only tested.
    fn run(pool: &Pool<'_>, main: &Server<'_>);
}

/// A hook without arguments.
pub(crate) trait PlainHook {
    /// Runs in the parent.
    fn run();
}

/// What a module is made of: its configuration, its directives, its hooks.
pub(crate) trait Wiring: 'static {
    /// What is kept per server.
    type Server: Send + Sync + 'static;
    /// What is kept per directory.
    type Directory: Send + Sync + 'static;
    /// What is kept per request.
    type Request: Send + Sync + 'static;

    /// A server's configuration before its directives are read.
    fn server(pool: &Pool<'_>, server: &Server<'_>) -> Self::Server;
    /// A virtual host's configuration over the main server's.
    fn merge_server(base: &Self::Server, over: &Self::Server) -> Self::Server;
    /// A directory's configuration before its directives are read.
    fn directory() -> Self::Directory;
    /// An inner directory's configuration over an outer one's.
    fn merge_directory(base: &Self::Directory, over: &Self::Directory) -> Self::Directory;
    /// Applies one directive; the error is for the administrator.
    fn directive(entry: &'static Entry, command: &mut Command<'_>) -> Result<(), String>;
    /// Registers the hooks.
    fn register(hooks: &Hooks<'_>);
}

/// What httpd finds under the module's symbol.
#[repr(transparent)]
pub(crate) struct ModuleRecord(UnsafeCell<sys::module>);

// SAFETY: written only by httpd, while it loads the module and is alone; read-only afterwards.
unsafe impl Sync for ModuleRecord {}

impl ModuleRecord {
    /// The record of `W`. `name` is the file name that `<IfModule>` and other modules know it by.
    pub(crate) const fn new<W: Wiring>(
        name: &'static CStr,
        commands: &'static CommandTable,
    ) -> Self {
        Self(UnsafeCell::new(sys::module {
            version: sys::MODULE_MAGIC_NUMBER_MAJOR,
            minor_version: sys::MODULE_MAGIC_NUMBER_MINOR,
            module_index: -1,
            name: name.as_ptr(),
            dynamic_load_handle: ptr::null_mut(),
            next: ptr::null_mut(),
            magic: sys::MODULE_MAGIC_COOKIE as _,
            rewrite_args: None,
            create_dir_config: Some(create_directory::<W>),
            merge_dir_config: Some(merge_directory::<W>),
            create_server_config: Some(create_server::<W>),
            merge_server_config: Some(merge_server::<W>),
            cmds: commands.as_ptr(),
            register_hooks: Some(register::<W>),
            flags: 0,
        }))
    }
}

/// Defines the symbol that `LoadModule wsgi_module` looks for.
macro_rules! module_record {
    ($wiring:ty, $name:expr) => {
        /// The directives of the module, as httpd reads them.
        static COMMANDS: $crate::apache::command::CommandTable =
            $crate::apache::command::CommandTable::new::<$wiring>();

        /// The module, as httpd finds it.
        #[expect(unsafe_code, reason = "the name is the one httpd looks for, and nobody else's")]
        #[unsafe(no_mangle)]
        static wsgi_module: $crate::apache::hook::ModuleRecord =
            $crate::apache::hook::ModuleRecord::new::<$wiring>($name, &COMMANDS);
    };
}
pub(crate) use module_record;

mod symbol {
    unsafe extern "C" {
        /// What `module_record!` defines, as the rooms below it see it.
        pub(super) static wsgi_module: super::sys::module;
    }
}

/// The module's record, the key to its slots in configuration vectors.
pub(super) fn module() -> *const sys::module {
    &raw const symbol::wsgi_module
}

/// The module's number, which log levels go by.
pub(super) fn module_index() -> c_int {
    // SAFETY: httpd writes the number while it loads the module, before any callback of ours.
    unsafe { (*module()).module_index }
}

/// Where hooks are registered.
pub(crate) struct Hooks<'p> {
    pool: Pool<'p>,
}

/// Modules, by their file names, that have to run before and after.
#[derive(Clone, Copy, Default)]
pub(crate) struct Neighbours {
    /// These run first.
    pub(crate) after: &'static [&'static CStr],
    /// These run later.
    pub(crate) before: &'static [&'static CStr],
}

const MIDDLE: c_int = sys::APR_HOOK_MIDDLE;

impl Hooks<'_> {
    /// From URL to file.
    pub(crate) fn translate_name<H: RequestHook>(&self, neighbours: Neighbours) {
        let (after, before) = (self.list(neighbours.after), self.list(neighbours.before));
        // SAFETY: a function of the right type; lists ended by null that live as long as the hooks.
        unsafe { sys::ap_hook_translate_name(Some(on_request::<H>), after, before, MIDDLE) };
    }

    /// May this client come in, whoever it is?
    ///
    /// Asked anew where a request is redirected internally to another directory: what is asked may look at
    /// the URL.
    pub(crate) fn check_access<H: RequestHook>(&self, neighbours: Neighbours) {
        let (after, before) = (self.list(neighbours.after), self.list(neighbours.before));
        let each = sys::AP_AUTH_INTERNAL_PER_URI;
        // SAFETY: a function of the right type; lists ended by null that live as long as the hooks.
        unsafe { sys::ap_hook_check_access(Some(on_request::<H>), after, before, MIDDLE, each) };
    }

    /// The pool that lives as long as the hooks.
    pub(super) fn pool(&self) -> &Pool<'_> {
        &self.pool
    }

    /// The answer to a request.
    pub(crate) fn handler<H: RequestHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe { sys::ap_hook_handler(Some(on_request::<H>), ptr::null(), ptr::null(), MIDDLE) };
    }

    /// The configuration has been read: is it sound?
    pub(crate) fn check_config<H: ConfigHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe {
            sys::ap_hook_check_config(Some(on_config::<H>), ptr::null(), ptr::null(), MIDDLE)
        };
    }

    /// The configuration has been read: get ready.
    pub(crate) fn post_config<H: ConfigHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe { sys::ap_hook_post_config(Some(on_config::<H>), ptr::null(), ptr::null(), MIDDLE) };
    }

    /// The configuration has been read, and all other modules are ready.
    pub(crate) fn configured<H: PlainHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe {
            sys::ap_hook_post_config(
                Some(on_configured::<H>),
                ptr::null(),
                ptr::null(),
                sys::APR_HOOK_REALLY_LAST,
            );
        }
    }

    /// The parent has started a child.
    pub(crate) fn child_started<H: PlainHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe {
            sys::ap_hook_child_status(Some(on_status::<H>), ptr::null(), ptr::null(), MIDDLE);
        }
    }

    /// A child has started.
    pub(crate) fn child_init<H: ServerHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe { sys::ap_hook_child_init(Some(on_child::<H>), ptr::null(), ptr::null(), MIDDLE) };
    }

    /// The parent looks after its children.
    pub(crate) fn monitor<H: ServerHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe { sys::ap_hook_monitor(Some(on_monitor::<H>), ptr::null(), ptr::null(), MIDDLE) };
    }

    /// A configuration is tested and has been found right (`-t`).
    pub(crate) fn test_config<H: ServerHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe { sys::ap_hook_test_config(Some(on_child::<H>), ptr::null(), ptr::null(), MIDDLE) };
    }

    /// All modules have registered their optional functions.
    pub(crate) fn optional_functions<H: PlainHook>(&self) {
        // SAFETY: a function of the right type.
        unsafe {
            sys::ap_hook_optional_fn_retrieve(
                Some(on_plain::<H>),
                ptr::null(),
                ptr::null(),
                MIDDLE,
            );
        }
    }

    /// The names as C wants them: an array ended by null, kept in the pool.
    fn list(&self, names: &'static [&'static CStr]) -> *const *const c_char {
        let mut list: Vec<Address> = names.iter().map(|name| Address(name.as_ptr())).collect();
        list.push(Address(ptr::null()));
        let placed: NonNull<Vec<Address>> = self.pool.place(list);
        // SAFETY: just placed, and never changed.
        unsafe { placed.as_ref() }.as_ptr().cast()
    }
}

/// The address of a static text.
#[repr(transparent)]
struct Address(#[allow(dead_code, reason = "read by httpd")] *const c_char);

unsafe extern "C" fn register<W: Wiring>(pool: *mut sys::apr_pool_t) {
    guard::install();
    guard::fence((), || {
        if let Some(pool) = NonNull::new(pool) {
            // SAFETY: the configuration's pool, which outlives the hooks registered with it.
            let pool = unsafe { Pool::new(pool) };
            W::register(&Hooks { pool });
        }
    });
}

unsafe extern "C" fn on_request<H: RequestHook>(r: *mut sys::request_rec) -> c_int {
    guard::fence(Verdict::Status(500), || {
        // SAFETY: the request httpd is running; it outlives this call (S1).
        match unsafe { Request::new(r) } {
            Some(mut request) => H::run(&mut request),
            None => Verdict::Declined,
        }
    })
    .code()
}

unsafe extern "C" fn on_config<H: ConfigHook>(
    pool: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temporary: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    let result = guard::fence(Err(Refused), || {
        // SAFETY: the main server of the configuration just read.
        match (NonNull::new(pool), unsafe { Server::new(main) }) {
            (Some(pool), Some(main)) => {
                // SAFETY: the configuration's pool; httpd is single-threaded here.
                H::run(&unsafe { Pool::new(pool) }, &main)
            }
            _ => Ok(()),
        }
    });
    match result {
        Ok(()) => Verdict::Ok.code(),
        Err(Refused) => Verdict::Status(500).code(),
    }
}

unsafe extern "C" fn on_configured<H: PlainHook>(
    _pool: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temporary: *mut sys::apr_pool_t,
    _main: *mut sys::server_rec,
) -> c_int {
    guard::fence((), H::run);
    Verdict::Ok.code()
}

unsafe extern "C" fn on_status<H: PlainHook>(
    _main: *mut sys::server_rec,
    _pid: libc::pid_t,
    _generation: c_int,
    _slot: c_int,
    status: sys::mpm_child_status,
) {
    if status == sys::MPM_CHILD_STARTED {
        guard::fence((), H::run);
    }
}

unsafe extern "C" fn on_child<H: ServerHook>(
    pool: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) {
    // SAFETY: the main server of the configuration that this child serves (S3); the child's pool, and the
    // child has one thread yet.
    unsafe { on_server::<H>(pool, main) };
}

unsafe extern "C" fn on_monitor<H: ServerHook>(
    pool: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    // SAFETY: the main server and the pool of the parent's configuration; the parent has one thread.
    unsafe { on_server::<H>(pool, main) };
    Verdict::Declined.code()
}

/// # Safety
///
/// The pool and the server are alive, and this thread's.
unsafe fn on_server<H: ServerHook>(pool: *mut sys::apr_pool_t, main: *mut sys::server_rec) {
    guard::fence((), || {
        // SAFETY: by the caller's promise.
        if let (Some(pool), Some(main)) = (NonNull::new(pool), unsafe { Server::new(main) }) {
            // SAFETY: as above.
            H::run(&unsafe { Pool::new(pool) }, &main);
        }
    });
}

unsafe extern "C" fn on_plain<H: PlainHook>() {
    guard::fence((), H::run);
}

unsafe extern "C" fn create_server<W: Wiring>(
    pool: *mut sys::apr_pool_t,
    server: *mut sys::server_rec,
) -> *mut c_void {
    guard::fence(ptr::null_mut(), || {
        // SAFETY: the server that httpd is setting up.
        let (Some(pool), Some(server)) = (NonNull::new(pool), unsafe { Server::new(server) })
        else {
            return ptr::null_mut();
        };
        // SAFETY: the configuration's pool; httpd is single-threaded here.
        let pool = unsafe { Pool::new(pool) };
        let value = W::server(&pool, &server);
        pool.place(Tagged::new(value)).as_ptr().cast()
    })
}

unsafe extern "C" fn merge_server<W: Wiring>(
    pool: *mut sys::apr_pool_t,
    base: *mut c_void,
    over: *mut c_void,
) -> *mut c_void {
    // SAFETY: httpd passes the configuration's pool and two slots of this module.
    unsafe { merge(pool, base, over, W::merge_server) }
}

unsafe extern "C" fn create_directory<W: Wiring>(
    pool: *mut sys::apr_pool_t,
    _directory: *mut c_char,
) -> *mut c_void {
    guard::fence(ptr::null_mut(), || {
        let Some(pool) = NonNull::new(pool) else { return ptr::null_mut() };
        // SAFETY: the pool of a configuration or, for .htaccess, of a request, this thread's.
        let pool = unsafe { Pool::new(pool) };
        pool.place(Tagged::new(W::directory())).as_ptr().cast()
    })
}

unsafe extern "C" fn merge_directory<W: Wiring>(
    pool: *mut sys::apr_pool_t,
    base: *mut c_void,
    over: *mut c_void,
) -> *mut c_void {
    // SAFETY: httpd passes a pool that is this thread's and two slots of this module.
    unsafe { merge(pool, base, over, W::merge_directory) }
}

/// # Safety
///
/// The pool is alive and this thread's; `base` and `over` are null or slots of this module.
unsafe fn merge<T: 'static>(
    pool: *mut sys::apr_pool_t,
    base: *mut c_void,
    over: *mut c_void,
    merge: impl FnOnce(&T, &T) -> T,
) -> *mut c_void {
    guard::fence(ptr::null_mut(), || {
        // SAFETY: slots of this module hold what the functions above placed; read only.
        let values = unsafe { (Tagged::<T>::read(base), Tagged::<T>::read(over)) };
        match (NonNull::new(pool), values) {
            (Some(pool), (Some(base), Some(over))) => {
                // SAFETY: by the caller's promise.
                let pool = unsafe { Pool::new(pool) };
                pool.place(Tagged::new(merge(base, over))).as_ptr().cast()
            }
            (_, (_, Some(_))) => over,
            _ => base,
        }
    })
}
