//! The module as httpd sees it: its name, its configuration, its hooks and their order.

use engine::settings::Entry;

use crate::apache::hook::{Hooks, Neighbours, Wiring, module_record};
use crate::apache::{Command, Pool, Server, reload};
use crate::config::attach::{self, DirectoryConfig, MountIndex, ServerConfig};
use crate::config::resolve;
use crate::daemon;
use crate::handler::{access, child, dispatch, mapping};

// `<IfModule mod_wsgi.c>` asks for this name, and `<IfModule wsgi_module>` for the symbol.
module_record!(Module, c"mod_wsgi.c");

/// The wiring.
pub(crate) struct Module;

impl Wiring for Module {
    type Server = ServerConfig;
    type Directory = DirectoryConfig;
    type Request = MountIndex;

    fn server(pool: &Pool<'_>, server: &Server<'_>) -> ServerConfig {
        ServerConfig::new(pool, server)
    }

    fn merge_server(base: &ServerConfig, over: &ServerConfig) -> ServerConfig {
        ServerConfig::merge(base, over)
    }

    fn directory() -> DirectoryConfig {
        DirectoryConfig::default()
    }

    fn merge_directory(base: &DirectoryConfig, over: &DirectoryConfig) -> DirectoryConfig {
        DirectoryConfig::merge(base, over)
    }

    fn directive(entry: &'static Entry, command: &mut Command<'_>) -> Result<(), String> {
        attach::apply::<Self>(entry, command)
    }

    fn register(hooks: &Hooks<'_>) {
        hooks.check_config::<resolve::Check<Self>>();
        hooks.check_config::<daemon::Check<Self>>();
        hooks.test_config::<daemon::Tell<Self>>();
        hooks.post_config::<resolve::Announce<Self>>();
        hooks.post_config::<daemon::Run<Self>>();
        hooks.configured::<reload::Hasten>();
        hooks.child_started::<reload::Started>();
        hooks.monitor::<daemon::Tick>();
        hooks.optional_functions::<resolve::Retrieve>();
        hooks.child_init::<child::Start<Self>>();
        hooks.translate_name::<mapping::Map<Self>>(Neighbours {
            // A more specific Alias of mod_alias goes before a WSGIScriptAlias for all of the site.
            after: &[c"mod_alias.c"],
            // These claim whole classes of URLs; a script alias is meant where it is written.
            before: &[c"mod_userdir.c", c"mod_vhost_alias.c"],
        });
        hooks.check_access::<access::Admit<Self>>(Neighbours {
            // Scripts may ask what mod_ssl knows of the client.
            after: &[c"mod_ssl.c"],
            before: &[c"mod_authz_host.c"],
        });
        hooks.users::<access::Users<Self>>(c"wsgi");
        hooks.groups::<access::Groups<Self>>(c"wsgi-group");
        hooks.handler::<dispatch::Answer<Self>>();
    }
}
