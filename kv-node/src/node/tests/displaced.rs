//! What a node keeps of partitions that a layout takes from it: nothing that speaks for them, and
//! no hint that somebody relies on.

use kv_quorum::{HybridTime, Mark};
use kv_ring::Partition;

use super::*;
use crate::node::Reshape;

const NODES: usize = 5;

impl World {
    fn partition(&self, key: &str) -> Partition {
        let view = self.node(0).view().now();
        let layouts = view.layouts.as_ref().expect("a layout");
        layouts.newest().partitions().of(KeyRef::place(0, key.as_bytes()).slot)
    }

    /// The primaries of a key and then its fallbacks, by place.
    fn preferred(&self, key: &str) -> (Vec<usize>, Vec<usize>) {
        let view = self.node(0).view().now();
        let layouts = view.layouts.as_ref().expect("a layout");
        let preference = layouts.newest().preference(self.partition(key));
        let place = |id| (0..self.nodes.len()).find(|place| self.node(*place).id() == id);
        let places = |ids: Vec<_>| ids.into_iter().filter_map(place).collect();
        (places(preference.primaries().to_vec()), places(preference.fallbacks().collect()))
    }

    /// A sixth node joins; waits until that is over, unless it is not to end.
    async fn one_more_joins(&mut self, ends: bool) -> usize {
        let new = self.add(NODES);
        let new = new.await;
        let id = self.node(new).id();
        self.until("it is heard of", |world| world.node(0).view().now().is_up(id)).await;
        let joins = Reshape { joins: vec![id], ..Reshape::default() };
        self.node(0).reshape(joins).await.expect("a majority is up");
        if ends {
            self.until("the change is over", |world| {
                world.nodes.iter().flatten().all(|node| {
                    let view = node.view().now();
                    view.epoch() == 2
                        && view.layouts.as_ref().is_some_and(|layouts| !layouts.in_transition())
                })
            })
            .await;
        }
        new
    }

    /// Cuts a node off from some others, and waits until it counts them as down.
    async fn cut_off(&self, place: usize, others: &[usize]) {
        for other in others {
            self.network.set_cut(&format!("n{place}"), &format!("n{other}"), true);
        }
        self.until("they count as down", |world| {
            let view = world.node(place).view().now();
            others.iter().all(|other| view.down().contains(&world.node(*other).id()))
        })
        .await;
    }

    async fn put(&self, place: usize, key: &str, value: &'static str) {
        let put = Mutation::Put {
            value: Bytes::from_static(value.as_bytes()),
            context: None,
            expiry: ExpiryRule::Never,
        };
        let told = self.mutate(place, key, put).await;
        assert!(matches!(told, Ok(MutationOut::Written { .. })), "{key} at n{place}: {told:?}");
    }

