//! How long to wait before the next start after one that went wrong.

use crate::Time;

/// The first wait.
const FIRST: Time = 100;

/// The longest wait after processes that did not come to the end of loading their scripts.
const LONGEST: Time = 30_000;

/// The longest wait after one that did: requests wait meanwhile, and whoever finds one that kills a process must not be
/// able to end the service for longer than that.
const BRIEF: Time = 1_000;

/// A process that served this long was healthy: what went wrong before it does not count any more.
const HEALTHY: Time = 60_000;

/// Failures in a row, and when the next try is due.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// Those of them since the last process that had loaded its scripts.
    unready: u32,
    due: Time,
}

impl Backoff {
    /// A process ended before it had loaded its scripts.
    pub(crate) fn failed(&mut self, now: Time) {
        self.unready += 1;
        self.again(LONGEST, now);
    }

    fn again(&mut self, longest: Time, now: Time) {
        self.due = now + wait(self.failures).min(longest);
        self.failures += 1;
    }

    /// A process ended unasked after it had served for `served`. One that was healthy is replaced
    /// at once, others a little later: a process that dies of its first request would otherwise be
    /// started without end.
    pub(crate) fn died(&mut self, served: Time, now: Time) {
        if served >= HEALTHY {
            self.reset();
            self.due = now;
        } else {
            self.unready = 0;
            self.again(BRIEF, now);
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

    /// How many processes in a row never had their scripts loaded.
    pub(crate) fn unready(&self) -> u32 {
        self.unready
    }
}

fn wait(failures: u32) -> Time {
    FIRST.saturating_mul(1 << failures.min(16))
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
        let mut backoff = Backoff { failures: u32::MAX - 1, ..Backoff::default() };
        backoff.failed(5);
        assert_eq!(backoff.due(), 5 + LONGEST);
    }

    #[test]
    fn a_healthy_life_clears_the_record() {
        let mut backoff = Backoff::default();
        backoff.failed(0);
        backoff.failed(100);
        backoff.died(HEALTHY, 70_000);
        assert_eq!((backoff.due(), backoff.unready()), (70_000, 0));
        backoff.died(HEALTHY - 1, 140_000);
        assert_eq!(backoff.due(), 140_000 + FIRST);
    }

    #[test]
    fn who_served_is_not_waited_for_long() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            backoff.died(5, 1000);
            waits.push(backoff.due() - 1000);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.unready(), 0);
        backoff.failed(1000);
        assert_eq!((backoff.due() - 1000, backoff.unready()), (6400, 1));
    }
}
