//! Whether there are too many nodes or too few: a pure function of what was measured.
//!
//! Target tracking: each signal (operations, CPU, disk) has a target for one node, and the sum over
//! all nodes says how many are needed. Sums hardly depend on how many nodes share them, so a change
//! does not make the next one look needed, as averages do.
//!
//! ```text
//! needed, at the whole target       > nodes, all through `out_after_ms`  -> one more
//! needed, at the target less margin < nodes, all through `in_after_ms`   -> one less
//! between the two                                                        -> nothing
//! ```
//! The margin is the hysteresis: what remains after a node has gone is below its targets by that
//! much, so the way back is never taken at once. Only what was measured since the last change had
//! settled counts, and nothing is done within the cool-down after it.
//!
//! Where one node is over its targets and all together are not, another node would not help: a busy
//! copy of the one changes places with an idle one of another, if that makes it better (`even.rs`),
//! all through `out_after_ms` and after the cool-down as for any change. Else it is said.
//!
//! Invariants: one node at a time; never below `nodes_min` nor the copies of a pair, never above
//! `nodes_max`; never in while anything is pending, nor on what is not known. A node that is over
//! its targets where all together are not is no reason for another node.
//!
//! (Target tracking and its cool-down are those of the clouds' autoscalers and of Kubernetes'
//! horizontal pod autoscaler, whose stabilisation window is `in_after_ms`.)

mod even;
#[cfg(test)]
mod even_tests;
mod measured;
mod settings;
mod words;

use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::{Exchange, Layout};

pub use even::PartitionRate;
use measured::percent_of;
pub use measured::{History, NodeLoad, SAMPLES_MAX, Sample, Signal, Totals};
pub use settings::Policy;
use words::{of_each, shown, time};

/// How the cluster stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who decides: it never takes itself away.
    pub me: NodeId,
    /// Members of the newest layout.
    pub members: usize,
    /// Copies of a pair.
    pub copies: usize,
    /// What those who told it carry.
    pub nodes: Vec<NodeLoad>,
    /// When the last change had settled, or when this node began to look; on the steady clock.
    pub settled_ms: u64,
    /// A change of the layout that is under way, in words.
    pub moving: Option<String>,
    /// A member that is not up, in words.
    pub down: Option<String>,
    /// What else is pending and would suffer from one node less: repairs, hints.
    pub pending: Option<String>,
    /// Who holds what, as the newest layout says.
    pub layout: Option<Arc<Layout<NodeId>>>,
    /// What is asked of busy partitions, as far as it was told.
    pub rates: Vec<PartitionRate>,
    /// Indexes of partitions that changed places lately: they rest.
    pub moved: Vec<u16>,
}

/// What should be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// One node more.
    Out,
    /// This node less.
    In(NodeId),
    /// Two copies should change places: one is over its targets while all together are not.
    Move(Exchange<NodeId>),
    /// The same, and no exchange would make it better, or not now.
    EvenOut {
        /// The busiest.
        busiest: NodeId,
        /// The idlest.
        idlest: NodeId,
    },
    /// One node more, but not now.
    OutHeld,
    /// One node less, but not now.
    InHeld,
}

impl Verdict {
    /// A stable word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Out => "out",
            Self::In(_) => "in",
            Self::Move(_) => "move",
            Self::EvenOut { .. } => "even-out",
            Self::OutHeld => "out-held",
            Self::InHeld => "in-held",
        }
    }
}

/// A verdict, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What should be done.
    pub verdict: Verdict,
    /// How many nodes there should be next: one more or less than there are, at most.
    pub desired: usize,
    /// Why, in plain words.
    pub reason: String,
}

/// Decides.
pub fn decide(policy: &Policy, history: &History, now: &Standing) -> Decision {
    let least = least(policy, now);
    let most = usize::from(policy.nodes_max);
    if now.members < least {
        let reason = format!(
            "{} nodes are fewer than the {least} that there have to be at least",
            now.members
        );
        return out(policy, history, now, reason);
    }
    if let Some(reason) = too_few(policy, history, now) {
        if now.members >= most {
            let reason = format!("{reason}; but there may be {most} at most");
            return Decision { verdict: Verdict::OutHeld, desired: now.members, reason };
        }
        return out(policy, history, now, reason);
    }
    let uneven = uneven(policy, history, now);
    if let Some(decision) = &uneven
        && matches!(decision.verdict, Verdict::Move(_))
    {
        return decision.clone();
    }
    if now.members > least
        && let Some(reason) = too_many(policy, history, now)
    {
        return one_less(policy, history, now, reason);
    }
    if let Some(decision) = uneven {
        return decision;
    }
    let reason = keep_reason(policy, history, now);
    Decision { verdict: Verdict::Keep, desired: now.members, reason }
}

/// There are never fewer nodes than this.
fn least(policy: &Policy, now: &Standing) -> usize {
    usize::from(policy.nodes_min).max(now.copies)
}

/// Whether, all through the window, more nodes were needed than there are.
fn too_few(policy: &Policy, history: &History, now: &Standing) -> Option<String> {
    let window = history.window(now.settled_ms, policy.out_after_ms)?;
    let last = window.clone().last()?;
    let fewest = window.map(|sample| policy.needed(&sample.totals, 100));
    let needed = fewest.min_by_key(|needed| needed.nodes)?;
    if needed.nodes <= now.members as u64 {
        return None;
    }
    let each = of_each(&last.totals, needed.signal, now.members);
    let target = shown(needed.signal, needed.target);
    let (long, nodes) = (time(policy.out_after_ms), needed.nodes);
    Some(format!("{each} a node, over the target of {target} for {long}: {nodes} are needed"))
}

