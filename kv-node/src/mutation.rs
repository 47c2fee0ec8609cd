//! Writes as values: what a client wants done to one key, decided at a replica of that key.
//!
//! A front door turns a command into a `Mutation`; the coordinator executes it here or forwards it
//! to a replica, since only a replica mints. Because the whole write travels, nothing is read at
//! one node and decided at another.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a write says about expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryRule {
    /// No expiry.
    #[default]
    Never,
    /// Expires at this many milliseconds since 1970.
    At(u64),
    /// Keeps what the replaced value had (SET KEEPTTL).
    Keep,
}

/// NX or XX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existence {
    /// Only if there is no value.
    Absent,
    /// Only if there is one.
    Present,
}

/// The condition of EXPIRE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireIf {
    /// NX: only where there is none.
    NoExpiry,
    /// XX: only where there is one.
    HasExpiry,
    /// GT: only to a later time; none counts as endless.
    Later,
    /// LT: only to an earlier time.
    Earlier,
    /// XX and LT: only to an earlier time, and only where there is one.
    EarlierThanExpiry,
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Mutation {
    /// SET: a blind overwrite of what its coordinator knows.
    Set {
        /// The new bytes.
        value: Bytes,
        /// Their expiry. `Keep` is a read of R replicas first.
        expiry: ExpiryRule,
    },
    /// KV.PUT: replaces what the context covers, nothing without one.
    Put {
        /// The new bytes.
        value: Bytes,
        /// A sealed context, as the client sent it.
        context: Option<Bytes>,
        /// The expiry.
        expiry: ExpiryRule,
    },
    /// DEL: reads R replicas and deletes what they hold; nothing there, nothing written.
    Delete,
    /// KV.DEL with a context: deletes what the context covers.
    DeleteSeen {
        /// A sealed context.
        context: Bytes,
    },
    /// EXPIRE and its kin, PERSIST (`expires_at_ms: None`): changes the registers that R replicas
    /// show.
    Expire {
        /// Milliseconds since 1970; `None` persists.
        expires_at_ms: Option<u64>,
        /// A promise: only under `rmw = best-effort`.
        condition: Option<ExpireIf>,
    },
    /// GETEX: reads, then changes the register; answers the value.
    ReadAndExpire {
        /// Milliseconds since 1970; `None` persists.
        expires_at_ms: Option<u64>,
    },
    /// A promise command: first reads R, replaces only what it read. Only under
    /// `rmw = best-effort`.
    Promise(Promise),
}

impl Mutation {
    /// Bytes of the value that it brings.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::Put { value, .. } => value.len(),
            Self::Promise(promise) => promise.value_bytes(),
            _ => 0,
        }
    }
}

/// Commands whose answer promises something about the value that was there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Promise {
    /// SET with NX, XX or GET; SETNX; GETSET.
    SetIf {
        /// The new bytes.
        value: Bytes,
        /// Their expiry.
        expiry: ExpiryRule,
        /// The condition.
        only: Option<Existence>,
        /// Answer the old value.
        answer_old: bool,
    },
    /// GETDEL.
    TakeOut,
    /// INCR, DECR, INCRBY, DECRBY.
    Add(i64),
    /// INCRBYFLOAT; text, so that equality is exact.
    AddFloat(String),
    /// APPEND.
    Append(Bytes),
    /// SETRANGE.
    SetRange {
        /// Bytes from the value's start.
        offset: u32,
        /// What is written there.
        value: Bytes,
    },
}

/// What a write came to, when it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MutationOut {
    /// Written.
    Written {
        /// Nodes other than the coordinator that hold the write durably at the time of the answer,
        /// for WAIT; hints don't count.
        holders: Vec<kv_client::NodeId>,
        /// The (time, node, tenure) of the dot that was minted last, or of the one whose register
        /// was changed: for WAIT and for who names the write.
        dot: (u64, u64, u64),
        /// The stamp of the register that was changed, for WAIT; 0 for a mint.
        stamp: u64,
        /// After a delete, the sealed context of who now knows of it; else empty (a put's is its
        /// answer).
        context: Bytes,
        /// What the command answers beside OK.
        answer: Answer,
    },
    /// Nothing was written, and that is the answer.
    Nothing(Answer),
}

/// What a command answers about the value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing to say: OK.
    #[default]
    Ok,
    /// A number: deleted, changed, the new length, the new counter.
    Integer(i64),
    /// Bytes or nil.
    Value(Option<Bytes>),
}
