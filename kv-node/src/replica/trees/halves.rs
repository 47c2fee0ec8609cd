//! Trees are cut in two with their partitions: the first bit of a position says which half a row is
//! in, so the leaves of a half stand side by side in the whole's.
//!
//! A writer that looked at the whole tree before, and appended, tells the half's instead: it looks
//! for the tree of the present count when the one that it had looked at is gone. A tree in the
//! making, or one that has too few leaves for half of them to be a tree, is built anew.
//!
//! Invariant: those of the coarser count are gone when those of the finer are there, so none tells
//! of what is not told to it any more, and two nodes that count differently compare nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kv_merkle::Shape;
use kv_ring::{Partition, PartitionCount};
use parking_lot::Mutex;

use super::{Cell, Forest, Kept, Trees, places};

impl Trees {
    /// From now on there are `count` partitions, if that is more, and trees are cut in two with
    /// them.
    pub(in crate::replica) fn refine(&self, count: PartitionCount) {
        let _one = self.keeping.lock();
        let coarse = self.forests.now();
        if count <= coarse.cells.count() {
            return;
        }
        // Nobody tells a tree anything until there are the finer ones.
        let mut trees: Vec<_> = coarse.cells.all().iter().map(|cell| cell.tree.lock()).collect();
        self.forests.refine(count, |_| {
            let shape = places::shape(count, self.tree_bytes_max);
            Forest::of(count, self.tree_bytes_max, |part| {
                let whole = part.under(coarse.cells.count()).map(Partition::index);
                let tree = whole.and_then(|whole| trees.get(usize::from(whole))?.as_deref());
                tree.map_or_else(Cell::default, |tree| tree.cell_of(part, coarse, shape))
            })
        });
        for (cell, tree) in coarse.cells.all().iter().zip(&mut trees) {
            cell.kept.store(false, Ordering::Release);
            **tree = None;
        }
    }
}

impl Kept {
    /// The cell of a part of this tree's partition, which is one of `coarse`.
    fn cell_of(&self, part: Partition, coarse: &Forest, shape: Shape) -> Cell {
        let tree = self.part(part, coarse.cells.count(), shape).map(Box::new);
        let (kept, inherits) = (AtomicBool::new(tree.is_some()), AtomicU64::new(self.loss + 1));
        Cell { kept, tree: Mutex::new(tree), inherits }
    }

    /// The tree of a part of a partition of a coarser count. None of one in the making, nor if its
    /// leaves are too few.
    fn part(&self, part: Partition, of: PartitionCount, shape: Shape) -> Option<Self> {
        if self.building.is_some() {
            return None;
        }
        let levels = part.count().count().ilog2() - of.count().ilog2();
        let mut leaves = self.leaves.clone();
        for level in (0..levels).rev() {
            let [low, high] = leaves.halves().ok()?;
            leaves = if part.index() >> level & 1 == 0 { low } else { high };
        }
        let leaves = if leaves.shape() == shape { leaves } else { leaves.folded(shape).ok()? };
        Some(Self { leaves, root: None, ticket: self.ticket, loss: self.loss, building: None })
    }
}
