//! Three production nodes in one process, over the in-process transport, with paused time.

mod admit;
mod antientropy;
mod collect;
mod conflicts;
mod damaged;
mod discover;
mod displaced;
mod drain;
mod events;
mod promises;
mod reach;
mod replace;
mod reshape;
mod scale;
mod split;
mod stuck;
mod wait;
mod zones;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::fs::MemFs;

use super::{Node, NodeConfig, NodeParts};
use crate::RequestError;
use crate::cluster::birth::BirthPlan;
use crate::cluster::floors::FloorTiming;
use crate::cluster::record::{KeyspaceSettings, LevelSetting, Rmw};
use crate::coordinator::exchange::AntiEntropyConfig;
use crate::coordinator::{Levels, ScanCursor, SetItem};
use crate::keys::KeyRef;
use crate::mutation::{Answer, ExpiryRule, Mutation, MutationOut, Promise};
use crate::plug::clock::{Clock, TokioClock};
use crate::plug::exec::{Exec, InlineExec};
use crate::plug::inproc::{InProcNetwork, LinkFaults};
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::SeededRng;
use crate::rpc::peer::PeersConfig;

struct World {
    network: InProcNetwork,
    clock: Arc<TokioClock>,
    nodes: Vec<Option<Node>>,
    disks: Vec<MemFs>,
    rmw: Rmw,
    /// How far floors lie behind the clock.
    lag_ms: u64,
    sloppy: bool,
    antientropy: AntiEntropyConfig,
    /// Nodes stand in so many zones, in turn.
    zones: usize,
}

impl World {
    async fn of(count: usize, rmw: Rmw) -> Self {
        Self::with(count, rmw, true, AntiEntropyConfig::default()).await
    }

    async fn with(count: usize, rmw: Rmw, sloppy: bool, antientropy: AntiEntropyConfig) -> Self {
        Self::collecting(count, rmw, (sloppy, antientropy), 180_000).await
    }

    async fn collecting(
        count: usize,
        rmw: Rmw,
        (sloppy, antientropy): (bool, AntiEntropyConfig),
        lag_ms: u64,
    ) -> Self {
        Self::zoned(count, 1, rmw, (sloppy, antientropy), lag_ms).await
    }

    async fn zoned(
        count: usize,
        zones: usize,
        rmw: Rmw,
        (sloppy, antientropy): (bool, AntiEntropyConfig),
        lag_ms: u64,
    ) -> Self {
        let clock = Arc::new(TokioClock::new(1_700_000_000_000));
        let exec: Arc<dyn Exec> = Arc::new(InlineExec);
        let network = InProcNetwork::new(Arc::clone(&clock) as Arc<dyn Clock>, exec, 1);
        let (nodes, disks) = (Vec::new(), Vec::new());
        let mut world =
            Self { network, clock, nodes, disks, rmw, lag_ms, sloppy, antientropy, zones };
        for place in 0..count {
            let disk = MemFs::new();
            world.disks.push(disk.clone());
            let node = world.start(place, count, disk).await;
            world.nodes.push(Some(node));
        }
        for _ in 0..200 {
            if world.nodes.iter().flatten().all(Node::sees_all) {
                return world;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the nodes did not find each other: {:?}", world.node(0).workers());
    }

    async fn start(&self, place: usize, count: usize, fs: MemFs) -> Node {
        let address = |place: usize| format!("n{place}");
        let config = NodeConfig {
            data_dir: PathBuf::from("/data"),
            address: address(place),
            client_address: format!("c{place}"),
            zone: if self.zones > 1 {
                format!("zone {}", place % self.zones)
            } else {
                String::new()
            },
            weight: 1,
            seeds: (0..count).map(address).collect(),
            bootstrap_expect: count as u16,
            birth: BirthPlan {
                name: "test".into(),
                partitions: 64,
                keyspace: KeyspaceSettings {
                    n: 3,
                    rmw: self.rmw,
                    sloppy: self.sloppy,
                    ..KeyspaceSettings::default()
                },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: if self.zones > 1 {
                kv_gossip::Config::lan()
            } else {
                kv_gossip::Config::local()
            },
            timing: crate::coordinator::Timing::default(),
            peers: PeersConfig::default(),
            antientropy: self.antientropy,
            hints: crate::replica::HintConfig::default(),
            clock_skew_ms_max: 60_000,
            floors: FloorTiming::with_lag(self.lag_ms, 20_000),
        };
        let parts = NodeParts {
            fs: Arc::new(fs),
            engine: Arc::new(MemoryEngine::new(MemoryConfig::default())),
            transport: Arc::new(self.network.endpoint(address(place))),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SeededRng::new(place as u64 + 7)),
            exec: Arc::new(InlineExec),
        };
        Node::start(config, parts).await.expect("a node starts on an empty directory")
    }

    /// Starts a node again on what its disk holds, and waits until a majority has confirmed it.
    async fn restart(&mut self, place: usize, count: usize) {
        let back = self.start(place, count, self.disks[place].clone()).await;
        self.nodes[place] = Some(back);
        self.until("a restarted node serves", |world| world.node(place).is_ready()).await;
    }

    /// Starts one more node, empty, which knows the first `count`.
    async fn add(&mut self, count: usize) -> usize {
        let (place, disk) = (self.nodes.len(), MemFs::new());
        self.disks.push(disk.clone());
        let node = self.start(place, count, disk).await;
        self.nodes.push(Some(node));
        place
    }

    async fn crash(&mut self, place: usize) {
        self.nodes[place].take().expect("it runs").crash().await;
    }

    /// Waits until `what` holds, at most a minute.
    async fn until(&self, why: &str, what: impl Fn(&Self) -> bool) {
        for _ in 0..1_200 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let workers: Vec<_> = self.nodes.iter().flatten().map(Node::workers).collect();
        panic!("{why}: {workers:?}");
    }

    fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().expect("the node runs")
    }

    async fn set(&self, place: usize, key: &str, value: &str) -> Result<(), RequestError> {
        let item = SetItem {
            key: KeyRef::place(0, key.as_bytes()),
            value: value.as_bytes(),
            expiry: ExpiryRule::Never,
        };
        let coordinator = self.node(place).coordinator().expect("a layout");
        let (mut ends, _) = coordinator.set_batch(&[item], Levels::default()).await;
        ends.pop().expect("one end")
    }

    async fn get(&self, place: usize, key: &str) -> Result<Option<String>, RequestError> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let mut shown = Ok(None);
        let key = KeyRef::place(0, key.as_bytes());
        coordinator
            .get_batch(&[key], Levels::default(), &mut |_, value| {
                shown = value
                    .map(|value| value.map(|value| String::from_utf8_lossy(value).into_owned()));
            })
            .await;
        shown
    }

