//! One Python interpreter as this engine has set it up.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use super::api;
use super::engine::{Facts, GroupFacts, VERSION};
use super::environ::{Names, Template};
use super::errors;
use super::input;
use super::script::Scripts;
use super::start_response;
use super::turn::Turn;
use super::watch::Watch;
use crate::python::interpreter::START_VARIABLES;
use crate::python::runtime;
use crate::python::{Class, Gil, Home, Kept, Obj, PyResult};
use crate::settings::{InterpreterSettings, ProcessSettings};

/// The Python side, shipped inside the binary: run one after the other in the module's dict.
const SOURCES: [&str; 2] =
    [concat!(include_str!("runtime.py"), "\0"), concat!(include_str!("api.py"), "\0")];

/// An interpreter. Lives as long as the process.
pub(super) struct Interpreter {
    /// Application group; empty is the main interpreter.
    pub(super) name: String,
    pub(super) home: Home,
    /// Whether it has a GIL of its own.
    pub(super) own_gil: bool,
    pub(super) names: Names,
    pub(super) adapter: Class<Turn>,
    pub(super) input: Class<Turn>,
    pub(super) errors: Class<Turn>,
    pub(super) file_wrapper: Kept,
    pub(super) list_class: Kept,
    pub(super) tuple_class: Kept,
    pub(super) close: Kept,
    pub(super) scripts: Scripts,
    pub(super) watch: Arc<Watch>,
    runtime: Kept,
    template: Constants,
}

/// What is the same in every `environ` of the interpreter.
struct Constants {
    version: Kept,
    wsgi_version: Kept,
    httpd_version: Kept,
    application_group: Kept,
    process_group: Kept,
    yes: Kept,
    no: Kept,
    multithread: bool,
    multiprocess: bool,
    run_once: bool,
}

impl Interpreter {
    /// Sets up the interpreter that `gil` is attached to.
    pub(super) fn new(
        gil: Gil<'_>,
        home: Home,
        name: &str,
        own_gil: bool,
        settings: &ProcessSettings,
        facts: &Facts,
    ) -> PyResult<Self> {
        let (module, dict) = runtime::new_module(gil, c"mod_wsgi")?;
        let set = |name: &CStr, value: &Obj<'_>| dict.dict_set(&Obj::interned(gil, name)?, value);
        errors::functions(gil, &module)?;
        api::functions(gil, &module)?;
        for source in SOURCES {
            let source = CStr::from_bytes_until_nul(source.as_bytes()).unwrap_or_default();
            runtime::run(gil, source, c"<mod_wsgi>", &dict)?;
        }
        let watch = Arc::new(Watch::default());
        set(c"_watch", &watch.switch(gil)?)?;
        let (major, minor, patch) = VERSION;
        let version = triple(gil, (major, minor, patch))?;
        let application_group = Obj::latin1_from(gil, name.as_bytes())?;
        let process_group = Obj::str_from(gil, &facts.process_group)?;
        set(c"version", &version)?;
        set(c"mod_wsgi_rs", &Obj::str_from(gil, env!("CARGO_PKG_VERSION"))?)?;
        set(c"application_group", &application_group)?;
        set(c"process_group", &process_group)?;
        let group = facts.group.unwrap_or(GroupFacts {
            processes: facts.maximum_processes,
            threads: facts.threads_per_process,
            run_once: false,
        });
        set(c"maximum_processes", &Obj::int(gil, group.processes.into())?)?;
        set(c"threads_per_process", &Obj::int(gil, group.threads.into())?)?;
        let chosen = settings.interpreter_for(&facts.process_group, name);
        let options = options(gil, &module, &chosen, settings, facts)?;
        let runtime = dict;
        runtime_helper(gil, &runtime, c"_setup")?.call([&options])?;
        let file_wrapper = runtime_helper(gil, &runtime, c"FileWrapper")?;
        Ok(Self {
            name: name.to_owned(),
            home,
            own_gil,
            names: Names::new(gil)?,
            adapter: start_response::class(gil)?,
            input: input::class(gil)?,
            errors: errors::class(gil)?,
            file_wrapper: file_wrapper.keep(),
            list_class: Obj::list(gil)?.type_of().keep(),
            tuple_class: Obj::tuple(gil, [])?.type_of().keep(),
            close: Obj::interned(gil, c"close")?.keep(),
            scripts: Scripts::default(),
            watch,
            runtime: runtime.keep(),
            template: Constants {
                version: version.keep(),
                wsgi_version: Obj::tuple(gil, [&Obj::int(gil, 1)?, &Obj::int(gil, 0)?])?.keep(),
                httpd_version: triple(gil, facts.httpd_version)?.keep(),
                application_group: application_group.keep(),
                process_group: process_group.keep(),
                yes: Obj::bool(gil, true)?.keep(),
                no: Obj::bool(gil, false)?.keep(),
                multithread: facts.multithread,
                multiprocess: facts.multiprocess,
                run_once: group.run_once,
            },
        })
    }

