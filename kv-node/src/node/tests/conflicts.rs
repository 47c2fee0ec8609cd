//! Keys with siblings are listed by any node, and their number is told around.

use super::*;

async fn put(world: &World, place: usize, key: &str, value: &'static str) {
    let put = Mutation::Put {
        value: Bytes::from_static(value.as_bytes()),
        context: None,
        expiry: ExpiryRule::Never,
    };
    answer(world.mutate(place, key, put).await);
}

async fn listed(world: &World, place: usize) -> Vec<String> {
    let coordinator = world.node(place).coordinator().expect("a layout");
    let (mut keys, mut cursor) = (Vec::new(), 0);
    loop {
        let view = coordinator.conflicts_everywhere(cursor, 3).await.expect("a layout");
        assert!(view.silent.is_empty() && view.rows.len() <= 3, "{view:?}");
        assert!(view.rows.iter().all(|row| row.siblings == 2));
        keys.extend(view.rows.iter().map(|row| String::from_utf8_lossy(&row.key).into_owned()));
        cursor = view.next;
        if cursor == 0 {
            keys.sort();
            return keys;
        }
    }
}

/// Lets what is on its way to the third replicas arrive.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn told(world: &World, place: usize) -> u64 {
    world.node(place).vitals().values().map(|vitals| vitals.conflicts).sum()
}

#[tokio::test(start_paused = true)]
async fn any_node_lists_the_keys_with_siblings_of_all() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let mut wanted: Vec<String> = (0..20).map(|n| format!("key{n}")).collect();
    for key in &wanted {
        put(&world, 0, key, "one").await;
        put(&world, 1, key, "other").await;
        world.set(2, &format!("{key} alone"), "value").await.expect("five nodes are up");
    }
    wanted.sort();
    settle().await;
    for place in 0..5 {
        assert_eq!(listed(&world, place).await, wanted, "node {place}");
    }
    world.until("the number is told around", |world| (0..5).all(|n| told(world, n) == 20)).await;
    // Resolved at one node, they are no conflict at any.
    for key in wanted.drain(..15) {
        world.set(3, &key, "resolved").await.expect("five nodes are up");
    }
    settle().await;
    for place in 0..5 {
        assert_eq!(listed(&world, place).await, wanted, "node {place}");
    }
    world.until("the number is told around", |world| (0..5).all(|n| told(world, n) == 5)).await;
    // A node that starts anew finds its own again.
    world.crash(4).await;
    world.restart(4, 5).await;
    let all_up = |world: &World, n: usize| {
        world.node(n).sees_all() && world.node(n).view().now().down().is_empty()
    };
    world.until("it came back", |world| (0..5).all(|n| all_up(world, n))).await;
    let complete = |world: &World| {
        world.node(4).coordinator().is_some_and(|coordinator| coordinator.conflicts_are_all())
    };
    world.until("its index is whole", complete).await;
    assert_eq!(listed(&world, 4).await, wanted);
}
