//! One queue to one peer, and the loop that empties it into calls.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::codec::op_bytes;
use super::link::{Call, Link};
use super::peer::Shared;
use super::{Completion, PeerFailure, Pending};
use crate::wire::{CallFailure, OpFailure, PeerOp, PeerOut, PeerRequest};

/// Which queue an operation stands in. See `rpc::peer` for why there are three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    Data,
    Work,
    Control,
}

impl LaneKind {
    pub(super) const COUNT: usize = 3;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::Data, Self::Work, Self::Control];

    pub(super) fn of(op: &PeerOp) -> Self {
        match op {
            PeerOp::Apply { .. } | PeerOp::Read { .. } | PeerOp::Hint { .. } => Self::Data,
            PeerOp::Forward { .. }
            | PeerOp::Scan { .. }
            | PeerOp::Count
            | PeerOp::Holds { .. }
            | PeerOp::Explain { .. }
            | PeerOp::Exchange(_)
            | PeerOp::HintsAbout { .. }
            | PeerOp::HintsHeld
            | PeerOp::Conflicts { .. }
            | PeerOp::Events { .. }
            | PeerOp::Hot => Self::Work,
            PeerOp::Time
            | PeerOp::Heard
            | PeerOp::Flush { .. }
            | PeerOp::Marks { .. }
            | PeerOp::Gossip(_)
            | PeerOp::Birth(_)
            | PeerOp::Ballot(_) => Self::Control,
        }
    }

    pub(super) fn pick<T>(self, lanes: &[T; Self::COUNT]) -> &T {
        let [data, work, control] = lanes;
        match self {
            Self::Data => data,
            Self::Work => work,
            Self::Control => control,
        }
    }

    pub(super) fn pick_mut<T>(self, lanes: &mut [T; Self::COUNT]) -> &mut T {
        let [data, work, control] = lanes;
        match self {
            Self::Data => data,
            Self::Work => work,
            Self::Control => control,
        }
    }
}

/// Bounds of one lane.
#[expect(clippy::struct_field_names, reason = "bounds end in their unit and `max`")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) call_ops_max: usize,
    pub(super) call_bytes_max: usize,
    pub(super) calls_in_flight_max: usize,
    pub(super) queue_ops_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) op_bytes_max: usize,
}

pub(super) struct Lane {
    kind: LaneKind,
    bounds: Bounds,
    link: Arc<Link>,
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    ops: VecDeque<(Pending, usize)>,
    bytes: usize,
    stopped: bool,
    /// Who waits for the calls in flight, by the call's number: here, so that they can be told
    /// when the peer falls silent.
    in_flight: Vec<(u64, Waiting)>,
    calls: u64,
}

/// Where the answers of a call go, in its operations' order.
type Waiting = Vec<(u32, Arc<dyn Completion>)>;

/// A call in flight. Its operations are completed once: by its answer, or by this being dropped.
struct Batch<'a> {
    lane: &'a Lane,
    number: u64,
    call: Call,
}

impl Lane {
    pub(super) fn new(kind: LaneKind, link: Arc<Link>, shared: Arc<Shared>) -> Arc<Self> {
        let bounds = shared.config.bounds(kind);
        Arc::new(Self { kind, bounds, link, shared, queue: Mutex::default(), wake: Notify::new() })
    }

    pub(super) fn queue_ops(&self) -> usize {
        self.queue.lock().ops.len()
    }

