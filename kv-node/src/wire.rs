//! What peers say to each other: one envelope, one enum of operations, one of answers.
//!
//! tarpc, the in-process transport and the simulation all carry these. The envelope goes with each
//! call and its answer, and is judged before any operation is: protocol version, cluster, layouts.
//! Records travel as their stored bytes, so what a replica appends is what it was sent, and a
//! vector never goes without the live values that it covers.

use bytes::Bytes;
use kv_client::wire::HintQueue;
use kv_client::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use crate::cluster::heard::Heard;
use crate::cluster::record::LevelSetting;
use crate::cluster::wire::{BallotOp, BallotOut, BirthOp, BirthOut};
use crate::coordinator::exchange::wire::{ExchangeOp, ExchangeOut};
use crate::error::RequestError;
use crate::events::EventPage;
use crate::mutation::{Mutation, MutationOut};
use crate::scale::load::{HotKey, Rate};

/// The peer protocol that this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// A layout as peers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayoutName {
    /// The epoch.
    pub epoch: u64,
    /// The digest over everything in the layout.
    pub digest: u64,
}

/// Goes with every call and every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// `PROTOCOL_VERSION` of the sender.
    pub version: u16,
    /// What the sender can do beyond the version; no bit is given out yet.
    pub capabilities: u64,
    /// The sender's cluster, if it belongs to one.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub node: NodeId,
    /// The sender's live layouts, oldest first; at most `LAYOUTS_MAX`.
    pub layouts: Vec<LayoutName>,
    /// The sender's hybrid time, for `highest time heard`; never above its lease. This and the next
    /// three are 0 until the sender serves.
    pub time: u64,
    /// What its operating system shows as milliseconds since 1970, for the skew check: hybrid time
    /// goes on ahead long after a clock was put right.
    pub wall_ms: u64,
    /// The start of the sender's present life: higher at each start of one directory.
    pub life: u64,
    /// How far the sender's engine is durable.
    pub position: u64,
    /// Milliseconds that the caller will still wait, counted on the caller's own clock.
    pub budget_ms: u32,
}

/// Live layouts in an envelope at most.
pub const LAYOUTS_MAX: usize = 8;

/// Operations in a call at most.
pub const CALL_OPS_MAX: usize = 1_024;

/// A call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRequest {
    /// Who asks, and what it knows.
    pub envelope: Envelope,
    /// What it asks, at most `CALL_OPS_MAX`.
    pub ops: Vec<PeerOp>,
}

/// The answer to a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerReply {
    /// Who answers, and what it knows.
    pub envelope: Envelope,
    /// As many answers as operations, or a refusal of all.
    pub outs: Result<Vec<PeerOut>, Refusal>,
}

/// Why a peer refused a whole call. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer speaks another protocol version.
    Version {
        /// What it speaks.
        speaks: u16,
    },
    /// The peer belongs to another cluster.
    Cluster {
        /// Its cluster.
        belongs_to: Option<ClusterId>,
    },
    /// The peer knows newer layouts than the caller: here they are, with their proofs.
    StaleLayout {
        /// Encoded `Decided`s that the caller lacks, oldest first; at most `LAYOUTS_MAX`.
        decided: Vec<Bytes>,
    },
    /// The peer has heard from a later life of the caller's directory: another process runs on a
    /// copy of it, and the caller must stop.
    Superseded,
    /// The peer has no layout yet, or does not serve by it yet.
    Loading,
    /// A queue at the peer is full.
    Busy,
    /// The peer is stopping.
    Stopping,
    /// The caller knows a newer layout than the peer, which could not take it in time.
    Behind,
    /// The caller was removed from the cluster for good.
    Removed,
}

/// Why a call has no answer, and what that says about its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallFailure {
    /// It was not sent, for a reason of this side's: no time was left, it does not fit a frame. It
    /// had no effect, and says nothing of the peer.
    NotSent(String),
    /// There is no connection to the peer and none can be made: it had no effect.
    Unreachable(String),
    /// Nobody listens where the peer did: it had no effect, and the process that was there is gone
    /// with all that it was asked.
    Gone(String),
    /// The call may have been acted on: nothing is known of it.
    Unknown(String),
    /// No answer within the budget: nothing is known of it.
    TimedOut,
}

