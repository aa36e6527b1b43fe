//! What the supervisor and daemon processes are told, and what they report.

use std::fmt;
use std::time::Duration;

use super::plain::{Plain, plain, plain_choice};
use crate::wire::bytes::Reader;
use crate::wire::frame::Fault;
use crate::wire::{BuildId, Secret};

plain! {
    /// Everything about one process group: what the supervisor needs to start its processes, and
    /// what it hands on.
    #[derive(Clone, Debug)]
    pub struct GroupPlan {
        /// Name of the group.
        pub name: String,
        /// Fingerprint of the whole plan but the secret: an unchanged group has an unchanged one.
        pub id: u64,
        /// How many processes.
        pub processes: u32,
        /// The Python to execute: absolute, with its symbolic links, which say what virtual
        /// environment it is.
        pub python: String,
        /// Who to become; `None` leaves it as it is (httpd was not started by root).
        pub user: Option<Identity>,
        /// `umask=`
        pub umask: Option<u32>,
        /// Where to go before executing Python; a failure is one of starting.
        pub cwd: Option<String>,
        /// `chroot=`
        pub chroot: Option<String>,
        /// The whole environment of the process.
        pub env: Vec<Variable>,
        /// Limits of the kernel.
        pub limits: Limits,
        /// `cpu-priority=`
        pub nice: Option<i32>,
        /// When processes are ended and replaced.
        pub life: Life,
        /// What each process is told.
        pub setup: Setup,
    }

    /// Who a process runs as, resolved.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Identity {
        /// User.
        pub uid: u32,
        /// Primary group.
        pub gid: u32,
        /// Supplementary groups, all of them.
        pub groups: Vec<u32>,
    }

    /// A variable of the environment. Its value may be a secret and is not in `Debug`.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Variable {
        /// Name.
        pub name: String,
        /// Value.
        pub value: String,
    }

    /// Limits of the kernel, soft and hard alike unless said otherwise.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Limits {
        /// `cpu-time-limit=`: soft; the hard one follows after the time to shut down.
        pub cpu_seconds: Option<u64>,
        /// `memory-limit=`: data segment, bytes.
        pub data: Option<u64>,
        /// `virtual-memory-limit=`: address space, bytes.
        pub address_space: Option<u64>,
    }

    /// When processes are ended and replaced. `None` is no limit.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Life {
        /// `startup-timeout=`: from start to READY.
        pub startup: Option<Duration>,
        /// `graceful-timeout=`: for finishing requests.
        pub graceful: Option<Duration>,
        /// `eviction-timeout=`: the same, when a signal or a reload asks for it.
        pub eviction: Option<Duration>,
        /// `shutdown-timeout=`: from the end of requests to SIGKILL.
        pub shutdown: Option<Duration>,
        /// `deadlock-timeout=`: without a sign of life.
        pub deadlock: Option<Duration>,
        /// `inactivity-timeout=`
        pub inactivity: Option<Duration>,
        /// `restart-interval=`: age of a process.
        pub restart_interval: Option<Duration>,
        /// `reload-wait=`: how long a request may wait for new code.
        pub reload_wait: Option<Duration>,
        /// `maximum-requests=`
        pub maximum_requests: Option<u64>,
        /// Resident memory at which a process is replaced, bytes.
        pub resident: Option<u64>,
    }

    /// What a daemon process is told.
    #[derive(Clone, Debug)]
    pub struct Setup {
        /// Name of the group.
        pub group: String,
        /// Fingerprint of the plan.
        pub group_id: u64,
        /// What build the children are.
        pub build: BuildId,
        /// What children prove in HELLO.
        pub secret: Secret,
        /// The user httpd's children run as: connections of others are closed.
        pub peer_uid: u32,
        /// `processes=`
        pub processes: u32,
        /// `threads=`; 0 runs the import scripts and nothing else.
        pub threads: u32,
        /// Whether no other process serves the group: it is READY before it has loaded anything, so that a
        /// script that hangs keeps nobody waiting but those who want it.
        pub alone: bool,
        /// `stack-size=`
        pub stack_size: Option<u64>,
        /// `display-name=`, with its patterns replaced.
        pub display_name: Option<String>,
        /// `locale=`
        pub locale: Option<String>,
        /// `home=`: first on `sys.path`.
        pub home: Option<String>,
        /// Python in this process.
        pub python: PythonPlan,
        /// Timeouts of requests and sockets.
        pub timeouts: Timeouts,
        /// What limits the process by what it does itself: it asks for its replacement.
        pub life: Life,
        /// Applications with a fixed mount: loaded before READY.
        pub mounts: Vec<Mount>,
        /// `WSGIImportScript`, in order.
        pub import_scripts: Vec<ImportScript>,
        /// What applications are told of httpd.
        pub server: Server,
    }

    /// Timeouts of requests and sockets. `None` is no limit.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Timeouts {
        /// `request-timeout=`
        pub request: Option<Duration>,
        /// `interrupt-timeout=`
        pub interrupt: Option<Duration>,
        /// `queue-timeout=`
        pub queue: Option<Duration>,
        /// `socket-timeout=`
        pub socket: Option<Duration>,
    }

    /// An application with a fixed mount.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Mount {
        /// What requests name it by.
        pub id: u64,
        /// The script.
        pub path: String,
        /// The interpreter; empty is the main one.
        pub application_group: String,
        /// The callable in the script.
        pub callable: String,
        /// Whether it is loaded before the process takes requests.
        pub preload: bool,
        /// `WSGIScriptReloading`: new processes are started when its file changes.
        pub reloading: bool,
    }

    /// A script that is loaded when a process starts.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ImportScript {
        /// The script.
        pub path: String,
        /// The interpreter; empty is the main one.
        pub application_group: String,
    }

    /// Python in a daemon process.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct PythonPlan {
        /// `python-path=`, in order.
        pub path: Vec<String>,
        /// `python-eggs=`
        pub eggs: Option<String>,
        /// `switch-interval=`, seconds.
        pub switch_interval: Option<f64>,
        /// `WSGIPythonOptimize`
        pub optimize: u8,
        /// `WSGIPythonWarnings`
        pub warnings: Vec<String>,
        /// `WSGIPythonHashSeed`; `None` is Python's own.
        pub hash_seed: Option<u32>,
        /// `WSGIDontWriteBytecode`
        pub dont_write_bytecode: bool,
        /// Whether a build that can do without a GIL runs with one: unless `WSGIFreeThreading` says otherwise.
        pub gil: bool,
        /// `WSGIDestroyInterpreter`
        pub destroy_interpreter: bool,
        /// `WSGICaseSensitivity`
        pub case_sensitivity: bool,
        /// Top-level settings of interpreters.
        pub interpreter: InterpreterPlan,
        /// `<WSGIInterpreterOptions>` sections in file order.
        pub sections: Vec<Section>,
    }

    /// Settings of interpreters; `None` where nothing was written.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct InterpreterPlan {
        /// `WSGIPerInterpreterGIL`
        pub per_interpreter_gil: Option<bool>,
        /// `WSGIFreeThreading`
        pub free_threading: Option<bool>,
        /// `WSGISwitchInterval`, seconds.
        pub switch_interval: Option<f64>,
        /// `WSGIPythonPath`
        pub python_path: Vec<String>,
        /// `WSGIRestrictStdin`
        pub restrict_stdin: Option<bool>,
        /// `WSGIRestrictStdout`
        pub restrict_stdout: Option<bool>,
        /// `WSGIRestrictSignal`
        pub restrict_signal: Option<bool>,
    }

    /// One `<WSGIInterpreterOptions>` section.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Section {
        /// `process-group=`
        pub process_group: Option<String>,
        /// `application-group=`
        pub application_group: Option<String>,
        /// What is set inside.
        pub settings: InterpreterPlan,
    }

    /// What applications are told of httpd.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Server {
        /// Major version of httpd.
        pub major: i32,
        /// Minor version.
        pub minor: i32,
        /// Patch level.
        pub patch: i32,
        /// `apache.description`
        pub description: String,
        /// `apache.build_date`
        pub built: String,
        /// `event`, `worker`, `prefork`
        pub mpm_name: String,
        /// How many children httpd may have.
        pub maximum_processes: i32,
        /// How many threads each has.
        pub threads_per_process: i32,
        /// `wsgi.multiprocess`: `processes=` was written.
        pub multiprocess: bool,
    }

    /// How the system's log is written to, see RFC 3164.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Syslog {
        /// 0 (`kern`) to 23 (`local7`).
        pub facility: u8,
        /// What messages begin with.
        pub tag: String,
    }

    /// A configuration begins: this many groups follow, each in a frame of its own.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Configure {
        /// Which configuration, counted by the parent.
        pub generation: u64,
        /// How many GROUP frames follow.
        pub groups: u32,
        /// Whether groups that run already are replaced all the same, as by `apachectl graceful`;
        /// else they are only told again.
        pub reload: bool,
        /// The least severe level that is written to the log, up to [`MAX_LEVEL`](super::MAX_LEVEL).
        pub log_level: u8,
        /// Written to instead of the descriptor that comes along.
        pub syslog: Option<Syslog>,
    }

    /// A daemon process can serve.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ready {
        /// Major version of Python.
        pub major: u8,
        /// Minor version.
        pub minor: u8,
        /// Whether the build has no GIL.
        pub free_threaded: bool,
        /// Whether it has loaded its scripts, or runs the application of one already. One that has not says READY
        /// again when it has.
        pub loaded: bool,
    }

    /// A daemon process is alive.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Stats {
        /// Requests being served.
        pub busy: u32,
        /// Connections kept, without a request.
        pub kept: u32,
        /// Requests served since the start.
        pub served: u64,
        /// When the oldest request being served began here, in microseconds since the epoch; 0
        /// without one.
        pub oldest_start_us: u64,
        /// When a request was last active here, in microseconds since the epoch; 0 before the
        /// first.
        pub active_us: u64,
        /// How long the main interpreter has not been obtainable, in milliseconds.
        pub stuck_ms: u64,
    }
}

