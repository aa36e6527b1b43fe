//! `WSGIDispatchScript`: a script says where the application of a request runs.

use engine::settings::GroupName;
use engine::settings::group::variable;
use engine::settings::request::{Callable, Effective};
use engine::wsgi::{Place, Unanswered};

use super::asking::{self, Matter};
use super::paths::Paths;
use crate::apache::Request;
use crate::config::attach::ServerConfig;
use crate::config::lookup;

/// What holds for a request after its dispatch script, if it has one, has been asked.
pub(crate) fn decide<'r>(
    request: &mut Request<'r>,
    config: &ServerConfig,
    effective: Effective<'r>,
    paths: &Paths<'r>,
) -> Result<Effective<'r>, Unanswered> {
    let Some(script) = effective.dispatch else { return Ok(effective) };
    let matter = Matter { effective: &effective, paths, at_the_door: false };
    let place = asking::ask(request, config, script, &matter, |engine, asked, exchange| {
        engine.place(asked, exchange)
    })?;
    Ok(apply(request, effective, &place))
}

fn apply<'r>(request: &Request<'r>, effective: Effective<'r>, place: &Place) -> Effective<'r> {
    let pool = request.pool();
    let text = |bytes: &Vec<u8>| lookup::decode(bytes).into_owned();
    let group = |bytes: &Vec<u8>| pool.hold(GroupName::parse(&text(bytes)));
    Effective {
        process_group: place.process_group.as_ref().map_or(effective.process_group, group),
        application_group: place
            .application_group
            .as_ref()
            .map_or(effective.application_group, group),
        callable: place.callable.as_ref().map_or(effective.callable, |bytes| {
            let name: &'r String = pool.hold(text(bytes));
            variable(name).map_or(Callable::Name(name), Callable::Variable)
        }),
        ..effective
    }
}
