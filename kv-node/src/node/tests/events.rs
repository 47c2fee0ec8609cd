//! What happens is noted, on the nodes that see it, and told by any of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn codes(world: &World, place: usize) -> Vec<String> {
    let page = world.node(place).events().page(None, 1_000);
    page.events.into_iter().map(|event| event.code).collect()
}

fn noted(world: &World, place: usize, code: &str) -> bool {
    codes(world, place).iter().any(|noted| noted == code)
}

#[tokio::test(start_paused = true)]
async fn the_death_and_return_of_a_member_is_told_by_any_node() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let gone = world.node(4).id();
    world
        .until("each says that it serves", |world| (0..5).all(|n| noted(world, n, "node.serves")))
        .await;
    world.crash(4).await;
    world.until("it is down", |world| (0..4).all(|n| noted(world, n, "member.down"))).await;
    for n in 0..60 {
        world.set(n % 4, &format!("key{n}"), "value").await.expect("a majority is up");
    }
    let any = |world: &World, code: &str| (0..4).any(|n| noted(world, n, code));
    world.until("writes are kept for it", |world| any(world, "hint.begun")).await;
    world.restart(4, 5).await;
    world.until("it is back", |world| (0..4).all(|n| noted(world, n, "member.up"))).await;
    world.until("they are handed over", |world| any(world, "hint.drained")).await;
    let all_up = |world: &World| world.node(1).view().now().down().is_empty();
    world.until("it answers again", all_up).await;
    let coordinator = world.node(1).coordinator().expect("a layout");
    let own = world.node(1).events().page(None, 1_000);
    let all = coordinator.events_everywhere(&BTreeMap::new(), 1_000, own).await;
    let all = all.expect("a layout");
    assert!(all.silent.is_empty() && all.lost.is_empty());
    assert!(all.events.is_sorted_by_key(|event| event.unix_ms));
    let down = all.events.iter().filter(|event| event.code == "member.down");
    let about = down.filter(|event| event.about == Some(gone));
    let by: BTreeSet<_> = about.map(|event| event.on).collect();
    assert_eq!(by.len(), 4, "each that was there notes it: {by:?}");
    // Who has heard all of it is told nothing more.
    let after: BTreeMap<_, _> = all.events.iter().map(|event| (event.on, event.number)).collect();
    let me = world.node(1).id();
    let own = world.node(1).events().page(after.get(&me).copied(), 1_000);
    let more = coordinator.events_everywhere(&after, 1_000, own).await.expect("a layout");
    assert!(more.events.len() < 5, "{more:?}");
    // Gossip tells the others that there is something to ask for.
    let told = |world: &World| world.node(0).vitals().values().all(|vitals| vitals.events > 0);
    world.until("the numbers are told", told).await;
}
