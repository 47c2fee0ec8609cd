//! Anti-entropy as operators see it, and a repair that they ask for.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// How the asked node compares its copies with others'.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AaeView {
    /// Hash trees that are whole: partitions that can be compared.
    pub trees_built: u32,
    /// Hash trees that are still being built.
    pub trees_building: u32,
    /// Leaves of each.
    pub leaves: u32,
    /// Thousandths of its rate that the background may use now.
    pub rate_per_mille: u16,
    /// Partitions that this node is being filled with, after a loss.
    pub filling: u32,
    /// Every node that shares a partition with the asked one.
    pub peers: Vec<AaePeer>,
}

/// How exchanges with one peer go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AaePeer {
    /// The peer.
    pub node: NodeId,
    /// Whether the asked node begins the exchanges; else the peer does, and says what they came to.
    pub begins: bool,
    /// Exchanges that ended with everything mended.
    pub exchanges: u64,
    /// Milliseconds since the last of them ended; `None` before the first.
    pub age_ms: Option<u64>,
    /// Keys that differed, in all exchanges.
    pub found: u64,
    /// Keys mended, in all exchanges.
    pub mended: u64,
    /// Bytes sent and received, in all exchanges.
    pub bytes: u64,
    /// Bytes sent and received in the last exchange.
    pub last_bytes: u64,
    /// Why the last exchange did not end; empty if it did.
    pub failure: String,
}

/// What a repair came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairOut {
    /// Replicas that were compared with the first.
    pub replicas: u64,
    /// Leaves of hash trees that differed.
    pub leaves: u64,
    /// Keys that differed, counted for each pair of replicas.
    pub found: u64,
    /// Keys mended.
    pub mended: u64,
    /// Bytes sent and received.
    pub bytes: u64,
}
