//! The plan of a change: what has to be copied where, and what can go, between two layouts.
//!
//! It is what an operator is shown before a change is committed, and what handoff works through
//! afterwards. Invariant: applying the moves and drops to the older layout's sets of owners gives
//! the newer's.

use alloc::vec::Vec;

use crate::error::Error;
use crate::layout::Layout;
use crate::partition::Partition;

/// One copy to make: `newcomer` begins to hold `partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move<N> {
    /// The partition, by the newer layout's count.
    pub partition: Partition,
    /// The node that gets a copy.
    pub newcomer: N,
    /// The owner whose place it takes, which may be dead; none when N grows.
    pub displaced: Option<N>,
}

/// What changes between two layouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<N> {
    moves: Vec<Move<N>>,
    drops: Vec<(Partition, N)>,
    firsts_changed: usize,
}

impl<N: Ord + Copy> Plan<N> {
    /// The plan from one layout to another, usually the next one. O(partitions * N²).
    ///
    /// # Errors
    /// [`Error::Coarser`] if `new` has fewer partitions than `old`.
    pub fn between(old: &Layout<N>, new: &Layout<N>) -> Result<Self, Error> {
        if new.partitions() < old.partitions() {
            return Err(Error::Coarser);
        }
        let mut plan = Self { moves: Vec::new(), drops: Vec::new(), firsts_changed: 0 };
        for partition in new.partitions().iter() {
            let (before, after) = (old.owners(partition), new.owners(partition));
            plan.firsts_changed += usize::from(before.first() != after.first());
            let mut leavers = before.iter().copied().filter(|node| !after.contains(node));
            for &newcomer in after.iter().filter(|node| !before.contains(node)) {
                plan.moves.push(Move { partition, newcomer, displaced: leavers.next() });
            }
            plan.drops.extend(leavers.map(|node| (partition, node)));
        }
        Ok(plan)
    }

    /// The copies to make, in order of partition.
    pub fn moves(&self) -> &[Move<N>] {
        &self.moves
    }

    /// The copies that go without a newcomer in their place (N shrinks), in order of partition.
    pub fn drops(&self) -> &[(Partition, N)] {
        &self.drops
    }

    /// Partitions whose first primary changes.
    pub const fn firsts_changed(&self) -> usize {
        self.firsts_changed
    }

    /// Whether no copy is made and none goes. First primaries may still change.
    pub const fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.drops.is_empty()
    }

    /// The copies that a node gets.
    pub fn arrivals(&self, node: N) -> impl Iterator<Item = Move<N>> {
        self.moves.iter().copied().filter(move |step| step.newcomer == node)
    }

    /// The partitions that a node holds no longer once the older layout has retired.
    pub fn departures(&self, node: N) -> impl Iterator<Item = Partition> {
        let displaced = self.moves.iter().filter(move |step| step.displaced == Some(node));
        let dropped = self.drops.iter().filter(move |drop| drop.1 == node);
        displaced.map(|step| step.partition).chain(dropped.map(|drop| drop.0))
    }
}
