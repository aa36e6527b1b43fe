//! Groups of daemon processes: `WSGIDaemonProcess` and what belongs to all groups.

use std::time::Duration;

use super::value::{Fault, Words};

mod environment;
mod options;
#[cfg(test)]
mod tests;

pub use environment::Assignment;
pub use options::{DaemonOption, OPTIONS};

/// What is written about daemon processes, of all groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonSettings {
    /// Groups in file order, as often as they are written.
    pub groups: Vec<Definition>,
    /// `WSGISocketPrefix`
    pub socket_prefix: Option<String>,
    /// `WSGISocketRotation`, which does nothing but cause a notice
    pub socket_rotation: Option<bool>,
    /// `WSGIAcceptMutex`, which does nothing but cause a notice
    pub accept_mutex: Option<AcceptMutex>,
}

/// One `WSGIDaemonProcess`, and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definition {
    /// The group.
    pub process: DaemonProcess,
    /// Where it is written; set by who reads the file.
    pub origin: Origin,
}

/// Where a group is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
    /// `ServerName` of the virtual host, whose requests alone may use the group; `None` in the main
    /// server, whose groups are for all.
    pub server: Option<String>,
}

/// Values of `WSGIAcceptMutex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptMutex(());

impl AcceptMutex {
    /// The names it is written by.
    pub const CHOICES: &[(&str, Self)] = &[
        ("default", Self(())),
        ("flock", Self(())),
        ("fcntl", Self(())),
        ("sysvsem", Self(())),
        ("posixsem", Self(())),
        ("pthread", Self(())),
    ];
}

/// A user or a group of the system, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By name.
    Name(String),
    /// By number: `#1000`.
    Id(u32),
}

/// One group of daemon processes as written; `None` is "not written". The accessors say what holds.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "each field is the option of its name, which OPTIONS explains")]
pub struct DaemonProcess {
    /// The group's name.
    pub name: String,
    pub user: Option<Account>,
    pub group: Option<Account>,
    pub supplementary_groups: Option<Vec<Account>>,
    pub umask: Option<u32>,
    pub chroot: Option<String>,
    pub home: Option<String>,
    pub lang: Option<String>,
    pub locale: Option<String>,
    pub env: Vec<Assignment>,
    pub env_files: Vec<String>,
    pub python_home: Option<String>,
    pub python_path: Option<Vec<String>>,
    pub python_eggs: Option<String>,
    pub display_name: Option<String>,
    pub script_user: Option<Account>,
    pub script_group: Option<Account>,
    pub socket_user: Option<Account>,
    pub processes: Option<u32>,
    pub threads: Option<u32>,
    pub stack_size: Option<u64>,
    pub listen_backlog: Option<u32>,
    pub queue_limit: Option<u32>,
    pub cpu_priority: Option<i32>,
    pub switch_interval: Option<f64>,
    pub send_buffer_size: Option<u64>,
    pub receive_buffer_size: Option<u64>,
    pub header_buffer_size: Option<u64>,
    pub response_buffer_size: Option<u64>,
    pub response_flush_delay: Option<Duration>,
    pub request_buffering: Option<u64>,
    pub response_buffering: Option<u64>,
    pub server_metrics: Option<bool>,
    pub connect_timeout: Option<Duration>,
    pub socket_timeout: Option<Duration>,
    pub response_socket_timeout: Option<Duration>,
    pub queue_timeout: Option<Duration>,
    pub startup_timeout: Option<Duration>,
    pub request_timeout: Option<Duration>,
    pub interrupt_timeout: Option<Duration>,
    pub graceful_timeout: Option<Duration>,
    pub eviction_timeout: Option<Duration>,
    pub shutdown_timeout: Option<Duration>,
    pub deadlock_timeout: Option<Duration>,
    pub inactivity_timeout: Option<Duration>,
    pub restart_interval: Option<Duration>,
    pub reload_wait: Option<Duration>,
    pub maximum_requests: Option<u64>,
    pub cpu_time_limit: Option<Duration>,
    pub memory_limit: Option<u64>,
    pub virtual_memory_limit: Option<u64>,
}

/// Bytes of a request body that are gathered before an application is bothered.
const REQUEST_BUFFERING: u64 = 16 << 20;
/// Bytes of a response that an application need not wait for its client to take.
const RESPONSE_BUFFERING: u64 = 16 << 20;

