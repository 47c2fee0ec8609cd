//! The hand on the ring: nodes come to bring more or less, and partitions move between them.
//!
//! A node of weight 0 is a member that holds nothing: drained, and later given partitions again of
//! which it may have rows from before.

use super::{Faults, rest};
use crate::sim::random::Random;
use crate::sim::world::World;

/// What a node may bring.
const WEIGHTS: [u32; 4] = [0, 1, 1, 3];

pub(super) async fn hand(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    let random = Random::of(seed, "members");
    if !faults.reshapes {
        return;
    }
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let place = random.below(world.nodes() as u64) as usize;
        let through = random.below(world.nodes() as u64) as usize;
        let weight = WEIGHTS.get(random.below(4) as usize).copied().unwrap_or(1);
        match world.reshape(through, place, weight).await {
            Ok(epoch) => world.note(format!("node {place} has weight {weight} in layout {epoch}")),
            Err(why) => world.note(format!("weight {weight} of node {place}: {why}")),
        }
    }
}
