//! The loop that notes what happened.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Inner;
use super::happened::{Standing, between};
use crate::worker::Worker;

/// Rest between two looks.
const LOOK_MS: u64 = 250;

pub(super) struct EventLoop {
    inner: Arc<Inner>,
    before: Mutex<Standing>,
}

impl EventLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, before: Mutex::default() }
    }
}

#[async_trait]
impl Worker for EventLoop {
    fn name(&self) -> &'static str {
        "events"
    }

    fn status(&self) -> String {
        "notes what happened".into()
    }

    async fn step(&self) -> Option<Duration> {
        let now = self.inner.standing();
        let before = std::mem::replace(&mut *self.before.lock(), now.clone());
        if before != now {
            for happened in between(&before, &now) {
                self.inner.events.note(happened);
            }
        }
        Some(Duration::from_millis(LOOK_MS))
    }
}

impl Inner {
    fn standing(&self) -> Standing {
        let view = self.view.now();
        let others = view.members.iter().filter(|(node, _)| **node != view.me);
        let mut now = Standing {
            members: others.map(|(node, member)| (*node, member.liveness)).collect(),
            unreachable: view.unreachable.clone(),
            epoch: view.epoch(),
            live: view.layouts.as_ref().map_or(0, |layouts| layouts.live().count()),
            removed: view.removed.iter().copied().collect(),
            refused: view.refused,
            damaged: self.figures.damaged_ranges.value(),
            forgot: self.figures.amnesia_alarms.value(),
            poisoned: self.engine.status(None).0.poisoned,
            skewed: self.clocks.is_skewed(),
            ..Standing::default()
        };
        let Some(serving) = self.serving() else { return now };
        now.serves = true;
        let queued = serving.replica.hints().queued();
        now.hints = queued.into_iter().map(|(target, queued)| (target, queued.keys)).collect();
        let exchanges = serving.coordinator.exchanges().into_iter();
        now.exchanges = exchanges.map(|(peer, of)| (peer, (of.total.mended, of.failure))).collect();
        now.filling = serving.replica.standings().newcomers().len() as u64;
        now.flushed_ms = serving.replica.flushed().ms();
        now.holding_back = self.collection_status().holding_back.into_iter().collect();
        now.conflicts = serving.coordinator.conflicts_counted();
        now
    }
}
