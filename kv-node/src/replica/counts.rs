//! Live keys by slot, counted as records change.
//!
//! DBSIZE and CLUSTER COUNTKEYSINSLOT would otherwise read every row. A count moves when a key
//! turns from nothing or a tombstone into a value or back; an expired value counts until it is
//! collected or overwritten, as in Redis. After a restart with a durable engine a slot says zero
//! until a scan of it has passed. What moves during the scan is noted by key and put right at its
//! end, so that a slot in which something always moves is counted all the same. After a flush a
//! slot says zero at once and is counted by a scan too: what was written above the mark before that
//! came was counted with the rest.
//!
//! ```text
//! begin(slots) -> wait out the updates under way -> scan, while moves are noted -> finish(seen)
//! ```
//! Invariant: a counted slot's number is that of the live rows in the engine, as soon as the
//! appends that moved it have returned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_ring::SLOTS;
use parking_lot::Mutex;

/// Keys that move during one scan and are noted, at most; a scan that meets more is made again.
const MOVED_KEYS_MAX: usize = 65_536;

/// A key that comes to life or dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) slot: u16,
    pub(super) token: u64,
    pub(super) lives: bool,
}

impl Moved {
    /// What takes it back.
    pub(super) fn back(self) -> Self {
        Self { lives: !self.lives, ..self }
    }
}

/// The counts.
#[derive(Debug)]
pub struct LiveCounts {
    slots: Box<[Mutex<SlotCount>]>,
    /// The scan under way. Taken after a slot's own lock.
    counting: Mutex<Counting>,
    /// Whether a slot may be rough.
    rough: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotCount {
    live: i64,
    counted: bool,
    /// A scan of it is or was under way: moves are noted.
    counting: bool,
    /// It was cleared by a flush, and what was written above that meanwhile is not in it.
    rough: bool,
}

#[derive(Debug, Default)]
struct Counting {
    slots: Range<u16>,
    /// Whether each key that moved lives now.
    moved: BTreeMap<(u16, u64), bool>,
    overflowed: bool,
}

impl LiveCounts {
    /// Nothing is stored (`empty`), or nothing is counted yet.
    pub(super) fn new(empty: bool) -> Self {
        let slot = SlotCount { counted: empty, ..SlotCount::default() };
        let slots = (0..SLOTS).map(|_| Mutex::new(slot)).collect();
        Self { slots, counting: Mutex::default(), rough: AtomicBool::new(false) }
    }

    /// A key comes to life or dies. To be called under the key's lock, before the append.
    #[inline]
    pub(super) fn moved(&self, moved: Moved) {
        let Some(count) = self.slots.get(usize::from(moved.slot)) else { return };
        let mut count = count.lock();
        if count.counted {
            count.live += if moved.lives { 1 } else { -1 };
        }
        if count.counting {
            self.counting.lock().note(moved);
        }
    }

    /// Live keys in a slot.
    pub fn of(&self, slot: u16) -> u64 {
        let live = self.slots.get(usize::from(slot)).map_or(0, |count| count.lock().live);
        u64::try_from(live).unwrap_or(0)
    }

    /// Begins to note what moves in `slots`; `false` if they are all counted. One scan at a time.
    pub(super) fn begin(&self, slots: Range<u16>) -> bool {
        *self.counting.lock() = Counting { slots: slots.clone(), ..Counting::default() };
        let mut any = false;
        for count in slots.filter_map(|slot| self.slots.get(usize::from(slot))) {
            let mut count = count.lock();
            count.counting = !count.counted || count.rough;
            any |= count.counting;
        }
        any
    }

    /// Takes what a scan saw: the (slot, token) of each live key, in order. `false` if too much
    /// moved meanwhile: nothing is counted then.
    pub(super) fn finish(&self, seen: &[(u16, u64)]) -> bool {
        let slots = self.counting.lock().slots.clone();
        let mut complete = true;
        for slot in slots {
            let Some(count) = self.slots.get(usize::from(slot)) else { continue };
            let mut count = count.lock();
            if !count.counting {
                continue;
            }
            count.counting = false;
            let counting = self.counting.lock();
            if counting.overflowed {
                complete = false;
                continue;
            }
            count.live = counting.settle(slot, seen);
            count.counted = true;
            count.rough = false;
        }
        *self.counting.lock() = Counting::default();
        complete
    }

