//! What a node in memory tells operators: a cluster of one, without a copy of anything.

use bytes::Bytes;
use kv_ring::{Slot, Token};
use tarpc::context::Context;

use super::Service;
use crate::service::AdminService;
use crate::wire::{
    AaeView, Endpoints, Explanation, HintsView, LayoutName, LayoutProgress, LayoutsView, Location,
    NodeInfo, NodeStatus, RepairOut, ReplicaAnswer, RingView, ServiceError, VersionName,
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
