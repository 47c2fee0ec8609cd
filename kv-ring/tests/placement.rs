//! Placement over random clusters and changes: bounds, zones, movement.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "test code: the helpers are not test functions by themselves"
)]

mod support;

use std::collections::BTreeSet;

use kv_ring::{
    AutoClaim, Claim, ClaimRequest, Error, FastClaim, FlowClaim, Layout, NodeSpec, PartitionCount,
    Plan, Topology, Zone,
};
use proptest::prelude::*;
use support::{apply, can_move_less, history, judge_rules, off_balance, shares, topology};

fn count(partitions: u32) -> PartitionCount {
    PartitionCount::new(partitions).unwrap()
}

/// Follows a cluster through its changes; `judge` sees each step.
fn follow(
    claim: &dyn Claim,
    partitions: u32,
    copies: usize,
    (specs, changes): &(Vec<NodeSpec>, Vec<support::Change>),
    mut judge: impl FnMut(Option<&Layout<u32>>, &Layout<u32>, &Topology<u32>),
) {
    let mut topology = topology(specs);
    let mut copies = copies.min(specs.len());
    let mut layout = Layout::first(&topology, count(partitions), copies, claim).unwrap();
    judge(None, &layout, &topology);
    for (new, change) in (0..).zip(changes) {
        apply(&mut topology, &mut copies, change, new);
        let next = Layout::next(&layout, &topology, copies, claim).unwrap();
        judge(Some(&layout), &next, &topology);
        layout = next;
    }
}

