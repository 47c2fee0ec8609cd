//! Forwarding: a write that arrives at a node which may not mint it goes to one that may.
//!
//! It is tried elsewhere only if it was certainly never acted on; otherwise its outcome is unknown
//! and said to be. The operation id makes a second attempt recognisable as the same write.

use bytes::Bytes;
use kv_client::NodeId;

use super::write::SetItem;
use super::{Coordinator, Levels, Scope, resolve};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{Mutation, MutationOut};
use crate::rpc::{PeerFailure, PeerResult};
use crate::wire::{OpFailure, PeerOp, PeerOut};

/// A write on its way to a node that may mint it.
struct Forwarded {
    operation: u64,
    key: Bytes,
    mutation: Mutation,
    /// Candidates not tried yet, the best one last.
    candidates: Vec<NodeId>,
    /// Who was asked last.
    minter: Option<NodeId>,
    outcome: Option<Result<MutationOut, RequestError>>,
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
        let n = scope.keyspace.n;
        let copies = resolve(levels.write, scope.keyspace.write, n)
            .and_then(|write| Ok((write, resolve(levels.read, scope.keyspace.read, n)?)));
        let (write, read) = match copies {
            Ok(copies) => copies,
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
                candidates: Self::candidates(scope, key),
                minter: None,
                outcome: None,
            })
            .collect();
        let mut newer: Option<Scope> = None;
        while forwarded.iter().any(|write| write.outcome.is_none()) {
            let scope = newer.as_ref().unwrap_or(scope);
            if self.forward_once(scope, &mut forwarded, write, read).await
                && let Some(next) = self.newer_scope(scope, true).await
            {
                for write in &mut forwarded {
                    if let Some(key) = KeyRef::parse(&write.key) {
                        write.candidates = Self::candidates(&next, key);
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

    /// Who may mint a key's writes, the first choice last.
    fn candidates(scope: &Scope, key: KeyRef<'_>) -> Vec<NodeId> {
        let partition = scope.partition(key);
        let may = |node: &NodeId| *node != scope.view.me && !scope.down.contains(node);
        if scope.keyspace.rmw == crate::cluster::record::Rmw::BestEffort && scope.mints {
            // Only one node decides; another would not know what the first did.
            return scope.decider(partition).filter(may).into_iter().collect();
        }
        let primaries = scope.layouts.newest().owners(partition);
        primaries.iter().rev().copied().filter(may).collect()
    }

    /// Tries the next candidate of each; says whether one refused because it knows newer layouts.
    async fn forward_once(
        &self,
        scope: &Scope,
        forwarded: &mut [Forwarded],
        write: u8,
        read: u8,
    ) -> bool {
        let mut open: Vec<(usize, NodeId)> = Vec::new();
        for (place, item) in forwarded.iter_mut().enumerate() {
            if item.outcome.is_some() {
                continue;
            }
            if let Some(node) = item.candidates.pop() {
                item.minter = Some(node);
                open.push((place, node));
            } else {
                self.parts.figures.no_replicas.one();
                let down = scope.down.clone();
                item.outcome = Some(Err(RequestError::NoReplicas { wanted: write, down }));
            }
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
                    write,
                    read,
                };
                (node, op)
            })
            .collect();
        let results = self.gather_while_up(scope.deadline_ms, asks).await;
        let mut stale = false;
        for ((place, node), result) in open.into_iter().zip(results) {
            let Some(item) = forwarded.get_mut(place) else { continue };
            stale |= matches!(&result, Some(Err(failure)) if failure.is_stale());
            item.outcome = outcome_of(node, result, write);
        }
        stale
    }
}

/// What an answer means; `None` to try the next candidate.
fn outcome_of(
    node: NodeId,
    result: Option<PeerResult>,
    write: u8,
) -> Option<Result<MutationOut, RequestError>> {
    match result {
        Some(Ok(PeerOut::Forwarded(outcome))) => Some(outcome),
        Some(Err(PeerFailure::Op(OpFailure::Refused(_)))) => None,
        Some(Err(failure)) if failure.without_effect() => None,
        _ => {
            Some(Err(RequestError::Indeterminate { reached: 0, wanted: write, silent: vec![node] }))
        }
    }
}
