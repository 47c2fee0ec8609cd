//! The coordinator: takes a client's batch, makes it happen on enough replicas, answers.
//!
//! It drives kv-quorum's trackers and decides nothing itself: who must answer, when a SET mints a
//! second time, when a read is repaired before it is answered, what an outcome is called, are all
//! in the trackers. Any node coordinates reads; only a replica of the key mints, so a write that
//! arrives elsewhere is forwarded to one.
//!
//! ```text
//! SET batch: view -> plans -> lock, read, mint, append -> local sync and sends together -> W -> OK
//! GET batch: view -> plans -> local read, remote reads at once -> join (repair) -> answer -> tail
//! ```
//!
//! Invariant: one view of the cluster for one batch; each key of a batch gets exactly one answer.

mod api;
mod conflicts;
mod decide;
pub mod exchange;
mod explain;
mod flush;
mod follow;
mod forward;
mod gather;
mod handoff;
mod happened;
mod hot;
mod levels;
mod local;
mod look;
mod marks;
mod mutate;
mod plans;
mod promise;
mod read;
mod refill;
mod scan;
pub mod seal;
mod wait;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kv_client::NodeId;
use kv_quorum::Limits;
use kv_ring::History;

use exchange::{AntiEntropyConfig, ExchangeBook, LatencyWindow, Part};
pub(crate) use explain::said;
pub use explain::{Explained, HintSays, ReplicaSays};
pub use levels::Levels;
pub(crate) use levels::least;
pub(crate) use look::Seen;
pub(crate) use marks::Climbs;
pub use read::SiblingValue;
pub(crate) use read::fingerprint;
pub(crate) use refill::FILLS_AT_ONCE;
pub use scan::{ScanCursor, ScanPage};
pub use wait::WriteLedger;
pub use write::SetItem;

use crate::cluster::dots::DotSource;
use crate::cluster::heard::HeardBook;
use crate::cluster::record::{ClusterRecord, KeyspaceSettings, Rmw};
use crate::cluster::view::{SharedView, View};
use crate::detect::Detector;
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, KEY_BYTES_MAX, KeyRef};
use crate::metrics::Figures;
use crate::plug::clock::Clock;
use crate::plug::exec::Exec;
use crate::plug::rng::Rng;
use crate::replica::Replica;
use crate::rpc::PeerSender;
use crate::scale::load::LoadMeter;
use plans::Plans;

/// What a coordinator needs of its node.
pub struct Parts {
    /// The cluster as it is seen now.
    pub view: Arc<SharedView>,
    /// This node's copies.
    pub replica: Arc<Replica>,
    /// Where dots are minted.
    pub dots: Arc<DotSource>,
    /// What was heard from the others.
    pub heard: Arc<HeardBook>,
    /// The way to the peers.
    pub peers: Arc<dyn PeerSender>,
    /// How fast they answer.
    pub detector: Arc<Detector>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: operation ids.
    pub rng: Arc<dyn Rng>,
    /// Tasks: tail repairs.
    pub exec: Arc<dyn Exec>,
    /// Counters.
    pub figures: Arc<Figures>,
    /// Timing.
    pub timing: Timing,
    /// Whether this node's clock is too far from a majority's: then it mints nothing.
    pub skewed: Arc<AtomicBool>,
    /// Anti-entropy.
    pub antientropy: AntiEntropyConfig,
}

/// Bounds in time of a request.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A request's deadline.
    pub request_ms_max: u64,
    /// After so long without enough answers a read asks one replica more at the latest: usually
    /// it does as soon as the first take longer than 95 of 100 of their recent answers.
    pub hedge_ms: u64,
    /// A node that is made ready to be stopped waits so long, at most, for what is under way.
    pub drain_ms_max: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { request_ms_max: 5_000, hedge_ms: 50, drain_ms_max: 10_000 }
    }
}

/// Decision locks: keys that share one wait for each other.
const DECISION_LOCKS: usize = 1_024;

