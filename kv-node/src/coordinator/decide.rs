//! Deciding one key's new record under its lock, and bringing it to W copies.
//!
//! The decision sees the stored record, decoded, and makes a new one of it or leaves it. The job of
//! the write is kept beside its outcome, also when W was not reached: WAIT counts it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kv_quorum::{Context, Dot, Draft, HybridTime, Mark, Record, Room};
use kv_ring::Partition;

use super::write::{Begin, Minted, NoMint, WriteJob, decode};
use super::{Coordinator, Levels, Scope};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{Answer, MutationOut};
use crate::plug::storage::Ticket;
use crate::replica::Verdict;

/// What a decision under the key's lock made of the record.
pub(super) enum Decided {
    /// A new record, and the dot that was minted.
    Minted(Record<Bytes>, Dot),
    /// A new record: the registers of some versions are changed.
    Stamped(Record<Bytes>, HybridTime),
    /// Nothing to write.
    Unchanged,
}

pub(super) type Decision<'d> = dyn FnMut(Record<Bytes>) -> Result<Decided, NoMint> + Send + 'd;

/// One write in execution.
pub(super) struct Act<'a> {
    pub(super) scope: &'a Scope,
    pub(super) key: KeyRef<'a>,
    pub(super) levels: Levels,
    pub(super) operation: Option<u64>,
    /// What was minted and is on its way.
    pub(super) job: OnceLock<Arc<WriteJob>>,
}

/// A write that was acknowledged, or found nothing to write.
#[derive(Default)]
pub(super) struct Done {
    pub(super) record: Record<Bytes>,
    pub(super) minted: Option<Dot>,
    /// Who else holds it and how it is named; `None` if nothing was written.
    written: Option<Written>,
}

struct Written {
    holders: Vec<kv_client::NodeId>,
    dot: Dot,
    stamp: HybridTime,
}

impl Decided {
    /// The new record, if there is one.
    pub(super) fn record(&self) -> Option<&Record<Bytes>> {
        match self {
            Self::Minted(record, _) | Self::Stamped(record, _) => Some(record),
            Self::Unchanged => None,
        }
    }
}

impl Done {
    pub(super) fn out(&self, answer: Answer) -> MutationOut {
        let Some(written) = &self.written else { return MutationOut::Nothing(answer) };
        let dot = written.dot;
        MutationOut::Written {
            holders: written.holders.clone(),
            dot: (dot.time.to_bits(), dot.actor.node, dot.actor.tenure),
            stamp: written.stamp.to_bits(),
            context: Bytes::new(),
            answer,
        }
    }
}

impl Coordinator {
    /// Mints a draft over what `seen` covers, here, and replicates it.
    pub(super) async fn mint_with(
        &self,
        act: &Act<'_>,
        seen: &Context,
        draft: &Draft<Bytes>,
    ) -> Result<Done, RequestError> {
        let partition = act.scope.partition(act.key);
        let mut room = Room::Ample;
        let done = self
            .decide(act, false, &mut |mut record| {
                let dot = self.mint_over(partition, &record, seen)?;
                room = record
                    .mint(dot, seen, draft.clone(), &self.limits)
                    .map_err(|error| self.refused(partition, &error))?;
                Ok(Decided::Minted(record, dot))
            })
            .await?;
        if let Room::Scarce { siblings } = room {
            self.parts.figures.sibling_warnings.one();
            tracing::warn!(siblings, slot = act.key.slot.index(), "a key has many siblings");
        }
        Ok(done)
    }

    /// Mints a draft over all that is stored here, and replicates it.
    pub(super) async fn mint_blind_one(
        &self,
        act: &Act<'_>,
        draft: &Draft<Bytes>,
    ) -> Result<Done, RequestError> {
        let partition = act.scope.partition(act.key);
        self.decide(act, true, &mut |mut record| {
            let dot = self.mint_over(partition, &record, &Context::new())?;
            record
                .mint_blind(dot, draft.clone())
                .map_err(|error| self.refused(partition, &error))?;
            Ok(Decided::Minted(record, dot))
        })
        .await
    }

