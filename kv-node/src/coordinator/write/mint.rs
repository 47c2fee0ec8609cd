//! Minting under the keys' locks, and beginning a new tenure outside them.
//!
//! A decision that finds the partition's tenure over, or the clock's lease spent, writes nothing
//! and says so. When the locks are gone the new tenure or lease is stored, on a thread that may
//! block, and the decision is made once more. So both are durable before a dot is minted in them,
//! and no key waits for a disk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_quorum::{Dot, Draft, HybridTime};
use kv_ring::Partition;

use super::append_error;
use crate::cluster::dots::{DotSource, NoDot};
use crate::coordinator::Coordinator;
use crate::error::RequestError;
use crate::plug::exec::blocking;
use crate::plug::storage::Ticket;
use crate::replica::Verdict;

/// A mint waits for the clock's lease so many times,
const LEASE_TRIES: u32 = 40;
/// for so long each.
const LEASE_REST: Duration = Duration::from_millis(5);

/// Why a decision wrote nothing.
#[derive(Debug)]
pub(in crate::coordinator) enum NoMint {
    /// The partition's tenure is over, or the clock's lease spent: minting is to be resumed,
    /// outside the lock.
    Paused,
    /// This is the answer.
    Because(RequestError),
}

impl From<RequestError> for NoMint {
    fn from(error: RequestError) -> Self {
        Self::Because(error)
    }
}

/// Decides the record of one key: place, stored record if any, where to write the new one.
pub(in crate::coordinator) type MintDecision<'d> =
    dyn FnMut(usize, Option<&[u8]>, &mut Vec<u8>) -> Result<Verdict, NoMint> + Send + 'd;

/// What a batch of decisions came to.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct MintedBatch {
    /// The new record of each place, where one was appended.
    pub(in crate::coordinator) records: Vec<Option<Bytes>>,
    /// What to wait for.
    pub(in crate::coordinator) ticket: Ticket,
    /// Places of which nothing was appended, each with the reason.
    pub(in crate::coordinator) failed: Vec<(usize, RequestError)>,
}

impl MintedBatch {
    /// Why nothing was appended for a place, if that is what happened.
    pub(in crate::coordinator) fn failure(&self, place: usize) -> Option<RequestError> {
        self.failed.iter().find(|(at, _)| *at == place).map(|(_, error)| error.clone())
    }
}

impl Coordinator {
    /// Decides and appends a batch. What could be appended is, whatever became of the rest, and is
    /// to be replicated: it may be seen.
    pub(in crate::coordinator) async fn mint_batch(
        &self,
        keys: &[&[u8]],
        partition: &(dyn Fn(usize) -> Partition + Sync),
        decide: &mut MintDecision<'_>,
    ) -> MintedBatch {
        let mut out = MintedBatch::default();
        self.await_lease().await;
        let _flight = self.parts.dots.begin_flight();
        let over = self.mint_pass(keys, None, decide, &mut out).await;
        if over.is_empty() {
            return out;
        }
        let mut places = Vec::with_capacity(over.len());
        for place in over {
            match self.resume_minting(partition(place)).await {
                Ok(()) => places.push(place),
                Err(error) => out.failed.push((place, error)),
            }
        }
        let some: Vec<&[u8]> =
            places.iter().filter_map(|place| keys.get(*place).copied()).collect();
        for place in self.mint_pass(&some, Some(&places), decide, &mut out).await {
            let error = RequestError::Busy("a new tenure or lease is being begun".into());
            out.failed.push((place, error));
        }
        out
    }

    /// Waits a moment for the clock's lease: a node that stood still finds it spent until it is
    /// renewed on disk, and others count on it already.
    async fn await_lease(&self) {
        for _ in 0..LEASE_TRIES {
            if self.parts.dots.lease_reaches(self.parts.clock.wall_ms()) {
                return;
            }
            self.parts.clock.sleep(LEASE_REST).await;
        }
    }

