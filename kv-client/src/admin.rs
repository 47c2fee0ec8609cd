//! What operators ask of a node. Every call may be made twice, and so move on to another address.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::net::TcpStream;

use crate::NodeId;
use crate::client::Config;
use crate::codec::framed;
use crate::error::Result;
use crate::handshake::Role;
use crate::pool::{Kind, Pool, Stub};
use crate::service::AdminServiceClient;
use crate::wire::{
    AaeView, AutoscaleChange, AutoscaleView, Bounded, ConflictsView, DrainOrder, DrainView,
    EVENTS_NODES_MAX, EventsView, Explanation, HintsView, HotView, LayoutsView, Location,
    MembersChange, MembersPlan, NodeInfo, NodeStatus, PastChange, RepairOut, RingView, SplitPlan,
    Topics, WatchCursor, Watched,
};

/// An operator's client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Admin {
    pool: Arc<Pool<AdminServiceClient>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Connects to the first of the addresses (`host:port` of a node's tarpc port) that answers.
    /// Give one address to hear of one node, several to hear of the cluster.
    ///
    /// # Errors
    /// `Unreachable`, `Handshake`, `Config`: nothing was sent.
    pub async fn connect<A: AsRef<str>>(addresses: &[A], config: Config) -> Result<Self> {
        Ok(Self { pool: Arc::new(Pool::connect(addresses, config).await?) })
    }

    /// The answering node about itself.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn status(&self) -> Result<NodeStatus> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.status(context).await })
            .await
    }

    /// The members as the answering node sees them.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.nodes(context).await })
            .await
    }

    /// The newest layout that the answering node knows.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn ring(&self) -> Result<RingView> {
        self.pool.call(Kind::Read, |stub, context, _| async move { stub.ring(context).await }).await
    }

    /// Where a key lives.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn locate(&self, key: impl Into<Bytes>) -> Result<Location> {
        let key = key.into();
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let key = key.clone();
                async move { stub.locate(context, key).await }
            })
            .await
    }

    /// Why a key reads as it does.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn explain(&self, key: impl Into<Bytes>) -> Result<Explanation> {
        let key = key.into();
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let key = key.clone();
                async move { stub.explain(context, key).await }
            })
            .await
    }

    /// What every node that answers keeps for others that are down.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn hints(&self) -> Result<HintsView> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.hints(context).await })
            .await
    }

    /// A page of the keys with siblings, of every node that answers: `from` is 0, or the `next` of
    /// the page before; `count` keys at most.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn conflicts(&self, from: u64, count: u32) -> Result<ConflictsView> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move {
                stub.conflicts(context, from, count).await
            })
            .await
    }

    /// News behind the cursor, from the answering node and from what gossip told it, as soon as
    /// there is any; after `max_wait_ms` also without. The client's deadline is to be longer.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn watch(
        &self,
        cursor: WatchCursor,
        topics: Topics,
        max_wait_ms: u32,
    ) -> Result<Watched> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move {
                stub.watch(context, cursor, topics, max_wait_ms).await
            })
            .await
    }

    /// What happened on every node that answers, the oldest first: the newest `count` without
    /// `after`; else what lies behind the number that it gives for each node.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn events(&self, after: &[(NodeId, u64)], count: u32) -> Result<EventsView> {
        let some = after.get(..EVENTS_NODES_MAX).unwrap_or(after);
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let after = Bounded::new(some.to_vec()).unwrap_or_default();
                async move { stub.events(context, after, count).await }
            })
            .await
    }
}

impl Admin {
    /// What is asked for most, of every node that answers: keys, `count` at most, and partitions.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn hot(&self, count: u32) -> Result<HotView> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.hot(context, count).await })
            .await
    }

    /// How many nodes there should be, and why.
    ///
    /// # Errors
    /// No node answered in time, or it takes no part in scaling.
    pub async fn autoscale(&self) -> Result<AutoscaleView> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.autoscale(context).await })
            .await
    }

    /// Changes how that is decided, for the whole cluster: the others hear of it by gossip.
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: ask again.
    pub async fn set_autoscale(&self, change: AutoscaleChange) -> Result<()> {
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let change = change.clone();
                async move { stub.set_autoscale(context, change).await }
            })
            .await
    }

    /// Has the asked node made ready to be stopped, or takes that back. Answers at once how it
    /// stands; ask again with [`DrainOrder::Look`] until it is drained. The client should know one
    /// address only: another node would drain in the place of one that can't be reached.
    ///
    /// # Errors
    /// No answer in time, or the text says why it can't be taken back any more.
    pub async fn drain(&self, order: DrainOrder) -> Result<DrainView> {
        self.pool
            .call(Kind::Write, |stub, context, _| async move { stub.drain(context, order).await })
            .await
    }
}

