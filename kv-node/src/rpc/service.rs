//! The peers' one tarpc method. Its argument is bounded while it is decoded.

#![allow(missing_docs, reason = "the service macro makes items that it does not document")]

use super::codec::Ops;
use crate::wire::{Envelope, PeerReply};

/// What a node answers its peers.
#[tarpc::service]
pub trait PeerService {
    /// Answers the operations, as many answers in their order, or refuses all of them.
    async fn call(envelope: Envelope, ops: Ops) -> PeerReply;
}
