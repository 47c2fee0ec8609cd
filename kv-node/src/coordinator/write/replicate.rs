//! Bringing a job's records to W copies: sends, this node's own sync, second mints, the deadline.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Context, Dot, Draft, Record, WriteTracker};
use kv_ring::Partition;

use super::job::{Minted, Next, WriteJob, lost};
use super::{Begin, Ended, NoMint, decode};
use crate::coordinator::{Coordinator, Newer, Scope};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::plug::storage::Ticket;
use crate::replica::Verdict;

impl Coordinator {
    /// Brings a job's records to W copies. One end for each item, in order.
    ///
    /// If newer layouts are known when the items have ended, calls may have gone out under them
    /// though they were planned without: then what is minted is brought to W of all layouts that
    /// are live now, before anything is acknowledged. The same where a replica refused because it
    /// knows newer ones.
    pub(in crate::coordinator) async fn replicate(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        ticket: Ticket,
    ) -> Vec<Ended> {
        let mut ticket = self.drive(scope, job, ticket).await;
        let mut next = self.newer_scope(scope, job.is_stale()).await;
        let is_there = loop {
            // What becomes known later than this is for those who ask later.
            let scope = match next {
                Newer::Nothing => break true,
                Newer::Known(scope) => scope,
                Newer::TooLate => break false,
            };
            if !job.plan_again(|minted| self.plan_again(&scope, minted)) {
                break false;
            }
            ticket = self.drive(&scope, job, ticket).await;
            next = self.newer_scope(&scope, job.is_stale()).await;
        };
        self.parts.figures.sloppy_writes.add(job.sloppy());
        self.keep_unserved(job).await;
        let mut ends = job.ends();
        // Who lost its data and fills again waits until nothing counts its earlier answers any
        // more: what was counted after the deadline may have counted one too many.
        if !is_there || self.parts.clock.steady_ms() > scope.deadline_ms {
            ends.iter_mut().filter(|end| end.is_ok()).for_each(|end| *end = lost());
        }
        let lost = ends.iter().filter(|end| matches!(end, Err(RequestError::Indeterminate { .. })));
        self.parts.figures.indeterminate.add(lost.count() as u64);
        ends
    }

    /// A tracker for a minted write under newer layouts, and whom it names. They may have more
    /// partitions: it is in one of those from now on.
    fn plan_again(
        &self,
        scope: &Scope,
        minted: &mut Minted,
    ) -> Result<(WriteTracker<NodeId>, Vec<NodeId>), RequestError> {
        if let Some(key) = KeyRef::parse(&minted.key) {
            minted.partition = scope.partition(key);
        }
        let begin = Begin { blind: minted.tracker.is_blind(), stands_in: minted.stands_in };
        // It is minted: that W can't be had now does not say that nothing was written.
        self.begin_write(scope, minted.partition, minted.wanted, begin).map_err(|_| {
            let wanted = minted.wanted.least(scope.keyspace.n);
            RequestError::Indeterminate { reached: 0, wanted, silent: scope.down.clone() }
        })
    }

