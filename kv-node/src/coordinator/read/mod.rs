//! Driving reads: ask R at once, join, repair what differs before answering, mend the tail after.
//!
//! The local replica is read first, in memory; its fingerprint goes along with the remote reads, so
//! that a replica which holds the same answers in a byte. A batch of reads is one `ReadJob`.

mod drive;
mod job;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Context, Copies, ReadStep, ReadTracker, Record};
use kv_ring::{Partition, Zone};
use twox_hash::XxHash3_128;

use super::plans::{PlanTable, Purpose};
use super::write::storage_error;
use super::{Coordinator, Levels, Newer, Scope};
use crate::error::RequestError;
use crate::keys::{KeyRef, PREFIX_BYTES};
use crate::plug::storage::Ticket;
use crate::scale::load::Touched;
use crate::teeth::{Bug, planted};
use job::{ReadJob, outcome_of};

/// One value of KV.GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiblingValue {
    /// The bytes, or `None` for a delete or what has expired.
    pub value: Option<Bytes>,
    /// (time, node, tenure) of its dot.
    pub dot: (u64, u64, u64),
    /// Milliseconds since 1970, if it expires.
    pub expires_at_ms: Option<u64>,
}

/// Shown once for each place of a batch: what a key's read came to.
pub(crate) type Show<'s> = dyn FnMut(usize, Result<Option<&[u8]>, RequestError>) + Send + 's;

type Tracker = ReadTracker<NodeId, Bytes>;
type Outcome = Result<Option<Bytes>, RequestError>;

/// Those whom reads ask where the others are not enough.
#[derive(Clone, Copy)]
struct AskLast<'a> {
    /// Late with an answer, or much slower than others.
    slow: &'a [NodeId],
    /// About to be stopped: nor are they asked to be quicker.
    leaving: &'a [NodeId],
}

