//! Driving writes: mint here, send, count, mint once more where the tracker says so.
//!
//! A batch of writes is one `WriteJob`: trackers for its items behind one lock, one wake-up for the
//! connection that waits. Answers that come after the client has its own still go to the trackers,
//! for WAIT. The local copy counts when its own sync returns, like every other.
//!
//! A minted write goes on when the client goes away: the job owns everything it needs, and peers
//! that were sent a record keep it.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{
    Actor, Context, Dot, Draft, Expiry, HybridTime, Kind, WriteOutcome, WriteReply, WriteStep,
    WriteTracker,
};
use kv_ring::Partition;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::plans::Purpose;
use super::{Coordinator, Levels, Scope, resolve};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::ExpiryRule;
use crate::plug::storage::{StorageError, Ticket};
use crate::replica::Verdict;
use crate::rpc::{Completion, PeerFailure, Pending};
use crate::wire::{PeerOp, PeerOut};

/// One SET of a batch.
#[derive(Clone, Copy, Debug)]
pub struct SetItem<'a> {
    /// The key, placed.
    pub key: KeyRef<'a>,
    /// The new bytes.
    pub value: &'a [u8],
    /// Their expiry; `Keep` is not for batches.
    pub expiry: ExpiryRule,
}

/// How one minted write ended.
pub(super) type Ended = Result<(), RequestError>;

/// A write that was minted here and is on its way to W copies.
pub(super) struct Minted {
    pub(super) key: Bytes,
    pub(super) record: Bytes,
    pub(super) partition: Partition,
    pub(super) tracker: WriteTracker<NodeId>,
}

/// A batch of minted writes in flight.
pub(crate) struct WriteJob {
    inner: Mutex<Inner>,
    wake: Notify,
}

struct Inner {
    items: Vec<Item>,
    /// Items without an outcome.
    open: usize,
    /// Items whose tracker asked for a second mint.
    remints: Vec<(usize, Context)>,
}

struct Item {
    minted: Minted,
    ended: Option<Ended>,
    /// Who holds it durably, this node excepted, primaries only.
    holders: Vec<NodeId>,
}

/// The slot of an answer: the item, and the round that it belongs to.
const ROUND_SHIFT: u32 = 24;

impl WriteJob {
    /// For each item the fewest and for all together: how many other nodes hold all of the job.
    pub(super) fn holders_min(&self) -> (usize, bool) {
        let inner = self.inner.lock();
        let mut least = usize::MAX;
        let mut everywhere = true;
        for item in &inner.items {
            least = least.min(item.holders.len());
            everywhere &= item.holders.len() + 1 >= item.minted.tracker.plan().primaries().len();
        }
        (least, everywhere)
    }

    /// Returns when anything may have changed.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    fn step(&self, inner: &mut Inner, item: usize, step: WriteStep<NodeId>) -> Vec<NodeId> {
        let Some(at) = inner.items.get_mut(item) else { return Vec::new() };
        match step {
            WriteStep::Wait => Vec::new(),
            WriteStep::Contact(nodes) => nodes,
            WriteStep::Remint(coverage) => {
                inner.remints.push((item, coverage));
                self.wake.notify_one();
                Vec::new()
            }
            WriteStep::Done(outcome) => {
                at.ended = Some(ended(outcome));
                inner.open -= 1;
                if inner.open == 0 {
                    self.wake.notify_one();
                }
                Vec::new()
            }
        }
    }
}

