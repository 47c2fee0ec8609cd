//! Preference lists: whom a request for a partition turns to, in order (Dynamo section 4.6).
//!
//! First the primaries, as the layout lists them, without allocating. Then, asked for only when a
//! primary is down, the fallbacks: every other member, in an order of the partition's own, so that
//! the work of a dead node is spread over all that live. Zones without a primary come first, then
//! zones take turns, and drained members are last. Invariant: each member is on the list exactly
//! once, and nodes with the same layout make the same list.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::claim::mix;
use crate::layout::Layout;
use crate::partition::Partition;
use crate::topology::Zone;

/// Every member of a layout in the order in which one partition prefers them.
#[derive(Clone, Copy, Debug)]
pub struct PreferenceList<'a, N> {
    layout: &'a Layout<N>,
    partition: Partition,
}

impl<'a, N> PreferenceList<'a, N> {
    pub(crate) const fn new(layout: &'a Layout<N>, partition: Partition) -> Self {
        Self { layout, partition }
    }

    /// The partition that it is the list of.
    #[inline]
    pub const fn partition(&self) -> Partition {
        self.partition
    }
}

impl<'a, N: Ord + Copy> PreferenceList<'a, N> {
    /// The owners, first primary first. O(1), no allocation.
    #[inline]
    pub fn primaries(&self) -> &'a [N] {
        self.layout.owners(self.partition)
    }

    /// All other members, the best stand-in first. O(members * log members) and one allocation of
    /// their number, so ask only when a primary is down.
    pub fn fallbacks(&self) -> impl ExactSizeIterator<Item = N> + use<N> {
        let layout = self.layout;
        let mut taken: BTreeMap<Zone, u32> = BTreeMap::new();
        for &primary in self.primaries() {
            if let Some(spec) = layout.spec(primary) {
                *taken.entry(spec.zone).or_default() += 1;
            }
        }
        let seed = u64::from(self.partition.index());
        let mut others: Vec<_> = layout
            .members
            .iter()
            .zip(&layout.specs)
            .enumerate()
            .filter(|(_, (node, _))| !self.primaries().contains(node))
            .map(|(index, (&node, spec))| {
                (spec.weight == 0, mix(seed, index as u64), spec.zone, node)
            })
            .collect();
        others.sort_unstable();
        // A node's turn is how many of its zone the list names before it, primaries included.
        let mut turns: Vec<_> = others
            .into_iter()
            .map(|(drained, order, zone, node)| {
                let turn = taken.entry(zone).or_default();
                *turn += 1;
                (drained, *turn, order, node)
            })
            .collect();
        turns.sort_unstable();
        turns.into_iter().map(|(_, _, _, node)| node)
    }

    /// The primaries, then the fallbacks: each member once.
    pub fn iter(&self) -> impl Iterator<Item = N> + use<'a, N> {
        self.primaries().iter().copied().chain(self.fallbacks())
    }
}
