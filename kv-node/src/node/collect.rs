//! The loops of collection: this node's floor, the marks that it climbs for, the walk.
//!
//! ```text
//! floor   clock - lag -> nothing below it any more -> told with the gossip
//! marks   least floor of all members -> two passes of exchanges -> in force at every replica
//! walk    what a mark covers leaves the records
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Mark};
use kv_ring::Partition;
use parking_lot::Mutex;

use super::{Inner, Serving};
use crate::cluster::floors::{Floor, FloorKeeper, FloorTiming, Floors};
use crate::coordinator::Climbs;
use crate::wire::{OpFailure, PeerOut};
use crate::worker::{Worker, Workers};

/// A walk rests so many times as long as it took: it never takes more than a fifth.
const WALK_RESTS: u64 = 4;
/// At least so long between two partitions.
const WALK_REST_MS_MIN: u64 = 2;
/// No loop rests longer, so that a node that stops is soon gone.
const REST_MS_MAX: u64 = 500;
/// A floor on its way is looked at so often.
const FLOOR_LOOK_MS: u64 = 50;

/// What collection keeps of this node.
#[derive(Debug)]
pub(super) struct Collection {
    timing: FloorTiming,
    keeper: Mutex<FloorKeeper>,
    climbs: Climbs,
    /// Drawn at each start.
    boot: u64,
    began_ms: u64,
    /// The last member that an alarm was given for, and when.
    alarmed: Mutex<Option<NodeId>>,
}

impl Collection {
    pub(super) fn new(timing: FloorTiming, boot: u64, began_ms: u64) -> Self {
        Self {
            timing,
            keeper: Mutex::default(),
            climbs: Climbs::default(),
            boot,
            began_ms,
            alarmed: Mutex::default(),
        }
    }
}

/// How old floors and marks are, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionStatus {
    /// Age of each member's floor in ms; `None` of one that told none yet.
    pub floors: Vec<(NodeId, Option<u64>)>,
    /// Age of the lowest mark of the partitions held here, in ms; `None` while one has none.
    pub mark_age_ms: Option<u64>,
    /// Members whose floor is older than the alarm: nothing is collected anywhere until they
    /// return or are removed.
    pub holding_back: Vec<NodeId>,
}

pub(super) fn start(workers: &Workers, inner: &Arc<Inner>) {
    workers.start(Arc::new(FloorLoop(Arc::clone(inner))));
    workers.start(Arc::new(MarkLoop(Arc::clone(inner))));
    let collected = AtomicU64::default();
    workers.start(Arc::new(WalkLoop {
        inner: Arc::clone(inner),
        collected,
        at: AtomicU64::new(0),
    }));
}

impl Inner {
    /// Changes whenever this node may have forgotten something.
    fn witness(&self, serving: &Serving) -> u64 {
        let losses = serving.replica.standings().all_losses();
        let forgot = self.figures.amnesia_alarms.value();
        self.collection.boot.wrapping_add(losses).wrapping_add(forgot << 32)
    }

    /// The floors of all members, this node's with its present witness.
    fn floors(&self, serving: &Serving) -> Floors {
        let mut floors = self.membership.floors();
        let time = self.collection.keeper.lock().told();
        let own = Floor { time, witness: self.witness(serving) };
        floors.0.insert(self.view.now().me, own);
        floors
    }

    /// Takes marks that a climber has proven.
    pub(super) async fn take_marks(
        self: &Arc<Self>,
        witness: u64,
        marks: &[(u16, u64)],
    ) -> PeerOut {
        let refused = |why: &str| PeerOut::Failed(OpFailure::Refused(why.into()));
        let Some(serving) = self.serving() else { return refused("no layout yet") };
        if witness != self.witness(&serving) {
            return refused("this replica may have forgotten something since");
        }
        let mark = |(code, mark): &(u16, u64)| {
            Some((Partition::from_code(*code)?, Mark::at(HybridTime::from_bits(*mark))))
        };
        let Some(marks) = marks.iter().map(mark).collect::<Option<Vec<_>>>() else {
            return PeerOut::Failed(OpFailure::Malformed);
        };
        let complete = |(partition, _): &(Partition, Mark)| {
            serving.replica.standings().is_complete(*partition)
        };
        if !marks.iter().all(complete) {
            return refused("a newcomer has no mark");
        }
        match self.put_in_force(&serving, marks).await {
            Ok(()) => PeerOut::Done,
            Err(error) => PeerOut::Failed(OpFailure::Storage(error)),
        }
    }