    /// Sends a job's records, waits for its own sync beside that, mints again where asked, until
    /// every item has ended. Answers what the last mints wait for.
    async fn drive(&self, scope: &Scope, job: &Arc<WriteJob>, ticket: Ticket) -> Ticket {
        let me = scope.view.me;
        let mut round = (ticket, None::<Vec<usize>>);
        let deadline = self.sleep_until(scope.deadline_ms);
        tokio::pin!(deadline);
        loop {
            let mut synced = false;
            {
                let sync = self.parts.replica.durable(round.0);
                tokio::pin!(sync);
                loop {
                    match job.next() {
                        Next::Settled => break,
                        Next::Send => {
                            let sends = job.take_sends(me, scope.deadline_ms);
                            sends.submit(&*self.parts.peers);
                            continue;
                        }
                        Next::Wait => {}
                    }
                    tokio::select! {
                        biased;
                        result = &mut sync, if !synced => {
                            synced = true;
                            let standings = self.parts.replica.standings();
                            job.synced(me, standings, round.1.as_deref(), result.is_ok());
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
            let minted = self.remint(scope, job, again).await;
            round = if synced { minted } else { both(round, minted) };
        }
        // Who stands in for a primary that was found out after W was reached.
        job.take_sends(me, scope.deadline_ms).submit(&*self.parts.peers);
        round.0.max(ticket)
    }

    /// The second mint of some items, over all the coverage in their answers.
    async fn remint(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        again: Vec<(usize, Context)>,
    ) -> (Ticket, Option<Vec<usize>>) {
        self.parts.figures.second_mints.add(again.len() as u64);
        if let [(item, coverage)] = &again[..]
            && let Some(tracker) = job.standing_in(*item)
        {
            return self.remint_standing_in(scope, job, &tracker, coverage).await;
        }
        let drafts: Vec<_> = again.iter().map(|(item, _)| job.draft(*item)).collect();
        let keys: Vec<Bytes> = drafts.iter().map(|(key, ..)| key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let partition =
            |at: usize| drafts.get(at).map_or(Partition::ALL, |(_, partition, _)| *partition);
        let done = self
            .mint_batch(&slices, &partition, &mut |at, stored, out| {
                let (Some((_, coverage)), Some((_, partition, Some(draft)))) =
                    (again.get(at), drafts.get(at))
                else {
                    return Ok(Verdict::Keep);
                };
                self.overwrite_over(*partition, now_ms, stored, coverage, draft, out)
            })
            .await;
        let items: Vec<usize> = again.iter().map(|(item, _)| *item).collect();
        self.parts.figures.replica_applies.add(items.len() as u64);
        job.reminted(&items, done.records);
        (done.ticket, Some(items))
    }

    fn overwrite_over(
        &self,
        partition: Partition,
        now_ms: u64,
        stored: Option<&[u8]>,
        coverage: &Context,
        draft: &Draft<Bytes>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, NoMint> {
        let record = decode(stored)?;
        self.mint_again(partition, now_ms, record, coverage, draft)?.0.encode_into(out);
        Ok(Verdict::Write)
    }

    /// Mints a draft over a record and all the coverage that was answered.
    pub(super) fn mint_again(
        &self,
        partition: Partition,
        now_ms: u64,
        mut record: Record<Bytes>,
        coverage: &Context,
        draft: &Draft<Bytes>,
    ) -> Result<(Record<Bytes>, Dot), NoMint> {
        let seen = record.coverage().vector().latest().max(coverage.vector().latest());
        let dot = self.mint_dot(partition, now_ms, seen)?;
        match record.mint_over(dot, coverage, draft.clone()) {
            Ok(()) => Ok((record, dot)),
            Err(error) => Err(self.not_minted(partition, &error)),
        }
    }

    /// Keeps hints beyond W for primaries that are down and for whom nobody else holds one.
    async fn keep_unserved(&self, job: &Arc<WriteJob>) {
        let hints = job.unserved();
        if hints.is_empty() {
            return;
        }
        let dropped = self.parts.replica.keep_beyond(&hints).await as u64;
        self.parts.figures.hints_written.add(hints.len() as u64 - dropped);
        self.parts.figures.hints_dropped.add(dropped);
    }
}

/// Two waits for this node's own log as one: until the later, for the items of either.
fn both(
    (ticket, items): (Ticket, Option<Vec<usize>>),
    (later, more): (Ticket, Option<Vec<usize>>),
) -> (Ticket, Option<Vec<usize>>) {
    let items = items.zip(more).map(|(mut items, more)| {
        items.extend(more);
        items
    });
    (ticket.max(later), items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_was_not_waited_for_counts_with_the_next() {
        let all = (Ticket(3), None);
        assert_eq!(both(all.clone(), (Ticket(5), Some(vec![0]))), (Ticket(5), None));
        let some = (Ticket(7), Some(vec![1, 2]));
        assert_eq!(
            both(some.clone(), (Ticket(5), Some(vec![0]))),
            (Ticket(7), Some(vec![1, 2, 0]))
        );
        assert_eq!(both(some, all), (Ticket(7), None));
    }
}
