//! Every option of `WSGIDaemonProcess`: its name, how it is written, what it does.

use super::{Account, Assignment, DaemonProcess};
use crate::settings::process::directories;
use crate::settings::value::{Fault, duration, milliseconds, on_off, seconds, signed, size, whole};

/// One option.
#[derive(Debug)]
pub struct DaemonOption {
    /// Its name.
    pub name: &'static str,
    /// What is written behind the `=`, in the notation of httpd's documentation.
    pub value: &'static str,
    /// What holds where it is not written; `none` where that is nothing at all.
    pub default: &'static str,
    /// What it is for, in one line; for one that has no effect, why.
    pub help: &'static str,
    set: fn(&mut DaemonProcess, &str) -> Result<(), Fault>,
    /// For an option that has no effect: whether it is written.
    vain: Option<fn(&DaemonProcess) -> bool>,
}

impl DaemonOption {
    const fn new(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
        set: fn(&mut DaemonProcess, &str) -> Result<(), Fault>,
    ) -> Self {
        Self { name, value, default, help, set, vain: None }
    }

    const fn in_vain(self, written: fn(&DaemonProcess) -> bool) -> Self {
        Self { vain: Some(written), ..self }
    }

    pub(super) fn apply(&self, process: &mut DaemonProcess, text: &str) -> Result<(), Fault> {
        (self.set)(process, text)
    }

    /// Whether it has an effect.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        self.vain.is_none()
    }

    pub(super) fn is_written_in_vain(&self, process: &DaemonProcess) -> bool {
        self.vain.is_some_and(|written| written(process))
    }
}

