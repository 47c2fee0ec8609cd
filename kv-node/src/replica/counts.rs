//! Live keys by slot, counted as records change.
//!
//! DBSIZE and CLUSTER COUNTKEYSINSLOT would otherwise read every row. A count moves when a key
//! turns from nothing or a tombstone into a value or back; an expired value counts until it is
//! collected, as in Redis. After a restart with a durable engine a slot is not counted until one
//! scan of it has passed during which nothing in it moved; until then it says zero.
//!
//! Invariant: a counted slot's number is that of the live rows in the engine, as soon as the
//! appends that moved it have returned.

use kv_ring::SLOTS;
use parking_lot::Mutex;

/// The counts.
#[derive(Debug)]
pub struct LiveCounts(Box<[Mutex<SlotCount>]>);

#[derive(Clone, Copy, Debug, Default)]
struct SlotCount {
    live: i64,
    counted: bool,
    /// Moves while it was not counted.
    moves: u64,
}

impl LiveCounts {
    /// Nothing is stored (`empty`), or nothing is counted yet.
    pub(super) fn new(empty: bool) -> Self {
        let slot = SlotCount { counted: empty, ..SlotCount::default() };
        Self((0..SLOTS).map(|_| Mutex::new(slot)).collect())
    }

    /// A key of `slot` came to life (+1) or died (-1). To be called after the append, under the
    /// key's lock.
    #[inline]
    pub(super) fn moved(&self, slot: u16, by: i64) {
        if let Some(count) = self.0.get(usize::from(slot)) {
            let mut count = count.lock();
            if count.counted {
                count.live += by;
            } else {
                count.moves += 1;
            }
        }
    }

    /// Live keys in a slot.
    pub fn of(&self, slot: u16) -> u64 {
        let live = self.0.get(usize::from(slot)).map_or(0, |count| count.lock().live);
        u64::try_from(live).unwrap_or(0)
    }

    /// Moves in a slot that is not counted yet; `None` if it is.
    pub(super) fn moves(&self, slot: u16) -> Option<u64> {
        let count = self.0.get(usize::from(slot))?.lock();
        (!count.counted).then_some(count.moves)
    }

    /// Takes a scan's count, unless something moved since `moves` was asked for. Says whether the
    /// slot is counted now.
    pub(super) fn take(&self, slot: u16, live: i64, moves: u64) -> bool {
        let Some(count) = self.0.get(usize::from(slot)) else { return true };
        let mut count = count.lock();
        if !count.counted && count.moves == moves {
            *count = SlotCount { live, counted: true, moves };
        }
        count.counted
    }

    /// Everything was flushed: no key is live.
    pub(super) fn clear(&self) {
        for count in &self.0 {
            *count.lock() = SlotCount { counted: true, ..SlotCount::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_counts_only_if_nothing_moved_meanwhile() {
        let counts = LiveCounts::new(false);
        let before = counts.moves(7).expect("not counted yet");
        counts.moved(7, 1);
        assert!(!counts.take(7, 10, before), "something moved: scan again");
        let before = counts.moves(7).expect("not counted yet");
        assert!(counts.take(7, 11, before));
        counts.moved(7, -1);
        assert_eq!(counts.of(7), 10);
        assert_eq!(counts.moves(7), None);
        counts.clear();
        assert_eq!(counts.of(7), 0);
    }
}
