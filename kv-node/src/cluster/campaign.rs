//! Ballot after ballot until an epoch is decided: higher each time, after a jittered pause.
//!
//! Two nodes that propose at once outbid each other; each then waits a random part of a time that
//! doubles, so one of them soon has two rounds for itself. What is decided may be the other's: who
//! asked for the change compares.
//!
//! No clock, no network: the caller carries messages, waits and draws the random numbers.

use bytes::Bytes;
use kv_client::NodeId;

use super::commit::Proposer;
use super::wire::Ballot;

/// The first pause is at most so long.
const PAUSE_MS_MIN: u64 = 20;
/// And no pause is longer.
const PAUSE_MS_MAX: u64 = 1_000;

/// The way to a decision on one epoch.
#[derive(Clone, Debug)]
pub struct Campaign {
    epoch: u64,
    me: NodeId,
    voters: usize,
    decree: Bytes,
    /// The highest round that was heard of.
    round: u64,
    lost: u32,
}

impl Campaign {
    /// A campaign of `me` for `decree` among so many voters.
    pub fn new(epoch: u64, me: NodeId, voters: usize, decree: Bytes) -> Self {
        Self { epoch, me, voters, decree, round: 0, lost: 0 }
    }

    /// The next ballot.
    pub fn next_ballot(&mut self) -> Proposer {
        self.round += 1;
        let ballot = Ballot { round: self.round, node: self.me };
        Proposer::new(self.epoch, ballot, self.voters, self.decree.clone())
    }

    /// The last ballot came to nothing, outbid by `higher` or for want of answers: how many
    /// milliseconds to rest before the next.
    pub fn lost(&mut self, higher: Option<Ballot>, random: u64) -> u64 {
        self.round = self.round.max(higher.map_or(0, |ballot| ballot.round));
        let most = PAUSE_MS_MIN.saturating_mul(1 << self.lost.min(16)).min(PAUSE_MS_MAX);
        self.lost = self.lost.saturating_add(1);
        1 + random % most
    }
}
