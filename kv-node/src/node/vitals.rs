//! The loop that tells how this node fares.
//!
//! What changes seldom (conflicts, hints, events) is told within a second, what always moves with
//! the same news; in large clusters less often, since each piece of news goes to everybody.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Inner;
use crate::cluster::vitals::{Vitals, about};
use crate::worker::Worker;

/// Rest between two pieces of news in a small cluster.
const TELL_MS: u64 = 1_000;
/// So many members more, and the rest is as long again.
const MEMBERS_A_REST: u64 = 16;

pub(super) struct VitalsLoop {
    inner: Arc<Inner>,
    /// Operations and the time, in steady milliseconds, of the last step.
    before: Mutex<(u64, u64)>,
}

impl VitalsLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, before: Mutex::default() }
    }

    fn ops_per_s(&self) -> u64 {
        let figures = &self.inner.figures;
        let operations = figures.coordinator_gets.value() + figures.coordinator_sets.value();
        let now_ms = self.inner.clock.steady_ms();
        let (old, at_ms) = std::mem::replace(&mut *self.before.lock(), (operations, now_ms));
        let passed_ms = now_ms.saturating_sub(at_ms).max(1);
        operations.saturating_sub(old).saturating_mul(1_000) / passed_ms
    }
}

#[async_trait]
impl Worker for VitalsLoop {
    fn name(&self) -> &'static str {
        "vitals"
    }

    fn status(&self) -> String {
        "tells how this node fares".into()
    }

    async fn step(&self) -> Option<Duration> {
        let inner = &self.inner;
        let ops_per_s = self.ops_per_s();
        let members = inner.view.now().members.len() as u64;
        let rest = Duration::from_millis(TELL_MS * (1 + members / MEMBERS_A_REST));
        let Some(serving) = inner.serving() else { return Some(rest) };
        let (engine, _) = inner.engine.status(None);
        let hints = serving.replica.hints();
        inner.membership.publish_vitals(Vitals {
            started_ms: inner.started_ms,
            conflicts: serving.coordinator.conflicts_counted(),
            conflicts_are_all: serving.coordinator.conflicts_are_all(),
            hint_keys: hints.queued().values().map(|queued| queued.keys).sum(),
            hint_bytes: hints.bytes(),
            ops_per_s: about(ops_per_s),
            memory_bytes: about(engine.memory_bytes),
            disk_bytes: about(engine.disk_bytes),
            events: inner.events.newest(),
            alerts: Some(u32::try_from(inner.alerts().len()).unwrap_or(u32::MAX)),
        });
        Some(rest)
    }
}
