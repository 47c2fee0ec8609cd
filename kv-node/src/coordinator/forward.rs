//! Forwarding: a write that arrives at a node which may not mint it goes to one that may.
//!
//! It is tried elsewhere only if it was certainly never acted on, or if the peer's process is gone:
//! then whatever that did with it is done, and nothing of it can come later and overwrite what was
//! acknowledged meanwhile. Otherwise its outcome is unknown and said to be. The operation id makes
//! a second attempt recognisable as the same write: both are shown as one.
//!
//! What the first attempt left may come back with its node, when the write was acknowledged and
//! overwritten since. So a second attempt takes a time above all that the first can have taken: GET
//! goes on to show what overwrote it. That is no help to those who work with contexts, as a context
//! covers only what its holder was shown: KV.PUT and KV.DEL are not tried twice, and neither is
//! what promises something. A fallback is turned to only when every primary is down: one that is
//! slow or full is not stood in for.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Copies, HybridTime};
use kv_ring::Zone;

use super::write::SetItem;
use super::{Coordinator, Levels, Newer, Scope};
use crate::cluster::record::LevelSetting;
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{Mutation, MutationOut};
use crate::node::GAIN_MS_MAX;
use crate::rpc::{PeerFailure, PeerResult};
use crate::wire::{CallFailure, OpFailure, PeerOp, PeerOut};

/// A write on its way to a node that may mint it.
struct Forwarded {
    operation: u64,
    key: Bytes,
    mutation: Mutation,
    /// Primaries not tried yet, the best one last.
    primaries: Vec<NodeId>,
    /// Fallbacks not tried yet, the best one last; this node may be one.
    stand_ins: Vec<NodeId>,
    /// Who was asked last.
    minter: Option<NodeId>,
    /// Who was asked and is gone, and may have written it.
    unsure: Vec<NodeId>,
    /// None of those has minted above this, in ms since 1970; 0 when there are none.
    above_ms: u64,
    outcome: Option<Result<MutationOut, RequestError>>,
}

impl Forwarded {
    /// Turns from a node that is gone and may have written it, whose time was heard last as
    /// `heard`.
    fn leave(&mut self, node: NodeId, heard: HybridTime) {
        self.unsure.push(node);
        // It was raised above the attempts before, and may have minted beyond that since.
        self.above_ms = self.above_ms.max(heard.ms()) + SILENT_MS_MAX;
    }

    /// Takes what an attempt came to. That nothing was written is not known after one whose
    /// process is gone: it may be that which left nothing to do.
    fn end(&mut self, outcome: Result<MutationOut, RequestError>, wanted: u8) {
        let silent = self.unsure.clone();
        self.outcome = Some(match outcome {
            Err(_) | Ok(MutationOut::Nothing(_)) if !silent.is_empty() => {
                Err(RequestError::Indeterminate { reached: 0, wanted, silent })
            }
            outcome => outcome,
        });
    }
}

/// What forwarded writes ask for, resolved against the keyspace and this node's zone: whoever does
/// them takes it to mean the same.
#[derive(Clone, Copy)]
struct Asked {
    write: LevelSetting,
    read: LevelSetting,
    zone: Option<Zone>,
    /// Copies that hold what was acknowledged, at least.
    copies: u8,
}

impl Asked {
    /// # Errors
    /// `Level` when it can't be had.
    fn of(scope: &Scope, levels: Levels) -> Result<Self, RequestError> {
        let (write, read) = (scope.write_copies(levels)?, scope.read_copies(levels)?);
        let zone = [write, read].into_iter().find_map(|copies| match copies {
            Copies::InZone(zone) => Some(zone),
            Copies::Any(_) | Copies::InEachZone => None,
        });
        let copies = write.least(scope.keyspace.n);
        Ok(Self { write: named(write), read: named(read), zone, copies })
    }
}

fn named(copies: Copies<Zone>) -> LevelSetting {
    match copies {
        Copies::Any(copies) => LevelSetting::Copies(copies),
        Copies::InZone(_) => LevelSetting::LocalQuorum,
        Copies::InEachZone => LevelSetting::EachQuorum,
    }
}

/// What became of a forwarded write.
pub(super) struct Away {
    /// The storage key.
    pub(super) key: Bytes,
    /// Who minted it, if anybody did.
    pub(super) minter: Option<NodeId>,
    pub(super) outcome: Result<MutationOut, RequestError>,
}

