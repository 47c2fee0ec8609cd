//! What happened on all nodes: each one's own list, asked for and put in order of time.

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_client::wire::{EVENTS_PAGE_MAX, EventsView};

use super::Coordinator;
use crate::error::RequestError;
use crate::events::EventPage;
use crate::wire::{PeerOp, PeerOut};

/// Milliseconds that other nodes have to tell.
const TOLD_MS_MAX: u64 = 1_000;

impl Coordinator {
    /// Events of every member that answers: of those that `after` names what lies behind that
    /// number, of the others the newest. `own` is what this node noted.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) async fn events_everywhere(
        &self,
        after: &BTreeMap<NodeId, u64>,
        count: u32,
        own: EventPage,
    ) -> Result<EventsView, RequestError> {
        let scope = self.scope()?;
        let mut asked: Vec<NodeId> =
            scope.layouts.live().flat_map(|layout| layout.members().iter().copied()).collect();
        asked.sort_unstable();
        asked.dedup();
        asked.retain(|node| *node != scope.view.me && !scope.down.contains(node));
        let ask =
            |node: &NodeId| (*node, PeerOp::Events { after: after.get(node).copied(), count });
        let asks = asked.iter().map(ask).collect();
        let soon = self.parts.clock.steady_ms() + TOLD_MS_MAX;
        let answers = self.gather_while_up(soon.min(scope.deadline_ms), asks).await;
        let mut pages = vec![(scope.view.me, own)];
        let mut silent = scope.down.clone();
        for (node, answer) in asked.into_iter().zip(answers) {
            match answer {
                Some(Ok(PeerOut::Events(page))) => pages.push((node, page)),
                _ => silent.push(node),
            }
        }
        silent.sort_unstable();
        let fresh = after.is_empty();
        Ok(EventsView { silent, ..merge(pages, count.clamp(1, EVENTS_PAGE_MAX), fresh) })
    }
}

/// All pages in order of time. Of a first look the newest `count` are shown; who goes on gets all,
/// since what is left out would be passed.
fn merge(pages: Vec<(NodeId, EventPage)>, count: u32, fresh: bool) -> EventsView {
    let mut view = EventsView::default();
    for (node, page) in pages {
        if page.lost {
            view.lost.push(node);
        }
        // A node speaks of its own only.
        view.events.extend(page.events.into_iter().filter(|event| event.on == node));
    }
    view.events.sort_by_key(|event| (event.unix_ms, event.on, event.number));
    if fresh {
        let extra = view.events.len().saturating_sub(count as usize);
        view.events.drain(..extra);
    }
    view
}

#[cfg(test)]
mod tests {
    use kv_client::wire::EventView;

    use super::*;

    fn page(on: u64, times: &[u64], lost: bool) -> (NodeId, EventPage) {
        let event = |unix_ms: &u64| EventView {
            on: NodeId(on),
            number: *unix_ms,
            unix_ms: *unix_ms,
            ..EventView::default()
        };
        (NodeId(on), EventPage { events: times.iter().map(event).collect(), lost })
    }

    #[test]
    fn they_are_in_order_and_only_a_first_look_is_cut() {
        let pages = || vec![page(1, &[10, 30], false), page(2, &[20, 40], true)];
        let times = |view: &EventsView| -> Vec<u64> {
            view.events.iter().map(|event| event.unix_ms).collect()
        };
        assert_eq!(times(&merge(pages(), 3, true)), [20, 30, 40]);
        let all = merge(pages(), 3, false);
        assert_eq!(times(&all), [10, 20, 30, 40]);
        assert_eq!(all.lost, [NodeId(2)]);
        let mut foreign = pages();
        foreign[0].1.events[0].on = NodeId(2);
        assert_eq!(merge(foreign, 9, true).events.len(), 3);
    }
}
