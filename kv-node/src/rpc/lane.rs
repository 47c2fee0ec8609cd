//! One queue to one peer, and the loop that empties it into calls.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::codec::op_bytes;
use super::link::Link;
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
            | PeerOp::HintsAbout { .. }
            | PeerOp::HintsHeld => Self::Work,
            PeerOp::Time
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
}

/// The operations of one call, each completed once: by its answer, or by this being dropped.
struct Batch {
    link: Arc<Link>,
    waiting: Vec<(u32, Arc<dyn Completion>)>,
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
            for pending in ops {
                let bytes = op_bytes(&pending.op);
                if queue.stopped {
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
    fn next_call(&self) -> Option<(Vec<PeerOp>, Batch, u64)> {
        let now_ms = self.shared.clock.steady_ms();
        let mut late = Vec::new();
        let mut ops = Vec::new();
        let mut batch = Batch { link: Arc::clone(&self.link), waiting: Vec::new() };
        let mut deadline_ms = 0;
        let mut bytes_sum = 0;
        {
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
                ops.push(pending.op);
                batch.waiting.push((pending.slot, pending.to));
            }
        }
        for pending in late {
            let why = CallFailure::NotSent("the deadline passed in the queue".to_owned());
            pending.to.complete(pending.slot, self.link.node, Err(PeerFailure::Call(why)));
        }
        (!ops.is_empty()).then_some((ops, batch, deadline_ms))
    }

    async fn call(&self, ops: Vec<PeerOp>, batch: Batch, deadline_ms: u64) {
        let Shared { transport, clock, events, config, .. } = &*self.shared;
        let prompt = self.kind != LaneKind::Work;
        let sent_us = clock.steady_us();
        let budget_ms = deadline_ms.saturating_sub(sent_us / 1_000).max(1);
        let envelope = events.envelope(u32::try_from(budget_ms).unwrap_or(u32::MAX));
        let address = self.link.address();
        self.link.sent(prompt, sent_us);
        let answer = transport.call(&address, PeerRequest { envelope, ops }).await;
        let now_us = clock.steady_us();
        match answer {
            Ok(reply) => {
                self.link.answered(prompt, batch.waiting.len(), sent_us, now_us);
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
                if self.link.failed(prompt, &failure, config, now_us) {
                    transport.disconnect(&address);
                }
                events.failed(self.link.node, &failure);
                let backed_off = failure.without_effect();
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

impl Batch {
    fn complete(mut self, outs: Vec<PeerOut>) {
        if outs.len() != self.waiting.len() {
            return self.complete_all(&PeerFailure::Confused);
        }
        for ((slot, to), out) in self.waiting.drain(..).zip(outs) {
            let result = match out {
                PeerOut::Failed(failure) => Err(PeerFailure::Op(failure)),
                out => Ok(out),
            };
            to.complete(slot, self.link.node, result);
        }
    }

    fn complete_all(mut self, failure: &PeerFailure) {
        for (slot, to) in self.waiting.drain(..) {
            to.complete(slot, self.link.node, Err(failure.clone()));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let why = CallFailure::Unknown("the sender was stopped".to_owned());
        for (slot, to) in self.waiting.drain(..) {
            to.complete(slot, self.link.node, Err(PeerFailure::Call(why.clone())));
        }
    }
}
