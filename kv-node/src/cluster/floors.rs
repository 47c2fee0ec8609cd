//! Floors: the time below which a member will mint nothing more.
//!
//! Collection rests on it. A member's floor lies `floor_lag_ms` behind its clock and is told with
//! its gossip. Before it is told, three things are made true, and stay so:
//!
//! ```text
//! the source of dots is raised to it        nothing is minted at or below it any more
//! writes that began before that have ended  what was minted below it lies in the log, and has
//!                                           been sent to its replicas
//! it lies below the oldest undelivered hint what this node keeps for others
//! ```
//!
//! Writes are counted by epoch, not listed: a write belongs to the epoch in which it began. A floor
//! is prepared by raising the source and turning the epoch; when the last write of the epoch before
//! has ended, it is good. One addition at the beginning of a batch and one at its end, and no lock.
//!
//! With its floor a member tells its witness, a number that changes whenever it may have forgotten
//! something: at each start, and at each loss. A mark is taken only by a replica whose witness is
//! the one that was seen before the exchanges that prove the mark.
//!
//! Invariant: a floor that was told never goes down, over restarts too, since the lease under which
//! a directory mints lies above it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_client::NodeId;
use kv_quorum::HybridTime;

/// When floors move and when one that does not is an alarm.
#[derive(Clone, Copy, Debug)]
pub struct FloorTiming {
    /// How far a member's floor lies behind its clock. More than a call may be under way, the
    /// difference between two clocks included.
    pub lag_ms: u64,
    /// Rest between two steps of a floor, and of a mark.
    pub step_ms: u64,
    /// A member whose floor is older than this holds marks back: operators are told.
    pub alarm_ms: u64,
}

impl FloorTiming {
    /// Steps of a sixth of the lag.
    pub const fn with_lag(lag_ms: u64, alarm_ms: u64) -> Self {
        Self { lag_ms, step_ms: lag_ms / 6 + 1, alarm_ms }
    }
}

impl Default for FloorTiming {
    fn default() -> Self {
        Self::with_lag(180_000, 900_000)
    }
}

/// Writes of this node in flight, counted by the epoch in which they began.
#[derive(Debug, Default)]
pub struct Flights {
    epoch: AtomicU64,
    open: [AtomicU64; 2],
}

/// A write, or a batch of them, in flight.
#[derive(Debug)]
#[must_use = "a write is in flight as long as this is kept"]
pub struct Flight<'f>(&'f AtomicU64);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Flights {
    /// A write begins. To be called before anything is minted for it.
    #[inline]
    pub fn begin(&self) -> Flight<'_> {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            let open = self.of(epoch);
            open.fetch_add(1, Ordering::SeqCst);
            let flight = Flight(open);
            // Counted in an epoch that was over already: whoever turned it need not have seen it.
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return flight;
            }
        }
    }

    /// Begins another epoch, unless writes of the one before the present are in flight still.
    fn turn(&self) -> bool {
        let epoch = self.epoch.load(Ordering::SeqCst);
        if self.of(epoch.wrapping_add(1)).load(Ordering::SeqCst) > 0 {
            return false;
        }
        self.epoch.store(epoch.wrapping_add(1), Ordering::SeqCst);
        true
    }

    /// Whether every write that began before the last turn has ended.
    fn landed(&self) -> bool {
        let before = self.epoch.load(Ordering::SeqCst).wrapping_sub(1);
        self.of(before).load(Ordering::SeqCst) == 0
    }

    #[expect(clippy::indexing_slicing, reason = "one of two by the lowest bit")]
    fn of(&self, epoch: u64) -> &AtomicU64 {
        &self.open[(epoch & 1) as usize]
    }
}

/// This node's floor on its way.
#[derive(Debug, Default)]
pub struct FloorKeeper {
    told: HybridTime,
    prepared: Option<HybridTime>,
}

impl FloorKeeper {
    /// The time to which the source of dots has to be raised now, if a new floor is due, a step
    /// above the last; then [`prepared`](Self::prepared) is to be called.
    pub fn due(&self, wall_ms: u64, timing: FloorTiming) -> Option<HybridTime> {
        let next = HybridTime::new(wall_ms.saturating_sub(timing.lag_ms), 0);
        let step = self.told.ms().saturating_add(timing.step_ms);
        (self.prepared.is_none() && next.before().ms() >= step).then_some(next)
    }

    /// The source mints above `raised` only.
    pub fn prepared(&mut self, raised: HybridTime, flights: &Flights) {
        if flights.turn() {
            self.prepared = Some(raised.before());
        }
    }

