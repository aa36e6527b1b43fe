//! From URL to script: the script aliases.

use std::ffi::CStr;
use std::marker::PhantomData;

use engine::settings::server::match_prefix;

use crate::apache::hook::{RequestHook, Wiring};
use crate::apache::{Request, Verdict};
use crate::config::attach::{Matcher, MountIndex, ServerConfig};

/// The handler that script aliases set, and that `SetHandler` and `AddHandler` name.
pub(crate) const HANDLER: &CStr = c"wsgi-script";

/// httpd's note that a URL was mapped by an alias that says what its target is. mod_rewrite and others
/// look at it.
const FORCED_TYPE: &CStr = c"alias-forced-type";

/// Maps URLs that a script alias matches.
pub(crate) struct Map<W>(PhantomData<W>);

impl<W> RequestHook for Map<W>
where
    W: Wiring<Server = ServerConfig, Request = MountIndex>,
{
    fn run(request: &mut Request<'_>) -> Verdict {
        let server = request.server();
        let Some(config) = server.as_ref().and_then(|server| server.config::<W>()) else {
            return Verdict::Declined;
        };
        let Some((index, filename)) = find(request, config) else { return Verdict::Declined };
        request.map(filename, HANDLER);
        if let Some(notes) = request.notes() {
            notes.set_static(FORCED_TYPE, HANDLER);
        }
        request.remember::<W>(index);
        Verdict::Ok
    }
}

/// The first mount that matches the request's URL, and the file that it leads to.
pub(crate) fn find<'r>(
    request: &Request<'r>,
    config: &ServerConfig,
) -> Option<(MountIndex, &'r CStr)> {
    let uri = request.uri();
    let path = uri.to_bytes();
    // Proxy requests and `OPTIONS *` name no path of this server.
    if config.mounts.is_empty() || !matches!(path.first(), None | Some(b'/')) {
        return None;
    }
    config.mounts.iter().enumerate().find_map(|(index, mount)| {
        let filename = match &mount.matcher {
            Matcher::Prefix(location) => {
                let end = match_prefix(location, path)?;
                // The root takes the slash that separates it from the rest with it.
                let rest = if location == "/" { path } else { path.get(end..)? };
                request.pool().text(&[mount.target.to_bytes(), rest])
            }
            Matcher::Regex(regex) => {
                let matches = regex.find(uri)?;
                let end = matches.end();
                // A match of nothing is not taken for one, as mod_wsgi has it.
                if end == 0 {
                    return None;
                }
                let pool = request.pool();
                let target = matches.expand(&pool, &mount.target, uri)?;
                let rest = if path.get(..end)? == b"/" { path } else { path.get(end..)? };
                pool.text(&[target.to_bytes(), rest])
            }
        };
        Some((MountIndex(index), filename))
    })
}

/// Whether an alias said that the target is a WSGI script.
pub(crate) fn is_aliased(request: &Request<'_>) -> bool {
    request
        .notes()
        .and_then(|notes| notes.value(FORCED_TYPE))
        .is_some_and(|forced| forced.to_bytes().eq_ignore_ascii_case(HANDLER.to_bytes()))
}
