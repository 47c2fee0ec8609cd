//! The service for operators: what this node is, whom it sees, where keys live; changes of the
//! layout, and repairs.
//!
//! Everything comes from one view of the cluster, so that an answer agrees with itself; what other
//! nodes believe may differ, and is asked of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_client::service::AdminService;
use kv_client::wire::{
    AaeView, AutoscaleChange, AutoscaleView, Bounded, ConflictsView, DrainOrder, DrainView,
    EVENTS_NODES_MAX, Endpoints, EventsView, Explanation, HintsView, HotView, LayoutName,
    LayoutsView, Location, MembersChange, MembersPlan, NodeInfo, NodeState, NodeStatus, PastChange,
    RepairOut, ReplicaAnswer, RingView, ServiceError, SplitPlan, Topics, WatchCursor, Watched,
};
use kv_ring::{Layout, Partition};
use tarpc::context::Context;

use super::admin_aae;
use super::admin_members::{self, ZoneNames};
use super::admin_scale;
use super::admin_watch;
use super::doors::{Lobby, Served};
use crate::cluster::view::{Liveness, View};
use crate::coordinator::{Coordinator, Explained, said};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::node::{ChangeError, Node};

/// Fallbacks that `locate` names at most.
const FALLBACKS_MAX: usize = 8;

#[derive(Clone)]
pub(super) struct AdminServer(pub(super) Arc<Lobby>);

impl AdminService for AdminServer {
    async fn status(self, _: Context) -> Result<NodeStatus, ServiceError> {
        let (node, served) = self.0.node()?;
        Ok(status(&node, served))
    }

    async fn nodes(self, _: Context) -> Result<Vec<NodeInfo>, ServiceError> {
        let (node, served) = self.0.node()?;
        Ok(nodes(&node, served))
    }

    async fn ring(self, _: Context) -> Result<RingView, ServiceError> {
        let (node, _) = self.0.node()?;
        let view = node.view().now();
        Ok(ring(newest(&view)?))
    }

    async fn locate(self, _: Context, key: Bytes) -> Result<Location, ServiceError> {
        let (node, _) = self.0.node()?;
        let view = node.view().now();
        let layout = newest(&view)?;
        let key = KeyRef::place(DEFAULT_KEYSPACE, &key);
        let partition = layout.partitions().of(key.slot);
        let preference = layout.preference(partition);
        Ok(Location {
            slot: key.slot.index(),
            partition: partition.index(),
            token: key.token.value(),
            replicas: preference.primaries().to_vec(),
            fallbacks: preference.fallbacks().take(FALLBACKS_MAX).collect(),
        })
    }

    async fn explain(self, _: Context, key: Bytes) -> Result<Explanation, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        explain(&coordinator, key).await
    }

    async fn layouts(self, _: Context) -> Result<LayoutsView, ServiceError> {
        let (node, _) = self.0.node()?;
        let view = node.view().now();
        newest(&view)?;
        Ok(layouts(&node, &view))
    }

    async fn replace(self, _: Context, old: NodeId, new: NodeId) -> Result<u64, ServiceError> {
        let (node, _) = self.0.node()?;
        // Who goes away meanwhile leaves ballots that the next proposer completes.
        node.replace(old, new).await.map_err(|error| refused(&error))
    }

    async fn give_up(self, _: Context, node: NodeId) -> Result<u64, ServiceError> {
        let (own, _) = self.0.node()?;
        own.give_up(node).await.map_err(|error| refused(&error))
    }

    async fn plan(self, _: Context, change: MembersChange) -> Result<MembersPlan, ServiceError> {
        let (node, _) = self.0.node()?;
        let reshape = admin_members::reshape(change);
        let plan = node.plan(&reshape).await.map_err(|error| refused(&error))?;
        let given = reshape.zones.into_iter().map(|(_, name)| name);
        let names = ZoneNames::known(&node.view().now(), given);
        Ok(admin_members::shown(&node, plan, &names))
    }

    async fn change_members(self, _: Context, change: MembersChange) -> Result<u64, ServiceError> {
        let (node, _) = self.0.node()?;
        node.reshape(admin_members::reshape(change)).await.map_err(|error| refused(&error))
    }

    async fn abort_change(self, _: Context) -> Result<u64, ServiceError> {
        let (node, _) = self.0.node()?;
        node.abort().await.map_err(|error| refused(&error))
    }

    async fn plan_split(self, _: Context) -> Result<SplitPlan, ServiceError> {
        let (node, _) = self.0.node()?;
        node.plan_split().map(admin_members::split).map_err(|error| refused(&error))
    }

    async fn split(self, _: Context, after: u64) -> Result<u64, ServiceError> {
        let (node, _) = self.0.node()?;
        node.split(Some(after)).await.map_err(|error| refused(&error))
    }

    async fn past_changes(self, _: Context) -> Result<Vec<PastChange>, ServiceError> {
        let (node, _) = self.0.node()?;
        Ok(node.changes().into_iter().map(admin_members::past).collect())
    }

    async fn aae(self, _: Context) -> Result<AaeView, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        Ok(admin_aae::view(&node, &coordinator))
    }

    async fn repair(
        self,
        _: Context,
        partition: u16,
        key: Option<Bytes>,
    ) -> Result<RepairOut, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        admin_aae::repair(coordinator, partition, key).await
    }

    async fn hints(self, _: Context) -> Result<HintsView, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        Ok(coordinator.hints_everywhere().await?)
    }

    async fn conflicts(
        self,
        _: Context,
        from: u64,
        count: u32,
    ) -> Result<ConflictsView, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        Ok(coordinator.conflicts_everywhere(from, count).await?)
    }

    async fn events(
        self,
        _: Context,
        after: Bounded<(NodeId, u64), EVENTS_NODES_MAX>,
        count: u32,
    ) -> Result<EventsView, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        let after: BTreeMap<NodeId, u64> = after.into_vec().into_iter().collect();
        let own = node.events().page(after.get(&node.id()).copied(), count);
        Ok(coordinator.events_everywhere(&after, count, own).await?)
    }

    async fn watch(
        self,
        _: Context,
        cursor: WatchCursor,
        topics: Topics,
        max_wait_ms: u32,
    ) -> Result<Watched, ServiceError> {
        admin_watch::watch(&self.0, cursor, topics, max_wait_ms).await
    }

    async fn hot(self, _: Context, count: u32) -> Result<HotView, ServiceError> {
        let (node, _) = self.0.node()?;
        let coordinator = node.coordinator().ok_or_else(no_layout)?;
        Ok(coordinator.hot_everywhere(count).await?)
    }

    async fn autoscale(self, _: Context) -> Result<AutoscaleView, ServiceError> {
        let (node, _) = self.0.node()?;
        admin_scale::view(&node)
    }

    async fn set_autoscale(self, _: Context, change: AutoscaleChange) -> Result<(), ServiceError> {
        let (node, _) = self.0.node()?;
        admin_scale::set(&node, change).await
    }

    async fn drain(self, _: Context, order: DrainOrder) -> Result<DrainView, ServiceError> {
        let (node, _) = self.0.node()?;
        node.order_drain(order).map_err(ServiceError::Refused)
    }
}