impl DaemonProcess {
    /// Reads `name [option=value]...`.
    ///
    /// No fault repeats the value of `env=`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut words = Words::new(text);
        let name = match words.word() {
            Some(name) if !name.is_empty() => name,
            _ => return Err(Fault::new("takes the name of a process group, then its options")),
        };
        if name.starts_with("%{") {
            return Err(Fault::new(format!(
                "'{name}' is not allowed: the name of a process group is a word of your own"
            )));
        }
        let mut process = Self { name, ..Self::default() };
        let mut secret = false;
        // What follows a value without quotes may be the rest of it.
        let veiled = |fault, secret| match secret {
            true => Fault::new(
                "what follows env= is not an option: write env=\"NAME=value\" around a value \
                 with blanks",
            ),
            false => fault,
        };
        while let Some((option, value)) = words.option().map_err(|fault| veiled(fault, secret))? {
            let known = OPTIONS.iter().any(|known| known.name == option);
            process.set(option, &value).map_err(|fault| veiled(fault, secret && !known))?;
            secret = option == "env";
        }
        if process.script_user.is_some() && process.script_group.is_some() {
            return Err(Fault::new("script-user= and script-group= exclude each other: write one"));
        }
        Ok(process)
    }

    /// Arguments that [`DaemonProcess::parse`] takes, with the values of `env=` left out, to be shown to anybody;
    /// `None` where there are none.
    #[must_use]
    pub fn concealed(text: &str) -> Option<String> {
        let mut words = Words::new(text);
        let all = words.rest();
        words.word()?;
        let read = |words: &Words<'_>| all.len() - words.rest().len();
        let mut shown = all.get(..read(&words))?.to_owned();
        let mut concealed = false;
        loop {
            let start = read(&words);
            let Ok(Some((option, value))) = words.option() else { break };
            if option == "env" {
                concealed = true;
                let name = value.split('=').next().unwrap_or_default();
                shown.push_str(&format!("env={name}=... "));
            } else {
                shown.push_str(all.get(start..read(&words)).unwrap_or_default());
            }
        }
        shown.truncate(shown.trim_end().len());
        concealed.then_some(shown)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        match OPTIONS.iter().find(|option| option.name == name) {
            Some(option) => {
                option.apply(self, value).map_err(|fault| Fault::new(format!("{name}=: {fault}")))
            }
            None => {
                let nearest = options::nearest(name);
                Err(Fault::new(format!("unknown option '{name}': did you mean {nearest}=?")))
            }
        }
    }

    /// What is accepted but does not do what its writer may expect: one line each, for the log at
    /// start.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let name = &self.name;
        let mut notices: Vec<String> = OPTIONS
            .iter()
            .filter(|option| option.is_written_in_vain(self))
            .map(|option| {
                format!(
                    "process group '{name}': {}= has no effect here and can be removed: {}",
                    option.name, option.help
                )
            })
            .collect();
        if self.interrupt_timeout().is_some() && self.request_timeout().is_none() {
            notices.push(format!(
                "process group '{name}': interrupt-timeout= has no effect without request-timeout="
            ));
        }
        if self.eviction_timeout.is_some_and(|time| time.is_zero()) {
            notices.push(format!(
                "process group '{name}': eviction-timeout=0 means that graceful-timeout= holds"
            ));
        }
        notices
    }
}

