//! What operators ask of a node, and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::DotName;
use crate::{ClusterId, NodeId};

/// Where a node listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// RESP, for Redis clients.
    pub resp: String,
    /// tarpc: peers, clients, operators.
    pub rpc: String,
    /// Metrics and health; empty when off.
    pub http: String,
}

/// The name of a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayoutName {
    /// The epoch.
    pub epoch: u64,
    /// The digest over everything in it.
    pub digest: u64,
}

/// One node about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Its cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
    /// Version of the program.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Whether it serves requests.
    pub ready: bool,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// Live layouts, oldest first.
    pub layouts: Vec<LayoutName>,
    /// The storage engine.
    pub engine: String,
    /// Bytes of rows in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Rows, if the engine counts them.
    pub rows: Option<u64>,
    /// What needs an operator, in words.
    pub alerts: Vec<String>,
    /// Further (name, value) figures, named as in the metrics.
    pub figures: Vec<(String, u64)>,
}

/// What one node believes of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeState {
    /// It answers.
    #[default]
    Alive,
    /// It was not heard from; it may still refute.
    Suspect,
    /// Believed to be down.
    Down,
    /// It left on purpose.
    Left,
    /// It answers, takes no clients, and is about to be stopped.
    Draining,
}

/// A member as the asked node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its id.
    pub node: NodeId,
    /// What membership says.
    pub state: NodeState,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// Its zone.
    pub zone: String,
    /// Its weight.
    pub weight: u32,
    /// Partitions that it holds in the newest layout.
    pub partitions: u32,
    /// Of these, how many it is the first replica of.
    pub first_places: u32,
    /// Recent latency of calls to it in microseconds; `None` for the asked node itself.
    pub call_us: Option<u64>,
    /// Operations queued for it at the asked node.
    pub queue_ops: u32,
    /// Milliseconds since a call to it was sent with nothing heard since.
    pub unanswered_ms: u32,
    /// How far its floor lies behind the asked node's clock, in milliseconds: a member whose floor
    /// does not move holds collection back everywhere. `None` if it told none yet.
    pub floor_age_ms: Option<u64>,
    /// Microseconds that 95 of 100 recent calls with reads to it did not exceed; `None` if there
    /// were too few.
    pub read_p95_us: Option<u64>,
    /// How surprising its silence is, in hundredths of phi.
    pub phi_hundredths: u32,
    /// The newest layout that it says it knows; 0 if it said nothing yet.
    pub epoch: u64,
    /// What it told of itself with its gossip, some seconds old; `None` if nothing yet.
    pub vitals: Option<NodeVitals>,
}

/// How a member fares, as it told all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVitals {
    /// When it started, milliseconds since 1970 by its own clock.
    pub started_ms: u64,
    /// Keys with siblings in the partitions whose first live primary it is.
    pub conflicts: u64,
    /// Whether its index names all of them.
    pub conflicts_are_all: bool,
    /// Keys of which it keeps hints for others.
    pub hint_keys: u64,
    /// Bytes of these.
    pub hint_bytes: u64,
    /// Operations that it coordinates in a second, about.
    pub ops_per_s: u64,
    /// Bytes of rows in memory, about.
    pub memory_bytes: u64,
    /// Bytes on disk, about.
    pub disk_bytes: u64,
    /// The number of the last event that it noted.
    pub events: u64,
    /// How many alerts its own status shows; `None` if it does not say.
    pub alerts: Option<u32>,
}

/// How far a node has got with the live layouts, as the asked node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutProgress {
    /// The node.
    pub node: NodeId,
    /// The newest epoch that it knows.
    pub seen: u64,
    /// The newest epoch for which it is finished.
    pub finished: u64,
    /// Why it is not finished for the newest, in words; empty if it is.
    pub waits_for: String,
    /// Partitions that it had to fill when the newest layout came.
    pub begun: u32,
    /// Partitions among those that it has to fill still.
    pub left: u32,
    /// Bytes sent and received for it.
    pub bytes: u64,
    /// Milliseconds since the newest layout came to it, as it said last.
    pub ms: u64,
}

