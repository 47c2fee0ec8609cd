//! The terminal's own state: what it was told, what a person selected, what is about to be sent.
//!
//! ```text
//!   keys, mouse, time, answers ──Message──► update ──Effect──► runner ──► kv-client
//!                                             │                  │
//!                                            App ◄───Message─────┘
//!                                             │
//!                                           view ──► frame
//! ```
//!
//! Invariant: `update` and `view` do no I/O and read no clock. What is to be done goes out as a
//! value, what came of it comes back as one, and time comes in with a tick.

mod act;
mod change;
mod draft;
mod keymap;
mod local;
mod message;
mod pages;
mod palette;
mod prompt;
mod selected;
mod tab;
mod update;
mod writing;

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kv_client::NodeId;
use kv_client::wire::{Conflict, NodeInfo, NodeState};

use crate::model::{Event, EventKind, Look, Names, Snapshot, Weight, state_word};

pub use change::Planned;
pub use draft::{Draft, Sent};
pub use keymap::{Action, BINDINGS, Binding, Scope, bindings_for, keys_text};
pub(crate) use local::number as local_number;
pub use local::{Asked, LocalVerb};
pub use message::{Effect, Message, Op, Pressed, Wheel, Written};
pub use pages::{PAGED_KEYS_MAX, Pages};
pub use palette::{COMMANDS, Command, matching};
pub use prompt::{Prompt, PromptKind};
pub use selected::{RingColour, Selected, Sort, ValueForm};
pub use tab::Tab;
pub use update::update;

/// Events that are kept at most; the oldest go first, and the tab says how many went.
pub const EVENTS_MAX: usize = 1_000;
/// Events among which one is looked for that says the same.
const LATELY: usize = 64;
/// Keys that were looked up and are kept at most.
pub const LOOKS_MAX: usize = 200;
/// Seconds of figures that are kept at most.
pub const SAMPLES_MAX: usize = 600;
/// Writes that can be undone at most.
pub const UNDO_MAX: usize = 20;
/// An answer older than this is said to be stale.
pub const STALE_MS: u64 = 3_500;

/// How the terminal stands to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// Nothing was heard yet.
    Asking,
    /// Answers come.
    Live,
    /// The person stopped the screen; answers are still taken in the background, not shown.
    Paused,
    /// The last answer is this many milliseconds old.
    Stale(u64),
    /// The last question failed; the next one comes in so many milliseconds.
    Reconnect(u64),
}

/// What the terminal was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The addresses that were given.
    pub address: String,
    /// Whether writes are refused: `None` lets the cluster decide, local or not.
    pub readonly: Option<bool>,
    /// Whether all given addresses are this machine's.
    pub local: bool,
    /// The port before the one at which node 1 of a local cluster serves Redis clients, if there is
    /// a program that does something to its nodes.
    pub local_base_port: Option<u16>,
    /// Only ASCII is drawn.
    pub ascii: bool,
    /// No colour is drawn.
    pub plain: bool,
}

/// What a figure was, second by second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(VecDeque<u64>);

impl Series {
    pub(crate) fn add(&mut self, value: u64) {
        if self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last `count` values, the oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }

    /// The newest.
    pub fn now(&self) -> Option<u64> {
        self.0.back().copied()
    }
}

/// A key with siblings.
#[derive(Clone, Copy, Debug)]
pub struct Conflicted<'a> {
    /// The key.
    pub key: &'a Bytes,
    /// How many it has.
    pub siblings: usize,
    /// When the newest of them was written, milliseconds since 1970.
    pub newest_ms: u64,
    /// What was found when it was looked up.
    pub look: Option<&'a Look>,
}

impl<'a> Conflicted<'a> {
    fn looked(look: &'a Look) -> Self {
        let siblings = look.seen.as_ref().map_or(0, |seen| seen.siblings.len());
        Self { key: &look.key, siblings, newest_ms: look.newest_ms(), look: Some(look) }
    }

    fn listed(row: &'a Conflict) -> Self {
        let siblings = row.siblings as usize;
        Self { key: &row.key, siblings, newest_ms: row.newest_ms, look: None }
    }
}

