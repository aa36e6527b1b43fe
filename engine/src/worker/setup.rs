//! What the supervisor has said, in the words of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::settings::{HashSeed, InterpreterBlock, InterpreterSettings, ProcessSettings};
use crate::wire::control::{InterpreterPlan, Section, Setup};
use crate::wsgi::{Facts, GroupFacts};

/// An application with a fixed mount.
pub(super) struct Mount {
    pub(super) path: String,
    pub(super) group: Arc<str>,
    pub(super) callable: String,
}

pub(super) fn mounts(setup: &Setup) -> HashMap<u64, Mount> {
    let mount = |mount: &crate::wire::control::Mount| Mount {
        path: mount.path.clone(),
        group: mount.application_group.as_str().into(),
        callable: mount.callable.clone(),
    };
    setup.mounts.iter().map(|given| (given.id, mount(given))).collect()
}

/// The settings of Python and its interpreters.
pub(super) fn settings(setup: &Setup) -> ProcessSettings {
    let python = &setup.python;
    // What the group says holds for all its interpreters, below what sections say.
    let group = InterpreterBlock {
        settings: InterpreterSettings {
            switch_interval: python.switch_interval,
            python_path: setup.home.iter().chain(&python.path).cloned().collect(),
            // A service script is a program of its own and has the main thread.
            restrict_signal: (setup.threads == 0).then_some(false),
            ..InterpreterSettings::default()
        },
        ..InterpreterBlock::default()
    };
    ProcessSettings {
        python_eggs: python.eggs.clone(),
        optimize: Some(python.optimize),
        warnings: python.warnings.clone(),
        hash_seed: python.hash_seed.map(HashSeed::Fixed),
        dont_write_bytecode: Some(python.dont_write_bytecode),
        destroy_interpreter: Some(python.destroy_interpreter),
        case_sensitivity: Some(python.case_sensitivity),
        interpreter: interpreter(&python.interpreter),
        blocks: std::iter::once(group).chain(python.sections.iter().map(section)).collect(),
        ..ProcessSettings::default()
    }
}

fn interpreter(plan: &InterpreterPlan) -> InterpreterSettings {
    InterpreterSettings {
        per_interpreter_gil: plan.per_interpreter_gil,
        free_threading: plan.free_threading,
        switch_interval: plan.switch_interval,
        python_path: plan.python_path.clone(),
        restrict_stdin: plan.restrict_stdin,
        restrict_stdout: plan.restrict_stdout,
        restrict_signal: plan.restrict_signal,
    }
}

fn section(section: &Section) -> InterpreterBlock {
    InterpreterBlock {
        process_group: section.process_group.clone(),
        application_group: section.application_group.clone(),
        settings: interpreter(&section.settings),
    }
}

/// What applications are told of the server and of their group.
pub(super) fn facts(setup: &Setup) -> Facts {
    let server = &setup.server;
    Facts {
        httpd_version: (server.major, server.minor, server.patch),
        server_description: server.description.clone(),
        server_built: server.built.clone(),
        mpm_name: server.mpm_name.clone(),
        maximum_processes: server.maximum_processes,
        threads_per_process: server.threads_per_process,
        multithread: setup.threads != 1,
        multiprocess: server.multiprocess,
        process_group: setup.group.clone(),
        group: Some(GroupFacts {
            processes: i32::try_from(setup.processes).unwrap_or(i32::MAX),
            threads: i32::try_from(setup.threads).unwrap_or(i32::MAX),
            run_once: setup.threads == 1 && setup.life.maximum_requests == Some(1),
        }),
    }
}