impl Coordinator {
    /// Forwards SETs; what became of each place, in order.
    pub(super) async fn forward_sets(
        &self,
        scope: &Scope,
        items: &[SetItem<'_>],
        places: &[usize],
        levels: Levels,
    ) -> Vec<Away> {
        if places.is_empty() {
            return Vec::new();
        }
        let writes = places
            .iter()
            .filter_map(|place| items.get(*place))
            .map(|item| {
                let value = Bytes::copy_from_slice(item.value);
                (item.key, Mutation::Set { value, expiry: item.expiry })
            })
            .collect();
        self.forward(scope, writes, levels).await
    }

    /// Forwards writes; what became of each, in order.
    pub(super) async fn forward(
        &self,
        scope: &Scope,
        writes: Vec<(KeyRef<'_>, Mutation)>,
        levels: Levels,
    ) -> Vec<Away> {
        let asked = match Asked::of(scope, levels) {
            Ok(asked) => asked,
            Err(error) => {
                let refused = writes.iter().map(|(key, _)| Away {
                    key: key.to_storage(),
                    minter: None,
                    outcome: Err(error.clone()),
                });
                return refused.collect();
            }
        };
        self.parts.figures.forwarded.add(writes.len() as u64);
        let mut forwarded: Vec<Forwarded> = writes
            .into_iter()
            .map(|(key, mutation)| Forwarded {
                operation: self.parts.rng.next_u64(),
                key: key.to_storage(),
                mutation,
                primaries: Self::candidates(scope, key),
                stand_ins: Self::stand_in_candidates(scope, key),
                minter: None,
                unsure: Vec::new(),
                above_ms: 0,
                outcome: None,
            })
            .collect();
        let mut newer: Option<Box<Scope>> = None;
        while forwarded.iter().any(|write| write.outcome.is_none()) {
            let scope = newer.as_deref().unwrap_or(scope);
            if self.forward_once(scope, &mut forwarded, asked).await
                && let Newer::Known(next) = self.newer_scope(scope, true).await
            {
                for write in &mut forwarded {
                    if let Some(key) = KeyRef::parse(&write.key) {
                        write.primaries = Self::candidates(&next, key);
                        write.stand_ins = Self::stand_in_candidates(&next, key);
                    }
                }
                newer = Some(next);
            }
        }
        forwarded
            .into_iter()
            .map(|write| Away {
                key: write.key,
                minter: write.minter,
                outcome: write.outcome.unwrap_or(Err(RequestError::Stopping)),
            })
            .collect()
    }

    /// Who may mint a key's writes, the first choice last: those of this node's zone are near, and
    /// those that are about to be stopped are asked when nobody else is there.
    fn candidates(scope: &Scope, key: KeyRef<'_>) -> Vec<NodeId> {
        let partition = scope.partition(key);
        let may = |node: &NodeId| *node != scope.view.me && !scope.down.contains(node);
        if scope.keyspace.rmw == crate::cluster::record::Rmw::BestEffort && scope.mints {
            // Only one node decides; another would not know what the first did.
            return scope.decider(partition).filter(may).into_iter().collect();
        }
        let newest = scope.layouts.newest();
        let zone = |node: NodeId| newest.spec(node).map(|spec| spec.zone);
        let own_zone = zone(scope.view.me);
        let mut primaries: Vec<NodeId> =
            newest.owners(partition).iter().rev().copied().filter(may).collect();
        let stays = |node: NodeId| !scope.view.is_draining(node);
        primaries.sort_by_key(|node| (stays(*node), zone(*node) == own_zone));
        primaries
    }

    /// Who may mint a key's writes when none of those can be reached, the first choice last.
    fn stand_in_candidates(scope: &Scope, key: KeyRef<'_>) -> Vec<NodeId> {
        let partition = scope.partition(key);
        let decided = scope.keyspace.rmw == crate::cluster::record::Rmw::BestEffort;
        if decided && scope.decider(partition).is_some() {
            return Vec::new();
        }
        let mut nodes: Vec<NodeId> = scope.stand_ins(partition).take(STAND_INS_MAX).collect();
        nodes.reverse();
        nodes.sort_by_key(|node| !scope.view.is_draining(*node));
        nodes
    }

    /// Tries the next candidate of each; says whether one refused because it knows newer layouts.
    async fn forward_once(&self, scope: &Scope, forwarded: &mut [Forwarded], asked: Asked) -> bool {
        let mut open: Vec<(usize, NodeId)> = Vec::new();
        let mut own: Vec<usize> = Vec::new();
        for (place, item) in forwarded.iter_mut().enumerate() {
            if item.outcome.is_some() {
                continue;
            }
            item.minter = item.primaries.pop().or_else(|| item.stand_ins.pop());
            match item.minter {
                Some(node) if node == scope.view.me => own.push(place),
                Some(node) => open.push((place, node)),
                None => {
                    self.parts.figures.no_replicas.one();
                    let down = scope.down.clone();
                    let wanted = asked.copies;
                    item.end(Err(RequestError::NoReplicas { wanted, down }), wanted);
                }
            }
        }
        for place in own {
            self.forward_to_self(scope, forwarded, place, asked).await;
        }
        if open.is_empty() {
            return false;
        }
        let asks = open
            .iter()
            .filter_map(|(place, node)| Some((*node, forwarded.get(*place)?)))
            .map(|(node, item)| {
                let op = PeerOp::Forward {
                    operation: item.operation,
                    key: item.key.clone(),
                    mutation: item.mutation.clone(),
                    write: asked.write,
                    read: asked.read,
                    zone: asked.zone.map(Zone::number),
                    above_ms: item.above_ms,
                };
                (node, op)
            })
            .collect();
        let results = self.gather_while_up(scope.deadline_ms, asks).await;
        let gone = self.gone_of(scope.deadline_ms, &open, &results).await;
        let mut stale = false;
        for ((place, node), result) in open.into_iter().zip(results) {
            let Some(item) = forwarded.get_mut(place) else { continue };
            if may_be_twice(&item.mutation) && is_broken(result.as_ref()) && gone.contains(&node) {
                item.leave(node, HybridTime::from_bits(self.parts.heard.of(node).time));
                if self.is_far_ahead(item.above_ms) {
                    // What it left could not be topped, and would be shown over what comes later.
                    item.end(Err(RequestError::ClockSkew), asked.copies);
                }
                continue;
            }
            stale |= matches!(&result, Some(Err(failure)) if failure.is_stale());
            let slow = matches!(&result, Some(Err(failure)) if !failure.means_down());
            let primary = scope.layouts.newest().owners(partition_of(scope, &item.key));
            if slow && primary.contains(&node) {
                item.stand_ins.clear();
            }
            if let Some(outcome) = outcome_of(node, result, asked.copies) {
                item.end(outcome, asked.copies);
            }
        }
        stale
    }

    /// Those among the nodes whose connection broke under a call that are gone: nobody listens
    /// there any more. One that is being cut off may not be, and is asked again for a moment.
    async fn gone_of(
        &self,
        deadline_ms: u64,
        asked: &[(usize, NodeId)],
        results: &[Option<PeerResult>],
    ) -> BTreeSet<NodeId> {
        let broken = asked.iter().zip(results).filter(|(_, result)| is_broken(result.as_ref()));
        let mut open: BTreeSet<NodeId> = broken.map(|((_, node), _)| *node).collect();
        let mut gone = BTreeSet::new();
        let deadline_ms = deadline_ms.min(self.parts.clock.steady_ms() + GONE_MS_MAX);
        while !open.is_empty() && self.parts.clock.steady_ms() < deadline_ms {
            let nodes: Vec<NodeId> = open.iter().copied().collect();
            let asks = nodes.iter().map(|node| (*node, PeerOp::Time)).collect();
            let told = self.gather_while_up(deadline_ms, asks).await;
            for (node, told) in nodes.into_iter().zip(told) {
                match told {
                    Some(Err(PeerFailure::Call(CallFailure::Gone(_)))) => {
                        gone.insert(node);
                        open.remove(&node);
                    }
                    // A process that ends closes its doors one after the other.
                    Some(Err(failure)) if failure.means_down() => {}
                    _ => _ = open.remove(&node),
                }
            }
            if !open.is_empty() {
                self.parts.clock.sleep(GONE_REST).await;
            }
        }
        gone
    }

    /// This node is the first live fallback, and no primary could be reached.
    async fn forward_to_self(
        &self,
        scope: &Scope,
        forwarded: &mut [Forwarded],
        place: usize,
        asked: Asked,
    ) {
        let Some(item) = forwarded.get_mut(place) else { return };
        let Some(key) = KeyRef::parse(&item.key) else { return };
        let (read, write) = (Some(asked.read), Some(asked.write));
        let levels = Levels { read, write, zone: asked.zone, until_ms: None };
        let (mutation, operation) = (item.mutation.clone(), item.operation);
        if let Err(error) = self.mint_above(item.above_ms).await {
            item.end(Err(error), asked.copies);
            return;
        }
        let (out, _) = self.mutate_here(scope, key, mutation, levels, Some(operation)).await;
        match out {
            // Its hint log is full: nothing was written.
            Err(RequestError::Busy(_)) if !item.stand_ins.is_empty() => {}
            out => item.end(out, asked.copies),
        }
    }
}

impl Coordinator {
    /// Mints only above this time from now on, given in ms since 1970. Further ahead of this clock
    /// than a sound one can be it is not followed.
    ///
    /// # Errors
    /// It lies too far ahead, or the lease could not be moved: nothing changed, and nothing minted
    /// here would be above it.
    pub(crate) async fn mint_above(&self, above_ms: u64) -> Result<(), RequestError> {
        let (dots, now_ms) = (&self.parts.dots, self.now_ms());
        let above = HybridTime::new(above_ms, 0);
        if above <= dots.time(now_ms) {
            return Ok(());
        }
        if self.is_far_ahead(above_ms) {
            return Err(RequestError::ClockSkew);
        }
        self.off_thread("the clock's lease", move |dots| dots.raise(above, now_ms)).await
    }

    fn is_far_ahead(&self, ms: u64) -> bool {
        self.parts.dots.is_far_ahead(HybridTime::new(ms, 0), self.now_ms())
    }
}

/// A node that has said nothing for so long is down: the last that was heard from one which was
/// asked is not older, and its clock has gained no more on that than clocks are let gain.
const SILENT_MS_MAX: u64 = 5_000 + GAIN_MS_MAX;
/// Fallbacks that a write is tried at, at most.
const STAND_INS_MAX: usize = 8;
/// For so long at most it is found out whether a node is gone.
const GONE_MS_MAX: u64 = 500;
/// A node that may be ending is asked again after this.
const GONE_REST: Duration = Duration::from_millis(5);

/// Whether a call's connection broke: it may have been acted on.
fn is_broken(result: Option<&PeerResult>) -> bool {
    matches!(result, Some(Err(PeerFailure::Call(CallFailure::Unknown(_)))))
}

/// Whether a write may be tried again where its first attempt may have left it.
fn may_be_twice(mutation: &Mutation) -> bool {
    !matches!(mutation, Mutation::Promise(_) | Mutation::Put { .. } | Mutation::DeleteSeen { .. })
}

fn partition_of(scope: &Scope, storage_key: &[u8]) -> kv_ring::Partition {
    KeyRef::parse(storage_key).map_or(kv_ring::Partition::ALL, |key| scope.partition(key))
}

/// What an answer means; `None` to try the next candidate.
fn outcome_of(
    node: NodeId,
    result: Option<PeerResult>,
    wanted: u8,
) -> Option<Result<MutationOut, RequestError>> {
    match result {
        Some(Ok(PeerOut::Forwarded(outcome))) => Some(outcome),
        Some(Err(PeerFailure::Op(OpFailure::Refused(_)))) => None,
        Some(Err(failure)) if failure.without_effect() => None,
        _ => Some(Err(RequestError::Indeterminate { reached: 0, wanted, silent: vec![node] })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_above_all_that_those_before_may_have_minted() {
        let mut write = Forwarded {
            operation: 1,
            key: Bytes::new(),
            mutation: Mutation::Delete,
            primaries: Vec::new(),
            stand_ins: Vec::new(),
            minter: None,
            unsure: Vec::new(),
            above_ms: 0,
            outcome: None,
        };
        let heard = |ms| HybridTime::new(ms, 0);
        write.leave(NodeId(1), heard(100_000));
        let second = write.above_ms;
        assert!(second >= 100_000 + SILENT_MS_MAX);
        // The second was heard before it was raised, and minted for others meanwhile.
        write.leave(NodeId(2), heard(99_000));
        assert!(write.above_ms >= second + SILENT_MS_MAX, "{} after {second}", write.above_ms);
        write.leave(NodeId(3), heard(200_000));
        assert!(write.above_ms >= 200_000 + SILENT_MS_MAX);
    }
}
