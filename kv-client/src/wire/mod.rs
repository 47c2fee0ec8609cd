//! What travels between a node and its clients and operators. Separate from what a node holds in
//! memory, so that either can change without the other.
//!
//! Every request is bounded while it is decoded ([`Bounded`]), every answer by the node that makes
//! it. Field order is the format: append at the end with a new protocol version, never reorder.

mod aae;
mod admin;
mod bounded;
mod client;
mod conflicts;
mod drain;
mod events;
mod members;
mod scale;
mod watch;

pub use aae::{AaePeer, AaeView, RepairOut};
pub use admin::{
    Endpoints, Explanation, HintQueue, HintState, HintsView, LayoutName, LayoutProgress,
    LayoutsView, Location, NodeInfo, NodeState, NodeStatus, NodeVitals, ReplicaAnswer, RingView,
    VersionName,
};
pub use bounded::Bounded;
pub use client::{
    BATCH_OPS_MAX, BatchOp, BatchOut, Coverage, DotName, Expiry, Level, ReadOptions, ReadOut,
    ServiceError, Sibling, WriteOptions, WriteOut,
};
pub use conflicts::{CONFLICTS_PAGE_KEYS_MAX, Conflict, ConflictsView};
pub use drain::{DrainOrder, DrainStage, DrainView};
pub use events::{EVENTS_NODES_MAX, EVENTS_PAGE_MAX, EventView, EventsView};
pub use members::{
    CHANGE_NODES_MAX, MembersChange, MembersPlan, NodeShare, PastChange, SplitPlan, ZoneShare,
};
pub use scale::{
    AutoscaleChange, AutoscaleView, HOT_KEYS_MAX, HotKeyView, HotView, LoadPoint, NodeLoadView,
    POLICY_SETTINGS_MAX, PartitionLoad, ScaleMode,
};
pub use watch::{Topics, WATCH_TICK_MS, WATCH_WAIT_MS_MAX, WatchCursor, Watched};