impl Admin {
    /// The live layouts, and whom they wait for.
    ///
    /// # Errors
    /// No node answered in time, or it has no layout.
    pub async fn layouts(&self) -> Result<LayoutsView> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.layouts(context).await })
            .await
    }

    /// Gives all that `old` holds to `new`, an empty node that knows the cluster; `old` is refused
    /// for good. Answers the epoch in which it is so, also when it was so before.
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: ask again.
    pub async fn replace(&self, old: NodeId, new: NodeId) -> Result<u64> {
        self.pool
            .call(
                Kind::Read,
                |stub, context, _| async move { stub.replace(context, old, new).await },
            )
            .await
    }

    /// Declares a node dead that holds nothing in the newest layout: older ones wait for it no
    /// more, and it is refused for good. Answers the epoch in which it is so, also when it was so
    /// before.
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: ask again.
    pub async fn give_up(&self, node: NodeId) -> Result<u64> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.give_up(context, node).await })
            .await
    }

    /// What a change of the members would move. Nothing is changed.
    ///
    /// # Errors
    /// The text says why it can't be made.
    pub async fn plan(&self, change: MembersChange) -> Result<MembersPlan> {
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let change = change.clone();
                async move { stub.plan(context, change).await }
            })
            .await
    }

    /// Changes the members: some join, some leave, some bring more or less. Answers the epoch in
    /// which it is so, also when it was so before; data moves meanwhile
    /// ([`layouts`](Self::layouts)).
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: ask again.
    pub async fn change_members(&self, change: MembersChange) -> Result<u64> {
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let change = change.clone();
                async move { stub.change_members(context, change).await }
            })
            .await
    }

    /// Calls off the change of the members that is under way: who held something before it holds
    /// it again. Answers the epoch in which it is so.
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: look at `layouts`.
    pub async fn abort_change(&self) -> Result<u64> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.abort_change(context).await })
            .await
    }

    /// What doubling the partitions would come to. Nothing is changed.
    ///
    /// # Errors
    /// The text says why it can't be done.
    pub async fn plan_split(&self) -> Result<SplitPlan> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.plan_split(context).await })
            .await
    }

    /// Doubles the partitions, if the newest epoch is `after` still; no data moves. Answers the
    /// epoch in which it is so, also when this was asked before.
    ///
    /// # Errors
    /// The text says why not. After `TimedOut` it may have been done: ask again.
    pub async fn split(&self, after: u64) -> Result<u64> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.split(context, after).await })
            .await
    }

    /// The changes of the layout that the answering node took, the oldest first; a bounded number.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn past_changes(&self) -> Result<Vec<PastChange>> {
        self.pool
            .call(Kind::Read, |stub, context, _| async move { stub.past_changes(context).await })
            .await
    }

    /// How the answering node compares its copies with others'.
    ///
    /// # Errors
    /// No node answered in time.
    pub async fn aae(&self) -> Result<AaeView> {
        self.pool.call(Kind::Read, |stub, context, _| async move { stub.aae(context).await }).await
    }

    /// Brings all replicas of a partition, or of one key of it, to the same. May take long: give
    /// the client a deadline that fits the partition.
    ///
    /// # Errors
    /// Not all replicas are the same for sure; what was mended is mended. After a passed deadline
    /// the repair goes on.
    pub async fn repair(&self, partition: u16, key: Option<Bytes>) -> Result<RepairOut> {
        self.pool
            .call(Kind::Write, |stub, context, _| {
                let key = key.clone();
                async move { stub.repair(context, partition, key).await }
            })
            .await
    }
}

impl Stub for AdminServiceClient {
    const ROLE: Role = Role::Admin;

    fn over(
        stream: TcpStream,
        frame_bytes_max: u32,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let new = Self::new(tarpc::client::Config::default(), framed(stream, frame_bytes_max));
        (new.client, new.dispatch.map(drop))
    }
}
