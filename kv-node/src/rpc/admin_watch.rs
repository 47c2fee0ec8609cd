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
    LayoutsView, NodeVitals, ServiceError, Topics, WATCH_TICK_MS, WATCH_WAIT_MS_MAX, WatchCursor,
    Watched,
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

/// How many requests of Redis clients took less than each bound, and no less than the one before,
/// since the start: who asks twice knows how long those between took.
fn requests(node: &Node) -> impl Iterator<Item = (String, u64)> + '_ {
    node.figures().steps.reads_and_writes().map(|(bound, count)| match bound {
        Some(us) => (format!("requests_under_{us}_us"), count),
        None => ("requests_slower".to_owned(), count),
    })
}

fn uptime_ms(served: &Served) -> u64 {
    u64::try_from(served.began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// When figures are due for this asker, if it wants any: those of what moves are among them.
fn next_figures(served: &Served, cursor: WatchCursor, topics: Topics) -> Option<Instant> {
    let left_ms = (cursor.figures_ms + WATCH_TICK_MS).saturating_sub(uptime_ms(served));
    let wanted = topics.figures || topics.layouts && cursor.live > 1;
    wanted.then(|| Instant::now() + Duration::from_millis(left_ms))
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
    let now_ms = uptime_ms(served);
    let tick = !known || now_ms >= cursor.figures_ms + WATCH_TICK_MS;
    if topics.layouts {
        layouts(node, cursor, tick.then_some(now_ms), &mut answer);
    }
    // With an event come the figures that it is about: a member is down in both.
    let figures = topics.figures && (tick || !answer.events.is_empty());
    if figures {
        answer.cursor.figures_ms = now_ms;
        let mut status = admin::status(node, served);
        status.figures.extend(requests(node));
        answer.status = Some(status);
        answer.nodes = Some(admin::nodes(node, served));
        answer.aae = node.coordinator().map(|coordinator| admin_aae::view(node, &coordinator));
    }
    News { answer, figures }
}

fn layouts(node: &Arc<Node>, cursor: WatchCursor, tick: Option<u64>, answer: &mut Watched) {
    let view = node.view().now();
    let Ok(newest) = admin::newest(&view) else { return };
    let (epoch, digest) = (newest.epoch(), newest.digest());
    if (epoch, digest) != (cursor.epoch, cursor.digest) {
        answer.ring = Some(admin::ring(newest));
    }
    answer.cursor = WatchCursor { epoch, digest, ..answer.cursor };
    tell_layouts(admin::layouts(node, &view), cursor, tick, answer);
}

/// The live layouts where they changed, and with each tick while data moves: how far it is.
fn tell_layouts(all: LayoutsView, cursor: WatchCursor, tick: Option<u64>, answer: &mut Watched) {
    let live = u32::try_from(all.live.len()).unwrap_or(u32::MAX);
    let finished = all.members.iter().filter(|member| member.waits_for.is_empty()).count();
    let finished = u32::try_from(finished).unwrap_or(u32::MAX);
    answer.cursor = WatchCursor { live, finished, ..answer.cursor };
    let moves = tick.filter(|_| live > 1);
    let other = (live, finished) != (cursor.live, cursor.finished);
    if answer.ring.is_some() || other || moves.is_some() {
        answer.layouts = Some(all);
    }
    // The next tick counts from this one, also for who wants no other figures.
    answer.cursor.figures_ms = moves.unwrap_or(answer.cursor.figures_ms);
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

#[cfg(test)]
mod tests {
    use kv_client::NodeId;
    use kv_client::wire::{LayoutName, LayoutProgress};

    use super::*;

    #[test]
    fn layouts_are_told_when_they_change_and_each_second_while_data_moves() {
        let all = |live: u64, waits: &str| LayoutsView {
            live: (0..live).map(|epoch| LayoutName { epoch, digest: epoch }).collect(),
            members: vec![LayoutProgress {
                node: NodeId(1),
                waits_for: waits.into(),
                ..LayoutProgress::default()
            }],
            removed: Vec::new(),
        };
        let told = |live, waits: &str, before: (u32, u32), tick| {
            let cursor = WatchCursor {
                live: before.0,
                finished: before.1,
                figures_ms: 5,
                ..WatchCursor::default()
            };
            let mut answer = Watched { cursor, ..Watched::default() };
            tell_layouts(all(live, waits), cursor, tick, &mut answer);
            assert_eq!(u64::from(answer.cursor.live), live);
            (answer.layouts.is_some(), answer.cursor.figures_ms)
        };
        // One layout, known: nothing, however long nothing was told.
        assert_eq!(told(1, "", (1, 1), None), (false, 5));
        assert_eq!(told(1, "", (1, 1), Some(1_005)), (false, 5));
        // It changed: at once.
        assert_eq!(told(2, "12 to fill", (1, 1), None), (true, 5));
        assert_eq!(told(2, "", (2, 0), None), (true, 5));
        // It is filled: with the tick, from which the next counts.
        assert_eq!(told(2, "12 to fill", (2, 0), None), (false, 5));
        assert_eq!(told(2, "12 to fill", (2, 0), Some(1_005)), (true, 1_005));
    }
}