/// Whether, all through the window, one node less would have kept its targets with the margin.
fn too_many(policy: &Policy, history: &History, now: &Standing) -> Option<String> {
    let percent = 100 - u64::from(policy.margin_percent.min(99));
    let window = history.window(now.settled_ms, policy.in_after_ms)?;
    let last = window.clone().last()?;
    let most = window.map(|sample| policy.needed(&sample.totals, percent));
    let needed = most.max_by_key(|needed| needed.nodes)?;
    if needed.nodes >= now.members as u64 {
        return None;
    }
    let left = now.members.saturating_sub(1);
    let each = of_each(&last.totals, needed.signal, left);
    let target = shown(needed.signal, needed.target);
    let (long, margin) = (time(policy.in_after_ms), policy.margin_percent);
    Some(format!(
        "{left} nodes would do, with {each} a node: {margin} % or more below the target of \
         {target} for {long}"
    ))
}

/// Whether, all through the window, a node was over its targets while all together were not; and
/// what is to be done about it, if it was the same node.
fn uneven(policy: &Policy, history: &History, now: &Standing) -> Option<Decision> {
    let mut window = history.window(now.settled_ms, policy.out_after_ms)?;
    let by = |node: &&NodeLoad| (percent_of(policy, node), node.node);
    let (busiest, idlest) = (now.nodes.iter().max_by_key(by)?, now.nodes.iter().min_by_key(by)?);
    let same = window.clone().all(|sample| sample.busiest == busiest.node);
    if now.nodes.len() < 2 || !window.all(|sample| sample.busiest_percent > 100) {
        return None;
    }
    let advice = || {
        let (most, least) = (percent_of(policy, busiest), percent_of(policy, idlest));
        format!(
            "even out: {} is at {most} % of its target and {} at {least} %; all together are not \
             over, so another node would not help",
            busiest.node, idlest.node
        )
    };
    let verdict = Verdict::EvenOut { busiest: busiest.node, idlest: idlest.node };
    let said = |why: String| {
        let reason = format!("{}: {why}", advice());
        Some(Decision { verdict, desired: now.members, reason })
    };
    let Some(better) = same.then(|| even::better(policy, now)).flatten() else {
        return said("move load or clients from the one to the other".into());
    };
    let even::Better { exchange, most_percent, then_percent } = better;
    let Exchange { partition, from, to, against } = exchange;
    let blocked = now.moving.clone().or_else(|| now.down.clone()).or_else(|| now.pending.clone());
    if let Some(why) = blocked.or_else(|| cooling(policy, history, now)) {
        return said(format!("partition {} could move, but not now: {why}", partition.index()));
    }
    let reason = format!(
        "even out: partition {} moves from {from} to {to}, for partition {}: {from} is at \
         {most_percent} % of its target, the busier of the two will be at {then_percent} % at most",
        partition.index(),
        against.index()
    );
    Some(Decision { verdict: Verdict::Move(exchange), desired: now.members, reason })
}

fn out(policy: &Policy, history: &History, now: &Standing, reason: String) -> Decision {
    let blocked =
        now.moving.clone().or_else(|| now.down.clone()).or_else(|| cooling(policy, history, now));
    match blocked {
        Some(why) => {
            let reason = format!("{reason}; but not now: {why}");
            Decision { verdict: Verdict::OutHeld, desired: now.members, reason }
        }
        None => Decision { verdict: Verdict::Out, desired: now.members + 1, reason },
    }
}

fn one_less(policy: &Policy, history: &History, now: &Standing, reason: String) -> Decision {
    let blocked = now
        .moving
        .clone()
        .or_else(|| now.down.clone())
        .or_else(|| now.pending.clone())
        .or_else(|| cooling(policy, history, now));
    let held = |why: String| Decision {
        verdict: Verdict::InHeld,
        desired: now.members,
        reason: format!("{reason}; but not now: {why}"),
    };
    if let Some(why) = blocked {
        return held(why);
    }
    let Some(leaver) = leaver(now) else {
        return held("this node decides, and there is no other that could go".into());
    };
    Decision { verdict: Verdict::In(leaver), desired: now.members - 1, reason }
}

/// Who goes: one of the fullest zone, of these the youngest. Never who decides.
fn leaver(now: &Standing) -> Option<NodeId> {
    let others = now.nodes.iter().filter(|node| node.node != now.me);
    others.max_by_key(|node| (node.in_zone, node.started_ms, node.node)).map(|node| node.node)
}

fn cooling(policy: &Policy, history: &History, now: &Standing) -> Option<String> {
    let at_ms = history.iter().next_back().map_or(now.settled_ms, |sample| sample.at_ms);
    let passed_ms = at_ms.saturating_sub(now.settled_ms);
    let left_ms = policy.cool_down_ms.checked_sub(passed_ms).filter(|left_ms| *left_ms > 0)?;
    Some(format!("the cool-down after the last change lasts {} more", time(left_ms)))
}

fn keep_reason(policy: &Policy, history: &History, now: &Standing) -> String {
    let Some(last) = history.iter().next_back() else { return "nothing was measured yet".into() };
    if !last.complete {
        let told = now.nodes.len();
        return format!("{told} of {} nodes told their load: too little is known", now.members);
    }
    let needed = policy.needed(&last.totals, 100);
    let each = of_each(&last.totals, needed.signal, now.members);
    let target = shown(needed.signal, needed.target);
    if needed.nodes > now.members as u64 {
        let long = time(policy.out_after_ms);
        return format!("{each} a node is over the target of {target}, but not for {long} yet");
    }
    format!("{each} a node, with a target of {target}")
}

#[cfg(test)]
mod tests;
