//! A batch of minted writes in flight: their trackers, who holds what, one wake-up.
//!
//! Answers come from any task, in any order, also after the client has its own: for WAIT. The
//! slot of an answer names the item and the round that it belongs to, so that an answer to the
//! first mint never counts for the second.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{
    Actor, Context, Copies, Dot, Draft, HybridTime, Kind, WriteOutcome, WriteReply, WriteStep,
    WriteTracker,
};
use kv_ring::{Partition, Zone};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Ended;
use crate::coordinator::{Parts, Scope};
use crate::error::RequestError;
use crate::metrics::Figures;
use crate::plug::clock::Clock;
use crate::replica::{Replica, Standings};
use crate::rpc::{Completion, PeerFailure};
use crate::wire::PeerOut;

/// A write that was minted here and is on its way to W copies.
pub(in crate::coordinator) struct Minted {
    pub(in crate::coordinator) key: Bytes,
    pub(in crate::coordinator) record: Bytes,
    pub(in crate::coordinator) partition: Partition,
    pub(in crate::coordinator) tracker: WriteTracker<NodeId>,
    /// What its acknowledgement takes.
    pub(in crate::coordinator) wanted: Copies<Zone>,
    /// Who is to get it, as the tracker named them when it began.
    pub(in crate::coordinator) to: Vec<NodeId>,
    /// Whether this node minted it in the place of a primary, and keeps it as hints.
    pub(in crate::coordinator) stands_in: bool,
}

/// A tracker that has begun, and whom it names.
pub(super) type Began = (WriteTracker<NodeId>, Vec<NodeId>);

/// A batch of minted writes in flight.
pub(crate) struct WriteJob {
    pub(super) inner: Mutex<Inner>,
    pub(super) wake: Notify,
    /// Bytes of the records, about: what keeping the job costs.
    bytes: usize,
    /// Whether hints beyond W are kept for primaries that are down: in a sloppy keyspace, also
    /// where the level that was asked for counts none.
    pub(super) keeps_hints: bool,
    pub(super) replica: Arc<Replica>,
    pub(super) figures: Arc<Figures>,
    clock: Arc<dyn Clock>,
    began_us: u64,
}

/// What a job's driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for answers.
    Wait,
    /// Send what the trackers named.
    Send,
    /// Mint again, or answer the client.
    Settled,
}

pub(super) struct Inner {
    pub(super) items: Vec<Item>,
    /// Items without an outcome.
    open: usize,
    /// Items whose tracker asked for a second mint.
    remints: Vec<(usize, Context)>,
    /// How often the job was planned anew; answers to earlier plans count for nothing.
    plans: u8,
    /// A replica refused: it knows newer layouts.
    stale: bool,
    /// Sends that trackers asked for.
    pub(super) contacts: Vec<(usize, Vec<NodeId>)>,
    /// Items that were acknowledged only by counting fallbacks.
    pub(super) sloppy: u64,
    /// Whether it was noted how long the first item took to be everywhere.
    spread: bool,
}

pub(super) struct Item {
    pub(super) minted: Minted,
    pub(super) ended: Option<Ended>,
    /// Who holds it durably, this node excepted, primaries only.
    pub(super) holders: Vec<NodeId>,
    /// Whether this node's own copy is durable.
    synced: bool,
}

/// The slot of an answer: the item, and above it the round and the plan that it belongs to.
const ROUND_SHIFT: u32 = 24;
/// Rounds of one plan: two, counted from one.
const ROUNDS: u8 = 4;
/// Plans of one job at most: the layouts that may be live, and more.
const PLANS_MAX: u8 = u8::MAX / ROUNDS;

impl WriteJob {
    /// For each item the fewest and for all together: how many other nodes hold all of the job.
    pub(in crate::coordinator) fn holders_min(&self) -> (usize, bool) {
        let inner = self.inner.lock();
        let mut least = usize::MAX;
        let mut everywhere = true;
        for item in &inner.items {
            least = least.min(item.holders.len());
            let own = usize::from(!item.minted.stands_in);
            everywhere &= item.holders.len() + own >= item.minted.tracker.plan().primaries().len();
        }
        (least, everywhere)
    }

    /// Notes, once, how long the first item took until all its replicas held it durably.
    fn note_spread(&self, inner: &mut Inner) {
        let Some(item) = inner.items.first().filter(|_| !inner.spread) else { return };
        let plan = item.minted.tracker.plan();
        let own = usize::from(item.synced);
        if item.holders.len() + own >= plan.primaries().len() {
            inner.spread = true;
            self.figures.everywhere.add(self.clock.steady_us().saturating_sub(self.began_us));
        }
    }

    /// Returns when anything may have changed.
    pub(in crate::coordinator) async fn changed(&self) {
        self.wake.notified().await;
    }

