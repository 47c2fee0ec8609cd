//! The marks of this node's partitions: what may be forgotten because every replica has it.
//!
//! A mark is a time at or below which a dot that this complete replica does not hold live is dead
//! (kv-quorum's `mark` and `climb` say why). It is in force when it is durable and not before: what
//! is collected under it is worthless without it. One number for each partition, kept in one fact
//! of the directory; an engine that keeps nothing over a restart keeps no marks either.
//!
//! When the partitions are doubled, both halves have the mark of the whole: all replicas were equal
//! in all of it. The fact's length says which count it was written under; under a coarser one a
//! partition has the least of its parts' marks.
//!
//! Invariant: a mark in force is durable, and only a newcomer's ever goes down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kv_quorum::{HybridTime, Mark};
use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use crate::by_partition::{ByPartition, Cells, converted};
use crate::cluster::meta::MetaStore;

/// The name of the marks among the directory's facts: eight bytes for each partition.
const MARKS_FACT: &str = "marks";

/// The marks in force.
pub struct Marks {
    each: ByPartition<AtomicU64>,
    /// Whether any was ever taken: until then nobody has to look.
    any: AtomicBool,
    /// Kept while they change or are inherited.
    storing: Mutex<()>,
    /// None for an engine that forgets.
    meta: Option<Arc<MetaStore>>,
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").field("any", &self.any).finish_non_exhaustive()
    }
}

