//! Five nodes over the in-process transport and disks of their own: primaries die, fallbacks stand
//! in, hints go home.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_client::NodeId;
use kv_lsm::fs::MemFs;

use super::{Node, NodeConfig, NodeParts};
use crate::RequestError;
use crate::cluster::birth::BirthPlan;
use crate::cluster::record::KeyspaceSettings;
use crate::coordinator::{Levels, SetItem, Timing};
use crate::keys::KeyRef;
use crate::mutation::{ExpiryRule, Mutation, MutationOut};
use crate::plug::clock::{Clock, TokioClock};
use crate::plug::exec::{Exec, InlineExec};
use crate::plug::inproc::{InProcNetwork, LinkFaults};
use crate::plug::lsm::{LsmDurability, LsmEngine};
use crate::plug::rng::SeededRng;
use crate::replica::HintConfig;
use crate::rpc::peer::PeersConfig;

const NODES: usize = 5;

struct Five {
    network: InProcNetwork,
    clock: Arc<TokioClock>,
    nodes: Vec<Option<Node>>,
    ids: Vec<NodeId>,
    disks: Vec<MemFs>,
    sloppy: bool,
    hints: HintConfig,
}

impl Five {
    async fn new(sloppy: bool, hints: HintConfig) -> Self {
        let clock = Arc::new(TokioClock::new(1_700_000_000_000));
        let exec: Arc<dyn Exec> = Arc::new(InlineExec);
        let network = InProcNetwork::new(Arc::clone(&clock) as Arc<dyn Clock>, exec, 1);
        let disks = (0..NODES).map(|_| MemFs::new()).collect();
        let nodes = (0..NODES).map(|_| None).collect();
        let mut five = Self { network, clock, nodes, ids: Vec::new(), disks, sloppy, hints };
        for place in 0..NODES {
            five.start(place).await;
        }
        five.ids = five.nodes.iter().flatten().map(Node::id).collect();
        five.met().await;
        five
    }

    async fn sloppy() -> Self {
        Self::new(true, HintConfig::default()).await
    }

    async fn start(&mut self, place: usize) {
        let address = |place: usize| format!("n{place}");
        let config = NodeConfig {
            data_dir: PathBuf::from("/data"),
            address: address(place),
            client_address: String::new(),
            zone: String::new(),
            weight: 1,
            seeds: (0..NODES).map(address).collect(),
            bootstrap_expect: NODES as u16,
            birth: BirthPlan {
                name: "test".into(),
                partitions: 16,
                keyspace: KeyspaceSettings { sloppy: self.sloppy, ..KeyspaceSettings::default() },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: Timing::default(),
            peers: PeersConfig::default(),
            antientropy: crate::coordinator::exchange::AntiEntropyConfig {
                runs: false,
                ..Default::default()
            },
            hints: self.hints,
            clock_skew_ms_max: 60_000,
            floors: crate::cluster::floors::FloorTiming::default(),
        };
        let fs = Arc::new(self.disks[place].clone());
        let lsm = kv_lsm::Config {
            value_bytes_max: 12 << 10,
            batch_bytes_max: 64 << 10,
            log_buffer_bytes_max: 32 << 10,
            log_segment_bytes: 128 << 10,
            log_bytes_max: 4 << 20,
            memtable_bytes_max: 1 << 20,
            cache_bytes_max: 1 << 20,
            ..kv_lsm::Config::tiny()
        };
        let exec = Arc::new(InlineExec);
        let dir = Path::new("/data/lsm");
        let engine = LsmEngine::open(fs.clone(), dir, lsm, LsmDurability::Sync, exec.clone());
        let parts = NodeParts {
            fs,
            engine: Arc::new(engine.expect("a sound disk that nobody else uses")),
            transport: Arc::new(self.network.endpoint(address(place))),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SeededRng::new(place as u64 + 7 + self.clock.steady_us())),
            exec,
        };
        let node = Node::start(config, parts).await.expect("a sound directory");
        self.nodes[place] = Some(node);
    }

    /// Kills a node; its disk is as a power cut leaves it.
    async fn kill(&mut self, place: usize) {
        let node = self.nodes[place].take().expect("it runs");
        node.crash().await;
        self.disks[place] = self.disks[place].crash(place as u64);
    }