fn judge_exactly(old: Option<&Layout<u32>>, new: &Layout<u32>, topology: &Topology<u32>) {
    judge_rules(new, topology);
    assert_eq!(off_balance(new, topology), (0, 0), "copies and first places off balance");
    if let Some(old) = old {
        assert!(!can_move_less(old, new, topology), "fewer copies could move");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn exact_placement_of_small_clusters(
        cluster in history(3..=12, 1..=6),
        copies in 1_usize..=5,
        log2 in 3_u32..=8,
    ) {
        follow(&FlowClaim, 1 << log2, copies, &cluster, judge_exactly);
    }

    #[test]
    fn shares_are_the_water_filled_ones(
        (specs, _) in history(3..=100, 0..=0),
        copies in 1_usize..=5,
        log2 in 0_u32..=14,
    ) {
        let topology = topology(&specs);
        let copies = copies.min(specs.len());
        let found = topology.shares(count(1 << log2), copies).unwrap();
        for (node, expected) in shares(&topology, 1 << log2, copies) {
            let (numerator, denominator) = found[node as usize].1.fraction();
            let share = numerator as f64 / denominator as f64;
            prop_assert!((share - expected).abs() < 1e-5, "{node}: {share}, not {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exact_placement_of_clusters_up_to_a_hundred_nodes(
        cluster in history(3..=100, 1..=3),
        copies in 1_usize..=5,
        log2 in 6_u32..=10,
    ) {
        follow(&FlowClaim, 1 << log2, copies, &cluster, judge_exactly);
    }

    #[test]
    fn fast_placement_keeps_the_rules_and_comes_close(
        cluster in history(3..=150, 1..=3),
        copies in 1_usize..=5,
        log2 in 6_u32..=9,
    ) {
        follow(&FastClaim, 1 << log2, copies, &cluster, |old, new, topology| {
            judge_rules(new, topology);
            let (copies_off, firsts_off) = off_balance(new, topology);
            let copies = new.partitions().count() * new.replicas();
            assert!(copies_off * 100 <= copies, "{copies_off} of {copies} copies off balance");
            assert!(firsts_off * 100 <= copies, "{firsts_off} first places off balance");
            let Some(old) = old else { return };
            let moved = |new| Plan::between(old, new).unwrap().moves().len();
            let exact = Layout::next(old, topology, new.replicas(), &FlowClaim).unwrap();
            let (moved, unavoidable) = (moved(new), moved(&exact));
            assert!(moved * 2 <= unavoidable * 3 + 4, "{moved} moved, {unavoidable} unavoidable");
        });
    }

    #[test]
    fn plans_lead_from_one_layout_to_the_next(
        cluster in history(3..=20, 1..=4),
        copies in 1_usize..=4,
    ) {
        follow(&FlowClaim, 64, copies, &cluster, |old, new, _| {
            let Some(old) = old else { return };
            let plan = Plan::between(old, new).unwrap();
            for partition in new.partitions().iter() {
                let mut owners: BTreeSet<u32> = old.owners(partition).iter().copied().collect();
                for step in plan.moves().iter().filter(|step| step.partition == partition) {
                    assert!(step.displaced.is_none_or(|node| owners.remove(&node)));
                    assert!(owners.insert(step.newcomer));
                }
                for (_, node) in plan.drops().iter().filter(|drop| drop.0 == partition) {
                    assert!(owners.remove(node));
                }
                assert!(owners.iter().eq(new.owners(partition).iter().collect::<BTreeSet<_>>()));
            }
        });
    }

    #[test]
    fn layouts_survive_their_codec(cluster in history(3..=40, 0..=2), copies in 1_usize..=5) {
        follow(&FlowClaim, 32, copies, &cluster, |_, new, topology| {
            let decoded = Layout::decode(&new.encode()).unwrap();
            assert_eq!(&decoded, new);
            assert_eq!(&decoded.topology(), topology);
        });
    }
}

#[test]
fn the_judge_of_movement_sees_a_needless_move() {
    let mut topology = topology(&[NodeSpec::default(); 6]);
    let old = Layout::first(&topology, count(64), 3, &FlowClaim).unwrap();
    topology.insert(6, NodeSpec::default());
    let fresh = Layout::first(&topology, count(64), 3, &FlowClaim).unwrap();
    assert_eq!(off_balance(&fresh, &topology), (0, 0));
    assert!(can_move_less(&old, &fresh, &topology));
}

#[test]
fn partitions_of_a_first_layout_with_the_same_owners_are_neighbours() {
    let five = topology(&[NodeSpec::default(); 5]);
    for claim in [&FlowClaim as &dyn Claim, &FastClaim] {
        let layout = Layout::first(&five, PartitionCount::DEFAULT, 3, claim).unwrap();
        let owners: Vec<&[u32]> = layout.partitions().iter().map(|p| layout.owners(p)).collect();
        let ranges = 1 + owners.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let lists = owners.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(ranges, lists);
        assert!(ranges <= 5 * 4 * 3, "{ranges}");
    }
}

#[test]
fn nothing_moves_when_nothing_changes() {
    let topology = topology(&[NodeSpec::default(); 7]);
    for claim in [&FlowClaim as &dyn Claim, &FastClaim, &AutoClaim] {
        let old = Layout::first(&topology, count(1024), 3, claim).unwrap();
        let new = Layout::next(&old, &topology, 3, claim).unwrap();
        let plan = Plan::between(&old, &new).unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.firsts_changed(), 0);
        assert_eq!(new.epoch(), 2);
        assert_ne!(new.digest(), old.digest());
    }
}

#[test]
fn a_joining_node_gets_its_share_and_no_more_moves() {
    let mut topology = topology(&[NodeSpec::default(); 9]);
    let old = Layout::first(&topology, PartitionCount::DEFAULT, 3, &FlowClaim).unwrap();
    topology.insert(9, NodeSpec::default());
    let new = Layout::next(&old, &topology, 3, &FlowClaim).unwrap();
    let plan = Plan::between(&old, &new).unwrap();
    assert_eq!(plan.moves().len(), 3 * 1024 / 10);
    assert!(plan.moves().iter().all(|step| step.newcomer == 9));
    assert_eq!(plan.arrivals(9).count(), 307);
    assert_eq!((0..9).map(|node| plan.departures(node).count()).sum::<usize>(), 307);
}

#[test]
fn a_dead_nodes_work_falls_on_many() {
    let mut topology = topology(&[NodeSpec::default(); 12]);
    let mut layout = Layout::first(&topology, PartitionCount::DEFAULT, 3, &FlowClaim).unwrap();
    for step in 0..4 {
        for node in layout.members() {
            let held: Vec<_> = layout.held_by(*node).collect();
            let heirs: BTreeSet<u32> = held
                .iter()
                .filter(|(_, first)| *first)
                .map(|(partition, _)| layout.owners(*partition)[1])
                .collect();
            let peers: BTreeSet<u32> =
                held.iter().flat_map(|(partition, _)| layout.owners(*partition)).copied().collect();
            let others = layout.members().len() - 1;
            assert_eq!(peers.len() - 1, others, "step {step}: {node} shares partitions with all");
            assert!(heirs.len() * 4 >= others * 3, "step {step}: heirs of {node}: {heirs:?}");
        }
        topology.insert(100 + step, NodeSpec::default());
        topology.remove(step);
        layout = Layout::next(&layout, &topology, 3, &FlowClaim).unwrap();
    }
}

#[test]
fn a_small_zone_takes_what_it_can_and_no_node_a_partition_twice() {
    let specs = [(1, 0), (1, 1), (1, 1), (1, 1), (100, 1)];
    let specs = specs.map(|(weight, zone)| NodeSpec::new(weight, Zone::new(zone)));
    let topology = topology(&specs);
    let layout = Layout::first(&topology, count(64), 3, &FlowClaim).unwrap();
    judge_exactly(None, &layout, &topology);
    assert_eq!(layout.held_by(0).count(), 64, "alone in its zone");
    assert_eq!(layout.held_by(4).count(), 64, "however heavy");
}

#[test]
fn the_smallest_and_the_largest() {
    let one = topology(&[NodeSpec::default()]);
    let layout = Layout::first(&one, count(1), 1, &AutoClaim).unwrap();
    assert_eq!(layout.owners(layout.partitions().iter().next().unwrap()), [0]);

    let specs: Vec<NodeSpec> = (0..100).map(|i| NodeSpec::new(1 + i % 4, Zone::new(0))).collect();
    let hundred = topology(&specs);
    let layout = Layout::first(&hundred, PartitionCount::DEFAULT, 3, &AutoClaim).unwrap();
    judge_exactly(None, &layout, &hundred);
}

#[test]
fn what_cannot_be_placed_is_refused() {
    let three = topology(&[NodeSpec::default(); 3]);
    let place = |copies| Layout::first(&three, count(8), copies, &FlowClaim).map(|l| l.epoch());
    assert_eq!(place(3), Ok(1));
    assert_eq!(place(0), Err(Error::Replicas(0)));
    assert_eq!(place(4), Err(Error::TooFewNodes { replicas: 4, nodes: 3 }));
    assert_eq!(place(17), Err(Error::Replicas(17)));
    let crowd = topology(&vec![NodeSpec::default(); 129]);
    let exact = Layout::first(&crowd, PartitionCount::MAX, 1, &FlowClaim).map(|l| l.epoch());
    assert_eq!(exact, Err(Error::TooManyNodes { nodes: 129, nodes_max: 128 }));
}

struct Fixed(Vec<u16>);

impl Claim for Fixed {
    fn claim(&self, _: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_defective_chooser_is_found_out() {
    let mut topology = topology(&[NodeSpec::default(); 3]);
    topology.insert(2, NodeSpec::new(0, Zone::default()));
    let place = |owners: &[u16]| Layout::first(&topology, count(2), 2, &Fixed(owners.to_vec()));
    assert!(place(&[0, 1, 1, 0]).is_ok());
    for bad in [&[0, 1, 1][..], &[0, 1, 1, 1], &[0, 1, 1, 2], &[0, 1, 1, 9], &[], &[0; 6]] {
        assert_eq!(place(bad), Err(Error::BadClaim), "{bad:?}");
    }
}
