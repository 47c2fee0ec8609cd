//! The loops that every node runs: gossip, birth, the lease, counts and flush marks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_quorum::HybridTime;
use parking_lot::Mutex;

use super::Inner;
use super::conflicts::ConflictLoop;
use super::damage::DamageLoop;
use super::events::EventLoop;
use super::handoff::HandoffLoop;
use super::layouts::LayoutLoop;
use super::leftovers::LeftoverLoop;
use super::life::KeepLoop;
use super::vitals::VitalsLoop;
use crate::cluster::birth::BirthStep;
use crate::cluster::dots::LEASE_MS;
use crate::cluster::membership::Packet;
use crate::cluster::wire::{BirthOp, BirthOut};
use crate::plug::transport::PeerAddress;
use crate::rpc::peer::Sign;
use crate::wire::{CallFailure, PeerOp, PeerOut, PeerRequest, Refusal};
use crate::worker::{Worker, Workers};

/// A gossip packet that is not delivered by then is of no use.
const GOSSIP_MS_MAX: u32 = 500;
/// A step of birth may wait for a disk.
const BIRTH_MS_MAX: u32 = 2_000;
/// Rest between two rounds of hellos.
const HELLO_MS: u64 = 50;
/// Gossip rests at most so long, so that a changed view is told to the senders.
const GOSSIP_REST_MS_MAX: u64 = 100;
/// And at least so long, whatever the machine says is due: a peer that refuses at once must not
/// make the loop run hot.
const GOSSIP_REST_MS_MIN: u64 = 5;

pub(super) fn start_all(workers: &Workers, inner: &Arc<Inner>) {
    workers.start(Arc::new(GossipLoop(Arc::clone(inner))));
    workers.start(Arc::new(BirthLoop {
        inner: Arc::clone(inner),
        status: Mutex::default(),
        flushed: AtomicU64::new(0),
    }));
    workers.start(Arc::new(LayoutLoop(Arc::clone(inner))));
    workers.start(Arc::new(LeftoverLoop::new(Arc::clone(inner))));
    workers.start(Arc::new(LeaseLoop(Arc::clone(inner))));
    workers.start(Arc::new(FlushLoop(Arc::clone(inner))));
    workers.start(Arc::new(DamageLoop::new(Arc::clone(inner))));
    let heard_at_ms = AtomicU64::new(0);
    workers.start(Arc::new(KeepLoop { inner: Arc::clone(inner), heard_at_ms }));
    super::antientropy::start(workers, inner);
    workers.start(Arc::new(HandoffLoop::new(Arc::clone(inner))));
    super::collect::start(workers, inner);
    workers.start(Arc::new(ConflictLoop(Arc::clone(inner))));
    workers.start(Arc::new(EventLoop::new(Arc::clone(inner))));
    workers.start(Arc::new(VitalsLoop::new(Arc::clone(inner))));
    let done = AtomicBool::new(false);
    let rest_ms = AtomicU64::new(COUNT_REST_MS_MIN);
    workers.start(Arc::new(CountLoop { inner: Arc::clone(inner), done, rest_ms }));
}

impl Inner {
    /// One operation to one address, which need not be a known member's.
    pub(super) async fn ask(
        &self,
        to: &PeerAddress,
        op: PeerOp,
        budget_ms: u32,
    ) -> Result<PeerOut, CallFailure> {
        let (_, outs) = self.ask_whoever(to, op, budget_ms).await?;
        let outs = outs.map_err(|refusal| CallFailure::NotSent(format!("{refusal:?}")))?;
        outs.into_iter().next().ok_or_else(|| CallFailure::Unknown("an empty answer".into()))
    }

    /// The same, with who answered it.
    async fn ask_whoever(
        &self,
        to: &PeerAddress,
        op: PeerOp,
        budget_ms: u32,
    ) -> Result<(NodeId, Result<Vec<PeerOut>, Refusal>), CallFailure> {
        let request = PeerRequest { envelope: self.envelope(budget_ms), ops: vec![op] };
        let reply = self.transport.call(to, request).await?;
        self.hear(reply.envelope.node, &reply.envelope);
        match reply.outs {
            Err(Refusal::Superseded) => self.superseded(reply.envelope.node),
            Err(Refusal::Removed) => self.note_removed(),
            _ => {}
        }
        Ok((reply.envelope.node, reply.outs))
    }

    /// Delivers a packet of membership's, and notes what that showed of the peer.
    async fn deliver(&self, packet: Packet) {
        let op = PeerOp::Gossip(Bytes::from(packet.bytes));
        let sent_us = self.clock.steady_us();
        let told = self.ask_whoever(&packet.to, op, GOSSIP_MS_MAX).await;
        let (Some(to), Some(peers)) = (packet.node, self.peers.get()) else { return };
        match told {
            Ok((found, _)) if found == to => peers.note(to, Sign::Answered),
            Err(failure) if failure.is_refusal() => {
                self.membership.unreachable(self.clock.steady_ms(), to);
                peers.note(to, Sign::Refused(failure));
            }
            Err(CallFailure::TimedOut | CallFailure::NotSent(_)) => {
                peers.note(to, Sign::Unanswered { sent_us });
            }
            _ => {}
        }
    }
}

