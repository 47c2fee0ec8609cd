//! One side of an exchange with one peer: asking, counting what it costs, waiting for its turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_client::NodeId;
use kv_merkle::{Answer, Exchange, Pace, Shape, Tree};
use kv_quorum::{HybridTime, Mark};
use serde::Serialize;

use super::ExchangeError;
use super::wire::{ExchangeOp, ExchangeOut, RepairTally};
use crate::coordinator::Coordinator;
use crate::wire::{PeerOp, PeerOut};

/// An exchange under way, as the asker sees it.
pub(in crate::coordinator) struct Talk<'c> {
    pub(super) coordinator: &'c Coordinator,
    pub(super) peer: NodeId,
    pub(super) tally: RepairTally,
    /// What differs is compared again after so long, before any data is sent.
    pub(in crate::coordinator) settle_ms: u64,
    /// Whether a range is compared key by key where there is no tree.
    pub(in crate::coordinator) without_trees: bool,
    /// Whether the peer said that it is complete, each time that it was asked.
    pub(in crate::coordinator) complete: bool,
    /// The least mark of those that it told: the one before it was first asked, unless it lost
    /// something since. For one partition only.
    pub(in crate::coordinator) mark: Option<Mark>,
    rate: Rate,
    owed_us: u64,
}

/// How fast: bytes a second (0: no limit) and the part of it that may be used, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(in crate::coordinator) struct Rate {
    pub(in crate::coordinator) bytes_per_second: u64,
    pub(in crate::coordinator) per_mille: u64,
}

/// The background's part of its rate, for all exchanges of a node.
#[derive(Debug)]
pub(crate) struct Part(AtomicU64);

impl Default for Part {
    fn default() -> Self {
        Self(AtomicU64::new(1_000))
    }
}

impl Part {
    pub(crate) fn set(&self, per_mille: u64) {
        self.0.store(per_mille.max(1), Ordering::Relaxed);
    }

    pub(crate) fn per_mille(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a walk down two trees found.
pub(super) enum Walked {
    /// The leaves that differ.
    Leaves(Vec<u32>),
    /// The peer's tree is flatter.
    OtherShape(Shape),
    /// The peer has no such tree.
    NoTree,
    /// The trees whose roots these are, are flatter at the peer.
    Flatter(u8),
}

/// Waits shorter than this are put together.
const WAIT_US_MIN: u64 = 1_000;

impl<'c> Talk<'c> {
    pub(in crate::coordinator) fn new(
        coordinator: &'c Coordinator,
        peer: NodeId,
        rate: Rate,
    ) -> Self {
        Self {
            coordinator,
            peer,
            tally: RepairTally { peers: 1, ..RepairTally::default() },
            settle_ms: coordinator.parts.antientropy.settle_ms,
            without_trees: false,
            complete: true,
            mark: None,
            rate,
            owed_us: 0,
        }
    }

    /// Asks the peer, and waits as long as the bytes cost.
    ///
    /// # Errors
    /// `Silent` if any of the operations has no answer.
    pub(super) async fn ask(&mut self, ops: Vec<PeerOp>) -> Result<Vec<PeerOut>, ExchangeError> {
        let timing = &self.coordinator.parts.timing;
        let deadline_ms = self.coordinator.parts.clock.steady_ms() + timing.request_ms_max;
        let sent: u64 = ops.iter().map(weight).sum();
        let asks = ops.into_iter().map(|op| (self.peer, op)).collect();
        let answers = self.coordinator.gather(deadline_ms, asks).await;
        let mut outs = Vec::with_capacity(answers.len());
        let mut failure = None;
        for answer in answers {
            match answer {
                Some(Ok(out)) => outs.push(out),
                Some(Err(why)) => failure = Some(ExchangeError::Silent(format!("{why:?}"))),
                None => failure = Some(ExchangeError::Silent("the deadline passed".into())),
            }
        }
        let received: u64 = outs.iter().map(weight).sum();
        self.tally.sent_bytes += sent;
        self.tally.received_bytes += received;
        let figures = &self.coordinator.parts.figures;
        figures.aae_bytes_sent.add(sent);
        figures.aae_bytes_received.add(received);
        self.pay(sent + received).await;
        failure.map_or(Ok(outs), Err)
    }

    /// One question of an exchange.
    ///
    /// # Errors
    /// `Silent`, `Confused`.
    pub(super) async fn ask_one(&mut self, op: ExchangeOp) -> Result<ExchangeOut, ExchangeError> {
        match self.ask(vec![PeerOp::Exchange(op)]).await?.pop() {
            Some(PeerOut::Exchange(out)) => {
                if let ExchangeOut::Compared { complete, mark, .. }
                | ExchangeOut::NoTree { complete, mark }
                | ExchangeOut::Listed { complete, mark, .. } = &out
                {
                    self.complete &= complete;
                    let mark = Mark::at(HybridTime::from_bits(*mark));
                    self.mark = Some(self.mark.map_or(mark, |least| least.min(mark)));
                }
                Ok(out)
            }
            _ => Err(ExchangeError::Confused),
        }
    }

    /// Walks down a tree of this node's and the peer's.
    ///
    /// # Errors
    /// `Silent`, `Confused`.
    pub(super) async fn walk(
        &mut self,
        tree: &Tree,
        op: impl Fn(bytes::Bytes) -> ExchangeOp,
    ) -> Result<Walked, ExchangeError> {
        let mut exchange = Exchange::new(tree, Pace::default());
        while let Some(request) = exchange.request(tree) {
            let answer = match self.ask_one(op(request.encode().into())).await? {
                ExchangeOut::Compared { answer, .. } => Answer::decode(&answer)?,
                ExchangeOut::NoTree { .. } => return Ok(Walked::NoTree),
                ExchangeOut::Flatter { depth } => return Ok(Walked::Flatter(depth)),
                _ => return Err(ExchangeError::Confused),
            };
            if let Answer::OtherShape { shape } = answer {
                return Ok(Walked::OtherShape(shape));
            }
            exchange.on_answer(tree, &answer)?;
        }
        Ok(Walked::Leaves(exchange.differing().to_vec()))
    }

    pub(super) async fn settle(&self) {
        self.coordinator.parts.clock.sleep(Duration::from_millis(self.settle_ms)).await;
    }

    /// Bytes sent and received so far.
    pub(in crate::coordinator) fn bytes(&self) -> u64 {
        self.tally.sent_bytes + self.tally.received_bytes
    }

    async fn pay(&mut self, bytes: u64) {
        let per_second = self.rate.bytes_per_second.saturating_mul(self.rate.per_mille) / 1_000;
        if self.rate.bytes_per_second == 0 {
            return;
        }
        self.owed_us += bytes.saturating_mul(1_000_000) / per_second.max(1);
        if self.owed_us >= WAIT_US_MIN {
            let owed = Duration::from_micros(std::mem::take(&mut self.owed_us));
            self.coordinator.parts.clock.sleep(owed).await;
        }
    }
}

/// Bytes that a message takes on the wire, without the call's envelope.
fn weight<T: Serialize>(message: &T) -> u64 {
    postcard::experimental::serialized_size(message).map_or(0, |bytes| bytes as u64)
}