    /// A name of the runtime module.
    pub(super) fn helper<'py>(&self, gil: Gil<'py>, name: &CStr) -> PyResult<Obj<'py>> {
        runtime_helper(gil, self.runtime.borrow(gil), name)
    }

    /// The environ template for a callable.
    pub(super) fn template(&self, gil: Gil<'_>, callable: &str) -> PyResult<Template> {
        let constants = &self.template;
        let flag = |value: bool| if value { constants.yes.get(gil) } else { constants.no.get(gil) };
        Template::new(
            gil,
            &self.names,
            &[
                (c"wsgi.version", constants.wsgi_version.get(gil)),
                (c"wsgi.multithread", flag(constants.multithread)),
                (c"wsgi.multiprocess", flag(constants.multiprocess)),
                (c"wsgi.run_once", flag(constants.run_once)),
                (c"wsgi.input_terminated", flag(true)),
                (c"wsgi.file_wrapper", self.file_wrapper.get(gil)),
                (c"mod_wsgi.version", constants.version.get(gil)),
                (c"mod_wsgi.process_group", constants.process_group.get(gil)),
                (c"mod_wsgi.application_group", constants.application_group.get(gil)),
                (c"mod_wsgi.callable_object", Obj::latin1_from(gil, callable.as_bytes())?),
                (c"apache.version", constants.httpd_version.get(gil)),
            ],
        )
    }

    /// The environ template of scripts that are asked something.
    pub(super) fn hook_template(&self, gil: Gil<'_>) -> PyResult<Template> {
        let constants = &self.template;
        Template::new(
            gil,
            &self.names,
            &[
                (c"mod_wsgi.version", constants.version.get(gil)),
                (c"mod_wsgi.process_group", constants.process_group.get(gil)),
                (c"mod_wsgi.application_group", constants.application_group.get(gil)),
                (c"apache.version", constants.httpd_version.get(gil)),
            ],
        )
    }

    /// How messages call it.
    pub(super) fn title(&self) -> String {
        if self.name.is_empty() {
            "the main interpreter".to_owned()
        } else {
            format!("sub-interpreter '{}'", self.name)
        }
    }
}

fn runtime_helper<'py>(gil: Gil<'py>, runtime: &Obj<'py>, name: &CStr) -> PyResult<Obj<'py>> {
    runtime.dict_get(&Obj::interned(gil, name)?)?.ok_or_else(|| {
        crate::python::Raised::runtime_error(gil, &format!("no {}", name.to_string_lossy()))
    })
}

fn triple(gil: Gil<'_>, (major, minor, patch): (i32, i32, i32)) -> PyResult<Obj<'_>> {
    let number = |value: i32| Obj::int(gil, value.into());
    Obj::tuple(gil, [&number(major)?, &number(minor)?, &number(patch)?])
}

/// The environment of the process as it was when its first interpreter was made, before any application could
/// change it.
static ENVIRONMENT: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// It as a dict of bytes.
fn environment(gil: Gil<'_>) -> PyResult<Obj<'_>> {
    let variables = Obj::dict(gil)?;
    for (name, value) in ENVIRONMENT.get_or_init(|| std::env::vars_os().collect()) {
        let name = Obj::bytes_from(gil, name.as_bytes())?;
        variables.dict_set(&name, &Obj::bytes_from(gil, value.as_bytes())?)?;
    }
    Ok(variables)
}

/// The argument of `_setup` in runtime.py.
fn options<'py>(
    gil: Gil<'py>,
    module: &Obj<'py>,
    chosen: &InterpreterSettings,
    settings: &ProcessSettings,
    facts: &Facts,
) -> PyResult<Obj<'py>> {
    let options = Obj::dict(gil)?;
    let set = |name: &CStr, value: &Obj<'py>| options.dict_set(&Obj::interned(gil, name)?, value);
    set(c"module", module)?;
    set(c"environment", &environment(gil)?)?;
    set(c"restrict_stdin", &Obj::bool(gil, chosen.restrict_stdin())?)?;
    set(c"restrict_stdout", &Obj::bool(gil, chosen.restrict_stdout())?)?;
    set(c"restrict_signal", &Obj::bool(gil, chosen.restrict_signal())?)?;
    let interval = match chosen.switch_interval {
        Some(seconds) => Obj::float(gil, seconds)?,
        None => Obj::none(gil),
    };
    set(c"switch_interval", &interval)?;
    let eggs = match &settings.python_eggs {
        Some(folder) => Obj::path_from(gil, folder.as_bytes())?,
        None => Obj::none(gil),
    };
    set(c"python_eggs", &eggs)?;
    let path = Obj::list(gil)?;
    for folder in &chosen.python_path {
        path.list_append(&Obj::path_from(gil, folder.as_bytes())?)?;
    }
    set(c"python_path", &path)?;
    let variables = Obj::list(gil)?;
    // In daemon mode the bootstrap has done that; what is left was written by the administrator.
    let set_here = if facts.group.is_none() { &START_VARIABLES[..] } else { &[] };
    for name in set_here {
        variables.list_append(&Obj::interned(gil, name)?)?;
    }
    set(c"start_variables", &variables)?;
    let apache = Obj::dict(gil)?;
    for (name, value) in [
        (c"version", triple(gil, facts.httpd_version)?),
        (c"maximum_processes", Obj::int(gil, facts.maximum_processes.into())?),
        (c"threads_per_process", Obj::int(gil, facts.threads_per_process.into())?),
        (c"description", Obj::str_from(gil, &facts.server_description)?),
        (c"build_date", Obj::str_from(gil, &facts.server_built)?),
        (c"mpm_name", Obj::str_from(gil, &facts.mpm_name)?),
    ] {
        apache.dict_set(&Obj::interned(gil, name)?, &value)?;
    }
    set(c"apache", &apache)?;
    Ok(options)
}
