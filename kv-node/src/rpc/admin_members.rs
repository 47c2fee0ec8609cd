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

/// With the bytes to copy as they are if all partitions are like this node's own.
pub(super) fn shown(node: &Node, plan: ReshapePlan, names: &ZoneNames) -> MembersPlan {
    let (engine, _) = node.engine().status(None);
    let own_bytes = engine.disk_bytes.max(engine.memory_bytes);
    let own = plan.nodes.iter().find(|share| share.node == node.id());
    let held = own.map_or(0, |share| share.before);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    MembersPlan {
        epoch: plan.epoch,
        moves: count(plan.moves),
        steps: plan.steps.iter().map(|copies| count(*copies)).collect(),
        firsts_changed: count(plan.firsts_changed),
        bytes_about: (own_bytes / held.max(1) as u64).saturating_mul(plan.moves as u64),
        nodes: plan
            .nodes
            .into_iter()
            .map(|share| NodeShare {
                node: share.node,
                weight: share.weight,
                before: count(share.before),
                after: count(share.after),
                gains: count(share.gains),
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
