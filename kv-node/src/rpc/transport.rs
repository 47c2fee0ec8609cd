//! Peers over TCP: tarpc on connections that proved the cluster secret first.
//!
//! One port for everything that is not RESP or HTTP: who connects says in the handshake what for
//! (peer, client, operator), and gets that service or is refused. Calls to a peer share one
//! connection, dialled when first needed; two thousand calls a second with many operations each
//! leave it idle most of the time.
//!
//! This is the dialling side and the settings; `accept` is the other side.
//!
//! Invariant: a call that may have reached its peer is never reported as unsent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kv_client::codec::{FRAME_BYTES_MAX_DEFAULT, framed};
use kv_client::dial::{DialError, DialOptions, dial};
use kv_client::handshake::HandshakeError;
use kv_client::service::ServeLimits;
use kv_client::{Role, Secret};
use parking_lot::Mutex;
use tarpc::client::RpcError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::accept::accept;
use super::codec::Ops;
use super::service::PeerServiceClient;
use crate::plug::transport::{PeerAddress, PeerHandler, Transport};
use crate::wire::{CallFailure, PeerReply, PeerRequest};

/// Settings of the transport.
#[derive(Clone, Debug)]
pub struct TarpcConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What peers are told to dial; the listening address if `None`.
    pub advertise: Option<String>,
    /// The local address to dial from; the system's choice if `None`.
    pub bind_source: Option<IpAddr>,
    /// The cluster's secret.
    pub secret: Secret,
    /// Bytes of a frame at most, in either direction; the same on every node.
    pub frame_bytes_max: u32,
    /// Milliseconds for dialling a peer, handshake included.
    pub dial_ms_max: u64,
    /// Milliseconds that a stranger has for the handshake.
    pub handshake_ms_max: u64,
    /// Connections that have not passed the handshake, at most; further ones are dropped.
    pub handshakes_max: usize,
    /// Connections that have, at most; further ones are dropped.
    pub connections_max: usize,
    /// Calls that one connection's peer may have worked on at once; further ones wait.
    pub calls_in_flight_max: usize,
}

impl TarpcConfig {
    /// The defaults, listening on `listen`.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            advertise: None,
            bind_source: None,
            secret: Secret::default(),
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
            dial_ms_max: 1_000,
            handshake_ms_max: 2_000,
            handshakes_max: 256,
            connections_max: 4_096,
            calls_in_flight_max: 128,
        }
    }
}

/// Serves the connections of one role other than peers: the client and admin services.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Serves one connection until it ends. Dropped when the transport closes.
    async fn attend(&self, stream: TcpStream, limits: ServeLimits);
}

/// Counters of the transport, for operators.
#[derive(Debug, Default)]
pub struct TransportFigures {
    /// Connections that passed the handshake here.
    pub accepted: AtomicU64,
    /// Connections that did not know the secret.
    pub refused_secret: AtomicU64,
    /// Connections refused otherwise: another protocol, version or role, broken off, too slow.
    pub refused_other: AtomicU64,
    /// Connections dropped because a bound on them was reached.
    pub refused_full: AtomicU64,
    /// Connections made to peers.
    pub dialled: AtomicU64,
    /// Attempts to connect to peers that failed.
    pub dial_failed: AtomicU64,
    /// Those of them that were connected, but not by the handshake: another secret or version.
    pub dial_refused: AtomicU64,
}

/// Counts a refusal and says whether it is to be logged: the first, second, fourth, eighth... Who
/// is refused tries again for ever, several times a second.
pub(super) fn worth_a_line(refusals: &AtomicU64) -> bool {
    refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1).is_power_of_two()
}

/// The production transport.
pub struct TarpcTransport {
    shared: Arc<Shared>,
    doors: BTreeMap<Role, Arc<dyn Door>>,
    slots: Mutex<BTreeMap<PeerAddress, Arc<Slot>>>,
    accepting: Mutex<Option<Accepting>>,
}

pub(super) struct Shared {
    pub(super) config: TarpcConfig,
    pub(super) figures: TransportFigures,
    ended: Ended,
}

