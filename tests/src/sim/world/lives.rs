//! Lives of nodes: how one starts, falls, is killed, is refused by the others, is replaced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kv_client::NodeId;
use kv_lsm::fs::Fs;
use kv_node::node::{Node, NodeParts, Reshape};
use kv_node::plug::clock::{Clock, TokioClock};
use kv_node::plug::exec::Exec;
use kv_node::plug::lsm::{LsmDurability, LsmEngine};
use kv_node::plug::memory::{MemoryConfig, MemoryEngine};
use kv_node::plug::rng::SeededRng;
use kv_node::plug::storage::StorageEngine;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{ENGINE_DIR, World};
use crate::sim::exec::LifeExec;
use crate::sim::gate::GatedTransport;
use crate::sim::random::Random;
use crate::sim::watch::WatchedEngine;

/// How long it may take to replace a node, faults of the network included.
const REPLACING_MS_MAX: u64 = 120_000;
/// Rest between two tries to replace a node, and between two looks at one.
const REST_MS: u64 = 200;
/// The housekeeper's rest.
const HOUSEKEEPING_MS: u64 = 10;

/// Where a node runs, life after life.
pub(super) struct Place {
    pub(super) clock: Arc<TokioClock>,
    pub(super) running: Mutex<Option<Running>>,
    pub(super) starts: Mutex<u64>,
}

/// One life of a node.
pub(super) struct Running {
    pub(super) node: Arc<Node>,
    pub(super) exec: Arc<LifeExec>,
    pub(super) life: watch::Sender<bool>,
}

/// What became of a directory that may be an old copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The others let it serve.
    Served,
    /// They refused it.
    Refused,
}

impl World {
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

    /// Whether the others have refused the directory of a node that runs.
    fn is_refused(&self, place: usize) -> bool {
        self.with_node(place, |node| node.view().now().refused) == Some(true)
    }

    /// Waits until a node that has just started serves or is refused by the others.
    ///
    /// # Errors
    /// Neither in two minutes.
    pub async fn taken(&self, place: usize) -> Result<Taken, String> {
        let until_us = self.now_us() + REPLACING_MS_MAX * 1_000;
        while self.now_us() < until_us {
            if self.is_refused(place) {
                return Ok(Taken::Refused);
            }
            if self.with_node(place, Node::is_confirmed) == Some(true) {
                return Ok(Taken::Served);
            }
            self.clock.sleep(Duration::from_millis(REST_MS)).await;
        }
        Err(format!("node {place} is neither confirmed nor refused"))
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

    /// Ends a node as kill -9 does: what it wrote to the system is safe, synced or not.
    pub async fn kill(&self, place: usize) {
        self.power.release(place);
        self.fall(place).await;
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
            self.clock.sleep(Duration::from_millis(REST_MS)).await;
        }
        Err(format!("node {place} could not be replaced: {told}"))
    }

    /// Has a member leave, step by step, until no live layout names it. Nothing may end a node
    /// meanwhile.
    ///
    /// # Errors
    /// It is not done in two minutes.
    pub async fn leave(&self, place: usize) -> Result<(), String> {
        let node = self.id(place).ok_or("who is to leave is down")?;
        let left = |live: &[Vec<NodeId>]| live.iter().all(|members| !members.contains(&node));
        self.reshape_until(place, Asked::Leave(node), left).await
    }

    /// Has the empty node that runs at a place become a member. Nothing may end a node meanwhile.
    ///
    /// # Errors
    /// It is not done in two minutes.
    pub async fn join(&self, place: usize) -> Result<(), String> {
        let node = self.id(place).ok_or("who is to join is down")?;
        let joined = |live: &[Vec<NodeId>]| live.iter().any(|members| members.contains(&node));
        self.reshape_until(place, Asked::Join(node), joined).await
    }

    /// Asks the nodes but that at `place` in turn, again and again, until the members of the live
    /// layouts that one of them knows are as they should be.
    async fn reshape_until(
        &self,
        place: usize,
        asked: Asked<'_>,
        done: impl Fn(&[Vec<NodeId>]) -> bool,
    ) -> Result<(), String> {
        let until_us = self.now_us() + REPLACING_MS_MAX * 1_000;
        let mut told = String::new();
        while self.now_us() < until_us {
            for other in (0..self.nodes()).filter(|other| *other != place) {
                let live = self.with_node(other, members_of).unwrap_or_default();
                if !live.is_empty() && done(&live) {
                    self.note(format!("{asked:?} of node {place} is done"));
                    return Ok(());
                }
                if let Err(why) = self.reshape(other, asked).await {
                    told = why;
                }
            }
            self.clock.sleep(Duration::from_millis(REST_MS)).await;
        }
        Err(format!("{asked:?} of node {place} could not be done: {told}"))
    }

    /// Asks one node to change the layout, or to call that off.
    ///
    /// # Errors
    /// Why it was not done, or is not known to be.
    pub async fn reshape(&self, through: usize, asked: Asked<'_>) -> Result<u64, String> {
        let (give, take) = oneshot::channel();
        let down = || String::from("one of them is down");
        let changed = |weights: &[(usize, u32)]| -> Option<Vec<(NodeId, u32)>> {
            weights.iter().map(|(place, weight)| Some((self.id(*place)?, *weight))).collect()
        };
        let change = match asked {
            Asked::Weights(weights) => {
                let weights = changed(weights).ok_or_else(down)?;
                Some(Reshape { weights, ..Reshape::default() })
            }
            Asked::Join(node) => Some(Reshape { joins: vec![node], ..Reshape::default() }),
            Asked::Leave(node) => Some(Reshape { leaves: vec![node], ..Reshape::default() }),
            Asked::CallOff | Asked::Split => None,
        };
        {
            let at = self.places.get(through).ok_or_else(down)?;
            let running = at.running.lock();
            let Running { node, exec, .. } = running.as_ref().ok_or_else(down)?;
            let changing: BoxFuture<'static, _> = match change {
                Some(change) => node.reshape(change).boxed(),
                None if asked == Asked::Split => node.split(None).boxed(),
                None => node.abort().boxed(),
            };
            exec.spawn(Box::pin(async move {
                let _fell = give.send(changing.await);
            }));
        }
        let told = take.await.map_err(|_| String::from("who was asked fell"))?;
        told.map_err(|error| error.to_string())
    }
}

/// The members of each layout that is live for a node.
fn members_of(node: &Node) -> Vec<Vec<NodeId>> {
    let view = node.view().now();
    let layouts = view.layouts.as_ref();
    layouts.map_or_else(Vec::new, |known| known.live().map(|one| one.members().to_vec()).collect())
}

/// A change of the layout that a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Nodes, by their places, are to bring so much.
    Weights(&'a [(usize, u32)]),
    /// An empty node is to be a member.
    Join(NodeId),
    /// A member is to hand over all that it holds, and go.
    Leave(NodeId),
    /// Twice the partitions.
    Split,
    /// What is under way is to be called off.
    CallOff,
}
