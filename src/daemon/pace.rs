//! How soon a supervisor that has ended is started again.

use std::time::Duration;

/// One that has run so long has done nothing wrong by starting.
const SETTLED: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60);

/// Remembers how often it went wrong.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// How long to wait after one that has run for this long; for one that did not start, not at all.
    pub(super) fn wait(&mut self, ran: Duration) -> Duration {
        if ran >= SETTLED {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match failures {
            0 => Duration::ZERO,
            _ => Duration::from_secs(1 << (failures - 1).min(6)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_once_and_a_loop_is_slowed() {
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..9).map(|_| pace.wait(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pace.wait(SETTLED), Duration::ZERO);
        assert_eq!(pace.wait(Duration::ZERO), Duration::from_secs(1));
    }
}
