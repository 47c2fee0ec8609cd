//! What the clients did and what they were told, in the order in which it happened.
//!
//! An operation that ended without an answer stays open for ever: it may have happened, may happen
//! later, or never. Calling it failed would excuse a lost write, calling it done would invent one.
//! For the same reason a client that tries again begins a new operation with a value of its own.

use kv_node::RequestError;
use twox_hash::XxHash3_64;

/// The key of an operation on all keys.
pub const EVERY_KEY: &str = "*";

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// SET: over whatever there is.
    Set(String),
    /// SET with an end, in milliseconds since 1970 of the true time.
    SetUntil {
        /// The new value.
        value: String,
        /// When it ends.
        until_ms: u64,
    },
    /// DEL.
    Delete,
    /// KV.PUT, with the values that its context covers.
    Put {
        /// The new value.
        value: String,
        /// What the client had been shown when it got its context.
        seen: Vec<String>,
    },
    /// KV.DEL, with the values that its context covers.
    DeleteSeen {
        /// What the client had been shown when it got its context.
        seen: Vec<String>,
    },
    /// EXPIRE to this end, or PERSIST.
    Expire(Option<u64>),
    /// GETEX to this end.
    GetEx(u64),
    /// INCR.
    Increment,
    /// FLUSHALL.
    Flush,
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
    /// No answer after so long that there will be none: never right.
    Hung,
    /// Surely nothing was written; nothing was read.
    Failed(String),
    /// A write was acknowledged.
    Acknowledged,
    /// A write found nothing to do: there is no value.
    Nothing,
    /// A read showed this.
    Shown(Option<String>),
    /// A read showed these.
    AllShown(Vec<String>),
}

impl Outcome {
    /// What an error says of the data: two of them leave open whether it was written, and every
    /// other says that nothing was.
    #[must_use]
    pub fn of(error: &RequestError) -> Self {
        match error {
            RequestError::Indeterminate { .. } | RequestError::Unknown(_) => {
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
    /// When it began, in microseconds of the run.
    pub began_us: u64,
    /// When its client stopped to wait for it.
    pub ended_us: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Op {
    /// What it writes, if it writes a value.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        match &self.action {
            Action::Set(value) | Action::SetUntil { value, .. } | Action::Put { value, .. } => {
                Some(value)
            }
            _ => None,
        }
    }

    /// What it was shown as the value of its key, if it was shown one or that there is none.
    #[must_use]
    pub fn shown(&self) -> Option<Option<&str>> {
        match (&self.outcome, &self.action) {
            (Outcome::Shown(value), _) => Some(value.as_deref()),
            (Outcome::Nothing, Action::Delete) => Some(None),
            _ => None,
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
        let read = matches!(self.action, Action::Get | Action::Siblings);
        !read && !matches!(self.outcome, Outcome::Failed(_) | Outcome::Nothing)
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
        self.begin_at(client, node, key, action, 0)
    }

    /// Notes that an operation begins, at `now_us` of the run.
    pub fn begin_at(
        &mut self,
        client: usize,
        node: usize,
        key: &str,
        action: Action,
        now_us: u64,
    ) -> usize {
        self.events += 1;
        self.ops.push(Op {
            client,
            node,
            key: key.into(),
            action,
            began: self.events,
            ended: u64::MAX,
            began_us: now_us,
            ended_us: u64::MAX,
            outcome: Outcome::Unknown("open".into()),
        });
        self.ops.len() - 1
    }

    /// Notes how an operation ended, at `now_us` of the run.
    pub fn end(&mut self, place: usize, outcome: Outcome, now_us: u64) {
        self.events += 1;
        let Some(op) = self.ops.get_mut(place) else { return };
        if !matches!(outcome, Outcome::Unknown(_) | Outcome::Hung) {
            op.ended = self.events;
        }
        op.ended_us = now_us;
        op.outcome = outcome;
        let event = format!("{} {op:?}", self.trace);
        self.trace = XxHash3_64::oneshot(event.as_bytes());
    }

    /// All operations, in the order of their beginnings.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// All operations, to be judged in another form.
    #[must_use]
    pub fn take_ops(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.ops)
    }

    /// A digest of everything that the clients did, when, and what they were told.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_it_may_be_stored_is_unknown_and_all_else_wrote_nothing() {
        let (down, silent) = (Vec::new, Vec::new);
        let text = || String::from("why");
        let unknown = [
            RequestError::Indeterminate { reached: 1, wanted: 2, silent: silent() },
            RequestError::Unknown(text()),
        ];
        let failed = [
            RequestError::NoReplicas { wanted: 2, down: down() },
            RequestError::Unavailable { reached: 1, wanted: 2, silent: silent() },
            RequestError::Busy(text()),
            RequestError::NeedsRmw(text()),
            RequestError::TooManySiblings { siblings: 101 },
            RequestError::BadContext,
            RequestError::WrongValue(text()),
            RequestError::TooLarge { bytes: 2, bytes_max: 1 },
            RequestError::KeyTooLarge { bytes: 2 },
            RequestError::RecordTooLarge { bytes: 2, bytes_max: 1 },
            RequestError::Level(text()),
            RequestError::Loading,
            RequestError::Full(text()),
            RequestError::Storage(text()),
            RequestError::ClockSkew,
            RequestError::Stopping,
            RequestError::Removed,
            RequestError::DiskFull,
        ];
        for error in &unknown {
            assert!(matches!(Outcome::of(error), Outcome::Unknown(_)), "{error:?}");
            assert!(error.to_string().starts_with("INDETERMINATE"), "clients are told so: {error}");
        }
        for error in &failed {
            assert!(matches!(Outcome::of(error), Outcome::Failed(_)), "{error:?}");
            assert!(!error.to_string().starts_with("INDETERMINATE"), "{error}");
        }
    }
}
