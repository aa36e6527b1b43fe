//! Starting Python in this process, making interpreters, and leaving the process without tearing them down.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::PyResult;
use super::gil::{Gil, Home};
use super::object::{Obj, zero};
use super::table::{self, Api, PyInterpreterConfig, TableFault, api};

/// How Python is started; each field as the directive of that name says.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// `-O` level, 0 to 2.
    pub optimize: u8,
    /// Do not write `.pyc` files.
    pub dont_write_bytecode: bool,
    /// `-W` arguments in order.
    pub warnings: Vec<String>,
    /// A fixed hash seed; `None` is Python's own randomisation.
    pub hash_seed: Option<u32>,
    /// On a free-threaded build: run with a GIL.
    pub force_gil: bool,
}

/// Why Python does not start. One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// The library cannot be used.
    Library(String),
    /// The version is not supported.
    Version(String),
    /// Python's own words.
    Python(String),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(words) | Self::Version(words) | Self::Python(words) => f.write_str(words),
        }
    }
}

/// Environment variables set for the start only; the runtime takes them out of `os.environ` again.
pub const START_VARIABLES: [&CStr; 2] = [c"PYTHONHASHSEED", c"PYTHON_GIL"];

/// Starts Python from `library` as if `program` had been run, and leaves this thread detached. Called once.
///
/// # Errors
/// Says what cannot be used; nothing has been started then.
pub fn start(library: &Path, program: &Path, options: &StartOptions) -> Result<Home, StartFault> {
    let api = table::load(library).map_err(|fault| {
        let hint = match fault {
            TableFault::Open(_) => "cannot be opened",
            TableFault::Missing(_) => "is no Python library this module can use",
        };
        StartFault::Library(format!("{} {hint}: {fault}", library.display()))
    })?;
    let interrupt = Interrupt::save();
    if let Some(seed) = options.hash_seed {
        set_variable(START_VARIABLES[0], &seed.to_string());
    }
    if options.force_gil {
        set_variable(START_VARIABLES[1], "1");
    }
    // SAFETY: no precondition.
    if unsafe { (api.Py_IsInitialized)() } != 0 {
        return Err(StartFault::Python(
            "another module of this httpd has already started Python in its processes; \
             load only one of them"
                .to_owned(),
        ));
    }
    if api.Py_InitializeFromInitConfig.is_some() {
        start_by_config(api, program, options)?;
    } else {
        start_by_globals(api, program, options);
    }
    // SAFETY: S4: initialisation leaves this thread attached by its own state.
    let home = unsafe {
        let home = Home::adopt((api.PyThreadState_Get)());
        // The signal module takes SIGINT over when it is first imported.
        let signal = (api.PyImport_ImportModule)(c"signal".as_ptr());
        if signal.is_null() {
            (api.PyErr_Clear)()
        } else {
            (api.Py_DecRef)(signal)
        }
        (api.PyEval_SaveThread)();
        home
    };
    interrupt.restore();
    for name in START_VARIABLES {
        // SAFETY: NUL-terminated; called before threads are made, or under the one-time initialiser.
        unsafe { libc::unsetenv(name.as_ptr()) };
    }
    Ok(home)
}

/// Takes over the Python that runs in this process and has called us, on its main thread.
#[must_use]
pub fn adopt(_gil: Gil<'_>) -> Home {
    // SAFETY: S4: the caller is attached by the state that is current, its thread's own.
    unsafe { Home::adopt((api().PyThreadState_Get)()) }
}

/// Runs the handlers of signals that have come since. On Python's main thread.
///
/// # Errors
/// What a handler raises.
pub fn check_signals(_gil: Gil<'_>) -> PyResult<()> {
    // SAFETY: S4
    zero(unsafe { (api().PyErr_CheckSignals)() })
}

/// Has an exception raised in another thread of this interpreter, at its next instruction; without one, takes
/// back what was to be raised. `false`: the thread is not known here.
pub fn raise_in(_gil: Gil<'_>, thread: u64, class: Option<&Obj<'_>>) -> bool {
    let class = class.map_or(std::ptr::null_mut(), Obj::as_ptr);
    // SAFETY: S4; the class is alive, and the call takes a reference of its own.
    unsafe { (api().PyThreadState_SetAsyncExc)(thread, class) > 0 }
}

