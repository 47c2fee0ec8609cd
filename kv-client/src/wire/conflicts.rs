//! Keys with siblings, as their nodes list them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Keys that one page of [`ConflictsView`] holds at most, whatever is asked for.
pub const CONFLICTS_PAGE_KEYS_MAX: u32 = 1_000;

/// A key with siblings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The key.
    pub key: Bytes,
    /// Live versions, deletes that stand beside a value included: the most that any replica has.
    pub siblings: u32,
    /// When the newest of them was written, milliseconds since 1970.
    pub newest_ms: u64,
    /// Replicas that have siblings of it. Fewer than all: a read or an exchange is to mend it.
    pub replicas: u8,
}

/// A page of the cluster's keys with siblings, in the order of slots and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictsView {
    /// Keys with siblings in all, each counted by the first live primary of its partition.
    pub total: u64,
    /// The page.
    pub rows: Vec<Conflict>,
    /// Where the next page begins; 0 at the end.
    pub next: u64,
    /// Nodes that do not list all of theirs: their index is being rebuilt after a start, or full.
    pub partial: Vec<NodeId>,
    /// Members that did not answer.
    pub silent: Vec<NodeId>,
}
