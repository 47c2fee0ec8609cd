//! Exchanges that somebody asked for: a partition, or one key of it, with all its replicas.
//!
//! What the last replica gave is sent to the first in a second round, so that all have all.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_client::NodeId;
use kv_ring::Partition;

use super::talk::Talk;
use super::wire::{ExchangeOp, ExchangeOut, RepairTally};
use super::{ExchangeError, PeerExchanges};
use crate::coordinator::{Coordinator, Scope};
use crate::wire::{PeerOp, PeerOut};

impl Coordinator {
    /// Brings all replicas of a partition (or of one of its keys) to the same, wherever they are.
    ///
    /// # Errors
    /// Not all of them are the same for sure; what was mended is mended.
    pub(crate) async fn repair_partition(
        &self,
        partition: Partition,
        key: Option<Bytes>,
    ) -> Result<RepairTally, ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        if scope.holds(partition) {
            return self.repair_here(partition, key).await;
        }
        let up = |node: &NodeId| !scope.down.contains(node);
        let node = scope.others(partition).into_iter().find(up);
        let node = node.ok_or(ExchangeError::NoReplicas)?;
        let key = key.unwrap_or_default();
        let op = ExchangeOp::Repair { partition: partition.code(), key };
        // It may take as long as the partition is large; the caller's own deadline ends it.
        let deadline_ms = self.parts.clock.steady_ms() + REPAIR_MS_MAX;
        let asked = vec![(node, PeerOp::Exchange(op))];
        match self.gather(deadline_ms, asked).await.pop() {
            Some(Some(Ok(PeerOut::Exchange(ExchangeOut::Repaired(tally))))) => Ok(tally),
            Some(Some(Err(why))) => Err(ExchangeError::Silent(format!("{why:?}"))),
            _ => Err(ExchangeError::Confused),
        }
    }

    /// The same, by this node, which is one of the replicas.
    pub(super) async fn repair_here(
        &self,
        partition: Partition,
        key: Option<Bytes>,
    ) -> Result<RepairTally, ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        if !scope.layouts.newest().partitions().contains(partition) {
            // It was asked for by another count.
            return Err(ExchangeError::NoReplicas);
        }
        let others = scope.others(partition);
        let mut tally = RepairTally { peers: others.len() as u64, ..RepairTally::default() };
        let mut last = 0;
        for round in 0..ROUNDS {
            let mut mended = 0;
            for (place, peer) in others.iter().enumerate() {
                // In the second round nobody gains who came after the last that gave something.
                if round > 0 && place >= last {
                    break;
                }
                let one = self.repair_with(&scope, *peer, partition, key.clone()).await?;
                mended += one.mended;
                if one.mended > 0 && round == 0 {
                    last = place;
                }
                tally.add(&RepairTally { peers: 0, ..one });
            }
            if mended == 0 {
                break;
            }
        }
        Ok(tally)
    }

    async fn repair_with(
        &self,
        scope: &Scope,
        peer: NodeId,
        partition: Partition,
        key: Option<Bytes>,
    ) -> Result<RepairTally, ExchangeError> {
        if scope.down.contains(&peer) {
            return Err(ExchangeError::Silent(format!("{peer} is down")));
        }
        let mut talk = Talk::new(self, peer, self.exchange_rate());
        talk.without_trees = true;
        match key {
            Some(key) => talk.mend_keys(&[key]).await?,
            None => talk.exchange(partition).await?,
        }
        Ok(talk.tally)
    }

    /// The other nodes that hold a partition of this node's in some live layout, in order.
    pub fn sharing_peers(&self) -> Vec<NodeId> {
        let Ok(scope) = self.scope() else { return Vec::new() };
        let partitions = scope.layouts.newest().partitions().iter();
        let held = partitions.filter(|partition| scope.holds(*partition));
        let peers: BTreeSet<NodeId> = held.flat_map(|at| scope.others(at)).collect();
        peers.into_iter().collect()
    }

    /// How exchanges with each peer went.
    pub fn exchanges(&self) -> BTreeMap<NodeId, PeerExchanges> {
        self.exchanges.peers()
    }
}

/// How long a repair that another node was asked for is waited for.
const REPAIR_MS_MAX: u64 = 10 * 60 * 1_000;
/// One to gather, one to hand around.
const ROUNDS: usize = 2;
