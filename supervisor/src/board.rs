//! What outlives this program: which daemon processes there are.
//!
//! The board is shared memory that httpd's parent made and holds. A supervisor that was killed is
//! started again with it and takes over the processes that it names. Only supervisors write it; no
//! daemon process ever has it.
//!
//! It is made of 64-bit words, so that it can be read while it is written. A header of [`HEADER`]
//! words (magic number, words in all) is followed by records of [`RECORD`] words: two copies of an
//! entry, and room for counters. An entry is six words:
//!
//! | word | what |
//! |---|---|
//! | 0 | sequence number, from 1 |
//! | 1 | id of the group |
//! | 2 | process id in the upper half, state in the lower one |
//! | 3 | start time of the process in clock ticks since boot, from `/proc/<pid>/stat` |
//! | 4 | the supervisor's own number of the process |
//! | 5 | check: a mixture of the five before it, never 0 |
//!
//! A copy is valid if its check fits. Of two valid copies the one with the higher sequence number
//! holds, and a change is written over the other one, check last. So whenever a supervisor dies,
//! every record says either what was before the change or what is after it. Process ids are used
//! again: an entry is about a living process only if the start times agree as well.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// 64-bit words of a board.
pub const WORDS: usize = HEADER + RECORDS * RECORD;

/// Processes that fit on a board; more run as well, but a new supervisor would not know them.
pub const RECORDS: usize = 4096;

const HEADER: usize = 16;
const RECORD: usize = 16;
const COPY: usize = 6;

/// Changes with the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"mwsgi\0\0\x01");

/// What a process on the board is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Started, and not yet told to take requests.
    Starting,
    /// Takes requests.
    Serving,
    /// Was told to leave.
    Leaving,
}

/// A process on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The group's id.
    pub group: u64,
    /// Process id.
    pub pid: u32,
    /// Clock ticks between the machine's start and the process's.
    pub start: u64,
    /// What it is doing.
    pub standing: Standing,
}

/// Which record of the board is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId(usize);

/// A board, over memory that others may see.
pub struct Board<'m> {
    words: &'m [AtomicU64],
    /// Where to look for a free record first.
    next: Cell<usize>,
}

impl<'m> Board<'m> {
    /// Opens a board, or makes one of memory that is none: all zero, or of another layout. `None`:
    /// the memory is too small.
    #[must_use]
    pub fn open(words: &'m [AtomicU64]) -> Option<Self> {
        let words = words.get(..WORDS)?;
        let whole = u64::try_from(WORDS).ok()?;
        if words[0].load(Ordering::Acquire) != MAGIC || words[1].load(Ordering::Acquire) != whole {
            words.iter().for_each(|word| word.store(0, Ordering::Release));
            words[1].store(whole, Ordering::Release);
            words[0].store(MAGIC, Ordering::Release);
        }
        Some(Self { words, next: Cell::new(0) })
    }

    /// The processes on the board.
    pub fn entries(&self) -> impl Iterator<Item = (RecordId, Entry)> + '_ {
        (0..RECORDS).filter_map(|index| {
            let newest = self.newest(index)?;
            Some((RecordId(index), decode(&newest)?))
        })
    }

    /// Puts a process on the board. `None`: it is full.
    pub fn add(&self, entry: &Entry) -> Option<RecordId> {
        let free = |index: &usize| self.newest(*index).is_none_or(|copy| decode(&copy).is_none());
        let index = (self.next.get()..RECORDS).chain(0..self.next.get()).find(free)?;
        self.next.set((index + 1) % RECORDS);
        for counter in &self.words[counters(index)] {
            counter.store(0, Ordering::Relaxed);
        }
        self.write(index, encode(entry));
        Some(RecordId(index))
    }

    /// Changes what is said about a process.
    pub fn set(&self, record: RecordId, entry: &Entry) {
        self.write(record.0, encode(entry));
    }

    /// Takes a process off the board.
    pub fn remove(&self, record: RecordId) {
        self.write(record.0, [0; COPY]);
    }

    /// Notes what a process says of itself: requests served, and being served.
    pub fn count(&self, record: RecordId, served: u64, busy: u64) {
        if let [first, second, ..] = &self.words[counters(record.0)] {
            first.store(served, Ordering::Relaxed);
            second.store(busy, Ordering::Relaxed);
        }
    }

    /// What was noted by [`Board::count`].
    #[must_use]
    pub fn counts(&self, record: RecordId) -> (u64, u64) {
        match &self.words[counters(record.0)] {
            [first, second, ..] => (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)),
            _ => (0, 0),
        }
    }

    fn newest(&self, index: usize) -> Option<[u64; COPY]> {
        let copies = [0, 1].map(|which| self.read(index, which));
        copies.into_iter().flatten().max_by_key(|copy| copy[0])
    }

    fn read(&self, index: usize, which: usize) -> Option<[u64; COPY]> {
        let words = &self.words[place(index, which)];
        let mut copy = [0; COPY];
        for (to, from) in copy.iter_mut().zip(words) {
            *to = from.load(Ordering::Acquire);
        }
        (copy[COPY - 1] == check(&copy)).then_some(copy)
    }

    /// Writes over the copy that does not hold.
    fn write(&self, index: usize, mut copy: [u64; COPY]) {
        let copies = [0, 1].map(|which| self.read(index, which).map_or(0, |copy| copy[0]));
        let which = usize::from(copies[0] > copies[1]);
        copy[0] = copies[0].max(copies[1]) + 1;
        copy[COPY - 1] = check(&copy);
        let words = &self.words[place(index, which)];
        words[COPY - 1].store(0, Ordering::Release);
        for (to, from) in words.iter().zip(copy) {
            to.store(from, Ordering::Release);
        }
    }
}

