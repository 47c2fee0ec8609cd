//! Where this replica holds everything that it ever acknowledged, and where it is a newcomer.
//!
//! A replica that lost something of a partition (an engine's restart that forgot, an unsynced tail,
//! a damaged block), or that just came to hold it, counts for W there and not for R, nor for what a
//! SET weighs, nor for a mark, until it has exchanged with enough others (DESIGN: N - W + 1, or all
//! if they are fewer). That is kept for each partition, and each loss has a number: whoever fills a
//! partition takes the number first, so that what is lost meanwhile is not taken for filled.
//!
//! Invariant: a partition is complete exactly when its last loss is mended.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use crate::keys::KeyRef;

/// The standing of every partition on this node.
#[derive(Debug)]
pub struct Standings {
    partitions: PartitionCount,
    each: Box<[Standing]>,
    /// Partitions that are not complete; zero is the fast way out.
    incomplete: AtomicUsize,
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Standing {
    losses: AtomicU64,
    mended: AtomicU64,
}

/// A partition to fill, and the number of the loss that filling it mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The partition.
    pub partition: Partition,
    /// The loss: hand it to [`Standings::mended`].
    pub loss: u64,
}

impl Standings {
    /// Complete everywhere.
    pub fn complete(partitions: PartitionCount) -> Self {
        Self {
            partitions,
            each: (0..partitions.count()).map(|_| Standing::default()).collect(),
            incomplete: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }

    /// How keys are divided here.
    pub fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// Whether every partition is complete.
    #[inline]
    pub fn all_complete(&self) -> bool {
        self.incomplete.load(Ordering::Acquire) == 0
    }

    /// Whether this replica has everything of the partition that it ever acknowledged.
    #[inline]
    pub fn is_complete(&self, partition: Partition) -> bool {
        self.all_complete() || self.newcomer(partition).is_none()
    }

    /// The same for a storage key's partition; what is not a storage key belongs to none.
    #[inline]
    pub fn is_complete_for(&self, storage_key: &[u8]) -> bool {
        self.all_complete()
            || KeyRef::parse(storage_key).is_none_or(|key| self.is_complete(self.of(key.slot)))
    }

    /// The partition of a slot.
    #[inline]
    pub fn of(&self, slot: Slot) -> Partition {
        self.partitions.of(slot)
    }

    /// This replica lost something of the partition, or begins to hold it.
    pub fn lost(&self, partition: Partition) {
        let _one = self.changing.lock();
        let Some(standing) = self.at(partition) else { return };
        let losses = standing.losses.fetch_add(1, Ordering::AcqRel);
        if standing.mended.load(Ordering::Acquire) == losses {
            self.incomplete.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// This replica lost something of every partition.
    pub fn lost_all(&self) {
        self.partitions.iter().for_each(|partition| self.lost(partition));
    }

    /// The partition was filled from enough others, durably, since `newcomer` was taken.
    pub fn mended(&self, newcomer: Newcomer) {
        let _one = self.changing.lock();
        let Some(standing) = self.at(newcomer.partition) else { return };
        let before = standing.mended.fetch_max(newcomer.loss, Ordering::AcqRel);
        let losses = standing.losses.load(Ordering::Acquire);
        if before != losses && newcomer.loss == losses {
            self.incomplete.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// What is to be filled in a partition, if anything is.
    pub fn newcomer(&self, partition: Partition) -> Option<Newcomer> {
        let standing = self.at(partition)?;
        let mended = standing.mended.load(Ordering::Acquire);
        let loss = standing.losses.load(Ordering::Acquire);
        (mended != loss).then_some(Newcomer { partition, loss })
    }

    /// How often something was lost, in any partition.
    pub fn losses(&self) -> u64 {
        self.each.iter().map(|standing| standing.losses.load(Ordering::Acquire)).sum()
    }

    /// Every partition that is to be filled, in order.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        if self.all_complete() {
            return Vec::new();
        }
        self.partitions.iter().filter_map(|partition| self.newcomer(partition)).collect()
    }

    fn at(&self, partition: Partition) -> Option<&Standing> {
        self.each.get(usize::from(partition.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Standings {
        Standings::complete(PartitionCount::new(4).expect("a power of two"))
    }

    #[test]
    fn what_is_lost_while_it_is_filled_stays_lost() {
        let standings = four();
        let partition = Partition::new(2);
        assert!(standings.all_complete());
        standings.lost(partition);
        let first = standings.newcomer(partition).expect("it lost something");
        standings.lost(partition);
        standings.mended(first);
        assert!(!standings.is_complete(partition), "the second loss came meanwhile");
        let second = standings.newcomer(partition).expect("it lost something again");
        standings.mended(second);
        assert!(standings.is_complete(partition) && standings.all_complete());
        standings.mended(second);
        assert!(standings.all_complete(), "mending twice counts once");
    }

    #[test]
    fn partitions_stand_for_themselves() {
        let standings = four();
        standings.lost_all();
        assert_eq!(standings.newcomers().len(), 4);
        let newcomer = standings.newcomer(Partition::new(1)).expect("it lost something");
        standings.mended(newcomer);
        assert!(standings.is_complete(Partition::new(1)));
        assert!(!standings.is_complete(Partition::new(3)) && !standings.all_complete());
    }
}
