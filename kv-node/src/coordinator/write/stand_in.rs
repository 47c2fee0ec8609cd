//! Minting in the place of a primary: no primary is up, and this node is the first live fallback.
//!
//! It mints over everything that it holds of the key, which are its hints (and a row of its own, if
//! it was a replica once), under the key's lock, and keeps the new record as hints: one for the
//! primary in whose place it counts, and beyond W for those whom nobody stands in for. What it
//! minted it holds until it is delivered; once it has dropped a delivered hint of the partition it
//! no longer holds all its own dots, so it begins a new tenure before it mints there again: its
//! coverage would delete what was acknowledged (riak_kv #679).
//!
//! Invariant: a record minted here is durable here as a hint before it counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::{Context, Record, WriteOutcome, WriteStep, WriteTracker};
use kv_ring::Partition;

use super::{Begin, Ended, Minted, NoMint, SetItem, WriteJob, append_error, decode};
use crate::coordinator::decide::{Act, Decided, Decision, Done};
use crate::coordinator::{Coordinator, Levels, Scope};
use crate::error::RequestError;
use crate::keys::hint_row;
use crate::mutation::Mutation;
use crate::plug::storage::Ticket;
use crate::replica::{FULL, RowChange, UNCOUNTED};

/// Tenures that are begun for one mint at most: each time a delivered hint was dropped meanwhile.
const TENURES_MAX: usize = 4;

/// Bytes of a record of which hints beyond W are kept beside the one that counts: they are one
/// append.
const BEYOND_BYTES_MAX: usize = 1 << 20;

/// The rows of a key that a fallback mints over, and those among them that it writes.
struct Place {
    partition: Partition,
    rows: Vec<Bytes>,
    /// (row, whether it counts towards W).
    keep: Vec<(usize, bool)>,
}

/// What was minted and put into the hint log.
struct Written {
    decided: Decided,
    bytes: Bytes,
    ticket: Ticket,
}

/// What a stand-in decided: the outcome, the record it leaves, and what changes in which rows.
type Standing = (Decided, Bytes, Vec<(usize, RowChange)>);

impl Place {
    fn of(
        scope: &Scope,
        partition: Partition,
        tracker: &WriteTracker<NodeId>,
        hinted: &[NodeId],
        key: &Bytes,
    ) -> Self {
        let owners = scope.layouts.write_sets(partition).flatten();
        let targets: BTreeSet<NodeId> = owners.chain(hinted).copied().collect();
        let own = tracker.hint_for(scope.view.me);
        let unserved = tracker.unserved();
        let mut keep = Vec::new();
        let mut rows = vec![key.clone()];
        for target in targets {
            if own == Some(target) || unserved.contains(&target) {
                keep.push((rows.len(), own == Some(target)));
            }
            rows.push(hint_row(target, key));
        }
        // What counts takes its room first.
        keep.sort_by_key(|(_, counted)| !counted);
        Self { partition, rows, keep }
    }
}

