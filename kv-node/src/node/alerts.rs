//! What of this node needs an operator, in words: `kv status` prints it, the node tells how many
//! there are with its vitals, and so any node knows of all which should be asked.
//!
//! Only what is so now, and stays until somebody does something or the cause goes: what passes by
//! itself is an event. Members that are down are not among it: every list of nodes shows them.

use std::collections::BTreeMap;

use kv_client::NodeId;

use super::{Inner, Node};
use crate::coordinator::exchange::PeerExchanges;
use crate::metrics::members_up;
use crate::plug::storage::EngineStatus;

/// Exchanges with a peer that is up may fail for so long: a layout changes meanwhile, a tree is
/// built, a call is lost.
const EXCHANGES_FAIL_MS_MAX: u64 = 60_000;

impl Node {
    /// What needs an operator.
    pub(crate) fn alerts(&self) -> Vec<String> {
        self.inner.alerts()
    }

    /// Why it should get no clients now, if it should not.
    pub(crate) fn unready(&self) -> Option<String> {
        self.inner.unready()
    }
}

impl Inner {
    /// Why it should get no clients now, if it should not.
    fn unready(&self) -> Option<String> {
        let view = self.view.now();
        if view.is_removed(view.me) {
            return Some("this node was replaced, and is removed from its cluster for good".into());
        }
        if self.serving().is_none() {
            return Some(
                "no layout yet: the cluster is not born, or this node is not in it".into(),
            );
        }
        if view.is_draining(view.me) {
            return Some("this node is drained, or is being drained: it takes no clients".into());
        }
        if let Some(poisoned) = self.engine.status(None).0.poisoned {
            return Some(format!("the storage engine takes no more writes: {poisoned}"));
        }
        let (up, members) = members_up(&view);
        (up * 2 <= members).then(|| format!("{up} of {members} members of the layout are up"))
    }

    /// What needs an operator, the gravest first. A bounded number: by kind, member or peer.
    pub(super) fn alerts(&self) -> Vec<String> {
        let mut alerts: Vec<String> = self.unready().into_iter().collect();
        if self.clocks.is_skewed() {
            alerts.push("this node's clock is too far from a majority's: it mints nothing".into());
        }
        alerts.extend(of_engine(&self.engine.status(None).0));
        self.of_what_is_held(&mut alerts);
        self.of_others(&mut alerts);
        alerts
    }

    /// What is wrong with what it holds.
    fn of_what_is_held(&self, alerts: &mut Vec<String>) {
        let damaged = self.figures.damaged_ranges.value();
        if damaged > 0 {
            let open = self.engine.damaged().len();
            alerts.push(format!(
                "{damaged} ranges of stored keys were found damaged since the start, {open} of \
                 them can't be filled from others: look at this node's disk"
            ));
        }
        let forgot = self.figures.amnesia_alarms.value();
        if forgot > 0 {
            alerts.push(format!(
                "{forgot} times this node was shown writes of its own that it does not hold: its \
                 data directory was restored or lost something"
            ));
        }
        let Some(serving) = self.serving() else { return };
        let filling = serving.replica.standings().newcomers().len();
        if filling > 0 {
            alerts.push(format!(
                "{filling} partitions lost something and are being filled from others: until then \
                 this node's copies of them do not count for reads"
            ));
        }
        let hints = serving.replica.hints();
        alerts.extend(of_hints(hints.bytes(), hints.bytes_max()));
    }

    /// What it waits for others to do.
    fn of_others(&self, alerts: &mut Vec<String>) {
        let collection = self.collection_status();
        for id in &collection.holding_back {
            let age_ms = collection.floors.iter().find(|(of, _)| of == id).and_then(|of| of.1);
            let since = age_ms.map_or_else(
                || "ever since this node started".to_owned(),
                |age_ms| format!("for {} s", age_ms / 1_000),
            );
            alerts.push(format!(
                "{id} holds marks back {since}: nothing deleted is forgotten anywhere until it \
                 returns or is removed"
            ));
        }
        let view = self.view.now();
        if let Some(serving) = self.serving() {
            let up = |peer| view.is_up(peer);
            let peers = serving.coordinator.exchanges();
            alerts.extend(of_exchanges(&peers, self.clock.steady_ms(), up));
        }
        if view.layouts.as_ref().is_some_and(|layouts| layouts.in_transition()) {
            let stuck = self
                .progress()
                .into_iter()
                .filter(|at| !at.waits_for.is_empty() && !view.is_up(at.node));
            alerts.extend(stuck.map(|at| {
                format!(
                    "epoch {} can't be finished without {}: {}",
                    view.epoch(),
                    at.node,
                    at.waits_for
                )
            }));
        }
    }
}

