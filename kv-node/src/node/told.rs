//! What the senders to peers tell their node: answers, refusals, failures, clocks.

use std::collections::BTreeSet;
use std::sync::Weak;

use kv_client::NodeId;

use super::Inner;
use super::life::is_member;
use crate::cluster::view::View;
use crate::plug::transport::PeerAddress;
use crate::rpc::peer::PeerEvents;
use crate::wire::{CallFailure, Envelope, PROTOCOL_VERSION, Refusal};

impl Inner {
    /// Notes how far a peer's clock is, and whether this node is now too far from a majority.
    pub(super) fn note_time(&self, view: &View, from: NodeId, envelope: &Envelope) {
        if envelope.wall_ms == 0 {
            return;
        }
        let now = self.held_clock.os_now();
        self.clocks.heard(from, envelope.wall_ms, now, |node| is_member(view, node));
    }

    /// Whether this node's wall clock can be believed in what can't be taken back. If it can it is
    /// followed wherever it is.
    pub(super) fn clock_is_sound(&self) -> bool {
        let view = self.view.now();
        let layouts = view.layouts.iter().flat_map(|history| history.live());
        let members: BTreeSet<NodeId> =
            layouts.flat_map(|layout| layout.members().iter().copied()).collect();
        let others = members.into_iter().filter(|node| *node != view.me);
        let now = self.held_clock.os_now();
        let sound = self.clocks.is_sound(now, others);
        if sound {
            self.held_clock.believe(now);
        }
        sound
    }
}

/// What the senders tell their node. The node holds the senders, so they must not hold the node.
pub(super) struct Told {
    pub(super) node: Weak<Inner>,
    pub(super) me: NodeId,
}

impl PeerEvents for Told {
    fn envelope(&self, budget_ms: u32) -> Envelope {
        match self.node.upgrade() {
            Some(node) => node.envelope(budget_ms),
            // The node is gone and its senders with it: of nobody's cluster, so of no effect.
            None => Envelope {
                version: PROTOCOL_VERSION,
                capabilities: 0,
                cluster: None,
                node: self.me,
                layouts: Vec::new(),
                time: 0,
                wall_ms: 0,
                life: 0,
                position: 0,
                budget_ms,
            },
        }
    }

    fn answered(&self, from: NodeId, envelope: &Envelope, refusal: Option<&Refusal>, _us: u64) {
        if let Some(node) = self.node.upgrade() {
            node.hear(from, envelope);
            node.note_layouts(from, envelope, refusal);
            if refusal == Some(&Refusal::Superseded) {
                node.superseded(from);
            }
        }
        if let Some(refusal) = refusal {
            tracing::debug!(%from, ?refusal, "a call was refused");
        }
    }

    fn failed(&self, to: NodeId, failure: &CallFailure) {
        if failure.is_refusal()
            && let Some(node) = self.node.upgrade()
        {
            node.membership.unreachable(node.clock.steady_ms(), to);
        }
    }

    fn reach_changed(&self, node: NodeId) {
        let Some(inner) = self.node.upgrade() else { return };
        let Some(peers) = inner.peers.get() else { return };
        // Read while publishing: of two changes at once the later publication has both.
        inner.view.publish(|view| view.unreachable = peers.down().into_iter().collect());
        let down = inner.view.now().unreachable.contains(&node);
        tracing::info!(%node, down, "how requests see a peer has changed");
    }

    fn displaced(&self, expected: NodeId, found: NodeId, at: &PeerAddress) {
        tracing::warn!(%expected, %found, at, "another node answers at a peer's address");
    }
}
