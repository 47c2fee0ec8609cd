//! The loops of anti-entropy: trees are built, what was lost is filled, replicas are compared.
//!
//! Each goes one step at a time and rests in between; what they send has a rate, which goes down
//! while the requests' 99th percentile is well above what is usual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kv_client::NodeId;
use kv_ring::Partition;
use parking_lot::Mutex;

use super::{Inner, Serving};
use crate::cluster::view::View;
use crate::coordinator::FILLS_AT_ONCE;
use crate::coordinator::exchange::{Throttle, begins};
use crate::worker::{Worker, Workers};

/// Rest of a loop that has nothing to do.
const IDLE_MS: u64 = 500;
/// Rest between two pages of a tree in the making, at least.
const PAGE_REST_MS_MIN: u64 = 1;
/// A peer with which nothing was to be mended rests so many turns: under writes each exchange
/// builds the roots of all that is shared anew, on both sides.
const EQUAL_PEER_TURNS: u64 = 8;
/// How often the latency of requests is looked at.
const WINDOW_MS: u64 = 250;
/// Rest after a partition was filled, at most: a change of the ring must come to its end.
const FILL_REST_MS_MAX: u64 = 200;

pub(super) fn start(workers: &Workers, inner: &Arc<Inner>) {
    let kept_ms = AtomicU64::new(0);
    workers.start(Arc::new(TreeLoop { inner: Arc::clone(inner), kept_ms }));
    let seen = Mutex::default();
    workers.start(Arc::new(FillLoop { inner: Arc::clone(inner), seen }));
    if inner.antientropy.runs {
        workers.start(Arc::new(ExchangeLoop { inner: Arc::clone(inner), state: Mutex::default() }));
    }
    workers.start(Arc::new(ThrottleLoop { inner: Arc::clone(inner), throttle: Mutex::default() }));
}

fn idle() -> Duration {
    Duration::from_millis(IDLE_MS)
}

/// The nodes that hold the partition in some live layout.
fn holders(view: &View, partition: Partition) -> impl Iterator<Item = NodeId> + '_ {
    let layouts = view.layouts.iter();
    layouts.flat_map(move |layouts| layouts.write_sets(partition)).flatten().copied()
}

/// Keeps a tree for each partition that this node holds and others too, and builds those that
/// are missing.
struct TreeLoop {
    inner: Arc<Inner>,
    /// When it was last looked at which trees to keep.
    kept_ms: AtomicU64,
}

impl TreeLoop {
    fn keep(&self, serving: &Serving, now_ms: u64) {
        let kept_ms = self.kept_ms.load(Ordering::Relaxed);
        if kept_ms > 0 && now_ms < kept_ms + IDLE_MS {
            return;
        }
        self.kept_ms.store(now_ms.max(1), Ordering::Relaxed);
        let view = self.inner.view.now();
        serving.replica.keep_trees(|partition| {
            let (mut own, mut others) = (false, false);
            for node in holders(&view, partition) {
                own |= node == view.me;
                others |= node != view.me;
            }
            own && others
        });
    }
}

#[async_trait]
impl Worker for TreeLoop {
    fn name(&self) -> &'static str {
        "trees"
    }

    fn status(&self) -> String {
        let counts = self.inner.serving().map(|serving| serving.replica.trees().counts());
        counts.map_or_else(String::new, |counts| {
            format!("{} built, {} to build", counts.built, counts.building)
        })
    }

    async fn step(&self) -> Option<Duration> {
        let Some(serving) = self.inner.serving() else { return Some(idle()) };
        let replica = &serving.replica;
        let began_us = self.inner.clock.steady_us();
        self.keep(&serving, began_us / 1_000);
        let Some(partition) = replica.tree_to_build() else {
            return Some(idle());
        };
        // Half of the time at most: requests read the same disk.
        loop {
            match replica.build_page(partition).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(partition = partition.index(), %error, "no tree yet");
                    return Some(idle());
                }
            }
            if self.inner.clock.steady_us().saturating_sub(began_us) > PAGE_REST_MS_MIN * 1_000 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let took_us = self.inner.clock.steady_us().saturating_sub(began_us);
        Some(Duration::from_micros(took_us.max(PAGE_REST_MS_MIN * 1_000)))
    }
}

/// Fills partitions of which this node lost something, or that it just came to hold. After a loss
/// it begins when every operation that may have counted this replica before has ended: a write that
/// is acknowledged with its help after a source was asked would be missed. What came with a layout
/// was not counted before, and each source sees to it that operations under older layouts have
/// ended there.
struct FillLoop {
    inner: Arc<Inner>,
    /// Each newcomer's loss, and when this loop first saw it.
    seen: Mutex<BTreeMap<Partition, (u64, u64)>>,
}

