//! What a node answers its peers: the envelope is judged first, then the operations.
//!
//! All joins of a call are one batch, all reads another, all forwarded writes run side by side; the
//! answers go back in the order of the questions.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::{Actor, Dot, HybridTime, Mark};

use super::Inner;
use super::layouts::newest_in;
use crate::cluster::decree::Decided;
use crate::cluster::heard::Noted;
use crate::cluster::record::LevelSetting;
use crate::cluster::view::View;
use crate::cluster::wire::{BallotOp, BallotOut};
use crate::coordinator::{Coordinator, Levels};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::Mutation;
use crate::plug::storage::PageRequest;
use crate::plug::transport::PeerHandler;
use crate::replica::{Hint, Join};
use crate::rpc::peer::Sign;
use crate::wire::{
    CALL_OPS_MAX, Envelope, LAYOUTS_MAX, OpFailure, PROTOCOL_VERSION, PeerOp, PeerOut, PeerReply,
    PeerRequest, Refusal,
};

/// Bytes of a page of a scan at most, whatever is asked for.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Answers peers for a node.
pub(super) struct Handler(pub(super) Arc<Inner>);

#[async_trait]
impl PeerHandler for Handler {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        let node = &self.0;
        node.figures.peer_calls.one();
        node.figures.peer_ops.add(request.ops.len() as u64);
        node.follow(&request).await;
        // Held until the call is answered: what is judged by a view is under way under its layouts.
        let view = node.view.now();
        let outs = if let Some(refusal) = node.judge(&view, &request) {
            Err(refusal)
        } else {
            if let Some(peers) = node.peers.get() {
                // A peer that calls can be called: no reason to wait out a back-off.
                peers.note(request.envelope.node, Sign::Called);
            }
            Ok(node.answer(request.envelope.node, request.ops).await)
        };
        drop(view);
        PeerReply { envelope: node.envelope(request.envelope.budget_ms), outs }
    }
}

/// The operations of a call, by kind, with their places.
#[derive(Default)]
struct Sorted {
    joins: (Vec<usize>, Vec<Join>),
    hints: (Vec<usize>, Vec<Hint>),
    reads: (Vec<usize>, Vec<(Bytes, Option<u128>)>),
    /// Reads as a fallback, joined with hints.
    hinted: (Vec<usize>, Vec<(Bytes, Option<u128>)>),
    others: Vec<(usize, PeerOp)>,
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

    /// Why a call is refused as a whole, if it is.
    fn judge(&self, view: &View, request: &PeerRequest) -> Option<Refusal> {
        let envelope = &request.envelope;
        if envelope.version != PROTOCOL_VERSION {
            return Some(Refusal::Version { speaks: PROTOCOL_VERSION });
        }
        if request.ops.len() > CALL_OPS_MAX || envelope.layouts.len() > LAYOUTS_MAX {
            return Some(Refusal::Busy);
        }
        let own = view.record.as_ref().map(|record| record.id);
        if let (Some(own), Some(theirs)) = (own, envelope.cluster)
            && own != theirs
        {
            return Some(Refusal::Cluster { belongs_to: Some(own) });
        }
        if view.is_removed(envelope.node) {
            return Some(Refusal::Removed);
        }
        if view.refused {
            return Some(Refusal::Stopping);
        }
        if self.hear(envelope.node, envelope) == Noted::Superseded {
            return Some(Refusal::Superseded);
        }
        if !request.ops.iter().any(needs_layout) {
            return None;
        }
        if view.is_removed(view.me) {
            return Some(Refusal::Stopping);
        }
        let (own, theirs) = (view.epoch(), newest_in(envelope));
        match theirs.cmp(&own) {
            // A node that starts again knows its layouts before it serves by them.
            _ if own == 0 || self.serving.get().is_none() => Some(Refusal::Loading),
            Ordering::Less => Some(Refusal::StaleLayout { decided: self.decided_after(theirs) }),
            Ordering::Equal => None,
            Ordering::Greater => Some(Refusal::Behind),
        }
    }

