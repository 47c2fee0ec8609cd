//! Driving reads: ask R at once, join, repair what differs before answering, mend the tail after.
//!
//! The local replica is read first, in memory; its fingerprint goes along with the remote reads, so
//! that a replica which holds the same answers in a byte. A batch of reads is one `ReadJob`.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Context, Mark, ReadBody, ReadOutcome, ReadReply, ReadStep, ReadTracker, Record};
use kv_ring::Partition;
use parking_lot::Mutex;
use tokio::sync::Notify;
use twox_hash::XxHash3_128;

use super::plans::{PlanTable, Purpose};
use super::write::storage_error;
use super::{Coordinator, Levels, Scope, resolve};
use crate::error::RequestError;
use crate::keys::{KeyRef, PREFIX_BYTES};
use crate::plug::storage::Ticket;
use crate::replica::Replica;
use crate::rpc::{Completion, PeerFailure, Pending};
use crate::wire::{PeerOp, PeerOut};

/// One value of KV.GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiblingValue {
    /// The bytes, or `None` for a delete or what has expired.
    pub value: Option<Bytes>,
    /// (time, node, tenure) of its dot.
    pub dot: (u64, u64, u64),
}

type Tracker = ReadTracker<NodeId, Bytes>;
type Outcome = Result<Option<Bytes>, RequestError>;

/// A batch of reads in flight.
pub(super) struct ReadJob {
    inner: Mutex<Inner>,
    wake: Notify,
}

struct Inner {
    items: Vec<Item>,
    open: usize,
    /// Calls that trackers asked for and that are still to be sent.
    todo: Vec<Todo>,
}

struct Item {
    key: Bytes,
    tracker: Tracker,
    outcome: Option<Outcome>,
}

enum Todo {
    Ask { item: usize, nodes: Vec<NodeId> },
    Repair { item: usize, nodes: Vec<NodeId>, record: Bytes, round: u32 },
}

/// Set in the slot of a repair's answer.
const REPAIR: u32 = 1 << 31;
/// Where the round of a repair lies in its slot; below it the item.
const ROUND_SHIFT: u32 = 20;
const ITEM_MASK: u32 = (1 << ROUND_SHIFT) - 1;

impl ReadJob {
    fn new(items: Vec<(Bytes, Tracker)>) -> Arc<Self> {
        let open = items.len();
        let items = items
            .into_iter()
            .map(|(key, tracker)| Item { key, tracker, outcome: None })
            .collect();
        Arc::new(Self {
            inner: Mutex::new(Inner { items, open, todo: Vec::new() }),
            wake: Notify::new(),
        })
    }

