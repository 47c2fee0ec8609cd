//! Giving up a node that holds nothing in the newest layout, and that an older live one names.
//!
//! A layout retires when every node of any live layout has finished. Who is named by an older one
//! alone (it was to join, and that was called off; or it leaves, and has yet to finish) can't be
//! replaced when it dies: there is no place that another could take. So it is declared dead by a
//! decree that changes nothing else, and that may be made while a change runs.
//!
//! Invariant: nobody who holds anything in the newest layout is given up.

use std::sync::Arc;

use kv_client::NodeId;

use super::change::{CHANGE_MS_MAX, ChangeError};
use super::{Inner, Node};
use crate::cluster::decree::{Change, Decree, REMOVED_IDS_MAX};
use crate::cluster::view::View;

impl Node {
    /// Declares a node dead that holds nothing in the newest layout: nobody waits for it any more,
    /// and it is refused for good, whether it runs or not. Answers the epoch in which it is so,
    /// also when it was so before. What is returned does not borrow the node, and may be spawned.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn give_up(
        &self,
        node: NodeId,
    ) -> impl Future<Output = Result<u64, ChangeError>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.give_up(node).await }
    }
}

impl Inner {
    async fn give_up(self: &Arc<Self>, node: NodeId) -> Result<u64, ChangeError> {
        let _one = self.changing.lock().await;
        let until_ms = self.clock.steady_ms() + CHANGE_MS_MAX;
        loop {
            let view = self.view.now();
            if view.is_removed(node) && node != view.me {
                return Ok(view.epoch());
            }
            let decree = giving_up(&view, node)?;
            let decided = self.decide(&view, &decree, until_ms).await?;
            drop(view);
            self.enact(decided).await?;
        }
    }
}

/// The decree that gives up a node now.
fn giving_up(view: &View, node: NodeId) -> Result<Decree, ChangeError> {
    let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
    if view.is_removed(view.me) {
        return Err(ChangeError::NotServing);
    }
    if layouts.newest().contains(node) {
        return Err(ChangeError::IsAMember(node));
    }
    if !layouts.live().any(|layout| layout.contains(node)) {
        return Err(ChangeError::NotAMember(node));
    }
    if layouts.live().len() > (Change::GiveUp { node }).live_before_max() {
        return Err(ChangeError::TooMany("live layouts"));
    }
    if view.removed.len() >= REMOVED_IDS_MAX {
        return Err(ChangeError::TooMany("removed ids"));
    }
    Decree::give_up(layouts.newest(), &view.removed, node)
        .map_err(|error| ChangeError::Placement(error.to_string()))
}
