//! Scripts: loaded once per interpreter, again when their file changes. Importing one never holds up another.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use super::environ::Template;
use crate::python::{Gil, Kept, Obj, PyResult};

/// The scripts of one interpreter by path.
#[derive(Default)]
pub(super) struct Scripts {
    /// A tree: there are few, and to compare a path costs less than to hash it.
    by_path: RwLock<BTreeMap<Box<[u8]>, Arc<Script>>>,
}

/// One script file.
#[derive(Default)]
struct Script {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<Loaded>>,
    /// A thread is executing the file now.
    loading: bool,
    /// How many attempts have failed: who waited for one that failed does not try again by itself.
    failures: u64,
}

/// A script that has been executed.
pub(super) struct Loaded {
    pub(super) mtime: i64,
    /// Whether it has a function `reload_required`.
    pub(super) asks: bool,
    dict: Kept,
    targets: Mutex<Vec<Arc<Target>>>,
}

/// A callable of a script, with what its requests have in common.
pub(super) struct Target {
    callable: String,
    name: Kept,
    pub(super) template: Template,
}

/// What a look-up came to.
pub(super) enum Found {
    /// Ready to be called.
    Ready(Arc<Loaded>),
    /// Another request has just tried to load it and failed; its traceback is in the log.
    FailedElsewhere,
}

/// Clears the mark of a thread that is loading, whatever happens.
struct Attempt<'a> {
    script: &'a Script,
    result: Option<Arc<Loaded>>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.script.lock();
        state.loading = false;
        // The old module may end here: its destructors are Python code and do not run under the lock.
        let old = match self.result.take() {
            Some(loaded) => state.loaded.replace(loaded),
            None => {
                state.failures += 1;
                None
            }
        };
        drop(state);
        drop(old);
        self.script.changed.notify_all();
    }
}

impl Script {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scripts {
    fn script(&self, path: &[u8]) -> Arc<Script> {
        let known = self.by_path.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(script) = known.get(path) {
            return Arc::clone(script);
        }
        drop(known);
        let mut known = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(path.into()).or_default())
    }

    /// A script, if it is loaded.
    pub(super) fn loaded(&self, path: &[u8]) -> Option<Arc<Loaded>> {
        let known = self.by_path.read().unwrap_or_else(PoisonError::into_inner);
        let state = known.get(path)?.lock();
        state.loaded.clone()
    }

    /// The script at `path`, executed by `load` when it is not there, or, with `reloading`, when its file is of another
    /// time than `mtime` or it is the `stale` one. While one thread loads it for the first time others wait, detached; while one loads it
    /// again the others go on with what they have.
    pub(super) fn find<'py>(
        &self,
        gil: Gil<'py>,
        path: &[u8],
        mtime: i64,
        reloading: bool,
        stale: Option<&Arc<Loaded>>,
        load: impl FnOnce() -> PyResult<Obj<'py>>,
    ) -> PyResult<Found> {
        let current = |loaded: &Arc<Loaded>| {
            loaded.mtime == mtime && !stale.is_some_and(|stale| Arc::ptr_eq(stale, loaded))
        };
        let script = self.script(path);
        let mut state = script.lock();
        loop {
            match &state.loaded {
                Some(loaded) if current(loaded) || !reloading || state.loading => {
                    return Ok(Found::Ready(Arc::clone(loaded)));
                }
                _ if !state.loading => break,
                _ => {}
            }
            let failures = state.failures;
            drop(state);
            let failed = gil.detach(|| {
                let mut state = script.lock();
                while state.loading {
                    state = script.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.failures != failures
            });
            if failed {
                return Ok(Found::FailedElsewhere);
            }
            state = script.lock();
        }
        state.loading = true;
        drop(state);
        let mut attempt = Attempt { script: &script, result: None };
        let dict = load()?.attr(c"__dict__")?;
        let asks = dict.dict_get(&Obj::interned(gil, RELOAD_REQUIRED)?)?.is_some();
        let loaded =
            Arc::new(Loaded { mtime, asks, dict: dict.keep(), targets: Mutex::new(Vec::new()) });
        attempt.result = Some(Arc::clone(&loaded));
        Ok(Found::Ready(loaded))
    }
}

/// The function by which a script says that it is to be loaded again.
pub(super) const RELOAD_REQUIRED: &CStr = c"reload_required";

impl Loaded {
    /// What requests for a callable have in common, made by `template` when it is asked for first.
    pub(super) fn target<'py>(
        &self,
        gil: Gil<'py>,
        callable: &str,
        template: impl FnOnce() -> PyResult<Template>,
    ) -> PyResult<Arc<Target>> {
        if let Some(target) = self.known(callable) {
            return Ok(target);
        }
        let name = CString::new(callable).unwrap_or_default();
        let target = Arc::new(Target {
            callable: callable.to_owned(),
            name: Obj::interned(gil, &name)?.keep(),
            template: template()?,
        });
        self.targets().push(Arc::clone(&target));
        Ok(target)
    }

    fn known(&self, callable: &str) -> Option<Arc<Target>> {
        self.targets().iter().find(|target| target.callable == callable).map(Arc::clone)
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A global of the module, as it is now.
    pub(super) fn global<'py>(&self, gil: Gil<'py>, name: &CStr) -> PyResult<Option<Obj<'py>>> {
        self.dict.borrow(gil).dict_get(&Obj::interned(gil, name)?)
    }

    /// The callable itself, as the module has it now.
    pub(super) fn application<'py>(
        &self,
        gil: Gil<'py>,
        target: &Target,
    ) -> PyResult<Option<Obj<'py>>> {
        self.dict.borrow(gil).dict_get(target.name.borrow(gil))
    }
}
