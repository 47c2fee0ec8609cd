//! Twice as many partitions: each is cut in two, and both halves stay where the whole was.
//!
//! ```text
//! plan    how many there are and would be; nothing else happens
//! split   a decree after the newest layout, decided by its members -> a transition without moves
//! ```
//!
//! A partition is a run of slots, and rows are stored by slot: no byte moves, here or between
//! nodes. Each node, before it acts by the finer layout, has the halves inherit what it keeps of
//! the whole (`replica.refine`): whether it is complete, the mark, the tenure; hash trees are cut
//! in two. What was exchanged is exchanged again. What is on disk by partition says how many there
//! were, so that the layout is all that is stored, and a crash leaves the one or the other.
//!
//! The older layout and the finer name the same owners for each key, so quorums in both are one
//! quorum. Calls about data are refused between nodes that do not know the same newest layout, as
//! in any transition; partitions travel with their count (kv-ring), so that nothing that was meant
//! by the one count is taken by the other.
//!
//! Invariant: it is not called off, and no other change runs meanwhile.

use std::sync::Arc;

use kv_ring::PartitionCount;

use super::change::{CHANGE_MS_MAX, ChangeError};
use super::{Inner, Node};
use crate::cluster::decree::{Change, Decree};
use crate::cluster::view::View;

/// What a split would come to. Nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPlan {
    /// The newest epoch now.
    pub epoch: u64,
    /// Partitions now.
    pub before: PartitionCount,
    /// Partitions that there would be.
    pub after: PartitionCount,
}

impl Node {
    /// What doubling the partitions would come to. Nothing is changed.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn plan_split(&self) -> Result<SplitPlan, ChangeError> {
        let view = self.inner.view.now();
        let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
        let newest = layouts.newest();
        let before = newest.partitions();
        let after = before.doubled().ok_or(ChangeError::AtMost)?;
        Ok(SplitPlan { epoch: newest.epoch(), before, after })
    }

    /// Doubles the partitions, if the newest epoch is `after` still, where that is given. Answers
    /// the epoch of the layout in which it is so; asked twice with the same `after`, the second
    /// answer is the first. What is returned does not borrow the node, and may be spawned.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn split(
        &self,
        after: Option<u64>,
    ) -> impl Future<Output = Result<u64, ChangeError>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.split(after).await }
    }
}

impl Inner {
    async fn split(self: &Arc<Self>, after: Option<u64>) -> Result<u64, ChangeError> {
        let _one = self.changing.lock().await;
        let until_ms = self.clock.steady_ms() + CHANGE_MS_MAX;
        let mut proposed = None;
        loop {
            let view = self.view.now();
            let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
            let newest = layouts.newest();
            let epoch = newest.epoch();
            let is_done = proposed == Some(newest.digest())
                || after.is_some_and(|after| self.was_split_after(after, epoch));
            if is_done {
                return Ok(epoch);
            }
            if after.is_some_and(|after| after != epoch) {
                return Err(ChangeError::Overtaken { epoch });
            }
            let decree = splitting(&view)?;
            proposed = Some(decree.layout.digest());
            let decided = self.decide(&view, &decree, until_ms).await?;
            drop(view);
            self.enact(decided).await?;
        }
    }

    /// Whether the newest layout is the one after `after`, with its partitions doubled.
    fn was_split_after(&self, after: u64, newest: u64) -> bool {
        let next = self.state.decided_after(after);
        let made = next.first().and_then(|decided| Decree::decode(&decided.decree));
        made.is_some_and(|made| {
            made.change == Change::Split
                && made.layout.epoch() == newest
                && made.follows.is_some_and(|before| before.epoch == after)
        })
    }
}

/// The decree that doubles the partitions now.
fn splitting(view: &View) -> Result<Decree, ChangeError> {
    let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
    if view.is_removed(view.me) {
        return Err(ChangeError::NotServing);
    }
    if layouts.in_transition() {
        return Err(ChangeError::UnderWay);
    }
    match Decree::split(layouts.newest(), &view.removed) {
        Ok(Some(decree)) => Ok(decree),
        Ok(None) => Err(ChangeError::AtMost),
        Err(error) => Err(ChangeError::Placement(error.to_string())),
    }
}
