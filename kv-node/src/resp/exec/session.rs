//! What a connection is, and what all connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::clients::Replies;
use super::multi::Queue;
use super::room::ReadRoom;
use crate::config::{CompatConfig, RespConfig};
use crate::coordinator::{Coordinator, Levels, WriteLedger};
use crate::node::Node;
use crate::resp::clients::{Card, Clients};
use crate::resp::parse::Limits;
use crate::resp::reply::Protocol;
use crate::resp::slow::Slowness;
use crate::resp::table::Command;

/// A pair's largest size until the cluster's record says it.
const PAIR_BYTES_MAX: u32 = 1 << 20;
/// Above the pair limit so much is still read, so that the error can name the pair's size.
const PAIR_SLACK_BYTES: u32 = 64 * 1024;

/// What all connections of a node share.
pub(in crate::resp) struct Shared {
    pub(in crate::resp) node: Arc<Node>,
    pub(in crate::resp) resp: RespConfig,
    pub(in crate::resp) compat: CompatConfig,
    /// Where clients connect, for INFO.
    pub(in crate::resp) port: u16,
    pub(in crate::resp) started: Instant,
    /// Connections that are open.
    pub(in crate::resp) clients: AtomicUsize,
    /// The same, one by one.
    pub(in crate::resp) open: Clients,
    /// What took long.
    pub(in crate::resp) slowness: Slowness,
    /// Bytes of long answers that wait for clients to read them.
    pub(in crate::resp) outputs_bytes: AtomicUsize,
    /// Bytes of requests that have not wholly arrived, are being executed, or wait for EXEC.
    pub(in crate::resp) queries_bytes: Arc<AtomicUsize>,
    /// Bytes of what connections keep for WAIT.
    ledgers_bytes: Arc<AtomicUsize>,
    /// Room for the values that reads bring together.
    pub(super) read_room: ReadRoom,
    /// Connections that execute a batch right now.
    pub(in crate::resp) busy: AtomicUsize,
    pub(in crate::resp) stopping: AtomicBool,
    /// The node takes no clients: connections end when they are answered.
    pub(in crate::resp) closing: AtomicBool,
    next_id: AtomicU64,
}

impl Shared {
    pub(in crate::resp) fn new(
        node: Arc<Node>,
        resp: RespConfig,
        compat: CompatConfig,
        port: u16,
    ) -> Self {
        let reads_bytes_max = resp.reads_bytes_max;
        Self {
            node,
            resp,
            compat,
            port,
            started: Instant::now(),
            clients: AtomicUsize::new(0),
            open: Clients::default(),
            slowness: Slowness::default(),
            outputs_bytes: AtomicUsize::new(0),
            queries_bytes: Arc::default(),
            ledgers_bytes: Arc::default(),
            read_room: ReadRoom::new(reads_bytes_max, PAIR_BYTES_MAX as usize),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
        }
    }

    /// Every connection ends as soon as what it asked is answered, those that come too.
    pub(in crate::resp) fn send_away(&self) {
        self.closing.store(true, Ordering::Release);
        self.open.choose(|_| true).iter().for_each(|card| card.leave());
    }

    /// Bytes of one argument at most.
    pub(super) fn bulk_bytes_max(&self) -> u32 {
        (self.pair_bytes_max() as u32).saturating_add(PAIR_SLACK_BYTES)
    }

    /// Bytes of one pair at most.
    pub(super) fn pair_bytes_max(&self) -> usize {
        let view = self.node.view().now();
        view.record.as_ref().map_or(PAIR_BYTES_MAX, |record| record.pair_bytes_max) as usize
    }

    /// What a connection may send once it is authenticated.
    fn limits(&self) -> Limits {
        Limits::after_auth(self.bulk_bytes_max(), self.resp.query_bytes_max)
    }
}

/// One connection.
pub(in crate::resp) struct Session {
    /// As others see it.
    pub(in crate::resp) card: Arc<Card>,
    /// The last command.
    pub(in crate::resp) command: Option<&'static Command>,
    /// Which commands are answered.
    pub(in crate::resp) replies: Replies,
    pub(in crate::resp) name: Vec<u8>,
    pub(super) lib_name: Vec<u8>,
    pub(super) lib_version: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) authenticated: bool,
    pub(super) levels: Levels,
    /// Writes since the last WAIT.
    pub(super) ledger: WriteLedger,
    /// Between MULTI and EXEC.
    pub(in crate::resp) queue: Option<Queue>,
    pub(super) coordinator: Option<Arc<Coordinator>>,
    /// Keys whose values are read at once, at most; 0 until it is known.
    pub(super) keys_at_once: usize,
    /// Close once the answers are written.
    pub(in crate::resp) closing: bool,
}

impl Session {
    pub(in crate::resp) fn new(
        shared: &Shared,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Self {
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        Self {
            card: Arc::new(Card::new(id, peer, local)),
            command: None,
            replies: Replies::default(),
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_version: Vec::new(),
            protocol: Protocol::default(),
            authenticated: shared.resp.requirepass.is_empty(),
            levels: Levels::default(),
            ledger: WriteLedger::counted(Arc::clone(&shared.ledgers_bytes)),
            queue: None,
            coordinator: None,
            keys_at_once: 0,
            closing: false,
        }
    }

    /// What this connection may send now, and whether that can still change.
    pub(in crate::resp) fn limits(&self, shared: &Shared) -> (Limits, bool) {
        if !self.authenticated {
            return (Limits::BEFORE_AUTH, true);
        }
        (shared.limits(), self.coordinator.is_none())
    }

    /// An error while commands are queued: EXEC will refuse.
    pub(super) fn spoil_queue(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoil();
        }
    }

    /// RESET: as after connecting.
    pub(super) fn reset(&mut self, shared: &Shared) {
        self.name.clear();
        self.replies = Replies::All;
        self.protocol = Protocol::default();
        self.authenticated = shared.resp.requirepass.is_empty();
        self.levels = Levels::default();
        self.ledger.forget();
        self.queue = None;
        self.say();
    }
}
