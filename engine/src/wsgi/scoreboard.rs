//! httpd's scoreboard as an application is shown it.

use std::time::SystemTime;

/// What all processes of httpd are doing.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    /// Most processes there can be.
    pub server_limit: u64,
    /// Most threads each can have.
    pub thread_limit: u64,
    /// How often the configuration has been read again.
    pub generation: u64,
    /// When that was last, or httpd was started.
    pub restarted: SystemTime,
    /// Every place for a process, used or not.
    pub processes: Vec<Process>,
}

/// A process of httpd.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number in the system; 0 where there is none.
    pub pid: u32,
    /// The generation it belongs to.
    pub generation: u64,
    /// Whether it takes no more requests.
    pub quiescing: bool,
    /// Every place for a thread, used or not.
    pub workers: Vec<Worker>,
}

/// A thread of httpd.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its number in its process.
    pub number: u64,
    /// The generation it belongs to.
    pub generation: u64,
    /// What it does, as mod_status shows it: one of `. _ S R W K L D C G I`.
    pub status: u8,
    /// Requests it has served.
    pub accesses: u64,
    /// Bytes it has sent.
    pub bytes: u64,
    /// When its last request began.
    pub start: SystemTime,
    /// When its last request ended.
    pub stop: SystemTime,
    /// When it last did anything.
    pub used: SystemTime,
    /// Address of its last client.
    pub client: Vec<u8>,
    /// The request line.
    pub request: Vec<u8>,
    /// The virtual host.
    pub host: Vec<u8>,
}