    async fn values(&self, place: usize, key: &str) -> Vec<Bytes> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let key = KeyRef::place(0, key.as_bytes());
        let (_, values) = coordinator.get_siblings(key, Levels::default()).await.expect("a quorum");
        let mut values: Vec<Bytes> = values.into_iter().filter_map(|value| value.value).collect();
        values.sort();
        values
    }

    /// Keys whose first fallback held them before the sixth node came, with who that is.
    fn displaced(&self, before: &[(String, Vec<usize>)]) -> Vec<(String, usize)> {
        let found = before.iter().filter_map(|(key, held)| {
            let (primaries, fallbacks) = self.preferred(key);
            let first = fallbacks.into_iter().find(|place| held.contains(place))?;
            (!primaries.contains(&first)).then(|| (key.clone(), first))
        });
        found.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn who_held_a_partition_before_does_not_answer_for_it_as_a_fallback() {
    let antientropy =
        AntiEntropyConfig { rest_ms: 250, settle_ms: 20, ..AntiEntropyConfig::default() };
    let mut world = World::collecting(NODES, Rmw::Refuse, (true, antientropy), 3_000).await;
    let keys: Vec<String> = (0..120).map(|n| format!("key{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        world.set(n % NODES, key, "value").await.expect("all are up");
    }
    let before: Vec<(String, Vec<usize>)> =
        keys.into_iter().map(|key| (key.clone(), world.preferred(&key).0)).collect();
    let mark = |world: &World, place: usize, partition: Partition| {
        let serving = world.node(place).inner.serving().expect("it serves");
        serving.replica.marks().stored(partition)
    };
    world
        .until("marks are above everything that was written", |world| {
            before.iter().all(|(key, held)| {
                held.iter().all(|place| mark(world, *place, world.partition(key)) != Mark::NONE)
            })
        })
        .await;
    world.one_more_joins(true).await;
    let displaced = world.displaced(&before);
    assert!(displaced.len() > 5, "a sixth of the copies moved: {}", displaced.len());
    world
        .until("who holds it no more has no mark", |world| {
            displaced
                .iter()
                .all(|(key, place)| mark(world, *place, world.partition(key)) == Mark::NONE)
        })
        .await;
    let (key, fallback) = displaced.first().expect("there are some").clone();
    let inner = &world.node(fallback).inner;
    let late = vec![(world.partition(&key), Mark::at(HybridTime::new(u64::MAX >> 16, 0)))];
    let serving = inner.serving().expect("it serves");
    let refused = inner.put_in_force(&serving, late).await;
    assert!(refused.is_err(), "who proved it may have been slow: {refused:?}");
    let primaries = world.preferred(&key).0;
    for place in primaries.iter().skip(1) {
        world.crash(*place).await;
    }
    world
        .until("two primaries are known to be down", |world| {
            world.node(fallback).view().now().down().len() == 2
        })
        .await;
    for place in [fallback, primaries[0]] {
        let read = world.get(place, &key).await;
        assert_eq!(read, Ok(Some("value".into())), "{key} through n{place}");
    }
    let values = world.values(primaries[0], &key).await;
    assert_eq!(values, ["value"], "no read took it away");
}

#[tokio::test(start_paused = true)]
async fn who_held_a_partition_before_mints_there_as_a_fallback_under_a_new_tenure() {
    let mut world = World::of(NODES, Rmw::Refuse).await;
    let keys: Vec<String> = (0..120).map(|n| format!("key{n}")).collect();
    // By each of its replicas one.
    for key in &keys {
        for (place, value) in world.preferred(key).0.into_iter().zip(["one", "two", "three"]) {
            world.put(place, key, value).await;
        }
    }
    let before: Vec<(String, Vec<usize>)> =
        keys.into_iter().map(|key| (key.clone(), world.preferred(&key).0)).collect();
    world.one_more_joins(true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let displaced = world.displaced(&before);
    let (key, fallback) = displaced.first().expect("a sixth of the copies moved").clone();
    let primaries = world.preferred(&key).0;
    assert_eq!(world.values(primaries[0], &key).await, ["one", "three", "two"]);
    world.cut_off(fallback, &primaries).await;
    world.put(fallback, &key, "four").await;
    world.network.heal();
    world
        .until("what was kept is handed over", |world| {
            world.nodes.iter().flatten().all(|node| {
                let serving = node.inner.serving().expect("it serves");
                node.view().now().down().is_empty() && !serving.replica.hints().may_have_some()
            })
        })
        .await;
    for place in primaries {
        let values = world.values(place, &key).await;
        assert_eq!(values, ["four", "one", "three", "two"], "concurrent, at n{place}");
    }
    let alarms = world.nodes.iter().flatten().map(|node| node.figures().amnesia_alarms.value());
    assert_eq!(alarms.sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hint_for_who_is_about_to_leave_goes_on_to_who_comes() {
    let quiet = AntiEntropyConfig { runs: false, ..AntiEntropyConfig::default() };
    let mut world = World::with(NODES, Rmw::Refuse, true, quiet).await;
    let keys: Vec<String> = (0..60).map(|n| format!("key{n}")).collect();
    let before: Vec<(String, Vec<usize>)> =
        keys.iter().map(|key| (key.clone(), world.preferred(key).0)).collect();
    let target = 4;
    for other in 0..4 {
        world.network.set_cut(&format!("n{target}"), &format!("n{other}"), true);
    }
    let id = world.node(target).id();
    let down =
        |world: &World| (0..4).all(|place| world.node(place).view().now().down().contains(&id));
    world.until("it counts as down everywhere", down).await;
    for key in &keys {
        world.set(0, key, "value").await.expect("four are up");
    }
    let hints_about = async |world: &World, key: &str| {
        let mut found = Vec::new();
        for place in (0..world.nodes.len()).filter(|place| *place != target) {
            let coordinator = world.node(place).coordinator();
            let Some(coordinator) = coordinator else { continue };
            let key = KeyRef::place(0, key.as_bytes()).to_storage();
            let hints = coordinator.hints_about_here(&key).await.expect("readable");
            found.extend(hints.into_iter().map(|(target, _)| target));
        }
        found
    };
    // The sixth reaches too few of those that it would be filled from.
    let new = world.one_more_joins(false).await;
    let newcomer = world.node(new).id();
    for other in [0, 1, 2] {
        world.network.set_cut(&format!("n{new}"), &format!("n{other}"), true);
    }
    let all_know = |world: &World| (0..4).all(|place| world.node(place).view().now().epoch() == 2);
    world.until("the new layout is known", all_know).await;
    let mut moved = None;
    for (key, held) in &before {
        let primaries = world.preferred(key).0;
        let leaves = held.contains(&target) && !primaries.contains(&target);
        if leaves && primaries.contains(&new) && hints_about(&world, key).await.contains(&id) {
            moved = Some(key.clone());
        }
    }
    let key = moved.expect("the new node takes some of its places");
    for other in 0..4 {
        world.network.set_cut(&format!("n{target}"), &format!("n{other}"), false);
    }
    for _ in 0..600 {
        if !hints_about(&world, &key).await.contains(&id) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = hints_about(&world, &key).await;
    let storage_key = KeyRef::place(0, key.as_bytes()).to_storage();
    let mut there = false;
    let mut show = |_: usize, record: Option<&[u8]>| there = record.is_some();
    if let Some(serving) = world.node(new).inner.serving() {
        serving.replica.read(&[&storage_key], &mut show).await.expect("memory");
    }
    assert!(!left.contains(&id), "its target has it: {left:?}");
    assert!(there || left.contains(&newcomer), "kept for who takes its place: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_not_done_while_it_keeps_hints() {
    let world = World::of(NODES, Rmw::Refuse).await;
    let target = 4;
    let id = world.node(target).id();
    for other in 0..4 {
        world.network.set_cut(&format!("n{target}"), &format!("n{other}"), true);
    }
    let down =
        |world: &World| (0..4).all(|place| world.node(place).view().now().down().contains(&id));
    world.until("it counts as down everywhere", down).await;
    for n in 0..60 {
        world.set(n % 4, &format!("key{n}"), "value").await.expect("four are up");
    }
    let keeps = |world: &World, place: usize| {
        let serving = world.node(place).inner.serving().expect("it serves");
        serving.replica.hints().may_have_some()
    };
    let leaver = (0..4).find(|place| keeps(&world, *place)).expect("somebody keeps hints");
    let leaves = Reshape { leaves: vec![world.node(leaver).id()], ..Reshape::default() };
    let asked = (leaver + 1) % 4;
    world.node(asked).reshape(leaves).await.expect("a majority is up");
    let finished = |world: &World, place: usize| world.node(place).inner.layouts_seen().finished;
    world
        .until("it knows that it leaves", |world| world.node(leaver).view().now().epoch() == 2)
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(keeps(&world, leaver), "its target is down");
    assert_eq!(finished(&world, leaver), 1, "its floor still speaks for what it keeps");
    world.network.heal();
    world
        .until("the change is over", |world| {
            world.nodes.iter().flatten().all(|node| {
                let view = node.view().now();
                view.layouts.as_ref().is_some_and(|layouts| {
                    layouts.newest().epoch() == 2 && !layouts.in_transition()
                })
            })
        })
        .await;
    assert!(!keeps(&world, leaver));
}
