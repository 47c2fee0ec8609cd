//! Scaling as a node takes part in it: what the loop of `scale/` sees here, and how it acts.
//!
//! A node measures and decides only when whoever runs it says how (`Node::scale`): a program that
//! embeds nodes starts and ends them itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use kv_client::NodeId;
use kv_ring::{History, Zone};

use super::load::LoadLoop;
use super::reshape::Reshape;
use super::{Inner, Node};
use crate::cluster::view::{Liveness, View};
use crate::cluster::vitals::Vitals;
use crate::events::Happened;
use crate::plug::discovery::SEEDS_MAX;
use crate::plug::provisioner::Gone;
use crate::scale::board::BoardStore;
use crate::scale::ground::{Change, Ground, Look};
use crate::scale::load::Load;
use crate::scale::policy::{NodeLoad, PartitionRate, Standing};
use crate::scale::scaler::{ScaleLoop, Scaler};
use crate::scale::{Board, ScaleParts, Told};

/// What a node that scales holds.
pub(super) struct Scaling {
    pub(super) scaler: Arc<Scaler>,
    board: Arc<BoardStore>,
}

impl Node {
    /// Begins to measure what this node carries, and to take part in deciding how many nodes there
    /// should be. Once; a second call does nothing.
    ///
    /// # Errors
    /// What operators set before can't be read.
    pub fn scale(self: &Arc<Self>, parts: ScaleParts) -> io::Result<()> {
        let board = Arc::new(BoardStore::open(Arc::clone(self.inner.state.meta()))?);
        let ground = NodeGround { node: Arc::downgrade(self), board: Arc::clone(&board) };
        let scaler = Arc::new(Scaler::new(Box::new(ground), parts));
        if self.scaling.set(Scaling { scaler: Arc::clone(&scaler), board }).is_err() {
            return Ok(());
        }
        self.workers.start(Arc::new(LoadLoop::new(Arc::clone(&self.inner))));
        self.workers.start(Arc::new(ScaleLoop(scaler)));
        Ok(())
    }

    /// The loop that scales, if there is one.
    pub(crate) fn scaler(&self) -> Option<&Arc<Scaler>> {
        self.scaling.get().map(|scaling| &scaling.scaler)
    }

    /// What every member tells of scaling.
    pub(crate) fn scale_told(&self) -> BTreeMap<NodeId, Told> {
        self.inner.membership.scale_told()
    }

    /// What every member tells of its load.
    pub(crate) fn loads(&self) -> BTreeMap<NodeId, Load> {
        self.inner.membership.loads()
    }

    /// Milliseconds since 1970, as this node believes.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.inner.clock.wall_ms()
    }

    /// What would hold for the whole cluster after a change of what holds now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn next_board(
        &self,
        change: impl FnOnce(&mut Board, &Scaler) -> Result<(), String>,
    ) -> Result<Board, String> {
        let Some(scaling) = self.scaling.get() else {
            return Err("this node takes no part in scaling".into());
        };
        let known = self.inner.latest_board(&scaling.board);
        let mut board = known;
        change(&mut board, &scaling.scaler)?;
        board.stamp_ms = self.wall_ms().max(known.stamp_ms.saturating_add(1));
        board.by = self.id();
        Ok(board)
    }

    /// Makes it hold. What is returned does not borrow the node, and may be spawned.
    ///
    /// # Errors
    /// It can't be stored.
    pub(crate) fn set_board(
        &self,
        board: Board,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        let store = self.scaling.get().map(|scaling| Arc::clone(&scaling.board));
        async move {
            let Some(store) = store else { return Err("it takes no part in scaling".into()) };
            let keep = Arc::clone(&store);
            let taken = inner.blocking(move || keep.take(board)).await;
            taken.map_err(|error| format!("it can't be stored: {error}"))?;
            inner.membership.publish_scale(&store.now());
            Ok(())
        }
    }
}

impl Inner {
    /// The latest settings that any member tells.
    fn latest_board(&self, own: &BoardStore) -> Board {
        let told = self.membership.scale_told();
        let boards = told.values().map(|told| told.board).chain([own.now().board]);
        boards.max_by_key(|board| (board.stamp_ms, board.by)).unwrap_or_default()
    }
}

/// A node, as the loop sees it. It does not keep the node.
struct NodeGround {
    node: Weak<Node>,
    board: Arc<BoardStore>,
}