impl FillLoop {
    async fn fill(&self, serving: &Serving) {
        let newcomers = serving.replica.standings().newcomers();
        let now_ms = self.inner.clock.steady_ms();
        let ready: Vec<_> = {
            let (mut begun, mut seen) = (self.inner.begun_here.lock(), self.seen.lock());
            begun.retain(|partition, _| newcomers.iter().any(|new| new.partition == *partition));
            seen.retain(|partition, _| newcomers.iter().any(|new| new.partition == *partition));
            let waited = newcomers.into_iter().filter(|new| {
                let first = seen.entry(new.partition).or_insert((new.loss, now_ms));
                if first.0 != new.loss {
                    *first = (new.loss, now_ms);
                }
                let came = begun.get(&new.partition) == Some(&new.loss);
                came || now_ms >= first.1 + self.inner.timing.request_ms_max
            });
            waited.collect()
        };
        let fills = futures::stream::iter(ready).for_each_concurrent(
            FILLS_AT_ONCE,
            |newcomer| async move {
                let began_us = self.inner.clock.steady_us();
                if let Err(error) = serving.coordinator.fill(newcomer).await {
                    let partition = newcomer.partition.index();
                    tracing::debug!(%error, partition, "not filled yet");
                }
                let took_us = self.inner.clock.steady_us().saturating_sub(began_us);
                let per_mille = serving.coordinator.background.per_mille();
                self.inner.clock.sleep(fill_rest(took_us, per_mille)).await;
            },
        );
        fills.await;
    }
}

/// Small partitions cost round trips and syncs, which no rate of bytes slows down: while requests
/// suffer, each is followed by a rest that leaves it its part of the time. So is each page at its
/// source: who comes new has no requests that could suffer.
pub(super) fn fill_rest(took_us: u64, per_mille: u64) -> Duration {
    let per_mille = per_mille.clamp(1, 1_000);
    let rest_us = took_us.saturating_mul(1_000 - per_mille) / per_mille;
    Duration::from_micros(rest_us).min(Duration::from_millis(FILL_REST_MS_MAX))
}

#[async_trait]
impl Worker for FillLoop {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn status(&self) -> String {
        match self.inner.serving().map(|serving| serving.replica.standings().newcomers().len()) {
            None | Some(0) => "complete".into(),
            Some(count) => format!("asking others for what this node lost of {count} partitions"),
        }
    }

    async fn step(&self) -> Option<Duration> {
        let early_ms = self.inner.refill_from_ms.load(Ordering::Relaxed);
        if let Some(serving) = self.inner.serving()
            && self.inner.clock.steady_ms() >= early_ms
            && !serving.replica.standings().all_complete()
        {
            self.fill(&serving).await;
        }
        Some(idle())
    }
}

/// Exchanges with one peer after the other, with that which was longest not exchanged with first.
struct ExchangeLoop {
    inner: Arc<Inner>,
    state: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    /// The turn in which each peer was tried last, and until when it rests, by the steady clock.
    tried: BTreeMap<NodeId, (u64, u64)>,
    turn: u64,
    now: Option<NodeId>,
}

impl ExchangeLoop {
    /// The next peer that shares a partition, is up, does not begin itself and does not rest. One
    /// that was down is forgotten, and so does not rest when it is back.
    fn next(&self) -> Option<NodeId> {
        let view = self.inner.view.now();
        let now_ms = self.inner.clock.steady_ms();
        let mut peers = self.inner.serving()?.coordinator.sharing_peers();
        peers.retain(|peer| view.is_up(*peer) && begins(view.me, *peer));
        let mut state = self.state.lock();
        state.tried.retain(|peer, _| peers.contains(peer));
        let rests = |peer: &NodeId| state.tried.get(peer).is_some_and(|tried| now_ms < tried.1);
        peers.retain(|peer| !rests(peer));
        let next = peers.into_iter().min_by_key(|peer| state.tried.get(peer).copied())?;
        state.turn += 1;
        let turn = state.turn;
        state.tried.insert(next, (turn, 0));
        state.now = Some(next);
        Some(next)
    }

    /// Nothing was to be mended.
    fn equal(&self, peer: NodeId) {
        let rest_ms = self.inner.antientropy.rest_ms.saturating_mul(EQUAL_PEER_TURNS);
        let until_ms = self.inner.clock.steady_ms().saturating_add(rest_ms);
        if let Some(tried) = self.state.lock().tried.get_mut(&peer) {
            tried.1 = until_ms;
        }
    }
}

#[async_trait]
impl Worker for ExchangeLoop {
    fn name(&self) -> &'static str {
        "anti-entropy"
    }

    fn status(&self) -> String {
        self.state.lock().now.map_or_else(|| "rests".into(), |peer| format!("compares with {peer}"))
    }

    async fn step(&self) -> Option<Duration> {
        let rest = Some(Duration::from_millis(self.inner.antientropy.rest_ms.max(1)));
        let Some(serving) = self.inner.serving() else { return rest };
        let Some(peer) = self.next() else { return rest };
        match serving.coordinator.exchange_with(peer).await {
            Ok(tally) if tally.mended > 0 => {
                tracing::info!(%peer, mended = tally.mended, "replicas differed and were mended");
            }
            Ok(_) => self.equal(peer),
            Err(error) => tracing::debug!(%peer, %error, "an exchange did not end"),
        }
        self.state.lock().now = None;
        rest
    }
}

/// Looks at how long requests take, and says which part of its rate the background may use.
struct ThrottleLoop {
    inner: Arc<Inner>,
    throttle: Mutex<Throttle>,
}

#[async_trait]
impl Worker for ThrottleLoop {
    fn name(&self) -> &'static str {
        "throttle"
    }

    fn status(&self) -> String {
        let per_mille = self.throttle.lock().per_mille();
        format!("the background may use {}% of its rate", per_mille / 10)
    }

    async fn step(&self) -> Option<Duration> {
        if let Some(serving) = self.inner.serving() {
            let seen = serving.coordinator.latency.take();
            let mut throttle = self.throttle.lock();
            throttle.window(seen);
            serving.coordinator.background.set(throttle.per_mille());
        }
        Some(Duration::from_millis(WINDOW_MS))
    }
}
