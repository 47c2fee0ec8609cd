//! Who gets a job's records, and as what: a replica joins them, who stands in keeps a hint.
//!
//! A primary that turns out to be down while its write is open is stood in for at once. If that
//! comes out when the client has its answer, or nobody is left to stand in, this node keeps a hint
//! for it: beyond W.

use std::sync::Arc;

use kv_client::NodeId;
use kv_quorum::WriteTracker;

use super::job::{Item, Minted, WriteJob};
use crate::coordinator::gather::ByNode;
use crate::replica::{Hint, LateHint};
use crate::rpc::{Completion, PeerFailure, Pending};
use crate::wire::PeerOp;

impl WriteJob {
    /// What the trackers named since the last time, by peer; without this node.
    pub(super) fn take_sends(self: &Arc<Self>, me: NodeId, deadline_ms: u64) -> ByNode {
        let mut by_node = ByNode::default();
        let mut inner = self.inner.lock();
        for (at, nodes) in std::mem::take(&mut inner.contacts) {
            let Some(item) = inner.items.get(at) else { continue };
            let counted = item.ended.is_none();
            let Minted { key, record, tracker, .. } = &item.minted;
            let slot = Self::slot(&inner, at, tracker.round());
            for node in nodes.into_iter().filter(|node| *node != me) {
                let (key, record) = (key.clone(), record.clone());
                let op = match tracker.hint_for(node) {
                    Some(target) => PeerOp::Hint { target, key, record, counted, minted: true },
                    None => PeerOp::Apply { key, record, mark: 0, minted: true },
                };
                let to: Arc<dyn Completion> = Arc::<Self>::clone(self);
                by_node.add(node, Pending { op, slot, to, deadline_ms });
            }
        }
        by_node
    }

    /// Hints beyond W that are left to keep: for primaries that are down and unserved.
    pub(super) fn unserved(&self) -> Vec<Hint> {
        if !self.keeps_hints {
            return Vec::new();
        }
        let inner = self.inner.lock();
        let mut hints = Vec::new();
        for Item { minted, .. } in &inner.items {
            hints.extend(minted.tracker.unserved().into_iter().map(|target| Hint {
                target,
                key: minted.key.clone(),
                record: minted.record.clone(),
                counted: false,
                minted: true,
            }));
        }
        hints
    }

    /// How many items were acknowledged only by counting fallbacks.
    pub(super) fn sloppy(&self) -> u64 {
        self.inner.lock().sloppy
    }

    /// The tracker of an item that was minted here in the place of a primary.
    pub(super) fn standing_in(&self, item: usize) -> Option<WriteTracker<NodeId>> {
        let inner = self.inner.lock();
        let minted = inner.items.get(item).map(|item| &item.minted);
        minted.filter(|minted| minted.stands_in).map(|minted| minted.tracker.clone())
    }

    /// A call failed whose write has its answer: if a primary is down, and nobody holds a hint for
    /// it, this node will.
    pub(super) fn fail_late(&self, item: &Item, from: NodeId, failure: &PeerFailure) {
        let (tracker, plan) = (&item.minted.tracker, item.minted.tracker.plan());
        let down = failure.means_down() && plan.primaries().contains(&from);
        // A fallback that fails, for whatever reason, leaves its primary unserved.
        let target = tracker.hint_for(from).or_else(|| down.then_some(from));
        let Some(target) = target.filter(|target| !item.holders.contains(target)) else { return };
        let (key, record) = (item.minted.key.clone(), item.minted.record.clone());
        let late = LateHint { target, key, record };
        if self.keeps_hints && !self.replica.hints().note_late(late) {
            self.figures.hints_dropped.one();
        }
    }
}
