//! What tests of daemon processes look at, in `/proc` and below the server root.

use std::fs;
use std::path::Path;

use crate::harness::site::children_of;
use crate::harness::{DEADLINE, Server, tools, wait_for};

/// The state of a process or thread, by the letter that the kernel has for it.
fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether a process is there and has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    !matches!(state(Path::new(&format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// Stops a process, with all its threads.
#[track_caller]
pub(crate) fn stop(pid: u32) {
    tools::signal(pid, "STOP");
    let stopped = wait_for(DEADLINE, || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        threads.all(|thread| state(&thread.path()) == Some('T')).then_some(())
    });
    assert!(stopped.is_some(), "process {pid} goes on");
}

/// Waits until none of these processes is there.
#[track_caller]
pub(crate) fn wait_for_end(pids: &[u32]) {
    let ended = wait_for(DEADLINE, || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    let left: Vec<&u32> = pids.iter().filter(|pid| lives(**pid)).collect();
    assert!(ended.is_some(), "still there: {left:?}");
}

/// All processes that a server has made: httpd's children, the supervisor, daemons, and what those have started.
pub(crate) fn all_processes(server: &Server) -> Vec<u32> {
    let mut all = vec![server.pid()];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children_of(*pid));
        next += 1;
    }
    all
}

/// Waits until so many daemon processes are there, none of them one of `old`, and gives them.
#[track_caller]
pub(crate) fn wait_for_daemons(server: &Server, count: usize, old: &[u32]) -> Vec<u32> {
    let came = wait_for(DEADLINE, || {
        let daemons = server.daemons();
        let fresh = daemons.iter().all(|pid| !old.contains(pid));
        (daemons.len() == count && fresh).then_some(daemons)
    });
    came.unwrap_or_else(|| panic!("not {count} instead of {old:?}: {:?}", server.daemons()))
}

/// How many descriptors a process has.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A number from `/proc/PID/status`.
pub(crate) fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.map(|value| value.trim().to_owned()).unwrap_or_default()
}

/// The files of a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
