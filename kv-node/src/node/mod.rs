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

mod handler;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kv_client::NodeId;
use kv_lsm::fs::Fs;
use kv_ring::PartitionCount;
use parking_lot::Mutex;

use crate::cluster::birth::{Birth, BirthPlan};
use crate::cluster::commit::Acceptor;
use crate::cluster::dots::DotSource;
use crate::cluster::membership::{Membership, MembershipConfig};
use crate::cluster::meta::MetaStore;
use crate::cluster::state::{ClusterState, node_id};
use crate::cluster::view::{Liveness, Member, SharedView, View};
use crate::cluster::wire::Newborn;
use crate::coordinator::{Coordinator, Parts, Timing};
use crate::metrics::Figures;
use crate::plug::clock::Clock;
use crate::plug::exec::Exec;
use crate::plug::rng::Rng;
use crate::plug::storage::StorageEngine;
use crate::plug::transport::{PeerAddress, Transport};
use crate::replica::Replica;
use crate::rpc::PeerSender;
use crate::rpc::peer::{PeerEvents, Peers, PeersConfig};
use crate::wire::{CallFailure, Envelope, PROTOCOL_VERSION, Refusal};
use crate::worker::Workers;

/// What an operator decides about a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where it keeps what it must not forget.
    pub data_dir: PathBuf,
    /// Where peers reach it.
    pub address: PeerAddress,
    /// Where clients reach it, as others tell them.
    pub client_address: String,
    /// Its zone; may be empty.
    pub zone: String,
    /// Its share of the data, relative to others.
    pub weight: u32,
    /// Where it looks for others.
    pub seeds: Vec<PeerAddress>,
    /// How many empty nodes begin a cluster; 0 waits to be joined.
    pub bootstrap_expect: u16,
    /// The cluster that they begin.
    pub birth: BirthPlan,
    /// Pace of membership.
    pub gossip: kv_gossip::Config,
    /// Bounds in time of requests.
    pub timing: Timing,
    /// Bounds of the senders to peers.
    pub peers: PeersConfig,
    /// How far apart sound clocks may be.
    pub clock_skew_ms_max: u64,
}

/// What a node needs of the world.
pub struct NodeParts {
    /// The disk, for what must not be forgotten.
    pub fs: Arc<dyn Fs>,
    /// The engine, open.
    pub engine: Arc<dyn StorageEngine>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Tasks and blocking work.
    pub exec: Arc<dyn Exec>,
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    workers: Workers,
    _lock: Box<dyn Send + Sync>,
}

