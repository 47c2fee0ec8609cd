//! Draining: a node is made ready to be stopped.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// What a node is asked to do about its drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DrainOrder {
    /// To say how it stands.
    #[default]
    Look,
    /// To take no clients any more, and to go on as a replica.
    Stay,
    /// The same, and to end its process when it is drained.
    End,
    /// To take clients again.
    Undo,
}

/// How far a drain is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum DrainStage {
    /// None is under way: the node takes clients.
    #[default]
    Off,
    /// The others hear of it; clients are still taken.
    Telling,
    /// No client is taken any more; what is under way ends.
    Closing,
    /// Nothing is under way, or it was waited for long enough.
    Drained,
}

/// A node's drain as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    /// The node.
    pub node: NodeId,
    /// How far it is.
    pub stage: DrainStage,
    /// Whether its process ends then.
    pub ends: bool,
    /// Redis clients that are connected.
    pub clients: u64,
    /// Requests of programs, and writes of others, that it works on; operations on their way to
    /// other replicas.
    pub requests: u64,
    /// Keys of which it keeps hints for nodes that are up: they are waited for.
    pub hints: u64,
    /// Keys of which it keeps hints for nodes that are not: these stay on its disk.
    pub hints_kept: u64,
    /// Milliseconds that all this is waited for at most.
    pub ms_max: u64,
}
