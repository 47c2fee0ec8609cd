//! The partitions are doubled, under load and with mishaps: nothing moves, nothing is lost, and
//! what was deleted stays so.

use kv_client::NodeId;
use kv_quorum::Mark;
use kv_ring::PartitionCount;

use super::replace::Load;
use super::*;
use crate::cluster::decree::Change;
use crate::node::{ChangeError, Reshape};
use crate::replica::{Join, Replica};

const LAG_MS: u64 = 3_000;

fn count(partitions: u32) -> PartitionCount {
    PartitionCount::new(partitions).expect("a power of two")
}

impl World {
    fn copies(&self, place: usize) -> Arc<Replica> {
        Arc::clone(&self.node(place).inner.serving().expect("a layout").replica)
    }

    /// Whether every node that runs counts so many partitions, in its layout and in what it keeps.
    fn counts(&self, partitions: u32) -> bool {
        (0..self.nodes.len()).filter(|place| self.nodes[*place].is_some()).all(|place| {
            let view = self.node(place).view().now();
            let layouts = view.layouts.as_ref();
            layouts.is_some_and(|at| at.newest().partitions() == count(partitions))
                && self.copies(place).standings().partitions() == count(partitions)
        })
    }

    /// Whether every node has a whole tree of all that it holds.
    fn trees_are_whole(&self) -> bool {
        (0..self.nodes.len()).filter(|place| self.nodes[*place].is_some()).all(|place| {
            let (view, replica) = (self.node(place).view().now(), self.copies(place));
            let partitions = view.layouts.as_ref().map(|at| at.newest().partitions());
            partitions.is_some_and(|all| {
                let mut held = all.iter().filter(|at| view.holds(*at));
                held.all(|at| replica.trees().is_whole_since(at, 0))
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_planned_and_committed_once_and_moves_nothing() {
    let world = World::of(3, Rmw::Refuse).await;
    for n in 0..100 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("all are up");
    }
    let plan = world.node(1).plan_split().expect("a layout");
    assert_eq!((plan.epoch, plan.before, plan.after), (1, count(64), count(128)));
    assert_eq!(world.node(0).split(Some(9)).await, Err(ChangeError::Overtaken { epoch: 1 }));
    assert_eq!(world.node(0).split(Some(1)).await, Ok(2));
    assert_eq!(world.node(0).split(Some(1)).await, Ok(2), "asked twice, it is done once");
    assert_eq!(world.node(0).abort().await, Err(ChangeError::Doubled));
    world.until("the older layout retires", |world| world.stable_at(2)).await;
    assert!(world.counts(128));
    assert_eq!(world.node(2).split(Some(1)).await, Ok(2), "also of another, and when it is over");
    for place in 0..3 {
        let figures = world.node(place).figures();
        let moved = figures.fill_bytes.value() + figures.leftovers_dropped.value();
        assert_eq!((moved, figures.partitions_filled.value()), (0, 0), "node {place}");
        assert!(world.copies(place).standings().all_complete());
    }
    for n in 0..100 {
        assert_eq!(world.get((n + 1) % 3, &format!("key{n}")).await, Ok(Some("value".into())));
    }
    let changes = world.node(2).changes();
    let split = changes.last().expect("one change");
    assert_eq!((split.change, split.epoch, split.copies), (Change::Split, 2, 0));
    let twice = world.node(1).split(None).await;
    assert_eq!(twice, Ok(3), "and once more");
    world.until("four times as many", |world| world.stable_at(3) && world.counts(256)).await;
}

#[tokio::test(start_paused = true)]
async fn one_change_runs_at_a_time() {
    let mut world = World::of(4, Rmw::Refuse).await;
    let slow = LinkFaults { delay_us_min: 20_000, delay_us_max: 40_000, ..LinkFaults::default() };
    world.network.set_all(slow);
    let drain = Reshape { weights: vec![(world.id(3), 0)], ..Reshape::default() };
    assert_eq!(world.node(0).reshape(drain).await, Ok(2));
    assert_eq!(world.node(1).split(None).await, Err(ChangeError::UnderWay));
    world.network.heal();
    world.until("the first layout retires", |world| world.stable_at(2)).await;
    // Who is away keeps the older layout live; a replacement may come on top, and no other change.
    let (away, new) = (world.id(3), world.add(4).await);
    let fresh = world.id(new);
    world.until("the new node is known", |world| world.node(0).view().now().is_up(fresh)).await;
    world.crash(3).await;
    assert_eq!(world.node(1).split(None).await, Ok(3));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!world.stable_at(3), "one has not said that it is through");
    let weight = Reshape { weights: vec![(world.id(2), 5)], ..Reshape::default() };
    assert_eq!(world.node(0).reshape(weight).await, Err(ChangeError::UnderWay));
    assert_eq!(world.node(0).replace(away, fresh).await, Ok(4));
    world.until("all retire", |world| world.stable_at(4) && world.counts(128)).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_it_loses_nothing() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let slow = LinkFaults { delay_us_min: 2_000, delay_us_max: 9_000, ..LinkFaults::default() };
    world.network.set_all(slow);
    let load = Load::on(&world, &[0, 1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut partitions = 64;
    for (turn, rest_ms) in [0_u64, 3, 11, 25].into_iter().enumerate() {
        let epoch = turn as u64 + 2;
        let through = if turn == 1 { 2 } else { 0 };
        let splitting = tokio::spawn(world.node(through).split(Some(epoch - 1)));
        tokio::time::sleep(Duration::from_millis(rest_ms)).await;
        world.crash(2).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        splitting.abort();
        // Who was asked may be gone, and the outcome open: ask again until it is so.
        assert_eq!(world.node(0).split(Some(epoch - 1)).await, Ok(epoch), "turn {turn}");
        world.restart(2, 3).await;
        partitions *= 2;
        world.until("all know it", |world| world.stable_at(epoch)).await;
        assert!(world.counts(partitions), "turn {turn}");
        // Its engine forgets: the next one is only when the others have given it all.
        world.until("it is filled", World::all_filled).await;
    }
    let acknowledged = load.end().await;
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
    let replans: u64 = (0..2).map(|n| world.node(n).figures().replans.value()).sum();
    assert!(replans > 0, "some operation met a change");
    for place in 0..3 {
        world.expect_all(place, &acknowledged).await;
    }
    // Each of the three holds all of it.
    world.until("trees are there again", World::trees_are_whole).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let shape = world.copies(0).trees().shape();
    for partition in count(partitions).iter() {
        let root = |place: usize| world.copies(place).trees().root(partition, shape);
        let (one, two, three) = (root(0), root(1), root(2));
        let of = |root: &Option<(kv_merkle::Digest, _)>| root.as_ref().map(|root| root.0);
        assert_eq!((of(&one), of(&one)), (of(&two), of(&three)), "{partition:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn halves_move_apart_and_nothing_is_lost() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let load = Load::on(&world, &[0, 1, 2]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let new = world.add(3).await;
    let fresh: NodeId = world.id(new);
    world.until("the new node is known", |world| world.node(0).view().now().is_up(fresh)).await;
    assert_eq!(world.node(0).split(None).await, Ok(2));
    world
        .until("twice the partitions", |world| {
            (0..3).all(|place| {
                world.node(place).view().now().layouts.as_ref().is_some_and(|layouts| {
                    !layouts.in_transition() && layouts.newest().partitions() == count(128)
                })
            })
        })
        .await;
    let join = Reshape { joins: vec![fresh], ..Reshape::default() };
    assert_eq!(world.node(1).reshape(join).await, Ok(3));
    world.until("it holds its part", |world| world.stable_at(3) && world.all_filled()).await;
    assert!(world.counts(128));
    let view = world.node(new).view().now();
    let layouts = view.layouts.as_ref().expect("a layout");
    let apart = count(64).iter().filter(|whole| {
        let [low, high] = whole.halves().expect("more slots");
        layouts.newest().owners(low) != layouts.newest().owners(high)
    });
    assert!(apart.count() > 0, "some halves have different owners");
    let acknowledged = load.end().await;
    world.crash(0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for place in [1, 2, new] {
        world.expect_all(place, &acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_stays_so_and_marks_rise_again() {
    let antientropy =
        AntiEntropyConfig { rest_ms: 250, settle_ms: 20, ..AntiEntropyConfig::default() };
    let world = World::collecting(3, Rmw::Refuse, (true, antientropy), LAG_MS).await;
    for n in 0..30 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("a quorum");
    }
    let rows = |world: &World, place: usize| {
        let replica = world.copies(place);
        let page = crate::plug::storage::PageRequest {
            from: crate::keys::position(0, 0, 0),
            to: crate::keys::slot_end(0, 16_383),
            rows_max: 1_000,
            bytes_max: 1 << 20,
        };
        async move { replica.page(page).await.expect("in memory").0 }
    };
    let before = rows(&world, 0).await;
    for n in 0..20 {
        let deleted = world.mutate(n % 3, &format!("key{n}"), Mutation::Delete).await;
        assert_eq!(answer(deleted), Answer::Integer(1));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rows(&world, 1).await.len(), 10, "collected");
    let marks = |world: &World, place: usize| -> Vec<Mark> {
        let replica = world.copies(place);
        replica.standings().partitions().iter().map(|at| replica.mark(at)).collect()
    };
    let marks_before: Vec<Vec<Mark>> = (0..3).map(|place| marks(&world, place)).collect();
    assert_eq!(world.node(1).split(None).await, Ok(2));
    for (place, before) in marks_before.iter().enumerate() {
        // Before anybody has compared anything by the finer count.
        let halves = marks(&world, place);
        if halves.len() == 128 {
            assert!(halves.chunks(2).zip(before).all(|(two, one)| two.iter().all(|at| at >= one)));
        }
    }
    world.until("all know it", |world| world.stable_at(2)).await;
    // A copy that was under way all the time.
    let late: Vec<Join> = before
        .iter()
        .map(|(key, record)| Join {
            key: key.clone(),
            record: record.clone(),
            mark: Mark::NONE,
            minted: false,
        })
        .collect();
    for place in 0..3 {
        let actor = |_: &[u8]| kv_quorum::Actor::default();
        world.copies(place).apply(&late, actor, |_| ()).await;
        assert_eq!(rows(&world, place).await.len(), 10, "what is dead stays dead at {place}");
    }
    for n in 20..25 {
        let deleted = world.mutate(n % 3, &format!("key{n}"), Mutation::Delete).await;
        assert_eq!(answer(deleted), Answer::Integer(1));
    }
    tokio::time::sleep(Duration::from_secs(40)).await;
    for (place, before) in marks_before.iter().enumerate() {
        let left = rows(&world, place).await.len();
        assert_eq!(left, 5, "at {place}: {:?}", world.node(place).workers());
        let now = marks(&world, place);
        assert!(now.iter().min() > before.iter().max(), "marks rise by halves");
        for n in 0..30 {
            let wanted = (n >= 25).then(|| "value".to_owned());
            assert_eq!(world.get(place, &format!("key{n}")).await, Ok(wanted), "key{n}");
        }
    }
}
