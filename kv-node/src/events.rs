//! What happened to this node, in plain words: a short list that operators ask for.
//!
//! The newest are kept, in memory; the oldest go first, and whoever asks for what is gone is told
//! so. An event's number rises over restarts too: it begins with the time of the start, so that a
//! reader who knows the last number that it has seen goes on where it was.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use kv_client::NodeId;
use kv_client::wire::{EVENTS_PAGE_MAX, EventView};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::plug::clock::Clock;

/// Events that a node keeps at most.
pub const EVENTS_MAX: usize = 2_000;
/// Bytes of an event's words at most.
const TEXT_BYTES_MAX: usize = 400;
/// Numbers that one millisecond of a start has: more events than a node ever has between starts.
const NUMBER_BITS: u32 = 22;

/// What happened, before it is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    /// Its stable name.
    pub(crate) code: &'static str,
    /// Whether an operator should look at it.
    pub(crate) warns: bool,
    /// The node that it is about.
    pub(crate) about: Option<NodeId>,
    /// What happened.
    pub(crate) text: String,
}

/// A part of one node's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// The oldest first.
    pub events: Vec<EventView>,
    /// Whether some that were asked for are gone.
    pub lost: bool,
}

/// The list.
pub struct EventLog {
    me: NodeId,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    /// The number of the newest.
    newest: watch::Sender<u64>,
}

struct Kept {
    events: VecDeque<EventView>,
    /// The number of the last that went to make room, or of none.
    gone: u64,
    next: u64,
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

impl EventLog {
    /// An empty list.
    pub(crate) fn new(me: NodeId, clock: Arc<dyn Clock>) -> Self {
        let first = clock.wall_ms() << NUMBER_BITS;
        let kept = Mutex::new(Kept { events: VecDeque::new(), gone: 0, next: first });
        Self { me, clock, kept, newest: watch::Sender::new(0) }
    }

    /// Notes something.
    pub(crate) fn note(&self, happened: Happened) {
        let Happened { code, warns, about, mut text } = happened;
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        if warns {
            tracing::warn!(code, "{text}");
        } else {
            tracing::info!(code, "{text}");
        }
        let mut kept = self.kept.lock();
        let number = kept.next;
        kept.next += 1;
        if kept.events.len() >= EVENTS_MAX
            && let Some(oldest) = kept.events.pop_front()
        {
            kept.gone = oldest.number;
        }
        let (on, unix_ms, code) = (self.me, self.clock.wall_ms(), code.to_owned());
        kept.events.push_back(EventView { on, number, unix_ms, code, warns, about, text });
        drop(kept);
        self.newest.send_replace(number);
    }

    /// The number of the newest; 0 if nothing happened yet.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Tells whenever something is noted.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The first `count` events behind a number; the newest `count` without one.
    pub(crate) fn page(&self, after: Option<u64>, count: u32) -> EventPage {
        let count = count.min(EVENTS_PAGE_MAX) as usize;
        let kept = self.kept.lock();
        let Some(after) = after else {
            let from = kept.events.len().saturating_sub(count);
            let events = kept.events.iter().skip(from).cloned().collect();
            return EventPage { events, lost: false };
        };
        let from = kept.events.partition_point(|event| event.number <= after);
        let events = kept.events.iter().skip(from).take(count).cloned().collect();
        EventPage { events, lost: after < kept.gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plug::clock::TokioClock;

    fn happened(n: usize) -> Happened {
        Happened { code: "test.one", warns: false, about: None, text: format!("number {n}") }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_are_kept_and_a_reader_goes_on_where_it_was() {
        let clock = Arc::new(TokioClock::new(1_700_000_000_000));
        let log = EventLog::new(NodeId(3), Arc::clone(&clock) as Arc<dyn Clock>);
        let mut told = log.subscribe();
        assert_eq!(log.page(None, 10), EventPage::default());
        (0..5).for_each(|n| log.note(happened(n)));
        assert!(told.has_changed().expect("it lives"));
        assert_eq!(*told.borrow_and_update(), log.newest());
        let newest = log.page(None, 2).events;
        assert_eq!(
            newest.iter().map(|of| &of.text[..]).collect::<Vec<_>>(),
            ["number 3", "number 4"]
        );
        let rest = log.page(Some(newest[0].number), 10);
        assert_eq!(rest.events, newest[1..]);
        assert!(!rest.lost);
        (5..EVENTS_MAX + 5).for_each(|n| log.note(happened(n)));
        let page = log.page(Some(newest[0].number), 3);
        assert!(page.lost, "number 4 is gone");
        assert_eq!(page.events[0].text, "number 5");
        assert_eq!(page.events.len(), 3);
        assert_eq!(log.page(None, u32::MAX).events.len(), EVENTS_PAGE_MAX as usize);
        // A later life goes on above.
        let last = log.newest();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let later = EventLog::new(NodeId(3), clock);
        later.note(happened(0));
        assert!(later.newest() > last);
        assert_eq!(later.page(Some(last), 9).events.len(), 1);
    }

    #[tokio::test]
    async fn words_have_an_end() {
        let log = EventLog::new(NodeId(3), Arc::new(TokioClock::new(1)));
        log.note(Happened { text: "ä".repeat(1_000), ..happened(0) });
        assert_eq!(log.page(None, 1).events[0].text.len(), TEXT_BYTES_MAX);
    }
}
