//! Steps towards a layout, over random clusters and several changes at once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "test code: the helpers are not test functions by themselves"
)]

#[expect(dead_code, reason = "the other placement tests use more of it")]
mod support;

use kv_ring::{AutoClaim, Error, Layout, NodeSpec, PartitionCount, Plan, Topology, Zone};
use proptest::prelude::*;
use support::{Change, apply, history, judge_rules, off_balance, topology};

fn moves(old: &Layout<u32>, new: &Layout<u32>) -> usize {
    Plan::between(old, new).unwrap().moves().len()
}

/// The most owners that any partition gets.
fn most_newcomers(old: &Layout<u32>, new: &Layout<u32>) -> usize {
    let plan = Plan::between(old, new).unwrap();
    let of_one = plan.moves().chunk_by(|one, next| one.partition == next.partition);
    of_one.map(<[_]>::len).max().unwrap_or(0)
}

/// Makes all changes that leave the number of copies as it is.
fn change_members(members: &mut Topology<u32>, copies: usize, changes: &[Change]) {
    for (new, change) in (0..).zip(changes) {
        let (mut same, before) = (copies, members.clone());
        apply(members, &mut same, change, new);
        if same != copies {
            *members = before;
        }
    }
}

fn check_step(before: &Layout<u32>, step: &Layout<u32>, target: &Layout<u32>) {
    let (members, epoch) = (step.members().to_vec(), step.epoch());
    assert_eq!(Layout::decode(&step.encode()).as_ref(), Ok(step));
    assert_eq!(epoch, target.epoch());
    let either = |node: &u32| before.contains(*node) || target.contains(*node);
    assert!(members.iter().all(either));
    for partition in step.partitions().iter() {
        let owners = step.owners(partition);
        let known = |node: &u32| before.owns(*node, partition) || target.owns(*node, partition);
        assert!(owners.iter().all(known), "nobody else gets a copy");
        let kept = |node: &&u32| before.owns(**node, partition) && target.owns(**node, partition);
        let keeps = before.owners(partition).iter().filter(kept).all(|node| owners.contains(node));
        assert!(keeps, "who keeps a copy keeps it all the time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_target_is_reached_without_one_more_copy(
        (specs, changes) in history(3..=12, 1..=6),
        copies in 1_usize..=5,
        newcomers_max in 1_usize..=3,
    ) {
        let mut after = topology(&specs);
        let copies = copies.min(specs.len());
        let partitions = PartitionCount::new(64).unwrap();
        let first = Layout::first(&after, partitions, copies, &AutoClaim).unwrap();
        change_members(&mut after, copies, &changes);
        let target = Layout::next(&first, &after, copies, &AutoClaim).unwrap();
        let (mut at, mut made) = (first.clone(), 0);
        for _ in 0..copies {
            let step = at.towards(&target, newcomers_max).unwrap();
            check_step(&at, &step, &target);
            prop_assert!(most_newcomers(&at, &step) <= newcomers_max);
            made += moves(&at, &step);
            at = step;
        }
        prop_assert_eq!(&at, &target, "as many steps as copies are enough");
        prop_assert_eq!(made, moves(&first, &target));
    }

    /// As operators see it: what is left is planned anew after each step.
    #[test]
    fn planned_anew_after_each_step_it_ends_in_balance(
        (specs, changes) in history(3..=12, 1..=6),
        copies in 2_usize..=5,
    ) {
        let mut after = topology(&specs);
        let copies = copies.min(specs.len());
        let partitions = PartitionCount::new(64).unwrap();
        let mut at = Layout::first(&after, partitions, copies, &AutoClaim).unwrap();
        change_members(&mut after, copies, &changes);
        let direct = Layout::next(&at, &after, copies, &AutoClaim).unwrap();
        let (direct, mut made) = (moves(&at, &direct), 0);
        for left in (0..=copies).rev() {
            let target = Layout::next(&at, &after, copies, &AutoClaim).unwrap();
            let step = at.towards(&target, 1).unwrap();
            made += moves(&at, &step);
            at = step;
            if at == target {
                break;
            }
            prop_assert!(left > 0, "one step for each copy is enough");
        }
        judge_rules(&at, &after);
        prop_assert_eq!(off_balance(&at, &after), (0, 0));
        prop_assert!(made <= direct + direct / 20 + 1, "{} for {}", made, direct);
        prop_assert_eq!(at.topology(), after);
    }
}

#[test]
fn zones_stay_apart_on_the_way_where_they_can() {
    let spec = |zone| NodeSpec::new(1, Zone::new(zone));
    let mut nodes: Topology<u32> = [(1, spec(1)), (2, spec(2)), (3, spec(3))].into_iter().collect();
    let partitions = PartitionCount::new(8).unwrap();
    let first = Layout::first(&nodes, partitions, 3, &AutoClaim).unwrap();
    for (node, gone) in [(14, 1), (15, 2), (16, 3)] {
        nodes.remove(gone);
        nodes.insert(node, spec(u64::from(gone)));
    }
    let target = Layout::next(&first, &nodes, 3, &AutoClaim).unwrap();
    let mut at = first;
    for _ in 0..3 {
        at = at.towards(&target, 1).unwrap();
        for partition in at.partitions().iter() {
            let mut zones: Vec<Zone> =
                at.owners(partition).iter().map(|owner| at.spec(*owner).unwrap().zone).collect();
            zones.sort_unstable();
            zones.dedup();
            assert_eq!(zones.len(), 3);
        }
    }
    assert_eq!(at, target);
    let other = Layout::first(&nodes, PartitionCount::new(16).unwrap(), 3, &AutoClaim).unwrap();
    assert_eq!(at.towards(&other, 1), Err(Error::Coarser));
    assert_eq!(at.towards(&target, 0), Err(Error::Replicas(0)));
}