/// What lies over the tab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    #[default]
    None,
    /// The keys, scrolled down by so many lines.
    Help(usize),
    /// A line that is being typed.
    Prompt(Prompt),
}

/// Everything that is shown, and all that `update` decides by.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// What it was started with.
    pub options: Options,
    /// Milliseconds since it was started.
    pub now_ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// The newest answer.
    pub snapshot: Option<Box<Snapshot>>,
    /// When it came.
    pub heard_ms: u64,
    /// Why there is no newer one, and when the next question comes.
    pub problem: Option<(String, u64)>,
    /// What is shown while the screen is paused.
    pub frozen: Option<Box<Snapshot>>,
    /// Short names of nodes.
    pub names: Names,
    /// Operations in a second that the asked node coordinated.
    pub operations: Series,
    /// Below which bound 99 of 100 of the last requests there stayed, in microseconds.
    pub p99_us: Option<u64>,
    /// Requests without a quorum, or with an uncertain end, at the asked nodes while they were
    /// asked.
    pub errors: u64,
    /// Hints waiting anywhere.
    pub hints: Series,
    /// Calls to each node, in microseconds; 0 where it was silent.
    pub calls: Vec<(NodeId, Series)>,
    /// A change of the members that is shown and not committed.
    pub plan: Option<Planned>,
    /// What happened, the newest last.
    pub events: VecDeque<Event>,
    /// Events that were dropped to make room.
    pub events_dropped: u64,
    /// The tab.
    pub tab: Tab,
    /// What lies over it.
    pub overlay: Overlay,
    /// What is selected.
    pub selected: Selected,
    /// Keys that were looked up, the newest last.
    pub looks: VecDeque<Look>,
    /// Keys with siblings behind the first page.
    pub pages: Pages,
    /// The key that is being looked up.
    pub looking: Option<Bytes>,
    /// A write that is shown and not sent yet.
    pub draft: Option<Draft>,
    /// What was seen when the value that is being typed was begun with.
    pub editing: Option<Box<Look>>,
    /// Writes that were sent and can be undone, the newest last.
    pub sent: VecDeque<Sent>,
    /// A write that no answer came for yet.
    pub writing: Option<Sent>,
    /// Numbers writes, so that an answer finds its own.
    pub next_write: u64,
    /// What the person should be told, and when it was said.
    pub notice: Option<(String, u64)>,
}

impl App {
    /// A terminal that has heard nothing.
    pub fn new(options: Options, size: (u16, u16)) -> Self {
        Self { options, size, ..Self::default() }
    }

    /// What is shown: the newest answer, or the one at which the screen was stopped.
    pub fn shown(&self) -> Option<&Snapshot> {
        self.frozen.as_deref().or(self.snapshot.as_deref())
    }

    /// How it stands to the cluster.
    pub fn link(&self) -> Link {
        let age_ms = self.now_ms.saturating_sub(self.heard_ms);
        if let Some((_, next_ms)) = &self.problem {
            return Link::Reconnect(next_ms.saturating_sub(self.now_ms));
        }
        match (&self.snapshot, &self.frozen) {
            (None, _) => Link::Asking,
            (_, Some(_)) => Link::Paused,
            _ if age_ms > STALE_MS => Link::Stale(age_ms),
            _ => Link::Live,
        }
    }

    /// Whether writes are refused: unless it was said, wherever a member is on another machine.
    pub fn readonly(&self) -> bool {
        self.options.readonly.unwrap_or_else(|| !self.is_local())
    }

    fn is_local(&self) -> bool {
        let loopback = |address: &str| is_loopback(address);
        let all_here =
            |snapshot: &Snapshot| snapshot.nodes.iter().all(|node| loopback(&node.endpoints.rpc));
        self.options.local && self.snapshot.as_deref().is_some_and(all_here)
    }

    /// The key that was looked up last.
    pub fn look(&self) -> Option<&Look> {
        self.looks.back()
    }

