//! The world: production nodes, each with a disk, a clock and a power plug, on one network.
//!
//! A node's engine works inline; a housekeeper does its flushes and compactions every few
//! milliseconds, as a thread would beside the requests. A node falls with everything that it was
//! doing, and what it held in memory is gone. One that is paused stands behind its gate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_client::NodeId;
use kv_lsm::fs::Fs;
use kv_node::cluster::birth::BirthPlan;
use kv_node::cluster::record::{KeyspaceSettings, LevelSetting};
use kv_node::coordinator::{Coordinator, Timing};
use kv_node::node::{Node, NodeConfig, NodeParts};
use kv_node::plug::clock::{Clock, TokioClock};
use kv_node::plug::exec::Exec;
use kv_node::plug::inproc::InProcNetwork;
use kv_node::plug::lsm::{LsmDurability, LsmEngine};
use kv_node::plug::memory::{MemoryConfig, MemoryEngine};
use kv_node::plug::rng::SeededRng;
use kv_node::plug::storage::StorageEngine;
use kv_node::rpc::peer::PeersConfig;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::disk::Power;
use super::exec::LifeExec;
use super::gate::{Gate, GatedTransport};
use super::random::Random;
use super::watch::{Mints, WatchedEngine};

/// Milliseconds since 1970 at which every run begins.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long the nodes may take to find each other.
const MEETING_MS_MAX: u64 = 60_000;
/// How long it may take to replace a node, faults of the network included.
const REPLACING_MS_MAX: u64 = 120_000;
/// Rest between two tries to replace a node.
const REPLACING_REST_MS: u64 = 200;
/// How far floors lie behind the clocks: little, so that every run collects.
const FLOOR_LAG_MS: u64 = 2_000;
/// When a floor that does not move is an alarm.
const FLOOR_ALARM_MS: u64 = 20_000;
/// The housekeeper's rest.
const HOUSEKEEPING_MS: u64 = 10;
/// Where a node's engine lives on its disk; beside it is what the node must not forget.
pub const ENGINE_DIR: &str = "/data/lsm";
/// The directories in which the engine has files: tables, and the log.
pub const ENGINE_DIRS: [&str; 2] = [ENGINE_DIR, "/data/lsm/log"];

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Nodes, at least 3.
    pub nodes: usize,
    /// How far a node's wall clock is from the true time at most, either way, in milliseconds.
    pub skew_ms_max: u64,
    /// How many copies a read and a write wait for.
    pub copies: LevelSetting,
    /// Whether fallbacks stand in for primaries that are down: then a read need not meet a write
    /// before all is healed.
    pub sloppy: bool,
    /// The engines.
    pub lsm: kv_lsm::Config,
    /// How long a sync takes, in milliseconds.
    pub sync_ms: u64,
    /// Engines in memory instead, which forget everything with their process.
    pub memory: bool,
}

impl WorldConfig {
    /// Sizes at which a few hundred writes fill a memtable, flush and compact.
    #[must_use]
    pub fn engine() -> kv_lsm::Config {
        kv_lsm::Config {
            // A record of many small siblings fits; a pair is at most 10 KiB.
            value_bytes_max: 24 << 10,
            batch_bytes_max: 32 << 10,
            log_buffer_bytes_max: 16 << 10,
            log_segment_bytes: 64 << 10,
            log_bytes_max: 512 << 10,
            cache_bytes_max: 256 << 10,
            memtable_bytes_max: 32 << 10,
            memtables_sealed_max: 4,
            ..kv_lsm::Config::tiny()
        }
    }
}

/// Nodes, disks and the network between them.
pub struct World {
    config: WorldConfig,
    seed: u64,
    /// The network, for faults.
    pub network: InProcNetwork,
    /// The power of the disks.
    pub power: Power,
    /// What nodes minted for the watched keys.
    pub mints: Arc<Mints>,
    places: Vec<Place>,
    clock: Arc<TokioClock>,
    panics: Arc<AtomicU64>,
    /// The furthest that any wall clock was from the true time.
    skew_ms_seen: AtomicU64,
    /// What was done to the world, and when.
    log: Mutex<Vec<(u64, String)>>,
}

struct Place {
    clock: Arc<TokioClock>,
    running: Mutex<Option<Running>>,
    starts: Mutex<u64>,
}

struct Running {
    node: Arc<Node>,
    exec: Arc<LifeExec>,
    life: watch::Sender<bool>,
}

