//! From a group's plan to a process.

use std::ffi::CString;
use std::time::Duration;

use engine::wire::control::GroupPlan;
use engine::worker;

use crate::Time;
use crate::group::Policy;
use crate::os::Recipe;

/// Makes what the kernel needs of a plan, or says why the plan is none.
pub(crate) fn recipe(plan: &GroupPlan) -> Result<Recipe, String> {
    if plan.setup.build != engine::BUILD {
        return Err(fault(plan, "the supervisor comes from another build than the Apache module"));
    }
    if !plan.python.starts_with('/') {
        return Err(fault(plan, "the path of its Python is not absolute"));
    }
    if plan.user.as_ref().is_some_and(|user| user.uid == 0) {
        return Err(fault(plan, "it would run as root"));
    }
    let text = |text: &str| CString::new(text).map_err(|_| fault(plan, "a text contains NUL"));
    let call = worker::call(&plan.python, &plan.setup.python, &plan.env);
    let mut environment = Vec::with_capacity(call.environment.len());
    for variable in &call.environment {
        if variable.name.is_empty() || variable.name.contains('=') {
            return Err(fault(plan, "a variable of its environment has no name"));
        }
        environment.push(text(&format!("{}={}", variable.name, variable.value))?);
    }
    let shutdown = plan.life.shutdown.map(|shutdown| shutdown.as_secs());
    Ok(Recipe {
        program: text(&plan.python)?,
        arguments: call.arguments.iter().map(|one| text(one)).collect::<Result<_, _>>()?,
        environment,
        identity: plan.user.as_ref().map(|user| (user.uid, user.gid, user.groups.clone())),
        umask: plan.umask,
        folder: plan.cwd.as_deref().map(text).transpose()?,
        root: plan.chroot.as_deref().map(text).transpose()?,
        nice: plan.nice,
        // The process finishes its requests when it gets the signal of the soft limit; the hard one
        // is the end.
        cpu: plan.limits.cpu_seconds.map(|soft| {
            (soft, shutdown.map(|shutdown| soft.saturating_add(1).saturating_add(shutdown)))
        }),
        data: plan.limits.data,
        space: plan.limits.address_space,
    })
}

/// What the plan says about the life of its processes.
pub(crate) fn policy(plan: &GroupPlan) -> Policy {
    let life = &plan.life;
    Policy {
        processes: plan.processes,
        service: plan.setup.threads == 0,
        startup: life.startup.map(time),
        graceful: life.graceful.map(time),
        eviction: life.eviction.or(life.graceful).map(time),
        shutdown: life.shutdown.map(time),
        restart: life.restart_interval.map(time),
    }
}

/// Never less than what was written: a timeout that is over too early is a fault, one that is late
/// by a millisecond none.
fn time(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(Time::MAX)
}

fn fault(plan: &GroupPlan, what: &str) -> String {
    format!("daemon process group '{}' cannot be started: {what}", plan.name)
}