/// What serves data, once there is a layout.
pub(crate) struct Serving {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) dots: Arc<DotSource>,
    pub(crate) partitions: PartitionCount,
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
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    exec: Arc<dyn Exec>,
    timing: Timing,
    clock_skew_ms_max: u64,
    /// How far each member's clock is from this one's, in ms, as its last answer told.
    offsets: Mutex<BTreeMap<NodeId, i64>>,
    /// Whether this node's clock is too far from a majority's to mint.
    skewed: Arc<AtomicBool>,
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
        assert!(inner.peers.set(peers).is_ok(), "the peers are set once");
        if inner.state.has_record() {
            inner.begin_serving().await?;
            inner.forget_if_volatile();
        }
        inner.transport.serve(Arc::new(handler::Handler(Arc::clone(&inner)))).await?;
        let workers = Workers::new(Arc::clone(&inner.clock), Arc::clone(&inner.exec));
        workers::start_all(&workers, &inner);
        Ok(Self { inner, workers, _lock: lock })
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
        self.inner.serving().is_some()
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
        self.workers.stop();
        inner.transport.close().await;
        if let Some(peers) = inner.peers.get() {
            peers.stop();
        }
        inner.engine.close().await.map_err(io::Error::other)
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
    fn open(config: &NodeConfig, parts: &NodeParts, meta: &Arc<MetaStore>) -> io::Result<Self> {
        let me = node_id(meta, &*parts.rng)?;
        let view = Arc::new(SharedView::new(View::empty(me)));
        let state = Arc::new(ClusterState::load(Arc::clone(meta), Arc::clone(&view))?);
        let member = Member {
            address: config.address.clone(),
            client_address: config.client_address.clone(),
            zone: config.zone.clone(),
            liveness: Liveness::Up,
        };
        let membership = MembershipConfig {
            node: me,
            me: member,
            incarnation: parts.clock.wall_ms(),
            seed: parts.rng.next_u64(),
            gossip: config.gossip.clone(),
        };
        let now_ms = parts.clock.steady_ms();
        let membership = Membership::new(membership, &config.seeds, Arc::clone(&view), now_ms)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let newborn = Newborn {
            node: me,
            address: config.address.clone(),
            client_address: config.client_address.clone(),
            zone: config.zone.clone(),
            weight: config.weight,
            expect: config.bootstrap_expect,
            sees: vec![me],
            has_record: state.has_record(),
        };
        let birth = Birth::new(
            Arc::clone(&state),
            config.birth.clone(),
            newborn,
            &config.seeds,
            Arc::clone(&parts.rng),
        );
        Ok(Self {
            acceptor: Acceptor::new(Arc::clone(&state), Arc::clone(&view)),
            view,
            state,
            birth,
            membership,
            figures: Arc::new(Figures::default()),
            engine: Arc::clone(&parts.engine),
            transport: Arc::clone(&parts.transport),
            peers: OnceLock::new(),
            serving: OnceLock::new(),
            clock: Arc::clone(&parts.clock),
            rng: Arc::clone(&parts.rng),
            exec: Arc::clone(&parts.exec),
            timing: config.timing,
            clock_skew_ms_max: config.clock_skew_ms_max,
            offsets: Mutex::default(),
            skewed: Arc::default(),
        })
    }

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

    /// Begins new tenures and serves: there is a record and a layout.
    async fn begin_serving(self: &Arc<Self>) -> io::Result<()> {
        if self.serving.get().is_some() {
            return Ok(());
        }
        let node = Arc::clone(self);
        let (dots, replica) = self
            .blocking(move || {
                let view = node.view.now();
                let count = view.record.as_ref().map_or(0, |record| usize::from(record.partitions));
                let meta = Arc::clone(node.state.meta());
                let dots = DotSource::open(
                    view.me,
                    count,
                    Arc::clone(&meta),
                    Arc::clone(&node.rng),
                    node.clock.wall_ms(),
                    node.clock_skew_ms_max,
                )?;
                let partitions = PartitionCount::new(count as u32)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                let replica = Replica::open(Arc::clone(&node.engine), meta, partitions)?;
                Ok::<_, io::Error>((Arc::new(dots), Arc::new(replica)))
            })
            .await?;
        let Some(peers) = self.peers.get() else {
            return Err(io::Error::other("the peers are not set yet"));
        };
        let view = self.view.now();
        let Some(layouts) = &view.layouts else { return Err(io::Error::other("no layout")) };
        let coordinator = Coordinator::new(Parts {
            view: Arc::clone(&self.view),
            replica: Arc::clone(&replica),
            dots: Arc::clone(&dots),
            peers: Arc::clone(peers) as Arc<dyn PeerSender>,
            clock: Arc::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            exec: Arc::clone(&self.exec),
            figures: Arc::clone(&self.figures),
            timing: self.timing,
            skewed: Arc::clone(&self.skewed),
        });
        let partitions = layouts.newest().partitions();
        let serving = Serving { coordinator: Arc::new(coordinator), replica, dots, partitions };
        if self.serving.set(Arc::new(serving)).is_err() {
            tracing::debug!("serving already");
        }
        Ok(())
    }

    /// A directory that served before, over an engine that keeps nothing: what it acknowledged is
    /// gone, and others have to fill it.
    fn forget_if_volatile(&self) {
        let others =
            self.view.now().layouts.as_ref().map_or(0, |layouts| layouts.newest().members().len());
        if let Some(serving) = self.serving.get()
            && serving.replica.is_always_durable()
            && others > 1
        {
            tracing::warn!(
                "the engine forgot everything at the restart: it is filled from the others"
            );
            serving.replica.standings().lost_all();
        }
    }

    /// Notes how far a peer's clock is, and whether this node is now too far from a majority.
    fn note_time(&self, from: NodeId, envelope: &Envelope) {
        if envelope.time == 0 {
            return;
        }
        let theirs = kv_quorum::HybridTime::from_bits(envelope.time).ms() as i64;
        let offset = theirs - self.clock.wall_ms() as i64;
        let limit = self.clock_skew_ms_max as i64;
        let mut offsets = self.offsets.lock();
        let unchanged = offsets
            .insert(from, offset)
            .is_some_and(|old| (old.abs() > limit) == (offset.abs() > limit));
        if unchanged {
            return;
        }
        let far = offsets.values().filter(|offset| offset.abs() > limit).count();
        let members = offsets.len() + 1;
        let skewed = far > members / 2;
        if skewed != self.skewed.swap(skewed, Ordering::AcqRel) {
            tracing::error!(skewed, "this node's clock is or was too far from a majority's");
        }
    }
}

/// What the senders tell their node. The node holds the senders, so they must not hold the node.
struct Told {
    node: Weak<Inner>,
    me: NodeId,
}

impl PeerEvents for Told {
    fn envelope(&self, budget_ms: u32) -> Envelope {
        match self.node.upgrade() {
            Some(node) => node.envelope(budget_ms),
            // The node is gone and its senders with it: of nobody's cluster, so of no effect.
            None => Envelope {
                version: PROTOCOL_VERSION,
                capabilities: 0,
                cluster: None,
                node: self.me,
                layouts: Vec::new(),
                time: 0,
                budget_ms,
            },
        }
    }

    fn answered(&self, from: NodeId, envelope: &Envelope, refusal: Option<&Refusal>, _us: u64) {
        if let Some(node) = self.node.upgrade() {
            node.note_time(from, envelope);
        }
        if let Some(refusal) = refusal {
            tracing::debug!(%from, ?refusal, "a call was refused");
        }
    }

    fn failed(&self, to: NodeId, failure: &CallFailure) {
        if failure.without_effect()
            && let Some(node) = self.node.upgrade()
        {
            node.membership.unreachable(node.clock.steady_ms(), to);
        }
    }

    fn displaced(&self, expected: NodeId, found: NodeId, at: &PeerAddress) {
        tracing::warn!(%expected, %found, at, "another node answers at a peer's address");
    }
}
