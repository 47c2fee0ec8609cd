//! Random clusters and changes, and judges of placements that share no code with the crate: shares
//! by bisection on floats, and minimal movement as the absence of a negative cycle in the residual
//! network (Klein 1967), which is the definition of a cheapest flow, not an algorithm for one.

use std::collections::BTreeMap;

use kv_ring::{Layout, NodeSpec, Topology, Zone};
use proptest::prelude::*;

/// One thing that an operator does.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Add(NodeSpec),
    Remove(prop::sample::Index),
    Respec(prop::sample::Index, NodeSpec),
    Drain(prop::sample::Index),
    Copies(usize),
}

/// Nodes of weight 1 to 4 in up to five zones.
pub(crate) fn spec(zones: u64) -> impl Strategy<Value = NodeSpec> {
    (1_u32..=4, 0..zones).prop_map(|(weight, zone)| NodeSpec::new(weight, Zone::new(zone)))
}

/// A cluster of so many nodes, and changes that follow.
pub(crate) fn history(
    nodes: std::ops::RangeInclusive<usize>,
    changes: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = (Vec<NodeSpec>, Vec<Change>)> {
    (nodes, 1_u64..=5, changes).prop_flat_map(|(nodes, zones, changes)| {
        let index = any::<prop::sample::Index>;
        let change = prop_oneof![
            3 => spec(zones).prop_map(Change::Add),
            3 => index().prop_map(Change::Remove),
            2 => (index(), spec(zones)).prop_map(|(at, spec)| Change::Respec(at, spec)),
            1 => index().prop_map(Change::Drain),
            1 => (1_usize..=5).prop_map(Change::Copies),
        ];
        (prop::collection::vec(spec(zones), nodes), prop::collection::vec(change, changes))
    })
}

/// The topology of nodes numbered from 0.
pub(crate) fn topology(specs: &[NodeSpec]) -> Topology<u32> {
    (0..).zip(specs.iter().copied()).collect()
}

/// Applies a change, unless too few nodes would be left for the copies.
pub(crate) fn apply(topology: &mut Topology<u32>, copies: &mut usize, change: &Change, new: u32) {
    let members: Vec<u32> = topology.iter().map(|(node, _)| node).collect();
    let mut after = topology.clone();
    let mut copies_after = *copies;
    match change {
        Change::Add(spec) => {
            after.insert(1000 + new, *spec);
        }
        Change::Remove(at) => {
            after.remove(*at.get(&members));
        }
        Change::Respec(at, spec) => {
            after.insert(*at.get(&members), *spec);
        }
        Change::Drain(at) => {
            let node = *at.get(&members);
            let zone = topology.spec(node).unwrap_or_default().zone;
            after.insert(node, NodeSpec::new(0, zone));
        }
        Change::Copies(to) => copies_after = *to,
    }
    if after.iter().filter(|(_, spec)| spec.weight > 0).count() >= copies_after {
        *topology = after;
        *copies = copies_after;
    }
}

/// Zones with weight: their nodes, and how many copies of a partition each must and may hold.
pub(crate) fn zones(topology: &Topology<u32>, copies: usize) -> BTreeMap<Zone, Part> {
    let mut zones: BTreeMap<Zone, Part> = BTreeMap::new();
    for (node, spec) in topology.iter().filter(|(_, spec)| spec.weight > 0) {
        zones.entry(spec.zone).or_default().nodes.push((node, f64::from(spec.weight)));
    }
    // Deal copies out one by one, to whichever zone has least: the even way.
    let mut dealt: BTreeMap<Zone, usize> = zones.keys().map(|&zone| (zone, 0)).collect();
    let mut top = 0;
    for _ in 0..copies {
        let room = |(zone, held): &(&Zone, &mut usize)| **held < zones[zone].nodes.len();
        let (_, least) = dealt.iter_mut().filter(room).min_by_key(|(_, held)| **held).unwrap();
        *least += 1;
        top = top.max(*least);
    }
    for part in zones.values_mut() {
        part.most = part.nodes.len().min(top);
        part.least = part.nodes.len().min(top - 1);
    }
    zones
}

/// A zone's nodes with their weights, and its part of each partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) nodes: Vec<(u32, f64)>,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// The feasible shares, by bisection.
pub(crate) fn shares(topology: &Topology<u32>, whole: usize, copies: usize) -> BTreeMap<u32, f64> {
    let whole_part = whole as f64;
    let zones = zones(topology, copies);
    let poured = |part: &Part, level: f64| -> f64 {
        part.nodes.iter().map(|(_, weight)| (level * weight).min(whole_part)).sum()
    };
    let clamped = |part: &Part, level: f64| {
        poured(part, level).clamp(part.least as f64 * whole_part, part.most as f64 * whole_part)
    };
    let bisect = |reached: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 2.0 * whole_part);
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if reached(middle) { high = middle } else { low = middle }
        }
        high
    };
    let total = whole_part * copies as f64;
    let level =
        bisect(&|level| zones.values().map(|part| clamped(part, level)).sum::<f64>() >= total);
    let mut shares = BTreeMap::new();
    for part in zones.values() {
        let own = clamped(part, level);
        let level = bisect(&|level| poured(part, level) >= own - 1e-9);
        let node = |&(node, weight): &(u32, f64)| (node, (level * weight).min(whole_part));
        shares.extend(part.nodes.iter().map(node));
    }
    shares
}

