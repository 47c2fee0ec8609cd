//! What a node answers its peers: the envelope is judged first, then the operations.
//!
//! What is about data goes to `answers`, with the serving node in its hand; the rest needs none.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use kv_client::NodeId;
use kv_quorum::HybridTime;

use super::layouts::newest_in;
use super::{Inner, Serving};
use crate::cluster::decree::Decided;
use crate::cluster::heard::Noted;
use crate::cluster::view::View;
use crate::cluster::wire::{BallotOp, BallotOut};
use crate::plug::transport::PeerHandler;
use crate::rpc::peer::Sign;
use crate::wire::{
    CALL_OPS_MAX, Envelope, LAYOUTS_MAX, OpFailure, PROTOCOL_VERSION, PeerOp, PeerOut, PeerReply,
    PeerRequest, Refusal,
};

/// Answers peers for a node.
pub(super) struct Handler(pub(super) Arc<Inner>);

#[async_trait]
impl PeerHandler for Handler {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        let node = &self.0;
        node.figures.peer_calls.one();
        node.figures.peer_ops.add(request.ops.len() as u64);
        let _at_call = node.drain.at_call();
        node.follow(&request).await;
        // Held until the call is answered: what is judged by a view is under way under its layouts.
        let view = node.view.now();
        let outs = match node.judge(&view, &request) {
            Err(refusal) => Err(refusal),
            Ok(serving) => {
                if let Some(peers) = node.peers.get() {
                    // A peer that calls can be called: no reason to wait out a back-off.
                    peers.note(request.envelope.node, Sign::Called);
                }
                Ok(node.answer(serving.as_ref(), request.envelope.node, request.ops).await)
            }
        };
        drop(view);
        PeerReply { envelope: node.envelope(request.envelope.budget_ms), outs }
    }
}

impl Inner {
    /// The envelope of what this node sends.
    pub(super) fn envelope(&self, budget_ms: u32) -> Envelope {
        let view = self.view.now();
        let dots = self.dots();
        Envelope {
            version: PROTOCOL_VERSION,
            capabilities: 0,
            cluster: view.record.as_ref().map(|record| record.id),
            node: view.me,
            layouts: view.layout_names(),
            time: dots.map_or(0, |dots| dots.told_time(self.clock.wall_ms())),
            wall_ms: dots.map_or(0, |_| self.held_clock.os_now().wall_ms),
            life: dots.map_or(0, |dots| dots.life()),
            position: dots.map_or(0, |_| self.life.position()),
            budget_ms,
        }
    }

    /// Takes newer layouts that the caller knows, before it is judged, if it asks for anything that
    /// depends on them.
    async fn follow(self: &Arc<Self>, request: &PeerRequest) {
        let theirs = newest_in(&request.envelope);
        let own = self.view.now().epoch();
        if own > 0 && theirs > own && request.ops.iter().any(depends_on_layouts) {
            self.catch_up(request.envelope.node, theirs).await;
        }
    }

    /// Judges a call as a whole. What answers it, if any of it is about data.
    ///
    /// # Errors
    /// Why it is refused; nothing of it was done.
    fn judge(&self, view: &View, request: &PeerRequest) -> Result<Option<Arc<Serving>>, Refusal> {
        let envelope = &request.envelope;
        if envelope.version != PROTOCOL_VERSION {
            return Err(Refusal::Version { speaks: PROTOCOL_VERSION });
        }
        if request.ops.len() > CALL_OPS_MAX || envelope.layouts.len() > LAYOUTS_MAX {
            return Err(Refusal::Busy);
        }
        let own = view.record.as_ref().map(|record| record.id);
        if let (Some(own), Some(theirs)) = (own, envelope.cluster)
            && own != theirs
        {
            return Err(Refusal::Cluster { belongs_to: Some(own) });
        }
        if view.is_removed(envelope.node) {
            return Err(Refusal::Removed);
        }
        if view.refused {
            return Err(Refusal::Stopping);
        }
        if self.hear(envelope.node, envelope) == Noted::Superseded {
            return Err(Refusal::Superseded);
        }
        if !request.ops.iter().any(needs_layout) {
            return Ok(None);
        }
        if view.is_removed(view.me) {
            return Err(Refusal::Stopping);
        }
        // A node that starts again knows its layouts before it serves by them.
        let serving = self.serving().filter(|_| view.epoch() > 0).ok_or(Refusal::Loading)?;
        let theirs = newest_in(envelope);
        match theirs.cmp(&view.epoch()) {
            Ordering::Less => Err(Refusal::StaleLayout { decided: self.decided_after(theirs) }),
            Ordering::Equal => Ok(Some(serving)),
            Ordering::Greater => Err(Refusal::Behind),
        }
    }

