//! What happened, as the nodes noted it.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Events that one page of [`EventsView`] holds at most, whatever is asked for.
pub const EVENTS_PAGE_MAX: u32 = 1_000;

/// Members whose logs one question may name at most: those beyond are read from their newest.
pub const EVENTS_NODES_MAX: usize = 1_024;

/// Something that a node noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Who noted it.
    pub on: NodeId,
    /// Its number there: it only rises, over restarts too.
    pub number: u64,
    /// When, milliseconds since 1970 by that node's clock.
    pub unix_ms: u64,
    /// What kind of thing it is, such as `member.down`: a stable name, the subject first.
    pub code: String,
    /// Whether an operator should look at it.
    pub warns: bool,
    /// The node that it is about, if it is about another than the one that noted it.
    pub about: Option<NodeId>,
    /// What happened, in plain words.
    pub text: String,
}

/// What happened on every node that answered, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsView {
    /// The events.
    pub events: Vec<EventView>,
    /// Nodes of whose log a part was gone before it was asked for.
    pub lost: Vec<NodeId>,
    /// Members that did not answer.
    pub silent: Vec<NodeId>,
}
