//! Three zones, far apart: levels that wait for one zone or for each, a zone that is lost, and
//! members that change zones.

use std::collections::BTreeMap;

use kv_ring::Zone;

use super::*;
use crate::node::{ChangeError, Reshape};

/// Nodes stand in zones in turn.
const ZONES: usize = 3;
const NODES: usize = 2 * ZONES;
/// One way.
const APART_US: u64 = 80_000;

fn at(level: LevelSetting) -> Levels {
    Levels { read: Some(level), write: Some(level), ..Levels::default() }
}

impl World {
    async fn in_zones(count: usize, zones: usize) -> Self {
        let antientropy = AntiEntropyConfig::default();
        let world = Self::zoned(count, zones, Rmw::Refuse, (true, antientropy), 180_000).await;
        world.apart();
        world
    }

    fn apart(&self) {
        let near = LinkFaults { delay_us_min: 100, delay_us_max: 900, ..LinkFaults::default() };
        let far = LinkFaults { delay_us_min: APART_US, delay_us_max: APART_US + 900, ..near };
        for one in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                let faults = if one % self.zones == other % self.zones { near } else { far };
                self.network.set_link(&format!("n{one}"), &format!("n{other}"), faults);
            }
        }
    }

    /// Cuts one zone off from all others.
    fn lose(&self, zone: usize) {
        for one in (0..self.nodes.len()).filter(|place| place % self.zones == zone) {
            for other in (0..self.nodes.len()).filter(|place| place % self.zones != zone) {
                self.network.set_cut(&format!("n{one}"), &format!("n{other}"), true);
            }
        }
    }

    async fn set_at(
        &self,
        place: usize,
        key: &str,
        value: &str,
        level: LevelSetting,
    ) -> Result<(), RequestError> {
        let (key, value) = (KeyRef::place(0, key.as_bytes()), value.as_bytes());
        let item = SetItem { key, value, expiry: ExpiryRule::Never };
        let coordinator = self.node(place).coordinator().expect("a layout");
        let (mut ends, _) = coordinator.set_batch(&[item], at(level)).await;
        ends.pop().expect("one end")
    }

    async fn get_at(
        &self,
        place: usize,
        key: &str,
        level: LevelSetting,
    ) -> Result<Option<String>, RequestError> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let mut shown = Ok(None);
        let mut show = |_: usize, value: Result<Option<&[u8]>, RequestError>| {
            shown =
                value.map(|value| value.map(|value| String::from_utf8_lossy(value).into_owned()));
        };
        coordinator.get_batch(&[KeyRef::place(0, key.as_bytes())], at(level), &mut show).await;
        shown
    }

    /// Writes and reads of every node at `local-quorum`: how long each took, in microseconds.
    async fn work(&self, round: &str, written: &mut BTreeMap<String, String>) -> Vec<u64> {
        let mut took = Vec::new();
        for n in 0..40 {
            for place in 0..self.nodes.len() {
                let (key, value) = (format!("{round}/{place}/{n}"), format!("{n} of {place}"));
                let level = LevelSetting::LocalQuorum;
                let began = self.clock.steady_us();
                self.set_at(place, &key, &value, level).await.expect("its zone is whole");
                let between = self.clock.steady_us();
                let read = self.get_at(place, &key, level).await;
                assert_eq!(read.as_ref(), Ok(&Some(value.clone())), "{key} in its own zone");
                took.extend([between - began, self.clock.steady_us() - between]);
                written.insert(key, value);
            }
        }
        took
    }
}

