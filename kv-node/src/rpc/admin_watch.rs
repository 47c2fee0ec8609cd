//! The long poll of operators' screens: an answer when there is news, or when the asker has waited
//! long enough.
//!
//! Nothing is kept for an asker but the future in which it waits: the cursor says what it knows.
//! What others are asked for is not here; the answer comes from this node and from what gossip told
//! it, so a screen costs a node one small answer in a second. The node itself is not held while
//! somebody waits.

use std::sync::Arc;
use std::time::Duration;

use kv_client::wire::{
    NodeVitals, ServiceError, Topics, WATCH_TICK_MS, WATCH_WAIT_MS_MAX, WatchCursor, Watched,
};
use tokio::time::Instant;

use super::admin;
use super::admin_aae;
use super::doors::{Lobby, Served};
use crate::cluster::vitals::Vitals;
use crate::node::Node;

/// Askers that wait at the same time at most; a further one gets `Busy`.
pub(super) const WATCHERS_MAX: usize = 64;

/// Events of one answer at most.
const EVENTS_MAX: u32 = 500;

/// News behind the cursor, as soon as there is any.
pub(super) async fn watch(
    lobby: &Arc<Lobby>,
    cursor: WatchCursor,
    topics: Topics,
    max_wait_ms: u32,
) -> Result<Watched, ServiceError> {
    let Ok(_place) = lobby.watchers.try_acquire() else {
        return Err(ServiceError::Busy(format!("{WATCHERS_MAX} screens wait here already")));
    };
    let until = Instant::now() + Duration::from_millis(max_wait_ms.min(WATCH_WAIT_MS_MAX).into());
    loop {
        let (node, served) = lobby.node()?;
        let mut noted = node.events().subscribe();
        let told = news(&node, served, cursor, topics);
        if told.is_new(cursor) || Instant::now() >= until {
            return Ok(told.answer);
        }
        let due = next_figures(served, cursor, topics).map_or(until, |due| due.min(until));
        drop(node);
        tokio::select! {
            biased;
            // It ends with its node: then there is none to ask.
            _noted = noted.changed() => {}
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// An answer in the making.
struct News {
    answer: Watched,
    figures: bool,
}

impl News {
    fn is_new(&self, cursor: WatchCursor) -> bool {
        let answer = &self.answer;
        self.figures
            || answer.lost
            || !answer.events.is_empty()
            || answer.ring.is_some()
            || answer.layouts.is_some()
            || answer.cursor.node != cursor.node
            || answer.cursor.started_ms != cursor.started_ms
    }
}

fn uptime_ms(served: &Served) -> u64 {
    u64::try_from(served.began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// When figures are due for this asker, if it wants any.
fn next_figures(served: &Served, cursor: WatchCursor, topics: Topics) -> Option<Instant> {
    let left_ms = (cursor.figures_ms + WATCH_TICK_MS).saturating_sub(uptime_ms(served));
    topics.figures.then(|| Instant::now() + Duration::from_millis(left_ms))
}

fn news(node: &Arc<Node>, served: &Served, cursor: WatchCursor, topics: Topics) -> News {
    let (id, started_ms) = (node.id(), node.started_ms());
    let known = cursor.node == id && cursor.started_ms == started_ms;
    // Of another node, or another life of this one, only the number of the last event holds.
    let known_event = if cursor.node == id { cursor.event } else { 0 };
    let cursor = if known { cursor } else { WatchCursor::default() };
    let mut answer = Watched {
        cursor: WatchCursor { node: id, started_ms, event: known_event, ..cursor },
        ..Watched::default()
    };
    if topics.events {
        let after = (known_event > 0).then_some(known_event);
        let page = node.events().page(after, EVENTS_MAX);
        answer.cursor.event = page.events.last().map_or(known_event, |event| event.number);
        (answer.events, answer.lost) = (page.events, page.lost);
    }
    if topics.layouts {
        layouts(node, cursor, &mut answer);
    }
    let now_ms = uptime_ms(served);
    let tick = !known || now_ms >= cursor.figures_ms + WATCH_TICK_MS;
    // With an event come the figures that it is about: a member is down in both.
    let figures = topics.figures && (tick || !answer.events.is_empty());
    if figures {
        answer.cursor.figures_ms = now_ms;
        answer.status = Some(admin::status(node, served));
        answer.nodes = Some(admin::nodes(node, served));
        answer.aae = node.coordinator().map(|coordinator| admin_aae::view(node, &coordinator));
    }
    News { answer, figures }
}

fn layouts(node: &Arc<Node>, cursor: WatchCursor, answer: &mut Watched) {
    let view = node.view().now();
    let Ok(newest) = admin::newest(&view) else { return };
    let (epoch, digest) = (newest.epoch(), newest.digest());
    if (epoch, digest) != (cursor.epoch, cursor.digest) {
        answer.ring = Some(admin::ring(newest));
    }
    let all = admin::layouts(node, &view);
    let live = u32::try_from(all.live.len()).unwrap_or(u32::MAX);
    let finished = all.members.iter().filter(|member| member.waits_for.is_empty()).count();
    let finished = u32::try_from(finished).unwrap_or(u32::MAX);
    if answer.ring.is_some() || (live, finished) != (cursor.live, cursor.finished) {
        answer.layouts = Some(all);
    }
    answer.cursor = WatchCursor { epoch, digest, live, finished, ..answer.cursor };
}

/// What a member told of itself, as it is shown.
pub(super) fn shown(vitals: Vitals) -> NodeVitals {
    NodeVitals {
        started_ms: vitals.started_ms,
        conflicts: vitals.conflicts,
        conflicts_are_all: vitals.conflicts_are_all,
        hint_keys: vitals.hint_keys,
        hint_bytes: vitals.hint_bytes,
        ops_per_s: vitals.ops_per_s,
        memory_bytes: vitals.memory_bytes,
        disk_bytes: vitals.disk_bytes,
        events: vitals.events,
        alerts: vitals.alerts,
    }
}