    /// Keys with siblings: those that were looked up, the newest first, then those that the nodes
    /// list besides.
    pub fn conflicts(&self) -> Vec<Conflicted<'_>> {
        let looks = self.looks.iter().rev().filter(|look| look.is_conflict());
        let mut all: Vec<Conflicted<'_>> = looks.map(Conflicted::looked).collect();
        let known: BTreeSet<&[u8]> = all.iter().map(|of| &of.key[..]).collect();
        let rows = self.shown().and_then(|of| of.conflicts.as_ref()).map_or(&[][..], |of| &of.rows);
        let more = rows.iter().chain(&self.pages.rows).filter(|row| !known.contains(&row.key[..]));
        let more: Vec<Conflicted<'_>> = more.map(Conflicted::listed).collect();
        all.extend(more);
        all
    }

    /// The key with siblings that is selected, if it was looked up.
    pub fn conflict(&self) -> Option<&Look> {
        self.conflict_row().and_then(|of| of.look)
    }

    /// The key with siblings that is selected.
    pub fn conflict_row(&self) -> Option<Conflicted<'_>> {
        let conflicts = self.conflicts();
        let last = conflicts.len().checked_sub(1)?;
        conflicts.get(self.selected.conflict.min(last)).copied()
    }

    /// The partition that the ring points at: the selected one, else the looked-up key's.
    pub fn partition(&self) -> Option<usize> {
        self.selected.partition.or_else(|| self.look().and_then(Look::partition))
    }

    /// Nodes that pass the filter, as sorted.
    pub fn nodes_shown(&self) -> Vec<&NodeInfo> {
        let wanted = self.selected.node_filter.to_lowercase();
        let passes = |node: &&NodeInfo| {
            let holds = |text: &str| text.to_lowercase().contains(&wanted);
            wanted.is_empty()
                || holds(&self.names.label(node.node))
                || holds(state_word(node.state))
                || holds(&node.zone)
                || holds(&node.endpoints.rpc)
                || holds(&node.node.to_string())
        };
        let nodes = self.shown().map_or(&[][..], |snapshot| &snapshot.nodes);
        let mut nodes: Vec<&NodeInfo> = nodes.iter().filter(passes).collect();
        nodes.sort_by_cached_key(|node| (self.names.letter(node.node), node.node));
        match self.selected.sort {
            Sort::Name => {}
            Sort::State => nodes.sort_by_key(|node| match node.state {
                NodeState::Down => 0,
                NodeState::Suspect | NodeState::Draining => 1,
                NodeState::Alive => 2,
                _ => 3,
            }),
            Sort::Phi => nodes.sort_by_key(|node| Reverse(node.phi_hundredths)),
            Sort::Call => nodes.sort_by_key(|node| Reverse((node.unanswered_ms, node.call_us))),
        }
        nodes
    }

    /// Events that pass the filter, the newest first.
    pub fn events_shown(&self) -> Vec<&Event> {
        let wanted = self.selected.event_filter.to_lowercase();
        let (kind, node) = (self.selected.event_kind, self.selected.event_node);
        let passes = |event: &&Event| {
            kind.is_none_or(|kind| event.kind == kind)
                && (node.is_none() || event.node == node)
                && (wanted.is_empty()
                    || event.text.to_lowercase().contains(&wanted)
                    || event.kind.word().contains(&wanted)
                    || event.weight.word().to_lowercase().contains(&wanted))
        };
        self.events.iter().rev().filter(passes).collect()
    }

    pub(crate) fn add_event(&mut self, event: Event) {
        let mut lately = self.events.iter_mut().rev().take(LATELY);
        if let Some(known) = lately.find(|known| known.is_said_by(&event)) {
            known.said_by += 1;
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    pub(crate) fn log(&mut self, weight: Weight, kind: EventKind, text: String) {
        self.add_event(Event::own(self.unix_ms, weight, kind, text));
    }

    pub(crate) fn say(&mut self, what: impl Into<String>) {
        self.notice = Some((what.into(), self.now_ms));
    }
}

/// Whether an address (`host:port`) is this machine's own.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