    fn step(&self, inner: &mut Inner, item: usize, step: WriteStep<NodeId>) {
        let Some(at) = inner.items.get_mut(item) else { return };
        match step {
            WriteStep::Wait => {}
            WriteStep::Contact(nodes) => {
                inner.contacts.push((item, nodes));
                self.wake.notify_one();
            }
            WriteStep::Remint(coverage) => {
                inner.remints.push((item, coverage));
                self.wake.notify_one();
            }
            WriteStep::Done(outcome) => {
                inner.sloppy += u64::from(outcome == WriteOutcome::Acknowledged { sloppy: true });
                at.ended = Some(ended(outcome));
                inner.open -= 1;
                if inner.open == 0 {
                    self.wake.notify_one();
                }
            }
        }
    }
}

pub(super) fn ended(outcome: WriteOutcome<NodeId>) -> Ended {
    match outcome {
        WriteOutcome::Acknowledged { .. } => Ok(()),
        WriteOutcome::NoReplicas { missing } => {
            Err(RequestError::NoReplicas { wanted: 0, down: missing })
        }
        WriteOutcome::Indeterminate { acks, required, missing } => {
            Err(RequestError::Indeterminate {
                reached: acks as u8,
                wanted: required as u8,
                silent: missing,
            })
        }
    }
}

impl Completion for WriteJob {
    fn complete(&self, slot: u32, from: NodeId, result: Result<PeerOut, PeerFailure>) {
        let item = (slot & ((1 << ROUND_SHIFT) - 1)) as usize;
        let (plan, round) =
            ((slot >> ROUND_SHIFT) as u8 / ROUNDS, (slot >> ROUND_SHIFT) as u8 % ROUNDS);
        let mut inner = self.inner.lock();
        if plan != inner.plans {
            return;
        }
        inner.stale |= matches!(&result, Err(failure) if failure.is_stale());
        let Some(at) = inner.items.get_mut(item) else { return };
        let step = match result {
            Ok(PeerOut::Applied { complete, uncovered, coverage }) => {
                let tracker = &mut at.minted.tracker;
                if round == tracker.round()
                    && !at.holders.contains(&from)
                    && tracker.hint_for(from).is_none()
                {
                    at.holders.push(from);
                }
                tracker.on_reply(from, reply(round, complete, &uncovered, &coverage))
            }
            // A failure of an earlier round says nothing about this one.
            _ if round != at.minted.tracker.round() => WriteStep::Wait,
            Err(failure) if at.ended.is_some() => {
                self.fail_late(at, from, &failure);
                WriteStep::Wait
            }
            Err(failure) if failure.means_down() => at.minted.tracker.on_failure(from),
            _ => at.minted.tracker.on_refusal(from),
        };
        let late = at.ended.is_some();
        self.step(&mut inner, item, step);
        if item == 0 {
            self.note_spread(&mut inner);
        }
        if late {
            self.wake.notify_one();
        }
    }

    fn stalled(&self, slot: u32, from: NodeId) {
        self.complete(slot, from, Err(PeerFailure::Silent));
    }
}

fn reply(round: u8, complete: bool, uncovered: &[(u64, u64, u64)], coverage: &[u8]) -> WriteReply {
    let uncovered = uncovered
        .iter()
        .map(|(node, tenure, time)| Dot {
            actor: Actor::new(*node, *tenure),
            time: HybridTime::from_bits(*time),
        })
        .collect();
    let coverage = if coverage.is_empty() { None } else { Context::from_bytes(coverage).ok() };
    WriteReply { round, complete, uncovered, coverage }
}

impl WriteJob {
    /// A job of minted writes whose trackers have begun.
    pub(in crate::coordinator) fn new(
        minted: Vec<Minted>,
        scope: &Scope,
        parts: &Parts,
    ) -> Arc<Self> {
        let open = minted.len();
        let bytes = minted.iter().map(|minted| minted.key.len() + minted.record.len()).sum();
        let mut contacts = Vec::with_capacity(open);
        let mut items = Vec::with_capacity(open);
        for (at, mut minted) in minted.into_iter().enumerate() {
            contacts.push((at, std::mem::take(&mut minted.to)));
            items.push(Item { minted, ended: None, holders: Vec::new(), synced: false });
        }
        Arc::new(Self {
            inner: Mutex::new(Inner {
                items,
                open,
                remints: Vec::new(),
                plans: 0,
                stale: false,
                contacts,
                sloppy: 0,
                spread: false,
            }),
            wake: Notify::new(),
            bytes,
            keeps_hints: scope.keyspace.sloppy,
            replica: Arc::clone(&parts.replica),
            figures: Arc::clone(&parts.figures),
            clock: Arc::clone(&parts.clock),
            began_us: parts.clock.steady_us(),
        })
    }

    /// What keeping the job costs.
    pub(in crate::coordinator) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The dot of an item as it was minted last.
    pub(in crate::coordinator) fn dot(&self, item: usize) -> Option<Dot> {
        let inner = self.inner.lock();
        dot_of(&inner.items.get(item)?.minted.record)
    }

    /// Whether a replica refused because it knows newer layouts, and something is not acknowledged
    /// for it.
    pub(super) fn is_stale(&self) -> bool {
        let inner = self.inner.lock();
        inner.stale && inner.items.iter().any(|item| matches!(item.ended, Some(Err(_))))
    }