#[async_trait]
impl Ground for NodeGround {
    async fn sync(&self) {
        let Some(inner) = self.node.upgrade().map(|node| Arc::clone(&node.inner)) else { return };
        let (latest, store) = (inner.latest_board(&self.board), Arc::clone(&self.board));
        if latest != self.board.now().board {
            let taken = inner.blocking(move || store.take(latest)).await;
            if let Err(error) = taken {
                tracing::error!(%error, "what operators set of scaling can't be stored");
            }
        }
        let view = inner.view.now();
        if let Some(layouts) = view.layouts.as_ref().filter(|layouts| !layouts.in_transition()) {
            let (newest, store) = (Arc::clone(layouts.newest()), Arc::clone(&self.board));
            drop(view);
            let settled = move || store.settled(newest.epoch(), |node| newest.contains(node));
            if let Err(error) = inner.blocking(settled).await {
                tracing::error!(%error, "who did not leave can't be noted");
            }
        }
        inner.membership.publish_scale(&self.board.now());
    }

    async fn note_left(&self, node: NodeId, after: u64) -> Result<(), String> {
        let Some(inner) = self.node.upgrade().map(|node| Arc::clone(&node.inner)) else {
            return Err("the node stops".into());
        };
        let store = Arc::clone(&self.board);
        let noted = inner.blocking(move || store.note_left(node, after)).await;
        noted.map_err(|error| error.to_string())?;
        // Told at once: whoever decides next is to know it if this node ends meanwhile.
        inner.membership.publish_scale(&self.board.now());
        Ok(())
    }

    async fn forget_left(&self, node: NodeId) {
        let Some(inner) = self.node.upgrade().map(|node| Arc::clone(&node.inner)) else { return };
        let store = Arc::clone(&self.board);
        if let Err(error) = inner.blocking(move || store.forget_left(node)).await {
            tracing::error!(%error, %node, "that it was ended can't be noted");
        }
    }

    fn look(&self) -> Option<Look> {
        let node = self.node.upgrade()?;
        node.inner.look(&self.board)
    }

    async fn change(&self, change: Change, after: u64) -> Result<u64, String> {
        let reshape = {
            let Some(node) = self.node.upgrade() else { return Err("the node stops".into()) };
            let reshape = match change {
                Change::Join(node) => Reshape { joins: vec![node], ..Reshape::default() },
                Change::Leave(node) => Reshape { leaves: vec![node], ..Reshape::default() },
                Change::Exchange(exchange) => {
                    Reshape { exchange: Some(exchange), ..Reshape::default() }
                }
            };
            node.reshape(Reshape { after: Some(after), ..reshape })
        };
        reshape.await.map_err(|error| error.to_string())
    }

    fn say(&self, change: Box<dyn FnOnce(&mut Told) + Send>) {
        self.board.say(change);
    }

    fn note(&self, happened: Happened) {
        if let Some(node) = self.node.upgrade() {
            node.inner.events.note(happened);
        }
    }
}

impl Inner {
    /// Nodes that are up and never knew a layout, in order: they wait to be joined.
    pub(super) fn waiting(&self, view: &View, layouts: &History<NodeId>) -> Vec<NodeId> {
        let seen = self.membership.layouts_seen();
        let is_new = |node: &NodeId| seen.get(node).is_none_or(|seen| seen.seen == 0);
        outside(view, layouts).filter(is_new).collect()
    }

    fn look(&self, board: &BoardStore) -> Option<Look> {
        let view = self.view.now();
        self.serving()?;
        let (record, layouts) = (view.record.as_ref()?, view.layouts.as_ref()?);
        if view.is_removed(view.me) {
            return None;
        }
        let newest = layouts.newest();
        let told = Signs {
            vitals: self.membership.vitals(),
            loads: self.membership.loads(),
            left: self.membership.scale_told().into_values().flat_map(|told| told.left).collect(),
        };
        let members = newest.members();
        let seeds = members.iter().filter(|node| view.is_up(**node)).take(SEEDS_MAX);
        let address = |node: &NodeId| view.members.get(node).map(|member| member.address.clone());
        Some(Look {
            now_ms: self.clock.steady_ms(),
            wall_ms: self.clock.wall_ms(),
            epoch: newest.epoch(),
            evaluator: members.iter().copied().filter(|node| view.is_alive(*node)).min(),
            standing: standing(&view, layouts, &told),
            waiting: self
                .waiting(&view, layouts)
                .into_iter()
                .filter_map(|node| at(&view, node))
                .collect(),
            left: outside(&view, layouts).filter_map(|node| told.gone(&view, node)).collect(),
            board: self.latest_board(board),
            cluster: record.name.clone(),
            seeds: seeds.filter_map(address).collect(),
        })
    }
}

