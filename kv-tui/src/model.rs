//! What was heard of a cluster from one node, and what follows from it. Pure: no clock, no
//! terminal, no network; `kv` and `kv-tui` show the same one.

mod events;
mod lints;
mod look;
mod names;
mod resolve;
mod ring;

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_client::wire::{
    AaeView, AutoscaleView, ConflictsView, EventView, HintsView, LayoutsView, NodeInfo, NodeState,
    NodeStatus, RingView,
};

pub use events::{Event, EventKind, Weight, explain, moved, noted};
pub use lints::{Finding, Lint, lints};
pub use look::{Look, Relation, Seen};
pub use names::Names;
pub use resolve::{Rule, Verdict, resolve, suggested};
pub use ring::{Share, balance_hundredths, owners_at, shares};

/// The answers of one node, taken shortly after each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The node about itself.
    pub status: NodeStatus,
    /// The members as it sees them.
    pub nodes: Vec<NodeInfo>,
    /// The newest layout that it knows; `None` before the cluster's birth.
    pub ring: Option<RingView>,
    /// What nodes keep for others; `None` when it was not asked for or not answered.
    pub hints: Option<HintsView>,
    /// What happened since the answer before, on all nodes.
    pub events: Vec<EventView>,
    /// The first of the keys with siblings; `None` when they were not asked for or not answered.
    pub conflicts: Option<ConflictsView>,
    /// The live layouts and whom they wait for; `None` likewise.
    pub layouts: Option<LayoutsView>,
    /// How the asked node compares its copies with others'; `None` likewise.
    pub aae: Option<AaeView>,
    /// How many nodes there should be; `None` likewise.
    pub autoscale: Option<AutoscaleView>,
}

/// How a cluster is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Health {
    /// Every member is up, and none says that it needs an operator.
    Healthy,
    /// Everything is served, but something is down or needs an operator.
    Degraded,
    /// Some partition has no majority of its replicas up, or the asked node serves nothing.
    NoQuorum,
}

impl Health {
    /// One lower-case word, as scripts see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::NoQuorum => "no-quorum",
        }
    }
}

/// How a partition is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PartitionState {
    /// All its replicas are up.
    Full,
    /// Some are down, a majority is up.
    Short,
    /// No majority is up.
    NoQuorum,
}

/// How many partitions are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounts {
    /// With all replicas up.
    pub full: usize,
    /// With a majority up.
    pub short: usize,
    /// With less.
    pub no_quorum: usize,
}

impl PartitionCounts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.full + self.short + self.no_quorum
    }
}

/// Whether a member is believed to serve. A suspect is, until it is found to be down, and one that
/// is drained until it is stopped.
pub fn is_up(state: NodeState) -> bool {
    matches!(state, NodeState::Alive | NodeState::Suspect | NodeState::Draining)
}

/// One lower-case word for what membership says.
pub fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Alive => "up",
        NodeState::Suspect => "suspect",
        NodeState::Down => "down",
        NodeState::Left => "left",
        NodeState::Draining => "draining",
        _ => "unknown",
    }
}

impl Snapshot {
    /// How the cluster is.
    pub fn health(&self) -> Health {
        let served = self.status.ready && self.ring.is_some();
        let worst = self.partition_states().into_iter().max().unwrap_or(PartitionState::Full);
        if !served || worst == PartitionState::NoQuorum {
            return Health::NoQuorum;
        }
        let all_up = self.members().all(|node| node.state == NodeState::Alive);
        let calm = self.status.alerts.is_empty() && self.alerted().next().is_none();
        if worst == PartitionState::Full && all_up && calm {
            Health::Healthy
        } else {
            Health::Degraded
        }
    }

    /// Each partition's state, in order. Linear in partitions and copies.
    pub fn partition_states(&self) -> Vec<PartitionState> {
        let Some(ring) = &self.ring else { return Vec::new() };
        let up: BTreeMap<NodeId, bool> =
            self.nodes.iter().map(|node| (node.node, is_up(node.state))).collect();
        let copies = usize::from(ring.copies);
        let states = ring.owners.chunks(copies.max(1)).map(|owners| {
            let owners = owners.iter().filter_map(|at| ring.nodes.get(usize::from(*at)));
            let live = owners.filter(|node| up.get(node).copied().unwrap_or(false)).count();
            if live >= copies {
                PartitionState::Full
            } else if live > copies / 2 {
                PartitionState::Short
            } else {
                PartitionState::NoQuorum
            }
        });
        states.collect()
    }

    /// How many partitions are in which state.
    pub fn partition_counts(&self) -> PartitionCounts {
        let mut counts = PartitionCounts::default();
        for state in self.partition_states() {
            match state {
                PartitionState::Full => counts.full += 1,
                PartitionState::Short => counts.short += 1,
                PartitionState::NoQuorum => counts.no_quorum += 1,
            }
        }
        counts
    }