/// Panics unless all that holds for every placement, however chosen, holds.
pub(crate) fn judge_rules(layout: &Layout<u32>, topology: &Topology<u32>) {
    let zones = zones(topology, layout.replicas());
    for partition in layout.partitions().iter() {
        let owners = layout.owners(partition);
        assert_eq!(owners.len(), layout.replicas());
        let mut held: BTreeMap<Zone, usize> = BTreeMap::new();
        for (rank, owner) in owners.iter().enumerate() {
            assert!(!owners[..rank].contains(owner), "{owner} twice in {owners:?}");
            let spec = topology.spec(*owner).expect("owners are members");
            assert!(spec.weight > 0, "{owner} is drained");
            *held.entry(spec.zone).or_default() += 1;
        }
        assert_eq!(held.len(), layout.replicas().min(zones.len()), "zones of {owners:?}");
        for (zone, part) in &zones {
            let held = held.get(zone).copied().unwrap_or(0);
            assert!((part.least..=part.most).contains(&held), "{held} copies in {zone:?}");
        }
    }
}

/// How many copies, and how many first places, lie outside of floor and ceiling of the share.
pub(crate) fn off_balance(layout: &Layout<u32>, topology: &Topology<u32>) -> (usize, usize) {
    let outside = |held: usize, share: f64| {
        let (floor, ceil) = ((share + 1e-6).floor() as usize, (share - 1e-6).ceil() as usize);
        floor.saturating_sub(held) + held.saturating_sub(ceil)
    };
    let mut off = (0, 0);
    let mut counts: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for partition in layout.partitions().iter() {
        for (rank, &owner) in layout.owners(partition).iter().enumerate() {
            let count = counts.entry(owner).or_default();
            count.0 += 1;
            count.1 += usize::from(rank == 0);
        }
    }
    for (node, share) in shares(topology, layout.partitions().count(), layout.replicas()) {
        let (copies, firsts) = counts.get(&node).copied().unwrap_or_default();
        off.0 += outside(copies, share);
        off.1 += outside(firsts, share / layout.replicas() as f64);
    }
    off
}

/// Whether some placement within the same bounds moves fewer copies than `new` does from `old`: a
/// negative cycle in the residual network, looked for by Bellman and Ford's relaxation.
pub(crate) fn can_move_less(
    old: &Layout<u32>,
    new: &Layout<u32>,
    topology: &Topology<u32>,
) -> bool {
    let partitions = new.partitions().count();
    let zones = zones(topology, new.replicas());
    let shares = shares(topology, partitions, new.replicas());
    let vertex: BTreeMap<u32, usize> = shares.keys().copied().zip(1..).collect();
    let first_part = 1 + vertex.len();
    let first_partition = first_part + zones.len() * partitions;
    let mut arcs: Vec<(usize, usize, i32)> = Vec::new();
    for (node, share) in &shares {
        let held = new.held_by(*node).count();
        if held < (share - 1e-6).ceil() as usize {
            arcs.push((0, vertex[node], 0));
        }
        if held > (share + 1e-6).floor() as usize {
            arcs.push((vertex[node], 0, 0));
        }
    }
    for (index, partition) in new.partitions().iter().enumerate() {
        let (before, owners) = (old.owners(partition), new.owners(partition));
        for (number, zone) in zones.values().enumerate() {
            let part = first_part + number * partitions + index;
            let mut held = 0;
            for (node, _) in &zone.nodes {
                let cost = i32::from(!before.contains(node));
                if owners.contains(node) {
                    held += 1;
                    arcs.push((part, vertex[node], -cost));
                } else {
                    arcs.push((vertex[node], part, cost));
                }
            }
            if held < zone.most {
                arcs.push((part, first_partition + index, 0));
            }
            if held > zone.least {
                arcs.push((first_partition + index, part, 0));
            }
        }
    }
    let vertices = first_partition + partitions;
    let mut distance = vec![0_i32; vertices];
    for _ in 0..=vertices {
        let mut relaxed = false;
        for &(from, to, cost) in &arcs {
            if distance[from] + cost < distance[to] {
                distance[to] = distance[from] + cost;
                relaxed = true;
            }
        }
        if !relaxed {
            return false;
        }
        // No simple path costs less than minus one for each node that it passes.
        if distance.iter().any(|&d| d < -(vertex.len() as i32) - 1) {
            return true;
        }
    }
    true
}
