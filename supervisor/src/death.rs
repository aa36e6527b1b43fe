//! Why a process has ended, in words.

use crate::group::Cause;
use crate::os::{Exit, Failure};

/// What is logged about the end of a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Obituary {
    /// Whether it was not meant to end, or not like this.
    pub(crate) fault: bool,
    /// One line, without the process's name.
    pub(crate) text: String,
}

/// Says why a process has ended: how it did, what step of its start failed if one did, and what had
/// been decided about it.
pub(crate) fn describe(exit: Exit, failure: Option<Failure>, cause: Cause) -> Obituary {
    if let Some(failure) = failure {
        return Obituary { fault: true, text: format!("could not be started: {failure}") };
    }
    let how = manner(exit, matches!(cause, Cause::Crashed | Cause::Unready));
    let (fault, text) = match cause {
        Cause::Crashed => (true, format!("{how} while it served")),
        Cause::Unready => (true, format!("{how} before it was ready")),
        Cause::StartupTimeout => {
            (true, format!("was not ready within startup-timeout and was ended ({how})"))
        }
        Cause::NotImported => {
            (false, format!("could not import its scripts and was ended ({how})"))
        }
        Cause::ScriptEnded => (exit.is_fault(), format!("{how} after its scripts had ended")),
        Cause::Retired(why) => {
            (exit.is_fault(), format!("{how} after it was told to leave: {why}"))
        }
        Cause::Overdue(why) => (
            true,
            format!("was told to leave: {why}; it did not finish in time and was ended ({how})"),
        ),
        Cause::Killed => {
            (true, format!("did not end within shutdown-timeout and was killed ({how})"))
        }
        Cause::Stopped => (false, format!("{how} as the server ends")),
    };
    Obituary { fault, text }
}

fn manner(exit: Exit, unasked: bool) -> String {
    match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal { number, dumped } => {
            let core = if dumped { ", core dumped" } else { "" };
            let hint = if unasked { hint(number) } else { "" };
            format!("was ended by {}{core}{hint}", signal(number))
        }
        Exit::Unknown => {
            "ended (how is not known, as a former supervisor had started it)".to_owned()
        }
    }
}

/// What a signal that nobody here sent mostly means.
fn hint(number: i32) -> &'static str {
    match number {
        libc::SIGXCPU => " (cpu-time-limit)",
        libc::SIGKILL => {
            " (somebody's kill -9, the hard limit of cpu-time-limit, or the kernel out of memory)"
        }
        _ => "",
    }
}

fn signal(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    format!("{name} (signal {number})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Why;
    use crate::os::Step;

    fn signalled(number: i32) -> Exit {
        Exit::Signal { number, dumped: false }
    }

    #[test]
    fn says_how_and_why() {
        let cases = [
            (Exit::Code(3), Cause::Crashed, true, "exited with status 3 while it served"),
            (
                Exit::Signal { number: libc::SIGSEGV, dumped: true },
                Cause::Crashed,
                true,
                "was ended by SIGSEGV (signal 11), core dumped while it served",
            ),
            (
                signalled(libc::SIGXCPU),
                Cause::Unready,
                true,
                "was ended by SIGXCPU (signal 24) (cpu-time-limit) before it was ready",
            ),
            (
                Exit::Code(0),
                Cause::Retired(Why::ScriptChanged),
                false,
                "exited with status 0 after it was told to leave: its script changed",
            ),
            (
                signalled(libc::SIGABRT),
                Cause::Retired(Why::Reload),
                true,
                "was ended by SIGABRT (signal 6) after it was told to leave: \
                 the server was reloaded",
            ),
            (
                Exit::Code(0),
                Cause::ScriptEnded,
                false,
                "exited with status 0 after its scripts had ended",
            ),
            (signalled(40), Cause::Stopped, false, "was ended by signal 40 as the server ends"),
        ];
        for (exit, cause, fault, text) in cases {
            assert_eq!(describe(exit, None, cause), Obituary { fault, text: text.to_owned() });
        }
    }

    #[test]
    fn a_step_that_failed_is_the_whole_story() {
        let failure = Failure { step: Step::User, errno: libc::EPERM };
        let obituary = describe(Exit::Code(1), Some(failure), Cause::Unready);
        assert!(obituary.fault);
        assert_eq!(
            obituary.text,
            "could not be started: changing the user failed: Operation not permitted (os error 1)"
        );
    }
}
