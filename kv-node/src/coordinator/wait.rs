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
//!
//! The first write after a WAIT begins a new list; a second WAIT before it asks about the same
//! writes, so that a client may ask again until there are enough.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
/// Bytes that all connections together keep for them, at most: beyond it the oldest of whoever
/// writes next are followed no longer.
const LEDGERS_BYTES_MAX: usize = 64 << 20;
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
    /// A WAIT has told of all of them.
    waited: bool,
    /// The bytes of all ledgers of a door.
    sum: Arc<AtomicUsize>,
}

impl std::fmt::Debug for WriteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteLedger").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

impl Drop for WriteLedger {
    fn drop(&mut self) {
        self.forget();
    }
}

impl WriteLedger {
    /// One whose bytes count in the sum of all ledgers of a door.
    pub(crate) fn counted(sum: Arc<AtomicUsize>) -> Self {
        Self { writes: VecDeque::new(), bytes: 0, floor: None, waited: false, sum }
    }

    /// Follows nothing any more, as if nothing had been written.
    pub(crate) fn forget(&mut self) {
        self.sum.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        self.writes.clear();
        (self.floor, self.waited) = (None, false);
    }

    /// Notes what writes left behind.
    pub(crate) fn note(&mut self, trail: impl Into<Trail>) {
        let mut writes = trail.into().into_followed().peekable();
        if self.waited && writes.peek().is_some() {
            self.forget();
        }
        self.settle();
        for write in writes {
            let bytes = write.bytes();
            self.bytes += bytes;
            let mut all = self.sum.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.writes.push_back(write);
            while self.writes.len() > LEDGER_WRITES_MAX
                || (self.bytes > LEDGER_BYTES_MAX && self.writes.len() > 1)
                || (all > LEDGERS_BYTES_MAX && !self.writes.is_empty())
            {
                all = self.settle_front();
            }
        }
    }

    /// Follows what is everywhere no longer.
    fn settle(&mut self) {
        while self.writes.front().is_some_and(|write| write.holders().1) {
            self.settle_front();
        }
    }

    /// Follows the oldest no longer; answers the bytes of all ledgers.
    fn settle_front(&mut self) -> usize {
        if let Some(write) = self.writes.pop_front() {
            let bytes = write.bytes().min(self.bytes);
            self.bytes -= bytes;
            self.sum.fetch_sub(bytes, Ordering::Relaxed);
            let (holders, _) = write.holders();
            self.floor = Some(self.floor.map_or(holders, |floor| floor.min(holders)));
        }
        self.sum.load(Ordering::Relaxed)
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

    /// A WAIT tells of them; with none, `others` are said to hold them.
    fn end(&mut self, others: usize) -> usize {
        self.settle();
        self.waited = true;
        self.fewest().unwrap_or(others)
    }
}

impl Coordinator {
    /// How many other replicas are up, at most as many as a key has: WAIT's answer when there was
    /// nothing to wait for.
    fn other_replicas(&self) -> usize {
        self.scope().map_or(0, |scope| {
            let members = scope.layouts.newest().members().iter();
            let is_there = |node: &&NodeId| **node != scope.view.me && !scope.down.contains(node);
            members.filter(is_there).count().min(usize::from(scope.keyspace.n).saturating_sub(1))
        })
    }

    /// WAIT whose time is over: what is known now. The next write begins a new list.
    pub(crate) fn waited(&self, ledger: &mut WriteLedger) -> usize {
        ledger.end(self.other_replicas())
    }

    /// WAIT: sleeps until `wanted` other replicas hold the ledger's writes, or all that there are,
    /// or `timeout_ms` is over (0: never). Answers how many do; with no writes, how many replicas
    /// are up. The next write begins a new list, unless the caller gives up.
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
