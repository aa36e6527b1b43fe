//! Directives: the catalogue as httpd's command table, and one directive being read.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use engine::settings::{CATALOGUE, Entry, Scope};

use super::hook::Wiring;
use super::slot::Tagged;
use super::{Pool, guard, hook, text};
use crate::sys;

/// One directive of ours, while httpd reads it.
pub(crate) struct Command<'c> {
    raw: NonNull<sys::cmd_parms>,
    directory: *mut c_void,
    arguments: &'c CStr,
    life: PhantomData<&'c mut ()>,
}

/// Where a directive stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file as httpd names it.
    pub(crate) file: String,
    /// The line in it, from 1.
    pub(crate) line: u32,
}

impl Command<'_> {
    /// The text behind the name of the directive.
    pub(crate) fn arguments(&self) -> &CStr {
        self.arguments
    }

    /// Whether the directive stands in a directory section or an `.htaccess` file.
    pub(crate) fn in_directory(&self) -> bool {
        !self.parms().path.is_null()
    }

    /// Whether the directive stands in an `.htaccess` file, which is read while a request is served.
    pub(crate) fn in_htaccess(&self) -> bool {
        self.parms().override_ & (sys::RSRC_CONF | sys::ACCESS_CONF) == 0
    }

    /// What httpd says if this is not the main server's configuration.
    pub(crate) fn refused_outside_main_server(&self) -> Option<String> {
        // SAFETY: httpd's own structure for this directive, alive during the call.
        let message =
            unsafe { text(sys::ap_check_cmd_context(self.raw.as_ptr(), sys::GLOBAL_ONLY as _)) };
        message.map(|message| message.to_string_lossy().into_owned())
    }

    /// File and line.
    pub(crate) fn place(&self) -> Place {
        let directive = self.parms().directive;
        if directive.is_null() {
            return Place::default();
        }
        // SAFETY: the node of the configuration tree that httpd is working on.
        let directive = unsafe { &*directive };
        // SAFETY: file names in the tree live as long as the tree.
        let file = unsafe { text(directive.filename) }.unwrap_or_default();
        Place {
            file: file.to_string_lossy().into_owned(),
            line: u32::try_from(directive.line_num).unwrap_or(0),
        }
    }

    /// Has httpd show other arguments to whoever asks it for its configuration (mod_info, `-D DUMP_CONFIG`).
    pub(crate) fn show(&mut self, arguments: &str) {
        let parms = self.parms();
        let Some(pool) = NonNull::new(parms.pool) else { return };
        // SAFETY: the pool of the configuration, alive during the call.
        let pool = unsafe { Pool::new(pool) };
        let shown = pool.text(&[arguments.as_bytes()]);
        // SAFETY: the node of the configuration tree that httpd is working on, which has given its arguments to us and
        // keeps them only to be shown; the text lives as long as the tree, in the same pool.
        if let Some(directive) = unsafe { parms.directive.as_mut() } {
            directive.args = shown.as_ptr();
        }
    }

    /// The names of the directives directly inside this section.
    pub(crate) fn names_inside(&self) -> Vec<String> {
        let directive = self.parms().directive;
        let mut names = Vec::new();
        // SAFETY: the node of the configuration tree that httpd is working on, or null.
        let mut next = unsafe { directive.as_ref() }.map_or(ptr::null_mut(), |d| d.first_child);
        // SAFETY: children and their successors are nodes of the same tree, or null at the end.
        while let Some(child) = unsafe { next.as_ref() } {
            // SAFETY: names in the tree live as long as the tree.
            let name = unsafe { text(child.directive) }.unwrap_or_default();
            names.push(name.to_string_lossy().into_owned());
            next = child.next;
        }
        names
    }

    /// Has httpd work through the directives inside this section; an error text is for httpd.
    pub(crate) fn walk_inside(&mut self) -> Result<(), String> {
        let parms = self.parms();
        let context = parms.context;
        // SAFETY: the node of the configuration tree that httpd is working on.
        let Some(directive) = (unsafe { parms.directive.as_ref() }) else { return Ok(()) };
        // SAFETY: the same tree and the context httpd gave; callbacks of ours that run inside make their
        // own views, and this one holds no reference meanwhile (it is borrowed mutably).
        let message =
            unsafe { text(sys::ap_walk_config(directive.first_child, self.raw.as_ptr(), context)) };
        message.map_or(Ok(()), |message| Err(message.to_string_lossy().into_owned()))
    }

    /// This module's configuration of the server that the directive belongs to.
    pub(crate) fn server<W: Wiring>(&mut self) -> Option<&mut W::Server> {
        // SAFETY: the server being configured.
        let server = unsafe { self.parms().server.as_ref() }?;
        // SAFETY: a configuration vector made by httpd, which holds a slot for this module.
        let slot = unsafe { sys::ap_get_module_config(server.module_config, hook::module()) };
        // SAFETY: the slot holds what `hook` placed; during configuration this thread is alone, and the
        // mutable borrow of self keeps a second reference from being made here.
        unsafe { Tagged::write(slot) }
    }

    /// This module's configuration of the directory that the directive belongs to.
    pub(crate) fn directory<W: Wiring>(&mut self) -> Option<&mut W::Directory> {
        // SAFETY: as for `server`; httpd passes this module's slot to its directives.
        unsafe { Tagged::write(self.directory) }
    }

    fn parms(&self) -> &sys::cmd_parms {
        // SAFETY: httpd's own structure for this directive, alive during the call.
        unsafe { self.raw.as_ref() }
    }
}

