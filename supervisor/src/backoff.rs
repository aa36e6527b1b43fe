//! How long to wait before the next start after one that went wrong.

use crate::Time;

/// The first wait.
const FIRST: Time = 100;

/// The longest wait.
const LONGEST: Time = 30_000;

/// A process that served this long was healthy: what went wrong before it does not count any more.
const HEALTHY: Time = 60_000;

/// Failures in a row, and when the next try is due.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    due: Time,
}

impl Backoff {
    /// A process never came as far as serving.
    pub(crate) fn failed(&mut self, now: Time) {
        self.due = now + wait(self.failures);
        self.failures += 1;
    }

    /// A process ended unasked after it had served for `served`. One that was healthy is replaced
    /// at once, others like those that never served: a process that dies of its first request would
    /// otherwise be started without end.
    pub(crate) fn died(&mut self, served: Time, now: Time) {
        if served >= HEALTHY {
            self.failures = 0;
            self.due = now;
        } else {
            self.failed(now);
        }
    }

    /// Something changed that may have mended it.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// When the next try is due; in the past if it may be now.
    pub(crate) fn due(&self) -> Time {
        self.due
    }

    /// How many tries in a row went wrong.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

fn wait(failures: u32) -> Time {
    FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..11 {
            backoff.failed(1000);
            waits.push(backoff.due() - 1000);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff { failures: u32::MAX - 1, due: 0 };
        backoff.failed(5);
        assert_eq!(backoff.due(), 5 + LONGEST);
    }

    #[test]
    fn a_healthy_life_clears_the_record() {
        let mut backoff = Backoff::default();
        backoff.failed(0);
        backoff.failed(100);
        backoff.died(HEALTHY, 70_000);
        assert_eq!((backoff.due(), backoff.failures()), (70_000, 0));
        backoff.died(HEALTHY - 1, 140_000);
        assert_eq!(backoff.due(), 140_000 + FIRST);
    }
}
