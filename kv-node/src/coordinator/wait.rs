//! WAIT: how many other replicas hold a connection's writes.
//!
//! The connection keeps what its writes since the last WAIT left behind. A write that was minted
//! here goes on counting after the client has its answer, so WAIT only has to look, and to sleep
//! until something changes. For one that another node minted, the replicas that did not hold it at
//! its answer are asked whether they do now, again and again with growing pauses.
//!
//! What is on every replica leaves the list. The list is bounded, and what is pushed out of it is
//! remembered as the fewest holders that it had then: after very many writes without a WAIT the
//! number is a lower bound. Hints don't count.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;

use super::Coordinator;
use super::follow::{Followed, Remote, Trail};
use super::write::WriteJob;
use crate::keys::KeyRef;
use crate::wire::{PeerOp, PeerOut};

/// Writes (batches of those minted here) that a connection remembers, at most.
const LEDGER_WRITES_MAX: usize = 256;
/// Bytes of keys and records that it keeps for them, at most.
const LEDGER_BYTES_MAX: usize = 256 * 1_024;
/// The first pause between two rounds of questions.
const ASK_MS_MIN: u64 = 5;
/// The longest.
const ASK_MS_MAX: u64 = 200;

/// A connection's writes since its last WAIT.
#[derive(Default)]
pub struct WriteLedger {
    writes: VecDeque<Followed>,
    bytes: usize,
    /// The fewest holders of writes that are no longer followed.
    floor: Option<usize>,
}

impl std::fmt::Debug for WriteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteLedger").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

impl WriteLedger {
    /// Notes what writes left behind.
    pub(crate) fn note(&mut self, trail: impl Into<Trail>) {
        while self.writes.front().is_some_and(|write| write.holders().1) {
            self.settle_front();
        }
        for write in trail.into().into_followed() {
            self.bytes += write.bytes();
            self.writes.push_back(write);
            while self.writes.len() > LEDGER_WRITES_MAX
                || (self.bytes > LEDGER_BYTES_MAX && self.writes.len() > 1)
            {
                self.settle_front();
            }
        }
    }

    fn settle_front(&mut self) {
        if let Some(write) = self.writes.pop_front() {
            self.bytes = self.bytes.saturating_sub(write.bytes());
            let (holders, _) = write.holders();
            self.floor = Some(self.floor.map_or(holders, |floor| floor.min(holders)));
        }
    }

    /// The fewest other replicas that hold these writes; `None` if there were none.
    fn fewest(&self) -> Option<usize> {
        let followed = self.writes.iter().map(|write| write.holders().0).min();
        match (followed, self.floor) {
            (Some(followed), Some(floor)) => Some(followed.min(floor)),
            (one, other) => one.or(other),
        }
    }

    /// A job of this node that fewer than `wanted` others hold, and more may.
    fn slow_here(&self, wanted: usize) -> Option<Arc<WriteJob>> {
        self.writes.iter().find_map(|write| match write {
            Followed::Here(job) if write.is_short_of(wanted) => Some(Arc::clone(job)),
            _ => None,
        })
    }

    /// The writes of other nodes that fewer than `wanted` others hold, and more may, with their
    /// places.
    fn slow_there(&mut self, wanted: usize) -> impl Iterator<Item = (usize, &mut Remote)> {
        self.writes.iter_mut().enumerate().filter_map(move |(place, write)| {
            let short = write.is_short_of(wanted);
            match write {
                Followed::There(remote) if short => Some((place, remote)),
                _ => None,
            }
        })
    }

    /// Forgets the writes; with none, `others` are said to hold them.
    fn end(&mut self, others: usize) -> usize {
        let fewest = self.fewest().unwrap_or(others);
        *self = Self::default();
        fewest
    }
}

impl Coordinator {
    /// How many other replicas there are: WAIT's answer when there was nothing to wait for.
    fn other_replicas(&self) -> usize {
        self.scope().map_or(0, |scope| usize::from(scope.keyspace.n).saturating_sub(1))
    }

    /// WAIT whose time is over: what is known now. Empties the ledger.
    pub(crate) fn waited(&self, ledger: &mut WriteLedger) -> usize {
        ledger.end(self.other_replicas())
    }

    /// WAIT: sleeps until `wanted` other replicas hold the ledger's writes, or all that there are,
    /// or `timeout_ms` is over (0: never), and empties the ledger. Answers how many do; with no
    /// writes, how many replicas there are. The ledger stays as it is if the caller gives up.
    pub(crate) async fn wait(
        &self,
        ledger: &mut WriteLedger,
        wanted: usize,
        timeout_ms: u64,
    ) -> usize {
        let others = self.other_replicas();
        let limit = if timeout_ms == 0 { u64::MAX / 2 } else { timeout_ms };
        let give_up = self.sleep_until(self.parts.clock.steady_ms().saturating_add(limit));
        tokio::pin!(give_up);
        let (mut pause_ms, mut ask_at_ms) = (ASK_MS_MIN, 0);
        loop {
            let mut asks = ledger.slow_there(wanted).next().is_some();
            if asks && self.parts.clock.steady_ms() >= ask_at_ms {
                tokio::select! {
                    biased;
                    () = self.ask_holders(ledger, wanted) => {}
                    () = &mut give_up => return ledger.end(others),
                }
                asks = ledger.slow_there(wanted).next().is_some();
                ask_at_ms = self.parts.clock.steady_ms() + pause_ms;
                pause_ms = (pause_ms * 2).min(ASK_MS_MAX);
            }
            let job = ledger.slow_here(wanted);
            if ledger.fewest().is_none_or(|fewest| fewest >= wanted) || (job.is_none() && !asks) {
                return ledger.end(others);
            }
            let changed = async {
                match &job {
                    Some(job) => job.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = self.sleep_until(ask_at_ms), if asks => {}
                () = &mut give_up => return ledger.end(others),
            }
        }
    }

    /// Asks the other replicas of what other nodes minted whether they hold it now.
    async fn ask_holders(&self, ledger: &mut WriteLedger, wanted: usize) {
        let Ok(scope) = self.scope() else { return };
        let me = scope.view.me;
        let mut asks: Vec<(NodeId, PeerOp)> = Vec::new();
        let mut of: Vec<usize> = Vec::new();
        for (place, remote) in ledger.slow_there(wanted) {
            let Some(key) = KeyRef::parse(&remote.key) else { continue };
            let owners = scope.layouts.newest().owners(scope.partition(key)).to_vec();
            for node in owners {
                if node == remote.minter
                    || remote.holders.contains(&node)
                    || scope.down.contains(&node)
                {
                    continue;
                }
                if node == me {
                    let held = self.parts.replica.holds(&remote.key, remote.dot, remote.stamp);
                    if held.await.unwrap_or(false) {
                        remote.holders.push(me);
                    }
                    continue;
                }
                asks.push((node, remote.question()));
                of.push(place);
            }
        }
        let nodes: Vec<NodeId> = asks.iter().map(|(node, _)| *node).collect();
        let answers = self.gather(scope.deadline_ms, asks).await;
        for ((place, node), answer) in of.into_iter().zip(nodes).zip(answers) {
            if let Some(Ok(PeerOut::Holds(true))) = answer
                && let Some(Followed::There(remote)) = ledger.writes.get_mut(place)
            {
                remote.holders.push(node);
            }
        }
    }
}

impl Remote {
    fn question(&self) -> PeerOp {
        PeerOp::Holds {
            key: Bytes::clone(&self.key),
            dot: (self.dot.time.to_bits(), self.dot.actor.node, self.dot.actor.tenure),
            stamp: self.stamp.to_bits(),
        }
    }
}
