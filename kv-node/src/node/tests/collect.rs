//! Collection over three nodes: floors, marks, rows that go and stay gone.

use std::collections::BTreeMap;

use kv_quorum::{Mark, Record};

use super::*;
use crate::keys::{position, slot_end};
use crate::plug::storage::PageRequest;
use crate::replica::{Join, Replica};

const LAG_MS: u64 = 3_000;

impl World {
    fn replica(&self, place: usize) -> Arc<Replica> {
        Arc::clone(&self.node(place).inner.serving().expect("a layout").replica)
    }

    async fn rows(&self, place: usize) -> BTreeMap<Bytes, Bytes> {
        let page = PageRequest {
            from: position(0, 0, 0),
            to: slot_end(0, 16_383),
            rows_max: 100_000,
            bytes_max: 1 << 30,
        };
        let (rows, end) = self.replica(place).page(page).await.expect("readable");
        assert!(end);
        rows.into_iter().collect()
    }

    /// Three nodes whose floors lie a few seconds behind, with or without exchanges.
    async fn of_three(runs: bool, lag_ms: u64) -> Self {
        let antientropy =
            AntiEntropyConfig { runs, rest_ms: 250, settle_ms: 20, ..AntiEntropyConfig::default() };
        Self::collecting(3, Rmw::Refuse, (true, antientropy), lag_ms).await
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn delete(&self, place: usize, key: &str) {
        assert_eq!(answer(self.mutate(place, key, Mutation::Delete).await), Answer::Integer(1));
    }
}

#[tokio::test(start_paused = true)]
async fn deletes_are_collected_everywhere_and_late_copies_change_nothing() {
    let world = World::of_three(true, LAG_MS).await;
    for n in 0..20 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("a quorum");
    }
    let before = world.rows(0).await;
    assert_eq!(before.len(), 20);
    for n in 0..15 {
        world.delete((n + 1) % 3, &format!("key{n}")).await;
    }
    assert_eq!(world.rows(1).await.len(), 20, "a delete is a row");
    world.pass(20).await;
    for place in 0..3 {
        assert_eq!(
            world.rows(place).await.len(),
            5,
            "at {place}: {:?}",
            world.node(place).workers()
        );
        let deleted = world.node(place).coordinator().expect("a layout");
        assert_eq!(deleted.count_keys(false).await, Ok(5));
    }
    // A repair that was under way for minutes, or an old backup.
    let joins: Vec<Join> = before
        .iter()
        .map(|(key, record)| Join {
            key: key.clone(),
            record: record.clone(),
            mark: Mark::NONE,
            minted: false,
        })
        .collect();
    let replica = world.replica(2);
    let mut alarms = 0;
    replica.apply(&joins, |_| kv_quorum::Actor::default(), |_| alarms += 1).await;
    assert_eq!((world.rows(2).await.len(), alarms), (5, 0), "what lies below the mark is refused");
    for n in 0..20 {
        let wanted = (n >= 15).then(|| "value".to_owned());
        assert_eq!(world.get(n % 3, &format!("key{n}")).await, Ok(wanted));
    }
    world.set(0, "key3", "again").await.expect("a quorum");
    world.pass(20).await;
    assert_eq!(world.get(1, "key3").await, Ok(Some("again".into())));
    assert_eq!(world.node(0).figures().amnesia_alarms.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_stays_away_holds_marks_back_until_it_returns() {
    let mut world = World::of_three(true, LAG_MS).await;
    for n in 0..10 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("a quorum");
    }
    world.pass(10).await;
    world.nodes[2].take().expect("it runs").crash().await;
    for n in 0..10 {
        world.delete(n % 2, &format!("key{n}")).await;
    }
    world.pass(60).await;
    for place in 0..2 {
        assert_eq!(world.rows(place).await.len(), 10, "nothing is collected meanwhile");
        let status = world.node(place).collection();
        assert_eq!(status.holding_back.len(), 1, "{status:?}");
        assert!(status.mark_age_ms.is_some_and(|age| age > 50_000), "{status:?}");
    }
    let disk = world.disks[2].clone();
    let back = world.start(2, 3, disk).await;
    world.nodes[2] = Some(back);
    world.pass(40).await;
    for place in 0..3 {
        assert_eq!(
            world.rows(place).await.len(),
            0,
            "at {place}: {:?}",
            world.node(place).workers()
        );
        assert!(world.node(place).collection().holding_back.is_empty());
        for n in 0..10 {
            assert_eq!(world.get(place, &format!("key{n}")).await, Ok(None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_exchange_with_one_replica_no_mark() {
    let world = World::of_three(false, LAG_MS).await;
    world.set(0, "key", "value").await.expect("a quorum");
    world.delete(1, "key").await;
    let coordinator = world.node(0).coordinator().expect("a layout");
    for _ in 0..30 {
        world.pass(1).await;
        _ = coordinator.exchange_with(world.node(1).id()).await;
    }
    for place in 0..3 {
        assert_eq!(world.rows(place).await.len(), 1);
        assert_eq!(world.node(place).figures().marks_raised.value(), 0);
    }
    let told = world.node(0).collection().floors;
    assert!(told.iter().all(|(_, age)| age.is_some_and(|age| age < 2 * LAG_MS)), "{told:?}");
    assert!(world.node(0).collection().holding_back.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ended_values_lose_their_bytes_by_the_clock_and_their_rows_under_the_mark() {
    let world = World::of_three(true, LAG_MS).await;
    let at = world.clock.wall_ms() + 5_000;
    for n in 0..6 {
        let key = format!("key{n}");
        world.set(n % 3, &key, &"v".repeat(500)).await.expect("a quorum");
        let expire = Mutation::Expire { expires_at_ms: Some(at), condition: None };
        assert_eq!(answer(world.mutate(n % 3, &key, expire).await), Answer::Integer(1));
    }
    let coordinator = world.node(0).coordinator().expect("a layout");
    world.pass(30).await;
    assert_eq!(world.get(1, "key2").await, Ok(None));
    assert_eq!(coordinator.count_keys(false).await, Ok(6), "ended, and not collected yet");
    let bytes = |rows: &BTreeMap<Bytes, Bytes>| rows.values().map(Bytes::len).sum::<usize>();
    assert!(bytes(&world.rows(0).await) > 3_000, "bytes stay for as long as clocks may differ");
    world.pass(60).await;
    for place in 0..3 {
        assert_eq!(
            world.rows(place).await.len(),
            0,
            "at {place}: {:?}",
            world.node(place).workers()
        );
    }
    assert_eq!(coordinator.count_keys(false).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn vectors_shrink_to_the_actors_of_what_lives() {
    let mut world = World::of_three(true, 40 * LAG_MS).await;
    for round in 0..4 {
        for place in 0..3 {
            world.set(place, "key", &format!("value{round}")).await.expect("a quorum");
        }
        for place in 0..3 {
            world.nodes[place].take().expect("it runs").crash().await;
            let disk = world.disks[place].clone();
            let back = world.start(place, 3, disk).await;
            world.nodes[place] = Some(back);
            for _ in 0..200 {
                let serves = world.node(place).is_ready();
                let filled = serves && world.replica(place).standings().all_complete();
                if filled && world.nodes.iter().flatten().all(Node::sees_all) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let entries = |rows: BTreeMap<Bytes, Bytes>| {
        let record = rows.into_values().next().expect("the key is there");
        Record::decode(&record).expect("readable").coverage().vector().len()
    };
    let grown = entries(world.rows(0).await);
    assert!(grown > 5, "each start is a new actor: {grown}");
    world.pass(300).await;
    for place in 0..3 {
        assert_eq!(entries(world.rows(place).await), 1, "at {place}");
        assert_eq!(world.get(place, "key").await, Ok(Some("value3".into())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_is_refused_by_who_may_have_forgotten() {
    let world = World::of_three(true, 40 * LAG_MS).await;
    world.pass(10).await;
    let (node, replica) = (world.node(1), world.replica(1));
    let floors = world.node(0).inner.membership.floors();
    let witness = floors.witness(world.node(1).id()).expect("it told its floor");
    let nth = |index| replica.standings().partitions().nth(index).expect("there are more");
    let partition = nth(3);
    let before = replica.mark(partition);
    assert!(before > Mark::NONE);
    let mark = (partition.code(), before.time().to_bits() + 1);
    let took = |out| matches!(out, crate::wire::PeerOut::Done);
    assert!(!took(node.inner.take_marks(witness ^ 1, &[mark]).await));
    assert_eq!(replica.mark(partition), before);
    assert!(took(node.inner.take_marks(witness, &[mark]).await));
    assert!(replica.mark(partition) > before);
    replica.standings().lost(nth(5));
    assert!(!took(node.inner.take_marks(witness, &[mark]).await), "it lost something since");
    assert_eq!(replica.mark(nth(5)), Mark::NONE, "a newcomer has none");
}