/// The coordinator of one node.
pub struct Coordinator {
    parts: Parts,
    plans: Plans,
    limits: Limits,
    /// How the replay of hints stands.
    handoff: handoff::Handoff,
    /// Decision locks, for keyspaces in which one node decides.
    deciding: Box<[tokio::sync::Mutex<()>]>,
    /// How exchanges went.
    exchanges: ExchangeBook,
    /// The part of its rate that the background may use now.
    pub(crate) background: Part,
    /// How long batches took.
    pub(crate) latency: LatencyWindow,
    /// What is asked for, and how much.
    load: LoadMeter,
    /// Whose turn it is to serve a read of a hot key.
    hot_turn: AtomicUsize,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// One batch's view, with what every operation needs of it resolved.
pub(crate) struct Scope {
    pub(crate) view: Arc<View>,
    pub(crate) record: Arc<ClusterRecord>,
    pub(crate) layouts: Arc<History<NodeId>>,
    pub(crate) keyspace: KeyspaceSettings,
    /// Members that count as down: membership says so, or they refuse or don't answer this node.
    pub(crate) down: Vec<NodeId>,
    pub(crate) deadline_ms: u64,
    /// When the batch began, on the steady clock.
    pub(crate) began_us: u64,
    /// Whether this node may mint.
    pub(crate) mints: bool,
}

impl Scope {
    pub(crate) fn partition(&self, key: KeyRef<'_>) -> kv_ring::Partition {
        self.layouts.newest().partitions().of(key.slot)
    }

    /// Whether this node holds the key in some live layout.
    pub(crate) fn holds(&self, partition: kv_ring::Partition) -> bool {
        self.layouts.write_sets(partition).any(|owners| owners.contains(&self.view.me))
    }

    /// Whether this node must not decide the key's writes, and who does: its first live primary in
    /// the newest layout. Alive by membership, on which all agree: by what each node can reach, two
    /// could decide at once.
    pub(crate) fn decider(&self, partition: kv_ring::Partition) -> Option<NodeId> {
        let primaries = self.layouts.newest().owners(partition);
        primaries.iter().copied().find(|node| self.view.is_alive(*node))
    }

    /// Who should mint a write of the partition: this node if it may. Where no primary is up and
    /// fallbacks count, the first of them that is.
    pub(crate) fn minter(&self, partition: kv_ring::Partition) -> Option<NodeId> {
        if !self.mints {
            let primaries = self.layouts.newest().owners(partition);
            let other = |node: &NodeId| *node != self.view.me && !self.down.contains(node);
            let primary = primaries.iter().copied().find(other);
            return primary.or_else(|| self.stand_ins(partition).next());
        }
        if self.keyspace.rmw == Rmw::Refuse && self.holds(partition) {
            return Some(self.view.me);
        }
        self.decider(partition).or_else(|| self.stand_ins(partition).next())
    }

    /// Where a write of the partition is minted, as this node sees it.
    #[inline]
    pub(crate) fn mints_at(&self, partition: kv_ring::Partition) -> MintsAt {
        if self.minter(partition) != Some(self.view.me) {
            MintsAt::Elsewhere
        } else if self.holds(partition) {
            MintsAt::Here
        } else {
            MintsAt::StandingIn
        }
    }

    /// Who may mint in a primary's place, in order: live fallbacks, where they count.
    pub(crate) fn stand_ins(
        &self,
        partition: kv_ring::Partition,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let may =
            |node: &NodeId| !self.down.contains(node) && (self.mints || *node != self.view.me);
        let sloppy = self.keyspace.sloppy;
        let fallbacks = sloppy.then(|| self.layouts.newest().preference(partition).fallbacks());
        fallbacks.into_iter().flatten().filter(may)
    }
}

/// What is known of newer layouts than an operation began under.
pub(crate) enum Newer {
    /// None are known.
    Nothing,
    /// To go on with.
    Known(Box<Scope>),
    /// There are some, and no time is left, or this node serves no more.
    TooLate,
}

/// Where a write is minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MintsAt {
    /// By this node, a replica of the key.
    Here,
    /// By this node, in a primary's place.
    StandingIn,
    /// By another node.
    Elsewhere,
}

