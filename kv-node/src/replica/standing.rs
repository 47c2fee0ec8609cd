//! Where this replica holds everything that it ever acknowledged, and where it is a newcomer.
//!
//! A replica that lost something of a partition (an engine's restart that forgot, an unsynced tail,
//! a damaged block), or that just came to hold it, counts for W there and not for R, nor for what a
//! SET weighs, nor for a mark, until it has exchanged with enough others (DESIGN: N - W + 1, or all
//! if they are fewer). That is kept for each partition, and each loss has a number: whoever fills a
//! partition takes the number first, so that what is lost meanwhile is not taken for filled.
//!
//! What is incomplete is a fact of the directory: a node that stops before it is filled must not
//! come back as complete. A loss is stored before anybody relies on it (`Replica::lose`); that it
//! is mended is stored a little later, since a partition filled once too often harms nobody.
//!
//! Invariant: a partition is complete exactly when its last loss is mended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use crate::cluster::meta::MetaStore;
use crate::keys::KeyRef;

const LOST_FACT: &str = "lost";

/// First byte of the fact: a bit for each partition follows.
const SOME: u8 = 1;
/// The whole fact: every partition, however many there are.
const ALL: &[u8] = &[2];

/// The standing of every partition on this node.
#[derive(Debug)]
pub struct Standings {
    partitions: PartitionCount,
    each: Box<[Standing]>,
    /// Partitions that are not complete; zero is the fast way out.
    incomplete: AtomicUsize,
    changing: Mutex<()>,
    /// Where losses are stored, and what is stored there now.
    stored: Option<Mutex<Stored>>,
}

#[derive(Debug)]
struct Stored {
    meta: Arc<MetaStore>,
    fact: Vec<u8>,
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
            stored: None,
        }
    }

    /// As the directory remembers it. Blocks on the disk.
    ///
    /// # Errors
    /// The fact is there and can't be read.
    pub fn open(partitions: PartitionCount, meta: Arc<MetaStore>) -> io::Result<Self> {
        let mut standings = Self::complete(partitions);
        let fact = meta.load(LOST_FACT)?;
        match fact.as_deref() {
            None => {}
            Some(ALL) => standings.lost_all(),
            Some([SOME, bits @ ..]) if bits.len() == standings.each.len().div_ceil(8) => {
                for partition in partitions.iter().filter(|at| bit(bits, *at)) {
                    standings.lost(partition);
                }
            }
            Some(_) => {
                let why = "the lost partitions can't be read";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        let fact = fact.unwrap_or_default();
        standings.stored = Some(Mutex::new(Stored { meta, fact }));
        Ok(standings)
    }

    /// Makes a directory remember, before anything of it is opened, that all of it is lost.
    ///
    /// # Errors
    /// The disk failed: it may or may not remember.
    pub fn store_all_lost(meta: &MetaStore) -> io::Result<()> {
        meta.store(LOST_FACT, ALL)
    }

    /// Stores what is incomplete now, if that is not what is stored. Blocks on the disk.
    ///
    /// # Errors
    /// What was stored before is still there, or this is.
    pub fn store(&self) -> io::Result<()> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let mut stored = stored.lock();
        let mut fact = vec![0; 1 + self.each.len().div_ceil(8)];
        if let Some((first, bits)) = fact.split_first_mut() {
            *first = SOME;
            for newcomer in self.newcomers() {
                let at = usize::from(newcomer.partition.index());
                if let Some(byte) = bits.get_mut(at / 8) {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        let nothing = fact.iter().skip(1).all(|byte| *byte == 0);
        if fact == stored.fact || (nothing && stored.fact.is_empty()) {
            return Ok(());
        }
        stored.meta.store(LOST_FACT, &fact)?;
        stored.fact = fact;
        Ok(())
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

    /// The number of the partition's last loss; 0 if there was none.
    pub fn losses(&self, partition: Partition) -> u64 {
        self.at(partition).map_or(0, |standing| standing.losses.load(Ordering::Acquire))
    }

    /// What is to be filled in a partition, if anything is.
    pub fn newcomer(&self, partition: Partition) -> Option<Newcomer> {
        let standing = self.at(partition)?;
        let mended = standing.mended.load(Ordering::Acquire);
        let loss = standing.losses.load(Ordering::Acquire);
        (mended != loss).then_some(Newcomer { partition, loss })
    }

    /// How often something was lost, in any partition.
    pub fn all_losses(&self) -> u64 {
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

fn bit(bits: &[u8], partition: Partition) -> bool {
    let at = usize::from(partition.index());
    bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
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
    fn a_loss_outlives_a_restart_until_it_is_mended() {
        let fs = kv_lsm::fs::MemFs::new();
        let meta = || {
            let path = std::path::Path::new("/meta");
            Arc::new(MetaStore::open(Arc::new(fs.clone()), path).expect("a sound disk"))
        };
        let partitions = PartitionCount::new(16).expect("a power of two");
        let open = || Standings::open(partitions, meta()).expect("readable");
        let standings = open();
        assert!(standings.all_complete());
        standings.lost(Partition::new(9));
        standings.store().expect("a sound disk");
        let again = open();
        let newcomers = again.newcomers();
        assert_eq!(newcomers.len(), 1);
        again.mended(newcomers[0]);
        assert!(!open().all_complete(), "that it is mended is not stored yet");
        again.store().expect("a sound disk");
        assert!(open().all_complete());
        Standings::store_all_lost(&meta()).expect("a sound disk");
        assert_eq!(open().newcomers().len(), 16);
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
