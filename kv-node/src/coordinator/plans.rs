//! Plans by partition: which nodes an operation needs, made once for a layout and shared.
//!
//! A plan depends on the live layouts, the partition and which answers are wanted. It is made
//! at its first use and thrown away when the layouts change. For reads the local replica comes
//! first, then those of this node's zone, which are near; others are turned by partition, so that
//! two nodes don't send all their reads to the same third.

use std::sync::{Arc, OnceLock};

use kv_client::NodeId;
use kv_quorum::{Copies, Plan, WriteSet};
use kv_ring::{History, Partition, Zone};
use parking_lot::RwLock;

use super::Scope;
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
    copies: Copies<Zone>,
    sloppy: bool,
    layouts: Arc<History<NodeId>>,
    plans: Box<[OnceLock<Arc<Plan<NodeId>>>]>,
}

impl PlanTable {
    fn new(
        me: NodeId,
        purpose: Purpose,
        copies: Copies<Zone>,
        sloppy: bool,
        layouts: Arc<History<NodeId>>,
    ) -> Self {
        let partitions = layouts.newest().partitions().count();
        let plans = (0..partitions).map(|_| OnceLock::new()).collect();
        Self { me, purpose, copies, sloppy, layouts, plans }
    }

    /// The plan of a partition.
    ///
    /// # Errors
    /// `Level` when a live layout has fewer copies than are asked for.
    pub(super) fn of(&self, partition: Partition) -> Result<Arc<Plan<NodeId>>, RequestError> {
        let own = self.layouts.newest().partitions().contains(partition);
        let cell = self.plans.get(usize::from(partition.index())).filter(|_| own);
        let Some(cell) = cell else { return Err(RequestError::Loading) };
        if let Some(plan) = cell.get() {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.make(partition)?);
        Ok(Arc::clone(cell.get_or_init(|| plan)))
    }

    fn make(&self, partition: Partition) -> Result<Plan<NodeId>, RequestError> {
        let ordered = |owners: &[NodeId]| self.ordered(partition, owners);
        let sets = sets_of(&self.layouts, self.copies, partition, ordered)?;
        let mut told: Vec<NodeId> = self.layouts.write_sets(partition).flatten().copied().collect();
        let waited_for = |node: &NodeId| sets.iter().any(|set| set.nodes.contains(node));
        told.sort_unstable();
        told.dedup();
        told.retain(|node| !waited_for(node));
        let fallbacks: Vec<NodeId> = self
            .layouts
            .newest()
            .preference(partition)
            .fallbacks()
            .filter(|node| !waited_for(node) && !told.contains(node))
            .take(kv_quorum::PLAN_NODES_MAX / 2)
            .collect();
        // What is read elsewhere would not be waited for.
        told.retain(|_| self.purpose == Purpose::Write);
        Plan::new(&sets, &fallbacks, self.sloppy)
            .and_then(|plan| plan.telling(&told))
            .map_err(|error| refusal(self.copies, &error))
    }

    /// The replicas as near as the first that are not to serve this read of a hot key, of which
    /// each is to serve as many as the others. None where the first is this node.
    pub(super) fn not_in_turn(&self, plan: &Plan<NodeId>, turn: usize) -> Vec<NodeId> {
        let nodes = plan.primaries();
        let zone = |node: &NodeId| zone_in(&self.layouts, *node);
        let first = nodes.first().filter(|node| **node != self.me).map(zone);
        let mut near: Vec<NodeId> =
            nodes.iter().copied().filter(|node| Some(zone(node)) == first).collect();
        let serves = near.get(turn % near.len().max(1)).copied();
        near.retain(|node| Some(*node) != serves);
        near
    }

    fn ordered(&self, partition: Partition, owners: &[NodeId]) -> Vec<NodeId> {
        let mut nodes = owners.to_vec();
        if self.purpose == Purpose::Read && !nodes.is_empty() {
            let turn = (u64::from(partition.index()) ^ self.me.0) as usize % nodes.len();
            nodes.rotate_left(turn);
            let zone = |node: NodeId| zone_in(&self.layouts, node);
            let own_zone = zone(self.me);
            nodes.sort_by_key(|node| (*node != self.me, zone(*node) != own_zone));
        }
        nodes
    }
}

/// The write sets that a level asks for of a partition in every live layout, the newest's first,
/// with the owners of each layout in the order that `ordered` gives them.
///
/// Who stands in which zone is each layout's own to say: quorums that were reached under it were
/// counted so. A zone in which an older one has no copy has acknowledged nothing under it alone,
/// and need not be asked there.
///
/// # Errors
/// `Level` when the newest has no copy in the zone that is asked.
pub(super) fn sets_of(
    layouts: &History<NodeId>,
    copies: Copies<Zone>,
    partition: Partition,
    ordered: impl Fn(&[NodeId]) -> Vec<NodeId>,
) -> Result<Vec<WriteSet<NodeId>>, RequestError> {
    let mut sets: Vec<WriteSet<NodeId>> = Vec::new();
    for (age, layout) in layouts.live().enumerate() {
        let owners = ordered(layout.owners(partition));
        let zone = |node| layout.spec(node).map_or_else(Zone::default, |spec| spec.zone);
        let made = match copies.sets(&owners, zone) {
            Err(kv_quorum::Error::NoCopyInZone) if age > 0 => Vec::new(),
            made => made.map_err(|error| refusal(copies, &error))?,
        };
        for set in made {
            if !sets.iter().any(|known| is_same(known, &set)) {
                sets.push(set);
            }
        }
    }
    Ok(sets)
}