    async fn mutate(
        &self,
        place: usize,
        key: &str,
        what: Mutation,
    ) -> Result<MutationOut, RequestError> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        coordinator.mutate(KeyRef::place(0, key.as_bytes()), what, Levels::default()).await
    }
}

fn answer(out: Result<MutationOut, RequestError>) -> Answer {
    match out.expect("acknowledged") {
        MutationOut::Written { answer, .. } | MutationOut::Nothing(answer) => answer,
    }
}

#[tokio::test(start_paused = true)]
async fn any_node_serves_any_key() {
    let world = World::of(3, Rmw::Refuse).await;
    for n in 0..50 {
        let key = format!("key{n}");
        world.set(n % 3, &key, "first").await.expect("three nodes are up");
        world.set((n + 1) % 3, &key, "second").await.expect("three nodes are up");
        assert_eq!(world.get((n + 2) % 3, &key).await, Ok(Some("second".into())));
    }
    assert_eq!(world.get(0, "absent").await, Ok(None));
    let coordinator = world.node(1).coordinator().expect("a layout");
    assert_eq!(coordinator.count_keys(false).await, Ok(50));
    let mut found = Vec::new();
    let mut cursor = ScanCursor::default();
    loop {
        let page = coordinator.scan(cursor, 7, false).await.expect("all replicas are up");
        found.extend(page.keys);
        cursor = page.next;
        if cursor == ScanCursor::default() {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 50, "a scan shows every key once");
}

#[tokio::test(start_paused = true)]
async fn each_read_counts_as_one_by_whatever_door_it_comes() {
    let world = World::of(3, Rmw::Refuse).await;
    world.set(0, "k", "v").await.expect("a quorum");
    let coordinator = world.node(0).coordinator().expect("a layout");
    let counted = || world.node(0).figures().coordinator_gets.value();
    let before = counted();
    world.get(0, "k").await.expect("a quorum");
    coordinator.siblings(b"k").await.expect("a quorum");
    coordinator.siblings(b"absent").await.expect("a quorum");
    let key = KeyRef::place(0, b"k");
    coordinator.look_batch(&[key], Levels::default(), &mut |_, _| {}).await;
    assert_eq!(counted() - before, 4, "what a node carries is measured by it");
}

#[tokio::test(start_paused = true)]
async fn five_nodes_forward_to_replicas() {
    let world = World::of(5, Rmw::Refuse).await;
    for n in 0..40 {
        let key = format!("key{n}");
        world.set(n % 5, &key, "value").await.expect("five nodes are up");
        assert_eq!(world.get((n + 3) % 5, &key).await, Ok(Some("value".into())));
    }
    let forwarded: u64 = (0..5).map(|n| world.node(n).figures().forwarded.value()).sum();
    assert!(forwarded > 5, "some nodes hold no copy and forward: {forwarded}");
}

#[tokio::test(start_paused = true)]
async fn siblings_deletes_and_expiry() {
    let world = World::of(3, Rmw::Refuse).await;
    let put = |value: &'static str, context| Mutation::Put {
        value: Bytes::from_static(value.as_bytes()),
        context,
        expiry: ExpiryRule::Never,
    };
    answer(world.mutate(0, "k", put("a", None)).await);
    answer(world.mutate(1, "k", put("b", None)).await);
    let coordinator = world.node(2).coordinator().expect("a layout");
    let key = KeyRef::place(0, b"k");
    let (context, values) =
        coordinator.get_siblings(key, Levels::default()).await.expect("a quorum");
    assert_eq!(values.len(), 2, "neither saw the other");
    answer(world.mutate(0, "k", put("c", context)).await);
    let (_, values) = coordinator.get_siblings(key, Levels::default()).await.expect("a quorum");
    assert_eq!(values.len(), 1, "the context covered both");

    assert_eq!(answer(world.mutate(1, "k", Mutation::Delete).await), Answer::Integer(1));
    assert_eq!(answer(world.mutate(2, "k", Mutation::Delete).await), Answer::Integer(0));
    assert_eq!(world.get(0, "k").await, Ok(None));

    world.set(0, "t", "soon gone").await.expect("a quorum");
    let at = world.clock.wall_ms() + 5_000;
    let expire = Mutation::Expire { expires_at_ms: Some(at), condition: None };
    assert_eq!(answer(world.mutate(1, "t", expire.clone()).await), Answer::Integer(1));
    assert_eq!(answer(world.mutate(1, "none", expire).await), Answer::Integer(0));
    assert_eq!(world.get(2, "t").await, Ok(Some("soon gone".into())));
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert_eq!(world.get(2, "t").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_cut_replica_is_mended_when_read() {
    // Anti-entropy would find it first.
    let still = AntiEntropyConfig { runs: false, ..AntiEntropyConfig::default() };
    let world = World::with(3, Rmw::Refuse, true, still).await;
    world.set(0, "k", "old").await.expect("a quorum");
    for other in ["n0", "n1"] {
        world.network.set_cut("n2", other, true);
    }
    world.set(0, "k", "new").await.expect("two of three are a quorum");
    world.network.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for place in [2, 0, 1, 2] {
        assert_eq!(world.get(place, "k").await, Ok(Some("new".into())), "node {place}");
    }
    let repairs: u64 = (0..3).map(|n| world.node(n).figures().read_repairs.value()).sum();
    assert!(repairs > 0, "the stale copy was found and mended");
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_costs_no_errors_and_two_dead_ones_are_told() {
    let mut world = World::of(3, Rmw::Refuse).await;
    world.set(0, "k", "one").await.expect("a quorum");
    world.nodes[2].take().expect("it runs").crash().await;
    world.set(0, "k", "two").await.expect("two of three are a quorum");
    assert_eq!(world.get(1, "k").await, Ok(Some("two".into())));
    world.nodes[1].take().expect("it runs").crash().await;
    let told = world.set(0, "k", "three").await;
    let honest =
        matches!(told, Err(RequestError::Indeterminate { .. } | RequestError::NoReplicas { .. }));
    assert!(honest, "{told:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let told = world.set(0, "k", "four").await;
    assert!(matches!(told, Err(RequestError::NoReplicas { .. })), "{told:?}");
    let told = world.get(0, "k").await;
    assert!(matches!(told, Err(RequestError::Unavailable { .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_given_up_within_the_request_and_known_before_the_next() {
    let world = World::of(3, Rmw::Refuse).await;
    let all = Levels {
        read: Some(LevelSetting::All),
        write: Some(LevelSetting::All),
        ..Levels::default()
    };
    world.set(0, "k", "one").await.expect("a quorum");
    for other in ["n0", "n1"] {
        world.network.set_cut("n2", other, true);
    }
    let coordinator = world.node(0).coordinator().expect("a layout");
    let put = async || {
        let began = tokio::time::Instant::now();
        let put = Mutation::Put {
            value: Bytes::from_static(b"two"),
            context: None,
            expiry: ExpiryRule::Never,
        };
        let told = coordinator.mutate(KeyRef::place(0, b"k"), put, all).await;
        (told, began.elapsed().as_millis())
    };
    let (told, took) = put().await;
    assert!(matches!(told, Err(RequestError::Indeterminate { .. })), "{told:?}");
    assert!((1_000..1_200).contains(&took), "long before the deadline: {took} ms");
    let alive = world.node(0).view().now().is_alive(world.node(2).id());
    assert!(alive, "membership does not know yet");
    let (told, took) = put().await;
    assert!(matches!(told, Err(RequestError::NoReplicas { .. })), "nothing was written: {told:?}");
    assert_eq!(took, 0);
    world.network.heal();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if world.node(0).view().now().down().is_empty() {
            break;
        }
    }
    assert!(put().await.0.is_ok(), "it is heard again");
}

/// Reads through one node by `clients` at once, for a while: what 99 of 100 took at most.
async fn p99_of_reads(world: &World, clients: usize, reads: usize) -> Duration {
    let reading = (0..clients).map(|client| async move {
        let mut took = Vec::with_capacity(reads);
        for n in 0..reads {
            let began = tokio::time::Instant::now();
            let key = format!("key{}", (client * 7 + n) % 50);
            assert_eq!(world.get(0, &key).await, Ok(Some("value".into())));
            took.push(began.elapsed());
        }
        took
    });
    let mut took = futures::future::join_all(reading).await.concat();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn reads_hardly_notice_a_replica_that_stops() {
    let world = World::of(3, Rmw::Refuse).await;
    for n in 0..50 {
        world.set(0, &format!("key{n}"), "value").await.expect("a quorum");
    }
    let delay = LinkFaults { delay_us_min: 500, delay_us_max: 4_000, ..LinkFaults::default() };
    world.network.set_all(delay);
    let normal = p99_of_reads(&world, 20, 200).await;
    // As a stopped process: what is sent to it is taken and never answered.
    for other in ["n0", "n1"] {
        world.network.set_cut("n2", other, true);
    }
    let stopped = p99_of_reads(&world, 20, 200).await;
    assert!(stopped < normal * 3, "p99 {normal:?}, with a replica stopped {stopped:?}");
    let hedged = world.node(0).figures().hedged_reads.value();
    assert!((1..=8_000 / 20 + 64).contains(&hedged), "{hedged} of 8000 reads were hedged");
}

#[tokio::test(start_paused = true)]
async fn promises_are_refused_or_decided_by_one() {
    let refusing = World::of(3, Rmw::Refuse).await;
    let add = || Mutation::Promise(Promise::Add(1));
    let told = refusing.mutate(0, "n", add()).await;
    assert!(matches!(told, Err(RequestError::NeedsRmw(_))), "{told:?}");
    let world = World::of(3, Rmw::BestEffort).await;
    let adds = (0..30).map(|n| world.mutate(n % 3, "n", add()));
    let mut sums: Vec<Answer> =
        futures::future::join_all(adds).await.into_iter().map(answer).collect();
    sums.sort_by_key(|sum| match sum {
        Answer::Integer(sum) => *sum,
        other => panic!("a sum, not {other:?}"),
    });
    let expected: Vec<Answer> = (1..=30).map(Answer::Integer).collect();
    assert_eq!(sums, expected, "each increment was decided after the one before");
}

#[tokio::test(start_paused = true)]
async fn a_flush_kills_everything_before_it_and_nothing_after() {
    let world = World::of(3, Rmw::Refuse).await;
    for n in 0..20 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("a quorum");
    }
    let coordinator = world.node(1).coordinator().expect("a layout");
    coordinator.flush().await.expect("all members are up");
    assert_eq!(world.get(2, "key3").await, Ok(None));
    assert_eq!(coordinator.count_keys(false).await, Ok(0));
    world.set(0, "key3", "again").await.expect("a quorum");
    assert_eq!(world.get(2, "key3").await, Ok(Some("again".into())));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rows = world.node(0).engine().status(None).0.rows;
    assert_eq!(rows, Some(1), "flushed rows are removed in the background");
    assert_eq!(coordinator.count_keys(false).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_forgetful_engine_is_filled_before_it_counts_for_reads() {
    let mut world = World::of(3, Rmw::Refuse).await;
    for n in 0..30 {
        world.set(n % 3, &format!("key{n}"), "value").await.expect("a quorum");
    }
    world.nodes[2].take().expect("it runs").crash().await;
    let disk = world.disks[2].clone();
    let back = world.start(2, 3, disk).await;
    assert!(!back.is_ready(), "the others have to know it first");
    for _ in 0..100 {
        if back.is_confirmed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let standings =
        |node: &Node| node.inner.serving().expect("a record").replica.standings().all_complete();
    assert!(!standings(&back), "it lost everything");
    world.nodes[2] = Some(back);
    for _ in 0..200 {
        if world.node(2).inner.serving().expect("a record").replica.standings().all_complete() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.node(2).engine().status(None).0.rows, Some(30), "filled from the others");
    world.nodes[0].take().expect("it runs").crash().await;
    for n in 0..30 {
        assert_eq!(world.get(2, &format!("key{n}")).await, Ok(Some("value".into())));
    }
}
