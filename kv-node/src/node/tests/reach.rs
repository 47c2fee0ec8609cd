//! Who is asked, and what is said, when nodes can't reach each other.

use super::*;
use crate::cluster::view::Liveness;

const SIDES: [&[usize]; 2] = [&[0, 1, 2], &[3, 4]];

fn split(world: &World) {
    for one in SIDES[0] {
        for other in SIDES[1] {
            world.network.set_cut(&format!("n{one}"), &format!("n{other}"), true);
        }
    }
}

/// The places of the primaries of a key.
fn primaries(world: &World, key: &str) -> Vec<usize> {
    let view = world.node(0).view().now();
    let layouts = view.layouts.as_ref().expect("a layout");
    let partition = layouts.newest().partitions().of(KeyRef::place(0, key.as_bytes()).slot);
    let owners = layouts.newest().owners(partition);
    let place = |id| (0..5).find(|place| world.node(*place).id() == id).expect("a node");
    owners.iter().map(|id| place(*id)).collect()
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_makes_nobody_believe_that_the_others_are_dead() {
    let world = World::of(5, Rmw::Refuse).await;
    split(&world);
    let down = |of: usize, other: usize| {
        let view = world.node(of).view().now();
        view.members[&world.node(other).id()].liveness == Liveness::Down
    };
    let apart = |_: &World| {
        SIDES[0].iter().all(|one| down(3, *one) && down(4, *one) && down(*one, 3) && down(*one, 4))
    };
    world.until("each side declares the other dead", apart).await;
    world.network.heal();
    for _ in 0..2_000 {
        for one in SIDES[0] {
            for other in SIDES[0].iter().filter(|other| *other != one) {
                let up = world.node(*one).view().now().is_up(world.node(*other).id());
                assert!(up, "{one} takes {other} for dead: it was told so");
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let whole =
        |world: &World| (0..5).all(|place| world.node(place).view().now().down().is_empty());
    world.until("all are up again", whole).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_cut_a_strict_keyspace_refuses_exactly_what_has_too_few_primaries() {
    let world = World::with(5, Rmw::Refuse, false, AntiEntropyConfig::default()).await;
    split(&world);
    // Nobody asks for anything meanwhile: that the others are silent shows in gossip alone.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut refused = 0;
    for n in 0..40 {
        let key = format!("key{n}");
        for side in SIDES {
            let enough = primaries(&world, &key).iter().filter(|at| side.contains(at)).count() >= 2;
            for node in side {
                let began = tokio::time::Instant::now();
                let set = world.set(*node, &key, "cut").await;
                let get = world.get(*node, &key).await;
                assert_eq!((set.is_ok(), get.is_ok()), (enough, enough), "{set:?} {get:?}");
                assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
                if !enough {
                    refused += 1;
                    assert!(matches!(set, Err(RequestError::NoReplicas { .. })), "{set:?}");
                    assert!(matches!(get, Err(RequestError::Unavailable { .. })), "{get:?}");
                }
            }
        }
    }
    assert!(refused > 40, "the cut divides the keys: {refused}");
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_write_whose_minter_dies_is_taken_to_another() {
    for promise in [false, true] {
        let rmw = if promise { Rmw::BestEffort } else { Rmw::Refuse };
        let mut world = World::of(5, rmw).await;
        let key =
            (0..10_000).map(|n| format!("key{n}")).find(|key| !primaries(&world, key).contains(&0));
        let key = key.expect("a key of others");
        let minter = primaries(&world, &key)[0];
        let value = Bytes::from_static(b"v");
        let mutation = if promise {
            Mutation::Promise(Promise::Add(1))
        } else {
            Mutation::Set { value, expiry: ExpiryRule::Never }
        };
        // What it minted is held up on its way to the other replicas.
        for other in (1..5).filter(|other| *other != minter) {
            let slow =
                LinkFaults { delay_us_min: 400_000, delay_us_max: 400_000, ..Default::default() };
            world.network.set_link(&format!("n{minter}"), &format!("n{other}"), slow);
        }
        let node = world.nodes[minter].take().expect("it runs");
        let dies = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.crash().await;
        };
        let began = tokio::time::Instant::now();
        let (told, ()) = tokio::join!(world.mutate(0, &key, mutation), dies);
        if promise {
            let unknown = matches!(told, Err(RequestError::Indeterminate { .. }));
            assert!(unknown, "a promise is never tried twice: {told:?}");
        } else {
            assert!(told.is_ok(), "{told:?}");
            assert_eq!(world.get(0, &key).await, Ok(Some("v".into())));
        }
        let took = began.elapsed();
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_minted_by_a_node_whose_clock_is_off_whoever_sends_it() {
    let world = World::of(5, Rmw::Refuse).await;
    let key =
        (0..10_000).map(|n| format!("key{n}")).find(|key| !primaries(&world, key).contains(&0));
    let key = key.expect("a key of others");
    let first = world.node(primaries(&world, &key)[0]);
    let mut minters = Vec::new();
    for skewed in [false, true] {
        first.inner.clocks.skewed().store(skewed, std::sync::atomic::Ordering::Release);
        let value = Bytes::from_static(b"v");
        let set = Mutation::Set { value, expiry: ExpiryRule::Never };
        match world.mutate(0, &key, set).await {
            Ok(MutationOut::Written { dot: (_, node, _), .. }) => minters.push(node),
            told => panic!("{told:?}"),
        }
    }
    assert_eq!(minters[0], first.id().0, "its first primary, when all is well");
    assert_ne!(minters[1], first.id().0);
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_mints_above_the_first_and_follows_no_far_future() {
    let world = World::of(3, Rmw::Refuse).await;
    let coordinator = world.node(0).coordinator().expect("a layout");
    let now_ms = world.clock.wall_ms();
    let ahead_ms = || coordinator.parts().dots.time(now_ms).ms() - now_ms;
    coordinator.mint_above(now_ms + 30_000).await.expect("the lease is moved");
    assert_eq!(ahead_ms(), 30_000);
    let far = coordinator.mint_above(now_ms + 3_600_000).await;
    assert_eq!(far, Err(RequestError::ClockSkew), "it is not followed, and nothing is minted");
    assert_eq!(ahead_ms(), 30_000);
    world.set(0, "key", "value").await.expect("a quorum");
    assert_eq!(world.get(1, "key").await, Ok(Some("value".into())));
}

#[tokio::test(start_paused = true)]
async fn a_value_from_a_clock_far_ahead_is_overwritten_at_once() {
    let world = World::of(3, Rmw::Refuse).await;
    let now_ms = world.clock.wall_ms();
    let ahead = world.node(1).coordinator().expect("a layout");
    ahead.mint_above(now_ms + 45_000).await.expect("the lease is moved");
    world.set(1, "key", "ahead").await.expect("a quorum");
    for place in [0, 2, 1] {
        let value = format!("of {place}");
        world.set(place, "key", &value).await.expect("its lease is moved, too");
        assert_eq!(world.get(place, "key").await, Ok(Some(value)));
    }
}