/// A node's front door, for as long as the node lives.
#[derive(Clone)]
pub struct Door {
    /// What takes requests.
    pub coordinator: Arc<Coordinator>,
    /// What they run behind, as all that the node does.
    pub gate: Arc<Gate>,
    life: watch::Receiver<bool>,
}

impl Door {
    /// Returns when the node has fallen.
    pub async fn shut(&mut self) {
        // The sender goes with the node, and that ends the wait too.
        let _gone = self.life.wait_for(|ended| *ended).await;
    }

    /// Whether the node has fallen.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        *self.life.borrow() || self.life.has_changed().is_err()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("shut", &self.is_shut()).finish_non_exhaustive()
    }
}

impl World {
    /// A world whose nodes have met and serve.
    ///
    /// # Errors
    /// A node could not start, or they did not find each other in a minute of their time.
    pub async fn begin(seed: u64, config: WorldConfig) -> Result<Self, String> {
        let clock = Arc::new(TokioClock::new(EPOCH_MS));
        let panics = Arc::default();
        let exec: Arc<dyn Exec> = Arc::new(LifeExec::new(Arc::clone(&panics)));
        let network = InProcNetwork::new(Arc::clone(&clock) as Arc<dyn Clock>, exec, seed);
        let place = |_| Place {
            clock: Arc::new(TokioClock::new(EPOCH_MS)),
            running: Mutex::default(),
            starts: Mutex::default(),
        };
        let places = (0..config.nodes).map(place).collect();
        let power = Power::new(config.nodes);
        let world = Self {
            config,
            seed,
            network,
            power,
            mints: Arc::default(),
            places,
            clock,
            panics,
            skew_ms_seen: AtomicU64::new(0),
            log: Mutex::default(),
        };
        world.set_clocks_near(&Random::of(seed, "clocks"));
        for place in 0..world.nodes() {
            world.start(place).await?;
        }
        world.met().await?;
        Ok(world)
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.places.len()
    }

