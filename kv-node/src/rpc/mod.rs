//! Peer traffic: senders that batch, and the transports under them.
//!
//! A coordinator hands operations to a peer's sender together with where the answers go. What
//! gathered while the previous calls were in flight goes out as one call with many operations; no
//! timer delays any. An answer, or the reason why there is none, always comes back, exactly once.

mod accept;
mod admin;
mod admin_aae;
mod admin_members;
mod admin_scale;
mod admin_watch;
mod blind;
mod client;
pub mod codec;
pub mod doors;
mod lane;
mod link;
pub mod peer;
pub mod service;
pub mod transport;
mod watch;

use std::sync::Arc;

use kv_client::NodeId;

use crate::wire::{CallFailure, OpFailure, PeerOp, PeerOut, Refusal};

/// Why an operation sent to a peer has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerFailure {
    /// The sender's queue was full: nothing was sent.
    QueueFull,
    /// The peer isn't known, is being backed off from or counts as down: nothing was sent.
    NotConnected,
    /// Its deadline passed in the queue: nothing was sent. The queue was long, or the request's
    /// time short: that says nothing of the peer.
    Expired,
    /// The peer has answered nothing for so long that it counts as down. The answer may come yet.
    Silent,
    /// The call failed; it says whether it may have been acted on.
    Call(CallFailure),
    /// The peer refused the whole call: it did nothing.
    Refused(Refusal),
    /// The operation failed at the peer.
    Op(OpFailure),
    /// The peer's answer had another shape than its question: it is treated as unknown.
    Confused,
}

impl PeerFailure {
    /// Whether the peer refused because it knows newer layouts.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(Refusal::StaleLayout { .. }))
    }

    /// Whether the peer counts as down by this: it refuses connections, its process is gone or it
    /// is not serving. One that is slow, full or unable is up, and nobody stands in for it.
    pub fn means_down(&self) -> bool {
        match self {
            Self::NotConnected | Self::Silent => true,
            Self::Call(failure) => {
                failure.is_refusal() || matches!(failure, CallFailure::Unknown(_))
            }
            Self::Refused(refusal) => matches!(refusal, Refusal::Stopping | Refusal::Loading),
            Self::QueueFull | Self::Expired | Self::Op(_) | Self::Confused => false,
        }
    }

    /// Whether the peer certainly did not act.
    pub fn without_effect(&self) -> bool {
        match self {
            Self::QueueFull | Self::NotConnected | Self::Expired | Self::Refused(_) => true,
            Self::Call(failure) => failure.without_effect(),
            Self::Op(failure) => !matches!(failure, OpFailure::Unknown(_)),
            Self::Silent | Self::Confused => false,
        }
    }
}

/// What became of an operation.
pub type PeerResult = Result<PeerOut, PeerFailure>;

/// Where answers go: one object for all the operations that a client's batch caused, so that a
/// batch of sixteen wakes its connection once.
pub trait Completion: Send + Sync {
    /// Takes the answer to the operation in `slot`. Called exactly once for each operation, from
    /// any task, and must not block.
    fn complete(&self, slot: u32, from: NodeId, result: Result<PeerOut, PeerFailure>);

    /// The peer counts as down while the operation in `slot` waits for it: others are to be asked
    /// now. May be called several times, and with another thread at the same time as `complete`,
    /// which still comes once. Must not block. Who has nobody else to ask does nothing.
    fn stalled(&self, _slot: u32, _from: NodeId) {}
}

/// An operation on its way to a peer.
pub struct Pending {
    /// What is asked.
    pub op: PeerOp,
    /// Given back with the answer.
    pub slot: u32,
    /// Where the answer goes.
    pub to: Arc<dyn Completion>,
    /// When nobody waits any more, on the node's steady clock.
    pub deadline_ms: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("op", &self.op)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// Sends operations to peers. The production one is `peer::Peers`; unit tests bring their own.
pub trait PeerSender: Send + Sync + 'static {
    /// Hands operations to a peer's sender, in order. Returns at once.
    fn submit(&self, to: NodeId, ops: Vec<Pending>);
}