fn of_engine(status: &EngineStatus) -> impl Iterator<Item = String> {
    let is_so = |name: &str| status.figures.iter().any(|(of, value)| *of == name && *value > 0);
    let full = is_so("disk_full").then_some(
        "the disk is full: writes are refused, reads go on; make room, and writes go on by \
         themselves",
    );
    let stopped = is_so("compaction_stopped").then_some(
        "compaction stands still: a read failed, a table is damaged or the disk is full; look at \
         this node's disk",
    );
    full.into_iter().chain(stopped).map(str::to_owned)
}

fn of_hints(bytes: u64, bytes_max: u64) -> Option<String> {
    // Four fifths, without what a product could overflow.
    (bytes > bytes_max / 5 * 4).then(|| {
        format!(
            "hints fill {bytes} of {bytes_max} bytes: a full log refuses writes; bring back or \
             replace whom they are for, or raise handoff.hint_bytes_max"
        )
    })
}

/// Peers that are up, and with which no exchange ended for a while.
fn of_exchanges(
    peers: &BTreeMap<NodeId, PeerExchanges>,
    now_ms: u64,
    up: impl Fn(NodeId) -> bool,
) -> Vec<String> {
    let fail = |(peer, of): (&NodeId, &PeerExchanges)| {
        let for_ms = now_ms.saturating_sub(of.failing_since_ms?);
        let why = of.failure.as_deref()?;
        (for_ms > EXCHANGES_FAIL_MS_MAX && up(*peer)).then(|| {
            let seconds = for_ms / 1_000;
            format!("for {seconds} s no comparison of copies with {peer} has ended: {why}")
        })
    };
    peers.iter().filter_map(fail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_compaction_that_stopped_are_told() {
        let told = |full, stopped| {
            let figures =
                vec![("log_bytes", 7), ("disk_full", full), ("compaction_stopped", stopped)];
            of_engine(&EngineStatus { figures, ..EngineStatus::default() }).collect::<Vec<_>>()
        };
        assert_eq!(told(0, 0), [""; 0]);
        assert!(matches!(&told(1, 0)[..], [one] if one.starts_with("the disk is full")));
        assert!(matches!(&told(0, 1)[..], [one] if one.starts_with("compaction stands still")));
        assert_eq!(told(1, 1).len(), 2);
    }

    #[test]
    fn a_hint_log_is_told_before_it_is_full() {
        assert_eq!(of_hints(80, 100), None);
        assert!(of_hints(81, 100).is_some());
        assert_eq!(of_hints(0, 0), None, "one that takes none keeps none");
    }

    #[test]
    fn exchanges_that_fail_are_told_when_they_do_for_long_and_the_peer_is_up() {
        let failing = PeerExchanges {
            failure: Some("a tree is still being built".into()),
            failing_since_ms: Some(1_000),
            ..PeerExchanges::default()
        };
        let peers = BTreeMap::from([
            (NodeId(2), failing.clone()),
            (NodeId(3), failing),
            (NodeId(4), PeerExchanges::default()),
        ]);
        let two_is_up = |peer| peer != NodeId(3);
        let soon = 1_000 + EXCHANGES_FAIL_MS_MAX;
        assert_eq!(of_exchanges(&peers, soon, two_is_up), [""; 0]);
        let told = of_exchanges(&peers, soon + 1, two_is_up);
        assert!(matches!(&told[..], [one] if one.contains("0000000000000002")), "{told:?}");
    }
}
