//! The fast chooser, for clusters that are too large for the exact one.
//!
//! Shares are rounded to quotas first. Then every copy that fits its node's quota and its zone's
//! part stays where it is, and each hole is filled from the node that is furthest below its quota.
//! That draft is a placement already, if not an even one. The exact chooser's flow then mends it,
//! weighing up only a few candidates for each partition: who held it, whom the draft names, and a
//! sample of the others. Invariant: owners of a partition differ, and zones are kept; shares are
//! met as far as the sample reaches, which the tests measure.

#![expect(
    clippy::indexing_slicing,
    reason = "nodes, zones and partitions are counted by the request, and all vectors here are \
              made as long as those counts"
)]

use alloc::vec;
use alloc::vec::Vec;

use crate::claim::flow::Graph;
use crate::claim::order;
use crate::claim::share::{Rules, Share, ZoneRule};
use crate::claim::{Claim, ClaimRequest, mix};
use crate::error::Error;

/// Other nodes that are weighed up for each partition: half of them any, half of them such as want
/// more than they kept.
const SAMPLE: u64 = 16;

/// Places quickly and well: copies are in different zones whenever zones allow, and ranks are dealt
/// as exactly as [`FlowClaim`](super::FlowClaim) deals them; shares and movement are close to the
/// best but not proven to be. O(partitions * N * members) time, for the draft.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastClaim;

impl Claim for FastClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        let rules = Rules::new(request.nodes(), request.partitions().count(), request.replicas());
        let mut draft = Draft::new(request, &rules);
        draft.keep();
        let takers = draft.takers();
        draft.fill();
        let mut offers: Vec<Vec<usize>> = vec![Vec::new(); request.nodes().len()];
        for partition in 0..draft.owners.len() {
            for node in draft.candidates(partition, &takers) {
                if let Some(offer) = offers.get_mut(usize::from(node)) {
                    offer.push(partition);
                }
            }
        }
        let mut graph = Graph::new(request, &rules);
        graph.relax();
        for (node, offer) in offers.into_iter().enumerate() {
            graph.offer(node, offer);
        }
        Ok(order::ordered(request, graph.owners()))
    }
}

struct Draft<'a> {
    request: &'a ClaimRequest<'a>,
    rules: &'a Rules,
    /// Whether any zone has a least to hold: then there are fewer zones than copies.
    leasts: bool,
    /// Copies that each node should still get; below zero, what it has too many.
    wanted: Vec<i64>,
    owners: Vec<Vec<u16>>,
}

impl<'a> Draft<'a> {
    fn new(request: &'a ClaimRequest<'a>, rules: &'a Rules) -> Self {
        let wanted = quotas(request, rules);
        let owners = vec![Vec::with_capacity(request.replicas()); request.partitions().count()];
        let leasts = rules.zones.iter().any(|zone| zone.at_least > 0);
        Self { request, rules, leasts, wanted, owners }
    }

    /// Leaves copies where they are, up to the quotas and the zones' parts.
    fn keep(&mut self) {
        let mut surplus: Vec<i64> = self.wanted.iter().map(|&wanted| -wanted).collect();
        for &node in (0..self.owners.len()).flat_map(|p| self.request.before(p)) {
            if let Some(count) = surplus.get_mut(usize::from(node)) {
                *count += 1;
            }
        }
        for partition in 0..self.owners.len() {
            let mut before = self.request.before(partition).to_vec();
            before.retain(|&node| self.zone_of(node).is_some());
            before.sort_by_key(|&node| surplus[usize::from(node)]);
            for node in before {
                let full = self.owners[partition].len() == self.request.replicas();
                if !full && self.wanted[usize::from(node)] > 0 && self.admits(partition, node) {
                    self.add(partition, node);
                } else {
                    surplus[usize::from(node)] -= 1;
                }
            }
        }
    }

    /// Fills each hole from the node that wants most.
    fn fill(&mut self) {
        for partition in 0..self.owners.len() {
            while self.owners[partition].len() < self.request.replicas() {
                let nodes = 0..self.wanted.len() as u16;
                let best = nodes.filter(|&node| self.admits(partition, node)).max_by_key(|&node| {
                    let tie = mix(partition as u64, u64::from(node));
                    (self.wanted[usize::from(node)], tie)
                });
                let Some(node) = best else { break };
                self.add(partition, node);
            }
            assert_eq!(
                self.owners[partition].len(),
                self.request.replicas(),
                "zones have room for every copy"
            );
        }
    }