    /// A new dot above a record and what was seen of others.
    fn mint_over(
        &self,
        partition: Partition,
        record: &Record<Bytes>,
        seen: &Context,
    ) -> Result<Dot, NoMint> {
        let above = record.coverage().vector().latest().max(seen.vector().latest());
        self.mint_dot(partition, self.now_ms(), above)
    }

    fn refused(&self, partition: Partition, error: &kv_quorum::Error) -> NoMint {
        match error {
            kv_quorum::Error::TooManySiblings { siblings, .. } => {
                RequestError::TooManySiblings { siblings: *siblings as u32 }.into()
            }
            kv_quorum::Error::RecordTooLarge { record_bytes, record_bytes_max } => {
                let (bytes, bytes_max) = (*record_bytes as u64, *record_bytes_max as u64);
                RequestError::RecordTooLarge { bytes, bytes_max }.into()
            }
            error => self.not_minted(partition, error),
        }
    }

    /// Reads, decides and appends under the key's lock, then replicates.
    pub(super) async fn decide(
        &self,
        act: &Act<'_>,
        blind: bool,
        decision: &mut Decision<'_>,
    ) -> Result<Done, RequestError> {
        let scope = act.scope;
        let partition = scope.partition(act.key);
        if !scope.holds(partition) {
            return self.decide_standing_in(act, blind, decision).await;
        }
        let wanted = scope.write_copies(act.levels)?;
        let begin = Begin { blind, stands_in: false };
        let (tracker, to) = self.begin_write(scope, partition, wanted, begin)?;
        let storage_key = act.key.to_storage();
        let mark = self.parts.replica.mark_at(act.key.slot);
        let _flight = self.parts.dots.begin_flight();
        let mut decided = Decided::Unchanged;
        let batch = self
            .mint_batch(&[&storage_key], &|_| partition, &mut |_, stored, out| {
                let mut record = decode(stored)?;
                if mark != Mark::NONE {
                    // What is collected at other replicas already must not be a sibling here.
                    record.collect(mark, u64::MAX);
                }
                decided = decision(record)?;
                let Some(record) = decided.record() else { return Ok(Verdict::Keep) };
                record.encode_into(out);
                Ok(Verdict::Write)
            })
            .await;
        if let Some(error) = batch.failure(0) {
            return Err(error);
        }
        let Some(bytes) = batch.records.into_iter().next().flatten() else {
            return Ok(Done::default());
        };
        self.parts.figures.replica_applies.one();
        let item = Minted {
            key: storage_key,
            record: bytes,
            partition,
            tracker,
            wanted,
            to,
            stands_in: false,
        };
        self.follow_through(act, blind, item, decided, batch.ticket).await
    }

    /// Brings what was decided and appended here to W copies.
    pub(super) async fn follow_through(
        &self,
        act: &Act<'_>,
        blind: bool,
        item: Minted,
        decided: Decided,
        ticket: Ticket,
    ) -> Result<Done, RequestError> {
        let (record, minted, stamp) = match decided {
            Decided::Minted(record, dot) => (record, Some(dot), HybridTime::ZERO),
            Decided::Stamped(record, stamp) => (record, None, stamp),
            Decided::Unchanged => return Ok(Done::default()),
        };
        let job = WriteJob::new(vec![item], act.scope, &self.parts);
        let job = act.job.get_or_init(|| job);
        let ends = self.replicate(act.scope, job, ticket).await;
        ends.into_iter().next().unwrap_or(Err(RequestError::Stopping))?;
        // A blind write may have been minted once more; what its job holds is the last.
        let last = if blind { job.dot(0) } else { None };
        let minted = minted.map(|first| last.unwrap_or(first));
        let shown = minted.or_else(|| record.winner().map(|winner| winner.dot));
        let written = shown.map(|dot| Written { holders: job.holders(0), dot, stamp });
        Ok(Done { record, minted, written })
    }
}
