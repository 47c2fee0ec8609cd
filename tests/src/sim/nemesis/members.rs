//! The hand on the ring: nodes come to bring more or less, and partitions move between them.
//!
//! A node of weight 0 is a member that holds nothing: drained, and later given partitions again of
//! which it may have rows from before. Some changes take several steps, of which one is made, and
//! some are called off.

use super::{Faults, rest};
use crate::sim::random::Random;
use crate::sim::world::World;

/// What a node may bring.
const WEIGHTS: [u32; 4] = [0, 1, 1, 3];

/// Of so many turns one calls off what is under way.
const ABORT_ONE_OF: u64 = 5;

pub(super) async fn hand(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    let random = Random::of(seed, "members");
    if !faults.reshapes {
        return;
    }
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let place = || random.below(world.nodes() as u64) as usize;
        let weight = || WEIGHTS.get(random.below(4) as usize).copied().unwrap_or(1);
        let (through, changes) = (place(), random.below(ABORT_ONE_OF + 1));
        if changes == 0 {
            match world.reshape(through, None).await {
                Ok(epoch) => world.note(format!("called off in layout {epoch}")),
                Err(why) => world.note(format!("not called off: {why}")),
            }
            continue;
        }
        let count = if changes == 1 { 2 } else { 1 };
        let weights: Vec<(usize, u32)> = (0..count).map(|_| (place(), weight())).collect();
        match world.reshape(through, Some(&weights)).await {
            Ok(epoch) => world.note(format!("nodes have weights {weights:?} in layout {epoch}")),
            Err(why) => world.note(format!("weights {weights:?} of nodes: {why}")),
        }
    }
}
