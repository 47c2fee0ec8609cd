//! The exact chooser: a placement as a min-cost flow, one unit for each copy.
//!
//! ```text
//!          floor, 0          1, kept 0      least, 0
//! source ============ node ---------- zone ========== partition ---- sink
//!          +1, far           1, new 1       most, far              N
//! ```
//!
//! (Garage computes its layouts by a flow of this kind; bounds by water-filled shares and the
//! second layer for zones with several copies are ours.) A copy that stays costs nothing, a new
//! one costs 1, and a unit above a floor costs more than all copies together, so that no floor is
//! left unfilled where a flow can fill it. Such a flow exists ([`share`](super::share)), so the
//! cheapest one keeps to all bounds, and no placement that keeps to them moves fewer copies.

use alloc::vec;
use alloc::vec::Vec;

use crate::claim::network::Network;
use crate::claim::order;
use crate::claim::share::{Rules, ZoneRule};
use crate::claim::{Claim, ClaimRequest, mix};
use crate::error::Error;
use crate::partition::PartitionCount;

const SOURCE: usize = 0;
const SINK: usize = 1;

/// Places exactly: each node holds the floor or the ceiling of its feasible share, of copies and of
/// first places; copies are in different zones whenever zones allow; and the fewest copies move
/// that any such placement has to move. Time grows with partitions times nodes: 1024 by 100 take
/// some 20 ms, [`CANDIDATES_MAX`](Self::CANDIDATES_MAX) about a second and 200 MB.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowClaim;

impl FlowClaim {
    /// The most pairs of a partition and a node that it weighs up: above, the exact answer is not
    /// worth its time and memory.
    pub const CANDIDATES_MAX: usize = 1 << 21;

    /// The most nodes that it takes for so many partitions: 2048 for the default of 1024, 128 for
    /// the largest count.
    pub const fn nodes_max(partitions: PartitionCount) -> usize {
        Self::CANDIDATES_MAX / partitions.count()
    }
}

impl Claim for FlowClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        let (partitions, nodes) = (request.partitions(), request.nodes().len());
        let nodes_max = Self::nodes_max(partitions);
        if nodes > nodes_max {
            return Err(Error::TooManyNodes { nodes, nodes_max });
        }
        let rules = Rules::new(request.nodes(), partitions.count(), request.replicas());
        let mut graph = Graph::new(request, &rules);
        for node in 0..nodes {
            graph.offer(node, shuffled(partitions.count(), node as u64));
        }
        Ok(order::ordered(request, graph.owners()))
    }
}

/// The flow's network for a request, and which of its arcs mean a copy.
pub(crate) struct Graph<'a> {
    request: &'a ClaimRequest<'a>,
    rules: &'a Rules,
    network: Network,
    /// For each zone the vertices that stand for its part of each partition.
    parts: Vec<Vec<usize>>,
    /// Arc, node, partition.
    candidates: Vec<(usize, u16, usize)>,
    /// More than all copies cost.
    far: i64,
}

impl<'a> Graph<'a> {
    /// The network with all bounds in it and no candidates yet.
    pub(crate) fn new(request: &'a ClaimRequest<'a>, rules: &'a Rules) -> Self {
        let (partitions, nodes) = (request.partitions().count(), request.nodes().len());
        let far = i64::try_from(partitions * request.replicas() + 1).unwrap_or(i64::MAX);
        let mut network = Network::new(2 + nodes + partitions);
        for (node, share) in rules.shares.iter().enumerate() {
            network.arc(SOURCE, 2 + node, share.floor(), 0);
            network.arc(SOURCE, 2 + node, share.ceil() - share.floor(), far);
        }
        for partition in 0..partitions {
            network.arc(2 + nodes + partition, SINK, request.replicas(), 0);
        }
        let mut graph =
            Self { request, rules, network, parts: Vec::new(), candidates: Vec::new(), far };
        graph.parts = rules.zones.iter().map(|zone| graph.parts_of(zone)).collect();
        graph
    }

    /// Lets nodes hold more than their ceiling, where there is no other way.
    pub(crate) fn relax(&mut self) {
        for node in 0..self.rules.shares.len() {
            let partitions = self.request.partitions().count();
            self.network.arc(SOURCE, 2 + node, partitions, self.far * self.far);
        }
    }

    /// Offers a node these partitions, in this order of preference; nothing to one without weight.
    pub(crate) fn offer(&mut self, node: usize, partitions: Vec<usize>) {
        let zone = self.rules.zone_of.get(node).copied().flatten();
        let Some(parts) = zone.and_then(|zone| self.parts.get(zone)) else { return };
        for partition in partitions {
            let Some(&part) = parts.get(partition) else { continue };
            let fresh = !self.request.before(partition).contains(&(node as u16));
            let arc = self.network.arc(2 + node, part, 1, i64::from(fresh));
            self.candidates.push((arc, node as u16, partition));
        }
    }

    /// The owners of each partition that the cheapest flow makes, in no order that means anything.
    pub(crate) fn owners(mut self) -> Vec<Vec<u16>> {
        let (partitions, replicas) = (self.request.partitions().count(), self.request.replicas());
        let sent = self.network.flow(SOURCE, SINK);
        assert_eq!(sent, partitions * replicas, "the candidates have room for every copy");
        let mut owners = vec![Vec::with_capacity(replicas); partitions];
        for (arc, node, partition) in self.candidates {
            if self.network.is_full(arc)
                && let Some(owners) = owners.get_mut(partition)
            {
                owners.push(node);
            }
        }
        owners
    }

    fn parts_of(&mut self, zone: &ZoneRule) -> Vec<usize> {
        let even = self.rules.zones.iter().all(|zone| zone.at_least == 0);
        let free = self.rules.zones.len() == 1 || (even && zone.members.len() == 1);
        let first = 2 + self.request.nodes().len();
        let partitions = first..first + self.request.partitions().count();
        if free {
            return partitions.collect();
        }
        let above = if even { 0 } else { self.far };
        partitions
            .map(|partition| {
                let part = self.network.vertex();
                self.network.arc(part, partition, zone.at_least, 0);
                self.network.arc(part, partition, zone.at_most - zone.at_least, above);
                part
            })
            .collect()
    }
}

/// The partitions in an order of the seed's own: nodes that fill up in different orders make many
/// different sets of owners, so that a dead node's work falls on all others.
pub(crate) fn shuffled(partitions: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..partitions).collect();
    order.sort_by_cached_key(|&partition| mix(seed, partition as u64));
    order
}