fn refused(error: &ChangeError) -> ServiceError {
    match error {
        ChangeError::NotServing => ServiceError::NotServing(error.to_string()),
        ChangeError::NoMajority { .. } | ChangeError::Storage(_) => {
            ServiceError::Failed(error.to_string())
        }
        _ => ServiceError::Refused(error.to_string()),
    }
}

pub(super) fn layouts(node: &Node, view: &View) -> LayoutsView {
    LayoutsView {
        live: layout_names(view),
        members: node.progress(),
        removed: view.removed.to_vec(),
    }
}

fn layout_names(view: &View) -> Vec<LayoutName> {
    let names = view.layout_names().into_iter();
    names.map(|name| LayoutName { epoch: name.epoch, digest: name.digest }).collect()
}

/// What every replica of a key says of it.
pub(super) async fn explain(
    coordinator: &Coordinator,
    key: Bytes,
) -> Result<Explanation, ServiceError> {
    let explained = coordinator.explain(KeyRef::place(DEFAULT_KEYSPACE, &key)).await?;
    Ok(explanation(key, explained))
}

fn explanation(key: Bytes, explained: Explained) -> Explanation {
    let (n, r, w) = (explained.n, said(explained.read), said(explained.write));
    let mut notes =
        vec![format!("N={n} R={r} W={w}, layout {}", explained.epoch), explained.promise()];
    if let Some((half, most)) = explained.everywhere_us {
        let ms = |us: u64| us as f64 / 1_000.0;
        notes.push(format!(
            "a write is on all its replicas after {:.1} ms (half of them) and {:.1} ms (99 of 100)",
            ms(half),
            ms(most)
        ));
    }
    let stands_in = |(fallback, primary)| format!("{fallback} stands in for {primary}");
    notes.extend(explained.stand_ins.iter().copied().map(stands_in));
    for hint in &explained.hints {
        let versions = hint.versions.len();
        notes.push(format!("{} holds a hint for {}: {versions} versions", hint.on, hint.target));
    }
    let mut replicas = Vec::with_capacity(explained.replicas.len());
    for says in explained.replicas {
        if !says.up {
            notes.push(format!("{} is believed to be down", says.node));
        }
        replicas.push(ReplicaAnswer {
            node: says.node,
            versions: says.versions.map(|_| says.details),
            found_in: says.found,
            us: says.us,
        });
    }
    let location = Location {
        slot: explained.slot,
        partition: explained.partition,
        token: explained.token,
        replicas: explained.primaries,
        fallbacks: explained.fallbacks,
    };
    Explanation { key, location, replicas, notes }
}

fn no_layout() -> ServiceError {
    ServiceError::NotServing("the node has no layout yet".into())
}

