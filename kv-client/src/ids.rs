//! Identities that every layer above the leaves shares.
//!
//! The leaf crates are generic over node identity; this is the one concrete type that the node,
//! the clients and the operators' tools put in. An id is random and born with a data directory:
//! it names the directory's memory, not a host or a port, so a wiped directory is another node.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node's identity: 64 random bits, fixed for the life of its data directory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id in the 40 hexadecimal digits that Redis Cluster clients expect of a node id.
    pub fn cluster_hex(self) -> String {
        format!("{:016x}{:024x}", self.0, 0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<NodeId> for u64 {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl From<u64> for NodeId {
    fn from(raw: u64) -> Self {
        Self(raw)
    }
}

impl kv_ring::NodeCode for NodeId {
    fn code(self) -> u64 {
        self.0
    }

    fn from_code(code: u64) -> Option<Self> {
        Some(Self(code))
    }
}

impl FromStr for NodeId {
    type Err = core::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The identity of a cluster, made once at its birth and carried in every peer call.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_own_text() {
        let id = NodeId(0x00ab_cdef_0123_4567);
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert_eq!(id.cluster_hex().len(), 40);
    }
}
