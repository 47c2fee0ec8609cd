//! Planned changes of the members, as operators ask for them and see them.

use std::collections::BTreeMap;

use kv_client::wire::{MembersChange, MembersPlan, NodeShare, PastChange, SplitPlan, ZoneShare};
use kv_ring::Zone;

use crate::cluster::changes::Changed;
use crate::cluster::decree::Change;
use crate::cluster::view::View;
use crate::node::{Node, Reshape, ReshapePlan};

/// What is asked for.
pub(super) fn reshape(change: MembersChange) -> Reshape {
    let MembersChange { joins, leaves, weights, after, zones } = change;
    let (joins, leaves) = (joins.into_vec(), leaves.into_vec());
    let (weights, zones) = (weights.into_vec(), zones.into_vec());
    Reshape { joins, leaves, weights, zones, exchange: None, after }
}

/// Names of zones: those that the change gives, and those that members' settings tell. A layout
/// knows zones by number only.
pub(super) struct ZoneNames(BTreeMap<Zone, String>);

impl ZoneNames {
    /// The names that are known here, `more` among them.
    pub(super) fn known(view: &View, more: impl Iterator<Item = String>) -> Self {
        let told = view.members.values().map(|member| member.zone.clone());
        Self(told.chain(more).map(|name| (Zone::named(&name), name)).collect())
    }

    /// A zone's name, or its number.
    pub(super) fn of(&self, zone: Zone) -> String {
        self.0.get(&zone).cloned().unwrap_or_else(|| format!("#{:016x}", zone.number()))
    }
}

/// With the bytes to copy as they are if all copies are like those of the members on average.
pub(super) fn shown(node: &Node, plan: ReshapePlan, names: &ZoneNames) -> MembersPlan {
    let vitals = node.vitals();
    let held = plan.nodes.iter().filter_map(|share| {
        let vitals = vitals.get(&share.node)?;
        Some((vitals.disk_bytes.max(vitals.memory_bytes), share.before))
    });
    let copy_bytes = copy_bytes(held);
    let bytes = |copies: usize| copy_bytes.saturating_mul(copies as u64);
    let parts = node.coordinator();
    let rate = parts.map_or(0, |parts| parts.parts().antientropy.fill_bytes_per_second);
    let most = plan.nodes.iter().map(|share| bytes(share.gains)).max().unwrap_or(0);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    MembersPlan {
        fill_bytes_per_second: rate,
        fill_ms_min: most.saturating_mul(1_000) / rate.max(1),
        epoch: plan.epoch,
        moves: count(plan.moves),
        steps: plan.steps.iter().map(|copies| count(*copies)).collect(),
        firsts_changed: count(plan.firsts_changed),
        bytes_about: bytes(plan.moves),
        nodes: plan
            .nodes
            .into_iter()
            .map(|share| NodeShare {
                node: share.node,
                weight: share.weight,
                before: count(share.before),
                after: count(share.after),
                gains: count(share.gains),
                gains_bytes: bytes(share.gains),
            })
            .collect(),
        zones: plan
            .zones
            .into_iter()
            .map(|share| ZoneShare {
                zone: names.of(share.zone),
                nodes: (count(share.nodes.0), count(share.nodes.1)),
                copies: (count(share.copies.0), count(share.copies.1)),
            })
            .collect(),
        apart: (count(plan.apart.0), count(plan.apart.1)),
        partitions: count(plan.partitions),
    }
}

/// Bytes of a copy of a partition on average, of nodes that tell the bytes and the copies that each
/// holds. Who holds none says nothing of it, whatever else is on its disk.
fn copy_bytes(held: impl Iterator<Item = (u64, usize)>) -> u64 {
    let holding = held.filter(|(_, copies)| *copies > 0);
    let (bytes, copies) = holding.fold((0_u64, 0_u64), |(bytes, copies), (more, of)| {
        (bytes.saturating_add(more), copies + of as u64)
    });
    bytes / copies.max(1)
}

/// A split that is planned.
pub(super) fn split(plan: crate::node::SplitPlan) -> SplitPlan {
    let crate::node::SplitPlan { epoch, before, after } = plan;
    // No partition gets another owner, and rows are stored by slot.
    SplitPlan { epoch, before: before.into(), after: after.into(), copies: 0, bytes: 0 }
}

/// A change that is remembered.
pub(super) fn past(changed: Changed) -> PastChange {
    let Changed { epoch, at_ms, change, joined, left, copies } = changed;
    let what = match change {
        Change::Birth => "birth",
        Change::Replace { .. } => "replace",
        Change::Reshape => "members",
        Change::Abort => "abort",
        Change::Split => "split",
        Change::GiveUp { .. } => "give-up",
    };
    PastChange { epoch, unix_ms: at_ms, what: what.to_owned(), joined, left, copies }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_large_as_on_average_whoever_is_asked() {
        assert_eq!(copy_bytes([(6_000, 60), (3_000, 30)].into_iter()), 100);
        assert_eq!(copy_bytes([(6_000, 60), (900_000, 0)].into_iter()), 100, "it holds nothing");
        assert_eq!(copy_bytes([(900_000, 0)].into_iter()), 0, "nobody tells");
    }
}
