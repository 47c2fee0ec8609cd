//! The accepting side of peers over TCP: greet, then serve what the connection is for.
//!
//! Handlers run inside their connection's task, which saves a task for each call, where their
//! operations are leaves (they wait for nothing but this node's disk). Others run as tasks of
//! their own: a caller that goes away must not stop a forwarded write half-way.
//!
//! Invariant: nothing that a stranger sends is parsed before the handshake, which reads messages
//! of fixed size within `handshake_ms_max`; strangers and guests are both bounded in number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_client::Role;
use kv_client::handshake::{self, HandshakeError};
use kv_client::service::{ServeLimits, serve};
use tarpc::context::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::codec::{Ops, fitting};
use super::service::PeerService;
use super::transport::{Door, Shared, worth_a_line};
use crate::plug::transport::PeerHandler;
use crate::wire::{Envelope, PeerOp, PeerReply, PeerRequest};

/// Accepts connections until dropped, and every connection with it.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    doors: BTreeMap<Role, Arc<dyn Door>>,
    handler: Arc<dyn PeerHandler>,
) {
    let strangers = Arc::new(Semaphore::new(shared.config.handshakes_max));
    let welcome = Arc::new(Semaphore::new(shared.config.connections_max));
    let doors = Arc::new(doors);
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as too many open files: wait for some to close.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(stranger) = Arc::clone(&strangers).try_acquire_owned() else {
            shared.figures.refused_full.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (shared, doors) = (Arc::clone(&shared), Arc::clone(&doors));
        let (welcome, handler) = (Arc::clone(&welcome), Arc::clone(&handler));
        connections.spawn(async move {
            let Some((stream, role)) = greet(stream, &shared, &doors).await else { return };
            drop(stranger);
            let Ok(_place) = welcome.try_acquire() else {
                shared.figures.refused_full.fetch_add(1, Ordering::Relaxed);
                return;
            };
            shared.figures.accepted.fetch_add(1, Ordering::Relaxed);
            let limits = ServeLimits {
                frame_bytes_max: shared.config.frame_bytes_max,
                calls_in_flight_max: shared.config.calls_in_flight_max,
            };
            if let Some(door) = doors.get(&role) {
                door.attend(stream, limits).await;
            } else {
                let frame_bytes_max = limits.frame_bytes_max;
                serve(stream, limits, PeerServer { handler, frame_bytes_max }.serve()).await;
            }
        });
    }
}

async fn greet(
    mut stream: TcpStream,
    shared: &Shared,
    doors: &BTreeMap<Role, Arc<dyn Door>>,
) -> Option<(TcpStream, Role)> {
    let Shared { config, figures, .. } = shared;
    let serves = |role| role == Role::Peer || doors.contains_key(&role);
    let greeting = async {
        stream.set_nodelay(true)?;
        handshake::accept(&mut stream, &config.secret, serves, handshake::nonce()?).await
    };
    let time = Duration::from_millis(config.handshake_ms_max);
    let refused = match tokio::time::timeout(time, greeting).await {
        Ok(Ok(role)) => return Some((stream, role)),
        Ok(Err(error)) => error,
        Err(_) => HandshakeError::Io(std::io::ErrorKind::TimedOut.into()),
    };
    if matches!(refused, HandshakeError::Secret) {
        if worth_a_line(&figures.refused_secret) {
            let from = stream.peer_addr().ok();
            let refusals = figures.refused_secret.load(Ordering::Relaxed);
            tracing::warn!(?from, refusals, "refused: another cluster secret");
        }
    } else {
        figures.refused_other.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%refused, "refused a connection");
    }
    None
}

#[derive(Clone)]
struct PeerServer {
    handler: Arc<dyn PeerHandler>,
    frame_bytes_max: u32,
}

impl PeerService for PeerServer {
    async fn call(self, _: Context, envelope: Envelope, ops: Ops) -> PeerReply {
        let request = PeerRequest { envelope, ops: ops.into_vec() };
        let leaves = request
            .ops
            .iter()
            .all(|op| matches!(op, PeerOp::Apply { .. } | PeerOp::Read { .. } | PeerOp::Gossip(_)));
        let reply = if leaves {
            self.handler.handle(request).await
        } else {
            let handler = Arc::clone(&self.handler);
            match tokio::spawn(async move { handler.handle(request).await }).await {
                Ok(reply) => reply,
                // A panic ends this connection: what its handlers hold is not to be trusted.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => std::future::pending().await,
            }
        };
        fitting(reply, self.frame_bytes_max)
    }
}
