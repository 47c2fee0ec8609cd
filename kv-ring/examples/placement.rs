//! Placement in large clusters: how even it is, what changes move, how long planning takes.
//! `cargo xtask bench ring` runs it for several sizes and judges.
//!
//! ```text
//! placement [--nodes N] [--partitions P]
//! ```
//!
//! Nodes of weight 1 in three zones, three copies. Figures come as `name=value` lines; times are
//! the median of three.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it is a program that measures"
)]

use std::time::Instant;

use kv_ring::{AutoClaim, Error, Layout, NodeSpec, PartitionCount, Plan, Topology, Zone};

const COPIES: usize = 3;
const ZONES: u64 = 3;
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut nodes, mut partitions) = (100_u32, 1_024_u32);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or("a number is missing")?.parse()?;
        match word.as_str() {
            "--nodes" => nodes = value,
            "--partitions" => partitions = value,
            other => return Err(format!("{other} is not known").into()),
        }
    }
    let spec = |node: u32| NodeSpec::new(1, Zone::new(u64::from(node) % ZONES));
    let all: Topology<u32> = (0..nodes).map(|node| (node, spec(node))).collect();
    let count = PartitionCount::new(partitions)?;
    let (first, first_ms) = timed(|| Layout::first(&all, count, COPIES, &AutoClaim))?;
    show("first_ms", first_ms);
    balance("first", &first, &all);

    let mut more = all.clone();
    more.insert(nodes, spec(nodes));
    changed("join", &first, &more)?;
    let mut fewer = all.clone();
    fewer.remove(nodes / 2);
    changed("leave", &first, &fewer)?;
    let mut grown = all;
    grown.extend((nodes..nodes + nodes.div_ceil(10)).map(|node| (node, spec(node))));
    changed("tenth", &first, &grown)?;
    Ok(())
}

/// Plans a change, and says what it moves beside what must move: what new members are to hold, or
/// what those that are gone held.
fn changed(name: &str, before: &Layout<u32>, after: &Topology<u32>) -> Result<(), Error> {
    let (next, ms) = timed(|| Layout::next(before, after, COPIES, &AutoClaim))?;
    let moves = Plan::between(before, &next)?.moves().len();
    let new = next.members().iter().filter(|node| !before.contains(**node));
    let gone = before.members().iter().filter(|node| !next.contains(**node));
    let must: usize = new.map(|node| next.held_by(*node).count()).sum::<usize>()
        + gone.map(|node| before.held_by(*node).count()).sum::<usize>();
    let (mut steps, mut at) = (1, before.clone());
    while let step = at.towards(&next, 1)?
        && step != next
    {
        (at, steps) = (step, steps + 1);
    }
    show(&format!("{name}_ms"), ms);
    show(&format!("{name}_moves"), moves as f64);
    show(&format!("{name}_must"), must as f64);
    show(&format!("{name}_steps"), f64::from(steps));
    balance(name, &next, after);
    Ok(())
}

/// The least and the most that a node holds.
fn balance(name: &str, layout: &Layout<u32>, members: &Topology<u32>) {
    let held = members.iter().map(|(node, _)| layout.held_by(node).count());
    let (least, most) =
        held.fold((usize::MAX, 0), |(least, most), held| (least.min(held), most.max(held)));
    show(&format!("{name}_least"), least as f64);
    show(&format!("{name}_most"), most as f64);
}

fn timed<T>(run: impl Fn() -> Result<T, Error>) -> Result<(T, f64), Error> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 1..ROUNDS {
        let began = Instant::now();
        run()?;
        times.push(began.elapsed());
    }
    let began = Instant::now();
    let made = run()?;
    times.push(began.elapsed());
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    Ok((made, median.as_secs_f64() * 1_000.0))
}

fn show(name: &str, value: f64) {
    println!("{name}={value:.1}");
}
