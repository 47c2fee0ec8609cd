//! The hand on power and disks. What it ends it starts again, on what is left of the disk.

use std::time::Duration;

use super::destroy::{Aside, Destruction};
use super::{Faults, choose, rest};
use crate::sim::disk::{Fails, Trouble};
use crate::sim::random::Random;
use crate::sim::world::World;

/// A cut falls on one of so many changes of files after it was drawn.
pub(super) const CUT_CHANGES_MAX: u64 = 60;
/// It falls anyway after so long.
const CUT_MS_MAX: u64 = 300;
/// Nodes that fell together start so long after each other, at most.
const STAGGER_MS_MAX: u64 = 300;

#[derive(Clone, Copy, Debug)]
enum Stroke {
    CutOne,
    CutAll,
    Kill,
    Error,
    Full,
}

/// Strikes until `until_us`; every node that it ended runs again on return, unless its disk is
/// still in trouble.
pub(super) async fn hand(
    world: &World,
    seed: u64,
    faults: &Faults,
    until_us: u64,
    aside: &Aside,
) -> Result<(), String> {
    let random = Random::of(seed, "power");
    let power = &faults.power;
    let weights = [
        (Stroke::CutOne, power.cut_one),
        (Stroke::CutAll, power.cut_all),
        (Stroke::Kill, power.kill),
        (Stroke::Error, power.error),
        (Stroke::Full, power.full),
    ];
    let of = |how| Destruction::of(how, world.now_us(), until_us);
    let mut destruction = power.destroy.map(of);
    loop {
        rest(&random, faults.rest_ms_max).await;
        if world.now_us() >= until_us {
            return Ok(());
        }
        if let Some(due) = destruction.take_if(|destruction| destruction.is_due(world)) {
            due.strike(world, &random, aside, power.down_ms_max).await?;
            continue;
        }
        // Where to end is to forget, one node at a time may: the others must have filled it.
        if world.forgets_by_ending() && !world.is_repaired() {
            continue;
        }
        let victim = random.below(world.nodes() as u64) as usize;
        match choose(&random, &weights) {
            None if destruction.is_none() => return Ok(()),
            None => {}
            Some(Stroke::CutOne) => cut(world, &random, vec![victim], power.down_ms_max).await?,
            Some(Stroke::CutAll) => {
                cut(world, &random, (0..world.nodes()).collect(), power.down_ms_max).await?;
            }
            Some(Stroke::Kill) => {
                world.note(format!("kill node {victim}"));
                world.kill(victim).await;
                restart(world, &random, &[victim], power.down_ms_max).await?;
            }
            Some(Stroke::Error) => error(world, &random, victim, power.down_ms_max).await?,
            Some(Stroke::Full) => {
                world.note(format!("disk of node {victim} is full"));
                world.power.fill(victim, true);
                rest(&random, 2 * power.down_ms_max).await;
                world.note(format!("disk of node {victim} has room"));
                world.power.fill(victim, false);
                if world.poisoned().contains(&victim) {
                    world.kill(victim).await;
                    restart(world, &random, &[victim], power.down_ms_max).await?;
                }
            }
        }
    }
}

async fn cut(
    world: &World,
    random: &Random,
    victims: Vec<usize>,
    down_ms_max: u64,
) -> Result<(), String> {
    world.note(format!("power cut of {victims:?}"));
    power_cut(world, &victims, random.below(CUT_CHANGES_MAX), random.next()).await;
    restart(world, random, &victims, down_ms_max).await
}

pub(super) async fn restart(
    world: &World,
    random: &Random,
    victims: &[usize],
    down_ms_max: u64,
) -> Result<(), String> {
    rest(random, down_ms_max).await;
    for victim in victims {
        world.note(format!("start node {victim}"));
        world.start(*victim).await?;
        rest(random, STAGGER_MS_MAX).await;
    }
    Ok(())
}

/// A disk's trouble, and after a while the end of its node; on a disk that is well again it starts.
async fn error(
    world: &World,
    random: &Random,
    victim: usize,
    down_ms_max: u64,
) -> Result<(), String> {
    let fails = match random.below(3) {
        0 => Fails::Sync,
        1 => Fails::Write,
        _ => Fails::Read,
    };
    let trouble = Trouble { fails, after: random.below(30), times: random.between(1, 20) };
    world.note(format!("disk of node {victim}: {trouble:?}"));
    world.power.trouble(victim, Some(trouble));
    rest(random, down_ms_max).await;
    world.power.trouble(victim, None);
    if random.percent(50) {
        world.note(format!("kill node {victim}"));
        world.kill(victim).await;
        return restart(world, random, &[victim], down_ms_max).await;
    }
    cut(world, random, vec![victim], down_ms_max).await
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
