//! One sender for each peer: what gathered while calls were in flight goes out as one call.
//!
//! No timer delays an operation: when fewer calls are in flight than allowed, whatever is queued
//! goes. Under load batches grow by themselves, as in a group commit. The figures (4 calls of 64
//! operations or 32 KiB) were measured: half as many calls cost a third of the reads at one command
//! in flight, a quarter of the operations 40 % more CPU in pipelines, four times as many only
//! longer tails.
//!
//! Operations that wait for other peers (`Forward`) must not stand before those that don't, else
//! two nodes that forward to each other wait for each other's copies for ever. So each peer has
//! three lanes with bounds of their own:
//!
//! ```text
//! data     Apply Read Hint                        waits for the peer's disk at most
//! work     Forward Scan Count Explain Exchange .. may wait for other peers, or long
//! control  Gossip Birth Ballot Time Flush         small, must not wait behind either
//! ```
//!
//! A peer that can't be connected to is backed off from: until then everything for it fails at
//! once, so that a coordinator turns to a fallback without waiting. A connection on which calls
//! time out, with nothing heard in between, is dropped and dialled anew.
//!
//! Who refuses connections, or leaves a call unanswered for `link_down_ms` with nothing heard
//! since, counts as down for requests (`PeerEvents::reach_changed`). Operations that were sent to
//! it are told (`Completion::stalled`); those that were not fail, for certain without effect, and
//! data and work are not taken for it any more: it is control calls that see it come back. `watch`
//! sees to that. That a deadline passed in a queue shows an overloaded lane, not a dead peer.
//!
//! Invariant: every operation that was submitted is completed exactly once, also when its sender
//! is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_client::NodeId;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::lane::{Bounds, Lane, LaneKind};
use super::link::Link;
use super::watch::watch;
use super::{PeerFailure, PeerSender, Pending};
use crate::detect::Detector;
use crate::plug::clock::Clock;
use crate::plug::exec::Exec;
use crate::plug::transport::{PeerAddress, Transport};
use crate::wire::{CALL_OPS_MAX, CallFailure, Envelope, Refusal};

/// Silence after which a peer counts as down for requests, by default.
pub const LINK_DOWN_MS_DEFAULT: u64 = 1_000;

/// Bounds of the senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeersConfig {
    /// Operations in a call of the data lane, at most.
    pub call_ops_max: usize,
    /// Bytes in a call after which it is full; one larger operation goes alone.
    pub call_bytes_max: usize,
    /// Calls of the data lane in flight to one peer, at most.
    pub calls_in_flight_max: usize,
    /// Operations in a call of the work lane, at most: they are answered together.
    pub work_call_ops_max: usize,
    /// Calls of the work lane in flight to one peer, at most.
    pub work_calls_in_flight_max: usize,
    /// Operations queued for one peer in one lane, at most; further ones get `QueueFull`.
    pub peer_queue_ops_max: usize,
    /// Bytes queued for one peer in one lane, at most; further ones get `QueueFull`.
    pub peer_queue_bytes_max: usize,
    /// Bytes of one operation, at most: it must fit a frame with its envelope.
    pub op_bytes_max: usize,
    /// Milliseconds during which a peer is not dialled after the first failure.
    pub backoff_ms_min: u64,
    /// Milliseconds that this doubles up to.
    pub backoff_ms_max: u64,
    /// Calls in a row that time out, with nothing heard in between, before the connection is
    /// dropped.
    pub timeouts_to_redial: u32,
    /// A peer that leaves a call unanswered for so many milliseconds, with nothing heard since,
    /// counts as down for requests. Under their deadline.
    pub link_down_ms: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            call_ops_max: 64,
            call_bytes_max: 32 * 1_024,
            calls_in_flight_max: 4,
            work_call_ops_max: 16,
            work_calls_in_flight_max: 16,
            peer_queue_ops_max: 16_384,
            peer_queue_bytes_max: 64 * 1_024 * 1_024,
            op_bytes_max: kv_client::codec::FRAME_BYTES_MAX_DEFAULT as usize - 64 * 1_024,
            backoff_ms_min: 50,
            backoff_ms_max: 1_000,
            timeouts_to_redial: 2,
            link_down_ms: LINK_DOWN_MS_DEFAULT,
        }
    }
}

impl PeersConfig {
    pub(super) fn bounds(&self, kind: LaneKind) -> Bounds {
        let (call_ops_max, calls_in_flight_max) = match kind {
            LaneKind::Data => (self.call_ops_max, self.calls_in_flight_max),
            LaneKind::Work => (self.work_call_ops_max, self.work_calls_in_flight_max),
            LaneKind::Control => (self.call_ops_max, self.calls_in_flight_max),
        };
        Bounds {
            call_ops_max: call_ops_max.clamp(1, CALL_OPS_MAX),
            call_bytes_max: self.call_bytes_max.min(self.op_bytes_max),
            calls_in_flight_max: calls_in_flight_max.max(1),
            queue_ops_max: self.peer_queue_ops_max,
            queue_bytes_max: self.peer_queue_bytes_max,
            op_bytes_max: self.op_bytes_max,
        }
    }
}

