//! One task over the ways to all peers: who fell silent, who may be back.
//!
//! Whoever leaves a call unanswered is asked something small that no disk can delay, half way to
//! counting as down: who answers that is only slow. Who counts as down is asked over and over, as
//! back-off allows, or nobody would see it come back: requests don't ask it. Whose connection ends
//! is asked at once: clients that ask where to turn to when a node dies are told of others.
//!
//! A node that was stopped, or got no processor for half of `link_down_ms`, heard nobody meanwhile:
//! that shows nothing of the others, and their silence begins anew.
//!
//! Invariant: one probe at a time for each peer, and at most one each time that this looks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_client::NodeId;

use super::lane::LaneKind;
use super::link::Link;
use super::peer::{Shared, Table};
use super::{Completion, PeerResult, Pending};
use crate::wire::PeerOp;

/// Watches over every link until the senders are stopped.
pub(super) async fn watch(shared: Arc<Shared>, peers: Arc<Table>) {
    // An eighth late at most; nothing is read that is not going on.
    let rest = Duration::from_millis((shared.config.link_down_ms / 8).clamp(10, 250));
    let mut looked_us = shared.clock.steady_us();
    loop {
        tokio::select! {
            biased;
            () = shared.probe_due.notified() => {}
            address = shared.transport.lost() => {
                peers.read().values().for_each(|peer| peer.link.lost_connection(&address));
            }
            () = shared.clock.sleep(rest) => {}
        }
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let now_us = shared.clock.steady_us();
        let overslept_us = now_us.saturating_sub(looked_us).saturating_sub(rest.as_micros() as u64);
        let overslept = overslept_us >= shared.config.link_down_ms * 1_000 / 2;
        looked_us = now_us;
        let mut changed = Vec::new();
        let mut todo = Vec::new();
        for (node, peer) in &*peers.read() {
            if overslept {
                peer.link.stood_still(now_us);
            }
            let watched = peer.link.watch(&shared.config, now_us);
            if watched.went_down {
                changed.push(*node);
            }
            if watched.went_silent || watched.probe {
                todo.push((watched, Arc::clone(&peer.link), peer.lanes.clone()));
            }
        }
        // Requests that begin now are to know before those on their way look for others.
        for node in changed {
            shared.events.reach_changed(node);
        }
        for (watched, link, lanes) in todo {
            if watched.went_silent {
                for lane in &lanes {
                    lane.stall();
                }
            }
            if watched.probe {
                let deadline_ms = now_us / 1_000 + shared.config.link_down_ms.div_ceil(2);
                let to = Arc::new(Probe(link));
                let probe = Pending { op: PeerOp::Time, slot: 0, to, deadline_ms };
                LaneKind::Control.pick(&lanes).push(vec![probe]);
            }
        }
    }
}

/// A small call that shows whether the peer is there.
struct Probe(Arc<Link>);

impl Completion for Probe {
    fn complete(&self, _slot: u32, _from: NodeId, _result: PeerResult) {
        self.0.probe_ended();
    }
}
