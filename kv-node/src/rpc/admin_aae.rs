//! Anti-entropy for operators: how it goes, and a repair that they ask for.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::wire::{AaePeer, AaeView, RepairOut, ServiceError};

use crate::coordinator::Coordinator;
use crate::coordinator::exchange::begins;
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::node::Node;

/// How the node compares its copies with others'.
pub(super) fn view(node: &Node, coordinator: &Coordinator) -> AaeView {
    let replica = &coordinator.parts().replica;
    let counts = replica.trees().counts();
    let exchanges = coordinator.exchanges();
    let now_ms = coordinator.parts().clock.steady_ms();
    let me = node.id();
    let peers = coordinator.sharing_peers().into_iter().map(|peer| {
        let of = exchanges.get(&peer).cloned().unwrap_or_default();
        AaePeer {
            node: peer,
            begins: begins(me, peer),
            exchanges: of.exchanges,
            age_ms: of.ended_ms.map(|ended_ms| now_ms.saturating_sub(ended_ms)),
            found: of.total.found,
            mended: of.total.mended,
            bytes: of.total.sent_bytes + of.total.received_bytes,
            last_bytes: of.last.sent_bytes + of.last.received_bytes,
            failure: of.failure.unwrap_or_default(),
        }
    });
    AaeView {
        trees_built: counts.built as u32,
        trees_building: counts.building as u32,
        leaves: replica.trees().shape().leaves(),
        rate_per_mille: coordinator.background.per_mille() as u16,
        filling: replica.standings().newcomers().len() as u32,
        peers: peers.collect(),
    }
}

/// Brings all replicas of a partition or of a key to the same.
pub(super) async fn repair(
    coordinator: Arc<Coordinator>,
    partition: u16,
    key: Option<Bytes>,
) -> Result<RepairOut, ServiceError> {
    let partitions = coordinator.parts().replica.standings().partitions();
    let Some(partition) = partitions.nth(partition) else {
        return Err(ServiceError::Refused(format!("there is no partition {partition}")));
    };
    let key = key.map(|key| KeyRef::place(DEFAULT_KEYSPACE, &key).to_storage());
    // A task of its own: it goes on when the caller goes away.
    let repair = tokio::spawn(async move { coordinator.repair_partition(partition, key).await });
    let repaired = repair.await.map_err(|error| ServiceError::Failed(error.to_string()))?;
    let tally = repaired.map_err(|error| ServiceError::Failed(error.to_string()))?;
    Ok(RepairOut {
        replicas: tally.peers,
        leaves: tally.leaves,
        found: tally.found,
        mended: tally.mended,
        bytes: tally.sent_bytes + tally.received_bytes,
    })
}
