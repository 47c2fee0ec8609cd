//! Operations to several peers: sorted by peer on the way out, gathered in order on the way back.

use std::sync::Arc;

use kv_client::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Coordinator;
use crate::rpc::{Completion, PeerFailure, PeerResult, PeerSender, Pending};
use crate::wire::{PeerOp, PeerOut};

/// Operations on their way, by peer: each peer's sender gets all of its own at once, in order.
#[derive(Default)]
pub(super) struct ByNode(Vec<(NodeId, Vec<Pending>)>);

impl ByNode {
    /// Adds an operation for a peer.
    pub(super) fn add(&mut self, node: NodeId, pending: Pending) {
        match self.0.iter_mut().find(|(other, _)| *other == node) {
            Some((_, ops)) => ops.push(pending),
            None => self.0.push((node, vec![pending])),
        }
    }

    /// The peers that get any.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().map(|(node, _)| *node)
    }

    /// Hands everything to the senders; says how many operations that were.
    pub(super) fn submit(self, peers: &dyn PeerSender) -> usize {
        let mut count = 0;
        for (node, ops) in self.0 {
            count += ops.len();
            peers.submit(node, ops);
        }
        count
    }
}

/// Answers from several peers, by slot.
struct Gather {
    inner: Mutex<(Vec<Option<PeerResult>>, usize)>,
    wake: Notify,
    patience: Patience,
}

/// How long to wait for a peer that counts as down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Until the deadline: the answer may come yet, and nobody else can give it.
    ToTheEnd,
    /// Not at all.
    WhileUp,
}

impl Gather {
    fn new(count: usize, patience: Patience) -> Arc<Self> {
        let inner = Mutex::new((vec![None; count], count));
        Arc::new(Self { inner, wake: Notify::new(), patience })
    }
}

impl Completion for Gather {
    fn complete(&self, slot: u32, _from: NodeId, result: Result<PeerOut, PeerFailure>) {
        let mut inner = self.inner.lock();
        let (results, open) = &mut *inner;
        if let Some(place) = results.get_mut(slot as usize).filter(|place| place.is_none()) {
            *place = Some(result);
            *open -= 1;
        }
        if *open == 0 {
            self.wake.notify_one();
        }
    }

    fn stalled(&self, slot: u32, from: NodeId) {
        if self.patience == Patience::WhileUp {
            self.complete(slot, from, Err(PeerFailure::Silent));
        }
    }
}

impl Coordinator {
    /// Sends operations to nodes, those for one node together, and gathers what comes back within
    /// the deadline, in the operations' order. This node is not among them.
    pub(super) async fn gather(
        &self,
        deadline_ms: u64,
        asks: Vec<(NodeId, PeerOp)>,
    ) -> Vec<Option<PeerResult>> {
        self.gather_with(deadline_ms, asks, Patience::ToTheEnd).await
    }

    /// The same, but a peer that counts as down is not waited for: `PeerFailure::Silent`.
    pub(super) async fn gather_while_up(
        &self,
        deadline_ms: u64,
        asks: Vec<(NodeId, PeerOp)>,
    ) -> Vec<Option<PeerResult>> {
        self.gather_with(deadline_ms, asks, Patience::WhileUp).await
    }

    async fn gather_with(
        &self,
        deadline_ms: u64,
        asks: Vec<(NodeId, PeerOp)>,
        patience: Patience,
    ) -> Vec<Option<PeerResult>> {
        if asks.is_empty() {
            return Vec::new();
        }
        let gather = Gather::new(asks.len(), patience);
        let mut by_node = ByNode::default();
        for (slot, (node, op)) in asks.into_iter().enumerate() {
            let pending =
                Pending { op, slot: slot as u32, to: Arc::<Gather>::clone(&gather), deadline_ms };
            by_node.add(node, pending);
        }
        by_node.submit(&*self.parts.peers);
        let deadline = self.sleep_until(deadline_ms);
        tokio::pin!(deadline);
        while gather.inner.lock().1 > 0 {
            tokio::select! {
                biased;
                () = gather.wake.notified() => {}
                () = &mut deadline => break,
            }
        }
        let mut inner = gather.inner.lock();
        std::mem::take(&mut inner.0)
    }
}