/// What the senders need of their node, and tell it.
pub trait PeerEvents: Send + Sync + 'static {
    /// The envelope of a call that may take `budget_ms`.
    fn envelope(&self, budget_ms: u32) -> Envelope;

    /// A peer answered a call, with this envelope, maybe with a refusal, after `us` microseconds.
    fn answered(&self, from: NodeId, envelope: &Envelope, refusal: Option<&Refusal>, us: u64);

    /// A call to a peer failed.
    fn failed(&self, to: NodeId, failure: &CallFailure);

    /// A peer began or ceased to count as down for requests: `Peers::down` has changed.
    fn reach_changed(&self, node: NodeId);

    /// The peer's address is served by another node: the address is out of date.
    fn displaced(&self, expected: NodeId, found: NodeId, at: &PeerAddress);
}

/// How the way to one peer looks from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Where it is dialled.
    pub address: PeerAddress,
    /// Operations that wait to be sent, in all lanes.
    pub queue_ops: usize,
    /// Calls in flight, in all lanes.
    pub calls_in_flight: usize,
    /// Those of the data and control lanes, which wait for the peer alone.
    pub prompt_in_flight: usize,
    /// Milliseconds since a data or control call was sent with nothing heard since; 0 if none is.
    pub unanswered_ms: u64,
    /// Milliseconds until it is dialled again; 0 if it may be at once.
    pub backed_off_ms: u64,
    /// Whether it counts as down for requests: it refuses connections or does not answer.
    pub down: bool,
    /// Calls that were answered.
    pub calls: u64,
    /// Operations in them: divided by `calls`, how well batching works.
    pub ops: u64,
    /// Microseconds that recent data and control calls took: a moving average.
    pub call_us: Option<u64>,
    /// Microseconds that 95 of 100 recent calls with reads did not exceed.
    pub read_p95_us: Option<u64>,
    /// How surprising its silence is, in hundredths of phi; 0 while nothing is asked of it.
    pub phi_hundredths: u32,
    /// Why the last call failed, if nothing was heard since.
    pub last_failure: Option<CallFailure>,
}

/// What a peer was seen to do by another way than its lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It made a call of its own.
    Called,
    /// It answered a call.
    Answered,
    /// It refused a connection, or none could be made.
    Refused(CallFailure),
    /// It left a call unanswered.
    Unanswered {
        /// When that was sent, on the steady clock.
        sent_us: u64,
    },
}

/// The senders to all peers.
pub struct Peers {
    shared: Arc<Shared>,
    peers: Arc<Table>,
}

pub(super) type Table = RwLock<BTreeMap<NodeId, Peer>>;

/// What every lane of every peer uses.
pub(super) struct Shared {
    pub(super) config: PeersConfig,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) exec: Arc<dyn Exec>,
    pub(super) events: Arc<dyn PeerEvents>,
    detector: Arc<Detector>,
    /// Wakes the watch: a probe is due somewhere.
    pub(super) probe_due: Notify,
    pub(super) stopped: AtomicBool,
}

pub(super) struct Peer {
    pub(super) link: Arc<Link>,
    pub(super) lanes: [Arc<Lane>; LaneKind::COUNT],
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("peers", &self.peers.read().keys()).finish_non_exhaustive()
    }
}

impl Peers {
    /// Senders without peers.
    pub fn new(
        config: PeersConfig,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        exec: Arc<dyn Exec>,
        events: Arc<dyn PeerEvents>,
    ) -> Self {
        let shared = Arc::new(Shared {
            config,
            transport,
            clock,
            exec,
            events,
            detector: Arc::default(),
            probe_due: Notify::new(),
            stopped: AtomicBool::new(false),
        });
        let peers = Arc::new(Table::default());
        let watch = watch(Arc::clone(&shared), Arc::clone(&peers));
        shared.exec.spawn(Box::pin(watch));
        Self { shared, peers }
    }

    /// How fast the peers answer.
    pub fn detector(&self) -> &Arc<Detector> {
        &self.shared.detector
    }

    /// Says where a peer is dialled. A changed address takes effect with the next call; back-off
    /// from the old one ends. Starts the peer's sender if it has none.
    pub fn set_address(&self, node: NodeId, address: PeerAddress) {
        let mut peers = self.peers.write();
        if let Some(peer) = peers.get(&node) {
            if let Some(old) = peer.link.set_address(address) {
                self.shared.transport.disconnect(&old);
                self.shared.probe_due.notify_one();
            }
            return;
        }
        let gauge = self.shared.detector.add(node);
        let link = Arc::new(Link::new(node, address, gauge));
        let lanes = LaneKind::ALL.map(|kind| {
            let lane = Lane::new(kind, Arc::clone(&link), Arc::clone(&self.shared));
            let task = Arc::clone(&lane).run();
            self.shared.exec.spawn(Box::pin(task));
            lane
        });
        peers.insert(node, Peer { link, lanes });
    }

