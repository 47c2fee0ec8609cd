//! What can go wrong in this crate, and what is left behind when it does.
//!
//! Nothing here does IO, so every error is a refusal: the value that was to be changed is as it was
//! before the call.

use core::fmt;

/// A refusal. Whatever was to be changed has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before what they announce. Nothing was built; treat the source as damaged.
    Truncated,
    /// The format version is not known here. Nothing was built; a newer release wrote it.
    UnknownFormat {
        /// The version byte that was read.
        version: u8,
    },
    /// The bytes are not the canonical form of a record or context (order, duplicates, a live dot
    /// outside the coverage, trailing bytes). Nothing was built; treat the source as damaged.
    Malformed,
    /// The dot to be minted is at or below what is already covered of its actor. Nothing was
    /// minted: this actor forgot dots of its own, or its clock went back. Begin a new tenure.
    DotNotNew,
    /// The record would have more siblings than allowed. Nothing was minted; read, resolve, and
    /// write with the context.
    TooManySiblings {
        /// Siblings that the record would have had.
        siblings: usize,
        /// The limit.
        siblings_max: usize,
    },
    /// The record would be larger than allowed. Nothing was minted; read, resolve, and write with
    /// the context.
    RecordTooLarge {
        /// Encoded size that the record would have had, in bytes.
        record_bytes: usize,
        /// The limit, in bytes.
        record_bytes_max: usize,
    },
    /// N is zero, or R or W is zero or more than N.
    QuorumOutOfRange {
        /// What was asked for.
        asked: u8,
        /// The number of copies.
        n: u8,
    },
    /// A quorum of one zone is asked for, and none of the copies is there. Nothing was done; ask at
    /// another level or through a node of another zone.
    NoCopyInZone,
    /// A plan has no write set, an empty one, a node twice in one set, or a fallback that is also
    /// a primary or listed twice.
    PlanMalformed,
    /// A write set asks for more answers than it has nodes, or for none.
    PlanQuorumOutOfRange,
    /// A plan names more than [`PLAN_NODES_MAX`](crate::PLAN_NODES_MAX) different nodes.
    PlanTooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end before what they announce"),
            Self::UnknownFormat { version } => write!(f, "format version {version} is not known"),
            Self::Malformed => f.write_str("the bytes are not in canonical form"),
            Self::DotNotNew => f.write_str("the dot is already covered: begin a new tenure"),
            Self::TooManySiblings { siblings, siblings_max } => {
                write!(f, "{siblings} siblings, more than {siblings_max}: resolve them first")
            }
            Self::RecordTooLarge { record_bytes, record_bytes_max } => {
                write!(f, "record of {record_bytes} B, more than {record_bytes_max} B")
            }
            Self::QuorumOutOfRange { asked, n } => {
                write!(f, "{asked} answers asked for, 1 to {n} can be had")
            }
            Self::NoCopyInZone => f.write_str("no copy is in that zone"),
            Self::PlanMalformed => f.write_str("the plan names a node twice or has an empty set"),
            Self::PlanQuorumOutOfRange => f.write_str("a write set cannot reach its quorum"),
            Self::PlanTooLarge => f.write_str("the plan names too many nodes"),
        }
    }
}

impl core::error::Error for Error {}
