//! Where a snapshot comes from: one question to one node, which waits until there is news, and
//! further ones only where the answer says that there is something to ask for.
//!
//! The answer tells what gossip told the node of all others: who has siblings, who keeps hints, who
//! noted something. So a quiet cluster is asked once in a second, by one call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kv_client::wire::{
    AutoscaleView, ConflictsView, EventView, HintsView, NodeVitals, RingView, ServiceError, Topics,
    WATCH_TICK_MS, WatchCursor, Watched,
};
use kv_client::{Admin, Error, NodeId};

use crate::model::Snapshot;

/// What a question may take that the screen can do without: others are asked by the node to answer
/// it, and one of them may be down.
const EXTRA: Duration = Duration::from_millis(800);
/// Keys with siblings of a page; the screen asks for the first with each answer.
pub(crate) const CONFLICTS: u32 = 200;
/// Events of the time before that are shown.
const EVENTS: u32 = 200;
/// Milliseconds that the waiting question may take: half of it is for the first address.
pub(crate) const PATIENT_MS: u32 = 3_000;
/// A list that may have changed is asked for again at each so many-th answer.
const TURNS: u64 = 2;

/// Asks for how the cluster is. A node without a layout is part of the answer.
pub(crate) async fn snapshot(admin: &Admin) -> Result<Snapshot, Error> {
    let status = admin.status().await?;
    let nodes = admin.nodes().await?;
    Ok(Snapshot { status, nodes, ring: ring(admin).await?, ..Snapshot::default() })
}

