//! The policy on simulated clusters: steps, ramps, spikes, days, and loads of any kind.

use proptest::prelude::*;

use super::*;

const TICK_MS: u64 = 5_000;
/// A change takes so long to settle.
const CHANGE_MS: u64 = 60_000;
const MINUTE_MS: u64 = 60_000;

fn policy() -> Policy {
    Policy {
        nodes_max: 8,
        ops_per_node: 1_000,
        cpu_percent: 0,
        out_after_ms: 2 * MINUTE_MS,
        in_after_ms: 10 * MINUTE_MS,
        cool_down_ms: 5 * MINUTE_MS,
        ..Policy::default()
    }
}

fn standing(members: usize) -> Standing {
    Standing { me: NodeId(1), members, copies: 3, ..Standing::default() }
}

fn loads(members: usize, of: impl Fn(u64) -> u64) -> Vec<NodeLoad> {
    let load = |n: u64| NodeLoad {
        node: NodeId(n),
        started_ms: n,
        ops_per_s: of(n),
        in_zone: members as u16,
        ..NodeLoad::default()
    };
    (1..=members as u64).map(load).collect()
}

/// A cluster that does what the policy says.
struct Cluster {
    policy: Policy,
    history: History,
    now_ms: u64,
    members: usize,
    settled_ms: u64,
    /// When a change settles, and how many members there are then.
    change: Option<(u64, usize)>,
    /// Each change: when it was decided, and the members after it.
    changes: Vec<(u64, usize)>,
}

impl Cluster {
    fn of(members: usize) -> Self {
        Self {
            policy: policy(),
            history: History::default(),
            now_ms: 0,
            members,
            settled_ms: 0,
            change: None,
            changes: Vec::new(),
        }
    }

    fn tick(&mut self, total_ops: u64) {
        self.now_ms += TICK_MS;
        if let Some((at_ms, members)) = self.change.filter(|(at_ms, _)| *at_ms <= self.now_ms) {
            (self.members, self.settled_ms, self.change) = (members, at_ms, None);
        }
        let mut now = standing(self.members);
        now.nodes = loads(self.members, |_| total_ops / self.members as u64);
        now.settled_ms = self.settled_ms;
        now.moving = self.change.map(|_| "a change is under way".into());
        let sample = Sample::of(&self.policy, self.now_ms, &now.nodes, self.members);
        self.history.push(sample);
        let decision = decide(&self.policy, &self.history, &now);
        assert!(decision.desired.abs_diff(self.members) <= 1, "{decision:?}");
        let members = match decision.verdict {
            Verdict::Out => self.members + 1,
            Verdict::In(node) => {
                assert_ne!(node, now.me, "who decides stays");
                self.members - 1
            }
            _ => return,
        };
        assert!(self.change.is_none(), "one change at a time");
        assert_eq!(members, decision.desired);
        self.change = Some((self.now_ms + CHANGE_MS, members));
        self.changes.push((self.now_ms, members));
        let bounds = usize::from(self.policy.nodes_min)..=usize::from(self.policy.nodes_max);
        assert!(bounds.contains(&members), "{members} members");
    }

    fn run(&mut self, minutes: u64, load: impl Fn(u64) -> u64) {
        let began_ms = self.now_ms;
        while self.now_ms < began_ms + minutes * MINUTE_MS {
            self.tick(load(self.now_ms - began_ms));
        }
    }

    /// How often it went the other way than before.
    fn turns(&self) -> usize {
        let mut before = self.changes.first().map_or(self.members, |(_, members)| *members);
        let mut way = None;
        let mut turns = 0;
        for (_, members) in self.changes.iter().skip(1) {
            let up = *members > before;
            turns += usize::from(way.is_some_and(|was| was != up));
            (way, before) = (Some(up), *members);
        }
        turns
    }
}

#[test]
fn a_step_up_and_down_grows_and_shrinks_to_what_it_takes() {
    let mut cluster = Cluster::of(3);
    cluster.run(30, |_| 1_500);
    assert_eq!((cluster.members, cluster.changes.len()), (3, 0));
    cluster.run(60, |_| 4_800);
    assert_eq!(cluster.members, 5);
    let first_ms = cluster.changes[0].0 - 30 * MINUTE_MS;
    assert!((2 * MINUTE_MS..=3 * MINUTE_MS).contains(&first_ms), "after {first_ms} ms");
    cluster.run(120, |_| 1_000);
    assert_eq!((cluster.members, cluster.turns()), (3, 1));
    let between = cluster.changes.windows(2).map(|two| two[1].0 - two[0].0).min();
    assert!(between.expect("four changes") >= cluster.policy.cool_down_ms, "{between:?}");
}

#[test]
fn a_load_at_the_edge_never_makes_it_swing() {
    for total in (2_500..8_500).step_by(250) {
        let mut cluster = Cluster::of(3);
        cluster.run(400, |_| total);
        let wanted = (total as usize).div_ceil(1_000).clamp(3, 8);
        assert_eq!((cluster.members, cluster.turns()), (wanted, 0), "{total} op/s");
    }
}