/// Lets membership do what is due, delivers its packets, and tells senders where peers are.
pub(super) fn gossip_once(inner: &Arc<Inner>) -> u64 {
    inner.life.set_position(inner.engine.status(None).0.position);
    let now_ms = inner.clock.steady_ms();
    let (packets, next_ms) = inner.membership.poll(now_ms);
    for packet in packets {
        let node = Arc::clone(inner);
        inner.exec.spawn(Box::pin(async move { node.deliver(packet).await }));
    }
    if let Some(peers) = inner.peers.get() {
        let view = inner.view.now();
        for (node, member) in view.members.iter().filter(|(node, _)| **node != view.me) {
            peers.set_address(*node, member.address.clone());
        }
    }
    next_ms.saturating_sub(inner.clock.steady_ms())
}

struct GossipLoop(Arc<Inner>);

#[async_trait]
impl Worker for GossipLoop {
    fn name(&self) -> &'static str {
        "gossip"
    }

    fn status(&self) -> String {
        format!("{} members known", self.0.view.now().members.len())
    }

    async fn step(&self) -> Option<Duration> {
        let rest_ms = gossip_once(&self.0).clamp(GOSSIP_REST_MS_MIN, GOSSIP_REST_MS_MAX);
        let rest = self.0.clock.sleep(Duration::from_millis(rest_ms));
        tokio::select! {
            biased;
            () = self.0.membership.stirred() => {}
            () = rest => {}
        }
        Some(Duration::from_millis(1))
    }
}

struct BirthLoop {
    inner: Arc<Inner>,
    status: Mutex<&'static str>,
    /// The flush mark of the node from which the record was fetched.
    flushed: AtomicU64,
}

impl BirthLoop {
    async fn hello(&self, to: Vec<PeerAddress>) {
        let me = self.inner.birth.me();
        let answers = join_all(to.iter().map(|address| {
            self.inner.ask(address, PeerOp::Birth(BirthOp::Hello { me: me.clone() }), BIRTH_MS_MAX)
        }))
        .await;
        for (address, answer) in to.iter().zip(answers) {
            let newborn = match answer {
                Ok(PeerOut::Birth(BirthOut::Me(newborn))) => Some(newborn),
                _ => None,
            };
            self.inner.birth.heard(address, newborn);
        }
    }

    async fn propose(&self, to: Vec<PeerAddress>, op: BirthOp) {
        let answers = join_all(
            to.iter()
                .map(|address| self.inner.ask(address, PeerOp::Birth(op.clone()), BIRTH_MS_MAX)),
        )
        .await;
        let mut all = true;
        for (address, answer) in to.iter().zip(answers) {
            match answer {
                Ok(PeerOut::Birth(BirthOut::Accepted)) => {}
                other => {
                    all = false;
                    tracing::warn!(address, ?other, "did not accept the cluster's record");
                }
            }
        }
        if !all {
            return;
        }
        let node = Arc::clone(&self.inner);
        if let Err(error) = self.inner.blocking(move || node.birth.accepted_by_all()).await {
            tracing::error!(%error, "the cluster's record can't be stored");
        }
    }

    async fn fetch(&self, from: PeerAddress) {
        let answer = self.inner.ask(&from, PeerOp::Birth(BirthOp::Fetch), BIRTH_MS_MAX).await;
        let Ok(PeerOut::Birth(BirthOut::State { record, decided, flushed })) = answer else {
            self.inner.birth.heard(&from, None);
            return;
        };
        let node = Arc::clone(&self.inner);
        self.flushed.store(flushed, Ordering::Relaxed);
        match self.inner.blocking(move || node.birth.take(&record, &decided)).await {
            Ok(true) => {}
            Ok(false) => {
                *self.status.lock() =
                    "met a cluster that does not name this node: waiting to be joined";
            }
            Err(error) => tracing::error!(%error, "a fetched record can't be taken"),
        }
    }
}

