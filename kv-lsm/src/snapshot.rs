//! Who still reads at an older sequence.
//!
//! A view holds its memtables and tables, so a snapshot needs nothing from compaction; only the
//! active memtable goes on changing under it. It keeps the version that an overwrite displaces
//! exactly when a live snapshot can see it.
//!
//! Invariant: the newest live sequence is never below that of a snapshot that is still held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The live snapshots of one engine.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    newest: AtomicU64,
    live: Mutex<BTreeMap<u64, usize>>,
}

impl Snapshots {
    /// The newest sequence that a snapshot reads at; 0 when there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Takes a hold on `seq`. The caller holds the lock under which sequences are assigned.
    pub(crate) fn hold(self: &Arc<Self>, seq: u64) -> Held {
        let mut live = self.live.lock();
        *live.entry(seq).or_default() += 1;
        self.newest.fetch_max(seq, Ordering::AcqRel);
        Held { snapshots: Arc::clone(self), seq }
    }

    pub(crate) fn count(&self) -> usize {
        self.live.lock().values().sum()
    }
}

/// A hold on one sequence, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    snapshots: Arc<Snapshots>,
    seq: u64,
}

impl Held {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut live = self.snapshots.live.lock();
        if let Some(count) = live.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.seq);
            }
        }
        let newest = live.last_key_value().map_or(0, |(&seq, _)| seq);
        self.snapshots.newest.store(newest, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_follows_what_is_held() {
        let snapshots = Arc::new(Snapshots::default());
        let a = snapshots.hold(3);
        let b = snapshots.hold(7);
        let c = snapshots.hold(7);
        drop(b);
        assert_eq!((snapshots.newest(), snapshots.count()), (7, 2));
        drop(c);
        assert_eq!(snapshots.newest(), a.seq());
        drop(a);
        assert_eq!((snapshots.newest(), snapshots.count()), (0, 0));
    }
}