/// Peers to whom a connection has ended and of whom nobody was told yet; of `PEERS_MAX` at most.
#[derive(Default)]
struct Ended {
    peers: Mutex<BTreeSet<PeerAddress>>,
    wake: Notify,
}

struct Accepting {
    task: AbortHandle,
    /// Resolves when the accepting task, and every connection with it, is gone.
    gone: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Slot {
    live: Mutex<Option<Live>>,
    /// Held while dialling, so that waiting calls share one attempt.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Live {
    stub: PeerServiceClient,
    open: Arc<AtomicBool>,
    dispatch: AbortHandle,
}

/// How long a process takes to close all that it has open, mostly.
const ENDING: Duration = Duration::from_millis(2);

/// Peers that are dialled, at most: far above any cluster, to bound what addresses cost.
const PEERS_MAX: usize = 4_096;

impl std::fmt::Debug for TarpcTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarpcTransport")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl TarpcTransport {
    /// A transport that does nothing yet.
    pub fn new(config: TarpcConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                figures: TransportFigures::default(),
                ended: Ended::default(),
            }),
            doors: BTreeMap::new(),
            slots: Mutex::default(),
            accepting: Mutex::default(),
        }
    }

    /// Adds the service for connections of another role than peers.
    #[must_use]
    pub fn with_door(mut self, role: Role, door: Arc<dyn Door>) -> Self {
        self.doors.insert(role, door);
        self
    }

    /// The counters.
    pub fn figures(&self) -> &TransportFigures {
        &self.shared.figures
    }

    fn slot(&self, to: &PeerAddress) -> Option<Arc<Slot>> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(to) {
            return Some(Arc::clone(slot));
        }
        (slots.len() < PEERS_MAX).then(|| Arc::clone(slots.entry(to.clone()).or_default()))
    }

    async fn connect(&self, to: &PeerAddress) -> Result<TcpStream, CallFailure> {
        let Shared { config, figures, .. } = &*self.shared;
        let options = DialOptions {
            secret: config.secret.clone(),
            role: Role::Peer,
            bind_source: config.bind_source,
            dial_ms_max: config.dial_ms_max,
        };
        let mut dialled = dial(to, &options).await;
        let ended = match &dialled {
            Err(DialError::Handshake(HandshakeError::Io(_))) => true,
            Err(DialError::Io(io)) => io.kind() == std::io::ErrorKind::ConnectionReset,
            _ => false,
        };
        if ended {
            // A process that ends may take one more connection; a moment later nobody is there.
            tokio::time::sleep(ENDING).await;
            dialled = dial(to, &options).await;
        }
        dialled.map_err(|error| {
            figures.dial_failed.fetch_add(1, Ordering::Relaxed);
            if let DialError::Handshake(why) = &error
                && worth_a_line(&figures.dial_refused)
            {
                let refusals = figures.dial_refused.load(Ordering::Relaxed);
                tracing::warn!(?to, %why, refusals, "refused by a peer");
            }
            match &error {
                DialError::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                    CallFailure::Gone(error.to_string())
                }
                _ => CallFailure::Unreachable(error.to_string()),
            }
        })
    }

    async fn live(&self, to: &PeerAddress) -> Result<Live, CallFailure> {
        let too_many = || CallFailure::NotSent("too many peers".to_owned());
        let slot = self.slot(to).ok_or_else(too_many)?;
        if let Some(live) = slot.open() {
            return Ok(live);
        }
        let _turn = slot.dialling.lock().await;
        if let Some(live) = slot.open() {
            return Ok(live);
        }
        let Shared { config, figures, .. } = &*self.shared;
        let stream = self.connect(to).await?;
        figures.dialled.fetch_add(1, Ordering::Relaxed);
        let new = PeerServiceClient::new(
            tarpc::client::Config::default(),
            framed(stream, config.frame_bytes_max),
        );
        let open = Arc::new(AtomicBool::new(true));
        let closing =
            Closing { open: Arc::clone(&open), to: to.clone(), shared: Arc::clone(&self.shared) };
        let dispatch = tokio::spawn(async move {
            let _closing = closing;
            if let Err(error) = new.dispatch.await {
                tracing::debug!(%error, "a peer's connection ended");
            }
        });
        let live = Live { stub: new.client, open, dispatch: dispatch.abort_handle() };
        *slot.live.lock() = Some(live.clone());
        Ok(live)
    }
}

