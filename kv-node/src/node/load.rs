//! The loop that measures what this node carries and tells the others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Inner;
use crate::worker::Worker;

/// Rest between two looks at how late the node's own timers are.
const LOOK_MS: u64 = 250;
/// Looks in a window of rates.
const LOOKS_A_WINDOW: u64 = 20;

pub(super) struct LoadLoop {
    inner: Arc<Inner>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    looks: u64,
    /// When this look was due.
    due_us: Option<u64>,
    /// The longest that one was late in this window.
    late_us: u64,
}

impl LoadLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, seen: Mutex::default() }
    }

    /// Whether a window ends, and how long work had to wait in it at most: as long as this loop's
    /// timer, which waits in the same queue.
    fn look(&self, now_us: u64) -> Option<u64> {
        let mut seen = self.seen.lock();
        let late_us = seen.due_us.map_or(0, |due_us| now_us.saturating_sub(due_us));
        seen.late_us = seen.late_us.max(late_us);
        seen.due_us = Some(now_us + LOOK_MS * 1_000);
        seen.looks += 1;
        seen.looks.is_multiple_of(LOOKS_A_WINDOW).then(|| std::mem::take(&mut seen.late_us))
    }
}

#[async_trait]
impl Worker for LoadLoop {
    fn name(&self) -> &'static str {
        "load"
    }

    fn status(&self) -> String {
        "measures what this node carries".into()
    }

    async fn step(&self) -> Option<Duration> {
        let now_us = self.inner.clock.steady_us();
        let ended = self.look(now_us);
        if let (Some(late_us), Some(serving)) = (ended, self.inner.serving()) {
            let meter = serving.coordinator.load();
            meter.roll(now_us);
            meter.tell_wait(late_us);
            let filling = self.inner.unfilled(&self.inner.view.now());
            let partitions = serving.replica.standings().partitions();
            self.inner.membership.publish_load(&meter.told(partitions, filling));
        }
        Some(Duration::from_millis(LOOK_MS))
    }
}