#[async_trait]
impl Worker for BirthLoop {
    fn name(&self) -> &'static str {
        "birth"
    }

    fn status(&self) -> String {
        (*self.status.lock()).to_owned()
    }

    async fn step(&self) -> Option<Duration> {
        let node = Arc::clone(&self.inner);
        match self.inner.blocking(move || node.birth.step()).await {
            Ok(BirthStep::Born) => {
                *self.status.lock() = "asking others whether this directory is its node's last";
                match self.inner.take_up().await {
                    Ok(true) => {
                        *self.status.lock() = match self.inner.refusal() {
                            None => "belongs to a cluster",
                            Some(_) => "refused by the others: its directory is not the last",
                        };
                        let flushed = self.flushed.load(Ordering::Relaxed);
                        self.inner.take_flush(HybridTime::from_bits(flushed)).await;
                        self.inner.refuse_removed();
                        self.inner.tell_ignored_settings();
                        return None;
                    }
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "can't begin to serve"),
                }
            }
            Ok(BirthStep::Hello(to)) => self.hello(to).await,
            Ok(BirthStep::Propose { to, op }) => self.propose(to, op).await,
            Ok(BirthStep::Fetch(from)) => self.fetch(from).await,
            Err(error) => tracing::error!(%error, "a step of birth failed"),
        }
        Some(Duration::from_millis(HELLO_MS))
    }
}

impl Inner {
    /// Says which settings of this node's configuration do nothing, since the cluster is born.
    fn tell_ignored_settings(&self) {
        let view = self.view.now();
        let Some(record) = &view.record else { return };
        let ignored = self.birth.plan().ignored_by(record).join(", ");
        if !ignored.is_empty() {
            tracing::info!(
                settings = %ignored,
                "the cluster was born with other values than are configured here, and keeps them"
            );
        }
    }
}

struct LeaseLoop(Arc<Inner>);

#[async_trait]
impl Worker for LeaseLoop {
    fn name(&self) -> &'static str {
        "lease"
    }

    fn status(&self) -> String {
        "moves the clock's lease ahead".into()
    }

    async fn step(&self) -> Option<Duration> {
        // Also looks at the clock: one that was put right, or slept, is followed from here on.
        self.0.clock_is_sound();
        if let Some(dots) = self.0.dots() {
            let (dots, wall_ms) = (Arc::clone(dots), self.0.clock.wall_ms());
            let replica = self.0.serving().map(|serving| Arc::clone(&serving.replica));
            let renew = move || {
                dots.renew(wall_ms)?;
                replica.map_or(Ok(()), |replica| replica.store_latest(dots.lease()))
            };
            if let Err(error) = self.0.blocking(renew).await {
                tracing::error!(%error, "the clock's lease can't be moved: writes will stop");
            }
        }
        Some(Duration::from_millis(LEASE_MS / 4))
    }
}

/// Takes flush marks that other members know, and removes rows that a mark made dead.
struct FlushLoop(Arc<Inner>);

#[async_trait]
impl Worker for FlushLoop {
    fn name(&self) -> &'static str {
        "flush"
    }

    fn status(&self) -> String {
        "takes flush marks that others know".into()
    }

    async fn step(&self) -> Option<Duration> {
        if let Some(serving) = self.0.serving() {
            let known = HybridTime::from_bits(self.0.membership.flush_mark());
            if known > serving.replica.flushed() {
                self.0.take_flush(known).await;
            } else if serving.replica.flushed() > known {
                // A mark of our own, or one that this directory remembers: it still spreads.
                self.0.membership.publish_flush(serving.replica.flushed().to_bits());
            }
            if let Err(error) = serving.replica.remove_flushed().await {
                tracing::warn!(%error, "flushed rows could not be removed yet");
            }
        }
        Some(Duration::from_millis(500))
    }
}

/// Counts the live keys that a durable engine came up with, and those that a flush left. What can't
/// be counted, as of a range that is damaged, is tried again with growing rests.
struct CountLoop {
    inner: Arc<Inner>,
    done: AtomicBool,
    rest_ms: AtomicU64,
}

/// The first rest of a count that failed.
const COUNT_REST_MS_MIN: u64 = 1_000;
/// The longest.
const COUNT_REST_MS_MAX: u64 = 60_000;

#[async_trait]
impl Worker for CountLoop {
    fn name(&self) -> &'static str {
        "count"
    }

    fn status(&self) -> String {
        if self.done.load(Ordering::Relaxed) { "done" } else { "counting live keys" }.into()
    }

    async fn step(&self) -> Option<Duration> {
        let Some(serving) = self.inner.serving() else {
            return Some(Duration::from_millis(HELLO_MS));
        };
        let again = self.done.load(Ordering::Relaxed);
        if again && !serving.replica.must_recount() {
            return Some(Duration::from_millis(COUNT_REST_MS_MIN));
        }
        self.done.store(false, Ordering::Relaxed);
        if let Err(error) = serving.replica.recount().await {
            let rest_ms = self.rest_ms.load(Ordering::Relaxed);
            tracing::warn!(%error, rest_ms, "some stored keys are not counted yet");
            self.rest_ms.store((rest_ms * 2).min(COUNT_REST_MS_MAX), Ordering::Relaxed);
            return Some(Duration::from_millis(rest_ms));
        }
        self.done.store(true, Ordering::Relaxed);
        self.rest_ms.store(COUNT_REST_MS_MIN, Ordering::Relaxed);
        Some(Duration::from_millis(COUNT_REST_MS_MIN))
    }
}
