//! The world: production nodes, each with a disk, a clock and a power plug, on one network.
//!
//! A node's engine works inline; a housekeeper does its flushes and compactions every few
//! milliseconds, as a thread would beside the requests. A node falls with everything that it was
//! doing, and what it held in memory is gone. One that is paused stands behind its gate.

mod config;
mod healing;
mod lives;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_node::coordinator::Coordinator;
use kv_node::node::Node;
use kv_node::plug::clock::{Clock, TokioClock};
use kv_node::plug::exec::Exec;
use kv_node::plug::inproc::InProcNetwork;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use config::{DEADLINES_MAX, REQUEST_MS_MAX, WorldConfig};
pub use lives::{Asked, Taken};

use super::disk::Power;
use super::exec::LifeExec;
use super::gate::Gate;
use super::random::Random;
use super::watch::Mints;
use lives::Place;

/// Milliseconds since 1970 at which every run begins.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
/// Where a node's engine lives on its disk; beside it is what the node must not forget.
pub const ENGINE_DIR: &str = "/data/lsm";
/// The directories in which the engine has files: tables, and the log.
pub const ENGINE_DIRS: [&str; 2] = [ENGINE_DIR, "/data/lsm/log"];

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
            mints: Arc::new(Mints::new(Arc::clone(&clock))),
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

    /// How far a wall clock is from the true time when all is healed, in milliseconds.
    #[must_use]
    pub fn skew_ms_healed(&self) -> u64 {
        self.config.skew_ms_max
    }

    /// How far apart the nodes take sound clocks to be, in milliseconds.
    #[must_use]
    pub fn clock_skew_ms_max(&self) -> u64 {
        self.config.clock_skew_ms_max
    }

    /// Bytes of hints that a node keeps, if it serves.
    #[must_use]
    pub fn hint_bytes(&self, place: usize) -> u64 {
        let of = self.with_node(place, Node::coordinator).flatten();
        of.map_or(0, |of| of.parts().replica.hints().bytes())
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
                running.node.figures().each(|figure, value| {
                    sum += if figure == name { value } else { 0 };
                });
            }
        }
        sum
    }
}
