//! Who comes to the Redis door: accepted while the node takes clients, each connection a task.
//!
//! While it takes none (`node/drain.rs`) nobody listens on the port, so that whoever dials is
//! refused at once and turns to another node. Invariant: at most `clients_max` connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::exec::{Session, Shared};
use super::server::converse;
use crate::node::DrainState;

/// Pause after accepting failed, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts while the node takes clients and it is not aborted; its connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let address = listener.local_addr().ok();
    let mut drain = shared.node.drain_watch();
    let mut connections = JoinSet::new();
    let mut open = Some(listener);
    loop {
        while connections.try_join_next().is_some() {}
        let Some(listener) = &open else {
            open = listen_again(&shared, &mut drain, address).await;
            continue;
        };
        tokio::select! {
            biased;
            () = until(&mut drain, |takes| !takes) => {
                open = None;
                shared.send_away();
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(stream, peer, &shared, &mut connections),
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Returns when it is so that clients are taken, or are not.
async fn until(drain: &mut watch::Receiver<DrainState>, is_so: impl Fn(bool) -> bool) {
    let seen = drain.wait_for(|state| is_so(state.takes_clients())).await.is_ok();
    if !seen {
        // The node is gone: nothing changes any more.
        std::future::pending::<()>().await;
    }
}

/// Listens again when the node takes clients again; none while another process has the port.
async fn listen_again(
    shared: &Shared,
    drain: &mut watch::Receiver<DrainState>,
    address: Option<SocketAddr>,
) -> Option<TcpListener> {
    until(drain, |takes| takes).await;
    let Some(address) = address else { return std::future::pending().await };
    shared.closing.store(false, Release);
    match TcpListener::bind(address).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "clients can't be listened for again yet");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A client that was silent for so long is asked by the system whether it is there, as in Redis.
pub(super) const KEEPALIVE_S: u64 = 300;

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    if shared.stopping.load(Acquire) {
        return;
    }
    let open = shared.clients.load(Relaxed);
    if open >= shared.resp.clients_max {
        // Best effort, as in Redis: the socket's buffer is empty, so it fits or the client is gone.
        let _unread = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    // Without it an answer may wait 40 ms for the client's acknowledgement of the one before.
    let _best_effort = stream.set_nodelay(true);
    // One that is gone without a word (its machine fell, a router forgot it) is found out in time.
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_S));
    let _best_effort = SockRef::from(&stream).set_tcp_keepalive(&probes);
    let local = stream.local_addr().ok();
    let counted = Counted::new(Arc::clone(shared));
    connections.spawn(async move {
        let shared = &counted.0;
        let session = Session::new(shared, Some(peer), local);
        let (reader, writer) = stream.into_split();
        if let Err(error) = converse(shared, session, reader, writer).await {
            tracing::debug!(%peer, %error, "a client connection ended");
        }
    });
}

/// Counts an open connection for as long as it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.clients.fetch_add(1, Relaxed);
        shared.node.figures().connections.one();
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Relaxed);
        self.0.node.figures().connections_closed.one();
    }
}
