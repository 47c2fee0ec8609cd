//! What a node in memory tells operators: a cluster of one, without a copy of anything.

use bytes::Bytes;
use kv_ring::{Slot, Token};
use tarpc::context::Context;

use super::Service;
use crate::service::AdminService;
use crate::wire::{
    AaeView, AutoscaleChange, AutoscaleView, Bounded, ConflictsView, DrainOrder, DrainView,
    EVENTS_NODES_MAX, Endpoints, EventsView, Explanation, HintsView, HotView, LayoutName,
    LayoutProgress, LayoutsView, Location, MembersChange, MembersPlan, NodeInfo, NodeStatus,
    PastChange, RepairOut, ReplicaAnswer, RingView, ServiceError, SplitPlan, Topics, VersionName,
    WATCH_TICK_MS, WATCH_WAIT_MS_MAX, WatchCursor, Watched,
};
use crate::{ClusterId, NodeId};

/// Its id.
const ME: NodeId = NodeId(1);
/// Partitions of its one layout.
const PARTITIONS: u16 = 16;
/// Slots in one of them.
const SLOTS: u16 = 16_384 / PARTITIONS;

#[derive(Clone)]
pub(super) struct Desk {
    pub(super) service: Service,
    pub(super) endpoints: Endpoints,
}

impl AdminService for Desk {
    async fn status(self, _: Context) -> Result<NodeStatus, ServiceError> {
        Ok(NodeStatus {
            node: ME,
            cluster: Some(ClusterId(1)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: true,
            endpoints: self.endpoints,
            layouts: vec![LayoutName { epoch: 1, digest: 1 }],
            engine: "test".to_owned(),
            rows: Some(self.service.rows()),
            ..NodeStatus::default()
        })
    }

    async fn nodes(self, _: Context) -> Result<Vec<NodeInfo>, ServiceError> {
        let partitions = u32::from(PARTITIONS);
        Ok(vec![NodeInfo {
            node: ME,
            endpoints: self.endpoints,
            weight: 1,
            partitions,
            first_places: partitions,
            ..NodeInfo::default()
        }])
    }

    async fn ring(self, _: Context) -> Result<RingView, ServiceError> {
        let owners = vec![0; usize::from(PARTITIONS)];
        Ok(RingView { epoch: 1, digest: 1, copies: 1, nodes: vec![ME], owners })
    }

    async fn locate(self, _: Context, key: Bytes) -> Result<Location, ServiceError> {
        Ok(locate(&key))
    }

    async fn explain(self, _: Context, key: Bytes) -> Result<Explanation, ServiceError> {
        Ok(explain(&self.service, key))
    }

    async fn layouts(self, _: Context) -> Result<LayoutsView, ServiceError> {
        let me = LayoutProgress { node: ME, seen: 1, finished: 1, ..LayoutProgress::default() };
        Ok(LayoutsView {
            live: vec![LayoutName { epoch: 1, digest: 1 }],
            members: vec![me],
            removed: Vec::new(),
        })
    }

    async fn replace(self, _: Context, old: NodeId, _new: NodeId) -> Result<u64, ServiceError> {
        Err(ServiceError::Refused(format!("{old} can't be replaced: it is the only node there is")))
    }

    async fn give_up(self, _: Context, node: NodeId) -> Result<u64, ServiceError> {
        Err(ServiceError::Refused(format!("{node} can't be given up: no layout waits for it")))
    }

    async fn plan(self, _: Context, _change: MembersChange) -> Result<MembersPlan, ServiceError> {
        Err(ServiceError::Refused("it is the only node there is".into()))
    }

    async fn change_members(self, _: Context, _change: MembersChange) -> Result<u64, ServiceError> {
        Err(ServiceError::Refused("it is the only node there is".into()))
    }

    async fn abort_change(self, _: Context) -> Result<u64, ServiceError> {
        Err(ServiceError::Refused("no change is under way: nothing to call off".into()))
    }

    async fn plan_split(self, _: Context) -> Result<SplitPlan, ServiceError> {
        let (before, after) = (u32::from(PARTITIONS), u32::from(PARTITIONS) * 2);
        Ok(SplitPlan { epoch: 1, before, after, ..SplitPlan::default() })
    }

    async fn split(self, _: Context, _after: u64) -> Result<u64, ServiceError> {
        Err(ServiceError::Refused("its partitions are as they are: it is for tests".into()))
    }

    async fn past_changes(self, _: Context) -> Result<Vec<PastChange>, ServiceError> {
        Ok(Vec::new())
    }

    async fn aae(self, _: Context) -> Result<AaeView, ServiceError> {
        Ok(AaeView { rate_per_mille: 1_000, ..AaeView::default() })
    }

    async fn repair(
        self,
        _: Context,
        partition: u16,
        _key: Option<Bytes>,
    ) -> Result<RepairOut, ServiceError> {
        if partition >= PARTITIONS {
            return Err(ServiceError::Refused(format!("there is no partition {partition}")));
        }
        Ok(RepairOut::default())
    }

    async fn hints(self, _: Context) -> Result<HintsView, ServiceError> {
        Ok(HintsView { hint_bytes_max: 512 << 20, ..HintsView::default() })
    }

    async fn conflicts(
        self,
        _: Context,
        from: u64,
        count: u32,
    ) -> Result<ConflictsView, ServiceError> {
        Ok(self.service.conflicts(from, count))
    }

    async fn events(
        self,
        _: Context,
        _after: Bounded<(NodeId, u64), EVENTS_NODES_MAX>,
        _count: u32,
    ) -> Result<EventsView, ServiceError> {
        Ok(EventsView::default())
    }

    async fn watch(
        self,
        context: Context,
        cursor: WatchCursor,
        topics: Topics,
        max_wait_ms: u32,
    ) -> Result<Watched, ServiceError> {
        let known = cursor.node == ME;
        if known {
            let wait_ms = u64::from(max_wait_ms.min(WATCH_WAIT_MS_MAX)).min(WATCH_TICK_MS);
            tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
        }
        let whole = topics.layouts && !known;
        let ring = if whole { Some(self.clone().ring(context).await?) } else { None };
        let layouts = if whole { Some(self.clone().layouts(context).await?) } else { None };
        Ok(Watched {
            cursor: WatchCursor { node: ME, epoch: 1, digest: 1, ..WatchCursor::default() },
            status: Some(self.clone().status(context).await?),
            nodes: Some(self.clone().nodes(context).await?),
            aae: Some(self.aae(context).await?),
            ring,
            layouts,
            ..Watched::default()
        })
    }

    async fn hot(self, _: Context, _count: u32) -> Result<HotView, ServiceError> {
        Ok(HotView::default())
    }

    async fn autoscale(self, _: Context) -> Result<AutoscaleView, ServiceError> {
        let alone =
            AutoscaleView { evaluator: Some(ME), members: 1, desired: 1, ..Default::default() };
        Ok(AutoscaleView { provisioner: "none".to_owned(), ..alone })
    }

    async fn set_autoscale(self, _: Context, _change: AutoscaleChange) -> Result<(), ServiceError> {
        Err(ServiceError::Refused("it is the only node there is".into()))
    }

    async fn drain(self, _: Context, order: DrainOrder) -> Result<DrainView, ServiceError> {
        match order {
            DrainOrder::Look | DrainOrder::Undo => Ok(DrainView { node: ME, ..Default::default() }),
            _ => Err(ServiceError::Refused("it is the only node there is".into())),
        }
    }
}

fn locate(key: &[u8]) -> Location {
    let slot = Slot::of(key).index();
    Location {
        slot,
        partition: slot / SLOTS,
        token: Token::of(key).value(),
        replicas: vec![ME],
        fallbacks: Vec::new(),
    }
}

pub(super) fn explain(service: &Service, key: Bytes) -> Explanation {
    let siblings = service.read(&key).siblings.into_iter();
    let versions = siblings.map(|sibling| VersionName {
        dot: sibling.dot,
        bytes: sibling.value.map(|value| value.len() as u64),
    });
    let answer = ReplicaAnswer {
        node: ME,
        versions: Ok(versions.collect()),
        found_in: "memory".to_owned(),
        us: 0,
    };
    let notes = vec!["a node in memory keeps one copy of everything".to_owned()];
    Explanation { location: locate(&key), key, replicas: vec![answer], notes }
}