    /// Members that belong: those of the layout, or all that did not leave before there is one.
    pub fn members(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| match &self.ring {
            Some(ring) => ring.nodes.contains(&node.node),
            None => node.state != NodeState::Left,
        })
    }

    /// How many members are up, and how many there are.
    pub fn members_up(&self) -> (usize, usize) {
        let up = self.members().filter(|node| is_up(node.state)).count();
        (up, self.members().count())
    }

    /// A figure of the asked node by its name.
    pub fn figure(&self, name: &str) -> Option<u64> {
        self.status.figures.iter().find(|(of, _)| of == name).map(|(_, value)| *value)
    }

    /// Reads and writes that the asked node coordinated since it started.
    pub fn operations(&self) -> Option<u64> {
        let reads = self.figure("coordinator_gets")?;
        Some(reads.saturating_add(self.figure("coordinator_sets")?))
    }

    /// Reads and writes that the asked node could not answer with a quorum, or not with certainty,
    /// since it started.
    pub fn errors(&self) -> Option<u64> {
        let unsure = self.figure("indeterminate")?;
        let refused = self.figure("unavailable")?.saturating_add(self.figure("no_replicas")?);
        Some(refused.saturating_add(unsure))
    }

    /// Below which bound 99 of 100 requests of Redis clients stayed that the asked node answered
    /// since an answer before, in microseconds; the maximum where it is above all bounds.
    pub fn p99_us_since(&self, before: &Self) -> Option<u64> {
        let bound = |name: &str| match name.strip_prefix("requests_")? {
            "slower" => Some(u64::MAX),
            under => under.strip_prefix("under_")?.strip_suffix("_us")?.parse().ok(),
        };
        let count = |(name, now): &(String, u64)| {
            Some((bound(name)?, now.saturating_sub(before.figure(name)?)))
        };
        let mut counts: Vec<(u64, u64)> = self.status.figures.iter().filter_map(count).collect();
        counts.sort_unstable();
        let total = counts.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let mut left = total.checked_sub(1)?.saturating_sub(total / 100);
        counts.iter().find_map(|(bound, count)| {
            let found = (left < *count).then_some(*bound);
            left = left.saturating_sub(*count);
            found
        })
    }

    /// Hints that wait anywhere, as far as nodes said.
    pub fn hints_waiting(&self) -> Option<u64> {
        let hints = self.hints.as_ref()?;
        Some(hints.queues.iter().fold(0, |sum, queue| sum.saturating_add(queue.keys)))
    }

    /// A member by its id.
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.node == id)
    }

    /// How many partitions would have no majority up, were this node to stop now.
    pub fn lost_without(&self, id: NodeId) -> usize {
        let mut without = Self { ring: self.ring.clone(), ..Self::default() };
        without.nodes = self.nodes.iter().filter(|node| node.node != id).cloned().collect();
        without.partition_counts().no_quorum
    }

    /// Members besides the asked one that are up and told alerts with their vitals: which, and how
    /// many. What one that is down told is old, and that it is down is told anyway.
    pub fn alerted(&self) -> impl Iterator<Item = (&NodeInfo, u32)> {
        let others = self.members().filter(|node| node.node != self.status.node);
        others.filter(|node| is_up(node.state)).filter_map(|node| {
            let alerts = node.vitals?.alerts?;
            (alerts > 0).then_some((node, alerts))
        })
    }

    /// What an operator should look at: the node's own alerts, who else has some, then members that
    /// are not up.
    pub fn alerts(&self) -> Vec<String> {
        let mut alerts = self.status.alerts.clone();
        alerts.extend(self.alerted().map(|(node, count)| told(node, count)));
        for node in self.members().filter(|node| node.state != NodeState::Alive) {
            let word = state_word(node.state);
            alerts.push(format!("node {} ({}) is {word}", node.node, node.endpoints.rpc));
        }
        let lost = self.partition_counts().no_quorum;
        if lost > 0 {
            alerts.push(format!("{lost} partitions have no majority of their replicas up"));
        }
        alerts
    }
}

