//! The world: production nodes, each with a disk, a clock and a power plug, on one network.
//!
//! A node's engine works inline; a housekeeper does its flushes and compactions every few
//! milliseconds, as a thread would beside the requests. A node falls with everything that it was
//! doing, and what it held in memory is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_lsm::fs::Fs;
use kv_node::cluster::birth::BirthPlan;
use kv_node::cluster::record::{KeyspaceSettings, LevelSetting};
use kv_node::coordinator::{Coordinator, Timing};
use kv_node::node::{Node, NodeConfig, NodeParts};
use kv_node::plug::clock::{Clock, TokioClock};
use kv_node::plug::exec::Exec;
use kv_node::plug::inproc::InProcNetwork;
use kv_node::plug::lsm::{LsmDurability, LsmEngine};
use kv_node::plug::rng::SeededRng;
use kv_node::rpc::peer::PeersConfig;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::disk::Power;
use super::exec::LifeExec;
use super::random::Random;

/// Milliseconds since 1970 at which every run begins.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long the nodes may take to find each other.
const MEETING_MS_MAX: u64 = 60_000;
/// The housekeeper's rest.
const HOUSEKEEPING_MS: u64 = 5;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Nodes, at least 3.
    pub nodes: usize,
    /// How far a node's wall clock is from the true time at most, either way, in milliseconds.
    pub skew_ms_max: u64,
    /// How many copies a read and a write wait for.
    pub copies: LevelSetting,
    /// The engines.
    pub lsm: kv_lsm::Config,
}

impl WorldConfig {
    /// Sizes at which a few hundred writes fill a memtable, flush and compact.
    #[must_use]
    pub fn engine() -> kv_lsm::Config {
        kv_lsm::Config {
            value_bytes_max: 12 << 10,
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
    places: Vec<Place>,
    clock: Arc<TokioClock>,
    panics: Arc<AtomicU64>,
}

struct Place {
    clock: Arc<TokioClock>,
    running: Mutex<Option<Running>>,
    starts: Mutex<u64>,
}

struct Running {
    node: Node,
    exec: Arc<LifeExec>,
    life: watch::Sender<bool>,
}

/// A node's front door, for as long as the node lives.
#[derive(Clone)]
pub struct Door {
    /// What takes requests.
    pub coordinator: Arc<Coordinator>,
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
        let random = Random::of(seed, "clocks");
        let skewed = |_| {
            let own = TokioClock::new(EPOCH_MS);
            let skew_ms = random.below(2 * config.skew_ms_max + 1).cast_signed();
            own.skew(skew_ms - config.skew_ms_max.cast_signed());
            Place { clock: Arc::new(own), running: Mutex::default(), starts: Mutex::default() }
        };
        let places = (0..config.nodes).map(skewed).collect();
        let power = Power::new(config.nodes);
        let world = Self { config, seed, network, power, places, clock, panics };
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
        Some(Door { coordinator, life: running.life.subscribe() })
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
        let engine = LsmEngine::open(
            Arc::clone(&fs),
            Path::new("/data/lsm"),
            self.config.lsm.clone(),
            LsmDurability::Sync,
            Arc::clone(&exec) as Arc<dyn Exec>,
        )
        .map_err(|error| unable("the engine", &error))?;
        let housekeeper = engine.clone();
        let clock = Arc::clone(&at.clock) as Arc<dyn Clock>;
        let rest = Arc::clone(&clock);
        exec.spawn(Box::pin(async move {
            while housekeeper.step_until_idle().await.is_ok() {
                rest.sleep(Duration::from_millis(HOUSEKEEPING_MS)).await;
            }
        }));
        let chance = Random::of(self.seed, &format!("node {place} start {start}")).next();
        let parts = NodeParts {
            fs,
            engine: Arc::new(engine),
            transport: Arc::new(self.network.endpoint(Self::address(place))),
            clock,
            rng: Arc::new(SeededRng::new(chance)),
            exec: Arc::clone(&exec) as Arc<dyn Exec>,
        };
        let node = Node::start(self.node_config(place), parts)
            .await
            .map_err(|error| unable("the node", &error))?;
        let (life, _) = watch::channel(false);
        *at.running.lock() = Some(Running { node, exec, life });
        Ok(())
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
                // With fallbacks counted a read need not meet a write, which is what is checked.
                keyspace: KeyspaceSettings {
                    sloppy: false,
                    read: self.config.copies,
                    write: self.config.copies,
                    ..KeyspaceSettings::default()
                },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: Timing { request_ms_max: 1_000, ..Timing::default() },
            peers: PeersConfig::default(),
            hints: kv_node::replica::HintConfig::default(),
            clock_skew_ms_max: 60_000,
            floors: kv_node::cluster::floors::FloorTiming::default(),
        }
    }

    /// Ends a node whose power was cut.
    pub async fn fall(&self, place: usize) {
        let Some(at) = self.places.get(place) else { return };
        let running = at.running.lock().take();
        if let Some(Running { node, exec, life }) = running {
            life.send_replace(true);
            exec.kill();
            node.crash().await;
        }
    }

    /// Starts every node that does not run, and heals the network.
    ///
    /// # Errors
    /// A node can't start, or they don't find each other.
    pub async fn heal(&self) -> Result<(), String> {
        self.network.set_all(kv_node::plug::inproc::LinkFaults::default());
        self.network.heal();
        for (place, at) in self.places.iter().enumerate() {
            let runs = at.running.lock().is_some();
            if !runs {
                self.start(place).await?;
            }
        }
        self.met().await
    }

    /// Returns when every node that runs sees all others.
    async fn met(&self) -> Result<(), String> {
        let deadline_us = self.now_us() + MEETING_MS_MAX * 1_000;
        let all = || {
            self.places
                .iter()
                .all(|at| at.running.lock().as_ref().is_some_and(|running| running.node.sees_all()))
        };
        while !all() {
            if self.panics() > 0 {
                return Err("a node's task panicked".into());
            }
            if self.now_us() > deadline_us {
                return Err("the nodes do not see each other after a minute".into());
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
