//! The loop that fills the index of keys with siblings where no hash tree is built: in a cluster of
//! one, and where keys found no room before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv_ring::Partition;

use super::Inner;
use crate::worker::Worker;

/// Rest where nothing is to be looked through.
const IDLE_MS: u64 = 1_000;
/// Rest between two partitions: requests read the same disk.
const WALK_REST_MS: u64 = 5;

pub(super) struct ConflictLoop(pub(super) Arc<Inner>);

#[async_trait]
impl Worker for ConflictLoop {
    fn name(&self) -> &'static str {
        "conflicts"
    }

    fn status(&self) -> String {
        let Some(serving) = self.0.serving() else { return String::new() };
        let view = self.0.view.now();
        let counts = serving.replica.conflicts().counts(|partition| view.holds(partition));
        let left = counts.unread + counts.short;
        format!("{} keys with siblings, {left} partitions to look through", counts.keys)
    }

    async fn step(&self) -> Option<Duration> {
        let idle = Some(Duration::from_millis(IDLE_MS));
        let Some(serving) = self.0.serving() else { return idle };
        let view = self.0.view.now();
        let shared = |partition: Partition| {
            let layouts = view.layouts.iter();
            let sets = layouts.flat_map(|layouts| layouts.write_sets(partition));
            sets.flatten().any(|node| *node != view.me)
        };
        let held = |partition| view.holds(partition);
        match serving.replica.walk_conflicts(held, shared).await {
            Ok(true) => Some(Duration::from_millis(WALK_REST_MS)),
            Ok(false) => idle,
            Err(error) => {
                tracing::warn!(%error, "keys with siblings could not all be listed yet");
                idle
            }
        }
    }
}