fn ended(outcome: WriteOutcome<NodeId>) -> Ended {
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
        let round = (slot >> ROUND_SHIFT) as u8;
        let mut inner = self.inner.lock();
        let Some(at) = inner.items.get_mut(item) else { return };
        let step = match result {
            Ok(PeerOut::Applied { complete, uncovered, coverage }) => {
                if round == at.minted.tracker.round() && !at.holders.contains(&from) {
                    at.holders.push(from);
                }
                at.minted.tracker.on_reply(from, reply(round, complete, &uncovered, &coverage))
            }
            // A failure of an earlier round says nothing about this one.
            _ if round != at.minted.tracker.round() => WriteStep::Wait,
            _ => at.minted.tracker.on_failure(from),
        };
        let late = at.ended.is_some();
        self.step(&mut inner, item, step);
        if late {
            self.wake.notify_one();
        }
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

impl Coordinator {
    /// Blind overwrites, as one batch: one answer for each item, in order. Items whose key this
    /// node does not hold are forwarded. The job that the acknowledged items belong to comes back
    /// for WAIT.
    pub(crate) async fn set_batch(
        &self,
        items: &[SetItem<'_>],
        levels: Levels,
    ) -> (Vec<Ended>, Option<Arc<WriteJob>>) {
        self.parts.figures.coordinator_sets.add(items.len() as u64);
        let scope = match self.scope() {
            Ok(scope) => scope,
            Err(error) => return (vec![Err(error); items.len()], None),
        };
        let wanted = match resolve(levels.write, scope.keyspace.write, scope.keyspace.n) {
            Ok(wanted) => wanted,
            Err(error) => return (vec![Err(error); items.len()], None),
        };
        if self.is_alone(&scope) {
            return (self.set_alone(&scope, items).await, None);
        }
        let mut answers: Vec<Option<Ended>> = vec![None; items.len()];
        let mut here = Vec::with_capacity(items.len());
        let mut elsewhere = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let partition = scope.partition(item.key);
            if let Err(error) = Self::check_size(&scope, item.key.key, item.value.len()) {
                set_answer(&mut answers, place, Err(error));
            } else if scope.minter(partition) == Some(scope.view.me) {
                here.push((place, partition));
            } else {
                elsewhere.push(place);
            }
        }
        let local = self.set_here(&scope, items, &here, wanted, &mut answers);
        let away = self.forward_sets(&scope, items, &elsewhere, levels);
        let (job, forwarded) = futures::join!(local, away);
        for (place, answer) in elsewhere.into_iter().zip(forwarded) {
            set_answer(&mut answers, place, answer);
        }
        let unknown = || Err(RequestError::Storage("the write was lost track of".into()));
        (answers.into_iter().map(|answer| answer.unwrap_or_else(unknown)).collect(), job)
    }

    async fn set_here(
        &self,
        scope: &Scope,
        items: &[SetItem<'_>],
        here: &[(usize, Partition)],
        wanted: u8,
        answers: &mut [Option<Ended>],
    ) -> Option<Arc<WriteJob>> {
        let mut minting = Vec::with_capacity(here.len());
        for (place, partition) in here {
            let Some(item) = items.get(*place) else { continue };
            match self.begin_write(scope, *partition, wanted, true) {
                Ok(tracker) => minting.push(Minting {
                    place: *place,
                    key: item.key.to_storage(),
                    partition: *partition,
                    tracker,
                    draft: draft_of(item.value, item.expiry, self.parts.dots.time(self.now_ms())),
                    failed: None,
                }),
                Err(error) => set_answer(answers, *place, Err(error)),
            }
        }
        if minting.is_empty() {
            return None;
        }
        let (job, ticket) = match self.mint_blind(minting, answers).await {
            Ok(minted) => minted,
            Err(()) => return None,
        };
        let ends = self.replicate(scope, &job.1, ticket, true).await;
        for (place, end) in job.0.into_iter().zip(ends) {
            set_answer(answers, place, end);
        }
        Some(job.1)
    }

    /// A tracker that has begun, or why nothing may be minted.
    ///
    /// # Errors
    /// `NoReplicas` and `Level`: nothing was written.
    pub(super) fn begin_write(
        &self,
        scope: &Scope,
        partition: Partition,
        wanted: u8,
        blind: bool,
    ) -> Result<WriteTracker<NodeId>, RequestError> {
        let table = self.plans.table(
            scope.view.me,
            Purpose::Write,
            wanted,
            false,
            &scope.layouts,
        );
        let plan = table.of(partition)?;
        let mut tracker =
            if blind { WriteTracker::blind(plan) } else { WriteTracker::new(plan) };
        let mut early = None;
        for node in &scope.down {
            if let WriteStep::Done(outcome) = tracker.on_failure(*node) {
                early = Some(outcome);
            }
        }
        let refused = early.or_else(|| match tracker.begin() {
            WriteStep::Done(outcome) => Some(outcome),
            _ => None,
        });
        match refused {
            None => Ok(tracker),
            Some(WriteOutcome::NoReplicas { missing }) => {
                self.parts.figures.no_replicas.one();
                Err(RequestError::NoReplicas { wanted, down: missing })
            }
            Some(other) => Err(ended(other).err().unwrap_or(RequestError::Stopping)),
        }
    }

    /// Mints a batch of blind writes under their locks, in one append.
    async fn mint_blind(
        &self,
        mut minting: Vec<Minting<'_>>,
        answers: &mut [Option<Ended>],
    ) -> Result<((Vec<usize>, Arc<WriteJob>), Ticket), ()> {
        let keys: Vec<Bytes> = minting.iter().map(|item| item.key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let update = self
            .parts
            .replica
            .update(&slices, &mut |place, stored, out| {
                let Some(item) = minting.get_mut(place) else { return Verdict::Keep };
                match self.overwrite(item.partition, now_ms, stored, item.draft.clone(), out) {
                    Ok(()) => Verdict::Write,
                    Err(error) => {
                        item.failed = Some(error);
                        Verdict::Keep
                    }
                }
            })
            .await;
        let update = match update {
            Ok(update) => update,
            Err(error) => {
                let error = storage_error(error);
                for item in minting {
                    set_answer(answers, item.place, Err(error.clone()));
                }
                return Err(());
            }
        };
        let mut places = Vec::with_capacity(minting.len());
        let mut minted = Vec::with_capacity(minting.len());
        for (item, record) in minting.into_iter().zip(update.records) {
            match (record, item.failed) {
                (Some(record), None) => {
                    places.push(item.place);
                    minted.push(Minted {
                        key: item.key,
                        record,
                        partition: item.partition,
                        tracker: item.tracker,
                    });
                }
                (_, failed) => {
                    let error = failed.unwrap_or(RequestError::Stopping);
                    set_answer(answers, item.place, Err(error));
                }
            }
        }
        self.parts.figures.replica_applies.add(minted.len() as u64);
        Ok(((places, WriteJob::new(minted)), update.ticket))
    }

    /// Appends to `out` the record of a blind mint over `stored`.
    pub(super) fn overwrite<V: AsRef<[u8]> + Clone>(
        &self,
        partition: Partition,
        now_ms: u64,
        stored: Option<&[u8]>,
        draft: Draft<V>,
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        let seen = match stored.map(kv_quorum::latest_of) {
            Some(Ok(latest)) => latest,
            _ => HybridTime::ZERO,
        };
        for _ in 0..2 {
            let dot = self.mint_dot(partition, now_ms, seen)?;
            match kv_quorum::blind_overwrite(stored, dot, draft.clone(), out) {
                Ok(()) => return Ok(()),
                Err(kv_quorum::Error::DotNotNew) => self.alarm(partition)?,
                Err(error) => return Err(RequestError::Storage(error.to_string())),
            }
        }
        Err(RequestError::Storage("no new dot could be minted".into()))
    }

    pub(super) fn mint_dot(
        &self,
        partition: Partition,
        now_ms: u64,
        seen: HybridTime,
    ) -> Result<Dot, RequestError> {
        self.parts.dots.mint(partition, now_ms, seen).map_err(|_| {
            self.parts.figures.lease_spent.one();
            RequestError::Busy("the clock's lease is being renewed".into())
        })
    }

    /// This node was shown dots of its own tenure that it doesn't hold: a new tenure begins.
    pub(crate) fn alarm(&self, partition: Partition) -> Result<(), RequestError> {
        self.parts.figures.amnesia_alarms.one();
        tracing::error!(partition = partition.index(), "shown a dot of this node's own tenure that it does not hold: a new tenure begins");
        self.parts
            .dots
            .begin_tenure(partition)
            .map_err(|error| RequestError::Storage(format!("a new tenure: {error}")))
    }

    /// Sends a job's records, waits for its own sync beside that, mints again where asked, until
    /// every item has ended. One end for each item, in order.
    pub(super) async fn replicate(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        ticket: Ticket,
        held_here: bool,
    ) -> Vec<Ended> {
        self.send_all(scope, job, None);
        let me = scope.view.me;
        let mut round = (ticket, None::<Vec<usize>>);
        let deadline = self.sleep_until(scope.deadline_ms);
        tokio::pin!(deadline);
        loop {
            {
                let sync = self.parts.replica.durable(round.0);
                tokio::pin!(sync);
                let mut synced = !held_here;
                loop {
                    if job.settled() {
                        break;
                    }
                    tokio::select! {
                        biased;
                        result = &mut sync, if !synced => {
                            synced = true;
                            let complete = self.parts.replica.is_complete();
                            job.synced(me, complete, round.1.as_deref(), result.is_ok());
                        }
                        () = job.wake.notified() => {}
                        () = &mut deadline => job.expire(),
                    }
                }
            }
            let again = job.take_remints();
            if again.is_empty() {
                break;
            }
            round = self.remint(scope, job, again).await;
        }
        let ends = job.ends();
        let lost = ends.iter().filter(|end| matches!(end, Err(RequestError::Indeterminate { .. })));
        self.parts.figures.indeterminate.add(lost.count() as u64);
        ends
    }

    /// The second mint of some items, over all the coverage in their answers.
    async fn remint(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        again: Vec<(usize, Context)>,
    ) -> (Ticket, Option<Vec<usize>>) {
        self.parts.figures.second_mints.add(again.len() as u64);
        let drafts: Vec<_> = again.iter().map(|(item, _)| job.draft(*item)).collect();
        let keys: Vec<Bytes> = drafts.iter().map(|(key, ..)| key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let update = self
            .parts
            .replica
            .update(&slices, &mut |place, stored, out| {
                let (Some((_, coverage)), Some((_, partition, draft))) =
                    (again.get(place), drafts.get(place))
                else {
                    return Verdict::Keep;
                };
                let Some(draft) = draft.clone() else { return Verdict::Keep };
                match self.overwrite_over(*partition, now_ms, stored, coverage, draft, out) {
                    Ok(()) => Verdict::Write,
                    Err(_) => Verdict::Keep,
                }
            })
            .await;
        let items: Vec<usize> = again.iter().map(|(item, _)| *item).collect();
        match update {
            Ok(update) => {
                self.parts.figures.replica_applies.add(items.len() as u64);
                job.reminted(&items, update.records);
                self.send_all(scope, job, Some(&items));
                (update.ticket, Some(items))
            }
            Err(_) => {
                job.reminted(&items, vec![None; items.len()]);
                (Ticket::DURABLE, Some(items))
            }
        }
    }

    fn overwrite_over(
        &self,
        partition: Partition,
        now_ms: u64,
        stored: Option<&[u8]>,
        coverage: &Context,
        draft: Draft<Bytes>,
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        let mut record = decode(stored)?;
        let mut seen = record.winner().map_or(HybridTime::ZERO, |version| version.dot.time);
        for (_, time) in coverage.vector().iter() {
            seen = seen.max(time);
        }
        for _ in 0..2 {
            let dot = self.mint_dot(partition, now_ms, seen)?;
            match record.mint_over(dot, coverage, draft.clone()) {
                Ok(()) => {
                    record.encode_into(out);
                    return Ok(());
                }
                Err(kv_quorum::Error::DotNotNew) => self.alarm(partition)?,
                Err(error) => return Err(RequestError::Storage(error.to_string())),
            }
        }
        Err(RequestError::Storage("no new dot could be minted".into()))
    }

    /// Sends the records of all items, or of some, to their replicas, this node excepted.
    fn send_all(&self, scope: &Scope, job: &Arc<WriteJob>, only: Option<&[usize]>) {
        let mut by_node: Vec<(NodeId, Vec<Pending>)> = Vec::with_capacity(4);
        {
            let inner = job.inner.lock();
            for (at, item) in inner.items.iter().enumerate() {
                if only.is_some_and(|only| !only.contains(&at)) || item.ended.is_some() {
                    continue;
                }
                let round = u32::from(item.minted.tracker.round());
                for node in item.minted.tracker.plan().primaries() {
                    if *node == scope.view.me || scope.down.contains(node) {
                        continue;
                    }
                    let pending = Pending {
                        op: PeerOp::Apply {
                            key: item.minted.key.clone(),
                            record: item.minted.record.clone(),
                        },
                        slot: at as u32 | round << ROUND_SHIFT,
                        to: Arc::<WriteJob>::clone(job),
                        deadline_ms: scope.deadline_ms,
                    };
                    match by_node.iter_mut().find(|(other, _)| other == node) {
                        Some((_, ops)) => ops.push(pending),
                        None => by_node.push((*node, vec![pending])),
                    }
                }
            }
        }
        for (node, ops) in by_node {
            self.parts.peers.submit(node, ops);
        }
    }
}

struct Minting<'a> {
    place: usize,
    key: Bytes,
    partition: Partition,
    tracker: WriteTracker<NodeId>,
    draft: Draft<&'a [u8]>,
    failed: Option<RequestError>,
}

impl WriteJob {
    /// A job of minted writes whose trackers have begun.
    pub(super) fn new(minted: Vec<Minted>) -> Arc<Self> {
        let open = minted.len();
        let items = minted
            .into_iter()
            .map(|minted| Item { minted, ended: None, holders: Vec::new() })
            .collect();
        Arc::new(Self {
            inner: Mutex::new(Inner { items, open, remints: Vec::new() }),
            wake: Notify::new(),
        })
    }

    fn settled(&self) -> bool {
        let inner = self.inner.lock();
        inner.open == 0 || !inner.remints.is_empty()
    }

    /// The local copies of a round are durable, or will never be known to be.
    fn synced(&self, me: NodeId, complete: bool, only: Option<&[usize]>, durable: bool) {
        let mut inner = self.inner.lock();
        for at in 0..inner.items.len() {
            if only.is_some_and(|only| !only.contains(&at)) {
                continue;
            }
            let Some(item) = inner.items.get_mut(at) else { continue };
            let tracker = &mut item.minted.tracker;
            let step = if durable {
                let plain = WriteReply::plain(tracker.round());
                tracker.on_reply(me, WriteReply { complete, ..plain })
            } else {
                tracker.on_failure(me)
            };
            self.step(&mut inner, at, step);
        }
    }

    fn expire(&self) {
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

    fn take_remints(&self) -> Vec<(usize, Context)> {
        std::mem::take(&mut self.inner.lock().remints)
    }

    fn draft(&self, item: usize) -> (Bytes, Partition, Option<Draft<Bytes>>) {
        let inner = self.inner.lock();
        inner.items.get(item).map_or_else(
            || (Bytes::new(), Partition::new(0), None),
            |item| (item.minted.key.clone(), item.minted.partition, draft_again(&item.minted.record)),
        )
    }

    /// The second mints are in the log; one without a record could not be made.
    fn reminted(&self, items: &[usize], records: Vec<Option<Bytes>>) {
        let mut inner = self.inner.lock();
        for (at, record) in items.iter().zip(records) {
            let Some(item) = inner.items.get_mut(*at) else { continue };
            let step = match record {
                Some(record) => {
                    item.minted.record = record;
                    item.holders.clear();
                    item.minted.tracker.reminted()
                }
                None => item.minted.tracker.on_deadline(),
            };
            self.step(&mut inner, *at, step);
        }
    }

    fn ends(&self) -> Vec<Ended> {
        let inner = self.inner.lock();
        inner.items.iter().map(|item| item.ended.clone().unwrap_or(Ok(()))).collect()
    }

    /// Who holds an item, this node excepted.
    pub(super) fn holders(&self, item: usize) -> Vec<NodeId> {
        self.inner.lock().items.get(item).map_or_else(Vec::new, |item| item.holders.clone())
    }
}

fn set_answer(answers: &mut [Option<Ended>], place: usize, answer: Ended) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

/// The draft of a value: its register is stamped by this node's clock.
pub(super) fn draft_of<V>(value: V, expiry: ExpiryRule, stamp: HybridTime) -> Draft<V> {
    let draft = Draft::string(value);
    match expiry {
        ExpiryRule::At(at) => draft.expiring(Expiry::at(stamp, at)),
        ExpiryRule::Never | ExpiryRule::Keep => draft,
    }
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

/// A stored record, decoded; none is an empty one.
pub(super) fn decode(stored: Option<&[u8]>) -> Result<kv_quorum::Record<Bytes>, RequestError> {
    stored.map_or_else(
        || Ok(kv_quorum::Record::new()),
        |bytes| {
            kv_quorum::Record::decode(bytes)
                .map(|record| record.map(Bytes::copy_from_slice))
                .map_err(|error| RequestError::Storage(format!("a stored record: {error}")))
        },
    )
}

/// What a request says of a storage error.
pub(super) fn storage_error(error: StorageError) -> RequestError {
    match error {
        StorageError::Full(what) => RequestError::Full(what),
        StorageError::Busy(what) => RequestError::Busy(what),
        other => RequestError::Storage(other.to_string()),
    }
}