    /// Nodes that want more than they have.
    fn takers(&self) -> Vec<u16> {
        let nodes = 0..self.wanted.len() as u16;
        nodes.filter(|&node| self.wanted[usize::from(node)] > 0).collect()
    }

    /// Whom the flow may choose from for a partition, each once.
    fn candidates(&self, partition: usize, takers: &[u16]) -> Vec<u16> {
        let mut candidates = self.owners[partition].clone();
        candidates.extend_from_slice(self.request.before(partition));
        for draw in 0..SAMPLE {
            let random = mix(partition as u64, draw);
            let below = |len: usize| (random % len.max(1) as u64) as usize;
            if draw % 2 == 0 {
                candidates.push(below(self.wanted.len()) as u16);
            } else {
                candidates.extend(takers.get(below(takers.len())));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    /// Whether `node` may own the partition too: it has weight, owns no copy of it yet, its zone
    /// has room, and enough is left for the other zones' least.
    fn admits(&self, partition: usize, node: u16) -> bool {
        let Some(zone) = self.zone_of(node) else { return false };
        let owners = &self.owners[partition];
        if owners.contains(&node) {
            return false;
        }
        let held = |number: usize| {
            owners.iter().filter(|&&owner| self.zone_of(owner) == Some(number)).count()
        };
        if held(zone) >= self.rules.zones[zone].at_most {
            return false;
        }
        if !self.leasts || held(zone) < self.rules.zones[zone].at_least {
            return true;
        }
        let lacking =
            |(number, rule): (usize, &ZoneRule)| rule.at_least.saturating_sub(held(number));
        let holes = self.request.replicas() - owners.len();
        holes > self.rules.zones.iter().enumerate().map(lacking).sum::<usize>()
    }

    fn zone_of(&self, node: u16) -> Option<usize> {
        self.rules.zone_of.get(usize::from(node)).copied().flatten()
    }

    fn add(&mut self, partition: usize, node: u16) {
        self.owners[partition].push(node);
        self.wanted[usize::from(node)] -= 1;
    }
}

/// Whole quotas: each zone's between floor and ceiling of its share, then each node's. Who held
/// more before is rounded up before others.
fn quotas(request: &ClaimRequest<'_>, rules: &Rules) -> Vec<i64> {
    let mut held = vec![0_usize; request.nodes().len()];
    for &node in (0..request.partitions().count()).flat_map(|p| request.before(p)) {
        if let Some(count) = held.get_mut(usize::from(node)) {
            *count += 1;
        }
    }
    let total = request.partitions().count() * request.replicas();
    let zones: Vec<(Share, bool)> = rules
        .zones
        .iter()
        .map(|zone| {
            let before: usize = zone.members.iter().map(|&member| held[member]).sum();
            (zone.share, before > zone.share.floor())
        })
        .collect();
    let mut wanted = vec![0; held.len()];
    for (zone, quota) in rules.zones.iter().zip(rounded(&zones, total)) {
        let shares: Vec<(Share, bool)> = zone
            .members
            .iter()
            .map(|&member| (rules.shares[member], held[member] > rules.shares[member].floor()))
            .collect();
        for (&member, quota) in zone.members.iter().zip(rounded(&shares, quota)) {
            wanted[member] = i64::try_from(quota).unwrap_or(i64::MAX);
        }
    }
    wanted
}

/// Shares rounded to whole numbers that add up to `total`, which lies between the sums of their
/// floors and ceilings: largest remainders, those who are marked first.
fn rounded(shares: &[(Share, bool)], total: usize) -> Vec<usize> {
    let mut quotas: Vec<usize> = shares.iter().map(|(share, _)| share.floor()).collect();
    let mut up: Vec<usize> =
        (0..shares.len()).filter(|&i| shares[i].0.ceil() > shares[i].0.floor()).collect();
    up.sort_by_key(|&i| (!shares[i].1, core::cmp::Reverse(shares[i].0.excess()), i));
    let spare = total.saturating_sub(quotas.iter().sum());
    for i in up.into_iter().take(spare) {
        quotas[i] += 1;
    }
    quotas
}