impl Coordinator {
    /// SETs that this node mints in the place of primaries; one end for each place, in order, and
    /// the job of each that was minted.
    pub(super) async fn set_standing_in(
        &self,
        scope: &Scope,
        items: &[SetItem<'_>],
        places: &[usize],
        levels: Levels,
    ) -> Vec<(Ended, Option<Arc<WriteJob>>)> {
        let sets = places.iter().filter_map(|place| items.get(*place)).map(|item| async move {
            let value = Bytes::copy_from_slice(item.value);
            let set = Mutation::Set { value, expiry: item.expiry };
            let (end, job) = self.mutate_here(scope, item.key, set, levels, None).await;
            (end.map(drop), job)
        });
        join_all(sets).await
    }

    /// Tells the tracker of a node that was asked to mint in a primary's place who is passed over:
    /// all before it, for whoever asked could not reach them. Answers why it may not mint.
    pub(super) fn take_place(
        scope: &Scope,
        partition: Partition,
        tracker: &mut WriteTracker<NodeId>,
    ) -> Option<WriteOutcome<NodeId>> {
        let me = scope.view.me;
        for node in scope.layouts.newest().preference(partition).iter() {
            if node == me || tracker.hint_for(me).is_some() {
                break;
            }
            if let WriteStep::Done(outcome) = tracker.on_failure(node) {
                return Some(outcome);
            }
        }
        if tracker.hint_for(me).is_some() {
            return None;
        }
        Some(WriteOutcome::NoReplicas { missing: tracker.plan().primaries().to_vec() })
    }

    /// `decide` at a node that is no replica of the key.
    pub(in crate::coordinator) async fn decide_standing_in(
        &self,
        act: &Act<'_>,
        blind: bool,
        decision: &mut Decision<'_>,
    ) -> Result<Done, RequestError> {
        let scope = act.scope;
        let partition = scope.partition(act.key);
        let wanted = scope.write_copies(act.levels)?;
        let _flight = self.parts.dots.begin_flight();
        let begin = Begin { blind, stands_in: true };
        let (tracker, to) = self.begin_write(scope, partition, wanted, begin)?;
        let key = act.key.to_storage();
        let hinted = self.parts.replica.hint_targets();
        let place = Place::of(scope, partition, &tracker, &hinted, &key);
        let Some(Written { decided, bytes, ticket }) = self.mint_hints(&place, decision).await?
        else {
            return Ok(Done::default());
        };
        let item = Minted { key, record: bytes, partition, tracker, wanted, to, stands_in: true };
        self.follow_through(act, blind, item, decided, ticket).await
    }

    /// The second mint of a write that was minted in a primary's place.
    pub(super) async fn remint_standing_in(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        tracker: &WriteTracker<NodeId>,
        coverage: &Context,
    ) -> (Ticket, Option<Vec<usize>>) {
        let (key, partition, draft) = job.draft(0);
        let place = Place::of(scope, partition, tracker, &self.parts.replica.hint_targets(), &key);
        let mut mint = |record| {
            let Some(draft) = &draft else { return Ok(Decided::Unchanged) };
            let (record, dot) =
                self.mint_again(partition, self.now_ms(), record, coverage, draft)?;
            Ok(Decided::Minted(record, dot))
        };
        let (record, ticket) = match self.mint_hints(&place, &mut mint).await {
            Ok(Some(Written { bytes, ticket, .. })) => (Some(bytes), ticket),
            Ok(None) | Err(_) => (None, Ticket::DURABLE),
        };
        job.reminted(&[0], vec![record]);
        (ticket, Some(vec![0]))
    }

    /// Mints over all rows of a place and puts the new record into those that are kept.
    async fn mint_hints(
        &self,
        place: &Place,
        decision: &mut Decision<'_>,
    ) -> Result<Option<Written>, RequestError> {
        let replica = &self.parts.replica;
        let Some(_entered) = replica.hints().enter() else {
            return Err(RequestError::Busy(UNCOUNTED.into()));
        };
        let _flight = self.parts.dots.begin_flight();
        for _ in 0..TENURES_MAX {
            if self.parts.dots.needs_tenure(place.partition) {
                self.renew_tenure(place.partition).await?;
            }
            let mut minted: Result<Option<(Decided, Bytes)>, NoMint> = Ok(None);
            let ticket = replica
                .update_rows(&place.rows, &mut |stored| {
                    // Under the key's lock: a hint that goes from now on is seen by the next mint.
                    let put = if self.parts.dots.needs_tenure(place.partition) {
                        Err(NoMint::Paused)
                    } else {
                        self.put_minted(place, stored, decision)
                    };
                    match put {
                        Ok(Some((decided, bytes, puts))) => {
                            minted = Ok(Some((decided, bytes)));
                            puts
                        }
                        Ok(None) => Vec::new(),
                        Err(none) => {
                            minted = Err(none);
                            Vec::new()
                        }
                    }
                })
                .await
                .map_err(append_error)?;
            match minted {
                Ok(minted) => {
                    return Ok(minted.map(|(decided, bytes)| Written { decided, bytes, ticket }));
                }
                Err(NoMint::Because(error)) => return Err(error),
                Err(NoMint::Paused) => self.resume_minting(place.partition).await?,
            }
        }
        Err(RequestError::Busy("hints are being delivered faster than tenures begin".into()))
    }

    /// What is decided over all rows, and the rows that get it.
    fn put_minted(
        &self,
        place: &Place,
        stored: &[Option<Bytes>],
        decision: &mut Decision<'_>,
    ) -> Result<Option<Standing>, NoMint> {
        let decided = decision(join_all_of(stored)?)?;
        let Some(record) = decided.record() else { return Ok(None) };
        let bytes = Bytes::from(record.to_bytes());
        let puts = self.puts(place, stored, &bytes)?;
        Ok(Some((decided, bytes, puts)))
    }

    /// The rows that get a minted record, as far as there is room.
    fn puts(
        &self,
        place: &Place,
        stored: &[Option<Bytes>],
        record: &Bytes,
    ) -> Result<Vec<(usize, RowChange)>, RequestError> {
        let mut puts = Vec::with_capacity(place.keep.len());
        let mut pending = 0;
        for (at, counted) in place.keep.iter().copied() {
            let row = place.rows.get(at).map_or(0, Bytes::len) + record.len();
            let before = stored.get(at).and_then(Option::as_ref);
            let before = before.map_or(0, |old| row - record.len() + old.len());
            let more = row.saturating_sub(before) as u64;
            let fits = counted || record.len() <= BEYOND_BYTES_MAX;
            if fits && self.parts.replica.hints().has_room(pending + more, counted) {
                pending += more;
                puts.push((at, RowChange::Put(record.clone())));
            } else if counted {
                self.parts.figures.hints_refused.one();
                return Err(RequestError::Busy(FULL.into()));
            } else {
                self.parts.figures.hints_dropped.one();
            }
        }
        self.parts.figures.hints_written.add(puts.len() as u64);
        Ok(puts)
    }

    /// Begins a new tenure of a partition off the runtime's thread: it waits for the disk.
    async fn renew_tenure(&self, partition: Partition) -> Result<(), RequestError> {
        self.off_thread("a new tenure", move |dots| dots.begin_tenure(partition)).await
    }
}

/// The join of everything that rows hold of a key.
fn join_all_of(stored: &[Option<Bytes>]) -> Result<Record<Bytes>, RequestError> {
    let mut joined = Record::new();
    for row in stored.iter().flatten() {
        joined.join(&decode(Some(row))?);
    }
    Ok(joined)
}
