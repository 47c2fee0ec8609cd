//! Faults: what is done to the world while clients work, as one struct of options.
//!
//! Two hands work side by side. One cuts the power of one node or of all, on a drawn change of a
//! file, and starts the nodes again after a while. The other cuts links (both ways or one),
//! slows them, loses messages.

use std::time::Duration;

use kv_node::plug::inproc::LinkFaults;

use super::random::Random;
use super::world::World;

/// Which faults there are, each with its chance in a hundred whenever its hand acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The power of one node is cut.
    pub power_one_percent: u64,
    /// The power of all nodes is cut at once.
    pub power_all_percent: u64,
    /// Links are cut.
    pub cut_percent: u64,
    /// Links are slow.
    pub delay_percent: u64,
    /// Links lose messages.
    pub loss_percent: u64,
    /// A hand rests so long between two faults, at most, in milliseconds.
    pub rest_ms_max: u64,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self {
            power_one_percent: 0,
            power_all_percent: 0,
            cut_percent: 0,
            delay_percent: 0,
            loss_percent: 0,
            rest_ms_max: 1_000,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self {
            power_one_percent: 45,
            power_all_percent: 25,
            cut_percent: 40,
            delay_percent: 25,
            loss_percent: 25,
            rest_ms_max: 1_500,
        }
    }
}

/// A cut falls on one of so many changes of files after it was drawn.
const CUT_CHANGES_MAX: u64 = 60;
/// It falls anyway after so long.
const CUT_MS_MAX: u64 = 300;
/// A node is down so long, at most.
const DOWN_MS_MAX: u64 = 3_000;

/// Nodes that fell together start so long after each other, at most.
const STAGGER_MS_MAX: u64 = 300;

/// The ordinary network: some hundred microseconds, drawn for each message.
#[must_use]
pub fn calm() -> LinkFaults {
    LinkFaults { delay_us_min: 100, delay_us_max: 900, ..LinkFaults::default() }
}

/// Cuts power until `until_us`; every node that it ended runs again on return.
///
/// # Errors
/// A node could not start on what the cut left of its disk.
pub async fn cut_power(
    world: &World,
    seed: u64,
    faults: Faults,
    until_us: u64,
) -> Result<(), String> {
    let random = Random::of(seed, "power");
    loop {
        rest(&random, faults.rest_ms_max).await;
        if world.now_us() >= until_us {
            return Ok(());
        }
        let drawn = random.below(100);
        let victims: Vec<usize> = if drawn < faults.power_one_percent {
            vec![random.below(world.nodes() as u64) as usize]
        } else if drawn < faults.power_one_percent + faults.power_all_percent {
            (0..world.nodes()).collect()
        } else {
            continue;
        };
        power_cut(world, &victims, random.below(CUT_CHANGES_MAX), random.next()).await;
        rest(&random, DOWN_MS_MAX).await;
        for victim in victims {
            world.start(victim).await?;
            rest(&random, STAGGER_MS_MAX).await;
        }
    }
}

/// Cuts the power of these nodes after so many changes of files, or when a while has passed.
pub async fn power_cut(world: &World, victims: &[usize], after: u64, seed: u64) {
    world.power.arm(victims, after, seed);
    tokio::select! {
        biased;
        () = world.power.fallen() => {}
        () = tokio::time::sleep(Duration::from_millis(CUT_MS_MAX)) => world.power.trip(),
    }
    for victim in victims {
        world.fall(*victim).await;
    }
}

/// Disturbs the network until `until_us`, and leaves it calm.
pub async fn disturb(world: &World, seed: u64, faults: Faults, until_us: u64) {
    let random = Random::of(seed, "network");
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let drawn = random.below(100);
        if drawn < faults.cut_percent {
            cut_links(world, &random);
        } else if drawn < faults.cut_percent + faults.delay_percent {
            let delay_us_max = random.between(2_000, 400_000);
            world.network.set_all(LinkFaults { delay_us_max, ..calm() });
        } else if drawn < faults.cut_percent + faults.delay_percent + faults.loss_percent {
            let loss_per_million = random.between(1_000, 100_000) as u32;
            world.network.set_all(LinkFaults { loss_per_million, ..calm() });
        }
        rest(&random, 2 * faults.rest_ms_max).await;
        world.network.heal();
        world.network.set_all(calm());
    }
}

/// One node from all others, or one link, in one direction or both.
fn cut_links(world: &World, random: &Random) {
    let nodes = world.nodes() as u64;
    let victim = random.below(nodes) as usize;
    let other = (victim + 1 + random.below(nodes - 1) as usize) % world.nodes();
    let (isolate, one_way) = (random.percent(40), random.percent(40));
    let cut = LinkFaults { cut: true, ..calm() };
    for far in (0..world.nodes()).filter(|far| *far != victim) {
        if !isolate && far != other {
            continue;
        }
        let (here, there) = (World::address(victim), World::address(far));
        world.network.set_link(&here, &there, cut);
        if !one_way {
            world.network.set_link(&there, &here, cut);
        }
    }
}

async fn rest(random: &Random, ms_max: u64) {
    tokio::time::sleep(Duration::from_millis(random.between(1, ms_max.max(1)))).await;
}