/// That a member has alerts, and how they are read: it alone knows which.
fn told(node: &NodeInfo, count: u32) -> String {
    let alerts = if count == 1 { "alert" } else { "alerts" };
    let (id, address) = (node.node, &node.endpoints.rpc);
    format!("node {id} has {count} {alerts}: kv --connect {address} status")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kv_client::wire::{Endpoints, NodeVitals};

    /// Three nodes, three copies, four partitions; `states` in the order of the nodes.
    pub(crate) fn three(states: [NodeState; 3]) -> Snapshot {
        let nodes: Vec<NodeInfo> = (1_u64..)
            .zip(states)
            .map(|(id, state)| NodeInfo {
                node: NodeId(id),
                state,
                endpoints: Endpoints {
                    resp: format!("127.0.0.1:700{id}"),
                    rpc: format!("127.0.0.1:710{id}"),
                    http: String::new(),
                },
                weight: 1,
                partitions: 4,
                first_places: 1,
                call_us: (id > 1).then_some(250),
                ..NodeInfo::default()
            })
            .collect();
        let status = NodeStatus {
            node: NodeId(1),
            ready: true,
            version: "0.1.0".into(),
            uptime_ms: 61_000,
            engine: "lsm".into(),
            ..NodeStatus::default()
        };
        let ring = RingView {
            epoch: 1,
            digest: 7,
            copies: 3,
            nodes: nodes.iter().map(|node| node.node).collect(),
            owners: [0, 1, 2].repeat(4),
        };
        Snapshot { status, nodes, ring: Some(ring), ..Snapshot::default() }
    }

    #[test]
    fn health_follows_the_worst_partition_and_what_needs_an_operator() {
        use NodeState::{Alive, Down, Draining, Left, Suspect};
        let table = [
            ([Alive, Alive, Alive], Health::Healthy),
            ([Alive, Alive, Suspect], Health::Degraded),
            ([Alive, Alive, Down], Health::Degraded),
            ([Alive, Left, Alive], Health::Degraded),
            ([Alive, Draining, Alive], Health::Degraded),
            ([Alive, Draining, Down], Health::Degraded),
            ([Alive, Down, Down], Health::NoQuorum),
        ];
        for (states, health) in table {
            assert_eq!(three(states).health(), health, "{states:?}");
        }
        let mut loud = three([Alive; 3]);
        loud.status.alerts.push("the clock is off".into());
        assert_eq!(loud.health(), Health::Degraded);
        // Any node knows that another has some; of itself it knows better.
        let mut other = three([Alive; 3]);
        let alerts = |count| Some(NodeVitals { alerts: Some(count), ..NodeVitals::default() });
        other.nodes[0].vitals = alerts(1);
        assert_eq!(other.health(), Health::Healthy);
        other.nodes[1].vitals = alerts(1);
        assert_eq!(other.health(), Health::Degraded);
        let told = "node 0000000000000002 has 1 alert: kv --connect 127.0.0.1:7102 status";
        assert_eq!(other.alerts(), [told]);
        other.nodes[1].state = Down;
        assert_eq!(other.alerts().len(), 1, "what it told is old");
        let mut unready = three([Alive; 3]);
        unready.status.ready = false;
        assert_eq!(unready.health(), Health::NoQuorum);
        let unborn = Snapshot { ring: None, ..three([Alive; 3]) };
        assert_eq!(unborn.health(), Health::NoQuorum);
    }

    #[test]
    fn how_long_requests_took_is_known_from_two_answers() {
        let after = |counts: [u64; 3]| {
            let names = ["requests_slower", "requests_under_64_us", "requests_under_2048_us"];
            let mut snapshot = three([NodeState::Alive; 3]);
            let figures = names.map(str::to_owned).into_iter().zip(counts);
            snapshot.status.figures = figures.chain([("requests_x".to_owned(), 9)]).collect();
            snapshot
        };
        let before = after([7, 1_000, 5]);
        for (counts, bound) in [
            ([7, 1_000, 5], None),
            ([7, 1_001, 5], Some(64)),
            ([7, 1_099, 6], Some(64)),
            ([7, 1_098, 7], Some(2_048)),
            ([8, 1_000, 5], Some(u64::MAX)),
            // Another life, or a node that tells less.
            ([0, 0, 0], None),
        ] {
            assert_eq!(after(counts).p99_us_since(&before), bound, "{counts:?}");
        }
        assert_eq!(before.p99_us_since(&three([NodeState::Alive; 3])), None);
        assert_eq!(before.errors(), None);
    }

    #[test]
    fn partitions_are_counted_by_replicas_that_are_up() {
        use NodeState::{Alive, Down};
        let mut snapshot = three([Alive, Alive, Down]);
        let ring = snapshot.ring.as_mut().expect("it has one");
        // Two copies: one down is no majority of two.
        *ring = RingView { copies: 2, owners: vec![0, 1, 1, 2, 2, 0], ..ring.clone() };
        let counts = snapshot.partition_counts();
        assert_eq!(counts, PartitionCounts { full: 1, short: 0, no_quorum: 2 });
        assert_eq!(counts.total(), 3);
        assert_eq!(snapshot.members_up(), (2, 3));
        assert_eq!(snapshot.alerts().len(), 2);
    }

    #[test]
    fn a_layout_that_names_a_stranger_counts_it_as_down() {
        let mut snapshot = three([NodeState::Alive; 3]);
        snapshot.nodes.pop();
        assert_eq!(snapshot.partition_counts().short, 4);
        let mut damaged = three([NodeState::Alive; 3]);
        if let Some(ring) = &mut damaged.ring {
            ring.copies = 0;
            ring.owners = vec![9; 3];
        }
        assert_eq!(damaged.partition_counts().total(), 3);
    }

    #[test]
    fn nodes_outside_the_layout_do_not_make_a_cluster_ill() {
        let mut snapshot = three([NodeState::Alive; 3]);
        snapshot.nodes.push(NodeInfo {
            node: NodeId(9),
            state: NodeState::Left,
            ..NodeInfo::default()
        });
        assert_eq!(snapshot.health(), Health::Healthy);
    }
}
