//! Partitions: the unit that is placed, moved and repaired.
//!
//! A partition is a run of neighbouring slots: the high bits of the slot's number. The count is a
//! power of two, so a key's partition is one shift, and doubling the count later cuts each
//! partition in two without moving anything (fixed partitions, Dynamo section 6.2, strategy 3).
//!
//! Layouts of several counts may be live at once, so a partition says by itself which count it is
//! of: its code is that of a node of the binary tree over the slots.
//!
//! ```text
//! 1 of 1        1            all slots
//! 0, 1 of 2     2     3      their halves
//! 0 .. 3 of 4   4  5  6  7   2n and 2n + 1 are the halves of n
//! ```
//!
//! Invariant: the partitions of a count cover each slot exactly once, in order.

use core::fmt;
use core::ops::RangeInclusive;

use crate::error::Error;
use crate::slot::{SLOTS, Slot};

const SLOT_BITS: u8 = SLOTS.trailing_zeros() as u8;

/// One partition of some [`PartitionCount`], and which count that is. Those of one count are in the
/// order of their slots; those of different counts are never equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u16", into = "u16"))]
pub struct Partition(u16);

impl Partition {
    /// All slots: the one partition of the count 1.
    pub const ALL: Self = Self(1);

    /// The partition with this code, as it travels; `None` for what is none's.
    #[inline]
    pub const fn from_code(code: u16) -> Option<Self> {
        if code == 0 || code >= SLOTS * 2 { None } else { Some(Self(code)) }
    }

    /// Its code: of one partition of one count only, from 1 to 32767.
    #[inline]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The count that it is of.
    #[inline]
    pub const fn count(self) -> PartitionCount {
        PartitionCount { bits: self.0.ilog2() as u8 }
    }

    /// Its number among the partitions of its count, from 0.
    #[inline]
    pub const fn index(self) -> u16 {
        self.0 ^ (1 << self.count().bits)
    }

    /// Its first slot.
    #[inline]
    pub const fn first_slot(self) -> Slot {
        Slot::below(self.index() << self.count().shift())
    }

    /// Its slots, first and last included; never empty.
    #[inline]
    pub const fn slots(self) -> RangeInclusive<u16> {
        let first = self.first_slot().index();
        RangeInclusive::new(first, first + ((1 << self.count().shift()) - 1))
    }

    /// The two that it is cut into when the count is doubled; `None` if it is one slot.
    pub const fn halves(self) -> Option<[Self; 2]> {
        if self.count().bits < SLOT_BITS {
            Some([Self(self.0 << 1), Self((self.0 << 1) | 1)])
        } else {
            None
        }
    }

    /// The partition of `count` that holds all its slots; `None` if that count is finer.
    #[inline]
    pub const fn under(self, count: PartitionCount) -> Option<Self> {
        match self.count().bits.checked_sub(count.bits) {
            Some(shift) => Some(Self(self.0 >> shift)),
            None => None,
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({} of {})", self.index(), self.count().count())
    }
}

impl From<Partition> for u16 {
    fn from(partition: Partition) -> Self {
        partition.0
    }
}

impl TryFrom<u16> for Partition {
    type Error = Error;

    fn try_from(code: u16) -> Result<Self, Error> {
        Self::from_code(code).ok_or(Error::Partition(code))
    }
}

/// How many partitions the slots are cut into: a power of two from 1 to 16384.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
pub struct PartitionCount {
    bits: u8,
}

impl PartitionCount {
    /// The default, 1024: three copies on 100 nodes still are 30 partitions for each, and a
    /// partition of a full terabyte is one gigabyte, small enough to move in one go.
    pub const DEFAULT: Self = Self { bits: 10 };

    /// The most there can be: a partition for each slot.
    pub const MAX: Self = Self { bits: SLOT_BITS };

    /// A count; an error unless it is a power of two from 1 to 16384.
    pub const fn new(count: u32) -> Result<Self, Error> {
        if count.is_power_of_two() && count <= SLOTS as u32 {
            Ok(Self { bits: count.trailing_zeros() as u8 })
        } else {
            Err(Error::PartitionCount(count))
        }
    }