#[test]
fn a_ramp_is_followed_one_way() {
    let mut cluster = Cluster::of(3);
    cluster.run(300, |at_ms| 1_000 + 6_000 * at_ms / (300 * MINUTE_MS));
    cluster.run(20, |_| 7_000);
    assert_eq!((cluster.members, cluster.turns()), (7, 0));
    cluster.run(300, |at_ms| 7_000 - 6_000 * at_ms / (300 * MINUTE_MS));
    cluster.run(60, |_| 1_000);
    assert_eq!((cluster.members, cluster.turns()), (3, 1));
}

#[test]
fn a_spike_shorter_than_the_window_moves_nothing() {
    let mut cluster = Cluster::of(3);
    for _ in 0..20 {
        cluster.run(20, |_| 2_000);
        cluster.run(1, |_| 50_000);
    }
    assert!(cluster.changes.is_empty(), "{:?}", cluster.changes);
    cluster.run(10, |_| 50_000);
    cluster.run(120, |_| 2_000);
    assert_eq!((cluster.members, cluster.turns()), (3, 1), "a long one is one way and back");
}

#[test]
fn a_dip_shorter_than_the_window_moves_nothing() {
    let mut cluster = Cluster::of(5);
    for _ in 0..20 {
        cluster.run(15, |_| 4_500);
        cluster.run(9, |_| 100);
    }
    assert!(cluster.changes.is_empty(), "{:?}", cluster.changes);
}

#[test]
fn days_turn_it_twice_each() {
    const DAY_MS: f64 = 24.0 * 60.0 * 60_000.0;
    let mut cluster = Cluster::of(3);
    let days = 5;
    cluster.run(days * 24 * 60, |at_ms| {
        let phase = at_ms as f64 / DAY_MS * std::f64::consts::TAU;
        3_500_u64.saturating_add_signed((-3_000.0 * phase.cos()) as i64)
    });
    assert!(cluster.turns() < 2 * days as usize, "{} turns", cluster.turns());
    assert!(cluster.changes.iter().any(|(_, members)| *members == 7), "it follows the day");
    assert_eq!(cluster.members, 3, "and the night");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Levels of any height and length, with noise: never out of bounds (`tick` asserts it), and
    /// no more turns than the load made.
    #[test]
    fn no_load_makes_it_turn_more_often_than_itself(
        levels in prop::collection::vec((0..12_000_u64, 1..90_u64), 1..8),
        noise in prop::collection::vec(-8..=8_i64, 97),
    ) {
        let mut cluster = Cluster::of(3);
        let mut at = 0;
        for (level, minutes) in &levels {
            let until_ms = cluster.now_ms + minutes * MINUTE_MS;
            while cluster.now_ms < until_ms {
                at += 1;
                let off = noise[at % noise.len()];
                cluster.tick(level.saturating_add_signed(*level as i64 * off / 100));
            }
        }
        prop_assert!(cluster.turns() < levels.len(), "{:?}", cluster.changes);
    }
}

/// Fourteen minutes of one load.
fn steady(members: usize, of: impl Fn(u64) -> u64) -> (History, Standing) {
    let mut now = standing(members);
    now.nodes = loads(members, of);
    let mut history = History::default();
    for at in 0..=168 {
        history.push(Sample::of(&policy(), at * TICK_MS, &now.nodes, members));
    }
    (history, now)
}

#[test]
fn nothing_goes_while_anything_is_pending() {
    let (history, now) = steady(5, |_| 100);
    let decision = decide(&policy(), &history, &now);
    assert_eq!((decision.verdict, decision.desired), (Verdict::In(NodeId(5)), 4));
    assert!(decision.reason.contains("4 nodes would do, with 125 op/s a node"), "{decision:?}");
    let why = || Some("this and that".to_owned());
    for held in [
        Standing { moving: why(), ..now.clone() },
        Standing { down: why(), ..now.clone() },
        Standing { pending: why(), ..now.clone() },
    ] {
        let decision = decide(&policy(), &history, &held);
        assert_eq!((decision.verdict, decision.desired), (Verdict::InHeld, 5));
        assert!(decision.reason.ends_with("but not now: this and that"), "{decision:?}");
    }
    let copies = Standing { copies: 5, ..now.clone() };
    assert_eq!(decide(&policy(), &history, &copies).verdict, Verdict::Keep, "never below N");
    let alone = Standing { nodes: loads(1, |_| 100), ..now };
    assert_eq!(decide(&policy(), &history, &alone).verdict, Verdict::InHeld);
}

#[test]
fn what_is_not_known_moves_nothing() {
    let (mut history, now) = steady(5, |_| 100);
    let told = loads(4, |_| 100);
    history.push(Sample::of(&policy(), 169 * TICK_MS, &told, 5));
    let silent = Standing { nodes: told, ..now.clone() };
    let decision = decide(&policy(), &history, &silent);
    assert_eq!(decision.verdict, Verdict::Keep);
    assert!(decision.reason.contains("4 of 5 nodes told"), "{decision:?}");
    let by_cpu = Policy { cpu_percent: 60, ..policy() };
    let unmeasured = Sample::of(&by_cpu, 0, &now.nodes, 5);
    assert!(!unmeasured.complete, "its CPU matters, and is not known");
    assert_eq!(decide(&policy(), &History::default(), &now).verdict, Verdict::Keep);
}

