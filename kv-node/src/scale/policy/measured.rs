//! What was measured: the load of each node, its sums, and how they were in the last while.

use std::collections::VecDeque;

use kv_client::NodeId;

use super::Policy;

/// Samples that are kept at most; the oldest go first.
pub const SAMPLES_MAX: usize = 1_024;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// Operations a second.
    #[default]
    Operations,
    /// CPU.
    Cpu,
    /// Disk.
    Disk,
}

/// One node's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// The node.
    pub node: NodeId,
    /// When it started: of equals the youngest goes first.
    pub started_ms: u64,
    /// Operations that it coordinates in a second.
    pub ops_per_s: u64,
    /// CPU, per mille of what its threads can use; `None` where it can't be measured.
    pub cpu_per_mille: Option<u16>,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Nodes in its zone, itself included.
    pub in_zone: u16,
}

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations a second.
    pub ops_per_s: u64,
    /// CPU, per mille of what one node's threads can use.
    pub cpu_per_mille: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

impl Totals {
    /// The sum of one signal.
    pub(super) fn of(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Operations => self.ops_per_s,
            Signal::Cpu => self.cpu_per_mille,
            Signal::Disk => self.disk_bytes,
        }
    }
}

/// What was measured at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, on the steady clock.
    pub at_ms: u64,
    /// The sums.
    pub totals: Totals,
    /// Whether every member told its load, its CPU included where that matters.
    pub complete: bool,
    /// The busiest node, in percent of its targets.
    pub busiest_percent: u64,
    /// Which that was.
    pub busiest: NodeId,
}

impl Sample {
    /// Sums up. Members that told nothing are missing from `nodes`.
    pub fn of(policy: &Policy, at_ms: u64, nodes: &[NodeLoad], members: usize) -> Self {
        let totals = nodes.iter().map(totals_of).fold(Totals::default(), |sum, one| Totals {
            ops_per_s: sum.ops_per_s.saturating_add(one.ops_per_s),
            cpu_per_mille: sum.cpu_per_mille.saturating_add(one.cpu_per_mille),
            disk_bytes: sum.disk_bytes.saturating_add(one.disk_bytes),
        });
        let busiest = nodes.iter().map(|node| (percent_of(policy, node), node.node)).max();
        let (busiest_percent, busiest) = busiest.unwrap_or_default();
        let cpu_known = nodes.iter().all(|node| node.cpu_per_mille.is_some());
        let complete = nodes.len() >= members && (cpu_known || policy.cpu_percent == 0);
        Self { at_ms, totals, complete, busiest_percent, busiest }
    }
}

fn totals_of(node: &NodeLoad) -> Totals {
    Totals {
        ops_per_s: node.ops_per_s,
        cpu_per_mille: node.cpu_per_mille.unwrap_or(0).into(),
        disk_bytes: node.disk_bytes,
    }
}

/// The signal of a node that is nearest to its target, or furthest over it, in percent.
pub(super) fn percent_of(policy: &Policy, node: &NodeLoad) -> u64 {
    signal_of(policy, node).1
}

/// Which signal that is, too.
pub(super) fn signal_of(policy: &Policy, node: &NodeLoad) -> (Signal, u64) {
    let load = totals_of(node);
    let percent = |(signal, target): (Signal, u64)| {
        (signal, load.of(signal).saturating_mul(100).checked_div(target).unwrap_or(0))
    };
    let all = policy.targets().into_iter().map(percent);
    all.max_by_key(|(_, percent)| *percent).unwrap_or_default()
}

/// Samples of the last while, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Sample>);

impl History {
    /// Adds what was measured now.
    pub fn push(&mut self, sample: Sample) {
        while self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The samples.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.0.iter()
    }

    /// What was measured in the last `window_ms`, if that is wholly known: it reaches back so far,
    /// not beyond `since_ms`, and every member told its load each time.
    pub(super) fn window(
        &self,
        since_ms: u64,
        window_ms: u64,
    ) -> Option<impl Iterator<Item = &Sample> + Clone> {
        let now_ms = self.0.back()?.at_ms;
        let from_ms = now_ms.checked_sub(window_ms)?;
        let began = self.0.iter().rposition(|sample| sample.at_ms <= from_ms)?;
        if self.0.get(began)?.at_ms < since_ms {
            return None;
        }
        let window = self.0.range(began..);
        window.clone().all(|sample| sample.complete).then_some(window)
    }
}