impl CallFailure {
    /// Whether the peer certainly did not act.
    pub fn without_effect(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Unreachable(_) | Self::Gone(_))
    }

    /// Whether the peer refused a connection, or none could be made.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Gone(_))
    }
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Unreachable(why) => write!(f, "not sent, no connection: {why}"),
            Self::Gone(why) => write!(f, "not sent, nobody is there: {why}"),
            Self::Unknown(why) => write!(f, "no answer, may have happened: {why}"),
            Self::TimedOut => write!(f, "no answer in time, may have happened"),
        }
    }
}

impl std::error::Error for CallFailure {}

/// One operation that a peer is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerOp {
    /// Join a whole record into what is stored; answered when the join is durable.
    Apply {
        /// The storage key.
        key: Bytes,
        /// The encoded record.
        record: Bytes,
        /// The mark under which the sender holds it, a hybrid time: what it does not hold live at
        /// or below that is dead. 0 where it does not say.
        mark: u64,
        /// Whether its newest dot was minted just now: where the replica's mark makes that dead it
        /// is refused, since nobody who wrote it was told that it is gone.
        minted: bool,
    },
    /// Read a record; answered when what is shown is durable.
    Read {
        /// The storage key.
        key: Bytes,
        /// The fingerprint of what the reader holds: an equal one is answered by `Same`.
        have: Option<u128>,
    },
    /// Coordinate a write, as a replica of the key.
    Forward {
        /// Names the write: a second attempt with the same id is the same write.
        operation: u64,
        /// The storage key.
        key: Bytes,
        /// What to do.
        mutation: Mutation,
        /// Copies to reach, already resolved against the keyspace.
        write: LevelSetting,
        /// Copies to read where the mutation reads.
        read: LevelSetting,
        /// The number of the zone that `local-quorum` means.
        zone: Option<u64>,
        /// It takes a time above this, in ms since 1970: an earlier attempt may have been made.
        above_ms: u64,
    },
    /// One page of rows in key order.
    Scan {
        /// First storage key, inclusive.
        from: Bytes,
        /// End, exclusive; empty means none.
        to: Bytes,
        /// Rows at most.
        rows_max: u32,
        /// Bytes at most.
        bytes_max: u32,
        /// Answer keys and liveness only, no values.
        keys_only: bool,
    },
    /// Live keys in the slots whose first live primary the asked node is.
    Count,
    /// Where a key was found here, in words.
    Explain {
        /// The storage key.
        key: Bytes,
    },
    /// The sender's hybrid time is wanted: answered by `Time`. First round of a flush.
    Time,
    /// A flush mark: everything minted at or below `mark` in the keyspace is dead.
    Flush {
        /// The keyspace.
        keyspace: u32,
        /// A hybrid time.
        mark: u64,
    },
    /// What did you hear from me last: answered by `Heard`. Asked before a directory serves again.
    Heard,
    /// A gossip packet.
    Gossip(Bytes),
    /// Marks that are proven, for partitions of which the asked node is a replica: answered by
    /// `Done` when they are in force, durably.
    Marks {
        /// The witness that the asked node told before the exchanges which prove the marks: it
        /// refuses if that is not its present one, because it may have forgotten something since.
        witness: u64,
        /// (code of the partition, hybrid time).
        marks: Vec<(u16, u64)>,
    },
    /// A step of the cluster's birth.
    Birth(BirthOp),
    /// A step of the commit of a layout.
    Ballot(BallotOp),
    /// Whether a write is held here, durably: asked by WAIT of a write that was forwarded.
    Holds {
        /// The storage key.
        key: Bytes,
        /// (time, node, tenure) of its dot.
        dot: (u64, u64, u64),
        /// The stamp that its register has at least, if it is still live.
        stamp: u64,
    },
    /// A step of an exchange between replicas.
    Exchange(ExchangeOp),
    /// Keep a whole record for a replica that is down; answered as `Apply` is, when it is durable.
    Hint {
        /// For whom.
        target: NodeId,
        /// The storage key.
        key: Bytes,
        /// The encoded record.
        record: Bytes,
        /// Whether it counts towards W: then it is never dropped for size or age.
        counted: bool,
        /// As `Apply` has it; and where it lies below the floor that the replica has told.
        minted: bool,
    },
    /// The hints that the asked node holds about a key.
    HintsAbout {
        /// The storage key.
        key: Bytes,
    },
    /// What hints the asked node holds, by target.
    HintsHeld,
    /// Keys with siblings that the asked node holds.
    Conflicts {
        /// A cursor: slot and the token's top 48 bits.
        from: u64,
        /// Keys at most.
        rows_max: u32,
    },
    /// What the asked node noted.
    Events {
        /// Only what lies behind this number; the newest without one.
        after: Option<u64>,
        /// Events at most.
        count: u32,
    },
    /// What the asked node is asked for most.
    Hot,
}