#[test]
fn too_few_grow_but_not_during_a_change_nor_over_the_maximum() {
    let (history, now) = steady(5, |_| 1_300);
    let decision = decide(&policy(), &history, &now);
    assert_eq!((decision.verdict, decision.desired), (Verdict::Out, 6));
    let words = "1300 op/s a node, over the target of 1000 op/s for 2 min: 7 are needed";
    assert_eq!(decision.reason, words);
    let moving = Standing { moving: Some("epoch 4".into()), ..now.clone() };
    assert_eq!(decide(&policy(), &history, &moving).verdict, Verdict::OutHeld);
    let repairs = Standing { pending: Some("12 partitions to fill".into()), ..now.clone() };
    assert_eq!(decide(&policy(), &history, &repairs).verdict, Verdict::Out, "more is no danger");
    let lately = Standing { settled_ms: 165 * TICK_MS, ..now.clone() };
    assert_eq!(decide(&policy(), &history, &lately).verdict, Verdict::Keep, "measured too shortly");
    let cool = Policy { out_after_ms: TICK_MS, ..policy() };
    let decision = decide(&cool, &history, &lately);
    assert_eq!(decision.verdict, Verdict::OutHeld);
    assert!(decision.reason.contains("the cool-down after the last change lasts 4 min more"));
    let full = Policy { nodes_max: 5, ..policy() };
    let decision = decide(&full, &history, &now);
    assert_eq!((decision.verdict, decision.desired), (Verdict::OutHeld, 5));
    let (history, now) = steady(2, |_| 0);
    assert_eq!(decide(&policy(), &history, &now).verdict, Verdict::Out, "fewer than the minimum");
}

#[test]
fn one_busy_node_is_evened_out_and_not_joined() {
    let (history, now) = steady(4, |n| if n == 2 { 1_900 } else { 300 });
    let decision = decide(&policy(), &history, &now);
    let verdict = Verdict::EvenOut { busiest: NodeId(2), idlest: NodeId(1) };
    assert_eq!((decision.verdict, decision.desired), (verdict, 4));
    assert!(decision.reason.starts_with("even out: 0000000000000002 is at 190 %"), "{decision:?}");
    let (history, now) = steady(4, |n| if n == 2 { 5_000 } else { 900 });
    assert_eq!(decide(&policy(), &history, &now).verdict, Verdict::Out, "all are over together");
}

#[test]
fn the_fullest_zone_loses_its_youngest() {
    let (history, mut now) = steady(5, |_| 100);
    for node in &mut now.nodes {
        (node.in_zone, node.started_ms) =
            if node.node.0 < 4 { (3, 9 - node.node.0) } else { (2, 99) };
    }
    assert_eq!(decide(&policy(), &history, &now).verdict, Verdict::In(NodeId(2)));
}

#[test]
fn each_signal_counts_and_the_worst_decides() {
    let policy = Policy { cpu_percent: 50, disk_bytes_per_node: 100 << 20, ..policy() };
    let load = Totals { ops_per_s: 2_500, cpu_per_mille: 2_100, disk_bytes: 390 << 20 };
    let needed = policy.needed(&load, 100);
    assert_eq!((needed.nodes, needed.signal), (5, Signal::Cpu));
    let disk = Totals { disk_bytes: 700 << 20, ..load };
    assert_eq!(policy.needed(&disk, 100).signal, Signal::Disk);
    assert_eq!(policy.needed(&load, 50).nodes, 9);
    assert_eq!(policy.needed(&Totals::default(), 100).nodes, 0);
    let none = Policy { ops_per_node: 0, cpu_percent: 0, disk_bytes_per_node: 0, ..policy };
    assert_eq!(none.needed(&load, 100).nodes, 0);
    assert_eq!(none.check().expect_err("no target").0, "ops_per_node");
    assert_eq!(policy.check(), Ok(()));
    assert_eq!(Policy { nodes_max: 2, ..policy }.check().expect_err("min is 3").0, "nodes_max");
}

#[test]
fn samples_are_bounded() {
    let mut history = History::default();
    (0..3_000).for_each(|at_ms| history.push(Sample { at_ms, ..Sample::default() }));
    assert_eq!(history.iter().len(), SAMPLES_MAX);
    assert_eq!(history.iter().next_back().map(|sample| sample.at_ms), Some(2_999));
}

#[test]
fn settings_are_named_and_set() {
    let mut policy = Policy::default();
    for (place, (key, _)) in Policy::default().pairs().into_iter().enumerate() {
        policy.set(key, place as u64 + 5).expect("small enough for all");
    }
    let values = policy.pairs().map(|(_, value)| value);
    assert_eq!(values, [5, 6, 7, 8, 9, 10, 11, 12, 13], "each is its own");
    assert!(policy.set("cpu_percent", 101).is_err());
    assert!(policy.set("nodes", 3).expect_err("no such").contains("nodes_min"));
    assert_eq!(policy.pairs().map(|(_, value)| value), values);
}
