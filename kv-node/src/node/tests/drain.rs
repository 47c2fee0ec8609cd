//! A node that is made ready to be stopped, as the others see it.

use std::time::Duration;

use kv_client::wire::DrainStage;

use super::*;
use crate::node::DrainFor;

/// Nodes that ask each other for nothing by themselves.
async fn calm(count: usize) -> World {
    let still = AntiEntropyConfig { runs: false, ..AntiEntropyConfig::default() };
    World::with(count, Rmw::Refuse, true, still).await
}

impl World {
    fn sees_drain(&self, place: usize, of: usize) -> bool {
        self.node(place).view().now().is_draining(self.node(of).id())
    }

    async fn drained(&self, place: usize) {
        let drained = |world: &Self| world.node(place).drain_view().stage == DrainStage::Drained;
        self.until("the node is drained", drained).await;
    }

    /// Reads of many keys through nodes 0 and 1.
    async fn read_all(&self) {
        for n in 0..100 {
            for place in 0..2 {
                let read = self.get(place, &format!("key{n}")).await;
                assert_eq!(read, Ok(Some("value".into())));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_read_from_a_drained_node_only_where_they_must_and_write_to_it() {
    let world = calm(3).await;
    for n in 0..100 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("three nodes are up");
    }
    let served = || world.node(2).figures().replica_reads.value();
    let before = served();
    world.read_all().await;
    assert!(served() > before + 50, "node 2 serves a part of the reads");
    world.node(2).drain(DrainFor::Stay);
    world.until("all hear of it", |world| (0..3).all(|place| world.sees_drain(place, 2))).await;
    world.drained(2).await;
    let before = served();
    world.read_all().await;
    assert_eq!(served(), before, "two others are enough");
    let all = Levels {
        read: Some(LevelSetting::All),
        write: Some(LevelSetting::All),
        ..Levels::default()
    };
    let put =
        Mutation::Put { value: Bytes::from_static(b"v"), context: None, expiry: ExpiryRule::Never };
    let coordinator = world.node(0).coordinator().expect("a layout");
    let told = coordinator.mutate(KeyRef::place(0, b"k"), put, all).await;
    assert!(told.is_ok(), "its copy counts: {told:?}");
    let before = served();
    let siblings = coordinator.get_siblings(KeyRef::place(0, b"k"), all).await;
    assert_eq!(siblings.map(|(_, values)| values.len()), Ok(1));
    assert!(served() > before, "where all are asked it is");
    let events = world.node(2).events().page(None, 10).events;
    let codes: Vec<&str> = events.iter().map(|event| event.code.as_str()).collect();
    assert!(codes.contains(&"drain.begun") && codes.contains(&"drain.done"), "{codes:?}");

    world.node(2).undo_drain().expect("it goes on");
    world.until("all hear of it", |world| (0..3).all(|place| !world.sees_drain(place, 2))).await;
    let before = served();
    world.read_all().await;
    assert!(served() > before + 50, "it serves its part again");
}

#[tokio::test(start_paused = true)]
async fn writes_are_forwarded_to_others_than_a_drained_node() {
    let world = calm(5).await;
    world.node(4).drain(DrainFor::Stay);
    world.drained(4).await;
    let (leaves, mut minted) = (world.node(4).id(), 0);
    for n in 0..80 {
        let (place, key) = (n % 4, format!("key{n}"));
        world.set(place, &key, "value").await.expect("five nodes are up");
        let coordinator = world.node(place).coordinator().expect("a layout");
        let at = KeyRef::place(0, key.as_bytes());
        let (_, values) =
            coordinator.get_siblings(at, Levels::default()).await.expect("three are up");
        assert_ne!(values[0].dot.1, leaves.0, "{key} was minted by who is about to go");
        minted += usize::from(values[0].dot.1 != world.node(place).id().0);
    }
    assert!(minted > 10, "some were forwarded: {minted}");
}

#[tokio::test(start_paused = true)]
async fn hints_for_those_who_are_up_are_waited_for_and_others_are_told() {
    let mut world = calm(3).await;
    world.crash(2).await;
    for n in 0..40 {
        world.set(0, &format!("key{n}"), "value").await.expect("two of three");
    }
    world.until("hints are kept", |world| world.node(0).drain_view().hints_kept > 0).await;
    world.node(0).drain(DrainFor::Stay);
    world.drained(0).await;
    let left = world.node(0).drain_view();
    assert!(left.hints == 0 && left.hints_kept > 0, "nobody takes them: {left:?}");
    world.node(0).undo_drain().expect("it goes on");
    world.restart(2, 3).await;
    let id = world.node(2).id();
    world.until("it is seen", |world| world.node(0).view().now().is_up(id)).await;
    world.node(0).drain(DrainFor::Stay);
    world.drained(0).await;
    let left = world.node(0).drain_view();
    assert_eq!((left.hints, left.hints_kept), (0, 0), "handed over");
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_says_goodbye_before_it_closes() {
    let mut world = calm(3).await;
    world.node(2).drain(DrainFor::Stop);
    assert!(world.node(2).undo_drain().is_err(), "it was told to stop");
    world.node(2).drained_to_end().await;
    let id = world.node(2).id();
    world.nodes[2].take().expect("it runs").stop().await.expect("it closes");
    for place in 0..2 {
        let view = world.node(place).view().now();
        let member = view.members.get(&id).expect("it is remembered");
        assert_eq!(member.liveness, crate::cluster::view::Liveness::Left, "at n{place}");
        world.set(place, "k", "v").await.expect("two of three, and nobody is waited for");
    }
    world.restart(2, 3).await;
    world.until("it is back", |world| (0..3).all(|place| world.node(place).sees_all())).await;
    assert!(!(0..3).any(|place| world.sees_drain(place, 2)), "a start takes it back");
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_no_longer_than_it_may() {
    let world = calm(3).await;
    let _busy = world.node(1).at_work();
    let began = tokio::time::Instant::now();
    world.node(1).drain(DrainFor::Stay);
    world.drained(1).await;
    let took = began.elapsed();
    let bound = Duration::from_secs(10);
    assert!(took >= bound && took < bound + Duration::from_secs(1), "{took:?}");
    assert_eq!(world.node(1).drain_view().requests, 1);
}
