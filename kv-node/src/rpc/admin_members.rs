//! Planned changes of the members, as operators ask for them and see them.

use kv_client::wire::{MembersChange, MembersPlan, NodeShare, PastChange, SplitPlan};

use crate::cluster::changes::Changed;
use crate::cluster::decree::Change;
use crate::node::{Node, Reshape, ReshapePlan};

/// What is asked for.
pub(super) fn reshape(change: MembersChange) -> Reshape {
    let MembersChange { joins, leaves, weights, after } = change;
    let (joins, leaves) = (joins.into_vec(), leaves.into_vec());
    Reshape { joins, leaves, weights: weights.into_vec(), after }
}

/// With the bytes to copy as they are if all partitions are like this node's own.
pub(super) fn shown(node: &Node, plan: ReshapePlan) -> MembersPlan {
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
    };
    PastChange { epoch, unix_ms: at_ms, what: what.to_owned(), joined, left, copies }
}
