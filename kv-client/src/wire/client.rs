//! What programs ask of a node, and what it answers.
//!
//! Errors keep three kinds apart to the end: nothing happened, it may have happened, it could not
//! be read.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Operations in a batch at most.
pub const BATCH_OPS_MAX: usize = 1_024;

/// How many replicas must take part in a read or a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Level {
    /// What the keyspace says.
    #[default]
    Keyspace,
    /// One.
    One,
    /// A majority.
    Quorum,
    /// All.
    All,
    /// As many; more than there are is an error, never less than asked.
    Count(u8),
    /// A majority of those in the zone of the node that is asked: as fast as the zone, and what was
    /// acknowledged in another may not be there yet.
    LocalQuorum,
    /// A majority of those in each zone.
    EachQuorum,
}

/// When a value ceases to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// At this many milliseconds since 1970.
    AtMs(u64),
}

/// How a read is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// The keyspace's number; 0 is `default`.
    pub keyspace: u32,
    /// Replicas that must answer.
    pub level: Level,
    /// Milliseconds that the client still waits, counted on its own clock.
    pub budget_ms: u32,
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOptions {
    /// The keyspace's number; 0 is `default`.
    pub keyspace: u32,
    /// Copies that must be durable.
    pub level: Level,
    /// Milliseconds that the client still waits, counted on its own clock.
    pub budget_ms: u32,
    /// The value's expiry; a delete ignores it.
    pub expiry: Expiry,
}

/// What a write has seen, and so replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Coverage {
    /// What this sealed context covers: the siblings that a read showed.
    Seen(Bytes),
    /// Nothing: what is there stays, as a sibling of this write.
    Nothing,
    /// Whatever the node that decides knows, like Redis's SET: the last writer wins.
    Blind,
}

/// The name of one write: which node made it when, in which tenure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DotName {
    /// Hybrid logical time: 48 bits of milliseconds, 16 of counter.
    pub time: u64,
    /// The node that decided the write.
    pub node: NodeId,
    /// Its tenure then.
    pub tenure: u64,
}

/// One of the values that concurrent writers left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// The write.
    pub dot: DotName,
    /// Its bytes; `None` is a delete that a concurrent write did not see.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970, if it expires.
    pub expires_at_ms: Option<u64>,
}

/// What a read shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOut {
    /// All live values, the highest dot first; empty if there is none.
    pub siblings: Vec<Sibling>,
    /// Covers them: send it with the write that replaces them. Opaque, for this key only.
    pub context: Bytes,
}

/// What an acknowledged write answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOut {
    /// The write's name; `None` when there was nothing to delete and nothing was written.
    pub dot: Option<DotName>,
    /// Covers the write and what it replaced, not what it did not see.
    pub context: Bytes,
}

/// One operation of a batch. Operations on one key take effect in order, others in any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BatchOp {
    /// Read.
    Get {
        /// The key.
        key: Bytes,
        /// How.
        options: ReadOptions,
    },
    /// Write.
    Put {
        /// The key.
        key: Bytes,
        /// The bytes.
        value: Bytes,
        /// What it replaces.
        coverage: Coverage,
        /// How.
        options: WriteOptions,
    },
    /// Delete.
    Delete {
        /// The key.
        key: Bytes,
        /// What it deletes.
        coverage: Coverage,
        /// How.
        options: WriteOptions,
    },
}

/// The answer to one operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BatchOut {
    /// To a `Get`.
    Read(Result<ReadOut, ServiceError>),
    /// To a `Put` or a `Delete`.
    Written(Result<WriteOut, ServiceError>),
}

/// Why a node has no ordinary answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ServiceError {
    /// W can't be reached: nothing was written. Retry later or lower the level.
    NoReplicas {
        /// Copies wanted.
        wanted: u8,
        /// Nodes that are believed to be down.
        down: Vec<NodeId>,
    },
    /// W was not reached in time: the write may be stored. Read before a blind retry.
    Indeterminate {
        /// Copies that are durable.
        reached: u8,
        /// Copies wanted.
        wanted: u8,
        /// Who did not answer.
        silent: Vec<NodeId>,
    },
    /// R replicas did not answer: nothing is known of the value, nothing was written.
    Unavailable {
        /// Replicas that answered.
        reached: u8,
        /// Replicas wanted.
        wanted: u8,
        /// Who did not answer.
        silent: Vec<NodeId>,
    },
    /// A queue is full: nothing was written. Retry with back-off.
    Busy(String),
    /// The node has no layout yet, or is stopping: nothing was written. Ask another.
    NotServing(String),
    /// The context is malformed, or of another key or cluster: nothing was written. Read again.
    BadContext,
    /// The key has as many siblings as are allowed: nothing was written. Read and resolve them.
    TooManySiblings {
        /// How many it would have had with this write.
        siblings: u32,
    },
    /// The pair is over the cluster's limit: nothing was written.
    TooLarge {
        /// Bytes of key and value.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The storage's limit is reached: nothing was written. Free space.
    Full(String),
    /// The request can't be served as it stands: nothing was written. The text says why.
    Refused(String),
    /// The node failed: nothing is known, a write may be stored.
    Failed(String),
}

impl ServiceError {
    /// Whether a write that was answered so may nevertheless be stored.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Failed(_))
    }

    /// Whether another node, or this one later, may answer a read that this one could not.
    pub fn worth_another_node(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Busy(_) | Self::NotServing(_) | Self::Failed(_)
        )
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::NoReplicas { wanted, down } => {
                write!(f, "W={wanted} can't be reached, nothing was written; down: {}", names(down))
            }
            Self::Indeterminate { reached, wanted, silent } => write!(
                f,
                "{reached} of W={wanted} copies are durable, the write may be stored; silent: {}",
                names(silent)
            ),
            Self::Unavailable { reached, wanted, silent } => {
                write!(f, "{reached} of R={wanted} answered; silent: {}", names(silent))
            }
            Self::Busy(what) => write!(f, "busy, nothing was written: {what}"),
            Self::NotServing(what) => write!(f, "not serving, nothing was written: {what}"),
            Self::BadContext => write!(f, "the context is not one of this key in this cluster"),
            Self::TooManySiblings { siblings } => {
                write!(f, "the key would have {siblings} siblings, more than allowed: resolve them")
            }
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a pair of {bytes} bytes is over the limit of {bytes_max}")
            }
            Self::Full(what) => write!(f, "storage is full, nothing was written: {what}"),
            Self::Refused(what) => write!(f, "refused, nothing was written: {what}"),
            Self::Failed(what) => write!(f, "failed, a write may be stored: {what}"),
        }
    }
}

impl std::error::Error for ServiceError {}
