//! The loop that hands hints to those for whom they are kept.
//!
//! After a restart it counts what the engine came up with; then each step is one round of the
//! coordinator's. Rests keep what it sends under `replay_bytes_per_s`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Inner;
use crate::worker::Worker;

/// Rest where there is nothing to hand off now.
const IDLE_MS: u64 = 250;
/// Rest between two pages, at least: other work goes on.
const PAGE_REST_MS_MIN: u64 = 2;

pub(super) struct HandoffLoop {
    inner: Arc<Inner>,
    status: Mutex<String>,
}

impl HandoffLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, status: Mutex::default() }
    }

    fn say(&self, status: String) {
        *self.status.lock() = status;
    }
}

#[async_trait]
impl Worker for HandoffLoop {
    fn name(&self) -> &'static str {
        "handoff"
    }

    fn status(&self) -> String {
        self.status.lock().clone()
    }

    async fn step(&self) -> Option<Duration> {
        let idle = Some(Duration::from_millis(IDLE_MS));
        let Some(serving) = self.inner.serving() else { return idle };
        let hints = serving.replica.hints();
        if !hints.is_counted() {
            self.say("counting the hints".into());
            match serving.replica.count_hints(usize::MAX).await {
                Ok(0) => {}
                Ok(lost) => {
                    self.inner.figures.hints_lost.add(lost);
                    tracing::error!(lost, "hints were lost with damaged data");
                }
                Err(error) => {
                    tracing::warn!(%error, "the hints could not be counted: none is taken so long");
                    return idle;
                }
            }
            if !hints.is_counted() {
                return idle;
            }
        }
        match serving.coordinator.hand_off().await {
            Ok(round) => {
                let queued = hints.queued();
                let keys: u64 = queued.values().map(|queued| queued.keys).sum();
                self.say(format!("{keys} hints for {} nodes", queued.len()));
                if !round.more {
                    return idle;
                }
                let rate = self.inner.hints.replay_bytes_per_s.max(1);
                let rest_ms = round.bytes.saturating_mul(1_000) / rate;
                // Who is about to go gives away what it can: for a moment it may send more.
                let rest_ms = if self.inner.drain.is_on() { 0 } else { rest_ms };
                Some(Duration::from_millis(rest_ms.max(PAGE_REST_MS_MIN)))
            }
            Err(error) => {
                tracing::warn!(%error, "hints could not be handed off");
                idle
            }
        }
    }
}
