//! What a node that serves answers its peers about data.
//!
//! All joins of a call are one batch, all reads another, all forwarded writes run side by side; the
//! answers go back in the order of the questions.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::{Actor, Dot, HybridTime, Mark};
use kv_ring::Zone;

use super::antientropy::fill_rest;
use super::{Inner, Serving};
use crate::coordinator::{Coordinator, Levels};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::Mutation;
use crate::plug::storage::PageRequest;
use crate::replica::{Hint, Join};
use crate::wire::{OpFailure, PeerOp, PeerOut};

/// Rows of a page of a scan at most, whatever is asked for,
const PAGE_ROWS_MAX: usize = 65_536;
/// and its bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;

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
    /// Answers a call that was not refused, in the order of its operations.
    pub(super) async fn answer(
        self: &Arc<Self>,
        serving: Option<&Arc<Serving>>,
        from: NodeId,
        ops: Vec<PeerOp>,
    ) -> Vec<PeerOut> {
        let Some(serving) = serving else {
            let plain = ops.into_iter().map(|op| self.answer_plain(from, op));
            return join_all(plain).await;
        };
        let count = ops.len();
        let mut sorted = Sorted::default();
        let hints = serving.replica.hints().may_have_some();
        let stands_in = |key: &[u8]| hints && !serving.coordinator.holds_key(key);
        for (place, op) in ops.into_iter().enumerate() {
            match op {
                PeerOp::Apply { key, record, mark, minted } => {
                    sorted.joins.0.push(place);
                    let mark = Mark::at(HybridTime::from_bits(mark));
                    sorted.joins.1.push(Join { key, record, mark, minted });
                }
                PeerOp::Hint { target, key, record, counted, minted } => {
                    sorted.hints.0.push(place);
                    sorted.hints.1.push(Hint { target, key, record, counted, minted });
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
            let joined = self.apply(serving, &sorted.joins.1).await;
            place_all(&mut outs, &sorted.joins.0, joined);
        }
        if !sorted.hints.1.is_empty() {
            let kept = self.keep_hints(serving, &sorted.hints.1).await;
            place_all(&mut outs, &sorted.hints.0, kept);
        }
        for ((places, reads), hinted) in [(&sorted.reads, false), (&sorted.hinted, true)] {
            if !reads.is_empty() {
                let read = self.look_up(serving, reads, hinted).await;
                place_all(&mut outs, places, read);
            }
        }
        if !sorted.others.is_empty() {
            let (places, others): (Vec<_>, Vec<_>) = sorted.others.into_iter().unzip();
            let answers = others.into_iter().map(|op| self.answer_one(serving, from, op));
            let answered = join_all(answers).await;
            place_all(&mut outs, &places, answered);
        }
        outs
    }

    async fn apply(&self, serving: &Serving, joins: &[Join]) -> Vec<PeerOut> {
        self.figures.replica_applies.add(joins.len() as u64);
        let slot = |key: &[u8]| KeyRef::parse(key).map(|key| key.slot);
        let own =
            |key: &[u8]| slot(key).map_or_else(Actor::default, |at| serving.dots.actor_at(at));
        let mut over = Vec::new();
        let alarm = |key: &[u8]| {
            if let Some(at) = slot(key).map(|slot| serving.replica.standings().of(slot)) {
                serving.coordinator.alarm(at);
                over.push(at);
            }
        };
        let outs = serving.replica.apply(joins, own, alarm).await;
        for at in over {
            if let Err(error) = serving.coordinator.resume_minting(at).await {
                tracing::error!(%error, "no new tenure could be begun");
            }
        }
        outs
    }

    async fn keep_hints(&self, serving: &Serving, hints: &[Hint]) -> Vec<PeerOut> {
        let outs = serving.coordinator.keep_hints(hints).await;
        let kept = outs.iter().filter(|out| matches!(out, PeerOut::Applied { .. })).count() as u64;
        self.figures.hints_written.add(kept);
        self.figures.hints_refused.add(hints.len() as u64 - kept);
        outs
    }

    async fn look_up(
        &self,
        serving: &Serving,
        reads: &[(Bytes, Option<u128>)],
        hinted: bool,
    ) -> Vec<PeerOut> {
        let Some(record) = self.view.now().record.clone() else {
            let born = || PeerOut::Failed(OpFailure::Refused("no cluster record yet".into()));
            return reads.iter().map(|_| born()).collect();
        };
        self.figures.replica_reads.add(reads.len() as u64);
        serving.replica.look_up(record.digest_key, reads, hinted).await
    }

    async fn answer_one(
        self: &Arc<Self>,
        serving: &Arc<Serving>,
        from: NodeId,
        op: PeerOp,
    ) -> PeerOut {
        match op {
            PeerOp::Forward { operation, key, mutation, write, read, zone, above_ms } => {
                let _at_work = self.drain.at_work();
                let (read, write) = (Some(read), Some(write));
                let zone = zone.map(Zone::new);
                let levels = Levels { read, write, zone, until_ms: None };
                if let Err(error) = serving.coordinator.mint_above(above_ms).await {
                    return PeerOut::Failed(OpFailure::Refused(error.to_string()));
                }
                mint(&serving.coordinator, operation, &key, mutation, levels).await
            }
            PeerOp::Holds { key, dot: (time, node, tenure), stamp } => {
                let dot = Dot::new(Actor::new(node, tenure), HybridTime::from_bits(time));
                match serving.replica.holds(&key, dot, HybridTime::from_bits(stamp)).await {
                    Ok(held) => PeerOut::Holds(held),
                    Err(error) => PeerOut::Failed(OpFailure::Unknown(error.to_string())),
                }
            }
            PeerOp::Scan { from, to, rows_max, bytes_max, keys_only } => {
                let page = PageRequest {
                    from,
                    to,
                    rows_max: (rows_max as usize).min(PAGE_ROWS_MAX),
                    bytes_max: (bytes_max as usize).min(PAGE_BYTES_MAX),
                };
                self.scan(serving, page, keys_only).await
            }
            PeerOp::Count => match serving.coordinator.count_own_now() {
                Ok(count) => PeerOut::Count(count),
                Err(error) => PeerOut::Failed(OpFailure::Refused(error.to_string())),
            },
            PeerOp::Explain { key } => {
                let (_, found) = serving.replica.engine().status(Some(&key));
                PeerOut::Text(found.unwrap_or_default())
            }
            // What callers who knew fewer layouts brought must be there: a newcomer may ask.
            PeerOp::Exchange(_) if !self.settled().await => {
                let why = "operations under an older layout are under way";
                PeerOut::Failed(OpFailure::Refused(why.into()))
            }
            PeerOp::Exchange(op) => serving.coordinator.answer_exchange(from, op).await,
            PeerOp::HintsAbout { key } => match serving.coordinator.hints_about_here(&key).await {
                Ok(hints) => PeerOut::HintsAbout(hints),
                Err(error) => PeerOut::Failed(OpFailure::Storage(error.to_string())),
            },
            PeerOp::HintsHeld => PeerOut::HintsHeld(serving.coordinator.hints_held()),
            PeerOp::Hot => PeerOut::Hot(serving.coordinator.hot_here()),
            PeerOp::Events { after, count } => PeerOut::Events(self.events.page(after, count)),
            PeerOp::Conflicts { from, rows_max } => {
                PeerOut::Conflicts(serving.coordinator.conflicts_here(from, rows_max))
            }
            PeerOp::Marks { witness, marks } => self.take_marks(witness, &marks).await,
            PeerOp::Flush { mark, .. } => self.take_flush(HybridTime::from_bits(mark)).await,
            other => self.answer_plain(from, other).await,
        }
    }

    /// A page of rows: for a reader without their bytes, for a newcomer whole.
    async fn scan(&self, serving: &Serving, page: PageRequest, keys_only: bool) -> PeerOut {
        // Taken before the rows are read: it speaks for them and for later ones.
        let (place, before) = (page.from.clone(), serving.replica.mark_for(&page.from));
        let standings = serving.replica.standings();
        let at = KeyRef::parse(&page.from);
        let page = if keys_only {
            // For a reader what a newcomer lacks would be "not there".
            if at.is_none_or(|at| !standings.is_complete(standings.of(at.slot))) {
                return PeerOut::Failed(OpFailure::Refused("a newcomer in the partition".into()));
            }
            serving.replica.page_of_skeletons(page).await
        } else {
            // A newcomer asks: what callers who knew fewer layouts brought must be there.
            if !self.settled().await {
                let why = "operations under an older layout are under way";
                return PeerOut::Failed(OpFailure::Refused(why.into()));
            }
            let began_us = self.clock.steady_us();
            let rows = serving.replica.page(page).await;
            let took_us = self.clock.steady_us().saturating_sub(began_us);
            let rest = fill_rest(took_us, serving.coordinator.background.per_mille());
            if !rest.is_zero() {
                self.clock.sleep(rest).await;
            }
            rows
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
    if !scope.mints {
        return PeerOut::Failed(OpFailure::Refused("its clock is too far from the others'".into()));
    }
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