    /// Forgets a peer. What is queued for it fails with `NotConnected`, what is in flight ends as
    /// the dropped connection ends it.
    pub fn remove(&self, node: NodeId) {
        let removed = self.peers.write().remove(&node);
        if let Some(peer) = removed {
            self.shared.detector.remove(node);
            peer.stop(&self.shared);
            self.shared.events.reach_changed(node);
        }
    }

    /// A peer was seen by another way than its lanes. A call of its own shows that it is there, so
    /// back-off ends and a probe goes out; an answer, that it is up; a refusal, that it is down. A
    /// call without an answer counts as one of the lanes' does.
    pub fn note(&self, node: NodeId, sign: Sign) {
        let link = self.peers.read().get(&node).map(|peer| Arc::clone(&peer.link));
        let Some(link) = link else { return };
        let Shared { config, clock, events, probe_due, .. } = &*self.shared;
        let changed = match sign {
            Sign::Called => {
                if link.called() {
                    probe_due.notify_one();
                }
                false
            }
            Sign::Answered => link.answered_elsewhere(clock.steady_us()),
            Sign::Refused(failure) => link.refused_elsewhere(&failure, config, clock.steady_us()),
            Sign::Unanswered { sent_us } => {
                link.unanswered_elsewhere(sent_us);
                false
            }
        };
        if changed {
            events.reach_changed(node);
        }
    }

    /// Those that count as down for requests: they refuse connections or don't answer.
    pub fn down(&self) -> Vec<NodeId> {
        let peers = self.peers.read();
        peers.iter().filter(|(_, peer)| peer.link.is_down()).map(|(node, _)| *node).collect()
    }

    /// Whether a peer has answered this node within `link_down_ms`, and does not count as down.
    pub fn answers(&self, node: NodeId) -> bool {
        let (now_us, within_ms) = (self.shared.clock.steady_us(), self.shared.config.link_down_ms);
        self.peers.read().get(&node).is_some_and(|peer| peer.link.answers(now_us, within_ms))
    }

    /// How the way to a peer looks; `None` for an unknown one.
    pub fn status(&self, node: NodeId) -> Option<LinkStatus> {
        self.peers.read().get(&node).map(|peer| peer.status(&*self.shared.clock))
    }

    /// How the way to every peer looks.
    pub fn statuses(&self) -> BTreeMap<NodeId, LinkStatus> {
        let clock = &*self.shared.clock;
        self.peers.read().iter().map(|(node, peer)| (*node, peer.status(clock))).collect()
    }

    /// Stops every sender, as `remove` does. Later operations fail with `NotConnected`.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.probe_due.notify_one();
        for peer in std::mem::take(&mut *self.peers.write()).into_values() {
            peer.stop(&self.shared);
        }
    }
}

impl Peer {
    fn stop(&self, shared: &Shared) {
        self.lanes.iter().for_each(|lane| lane.stop());
        shared.transport.disconnect(&self.link.address());
    }

    fn status(&self, clock: &dyn Clock) -> LinkStatus {
        let mut status = self.link.status(clock.steady_us());
        status.queue_ops = self.lanes.iter().map(|lane| lane.queue_ops()).sum();
        status
    }
}

impl PeerSender for Peers {
    fn submit(&self, to: NodeId, ops: Vec<Pending>) {
        let lanes = match self.peers.read().get(&to) {
            None => Err(PeerFailure::NotConnected),
            Some(peer) => match peer.link.refuses(self.shared.clock.steady_us()) {
                Some(why) => Err(why),
                None => Ok(peer.lanes.clone()),
            },
        };
        let lanes = match lanes {
            Ok(lanes) => lanes,
            Err(why) => {
                for pending in ops {
                    pending.to.complete(pending.slot, to, Err(why.clone()));
                }
                return;
            }
        };
        // Nearly always all of a submission goes one way: then it is moved as it is.
        let first = ops.first().map(|pending| LaneKind::of(&pending.op));
        if ops.iter().all(|pending| Some(LaneKind::of(&pending.op)) == first) {
            if let Some(kind) = first {
                kind.pick(&lanes).push(ops);
            }
            return;
        }
        let mut sorted = LaneKind::ALL.map(|_| Vec::new());
        for pending in ops {
            LaneKind::of(&pending.op).pick_mut(&mut sorted).push(pending);
        }
        for (lane, ops) in lanes.iter().zip(sorted) {
            if !ops.is_empty() {
                lane.push(ops);
            }
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