/// The catalogue in httpd's form, ended by an empty entry.
#[repr(transparent)]
pub(crate) struct CommandTable([sys::command_rec; CATALOGUE.len() + 1]);

// SAFETY: built at compile time and never written; httpd only reads it.
unsafe impl Sync for CommandTable {}

impl CommandTable {
    /// The table whose directives are given to `W`.
    pub(crate) const fn new<W: Wiring>() -> Self {
        let nothing = sys::command_rec {
            name: ptr::null(),
            func: sys::cmd_func { raw_args: None },
            cmd_data: ptr::null_mut(),
            req_override: 0,
            args_how: sys::RAW_ARGS,
            errmsg: ptr::null(),
        };
        let mut table = [nothing; CATALOGUE.len() + 1];
        let texts: *const c_char = (&raw const TEXTS).cast();
        let mut offset = 0;
        let mut index = 0;
        while index < CATALOGUE.len() {
            let entry = &CATALOGUE[index];
            // SAFETY: `offset` counts the same texts that `TEXTS` was filled from.
            let name = unsafe { texts.add(offset) };
            offset += entry.name.len() + 1;
            // SAFETY: as above.
            let help = unsafe { texts.add(offset) };
            offset += entry.help.len() + 1;
            table[index] = sys::command_rec {
                name,
                func: sys::cmd_func { raw_args: Some(read::<W>) },
                cmd_data: (entry as *const Entry).cast_mut().cast(),
                req_override: allowed(&entry.scope),
                args_how: sys::RAW_ARGS,
                errmsg: help,
            };
            index += 1;
        }
        Self(table)
    }

    pub(super) const fn as_ptr(&'static self) -> *const sys::command_rec {
        self.0.as_ptr()
    }
}

/// httpd's flags for where a directive may stand.
const fn allowed(scope: &Scope) -> c_int {
    match scope {
        Scope::Global | Scope::Server => sys::RSRC_CONF,
        Scope::ServerDir => sys::RSRC_CONF | sys::ACCESS_CONF,
        Scope::ServerDirHtaccess => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_FILEINFO,
        Scope::ServerDirAuth => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_AUTHCFG,
        Scope::Dir => sys::ACCESS_CONF | sys::OR_AUTHCFG,
    }
}

const LENGTH: usize = {
    let mut length = 0;
    let mut index = 0;
    while index < CATALOGUE.len() {
        length += CATALOGUE[index].name.len() + CATALOGUE[index].help.len() + 2;
        index += 1;
    }
    length
};

/// Names and help texts in turn, each ended by NUL: httpd wants C strings, the catalogue has Rust's.
static TEXTS: [u8; LENGTH] = {
    let mut texts = [0_u8; LENGTH];
    let mut at = 0;
    let mut index = 0;
    while index < CATALOGUE.len() {
        at = append(&mut texts, at, CATALOGUE[index].name.as_bytes());
        at = append(&mut texts, at, CATALOGUE[index].help.as_bytes());
        index += 1;
    }
    texts
};

const fn append(texts: &mut [u8; LENGTH], mut at: usize, text: &[u8]) -> usize {
    let mut index = 0;
    while index < text.len() {
        texts[at] = text[index];
        at += 1;
        index += 1;
    }
    at + 1
}

/// The one callback of all directives; the entry of the catalogue says which it is.
unsafe extern "C" fn read<W: Wiring>(
    parms: *mut sys::cmd_parms,
    directory: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    let body = || {
        let raw = NonNull::new(parms)?;
        // SAFETY: httpd's own structures for this directive, alive during the call.
        let (command, pool) = unsafe { ((*parms).cmd.as_ref()?, NonNull::new((*parms).pool)?) };
        // SAFETY: `cmd_data` of every entry of our table is its catalogue entry.
        let entry: &'static Entry = unsafe { command.cmd_data.cast::<Entry>().as_ref() }?;
        // SAFETY: the argument text stays unchanged during the call.
        let arguments = unsafe { text(arguments) }.unwrap_or_default();
        let mut view = Command { raw, directory, arguments, life: PhantomData };
        let fault = W::directive(entry, &mut view).err()?;
        // SAFETY: the pool of the configuration, alive during the call.
        let pool = unsafe { Pool::new(pool) };
        Some(pool.message(&named(entry.name.trim_start_matches('<'), &fault)))
    };
    let failure = c"mod_wsgi_rs failed on this directive; the error log says where".as_ptr();
    guard::fence(Some(failure), body).unwrap_or(ptr::null())
}

/// A fault with the name of the directive in front, where httpd's own words do not begin with it.
fn named(name: &str, fault: &str) -> String {
    if fault.starts_with(name) { fault.to_owned() } else { format!("{name}: {fault}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_catalogue_s() {
        let mut texts = TEXTS.split(|byte| *byte == 0);
        for entry in CATALOGUE {
            assert_eq!(texts.next(), Some(entry.name.as_bytes()));
            assert_eq!(texts.next(), Some(entry.help.as_bytes()));
        }
    }

    #[test]
    fn faults_name_their_directive_once() {
        assert_eq!(named("WSGIX", "'a' is not allowed"), "WSGIX: 'a' is not allowed");
        assert_eq!(named("WSGIX", "WSGIX cannot occur here"), "WSGIX cannot occur here");
    }
}
