//! The marks of this node's partitions: what may be forgotten because every replica has it.
//!
//! A mark is a time at or below which a dot that this complete replica does not hold live is dead
//! (kv-quorum's `mark` and `climb` say why). It is in force when it is durable and not before: what
//! is collected under it is worthless without it. One number for each partition, kept in one fact
//! of the directory; an engine that keeps nothing over a restart keeps no marks either.
//!
//! Invariant: a mark in force is durable, and only a newcomer's ever goes down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kv_quorum::{HybridTime, Mark};
use kv_ring::{Partition, PartitionCount};
use parking_lot::Mutex;

use crate::cluster::meta::MetaStore;

/// The name of the marks among the directory's facts: eight bytes for each partition.
const MARKS_FACT: &str = "marks";

/// The marks in force.
pub struct Marks {
    each: Box<[AtomicU64]>,
    /// Whether any was ever taken: until then nobody has to look.
    any: AtomicBool,
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
        let count = partitions.count();
        let stored = if volatile { None } else { meta.load(MARKS_FACT)? };
        let each: Box<[AtomicU64]> = match stored {
            None => (0..count).map(|_| AtomicU64::new(0)).collect(),
            Some(fact) => {
                let (marks, rest) = fact.as_chunks::<8>();
                if marks.len() != count || !rest.is_empty() {
                    let why = "the marks are not of as many partitions as there are";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                marks.iter().map(|mark| AtomicU64::new(u64::from_le_bytes(*mark))).collect()
            }
        };
        let any = each.iter().any(|mark| mark.load(Ordering::Relaxed) != 0);
        Ok(Self {
            each,
            any: AtomicBool::new(any),
            storing: Mutex::new(()),
            meta: (!volatile).then(|| Arc::clone(meta)),
        })
    }

    /// The mark in force, whatever the partition's standing: [`Replica::mark`] asks for both.
    ///
    /// [`Replica::mark`]: super::Replica::mark
    #[inline]
    pub fn stored(&self, partition: Partition) -> Mark {
        if !self.any.load(Ordering::Acquire) {
            return Mark::NONE;
        }
        let mark = self.each.get(usize::from(partition.index()));
        Mark::at(HybridTime::from_bits(mark.map_or(0, |mark| mark.load(Ordering::Acquire))))
    }

    /// Puts marks in force that are proven; a lower one than the present changes nothing. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// They are not in force.
    pub fn raise(&self, marks: &[(Partition, Mark)]) -> io::Result<()> {
        self.store(marks, u64::max)
    }

    /// Puts the marks of partitions in force that this replica has just been filled with, higher
    /// or lower than what it had; [`Mark::NONE`] of one that it lost something of. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// The old ones are in force.
    pub fn replace(&self, marks: &[(Partition, Mark)]) -> io::Result<()> {
        self.store(marks, |_, new| new)
    }

    fn store(
        &self,
        marks: &[(Partition, Mark)],
        choose: impl Fn(u64, u64) -> u64,
    ) -> io::Result<()> {
        let _one = self.storing.lock();
        let before: Vec<u64> = self.each.iter().map(|mark| mark.load(Ordering::Acquire)).collect();
        let mut next = before.clone();
        for (partition, mark) in marks {
            if let Some(slot) = next.get_mut(usize::from(partition.index())) {
                *slot = choose(*slot, mark.time().to_bits());
            }
        }
        if next == before {
            return Ok(());
        }
        if let Some(meta) = &self.meta {
            let fact: Vec<u8> = next.iter().flat_map(|mark| mark.to_le_bytes()).collect();
            meta.store(MARKS_FACT, &fact)?;
        }
        for (slot, mark) in self.each.iter().zip(next) {
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

    #[test]
    fn marks_survive_a_restart_and_only_a_newcomers_goes_down() {
        let fs = Arc::new(MemFs::new());
        let meta = Arc::new(MetaStore::open(fs, Path::new("/meta")).expect("an empty disk"));
        let four = PartitionCount::new(4).expect("a power of two");
        let open = |volatile| Marks::open(&meta, four, volatile).expect("readable");
        let at = |ms| Mark::at(HybridTime::new(ms, 0));
        let (one, two) = (Partition::new(1), Partition::new(2));
        let marks = open(false);
        marks.raise(&[(one, at(50)), (two, at(70))]).expect("durable");
        marks.raise(&[(one, at(40))]).expect("durable");
        assert_eq!((marks.stored(one), marks.stored(Partition::new(0))), (at(50), Mark::NONE));
        marks.replace(&[(two, at(60))]).expect("durable");
        let again = open(false);
        assert_eq!((again.stored(one), again.stored(two)), (at(50), at(60)));
        assert_eq!(open(true).stored(one), Mark::NONE, "an engine that forgets has no marks");
        let eight = PartitionCount::new(8).expect("a power of two");
        assert!(Marks::open(&meta, eight, false).is_err());
    }
}
