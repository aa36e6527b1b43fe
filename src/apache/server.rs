//! Servers: the main one and the virtual hosts.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use super::hook::{self, Wiring};
use super::slot::Tagged;
use super::{Pool, text};
use crate::sys;

/// A server's record, for as long as the configuration lives.
pub(crate) struct Server<'s> {
    raw: NonNull<sys::server_rec>,
    life: PhantomData<&'s ()>,
}

impl<'s> Server<'s> {
    /// A view of a server's record; `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// A pointer that is not null leads to a server that lives for `'s`.
    pub(super) unsafe fn new(raw: *mut sys::server_rec) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, life: PhantomData })
    }

    /// `ServerName`, without the port.
    pub(crate) fn name(&self) -> Option<&'s CStr> {
        // SAFETY: configuration text, frozen (S3).
        unsafe { text(self.record().server_hostname) }
    }

    /// `ServerAdmin`
    pub(crate) fn admin(&self) -> Option<&'s CStr> {
        // SAFETY: configuration text, frozen (S3).
        unsafe { text(self.record().server_admin) }
    }

    /// `ErrorLog`
    pub(crate) fn error_log(&self) -> Option<&'s CStr> {
        // SAFETY: configuration text, frozen (S3).
        unsafe { text(self.record().error_fname) }
    }

    /// The name that httpd was started by, without its folder.
    pub(crate) fn program(&self) -> Option<&'s CStr> {
        // SAFETY: httpd makes the record before it reads a configuration, and keeps it and the text.
        unsafe { text(self.record().process.as_ref()?.short_name) }
    }

    /// The port of `ServerName`, or the one of its first address where that has none; 0 for any.
    pub(crate) fn port(&self) -> u16 {
        let record = self.record();
        if record.port != 0 {
            return record.port;
        }
        // SAFETY: the addresses of a server are frozen with the configuration (S3), or null.
        unsafe { record.addrs.as_ref() }.map_or(0, |address| address.host_port)
    }

    /// `Timeout`; `None` for none.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        u64::try_from(self.record().timeout)
            .ok()
            .filter(|timeout| *timeout > 0)
            .map(Duration::from_micros)
    }

    /// The pool of the process, which lives longer than any configuration.
    pub(crate) fn process_pool(&self) -> Option<Pool<'static>> {
        // SAFETY: httpd makes the record before it reads a configuration, and keeps it.
        let process = unsafe { self.record().process.as_ref() }?;
        let pool = NonNull::new(process.pool)?;
        // SAFETY: the pool is destroyed when the process exits, after the last callback of ours; who reads a
        // configuration, and who starts a child, is the only thread.
        Some(unsafe { Pool::new(pool) })
    }

    /// Whether this is a virtual host.
    pub(crate) fn is_virtual(&self) -> bool {
        self.record().is_virtual != 0
    }

    /// This module's configuration of the server.
    pub(crate) fn config<W: Wiring>(&self) -> Option<&'s W::Server> {
        // SAFETY: a configuration vector made by httpd, which holds a slot for this module.
        let slot =
            unsafe { sys::ap_get_module_config(self.record().module_config, hook::module()) };
        // SAFETY: the slot holds what `hook` placed; frozen after configuration (S3).
        unsafe { Tagged::read(slot) }
    }

    /// This server and all after it: from the main server, every server there is.
    pub(crate) fn each(&self, mut each: impl FnMut(&Server<'s>)) {
        let mut next = Some(Self { raw: self.raw, life: PhantomData });
        while let Some(server) = next {
            each(&server);
            // SAFETY: the list of servers is frozen (S3) and lives as long as they do.
            next = unsafe { Self::new(server.record().next) };
        }
    }

    fn record(&self) -> &sys::server_rec {
        // SAFETY: alive by the promise given to `new`.
        unsafe { self.raw.as_ref() }
    }
}
