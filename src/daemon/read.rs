//! From httpd's configuration to what a plan is made of.

use std::fs;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use engine::python::locate;
use engine::settings::{ProcessSettings, RequestSettings};
use engine::wire::BuildId;
use engine::wire::control;

use super::plan::{Httpd, Input, Name, System, Use, Written};
use crate::apache::account::{self, User};
use crate::apache::hook::Wiring;
use crate::apache::{Server, process};
use crate::config::attach::{GroupUse, Matcher, Mount, ServerConfig};

/// A configuration, out of httpd's hands.
pub(crate) struct Configuration {
    settings: ProcessSettings,
    servers: Vec<OneServer>,
}

struct OneServer {
    name: String,
    port: u16,
    request: RequestSettings,
    /// Those that no server before has.
    mounts: Vec<Arc<Mount>>,
    /// The process groups that it names.
    uses: Vec<GroupUse>,
}

impl Configuration {
    /// Reads the configuration that begins with this server.
    pub(crate) fn read<W: Wiring<Server = ServerConfig>>(main: &Server<'_>) -> Self {
        let mut settings =
            main.config::<W>().map(|config| config.process().settings.clone()).unwrap_or_default();
        let mut servers: Vec<OneServer> = Vec::new();
        let of_main = main.config::<W>();
        main.each(|server| {
            let Some(config) = server.config::<W>() else { return };
            // A virtual host without directives of ours has the main server's configuration itself.
            let own = !server.is_virtual() || !of_main.is_some_and(|main| ptr::eq(main, config));
            let known = |mount: &Arc<Mount>| {
                servers.iter().flat_map(|one| &one.mounts).any(|other| Arc::ptr_eq(mount, other))
            };
            let mounts = config.mounts.iter().filter(|mount| !known(mount)).cloned().collect();
            let name = server.name().unwrap_or_default().to_string_lossy().into_owned();
            if server.is_virtual() && own {
                // Known now only: ServerName may stand below WSGIDaemonProcess.
                for index in &config.defined {
                    if let Some(group) = settings.daemon.groups.get_mut(*index) {
                        group.origin.server = Some(name.clone());
                    }
                }
            }
            servers.push(OneServer {
                name,
                port: server.port(),
                request: config.request.clone(),
                mounts,
                uses: if own { config.uses.clone() } else { Vec::new() },
            });
        });
        Self { settings, servers }
    }

    /// The settings of the process.
    pub(crate) fn settings(&self) -> &ProcessSettings {
        &self.settings
    }

    /// What a plan is made of.
    pub(crate) fn input(&self, httpd: Httpd) -> Input<'_> {
        let mut mounts = Vec::new();
        let mut uses = Vec::new();
        for one in &self.servers {
            let server = Name { name: &one.name, port: one.port };
            for mount in &one.mounts {
                let location = match &mount.matcher {
                    Matcher::Prefix(location) => Some(location.as_str()),
                    Matcher::Regex(_) => None,
                };
                // Arguments of directives are UTF-8, or the directive was refused.
                let target = mount.target.to_str().unwrap_or_default();
                let (options, request) = (&mount.options, &one.request);
                let place = mount.place.clone();
                mounts.push(Written { location, target, options, request, server, place });
            }
            for GroupUse { group, place } in &one.uses {
                uses.push(Use { group, server, place: place.clone() });
            }
        }
        Input { settings: &self.settings, mounts, uses, httpd }
    }
}

/// What is known of httpd.
pub(crate) fn httpd(main: &Server<'_>, build: BuildId) -> Httpd {
    let own = account::own();
    let root = own.0 == 0;
    let (user, uid, gid) = if root { account::httpd() } else { (None, own.0, own.1) };
    let (major, minor, patch) = process::httpd_version();
    Httpd {
        build,
        user,
        uid,
        gid,
        root,
        timeout: main.timeout(),
        time_zone: std::env::var("TZ").ok(),
        server: control::Server {
            major,
            minor,
            patch,
            description: process::description(),
            built: process::built(),
            mpm_name: process::mpm_name(),
            maximum_processes: process::maximum_processes(),
            threads_per_process: process::threads_per_process(),
            multiprocess: false,
        },
    }
}

/// The system that httpd runs on.
pub(crate) struct ThisSystem;

impl System for ThisSystem {
    fn user_named(&self, name: &str) -> Option<User> {
        account::user_named(name)
    }

    fn user_numbered(&self, uid: u32) -> User {
        account::user_numbered(uid)
    }

    fn group_named(&self, name: &str) -> Option<u32> {
        account::group_named(name)
    }

    fn groups_of(&self, name: &str, primary: u32) -> Vec<u32> {
        account::groups_of(name, primary)
    }

    fn python(&self, home: Option<&str>) -> Result<String, String> {
        let program =
            locate::interpreter(home.map(Path::new)).map_err(|fault| fault.to_string())?;
        program.into_os_string().into_string().map_err(|_| "its path is not UTF-8".to_owned())
    }

    fn read(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn barrier(&self, path: &str, uid: u32, gids: &[u32], elsewhere: &str) -> Option<String> {
        locate::barrier(Path::new(path), uid, gids, elsewhere)
    }

    fn is_directory(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }
}
