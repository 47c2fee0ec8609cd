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
//! When the partitions are doubled, both halves have the losses of the whole, and what fills the
//! whole, begun before, fills both. The fact says which count it was written under.
//!
//! Invariant: a partition is complete exactly when its last loss is mended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use crate::by_partition::{ByPartition, converted};
use crate::cluster::meta::MetaStore;
use crate::keys::KeyRef;

const LOST_FACT: &str = "lost";

/// First byte of the fact: the count's power of two follows, and a bit for each partition.
const SOME: u8 = 3;
/// The same without the count: of directories whose partitions were never doubled.
const SOME_UNCOUNTED: u8 = 1;
/// The whole fact: every partition, however many there are.
const ALL: &[u8] = &[2];

/// The standing of every partition on this node.
#[derive(Debug)]
pub struct Standings {
    each: ByPartition<Standing>,
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

impl Standing {
    /// The loss that is not mended yet, if there is one.
    #[inline]
    fn open_loss(&self) -> Option<u64> {
        let mended = self.mended.load(Ordering::Acquire);
        let loss = self.losses.load(Ordering::Acquire);
        (mended != loss).then_some(loss)
    }

    fn inherited(&self) -> Self {
        let again = |value: &AtomicU64| AtomicU64::new(value.load(Ordering::Acquire));
        Self { losses: again(&self.losses), mended: again(&self.mended) }
    }
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
            each: ByPartition::new(partitions, |_| Standing::default()),
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
            Some(some) => {
                let why = "the lost partitions can't be read";
                let lost = read(some, partitions)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, why))?;
                let lost = partitions.iter().zip(lost).filter(|(_, lost)| *lost);
                lost.for_each(|(partition, _)| standings.lost(partition));
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
        let cells = self.each.now();
        let mut bits = vec![0; cells.all().len().div_ceil(8)];
        for (at, standing) in cells.all().iter().enumerate() {
            if let Some(byte) = bits.get_mut(at / 8).filter(|_| standing.open_loss().is_some()) {
                *byte |= 1 << (at % 8);
            }
        }
        let nothing = bits.iter().all(|byte| *byte == 0);
        let log2 = cells.all().len().trailing_zeros() as u8;
        let fact = [&[SOME, log2][..], &bits].concat();
        if fact == stored.fact || (nothing && stored.fact.is_empty()) {
            return Ok(());
        }
        stored.meta.store(LOST_FACT, &fact)?;
        stored.fact = fact;
        Ok(())
    }

    /// How keys are divided here.
    pub fn partitions(&self) -> PartitionCount {
        self.each.now().count()
    }

    /// From now on there are `count` partitions, if that is more: each part lacks what the whole
    /// lacked.
    pub fn refine(&self, count: PartitionCount) {
        let _one = self.changing.lock();
        if self.each.refine(count, Standing::inherited) {
            let all = self.each.now().all().iter();
            let incomplete = all.filter(|standing| standing.open_loss().is_some()).count();
            self.incomplete.store(incomplete, Ordering::Release);
        }
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
            || KeyRef::parse(storage_key).is_none_or(|key| self.is_complete_at(key.slot))
    }

    /// The same for a slot's partition.
    #[inline]
    pub fn is_complete_at(&self, slot: Slot) -> bool {
        self.all_complete() || self.each.now().of(slot).open_loss().is_none()
    }

    /// The partition of a slot.
    #[inline]
    pub fn of(&self, slot: Slot) -> Partition {
        self.partitions().of(slot)
    }

    /// This replica lost something of the partition, or begins to hold it.
    pub fn lost(&self, partition: Partition) {
        let _one = self.changing.lock();
        for standing in self.each.touched(partition) {
            let losses = standing.losses.fetch_add(1, Ordering::AcqRel);
            if standing.mended.load(Ordering::Acquire) == losses {
                self.incomplete.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// This replica lost something of every partition.
    pub fn lost_all(&self) {
        self.lost(Partition::ALL);
    }

    /// The partition was filled from enough others, durably, since `newcomer` was taken.
    pub fn mended(&self, newcomer: Newcomer) {
        let _one = self.changing.lock();
        let cells = self.each.now();
        for standing in cells.at(cells.within(newcomer.partition)) {
            let before = standing.mended.fetch_max(newcomer.loss, Ordering::AcqRel);
            let losses = standing.losses.load(Ordering::Acquire);
            if before != losses && newcomer.loss == losses {
                self.incomplete.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// The number of the partition's last loss; 0 if there was none.
    pub fn losses(&self, partition: Partition) -> u64 {
        let losses = |standing: &Standing| standing.losses.load(Ordering::Acquire);
        self.each.touched(partition).iter().map(losses).max().unwrap_or(0)
    }

    /// What is to be filled in a partition, if anything is.
    pub fn newcomer(&self, partition: Partition) -> Option<Newcomer> {
        // Of several the least: what comes with a higher number is not taken for mended.
        let losses = self.each.touched(partition).iter().filter_map(Standing::open_loss);
        losses.min().map(|loss| Newcomer { partition, loss })
    }

    /// How often something was lost, in any partition.
    pub fn all_losses(&self) -> u64 {
        let all = self.each.now().all().iter();
        all.map(|standing| standing.losses.load(Ordering::Acquire)).sum()
    }

    /// Every partition that is to be filled, in order.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        if self.all_complete() {
            return Vec::new();
        }
        let newcomer = |(partition, standing): (Partition, &Standing)| {
            standing.open_loss().map(|loss| Newcomer { partition, loss })
        };
        self.each.now().iter().filter_map(newcomer).collect()
    }
}

/// Which partitions of a count the fact says are lost: a part of what was lost as a whole, and a
/// whole of which a part was lost.
fn read(fact: &[u8], count: PartitionCount) -> Option<Vec<bool>> {
    let (written, bits) = match fact {
        [SOME, log2, bits @ ..] => (1_usize.checked_shl(u32::from(*log2))?, bits),
        [SOME_UNCOUNTED, bits @ ..] => (count.count(), bits),
        _ => return None,
    };
    if bits.len() != written.div_ceil(8) {
        return None;
    }
    let bit = |at: usize| bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let lost: Vec<bool> = (0..written).map(bit).collect();
    converted(&lost, count, |one, other| one | other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Standings {
        Standings::complete(PartitionCount::new(4).expect("a power of two"))
    }

    fn nth(index: u16) -> Partition {
        four().partitions().nth(index).expect("one of four")
    }

    #[test]
    fn halves_lack_what_the_whole_lacked_until_each_is_filled() {
        let standings = four();
        standings.lost(nth(2));
        let whole = standings.newcomer(nth(2)).expect("it lost something");
        let [low, high] = nth(2).halves().expect("there are slots to halve");
        standings.refine(low.count());
        assert_eq!(standings.newcomers().len(), 2);
        assert!(!standings.is_complete(low) && !standings.is_complete_at(high.first_slot()));
        assert!(standings.is_complete(nth(1)) && !standings.is_complete(nth(2)));
        standings.lost(high);
        standings.mended(whole);
        assert!(standings.is_complete(low), "what was begun for the whole fills both");
        assert!(!standings.is_complete(high), "it lost something since");
        assert_eq!(standings.newcomer(nth(2)).map(|new| new.loss), Some(whole.loss + 1));
        standings.mended(standings.newcomer(high).expect("it lost something again"));
        assert!(standings.all_complete());
        let finer = Newcomer { partition: low.halves().expect("halves")[0], loss: 9 };
        standings.lost(low);
        standings.mended(finer);
        assert!(!standings.is_complete(low), "a part of it says nothing of the rest");
    }

    #[test]
    fn what_is_lost_while_it_is_filled_stays_lost() {
        let standings = four();
        let partition = nth(2);
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
        standings.lost(partitions.nth(9).expect("one of sixteen"));
        standings.store().expect("a sound disk");
        let again = open();
        let newcomers = again.newcomers();
        assert_eq!(newcomers.len(), 1);
        let under = |count| {
            let count = PartitionCount::new(count).expect("a power of two");
            let standings = Standings::open(count, meta()).expect("readable");
            let lost = standings.newcomers().into_iter().map(|new| new.partition.index());
            lost.collect::<Vec<u16>>()
        };
        assert_eq!((under(32), under(4)), (vec![18, 19], vec![2]), "by the count it was stored at");
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
        let newcomer = standings.newcomer(nth(1)).expect("it lost something");
        standings.mended(newcomer);
        assert!(standings.is_complete(nth(1)));
        assert!(!standings.is_complete(nth(3)) && !standings.all_complete());
    }
}