    /// The number of partitions, 1 to 16384.
    #[inline]
    pub const fn count(self) -> usize {
        1 << self.bits
    }

    /// The partition of a slot. One shift.
    #[inline]
    pub const fn of(self, slot: Slot) -> Partition {
        Partition((1 << self.bits) | (slot.index() >> self.shift()))
    }

    /// The partition with this number, from 0; `None` if there are fewer.
    #[inline]
    pub const fn nth(self, index: u16) -> Option<Partition> {
        if (index as usize) < self.count() {
            Some(Partition((1 << self.bits) | index))
        } else {
            None
        }
    }

    /// Whether the partition is one of this count's.
    #[inline]
    pub const fn contains(self, partition: Partition) -> bool {
        partition.count().bits == self.bits
    }

    /// All partitions in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Partition> + ExactSizeIterator {
        let first = 1_u16 << self.bits;
        (first..first << 1).map(Partition)
    }

    /// Twice as many: partition `p` becomes `2p` and `2p + 1`. `None` at 16384.
    pub const fn doubled(self) -> Option<Self> {
        if self.bits < SLOT_BITS { Some(Self { bits: self.bits + 1 }) } else { None }
    }

    #[inline]
    const fn shift(self) -> u8 {
        SLOT_BITS - self.bits
    }
}

impl Default for PartitionCount {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u32> for PartitionCount {
    type Error = Error;

    fn try_from(count: u32) -> Result<Self, Error> {
        Self::new(count)
    }
}

impl From<PartitionCount> for u32 {
    fn from(count: PartitionCount) -> Self {
        1 << count.bits
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn only_powers_of_two_up_to_the_slots() {
        for bad in [0, 3, 1000, 16_385, 32_768, u32::MAX] {
            assert_eq!(PartitionCount::new(bad), Err(Error::PartitionCount(bad)));
        }
        assert_eq!(PartitionCount::new(1).map(PartitionCount::count), Ok(1));
        assert_eq!(PartitionCount::new(16_384), Ok(PartitionCount::MAX));
        assert_eq!(PartitionCount::default().count(), 1024);
    }

    #[test]
    fn every_slot_is_in_exactly_one_partition() {
        for bits in 0..=14 {
            let count = PartitionCount::new(1 << bits).unwrap();
            let covered: Vec<u16> = count.iter().flat_map(Partition::slots).collect();
            assert!(covered.into_iter().eq(0..SLOTS), "{count:?}");
            assert_eq!(count.iter().len(), count.count());
            assert!(count.iter().all(|partition| count.contains(partition)));
            for slot in Slot::all().step_by(7) {
                let partition = count.of(slot);
                assert!(partition.slots().contains(&slot.index()));
                assert_eq!(count.nth(partition.index()), Some(partition));
                assert_eq!(count.of(partition.first_slot()), partition);
            }
            assert_eq!(count.nth(1 << bits), None);
        }
    }

    #[test]
    fn doubling_cuts_each_partition_in_two() {
        let count = PartitionCount::DEFAULT;
        let finer = count.doubled().unwrap();
        for slot in Slot::all() {
            let (coarse, fine) = (count.of(slot), finer.of(slot));
            assert_eq!(fine.index() / 2, coarse.index());
            assert_eq!(fine.under(count), Some(coarse));
            assert_eq!(coarse.under(finer), None);
            assert!(coarse.halves().unwrap().contains(&fine));
            assert!(!count.contains(fine) && coarse != fine);
        }
        assert_eq!(Partition::ALL.slots(), 0..=SLOTS - 1);
        assert_eq!(PartitionCount::MAX.of(Slot::of(b"key")).halves(), None);
        assert_eq!(PartitionCount::MAX.doubled(), None);
    }

    #[test]
    fn a_code_is_one_partitions() {
        assert_eq!(Partition::from_code(0), None);
        assert_eq!(Partition::from_code(32_768), None);
        for code in 1..32_768 {
            let partition = Partition::from_code(code).unwrap();
            assert_eq!(partition.code(), code);
            assert_eq!(partition.count().nth(partition.index()), Some(partition));
        }
    }
}
