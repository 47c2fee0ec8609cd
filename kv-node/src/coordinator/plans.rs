//! Plans by partition: which nodes an operation needs, made once for a layout and shared.
//!
//! A plan depends on the live layouts, the partition and how many answers are wanted. It is made
//! at its first use and thrown away when the layouts change. For reads the local replica comes
//! first and the others are turned by partition, so that two nodes don't send all their reads to
//! the same third.

use std::sync::{Arc, OnceLock};

use kv_client::NodeId;
use kv_quorum::{Plan, WriteSet};
use kv_ring::{History, Partition};
use parking_lot::RwLock;

use crate::error::RequestError;
use crate::teeth::{Bug, planted};

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
            .take(if planted(Bug::NewestLayoutOnly) { 1 } else { usize::MAX })
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
            if let Some(own) = nodes.iter().position(|node| *node == self.me) {
                nodes.get_mut(..=own).unwrap_or_default().rotate_right(1);
            }
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