/// Whether two sets ask for as many of the same nodes, in whatever order.
fn is_same(one: &WriteSet<NodeId>, other: &WriteSet<NodeId>) -> bool {
    one.required == other.required
        && one.nodes.len() == other.nodes.len()
        && one.nodes.iter().all(|node| other.nodes.contains(node))
}

fn refusal(copies: Copies<Zone>, error: &kv_quorum::Error) -> RequestError {
    RequestError::Level(match copies {
        Copies::Any(copies) => format!("{copies} copies can't be had here: {error}"),
        Copies::InZone(_) | Copies::InEachZone => format!("{error}: ask at another level"),
    })
}

/// Where a node of some live layout stands; one that has left the newest stands where it stood.
fn zone_in(layouts: &History<NodeId>, node: NodeId) -> Zone {
    layouts.live().find_map(|layout| layout.spec(node)).map_or_else(Zone::default, |spec| spec.zone)
}

/// Every table in use.
#[derive(Default)]
pub(super) struct Plans(RwLock<Vec<Arc<PlanTable>>>);

/// Tables kept at most: two purposes, a few levels.
const TABLES_MAX: usize = 16;

impl Plans {
    /// The table for a purpose and level under the layouts of a scope.
    pub(super) fn table(
        &self,
        scope: &Scope,
        purpose: Purpose,
        copies: Copies<Zone>,
    ) -> Arc<PlanTable> {
        let (me, sloppy, layouts) = (scope.view.me, scope.counts_fallbacks(copies), &scope.layouts);
        let fits = |table: &&Arc<PlanTable>| {
            table.purpose == purpose
                && table.copies == copies
                && table.sloppy == sloppy
                && Arc::ptr_eq(&table.layouts, layouts)
        };
        if let Some(table) = self.0.read().iter().find(fits) {
            return Arc::clone(table);
        }
        let table = Arc::new(PlanTable::new(me, purpose, copies, sloppy, Arc::clone(layouts)));
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
    fn each_layout_says_who_stands_in_which_zone() {
        let spec = |zone: u64| NodeSpec::new(1, Zone::new(zone));
        let mut members: Topology<NodeId> = (0..6).map(|id| (NodeId(id), spec(id % 3))).collect();
        let count = PartitionCount::new(64).expect("a power of two");
        let before = Layout::first(&members, count, 3, &AutoClaim).expect("six nodes");
        members.insert(NodeId(1), spec(0));
        let after = Layout::next(&before, &members, 3, &AutoClaim).expect("six nodes");
        let mut layouts = History::new(before.clone());
        layouts.push(after.clone()).expect("a later one");
        let sets = |copies, of| sets_of(&layouts, copies, of, <[NodeId]>::to_vec);
        let mut moved = 0;
        for partition in count.iter() {
            for zone in (0..3).map(Zone::new) {
                let made = sets(Copies::InZone(zone), partition).expect("a copy is in each zone");
                for layout in [&before, &after] {
                    let stands = |node: &NodeId| layout.spec(*node).map(|spec| spec.zone);
                    let there = |node: &NodeId| stands(node) == Some(zone);
                    let owners = layout.owners(partition).iter().copied();
                    let nodes: Vec<NodeId> = owners.filter(there).collect();
                    let set = WriteSet { required: nodes.len() / 2 + 1, nodes };
                    assert!(made.iter().any(|made| is_same(made, &set)), "{set:?} in {made:?}");
                }
                moved += made.len() - 1;
            }
            let any = sets(Copies::Any(2), partition).expect("three copies");
            assert!(any.len() <= 2, "{any:?}");
        }
        assert!(moved > 0, "some partition has other copies in a zone");
        // A zone that had no copy before: nothing was acknowledged there.
        members.insert(NodeId(4), spec(3));
        let next = Layout::next(&after, &members, 3, &AutoClaim).expect("six nodes");
        let mut layouts = History::new(after);
        layouts.push(next.clone()).expect("a later one");
        for partition in count.iter() {
            let new = Copies::InZone(Zone::new(3));
            let made = sets_of(&layouts, new, partition, <[NodeId]>::to_vec);
            if next.owns(NodeId(4), partition) {
                let alone = WriteSet { nodes: vec![NodeId(4)], required: 1 };
                assert_eq!(made, Ok(vec![alone]));
            } else {
                assert!(matches!(made, Err(RequestError::Level(_))), "{made:?}");
            }
        }
    }

    #[test]
    fn reads_go_to_this_node_then_to_its_zone_then_to_the_others_in_turn() {
        let spec = |zone: u64| NodeSpec::new(1, Zone::new(zone));
        let members: Topology<NodeId> = (0..9).map(|id| (NodeId(id), spec(id % 3))).collect();
        let count = PartitionCount::new(64).expect("a power of two");
        let layout = Layout::first(&members, count, 3, &AutoClaim).expect("nine nodes");
        let layouts = Arc::new(History::new(layout));
        let me = NodeId(4);
        let table = PlanTable::new(me, Purpose::Read, Copies::Any(2), true, Arc::clone(&layouts));
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
        let table = PlanTable::new(me, Purpose::Write, Copies::Any(2), true, Arc::clone(&layouts));
        for partition in count.iter() {
            let owners = layouts.newest().owners(partition);
            assert_eq!(table.ordered(partition, owners), owners, "the first primary mints");
        }
    }
}