    async fn met(&self) {
        for _ in 0..400 {
            if self.nodes.iter().flatten().all(Node::sees_all) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the nodes did not find each other");
    }

    /// Returns when all that run know who is dead.
    async fn known(&self) {
        let dead: Vec<NodeId> =
            (0..NODES).filter(|at| self.nodes[*at].is_none()).map(|at| self.ids[at]).collect();
        for _ in 0..400 {
            let knows = |node: &Node| {
                let view = node.view().now();
                dead.iter().all(|dead| !view.is_up(*dead))
            };
            if self.nodes.iter().flatten().all(knows) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the dead were not found");
    }

    fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().expect("the node runs")
    }

    /// The places of a key's primaries in order, then those of its fallbacks.
    fn preference(&self, key: &str) -> Vec<usize> {
        let running = self.nodes.iter().flatten().next().expect("one runs");
        let view = running.view().now();
        let layout = view.layouts.as_ref().expect("a layout").newest();
        let partition = layout.partitions().of(KeyRef::place(0, key.as_bytes()).slot);
        let places = layout.preference(partition).iter();
        places
            .map(|id| self.ids.iter().position(|other| *other == id).expect("one of us"))
            .collect()
    }

    /// A key with these primaries and fallbacks is not asked for: the first of a family that has
    /// `place` among its primaries.
    fn key_of(&self, place: usize) -> String {
        let mut keys = (0..1_000).map(|n| format!("key{n}"));
        keys.find(|key| self.preference(key)[..3].contains(&place)).expect("it holds something")
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

    async fn put(&self, place: usize, key: &str, value: &str) -> Result<(), RequestError> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let put = Mutation::Put { value, context: None, expiry: ExpiryRule::Never };
        let coordinator = self.node(place).coordinator().expect("a layout");
        let key = KeyRef::place(0, key.as_bytes());
        let out = coordinator.mutate(key, put, Levels::default()).await?;
        assert!(matches!(out, MutationOut::Written { .. }));
        Ok(())
    }

    async fn get(&self, place: usize, key: &str) -> Result<Option<String>, RequestError> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let value = coordinator.get(key.as_bytes()).await?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    async fn siblings(&self, place: usize, key: &str) -> Vec<String> {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let (_, values) = coordinator.siblings(key.as_bytes()).await.expect("a quorum");
        let values = values.into_iter().filter_map(|sibling| sibling.value);
        let mut texts: Vec<String> =
            values.map(|value| String::from_utf8_lossy(&value).into_owned()).collect();
        texts.sort();
        texts
    }

    /// What a replica itself has of a key.
    async fn copy(&self, place: usize, key: &str) -> Option<String> {
        let serving = self.node(place).inner.serving().expect("a layout");
        let key = KeyRef::place(0, key.as_bytes()).to_storage();
        let mut found = None;
        let show = &mut |_, record: Option<&[u8]>| {
            let record = record.map(|record| kv_quorum::Record::decode(record).expect("ours"));
            let shown = record.as_ref().and_then(|record| record.shown(0).copied());
            found = shown.map(|value| String::from_utf8_lossy(value).into_owned());
        };
        serving.replica.read(&[&key], show).await.expect("a sound disk");
        found
    }

    fn hints(&self) -> Vec<(usize, usize, u64)> {
        let place = |id: NodeId| self.ids.iter().position(|other| *other == id).expect("ours");
        let running = (0..NODES).filter(|at| self.nodes[*at].is_some());
        running
            .flat_map(|on| {
                let serving = self.node(on).inner.serving().expect("a layout");
                let queued = serving.replica.hints().queued();
                queued.into_iter().map(move |(target, queued)| (on, place(target), queued.keys))
            })
            .collect()
    }

    async fn drained(&self) {
        for _ in 0..600 {
            if self.hints().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("hints are left: {:?}", self.hints());
    }

    fn sum(&self, figure: impl Fn(&crate::metrics::Figures) -> u64) -> u64 {
        self.nodes.iter().flatten().map(|node| figure(node.figures())).sum()
    }
}

/// Kills primaries of five nodes, writes through all that are left, brings them back.
async fn killed_and_back(dead: &[usize]) {
    let mut five = Five::sloppy().await;
    for n in 0..40 {
        five.set(n % NODES, &format!("key{n}"), "old").await.expect("all are up");
    }
    for place in dead {
        five.kill(*place).await;
    }
    let alive: Vec<usize> = (0..NODES).filter(|place| !dead.contains(place)).collect();
    // Half of them before membership knows, half after.
    for n in 0..80 {
        if n == 40 {
            five.known().await;
        }
        let (key, at) = (format!("key{n}"), alive[n % alive.len()]);
        five.set(at, &key, "new").await.unwrap_or_else(|error| panic!("{key} at {at}: {error}"));
        let seen = five.get(alive[(n + 1) % alive.len()], &key).await;
        assert_eq!(seen, Ok(Some("new".into())), "{key}");
    }
    let hints = five.hints();
    assert!(!hints.is_empty() && hints.iter().all(|(_, target, _)| dead.contains(target)));
    for place in dead {
        five.start(*place).await;
    }
    five.met().await;
    five.drained().await;
    for n in 0..80 {
        let key = format!("key{n}");
        for place in &five.preference(&key)[..3] {
            let copy = five.copy(*place, &key).await;
            assert_eq!(copy.as_deref(), Some("new"), "{key} at {place}, dead were {dead:?}");
        }
    }
    let (delivered, dropped) =
        (five.sum(|f| f.hints_delivered.value()), five.sum(|f| f.hints_dropped.value()));
    assert!(delivered > 0 && dropped == 0, "{delivered} {dropped}");
}

#[tokio::test(start_paused = true)]
async fn one_dead_primary_of_five_is_stood_in_for_and_gets_everything_back() {
    killed_and_back(&[2]).await;
}

#[tokio::test(start_paused = true)]
async fn two_dead_primaries_of_five_are_stood_in_for_and_get_everything_back() {
    killed_and_back(&[1, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn without_any_primary_the_first_live_fallback_mints_under_new_tenures() {
    let mut five = Five::sloppy().await;
    let key = "key0";
    let order = five.preference(key);
    let (primaries, fallbacks) = order.split_at(3);
    let mut expected = Vec::new();
    for round in 0..3 {
        for place in primaries {
            five.kill(*place).await;
        }
        if round > 0 {
            five.known().await;
        }
        // Through either fallback: the second one forwards to the first.
        for place in fallbacks {
            let value = format!("round {round} at {place}");
            five.put(*place, key, &value).await.expect("two fallbacks are W");
            expected.push(value);
            expected.sort();
            let here: Vec<String> =
                expected.iter().filter(|text| text.contains(&round.to_string())).cloned().collect();
            let seen = five.siblings(fallbacks[1], key).await;
            assert!(here.iter().all(|text| seen.contains(text)), "{here:?} in {seen:?}");
        }
        let first = five.node(fallbacks[0]).figures().hints_written.value();
        assert!(first > 0, "the first live fallback keeps hints of what it minted");
        for place in primaries {
            five.start(*place).await;
        }
        five.met().await;
        five.drained().await;
        // Nothing that was acknowledged is covered by what the fallback minted later.
        for place in 0..NODES {
            assert_eq!(five.siblings(place, key).await, expected, "round {round} at {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_blind_set_without_any_primary_replaces_what_its_fallbacks_know() {
    let mut five = Five::sloppy().await;
    let order = five.preference("k");
    for place in &order[..3] {
        five.kill(*place).await;
    }
    five.put(order[4], "k", "one").await.expect("two fallbacks are W");
    five.put(order[3], "k", "two").await.expect("two fallbacks are W");
    five.set(order[4], "k", "three").await.expect("two fallbacks are W");
    assert_eq!(five.siblings(order[3], "k").await, ["three"]);
    let coordinator = five.node(order[3]).coordinator().expect("a layout");
    assert_eq!(coordinator.delete(b"k").await, Ok(true));
    assert_eq!(five.get(order[4], "k").await, Ok(None));
    for place in &order[..3] {
        five.start(*place).await;
    }
    five.met().await;
    five.drained().await;
    assert_eq!(five.get(order[0], "k").await, Ok(None), "the delete went home too");
}

#[tokio::test(start_paused = true)]
async fn hints_survive_a_restart_of_the_fallback() {
    let mut five = Five::sloppy().await;
    let order = five.preference("k");
    five.kill(order[2]).await;
    five.known().await;
    five.set(order[0], "k", "kept").await.expect("two primaries are up");
    let fallback = order[3];
    let held = |five: &Five| {
        let to_it = |(on, target, _): &&(usize, usize, u64)| *on == fallback && *target == order[2];
        five.hints().iter().find(to_it).map(|hint| hint.2)
    };
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held(&five), Some(1), "{:?}", five.hints());
    five.kill(fallback).await;
    five.start(fallback).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held(&five), Some(1), "counted again: {:?}", five.hints());
    five.start(order[2]).await;
    five.met().await;
    five.drained().await;
    assert_eq!(five.copy(order[2], "k").await.as_deref(), Some("kept"));
}

#[tokio::test(start_paused = true)]
async fn a_full_log_refuses_and_nothing_that_it_refused_counts() {
    let hints = HintConfig { hint_bytes_max: 2_000, ..HintConfig::default() };
    let mut five = Five::new(true, hints).await;
    let order = five.preference("key0");
    for place in &order[1..3] {
        five.kill(*place).await;
    }
    five.known().await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for n in 0..200 {
        let key = format!("key{n}");
        if five.preference(&key)[..3] != order[..3] {
            continue;
        }
        match five.set(order[0], &key, &"x".repeat(200)).await {
            Ok(()) => acknowledged.push(key),
            Err(RequestError::Indeterminate { reached: 0 | 1, wanted: 2, .. }) => refused += 1,
            Err(other) => panic!("{key}: {other}"),
        }
    }
    assert!(!acknowledged.is_empty() && refused > 0, "{} {refused}", acknowledged.len());
    assert!(five.sum(|f| f.hints_refused.value()) > 0);
    let bytes = |five: &Five, place: usize| {
        let serving = five.node(place).inner.serving().expect("a layout");
        serving.replica.hints().bytes()
    };
    assert!(order[3..].iter().all(|place| bytes(&five, *place) <= 2_000));
    for place in &order[1..3] {
        five.start(*place).await;
    }
    five.met().await;
    five.drained().await;
    // Even the disk of the only primary that was up may go now.
    five.kill(order[0]).await;
    for key in acknowledged {
        assert_eq!(five.get(order[4], &key).await, Ok(Some("x".repeat(200))), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_only_slow_gets_no_hint() {
    let five = Five::sloppy().await;
    let slow = 2;
    let key = five.key_of(slow);
    let others: Vec<usize> =
        five.preference(&key)[..3].iter().copied().filter(|p| *p != slow).collect();
    for other in (0..NODES).filter(|other| *other != slow) {
        let delay =
            LinkFaults { delay_us_min: 200_000, delay_us_max: 300_000, ..LinkFaults::default() };
        let names = (format!("n{other}"), format!("n{slow}"));
        five.network.set_link(&names.0, &names.1, delay);
    }
    for n in 0..20 {
        five.set(others[n % 2], &key, &format!("value {n}")).await.expect("two are fast");
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(five.hints(), []);
    assert_eq!(five.sum(|f| f.hints_written.value() + f.sloppy_writes.value()), 0);
    assert_eq!(five.copy(slow, &key).await.as_deref(), Some("value 19"), "it got everything");
}

#[tokio::test(start_paused = true)]
async fn a_strict_keyspace_counts_primaries_only() {
    let mut five = Five::new(false, HintConfig::default()).await;
    let order = five.preference("k");
    five.set(order[0], "k", "one").await.expect("all are up");
    five.kill(order[2]).await;
    five.known().await;
    five.set(order[0], "k", "two").await.expect("two primaries are W");
    five.kill(order[1]).await;
    five.known().await;
    for place in [order[0], order[3], order[4]] {
        let told = five.set(place, "k", "three").await;
        assert!(matches!(told, Err(RequestError::NoReplicas { .. })), "{place}: {told:?}");
        let told = five.get(place, "k").await;
        assert!(matches!(told, Err(RequestError::Unavailable { .. })), "{place}: {told:?}");
    }
    assert_eq!(five.hints(), [], "where fallbacks don't count, nobody keeps hints");
}

#[tokio::test(start_paused = true)]
async fn who_holds_hints_is_told() {
    let mut five = Five::sloppy().await;
    let order = five.preference("k");
    five.kill(order[2]).await;
    five.known().await;
    five.set(order[0], "k", "v").await.expect("two primaries are up");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let coordinator = five.node(order[1]).coordinator().expect("a layout");
    let explained = coordinator.explain(KeyRef::place(0, b"k")).await.expect("a layout");
    let (fallback, dead) = (five.ids[order[3]], five.ids[order[2]]);
    assert!(explained.sloppy && explained.promise().contains("promises nothing"));
    assert_eq!(explained.stand_ins, [(fallback, dead)]);
    let hints: Vec<(NodeId, NodeId, usize)> =
        explained.hints.iter().map(|hint| (hint.on, hint.target, hint.versions.len())).collect();
    assert_eq!(hints, [(fallback, dead, 1)]);
    let view = coordinator.hints_everywhere().await.expect("a layout");
    let queues: Vec<(NodeId, NodeId, u64)> =
        view.queues.iter().map(|queue| (queue.on, queue.target, queue.keys)).collect();
    assert_eq!((queues, view.silent), (vec![(fallback, dead, 1)], vec![dead]));
}
