//! Partitions: the unit that is placed, moved and repaired.
//!
//! A partition is a run of neighbouring slots: the high bits of the slot's number. The count is a
//! power of two, so a key's partition is one shift, and doubling the count later cuts each
//! partition in two without moving anything (fixed partitions, Dynamo section 6.2, strategy 3).
//! Invariant: the partitions of a count cover each slot exactly once, in order.

use core::ops::RangeInclusive;

use crate::error::Error;
use crate::slot::{SLOTS, Slot};

const SLOT_BITS: u8 = SLOTS.trailing_zeros() as u8;

/// The number of one partition, under some [`PartitionCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Partition(u16);

impl Partition {
    /// The partition with this number. Whether there is one is for a count to say
    /// ([`PartitionCount::contains`]); a layout owns nothing under a number that it does not have.
    #[inline]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Its number.
    #[inline]
    pub const fn index(self) -> u16 {
        self.0
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
        Partition(slot.index() >> self.shift())
    }

    /// Whether the partition is one of this count's.
    #[inline]
    pub const fn contains(self, partition: Partition) -> bool {
        (partition.0 as usize) < self.count()
    }

    /// The slots of a partition, first and last included; empty if it is not one of this count's.
    #[inline]
    pub const fn slots(self, partition: Partition) -> RangeInclusive<u16> {
        if !self.contains(partition) {
            return RangeInclusive::new(1, 0);
        }
        let first = partition.0 << self.shift();
        RangeInclusive::new(first, first + ((1 << self.shift()) - 1))
    }

    /// All partitions in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Partition> + ExactSizeIterator {
        (0..1_u16 << self.bits).map(Partition)
    }

    /// Twice as many: partition `p` becomes `2p` and `2p + 1`. `None` at 16384.
    pub const fn doubled(self) -> Option<Self> {
        if self.bits < SLOT_BITS { Some(Self { bits: self.bits + 1 }) } else { None }
    }

    /// The partition of this count that holds all slots of `partition` of the finer count; `None`
    /// if `finer` has fewer partitions than this.
    #[inline]
    pub(crate) const fn coarsen(self, partition: Partition, finer: Self) -> Option<Partition> {
        match finer.bits.checked_sub(self.bits) {
            Some(shift) => Some(Partition(partition.0 >> shift)),
            None => None,
        }
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
            let covered: Vec<u16> = count.iter().flat_map(|p| count.slots(p)).collect();
            assert!(covered.into_iter().eq(0..SLOTS), "{count:?}");
            assert_eq!(count.iter().len(), count.count());
            for slot in Slot::all().step_by(7) {
                assert!(count.slots(count.of(slot)).contains(&slot.index()));
            }
            assert!(count.slots(Partition::new(1 << bits)).is_empty());
        }
    }

    #[test]
    fn doubling_cuts_each_partition_in_two() {
        let count = PartitionCount::DEFAULT;
        let finer = count.doubled().unwrap();
        for slot in Slot::all() {
            assert_eq!(finer.of(slot).index() / 2, count.of(slot).index());
            assert_eq!(count.coarsen(finer.of(slot), finer), Some(count.of(slot)));
        }
        assert_eq!(finer.coarsen(Partition::new(0), count), None);
        assert_eq!(PartitionCount::MAX.doubled(), None);
    }
}
