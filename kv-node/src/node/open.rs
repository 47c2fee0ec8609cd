//! How a node comes to life: the parts over its directory, and serving once there is a layout.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::clock_check::ClockCheck;
use super::held_clock::HeldClock;
use super::life::{self, Life};
use super::{Inner, NodeConfig, NodeParts, Serving};
use crate::cluster::birth::Birth;
use crate::cluster::changes::ChangeLog;
use crate::cluster::commit::Acceptor;
use crate::cluster::dots::DotSource;
use crate::cluster::membership::{Membership, MembershipConfig};
use crate::cluster::meta::MetaStore;
use crate::cluster::state::{ClusterState, node_id};
use crate::cluster::view::{Liveness, Member, SharedView, View};
use crate::cluster::wire::Newborn;
use crate::coordinator::{Coordinator, Parts};
use crate::events::EventLog;
use crate::metrics::Figures;
use crate::plug::clock::Clock;
use crate::replica::{Replica, TreeSettings};
use crate::rpc::PeerSender;

impl Inner {
    pub(super) fn open(
        config: &NodeConfig,
        parts: &NodeParts,
        meta: &Arc<MetaStore>,
    ) -> io::Result<Self> {
        let me = node_id(meta, &*parts.rng)?;
        let held_clock = Arc::new(HeldClock::new(Arc::clone(&parts.clock)));
        let view = Arc::new(SharedView::new(View::empty(me)));
        let state = Arc::new(ClusterState::load(Arc::clone(meta), Arc::clone(&view))?);
        let life = Life::open(meta, &parts.engine.status(None).0, state.has_record())?;
        let member = Member {
            address: config.address.clone(),
            client_address: config.client_address.clone(),
            zone: config.zone.clone(),
            liveness: Liveness::Up,
            draining: false,
        };
        let membership = MembershipConfig {
            node: me,
            me: member,
            incarnation: parts.clock.wall_ms(),
            seed: parts.rng.next_u64(),
            gossip: config.gossip.clone(),
        };
        let (now_ms, gossip_ms) = (parts.clock.steady_ms(), config.gossip.gossip_interval_ms);
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
            clock: Arc::clone(&held_clock) as Arc<dyn Clock>,
            held_clock,
            rng: Arc::clone(&parts.rng),
            exec: Arc::clone(&parts.exec),
            timing: config.timing,
            antientropy: config.antientropy,
            hints: config.hints,
            clock_skew_ms_max: config.clock_skew_ms_max,
            collection: super::collect::Collection::new(
                config.floors,
                parts.rng.next_u64(),
                parts.clock.steady_ms(),
            ),
            clocks: ClockCheck::new(config.clock_skew_ms_max),
            changing: tokio::sync::Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            refill_from_ms: AtomicU64::new(0),
            catching_up: AtomicBool::new(false),
            held_since_ms: AtomicU64::new(0),
            life,
            started_ms: parts.clock.wall_ms(),
            events: EventLog::new(me, Arc::clone(&parts.clock)),
            changes: ChangeLog::load(Arc::clone(meta)),
            begun_here: Mutex::default(),
            transfer_base: Mutex::default(),
            drain: super::drain::Drain::new(gossip_ms),
        })
    }

    /// Begins new tenures and serves: there is a record and a layout. `lost`: this directory lacks
    /// something that it had acknowledged.
    pub(super) async fn begin_serving(self: &Arc<Self>, lost: bool) -> io::Result<()> {
        if self.serving.get().is_some() {
            return Ok(());
        }
        let node = Arc::clone(self);
        let (dots, replica) = self
            .blocking(move || {
                let view = node.view.now();
                let meta = Arc::clone(node.state.meta());
                let layouts = view.layouts.as_ref();
                let layouts = layouts.ok_or_else(|| io::Error::other("no layout"))?;
                // The record's count is that of the first layout.
                let partitions = layouts.newest().partitions();
                let trees = TreeSettings {
                    digest_key: view.record.as_ref().map_or(0, |record| record.digest_key),
                    tree_bytes_max: node.antientropy.tree_bytes_max,
                };
                let engine = Arc::clone(&node.engine);
                let hints = node.hints;
                let replica = Replica::open(engine, Arc::clone(&meta), partitions, trees, hints)?;
                for partition in node.state.beginning() {
                    let standings = replica.standings();
                    standings.lost(partition);
                    node.begun_here.lock().insert(partition, standings.losses(partition));
                }
                if lost {
                    tracing::warn!("what this node lost is filled from the others");
                    node.fill_later();
                    partitions
                        .iter()
                        .filter(|partition| view.holds(*partition))
                        .for_each(|partition| replica.standings().lost(partition));
                    replica.standings().store()?;
                }
                life::begin_run(&meta, &node.engine.status(None).0)?;
                let dots = DotSource::open(
                    view.me,
                    partitions,
                    Arc::clone(&meta),
                    Arc::clone(&node.rng),
                    node.clock.wall_ms(),
                    node.clock_skew_ms_max,
                )?;
                Ok::<_, io::Error>((Arc::new(dots), Arc::new(replica)))
            })
            .await?;
        // Few are counted at once, so that a node that held none takes hints from its first moment.
        if let Err(error) = replica.count_hints(1).await {
            tracing::warn!(%error, "the hints can't be counted yet");
        }
        let Some(peers) = self.peers.get() else {
            return Err(io::Error::other("the peers are not set yet"));
        };
        let coordinator = Coordinator::new(Parts {
            view: Arc::clone(&self.view),
            replica: Arc::clone(&replica),
            dots: Arc::clone(&dots),
            heard: Arc::clone(self.life.heard_book()),
            peers: Arc::clone(peers) as Arc<dyn PeerSender>,
            detector: Arc::clone(peers.detector()),
            clock: Arc::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            exec: Arc::clone(&self.exec),
            figures: Arc::clone(&self.figures),
            timing: self.timing,
            skewed: Arc::clone(self.clocks.skewed()),
            antientropy: self.antientropy,
        });
        let serving = Serving { coordinator: Arc::new(coordinator), replica, dots };
        if self.serving.set(Arc::new(serving)).is_err() {
            tracing::debug!("serving already");
        }
        Ok(())
    }

    /// Operations that counted this replica before a loss may be under way: what they bring must be
    /// there before it is filled.
    pub(super) fn fill_later(&self) {
        let under_way_until_ms = self.clock.steady_ms() + self.timing.request_ms_max;
        self.refill_from_ms.fetch_max(under_way_until_ms, Ordering::Relaxed);
    }
}