/// Zero turns off.
fn unless_zero(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

fn on(size: Option<u64>) -> Option<u64> {
    size.filter(|size| *size > 0)
}

/// What holds.
impl DaemonProcess {
    /// How many processes; 1 unless written.
    #[must_use]
    pub fn processes(&self) -> u32 {
        self.processes.unwrap_or(1)
    }

    /// What applications are told in `wsgi.multiprocess`: whether `processes=` is written, even 1.
    #[must_use]
    pub fn multiprocess(&self) -> bool {
        self.processes.is_some()
    }

    /// How many threads each has; 15 unless written. 0 is a service, which serves no requests.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads.unwrap_or(15)
    }

    /// How many connections wait in the kernel; 100 unless written.
    #[must_use]
    pub fn listen_backlog(&self) -> u32 {
        self.listen_backlog.unwrap_or(100)
    }

    /// How many requests may wait for a thread; as many as connections unless written.
    #[must_use]
    pub fn queue_limit(&self) -> u32 {
        self.queue_limit.unwrap_or_else(|| self.listen_backlog())
    }

    /// Name for the process table, with its pattern replaced.
    #[must_use]
    pub fn display_name(&self) -> Option<String> {
        let pattern = self.display_name.as_ref()?;
        Some(pattern.replace("%{GROUP}", &format!("(wsgi:{})", self.name)))
    }

    /// How much of a request body is gathered before it takes a thread; 0 is nothing.
    #[must_use]
    pub fn request_buffering(&self) -> u64 {
        self.request_buffering.unwrap_or(REQUEST_BUFFERING)
    }

    /// How much of a response is taken off an application's hands; 0 is nothing.
    #[must_use]
    pub fn response_buffering(&self) -> u64 {
        self.response_buffering.unwrap_or(RESPONSE_BUFFERING)
    }

    /// How long a child tries to connect; 15 seconds unless written, and zero is one attempt.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Duration::from_secs(15))
    }

    /// How long one read or write on the socket may take; `None` is httpd's `Timeout`.
    #[must_use]
    pub fn socket_timeout(&self) -> Option<Duration> {
        unless_zero(self.socket_timeout)
    }

    /// How long one write to the client may take; as for the socket unless written. `None` leaves
    /// it as it is.
    #[must_use]
    pub fn response_socket_timeout(&self) -> Option<Duration> {
        unless_zero(self.response_socket_timeout).or_else(|| self.socket_timeout())
    }

    /// How old a request may be when a thread takes it up.
    #[must_use]
    pub fn queue_timeout(&self) -> Option<Duration> {
        unless_zero(self.queue_timeout)
    }

    /// How long a process may take until it can serve.
    #[must_use]
    pub fn startup_timeout(&self) -> Option<Duration> {
        unless_zero(self.startup_timeout)
    }

    /// How long a request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Option<Duration> {
        unless_zero(self.request_timeout)
    }

    /// How long a request that took too long may go on after it was interrupted.
    #[must_use]
    pub fn interrupt_timeout(&self) -> Option<Duration> {
        unless_zero(self.interrupt_timeout)
    }

    /// How long requests of a process that is replaced may go on; 15 seconds unless written.
    #[must_use]
    pub fn graceful_timeout(&self) -> Option<Duration> {
        unless_zero(Some(self.graceful_timeout.unwrap_or(Duration::from_secs(15))))
    }

    /// The same where a signal or a reload asked for it.
    #[must_use]
    pub fn eviction_timeout(&self) -> Option<Duration> {
        unless_zero(self.eviction_timeout).or_else(|| self.graceful_timeout())
    }

    /// How long a process that ends may take; 5 seconds unless written.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Option<Duration> {
        unless_zero(Some(self.shutdown_timeout.unwrap_or(Duration::from_secs(5))))
    }

    /// How long the interpreter may be out of reach; 300 seconds unless written.
    #[must_use]
    pub fn deadlock_timeout(&self) -> Option<Duration> {
        unless_zero(Some(self.deadlock_timeout.unwrap_or(Duration::from_secs(300))))
    }

    /// How long a process may have nothing to do.
    #[must_use]
    pub fn inactivity_timeout(&self) -> Option<Duration> {
        unless_zero(self.inactivity_timeout)
    }

    /// How old a process may get.
    #[must_use]
    pub fn restart_interval(&self) -> Option<Duration> {
        unless_zero(self.restart_interval)
    }

    /// How long requests wait for a process with new code instead of being served by old code;
    /// `None`: not at all.
    #[must_use]
    pub fn reload_wait(&self) -> Option<Duration> {
        unless_zero(self.reload_wait)
    }

    /// How many requests a process serves.
    #[must_use]
    pub fn maximum_requests(&self) -> Option<u64> {
        self.maximum_requests.filter(|count| *count > 0)
    }

    /// How much time a process may take of the processors, in whole seconds.
    #[must_use]
    pub fn cpu_time_limit(&self) -> Option<u64> {
        let time = unless_zero(self.cpu_time_limit)?;
        Some(time.as_secs() + u64::from(time.subsec_nanos() > 0))
    }

    /// How much data a process may have in memory, in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        on(self.memory_limit)
    }

    /// How much address space a process may use, in bytes.
    #[must_use]
    pub fn virtual_memory_limit(&self) -> Option<u64> {
        on(self.virtual_memory_limit)
    }
}

impl DaemonSettings {
    /// As [`DaemonProcess::notices`], for what belongs to no group.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.socket_rotation.is_some() {
            notices.push(
                "WSGISocketRotation does nothing and can be removed: a socket stays the same as \
                 long as its group does"
                    .to_owned(),
            );
        }
        if self.accept_mutex.is_some() {
            notices.push(
                "WSGIAcceptMutex does nothing and can be removed: processes of a group need no \
                 lock to share their socket"
                    .to_owned(),
            );
        }
        notices
    }
}
