//! Handing off: hints go to those for whom they are kept, when they are up again.
//!
//! A round writes the hints that came late, then sends a page to each target that is up, as
//! ordinary joins. A hint goes only when its target has it durably and it has not changed since it
//! was read; before it goes its partition is noted as let go of (see `cluster::dots`). One whose
//! target is no replica of the key any more, or is about to be none, is handed on to those who are:
//! who fills its place may have looked at it before. A target that does not take a page is left
//! alone for a while that doubles.
//!
//! Invariant: at every moment a hint that counted is in this log, or durably at a replica of the
//! newest layout.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_client::NodeId;
use kv_client::wire::{HintQueue, HintState, HintsView};
use kv_quorum::Actor;
use kv_ring::Partition;
use parking_lot::Mutex;

use super::write::{dot_of, storage_error};
use super::{Coordinator, Scope};
use crate::error::RequestError;
use crate::keys::{KeyRef, after, hint_row, parse_hint};
use crate::replica::Hint;
use crate::teeth::{Bug, planted};
use crate::wire::{PeerOp, PeerOut};

/// Milliseconds that a target is left alone after it did not take a page.
const BACKOFF_MS_MIN: u64 = 250;
/// Milliseconds that this doubles up to.
const BACKOFF_MS_MAX: u64 = 15_000;
/// Late hints that one round writes.
const LATE_A_ROUND: usize = 512;
/// Milliseconds that other nodes have to say what hints they hold.
const HELD_MS_MAX: u64 = 1_000;

/// How replay stands, by target.
#[derive(Debug, Default)]
pub(super) struct Handoff(Mutex<BTreeMap<NodeId, Replay>>);

#[derive(Clone, Debug, Default)]
struct Replay {
    /// Where the next page begins; at the first row if none.
    from: Option<Bytes>,
    backoff_ms: u64,
    not_before_ms: u64,
}

/// What a round of handing off came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Bytes of hints that were sent.
    pub(crate) bytes: u64,
    /// Whether there is more to do at once.
    pub(crate) more: bool,
}

impl Handoff {
    fn of(&self, target: NodeId) -> Replay {
        self.0.lock().get(&target).cloned().unwrap_or_default()
    }

    fn set(&self, target: NodeId, replay: Replay) {
        self.0.lock().insert(target, replay);
    }

    /// Forgets targets for whom nothing is kept.
    fn retain(&self, targets: &[NodeId]) {
        self.0.lock().retain(|target, _| targets.contains(target));
    }
}

impl Replay {
    fn failed(&mut self, now_ms: u64) {
        let doubled = self.backoff_ms.saturating_mul(2);
        self.backoff_ms = doubled.clamp(BACKOFF_MS_MIN, BACKOFF_MS_MAX);
        self.not_before_ms = now_ms + self.backoff_ms;
        self.from = None;
    }
}

impl Coordinator {
    /// One round: late hints are written, a page goes to each target that is up.
    ///
    /// # Errors
    /// The engine failed; hints stay where they are.
    pub(crate) async fn hand_off(&self) -> Result<Round, RequestError> {
        let replica = &self.parts.replica;
        let scope = self.scope()?;
        let mut round = Round { bytes: 0, more: self.keep_late().await };
        let targets = replica.hint_targets();
        self.handoff.retain(&targets);
        for target in targets {
            let mut replay = self.handoff.of(target);
            let now_ms = self.parts.clock.steady_ms();
            // Hints for a node that is gone for good are for others: they don't wait for it.
            let is_down = scope.down.contains(&target);
            if replay.not_before_ms > now_ms || (is_down && scope.is_member(target)) {
                continue;
            }
            match self.hand_page(&scope, target, &mut replay).await? {
                Some(bytes) => {
                    round.bytes += bytes;
                    round.more |= bytes > 0;
                    replay.backoff_ms = 0;
                }
                None => replay.failed(self.parts.clock.steady_ms()),
            }
            self.handoff.set(target, replay);
        }
        Ok(round)
    }

    /// Writes hints that came late. Says whether there are more.
    async fn keep_late(&self) -> bool {
        let replica = &self.parts.replica;
        if !replica.hints().is_counted() {
            return false;
        }
        let (late, more) = replica.hints().take_late(LATE_A_ROUND);
        if late.is_empty() {
            return false;
        }
        let hints: Vec<Hint> = late
            .into_iter()
            .map(|late| Hint {
                target: late.target,
                key: late.key,
                record: late.record,
                counted: false,
                minted: true,
            })
            .collect();
        let dropped = replica.keep_beyond(&hints).await as u64;
        self.parts.figures.hints_written.add(hints.len() as u64 - dropped);
        self.parts.figures.hints_dropped.add(dropped);
        more
    }