pub(super) fn newest(view: &View) -> Result<&Layout<NodeId>, ServiceError> {
    Ok(view.layouts.as_ref().ok_or_else(no_layout)?.newest())
}

pub(super) fn status(node: &Node, served: &Served) -> NodeStatus {
    let view = node.view().now();
    let (engine, _) = node.engine().status(None);
    let mut figures = Vec::new();
    node.figures().each(|name, value| figures.push((name.to_owned(), value)));
    let of_engine = |(name, value): (&str, u64)| (format!("engine_{name}"), value);
    figures.extend(engine.figures.iter().copied().map(of_engine));
    NodeStatus {
        node: node.id(),
        cluster: view.record.as_ref().map(|record| record.id),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: served.began.elapsed().as_millis() as u64,
        ready: node.unready().is_none(),
        endpoints: served.endpoints.clone(),
        layouts: layout_names(&view),
        engine: engine.name.to_owned(),
        memory_bytes: engine.memory_bytes,
        disk_bytes: engine.disk_bytes,
        rows: engine.rows,
        alerts: node.alerts(),
        figures,
    }
}

pub(super) fn nodes(node: &Node, served: &Served) -> Vec<NodeInfo> {
    let view = node.view().now();
    let layout = view.layouts.as_ref().map(|layouts| layouts.newest());
    let mut ids: Vec<NodeId> = view.members.keys().copied().collect();
    // A member that was never heard of since this node started is down, and not to be left out.
    ids.extend(layout.into_iter().flat_map(|layout| layout.members().iter().copied()));
    ids.sort_unstable();
    ids.dedup();
    let floors = node.collection().floors;
    let epochs: BTreeMap<NodeId, u64> =
        node.progress().into_iter().map(|progress| (progress.node, progress.seen)).collect();
    let vitals = node.vitals();
    let info = |id: NodeId| NodeInfo {
        epoch: epochs.get(&id).copied().unwrap_or_default(),
        vitals: vitals.get(&id).copied().map(admin_watch::shown),
        ..node_info(node, served, &view, &floors, id)
    };
    ids.into_iter().map(info).collect()
}

fn node_info(
    node: &Node,
    served: &Served,
    view: &View,
    floors: &[(NodeId, Option<u64>)],
    id: NodeId,
) -> NodeInfo {
    let layout = view.layouts.as_ref().map(|layouts| layouts.newest());
    let member = view.members.get(&id);
    let link = node.peers().and_then(|peers| peers.status(id)).unwrap_or_default();
    let held: Vec<(Partition, bool)> =
        layout.map_or_else(Vec::new, |layout| layout.held_by(id).collect());
    let draining = view.is_draining(id);
    let state = match member.map(|member| member.liveness) {
        Some(Liveness::Up | Liveness::Suspect) if draining => NodeState::Draining,
        _ if id == view.me => NodeState::Alive,
        Some(Liveness::Up) => NodeState::Alive,
        Some(Liveness::Suspect) => NodeState::Suspect,
        Some(Liveness::Left) => NodeState::Left,
        Some(Liveness::Down) | None => NodeState::Down,
    };
    let endpoints = if id == view.me {
        served.endpoints.clone()
    } else {
        let member = member.cloned().unwrap_or_default();
        // Where others serve HTTP is not told around.
        Endpoints { resp: member.client_address, rpc: member.address, http: String::new() }
    };
    NodeInfo {
        node: id,
        state,
        endpoints,
        zone: match layout.and_then(|layout| layout.spec(id)) {
            // Where copies go by, which may be another than its settings say.
            Some(spec) => ZoneNames::known(view, std::iter::empty()).of(spec.zone),
            None => member.map_or_else(String::new, |member| member.zone.clone()),
        },
        weight: layout.and_then(|layout| layout.spec(id)).map_or(0, |spec| spec.weight),
        partitions: held.len() as u32,
        first_places: held.iter().filter(|(_, first)| *first).count() as u32,
        call_us: link.call_us,
        queue_ops: u32::try_from(link.queue_ops).unwrap_or(u32::MAX),
        unanswered_ms: u32::try_from(link.unanswered_ms).unwrap_or(u32::MAX),
        floor_age_ms: floors.iter().find(|(of, _)| *of == id).and_then(|of| of.1),
        read_p95_us: link.read_p95_us,
        phi_hundredths: link.phi_hundredths,
        epoch: 0,
        vitals: None,
    }
}

pub(super) fn ring(layout: &Layout<NodeId>) -> RingView {
    let nodes = layout.members().to_vec();
    let mut owners = Vec::new();
    let mut copies = 0;
    for partition in layout.partitions().iter() {
        let of_it = layout.owners(partition);
        copies = copies.max(of_it.len());
        for owner in of_it {
            let at = nodes.iter().position(|node| node == owner);
            owners.push(at.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX));
        }
    }
    let copies = u8::try_from(copies).unwrap_or(u8::MAX);
    RingView { epoch: layout.epoch(), digest: layout.digest(), copies, nodes, owners }
}
