//! Driving writes: mint here, send, count, mint once more where the tracker says so.
//!
//! A batch of writes is one `WriteJob`: trackers for its items behind one lock, one wake-up for the
//! connection that waits. Answers that come after the client has its own still go to the trackers,
//! for WAIT. The local copy counts when its own sync returns, like every other.
//!
//! A minted write goes on when the client goes away: the job owns everything it needs, and peers
//! that were sent a record keep it.

mod job;
mod mint;
mod replicate;
mod sends;
mod stand_in;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::{Copies, Draft, Expiry, HybridTime, WriteOutcome, WriteStep, WriteTracker};
use kv_ring::{Partition, Zone};

pub(super) use job::{Minted, WriteJob, dot_of};
pub(super) use mint::NoMint;

use super::follow::{Followed, Trail};
use super::plans::Purpose;
use super::{Coordinator, Levels, MintsAt, Scope};
use crate::cluster::record::Rmw;
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{ExpiryRule, Mutation};
use crate::plug::storage::{StorageError, Ticket};
use crate::replica::Verdict;
use crate::scale::load::Touched;
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
    /// Blind overwrites of different keys, as one batch: one answer for each item, in order. Items
    /// whose key this node does not hold are forwarded. What was written comes back as a trail, for
    /// WAIT.
    pub(crate) async fn set_batch(
        &self,
        items: &[SetItem<'_>],
        levels: Levels,
    ) -> (Vec<Ended>, Trail) {
        self.parts.figures.coordinator_sets.add(items.len() as u64);
        let resolved = self.scope_until(levels.until_ms).and_then(|scope| {
            let wanted = scope.write_copies(levels)?;
            Ok((scope, wanted))
        });
        let (scope, wanted) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return (vec![Err(error); items.len()], Trail::default()),
        };
        let alone = Self::is_alone(&scope);
        if !alone && scope.keyspace.rmw == Rmw::BestEffort {
            return self.set_one_by_one(items, levels).await;
        }
        self.load.note(items.len(), |place| {
            let item = items.get(place)?;
            Some(Touched { key: item.key, written: Some(item.value.len()) })
        });
        if alone {
            let (ends, records) = self.set_alone(&scope, items).await;
            return (ends, Trail::alone(records));
        }
        let mut answers: Vec<Option<Ended>> = vec![None; items.len()];
        let mut here = Vec::with_capacity(items.len());
        let (mut standing_in, mut elsewhere) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            let partition = scope.partition(item.key);
            if let Err(error) = Self::check_size(&scope, item.key.key, item.value.len()) {
                set_answer(&mut answers, place, Err(error));
            } else {
                match scope.mints_at(partition) {
                    MintsAt::Here => here.push((place, partition)),
                    MintsAt::StandingIn => standing_in.push(place),
                    MintsAt::Elsewhere => elsewhere.push(place),
                }
            }
        }
        let local = self.set_here(&scope, items, &here, wanted, &mut answers);
        let away = self.forward_sets(&scope, items, &elsewhere, levels);
        let standing = self.set_standing_in(&scope, items, &standing_in, levels);
        let (here, stood_in, forwarded) = futures::join!(local, standing, away);
        let mut trail = Trail::here(here);
        for (place, (end, job)) in standing_in.into_iter().zip(stood_in) {
            trail.add(place, job.map(Followed::Here));
            set_answer(&mut answers, place, end);
        }
        for (place, away) in elsewhere.into_iter().zip(forwarded) {
            trail.add(place, away.followed(&scope));
            set_answer(&mut answers, place, away.outcome.map(drop));
        }
        self.took(scope.began_us);
        let unknown = || Err(RequestError::Unknown("the write was lost track of".into()));
        (answers.into_iter().map(|answer| answer.unwrap_or_else(unknown)).collect(), trail)
    }

    /// SETs of a keyspace in which one node decides every write of a key: each takes the key's
    /// decision lock there, and a batch's items for one key take it in their order.
    async fn set_one_by_one(&self, items: &[SetItem<'_>], levels: Levels) -> (Vec<Ended>, Trail) {
        let sets = items.iter().map(|item| {
            let value = Bytes::copy_from_slice(item.value);
            let set = Mutation::Set { value, expiry: item.expiry };
            self.mutate_followed(item.key, set, levels)
        });
        let mut trail = Trail::default();
        let mut ends = Vec::with_capacity(items.len());
        for (place, (end, followed)) in join_all(sets).await.into_iter().enumerate() {
            trail.add(place, followed);
            ends.push(end.map(drop));
        }
        (ends, trail)
    }

    async fn set_here(
        &self,
        scope: &Scope,
        items: &[SetItem<'_>],
        here: &[(usize, Partition)],
        wanted: Copies<Zone>,
        answers: &mut [Option<Ended>],
    ) -> Option<(Vec<usize>, Arc<WriteJob>)> {
        let _flight = self.parts.dots.begin_flight();
        let mut minting = Vec::with_capacity(here.len());
        for (place, partition) in here {
            let Some(item) = items.get(*place) else { continue };
            let begin = Begin { blind: true, stands_in: false };
            match self.begin_write(scope, *partition, wanted, begin) {
                Ok((tracker, to)) => minting.push(Minting {
                    place: *place,
                    key: item.key.to_storage(),
                    partition: *partition,
                    tracker,
                    to,
                    draft: draft_of(item.value, item.expiry, self.parts.dots.time(self.now_ms())),
                }),
                Err(error) => set_answer(answers, *place, Err(error)),
            }
        }
        if minting.is_empty() {
            return None;
        }
        let (places, job, ticket) = self.mint_blind(scope, minting, wanted, answers).await?;
        let ends = self.replicate(scope, &job, ticket).await;
        for (place, end) in places.iter().zip(ends) {
            set_answer(answers, *place, end);
        }
        Some((places, job))
    }

    /// A tracker that has begun and those it named, or why nothing may be minted.
    ///
    /// # Errors
    /// `NoReplicas` and `Level`: nothing was written.
    pub(super) fn begin_write(
        &self,
        scope: &Scope,
        partition: Partition,
        wanted: Copies<Zone>,
        begin: Begin,
    ) -> Result<(WriteTracker<NodeId>, Vec<NodeId>), RequestError> {
        if self.parts.clock.steady_ms() > scope.deadline_ms {
            // Minted now, it could not be acknowledged any more.
            return Err(RequestError::Busy("the time for this write was over".into()));
        }
        let plan = self.plans.table(scope, Purpose::Write, wanted).of(partition)?;
        let mut tracker =
            if begin.blind { WriteTracker::blind(plan) } else { WriteTracker::new(plan) };
        let mut early = None;
        for node in &scope.down {
            if let WriteStep::Done(outcome) = tracker.on_failure(*node) {
                early = Some(outcome);
            }
        }
        if begin.stands_in && early.is_none() {
            early = Self::take_place(scope, partition, &mut tracker);
        }
        let mut to = Vec::new();
        let refused = early.or_else(|| match tracker.begin() {
            WriteStep::Done(outcome) => Some(outcome),
            WriteStep::Contact(nodes) => {
                to = nodes;
                None
            }
            _ => None,
        });
        match refused {
            None => Ok((tracker, to)),
            Some(WriteOutcome::NoReplicas { missing }) => {
                self.parts.figures.no_replicas.one();
                let wanted = wanted.least(scope.keyspace.n);
                Err(RequestError::NoReplicas { wanted, down: missing })
            }
            Some(other) => Err(ended(other).err().unwrap_or(RequestError::Stopping)),
        }
    }

    /// Mints a batch of blind writes under their locks, in one append. What was minted is
    /// replicated, even if the disk failed under other items of the batch.
    async fn mint_blind(
        &self,
        scope: &Scope,
        minting: Vec<Minting<'_>>,
        wanted: Copies<Zone>,
        answers: &mut [Option<Ended>],
    ) -> Option<(Vec<usize>, Arc<WriteJob>, Ticket)> {
        let keys: Vec<Bytes> = minting.iter().map(|item| item.key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let partition = |at: usize| minting.get(at).map_or(Partition::ALL, |at| at.partition);
        let done = self
            .mint_batch(&slices, &partition, &mut |at, stored, out| {
                let Some(item) = minting.get(at) else { return Ok(Verdict::Keep) };
                self.overwrite(item.partition, now_ms, stored, &item.draft, out)
            })
            .await;
        for (at, error) in done.failed {
            if let Some(item) = minting.get(at) {
                set_answer(answers, item.place, Err(error));
            }
        }
        let mut places = Vec::with_capacity(minting.len());
        let mut minted = Vec::with_capacity(minting.len());
        for (item, record) in minting.into_iter().zip(done.records) {
            let Some(record) = record else { continue };
            let Minting { key, partition, tracker, to, .. } = item;
            places.push(item.place);
            minted.push(Minted { key, record, partition, tracker, wanted, to, stands_in: false });
        }
        if minted.is_empty() {
            return None;
        }
        self.parts.figures.replica_applies.add(minted.len() as u64);
        Some((places, WriteJob::new(minted, scope, &self.parts), done.ticket))
    }
}

/// How a write begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// Whether it overwrites blindly.
    pub(super) blind: bool,
    /// Whether this node mints it in the place of a primary.
    pub(super) stands_in: bool,
}

struct Minting<'a> {
    place: usize,
    key: Bytes,
    partition: Partition,
    tracker: WriteTracker<NodeId>,
    to: Vec<NodeId>,
    draft: Draft<&'a [u8]>,
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

/// What a write says of an error of its append.
pub(super) fn append_error(error: StorageError) -> RequestError {
    match error {
        StorageError::Poisoned(what) => RequestError::Unknown(what),
        other => storage_error(other),
    }
}

/// What a request says of a storage error.
pub(super) fn storage_error(error: StorageError) -> RequestError {
    match error {
        StorageError::Full(what) => RequestError::Full(what),
        StorageError::DiskFull => RequestError::DiskFull,
        StorageError::Busy(what) => RequestError::Busy(what),
        other => RequestError::Storage(other.to_string()),
    }
}
