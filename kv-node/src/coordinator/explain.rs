//! KV.EXPLAIN: where a key lives, what each replica answers, who stands in and which hints there
//! are, in words.

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_client::wire::{DotName, VersionName};
use kv_quorum::{Copies, Record, WriteTracker};
use kv_ring::{Partition, Zone};

use super::plans::Purpose;
use super::{Coordinator, Scope};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::wire::{PeerOp, PeerOut};

/// Fallbacks that are named and asked at most.
const FALLBACKS_SHOWN: usize = 8;

/// What one replica says of a key.
#[derive(Clone, Debug)]
pub struct ReplicaSays {
    /// The replica.
    pub node: NodeId,
    /// Whether membership believes it up.
    pub up: bool,
    /// Its live dots as (node, time), or why there is no answer.
    pub versions: Result<Vec<(NodeId, u64)>, String>,
    /// The same versions with everything that names them, and their bytes.
    pub details: Vec<VersionName>,
    /// Where it found the key, in its engine's words.
    pub found: String,
    /// Microseconds until its answer.
    pub us: u64,
}

/// A hint about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintSays {
    /// Who holds it.
    pub on: NodeId,
    /// For whom.
    pub target: NodeId,
    /// Its live dots as (node, time).
    pub versions: Vec<(NodeId, u64)>,
}

/// Everything about a key's place.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The Redis Cluster slot.
    pub slot: u16,
    /// The partition.
    pub partition: u16,
    /// The token.
    pub token: u64,
    /// The newest layout's epoch.
    pub epoch: u64,
    /// N.
    pub n: u8,
    /// R as it would be used.
    pub read: Copies<Zone>,
    /// W as it would be used.
    pub write: Copies<Zone>,
    /// Primaries in order.
    pub primaries: Vec<NodeId>,
    /// Fallbacks in order.
    pub fallbacks: Vec<NodeId>,
    /// What each primary says.
    pub replicas: Vec<ReplicaSays>,
    /// Whether fallbacks count.
    pub sloppy: bool,
    /// Microseconds until all replicas held a write of the node that was asked, since it started:
    /// half of them, and 99 of 100, took no longer. None before the first.
    pub everywhere_us: Option<(u64, u64)>,
    /// Who would stand in for whom now: (fallback, primary).
    pub stand_ins: Vec<(NodeId, NodeId)>,
    /// Hints about the key on the nodes that were asked: primaries and the first fallbacks.
    pub hints: Vec<HintSays>,
}

impl Explained {
    /// What a read is sure to see.
    pub fn promise(&self) -> String {
        let (n, r, w) = (self.n, said(self.read), said(self.write));
        if self.sloppy {
            return format!(
                "fallbacks count: while a primary is down R + W > N promises nothing, and a read \
                 may miss acknowledged writes (R={r} W={w} N={n})"
            );
        }
        match (self.read, self.write) {
            (Copies::Any(r), Copies::Any(w)) if Copies::meet(self.read, self.write, n) => format!(
                "only primaries count: a read meets every acknowledged write, {r} + {w} > {n}"
            ),
            (Copies::Any(r), Copies::Any(w)) => format!(
                "only primaries count: a read may miss acknowledged writes, {r} + {w} <= {n}"
            ),
            (read, write) if Copies::meet(read, write, n) => {
                format!("only primaries count: a read meets every acknowledged write (R={r} W={w})")
            }
            _ => format!(
                "only primaries count: a read may miss what another zone acknowledged (R={r} W={w})"
            ),
        }
    }
}

/// A level in words.
pub(crate) fn said(copies: Copies<Zone>) -> String {
    match copies {
        Copies::Any(copies) => copies.to_string(),
        Copies::InZone(_) => "local-quorum".into(),
        Copies::InEachZone => "each-quorum".into(),
    }
}

impl Coordinator {
    /// Asks every primary of a key what it has, and where.
    ///
    /// # Errors
    /// `Loading`. A replica that does not answer is part of the answer.
    pub(crate) async fn explain(&self, key: KeyRef<'_>) -> Result<Explained, RequestError> {
        let scope = self.scope()?;
        let partition = scope.partition(key);
        let preference = scope.layouts.newest().preference(partition);
        let primaries = preference.primaries().to_vec();
        let n = scope.keyspace.n;
        let write = scope.copies(scope.keyspace.write, None)?;
        let read = scope.copies(scope.keyspace.read, None)?;
        let fallbacks: Vec<NodeId> = preference.fallbacks().take(FALLBACKS_SHOWN).collect();
        let holders: Vec<NodeId> = primaries.iter().chain(&fallbacks).copied().collect();
        let asked = primaries.iter().map(|node| self.ask_one(&scope, *node, key));
        let hints = self.hints_about(&scope, &holders, key);
        let (replicas, hints) = futures::join!(join_all(asked), hints);
        Ok(Explained {
            slot: key.slot.index(),
            partition: partition.index(),
            token: key.token.value(),
            epoch: scope.layouts.newest().epoch(),
            n,
            read,
            write,
            primaries,
            fallbacks,
            replicas,
            everywhere_us: self.everywhere_us(),
            sloppy: scope.counts_fallbacks(read) || scope.counts_fallbacks(write),
            stand_ins: self.stand_ins_now(&scope, partition, write)?,
            hints,
        })
    }

