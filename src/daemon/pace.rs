//! How soon a supervisor that has ended is started again.

use std::time::Duration;

/// So many that end soon are followed at once: somebody may have killed one by mistake, and another.
const AT_ONCE: u32 = 3;
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
        match failures.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(6)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_at_once_and_a_loop_is_slowed() {
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..11).map(|_| pace.wait(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        let waits: Vec<u64> =
            (0..4).map(|round| pace.wait(SETTLED * u32::from(round == 0)).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1]);
    }
}