    /// Everything was flushed: no key is live, but for those that were written above the mark
    /// before it was in force here. A scan finds them; until then only what moves is counted.
    pub(super) fn clear(&self) {
        for count in &self.slots {
            *count.lock() = SlotCount { counted: true, rough: true, ..SlotCount::default() };
        }
        self.rough.store(true, Ordering::Release);
    }

    /// Whether a flush left something to be counted anew.
    pub(super) fn is_rough(&self) -> bool {
        self.rough.load(Ordering::Acquire)
    }

    /// A scan of all slots begins: what a flush leaves from now on is for the next.
    pub(super) fn begin_all(&self) {
        self.rough.store(false, Ordering::Release);
    }
}

impl Counting {
    fn note(&mut self, moved: Moved) {
        if !self.slots.contains(&moved.slot) {
            return;
        }
        if self.moved.len() >= MOVED_KEYS_MAX {
            self.overflowed = true;
            return;
        }
        self.moved.insert((moved.slot, moved.token), moved.lives);
    }

    /// The slot's live keys: those that were seen, with what moved put right.
    fn settle(&self, slot: u16, seen: &[(u16, u64)]) -> i64 {
        let begin = seen.partition_point(|(other, _)| *other < slot);
        let end = seen.partition_point(|(other, _)| *other <= slot);
        let mut live = (end - begin) as i64;
        for (key, lives) in self.moved.range((slot, 0)..=(slot, u64::MAX)) {
            live += i64::from(*lives) - i64::from(seen.binary_search(key).is_ok());
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(token: u64, lives: bool) -> Moved {
        Moved { slot: 7, token, lives }
    }

    #[test]
    fn what_moves_during_a_scan_is_put_right() {
        let counts = LiveCounts::new(false);
        assert!(counts.begin(0..64));
        // Seen by the scan or not: both ways it comes out right.
        for move_during in [moved(1, true), moved(2, true), moved(3, false), moved(4, false)] {
            counts.moved(move_during);
        }
        counts.moved(moved(5, true));
        counts.moved(moved(5, false));
        assert_eq!(counts.of(7), 0, "not counted yet");
        assert!(counts.finish(&[(7, 1), (7, 3), (7, 9), (8, 1)]));
        assert_eq!((counts.of(7), counts.of(8)), (3, 1), "1, 2 and 9 live in slot 7");
        counts.moved(moved(9, false));
        assert_eq!(counts.of(7), 2);
        counts.moved(moved(9, false).back());
        assert_eq!(counts.of(7), 3);
        assert!(!counts.begin(0..64), "all of them are counted");
        counts.clear();
        assert_eq!(counts.of(7), 0);
    }

    #[test]
    fn a_scan_that_too_much_moves_under_is_made_again() {
        let counts = LiveCounts::new(false);
        assert!(counts.begin(0..64));
        (0..=MOVED_KEYS_MAX as u64).for_each(|token| counts.moved(moved(token, true)));
        assert!(!counts.finish(&[]));
        assert_eq!(counts.of(7), 0);
        assert!(counts.begin(0..64));
        assert!(counts.finish(&[(7, 1)]));
        assert_eq!(counts.of(7), 1);
    }

    #[test]
    fn a_flush_ends_a_scan() {
        let counts = LiveCounts::new(false);
        assert!(counts.begin(0..64));
        counts.clear();
        counts.moved(moved(1, true));
        assert!(counts.finish(&[(7, 5), (7, 6)]));
        assert_eq!(counts.of(7), 1, "what the scan saw is dead");
    }

    #[test]
    fn what_was_written_above_a_flush_before_it_came_is_counted_by_a_scan() {
        let counts = LiveCounts::new(true);
        counts.moved(moved(1, true));
        counts.moved(moved(2, true));
        counts.clear();
        counts.moved(moved(3, true));
        assert_eq!(counts.of(7), 1, "counted at once");
        assert!(counts.begin(0..64), "1 was above the mark, and nobody knows");
        counts.moved(moved(4, true));
        assert_eq!(counts.of(7), 2, "what moves during the scan too");
        assert!(counts.finish(&[(7, 1), (7, 3)]));
        assert_eq!(counts.of(7), 3);
        assert!(!counts.begin(0..64));
    }
}
