//! Exchanges between production nodes: what differs is found and mended, and costs what it may.

use std::collections::BTreeMap;

use kv_merkle::Shape;
use kv_quorum::{Actor, Context, Dot, Draft, Expiry, HybridTime, Limits, Mark, Record};

use super::*;
use crate::coordinator::exchange::RepairTally;
use crate::plug::rng::Rng;
use crate::plug::storage::PageRequest;
use crate::replica::{Join, Replica};
use crate::wire::PeerOut;

/// A world in which nothing is compared unless a test says so.
async fn still_world() -> World {
    let antientropy = AntiEntropyConfig { runs: false, ..AntiEntropyConfig::default() };
    let world = World::with(3, Rmw::Refuse, false, antientropy).await;
    trees_built(&world).await;
    world
}

async fn trees_built(world: &World) {
    for _ in 0..2_000 {
        if (0..3).all(|place| replica(world, place).trees().counts().built == 64) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the trees were not built: {:?}", world.node(0).workers());
}

fn replica(world: &World, place: usize) -> Arc<Replica> {
    Arc::clone(&world.node(place).inner.serving().expect("a layout").replica)
}

fn row(name: &str, node: u64, ms: u64) -> Join {
    let dot = Dot { actor: Actor { node, tenure: 1 }, time: HybridTime::new(ms, 0) };
    let mut record = Vec::new();
    kv_quorum::blind_overwrite(None, dot, Draft::string(&b"a value"[..]), &mut record)
        .expect("a new dot");
    Join {
        key: KeyRef::place(0, name.as_bytes()).to_storage(),
        record: record.into(),
        mark: Mark::NONE,
        minted: false,
    }
}

async fn store(replica: &Replica, joins: &[Join]) {
    for some in joins.chunks(1_000) {
        let outs = replica.apply(some, |_| Actor::default(), |_| ()).await;
        assert!(outs.iter().all(|out| matches!(out, PeerOut::Applied { .. })));
    }
}

/// The live dots and registers of every key, as bytes.
async fn contents(replica: &Replica) -> BTreeMap<Bytes, Vec<u8>> {
    let all = PageRequest {
        from: Bytes::new(),
        to: Bytes::new(),
        rows_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let page = replica.engine().scan(all).await.expect("memory can be read");
    let prints = page.rows.into_iter().map(|(key, record)| {
        let mut print = Vec::new();
        kv_quorum::fingerprint_of(&record, |part| print.extend_from_slice(part)).expect("sound");
        (key, print)
    });
    prints.filter(|(_, print)| !print.is_empty()).collect()
}

async fn exchange(world: &World, from: usize, to: usize) -> RepairTally {
    let coordinator = world.node(from).coordinator().expect("a layout");
    coordinator.exchange_with(world.node(to).id()).await.expect("both are up")
}

/// Draws a record: overwrites, siblings, deletes and expiries by a few actors.
fn draw(rng: &SeededRng, steps: u64, clock: &mut u64) -> Record<Bytes> {
    let mut record = Record::new();
    for step in 0..steps {
        let actor = Actor { node: 1 + rng.next_u64() % 3, tenure: rng.next_u64() % 2 };
        // Never twice: a dot names one write.
        *clock += 1;
        let time = HybridTime::new(*clock, 0);
        let dot = Dot { actor, time };
        let value = Bytes::from(format!("{}", rng.next_u64() % 100));
        let draft = match rng.next_u64() % 4 {
            0 => Draft::tombstone(),
            1 => Draft::string(value)
                .expiring(Expiry { stamp: time, expires_at_ms: Some(4_000_000_000_000 + step) }),
            _ => Draft::string(value),
        };
        let seen = match rng.next_u64() % 2 {
            0 => Context::default(),
            _ => record.context().clone(),
        };
        // A dot that is not new changes nothing.
        let _not_new = record.mint(dot, &seen, draft, &Limits::default());
    }
    record
}

#[tokio::test(start_paused = true)]
async fn both_sides_end_with_the_join_of_all_records() {
    for seed in 0..4 {
        let world = still_world().await;
        let (rng, mut clock) = (SeededRng::new(seed), 0);
        let mut expected: BTreeMap<Bytes, Record<Bytes>> = BTreeMap::new();
        for n in 0..600 {
            let key = KeyRef::place(0, format!("key{n}").as_bytes()).to_storage();
            // Both know a past; each knows more of it, or less, or something else.
            let past = draw(&rng, rng.next_u64() % 4, &mut clock);
            for place in 0..2 {
                let mut own = past.clone();
                if rng.next_u64() % 3 == 0 {
                    own = draw(&rng, 1 + rng.next_u64() % 6, &mut clock);
                    own.join(&past);
                }
                if own.live().is_empty() {
                    continue;
                }
                let record = Bytes::from(own.to_bytes());
                store(
                    &replica(&world, place),
                    &[Join { key: key.clone(), record, mark: Mark::NONE, minted: false }],
                )
                .await;
                expected.entry(key.clone()).or_default().join(&own);
            }
        }
        let tally = exchange(&world, 0, 1).await;
        assert_eq!(tally.found, tally.mended);
        let prints = expected.into_iter().map(|(key, record)| {
            let mut print = Vec::new();
            record.fingerprint(|part| print.extend_from_slice(part));
            (key, print)
        });
        let expected: BTreeMap<Bytes, Vec<u8>> = prints.collect();
        assert!(tally.found > 100 && expected.len() > 300, "{tally:?}");
        let (one, other) = (replica(&world, 0), replica(&world, 1));
        assert!(contents(&one).await == expected, "seed {seed}");
        assert!(contents(&other).await == expected, "seed {seed}");
        for partition in one.standings().partitions().iter() {
            let shape = one.trees().shape();
            assert_eq!(one.trees().root(partition, shape), other.trees().root(partition, shape));
            assert!(one.exchanged().last(partition, world.node(1).id()).is_some());
            assert!(other.exchanged().last(partition, world.node(0).id()).is_some());
        }
        assert_eq!(exchange(&world, 1, 0).await.found, 0, "nothing is left");
    }
}

/// What equal replicas of so many keys cost, and one key that differs.
async fn costs(keys: u64) {
    let world = still_world().await;
    let rows: Vec<Join> = (0..keys).map(|n| row(&format!("key{n}"), 1, 1 + n)).collect();
    for place in 0..3 {
        store(&replica(&world, place), &rows).await;
    }
    let reads = |world: &World| {
        let read = |place| {
            let figures = world.node(place).figures();
            figures.replica_reads.value() + figures.aae_rows_listed.value()
        };
        (0..3).map(read).sum::<u64>()
    };
    let before = reads(&world);
    let tally = exchange(&world, 0, 1).await;
    assert!(tally.sent_bytes + tally.received_bytes <= 1_024, "{tally:?}");
    assert_eq!((tally.found, tally.rows_listed, reads(&world)), (0, 0, before));
    store(&replica(&world, 1), &[row("key77", 2, 1_000_000)]).await;
    let tally = exchange(&world, 0, 1).await;
    assert!(tally.sent_bytes + tally.received_bytes <= 16 * 1_024, "{tally:?}");
    assert_eq!((tally.found, tally.mended, tally.leaves), (1, 1, 1));
    assert!(tally.rows_listed < 40, "only the leaf is read: {tally:?}");
    let equal = contents(&replica(&world, 0)).await == contents(&replica(&world, 1)).await;
    assert!(equal, "mended");
}

#[tokio::test(start_paused = true)]
async fn equal_replicas_cost_a_kibibyte_and_one_key_sixteen() {
    let keys = if std::env::var_os("KV_TEST_LONG").is_some() { 100_000 } else { 20_000 };
    costs(keys).await;
}

/// One node cut off while so many keys are written, without hints, then back.
async fn one_was_away(keys: u64, within_ms: u64) {
    let antientropy = AntiEntropyConfig::default();
    let world = World::with(3, Rmw::Refuse, false, antientropy).await;
    trees_built(&world).await;
    for other in ["n0", "n1"] {
        world.network.set_cut("n2", other, true);
    }
    for n in 0..200 {
        world.set(n % 2, &format!("written{n}"), "value").await.expect("two of three");
    }
    let rows: Vec<Join> = (0..keys).map(|n| row(&format!("key{n}"), 1, 1 + n)).collect();
    for place in 0..2 {
        store(&replica(&world, place), &rows).await;
    }
    let only_there: Vec<Join> = (0..50).map(|n| row(&format!("alone{n}"), 3, 1 + n)).collect();
    store(&replica(&world, 2), &only_there).await;
    world.network.heal();
    let expected = keys as usize + 250;
    let mut waited_ms = 0;
    loop {
        let [a, b, c] = [0, 1, 2].map(|place| replica(&world, place));
        if contents(&c).await.len() == expected && contents(&a).await.len() == expected {
            let c = contents(&c).await;
            if contents(&a).await == c && contents(&b).await == c {
                break;
            }
        }
        assert!(waited_ms < within_ms, "{:?}", world.node(0).workers());
        tokio::time::sleep(Duration::from_millis(500)).await;
        waited_ms += 500;
    }
    let mended = |place: usize| world.node(place).figures().aae_keys_mended.value();
    assert!((0..3).map(mended).sum::<u64>() >= keys, "nobody read the keys");
}

#[tokio::test(start_paused = true)]
async fn without_hints_replicas_become_equal_by_themselves() {
    one_was_away(2_000, 60_000).await;
    if std::env::var_os("KV_TEST_LONG").is_some() {
        one_was_away(100_000, 120_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_brings_what_any_replica_has_to_all() {
    let world = still_world().await;
    for place in 0..3 {
        let rows: Vec<Join> =
            (0..200).map(|n| row(&format!("of{place}-{n}"), 1 + place as u64, 1 + n)).collect();
        store(&replica(&world, place), &rows).await;
    }
    let coordinator = world.node(1).coordinator().expect("a layout");
    let mut mended = 0;
    for partition in replica(&world, 1).standings().partitions().iter() {
        let tally = coordinator.repair_partition(partition, None).await;
        mended += tally.expect("all are up").mended;
    }
    assert!(mended >= 800, "{mended}");
    for place in 0..3 {
        assert_eq!(contents(&replica(&world, place)).await.len(), 600, "node {place}");
    }
    let one = row("of0-7", 2, 50_000);
    let key = KeyRef::parse(&one.key).expect("a storage key");
    let partition = replica(&world, 0).standings().of(key.slot);
    store(&replica(&world, 2), &[one]).await;
    let key = KeyRef::place(0, b"of0-7").to_storage();
    let tally = coordinator.repair_partition(partition, Some(key)).await.expect("all are up");
    assert_eq!((tally.found, tally.peers), (2, 2), "here, and then the first that was asked");
}

#[tokio::test(start_paused = true)]
async fn nodes_with_other_shapes_compare_in_the_flatter_one() {
    let antientropy =
        AntiEntropyConfig { runs: false, tree_bytes_max: 64 << 10, ..AntiEntropyConfig::default() };
    let mut world = still_world().await;
    world.nodes[2].take().expect("it runs").crash().await;
    world.antientropy = antientropy;
    world.restart(2, 3).await;
    for _ in 0..400 {
        if replica(&world, 2).standings().all_complete() && world.node(0).sees_all() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    trees_built(&world).await;
    let flat = Shape::new(6).expect("a depth");
    assert_eq!(replica(&world, 2).trees().shape(), flat);
    assert_ne!(replica(&world, 0).trees().shape(), flat);
    store(&replica(&world, 0), &[row("zero", 1, 1)]).await;
    store(&replica(&world, 2), &[row("two", 3, 1)]).await;
    assert_eq!(exchange(&world, 0, 2).await.mended, 2);
    store(&replica(&world, 0), &[row("zero", 1, 2)]).await;
    assert_eq!(exchange(&world, 2, 0).await.mended, 1);
    assert_eq!(exchange(&world, 2, 0).await.found, 0);
}

/// A row that holds a delete.
fn deleted(name: &str, ms: u64) -> Join {
    let mut record: Record<Bytes> = Record::new();
    let dot = |ms| Dot { actor: Actor { node: 1, tenure: 1 }, time: HybridTime::new(ms, 0) };
    let put =
        record.mint(dot(ms), &Context::default(), Draft::string("v".into()), &Limits::default());
    put.expect("a new dot");
    let seen = record.context().clone();
    record.delete(dot(ms + 1), &seen, None, &Limits::default()).expect("a new dot");
    let key = KeyRef::place(0, name.as_bytes()).to_storage();
    Join { key, record: record.to_bytes().into(), mark: Mark::NONE, minted: false }
}

fn raise(replica: &Replica, ms: u64) {
    let mark = Mark::at(HybridTime::new(ms, 0));
    let marks: Vec<_> = replica.standings().partitions().iter().map(|at| (at, mark)).collect();
    replica.marks().raise(&marks).expect("nothing fails");
}

async fn collect(replica: &Replica) -> u64 {
    let mut rows = 0;
    for partition in replica.standings().partitions().iter() {
        rows += replica.collect(partition, 0, 60_000).await.expect("nothing fails").rows;
    }
    rows
}

#[tokio::test(start_paused = true)]
async fn what_one_side_collected_goes_from_the_other_too() {
    let world = still_world().await;
    let (one, other) = (replica(&world, 0), replica(&world, 2));
    let rows = [deleted("gone", 1), row("stays", 1, 4), deleted("gone too", 6)];
    store(&one, &rows).await;
    store(&other, &rows).await;
    // What it deleted long ago, and what a lost delete left behind.
    store(&other, &[row("left behind", 2, 3), row("new", 2, 50)]).await;
    raise(&one, 10);
    assert_eq!(collect(&one).await, 2);
    assert_eq!(exchange(&world, 0, 2).await.found, 4);
    let both = [contents(&one).await, contents(&other).await];
    assert_eq!(both[0], both[1]);
    let names: Vec<&[u8]> =
        both[0].keys().map(|key| KeyRef::parse(key).expect("a key").key).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&&b"stays"[..]) && names.contains(&&b"new"[..]), "{names:?}");
    for (from, to) in [(0, 2), (2, 0)] {
        let tally = exchange(&world, from, to).await;
        assert_eq!((tally.found, tally.leaves), (0, 0));
    }
    // The other way round: who asks has collected less.
    store(&one, &[deleted("later", 20)]).await;
    store(&other, &[deleted("later", 20)]).await;
    raise(&one, 30);
    assert_eq!(collect(&one).await, 1);
    assert_eq!(exchange(&world, 2, 0).await.found, 1);
    assert_eq!(contents(&other).await, both[1]);
    assert_eq!(exchange(&world, 2, 0).await.leaves, 0);
    // A delete that is collected is held all the same.
    let dot = |ms| Dot { actor: Actor { node: 1, tenure: 1 }, time: HybridTime::new(ms, 0) };
    let key = KeyRef::place(0, b"gone").to_storage();
    assert_eq!(one.holds(&key, dot(2), HybridTime::ZERO).await.ok(), Some(true));
    assert_eq!(one.holds(&key, dot(31), HybridTime::ZERO).await.ok(), Some(false));
    assert_eq!(other.holds(&key, dot(40), HybridTime::ZERO).await.ok(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_filled_under_the_marks_of_its_sources_and_takes_the_highest() {
    let world = still_world().await;
    let newcomer = replica(&world, 2);
    for place in 0..3 {
        store(&replica(&world, place), &[deleted("gone", 1), row("stays", 1, 4)]).await;
    }
    store(&newcomer, &[row("left behind", 2, 3)]).await;
    raise(&replica(&world, 0), 10);
    raise(&replica(&world, 1), 8);
    assert_eq!(collect(&replica(&world, 0)).await, 1);
    newcomer.standings().lost_all();
    let partition = newcomer.standings().partitions().nth(0).expect("there is one");
    assert_eq!(newcomer.mark(partition), Mark::NONE);
    for _ in 0..600 {
        if newcomer.standings().all_complete() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(newcomer.standings().all_complete());
    for partition in newcomer.standings().partitions().iter() {
        assert_eq!(newcomer.mark(partition), Mark::at(HybridTime::new(10, 0)));
    }
    let left = contents(&newcomer).await;
    let left_behind = KeyRef::place(0, b"left behind").to_storage();
    assert!(!left.contains_key(&left_behind), "its delete is collected, and it stays dead");
    assert!(left.contains_key(&KeyRef::place(0, b"stays").to_storage()));
}