/// Marks a connection closed however its task ends, abortion included, and tells of it.
struct Closing {
    open: Arc<AtomicBool>,
    to: PeerAddress,
    shared: Arc<Shared>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Release);
        let ended = &self.shared.ended;
        ended.peers.lock().insert(std::mem::take(&mut self.to));
        ended.wake.notify_one();
    }
}

impl Slot {
    fn open(&self) -> Option<Live> {
        self.live.lock().as_ref().filter(|live| live.open.load(Ordering::Acquire)).cloned()
    }

    fn disconnect(&self) {
        if let Some(live) = self.live.lock().take() {
            live.dispatch.abort();
        }
    }
}

#[async_trait]
impl Transport for TarpcTransport {
    async fn serve(&self, handler: Arc<dyn PeerHandler>) -> std::io::Result<PeerAddress> {
        let config = &self.shared.config;
        let listener = TcpListener::bind(config.listen).await?;
        let address = match &config.advertise {
            Some(address) => address.clone(),
            None => listener.local_addr()?.to_string(),
        };
        let (alive, gone) = oneshot::channel::<()>();
        let shared = Arc::clone(&self.shared);
        let doors = self.doors.clone();
        // In this order also where it is ended before it began: who waits for its end must not
        // still find the port open.
        let held = (listener, alive);
        let task = tokio::spawn(async move {
            let (listener, _alive) = held;
            accept(listener, shared, doors, handler).await;
        });
        let accepting = Accepting { task: task.abort_handle(), gone };
        if let Some(old) = self.accepting.lock().replace(accepting) {
            old.task.abort();
        }
        Ok(address)
    }

    async fn call(&self, to: &PeerAddress, request: PeerRequest) -> Result<PeerReply, CallFailure> {
        let budget = Duration::from_millis(u64::from(request.envelope.budget_ms));
        // tarpc counts deadlines on the operating system's clock.
        let deadline = Instant::now() + budget;
        let live = match tokio::time::timeout(budget, self.live(to)).await {
            Ok(Ok(live)) => live,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(CallFailure::NotSent("not connected in time".to_owned())),
        };
        let ops = Ops::new(request.ops)
            .map_err(|_| CallFailure::NotSent("too many operations in a call".to_owned()))?;
        let mut context = tarpc::context::current();
        context.deadline = deadline;
        let call = live.stub.call(context, request.envelope, ops);
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, call).await {
            Ok(Ok(reply)) => Ok(reply),
            Err(_) | Ok(Err(RpcError::DeadlineExceeded)) => Err(CallFailure::TimedOut),
            // Only encoding fails so: the frame limit.
            Ok(Err(error @ RpcError::Send(_))) => Err(CallFailure::NotSent(describe(&error))),
            Ok(Err(error)) => Err(CallFailure::Unknown(describe(&error))),
        }
    }

    fn disconnect(&self, to: &PeerAddress) {
        let slot = self.slots.lock().get(to).cloned();
        if let Some(slot) = slot {
            slot.disconnect();
        }
    }

    async fn lost(&self) -> PeerAddress {
        let ended = &self.shared.ended;
        loop {
            let peer = ended.peers.lock().pop_first();
            match peer {
                Some(peer) => return peer,
                None => ended.wake.notified().await,
            }
        }
    }

    async fn close(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(Accepting { task, gone }) = accepting {
            task.abort();
            // Ends with an error when the other half is dropped with the task.
            drop(gone.await);
        }
        for slot in std::mem::take(&mut *self.slots.lock()).into_values() {
            slot.disconnect();
        }
    }
}

impl Drop for TarpcTransport {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().take() {
            accepting.task.abort();
        }
        for slot in self.slots.lock().values() {
            slot.disconnect();
        }
    }
}

/// An error with its causes, since tarpc's own text names none.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
