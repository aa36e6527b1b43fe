//! Why processes have ended, and why groups are down: told by httpd's parent to its children, in memory
//! that the parent alone can write.
//!
//! A ring of records, the newest over the oldest. A record is read as it is written, so it says by a
//! number in front whether what was read is whole: odd while it is being written, and another one
//! afterwards.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::os::memory::Shared;

/// Records. More groups than this do not change their standing at the same time.
const RECORDS: usize = 256;
/// Words of a text.
const TEXT: usize = 60;
/// Sequence number, group, time in microseconds, kind and length.
const HEAD: usize = 4;
const RECORD: usize = HEAD + TEXT;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A process has ended unasked.
    Ended = 1,
    /// No process can be started.
    Down = 2,
    /// Processes can be started again.
    Up = 3,
}

/// The group of news that are of all groups.
pub(crate) const ALL: u64 = 0;

/// The memory.
#[derive(Debug)]
pub(crate) struct Reasons {
    memory: Shared,
}

struct Record {
    number: u64,
    group: u64,
    time: SystemTime,
    news: u64,
    text: String,
}

impl Reasons {
    /// Memory without news.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { memory: Shared::new(c"mod_wsgi_rs reasons", RECORDS * RECORD)? })
    }

    /// Tells. Where this is not the parent, nothing happens.
    pub(crate) fn tell(&self, group: u64, news: News, text: &str) {
        let Some(words) = self.memory.writable() else { return };
        let newest = words.chunks_exact(RECORD).map(number).max().unwrap_or(0);
        let oldest = words.chunks_exact(RECORD).min_by_key(|record| number(record));
        let Some([sequence, of, time, length, place @ ..]) = oldest else { return };
        sequence.store(newest + 1, Ordering::Relaxed);
        // Whoever reads anything of what follows sees that it is being written.
        fence(Ordering::Release);
        let text = clip(text);
        of.store(group, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        time.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        length.store((news as u64) << 32 | text.len() as u64, Ordering::Relaxed);
        let mut bytes = text.bytes();
        for word in place {
            let value = [0; 8].map(|_: u8| bytes.next().unwrap_or(0));
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
        sequence.store(newest + 2, Ordering::Release);
    }

    /// Why a process of a group has ended last, if that was since then.
    pub(crate) fn ended(&self, group: u64, since: SystemTime) -> Option<String> {
        let newest = self
            .records()
            .filter(|record| record.group == group && record.news == News::Ended as u64)
            .filter(|record| record.time >= since)
            .max_by_key(|record| record.number)?;
        Some(newest.text)
    }

    /// Why no process of a group can be started, if that is so.
    pub(crate) fn down(&self, group: u64) -> Option<String> {
        let standing = |of: u64| {
            self.records()
                .filter(|record| record.group == of && record.news != News::Ended as u64)
                .max_by_key(|record| record.number)
                .filter(|record| record.news == News::Down as u64)
        };
        standing(ALL).or_else(|| standing(group)).map(|record| record.text)
    }

    /// All records that are whole.
    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.memory.readable().chunks_exact(RECORD).filter_map(|record| {
            let (sequence, rest) = record.split_first()?;
            let before = sequence.load(Ordering::Acquire);
            if before == 0 || before % 2 == 1 {
                return None;
            }
            let words: Vec<u64> = rest.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            // All that was read was read before this.
            fence(Ordering::Acquire);
            if sequence.load(Ordering::Relaxed) != before {
                return None;
            }
            let [group, time, length, text @ ..] = words.as_slice() else { return None };
            let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
            let end = usize::try_from(length & 0xffff_ffff).ok()?;
            Some(Record {
                number: before,
                group: *group,
                time: UNIX_EPOCH.checked_add(Duration::from_micros(*time))?,
                news: length >> 32,
                text: String::from_utf8_lossy(bytes.get(..end)?).into_owned(),
            })
        })
    }
}

fn number(record: &[AtomicU64]) -> u64 {
    // Only the parent asks, which alone writes.
    record.first().map_or(0, |sequence| sequence.load(Ordering::Relaxed))
}

/// As much of a text as fits, in whole characters.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT * size_of::<u64>());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_group_is_told() {
        let reasons = Reasons::new().unwrap();
        let begin = SystemTime::now() - Duration::from_secs(1);
        assert_eq!(reasons.ended(7, begin), None);
        reasons.tell(7, News::Ended, "ended by signal 9");
        reasons.tell(7, News::Ended, "ended by signal 11");
        reasons.tell(8, News::Ended, "another");
        reasons.tell(7, News::Down, "down");
        assert_eq!(reasons.ended(7, begin).as_deref(), Some("ended by signal 11"));
        assert_eq!(reasons.ended(8, begin).as_deref(), Some("another"));
        assert_eq!(reasons.ended(9, begin), None);
        assert_eq!(reasons.ended(7, SystemTime::now() + Duration::from_secs(1)), None);
    }

    #[test]
    fn groups_go_down_and_up() {
        let reasons = Reasons::new().unwrap();
        assert_eq!(reasons.down(7), None);
        reasons.tell(7, News::Down, "no Python");
        assert_eq!(reasons.down(7).as_deref(), Some("no Python"));
        assert_eq!(reasons.down(8), None);
        reasons.tell(ALL, News::Down, "no supervisor");
        assert_eq!(reasons.down(8).as_deref(), Some("no supervisor"));
        reasons.tell(ALL, News::Up, "");
        reasons.tell(7, News::Up, "");
        assert_eq!(reasons.down(7), None);
    }

    #[test]
    fn old_news_make_room_and_long_ones_are_cut() {
        let reasons = Reasons::new().unwrap();
        for group in 1..=300 {
            reasons.tell(group, News::Down, &format!("{group}"));
        }
        assert_eq!(reasons.down(44), None);
        assert_eq!(reasons.down(45).as_deref(), Some("45"));
        assert_eq!(reasons.down(300).as_deref(), Some("300"));
        reasons.tell(7, News::Down, &"ä".repeat(1000));
        assert_eq!(reasons.down(7).unwrap(), "ä".repeat(240));
        reasons.tell(7, News::Down, &format!("x{}", "ä".repeat(1000)));
        assert_eq!(reasons.down(7).unwrap(), format!("x{}", "ä".repeat(239)));
    }

    #[test]
    fn what_is_read_is_whole() {
        let reasons = Reasons::new().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2_000_u64 {
                    let letter = if round % 2 == 0 { "a" } else { "b" };
                    reasons.tell(7, News::Down, &letter.repeat(480));
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                if let Some(text) = reasons.down(7) {
                    assert!(text == "a".repeat(480) || text == "b".repeat(480), "{text}");
                }
            }
        });
    }
}