    async fn answer(self: &Arc<Self>, from: NodeId, ops: Vec<PeerOp>) -> Vec<PeerOut> {
        let count = ops.len();
        let mut sorted = Sorted::default();
        let hints = self.serving().filter(|serving| serving.replica.hints().may_have_some());
        let stands_in =
            |key: &[u8]| hints.as_ref().is_some_and(|serving| !serving.coordinator.holds_key(key));
        for (place, op) in ops.into_iter().enumerate() {
            match op {
                PeerOp::Apply { key, record, mark } => {
                    sorted.joins.0.push(place);
                    let mark = Mark::at(HybridTime::from_bits(mark));
                    sorted.joins.1.push(Join { key, record, mark });
                }
                PeerOp::Hint { target, key, record, counted } => {
                    sorted.hints.0.push(place);
                    sorted.hints.1.push(Hint { target, key, record, counted });
                }
                PeerOp::Read { key, have } => {
                    let hinted = stands_in(&key);
                    let (places, reads) =
                        if hinted { &mut sorted.hinted } else { &mut sorted.reads };
                    places.push(place);
                    reads.push((key, have));
                }
                other => sorted.others.push((place, other)),
            }
        }
        let mut outs: Vec<PeerOut> = Vec::with_capacity(count);
        outs.resize_with(count, || PeerOut::Failed(OpFailure::Malformed));
        if !sorted.joins.1.is_empty() {
            let joined = self.apply(&sorted.joins.1).await;
            place_all(&mut outs, &sorted.joins.0, joined);
        }
        if !sorted.hints.1.is_empty() {
            let kept = self.keep_hints(&sorted.hints.1).await;
            place_all(&mut outs, &sorted.hints.0, kept);
        }
        for ((places, reads), hinted) in [(&sorted.reads, false), (&sorted.hinted, true)] {
            if !reads.is_empty() {
                let read = self.look_up(reads, hinted).await;
                place_all(&mut outs, places, read);
            }
        }
        if !sorted.others.is_empty() {
            let (places, others): (Vec<_>, Vec<_>) = sorted.others.into_iter().unzip();
            let answered = join_all(others.into_iter().map(|op| self.answer_one(from, op))).await;
            place_all(&mut outs, &places, answered);
        }
        outs
    }

    async fn apply(&self, joins: &[Join]) -> Vec<PeerOut> {
        let Some(serving) = self.serving() else {
            return joins.iter().map(|_| loading()).collect();
        };
        self.figures.replica_applies.add(joins.len() as u64);
        let partitions = serving.partitions;
        let partition = |key: &[u8]| KeyRef::parse(key).map(|key| partitions.of(key.slot));
        let own =
            |key: &[u8]| partition(key).map_or_else(Actor::default, |at| serving.dots.actor(at));
        let mut over = Vec::new();
        let alarm = |key: &[u8]| {
            if let Some(at) = partition(key) {
                serving.coordinator.alarm(at);
                over.push(at);
            }
        };
        let outs = serving.replica.apply(joins, own, alarm).await;
        for at in over {
            if let Err(error) = serving.coordinator.resume_tenure(at).await {
                tracing::error!(%error, "no new tenure could be begun");
            }
        }
        outs
    }

    async fn keep_hints(&self, hints: &[Hint]) -> Vec<PeerOut> {
        let Some(serving) = self.serving() else {
            return hints.iter().map(|_| loading()).collect();
        };
        let outs = serving.coordinator.keep_hints(hints).await;
        let kept = outs.iter().filter(|out| matches!(out, PeerOut::Applied { .. })).count() as u64;
        self.figures.hints_written.add(kept);
        self.figures.hints_refused.add(hints.len() as u64 - kept);
        outs
    }

    async fn look_up(&self, reads: &[(Bytes, Option<u128>)], hinted: bool) -> Vec<PeerOut> {
        let (Some(serving), Some(record)) = (self.serving(), self.view.now().record.clone()) else {
            return reads.iter().map(|_| loading()).collect();
        };
        self.figures.replica_reads.add(reads.len() as u64);
        serving.replica.look_up(record.digest_key, reads, hinted).await
    }

    async fn answer_one(self: &Arc<Self>, from: NodeId, op: PeerOp) -> PeerOut {
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
                let time =
                    self.dots().map_or(HybridTime::ZERO, |dots| dots.time(self.clock.wall_ms()));
                PeerOut::Time(time.to_bits())
            }
            other => self.answer_data(from, other).await,
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

