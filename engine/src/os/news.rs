//! Why processes have ended, and why groups are down: told to httpd's children by the supervisor, and by httpd's
//! parent as long as it has none. One of the two writes at a time.
//!
//! A ring of records in memory, the newest over the oldest. A record is read as it is written, so it says by a
//! number in front whether what was read is whole: odd while it is being written, and another one
//! afterwards. What a writer that was killed has left half done stays odd until its place is used again.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::memory::{Memory, View, memory_file};

/// Records. More groups than this do not change their standing at the same time.
const RECORDS: usize = 256;
/// Words of a text.
const TEXT: usize = 60;
/// Sequence number, group, time in microseconds, kind and length.
const HEAD: usize = 4;
const RECORD: usize = HEAD + TEXT;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process has ended, and was not meant to, or not like this.
    Ended = 1,
    /// No process can be started.
    Down = 2,
    /// Processes can be started again.
    Up = 3,
    /// The group takes the place of another of its name, and does not serve yet.
    Pending = 4,
    /// It does.
    Ready = 5,
}

/// The group of news that are of all groups.
pub const ALL: u64 = 0;

/// Memory without news.
pub fn new() -> io::Result<File> {
    memory_file(c"mod_wsgi_rs news")
}

/// Who tells. Processes that are forked from this one cannot.
#[derive(Debug)]
pub struct Teller {
    memory: Memory,
}

/// Who is told.
#[derive(Debug)]
pub struct News {
    view: View,
}

struct Record {
    number: u64,
    time: SystemTime,
    kind: u64,
    text: String,
}

impl Teller {
    /// Tells by this memory.
    pub fn open(file: &File) -> io::Result<Self> {
        Ok(Self { memory: Memory::map(file, RECORDS * RECORD)? })
    }

