//! The live layouts of a cluster: the newest, and those whose transition is not over.
//!
//! While data moves, an operation must reach its quorum in every live layout: then any two quorums
//! meet, whichever layouts their coordinators knew (Garage's layout history; CEP-21 has the same
//! rule for two). So a request asks for write sets, one for each live layout, and sets that are
//! equal count once. Invariant: epochs rise strictly, there is always a newest, and partition
//! counts never fall.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::Error;
use crate::layout::Layout;
use crate::partition::Partition;

/// The most layouts that are live at once: one change, what called it off, replacements on top.
pub const LIVE_LAYOUTS_MAX: usize = 8;

/// The live layouts, oldest first. Cheap to clone: the layouts are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<N> {
    older: Vec<Arc<Layout<N>>>,
    newest: Arc<Layout<N>>,
}

impl<N: Ord + Copy> History<N> {
    /// A history of one layout.
    pub fn new(layout: impl Into<Arc<Layout<N>>>) -> Self {
        Self { older: Vec::new(), newest: layout.into() }
    }

    /// Makes a newer layout live; the others stay until they are retired.
    ///
    /// # Errors
    /// [`Error::EpochNotNewer`], [`Error::Coarser`], [`Error::TooManyLayouts`].
    pub fn push(&mut self, layout: impl Into<Arc<Layout<N>>>) -> Result<(), Error> {
        let layout = layout.into();
        let (pushed, newest) = (layout.epoch(), self.newest.epoch());
        if pushed <= newest {
            return Err(Error::EpochNotNewer { pushed, newest });
        }
        if layout.partitions() < self.newest.partitions() {
            return Err(Error::Coarser);
        }
        if self.older.len() + 1 >= LIVE_LAYOUTS_MAX {
            return Err(Error::TooManyLayouts);
        }
        self.older.push(core::mem::replace(&mut self.newest, layout));
        Ok(())
    }

    /// Retires the layout of this epoch, whose transition is over, and answers it.
    ///
    /// # Errors
    /// [`Error::RetiresNewest`], [`Error::UnknownEpoch`].
    pub fn retire(&mut self, epoch: u64) -> Result<Arc<Layout<N>>, Error> {
        if epoch == self.newest.epoch() {
            return Err(Error::RetiresNewest(epoch));
        }
        let found = self.older.iter().position(|layout| layout.epoch() == epoch);
        Ok(self.older.remove(found.ok_or(Error::UnknownEpoch(epoch))?))
    }

    /// The newest layout: its order decides who comes first.
    #[inline]
    pub fn newest(&self) -> &Arc<Layout<N>> {
        &self.newest
    }

    /// All live layouts, newest first.
    #[inline]
    pub fn live(&self) -> impl ExactSizeIterator<Item = &Arc<Layout<N>>> + Clone {
        Live { newest: Some(&self.newest), older: self.older.iter() }
    }

    /// The live layout of this epoch.
    pub fn layout(&self, epoch: u64) -> Option<&Arc<Layout<N>>> {
        self.live().find(|layout| layout.epoch() == epoch)
    }

    /// Whether more than one layout is live.
    #[inline]
    pub const fn in_transition(&self) -> bool {
        !self.older.is_empty()
    }

    /// The sets of owners that an operation on a partition (by the newest layout's count) needs a
    /// quorum of, the newest layout's first. Sets of the same nodes in another order count once.
    /// No allocation; with one live layout, one set.
    #[inline]
    pub fn write_sets(&self, partition: Partition) -> impl Iterator<Item = &[N]> {
        self.live().enumerate().filter_map(move |(age, layout)| {
            let set = layout.owners(partition);
            let seen = self.live().take(age).any(|newer| same(newer.owners(partition), set));
            (!seen).then_some(set)
        })
    }
}

#[derive(Clone)]
struct Live<'a, N> {
    newest: Option<&'a Arc<Layout<N>>>,
    older: core::slice::Iter<'a, Arc<Layout<N>>>,
}

impl<'a, N> Iterator for Live<'a, N> {
    type Item = &'a Arc<Layout<N>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.newest.take().or_else(|| self.older.next_back())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.older.len() + usize::from(self.newest.is_some());
        (left, Some(left))
    }
}

impl<N> ExactSizeIterator for Live<'_, N> {}

fn same<N: PartialEq>(one: &[N], other: &[N]) -> bool {
    one.len() == other.len() && one.iter().all(|node| other.contains(node))
}
