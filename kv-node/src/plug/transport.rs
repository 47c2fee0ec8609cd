//! The transport seam: one call to one peer, many operations in it.
//!
//! All peer traffic goes through `call`: data, gossip, birth, ballots. So one port, one handshake
//! and one enum (`wire::PeerOp`) serve tarpc, the in-process transport and the simulation alike.
//! Batching, queues and reconnection back-off sit above, in `rpc::peer`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::wire::{CallFailure, PeerReply, PeerRequest};

/// Where a peer listens: `host:port` in production, any name in process.
pub type PeerAddress = String;

/// Answers what peers ask. The node implements it; a transport calls it.
#[async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers one call: as many results as operations, in their order, or a refusal of all.
    async fn handle(&self, request: PeerRequest) -> PeerReply;
}

/// A way to reach peers and to be reached.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Starts to answer calls on this node's address. Returns the address that peers dial.
    ///
    /// # Errors
    /// The address can't be listened on; nothing was started.
    async fn serve(&self, handler: Arc<dyn PeerHandler>) -> std::io::Result<PeerAddress>;

    /// Calls a peer and waits for its answer, at most `request.envelope.budget_ms`.
    ///
    /// # Errors
    /// `CallFailure` tells whether the peer can have acted on the call.
    async fn call(&self, to: &PeerAddress, request: PeerRequest) -> Result<PeerReply, CallFailure>;

    /// Drops whatever connection there is to a peer, so that the next call dials anew.
    fn disconnect(&self, to: &PeerAddress);

    /// Waits until a connection to a peer has ended, and says which peer's: each end is told once,
    /// to one who waits. So a peer that dies is missed before anybody asks it for anything.
    async fn lost(&self) -> PeerAddress;

    /// Stops answering and drops every connection.
    async fn close(&self);
}
