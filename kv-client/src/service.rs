//! The tarpc services that a node offers to programs and to operators.
//!
//! tarpc has no streaming, so everything here is one bounded answer; long lists come as pages or
//! whole with a bound. Requests are bounded while they are decoded.
//!
//! A handler is dropped when its caller goes away or its deadline passes, at whatever await it is:
//! an implementation spawns what must not stop half-way.

#![allow(missing_docs, reason = "the service macro makes items that it does not document")]

use std::future::{Future, ready};

use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarpc::server::{BaseChannel, Channel, Serve};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::NodeId;
use crate::codec::{FRAME_BYTES_MAX_DEFAULT, framed};
use crate::wire::{
    AaeView, AutoscaleChange, AutoscaleView, BATCH_OPS_MAX, BatchOp, BatchOut, Bounded,
    ConflictsView, Coverage, DrainOrder, DrainView, EVENTS_NODES_MAX, EventsView, Explanation,
    HintsView, HotView, LayoutsView, Location, MembersChange, MembersPlan, NodeInfo, NodeStatus,
    PastChange, ReadOptions, ReadOut, RepairOut, RingView, ServiceError, SplitPlan, Topics,
    WatchCursor, Watched, WriteOptions, WriteOut,
};

/// Reads and writes. Any node takes any request.
#[tarpc::service]
pub trait ClientService {
    /// Reads one key: all siblings, and the context that covers them.
    async fn get(key: Bytes, options: ReadOptions) -> Result<ReadOut, ServiceError>;

    /// Writes one key.
    async fn put(
        key: Bytes,
        value: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError>;

    /// Deletes what the coverage names; nothing there, nothing written.
    async fn delete(
        key: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError>;

    /// Several operations at once, each with its own answer, in their order. No atomicity.
    async fn batch(ops: Bounded<BatchOp, BATCH_OPS_MAX>) -> Vec<BatchOut>;

    /// Why a key reads as it does.
    async fn explain(key: Bytes) -> Result<Explanation, ServiceError>;
}

/// What operators see and do. What changes anything may be asked twice.
#[tarpc::service]
pub trait AdminService {
    /// The asked node about itself.
    async fn status() -> Result<NodeStatus, ServiceError>;

    /// The members as the asked node sees them.
    async fn nodes() -> Result<Vec<NodeInfo>, ServiceError>;

    /// The newest layout that the asked node knows.
    async fn ring() -> Result<RingView, ServiceError>;

    /// Where a key lives.
    async fn locate(key: Bytes) -> Result<Location, ServiceError>;

    /// Why a key reads as it does.
    async fn explain(key: Bytes) -> Result<Explanation, ServiceError>;

    /// The live layouts, and whom they wait for.
    async fn layouts() -> Result<LayoutsView, ServiceError>;

    /// Gives all that `old` holds to `new`, an empty node; `old` is refused for good. Answers the
    /// epoch in which it is so.
    async fn replace(old: NodeId, new: NodeId) -> Result<u64, ServiceError>;

    /// What a change of the members would move. Nothing is changed.
    async fn plan(change: MembersChange) -> Result<MembersPlan, ServiceError>;

    /// Changes the members. Answers the epoch in which it is so, also when it was so before; data
    /// moves meanwhile (`layouts`).
    async fn change_members(change: MembersChange) -> Result<u64, ServiceError>;

    /// Calls off the change of the members that is under way. Answers the epoch in which it is so.
    async fn abort_change() -> Result<u64, ServiceError>;

    /// What doubling the partitions would come to. Nothing is changed.
    async fn plan_split() -> Result<SplitPlan, ServiceError>;

    /// Doubles the partitions, if the newest epoch is `after` still. Answers the epoch in which it
    /// is so, also when this call was made before.
    async fn split(after: u64) -> Result<u64, ServiceError>;

    /// The changes of the layout that the asked node took, the oldest first; a bounded number.
    async fn past_changes() -> Result<Vec<PastChange>, ServiceError>;

    /// How the asked node compares its copies with others'.
    async fn aae() -> Result<AaeView, ServiceError>;

    /// Brings all replicas of a partition, or of one key of it, to the same.
    async fn repair(partition: u16, key: Option<Bytes>) -> Result<RepairOut, ServiceError>;

    /// What every node that answers keeps for others that are down.
    async fn hints() -> Result<HintsView, ServiceError>;

    /// A page of the keys with siblings: `from` is 0, or the `next` of the page before.
    async fn conflicts(from: u64, count: u32) -> Result<ConflictsView, ServiceError>;

    /// What happened on every node that answers. Of a node that `after` names, what lies behind
    /// that number; of the others, the newest `count`.
    async fn events(
        after: Bounded<(NodeId, u64), EVENTS_NODES_MAX>,
        count: u32,
    ) -> Result<EventsView, ServiceError>;

    /// News behind the cursor, of the asked node and of what gossip told it, as soon as there is
    /// any; after `max_wait_ms` also without.
    async fn watch(
        cursor: WatchCursor,
        topics: Topics,
        max_wait_ms: u32,
    ) -> Result<Watched, ServiceError>;

    /// What is asked for most: keys, `count` at most, and partitions.
    async fn hot(count: u32) -> Result<HotView, ServiceError>;

    /// How many nodes there should be, and why.
    async fn autoscale() -> Result<AutoscaleView, ServiceError>;

    /// Changes how that is decided, for the whole cluster.
    async fn set_autoscale(change: AutoscaleChange) -> Result<(), ServiceError>;

    /// Has the asked node made ready to be stopped, or takes that back. Answers how it stands.
    async fn drain(order: DrainOrder) -> Result<DrainView, ServiceError>;

    /// Declares a node dead that holds nothing in the newest layout, and for which older ones wait.
    /// Answers the epoch in which it is so.
    async fn give_up(node: NodeId) -> Result<u64, ServiceError>;
}

/// Bounds of one served connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Bytes of a frame at most, in either direction; a larger one ends the connection.
    pub frame_bytes_max: u32,
    /// Calls that are worked on at once; further ones wait in the socket.
    pub calls_in_flight_max: usize,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { frame_bytes_max: FRAME_BYTES_MAX_DEFAULT, calls_in_flight_max: 256 }
    }
}

/// Serves one connection until it ends. Handlers run inside the returned future, not as tasks:
/// dropping it drops them all.
///
/// `service` is what `ClientService::serve` or `AdminService::serve` of an implementation gives.
pub fn serve<Io, S>(io: Io, limits: ServeLimits, service: S) -> impl Future<Output = ()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    S: Serve + Clone,
    S::Req: DeserializeOwned,
    S::Resp: Serialize,
{
    let settings = tarpc::server::Config { pending_response_buffer: limits.calls_in_flight_max };
    BaseChannel::new(settings, framed(io, limits.frame_bytes_max))
        .requests()
        // A malformed frame ends the connection: what follows it can't be trusted.
        .take_while(|request| ready(request.is_ok()))
        .filter_map(|request| ready(request.ok()))
        .for_each_concurrent(limits.calls_in_flight_max, move |request| {
            request.execute(service.clone())
        })
}