    /// Everything that the marks speak of is durable first, then they are. A partition that this
    /// node holds no more gets none: its rows may be gone, and "what is not here is dead" would
    /// speak of all others' too.
    ///
    /// # Errors
    /// No mark is in force: one of the partitions is not held, or something could not be stored.
    pub(super) async fn put_in_force(
        self: &Arc<Self>,
        serving: &Arc<Serving>,
        marks: Vec<(Partition, Mark)>,
    ) -> Result<(), String> {
        // What is held no more is dropped under the same lock, marks first.
        let _one = self.taking.lock().await;
        let view = self.view.now();
        if let Some((partition, _)) = marks.iter().find(|(partition, _)| !view.holds(*partition)) {
            return Err(format!("partition {} is held here no more", partition.index()));
        }
        drop(view);
        serving.replica.all_durable().await.map_err(|error| error.to_string())?;
        let held = Arc::clone(serving);
        self.blocking(move || held.replica.marks().raise(&marks))
            .await
            .map_err(|error| format!("marks: {error}"))
    }

    /// How old floors and marks are.
    pub(crate) fn collection_status(&self) -> CollectionStatus {
        let Some(serving) = self.serving() else { return CollectionStatus::default() };
        let (view, floors) = (self.view.now(), self.floors(&serving));
        let Some(layouts) = &view.layouts else { return CollectionStatus::default() };
        let now_ms = self.clock.wall_ms();
        let age =
            |time: HybridTime| (time != HybridTime::ZERO).then(|| now_ms.saturating_sub(time.ms()));
        let mut members: Vec<NodeId> =
            layouts.live().flat_map(|layout| layout.members().iter().copied()).collect();
        members.retain(|node| !view.is_removed(*node));
        members.sort_unstable();
        members.dedup();
        let floors: Vec<(NodeId, Option<u64>)> =
            members.iter().map(|node| (*node, age(floors.least([node])))).collect();
        // Of one that was never heard of the age is at least that of this process.
        let up_ms = self.clock.steady_ms().saturating_sub(self.collection.began_ms);
        let late = |age: Option<u64>| age.unwrap_or(up_ms) > self.collection.timing.alarm_ms;
        let holding_back = floors.iter().filter(|(_, age)| late(*age)).map(|(node, _)| *node);
        let mut holding_back: Vec<NodeId> = holding_back.collect();
        // Hints for one that is down hold the floors of those who keep them: it is the cause.
        if holding_back.iter().any(|node| !view.is_up(*node)) {
            holding_back.retain(|node| !view.is_up(*node));
        }
        let held = layouts.newest().held_by(view.me);
        let marks = held.map(|(partition, _)| serving.replica.mark(partition).time());
        let mark_age_ms = marks.min().and_then(age);
        CollectionStatus { floors, mark_age_ms, holding_back }
    }
}

/// Moves this node's floor.
struct FloorLoop(Arc<Inner>);

#[async_trait]
impl Worker for FloorLoop {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn status(&self) -> String {
        let told = self.0.collection.keeper.lock().told();
        format!("mints nothing at or below {} ms any more", told.ms())
    }

    async fn step(&self) -> Option<Duration> {
        let look = Duration::from_millis(FLOOR_LOOK_MS.min(self.0.collection.timing.step_ms));
        let Some(serving) = self.0.serving() else { return Some(look) };
        let collection = &self.0.collection;
        let wall_ms = self.0.clock.wall_ms();
        let due = collection.keeper.lock().due(wall_ms, collection.timing);
        if let Some(floor) = due.filter(|_| self.0.clock_is_sound()) {
            let dots = Arc::clone(&serving.dots);
            if let Err(error) = self.0.blocking(move || dots.raise(floor, wall_ms)).await {
                tracing::warn!(%error, "the floor can't be raised");
                return Some(look);
            }
            collection.keeper.lock().prepared(floor, serving.dots.flights());
        }
        let next = collection.keeper.lock().next();
        if next.is_some_and(|next| !serving.replica.hints().take_none_below(next)) {
            return Some(look);
        }
        let oldest = serving.replica.hints().floor();
        let good = collection.keeper.lock().good(serving.dots.flights(), oldest);
        let Some(time) = good else { return Some(look) };
        let witness = self.0.witness(&serving);
        self.0.membership.publish_floor(Floor { time, witness });
        Some(Duration::from_millis(collection.timing.step_ms.min(REST_MS_MAX)))
    }
}