    /// Microseconds since the beginning.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.steady_us()
    }

    /// Milliseconds since 1970 of the true time, which no node knows.
    #[must_use]
    pub fn true_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Notes what is done to the world.
    pub fn note(&self, what: String) {
        self.log.lock().push((self.now_us(), what));
    }

    /// What was done to the world so far, and when, in microseconds.
    #[must_use]
    pub fn log(&self) -> Vec<(u64, String)> {
        self.log.lock().clone()
    }

    /// Puts a node's wall clock so far from the true time.
    pub fn skew(&self, place: usize, skew_ms: i64) {
        if let Some(at) = self.places.get(place) {
            at.clock.skew(skew_ms);
            self.skew_ms_seen.fetch_max(skew_ms.unsigned_abs(), Ordering::Relaxed);
        }
    }

    /// The furthest that any wall clock was from the true time so far.
    #[must_use]
    pub fn skew_ms_seen(&self) -> u64 {
        self.skew_ms_seen.load(Ordering::Relaxed)
    }

    /// Puts every wall clock as far from the true time as ordinary clocks are here.
    pub fn set_clocks_near(&self, random: &Random) {
        let far_ms = self.config.skew_ms_max;
        for place in 0..self.nodes() {
            self.skew(place, random.below(2 * far_ms + 1).cast_signed() - far_ms.cast_signed());
        }
    }

    /// The address of a node.
    #[must_use]
    pub fn address(place: usize) -> String {
        format!("n{place}")
    }

    /// The door of a node, if it runs and serves.
    #[must_use]
    pub fn door(&self, place: usize) -> Option<Door> {
        let running = self.places.get(place)?.running.lock();
        let running = running.as_ref()?;
        let coordinator = running.node.coordinator()?;
        let gate = Arc::clone(running.exec.gate());
        Some(Door { coordinator, gate, life: running.life.subscribe() })
    }

    /// Whether a node runs, serving or not.
    #[must_use]
    pub fn runs(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|at| at.running.lock().is_some())
    }

    /// Stops a node where it stands, or lets it go on.
    pub fn pause(&self, place: usize, paused: bool) {
        let Some(at) = self.places.get(place) else { return };
        if let Some(running) = at.running.lock().as_ref() {
            if paused {
                running.exec.gate().shut();
            } else {
                running.exec.gate().open();
            }
        }
    }

    /// What looks at a node that runs.
    pub(super) fn with_node<T>(&self, place: usize, look: impl FnOnce(&Node) -> T) -> Option<T> {
        let at = self.places.get(place)?;
        at.running.lock().as_ref().map(|running| look(&running.node))
    }

    /// Nodes that run and whose engine takes no more writes.
    #[must_use]
    pub fn poisoned(&self) -> Vec<usize> {
        let poisoned = |place: &usize| {
            self.with_node(*place, |node| node.engine().status(None).0.poisoned.is_some())
        };
        (0..self.nodes()).filter(|place| poisoned(place) == Some(true)).collect()
    }

    /// Tasks of nodes that panicked so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Adds up one of the nodes' counters, of those that run.
    #[must_use]
    pub fn figure(&self, name: &str) -> u64 {
        let mut sum = 0;
        for place in &self.places {
            if let Some(running) = place.running.lock().as_ref() {
                running.node.figures().each(|figure, _, value| {
                    sum += if figure == name { value } else { 0 };
                });
            }
        }
        sum
    }

    /// Starts a node on what its disk holds.
    ///
    /// # Errors
    /// It can't start.
    pub async fn start(&self, place: usize) -> Result<(), String> {
        let Some(at) = self.places.get(place) else { return Err("no such node".into()) };
        let start = {
            let mut starts = at.starts.lock();
            *starts += 1;
            *starts
        };
        let fs: Arc<dyn Fs> = Arc::new(self.power.on(place));
        let exec = Arc::new(LifeExec::new(Arc::clone(&self.panics)));
        let unable = |what: &str, error: &dyn std::fmt::Display| {
            format!("node {place}, start {start}: {what}: {error}")
        };
        let clock = Arc::clone(&at.clock) as Arc<dyn Clock>;
        let engine =
            self.engine(&fs, &exec, &clock).map_err(|error| unable("the engine", &error))?;
        let chance = Random::of(self.seed, &format!("node {place} start {start}")).next();
        let parts = NodeParts {
            fs,
            engine,
            transport: Arc::new(GatedTransport {
                inner: self.network.endpoint(Self::address(place)),
                gate: Arc::clone(exec.gate()),
            }),
            clock,
            rng: Arc::new(SeededRng::new(chance)),
            exec: Arc::clone(&exec) as Arc<dyn Exec>,
        };
        let node = Node::start(self.node_config(place), parts)
            .await
            .map_err(|error| unable("the node", &error))?;
        let (life, _) = watch::channel(false);
        *at.running.lock() = Some(Running { node: Arc::new(node), exec, life });
        Ok(())
    }

    /// An engine on what a disk holds, watched, with a housekeeper if it needs one.
    fn engine(
        &self,
        fs: &Arc<dyn Fs>,
        exec: &Arc<LifeExec>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn StorageEngine>, kv_lsm::Error> {
        let (mints, sync_ms) = (Arc::clone(&self.mints), self.config.sync_ms);
        if self.config.memory {
            let inner = MemoryEngine::new(MemoryConfig::default());
            return Ok(Arc::new(WatchedEngine { inner, mints, sync_ms: 0 }));
        }
        let inner = LsmEngine::open(
            Arc::clone(fs),
            Path::new(ENGINE_DIR),
            self.config.lsm.clone(),
            LsmDurability::Sync,
            Arc::clone(exec) as Arc<dyn Exec>,
        )?;
        let (housekeeper, clock) = (inner.clone(), Arc::clone(clock));
        exec.spawn(Box::pin(async move {
            while housekeeper.step_until_idle().await.is_ok() {
                clock.sleep(Duration::from_millis(HOUSEKEEPING_MS)).await;
            }
        }));
        Ok(Arc::new(WatchedEngine { inner, mints, sync_ms }))
    }

    /// Whether every node runs and has everything that it ever acknowledged, as far as it knows.
    #[must_use]
    pub fn is_repaired(&self) -> bool {
        let complete = |node: &Node| {
            node.coordinator().is_some_and(|own| own.parts().replica.standings().all_complete())
        };
        (0..self.nodes()).all(|place| self.with_node(place, complete) == Some(true))
    }

    /// Whether a node that ends has forgotten what it acknowledged.
    #[must_use]
    pub fn forgets_by_ending(&self) -> bool {
        self.config.memory
    }

    fn node_config(&self, place: usize) -> NodeConfig {
        NodeConfig {
            data_dir: PathBuf::from("/data"),
            address: Self::address(place),
            client_address: String::new(),
            zone: String::new(),
            weight: 1,
            seeds: (0..self.nodes()).map(Self::address).collect(),
            bootstrap_expect: self.nodes() as u16,
            birth: BirthPlan {
                name: "simulated".into(),
                partitions: 16,
                keyspace: KeyspaceSettings {
                    sloppy: self.config.sloppy,
                    read: self.config.copies,
                    write: self.config.copies,
                    ..KeyspaceSettings::default()
                },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: Timing { request_ms_max: 1_000, ..Timing::default() },
            peers: PeersConfig::default(),
            antientropy: kv_node::coordinator::exchange::AntiEntropyConfig::default(),
            hints: kv_node::replica::HintConfig::default(),
            clock_skew_ms_max: 60_000,
            floors: kv_node::cluster::floors::FloorTiming::with_lag(FLOOR_LAG_MS, FLOOR_ALARM_MS),
        }
    }

    /// Ends a node: its process is gone. Its disk stays on for whoever cuts its power.
    pub async fn fall(&self, place: usize) {
        let Some(at) = self.places.get(place) else { return };
        let running = at.running.lock().take();
        if let Some(Running { node, exec, life }) = running {
            life.send_replace(true);
            exec.kill();
            let node = Arc::into_inner(node).expect("nobody holds a node that falls");
            node.crash().await;
        }
    }

    /// The identity of a node that runs: that of its disk.
    #[must_use]
    pub fn id(&self, place: usize) -> Option<NodeId> {
        self.with_node(place, Node::id)
    }

    /// Has the node that runs at a place on an empty disk replace the one that had its disk there
    /// before. Nothing may end a node meanwhile.
    ///
    /// # Errors
    /// Nobody could do it in two minutes.
    pub async fn replace(&self, place: usize, old: NodeId) -> Result<(), String> {
        let until_us = self.now_us() + REPLACING_MS_MAX * 1_000;
        let mut told = String::new();
        while self.now_us() < until_us {
            for other in (0..self.nodes()).filter(|other| *other != place) {
                let helper = self.places.get(other).and_then(|at| {
                    at.running.lock().as_ref().map(|running| Arc::clone(&running.node))
                });
                let (Some(helper), Some(new)) = (helper, self.id(place)) else { continue };
                match helper.replace(old, new).await {
                    Ok(epoch) => {
                        self.note(format!("node {place} is replaced in layout {epoch}"));
                        return Ok(());
                    }
                    Err(error) => told = error.to_string(),
                }
            }
            self.clock.sleep(Duration::from_millis(REPLACING_REST_MS)).await;
        }
        Err(format!("node {place} could not be replaced: {told}"))
    }

    /// Ends a node as kill -9 does: what it wrote to the system is safe, synced or not.
    pub async fn kill(&self, place: usize) {
        self.power.release(place);
        self.fall(place).await;
    }

    /// Starts every node that does not run, ends every trouble, and heals the network.
    ///
    /// # Errors
    /// A node can't start, or they don't find each other.
    pub async fn heal(&self) -> Result<(), String> {
        self.note("heal".into());
        self.network.set_all(kv_node::plug::inproc::LinkFaults::default());
        self.network.heal();
        self.set_clocks_near(&Random::of(self.seed, "clocks at last"));
        for place in 0..self.nodes() {
            self.pause(place, false);
            self.power.trouble(place, None);
            self.power.fill(place, false);
        }
        for place in self.poisoned() {
            self.kill(place).await;
        }
        for place in 0..self.nodes() {
            if !self.runs(place) {
                self.start(place).await?;
            }
        }
        self.met().await
    }

    /// Returns when every node that runs sees all others.
    async fn met(&self) -> Result<(), String> {
        let deadline_us = self.now_us() + MEETING_MS_MAX * 1_000;
        // A replica that lost something counts for reads when it is filled; a peer that refused is
        // asked again after a while.
        let is_whole = |node: &Node| {
            let filled = |node: &Coordinator| node.parts().replica.standings().all_complete();
            let reaches_all = node.view().now().down().is_empty();
            node.sees_all() && reaches_all && node.coordinator().is_some_and(|node| filled(&node))
        };
        while !(0..self.nodes()).all(|place| self.with_node(place, is_whole) == Some(true)) {
            if self.panics() > 0 {
                return Err("a node's task panicked".into());
            }
            if self.now_us() > deadline_us {
                return Err(
                    "the nodes do not see each other, or are not filled, after a minute".into()
                );
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
