//! What nodes carry, which keys are asked for most, and how many nodes there should be.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Bounded;
use crate::NodeId;

/// Hot keys that one answer holds at most, whatever is asked for.
pub const HOT_KEYS_MAX: u32 = 128;

/// Settings that one change of the policy names at most.
pub const POLICY_SETTINGS_MAX: usize = 16;

/// A key that is asked for often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKeyView {
    /// The key; of a long one its first 256 bytes.
    pub key: Bytes,
    /// Its slot.
    pub slot: u16,
    /// Its partition.
    pub partition: u16,
    /// Operations on it in a second, all nodes together: at most so many, and
    pub ops_per_s: u64,
    /// by so many fewer at most, give or take what counting one in 64 leaves to chance.
    pub error_per_s: u64,
}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLoad {
    /// The partition.
    pub partition: u16,
    /// Reads in a second.
    pub reads_per_s: u64,
    /// Writes in a second.
    pub writes_per_s: u64,
    /// Bytes written in a second.
    pub bytes_per_s: u64,
}

/// What is asked for most, as the nodes that answered counted in their last few seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotView {
    /// Hot keys, the hottest first.
    pub keys: Vec<HotKeyView>,
    /// The busiest partitions, the busiest first.
    pub partitions: Vec<PartitionLoad>,
    /// Reads in a second, of all keys.
    pub reads_per_s: u64,
    /// Writes in a second, of all keys.
    pub writes_per_s: u64,
    /// Members that did not answer.
    pub silent: Vec<NodeId>,
}

/// Whether decisions are made, and carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ScaleMode {
    /// None are made.
    #[default]
    Off,
    /// They are made and shown.
    Advise,
    /// They are made, shown and carried out.
    Auto,
}

/// What one member carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoadView {
    /// The member.
    pub node: NodeId,
    /// Operations that it coordinates in a second, about.
    pub ops_per_s: u64,
    /// CPU, per mille of what its threads can use; `None` where it can't be measured.
    pub cpu_per_mille: Option<u16>,
    /// Bytes on disk, about.
    pub disk_bytes: u64,
    /// Microseconds that work waited for its turn lately, about.
    pub wait_us: u32,
}

/// What all members carried at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Milliseconds ago.
    pub ago_ms: u64,
    /// Operations in a second.
    pub ops_per_s: u64,
    /// CPU, per mille of what one node's threads can use.
    pub cpu_per_mille: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// How many nodes there should be, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoscaleView {
    /// The mode.
    pub mode: ScaleMode,
    /// Nothing is done before, milliseconds since 1970; 0 is no pause, the maximum one for good.
    pub paused_until_ms: u64,
    /// Who starts nodes and ends them at the asked node.
    pub provisioner: String,
    /// The member that acts.
    pub evaluator: Option<NodeId>,
    /// The policy's settings in force, by name.
    pub policy: Vec<(String, u64)>,
    /// Members now.
    pub members: u32,
    /// Members that there should be next.
    pub desired: u32,
    /// What should be done: `keep`, `out`, `in`, `move`, `even-out`, `out-held`, `in-held`; empty
    /// without a decision.
    pub verdict: String,
    /// Why, in plain words.
    pub reason: String,
    /// What the member that acts is doing.
    pub doing: String,
    /// What failed there last.
    pub failure: String,
    /// Empty nodes that wait to be joined.
    pub waiting: Vec<NodeId>,
    /// What each member carries.
    pub loads: Vec<NodeLoadView>,
    /// What all carried, the oldest first.
    pub past: Vec<LoadPoint>,
}

/// What is to hold for the whole cluster from now on. What is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoscaleChange {
    /// The mode.
    pub mode: Option<ScaleMode>,
    /// Settings of the policy, by name.
    pub policy: Bounded<(String, u64), POLICY_SETTINGS_MAX>,
    /// A pause of so many milliseconds from now; 0 ends one, the maximum is one for good.
    pub pause_ms: Option<u64>,
}
