//! What nodes do that lost something, or whose directory is not the last one: three nodes on disks
//! of their own, with paused time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::Threads;
use kv_lsm::fs::{Fs, MemFs, OpenMode};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{Node, NodeConfig, NodeParts};
use crate::RequestError;
use crate::cluster::birth::BirthPlan;
use crate::cluster::record::KeyspaceSettings;
use crate::coordinator::{Levels, SetItem, Timing};
use crate::keys::KeyRef;
use crate::mutation::ExpiryRule;
use crate::plug::clock::{Clock, TokioClock};
use crate::plug::exec::{Exec, InlineExec};
use crate::plug::inproc::InProcNetwork;
use crate::plug::lsm::{LsmDurability, LsmEngine};
use crate::plug::rng::SeededRng;
use crate::rpc::peer::PeersConfig;

const NODES: usize = 3;
const KEYS: usize = 120;

struct World {
    network: InProcNetwork,
    clock: Arc<TokioClock>,
    disks: Vec<MemFs>,
    nodes: Vec<Option<Node>>,
    durability: LsmDurability,
    sloppy: bool,
    /// What steps the engines, by place.
    housekeepers: Mutex<BTreeMap<usize, JoinHandle<()>>>,
}

fn lsm() -> kv_lsm::Config {
    kv_lsm::Config {
        threads: Threads::Inline,
        value_bytes_max: 12 << 10,
        batch_bytes_max: 32 << 10,
        log_buffer_bytes_max: 16 << 10,
        log_segment_bytes: 64 << 10,
        memtable_bytes_max: 16 << 10,
        ..kv_lsm::Config::tiny()
    }
}

fn key(n: usize) -> String {
    format!("key {n}")
}

fn value(n: usize) -> String {
    format!("value {n} ").repeat(40)
}

impl World {
    async fn begin(durability: LsmDurability) -> Self {
        Self::begin_as(durability, false).await
    }

    async fn begin_as(durability: LsmDurability, sloppy: bool) -> Self {
        let clock = Arc::new(TokioClock::new(1_700_000_000_000));
        let exec: Arc<dyn Exec> = Arc::new(InlineExec);
        let network = InProcNetwork::new(Arc::clone(&clock) as Arc<dyn Clock>, exec, 1);
        let disks: Vec<MemFs> = (0..NODES).map(|_| MemFs::new()).collect();
        let housekeepers = Mutex::default();
        let nodes = Vec::new();
        let mut world = Self { network, clock, disks, nodes, durability, sloppy, housekeepers };
        for place in 0..NODES {
            let node = world.start(place, world.disks[place].clone(), "boot 1").await;
            world.nodes.push(Some(node));
        }
        world.until("they meet", || world.nodes.iter().flatten().all(Node::sees_all)).await;
        world
    }

    async fn start(&self, place: usize, disk: MemFs, boot: &str) -> Node {
        let exec: Arc<dyn Exec> = Arc::new(InlineExec);
        let fs: Arc<dyn Fs> = Arc::new(disk);
        let path = Path::new("/data/lsm");
        let opened =
            LsmEngine::open(Arc::clone(&fs), path, lsm(), self.durability, Arc::clone(&exec));
        let engine = opened.expect("a log that is sound").in_boot(Some(boot.into()));
        let housekeeper = engine.clone();
        let task = tokio::spawn(async move {
            while housekeeper.step_until_idle().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        self.housekeepers.lock().insert(place, task);
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
                name: "losses".into(),
                partitions: 16,
                keyspace: KeyspaceSettings { sloppy: self.sloppy, ..KeyspaceSettings::default() },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: Timing { request_ms_max: 1_000, ..Timing::default() },
            peers: PeersConfig::default(),
            antientropy: crate::coordinator::exchange::AntiEntropyConfig::default(),
            hints: crate::replica::HintConfig::default(),
            floors: crate::cluster::floors::FloorTiming::default(),
            clock_skew_ms_max: 60_000,
        };
        let parts = NodeParts {
            fs,
            engine: Arc::new(engine),
            transport: Arc::new(self.network.endpoint(address(place))),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SeededRng::new(place as u64 + 7)),
            exec,
        };
        Node::start(config, parts).await.expect("a node starts")
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..1_200 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within a minute: {what}");
    }

    fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().expect("it runs")
    }

    async fn fall(&mut self, place: usize) {
        self.nodes[place].take().expect("it runs").crash().await;
        self.leave(place).await;
    }

    async fn stop(&mut self, place: usize) {
        let node = self.nodes[place].take().expect("it runs");
        node.stop().await.expect("a sound disk");
        drop(node);
        self.leave(place).await;
    }

    /// Lets everything end that still holds the engine, and with it the directory.
    async fn leave(&self, place: usize) {
        if let Some(task) = self.housekeepers.lock().remove(&place) {
            task.abort();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    async fn rise(&mut self, place: usize, disk: MemFs, boot: &str) {
        self.disks[place] = disk.clone();
        let node = self.start(place, disk, boot).await;
        self.nodes[place] = Some(node);
        self.until("it is confirmed", || self.node(place).is_confirmed()).await;
    }

    async fn set(&self, place: usize, n: usize) -> Result<(), RequestError> {
        let (key, value) = (key(n), value(n));
        let item = SetItem {
            key: KeyRef::place(0, key.as_bytes()),
            value: value.as_bytes(),
            expiry: ExpiryRule::Never,
        };
        let coordinator = self.node(place).coordinator().expect("it serves");
        let (mut ends, _) = coordinator.set_batch(&[item], Levels::default()).await;
        ends.pop().expect("one end")
    }

    async fn get(&self, place: usize, n: usize) -> Result<Option<String>, RequestError> {
        let coordinator = self.node(place).coordinator().expect("it serves");
        let mut shown = Ok(None);
        let text = key(n);
        let keys = [KeyRef::place(0, text.as_bytes())];
        let mut show = |_: usize, value: Result<Option<&[u8]>, RequestError>| {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            shown = value.map(|value| value.map(text));
        };
        coordinator.get_batch(&keys, Levels::default(), &mut show).await;
        shown
    }

    fn is_whole(&self, place: usize) -> bool {
        let coordinator = self.node(place).coordinator().expect("it serves");
        coordinator.parts().replica.standings().all_complete()
    }

    /// How many of the keys this node itself holds.
    async fn held(&self, place: usize) -> usize {
        let keys: Vec<Bytes> =
            (0..KEYS).map(|n| KeyRef::place(0, key(n).as_bytes()).to_storage()).collect();
        let rows = self.node(place).engine().read(&keys).await.expect("a sound disk");
        rows.iter().filter(|row| row.is_some()).count()
    }
}

fn tables(disk: &MemFs) -> Vec<PathBuf> {
    let dir = Path::new("/data/lsm");
    let names = disk.list(dir).expect("it is there").into_iter().map(|name| dir.join(name));
    names.filter(|path| path.extension().is_some_and(|e| e == "table")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_restored_directory_is_refused_and_stays_out() {
    let mut world = World::begin(LsmDurability::Sync).await;
    let copy = world.disks[2].crash(1);
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.set(0, 1).await.expect("a quorum");
    world.fall(2).await;
    let last = world.disks[2].crash(2);
    let old = world.start(2, copy, "boot 1").await;
    let why = tokio::time::timeout(Duration::from_secs(20), old.refused()).await;
    assert!(why.expect("the others know better").contains("old copy"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(old.coordinator().is_none() && !old.is_confirmed(), "it never serves");
    old.crash().await;
    world.leave(2).await;
    world.rise(2, last, "boot 2").await;
    assert!(world.is_whole(2), "the last copy of the directory is taken back as it is");
}

#[tokio::test(start_paused = true)]
async fn a_copy_younger_than_a_lease_is_filled_before_it_counts() {
    let mut world = World::begin(LsmDurability::Sync).await;
    let copy = world.disks[2].crash(1);
    for n in 0..20 {
        world.set(0, n).await.expect("a quorum");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.fall(2).await;
    world.rise(2, copy, "boot 1").await;
    assert!(!world.is_whole(2), "the others heard that it had more");
    world.until("it is filled", || world.is_whole(2)).await;
    assert_eq!(world.held(2).await, 20);
}

#[tokio::test(start_paused = true)]
async fn of_two_copies_that_run_at_once_one_goes_on() {
    let world = World::begin(LsmDurability::Sync).await;
    // Younger than a lease: its clock can't give it away.
    let copy = world.disks[2].crash(1);
    let clone = world.start(NODES, copy, "boot 1").await;
    let first = world.node(2);
    let why = tokio::time::timeout(Duration::from_secs(30), first.refused()).await;
    assert!(why.expect("any peer that it calls tells it").contains("another process"));
    assert!(clone.is_confirmed(), "one of them goes on");
    assert_eq!(world.set(2, 1).await, Err(RequestError::Stopping), "the other answers nobody");
}

#[tokio::test(start_paused = true)]
async fn nobody_serves_alone_what_others_may_know_better() {
    let mut world = World::begin(LsmDurability::Sync).await;
    for place in 0..NODES {
        world.fall(place).await;
    }
    let alone = world.start(0, world.disks[0].crash(1), "boot 2").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!alone.is_confirmed() && !alone.is_ready(), "one of three is no majority");
    let other = world.start(1, world.disks[1].crash(1), "boot 2").await;
    world.until("two of three are", || alone.is_confirmed() && other.is_confirmed()).await;
}

#[tokio::test(start_paused = true)]
async fn an_unsynced_tail_counts_for_nothing_after_a_power_cut_and_for_all_after_a_kill() {
    let mut world = World::begin(LsmDurability::Os).await;
    for n in 0..KEYS {
        world.set(n % NODES, n).await.expect("a quorum");
    }
    // The process is killed: what it wrote is in the system's hands.
    world.fall(2).await;
    let disk = world.disks[2].clone();
    world.rise(2, disk, "boot 1").await;
    assert!(world.is_whole(2), "nothing was lost");
    // The machine falls.
    world.fall(2).await;
    let cut = world.disks[2].crash(9);
    world.rise(2, cut, "boot 2").await;
    assert!(!world.is_whole(2), "something may have been lost");
    // A clean stop before it is filled must not make it whole.
    world.stop(2).await;
    let disk = world.disks[2].clone();
    world.rise(2, disk, "boot 2").await;
    assert!(!world.is_whole(2), "it still lacks what it lost");
    world.until("it is filled", || world.is_whole(2)).await;
    assert_eq!(world.held(2).await, KEYS);
    // And a clean stop of a whole one keeps it whole, whatever the machine does.
    world.stop(2).await;
    let disk = world.disks[2].crash(10);
    world.rise(2, disk, "boot 3").await;
    assert!(world.is_whole(2));
}

#[tokio::test(start_paused = true)]
async fn damaged_blocks_are_never_served_and_filled_from_others() {
    let mut world = World::begin(LsmDurability::Sync).await;
    for n in 0..KEYS {
        world.set(n % NODES, n).await.expect("a quorum");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.fall(2).await;
    let disk = world.disks[2].crash(3);
    let damaged = tables(&disk);
    assert!(!damaged.is_empty(), "nothing was flushed");
    for path in &damaged {
        let len = disk.open(path, OpenMode::Read).and_then(|file| file.len()).expect("a file");
        disk.flip_bit(path, 50, 3).expect("a block");
        disk.flip_bit(path, len / 2, 3).expect("another");
    }
    world.rise(2, disk.clone(), "boot 2").await;
    for n in 0..KEYS {
        let shown = world.get(2, n).await;
        assert_eq!(shown, Ok(Some(value(n))), "{n}");
    }
    world.until("damage is met", || world.node(2).figures().damaged_ranges.value() > 0).await;
    world.until("it is filled", || world.is_whole(2)).await;
    assert!(world.node(2).engine().damaged().is_empty(), "nothing unreadable is left");
    assert_eq!(world.held(2).await, KEYS, "it has everything again");
    // Alone with one other that never had it all, it shows everything.
    world.fall(0).await;
    for n in 0..KEYS {
        assert_eq!(world.get(2, n).await, Ok(Some(value(n))), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn hints_in_damaged_blocks_are_lost_and_told_and_the_rest_is_delivered() {
    let mut world = World::begin_as(LsmDurability::Sync, true).await;
    world.fall(2).await;
    for n in 0..KEYS {
        world.set(0, n).await.expect("two of three");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let hints = |world: &World| {
        let coordinator = world.node(0).coordinator().expect("it serves");
        let queued = coordinator.parts().replica.hints().queued();
        queued.values().map(|queued| queued.keys).sum::<u64>()
    };
    assert!(hints(&world) > 0, "nobody keeps what node 2 missed");
    // Hints sort behind all rows of keys, so the later blocks of a table hold them.
    let disk = &world.disks[0];
    for path in &tables(disk) {
        let len = disk.open(path, OpenMode::Read).and_then(|file| file.len()).expect("a file");
        disk.flip_bit(path, len * 5 / 8, 3).expect("a block of hints");
    }
    world.rise(2, world.disks[2].clone(), "boot 2").await;
    let figures = world.node(0).figures();
    world.until("damage is met", || figures.damaged_ranges.value() > 0).await;
    world.until("the loss is told", || figures.hints_lost.value() > 0).await;
    world.until("the rest is delivered", || hints(&world) == 0).await;
    assert!(world.node(0).engine().damaged().is_empty(), "nothing unreadable is left");
    assert!(figures.hints_delivered.value() > 0, "some hints were sound");
    for n in 0..KEYS {
        assert_eq!(world.get(2, n).await, Ok(Some(value(n))), "{n}");
    }
    world.until("node 0 is whole", || world.is_whole(0)).await;
}
