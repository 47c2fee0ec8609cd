//! The loop that looks for seeds again: they stand in a file that somebody edits, or behind names
//! whose addresses change while nodes come and go.
//!
//! A node that knows nobody asks every second; one that belongs to a cluster only needs seeds to
//! find back after it was cut off from everybody, and asks seldom. A source that fails is asked
//! again after a pause that doubles up to `REST_MS_MAX`; meanwhile the seeds of before hold.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Inner, Node};
use crate::plug::discovery::Discovery;
use crate::worker::Worker;

/// Rest between two looks of a node that knows nobody, and the first pause after a failure.
const REST_MS_MIN: u64 = 1_000;
/// Rest between two looks of a node that belongs to a cluster, and the longest pause.
const REST_MS_MAX: u64 = 30_000;

impl Node {
    /// Looks for others where `discovery` says, again and again.
    pub fn discover(&self, discovery: Arc<dyn Discovery>) {
        let inner = Arc::clone(&self.inner);
        let (pause_ms, status) = (Mutex::new(REST_MS_MIN), Mutex::default());
        self.workers.start(Arc::new(DiscoveryLoop { inner, discovery, pause_ms, status }));
    }
}

struct DiscoveryLoop {
    inner: Arc<Inner>,
    discovery: Arc<dyn Discovery>,
    /// The pause after the next failure.
    pause_ms: Mutex<u64>,
    status: Mutex<String>,
}

impl DiscoveryLoop {
    /// The pause after this failure; the next one doubles.
    fn pause_ms(&self) -> u64 {
        let mut next_ms = self.pause_ms.lock();
        let pause_ms = *next_ms;
        *next_ms = (pause_ms * 2).min(REST_MS_MAX);
        pause_ms
    }

    fn rest_ms(&self) -> u64 {
        let knows_others = self.inner.view.now().members.len() > 1;
        if knows_others && self.inner.serving().is_some() { REST_MS_MAX } else { REST_MS_MIN }
    }
}

#[async_trait]
impl Worker for DiscoveryLoop {
    fn name(&self) -> &'static str {
        "discovery"
    }

    fn status(&self) -> String {
        self.status.lock().clone()
    }

    async fn step(&self) -> Option<Duration> {
        let (rest_ms, status) = match self.discovery.seeds().await {
            Ok(seeds) => {
                self.inner.membership.look_for(self.inner.clock.steady_ms(), &seeds);
                self.inner.birth.look_for(&seeds);
                *self.pause_ms.lock() = REST_MS_MIN;
                (self.rest_ms(), format!("{} seeds", seeds.len()))
            }
            Err(error) => {
                let pause_ms = self.pause_ms();
                if pause_ms == REST_MS_MIN {
                    tracing::warn!(%error, "seeds can't be found now; tried again");
                }
                (pause_ms, format!("{error}; tried again in {} s", pause_ms / 1_000))
            }
        };
        *self.status.lock() = status;
        Some(Duration::from_millis(rest_ms))
    }
}
