//! One partition's exchange: which leaves of its trees differ, now and still some time later.

use kv_merkle::Shape;
use kv_ring::Partition;

use super::ExchangeError;
use super::talk::{Talk, Walked};
use super::wire::ExchangeOp;

/// Shapes that are tried before the peers are left to disagree.
const SHAPES_MAX: usize = 3;

/// Where more than one leaf of so many differs, the whole partition is listed: a listing of names
/// and fingerprints that is longer by this factor at most, in the place of a round trip or three
/// for each run of leaves. A newcomer lacks nearly all of them.
const MANY_LEAVES_PART: usize = 8;

/// What comparing a partition's trees found.
pub(super) enum Look {
    /// Leaves that differ, ascending; none if the trees are the same.
    Leaves(Shape, Vec<u32>),
    /// One of the two has no tree of it.
    NoTree,
}

impl Look {
    /// Whether leaves differ.
    pub(super) fn differs(&self) -> bool {
        matches!(self, Self::Leaves(_, leaves) if !leaves.is_empty())
    }
}

impl Talk<'_> {
    /// Compares the partition and mends what differs, on both sides. All of it is durable on
    /// return.
    ///
    /// # Errors
    /// Something may still differ.
    pub(in crate::coordinator) async fn exchange(
        &mut self,
        partition: Partition,
    ) -> Result<(), ExchangeError> {
        let first = self.look(partition).await?;
        if first.differs() {
            self.settle().await;
        }
        self.exchange_seen(partition, first).await
    }

    /// A first look at a partition's trees: what differs may be on its way.
    pub(super) async fn look(&mut self, partition: Partition) -> Result<Look, ExchangeError> {
        let look = self.compare(partition).await?;
        if matches!(&look, Look::Leaves(_, leaves) if leaves.is_empty()) {
            self.coordinator.exchanges.phantom(partition, false);
        }
        Ok(look)
    }

    /// Mends what differed at a first look and still does, some time later.
    ///
    /// # Errors
    /// Something may still differ.
    pub(super) async fn exchange_seen(
        &mut self,
        partition: Partition,
        first: Look,
    ) -> Result<(), ExchangeError> {
        let (shape, leaves) = match first {
            Look::NoTree if self.without_trees => {
                return self.exchange_key_by_key(partition).await;
            }
            Look::NoTree => return Err(ExchangeError::NoTree),
            Look::Leaves(_, leaves) if leaves.is_empty() => return Ok(()),
            Look::Leaves(shape, leaves) if self.settle_ms == 0 => (shape, leaves),
            Look::Leaves(shape, first) => match self.compare(partition).await? {
                Look::Leaves(again, leaves) if again == shape => {
                    let still = |leaf: &u32| first.binary_search(leaf).is_ok();
                    (shape, leaves.into_iter().filter(still).collect())
                }
                Look::Leaves(again, leaves) => (again, leaves),
                Look::NoTree => return Err(ExchangeError::NoTree),
            },
        };
        let found = self.tally.found;
        self.tally.leaves += leaves.len() as u64;
        self.coordinator.parts.figures.aae_leaves_differing.add(leaves.len() as u64);
        if leaves.len() * MANY_LEAVES_PART > shape.leaves() as usize {
            self.exchange_key_by_key(partition).await?;
        } else {
            for (first, last) in runs(&leaves) {
                let trees = self.coordinator.parts.replica.trees();
                let range = trees.range(partition, shape, first, last);
                let (from, to) = range.ok_or(ExchangeError::Confused)?;
                self.mend_range(partition, from, to).await?;
            }
        }
        let mut phantom = !leaves.is_empty() && self.tally.found == found && self.settle_ms > 0;
        if phantom {
            // Collection may have made them equal between the looks at the trees and at the keys,
            // now here and now there: a tree that is wrong still differs.
            phantom = match self.compare(partition).await? {
                Look::Leaves(again, now) => {
                    again == shape && now.iter().any(|leaf| leaves.binary_search(leaf).is_ok())
                }
                Look::NoTree => false,
            };
        }
        if self.coordinator.exchanges.phantom(partition, phantom) {
            tracing::warn!(
                partition = partition.index(),
                peer = %self.peer,
                "leaves differ and the keys in them don't: both trees are built anew"
            );
            self.coordinator.parts.replica.trees().doubt(partition);
            self.ask_one(ExchangeOp::Doubt { partition: partition.code() }).await?;
        }
        Ok(())
    }

    /// Compares the partition key by key.
    pub(in crate::coordinator) async fn exchange_key_by_key(
        &mut self,
        partition: Partition,
    ) -> Result<(), ExchangeError> {
        let (from, to) = self.coordinator.parts.replica.trees().whole_range(partition);
        self.mend_range(partition, from, to).await
    }

    async fn compare(&mut self, partition: Partition) -> Result<Look, ExchangeError> {
        let replica = &self.coordinator.parts.replica;
        let mut shape = replica.trees().shape();
        for _ in 0..SHAPES_MAX {
            let Some((tree, ticket)) = replica.trees().tree(partition, shape) else {
                return Ok(Look::NoTree);
            };
            replica.durable(ticket).await?;
            let partition = partition.code();
            let walked =
                self.walk(&tree, |request| ExchangeOp::Partition { partition, request }).await?;
            match walked {
                Walked::Leaves(leaves) => return Ok(Look::Leaves(shape, leaves)),
                Walked::NoTree => return Ok(Look::NoTree),
                Walked::OtherShape(theirs) => shape = theirs,
                Walked::Flatter(_) => return Err(ExchangeError::Confused),
            }
        }
        Err(ExchangeError::Confused)
    }
}

/// Runs of neighbouring leaves: first and last of each.
fn runs(leaves: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for leaf in leaves.iter().copied() {
        match runs.last_mut() {
            Some((_, last)) if leaf == *last + 1 => *last = leaf,
            _ => runs.push((leaf, leaf)),
        }
    }
    runs
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn neighbouring_leaves_are_one_range() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
    }
}