    /// Steps an item's tracker, and wakes the driver if there is something to do.
    fn step(&self, item: usize, step: impl FnOnce(&mut Tracker) -> ReadStep<NodeId, Bytes>) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.items.get_mut(item) else { return };
        match step(&mut at.tracker) {
            ReadStep::Wait => return,
            ReadStep::Contact(nodes) => inner.todo.push(Todo::Ask { item, nodes }),
            ReadStep::Repair { nodes, record, round } => {
                inner.todo.push(Todo::Repair { item, nodes, record, round });
            }
            ReadStep::Done(outcome) => {
                at.outcome = Some(outcome_of(outcome));
                inner.open -= 1;
                if inner.open > 0 {
                    return;
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    fn take_todo(&self) -> Vec<Todo> {
        std::mem::take(&mut self.inner.lock().todo)
    }

    fn is_over(&self) -> bool {
        let inner = self.inner.lock();
        inner.open == 0 && inner.todo.is_empty()
    }

    fn each_open(&self, mut step: impl FnMut(&mut Tracker) -> ReadStep<NodeId, Bytes>) {
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

fn outcome_of(outcome: ReadOutcome<NodeId, Bytes>) -> Outcome {
    match outcome {
        ReadOutcome::Value { record, .. } => Ok(record),
        ReadOutcome::Unavailable { replies, required, missing } => {
            Err(RequestError::Unavailable {
                reached: replies as u8,
                wanted: required as u8,
                silent: missing,
            })
        }
    }
}

impl Completion for ReadJob {
    fn complete(&self, slot: u32, from: NodeId, result: Result<PeerOut, PeerFailure>) {
        let item = (slot & ITEM_MASK) as usize;
        if slot & REPAIR != 0 {
            let round = (slot & !REPAIR) >> ROUND_SHIFT;
            self.step(item, |tracker| match result {
                Ok(PeerOut::Applied { .. }) => tracker.on_repaired(from, round),
                _ => tracker.on_failure(from),
            });
            return;
        }
        let reply = |complete, body| ReadReply { complete, mark: Mark::NONE, body };
        self.step(item, |tracker| match result {
            Ok(PeerOut::Same { complete }) => {
                tracker.on_reply(from, reply(complete, ReadBody::Same))
            }
            Ok(PeerOut::Record { complete, record }) if record.is_empty() => {
                tracker.on_reply(from, reply(complete, ReadBody::Absent))
            }
            Ok(PeerOut::Record { complete, record }) => {
                tracker.on_reply(from, reply(complete, ReadBody::Record(record)))
            }
            _ => tracker.on_failure(from),
        });
    }
}

impl Coordinator {
    /// GETs, as one batch: `show` is called once for each key, in order, with what it shows.
    pub(crate) async fn get_batch(
        &self,
        keys: &[KeyRef<'_>],
        levels: Levels,
        show: &mut (dyn FnMut(usize, Result<Option<&[u8]>, RequestError>) + Send),
    ) {
        self.parts.figures.coordinator_gets.add(keys.len() as u64);
        let now_ms = self.now_ms();
        let figures = &self.parts.figures;
        self.read_batch(keys, levels, &mut |place, record| {
            let shown = record.and_then(|record| {
                let Some(record) = record else { return Ok(None) };
                let peek = kv_quorum::peek(record).map_err(damaged)?;
                let Some(peek) = peek else { return Ok(None) };
                if peek.live > 1 {
                    figures.sibling_gets.one();
                }
                Ok(peek.shown(now_ms).and_then(|range| record.get(range)))
            });
            show(place, shown);
        })
        .await;
    }

    /// The joined record of each key, from R replicas; `show` as in `get_batch`.
    pub(super) async fn read_batch(
        &self,
        keys: &[KeyRef<'_>],
        levels: Levels,
        show: &mut (dyn FnMut(usize, Result<Option<&[u8]>, RequestError>) + Send),
    ) {
        let mut arena = Vec::with_capacity(keys.len() * (PREFIX_BYTES + 32));
        let mut ends = Vec::with_capacity(keys.len());
        for key in keys {
            key.write_to(&mut arena);
            ends.push(arena.len());
        }
        let mut slices: Vec<&[u8]> = Vec::with_capacity(keys.len());
        let mut start = 0;
        for end in ends {
            slices.push(arena.get(start..end).unwrap_or_default());
            start = end;
        }
        let resolved = self.scope().and_then(|scope| {
            let wanted = resolve(levels.read, scope.keyspace.read, scope.keyspace.n)?;
            Ok((scope, wanted))
        });
        match resolved {
            Err(error) => (0..keys.len()).for_each(|place| show(place, Err(error.clone()))),
            Ok((scope, _)) if self.is_alone(&scope) => {
                self.read_alone(&slices, show).await;
            }
            Ok((scope, wanted)) => {
                let outcomes = self.read_replicas(&scope, keys, &slices, wanted).await;
                for (place, outcome) in outcomes.into_iter().enumerate() {
                    match outcome {
                        Ok(record) => show(place, Ok(record.as_deref())),
                        Err(error) => show(place, Err(error)),
                    }
                }
            }
        }
    }

    /// Reads where this node is the whole cluster: shown straight from memory, in order, as long
    /// as nothing waits for a disk.
    async fn read_alone(
        &self,
        keys: &[&[u8]],
        show: &mut (dyn FnMut(usize, Result<Option<&[u8]>, RequestError>) + Send),
    ) {
        let replica = &self.parts.replica;
        self.parts.figures.replica_reads.add(keys.len() as u64);
        // Most batches are wholly in memory and durable; then nothing is copied.
        let mut copies: Vec<Option<Bytes>> = Vec::new();
        let engine_keeps_nothing_back = replica.is_always_durable();
        if engine_keeps_nothing_back {
            let seen = replica.read_resident(keys, &mut |place, record| show(place, Ok(record)));
            if let Err(error) = seen {
                let error = storage_error(error);
                (0..keys.len()).for_each(|place| show(place, Err(error.clone())));
            }
            return;
        }
        copies.resize(keys.len(), None);
        let read = replica
            .read(keys, &mut |place, record| {
                if let Some(copy) = copies.get_mut(place) {
                    *copy = record.map(Bytes::copy_from_slice);
                }
            })
            .await;
        let read = match read {
            Ok(ticket) => self.show_when_durable(ticket).await,
            Err(error) => Err(storage_error(error)),
        };
        for (place, copy) in copies.iter().enumerate() {
            match &read {
                Ok(()) => show(place, Ok(copy.as_deref())),
                Err(error) => show(place, Err(error.clone())),
            }
        }
    }

    async fn show_when_durable(&self, ticket: Ticket) -> Result<(), RequestError> {
        if ticket.is_durable() {
            return Ok(());
        }
        self.parts.figures.reads_awaiting_sync.one();
        self.parts.replica.durable(ticket).await.map_err(storage_error)
    }

    /// Reads R replicas of each key, this node's copy first.
    pub(super) async fn read_replicas(
        &self,
        scope: &Scope,
        keys: &[KeyRef<'_>],
        slices: &[&[u8]],
        wanted: u8,
    ) -> Vec<Outcome> {
        let table = self.plans.table(
            scope.view.me,
            Purpose::Read,
            wanted,
            false,
            &scope.layouts,
        );
        let mut refused: Vec<Option<RequestError>> = vec![None; keys.len()];
        let mut items = Vec::with_capacity(keys.len());
        let mut places = Vec::with_capacity(keys.len());
        for (place, (key, slice)) in keys.iter().zip(slices).enumerate() {
            match Self::begin_read(scope, &table, scope.partition(*key)) {
                Ok(begun) => {
                    places.push(place);
                    items.push((Bytes::copy_from_slice(slice), begun));
                }
                Err(error) => {
                    if let Some(slot) = refused.get_mut(place) {
                        *slot = Some(error);
                    }
                }
            }
        }
        let (trackers, first): (Vec<_>, Vec<_>) = items
            .into_iter()
            .map(|(key, (tracker, nodes))| ((key, tracker), nodes))
            .unzip();
        let job = ReadJob::new(trackers);
        self.drive_reads(scope, &job, first).await;
        self.mend_tail(scope, &job);
        self.collect_reads(&job, &places, refused)
    }

    fn begin_read(
        scope: &Scope,
        table: &PlanTable,
        partition: Partition,
    ) -> Result<(Tracker, Vec<NodeId>), RequestError> {
        let mut tracker = Tracker::new(table.of(partition)?);
        for node in &scope.down {
            if let ReadStep::Done(outcome) = tracker.on_failure(*node) {
                return Err(outcome_of(outcome).err().unwrap_or(RequestError::Stopping));
            }
        }
        match tracker.begin() {
            ReadStep::Contact(nodes) => Ok((tracker, nodes)),
            ReadStep::Done(outcome) => {
                Err(outcome_of(outcome).err().unwrap_or(RequestError::Stopping))
            }
            _ => Ok((tracker, Vec::new())),
        }
    }

    async fn drive_reads(&self, scope: &Scope, job: &Arc<ReadJob>, first: Vec<Vec<NodeId>>) {
        let wait = self.ask_first(scope, job, first).await;
        let hedge_at = self.parts.clock.steady_ms() + self.parts.timing.hedge_ms;
        let deadline = self.sleep_until(scope.deadline_ms);
        let hedge = self.sleep_until(hedge_at.min(scope.deadline_ms));
        tokio::pin!(deadline, hedge);
        let mut hedged = false;
        while !job.is_over() {
            let todo = job.take_todo();
            if !todo.is_empty() {
                self.act(scope, job, todo).await;
                continue;
            }
            tokio::select! {
                biased;
                () = job.wake.notified() => {}
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    self.hedge(job);
                }
                () = &mut deadline => job.each_open(Tracker::on_deadline),
            }
        }
        if let Err(error) = self.show_when_durable(wait).await {
            let mut inner = job.inner.lock();
            for item in &mut inner.items {
                item.outcome = Some(Err(error.clone()));
            }
        }
    }

    fn hedge(&self, job: &Arc<ReadJob>) {
        let figures = &self.parts.figures;
        job.each_open(|tracker| match tracker.hedge() {
            Some(node) => {
                figures.hedged_reads.one();
                ReadStep::Contact(vec![node])
            }
            None => ReadStep::Wait,
        });
    }

    /// Reads this node's copies, then asks the others with their fingerprints. Answers what the
    /// local copies wait for.
    async fn ask_first(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        first: Vec<Vec<NodeId>>,
    ) -> Ticket {
        let me = scope.view.me;
        let own: Vec<usize> = first
            .iter()
            .enumerate()
            .filter(|(_, nodes)| nodes.contains(&me))
            .map(|(item, _)| item)
            .collect();
        let mut have: Vec<Option<u128>> = vec![None; first.len()];
        let wait = self.read_own(scope, job, &own, &mut have).await;
        let asks: Vec<(usize, Vec<NodeId>)> = first
            .into_iter()
            .enumerate()
            .map(|(item, nodes)| (item, nodes.into_iter().filter(|node| *node != me).collect()))
            .collect();
        self.ask(scope, job, &asks, &have);
        wait
    }

    /// Gives the trackers of `own` this node's copies, and notes their fingerprints.
    async fn read_own(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        own: &[usize],
        have: &mut [Option<u128>],
    ) -> Ticket {
        if own.is_empty() {
            return Ticket::DURABLE;
        }
        let keys: Vec<Bytes> = {
            let inner = job.inner.lock();
            own.iter()
                .filter_map(|item| inner.items.get(*item))
                .map(|item| item.key.clone())
                .collect()
        };
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let mut bodies: Vec<ReadBody<Bytes>> = vec![ReadBody::Absent; own.len()];
        let read = self
            .parts
            .replica
            .read(&slices, &mut |place, record| {
                if let (Some(body), Some(record)) = (bodies.get_mut(place), record) {
                    *body = ReadBody::Record(Bytes::copy_from_slice(record));
                }
            })
            .await;
        self.parts.figures.replica_reads.add(own.len() as u64);
        let complete = self.parts.replica.is_complete();
        for (item, body) in own.iter().zip(bodies) {
            if read.is_err() {
                job.step(*item, |tracker| tracker.on_failure(scope.view.me));
                continue;
            }
            if let Some(slot) = have.get_mut(*item) {
                let record = match &body {
                    ReadBody::Record(record) => Some(&record[..]),
                    _ => None,
                };
                *slot = fingerprint(scope.record.digest_key, record);
            }
            job.step(*item, |tracker| {
                // What peers answer with "the same" is this copy, whose fingerprint they get.
                tracker.offer(match &body {
                    ReadBody::Record(record) => Some(record.clone()),
                    _ => None,
                });
                tracker.on_reply(scope.view.me, ReadReply { complete, mark: Mark::NONE, body })
            });
        }
        read.unwrap_or(Ticket::DURABLE)
    }

    fn ask(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        asks: &[(usize, Vec<NodeId>)],
        have: &[Option<u128>],
    ) {
        let mut by_node: Vec<(NodeId, Vec<Pending>)> = Vec::with_capacity(4);
        {
            let inner = job.inner.lock();
            for (item, nodes) in asks {
                let Some(at) = inner.items.get(*item) else { continue };
                for node in nodes {
                    let pending = Pending {
                        op: PeerOp::Read {
                            key: at.key.clone(),
                            have: have.get(*item).copied().flatten(),
                        },
                        slot: *item as u32,
                        to: Arc::<ReadJob>::clone(job),
                        deadline_ms: scope.deadline_ms,
                    };
                    push(&mut by_node, *node, pending);
                }
            }
        }
        for (node, ops) in by_node {
            self.parts.peers.submit(node, ops);
        }
    }

    /// Does what trackers asked for.
    async fn act(&self, scope: &Scope, job: &Arc<ReadJob>, todo: Vec<Todo>) {
        let me = scope.view.me;
        for todo in todo {
            match todo {
                Todo::Ask { item, mut nodes } => {
                    if nodes.contains(&me) {
                        nodes.retain(|node| *node != me);
                        let mut have = vec![None; item + 1];
                        self.read_own(scope, job, &[item], &mut have).await;
                    }
                    self.ask(scope, job, &[(item, nodes)], &[]);
                }
                Todo::Repair { item, nodes, record, round } => {
                    self.parts.figures.read_conflicts.one();
                    self.repair(scope, job, (item, round), nodes, &record).await;
                }
            }
        }
    }

    /// Writes a joined record to replicas that lack some of it, and tells the tracker.
    async fn repair(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        (item, round): (usize, u32),
        nodes: Vec<NodeId>,
        record: &Bytes,
    ) {
        self.parts.figures.read_repairs.add(nodes.len() as u64);
        let key = {
            let inner = job.inner.lock();
            inner.items.get(item).map(|item| item.key.clone()).unwrap_or_default()
        };
        let me = scope.view.me;
        for node in nodes.iter().filter(|node| **node != me) {
            let pending = Pending {
                op: PeerOp::Apply { key: key.clone(), record: record.clone() },
                slot: item as u32 | round << ROUND_SHIFT | REPAIR,
                to: Arc::<ReadJob>::clone(job),
                deadline_ms: scope.deadline_ms,
            };
            self.parts.peers.submit(*node, vec![pending]);
        }
        if nodes.contains(&me) {
            let joined = self.join_here(&key, record).await;
            job.step(item, |tracker| match joined {
                Ok(()) => tracker.on_repaired(me, round),
                Err(_) => tracker.on_failure(me),
            });
        }
    }

    /// Joins a record into this node's copy, durably.
    async fn join_here(&self, key: &Bytes, record: &Bytes) -> Result<(), RequestError> {
        let update = self
            .parts
            .replica
            .update(&[key], &mut |_, stored, out| Replica::join(stored, record, out).0)
            .await
            .map_err(storage_error)?;
        self.parts.figures.replica_applies.one();
        self.parts.replica.durable(update.ticket).await.map_err(storage_error)
    }

    /// After the answer: replicas that answered too and lack some of it get it.
    fn mend_tail(&self, scope: &Scope, job: &Arc<ReadJob>) {
        let mut by_node: Vec<(NodeId, Vec<Pending>)> = Vec::new();
        let mut own = Vec::new();
        {
            let inner = job.inner.lock();
            for item in &inner.items {
                for (node, record) in item.tracker.final_action() {
                    if node == scope.view.me {
                        own.push((item.key.clone(), record));
                        continue;
                    }
                    let pending = Pending {
                        op: PeerOp::Apply { key: item.key.clone(), record },
                        slot: 0,
                        to: Arc::new(Nobody),
                        deadline_ms: scope.deadline_ms,
                    };
                    push(&mut by_node, node, pending);
                }
            }
        }
        for (node, ops) in by_node {
            self.parts.figures.read_repairs.add(ops.len() as u64);
            self.parts.peers.submit(node, ops);
        }
        if !own.is_empty() {
            let replica = Arc::clone(&self.parts.replica);
            self.parts.exec.spawn(Box::pin(async move {
                for (key, record) in own {
                    let joined = replica
                        .update(&[&key], &mut |_, stored, out| {
                            Replica::join(stored, &record, out).0
                        })
                        .await;
                    if let Err(error) = joined {
                        tracing::warn!(%error, "a tail repair of this node's copy failed");
                    }
                }
            }));
        }
    }

    fn collect_reads(
        &self,
        job: &ReadJob,
        places: &[usize],
        refused: Vec<Option<RequestError>>,
    ) -> Vec<Outcome> {
        let mut inner = job.inner.lock();
        let mut outcomes: Vec<Outcome> =
            refused.into_iter().map(|error| error.map_or(Ok(None), Err)).collect();
        for (place, item) in places.iter().zip(&mut inner.items) {
            if let Some(slot) = outcomes.get_mut(*place) {
                let lost = || Err(RequestError::Storage("the read was lost track of".into()));
                *slot = item.outcome.take().unwrap_or_else(lost);
            }
        }
        let failed = |outcome: &&Outcome| matches!(outcome, Err(RequestError::Unavailable { .. }));
        self.parts.figures.unavailable.add(outcomes.iter().filter(failed).count() as u64);
        outcomes
    }

    /// KV.GET: every value, and the sealed context that covers them.
    ///
    /// # Errors
    /// As a read.
    pub(crate) async fn get_siblings(
        &self,
        key: KeyRef<'_>,
        levels: Levels,
    ) -> Result<(Option<Bytes>, Vec<SiblingValue>), RequestError> {
        let scope = self.scope()?;
        let record = self.read_one(key, levels).await?;
        let now_ms = self.now_ms();
        if record.live().is_empty() && record.coverage().is_empty() {
            return Ok((None, Vec::new()));
        }
        let values = record
            .siblings(now_ms)
            .into_iter()
            .map(|sibling| SiblingValue {
                value: sibling.value.cloned(),
                dot: (
                    sibling.dot.time.to_bits(),
                    sibling.dot.actor.node,
                    sibling.dot.actor.tenure,
                ),
            })
            .collect();
        let sealed = self.seal(&scope, key, record.context());
        Ok((Some(sealed), values))
    }

    pub(super) fn seal(&self, scope: &Scope, key: KeyRef<'_>, context: &Context) -> Bytes {
        super::seal::seal(&scope.record.context_key, &key.to_storage(), context)
    }

    /// One key's joined record, decoded.
    ///
    /// # Errors
    /// As a read.
    pub(super) async fn read_one(
        &self,
        key: KeyRef<'_>,
        levels: Levels,
    ) -> Result<Record<Bytes>, RequestError> {
        let mut found = Ok(Record::new());
        self.read_batch(&[key], levels, &mut |_, record| {
            found = record.and_then(super::write::decode);
        })
        .await;
        found
    }
}

/// A fingerprint of live dots and registers, under the cluster's key; `None` where the record
/// can't be read, which equals nothing.
pub(crate) fn fingerprint(digest_key: u64, record: Option<&[u8]>) -> Option<u128> {
    let mut canonical = Vec::with_capacity(64);
    if let Some(record) = record {
        kv_quorum::fingerprint_of(record, |bytes| canonical.extend_from_slice(bytes)).ok()?;
    }
    Some(XxHash3_128::oneshot_with_seed(digest_key, &canonical))
}

fn push(by_node: &mut Vec<(NodeId, Vec<Pending>)>, node: NodeId, pending: Pending) {
    match by_node.iter_mut().find(|(other, _)| *other == node) {
        Some((_, ops)) => ops.push(pending),
        None => by_node.push((node, vec![pending])),
    }
}

fn damaged(error: kv_quorum::Error) -> RequestError {
    RequestError::Storage(format!("a stored record: {error}"))
}

/// Takes answers that nobody waits for.
pub(super) struct Nobody;

impl Completion for Nobody {
    fn complete(&self, _slot: u32, _from: NodeId, _result: Result<PeerOut, PeerFailure>) {}
}