    /// Begins every item again with the tracker that `again` makes of its own: what is minted has
    /// to be on W of each of the layouts that are live now. Says whether that may be done.
    pub(super) fn plan_again(
        &self,
        mut again: impl FnMut(&mut Minted) -> Result<Began, RequestError>,
    ) -> bool {
        let mut inner = self.inner.lock();
        if inner.plans >= PLANS_MAX {
            return false;
        }
        inner.plans += 1;
        inner.stale = false;
        inner.remints.clear();
        let mut contacts = Vec::with_capacity(inner.items.len());
        let mut open = 0;
        for (at, item) in inner.items.iter_mut().enumerate() {
            item.holders.clear();
            item.ended = match again(&mut item.minted) {
                Ok((tracker, to)) => {
                    item.minted.tracker = tracker;
                    contacts.push((at, to));
                    open += 1;
                    None
                }
                Err(error) => Some(Err(error)),
            };
        }
        inner.contacts = contacts;
        inner.open = open;
        true
    }

    /// The slot of an item's answers, by its round and plan.
    pub(super) fn slot(inner: &Inner, at: usize, round: u8) -> u32 {
        at as u32 | u32::from(inner.plans * ROUNDS + round) << ROUND_SHIFT
    }

    pub(super) fn next(&self) -> Next {
        let inner = self.inner.lock();
        if inner.open == 0 {
            Next::Settled
        } else if !inner.contacts.is_empty() {
            Next::Send
        } else if !inner.remints.is_empty() {
            Next::Settled
        } else {
            Next::Wait
        }
    }

    /// The local copies of a round are durable, or will never be known to be.
    pub(super) fn synced(
        &self,
        me: NodeId,
        standings: &Standings,
        only: Option<&[usize]>,
        durable: bool,
    ) {
        let mut inner = self.inner.lock();
        for at in 0..inner.items.len() {
            if only.is_some_and(|only| !only.contains(&at)) {
                continue;
            }
            let Some(item) = inner.items.get_mut(at) else { continue };
            let complete = standings.is_complete(item.minted.partition);
            item.synced = durable && !item.minted.stands_in;
            let tracker = &mut item.minted.tracker;
            let step = if durable {
                let plain = WriteReply::plain(tracker.round());
                tracker.on_reply(me, WriteReply { complete, ..plain })
            } else {
                tracker.on_refusal(me)
            };
            self.step(&mut inner, at, step);
        }
        self.note_spread(&mut inner);
    }

    pub(super) fn expire(&self) {
        let mut inner = self.inner.lock();
        for at in 0..inner.items.len() {
            let Some(item) = inner.items.get_mut(at) else { continue };
            if item.ended.is_none() {
                let step = item.minted.tracker.on_deadline();
                self.step(&mut inner, at, step);
            }
        }
        inner.remints.clear();
    }

    pub(super) fn take_remints(&self) -> Vec<(usize, Context)> {
        std::mem::take(&mut self.inner.lock().remints)
    }

    pub(super) fn draft(&self, item: usize) -> (Bytes, Partition, Option<Draft<Bytes>>) {
        let inner = self.inner.lock();
        inner.items.get(item).map_or_else(
            || (Bytes::new(), Partition::ALL, None),
            |item| {
                (item.minted.key.clone(), item.minted.partition, draft_again(&item.minted.record))
            },
        )
    }

    /// The second mints are in the log; one without a record could not be made.
    pub(super) fn reminted(&self, items: &[usize], records: Vec<Option<Bytes>>) {
        let mut inner = self.inner.lock();
        for (at, record) in items.iter().zip(records) {
            let Some(item) = inner.items.get_mut(*at) else { continue };
            let step = match record {
                Some(record) => {
                    item.minted.record = record;
                    item.holders.clear();
                    item.synced = false;
                    item.minted.tracker.reminted()
                }
                None => item.minted.tracker.on_deadline(),
            };
            self.step(&mut inner, *at, step);
        }
    }

    pub(super) fn ends(&self) -> Vec<Ended> {
        let inner = self.inner.lock();
        inner.items.iter().map(|item| item.ended.clone().unwrap_or_else(lost)).collect()
    }

    /// Who holds an item, this node excepted.
    pub(in crate::coordinator) fn holders(&self, item: usize) -> Vec<NodeId> {
        self.inner.lock().items.get(item).map_or_else(Vec::new, |item| item.holders.clone())
    }
}

/// The dot that a blind mint gave a record: it is above all that its minter knew.
pub(in crate::coordinator) fn dot_of(record: &[u8]) -> Option<Dot> {
    Some(kv_quorum::peek(record).ok()??.dot)
}

/// An item without an outcome: it was minted, and nothing more is known.
pub(super) fn lost() -> Ended {
    Err(RequestError::Indeterminate { reached: 0, wanted: 0, silent: Vec::new() })
}

/// What a minted record's own value was drafted as: for minting it once more.
fn draft_again(record: &Bytes) -> Option<Draft<Bytes>> {
    let peek = kv_quorum::peek(record).ok()??;
    let draft = if peek.kind == Kind::Tombstone {
        Draft::tombstone()
    } else {
        Draft::of_kind(peek.kind, record.slice(peek.value))
    };
    Some(draft.expiring(peek.expiry).by_operation(peek.operation))
}