    async fn answer_data(self: &Arc<Self>, from: NodeId, op: PeerOp) -> PeerOut {
        let Some(serving) = self.serving() else { return loading() };
        match op {
            PeerOp::Forward { operation, key, mutation, write, read } => {
                let levels = Levels {
                    read: Some(LevelSetting::Copies(read)),
                    write: Some(LevelSetting::Copies(write)),
                    until_ms: None,
                };
                mint(&serving.coordinator, operation, &key, mutation, levels).await
            }
            PeerOp::Holds { key, dot: (time, node, tenure), stamp } => {
                let dot = Dot::new(Actor::new(node, tenure), HybridTime::from_bits(time));
                match serving.replica.holds(&key, dot, HybridTime::from_bits(stamp)).await {
                    Ok(held) => PeerOut::Holds(held),
                    Err(error) => PeerOut::Failed(OpFailure::Unknown(error.to_string())),
                }
            }
            PeerOp::Scan { from: first, to, rows_max, bytes_max, keys_only } => {
                // Taken before the rows are read: it speaks for them and for later ones.
                let (place, before) = (first.clone(), serving.replica.mark_for(&first));
                let page = PageRequest {
                    from: first,
                    to,
                    rows_max: (rows_max as usize).min(65_536),
                    bytes_max: (bytes_max as usize).min(PAGE_BYTES_MAX),
                };
                let standings = serving.replica.standings();
                let at = KeyRef::parse(&page.from);
                let page = if keys_only {
                    // A page for a reader, for whom what a newcomer lacks would be "not there".
                    if at.is_none_or(|at| !standings.is_complete(standings.of(at.slot))) {
                        let why = "a newcomer in the partition";
                        return PeerOut::Failed(OpFailure::Refused(why.into()));
                    }
                    serving.replica.page_of_skeletons(page).await
                } else {
                    // A newcomer asks: what callers who knew fewer layouts brought must be there.
                    if !self.settled().await {
                        let why = "operations under an older layout are under way";
                        return PeerOut::Failed(OpFailure::Refused(why.into()));
                    }
                    serving.replica.page(page).await
                };
                match page {
                    Ok((rows, end)) => {
                        // None, if something was lost meanwhile.
                        let mark = before.min(serving.replica.mark_for(&place)).time().to_bits();
                        PeerOut::Page { rows, end, mark }
                    }
                    Err(error) => PeerOut::Failed(OpFailure::Storage(error.to_string())),
                }
            }
            PeerOp::Count => match serving.coordinator.count_own_now() {
                Ok(count) => PeerOut::Count(count),
                Err(error) => PeerOut::Failed(OpFailure::Refused(error.to_string())),
            },
            PeerOp::Explain { key } => {
                let (_, found) = serving.replica.engine().status(Some(&key));
                PeerOut::Text(found.unwrap_or_default())
            }
            PeerOp::Exchange(op) => serving.coordinator.answer_exchange(from, op).await,
            PeerOp::HintsAbout { key } => match serving.coordinator.hints_about_here(&key).await {
                Ok(hints) => PeerOut::HintsAbout(hints),
                Err(error) => PeerOut::Failed(OpFailure::Storage(error.to_string())),
            },
            PeerOp::HintsHeld => PeerOut::HintsHeld(serving.coordinator.hints_held()),
            PeerOp::Marks { witness, marks } => self.take_marks(witness, &marks).await,
            PeerOp::Flush { mark, .. } => self.take_flush(HybridTime::from_bits(mark)).await,
            _ => PeerOut::Failed(OpFailure::Malformed),
        }
    }

    /// Takes a flush mark, unless it lies further ahead of this node's clock than a sound clock.
    pub(super) async fn take_flush(self: &Arc<Self>, mark: HybridTime) -> PeerOut {
        let Some(serving) = self.serving() else { return loading() };
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

fn place_all(outs: &mut [PeerOut], places: &[usize], answers: Vec<PeerOut>) {
    for (place, answer) in places.iter().zip(answers) {
        if let Some(slot) = outs.get_mut(*place) {
            *slot = answer;
        }
    }
}

/// Coordinates a write that was forwarded here: as a replica of the key, or in a primary's place.
async fn mint(
    coordinator: &Coordinator,
    operation: u64,
    key: &[u8],
    mutation: Mutation,
    levels: Levels,
) -> PeerOut {
    let Some(place) = KeyRef::parse(key) else { return PeerOut::Failed(OpFailure::Malformed) };
    let scope = match coordinator.scope() {
        Ok(scope) => scope,
        Err(error) => return PeerOut::Forwarded(Err(error)),
    };
    let partition = scope.partition(place);
    let holds = scope.holds(partition);
    if !holds && !scope.stand_ins(partition).any(|node| node == scope.view.me) {
        return PeerOut::Failed(OpFailure::Refused("not a replica of the key".into()));
    }
    let (out, _) = coordinator.mutate_here(&scope, place, mutation, levels, Some(operation)).await;
    match out {
        // Its hint log is full, say: nothing was written, and another may have room.
        Err(RequestError::Busy(why)) if !holds => PeerOut::Failed(OpFailure::Refused(why)),
        out => PeerOut::Forwarded(out),
    }
}

fn loading() -> PeerOut {
    PeerOut::Failed(OpFailure::Refused("no layout yet".into()))
}