impl Life {
    /// How often a process says that it is alive, if that is asked for.
    #[must_use]
    pub fn beat(&self) -> Option<Duration> {
        self.deadlock.map(|deadlock| (deadlock / BEATS).clamp(SHORTEST_BEAT, LONGEST_BEAT))
    }

    /// After how long without a word it is not alive.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        self.deadlock.map(|deadlock| deadlock.max(SHORTEST_BEAT * BEATS))
    }
}

/// Signs of life of which one has to come: a busy machine may be late with some.
const BEATS: u32 = 4;
const SHORTEST_BEAT: Duration = Duration::from_secs(1);
const LONGEST_BEAT: Duration = Duration::from_secs(60);

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

plain_choice! {
    /// Why a process is replaced or ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Reason {
        /// A script's file changed.
        ScriptChanged = 1,
        /// `maximum-requests=`
        MaximumRequests = 2,
        /// `restart-interval=`
        RestartInterval = 3,
        /// A limit on memory.
        Memory = 4,
        /// `cpu-time-limit=`
        CpuTime = 5,
        /// A request ran beyond `request-timeout=` and holds its thread.
        RequestTimeout = 6,
        /// `deadlock-timeout=`
        Deadlock = 7,
        /// `inactivity-timeout=`
        Inactivity = 8,
        /// A new configuration.
        Reload = 9,
        /// httpd stops.
        Stop = 10,
        /// A signal asked for it.
        Signal = 11,
        /// The application asked for it.
        Application = 12,
        /// The service script of a group without threads returned.
        ScriptEnded = 13,
        /// Scripts were not loaded within `startup-timeout=`, in a process that serves meanwhile.
        StartupTimeout = 14,
        /// It has no descriptors, or no memory, to accept connections with.
        Starved = 15,
    }
}
