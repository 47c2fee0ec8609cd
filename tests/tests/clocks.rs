//! Wall clocks that are an hour off for a moment, or for good, in the simulated world: what can't
//! be taken back must not be done by them.
//!
//! The swarm turns clocks too, but what it expects of values that end is as loose as the clocks of
//! the run were; here the clocks are right again before anything is judged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kv_node::keys::KeyRef;
use kv_tests::sim::disk::{Fails, Trouble};
use kv_tests::sim::replicas;
use kv_tests::sim::run::in_paused_time;
use kv_tests::sim::world::{World, WorldConfig};

const HOUR_MS: i64 = 3_600_000;
/// Shorter than anybody needs to say that a clock is wrong, longer than a collector's round.
const MOMENT_MS: u64 = 2_000;

async fn rest(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn shown(world: &World, node: usize, key: &str) -> Result<Option<Bytes>, String> {
    let door = world.door(node).ok_or("it does not serve")?;
    door.coordinator.get(key.as_bytes()).await.map_err(|error| error.to_string())
}

/// A node's clock is an hour ahead for a moment.
async fn jump(world: &World, node: usize) {
    world.skew(node, HOUR_MS);
    rest(MOMENT_MS).await;
    world.skew(node, 0);
}

#[test]
fn values_with_half_an_hour_left_outlive_clocks_that_jump_for_a_moment() {
    in_paused_time(async {
        let world = World::begin(1, WorldConfig::strict(3)).await?;
        let end = world.true_ms() + 30 * 60 * 1_000;
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        for (turn, key) in keys.iter().enumerate() {
            let door = world.door(turn % 3).ok_or("it serves")?;
            let set = door.coordinator.set_until(key.as_bytes(), b"value", end).await;
            set.map_err(|error| error.to_string())?;
        }
        rest(5_000).await;
        for node in 0..3 {
            jump(&world, node).await;
            rest(10_000).await;
        }
        world.heal().await?;
        assert_eq!(replicas::converge(&world, 120_000).await?, []);
        for key in &keys {
            for node in 0..3 {
                assert!(shown(&world, node, key).await?.is_some(), "{key} through node {node}");
            }
        }
        Ok(())
    })
    .expect("it runs");
}

/// Whether a node whose clock is an hour ahead knows it after a minute.
async fn is_noticed(replaced: bool) -> Result<bool, String> {
    let world = World::begin(1, WorldConfig::strict(3)).await?;
    if replaced {
        let old = world.id(2).ok_or("it runs")?;
        world.kill(2).await;
        world.power.lose(2);
        world.start(2).await?;
        world.replace(2, old).await?;
        world.heal().await?;
        rest(30_000).await;
    }
    world.skew(0, HOUR_MS);
    rest(60_000).await;
    let door = world.door(0).ok_or("it serves")?;
    Ok(door.coordinator.parts().skewed.load(Ordering::Acquire))
}

#[test]
fn a_clock_that_is_off_is_noticed_also_after_a_node_was_replaced() {
    for replaced in [false, true] {
        let noticed = in_paused_time(is_noticed(replaced)).expect("it runs");
        assert!(noticed, "replaced: {replaced}");
    }
}

/// Where a key belongs: its three replicas and the two that stand in for them, in order.
fn places(world: &World, key: &str) -> Option<[usize; 5]> {
    let view = world.door(0)?.coordinator.parts().view.now();
    let newest = view.layouts.as_ref()?.newest();
    let slot = KeyRef::place(0, key.as_bytes()).slot;
    let preference = newest.preference(newest.partitions().of(slot));
    let place_of = |id| (0..5).find(|at| world.id(*at) == Some(id));
    let all: Vec<usize> = preference.iter().filter_map(place_of).collect();
    all.try_into().ok()
}

/// Two stand in for all replicas, one of which told a floor by a wrong clock if it `jumps`; the
/// other loses its disk, and the first can't deliver for longer than marks wait. What is shown in
/// the end of what was acknowledged.
async fn kept_by_one_that_jumped(jumps: bool) -> Result<Vec<Option<Bytes>>, String> {
    let config = WorldConfig { sloppy: true, floor_lag_ms: 180_000, ..WorldConfig::strict(5) };
    let world = World::begin(1, config).await?;
    rest(400_000).await;
    let [a, b, c, minter, keeper] = places(&world, "k0").ok_or("five places")?;
    let replicas = [a, b, c];
    let alike = |key: &String| {
        places(&world, key).is_some_and(|[.., one, other]| (one, other) == (minter, keeper))
    };
    let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).filter(alike).take(5).collect();
    if jumps {
        jump(&world, keeper).await;
        rest(MOMENT_MS).await;
    }
    let cut = |one: usize, other: usize, is: bool| {
        world.network.set_cut(&World::address(one), &World::address(other), is);
    };
    for replica in replicas {
        cut(replica, minter, true);
        cut(replica, keeper, true);
    }
    rest(5_000).await;
    let mut acknowledged = Vec::new();
    for key in &keys {
        let door = world.door(minter).ok_or("it serves")?;
        if door.coordinator.put(key.as_bytes(), Bytes::from_static(b"value"), None).await.is_ok() {
            acknowledged.push(key);
        }
    }
    let old = world.id(minter).ok_or("it runs")?;
    world.kill(minter).await;
    world.power.lose(minter);
    cut(minter, keeper, true);
    for replica in replicas {
        cut(replica, minter, false);
    }
    world.start(minter).await?;
    world.replace(minter, old).await?;
    rest(400_000).await;
    world.network.heal();
    world.heal().await?;
    rest(120_000).await;
    let mut seen = Vec::new();
    for key in acknowledged {
        for node in 0..5 {
            seen.push(shown(&world, node, key).await?);
        }
    }
    Ok(seen)
}

#[test]
fn hints_outlive_a_jump_of_their_keepers_clock() {
    for jumps in [false, true] {
        let seen = in_paused_time(kept_by_one_that_jumped(jumps)).expect("it runs");
        assert!(seen.iter().all(Option::is_some), "jumps: {jumps}: {seen:?}");
        assert!(jumps || !seen.is_empty(), "nothing was acknowledged");
    }
}

/// A FLUSHALL during which one write of the first node's disk fails, then a restart of that node:
/// what was told, and whether all is gone.
async fn flushed(after: u64) -> Result<(Result<(), String>, bool), String> {
    let world = World::begin(1, WorldConfig::strict(3)).await?;
    let door = world.door(0).ok_or("it serves")?;
    door.coordinator.set(b"k", b"value").await.map_err(|error| error.to_string())?;
    rest(3_000).await;
    world.power.trouble(0, Some(Trouble { fails: Fails::Write, after, times: 1 }));
    let told = door.coordinator.flush().await.map_err(|error| error.to_string());
    drop(door);
    world.power.trouble(0, None);
    world.kill(0).await;
    world.start(0).await?;
    world.heal().await?;
    rest(10_000).await;
    Ok((told, shown(&world, 1, "k").await?.is_none()))
}

#[test]
fn a_flush_that_may_have_happened_is_not_called_failed() {
    let (mut told_unknown, mut refused) = (0, Vec::new());
    for after in 0..8 {
        let Ok((Err(why), gone)) = in_paused_time(flushed(after)) else { continue };
        let unknown = why.starts_with("INDETERMINATE");
        told_unknown += usize::from(unknown);
        if gone && !unknown {
            refused.push(why);
        }
    }
    assert_eq!(refused, [""; 0], "all is gone");
    assert!(told_unknown > 0, "no write of a flush failed");
}
