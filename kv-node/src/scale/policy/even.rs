//! Which copy should change places with which, so that the busiest node carries less.
//!
//! What a partition costs a node is not measured, but bounded from two sides: by its part of what
//! the node coordinates, and by its part of what is asked of all that the node holds. A bad moment
//! or a wrong guess must not move data back and forth, so an exchange has to be good by either
//! bound, with room for what counting one operation in 64 leaves to chance:
//!
//! ```text
//! busiest - least that the partition costs + most that the idle one brings   both 3 % or more
//! other   + most that the partition costs                                    below the busiest
//! ```
//! So what is one large lump stays where it is (elsewhere it would be as large), and each exchange
//! lowers the higher of the two: there is no way round. Where the signal is operations, only those
//! of cluster-aware clients go with a partition, which ask its first primary: others go on to ask
//! whom they asked. Disk is not evened out: copies of idle partitions are as large.
//!
//! Invariant: what kv-ring says of an exchange holds (as many copies and first places for each,
//! zones as even); a partition that changed places lately does not again.

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_ring::{Exchange, Layout, Partition};

use super::measured::{NodeLoad, Signal, percent_of, signal_of};
use super::{Policy, Standing};

/// A node is far over the others from so much of their mean on, percent.
const FAR_PERCENT: u64 = 130;
/// The busier of the two carries less afterwards by so much of what it did at least, percent.
const GAIN_PERCENT: u64 = 3;
/// What is known of a partition's load may be off by so much, percent.
const DOUBT_PERCENT: u64 = 25;
/// Clients ask a partition's first primary when it gets so much of what is asked of the partition,
/// percent.
const AWARE_PERCENT: u64 = 80;
/// Partitions of the busiest node that are looked at, the busiest first.
const LOOKED_AT_MAX: usize = 16;
/// Percents are counted in such parts.
const PARTS: u64 = 1_000;

/// Operations in a second on one partition that one node coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionRate {
    /// Who coordinates them.
    pub at: NodeId,
    /// The partition's index, by the newest layout's count.
    pub partition: u16,
    /// How many.
    pub ops_per_s: u64,
}

/// An exchange, with what it would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Better {
    pub(super) exchange: Exchange<NodeId>,
    /// What the busiest carries now, in percent of its target,
    pub(super) most_percent: u64,
    /// and the busier of the two then, at most.
    pub(super) then_percent: u64,
}

/// The best exchange that takes a busy partition from the busiest node, if that is far over the
/// others and any makes it better: with the idlest node with which one does.
pub(super) fn better(policy: &Policy, now: &Standing) -> Option<Better> {
    let layout = now.layout.as_deref()?;
    let by = |node: &&NodeLoad| (percent_of(policy, node), node.node);
    let busiest = now.nodes.iter().max_by_key(by)?;
    let sum: u64 = now.nodes.iter().map(|node| percent_of(policy, node)).sum();
    let mean = sum / now.nodes.len().max(1) as u64;
    if percent_of(policy, busiest) * 100 < mean.saturating_mul(FAR_PERCENT) {
        return None;
    }
    let look = Look { policy, now, layout, rates: Rates::of(now, layout) };
    let mut others: Vec<&NodeLoad> =
        now.nodes.iter().filter(|node| node.node != busiest.node).collect();
    others.sort_by_key(by);
    others.into_iter().find_map(|idler| look.between(busiest, idler))
}

/// What is asked of each partition, as far as it is known.
struct Rates {
    /// By partition: of all nodes together.
    told: BTreeMap<u16, u64>,
    /// Of each other partition, in thousandths of an operation a second: the mean of the rest.
    rest_milli: u64,
}

impl Rates {
    fn of(now: &Standing, layout: &Layout<NodeId>) -> Self {
        let count = layout.partitions().count();
        let mut told: BTreeMap<u16, u64> = BTreeMap::new();
        for rate in now.rates.iter().filter(|rate| usize::from(rate.partition) < count) {
            let sum = told.entry(rate.partition).or_default();
            *sum = sum.saturating_add(rate.ops_per_s);
        }
        let total: u64 = now.nodes.iter().map(|node| node.ops_per_s).sum();
        let known: u64 = told.values().sum();
        let others = (count - told.len()).max(1) as u64;
        Self { rest_milli: total.saturating_sub(known).saturating_mul(1_000) / others, told }
    }

    fn milli(&self, partition: Partition) -> u64 {
        let told = self.told.get(&partition.index());
        told.map_or(self.rest_milli, |ops_per_s| ops_per_s.saturating_mul(1_000))
    }
}

struct Look<'a> {
    policy: &'a Policy,
    now: &'a Standing,
    layout: &'a Layout<NodeId>,
    rates: Rates,
}