/// The 99th percentile.
fn p99(mut took: Vec<u64>) -> u64 {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn a_local_quorum_is_as_fast_as_its_zone_and_loses_nothing_when_zones_are_cut() {
    let world = World::in_zones(NODES, ZONES).await;
    let mut written = BTreeMap::new();
    let quiet = p99(world.work("quiet", &mut written).await);
    assert!(quiet < 5_000, "p99 is {quiet} us with zones {APART_US} us apart");
    for zone in 0..ZONES {
        world.lose(zone);
        let cut = p99(world.work(&format!("cut {zone}"), &mut written).await);
        assert!(cut < 5_000, "p99 is {cut} us while zone {zone} is cut off");
        for n in 0..20 {
            // The others still have R = W = 2 of N = 3.
            let (place, key) = ((zone + 1) % ZONES, format!("quorum {zone}/{n}"));
            world.set_at(place, &key, "kept", LevelSetting::Quorum).await.expect("two zones");
            written.insert(key, "kept".into());
        }
        world.network.heal();
        world.apart();
        let whole = |world: &World| {
            world.nodes.iter().flatten().all(|node| node.view().now().down().is_empty())
        };
        world.until("the zone is back", whole).await;
    }
    for place in 0..NODES {
        for (key, value) in &written {
            let read = world.get_at(place, key, LevelSetting::Quorum).await;
            assert_eq!(read.as_ref(), Ok(&Some(value.clone())), "{key} at n{place}");
        }
    }
    for place in 0..NODES {
        for (key, value) in &written {
            let read = world.get_at(place, key, LevelSetting::LocalQuorum).await;
            assert_eq!(read.as_ref(), Ok(&Some(value.clone())), "{key} in n{place}'s zone");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_each_quorum_is_read_in_every_zone_at_once() {
    let world = World::in_zones(NODES, ZONES).await;
    for n in 0..20 {
        let key = format!("key{n}");
        world.set_at(n % NODES, &key, "there", LevelSetting::EachQuorum).await.expect("all up");
        for place in 0..NODES {
            let read = world.get_at(place, &key, LevelSetting::LocalQuorum).await;
            assert_eq!(read, Ok(Some("there".into())), "{key} at n{place}");
        }
    }
    world.lose(2);
    world
        .until("the zone is known to be down", |world| {
            let down = |place: usize| world.node(place).view().now().down().len();
            (0..NODES).all(|place| down(place) == if place % ZONES == 2 { 4 } else { 2 })
        })
        .await;
    let refused = world.set_at(0, "key0", "nowhere", LevelSetting::EachQuorum).await;
    assert!(matches!(refused, Err(RequestError::NoReplicas { .. })), "{refused:?}");
    let read = world.get_at(0, "key0", LevelSetting::EachQuorum).await;
    assert!(matches!(read, Err(RequestError::Unavailable { .. })), "{read:?}");
    let read = world.get_at(2, "key0", LevelSetting::LocalQuorum).await;
    assert_eq!(read, Ok(Some("there".into())), "what was refused was not written");
}

#[tokio::test(start_paused = true)]
async fn a_zone_without_a_copy_says_so() {
    let world = World::in_zones(4, 4).await;
    let (mut served, mut refused) = (0, 0);
    for n in 0..40 {
        let key = format!("key{n}");
        let set = world.set_at(1, &key, "v", LevelSetting::LocalQuorum).await;
        let read = world.get_at(1, &key, LevelSetting::LocalQuorum).await;
        match set {
            Ok(()) => {
                assert_eq!(read, Ok(Some("v".into())), "{key}");
                served += 1;
            }
            Err(RequestError::Level(why)) => {
                assert!(why.contains("no copy is in that zone"), "{why}");
                assert!(matches!(read, Err(RequestError::Level(_))), "{read:?}");
                refused += 1;
            }
            Err(other) => panic!("{key}: {other}"),
        }
    }
    assert!(served > 20 && refused > 2, "three of four keys are in a zone: {served}, {refused}");
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_that_one_replica_is_enough_for_is_read_from_all_of_them() {
    let world = World::of(5, Rmw::Refuse).await;
    let served = |place: usize| world.node(place).inner.figures.replica_reads.value();
    let holds = |place: usize| {
        let coordinator = world.node(place).coordinator().expect("a layout");
        let key = KeyRef::place(0, b"hot");
        coordinator.scope().is_ok_and(|scope| scope.holds(scope.partition(key)))
    };
    world.set(0, "hot", "v").await.expect("all are up");
    let owners: Vec<usize> = (0..5).filter(|place| holds(*place)).collect();
    let other = (0..5).find(|place| !holds(*place)).expect("three of five hold it");
    let read = async |times: usize| {
        let before: Vec<u64> = owners.iter().map(|place| served(*place)).collect();
        for _ in 0..times {
            let read = world.get_at(other, "hot", LevelSetting::One).await;
            assert_eq!(read, Ok(Some("v".into())));
        }
        let since = owners.iter().zip(before).map(|(place, before)| served(*place) - before);
        since.collect::<Vec<u64>>()
    };
    let calm = read(1_000).await;
    assert_eq!(calm.iter().filter(|reads| **reads > 900).count(), 1, "from one: {calm:?}");
    let coordinator = world.node(other).coordinator().expect("a layout");
    coordinator.load().roll(1_000_000);
    let hot = read(300).await;
    assert!(hot.iter().all(|reads| *reads >= 90), "in turn: {hot:?}");
}

fn stands_in(node: kv_client::NodeId, zone: &str) -> Reshape {
    Reshape { zones: vec![(node, zone.to_owned())], ..Reshape::default() }
}

impl World {
    /// Partitions whose copies all stand in different zones.
    fn apart_everywhere(&self) -> usize {
        let view = self.node(0).view().now();
        let newest = Arc::clone(view.layouts.as_ref().expect("a layout").newest());
        let apart = |partition: &kv_ring::Partition| {
            let zone = |node: &kv_client::NodeId| newest.spec(*node).map(|spec| spec.zone);
            let owners = newest.owners(*partition).iter();
            owners.map(zone).collect::<std::collections::BTreeSet<Option<Zone>>>().len() == 3
        };
        newest.partitions().iter().filter(apart).count()
    }
}

#[tokio::test(start_paused = true)]
async fn members_change_zones_and_copies_end_in_different_ones() {
    let world = World::of(5, Rmw::Refuse).await;
    for n in 0..200 {
        world.set(n % 5, &format!("key{n}"), "value").await.expect("all are up");
    }
    assert_eq!(world.apart_everywhere(), 0, "there is one zone");
    let mut epoch = 1;
    for (place, zone) in [(0, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "c")] {
        let change = stands_in(world.id(place), zone);
        let whole = world.node(1).plan(&change).await.expect("it can be made");
        let mut left = whole.steps.len();
        assert!(left > 0, "no copy need move, and it is another layout still");
        while left > 0 {
            epoch += 1;
            assert_eq!(world.node(1).reshape(change.clone()).await, Ok(epoch));
            world.until("the layout before retires", |world| world.stable_at(epoch)).await;
            left = world.node(1).plan(&change).await.expect("it can be made").steps.len();
        }
        assert_eq!(whole.apart.1, world.apart_everywhere(), "as the plan said, {zone}");
        let zones = &world.node(1).plan(&change).await.expect("it is so").zones;
        for share in zones {
            assert_eq!((share.nodes.0, share.copies.0), (share.nodes.1, share.copies.1));
        }
        let copies: usize = zones.iter().map(|share| share.copies.0).sum();
        assert_eq!(copies, 64 * 3, "{zones:?}");
    }
    assert_eq!(world.apart_everywhere(), 64, "each copy of a pair is in a zone of its own");
    world.until("all is filled", World::all_filled).await;
    for n in 0..200 {
        let read = world.get_at(n % 5, &format!("key{n}"), LevelSetting::All).await;
        assert_eq!(read, Ok(Some("value".into())), "key{n}");
        let read = world.get_at(n % 5, &format!("key{n}"), LevelSetting::LocalQuorum).await;
        assert_eq!(read, Ok(Some("value".into())), "key{n}");
    }
    let few = world.node(0).reshape(stands_in(world.id(4), "a")).await;
    assert_eq!(few, Err(ChangeError::FewerZones { copies: 3, now: 3, then: 2 }));
    let why = few.expect_err("it is refused").to_string();
    assert!(why.contains("3 zones hold something now, 2 would then"), "{why}");
    let name = world.node(0).plan(&stands_in(world.id(4), "a\nb")).await;
    assert!(matches!(name, Err(ChangeError::ZoneName(_))), "{name:?}");
    let stranger = kv_client::NodeId(77);
    let told = world.node(0).plan(&stands_in(stranger, "a")).await;
    assert_eq!(told, Err(ChangeError::NotAMember(stranger)));
    assert_eq!(world.node(0).view().now().epoch(), epoch, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn what_a_zone_took_alone_is_kept_as_hints_for_the_others() {
    let still = AntiEntropyConfig { runs: false, ..AntiEntropyConfig::default() };
    let world = World::zoned(NODES, ZONES, Rmw::Refuse, (true, still), 180_000).await;
    world.apart();
    let lost = 1;
    world.lose(lost);
    let down = |world: &World| {
        let view = world.node(0).view().now();
        (lost..NODES).step_by(ZONES).all(|place| !view.is_up(world.node(place).id()))
    };
    world.until("the zone is known to be lost", down).await;
    for n in 0..30 {
        let level = LevelSetting::LocalQuorum;
        world.set_at(0, &format!("key{n}"), "kept", level).await.expect("its zone is whole");
    }
    let queued: usize = [0, 3]
        .map(|place| {
            let coordinator = world.node(place).coordinator().expect("a layout");
            coordinator.parts().replica.hint_targets().len()
        })
        .iter()
        .sum();
    assert!(queued > 0, "nobody keeps anything for the lost zone");
    world.network.heal();
    world.apart();
    let drained = |world: &World| {
        [0, 3].iter().all(|place| {
            let coordinator = world.node(*place).coordinator().expect("a layout");
            coordinator.parts().replica.hint_targets().is_empty()
        })
    };
    world.until("the hints are delivered", drained).await;
    for n in 0..30 {
        let (place, key) = (lost, format!("key{n}"));
        let read = world.get_at(place, &key, LevelSetting::LocalQuorum).await;
        assert_eq!(read, Ok(Some("kept".into())), "{key} in the zone that was lost");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_decide_waits_no_longer_than_any_request() {
    let antientropy = AntiEntropyConfig::default();
    let world = World::zoned(ZONES, ZONES, Rmw::BestEffort, (true, antientropy), 180_000).await;
    world.apart();
    let add = || Mutation::Promise(Promise::Add(1));
    let Ok(MutationOut::Written { dot: (_, decider, _), .. }) = world.mutate(0, "n", add()).await
    else {
        panic!("all is well");
    };
    let decider = (0..ZONES).find(|place| world.id(*place).0 == decider).expect("a node");
    // Each takes two ways there and back: all of them in turn take twice as long as a request may.
    let began = tokio::time::Instant::now();
    let adds = (0..40).map(|_| world.mutate(decider, "n", add()));
    let told = futures::future::join_all(adds).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(5_500), "each waited for all before it: {took:?}");
    let done = told.iter().filter(|told| told.is_ok()).count();
    let busy = told.iter().filter(|told| matches!(told, Err(RequestError::Busy(_)))).count();
    assert!(done >= 8 && busy > 0, "{told:?}");
    let sum = answer(world.mutate(0, "n", Mutation::Promise(Promise::Add(0))).await);
    // One was before them; those that are not known may have been added.
    let may_be = |sum: usize| Answer::Integer(i64::try_from(1 + sum).expect("a small sum"));
    assert!((done..=told.len() - busy).map(may_be).any(|may| may == sum), "{sum:?}: {told:?}");
}