/// Whether this Python runs without a GIL now.
///
/// # Errors
/// As Python raises.
pub fn runs_without_gil(gil: Gil<'_>) -> PyResult<bool> {
    let name = Obj::interned(gil, c"_is_gil_enabled")?;
    match Obj::import(gil, c"sys")?.attr_opt(&name)? {
        Some(enabled) => enabled.call([])?.truth().map(|enabled| !enabled),
        None => Ok(false),
    }
}

/// Until 3.13: the legacy globals, which find virtual environments from the program name.
fn start_by_globals(api: &'static Api, program: &Path, options: &StartOptions) {
    // SAFETY: P2: before initialisation these may be set by anyone; the strings are copied or leaked.
    unsafe {
        if let Some(flag) = api.Py_OptimizeFlag {
            *flag = c_int::from(options.optimize);
        }
        if let Some(flag) = api.Py_DontWriteBytecodeFlag {
            *flag = c_int::from(options.dont_write_bytecode);
        }
        if plain_locale()
            && let Some(flag) = api.Py_UTF8Mode
        {
            *flag = 1;
        }
        if let Some(set) = api.Py_SetProgramName {
            set(wide(program.as_os_str().as_bytes()).leak().as_ptr());
        }
        if let Some(add) = api.PySys_AddWarnOption {
            for warning in &options.warnings {
                add(wide(warning.as_bytes()).leak().as_ptr());
            }
        }
        (api.Py_InitializeEx)(0);
    }
}

/// From 3.14: `PyInitConfig`, whose defaults are isolated, so every value that matters is written.
fn start_by_config(
    api: &'static Api,
    program: &Path,
    options: &StartOptions,
) -> Result<(), StartFault> {
    let (
        Some(create),
        Some(free),
        Some(set_int),
        Some(set_str),
        Some(set_list),
        Some(get_error),
        Some(initialise),
    ) = (
        api.PyInitConfig_Create,
        api.PyInitConfig_Free,
        api.PyInitConfig_SetInt,
        api.PyInitConfig_SetStr,
        api.PyInitConfig_SetStrList,
        api.PyInitConfig_GetError,
        api.Py_InitializeFromInitConfig,
    )
    else {
        return Err(StartFault::Library("the library has only half of PyInitConfig".to_owned()));
    };
    let program = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
    let warnings: Vec<CString> =
        options.warnings.iter().filter_map(|text| CString::new(text.as_str()).ok()).collect();
    let warnings: Vec<*const std::ffi::c_char> =
        warnings.iter().map(|text| text.as_ptr()).collect();
    let mut numbers: Vec<(&CStr, i64)> = vec![
        (c"isolated", 0),
        (c"use_environment", 1),
        (c"user_site_directory", 1),
        (c"safe_path", 0),
        (c"site_import", 1),
        (c"install_signal_handlers", 0),
        (c"parse_argv", 0),
        (c"configure_locale", 1),
        (c"buffered_stdio", 1),
        (c"pathconfig_warnings", 0),
        (c"optimization_level", i64::from(options.optimize)),
        (c"write_bytecode", i64::from(!options.dont_write_bytecode)),
    ];
    if plain_locale() {
        numbers.push((c"utf8_mode", 1));
    }
    if let Some(seed) = options.hash_seed {
        numbers.push((c"use_hash_seed", 1));
        numbers.push((c"hash_seed", i64::from(seed)));
    }
    // SAFETY: P2: the documented sequence of PyInitConfig; names and values are NUL-terminated and copied.
    unsafe {
        let config = create();
        if config.is_null() {
            return Err(StartFault::Python("no memory for Python's configuration".to_owned()));
        }
        let mut bad = set_str(config, c"program_name".as_ptr(), program.as_ptr()) < 0
            || set_str(config, c"executable".as_ptr(), program.as_ptr()) < 0
            || set_list(config, c"warnoptions".as_ptr(), warnings.len(), warnings.as_ptr()) < 0;
        for (name, value) in numbers {
            bad = bad || set_int(config, name.as_ptr(), value) < 0;
        }
        bad = bad || initialise(config) < 0;
        let mut words: *const std::ffi::c_char = std::ptr::null();
        let fault = if bad && get_error(config, &raw mut words) == 1 && !words.is_null() {
            CStr::from_ptr(words).to_string_lossy().into_owned()
        } else {
            "Python refuses its configuration".to_owned()
        };
        free(config);
        if bad { Err(StartFault::Python(fault)) } else { Ok(()) }
    }
}

