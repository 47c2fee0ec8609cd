//! Driving a job of reads: this node's copies, the others', repairs before the answer and after.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Mark, ReadBody, ReadReply, ReadStep};

use super::job::{Nobody, REPAIR, ROUND_SHIFT, ReadJob, Todo};
use super::{Tracker, fingerprint};
use crate::coordinator::gather::ByNode;
use crate::coordinator::write::storage_error;
use crate::coordinator::{Coordinator, Scope};
use crate::error::RequestError;
use crate::plug::storage::Ticket;
use crate::replica::Hint;
use crate::rpc::Pending;
use crate::wire::{PeerOp, PeerOut};

impl Coordinator {
    pub(super) async fn drive_reads(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        first: Vec<Vec<NodeId>>,
    ) {
        let (mut wait, hedge_us) = self.ask_first(scope, job, first).await;
        let deadline = self.sleep_until(scope.deadline_ms);
        let hedge = self.parts.clock.sleep(Duration::from_micros(hedge_us));
        tokio::pin!(deadline, hedge);
        let mut hedged = false;
        while !job.is_over() {
            let todo = job.take_todo();
            if !todo.is_empty() {
                wait = wait.max(self.act(scope, job, todo).await);
                continue;
            }
            tokio::select! {
                biased;
                () = job.wake.notified() => {}
                () = &mut hedge, if !hedged => {
                    hedged = self.hedge(job);
                    hedge.set(self.parts.clock.sleep(Duration::from_micros(hedge_us)));
                }
                () = &mut deadline => job.each_open(Tracker::on_deadline),
            }
        }
        if let Err(error) = self.show_when_durable(scope, wait).await {
            let mut inner = job.inner.lock();
            for item in &mut inner.items {
                item.outcome = Some(Err(error.clone()));
            }
        }
    }

    /// Asks one replica more for every read that waits, as far as one in twenty may. Answers
    /// whether all that wait were served.
    fn hedge(&self, job: &Arc<ReadJob>) -> bool {
        let mut all = true;
        let figures = &self.parts.figures;
        let detector = &self.parts.detector;
        job.each_open(|tracker| {
            if !tracker.may_hedge() {
                return ReadStep::Wait;
            }
            if !detector.may_hedge() {
                figures.hedges_unpaid.one();
                all = false;
                return ReadStep::Wait;
            }
            figures.hedged_reads.one();
            tracker.hedge().map_or(ReadStep::Wait, |node| ReadStep::Contact(vec![node]))
        });
        all
    }

    /// Reads this node's copies, then asks the others with their fingerprints. Answers what the
    /// local copies wait for, and after how many microseconds one replica more is to be asked.
    async fn ask_first(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        first: Vec<Vec<NodeId>>,
    ) -> (Ticket, u64) {
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
        (wait, self.ask(scope, job, &asks, &have))
    }