/// The live layouts, and whom they wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutsView {
    /// Live layouts, oldest first: one when nothing moves.
    pub live: Vec<LayoutName>,
    /// Every member of any of them that was not removed. The older layouts retire when all have
    /// finished.
    pub members: Vec<LayoutProgress>,
    /// Ids that were replaced, and are refused for good.
    pub removed: Vec<NodeId>,
}

/// The newest layout, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingView {
    /// The epoch.
    pub epoch: u64,
    /// The digest.
    pub digest: u64,
    /// Copies of each partition.
    pub copies: u8,
    /// The members that it names.
    pub nodes: Vec<NodeId>,
    /// Indices into `nodes`, `copies` for each partition, partition by partition.
    pub owners: Vec<u16>,
}

impl RingView {
    /// Partitions.
    pub fn partitions(&self) -> usize {
        self.owners.len().checked_div(usize::from(self.copies)).unwrap_or(0)
    }

    /// The owners of a partition in order of preference; empty if there is no such partition.
    pub fn owners_of(&self, partition: usize) -> impl Iterator<Item = NodeId> + '_ {
        self.owners
            .chunks(usize::from(self.copies).max(1))
            .nth(partition)
            .unwrap_or_default()
            .iter()
            .filter_map(|index| self.nodes.get(usize::from(*index)).copied())
    }
}

/// Where a key lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The Redis Cluster slot.
    pub slot: u16,
    /// The partition.
    pub partition: u16,
    /// The token: order inside the slot.
    pub token: u64,
    /// The replicas, in order of preference.
    pub replicas: Vec<NodeId>,
    /// Who stands in for them, in order.
    pub fallbacks: Vec<NodeId>,
}

/// One live version as a replica has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionName {
    /// The write.
    pub dot: DotName,
    /// Bytes of its value; `None` for a tombstone.
    pub bytes: Option<u64>,
}

/// What one replica says of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaAnswer {
    /// The replica.
    pub node: NodeId,
    /// Its live versions, or why there is no answer.
    pub versions: Result<Vec<VersionName>, String>,
    /// Where it found the row: memtable, row cache, filter, a table's name.
    pub found_in: String,
    /// Microseconds that it took.
    pub us: u64,
}

/// Why a key reads as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The key.
    pub key: Bytes,
    /// Where it lives.
    pub location: Location,
    /// What each replica says.
    pub replicas: Vec<ReplicaAnswer>,
    /// What else an operator should know, in words, such as that fallbacks were counted.
    pub notes: Vec<String>,
}

/// Where the hints for a node stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HintState {
    /// Their target is down.
    #[default]
    Waiting,
    /// They are being delivered.
    Replaying,
    /// The target did not take the last ones; they are tried again.
    BackedOff,
}

/// The hints that one node holds for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintQueue {
    /// Who holds them.
    pub on: NodeId,
    /// For whom.
    pub target: NodeId,
    /// Keys.
    pub keys: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Milliseconds since the write with which the queue began.
    pub age_ms: u64,
    /// Where they stand.
    pub state: HintState,
}

/// The hints of the cluster, as far as its nodes answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintsView {
    /// Every queue, by holder and target.
    pub queues: Vec<HintQueue>,
    /// Bytes that the asked node holds at most; a full log refuses.
    pub hint_bytes_max: u64,
    /// Members that did not say what they hold.
    pub silent: Vec<NodeId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_view_is_read_by_partition() {
        let nodes = vec![NodeId(7), NodeId(8), NodeId(9)];
        let ring = RingView { copies: 2, nodes, owners: vec![0, 1, 2, 0], ..RingView::default() };
        assert_eq!(ring.partitions(), 2);
        assert_eq!(ring.owners_of(1).collect::<Vec<_>>(), [NodeId(9), NodeId(7)]);
        assert_eq!(ring.owners_of(2).count(), 0);
        assert_eq!(RingView::default().owners_of(0).count(), 0);
        assert_eq!(RingView::default().partitions(), 0);
    }
}