    /// Tells something of a group, by the id of its plan; a text that is too long is cut.
    pub fn tell(&self, group: u64, kind: Kind, text: &str) {
        let records = || self.memory.words().chunks_exact(RECORD);
        let newest = records().map(number).max().unwrap_or(0);
        let oldest = records().min_by_key(|record| number(record));
        let Some([sequence, of, time, length, place @ ..]) = oldest else { return };
        // The next odd one: a record that was left half done may have an odd number already.
        let begun = (newest + 1) | 1;
        sequence.store(begun, Ordering::Relaxed);
        // Whoever reads anything of what follows sees that it is being written.
        fence(Ordering::Release);
        let text = clip(text);
        of.store(group, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        time.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        length.store((kind as u64) << 32 | text.len() as u64, Ordering::Relaxed);
        let mut bytes = text.bytes();
        for word in place {
            let value = [0; 8].map(|_: u8| bytes.next().unwrap_or(0));
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
        sequence.store(begun + 1, Ordering::Release);
    }
}

impl News {
    /// Reads in this memory, which somebody tells by.
    pub fn open(file: &File) -> io::Result<Self> {
        Ok(Self { view: View::map(file, RECORDS * RECORD)? })
    }

    /// Why a process of a group has ended last, if that was since then.
    #[must_use]
    pub fn ended(&self, group: u64, since: SystemTime) -> Option<String> {
        let newest = self
            .records(group)
            .filter(|record| record.kind == Kind::Ended as u64)
            .filter(|record| record.time >= since)
            .max_by_key(|record| record.number)?;
        Some(newest.text)
    }

    /// Why no process of a group can be started, if that is so.
    #[must_use]
    pub fn down(&self, group: u64) -> Option<String> {
        let standing = |of: u64| self.standing(of, Kind::Down, Kind::Up);
        standing(ALL).or_else(|| standing(group)).map(|record| record.text)
    }

    /// Whether a group takes the place of another of its name, and does not serve yet.
    #[must_use]
    pub fn pending(&self, group: u64) -> bool {
        self.standing(group, Kind::Pending, Kind::Ready).is_some()
    }

    /// What was told of a group, if the opposite was not told since.
    fn standing(&self, group: u64, kind: Kind, opposite: Kind) -> Option<Record> {
        self.records(group)
            .filter(|record| record.kind == kind as u64 || record.kind == opposite as u64)
            .max_by_key(|record| record.number)
            .filter(|record| record.kind == kind as u64)
    }

    /// All records of a group that are whole.
    fn records(&self, group: u64) -> impl Iterator<Item = Record> + '_ {
        self.view.words().chunks_exact(RECORD).filter_map(move |record| {
            let (sequence, rest) = record.split_first()?;
            let before = sequence.load(Ordering::Acquire);
            // Asked before every new connection, so the others are not read.
            let other = rest.first()?.load(Ordering::Relaxed) != group;
            if before == 0 || before % 2 == 1 || other {
                return None;
            }
            let words: Vec<u64> = rest.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            // All that was read was read before this.
            fence(Ordering::Acquire);
            if sequence.load(Ordering::Relaxed) != before {
                return None;
            }
            let [_, time, length, text @ ..] = words.as_slice() else { return None };
            let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
            let end = usize::try_from(length & 0xffff_ffff).ok()?;
            Some(Record {
                number: before,
                time: UNIX_EPOCH.checked_add(Duration::from_micros(*time))?,
                kind: length >> 32,
                text: String::from_utf8_lossy(bytes.get(..end)?).into_owned(),
            })
        })
    }
}

fn number(record: &[AtomicU64]) -> u64 {
    // Only who writes asks.
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

    fn both() -> (Teller, News) {
        let file = new().unwrap();
        (Teller::open(&file).unwrap(), News::open(&file).unwrap())
    }

    #[test]
    fn a_group_is_pending_until_it_is_ready() {
        let (teller, news) = both();
        assert!(!news.pending(7));
        teller.tell(7, Kind::Pending, "");
        teller.tell(7, Kind::Up, "");
        teller.tell(8, Kind::Ready, "");
        assert!(news.pending(7) && !news.pending(8) && news.down(7).is_none());
        teller.tell(7, Kind::Ready, "");
        assert!(!news.pending(7));
    }

    #[test]
    fn the_newest_of_a_group_is_told() {
        let (teller, news) = both();
        let begin = SystemTime::now() - Duration::from_secs(1);
        assert_eq!(news.ended(7, begin), None);
        teller.tell(7, Kind::Ended, "ended by signal 9");
        teller.tell(7, Kind::Ended, "ended by signal 11");
        teller.tell(8, Kind::Ended, "another");
        teller.tell(7, Kind::Down, "down");
        assert_eq!(news.ended(7, begin).as_deref(), Some("ended by signal 11"));
        assert_eq!(news.ended(8, begin).as_deref(), Some("another"));
        assert_eq!(news.ended(9, begin), None);
        assert_eq!(news.ended(7, SystemTime::now() + Duration::from_secs(1)), None);
    }

    #[test]
    fn groups_go_down_and_up() {
        let (teller, news) = both();
        assert_eq!(news.down(7), None);
        teller.tell(7, Kind::Down, "no Python");
        assert_eq!(news.down(7).as_deref(), Some("no Python"));
        assert_eq!(news.down(8), None);
        teller.tell(ALL, Kind::Down, "no supervisor");
        assert_eq!(news.down(8).as_deref(), Some("no supervisor"));
        teller.tell(ALL, Kind::Up, "");
        teller.tell(7, Kind::Up, "");
        assert_eq!(news.down(7), None);
    }

    #[test]
    fn old_news_make_room_and_long_ones_are_cut() {
        let (teller, news) = both();
        for group in 1..=300 {
            teller.tell(group, Kind::Down, &format!("{group}"));
        }
        assert_eq!(news.down(44), None);
        assert_eq!(news.down(45).as_deref(), Some("45"));
        assert_eq!(news.down(300).as_deref(), Some("300"));
        teller.tell(7, Kind::Down, &"ä".repeat(1000));
        assert_eq!(news.down(7).unwrap(), "ä".repeat(240));
        teller.tell(7, Kind::Down, &format!("x{}", "ä".repeat(1000)));
        assert_eq!(news.down(7).unwrap(), format!("x{}", "ä".repeat(239)));
    }

    #[test]
    fn what_is_read_is_whole() {
        let (teller, news) = both();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2_000_u64 {
                    let letter = if round % 2 == 0 { "a" } else { "b" };
                    teller.tell(7, Kind::Down, &letter.repeat(480));
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                if let Some(text) = news.down(7) {
                    assert!(text == "a".repeat(480) || text == "b".repeat(480), "{text}");
                }
            }
        });
    }

    #[test]
    fn what_was_left_half_done_is_not_read_and_its_place_is_used_again() {
        let (teller, news) = both();
        teller.tell(7, Kind::Down, "whole");
        // As a writer that was killed leaves it.
        let torn = &teller.memory.words()[RECORD];
        torn.store(3, Ordering::Relaxed);
        teller.memory.words()[RECORD + 1].store(8, Ordering::Relaxed);
        assert_eq!(news.down(8), None);
        for group in 100..100 + RECORDS as u64 {
            teller.tell(group, Kind::Down, "later");
        }
        assert_eq!(news.down(7), None);
        assert_eq!(torn.load(Ordering::Relaxed) % 2, 0);
        assert_eq!(news.down(100).as_deref(), Some("later"));
    }
}
