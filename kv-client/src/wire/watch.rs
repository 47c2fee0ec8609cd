//! How an operator's screen hears of a cluster: one question that waits until there is news.
//!
//! The cursor says what the asker has already heard, and of whom, so that a node keeps nothing
//! between two questions, and another node can answer the next one: what it does not know to be
//! known is told whole.

use serde::{Deserialize, Serialize};

use super::{AaeView, EventView, LayoutsView, NodeInfo, NodeStatus, RingView};
use crate::NodeId;

/// Milliseconds between two answers to one asker in which nothing but figures is new.
pub const WATCH_TICK_MS: u64 = 1_000;

/// Milliseconds that a node lets an asker wait at most.
pub const WATCH_WAIT_MS_MAX: u32 = 10_000;

/// What an asker wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    /// Figures: the node about itself, the members, exchanges. News each `WATCH_TICK_MS`.
    pub figures: bool,
    /// Layouts. News when one is committed or retires, and each `WATCH_TICK_MS` while several are
    /// live: how far their members are.
    pub layouts: bool,
    /// What the node notes. News at once.
    pub events: bool,
}

impl Topics {
    /// Everything.
    pub const ALL: Self = Self { figures: true, layouts: true, events: true };
}

/// What an asker has heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchCursor {
    /// Of whom.
    pub node: NodeId,
    /// When that node started: a later life knows nothing of this.
    pub started_ms: u64,
    /// When its figures were told, milliseconds since it started.
    pub figures_ms: u64,
    /// The newest epoch that was told, and its digest.
    pub epoch: u64,
    /// The digest.
    pub digest: u64,
    /// How many layouts were live, and how many members had finished.
    pub live: u32,
    /// Members that had finished.
    pub finished: u32,
    /// The last event that was told.
    pub event: u64,
}

/// News.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Where to go on.
    pub cursor: WatchCursor,
    /// The node about itself, if there are new figures.
    pub status: Option<NodeStatus>,
    /// The members as it sees them, with what they told of themselves.
    pub nodes: Option<Vec<NodeInfo>>,
    /// How it compares its copies with others'.
    pub aae: Option<AaeView>,
    /// The newest layout, if the cursor does not know it.
    pub ring: Option<RingView>,
    /// The live layouts, if they changed, or if data moves.
    pub layouts: Option<LayoutsView>,
    /// What it noted since, the oldest first.
    pub events: Vec<EventView>,
    /// Whether some of that was gone already.
    pub lost: bool,
}
