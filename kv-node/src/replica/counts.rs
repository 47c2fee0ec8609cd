//! Live keys by slot, counted as records change.
//!
//! DBSIZE and CLUSTER COUNTKEYSINSLOT would otherwise read every row. A count moves when a key
//! turns from nothing or a tombstone into a value or back; an expired value counts until it is
//! collected, as in Redis. After a restart with a durable engine the counts are rebuilt by one
//! scan in the background; until then they say how many are known.

use std::sync::atomic::{AtomicI64, Ordering};

use kv_ring::SLOTS;

/// The counts.
#[derive(Debug)]
pub struct LiveCounts(Box<[AtomicI64]>);

impl LiveCounts {
    /// All zero.
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicI64::new(0)).collect())
    }

    /// A key of `slot` came to life (+1) or died (-1).
    #[inline]
    pub fn moved(&self, slot: u16, by: i64) {
        if let Some(count) = self.0.get(usize::from(slot)) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Live keys in a slot.
    pub fn of(&self, slot: u16) -> u64 {
        let count = self.0.get(usize::from(slot)).map_or(0, |count| count.load(Ordering::Relaxed));
        u64::try_from(count).unwrap_or(0)
    }

    /// Forgets all: everything was flushed.
    pub(super) fn clear(&self) {
        for count in &self.0 {
            count.store(0, Ordering::Relaxed);
        }
    }
}