fn place(index: usize, which: usize) -> std::ops::Range<usize> {
    let start = HEADER + index * RECORD + which * COPY;
    start..start + COPY
}

fn counters(index: usize) -> std::ops::Range<usize> {
    let start = HEADER + index * RECORD;
    start + 2 * COPY..start + RECORD
}

fn encode(entry: &Entry) -> [u64; COPY] {
    let standing = match entry.standing {
        Standing::Starting => 1,
        Standing::Serving => 2,
        Standing::Leaving => 3,
    };
    [0, entry.group, u64::from(entry.pid) << 32 | standing, entry.start, 0, 0]
}

/// `None`: the record is free.
fn decode(copy: &[u64; COPY]) -> Option<Entry> {
    let standing = match copy[2] & 0xffff_ffff {
        1 => Standing::Starting,
        2 => Standing::Serving,
        3 => Standing::Leaving,
        _ => return None,
    };
    let pid = u32::try_from(copy[2] >> 32).ok().filter(|pid| *pid > 1)?;
    Some(Entry { group: copy[1], pid, start: copy[3], standing })
}

/// FNV-1a over the words, with a last step that makes 0 impossible.
fn check(copy: &[u64; COPY]) -> u64 {
    let bytes = copy[..COPY - 1].iter().flat_map(|word| word.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn entry(pid: u32) -> Entry {
        Entry { group: 7, pid, start: 1234, standing: Standing::Starting }
    }

    fn entries(board: &Board<'_>) -> Vec<Entry> {
        board.entries().map(|(_, entry)| entry).collect()
    }

    #[test]
    fn a_board_opened_again_says_the_same() {
        let memory = memory();
        let board = Board::open(&memory).unwrap();
        let first = board.add(&entry(100)).unwrap();
        let second = board.add(&entry(101)).unwrap();
        board.set(second, &Entry { standing: Standing::Serving, ..entry(101) });
        board.count(second, 17, 3);
        board.remove(first);

        let again = Board::open(&memory).unwrap();
        assert_eq!(entries(&again), [Entry { standing: Standing::Serving, ..entry(101) }]);
        assert_eq!(again.counts(second), (17, 3));
    }

    #[test]
    fn memory_of_another_layout_is_made_new() {
        let memory = memory();
        Board::open(&memory).unwrap().add(&entry(100)).unwrap();
        memory[0].store(MAGIC + 1, Ordering::Relaxed);
        assert_eq!(entries(&Board::open(&memory).unwrap()), []);
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert!(Board::open(&memory()[..WORDS - 1]).is_none());
    }

    #[test]
    fn a_change_that_was_cut_short_leaves_what_was_before() {
        let serving = Entry { standing: Standing::Serving, ..entry(100) };
        // Every beginning of the sequence of stores that `write` makes.
        for stores in 0..=COPY {
            let memory = memory();
            let board = Board::open(&memory).unwrap();
            let record = board.add(&entry(100)).unwrap();
            let before: Vec<u64> = memory.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            board.set(record, &serving);
            let after: Vec<u64> = memory.iter().map(|word| word.load(Ordering::Relaxed)).collect();

            let changed = place(0, 1);
            for (at, word) in changed.clone().enumerate() {
                let value = if at < stores { after[word] } else { before[word] };
                memory[word].store(value, Ordering::Relaxed);
            }
            if stores < COPY {
                memory[changed.end - 1].store(0, Ordering::Relaxed);
            }
            let expected = if stores < COPY { entry(100) } else { serving };
            assert_eq!(entries(&Board::open(&memory).unwrap()), [expected], "{stores} stores");
        }
    }

    #[test]
    fn garbage_is_no_entry() {
        let memory = memory();
        let board = Board::open(&memory).unwrap();
        let record = board.add(&entry(100)).unwrap();
        for word in place(record.0, 0) {
            let was = memory[word].load(Ordering::Relaxed);
            memory[word].store(was ^ 0x10, Ordering::Relaxed);
            assert_eq!(entries(&board), [], "word {word}");
            memory[word].store(was, Ordering::Relaxed);
        }
        assert_eq!(entries(&board), [entry(100)]);
    }

    #[test]
    fn a_full_board_takes_no_more_until_one_goes() {
        let memory = memory();
        let board = Board::open(&memory).unwrap();
        let records: Vec<RecordId> =
            (0..RECORDS).map(|at| board.add(&entry(at as u32 + 2)).unwrap()).collect();
        assert_eq!(board.add(&entry(1_000_000)), None);
        board.remove(records[77]);
        assert_eq!(board.add(&entry(1_000_000)), Some(records[77]));
    }
}
