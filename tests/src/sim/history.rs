//! What the clients did and what they were told, in the order in which it happened.
//!
//! An operation that ended without an answer stays open for ever: it may have happened, may happen
//! later, or never. Calling it failed would excuse a lost write, calling it done would invent one.

use kv_node::RequestError;
use twox_hash::XxHash3_64;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// SET: over whatever there is.
    Set(String),
    /// DEL.
    Delete,
    /// KV.PUT, with the values that its context covers.
    Put {
        /// The new value.
        value: String,
        /// What the client had been shown when it got its context.
        seen: Vec<String>,
    },
    /// GET.
    Get,
    /// KV.GET.
    Siblings,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Still open, or never answered: anything may be true.
    Unknown(String),
    /// Surely nothing was written; nothing was read.
    Failed(String),
    /// A write was acknowledged.
    Acknowledged,
    /// A read showed this.
    Shown(Option<String>),
    /// A read showed these.
    AllShown(Vec<String>),
}

impl Outcome {
    /// What an error says of the data.
    #[must_use]
    pub fn of(error: &RequestError) -> Self {
        match error {
            RequestError::Indeterminate { .. } | RequestError::Storage(_) => {
                Self::Unknown(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Who.
    pub client: usize,
    /// Through which node.
    pub node: usize,
    /// On what.
    pub key: String,
    /// What.
    pub action: Action,
    /// Its place among all beginnings and ends.
    pub began: u64,
    /// The place of its end; the largest number when there was none.
    pub ended: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Op {
    /// What it writes, if it writes a value.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        match &self.action {
            Action::Set(value) | Action::Put { value, .. } => Some(value),
            Action::Delete | Action::Get | Action::Siblings => None,
        }
    }

    /// Whether it was acknowledged.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.outcome == Outcome::Acknowledged
    }

    /// Whether it may have written, or may yet.
    #[must_use]
    pub fn may_have_written(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged | Outcome::Unknown(_))
    }
}

/// The history of a run.
#[derive(Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    events: u64,
    trace: u64,
}

impl History {
    /// Notes that an operation begins; gives its place for `end`.
    pub fn begin(&mut self, client: usize, node: usize, key: &str, action: Action) -> usize {
        self.events += 1;
        self.ops.push(Op {
            client,
            node,
            key: key.into(),
            action,
            began: self.events,
            ended: u64::MAX,
            outcome: Outcome::Unknown("open".into()),
        });
        self.ops.len() - 1
    }

    /// Notes how an operation ended, at `now_us` of the run.
    pub fn end(&mut self, place: usize, outcome: Outcome, now_us: u64) {
        self.events += 1;
        let Some(op) = self.ops.get_mut(place) else { return };
        if !matches!(outcome, Outcome::Unknown(_)) {
            op.ended = self.events;
        }
        op.outcome = outcome;
        let event = format!("{} {now_us} {op:?}", self.trace);
        self.trace = XxHash3_64::oneshot(event.as_bytes());
    }

    /// All operations, in the order of their beginnings.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// A digest of everything that the clients did, when, and what they were told.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace
    }
}