/// Climbs for marks, and says which member holds them back.
struct MarkLoop(Arc<Inner>);

#[async_trait]
impl Worker for MarkLoop {
    fn name(&self) -> &'static str {
        "marks"
    }

    fn status(&self) -> String {
        let status = self.0.collection_status();
        let age =
            status.mark_age_ms.map_or_else(|| "none yet".into(), |age| format!("{age} ms old"));
        match status.holding_back.first() {
            Some(node) => format!("the lowest is {age}; {node} holds them back"),
            None => format!("the lowest is {age}"),
        }
    }

    async fn step(&self) -> Option<Duration> {
        let rest = Duration::from_millis(self.0.collection.timing.step_ms.min(REST_MS_MAX));
        let Some(serving) = self.0.serving() else { return Some(rest) };
        self.alarm();
        let floors = Arc::new(self.0.floors(&serving));
        let raised = match serving.coordinator.climb(&self.0.collection.climbs, &floors) {
            Ok(raised) if !raised.own.is_empty() => raised,
            _ => return Some(rest),
        };
        let count = raised.own.len() as u64;
        if let Err(error) = self.0.put_in_force(&serving, raised.own).await {
            tracing::warn!(%error, "marks can't be put in force");
            return Some(rest);
        }
        self.0.figures.marks_raised.add(count);
        let refused = serving.coordinator.tell_marks(raised.tell).await;
        if refused > 0 {
            tracing::debug!(refused, "some replicas did not take their marks");
        }
        Some(rest)
    }
}

impl MarkLoop {
    fn alarm(&self) {
        let status = self.0.collection_status();
        let holding = status.holding_back.first().copied();
        let mut alarmed = self.0.collection.alarmed.lock();
        if *alarmed == holding {
            return;
        }
        *alarmed = holding;
        if let Some(node) = holding {
            let age_ms = status.floors.iter().find(|(of, _)| *of == node).and_then(|of| of.1);
            tracing::warn!(
                %node,
                floor_age_ms = age_ms,
                "holds marks back: deletes are kept everywhere until it returns or is removed"
            );
        } else {
            tracing::info!("no member holds marks back any more");
        }
    }
}

/// Collects what marks cover, one partition after the other.
struct WalkLoop {
    inner: Arc<Inner>,
    collected: AtomicU64,
    at: AtomicU64,
}

#[async_trait]
impl Worker for WalkLoop {
    fn name(&self) -> &'static str {
        "collect"
    }

    fn status(&self) -> String {
        format!("{} rows are gone", self.collected.load(Ordering::Relaxed))
    }

    async fn step(&self) -> Option<Duration> {
        let round = Duration::from_millis(self.inner.collection.timing.step_ms.min(REST_MS_MAX));
        let Some(serving) = self.inner.serving() else { return Some(round) };
        let began = self.inner.clock.steady_ms();
        // By a clock that may be wrong nothing has ended: its bytes would be gone for good, and the
        // copies would look equal all the same.
        let sound = self.inner.clock_is_sound();
        let now_ms = if sound { self.inner.clock.wall_ms() } else { 0 };
        loop {
            let at = self.at.fetch_add(1, Ordering::Relaxed);
            let partitions = serving.replica.standings().partitions();
            let partition = u16::try_from(at).ok().and_then(|at| partitions.nth(at));
            let Some(partition) = partition else { break };
            if self.collect(&serving, partition, now_ms).await {
                return Some(self.rest_after(began));
            }
        }
        self.at.store(0, Ordering::Relaxed);
        Some(round)
    }
}

impl WalkLoop {
    /// Says whether anything had to be read.
    async fn collect(&self, serving: &Serving, partition: Partition, now_ms: u64) -> bool {
        let skew_ms = self.inner.clock_skew_ms_max;
        match serving.replica.collect(partition, now_ms, skew_ms).await {
            Ok(done) => {
                self.collected.fetch_add(done.rows, Ordering::Relaxed);
                self.inner.figures.collected_rows.add(done.rows);
                self.inner.figures.shortened_rows.add(done.shortened);
                done.slots > 0
            }
            Err(error) => {
                tracing::warn!(%error, "some of a partition could not be collected");
                true
            }
        }
    }

    fn rest_after(&self, began: u64) -> Duration {
        let took = self.inner.clock.steady_ms().saturating_sub(began);
        let rest_ms = took.saturating_mul(WALK_RESTS).max(WALK_REST_MS_MIN);
        Duration::from_millis(rest_ms)
    }
}