impl Look<'_> {
    /// The best exchange between two nodes, if any makes it better.
    fn between(&self, busiest: &NodeLoad, idler: &NodeLoad) -> Option<Better> {
        let parts = |node: &NodeLoad| percent_of(self.policy, node).saturating_mul(PARTS);
        let (most, least) = (parts(busiest), parts(idler));
        let bound = most - most * GAIN_PERCENT / 100;
        let mut found: Option<(u64, Exchange<NodeId>)> = None;
        for partition in self.busy(busiest.node) {
            let Some((low, high)) = self.cost(busiest, partition) else { continue };
            let Some((against, brings)) = self.idle(busiest, idler, partition) else { continue };
            let here = (most - low).saturating_add(brings);
            let there = least.saturating_add(high);
            let then = here.max(there);
            if then <= bound && found.is_none_or(|(best, _)| then < best) {
                let (from, to) = (busiest.node, idler.node);
                found = Some((then, Exchange { partition, from, to, against }));
            }
        }
        let (then, exchange) = found?;
        Some(Better { exchange, most_percent: most / PARTS, then_percent: then.div_ceil(PARTS) })
    }

    /// Partitions of a node that are known to be busy, the busiest first.
    fn busy(&self, node: NodeId) -> Vec<Partition> {
        let told = |partition: &Partition| self.rates.told.contains_key(&partition.index());
        let rests = |partition: &Partition| self.now.moved.contains(&partition.index());
        let held = self.layout.held_by(node).map(|(partition, _)| partition);
        let mut busy: Vec<Partition> =
            held.filter(|partition| told(partition) && !rests(partition)).collect();
        busy.sort_by_key(|partition| std::cmp::Reverse(self.rates.milli(*partition)));
        busy.truncate(LOOKED_AT_MAX);
        busy
    }

    /// What a partition costs a node that holds it, at least and at most; none where it would not
    /// take that with it.
    fn cost(&self, node: &NodeLoad, partition: Partition) -> Option<(u64, u64)> {
        let (signal, percent) = signal_of(self.policy, node);
        let all = percent.saturating_mul(PARTS);
        let own = self.coordinated(node.node, partition);
        let by_own = part(all, own, node.ops_per_s);
        let (low, high) = match signal {
            Signal::Disk => return None,
            Signal::Operations => {
                let told = self.rates.milli(partition) / 1_000;
                let first = self.layout.owners(partition).first() == Some(&node.node);
                let aware = own.saturating_mul(100) >= told.saturating_mul(AWARE_PERCENT);
                if !first || !aware {
                    return None;
                }
                (by_own, by_own)
            }
            Signal::Cpu => {
                let by_held = part(all, self.rates.milli(partition), self.held_milli(node.node));
                (by_own.min(by_held), by_own.max(by_held))
            }
        };
        let doubt = |cost: u64| cost * DOUBT_PERCENT / 100;
        Some((low - doubt(low), high.saturating_add(doubt(high)).min(all)))
    }

    /// The idlest partition that can come back for one, and what it brings at most.
    fn idle(
        &self,
        busiest: &NodeLoad,
        idler: &NodeLoad,
        partition: Partition,
    ) -> Option<(Partition, u64)> {
        let (from, to) = (busiest.node, idler.node);
        let fits = |against: &Partition| {
            let exchange = Exchange { partition, from, to, against: *against };
            self.layout.may_exchange(&exchange).is_ok()
        };
        let held = self.layout.held_by(to).map(|(against, _)| against);
        let against = held
            .filter(|against| !self.now.moved.contains(&against.index()))
            .filter(fits)
            .min_by_key(|against| (self.rates.milli(*against), *against))?;
        let all = percent_of(self.policy, idler).saturating_mul(PARTS);
        // As if all of it were done by one of the copies.
        let copies = self.layout.replicas() as u64;
        let milli = self.rates.milli(against).saturating_mul(copies);
        Some((against, part(all, milli, self.held_milli(to)).min(all)))
    }

    /// Operations in a second on a partition that a node told it coordinates.
    fn coordinated(&self, node: NodeId, partition: Partition) -> u64 {
        let told = self.now.rates.iter();
        let own = told.filter(|rate| rate.at == node && rate.partition == partition.index());
        own.map(|rate| rate.ops_per_s).sum()
    }

    /// What is asked of all that a node holds, in thousandths of an operation a second.
    fn held_milli(&self, node: NodeId) -> u64 {
        let held = self.layout.held_by(node);
        held.fold(0, |sum: u64, (partition, _)| sum.saturating_add(self.rates.milli(partition)))
    }
}

/// `all` times a fraction that is at most one.
fn part(all: u64, numerator: u64, denominator: u64) -> u64 {
    let whole = u128::from(denominator.max(1));
    let some = u128::from(numerator).min(whole);
    u64::try_from(u128::from(all) * some / whole).unwrap_or(all)
}