    fn everywhere_us(&self) -> Option<(u64, u64)> {
        let spread = &self.parts.figures.everywhere;
        Some((spread.per_mille(500)?, spread.per_mille(990)?))
    }

    /// Who would stand in for whom in a write of the partition.
    fn stand_ins_now(
        &self,
        scope: &Scope,
        partition: Partition,
        write: Copies<Zone>,
    ) -> Result<Vec<(NodeId, NodeId)>, RequestError> {
        let table = self.plans.table(scope, Purpose::Write, write);
        let mut tracker = WriteTracker::new(table.of(partition)?);
        for node in &scope.down {
            // What it comes to is not asked here.
            let _step = tracker.on_failure(*node);
        }
        let fallbacks = tracker.plan().fallbacks().iter();
        Ok(fallbacks
            .filter(|node| !scope.down.contains(*node))
            .filter_map(|node| Some((*node, tracker.hint_for(*node)?)))
            .collect())
    }

    /// The hints about a key that some nodes hold.
    async fn hints_about(&self, scope: &Scope, nodes: &[NodeId], key: KeyRef<'_>) -> Vec<HintSays> {
        let storage_key = key.to_storage();
        let mut found = Vec::new();
        let mut note = |on: NodeId, hints: Vec<(NodeId, Bytes)>| {
            found.extend(hints.into_iter().map(|(target, record)| {
                let named = |name: VersionName| (name.dot.node, name.dot.time);
                let versions = versions(Some(&record)).into_iter().map(named).collect();
                HintSays { on, target, versions }
            }));
        };
        note(scope.view.me, self.hints_about_here(&storage_key).await.unwrap_or_default());
        let others = |node: &&NodeId| **node != scope.view.me && !scope.down.contains(*node);
        let asked: Vec<NodeId> = nodes.iter().filter(others).copied().collect();
        let ask = |node: &NodeId| (*node, PeerOp::HintsAbout { key: storage_key.clone() });
        let soon = self.parts.clock.steady_ms() + 1_000;
        let answers = self.gather(soon.min(scope.deadline_ms), asked.iter().map(ask).collect());
        for (node, answer) in asked.iter().zip(answers.await) {
            if let Some(Ok(PeerOut::HintsAbout(hints))) = answer {
                note(*node, hints);
            }
        }
        found
    }

    async fn ask_one(&self, scope: &Scope, node: NodeId, key: KeyRef<'_>) -> ReplicaSays {
        let up = scope.view.is_up(node);
        let began_us = self.parts.clock.steady_us();
        let (details, found) = self.versions_at(scope, node, key).await;
        let us = self.parts.clock.steady_us().saturating_sub(began_us);
        let named = |version: &VersionName| (version.dot.node, version.dot.time);
        let versions = match &details {
            Ok(details) => Ok(details.iter().map(named).collect()),
            Err(why) => Err(why.clone()),
        };
        ReplicaSays { node, up, versions, details: details.unwrap_or_default(), found, us }
    }

    async fn versions_at(
        &self,
        scope: &Scope,
        node: NodeId,
        key: KeyRef<'_>,
    ) -> (Result<Vec<VersionName>, String>, String) {
        let storage_key = key.to_storage();
        if node == scope.view.me {
            // Before the read, which may bring it into a cache.
            let (_, found) = self.parts.replica.engine().status(Some(&storage_key));
            let mut record = None;
            let read = self
                .parts
                .replica
                .read(&[&storage_key], &mut |_, found| record = found.map(<[u8]>::to_vec))
                .await;
            let versions = match read {
                Ok(_) => Ok(versions(record.as_deref())),
                Err(error) => Err(error.to_string()),
            };
            return (versions, found.unwrap_or_default());
        }
        let asks = vec![
            (node, PeerOp::Explain { key: storage_key.clone() }),
            (node, PeerOp::Read { key: storage_key, have: None }),
        ];
        let soon = self.parts.clock.steady_ms() + 1_000;
        let mut answers = self.gather(soon.min(scope.deadline_ms), asks).await.into_iter();
        let found = match answers.next().flatten() {
            Some(Ok(PeerOut::Text(text))) => text,
            _ => String::new(),
        };
        let versions = match answers.next().flatten() {
            Some(Ok(PeerOut::Record { record, .. })) => Ok(versions(Some(&record))),
            Some(Ok(_)) => Err("an answer of another kind".into()),
            Some(Err(failure)) => Err(format!("{failure:?}")),
            None => Err("no answer within 1 s".into()),
        };
        (versions, found)
    }
}

fn versions(record: Option<&[u8]>) -> Vec<VersionName> {
    let Some(record) = record.filter(|record| !record.is_empty()) else { return Vec::new() };
    let Ok(record) = Record::decode(record) else { return Vec::new() };
    let name = |version: &kv_quorum::Version<&[u8]>| VersionName {
        dot: DotName {
            time: version.dot.time.to_bits(),
            node: NodeId(version.dot.actor.node),
            tenure: version.dot.actor.tenure,
        },
        bytes: version.value.as_ref().map(|value| value.len() as u64),
    };
    record.live().iter().map(name).collect()
}
