//! Daemon mode in httpd's parent, which is root: what groups there are, where they listen, and the
//! supervisor that keeps their processes. And what its children are left with.
//!
//! `plan` says what shall run, `sockets` where it listens, `start` speaks with the supervisor, `parent`
//! keeps all of it from one configuration to the next. `link` and `reasons` are for children.

#![forbid(unsafe_code)]

pub(crate) mod link;
mod pace;
mod parent;
mod plan;
mod python;
mod read;
mod reasons;
mod sockets;
mod start;

use engine::wire::BuildId;

use self::parent::Parent;
use self::plan::Outcome;
use self::read::{Configuration, ThisSystem};
use crate::apache::hook::Wiring;
use crate::apache::{Pool, Server};
use crate::config::attach::ServerConfig;

/// What is wrong with the configuration of daemon mode, each in one line with file and line. For the test
/// of a configuration; a start says it by itself.
pub(crate) fn faults<W: Wiring<Server = ServerConfig>>(main: &Server<'_>) -> Vec<String> {
    let configuration = Configuration::read::<W>(main);
    outcome(&configuration, main, [0; 32]).faults
}

/// The configuration has been read: has its groups run. Runs in the parent; at the start of httpd twice, of
/// which the first time only opens what is not to change.
pub(crate) fn post_config<W: Wiring<Server = ServerConfig>>(
    pool: &Pool<'_>,
    main: &Server<'_>,
    build: BuildId,
) {
    let Some(process) = main.process_pool() else { return };
    let configuration = Configuration::read::<W>(main);
    let parent = Parent::of(&process);
    if crate::apache::parent::is_first_pass() {
        return;
    }
    let outcome = outcome(&configuration, main, build);
    parent.take_over(&process, pool, configuration.settings(), &outcome);
}

/// A child has started: keeps what it needs to reach its groups, and gives up what is the parent's.
pub(crate) fn child_init(main: &Server<'_>) {
    let Some(process) = main.process_pool() else { return };
    if let Some(links) = Parent::leave(&process) {
        link::keep(links);
    }
}

/// To be called in the parent every now and then: ends what nobody needs any more, and starts the
/// supervisor again where that had to wait.
pub(crate) fn tick(main: &Server<'_>) {
    if let Some(process) = main.process_pool() {
        Parent::tick(&process);
    }
}

fn outcome(configuration: &Configuration, main: &Server<'_>, build: BuildId) -> Outcome {
    let httpd = read::httpd(main, build);
    plan::plan(&configuration.input(httpd), &ThisSystem)
}
