//! What is stored of partitions that this node holds no more.
//!
//! A node that a newer layout gives a partition no more keeps its rows until the older layout has
//! retired: till then it is a replica there. Then they are dropped, slot by slot. They must never
//! come back to life: a delete that the others have collected since would be unknown to them. So
//! before a layout is taken that gives a partition (again), whatever is left there is dropped,
//! durably, and only then a tenure of it begins.
//!
//! With the rows go what spoke for them: the mark (what this node does not hold is dead) before
//! they do, and the tenure, from the moment at which the older layout retires. As a fallback this
//! node answers that it has nothing, which says nothing, and what it mints covers nothing that it
//! had. (A tenure that outlives its rows is riak_kv #679.)
//!
//! Invariant: where a tenure begins with a layout, nothing is stored from before; a mark is of rows
//! that are there.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kv_client::NodeId;
use kv_quorum::Mark;
use kv_ring::{LIVE_LAYOUTS_MAX, Layout, Partition};

use super::Inner;
use crate::cluster::decree::{Decided, Decree};
use crate::cluster::view::View;
use crate::worker::Worker;

/// Rest between two partitions that were dropped: requests write to the same disk.
const DROP_REST_MS: u64 = 20;
/// A look at everything comes so long after the last one: a peer that has not retired the older
/// layout may have sent more.
const LOOK_AGAIN_MS: u64 = 30_000;
/// Rest meanwhile: a node that stops waits for no longer.
const IDLE_MS: u64 = 1_000;

impl Inner {
    /// Makes way for the partitions that decided layouts are about to give this node.
    ///
    /// # Errors
    /// Something is left of one: the layouts can't be taken yet.
    pub(super) async fn make_way(&self, decided: &[Decided]) -> io::Result<()> {
        let view = self.view.now();
        let decrees = decided.iter().filter_map(|decided| Decree::decode(&decided.decree));
        let newer = decrees.filter(|decree| decree.layout.epoch() > view.epoch());
        let given: BTreeSet<Partition> =
            newer.flat_map(|decree| given_by(&decree.layout, &view)).collect();
        for partition in given {
            self.drop_leftovers(partition).await?;
        }
        Ok(())
    }

    /// Drops what is stored of a partition; says how many rows.
    async fn drop_leftovers(&self, partition: Partition) -> io::Result<u64> {
        let Some(serving) = self.serving() else { return Ok(0) };
        serving.dots.let_go(partition);
        if serving.replica.marks().highest(partition) != Mark::NONE {
            let of = Arc::clone(&serving);
            self.blocking(move || of.replica.marks().forget(partition)).await?;
        }
        let dropped = serving.replica.drop_partition(partition).await.map_err(|error| {
            io::Error::other(format!("what is left of partition {}: {error}", partition.index()))
        })?;
        self.figures.leftovers_dropped.add(dropped);
        Ok(dropped)
    }

    /// A partition that is not held has nothing to be filled with.
    fn lacks_nothing(&self, partition: Partition) {
        let Some(serving) = self.serving() else { return };
        let standings = serving.replica.standings();
        if let Some(newcomer) = standings.newcomer(partition) {
            standings.mended(newcomer);
        }
    }
}

/// What a layout gives this node that no layout gives it yet.
fn given_by(layout: &Layout<NodeId>, view: &View) -> Vec<Partition> {
    let held = layout.held_by(view.me).map(|(partition, _)| partition);
    held.filter(|partition| !view.holds(*partition)).collect()
}

/// A partition by its number in the newest layout.
fn nth(view: &View, index: usize) -> Option<Partition> {
    let partitions = view.layouts.as_ref()?.newest().partitions();
    partitions.nth(u16::try_from(index).ok()?)
}

/// Changes whenever a layout comes or retires: the newest epoch, and how many are live.
fn live_layouts(view: &View) -> u64 {
    let count = view.layouts.as_ref().map_or(0, |layouts| layouts.live().len());
    view.epoch().wrapping_mul(LIVE_LAYOUTS_MAX as u64 + 1) + count as u64
}

/// Drops what this node holds no more.
pub(super) struct LeftoverLoop {
    inner: Arc<Inner>,
    /// The partition to look at next.
    next: AtomicUsize,
    /// Nothing is looked at before, on the steady clock, unless layouts came or retired.
    not_before_ms: AtomicU64,
    /// The live layouts when it last looked.
    live: AtomicU64,
}

impl LeftoverLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let (next, not_before_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { inner, next, not_before_ms, live: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Worker for LeftoverLoop {
    fn name(&self) -> &'static str {
        "leftovers"
    }

    fn status(&self) -> String {
        format!("{} rows dropped", self.inner.figures.leftovers_dropped.value())
    }

    async fn step(&self) -> Option<Duration> {
        let idle = Some(Duration::from_millis(IDLE_MS));
        let node = &self.inner;
        let now_ms = node.clock.steady_ms();
        let live = live_layouts(&node.view.now());
        let retired = self.live.swap(live, Ordering::Relaxed) != live;
        if now_ms < self.not_before_ms.load(Ordering::Relaxed) && !retired {
            return idle;
        }
        if retired {
            self.next.store(0, Ordering::Relaxed);
        }
        if node.serving().is_none() {
            return idle;
        }
        for index in self.next.load(Ordering::Relaxed).. {
            // Layouts are taken under the same lock: none gives the partition meanwhile.
            let _one = node.taking.lock().await;
            let view = node.view.now();
            let Some(partition) = nth(&view, index) else { break };
            if view.holds(partition) {
                continue;
            }
            drop(view);
            match node.drop_leftovers(partition).await {
                Ok(dropped) => {
                    node.lacks_nothing(partition);
                    if dropped == 0 {
                        continue;
                    }
                }
                Err(error) => tracing::warn!(%error, "can't be dropped yet"),
            }
            self.next.store(index + 1, Ordering::Relaxed);
            return Some(Duration::from_millis(DROP_REST_MS));
        }
        self.next.store(0, Ordering::Relaxed);
        self.not_before_ms.store(now_ms + LOOK_AGAIN_MS, Ordering::Relaxed);
        idle
    }
}
