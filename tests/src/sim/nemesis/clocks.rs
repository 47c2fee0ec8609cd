//! The hand on the clocks: wall clocks jump, steady ones never do.

use super::{Faults, rest};
use crate::sim::random::Random;
use crate::sim::world::World;

/// The furthest jump, in milliseconds: an hour, as of a clock that was set to another zone.
const BEYOND_MS: u64 = 3_600_000;

pub(super) async fn hand(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    let random = Random::of(seed, "clock jumps");
    if faults.clocks.jump_ms_max == 0 {
        return;
    }
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let place = random.below(world.nodes() as u64) as usize;
        let beyond = random.percent(faults.clocks.beyond_percent);
        let far_ms = if beyond { BEYOND_MS } else { faults.clocks.jump_ms_max };
        let skew_ms = random.below(2 * far_ms + 1).cast_signed() - far_ms.cast_signed();
        world.note(format!("clock of node {place} at {skew_ms} ms"));
        world.skew(place, skew_ms);
    }
}