/// All options, in the order of the reference page.
pub static OPTIONS: &[DaemonOption] = &[
    // Who the processes are.
    DaemonOption::new("user", "name|#uid", "httpd's User", "The user they run as", |p, t| {
        put(&mut p.user, user(t))
    }),
    DaemonOption::new("group", "name|#gid", "httpd's Group", "Their group", |p, t| {
        put(&mut p.group, account(t))
    }),
    DaemonOption::new(
        "supplementary-groups",
        "group[,group]...",
        "those that the user belongs to",
        "Their other groups, each a name or #gid",
        |p, t| put(&mut p.supplementary_groups, t.split(',').map(account).collect()),
    ),
    DaemonOption::new("umask", "0nnn", "httpd's", "Bits that no new file has, in octal", |p, t| {
        put(&mut p.umask, octal(t))
    }),
    DaemonOption::new("chroot", "directory", "none", "The directory that is / to them", |p, t| {
        put(&mut p.chroot, absolute(t))
    }),
    DaemonOption::new(
        "home",
        "directory",
        "the user's home, or / for httpd's user",
        "The directory they start in; if written, also the first on sys.path",
        |p, t| put(&mut p.home, absolute(t)),
    ),
    DaemonOption::new("lang", "locale", "C.UTF-8", "LANG in their environment", |p, t| {
        put(&mut p.lang, text(t))
    }),
    DaemonOption::new("locale", "locale", "none", "LC_ALL in their environment", |p, t| {
        put(&mut p.locale, text(t))
    }),
    DaemonOption::new(
        "env",
        "NAME=value",
        "none",
        "A variable of their environment; may be repeated",
        |p, t| {
            p.env.push(Assignment::parse(t)?);
            Ok(())
        },
    ),
    DaemonOption::new(
        "env-file",
        "file",
        "none",
        "A file with variables of their environment, read as root; may be repeated",
        |p, t| {
            p.env_files.push(absolute(t)?);
            Ok(())
        },
    ),
    DaemonOption::new("python-home", "path", "WSGIPythonHome", "The Python they run", |p, t| {
        put(&mut p.python_home, text(t))
    }),
    DaemonOption::new(
        "python-path",
        "directory[:directory]...",
        "none",
        "Directories at the front of the module search path",
        |p, t| put(&mut p.python_path, directories(t)),
    ),
    DaemonOption::new(
        "python-eggs",
        "directory",
        "none",
        "The directory that Python eggs are unpacked to",
        |p, t| put(&mut p.python_eggs, text(t)),
    ),
    DaemonOption::new(
        "display-name",
        "name|%{GROUP}",
        "none",
        "Their name in the process table",
        |p, t| put(&mut p.display_name, text(t)),
    ),
    DaemonOption::new(
        "script-user",
        "name|#uid",
        "none",
        "The only user whose scripts are run",
        |p, t| put(&mut p.script_user, account(t)),
    ),
    DaemonOption::new(
        "script-group",
        "name|#gid",
        "none",
        "The only group whose scripts are run",
        |p, t| put(&mut p.script_group, account(t)),
    ),
    DaemonOption::new("socket-user", "name|#uid", "httpd's User", "Owner of the socket", |p, t| {
        put(&mut p.socket_user, account(t))
    }),
    // How many and how large.
    DaemonOption::new("processes", "number", "1", "How many processes", |p, t| {
        put(&mut p.processes, number(t, 1, 4_096))
    }),
    DaemonOption::new(
        "threads",
        "number",
        "15",
        "How many threads each has; 0 runs import scripts alone",
        |p, t| put(&mut p.threads, number(t, 0, 65_533)),
    ),
    DaemonOption::new("stack-size", "bytes", "the system's", "Stack of a thread", |p, t| {
        put(&mut p.stack_size, size(t, 1))
    }),
    DaemonOption::new(
        "listen-backlog",
        "number",
        "100",
        "How many connections the kernel lets wait",
        |p, t| put(&mut p.listen_backlog, number(t, 1, 65_535)),
    ),
    DaemonOption::new(
        "queue-limit",
        "number",
        "the value of listen-backlog",
        "How many requests may wait for a thread, one at least; more are answered with 503 at once",
        |p, t| put(&mut p.queue_limit, number(t, 0, 1_000_000)),
    ),
    DaemonOption::new("cpu-priority", "number", "0", "Nice value, -20 to 19", |p, t| {
        put(&mut p.cpu_priority, signed(t, -20, 19))
    }),
    DaemonOption::new(
        "switch-interval",
        "seconds",
        "Python's own, 0.005",
        "How long a thread may keep the interpreter lock while others wait",
        |p, t| put(&mut p.switch_interval, seconds(t)),
    ),
    DaemonOption::new(
        "send-buffer-size",
        "bytes",
        "none",
        "both directions of a request flow at the same time, so no buffer can be too small",
        |p, t| put(&mut p.send_buffer_size, size(t, 512)),
    )
    .in_vain(|p| p.send_buffer_size.is_some()),
    DaemonOption::new(
        "receive-buffer-size",
        "bytes",
        "none",
        "both directions of a request flow at the same time, so no buffer can be too small",
        |p, t| put(&mut p.receive_buffer_size, size(t, 512)),
    )
    .in_vain(|p| p.receive_buffer_size.is_some()),
    DaemonOption::new(
        "header-buffer-size",
        "bytes",
        "none",
        "a header may be as long as all headers of a response together, 1M",
        |p, t| put(&mut p.header_buffer_size, size(t, 8_192)),
    )
    .in_vain(|p| p.header_buffer_size.is_some()),
    DaemonOption::new(
        "response-buffer-size",
        "bytes",
        "none",
        "what an application yields is sent on at once, and response-buffering= bounds what waits",
        |p, t| put(&mut p.response_buffer_size, size(t, 65_536)),
    )
    .in_vain(|p| p.response_buffer_size.is_some()),
    DaemonOption::new(
        "response-flush-delay",
        "milliseconds",
        "none",
        "what an application yields is sent on without delay",
        |p, t| put(&mut p.response_flush_delay, milliseconds(t)),
    )
    .in_vain(|p| p.response_flush_delay.is_some()),
    DaemonOption::new(
        "request-buffering",
        "bytes|Off",
        "16M",
        "How much of a request body is gathered before a thread is taken",
        |p, t| put(&mut p.request_buffering, buffering(t)),
    ),
    DaemonOption::new(
        "response-buffering",
        "bytes|Off",
        "16M",
        "How much of a response is kept for a slow client while the thread goes on",
        |p, t| put(&mut p.response_buffering, buffering(t)),
    ),
    DaemonOption::new(
        "server-metrics",
        "On|Off",
        "Off",
        "what mod_wsgi.server_metrics() tells is in httpd's memory, which is not theirs to see",
        |p, t| put(&mut p.server_metrics, on_off(t)),
    )
    .in_vain(|p| p.server_metrics == Some(true)),
    // How long.
    DaemonOption::new(
        "connect-timeout",
        "time",
        "15",
        "How long httpd tries to reach a process, before 503",
        |p, t| put(&mut p.connect_timeout, duration(t)),
    ),
    DaemonOption::new(
        "socket-timeout",
        "time",
        "httpd's Timeout",
        "How long one read or write between httpd and a process may take",
        |p, t| put(&mut p.socket_timeout, duration(t)),
    ),
    DaemonOption::new(
        "response-socket-timeout",
        "time",
        "the value of socket-timeout",
        "How long one write to the client may take",
        |p, t| put(&mut p.response_socket_timeout, duration(t)),
    ),
    DaemonOption::new(
        "queue-timeout",
        "time",
        "0, no limit",
        "How long a request may wait for a thread, before 504",
        |p, t| put(&mut p.queue_timeout, duration(t)),
    ),
    DaemonOption::new(
        "startup-timeout",
        "time",
        "0, no limit",
        "How long a process may take until it can serve",
        |p, t| put(&mut p.startup_timeout, duration(t)),
    ),
    DaemonOption::new(
        "request-timeout",
        "time",
        "0, no limit",
        "How long a request may take, before 504",
        |p, t| put(&mut p.request_timeout, duration(t)),
    ),
    DaemonOption::new(
        "interrupt-timeout",
        "time",
        "0, not interrupted",
        "How long a request that took too long may go on after an exception in it",
        |p, t| put(&mut p.interrupt_timeout, duration(t)),
    ),
    DaemonOption::new(
        "graceful-timeout",
        "time",
        "15",
        "How long requests may go on in a process that has been replaced",
        |p, t| put(&mut p.graceful_timeout, duration(t)),
    ),
    DaemonOption::new(
        "eviction-timeout",
        "time",
        "the value of graceful-timeout",
        "The same where a signal or a reload of httpd asked for it",
        |p, t| put(&mut p.eviction_timeout, duration(t)),
    ),
    DaemonOption::new(
        "shutdown-timeout",
        "time",
        "5",
        "How long the end of a process may take after its requests",
        |p, t| put(&mut p.shutdown_timeout, duration(t)),
    ),
    DaemonOption::new(
        "deadlock-timeout",
        "time",
        "300",
        "How long the interpreter lock may be out of reach, or the process not say anything, before it is replaced",
        |p, t| put(&mut p.deadlock_timeout, duration(t)),
    ),
    DaemonOption::new(
        "inactivity-timeout",
        "time",
        "0, no limit",
        "How long a process may be idle before it is replaced",
        |p, t| put(&mut p.inactivity_timeout, duration(t)),
    ),
    DaemonOption::new(
        "restart-interval",
        "time",
        "0, no limit",
        "The age at which a process is replaced",
        |p, t| put(&mut p.restart_interval, duration(t)),
    ),
    DaemonOption::new(
        "reload-wait",
        "time",
        "0, not at all",
        "How long requests wait for changed code that imports; until then the code before serves them",
        |p, t| put(&mut p.reload_wait, duration(t)),
    ),
    // How much.
    DaemonOption::new(
        "maximum-requests",
        "number",
        "0, no limit",
        "How many requests a process serves before it is replaced",
        |p, t| put(&mut p.maximum_requests, whole(t, 0, u64::from(u32::MAX))),
    ),
    DaemonOption::new(
        "cpu-time-limit",
        "time",
        "0, no limit",
        "Processor time after which a process is replaced",
        |p, t| put(&mut p.cpu_time_limit, duration(t)),
    ),
    DaemonOption::new(
        "memory-limit",
        "bytes",
        "0, no limit",
        "Data that a process may have in memory, beside stacks (RLIMIT_DATA); at 90% of it, it is replaced",
        |p, t| put(&mut p.memory_limit, size(t, 0)),
    ),
    DaemonOption::new(
        "virtual-memory-limit",
        "bytes",
        "0, no limit",
        "Address space that a process may use (RLIMIT_AS)",
        |p, t| put(&mut p.virtual_memory_limit, size(t, 0)),
    ),
];

