//! Plans by partition: which nodes an operation needs, made once for a layout and shared.
//!
//! A plan depends on the live layouts, the partition and how many answers are wanted. It is made
//! at its first use and thrown away when the layouts change. For reads the local replica comes
//! first, then those of this node's zone, which are near; others are turned by partition, so that
//! two nodes don't send all their reads to the same third.

use std::sync::{Arc, OnceLock};

use kv_client::NodeId;
use kv_quorum::{Plan, WriteSet};
use kv_ring::{History, Partition};
use parking_lot::RwLock;

use crate::error::RequestError;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// The plans of one purpose and level under one set of layouts.
pub(super) struct PlanTable {
    me: NodeId,
    purpose: Purpose,
    required: u8,
    sloppy: bool,
    layouts: Arc<History<NodeId>>,
    plans: Box<[OnceLock<Arc<Plan<NodeId>>>]>,
}

impl PlanTable {
    fn new(
        me: NodeId,
        purpose: Purpose,
        required: u8,
        sloppy: bool,
        layouts: Arc<History<NodeId>>,
    ) -> Self {
        let partitions = layouts.newest().partitions().count();
        let plans = (0..partitions).map(|_| OnceLock::new()).collect();
        Self { me, purpose, required, sloppy, layouts, plans }
    }

    /// The plan of a partition.
    ///
    /// # Errors
    /// `Level` when a live layout has fewer copies than are asked for.
    pub(super) fn of(&self, partition: Partition) -> Result<Arc<Plan<NodeId>>, RequestError> {
        let Some(cell) = self.plans.get(usize::from(partition.index())) else {
            return Err(RequestError::Loading);
        };
        if let Some(plan) = cell.get() {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.make(partition)?);
        Ok(Arc::clone(cell.get_or_init(|| plan)))
    }

    fn make(&self, partition: Partition) -> Result<Plan<NodeId>, RequestError> {
        let sets: Vec<WriteSet<NodeId>> = self
            .layouts
            .write_sets(partition)
            .map(|owners| WriteSet {
                nodes: self.ordered(partition, owners),
                required: self.required.into(),
            })
            .collect();
        let named = |node: &NodeId| sets.iter().any(|set| set.nodes.contains(node));
        let fallbacks: Vec<NodeId> = self
            .layouts
            .newest()
            .preference(partition)
            .fallbacks()
            .filter(|node| !named(node))
            .take(kv_quorum::PLAN_NODES_MAX / 2)
            .collect();
        Plan::new(&sets, &fallbacks, self.sloppy).map_err(|error| {
            RequestError::Level(format!("{} copies can't be had here: {error}", self.required))
        })
    }

    fn ordered(&self, partition: Partition, owners: &[NodeId]) -> Vec<NodeId> {
        let mut nodes = owners.to_vec();
        if self.purpose == Purpose::Read && !nodes.is_empty() {
            let turn = (u64::from(partition.index()) ^ self.me.0) as usize % nodes.len();
            nodes.rotate_left(turn);
            let newest = self.layouts.newest();
            let zone = |node: NodeId| newest.spec(node).map(|spec| spec.zone);
            let own_zone = zone(self.me);
            nodes.sort_by_key(|node| (*node != self.me, zone(*node) != own_zone));
        }
        nodes
    }
}

/// Every table in use.
#[derive(Default)]
pub(super) struct Plans(RwLock<Vec<Arc<PlanTable>>>);

/// Tables kept at most: two purposes, a few levels.
const TABLES_MAX: usize = 16;

impl Plans {
    /// The table for a purpose and level under these layouts.
    pub(super) fn table(
        &self,
        me: NodeId,
        purpose: Purpose,
        required: u8,
        sloppy: bool,
        layouts: &Arc<History<NodeId>>,
    ) -> Arc<PlanTable> {
        let fits = |table: &&Arc<PlanTable>| {
            table.purpose == purpose
                && table.required == required
                && table.sloppy == sloppy
                && Arc::ptr_eq(&table.layouts, layouts)
        };
        if let Some(table) = self.0.read().iter().find(fits) {
            return Arc::clone(table);
        }
        let table = Arc::new(PlanTable::new(me, purpose, required, sloppy, Arc::clone(layouts)));
        let mut tables = self.0.write();
        tables.retain(|old| Arc::ptr_eq(&old.layouts, layouts));
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.push(Arc::clone(&table));
        table
    }
}

#[cfg(test)]
mod tests {
    use kv_ring::{AutoClaim, Layout, NodeSpec, PartitionCount, Topology, Zone};

    use super::*;

    #[test]
    fn reads_go_to_this_node_then_to_its_zone_then_to_the_others_in_turn() {
        let spec = |zone: u64| NodeSpec::new(1, Zone::new(zone));
        let members: Topology<NodeId> = (0..9).map(|id| (NodeId(id), spec(id % 3))).collect();
        let count = PartitionCount::new(64).expect("a power of two");
        let layout = Layout::first(&members, count, 3, &AutoClaim).expect("nine nodes");
        let layouts = Arc::new(History::new(layout));
        let me = NodeId(4);
        let table = PlanTable::new(me, Purpose::Read, 2, true, Arc::clone(&layouts));
        let mut seconds = [0; 9];
        for partition in count.iter() {
            let nodes = table.ordered(partition, layouts.newest().owners(partition));
            let (first, second) = (nodes[0], nodes[1]);
            assert_eq!(first.0 % 3, 1, "a copy is in this node's zone: {nodes:?}");
            assert!(!nodes.contains(&me) || first == me, "{nodes:?}");
            seconds[second.0 as usize] += 1;
        }
        let others = seconds.iter().enumerate().filter(|(id, _)| id % 3 != 1);
        assert!(others.clone().all(|(_, count)| *count > 2), "taken in turn: {seconds:?}");
        let table = PlanTable::new(me, Purpose::Write, 2, true, Arc::clone(&layouts));
        for partition in count.iter() {
            let owners = layouts.newest().owners(partition);
            assert_eq!(table.ordered(partition, owners), owners, "the first primary mints");
        }
    }
}
