//! What a request may come to instead of its answer, and what that says about the data.
//!
//! Three kinds are kept apart to the end: nothing happened, it may have happened, it could not be
//! read. "Failed" for something that may have happened would be a lie.

use kv_client::NodeId;
use serde::{Deserialize, Serialize};

use crate::keys::KEY_BYTES_MAX;

/// Why a request has no ordinary answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RequestError {
    /// Known before minting that W can't be reached: nothing was written. Retry later or lower W.
    NoReplicas {
        /// Copies wanted.
        wanted: u8,
        /// Nodes that are believed to be down.
        down: Vec<NodeId>,
    },
    /// Minted, and W was not reached in time: the write may be stored. Read before a blind retry,
    /// which may overwrite a newer value.
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
    /// The command promises something that the keyspace's `rmw` setting refuses; nothing was
    /// written.
    NeedsRmw(String),
    /// The key has as many siblings as are allowed: nothing was written. Read and resolve them.
    TooManySiblings {
        /// How many it would have had with this write.
        siblings: u32,
    },
    /// The context is malformed, or sealed for another key or cluster; nothing was written.
    BadContext,
    /// The value is not what the command works on (not an integer, not a float, out of range).
    WrongValue(String),
    /// The pair is larger than the cluster's limit; nothing was written.
    TooLarge {
        /// Bytes of key and value.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The key is longer than the engines take; nothing was written.
    KeyTooLarge {
        /// Bytes of the key.
        bytes: u64,
    },
    /// With its siblings and what they were seen with, the record would be larger than a record
    /// may be; nothing was written. Read the siblings and put one value in their place.
    RecordTooLarge {
        /// Bytes of the record.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// More copies were asked for than the keyspace has; nothing was done.
    Level(String),
    /// This node has no layout yet.
    Loading,
    /// The storage's limit is reached; nothing was written here.
    Full(String),
    /// The storage failed: nothing is known of the value, and nothing was written.
    Storage(String),
    /// This node's clock is too far from its peers' to mint, and nobody else could; nothing was
    /// written.
    ClockSkew,
    /// The node is stopping; nothing was written.
    Stopping,
    /// This node was removed from its cluster for good; nothing was done.
    Removed,
    /// The disk of the node that should mint has no room; nothing was written, reads go on.
    DiskFull,
    /// The storage failed while it took a write: that may be stored, or come to be.
    Unknown(String),
}

impl RequestError {
    /// Whether what was asked for may have happened.
    pub fn is_unsure(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Unknown(_))
    }

    /// Whether its first word promises that nothing was written, and that it may be tried again.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::NoReplicas { .. } | Self::Busy(_) | Self::Full(_) | Self::DiskFull)
    }

    /// Of the errors of several writes the one to tell: the first, or the first of those whose
    /// write may be stored, so that nobody takes it for one that is not.
    pub(crate) fn worse_of(first: Option<Self>, next: Self) -> Self {
        match first {
            Some(first) if first.is_unsure() || !next.is_unsure() => first,
            _ => next,
        }
    }
}

impl std::fmt::Display for RequestError {
    /// The text that a RESP client sees, without the leading `-`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |f: &mut std::fmt::Formatter<'_>, nodes: &[NodeId]| {
            nodes.iter().enumerate().try_for_each(|(place, node)| {
                write!(f, "{}{node}", if place == 0 { "" } else { ", " })
            })
        };
        match self {
            Self::NoReplicas { wanted, down } => {
                write!(f, "NOREPLICAS W={wanted} can't be reached, nothing was written; down: ")?;
                names(f, down)
            }
            Self::Indeterminate { reached, wanted, silent } => {
                write!(
                    f,
                    "INDETERMINATE {reached} of W={wanted} copies are durable, \
                     the write may be stored; no answer from: "
                )?;
                names(f, silent)
            }
            Self::Unavailable { reached, wanted, silent } => {
                write!(f, "UNAVAILABLE read R={wanted} got {reached}; no answer from: ")?;
                names(f, silent)
            }
            Self::Busy(what) => write!(f, "BUSY {what}; nothing was written, retry with back-off"),
            Self::NeedsRmw(what) => write!(
                f,
                "ERR '{what}' needs one decision maker: \
                 a cluster that was made with keyspace.rmw=best-effort"
            ),
            Self::TooManySiblings { siblings } => write!(
                f,
                "ERR the key would have {siblings} siblings, more than allowed: \
                 read them with KV.GET and put with its context"
            ),
            Self::BadContext => write!(
                f,
                "ERR the context is not one of this key in this cluster: \
                 use what KV.GET or KV.PUT answered"
            ),
            Self::WrongValue(what) => write!(f, "ERR {what}"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "ERR pair of {bytes} bytes is over the limit of {bytes_max} bytes")
            }
            Self::KeyTooLarge { bytes } => {
                write!(f, "ERR key of {bytes} bytes is over the limit of {KEY_BYTES_MAX} bytes")
            }
            Self::RecordTooLarge { bytes, bytes_max } => write!(
                f,
                "ERR with its siblings the key would take {bytes} bytes, over the limit of \
                 {bytes_max}: read them with KV.GET and put with its context"
            ),
            Self::Level(what) => write!(f, "ERR {what}"),
            Self::Loading => write!(f, "LOADING the node has no layout yet"),
            Self::Full(_) => write!(f, "OOM command not allowed when used memory > 'maxmemory'."),
            Self::Storage(what) => write!(f, "ERR {what}"),
            Self::ClockSkew => write!(
                f,
                "ERR this node's clock is too far from its peers' and no other replica \
                 could take the write; nothing was written"
            ),
            Self::Stopping => write!(f, "ERR the node is stopping; nothing was written"),
            Self::Removed => write!(f, "ERR this node was removed from its cluster for good"),
            Self::DiskFull => {
                write!(f, "MISCONF the node's disk is full; nothing was written, reads go on")
            }
            Self::Unknown(what) => write!(f, "INDETERMINATE {what}; the write may be stored"),
        }
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_errors_the_one_is_told_whose_write_may_be_stored() {
        let none = || RequestError::NoReplicas { wanted: 2, down: Vec::new() };
        let maybe = || RequestError::Unknown("the log".into());
        let told = |errors: Vec<RequestError>| {
            errors.into_iter().fold(None, |told, next| Some(RequestError::worse_of(told, next)))
        };
        assert_eq!(told(vec![none(), maybe(), RequestError::DiskFull]), Some(maybe()));
        assert_eq!(told(vec![RequestError::DiskFull, none()]), Some(RequestError::DiskFull));
        let silent = RequestError::Indeterminate { reached: 1, wanted: 2, silent: Vec::new() };
        assert_eq!(told(vec![maybe(), silent]), Some(maybe()));
    }
}