/// The option whose name takes the fewest changes to get to.
pub(super) fn nearest(name: &str) -> &'static str {
    let options = OPTIONS.iter().map(|option| option.name);
    options.min_by_key(|option| distance(name, option)).unwrap_or_default()
}

/// How many characters have to be added, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.bytes().enumerate() {
        let mut corner = index;
        let mut left = index + 1;
        for (place, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let replaced = corner + usize::from(a != b);
            corner = *place;
            left = replaced.min(corner + 1).min(left + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn put<T>(place: &mut Option<T>, read: Result<T, Fault>) -> Result<(), Fault> {
    *place = Some(read?);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "one of many readers, which may all refuse")]
fn text(text: &str) -> Result<String, Fault> {
    Ok(text.to_owned())
}

fn absolute(text: &str) -> Result<String, Fault> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("'{text}' is not allowed: write an absolute path, which begins with /")))
}

fn number(text: &str, from: u32, to: u32) -> Result<u32, Fault> {
    let number = whole(text, from.into(), to.into())?;
    Ok(u32::try_from(number).unwrap_or(to))
}

fn octal(text: &str) -> Result<u32, Fault> {
    let digits = text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mask = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    mask.filter(|mask| *mask <= 0o777).ok_or_else(|| {
        Fault::new(format!(
            "'{text}' is not allowed: write an octal number up to 0777, such as 0022"
        ))
    })
}

fn account(text: &str) -> Result<Account, Fault> {
    let account = match text.strip_prefix('#') {
        // The highest number means "no user" to the kernel.
        Some(id) => whole(id, 0, u64::from(u32::MAX) - 1)
            .ok()
            .and_then(|id| u32::try_from(id).ok())
            .map(Account::Id),
        None => (!text.is_empty()).then(|| Account::Name(text.to_owned())),
    };
    account.ok_or_else(|| {
        Fault::new(format!("'{text}' is not allowed: write a name, or a number as #1000"))
    })
}

fn user(text: &str) -> Result<Account, Fault> {
    let user = account(text)?;
    if user == Account::Id(0) {
        return Err(Fault::new("applications do not run as root: write another user"));
    }
    Ok(user)
}

fn buffering(text: &str) -> Result<u64, Fault> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    size(text, 0).map_err(|_| {
        Fault::new(format!(
            "'{text}' is not allowed: write a number of bytes, such as 524288, 512K or 16M, or Off"
        ))
    })
}