impl Marks {
    /// The marks that the directory remembers. Blocks on the disk.
    ///
    /// # Errors
    /// They are there and can't be read: what was collected would come back.
    pub(super) fn open(
        meta: &Arc<MetaStore>,
        partitions: PartitionCount,
        volatile: bool,
    ) -> io::Result<Self> {
        let stored = if volatile { None } else { meta.load(MARKS_FACT)? };
        let marks = match stored {
            None => vec![0; partitions.count()],
            Some(fact) => {
                let (marks, rest) = fact.as_chunks::<8>();
                let marks: Vec<u64> = marks.iter().map(|mark| u64::from_le_bytes(*mark)).collect();
                let marks = converted(&marks, partitions, u64::min).filter(|_| rest.is_empty());
                let why = "the marks are of no number of partitions that there can be";
                marks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, why))?
            }
        };
        let any = marks.iter().any(|mark| *mark != 0);
        let mut marks = marks.into_iter();
        let each = ByPartition::new(partitions, |_| AtomicU64::new(marks.next().unwrap_or(0)));
        Ok(Self {
            each,
            any: AtomicBool::new(any),
            storing: Mutex::new(()),
            meta: (!volatile).then(|| Arc::clone(meta)),
        })
    }

    /// The mark in force, whatever the partition's standing: [`Replica::mark`] asks for both. Where
    /// the partition is of a coarser count than there is now, the least of its parts.
    ///
    /// [`Replica::mark`]: super::Replica::mark
    #[inline]
    pub fn stored(&self, partition: Partition) -> Mark {
        self.of_all(partition, u64::min)
    }

    /// The same, and of several the highest: what is minted has to lie above it.
    #[inline]
    pub fn highest(&self, partition: Partition) -> Mark {
        self.of_all(partition, u64::max)
    }

    /// The mark in force of a slot.
    #[inline]
    pub fn stored_at(&self, slot: Slot) -> Mark {
        if !self.any.load(Ordering::Acquire) {
            return Mark::NONE;
        }
        let mark = self.each.now().of(slot).load(Ordering::Acquire);
        Mark::at(HybridTime::from_bits(mark))
    }

    #[inline]
    fn of_all(&self, partition: Partition, choose: impl Fn(u64, u64) -> u64) -> Mark {
        if !self.any.load(Ordering::Acquire) {
            return Mark::NONE;
        }
        let marks = self.each.touched(partition).iter().map(|mark| mark.load(Ordering::Acquire));
        Mark::at(HybridTime::from_bits(marks.reduce(choose).unwrap_or(0)))
    }

    /// From now on there are `count` partitions, if that is more: each part has the whole's mark.
    pub(super) fn refine(&self, count: PartitionCount) {
        let _one = self.storing.lock();
        self.each.refine(count, |mark| AtomicU64::new(mark.load(Ordering::Acquire)));
    }

    /// Puts marks in force that are proven; a lower one than the present changes nothing. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// They are not in force.
    pub fn raise(&self, marks: &[(Partition, Mark)]) -> io::Result<()> {
        self.store(|cells, next| {
            for (partition, mark) in marks {
                for slot in next.get_mut(cells.within(*partition)).unwrap_or_default() {
                    *slot = mark.time().to_bits().max(*slot);
                }
            }
        })
    }

    /// Puts the mark of a partition in force that this replica has just been filled with, higher or
    /// lower than what it had. Says whether it is: not so if the partitions were doubled since it
    /// was begun to be filled. Blocks on the disk.
    ///
    /// # Errors
    /// The old one is in force.
    pub fn replace(&self, partition: Partition, mark: Mark) -> io::Result<bool> {
        let mut is_there = false;
        self.store(|cells, next| {
            is_there = cells.count().contains(partition);
            let place = next.get_mut(usize::from(partition.index()));
            if let Some(slot) = place.filter(|_| is_there) {
                *slot = mark.time().to_bits();
            }
        })?;
        Ok(is_there)
    }

    /// Nothing is known to be dead any more in a partition that is not held. Blocks on the disk.
    ///
    /// # Errors
    /// The old mark is in force.
    pub fn forget(&self, partition: Partition) -> io::Result<()> {
        self.store(|cells, next| {
            next.get_mut(cells.touched(partition)).unwrap_or_default().fill(0);
        })
    }

    fn store(&self, change: impl FnOnce(&Cells<AtomicU64>, &mut [u64])) -> io::Result<()> {
        let _one = self.storing.lock();
        let cells = self.each.now();
        let before: Vec<u64> =
            cells.all().iter().map(|mark| mark.load(Ordering::Acquire)).collect();
        let mut next = before.clone();
        change(cells, &mut next);
        if next == before {
            return Ok(());
        }
        if let Some(meta) = &self.meta {
            let fact: Vec<u8> = next.iter().flat_map(|mark| mark.to_le_bytes()).collect();
            meta.store(MARKS_FACT, &fact)?;
        }
        for (slot, mark) in cells.all().iter().zip(next) {
            slot.store(mark, Ordering::Release);
        }
        self.any.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;

    use super::*;

    fn count(partitions: u32) -> PartitionCount {
        PartitionCount::new(partitions).expect("a power of two")
    }

    fn nth(index: u16) -> Partition {
        count(4).nth(index).expect("one of four")
    }

    fn at(ms: u64) -> Mark {
        Mark::at(HybridTime::new(ms, 0))
    }

    #[test]
    fn marks_survive_a_restart_and_only_a_newcomers_goes_down() {
        let fs = Arc::new(MemFs::new());
        let meta = Arc::new(MetaStore::open(fs, Path::new("/meta")).expect("an empty disk"));
        let open = |volatile| Marks::open(&meta, count(4), volatile).expect("readable");
        let (one, two) = (nth(1), nth(2));
        let marks = open(false);
        marks.raise(&[(one, at(50)), (two, at(70))]).expect("durable");
        marks.raise(&[(one, at(40))]).expect("durable");
        assert_eq!((marks.stored(one), marks.stored(nth(0))), (at(50), Mark::NONE));
        assert!(marks.replace(two, at(60)).expect("durable"));
        let again = open(false);
        assert_eq!((again.stored(one), again.stored(two)), (at(50), at(60)));
        assert_eq!(open(true).stored(one), Mark::NONE, "an engine that forgets has no marks");
        again.forget(two).expect("durable");
        assert_eq!(open(false).stored(two), Mark::NONE);
    }

    #[test]
    fn halves_have_the_mark_of_the_whole_also_after_a_restart() {
        let fs = Arc::new(MemFs::new());
        let meta = Arc::new(MetaStore::open(fs, Path::new("/meta")).expect("an empty disk"));
        let whole = nth(1);
        let [low, high] = whole.halves().expect("there are slots to halve");
        let marks = Marks::open(&meta, count(4), false).expect("nothing yet");
        marks.raise(&[(whole, at(50))]).expect("durable");
        marks.refine(count(8));
        assert_eq!((marks.stored(low), marks.stored(high)), (at(50), at(50)));
        let early = Marks::open(&meta, count(8), false).expect("of four, read as of eight");
        assert_eq!((early.stored(low), early.stored(high)), (at(50), at(50)));
        assert!(!marks.replace(whole, at(90)).expect("nothing to store"), "of what there was");
        marks.raise(&[(high, at(70))]).expect("durable");
        assert_eq!((marks.stored(whole), marks.highest(whole)), (at(50), at(70)));
        assert_eq!(marks.stored_at(high.first_slot()), at(70));
        marks.raise(&[(whole, at(60))]).expect("durable");
        assert_eq!((marks.stored(low), marks.stored(high)), (at(60), at(70)));
        let late = Marks::open(&meta, count(8), false).expect("readable");
        assert_eq!((late.stored(low), late.stored(high)), (at(60), at(70)));
        let back = Marks::open(&meta, count(4), false).expect("of eight, read as of four");
        assert_eq!(back.stored(whole), at(60));
    }
}