    /// What will be told next, or less: no hint of less may be taken from here on.
    pub fn next(&self) -> Option<HybridTime> {
        self.prepared
    }

    /// The floor to tell, if it rose: writes that began before it was prepared have ended, and
    /// `oldest_hint` lies above it.
    pub fn good(
        &mut self,
        flights: &Flights,
        oldest_hint: Option<HybridTime>,
    ) -> Option<HybridTime> {
        let prepared = self.prepared.filter(|_| flights.landed())?;
        self.prepared = None;
        let floor = oldest_hint.map_or(prepared, |oldest| prepared.min(oldest.before()));
        if floor <= self.told {
            return None;
        }
        self.told = floor;
        Some(floor)
    }

    /// The floor that was told last.
    pub fn told(&self) -> HybridTime {
        self.told
    }
}

/// What a member told of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// It mints nothing at or below this, and has nothing under way there.
    pub time: HybridTime,
    /// Changes whenever it may have forgotten something.
    pub witness: u64,
}

impl Floor {
    /// As it is told: sixteen bytes, little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let (time, witness) = (self.time.to_bits().to_le_bytes(), self.witness.to_le_bytes());
        let mut bytes = [0; 16];
        for (byte, from) in bytes.iter_mut().zip(time.into_iter().chain(witness)) {
            *byte = from;
        }
        bytes
    }

    /// Reads what a member told.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let witness = rest.try_into().ok().map(u64::from_le_bytes)?;
        Some(Self { time: HybridTime::from_bits(u64::from_le_bytes(*time)), witness })
    }
}

/// The floors of all that told one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors(pub BTreeMap<NodeId, Floor>);

impl Floors {
    /// The least floor of `members`: zero while one of them has told none.
    pub fn least<'m>(&self, members: impl IntoIterator<Item = &'m NodeId>) -> HybridTime {
        let of = |node| self.0.get(node).map_or(HybridTime::ZERO, |floor| floor.time);
        members.into_iter().map(of).min().unwrap_or(HybridTime::ZERO)
    }

    /// The witness that a member told.
    pub fn witness(&self, node: NodeId) -> Option<u64> {
        self.0.get(&node).map(|floor| floor.witness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_waits_for_writes_that_began_before_it_and_for_hints() {
        let timing = FloorTiming::with_lag(100, 1_000);
        let (flights, mut keeper) = (Flights::default(), FloorKeeper::default());
        let before = flights.begin();
        let raised = keeper.due(1_000, timing).expect("none was told yet");
        assert_eq!(raised, HybridTime::new(900, 0));
        keeper.prepared(raised, &flights);
        assert_eq!(keeper.due(2_000, timing), None, "one is on its way");
        let after = flights.begin();
        assert_eq!(keeper.good(&flights, None), None);
        drop(before);
        assert_eq!(keeper.good(&flights, None), Some(HybridTime::new(900, 0).before()));
        keeper.prepared(HybridTime::new(950, 0), &flights);
        assert_eq!(keeper.good(&flights, None), None, "the second began before this turn");
        drop(after);
        let hint = Some(HybridTime::new(920, 5));
        assert_eq!(keeper.good(&flights, hint), Some(HybridTime::new(920, 4)));
        keeper.prepared(HybridTime::new(960, 0), &flights);
        assert_eq!(keeper.good(&flights, hint), None, "the hint is still here");
        assert_eq!(keeper.told(), HybridTime::new(920, 4));
    }

    #[test]
    fn no_write_is_missed_by_a_turn() {
        let flights = Flights::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        drop(flights.begin());
                    }
                });
            }
            for _ in 0..20_000 {
                let open = flights.begin();
                while !flights.turn() {
                    std::hint::spin_loop();
                }
                assert!(!flights.landed(), "one that began before the turn is in flight");
                drop(open);
            }
        });
        assert!(flights.landed());
    }

    #[test]
    fn the_least_floor_needs_every_member() {
        let floor = |ms| Floor { time: HybridTime::new(ms, 0), witness: ms };
        let floors = Floors([(NodeId(1), floor(5)), (NodeId(2), floor(3))].into());
        assert_eq!(floors.least(&[NodeId(1), NodeId(2)]), HybridTime::new(3, 0));
        assert_eq!(floors.least(&[NodeId(1), NodeId(9)]), HybridTime::ZERO);
        assert_eq!(Floor::from_bytes(&floor(7).to_bytes()), Some(floor(7)));
        assert_eq!(Floor::from_bytes(&[0; 15]), None);
    }
}
