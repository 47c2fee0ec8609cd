//! What a person selected on the tabs, and how they want it shown.

use kv_client::NodeId;

use crate::model::EventKind;

/// How the ring is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingColour {
    /// By the first owner's letter.
    #[default]
    Owner,
    /// By how many replicas are up.
    State,
}

/// What is selected on the tabs. Survives a change of tab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The partition on the ring; `None` follows the key that was looked up.
    pub partition: Option<usize>,
    /// How the ring is coloured.
    pub colour: RingColour,
    /// Whether the ring is shown as a list of partitions.
    pub zoom: bool,
    /// A place in the list of nodes as sorted and filtered.
    pub node: usize,
    /// By which column nodes are sorted.
    pub sort: Sort,
    /// What a node's line must hold.
    pub node_filter: String,
    /// A key among those with siblings.
    pub conflict: usize,
    /// A sibling of it.
    pub sibling: usize,
    /// An event, counted from the newest shown.
    pub event: usize,
    /// What an event's line must hold.
    pub event_filter: String,
    /// The only kind of event shown.
    pub event_kind: Option<EventKind>,
    /// The only node whose events are shown.
    pub event_node: Option<NodeId>,
    /// How values are shown.
    pub value_form: ValueForm,
    /// Lines that the values are scrolled down.
    pub value_scroll: usize,
    /// A peer among those that the asked node compares with.
    pub repair: usize,
}

/// How nodes are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Those that need a look first.
    #[default]
    State,
    /// By letter.
    Name,
    /// The most surprising silence first.
    Phi,
    /// The slowest calls first.
    Call,
}

impl Sort {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Name => "name",
            Self::Phi => "phi",
            Self::Call => "call",
        }
    }
}

/// How a value's bytes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueForm {
    /// Indented, if they are JSON; else as text.
    #[default]
    Json,
    /// As text.
    Text,
    /// As hexadecimal digits.
    Hex,
}
