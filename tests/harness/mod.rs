//! Runs the module inside a real httpd: own server root, own port, and an error log that is read after
//! every test, so that a line nobody expected fails it.
//!
//! ```text
//! let server = Site::new("hello").app("hello.py").start();
//! let reply = server.client().get("/");
//! assert_eq!(reply.text(), "hello\n");
//! ```
//!
//! What is tested, and with what, can be set from outside:
//! - `MOD_WSGI_RS_SO`: the module file (default: the one beside this test's target directory);
//! - `HTTPD`: the httpd program, `APXS`: the tool that knows its module directory;
//! - `MOD_WSGI_RS_PYTHONS`: prefixes of further Pythons, separated by colons;
//! - `MOD_WSGI_RS_TEST_CONF`: configuration lines for every server.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test program uses its own part")]
#![allow(unreachable_pub, reason = "one module tree, included by every test program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod client;
pub mod load;
pub mod log;
pub mod pythons;
pub mod site;
pub mod tools;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

pub use client::{Client, Reply};
pub use load::Load;
pub use log::Record;
pub use pythons::Python;
pub use site::{Mpm, Server, Site};
pub use tools::Curl;

/// How long anything may take before the test calls it hung. Never a measure of speed: on a busy machine
/// a free-threaded Python 3.13 alone takes many seconds to start, because it yields while it spins.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks `probe` until it answers or the deadline has passed. The only place that waits by looking again.
pub fn wait_for<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Says that something is not tested here, and why. Written past the test runner, which keeps what passing
/// tests print to itself.
pub fn skip(reason: &str) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "skipped in {name}: {reason}");
}

/// A behaviour that has to hold however the application is run.
///
/// `both_modes!(name, |site| { ... })` makes one test for each mode: `name::embedded`, `name::daemon`.
macro_rules! both_modes {
    ($name:ident, |$site:ident $(: $kind:ty)?| $body:expr) => {
        mod $name {
            #[allow(
                unused_imports,
                reason = "not every behaviour uses all of its file's names"
            )]
            use super::*;

            fn behaviour($site: $crate::harness::Site) {
                $body
            }

            #[test]
            fn embedded() {
                behaviour($crate::harness::Site::new(concat!(stringify!($name), "-embedded")));
            }

            #[test]
            fn daemon() {
                behaviour(
                    $crate::harness::Site::new(concat!(stringify!($name), "-daemon")).daemon(),
                );
            }
        }
    };
}
pub(crate) use both_modes;