/// Makes a new interpreter and runs `setup` attached to it. `main` is the main interpreter.
///
/// # Errors
/// Python's words.
pub fn make<R>(
    main: Home,
    own_gil: bool,
    setup: impl for<'py> FnOnce(Gil<'py>, Home) -> R,
) -> Result<R, String> {
    main.attach(|gil| {
        // SAFETY: S4; both calls leave this thread attached to the new interpreter by a new state of its own, or, on
        // failure, to the main one; `attach` saves whichever is current when it ends.
        unsafe {
            let state = match (own_gil, api().Py_NewInterpreterFromConfig) {
                (true, Some(make)) => {
                    let config = PyInterpreterConfig {
                        use_main_obmalloc: 0,
                        allow_fork: 0,
                        allow_exec: 0,
                        allow_threads: 1,
                        allow_daemon_threads: 0,
                        check_multi_interp_extensions: 1,
                        gil: 2,
                    };
                    let mut state = std::ptr::null_mut();
                    let status = make(&raw mut state, &raw const config);
                    if status.kind != 0 || state.is_null() {
                        return Err(if status.message.is_null() {
                            "Python gives no reason".to_owned()
                        } else {
                            CStr::from_ptr(status.message).to_string_lossy().into_owned()
                        });
                    }
                    state
                }
                _ => (api().Py_NewInterpreter)(),
            };
            if state.is_null() {
                return Err("Python gives no reason".to_owned());
            }
            Ok(setup(gil, Home::adopt(state)))
        }
    })
}

/// From now on the process leaves by `_exit` once `exit` is called: no destructor of an extension module
/// runs while Python threads are still there.
pub fn leave_directly() {
    unsafe extern "C" {
        fn on_exit(
            function: unsafe extern "C" fn(c_int, *mut c_void),
            argument: *mut c_void,
        ) -> c_int;
    }
    unsafe extern "C" fn leave(status: c_int, _argument: *mut c_void) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }
    // SAFETY: a function that stays mapped (the module is linked nodelete).
    unsafe { on_exit(leave, std::ptr::null_mut()) };
}

/// Ends the process at once.
pub fn leave_now(status: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Version of the loaded library, as `Py_GetVersion` says it.
#[must_use]
pub fn version() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr((api().Py_GetVersion)()) }.to_string_lossy().into_owned()
}

/// The action of SIGINT before Python was there.
struct Interrupt(libc::sigaction);

impl Interrupt {
    fn save() -> Self {
        // SAFETY: an all-zero sigaction is valid, and the call only fills it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGINT, std::ptr::null(), &raw mut action);
            Self(action)
        }
    }

    fn restore(self) {
        // SAFETY: sets back what was read.
        unsafe { libc::sigaction(libc::SIGINT, &raw const self.0, std::ptr::null_mut()) };
    }
}

fn set_variable(name: &CStr, value: &str) {
    let value = CString::new(value).unwrap_or_default();
    // SAFETY: both NUL-terminated; called before threads are made, or under the one-time initialiser.
    unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
}

/// Whether the locale is the C locale: then Python runs in UTF-8 mode.
fn plain_locale() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .is_none_or(|value| value == "C" || value == "POSIX")
        && std::env::var_os("PYTHONUTF8").is_none()
}

/// A NUL-terminated wide string; bytes that are no UTF-8 become lone surrogates, as Python's own decoding has them.
fn wide(bytes: &[u8]) -> Vec<libc::wchar_t> {
    let mut wide = Vec::with_capacity(bytes.len() + 1);
    for chunk in bytes.utf8_chunks() {
        wide.extend(chunk.valid().chars().map(|c| u32::from(c).cast_signed()));
        wide.extend(chunk.invalid().iter().map(|b| 0xDC00 + libc::wchar_t::from(*b)));
    }
    wide.push(0);
    wide
}
