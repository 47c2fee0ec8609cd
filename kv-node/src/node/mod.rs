//! A node: its parts put together, started in order, stopped in order.
//!
//! ```text
//! directory -> id, record, layouts -> peers, membership -> transport serves
//!   -> birth, or the record that is there -> tenure, lease -> serving
//! ```
//!
//! Embeddable: a program builds a `Node` from a `NodeConfig` and `NodeParts`, several in one
//! process if it likes, and talks to its `Coordinator` or puts a front door before it. The binary
//! does the same with the operating system's parts.

mod admit;
mod alerts;
mod answers;
mod antientropy;
mod change;
mod clock_check;
mod collect;
mod config;
mod conflicts;
mod damage;
mod discover;
mod drain;
mod events;
mod give_up;
mod handler;
mod handoff;
#[cfg(test)]
mod handoff_tests;
mod happened;
mod held_clock;
mod layouts;
mod leftovers;
mod life;
mod load;
#[cfg(test)]
mod loss_tests;
mod open;
mod reshape;
mod scale;
mod split;
#[cfg(test)]
mod tests;
mod told;
mod transfers;
mod vitals;
mod workers;

pub use collect::CollectionStatus;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kv_client::NodeId;
use kv_lsm::fs::Fs;
use kv_ring::Partition;
use parking_lot::Mutex;

pub use change::ChangeError;
pub use config::{NodeConfig, NodeParts};
pub use drain::DrainFor;
pub(crate) use drain::{AtWork, DrainState};
pub use reshape::{NodeShare, Reshape, ReshapePlan, ZoneShare};
pub use split::SplitPlan;

use crate::cluster::birth::Birth;
use crate::cluster::changes::ChangeLog;
use crate::cluster::commit::Acceptor;
use crate::cluster::dots::DotSource;
use crate::cluster::membership::Membership;
use crate::cluster::meta::MetaStore;
use crate::cluster::state::ClusterState;
use crate::cluster::view::{Liveness, SharedView};
use crate::cluster::vitals::Vitals;
use crate::coordinator::exchange::AntiEntropyConfig;
use crate::coordinator::{Coordinator, Timing};
use crate::events::EventLog;
use crate::metrics::Figures;
use crate::plug::clock::Clock;
use crate::plug::exec::Exec;
use crate::plug::rng::Rng;
use crate::plug::storage::StorageEngine;
use crate::plug::transport::Transport;
use crate::replica::{HintConfig, Replica};
use crate::rpc::peer::Peers;
use crate::worker::Workers;
use clock_check::ClockCheck;
pub(crate) use held_clock::GAIN_MS_MAX;
use held_clock::HeldClock;
use life::Life;
use told::Told;

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    workers: Workers,
    /// How it takes part in scaling, if it does.
    scaling: OnceLock<scale::Scaling>,
    _lock: Box<dyn Send + Sync>,
}

/// What serves data, once there is a layout.
pub(crate) struct Serving {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) dots: Arc<DotSource>,
}

