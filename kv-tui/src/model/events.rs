//! What happened, in plain words: what the nodes noted, and what this terminal saw itself.
//!
//! Each node notes what it sees, so that the death of a member is noted by every other: such lines
//! are shown as one, with the number of those who say so.

use kv_client::NodeId;
use kv_client::wire::EventView;

use super::{Names, Snapshot};

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
    /// It was decided how many nodes there should be.
    Scale,
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
            Self::Scale => "scale",
            Self::Alert => "alert",
            Self::Link => "link",
            Self::Write => "write",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since 1970, by the clock of who noted it.
    pub unix_ms: u64,
    /// How much it matters.
    pub weight: Weight,
    /// What it is about.
    pub kind: EventKind,
    /// The node that it happened to, if it is one's.
    pub node: Option<NodeId>,
    /// The stable name of what happened; empty for what this terminal saw.
    pub code: String,
    /// What happened.
    pub text: String,
    /// How many nodes noted the same.
    pub said_by: u32,
}

/// Two nodes that note one thing do so within so many milliseconds.
const SAME_MS_MAX: u64 = 15_000;

impl Event {
    /// What this terminal saw or did.
    pub fn own(unix_ms: u64, weight: Weight, kind: EventKind, text: String) -> Self {
        Self { unix_ms, weight, kind, node: None, code: String::new(), text, said_by: 1 }
    }

    /// Whether another node notes with `other` what this one says already: of things that all nodes
    /// see, such as a member that is down.
    pub fn is_said_by(&self, other: &Self) -> bool {
        let seen_by_all = |code: &str| {
            ["member.", "layout.", "collection."].iter().any(|of| code.starts_with(of))
        };
        seen_by_all(&self.code)
            && (&self.code, self.node) == (&other.code, other.node)
            && self.unix_ms.abs_diff(other.unix_ms) <= SAME_MS_MAX
    }
}

/// What a node noted, with its nodes by their short names.
pub fn noted(event: &EventView, names: &Names) -> Event {
    let kind = match event.code.split('.').next().unwrap_or_default() {
        "member" | "reach" | "node" => EventKind::Member,
        "layout" => EventKind::Layout,
        "hint" => EventKind::Hint,
        "aae" | "data" => EventKind::Aae,
        "scale" => EventKind::Scale,
        _ => EventKind::Alert,
    };
    let mut text = event.text.clone();
    for node in [Some(event.on), event.about].into_iter().flatten() {
        text = text.replace(&node.to_string(), &names.label(node));
    }
    text = text.replace("this node", &names.label(event.on));
    // What all nodes see is about one of them; the rest happened to who noted it.
    let node = match kind {
        EventKind::Member | EventKind::Alert | EventKind::Scale => event.about.or(Some(event.on)),
        EventKind::Layout => event.about,
        _ => Some(event.on),
    };
    Event {
        unix_ms: event.unix_ms,
        weight: if event.warns { Weight::Warn } else { Weight::Info },
        kind,
        node,
        code: event.code.clone(),
        text,
        said_by: 1,
    }
}

/// Whether another node answers now than before, in words.
pub fn moved(before: &Snapshot, after: &Snapshot, names: &Names) -> Option<String> {
    let (old, new) = (before.status.node, after.status.node);
    if old != new {
        return Some(format!("asking {} now, {} before", names.label(new), names.label(old)));
    }
    let again = after.status.uptime_ms < before.status.uptime_ms;
    again.then(|| format!("{} was restarted", names.label(new)))
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
        EventKind::Scale => [
            "How many nodes there should be follows from what all carry together, measured over a \
             while.",
            "Effect: in mode auto one node comes or goes at a time; else nothing happens.",
            "Next: kv autoscale status tells the reason now; pause and set change what is done.",
        ],
        EventKind::Alert => [
            "A node says something about itself that an operator may want to know.",
            "Effect: as its words say; `kv status` exits with 3 while a fault lasts.",
            "Next: kv doctor names what needs a look, each with the next step.",
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
