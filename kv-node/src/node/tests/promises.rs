//! Sequences by which a promise could be broken that no fault of one node alone meets.

use super::*;

/// How far what a node minted last is ahead of the clock.
fn ahead_ms(world: &World, place: usize) -> u64 {
    let coordinator = world.node(place).coordinator().expect("a layout");
    coordinator.parts().dots.time(world.clock.wall_ms()).ms() - world.clock.wall_ms()
}

#[tokio::test(start_paused = true)]
async fn a_flush_kills_what_one_minted_ahead_who_has_left_since() {
    let mut world = World::of(4, Rmw::Refuse).await;
    let minter = world.node(3).coordinator().expect("a layout");
    minter.mint_above(world.clock.wall_ms() + 45_000).await.expect("the lease is moved");
    // So many that some are of partitions for which it mints itself.
    for n in 0..40 {
        world.set(3, &format!("key{n}"), "ahead").await.expect("a quorum");
    }
    drop(minter);
    let dead = world.id(3);
    world.crash(3).await;
    let new = world.add(4).await;
    world
        .until("the new node is known", |world| world.node(0).view().now().is_up(world.id(new)))
        .await;
    let fresh = world.id(new);
    assert_eq!(world.node(0).replace(dead, fresh).await, Ok(2));
    world.until("the old layout retires", |world| world.stable_at(2)).await;
    assert!(ahead_ms(&world, 0) < 40_000, "its own clock does not tell: {}", ahead_ms(&world, 0));
    let coordinator = world.node(0).coordinator().expect("a layout");
    coordinator.flush().await.expect("all members are up");
    for n in 0..40 {
        assert_eq!(world.get(n % 3, &format!("key{n}")).await, Ok(None), "key{n} was flushed");
    }
    world.set(1, "key3", "again").await.expect("a quorum");
    assert_eq!(world.get(2, "key3").await, Ok(Some("again".into())));
}
