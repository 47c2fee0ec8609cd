//! Driving writes: mint here, send, count, mint once more where the tracker says so.
//!
//! A batch of writes is one `WriteJob`: trackers for its items behind one lock, one wake-up for the
//! connection that waits. Answers that come after the client has its own still go to the trackers,
//! for WAIT. The local copy counts when its own sync returns, like every other.
//!
//! A minted write goes on when the client goes away: the job owns everything it needs, and peers
//! that were sent a record keep it.

mod job;
mod replicate;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::{Dot, Draft, Expiry, HybridTime, WriteOutcome, WriteStep, WriteTracker};
use kv_ring::Partition;

pub(super) use job::{Minted, WriteJob};

use super::plans::Purpose;
use super::{Coordinator, Levels, Scope, resolve};
use crate::cluster::record::Rmw;
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{ExpiryRule, Mutation};
use crate::plug::storage::{StorageError, Ticket};
use crate::replica::Verdict;
use job::ended;

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
        if Self::is_alone(&scope) {
            return (self.set_alone(&scope, items).await, None);
        }
        if scope.keyspace.rmw == Rmw::BestEffort {
            return (self.set_one_by_one(items, levels).await, None);
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

    /// SETs of a keyspace in which one node decides every write of a key: each takes the key's
    /// decision lock there, and a batch's items for one key take it in their order.
    async fn set_one_by_one(&self, items: &[SetItem<'_>], levels: Levels) -> Vec<Ended> {
        let sets = items.iter().map(|item| async move {
            let value = Bytes::copy_from_slice(item.value);
            let set = Mutation::Set { value, expiry: item.expiry };
            self.mutate(item.key, set, levels).await.map(drop)
        });
        join_all(sets).await
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
        let ((places, job), ticket) = self.mint_blind(minting, answers).await?;
        let ends = self.replicate(scope, &job, ticket, true).await;
        for (place, end) in places.into_iter().zip(ends) {
            set_answer(answers, place, end);
        }
        Some(job)
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
        let table = self.plans.table(scope.view.me, Purpose::Write, wanted, false, &scope.layouts);
        let plan = table.of(partition)?;
        let mut tracker = if blind { WriteTracker::blind(plan) } else { WriteTracker::new(plan) };
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
    ) -> Option<((Vec<usize>, Arc<WriteJob>), Ticket)> {
        let keys: Vec<Bytes> = minting.iter().map(|item| item.key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let update = self
            .parts
            .replica
            .update(&slices, &mut |place, stored, out| {
                let Some(item) = minting.get_mut(place) else { return Verdict::Keep };
                match self.overwrite(item.partition, now_ms, stored, &item.draft, out) {
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
                return None;
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
        Some(((places, WriteJob::new(minted)), update.ticket))
    }

    /// Appends to `out` the record of a blind mint over `stored`.
    pub(super) fn overwrite<V: AsRef<[u8]> + Clone>(
        &self,
        partition: Partition,
        now_ms: u64,
        stored: Option<&[u8]>,
        draft: &Draft<V>,
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
        tracing::error!(
            partition = partition.index(),
            "shown a dot of this node's own tenure that it does not hold: a new tenure begins"
        );
        self.parts
            .dots
            .begin_tenure(partition)
            .map_err(|error| RequestError::Storage(format!("a new tenure: {error}")))
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
