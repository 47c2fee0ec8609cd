//! Bringing a job's records to W copies: sends, this node's own sync, second mints, the deadline.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Context, Draft, WriteTracker};
use kv_ring::Partition;

use super::job::{Minted, WriteJob, lost};
use super::{Ended, NoMint, decode};
use crate::coordinator::gather::ByNode;
use crate::coordinator::{Coordinator, Scope};
use crate::error::RequestError;
use crate::plug::storage::Ticket;
use crate::replica::Verdict;
use crate::rpc::Pending;
use crate::wire::PeerOp;

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
        held_here: bool,
    ) -> Vec<Ended> {
        let mut ticket = self.drive(scope, job, ticket, held_here).await;
        let mut epoch = scope.view.epoch();
        let mut next = self.newer_scope(scope, job.is_stale()).await;
        while let Some(scope) = next {
            if !job.plan_again(|minted| self.plan_again(&scope, minted)) {
                break;
            }
            epoch = scope.view.epoch();
            ticket = self.drive(&scope, job, ticket, held_here).await;
            next = self.newer_scope(&scope, job.is_stale()).await;
        }
        let mut ends = job.ends();
        if self.parts.view.now().epoch() > epoch {
            // No time is left to bring it there.
            ends.iter_mut().filter(|end| end.is_ok()).for_each(|end| *end = lost());
        }
        let lost = ends.iter().filter(|end| matches!(end, Err(RequestError::Indeterminate { .. })));
        self.parts.figures.indeterminate.add(lost.count() as u64);
        ends
    }

    /// A tracker for a minted write under newer layouts.
    fn plan_again(
        &self,
        scope: &Scope,
        minted: &Minted,
    ) -> Result<WriteTracker<NodeId>, RequestError> {
        let before = &minted.tracker;
        let wanted = before.plan().sets().next().map_or(1, |set| set.required as u8);
        // It is minted: that W can't be had now does not say that nothing was written.
        self.begin_write(scope, minted.partition, wanted, before.is_blind()).map_err(|_| {
            RequestError::Indeterminate { reached: 0, wanted, silent: scope.down.clone() }
        })
    }

    /// Sends a job's records, waits for its own sync beside that, mints again where asked, until
    /// every item has ended. Answers what the last mints wait for.
    async fn drive(
        &self,
        scope: &Scope,
        job: &Arc<WriteJob>,
        ticket: Ticket,
        held_here: bool,
    ) -> Ticket {
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
            round = self.remint(scope, job, again).await;
        }
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
        let drafts: Vec<_> = again.iter().map(|(item, _)| job.draft(*item)).collect();
        let keys: Vec<Bytes> = drafts.iter().map(|(key, ..)| key.clone()).collect();
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let now_ms = self.now_ms();
        let partition =
            |at: usize| drafts.get(at).map_or(Partition::new(0), |(_, partition, _)| *partition);
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
        self.send_all(scope, job, Some(&items));
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
        let mut record = decode(stored)?;
        let seen = record.coverage().vector().latest().max(coverage.vector().latest());
        let dot = self.mint_dot(partition, now_ms, seen)?;
        match record.mint_over(dot, coverage, draft.clone()) {
            Ok(()) => {
                record.encode_into(out);
                Ok(Verdict::Write)
            }
            Err(error) => Err(self.not_minted(partition, &error)),
        }
    }

    /// Sends the records of all items, or of some, to their replicas, this node excepted.
    fn send_all(&self, scope: &Scope, job: &Arc<WriteJob>, only: Option<&[usize]>) {
        let mut by_node = ByNode::default();
        {
            let inner = job.inner.lock();
            for (at, item) in inner.items.iter().enumerate() {
                if only.is_some_and(|only| !only.contains(&at)) || item.ended.is_some() {
                    continue;
                }
                let slot = WriteJob::slot(&inner, at, item.minted.tracker.round());
                for node in item.minted.tracker.plan().primaries() {
                    if *node == scope.view.me || scope.down.contains(node) {
                        continue;
                    }
                    let pending = Pending {
                        op: PeerOp::Apply {
                            key: item.minted.key.clone(),
                            record: item.minted.record.clone(),
                        },
                        slot,
                        to: Arc::<WriteJob>::clone(job),
                        deadline_ms: scope.deadline_ms,
                    };
                    by_node.add(*node, pending);
                }
            }
        }
        by_node.submit(&*self.parts.peers);
    }
}