/// What members told, as far as scaling asks for it.
struct Signs {
    vitals: BTreeMap<NodeId, Vitals>,
    loads: BTreeMap<NodeId, Load>,
    /// Nodes that somebody made leave.
    left: BTreeSet<NodeId>,
}

impl Signs {
    /// A node that left by a decision and keeps nothing for others.
    fn gone(&self, view: &View, node: NodeId) -> Option<Gone> {
        let keeps = self.vitals.get(&node).is_some_and(|vitals| vitals.hint_keys > 0);
        if !self.left.contains(&node) || keeps {
            return None;
        }
        at(view, node)
    }

    /// What a node coordinates of its busiest partitions.
    fn rates(&self, at: NodeId) -> Vec<PartitionRate> {
        let busiest = self.loads.get(&at).map(|load| load.busiest.iter());
        let rate = |&(partition, ops_per_s)| PartitionRate { at, partition, ops_per_s };
        busiest.into_iter().flatten().map(rate).collect()
    }

    fn load(&self, node: NodeId, in_zone: u16) -> Option<NodeLoad> {
        let vitals = self.vitals.get(&node)?;
        Some(NodeLoad {
            node,
            started_ms: vitals.started_ms,
            ops_per_s: vitals.ops_per_s,
            cpu_per_mille: self.loads.get(&node).and_then(|load| load.cpu_per_mille),
            disk_bytes: vitals.disk_bytes,
            in_zone,
        })
    }
}

/// A node with where it is.
fn at(view: &View, node: NodeId) -> Option<Gone> {
    let member = view.members.get(&node)?;
    Some(Gone {
        node,
        rpc: member.address.clone(),
        resp: member.client_address.clone(),
        zone: member.zone.clone(),
    })
}

/// Nodes that are up and in no live layout, in order.
fn outside<'v>(view: &'v View, layouts: &'v History<NodeId>) -> impl Iterator<Item = NodeId> + 'v {
    let up = view.members.iter().filter(|(_, member)| member.liveness == Liveness::Up);
    let inside = |node: NodeId| layouts.live().any(|layout| layout.contains(node));
    up.map(|(node, _)| *node).filter(move |node| !inside(*node) && !view.is_removed(*node))
}

fn standing(view: &View, layouts: &History<NodeId>, signs: &Signs) -> Standing {
    let newest = layouts.newest();
    let members = newest.members();
    let alive = members.iter().copied().filter(|node| view.is_alive(*node));
    let down = members.iter().find(|node| !view.is_alive(**node));
    let zone = |node: NodeId| newest.spec(node).map(|spec| spec.zone);
    let mut zones: BTreeMap<Option<Zone>, u16> = BTreeMap::new();
    for node in members {
        let count = zones.entry(zone(*node)).or_default();
        *count = count.saturating_add(1);
    }
    let in_zone = |node: NodeId| zones.get(&zone(node)).copied().unwrap_or(0);
    let moving = layouts
        .in_transition()
        .then(|| format!("the change to epoch {} is under way", newest.epoch()));
    Standing {
        me: view.me,
        members: members.len(),
        copies: newest.replicas(),
        nodes: alive.filter_map(|node| signs.load(node, in_zone(node))).collect(),
        settled_ms: 0,
        moving,
        down: down.map(|node| format!("{node} is down: start it, or have it replaced")),
        pending: pending(view, members, signs),
        layout: Some(Arc::clone(newest)),
        rates: members.iter().flat_map(|node| signs.rates(*node)).collect(),
        moved: Vec::new(),
    }
}

/// What one node less would make worse.
fn pending(view: &View, members: &[NodeId], signs: &Signs) -> Option<String> {
    if let Some(node) = members.iter().find(|node| !view.is_up(**node) || is_suspect(view, **node))
    {
        return Some(format!("{node} does not answer"));
    }
    let fills = |node: &NodeId| signs.loads.get(node).map_or(0, |load| u64::from(load.filling));
    let filling: u64 = members.iter().map(fills).sum();
    if filling > 0 {
        return Some(format!("{filling} partitions are being filled"));
    }
    let of_member = |node: &NodeId| signs.vitals.get(node).map_or(0, |vitals| vitals.hint_keys);
    let hints: u64 = members.iter().map(of_member).sum();
    (hints > 0).then(|| format!("{hints} keys are kept for nodes that were down"))
}

fn is_suspect(view: &View, node: NodeId) -> bool {
    view.members.get(&node).is_some_and(|member| member.liveness == Liveness::Suspect)
}
