//! A batch of reads in flight: their trackers, what they want done next, one wake-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Mark, ReadBody, ReadOutcome, ReadReply, ReadStep};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Outcome, Tracker};
use crate::error::RequestError;
use crate::rpc::{Completion, PeerFailure, PeerResult};
use crate::wire::PeerOut;

/// A batch of reads in flight.
pub(super) struct ReadJob {
    pub(super) inner: Mutex<Inner>,
    pub(super) wake: Notify,
    /// A replica refused: it knows newer layouts.
    pub(super) stale: AtomicBool,
}

pub(super) struct Inner {
    pub(super) items: Vec<Item>,
    open: usize,
    /// Calls that trackers asked for and that are still to be sent.
    todo: Vec<Todo>,
    /// Items that were answered only by counting fallbacks.
    pub(super) sloppy: u64,
}

pub(super) struct Item {
    pub(super) key: Bytes,
    pub(super) tracker: Tracker,
    pub(super) outcome: Option<Outcome>,
}

pub(super) enum Todo {
    Ask { item: usize, nodes: Vec<NodeId> },
    Repair { item: usize, nodes: Vec<NodeId>, record: Bytes, round: u32 },
}

/// Set in the slot of a repair's answer.
pub(super) const REPAIR: u32 = 1 << 31;
/// Where the round of a repair lies in its slot; below it the item.
pub(super) const ROUND_SHIFT: u32 = 20;
const ITEM_MASK: u32 = (1 << ROUND_SHIFT) - 1;

impl ReadJob {
    pub(super) fn new(items: Vec<(Bytes, Tracker)>) -> Arc<Self> {
        let open = items.len();
        let items =
            items.into_iter().map(|(key, tracker)| Item { key, tracker, outcome: None }).collect();
        Arc::new(Self {
            inner: Mutex::new(Inner { items, open, todo: Vec::new(), sloppy: 0 }),
            wake: Notify::new(),
            stale: AtomicBool::new(false),
        })
    }

    /// Steps an item's tracker, and wakes the driver if there is something to do.
    pub(super) fn step(
        &self,
        item: usize,
        step: impl FnOnce(&mut Tracker) -> ReadStep<NodeId, Bytes>,
    ) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.items.get_mut(item) else { return };
        match step(&mut at.tracker) {
            ReadStep::Wait => return,
            ReadStep::Contact(nodes) => inner.todo.push(Todo::Ask { item, nodes }),
            ReadStep::Repair { nodes, record, round } => {
                inner.todo.push(Todo::Repair { item, nodes, record, round });
            }
            ReadStep::Done(outcome) => {
                let sloppy = matches!(outcome, ReadOutcome::Value { sloppy: true, .. });
                at.outcome = Some(outcome_of(outcome));
                inner.sloppy += u64::from(sloppy);
                inner.open -= 1;
                if inner.open > 0 {
                    return;
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Whether this node answers one of these items in a primary's place.
    pub(super) fn stands_in(&self, items: &[usize], me: NodeId) -> bool {
        let inner = self.inner.lock();
        let mut asked = items.iter().filter_map(|item| inner.items.get(*item));
        asked.any(|item| item.tracker.hint_for(me).is_some())
    }

    pub(super) fn take_todo(&self) -> Vec<Todo> {
        std::mem::take(&mut self.inner.lock().todo)
    }

    pub(super) fn is_over(&self) -> bool {
        let inner = self.inner.lock();
        inner.open == 0 && inner.todo.is_empty()
    }

    pub(super) fn each_open(&self, mut step: impl FnMut(&mut Tracker) -> ReadStep<NodeId, Bytes>) {
        let count = self.inner.lock().items.len();
        for item in 0..count {
            let open = {
                let inner = self.inner.lock();
                inner.items.get(item).is_some_and(|at| at.outcome.is_none())
            };
            if open {
                self.step(item, &mut step);
            }
        }
    }
}

pub(super) fn outcome_of(outcome: ReadOutcome<NodeId, Bytes>) -> Outcome {
    match outcome {
        ReadOutcome::Value { record, .. } => Ok(record),
        ReadOutcome::Unavailable { replies, required, missing } => Err(RequestError::Unavailable {
            reached: replies as u8,
            wanted: required as u8,
            silent: missing,
        }),
    }
}

impl Completion for ReadJob {
    fn complete(&self, slot: u32, from: NodeId, result: Result<PeerOut, PeerFailure>) {
        let item = (slot & ITEM_MASK) as usize;
        if matches!(&result, Err(failure) if failure.is_stale()) {
            self.stale.store(true, Ordering::Release);
        }
        if slot & REPAIR != 0 {
            let round = (slot & !REPAIR) >> ROUND_SHIFT;
            self.step(item, |tracker| match result {
                Ok(PeerOut::Applied { .. }) => tracker.on_repaired(from, round),
                result => failed(tracker, from, &result),
            });
            return;
        }
        self.step(item, |tracker| match result {
            Ok(PeerOut::Same { complete }) => tracker
                .on_reply(from, ReadReply { complete, mark: Mark::NONE, body: ReadBody::Same }),
            Ok(PeerOut::Record { complete, mark, record }) => {
                let body =
                    if record.is_empty() { ReadBody::Absent } else { ReadBody::Record(record) };
                let mark = Mark::at(HybridTime::from_bits(mark));
                tracker.on_reply(from, ReadReply { complete, mark, body })
            }
            result => failed(tracker, from, &result),
        });
    }

    fn stalled(&self, slot: u32, from: NodeId) {
        self.complete(slot, from, Err(PeerFailure::Silent));
    }
}

/// No answer, or none of use: somebody stands in for a node that is down, not for one that is up.
fn failed(tracker: &mut Tracker, from: NodeId, result: &PeerResult) -> ReadStep<NodeId, Bytes> {
    match result {
        Err(failure) if failure.means_down() => tracker.on_failure(from),
        _ => tracker.on_refusal(from),
    }
}

/// Takes answers that nobody waits for.
pub(super) struct Nobody;

impl Completion for Nobody {
    fn complete(&self, _slot: u32, _from: NodeId, _result: Result<PeerOut, PeerFailure>) {}
}