    /// Answers what needs no data.
    pub(super) async fn answer_plain(self: &Arc<Self>, from: NodeId, op: PeerOp) -> PeerOut {
        match op {
            PeerOp::Gossip(bytes) => {
                self.membership.receive(self.clock.steady_ms(), from, &bytes);
                PeerOut::Done
            }
            PeerOp::Birth(op) => {
                let node = Arc::clone(self);
                let flushed =
                    move || node.serving().map_or(0, |serving| serving.replica.flushed().to_bits());
                let node = Arc::clone(self);
                self.blocking(move || PeerOut::Birth(node.birth.answer(op, flushed))).await
            }
            PeerOp::Ballot(BallotOp::Learn { decided, .. }) => {
                PeerOut::Ballot(self.learn(&decided).await)
            }
            PeerOp::Heard => PeerOut::Heard(self.life.heard_from(from)),
            PeerOp::Ballot(_) if !self.is_confirmed() => PeerOut::Ballot(BallotOut::MayNotVote(
                "a majority has not confirmed this directory yet".into(),
            )),
            PeerOp::Ballot(op) => {
                let node = Arc::clone(self);
                self.blocking(move || PeerOut::Ballot(node.acceptor.answer(op))).await
            }
            PeerOp::Time => {
                let minted =
                    self.dots().map_or(HybridTime::ZERO, |dots| dots.time(self.clock.wall_ms()));
                let held = self.serving().map_or(HybridTime::ZERO, |here| here.replica.latest());
                PeerOut::Time(minted.max(held).to_bits())
            }
            _ => PeerOut::Failed(OpFailure::Malformed),
        }
    }

    /// Takes a layout whose proposer says that it was decided.
    async fn learn(self: &Arc<Self>, decided: &[u8]) -> BallotOut {
        let Some(decided) = Decided::decode(decided) else {
            return BallotOut::MayNotVote("not a decided layout".into());
        };
        match self.take_decided(vec![decided]).await {
            Ok(()) => BallotOut::Accepted,
            Err(error) => BallotOut::MayNotVote(error.to_string()),
        }
    }

    /// Takes a flush mark, unless it lies further ahead of this node's clock than a sound clock.
    pub(super) async fn take_flush(self: &Arc<Self>, mark: HybridTime) -> PeerOut {
        let Some(serving) = self.serving() else {
            return PeerOut::Failed(OpFailure::Refused("no layout yet".into()));
        };
        let wall_ms = self.clock.wall_ms();
        if mark.ms() > wall_ms.saturating_add(self.clock_skew_ms_max) {
            return PeerOut::Failed(OpFailure::Refused("the mark lies in the far future".into()));
        }
        let taken = self
            .blocking(move || serving.replica.flush_durably(mark, &serving.dots, wall_ms))
            .await;
        match taken {
            Ok(()) => {
                self.membership.publish_flush(mark.to_bits());
                PeerOut::Done
            }
            Err(error) => PeerOut::Failed(OpFailure::Storage(error.to_string())),
        }
    }
}

/// Whether an operation is about data, and so about who holds it.
fn needs_layout(op: &PeerOp) -> bool {
    !matches!(
        op,
        PeerOp::Gossip(_) | PeerOp::Birth(_) | PeerOp::Ballot(_) | PeerOp::Time | PeerOp::Heard
    )
}

/// Whether the asked node must know what the caller knows: for data, and for a vote.
fn depends_on_layouts(op: &PeerOp) -> bool {
    needs_layout(op) || matches!(op, PeerOp::Ballot(_))
}
