//! Planned changes of a cluster's members, and what they would move.

use serde::{Deserialize, Serialize};

use super::Bounded;
use crate::NodeId;

/// Nodes that one change names at most, of each kind.
pub const CHANGE_NODES_MAX: usize = 256;

/// What is to change. Nodes that join are empty and were started with seeds in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChange {
    /// Nodes that become members.
    pub joins: Bounded<NodeId, CHANGE_NODES_MAX>,
    /// Members that hand over all that they hold, and are none afterwards.
    pub leaves: Bounded<NodeId, CHANGE_NODES_MAX>,
    /// Members with the weight that each is to have; 0 for one that is to hold nothing.
    pub weights: Bounded<(NodeId, u32), CHANGE_NODES_MAX>,
    /// The epoch that the plan was made after: any other now refuses the change.
    pub after: Option<u64>,
    /// Members with the zone that each is to stand in.
    pub zones: Bounded<(NodeId, String), CHANGE_NODES_MAX>,
}

/// What a change would move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersPlan {
    /// The newest epoch now.
    pub epoch: u64,
    /// Copies of partitions that would be made.
    pub moves: u32,
    /// How many of them in each step: a partition gets no more newcomers at once than its quorums
    /// can spare. Each is committed when the one before is stable. None if everything is so.
    pub steps: Vec<u32>,
    /// Partitions of which another node would be the first primary.
    pub firsts_changed: u32,
    /// Bytes that would be copied, about: as copies are on average, over all members that tell.
    pub bytes_about: u64,
    /// Every node that is a member before or after.
    pub nodes: Vec<NodeShare>,
    /// Every zone that a member stands in before or after.
    pub zones: Vec<ZoneShare>,
    /// Partitions whose copies all stand in different zones: now, and then.
    pub apart: (u32, u32),
    /// Partitions.
    pub partitions: u32,
    /// Bytes in a second, both ways, at which a node fills what it gains, at most.
    pub fill_bytes_per_second: u64,
    /// Milliseconds that the node with the most to fill takes at that rate: it is never sooner.
    pub fill_ms_min: u64,
}

/// What the nodes of one zone hold together before a change and after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneShare {
    /// Its name, as far as some member's settings tell it; else its number, after a `#`.
    pub zone: String,
    /// Members that stand in it, now and then.
    pub nodes: (u32, u32),
    /// Copies of partitions there, now and then.
    pub copies: (u32, u32),
}

/// What one node holds before a change and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node.
    pub node: NodeId,
    /// Its weight afterwards; `None` if it leaves.
    pub weight: Option<u32>,
    /// Partitions that it holds now.
    pub before: u32,
    /// Partitions that it would hold.
    pub after: u32,
    /// Partitions among those that it would have to fill.
    pub gains: u32,
    /// Bytes of those, about.
    pub gains_bytes: u64,
}

/// What doubling the partitions would come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlan {
    /// The newest epoch now.
    pub epoch: u64,
    /// Partitions now.
    pub before: u32,
    /// Partitions that there would be.
    pub after: u32,
    /// Copies of partitions that would be made.
    pub copies: u32,
    /// Bytes that would be copied.
    pub bytes: u64,
}

/// A change of the layout, as the asked node remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastChange {
    /// The epoch of the layout that it made.
    pub epoch: u64,
    /// When the asked node took it, by its clock, in milliseconds.
    pub unix_ms: u64,
    /// What it was: `replace`, `members`, `abort`, `split`, `give-up`, ..
    pub what: String,
    /// Nodes that became members; not all where there are many.
    pub joined: Vec<NodeId>,
    /// Members that are none any more, or who was given up; not all where there are many.
    pub left: Vec<NodeId>,
    /// Copies of partitions that it asked for.
    pub copies: u32,
}