pub(crate) struct Inner {
    view: Arc<SharedView>,
    state: Arc<ClusterState>,
    acceptor: Acceptor,
    birth: Birth,
    membership: Membership,
    figures: Arc<Figures>,
    engine: Arc<dyn StorageEngine>,
    transport: Arc<dyn Transport>,
    peers: OnceLock<Arc<Peers>>,
    serving: OnceLock<Arc<Serving>>,
    /// The wall clock as far as it is confirmed, and the steady one.
    clock: Arc<dyn Clock>,
    held_clock: Arc<HeldClock>,
    rng: Arc<dyn Rng>,
    exec: Arc<dyn Exec>,
    timing: Timing,
    antientropy: AntiEntropyConfig,
    hints: HintConfig,
    clock_skew_ms_max: u64,
    collection: collect::Collection,
    clocks: ClockCheck,
    /// One change is proposed at a time.
    changing: tokio::sync::Mutex<()>,
    /// Layouts are taken one after the other, and nothing is dropped meanwhile.
    taking: tokio::sync::Mutex<()>,
    /// Layouts are fetched from one peer at a time.
    fetching: tokio::sync::Mutex<()>,
    /// Nothing is filled before: the engine forgot, and what counted this replica may be under way.
    refill_from_ms: AtomicU64,
    /// A fetch that an answer caused is under way.
    catching_up: AtomicBool,
    /// Since when it holds a decree that calls the newest change off, undecided; 0 if it does not.
    held_since_ms: AtomicU64,
    /// What is known of this node's life and of the others'.
    life: Life,
    /// When it started, by the wall clock.
    started_ms: u64,
    /// What happened to it.
    events: EventLog,
    /// The changes of the layout that it has taken.
    changes: ChangeLog,
    /// Partitions that began here with a layout, and which loss of theirs that was: nothing that
    /// counted this replica was under way then, so they are filled at once.
    begun_here: Mutex<BTreeMap<Partition, u64>>,
    /// Where the present transition began.
    transfer_base: Mutex<transfers::TransferBase>,
    /// Whether it is made ready to be stopped.
    drain: drain::Drain,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("me", &self.id()).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts a node: it answers peers on return, and clients as soon as `is_ready`.
    ///
    /// # Errors
    /// The directory can't be read or locked, or the address can't be listened on; nothing runs.
    pub async fn start(config: NodeConfig, parts: NodeParts) -> io::Result<Self> {
        let lock = lock_directory(&*parts.fs, &config.data_dir)?;
        let meta = MetaStore::open(Arc::clone(&parts.fs), &config.data_dir.join("meta"))?;
        let inner = Arc::new(Inner::open(&config, &parts, &Arc::new(meta))?);
        let peers = Arc::new(Peers::new(
            config.peers,
            Arc::clone(&parts.transport),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.exec),
            Arc::new(Told { node: Arc::downgrade(&inner), me: inner.view.now().me }),
        ));
        let answering = Arc::downgrade(&peers);
        inner.membership.ask_of_answers(move |node| {
            answering.upgrade().is_some_and(|peers| peers.answers(node))
        });
        assert!(inner.peers.set(peers).is_ok(), "the peers are set once");
        if inner.is_alone() {
            inner.take_up().await?;
        }
        inner.transport.serve(Arc::new(handler::Handler(Arc::clone(&inner)))).await?;
        let workers = Workers::new(Arc::clone(&inner.clock), Arc::clone(&inner.exec));
        workers::start_all(&workers, &inner);
        Ok(Self { inner, workers, scaling: OnceLock::new(), _lock: lock })
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.inner.view.now().me
    }

    /// The cluster as this node sees it.
    pub fn view(&self) -> &Arc<SharedView> {
        &self.inner.view
    }

    /// Counters.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.inner.figures
    }

    /// The coordinator, once there is a layout.
    pub fn coordinator(&self) -> Option<Arc<Coordinator>> {
        self.inner.serving().map(|serving| Arc::clone(&serving.coordinator))
    }

    /// How old floors and marks are, and who holds them back.
    pub fn collection(&self) -> CollectionStatus {
        self.inner.collection_status()
    }

    /// What happened to this node.
    pub(crate) fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// When it started, milliseconds since 1970 by its own clock.
    pub(crate) fn started_ms(&self) -> u64 {
        self.inner.started_ms
    }

    /// How every member fares, as it told with its gossip.
    pub fn vitals(&self) -> BTreeMap<NodeId, Vitals> {
        self.inner.membership.vitals()
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn StorageEngine> {
        &self.inner.engine
    }

    /// The senders to peers.
    pub fn peers(&self) -> Option<&Arc<Peers>> {
        self.inner.peers.get()
    }

    /// Background loops, with what they are doing.
    pub fn workers(&self) -> Vec<(&'static str, String)> {
        self.workers.statuses()
    }

    /// Whether the node serves and every member of its newest layout is up, as far as it knows.
    pub fn sees_all(&self) -> bool {
        let view = self.inner.view.now();
        self.inner.serving().is_some()
            && view.layouts.as_ref().is_some_and(|layouts| {
                layouts.newest().members().iter().all(|node| {
                    *node == view.me
                        || view.members.get(node).is_some_and(|m| m.liveness == Liveness::Up)
                })
            })
    }

    /// Whether the node serves requests.
    pub fn is_ready(&self) -> bool {
        let view = self.inner.view.now();
        self.inner.serving().is_some() && !view.is_removed(view.me)
    }

    /// Whether a majority of the members knows this node's directory for its last one: before that
    /// it neither serves nor votes.
    pub fn is_confirmed(&self) -> bool {
        self.inner.is_confirmed()
    }

    /// Returns when the other members refuse this node for good, and says why: its directory is an
    /// old copy, or runs twice.
    pub async fn refused(&self) -> String {
        self.inner.refused().await
    }

    /// Stops: says goodbye, stops answering, makes everything durable.
    ///
    /// # Errors
    /// The engine could not make everything durable.
    pub async fn stop(&self) -> io::Result<()> {
        let inner = &self.inner;
        inner.membership.leave(inner.clock.steady_ms());
        workers::gossip_once(inner);
        inner.clock.sleep(Duration::from_millis(20)).await;
        if inner.drain.is_on() {
            inner.until_let_go().await;
        }
        self.workers.stop();
        inner.transport.close().await;
        if let Some(peers) = inner.peers.get() {
            peers.stop();
        }
        inner.engine.close().await.map_err(io::Error::other)?;
        if inner.serving().is_none() {
            return Ok(());
        }
        let node = Arc::clone(inner);
        inner.blocking(move || node.end_run()).await
    }

    /// Drops everything at once, as a crash would: nothing is said, nothing is made durable.
    pub async fn crash(self) {
        self.workers.stop();
        self.inner.transport.close().await;
        if let Some(peers) = self.inner.peers.get() {
            peers.stop();
        }
    }
}

fn lock_directory(fs: &dyn Fs, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
    fs.create_dir(dir)?;
    fs.lock(&dir.join("LOCK")).map_err(|error| {
        let why = format!("{} is in use by another process: {error}", dir.display());
        io::Error::new(error.kind(), why)
    })
}

impl Inner {
    /// What serves data, if there is a layout.
    #[inline]
    pub(crate) fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.get().map(Arc::clone)
    }

    fn dots(&self) -> Option<&Arc<DotSource>> {
        self.serving.get().map(|serving| &serving.dots)
    }

    /// Runs blocking work and gives its result.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = tokio::sync::oneshot::channel();
        self.exec.blocking(Box::new(move || drop(give.send(work())))).await;
        take.await.expect("blocking work gives its result before it returns")
    }

    /// Whether there is a record, and nobody else in its layout.
    fn is_alone(&self) -> bool {
        let view = self.view.now();
        view.layouts.as_ref().is_some_and(|layouts| layouts.newest().members() == [view.me])
    }
}