    /// One pass over `keys`, whose places in the batch are `places` (or their own order). Answers
    /// the places at which minting is to be resumed first.
    async fn mint_pass(
        &self,
        keys: &[&[u8]],
        places: Option<&[usize]>,
        decide: &mut MintDecision<'_>,
        out: &mut MintedBatch,
    ) -> Vec<usize> {
        let place_of =
            |at: usize| places.map_or(at, |places| places.get(at).copied().unwrap_or(at));
        let mut over = Vec::new();
        let failed = &mut out.failed;
        let update = self
            .parts
            .replica
            .update_each(keys, &mut |at, stored, record| {
                let place = place_of(at);
                match decide(place, stored, record) {
                    Ok(verdict) => return verdict,
                    Err(NoMint::Paused) => over.push(place),
                    Err(NoMint::Because(error)) => failed.push((place, error)),
                }
                Verdict::Keep
            })
            .await;
        match update {
            Ok(update) => {
                out.ticket = out.ticket.max(update.ticket);
                if let Some((ats, error)) = update.failed {
                    let error = append_error(error);
                    failed.extend(ats.iter().map(|at| (place_of(*at as usize), error.clone())));
                }
                if places.is_none() {
                    out.records = update.records;
                } else {
                    for (at, record) in update.records.into_iter().enumerate() {
                        if let Some(slot) = out.records.get_mut(place_of(at)) {
                            *slot = record;
                        }
                    }
                }
            }
            Err(error) => {
                over.clear();
                failed.clear();
                let error = append_error(error);
                failed.extend((0..keys.len()).map(|at| (place_of(at), error.clone())));
                if places.is_none() {
                    out.records = vec![None; keys.len()];
                }
            }
        }
        over
    }

    /// Appends to `out` the record of a blind mint over `stored`.
    pub(in crate::coordinator) fn overwrite<V: AsRef<[u8]> + Clone>(
        &self,
        partition: Partition,
        now_ms: u64,
        stored: Option<&[u8]>,
        draft: &Draft<V>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, NoMint> {
        let seen = match stored.map(kv_quorum::latest_of) {
            Some(Ok(latest)) => latest,
            _ => HybridTime::ZERO,
        };
        let dot = self.mint_dot(partition, now_ms, seen)?;
        match kv_quorum::blind_overwrite(stored, dot, draft.clone(), out) {
            Ok(()) => Ok(Verdict::Write),
            Err(error) => Err(self.not_minted(partition, &error)),
        }
    }

    /// What a refused mint comes to: a dot that is not new ends the tenure.
    pub(in crate::coordinator) fn not_minted(
        &self,
        partition: Partition,
        error: &kv_quorum::Error,
    ) -> NoMint {
        if matches!(error, kv_quorum::Error::DotNotNew) {
            self.alarm(partition);
            return NoMint::Paused;
        }
        NoMint::Because(RequestError::Storage(error.to_string()))
    }

    /// A new dot.
    ///
    /// # Errors
    /// The lease is spent, or the partition's tenure over.
    pub(in crate::coordinator) fn mint_dot(
        &self,
        partition: Partition,
        now_ms: u64,
        seen: HybridTime,
    ) -> Result<Dot, NoMint> {
        // Above what every replica agreed on: a dot below that would be dead at once.
        let seen = seen.max(self.parts.replica.minted_above(partition));
        self.parts.dots.mint(partition, now_ms, seen).map_err(|none| match none {
            NoDot::TenureOver => NoMint::Paused,
            NoDot::LeaseSpent => {
                self.parts.figures.lease_spent.one();
                NoMint::Paused
            }
        })
    }

    /// This node was shown dots of its own tenure that it doesn't hold: the tenure is over, and
    /// nothing is minted in the partition until `resume_minting`.
    pub(crate) fn alarm(&self, partition: Partition) {
        self.parts.figures.amnesia_alarms.one();
        tracing::error!(
            partition = partition.index(),
            "shown a dot of this node's own tenure that it does not hold: a new tenure begins"
        );
        self.parts.dots.end_tenure(partition);
    }

    /// Begins a new tenure where the last one is over, and moves the clock's lease where it was
    /// spent.
    ///
    /// # Errors
    /// It isn't durable: nothing is minted in the partition.
    pub(crate) async fn resume_minting(&self, partition: Partition) -> Result<(), RequestError> {
        let wall_ms = self.parts.clock.wall_ms();
        self.off_thread("a new tenure", move |dots| dots.resume(partition, wall_ms)).await
    }

    /// Has the source of dots do what waits for the disk, off the runtime's thread.
    pub(in crate::coordinator) async fn off_thread(
        &self,
        what: &str,
        job: impl FnOnce(&DotSource) -> io::Result<()> + Send + 'static,
    ) -> Result<(), RequestError> {
        let dots = Arc::clone(&self.parts.dots);
        match blocking(&*self.parts.exec, move || job(&dots)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(RequestError::Storage(format!("{what}: {error}"))),
            None => Err(RequestError::Stopping),
        }
    }
}
