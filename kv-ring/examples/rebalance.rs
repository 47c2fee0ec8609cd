//! A cluster grows, loses a node and grows again; each change is printed as its plan.
//!
//! `cargo run --example rebalance`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use kv_ring::{AutoClaim, Error, History, Layout, NodeSpec, PartitionCount, Plan, Slot, Zone};

fn main() -> Result<(), Error> {
    // Six nodes in three zones; the two of the last zone are twice as large.
    let north = Zone::named("north");
    let west = Zone::named("west");
    let east = Zone::named("east");
    let mut topology = [
        (1_u64, NodeSpec::new(1, north)),
        (2, NodeSpec::new(1, north)),
        (3, NodeSpec::new(1, west)),
        (4, NodeSpec::new(1, west)),
        (5, NodeSpec::new(2, east)),
        (6, NodeSpec::new(2, east)),
    ]
    .into_iter()
    .collect();
    let first = Layout::first(&topology, PartitionCount::DEFAULT, 3, &AutoClaim)?;
    println!("six nodes, three zones, three copies");
    show(&first)?;

    let mut history = History::new(first);
    let changes: [(&str, u64, Option<NodeSpec>); 3] = [
        ("node 7 joins the north", 7, Some(NodeSpec::new(2, north))),
        ("node 3 is drained", 3, Some(NodeSpec::new(0, west))),
        ("node 6 is gone", 6, None),
    ];
    for (what, node, spec) in changes {
        match spec {
            Some(spec) => topology.insert(node, spec),
            None => topology.remove(node),
        };
        let next = Layout::next(history.newest(), &topology, 3, &AutoClaim)?;
        let plan = Plan::between(history.newest(), &next)?;
        println!(
            "\n{what}: {} of {} copies move, {} first primaries change",
            plan.moves().len(),
            3 * next.partitions().count(),
            plan.firsts_changed()
        );
        show(&next)?;

        // While the copies travel, both layouts are live: an operation needs a quorum in each set.
        let old = history.newest().epoch();
        let partition = next.partitions().of(Slot::of(b"user:1"));
        history.push(next)?;
        let sets: Vec<&[u64]> = history.write_sets(partition).collect();
        println!("  write sets of user:1 meanwhile: {sets:?}");
        history.retire(old)?;
    }
    Ok(())
}

fn show(layout: &Layout<u64>) -> Result<(), Error> {
    println!("  epoch {} digest {:016x}", layout.epoch(), layout.digest());
    for (node, share) in layout.topology().shares(layout.partitions(), layout.replicas())? {
        let copies = layout.held_by(node).count();
        let firsts = layout.held_by(node).filter(|(_, first)| *first).count();
        let (numerator, denominator) = share.fraction();
        let share = numerator as f64 / denominator as f64;
        println!("  node {node}: {copies:4} copies, {firsts:3} first (feasible {share:.1})");
    }
    Ok(())
}