impl Coordinator {
    /// A coordinator of `parts`.
    pub fn new(parts: Parts) -> Self {
        let load = LoadMeter::new(parts.view.now().me.0);
        Self {
            load,
            hot_turn: AtomicUsize::new(0),
            parts,
            plans: Plans::default(),
            limits: Limits::default(),
            handoff: handoff::Handoff::default(),
            deciding: (0..DECISION_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
            exchanges: ExchangeBook::default(),
            background: Part::default(),
            latency: LatencyWindow::default(),
        }
    }

    /// The parts, for the front doors.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What is asked for here, and how much.
    pub fn load(&self) -> &LoadMeter {
        &self.load
    }

    /// The clock's milliseconds since 1970: what expiry is judged by.
    pub fn now_ms(&self) -> u64 {
        self.parts.clock.wall_ms()
    }

    /// Takes the view for one batch.
    ///
    /// # Errors
    /// `Loading` while the node has no layout, `Removed` when it belongs to the cluster no more.
    pub(crate) fn scope(&self) -> Result<Scope, RequestError> {
        let view = self.parts.view.now();
        if view.refused {
            return Err(RequestError::Stopping);
        }
        if view.is_removed(view.me) {
            return Err(RequestError::Removed);
        }
        let (Some(record), Some(layouts)) = (view.record.clone(), view.layouts.clone()) else {
            return Err(RequestError::Loading);
        };
        let Some(keyspace) = record.keyspace(DEFAULT_KEYSPACE).cloned() else {
            return Err(RequestError::Loading);
        };
        let down = view.down().to_vec();
        let began_us = self.parts.clock.steady_us();
        let deadline_ms = began_us / 1_000 + self.parts.timing.request_ms_max;
        let mints = !self.parts.skewed.load(Ordering::Acquire);
        Ok(Scope { view, record, layouts, keyspace, down, deadline_ms, began_us, mints })
    }

    /// `scope` for a caller that waits until then at most.
    ///
    /// # Errors
    /// As `scope`.
    pub(crate) fn scope_until(&self, until_ms: Option<u64>) -> Result<Scope, RequestError> {
        let mut scope = self.scope()?;
        if let Some(until_ms) = until_ms {
            scope.deadline_ms = scope.deadline_ms.min(until_ms);
        }
        Ok(scope)
    }

    /// The scope for what is left of an operation, if newer layouts are known than it began under.
    /// With `refused` a replica knows newer ones: they are waited for, until the deadline.
    pub(crate) async fn newer_scope(&self, scope: &Scope, refused: bool) -> Newer {
        let epoch = scope.view.epoch();
        if refused {
            tokio::select! {
                biased;
                () = self.parts.view.newer_than(epoch) => {}
                () = self.sleep_until(scope.deadline_ms) => {}
            }
        }
        if self.parts.view.now().epoch() <= epoch {
            return Newer::Nothing;
        }
        match self.scope() {
            Ok(newer) if self.parts.clock.steady_ms() < scope.deadline_ms => {
                self.parts.figures.replans.one();
                Newer::Known(Box::new(Scope { deadline_ms: scope.deadline_ms, ..newer }))
            }
            _ => Newer::TooLate,
        }
    }

    /// Refuses a pair that is over the cluster's limit, and a key that is over the engines'.
    ///
    /// # Errors
    /// `TooLarge`, `KeyTooLarge`.
    pub(crate) fn check_size(
        scope: &Scope,
        key: &[u8],
        value_bytes: usize,
    ) -> Result<(), RequestError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(RequestError::KeyTooLarge { bytes: key.len() as u64 });
        }
        let bytes = (key.len() + value_bytes) as u64;
        let bytes_max = u64::from(scope.record.pair_bytes_max);
        if bytes > bytes_max { Err(RequestError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }

    /// A batch of requests is answered: its latency is what the background steps back for.
    #[inline]
    fn took(&self, began_us: u64) {
        self.latency.record(self.parts.clock.steady_us().saturating_sub(began_us));
    }

    /// What comes of it, unless the request's deadline comes first.
    async fn in_time<T>(&self, scope: &Scope, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            came = what => Some(came),
            () = self.sleep_until(scope.deadline_ms) => None,
        }
    }

    async fn sleep_until(&self, steady_ms: u64) {
        let left = steady_ms.saturating_sub(self.parts.clock.steady_ms());
        self.parts.clock.sleep(Duration::from_millis(left)).await;
    }
}