    /// Gives the trackers of `own` this node's copies (or hints), and notes their fingerprints.
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
        let mut show = |place: usize, record: Option<&[u8]>| {
            if let (Some(body), Some(record)) = (bodies.get_mut(place), record) {
                *body = ReadBody::Record(Bytes::copy_from_slice(record));
            }
        };
        let replica = &self.parts.replica;
        let standings = replica.standings();
        let before: Vec<(Mark, bool)> = slices
            .iter()
            .map(|key| (replica.mark_for(key), standings.is_complete_for(key)))
            .collect();
        // A key that this node is no replica of is in its hints.
        let read = if replica.hints().may_have_some() && job.stands_in(own, scope.view.me) {
            replica.read_hinted(&slices, &mut show).await
        } else {
            replica.read(&slices, &mut show).await
        };
        self.parts.figures.replica_reads.add(own.len() as u64);
        for (((item, body), key), (before, was)) in own.iter().zip(bodies).zip(&keys).zip(before) {
            // What was lost, or not filled yet, when it was looked for may be there now.
            let complete = was && standings.is_complete_for(key);
            // It rose since, or something was lost: the lower one speaks for what was read.
            let mark = self.parts.replica.mark_for(key).min(before);
            if read.is_err() {
                job.step(*item, |tracker| tracker.on_refusal(scope.view.me));
                continue;
            }
            if let Some(slot) = have.get_mut(*item) {
                let record = match &body {
                    ReadBody::Record(record) => Some(&record[..]),
                    _ => None,
                };
                *slot = fingerprint(scope.record.digest_key, record);
                if slot.is_none() {
                    self.parts.replica.damaged_record(key, record);
                }
            }
            job.step(*item, |tracker| {
                // What peers answer with "the same" is this copy, whose fingerprint they get.
                tracker.offer(match &body {
                    ReadBody::Record(record) => Some(record.clone()),
                    _ => None,
                });
                tracker.on_reply(scope.view.me, ReadReply { complete, mark, body })
            });
        }
        read.unwrap_or(Ticket::DURABLE)
    }

    /// Sends reads. Answers after how many microseconds one replica more is to be asked.
    fn ask(
        &self,
        scope: &Scope,
        job: &Arc<ReadJob>,
        asks: &[(usize, Vec<NodeId>)],
        have: &[Option<u128>],
    ) -> u64 {
        let mut by_node = ByNode::default();
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
                    by_node.add(*node, pending);
                }
            }
        }
        let most_us = self.parts.timing.hedge_ms * 1_000;
        let hedge_us = self.parts.detector.hedge_us(by_node.nodes(), most_us);
        by_node.submit(&*self.parts.peers);
        hedge_us
    }

    /// Does what trackers asked for. Answers what local copies that were read wait for.
    async fn act(&self, scope: &Scope, job: &Arc<ReadJob>, todo: Vec<Todo>) -> Ticket {
        let me = scope.view.me;
        let mut latest = Ticket::DURABLE;
        for todo in todo {
            match todo {
                Todo::Ask { item, mut nodes } => {
                    if nodes.contains(&me) {
                        nodes.retain(|node| *node != me);
                        let mut have = vec![None; item + 1];
                        let wait = self.read_own(scope, job, &[item], &mut have).await;
                        latest = latest.max(wait);
                    }
                    self.ask(scope, job, &[(item, nodes)], &[]);
                }
                Todo::Repair { item, nodes, record, round } => {
                    self.parts.figures.read_conflicts.one();
                    self.repair(scope, job, (item, round), nodes, &record).await;
                }
            }
        }
        latest
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
        let me = scope.view.me;
        let (key, targets) = {
            let inner = job.inner.lock();
            let Some(item) = inner.items.get(item) else { return };
            let target = |node: &NodeId| item.tracker.hint_for(*node);
            (item.key.clone(), nodes.iter().map(target).collect::<Vec<_>>())
        };
        let asked = nodes.iter().zip(&targets);
        for (node, target) in asked.clone().filter(|(node, _)| **node != me) {
            let (key, record) = (key.clone(), record.clone());
            let op = match *target {
                Some(target) => PeerOp::Hint { target, key, record, counted: true, minted: false },
                None => PeerOp::Apply { key, record, mark: 0, minted: false },
            };
            let pending = Pending {
                op,
                slot: item as u32 | round << ROUND_SHIFT | REPAIR,
                to: Arc::<ReadJob>::clone(job),
                deadline_ms: scope.deadline_ms,
            };
            self.parts.peers.submit(*node, vec![pending]);
        }
        if let Some((_, target)) = asked.clone().find(|(node, _)| **node == me) {
            let join = async {
                match *target {
                    Some(target) => self.hint_here(target, &key, record).await,
                    None => self.join_here(&key, record).await.is_ok(),
                }
            };
            // A disk without room keeps nobody longer than a replica that does not answer.
            let joined = self.in_time(scope, pin!(join)).await.unwrap_or(false);
            job.step(item, |tracker| {
                if joined { tracker.on_repaired(me, round) } else { tracker.on_refusal(me) }
            });
        }
    }

    /// Joins a record into this node's hints for `target`, durably. Says whether it is there.
    async fn hint_here(&self, target: NodeId, key: &Bytes, record: &Bytes) -> bool {
        let (key, record) = (key.clone(), record.clone());
        let hint = Hint { target, key, record, counted: true, minted: false };
        let outs = self.keep_hints(&[hint]).await;
        outs.iter().all(|out| matches!(out, PeerOut::Applied { .. }))
    }

    /// Joins a record into this node's copy, durably.
    async fn join_here(&self, key: &Bytes, record: &Bytes) -> Result<(), RequestError> {
        let update = self
            .parts
            .replica
            .update(&[key], &mut |_, stored, out| {
                self.parts.replica.join(key, stored, record, Mark::NONE, out).0
            })
            .await
            .map_err(storage_error)?;
        self.parts.figures.replica_applies.one();
        self.parts.replica.durable(update.ticket).await.map_err(storage_error)
    }

    /// After the answer: replicas that answered too and lack some of it get it.
    pub(super) fn mend_tail(&self, scope: &Scope, job: &Arc<ReadJob>) {
        let mut by_node = ByNode::default();
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
                        op: PeerOp::Apply { key: item.key.clone(), record, mark: 0, minted: false },
                        slot: 0,
                        to: Arc::new(Nobody),
                        deadline_ms: scope.deadline_ms,
                    };
                    by_node.add(node, pending);
                }
            }
        }
        let repairs = by_node.submit(&*self.parts.peers);
        self.parts.figures.read_repairs.add(repairs as u64);
        if !own.is_empty() {
            let replica = Arc::clone(&self.parts.replica);
            self.parts.exec.spawn(Box::pin(async move {
                for (key, record) in own {
                    let joined = replica
                        .update(&[&key], &mut |_, stored, out| {
                            replica.join(&key, stored, &record, Mark::NONE, out).0
                        })
                        .await;
                    if let Err(error) = joined {
                        tracing::warn!(%error, "a tail repair of this node's copy failed");
                    }
                }
            }));
        }
    }
}
