//! Messages of birth and of the commit of layouts.
//!
//! Birth: the lowest id among exactly `bootstrap_expect` mutually visible empty nodes proposes the
//! cluster's record and layout 1; all of them accept, fsynced, before any serves. Commit: one
//! single-decree Paxos (Lamport, "Paxos Made Simple") for each epoch among the previous layout's
//! members.

use bytes::Bytes;
use kv_client::NodeId;
use serde::{Deserialize, Serialize};

/// A Paxos ballot: unique to its proposer, ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// The round.
    pub round: u64,
    /// Its proposer.
    pub node: NodeId,
}

/// A step of birth.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BirthOp {
    /// Who are you: answered by `BirthOut::Me`.
    Hello {
        /// The asker's state.
        me: Newborn,
    },
    /// Accept this record and layout 1, durably.
    Accept {
        /// The encoded cluster record.
        record: Bytes,
        /// Layout 1, encoded.
        layout: Bytes,
    },
    /// The record and the layouts that you have, please: for a node that layout 1 names and for
    /// one that is behind.
    Fetch,
}

/// A node that looks for a cluster, or has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newborn {
    /// Its id.
    pub node: NodeId,
    /// Where peers reach it.
    pub address: String,
    /// Where clients reach it (RESP), as announced.
    pub client_address: String,
    /// Its zone.
    pub zone: String,
    /// Its weight.
    pub weight: u32,
    /// Its `bootstrap_expect`.
    pub expect: u16,
    /// Ids of the empty nodes that it sees itself, its own included, sorted.
    pub sees: Vec<NodeId>,
    /// Whether it has a cluster record.
    pub has_record: bool,
}

/// The answer to a birth step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BirthOut {
    /// The asked node.
    Me(Newborn),
    /// Accepted, fsynced.
    Accepted,
    /// Not accepted, and why; nothing was stored.
    Refused(String),
    /// The record, every live layout as it was decided, and the flush mark.
    State {
        /// The encoded cluster record.
        record: Bytes,
        /// Encoded `Decided`s, oldest first.
        decided: Vec<Bytes>,
        /// The flush mark that the asked node had in force after it knew these layouts.
        flushed: u64,
    },
    /// The asked node has no record either.
    Empty,
}

/// A step of the commit of the layout of one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BallotOp {
    /// Phase 1.
    Prepare {
        /// The epoch to be decided.
        epoch: u64,
        /// The ballot.
        ballot: Ballot,
    },
    /// Phase 2.
    Accept {
        /// The epoch to be decided.
        epoch: u64,
        /// The ballot.
        ballot: Ballot,
        /// The encoded decree.
        decree: Bytes,
        /// Whether somebody had accepted it in an earlier ballot: it may be decided, so nobody
        /// refuses it for what he has done since.
        found: bool,
    },
    /// The outcome.
    Learn {
        /// The decided epoch.
        epoch: u64,
        /// The encoded `Decided`.
        decided: Bytes,
    },
}

/// The answer to a ballot step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BallotOut {
    /// Promised, fsynced, with what was accepted before.
    Promised {
        /// The highest accepted ballot and its decree.
        accepted: Option<(Ballot, Bytes)>,
    },
    /// Accepted, fsynced.
    Accepted,
    /// A higher ballot was promised.
    Rejected {
        /// That ballot.
        promised: Ballot,
    },
    /// The epoch is decided already.
    Decided {
        /// The encoded `Decided`.
        decided: Bytes,
    },
    /// This node may not vote now, and why.
    MayNotVote(String),
}