impl Coordinator {
    /// GETs, as one batch: `show` is called once for each key, in order, with what it shows.
    pub(crate) async fn get_batch(&self, keys: &[KeyRef<'_>], levels: Levels, show: &mut Show<'_>) {
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
        show: &mut Show<'_>,
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
        self.load.note(keys.len(), |place| Some(Touched { key: *keys.get(place)?, written: None }));
        let resolved = self.scope_until(levels.until_ms).and_then(|scope| {
            let wanted = scope.read_copies(levels)?;
            Ok((scope, wanted))
        });
        match resolved {
            Err(error) => (0..keys.len()).for_each(|place| show(place, Err(error.clone()))),
            Ok((scope, _)) if Self::is_alone(&scope) => {
                self.read_alone(&scope, &slices, show).await;
            }
            Ok((scope, wanted)) => {
                let began_us = scope.began_us;
                let outcomes = self.read_as_layouts_change(scope, keys, &slices, wanted).await;
                self.took(began_us);
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
    async fn read_alone(&self, scope: &Scope, keys: &[&[u8]], show: &mut Show<'_>) {
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
            Ok(ticket) => self.show_when_durable(scope, ticket).await,
            Err(error) => Err(storage_error(error)),
        };
        for (place, copy) in copies.iter().enumerate() {
            match &read {
                Ok(()) => show(place, Ok(copy.as_deref())),
                Err(error) => show(place, Err(error.clone())),
            }
        }
    }

    /// Returns when what was read may be shown: no power cut takes it back.
    ///
    /// # Errors
    /// It could not be synced, or was not by the deadline, as where the disk has no room.
    async fn show_when_durable(&self, scope: &Scope, ticket: Ticket) -> Result<(), RequestError> {
        if ticket.is_durable() || planted(Bug::ShowBeforeSync) {
            return Ok(());
        }
        self.parts.figures.reads_awaiting_sync.one();
        let silent = vec![scope.view.me];
        let late = RequestError::Unavailable { reached: 0, wanted: 1, silent };
        let synced = self.in_time(scope, self.parts.replica.durable(ticket)).await;
        synced.map_or(Err(late), |synced| synced.map_err(storage_error))
    }

    /// Reads R replicas of each key; what fails because a replica knows newer layouts is read again
    /// under those.
    async fn read_as_layouts_change(
        &self,
        mut scope: Scope,
        keys: &[KeyRef<'_>],
        slices: &[&[u8]],
        wanted: Copies<Zone>,
    ) -> Vec<Outcome> {
        let (mut outcomes, mut stale) = self.read_replicas(&scope, keys, slices, wanted).await;
        while stale && outcomes.iter().any(Result::is_err) {
            let Newer::Known(newer) = self.newer_scope(&scope, true).await else { break };
            scope = *newer;
            let left: Vec<usize> = (0..keys.len())
                .filter(|at| outcomes.get(*at).is_some_and(Result::is_err))
                .collect();
            let some: Vec<KeyRef<'_>> =
                left.iter().filter_map(|at| keys.get(*at).copied()).collect();
            let some_slices: Vec<&[u8]> =
                left.iter().filter_map(|at| slices.get(*at).copied()).collect();
            let again;
            (again, stale) = self.read_replicas(&scope, &some, &some_slices, wanted).await;
            for (at, outcome) in left.into_iter().zip(again) {
                if let Some(slot) = outcomes.get_mut(at) {
                    *slot = outcome;
                }
            }
        }
        outcomes
    }

    /// Reads R replicas of each key, this node's copy first. Says too whether a replica refused
    /// because it knows newer layouts.
    async fn read_replicas(
        &self,
        scope: &Scope,
        keys: &[KeyRef<'_>],
        slices: &[&[u8]],
        wanted: Copies<Zone>,
    ) -> (Vec<Outcome>, bool) {
        let table = self.plans.table(scope, Purpose::Read, wanted);
        let slow = self.parts.detector.slow(scope.began_us);
        let me = scope.view.me;
        let leaving: Vec<NodeId> =
            scope.view.draining().iter().copied().filter(|node| *node != me).collect();
        let last = AskLast { slow: &slow, leaving: &leaving };
        self.parts.detector.begun(keys.len());
        let in_turn = wanted == Copies::Any(1) && leaving.is_empty();
        let hot = in_turn.then(|| self.load.window());
        let is_hot =
            |key: &KeyRef<'_>| hot.as_ref().is_some_and(|window| window.is_hot(key.token.value()));
        let mut refused: Vec<Option<RequestError>> = vec![None; keys.len()];
        let mut items = Vec::with_capacity(keys.len());
        let mut places = Vec::with_capacity(keys.len());
        for (place, (key, slice)) in keys.iter().zip(slices).enumerate() {
            let turn = is_hot(key).then(|| self.hot_turn.fetch_add(1, Ordering::Relaxed));
            match Self::begin_read(scope, &table, scope.partition(*key), last, turn) {
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
        let (trackers, first): (Vec<_>, Vec<_>) =
            items.into_iter().map(|(key, (tracker, nodes))| ((key, tracker), nodes)).unzip();
        let job = ReadJob::new(trackers);
        self.drive_reads(scope, &job, first).await;
        self.mend_tail(scope, &job);
        let stale = job.stale.load(Ordering::Acquire);
        (self.collect_reads(&job, &places, refused), stale)
    }

    fn begin_read(
        scope: &Scope,
        table: &PlanTable,
        partition: Partition,
        last: AskLast<'_>,
        turn: Option<usize>,
    ) -> Result<(Tracker, Vec<NodeId>), RequestError> {
        let mut tracker = Tracker::new(table.of(partition)?);
        if let Some(turn) = turn {
            for node in table.not_in_turn(tracker.plan(), turn) {
                tracker.avoid(node);
            }
        }
        last.slow.iter().for_each(|node| tracker.avoid(*node));
        last.leaving.iter().for_each(|node| tracker.spare(*node));
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
        self.parts.figures.sloppy_reads.add(inner.sloppy);
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
        self.parts.figures.coordinator_gets.one();
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
                dot: (sibling.dot.time.to_bits(), sibling.dot.actor.node, sibling.dot.actor.tenure),
                expires_at_ms: sibling.expiry.expires_at_ms,
            })
            .collect();
        let sealed = Self::seal(&scope, key, record.context());
        Ok((Some(sealed), values))
    }

    pub(super) fn seal(scope: &Scope, key: KeyRef<'_>, context: &Context) -> Bytes {
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

fn damaged(error: kv_quorum::Error) -> RequestError {
    RequestError::Storage(format!("a stored record: {error}"))
}
