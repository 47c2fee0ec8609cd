//! Copies that change places, on clusters of any shape: all that a placement keeps to, it goes on
//! to.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_sign_loss,
    reason = "test code: the helpers are not test functions by themselves"
)]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;

use kv_ring::{
    AutoClaim, Error, Exchange, Layout, NodeSpec, Partition, PartitionCount, Plan, Zone,
};
use proptest::prelude::*;
use support::{judge_rules, off_balance, spec, topology};

fn first(specs: &[NodeSpec], partitions: u32, copies: usize) -> Layout<u32> {
    let count = PartitionCount::new(partitions).unwrap();
    Layout::first(&topology(specs), count, copies, &AutoClaim).unwrap()
}

/// Copies and first places of each node.
fn held(layout: &Layout<u32>) -> BTreeMap<u32, (usize, usize)> {
    let of = |node: u32| {
        let all: Vec<(Partition, bool)> = layout.held_by(node).collect();
        (all.len(), all.iter().filter(|(_, first)| *first).count())
    };
    layout.members().iter().map(|node| (*node, of(*node))).collect()
}

/// Every exchange of two partitions' copies, possible or not.
fn exchanges(layout: &Layout<u32>, partition: Partition, against: Partition) -> Vec<Exchange<u32>> {
    let pairs = |from: u32| {
        let exchange = move |to: &u32| Exchange { partition, from, to: *to, against };
        layout.members().iter().map(exchange).collect::<Vec<_>>()
    };
    layout.members().iter().flat_map(|from| pairs(*from)).collect()
}

fn cluster() -> impl Strategy<Value = (Vec<NodeSpec>, usize, Vec<(u16, u16)>)> {
    (1_u64..=5, 1_usize..=4).prop_flat_map(|(zones, copies)| {
        let nodes = prop::collection::vec(spec(zones), copies.max(2)..=9);
        let pairs = prop::collection::vec((0_u16..32, 0_u16..32), 1..6);
        (nodes, Just(copies), pairs)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn an_exchange_keeps_all_that_placements_keep_to((specs, copies, pairs) in cluster()) {
        let mut layout = first(&specs, 32, copies);
        let members = topology(&specs);
        let (counts, balance) = (held(&layout), off_balance(&layout, &members));
        for (one, other) in pairs {
            let at = |index: u16| layout.partitions().iter().nth(usize::from(index)).unwrap();
            let (partition, against) = (at(one), at(other));
            for exchange in exchanges(&layout, partition, against) {
                let Ok(next) = layout.exchanged(&exchange) else {
                    prop_assert!(layout.may_exchange(&exchange).is_err());
                    continue;
                };
                prop_assert_eq!(next.epoch(), layout.epoch() + 1);
                prop_assert_eq!(held(&next), counts.clone());
                prop_assert_eq!(off_balance(&next, &members), balance);
                judge_rules(&next, &members);
                let plan = Plan::between(&layout, &next).unwrap();
                prop_assert_eq!(plan.moves().len(), 2);
                prop_assert!(next.owns(exchange.to, partition));
                prop_assert!(next.owns(exchange.from, against));
                prop_assert_eq!(Layout::decode(&next.encode()), Ok(next.clone()));
                // There is a way back, and it is the way back.
                let back = next.exchanged(&exchange.back());
                if let Ok(back) = back {
                    prop_assert!(Plan::between(&layout, &back).unwrap().is_empty());
                }
                // Who plans anew for the same members leaves it so.
                let planned = Layout::next(&next, &members, copies, &AutoClaim).unwrap();
                prop_assert!(Plan::between(&next, &planned).unwrap().is_empty());
            }
            let made = exchanges(&layout, partition, against);
            if let Some(next) = made.iter().find_map(|one| layout.exchanged(one).ok()) {
                layout = next;
            }
        }
    }

    #[test]
    fn nothing_is_refused_but_for_a_rule((specs, copies, pairs) in cluster()) {
        let layout = first(&specs, 32, copies);
        for (one, other) in pairs {
            let at = |index: u16| layout.partitions().iter().nth(usize::from(index)).unwrap();
            let (partition, against) = (at(one), at(other));
            for exchange in exchanges(&layout, partition, against) {
                let Exchange { from, to, .. } = exchange;
                let (given, taken) = (layout.owners(partition), layout.owners(against));
                let moves = given.contains(&from) && taken.contains(&to);
                let free = !given.contains(&to) && !taken.contains(&from);
                let ranks = (given.first() == Some(&from)) == (taken.first() == Some(&to));
                let zone = |node: u32| layout.spec(node).unwrap().zone;
                let same = zone(from) == zone(to);
                let told = layout.may_exchange(&exchange);
                if moves && free && ranks && same {
                    prop_assert_eq!(told, Ok(()), "{:?}", exchange);
                }
                if !moves || !free || !ranks {
                    prop_assert!(matches!(told, Err(Error::Exchange(_))), "{:?}", exchange);
                }
            }
        }
    }
}

#[test]
fn copies_stay_in_different_zones() {
    let specs: Vec<NodeSpec> = (0..6).map(|node| NodeSpec::new(1, Zone::new(node % 3))).collect();
    let layout = first(&specs, 32, 3);
    let zone = |node: u32| u64::from(node) % 3;
    let mut made = [0, 0];
    for partition in layout.partitions().iter() {
        for against in layout.partitions().iter() {
            for exchange in exchanges(&layout, partition, against) {
                let same = zone(exchange.from) == zone(exchange.to);
                made[usize::from(same)] += usize::from(layout.may_exchange(&exchange).is_ok());
            }
        }
    }
    assert_eq!(made[0], 0, "one copy in each of three zones: none can go to another");
    assert!(made[1] > 100, "{made:?}");
}