    /// Sends one page to a target: bytes that were dealt with, or `None` if it took nothing.
    async fn hand_page(
        &self,
        scope: &Scope,
        target: NodeId,
        replay: &mut Replay,
    ) -> Result<Option<u64>, RequestError> {
        let replica = &self.parts.replica;
        let (rows, end) =
            replica.hint_page(target, replay.from.take()).await.map_err(storage_error)?;
        replay.from = rows.last().filter(|_| !end).map(|(last, _)| after(last));
        let bytes = rows.iter().map(|(row, record)| (row.len() + record.len()) as u64).sum();
        let (mut send, mut dead) = (Vec::new(), Vec::new());
        for (row, record) in rows {
            if replica.alive(&record).is_none() {
                dead.push((row, record));
            } else if is_replica(scope, target, &row) {
                send.push((row, record));
            } else {
                self.hand_on(scope, target, &row).await?;
            }
        }
        if !dead.is_empty() {
            replica.drop_hints(&dead).await.map_err(storage_error)?;
        }
        if send.is_empty() {
            return Ok(Some(bytes));
        }
        let taken = self.deliver(target, send).await?;
        Ok((taken > 0).then_some(bytes))
    }

    /// Sends hints to their target and lets go of those that it holds durably: how many it took.
    async fn deliver(
        &self,
        target: NodeId,
        rows: Vec<(Bytes, Bytes)>,
    ) -> Result<usize, RequestError> {
        let asks = rows.iter().filter_map(|(row, record)| {
            let (_, key) = parse_hint(row)?;
            Some((
                target,
                PeerOp::Apply {
                    key: Bytes::copy_from_slice(key),
                    record: record.clone(),
                    mark: 0,
                    minted: false,
                },
            ))
        });
        let deadline_ms = self.parts.clock.steady_ms() + self.parts.timing.request_ms_max;
        let answers = self.gather(deadline_ms, asks.collect()).await;
        let taken: Vec<(Bytes, Bytes)> = rows
            .into_iter()
            .zip(answers)
            .filter(|(_, answer)| {
                let taken = matches!(answer, Some(Ok(PeerOut::Applied { .. })));
                taken || planted(Bug::DropCountedHint)
            })
            .map(|(row, _)| row)
            .collect();
        let count = taken.len();
        // As it is known now: a layout that came meanwhile may have taken the target's place away.
        let scope = &self.scope()?;
        let newest = scope.layouts.newest();
        let (stays, goes): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(row, _)| {
            partition_of(scope, row).is_some_and(|partition| newest.owns(target, partition))
        });
        for (row, _) in &stays {
            if let Some(partition) = partition_of(scope, row) {
                self.parts.dots.let_go(partition);
            }
        }
        let now_ms = self.now_ms();
        for (_, record) in &stays {
            if let Some(dot) = dot_of(record) {
                let ms = now_ms.saturating_sub(dot.time.ms());
                self.parts.figures.everywhere.add(ms.saturating_mul(1_000));
            }
        }
        let gone = self.parts.replica.drop_hints(&stays).await.map_err(storage_error)?;
        self.parts.figures.hints_delivered.add(gone as u64);
        for (row, _) in &goes {
            self.hand_on(scope, target, row).await?;
        }
        Ok(count)
    }

    /// Hands a hint on: to who takes its target's place in the newest layout, if that has one in an
    /// older layout still; else to all replicas that its key has now.
    async fn hand_on(
        &self,
        scope: &Scope,
        target: NodeId,
        row: &Bytes,
    ) -> Result<(), RequestError> {
        let Some(partition) = partition_of(scope, row) else { return Ok(()) };
        let sets = || scope.layouts.write_sets(partition);
        let newest = scope.layouts.newest().owners(partition).iter();
        let with_target =
            |node: &NodeId| sets().any(|owners| owners.contains(&target) && !owners.contains(node));
        let mut to: Vec<NodeId> = newest.copied().filter(with_target).collect();
        if to.is_empty() {
            to = sets().flatten().copied().filter(|node| *node != target).collect();
        }
        to.sort_unstable();
        to.dedup();
        let me = scope.view.me;
        let holds = to.contains(&me);
        to.retain(|node| *node != me);
        self.parts.dots.let_go(partition);
        self.parts.replica.hand_hint_on(row, &to, holds).await.map_err(storage_error)
    }

    /// Keeps hints that a coordinator sent. A node that is shown dots of its own tenure which none
    /// of its hints holds has dropped a delivered one, or has forgotten: it mints there under a new
    /// tenure only.
    pub(crate) async fn keep_hints(&self, hints: &[Hint]) -> Vec<PeerOut> {
        let slot = |key: &[u8]| KeyRef::parse(key).map(|key| key.slot);
        let own =
            |key: &[u8]| slot(key).map_or_else(Actor::default, |at| self.parts.dots.actor_at(at));
        let claimed = |key: &[u8]| {
            if let Some(slot) = slot(key) {
                self.parts.dots.let_go(self.parts.replica.standings().of(slot));
            }
        };
        self.parts.replica.keep_hints(hints, own, claimed).await
    }

    /// Whether this node is a replica of a storage key in some live layout.
    pub(crate) fn holds_key(&self, storage_key: &[u8]) -> bool {
        let view = self.parts.view.now();
        let (Some(layouts), Some(key)) = (&view.layouts, KeyRef::parse(storage_key)) else {
            return true;
        };
        let partition = layouts.newest().partitions().of(key.slot);
        layouts.write_sets(partition).any(|owners| owners.contains(&view.me))
    }

    /// The hints that this node holds about a storage key.
    ///
    /// # Errors
    /// Nothing is known of them.
    pub(crate) async fn hints_about_here(
        &self,
        key: &[u8],
    ) -> Result<Vec<(NodeId, Bytes)>, RequestError> {
        let replica = &self.parts.replica;
        let targets = replica.hint_targets();
        let rows: Vec<Bytes> = targets.iter().map(|target| hint_row(*target, key)).collect();
        let slices: Vec<&[u8]> = rows.iter().map(|row| &row[..]).collect();
        let mut found = Vec::new();
        let show = &mut |place: usize, record: Option<&[u8]>| {
            if let (Some(target), Some(record)) = (targets.get(place), record) {
                found.push((*target, Bytes::copy_from_slice(record)));
            }
        };
        replica.read(&slices, show).await.map_err(storage_error)?;
        Ok(found)
    }

    /// What this node holds, by target.
    pub(crate) fn hints_held(&self) -> Vec<HintQueue> {
        let Ok(scope) = self.scope() else { return Vec::new() };
        let (now_ms, wall_ms) = (self.parts.clock.steady_ms(), self.now_ms());
        let queued = self.parts.replica.hints().queued();
        let queue = |(target, queued): (NodeId, crate::replica::Queued)| HintQueue {
            on: scope.view.me,
            target,
            keys: queued.keys,
            bytes: queued.bytes,
            age_ms: wall_ms.saturating_sub(queued.since_ms),
            state: if scope.down.contains(&target) && scope.is_member(target) {
                HintState::Waiting
            } else if self.handoff.of(target).not_before_ms > now_ms {
                HintState::BackedOff
            } else {
                HintState::Replaying
            },
        };
        queued.into_iter().map(queue).collect()
    }

    /// What every member holds, as far as they answer.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) async fn hints_everywhere(&self) -> Result<HintsView, RequestError> {
        let scope = self.scope()?;
        let mut queues = self.hints_held();
        let mut silent = scope.down.clone();
        let mut asked: Vec<NodeId> =
            scope.layouts.live().flat_map(|layout| layout.members().iter().copied()).collect();
        asked.sort_unstable();
        asked.dedup();
        asked.retain(|node| *node != scope.view.me && !scope.down.contains(node));
        let asks = asked.iter().map(|node| (*node, PeerOp::HintsHeld)).collect();
        let soon = self.parts.clock.steady_ms() + HELD_MS_MAX;
        let answers = self.gather(soon.min(scope.deadline_ms), asks).await;
        for (node, answer) in asked.into_iter().zip(answers) {
            match answer {
                // A node speaks of its own only.
                Some(Ok(PeerOut::HintsHeld(held))) => {
                    queues.extend(held.into_iter().map(|queue| HintQueue { on: node, ..queue }));
                }
                _ => silent.push(node),
            }
        }
        queues.sort_by_key(|queue| (queue.on, queue.target));
        silent.sort_unstable();
        let hint_bytes_max = self.parts.replica.hints().bytes_max();
        Ok(HintsView { queues, hint_bytes_max, silent })
    }
}

impl Scope {
    /// Whether a live layout names a node.
    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.layouts.live().any(|layout| layout.members().contains(&node))
    }
}

/// The partition of a hint's key, as the newest layout counts.
fn partition_of(scope: &Scope, row: &[u8]) -> Option<Partition> {
    let key = parse_hint(row).and_then(|(_, key)| KeyRef::parse(key))?;
    Some(scope.partition(key))
}

/// Whether a hint's target is a replica of its key in some live layout.
fn is_replica(scope: &Scope, target: NodeId, row: &[u8]) -> bool {
    partition_of(scope, row).is_some_and(|partition| {
        scope.layouts.write_sets(partition).any(|owners| owners.contains(&target))
    })
}
