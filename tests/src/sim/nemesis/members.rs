//! The hand on the ring: nodes come to bring more or less, and partitions move between them.
//!
//! A node of weight 0 is a member that holds nothing: drained, and later given partitions again of
//! which it may have rows from before. Some changes take several steps, of which one is made, and
//! some are called off. Now and then the partitions are doubled instead.

use super::{Faults, rest};
use crate::sim::random::Random;
use crate::sim::world::{Asked, World};

/// What a node may bring.
const WEIGHTS: [u32; 4] = [0, 1, 1, 3];

/// Of so many turns one calls off what is under way.
const ABORT_ONE_OF: u64 = 5;

/// In so many of a hundred turns the partitions are to be doubled, as long as they may be.
const SPLIT_PERCENT: u64 = 25;

pub(super) async fn hand(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    // Of its own, so that a run without splits is the run that it was.
    let (random, splitting) = (Random::of(seed, "members"), Random::of(seed, "splits"));
    let mut splits_left = faults.splits_max;
    if !faults.reshapes {
        return;
    }
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let place = || random.below(world.nodes() as u64) as usize;
        let weight = || WEIGHTS.get(random.below(4) as usize).copied().unwrap_or(1);
        let (through, changes) = (place(), random.below(ABORT_ONE_OF + 1));
        if splits_left > 0 && splitting.percent(SPLIT_PERCENT) {
            match world.reshape(through, Asked::Split).await {
                Ok(epoch) => {
                    splits_left -= 1;
                    world.note(format!("twice the partitions in layout {epoch}"));
                }
                Err(why) => world.note(format!("not split: {why}")),
            }
            continue;
        }
        if changes == 0 {
            match world.reshape(through, Asked::CallOff).await {
                Ok(epoch) => world.note(format!("called off in layout {epoch}")),
                Err(why) => world.note(format!("not called off: {why}")),
            }
            continue;
        }
        let count = if changes == 1 { 2 } else { 1 };
        let weights: Vec<(usize, u32)> = (0..count).map(|_| (place(), weight())).collect();
        match world.reshape(through, Asked::Weights(&weights)).await {
            Ok(epoch) => world.note(format!("nodes have weights {weights:?} in layout {epoch}")),
            Err(why) => world.note(format!("weights {weights:?} of nodes: {why}")),
        }
    }
}
