//! What happened, from what was different: two answers of a cluster, compared, in plain words.
//!
//! Nodes keep no log that an operator can ask for yet, so the terminal sees what changed between
//! two of its questions, a second apart: what came and went in between is not seen.

use kv_client::NodeId;
use kv_client::wire::{AaePeer, NodeState};

use super::{Names, Snapshot, state_word};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Info,
    /// Something an operator should look at.
    Warn,
}

impl Weight {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EventKind {
    /// A member came, went, or is doubted.
    Member,
    /// The layout changed, or the cluster waits for somebody.
    Layout,
    /// Hints were left, or drained.
    Hint,
    /// Replicas were compared.
    Aae,
    /// A node says that it needs an operator.
    Alert,
    /// The terminal moved to another node, or lost the one it asked.
    Link,
    /// What was written from here.
    Write,
}

impl EventKind {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Layout => "layout",
            Self::Hint => "hint",
            Self::Aae => "aae",
            Self::Alert => "alert",
            Self::Link => "link",
            Self::Write => "write",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since 1970, by the clock of the terminal's machine.
    pub unix_ms: u64,
    /// How much it matters.
    pub weight: Weight,
    /// What it is about.
    pub kind: EventKind,
    /// The node that it happened to, if it is one's.
    pub node: Option<NodeId>,
    /// What happened.
    pub text: String,
}

/// What happened between two answers.
pub fn between(before: &Snapshot, after: &Snapshot, names: &Names, unix_ms: u64) -> Vec<Event> {
    let mut told = Told { unix_ms, events: Vec::new() };
    link(before, after, names, &mut told);
    members(before, after, names, &mut told);
    layouts(before, after, &mut told);
    hints(before, after, names, &mut told);
    // Another node tells of other exchanges, and has other alerts.
    if before.status.node == after.status.node {
        exchanges(before, after, names, &mut told);
        for alert in after.status.alerts.iter().filter(|it| !before.status.alerts.contains(it)) {
            told.add(Weight::Warn, EventKind::Alert, Some(after.status.node), alert.clone());
        }
    }
    told.events
}

struct Told {
    unix_ms: u64,
    events: Vec<Event>,
}

impl Told {
    fn add(&mut self, weight: Weight, kind: EventKind, node: Option<NodeId>, text: String) {
        self.events.push(Event { unix_ms: self.unix_ms, weight, kind, node, text });
    }
}

fn link(before: &Snapshot, after: &Snapshot, names: &Names, told: &mut Told) {
    let (old, new) = (before.status.node, after.status.node);
    if old != new {
        let text = format!("asking {} now, {} before", names.label(new), names.label(old));
        told.add(Weight::Warn, EventKind::Link, Some(new), text);
    } else if after.status.uptime_ms < before.status.uptime_ms {
        let text = format!("{} was restarted", names.label(new));
        told.add(Weight::Warn, EventKind::Member, Some(new), text);
    }
}

fn members(before: &Snapshot, after: &Snapshot, names: &Names, told: &mut Told) {
    for node in &after.nodes {
        let label = names.label(node.node);
        let was = before.node(node.node).map(|node| node.state);
        if was == Some(node.state) {
            continue;
        }
        let word = state_word(node.state);
        let text = match was {
            Some(was) => format!("{label} {} -> {word}", state_word(was)),
            None => format!("{label} was first heard of, {word}"),
        };
        let good = node.state == NodeState::Alive;
        let weight = if good { Weight::Info } else { Weight::Warn };
        told.add(weight, EventKind::Member, Some(node.node), text);
    }
    for node in before.nodes.iter().filter(|node| after.node(node.node).is_none()) {
        let text = format!("{} is known no more", names.label(node.node));
        told.add(Weight::Warn, EventKind::Member, Some(node.node), text);
    }
}

fn layouts(before: &Snapshot, after: &Snapshot, told: &mut Told) {
    let epoch = |of: &Snapshot| of.ring.as_ref().map(|ring| (ring.epoch, ring.digest));
    match (epoch(before), epoch(after)) {
        (None, Some((epoch, _))) => {
            let text = format!("the cluster has its first layout, epoch {epoch}");
            told.add(Weight::Info, EventKind::Layout, None, text);
        }
        (Some(was), Some(is)) if was != is => {
            let text = format!("the layout changed, epoch {} -> {}", was.0, is.0);
            told.add(Weight::Info, EventKind::Layout, None, text);
        }
        _ => {}
    }
    let live = |of: &Snapshot| of.layouts.as_ref().map(|layouts| layouts.live.len());
    match (live(before), live(after)) {
        (Some(1), Some(count @ 2..)) => {
            let text = format!("{count} layouts are live: the older ones wait for members");
            told.add(Weight::Info, EventKind::Layout, None, text);
        }
        (Some(2..), Some(1)) => {
            let text = "one layout is live: every member has finished".to_owned();
            told.add(Weight::Info, EventKind::Layout, None, text);
        }
        _ => {}
    }
}

fn hints(before: &Snapshot, after: &Snapshot, names: &Names, told: &mut Told) {
    let (Some(was), Some(is)) = (&before.hints, &after.hints) else { return };
    let find = |of: &kv_client::wire::HintsView, on, target| {
        let queue = of.queues.iter().find(|queue| (queue.on, queue.target) == (on, target));
        queue.map_or(0, |queue| queue.keys)
    };
    for queue in &is.queues {
        let (on, target) = (names.label(queue.on), names.label(queue.target));
        let old = find(was, queue.on, queue.target);
        if old == 0 && queue.keys > 0 {
            let text = format!("{on} began to keep hints for {target}: {} so far", queue.keys);
            told.add(Weight::Info, EventKind::Hint, Some(queue.on), text);
        } else if queue.keys < old / 2 {
            let text = format!("hints on {on} for {target} drain: {old} -> {}", queue.keys);
            told.add(Weight::Info, EventKind::Hint, Some(queue.on), text);
        }
    }
    for queue in was.queues.iter().filter(|queue| queue.keys > 0) {
        // Who is silent did not say that it has none.
        let told_of = !is.silent.contains(&queue.on);
        if told_of && find(is, queue.on, queue.target) == 0 {
            let (on, target) = (names.label(queue.on), names.label(queue.target));
            let text = format!("all hints on {on} for {target} are gone, {} before", queue.keys);
            told.add(Weight::Info, EventKind::Hint, Some(queue.on), text);
        }
    }
}

fn exchanges(before: &Snapshot, after: &Snapshot, names: &Names, told: &mut Told) {
    let (Some(was), Some(is)) = (&before.aae, &after.aae) else { return };
    for peer in &is.peers {
        let old = was.peers.iter().find(|old| old.node == peer.node);
        let count = |of: fn(&AaePeer) -> u64| of(peer).saturating_sub(old.map_or(0, of));
        let label = names.label(peer.node);
        let failed_before = old.is_some_and(|old| !old.failure.is_empty());
        if !peer.failure.is_empty() && !failed_before {
            let text = format!("an exchange with {label} did not end: {}", peer.failure);
            told.add(Weight::Warn, EventKind::Aae, Some(peer.node), text);
        }
        let mended = count(|peer| peer.mended);
        if mended > 0 {
            let text = format!("exchanges with {label} mended {mended} keys");
            told.add(Weight::Info, EventKind::Aae, Some(peer.node), text);
        }
    }
}

/// What a kind of event means, what it does now, and what comes of it.
pub fn explain(kind: EventKind) -> [&'static str; 3] {
    match kind {
        EventKind::Member => [
            "A member's state follows phi: how surprising its silence is, given its usual rhythm.",
            "Effect: while a majority of a partition's replicas is up, reads and writes go on; \
             writes leave hints.",
            "Next: nothing moves until you say so. Bring it back, or: kv cluster replace OLD NEW",
        ],
        EventKind::Layout => [
            "A layout says which nodes hold which partitions. While several are live, requests \
             satisfy each of them.",
            "Effect: an older layout retires when every member has finished the newer.",
            "Next: kv cluster status tells whom it waits for.",
        ],
        EventKind::Hint => [
            "A hint is a write kept for a replica that was down, by whoever stood in for it.",
            "Effect: it is delivered when the replica returns; a full hint log refuses, and \
             anti-entropy mends the rest.",
            "Next: nothing to do, unless a queue grows for hours.",
        ],
        EventKind::Aae => [
            "Replicas compare hash trees and send each other what differs.",
            "Effect: mended keys had missed a write, a hint or a repair; a failed exchange is \
             tried again.",
            "Next: kv repair compares all of it now.",
        ],
        EventKind::Alert => [
            "The node that is asked says that it needs an operator.",
            "Effect: as its words say; `kv status` exits with 3 while it lasts.",
            "Next: do what the alert says, or look into that node's log.",
        ],
        EventKind::Link => [
            "The terminal asks one node at a time, and moves on when it stops to answer.",
            "Effect: what is shown is what the asked node believes; another may differ.",
            "Next: nothing to do.",
        ],
        EventKind::Write => [
            "A write sent from this terminal, with the context of what was shown.",
            "Effect: it replaces what was shown, and nothing that was written since.",
            "Next: `u` on the Conflicts tab puts the siblings back, while the terminal runs.",
        ],
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