/// The answer to one operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerOut {
    /// The join is durable here.
    Applied {
        /// Whether this replica has everything that it ever acknowledged: if not it counts for W
        /// and not for what a SET weighs.
        complete: bool,
        /// Dots (node, tenure, time) that are live here and that the incoming record did not cover,
        /// tombstones too.
        uncovered: Vec<(u64, u64, u64)>,
        /// The coverage of this replica's record, encoded; empty when `uncovered` is.
        coverage: Bytes,
    },
    /// The stored record, or empty bytes for none.
    Record {
        /// As in `Applied`: an incomplete replica does not count for R.
        complete: bool,
        /// The replica's mark for the partition, a hybrid time: what it does not hold live at or
        /// below that is dead. 0 for none.
        mark: u64,
        /// The encoded record.
        record: Bytes,
    },
    /// The stored record has the fingerprint that was sent.
    Same {
        /// As in `Record`.
        complete: bool,
    },
    /// What a forwarded write came to.
    Forwarded(Result<MutationOut, RequestError>),
    /// A page.
    Page {
        /// (storage key, encoded record or liveness byte).
        rows: Vec<(Bytes, Bytes)>,
        /// Whether the range is exhausted.
        end: bool,
        /// As in `Record`, of the partition in which the range begins.
        mark: u64,
    },
    /// A count of live keys.
    Count(u64),
    /// Words.
    Text(String),
    /// A hybrid time.
    Time(u64),
    /// What was heard from the asker last; zeros for nothing.
    Heard(Heard),
    /// Done, durably.
    Done,
    /// The answer to a birth step.
    Birth(BirthOut),
    /// The answer to a ballot step.
    Ballot(BallotOut),
    /// Whether the write is held.
    Holds(bool),
    /// The answer to a step of an exchange.
    Exchange(ExchangeOut),
    /// This operation failed here; the others of the call did not.
    Failed(OpFailure),
    /// Hints about a key: for whom, and the encoded record.
    HintsAbout(Vec<(NodeId, Bytes)>),
    /// Hints by target.
    HintsHeld(Vec<HintQueue>),
    /// Keys with siblings.
    Conflicts(ConflictPage),
    /// What the node noted.
    Events(EventPage),
    /// What the node is asked for most.
    Hot(HotPage),
}

/// What one node is asked for most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPage {
    /// Hot keys.
    pub keys: Vec<HotKey>,
    /// Its busiest partitions.
    pub partitions: Vec<(u16, Rate)>,
    /// Everything together.
    pub total: Rate,
}

/// A page of the keys with siblings that one node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictPage {
    /// (storage key, live versions, milliseconds since 1970 of the newest), in order.
    pub rows: Vec<(Bytes, u32, u64)>,
    /// Whether nothing lies behind it.
    pub end: bool,
    /// Whether the node's index names all of its keys with siblings.
    pub all: bool,
    /// Keys with siblings in partitions whose first live primary the node is.
    pub counted: u64,
}

/// Why one operation failed at a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OpFailure {
    /// The storage could not take it: nothing was written.
    Storage(String),
    /// It is not known whether it took effect here.
    Unknown(String),
    /// The operation is malformed.
    Malformed,
    /// Not served by this node.
    Refused(String),
}