async fn ring(admin: &Admin) -> Result<Option<RingView>, Error> {
    match admin.ring().await {
        Ok(ring) => Ok(Some(ring)),
        Err(Error::Service(ServiceError::NotServing(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is asked for beside the waiting question.
struct Further {
    hints: Option<HintsView>,
    conflicts: Option<ConflictsView>,
    autoscale: Option<AutoscaleView>,
    /// What other nodes noted.
    others: Vec<EventView>,
}

/// Hears of a cluster, answer by answer.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    cursor: WatchCursor,
    known: Snapshot,
    /// The last event of each node that was heard of.
    heard: BTreeMap<NodeId, u64>,
    answers: u64,
}

impl Feed {
    /// The next answer: at once when it is the first, else as soon as there is news, or after a
    /// second. `patient` is to wait longer than that.
    pub(crate) async fn next(&mut self, patient: &Admin, admin: &Admin) -> Result<Snapshot, Error> {
        let wait_ms = u32::try_from(WATCH_TICK_MS).unwrap_or(u32::MAX);
        let told = patient.watch(self.cursor, Topics::ALL, wait_ms).await?;
        let events = self.take(told);
        // On the heap: three questions at once are large.
        let Further { hints, conflicts, autoscale, others } = Box::pin(self.further(admin)).await;
        (self.known.hints, self.known.conflicts) = (hints, conflicts);
        self.known.autoscale = autoscale;
        self.known.events = self.fresh(events.into_iter().chain(others).collect());
        self.answers += 1;
        Ok(self.known.clone())
    }

    /// Takes an answer; gives what the asked node noted.
    fn take(&mut self, told: Watched) -> Vec<EventView> {
        if told.cursor.node != self.cursor.node {
            // Another node: what it does not tell is not known of it.
            let (hints, conflicts) = (self.known.hints.take(), self.known.conflicts.take());
            self.known = Snapshot { hints, conflicts, ..Snapshot::default() };
        }
        self.cursor = told.cursor;
        let known = &mut self.known;
        if let Some(status) = told.status {
            known.status = status;
        }
        if let Some(nodes) = told.nodes {
            known.nodes = nodes;
        }
        known.aae = told.aae.or_else(|| known.aae.take());
        known.ring = told.ring.or_else(|| known.ring.take());
        known.layouts = told.layouts.or_else(|| known.layouts.take());
        told.events
    }

    /// Asks for the lists that may have changed, and for what other nodes noted.
    async fn further(&self, admin: &Admin) -> Further {
        let first = self.answers == 0;
        let turn = self.answers.is_multiple_of(TURNS);
        let hints = async {
            let known = || self.known.hints.clone();
            let shown = self.known.hints.as_ref().is_none_or(|hints| !hints.queues.is_empty());
            let some = shown || self.sum(|vitals| vitals.hint_keys) > 0;
            if !(first || turn && some) {
                return known();
            }
            let hints = tokio::time::timeout(EXTRA, admin.hints()).await;
            hints.ok().and_then(Result::ok)
        };
        let conflicts = async {
            let known = || self.known.conflicts.clone();
            let shown = self.known.conflicts.as_ref().is_none_or(|list| list.total > 0);
            let some = shown || self.sum(|vitals| vitals.conflicts) > 0;
            if !(first || turn && some) {
                return known();
            }
            let conflicts = tokio::time::timeout(EXTRA, admin.conflicts(0, CONFLICTS)).await;
            conflicts.ok().and_then(Result::ok)
        };
        let autoscale = async {
            if !(first || turn) {
                return self.known.autoscale.clone();
            }
            let view = tokio::time::timeout(EXTRA, admin.autoscale()).await;
            view.ok().and_then(Result::ok)
        };
        let events = async {
            if !(first || self.others_noted()) {
                return Vec::new();
            }
            let after: Vec<(NodeId, u64)> =
                self.heard.iter().map(|(node, number)| (*node, *number)).collect();
            let events = tokio::time::timeout(EXTRA, admin.events(&after, EVENTS)).await;
            events.ok().and_then(Result::ok).map_or_else(Vec::new, |view| view.events)
        };
        let (hints, conflicts, autoscale, others) =
            tokio::join!(hints, conflicts, autoscale, events);
        Further { hints, conflicts, autoscale, others }
    }

    fn vitals(&self) -> impl Iterator<Item = (NodeId, NodeVitals)> + '_ {
        self.known.nodes.iter().filter_map(|node| Some((node.node, node.vitals?)))
    }

    fn sum(&self, of: fn(&NodeVitals) -> u64) -> u64 {
        self.vitals().map(|(_, vitals)| of(&vitals)).sum()
    }

    /// Whether another node than the asked one noted something that was not heard of.
    fn others_noted(&self) -> bool {
        let news = |(node, vitals): (NodeId, NodeVitals)| {
            node != self.cursor.node
                && self.heard.get(&node).is_none_or(|heard| *heard < vitals.events)
        };
        self.vitals().filter(|(_, vitals)| vitals.events > 0).any(news)
    }

    /// Those that were not heard of, each once, in order of time.
    fn fresh(&mut self, events: Vec<EventView>) -> Vec<EventView> {
        let mut once = BTreeSet::new();
        let heard = &self.heard;
        let is_new =
            |event: &EventView| heard.get(&event.on).is_none_or(|number| *number < event.number);
        let mut fresh: Vec<EventView> = events
            .into_iter()
            .filter(|event| is_new(event) && once.insert((event.on, event.number)))
            .collect();
        fresh.sort_by_key(|event| (event.unix_ms, event.on, event.number));
        for event in &fresh {
            let last = self.heard.entry(event.on).or_default();
            *last = event.number.max(*last);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use kv_client::wire::NodeInfo;

    use super::*;

    fn event(on: u64, number: u64) -> EventView {
        EventView { on: NodeId(on), number, unix_ms: number, ..EventView::default() }
    }

    fn member(id: u64, events: u64) -> NodeInfo {
        let vitals = Some(NodeVitals { events, ..NodeVitals::default() });
        NodeInfo { node: NodeId(id), vitals, ..NodeInfo::default() }
    }

    #[test]
    fn each_event_is_given_once_whoever_tells_it() {
        let mut feed = Feed::default();
        let all = vec![event(2, 7), event(1, 5), event(2, 7), event(1, 6)];
        let numbers = |events: Vec<EventView>| -> Vec<u64> {
            events.into_iter().map(|event| event.number).collect()
        };
        assert_eq!(numbers(feed.fresh(all.clone())), [5, 6, 7]);
        assert_eq!(numbers(feed.fresh(all)), [0; 0]);
        assert_eq!(numbers(feed.fresh(vec![event(1, 6), event(1, 8)])), [8]);
    }

    #[test]
    fn others_are_asked_only_when_gossip_says_that_they_noted_something() {
        let mut feed = Feed::default();
        let cursor = WatchCursor { node: NodeId(1), ..WatchCursor::default() };
        let nodes = Some(vec![member(1, 50), member(2, 7), member(3, 0)]);
        feed.take(Watched { cursor, nodes, ..Watched::default() });
        assert!(feed.others_noted());
        feed.fresh(vec![event(2, 7)]);
        assert!(!feed.others_noted(), "what the asked node noted comes with its answer");
        let nodes = Some(vec![member(1, 50), member(2, 8), member(3, 0)]);
        feed.take(Watched { cursor, nodes, ..Watched::default() });
        assert!(feed.others_noted());
    }

    #[test]
    fn what_is_not_told_again_stays_until_another_node_answers() {
        let mut feed = Feed::default();
        let cursor = WatchCursor { node: NodeId(1), ..WatchCursor::default() };
        let ring = Some(RingView { epoch: 3, ..RingView::default() });
        feed.take(Watched { cursor, ring, ..Watched::default() });
        feed.take(Watched { cursor, ..Watched::default() });
        assert_eq!(feed.known.ring.as_ref().map(|ring| ring.epoch), Some(3));
        let cursor = WatchCursor { node: NodeId(2), ..cursor };
        feed.take(Watched { cursor, ..Watched::default() });
        assert_eq!(feed.known.ring, None);
    }
}