    /// Queues operations, in order; those that don't fit are completed with the reason.
    pub(super) fn push(&self, ops: Vec<Pending>) {
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            // Read under the lock that `stall` takes after it was set: none is forgotten.
            let down = self.kind != LaneKind::Control && self.link.is_down();
            for pending in ops {
                let bytes = op_bytes(&pending.op);
                if queue.stopped || down {
                    refused.push((pending, PeerFailure::NotConnected));
                } else if bytes > self.bounds.op_bytes_max {
                    let why = OpFailure::Refused("it does not fit a frame".to_owned());
                    refused.push((pending, PeerFailure::Op(why)));
                } else if queue.ops.len() >= self.bounds.queue_ops_max
                    || queue.bytes + bytes > self.bounds.queue_bytes_max
                {
                    refused.push((pending, PeerFailure::QueueFull));
                } else {
                    queue.bytes += bytes;
                    queue.ops.push_back((pending, bytes));
                }
            }
        }
        self.wake.notify_one();
        // Not under the lock: a completion may submit again.
        for (pending, why) in refused {
            pending.to.complete(pending.slot, self.link.node, Err(why));
        }
    }

    /// The peer counts as down: whoever waits for it is told, and may have the answer yet if his
    /// operation was sent. What was not sent is not going to be, save control.
    pub(super) fn stall(&self) {
        if self.kind != LaneKind::Control {
            self.fail_queue();
        }
        let waiting: Waiting = {
            let queue = self.queue.lock();
            let sent = queue.in_flight.iter().flat_map(|(_, waiting)| waiting.iter().cloned());
            let queued = queue.ops.iter().map(|(op, _)| (op.slot, Arc::clone(&op.to)));
            sent.chain(queued).collect()
        };
        for (slot, to) in waiting {
            to.stalled(slot, self.link.node);
        }
    }

    /// Ends the loop. What is queued fails; what is in flight is waited for.
    pub(super) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.fail_queue();
        self.wake.notify_one();
    }

    /// Sends until stopped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut calls = FuturesUnordered::new();
        loop {
            while calls.len() < self.bounds.calls_in_flight_max {
                let Some((ops, batch, deadline_ms)) = self.next_call() else { break };
                calls.push(self.call(ops, batch, deadline_ms));
            }
            if calls.is_empty() && self.queue.lock().stopped {
                return;
            }
            tokio::select! {
                biased;
                Some(()) = calls.next(), if !calls.is_empty() => {}
                () = self.wake.notified(), if calls.len() < self.bounds.calls_in_flight_max => {}
            }
        }
    }

    /// Takes what fits one call. What nobody waits for any more is completed instead.
    fn next_call(&self) -> Option<(Vec<PeerOp>, Batch<'_>, u64)> {
        let now_ms = self.shared.clock.steady_ms();
        let mut late = Vec::new();
        let mut ops = Vec::new();
        let mut waiting = Waiting::new();
        let mut deadline_ms = 0;
        let mut bytes_sum = 0;
        let mut reads = false;
        let number = {
            let mut queue = self.queue.lock();
            while let Some((_, bytes)) = queue.ops.front() {
                let full = bytes_sum + bytes > self.bounds.call_bytes_max;
                if ops.len() >= self.bounds.call_ops_max || (full && !ops.is_empty()) {
                    break;
                }
                let Some((pending, bytes)) = queue.ops.pop_front() else { break };
                queue.bytes -= bytes;
                if pending.deadline_ms <= now_ms {
                    late.push(pending);
                    continue;
                }
                bytes_sum += bytes;
                deadline_ms = deadline_ms.max(pending.deadline_ms);
                reads |= matches!(pending.op, PeerOp::Read { .. });
                ops.push(pending.op);
                waiting.push((pending.slot, pending.to));
            }
            queue.calls += 1;
            let number = queue.calls;
            if !ops.is_empty() {
                queue.in_flight.push((number, waiting));
            }
            number
        };
        for pending in late {
            pending.to.complete(pending.slot, self.link.node, Err(PeerFailure::Expired));
        }
        let call = Call { prompt: self.kind != LaneKind::Work, reads, ops: ops.len() };
        let batch = Batch { lane: self, number, call };
        (!ops.is_empty()).then_some((ops, batch, deadline_ms))
    }

    async fn call(&self, ops: Vec<PeerOp>, batch: Batch<'_>, deadline_ms: u64) {
        let Shared { transport, clock, events, config, .. } = &*self.shared;
        let sent_us = clock.steady_us();
        let budget_ms = deadline_ms.saturating_sub(sent_us / 1_000).max(1);
        let envelope = events.envelope(u32::try_from(budget_ms).unwrap_or(u32::MAX));
        let address = self.link.address();
        self.link.sent(batch.call, sent_us);
        let answer = transport.call(&address, PeerRequest { envelope, ops }).await;
        let now_us = clock.steady_us();
        match answer {
            Ok(reply) => {
                if self.link.answered(batch.call, sent_us, now_us) {
                    events.reach_changed(self.link.node);
                }
                let found = reply.envelope.node;
                if found != self.link.node {
                    events.displaced(self.link.node, found, &address);
                    return batch.complete_all(&PeerFailure::Confused);
                }
                let us = now_us.saturating_sub(sent_us);
                events.answered(found, &reply.envelope, reply.outs.as_ref().err(), us);
                match reply.outs {
                    Ok(outs) => batch.complete(outs),
                    Err(refusal) => batch.complete_all(&PeerFailure::Refused(refusal)),
                }
            }
            Err(failure) => {
                let fallout = self.link.failed(batch.call, &failure, config, now_us);
                if fallout.redial {
                    transport.disconnect(&address);
                }
                if fallout.went_down {
                    events.reach_changed(self.link.node);
                }
                if fallout.probe {
                    self.shared.probe_due.notify_one();
                }
                events.failed(self.link.node, &failure);
                let backed_off = failure.is_refusal();
                batch.complete_all(&PeerFailure::Call(failure));
                if backed_off {
                    self.fail_queue();
                }
            }
        }
    }

    /// Completes what is queued: the peer is not there, and whoever waits has others to ask.
    fn fail_queue(&self) {
        let ops = {
            let mut queue = self.queue.lock();
            queue.bytes = 0;
            std::mem::take(&mut queue.ops)
        };
        for (pending, _) in ops {
            pending.to.complete(pending.slot, self.link.node, Err(PeerFailure::NotConnected));
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.fail_queue();
    }
}

impl Batch<'_> {
    fn take(&self) -> Waiting {
        let mut queue = self.lane.queue.lock();
        let place = queue.in_flight.iter().position(|(number, _)| *number == self.number);
        place.map(|place| queue.in_flight.remove(place).1).unwrap_or_default()
    }

    fn complete(self, outs: Vec<PeerOut>) {
        if outs.len() != self.call.ops {
            return self.complete_all(&PeerFailure::Confused);
        }
        for ((slot, to), out) in self.take().into_iter().zip(outs) {
            let result = match out {
                PeerOut::Failed(failure) => Err(PeerFailure::Op(failure)),
                out => Ok(out),
            };
            to.complete(slot, self.lane.link.node, result);
        }
    }

    fn complete_all(&self, failure: &PeerFailure) {
        for (slot, to) in self.take() {
            to.complete(slot, self.lane.link.node, Err(failure.clone()));
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let why = CallFailure::Unknown("the sender was stopped".to_owned());
        self.complete_all(&PeerFailure::Call(why));
    }
}
