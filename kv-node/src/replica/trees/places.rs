//! Where a storage key stands in its partition's tree, and which storage keys a leaf holds.
//!
//! ```text
//! position (64 bits) = the slot's bits below the partition | the token's high bits
//! leaf               = the position's high bits
//! ```
//!
//! Storage keys are ordered by slot and then by token, so a leaf is one contiguous range of them
//! and can be read as one. Only keyspace 0 has trees; hints and what else may be stored elsewhere
//! have none.

use bytes::Bytes;
use kv_merkle::{Digest, Shape};
use kv_ring::{Partition, PartitionCount};

use crate::keys::{DEFAULT_KEYSPACE, KeyRef, position, slot_end};

/// Bits of a slot's number.
const SLOT_BITS: u32 = kv_ring::SLOTS.trailing_zeros();

/// How a node's keys fall into trees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    partitions: PartitionCount,
    /// Bits of a slot that tell it from the others of its partition.
    slot_bits: u32,
}

impl Places {
    pub(super) fn new(partitions: PartitionCount) -> Self {
        let slot_bits = SLOT_BITS - partitions.count().trailing_zeros();
        Self { partitions, slot_bits }
    }

    /// The partition and the position of a storage key, if it has a place in a tree.
    #[inline]
    pub(super) fn of(self, storage_key: &[u8]) -> Option<(Partition, u64)> {
        let key = KeyRef::parse(storage_key).filter(|key| key.keyspace == DEFAULT_KEYSPACE)?;
        let token = key.token.value();
        let position = if self.slot_bits == 0 {
            token
        } else {
            let low = u64::from(key.slot.index()) & ((1 << self.slot_bits) - 1);
            (low << (64 - self.slot_bits)) | (token >> self.slot_bits)
        };
        Some((self.partitions.of(key.slot), position))
    }

    /// The storage keys of the leaves `first` to `last`: from the one, up to the other.
    pub(super) fn range(
        self,
        partition: Partition,
        shape: Shape,
        first: u32,
        last: u32,
    ) -> Option<(Bytes, Bytes)> {
        let slots = partition.slots();
        let at = |leaf: u32| {
            let (low, _) = shape.range_of(leaf).ok()?;
            let (slot, token) = if self.slot_bits == 0 {
                (0, low)
            } else {
                ((low >> (64 - self.slot_bits)) as u16, low << self.slot_bits)
            };
            Some(position(DEFAULT_KEYSPACE, slots.start() + slot, token))
        };
        let to = match last.checked_add(1) {
            Some(next) if next < shape.leaves() => at(next)?,
            _ => slot_end(DEFAULT_KEYSPACE, *slots.end()),
        };
        (last >= first).then_some((at(first)?, to))
    }
}

/// The storage keys of a whole partition: from, and up to.
pub(super) fn whole(partition: Partition) -> (Bytes, Bytes) {
    let slots = partition.slots();
    (position(DEFAULT_KEYSPACE, *slots.start(), 0), slot_end(DEFAULT_KEYSPACE, *slots.end()))
}

/// The shape of every tree of a node: the deepest whose leaves, were all partitions held, fit the
/// budget. It depends on what is the same on all nodes, so theirs nearly always is, too.
pub(super) fn shape(partitions: PartitionCount, tree_bytes_max: u64) -> Shape {
    let leaves = tree_bytes_max / (partitions.count() as u64 * Digest::BYTES as u64);
    let depth = leaves.checked_ilog2().unwrap_or(1).clamp(1, u32::from(kv_merkle::DEPTH_MAX));
    Shape::new(depth as u8).expect("1 to 16 is a depth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_chooses_the_shape() {
        let of = |count, bytes| shape(PartitionCount::new(count).expect("a power"), bytes).leaves();
        assert_eq!(of(1_024, 4 << 20), 256);
        assert_eq!(of(64, 4 << 20), 4_096);
        assert_eq!(of(16_384, 4 << 20), 16);
        assert_eq!(of(1_024, 0), 2);
        assert_eq!(of(1, u64::MAX), 65_536);
    }

    #[test]
    fn leaves_are_contiguous_ranges_of_storage_keys() {
        for count in [1, 64, 1_024, 16_384] {
            let partitions = PartitionCount::new(count).expect("a power of two");
            let places = Places::new(partitions);
            let shape = Shape::new(6).expect("a depth");
            for n in 0..2_000 {
                let key = KeyRef::place(0, format!("key{n}").as_bytes()).to_storage();
                let (partition, position) = places.of(&key).expect("it has a place");
                let leaf = shape.leaf_of(position);
                let (from, to) = places.range(partition, shape, leaf, leaf).expect("a leaf");
                assert!(from <= key && key < to, "{count} {n}");
                let (all_from, all_to) = whole(partition);
                assert!(all_from <= from && to <= all_to);
            }
            let partition = partitions.nth(0).expect("there is one");
            let mut next = whole(partition).0;
            for leaf in 0..shape.leaves() {
                let (from, to) = places.range(partition, shape, leaf, leaf).expect("a leaf");
                assert_eq!(from, next);
                next = to;
            }
            assert_eq!(next, whole(partition).1);
        }
    }

    #[test]
    fn other_keyspaces_have_no_place() {
        let places = Places::new(PartitionCount::new(64).expect("a power of two"));
        let hint = KeyRef::place(u32::MAX, b"key").to_storage();
        assert!(places.of(&hint).is_none());
        assert!(places.of(b"short").is_none());
    }
}
