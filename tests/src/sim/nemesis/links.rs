//! The hand on the network: cuts of several shapes, delay, loss, and calm again.

use kv_node::plug::inproc::LinkFaults;

use super::{Faults, choose, rest};
use crate::sim::random::Random;
use crate::sim::world::World;

#[derive(Clone, Copy, Debug)]
enum Shape {
    Isolate,
    Link,
    Halves,
    Bridge,
    Ring,
    Delay,
    Loss,
}

/// The ordinary network: some hundred microseconds, drawn for each message.
#[must_use]
pub fn calm() -> LinkFaults {
    LinkFaults { delay_us_min: 100, delay_us_max: 900, ..LinkFaults::default() }
}

pub(super) async fn hand(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    let random = Random::of(seed, "network");
    let links = &faults.links;
    let weights = [
        (Shape::Isolate, links.isolate),
        (Shape::Link, links.link),
        (Shape::Halves, links.halves),
        (Shape::Bridge, links.bridge),
        (Shape::Ring, links.ring),
        (Shape::Delay, links.delay),
        (Shape::Loss, links.loss),
    ];
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let Some(shape) = choose(&random, &weights) else { return };
        world.note(format!("network: {shape:?}"));
        disturb(world, &random, shape, links.one_way_percent);
        rest(&random, 2 * faults.rest_ms_max).await;
        world.note("network: calm".into());
        world.network.heal();
        world.network.set_all(calm());
    }
}

fn disturb(world: &World, random: &Random, shape: Shape, one_way_percent: u64) {
    let nodes = world.nodes();
    let first = random.below(nodes as u64) as usize;
    // Everybody's place counted from a drawn one.
    let place = |step: usize| (first + step) % nodes;
    let one_way = random.percent(one_way_percent);
    let cut = |here: usize, there: usize| {
        let (here, there) = (World::address(here), World::address(there));
        let cut = LinkFaults { cut: true, ..calm() };
        world.network.set_link(&here, &there, cut);
        if !one_way {
            world.network.set_link(&there, &here, cut);
        }
    };
    let half = nodes / 2;
    match shape {
        Shape::Isolate => (1..nodes).for_each(|step| cut(place(0), place(step))),
        Shape::Link => cut(place(0), place(1 + random.below(nodes as u64 - 1) as usize)),
        Shape::Halves => pairs(0..half, half..nodes, |a, b| cut(place(a), place(b))),
        // The last one is in both halves.
        Shape::Bridge => pairs(0..half, half..nodes - 1, |a, b| cut(place(a), place(b))),
        Shape::Ring => pairs(0..nodes, 0..nodes, |a, b| {
            let apart = (b + nodes - a) % nodes;
            if apart > 1 && apart < nodes - 1 {
                cut(place(a), place(b));
            }
        }),
        Shape::Delay => {
            let delay_us_max = random.between(2_000, 400_000);
            world.network.set_all(LinkFaults { delay_us_max, ..calm() });
        }
        Shape::Loss => {
            let loss_per_million = random.between(1_000, 300_000) as u32;
            world.network.set_all(LinkFaults { loss_per_million, ..calm() });
        }
    }
}

fn pairs(
    some: std::ops::Range<usize>,
    others: std::ops::Range<usize>,
    mut each: impl FnMut(usize, usize),
) {
    for a in some {
        others.clone().for_each(|b| each(a, b));
    }
}
