//! Names of writes: actors, hybrid times and dots.
//!
//! A dot is the name of one minted version: who minted it, and when by a hybrid logical clock
//! (Kulkarni et al., "Logical Physical Clocks", 2014: 48 bits of milliseconds, 16 of counter). The
//! actor is a node *and a tenure*: Riak's actor epochs (riak_kv #679). A node that forgot some of
//! its dots must not go on under the old name, because a vector says "all dots of this actor up to
//! t", and would cover, that is delete, writes that the node no longer knows.
//!
//! Invariant: dots of one actor are strictly increasing, across all keys that it mints for.

/// The name under which one node mints for one partition, from one start to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The node, for the life of its data directory.
    pub node: u64,
    /// A random number, durable before the first use, new whenever something may be forgotten.
    pub tenure: u64,
}

impl Actor {
    /// The actor of `node` in `tenure`.
    pub const fn new(node: u64, tenure: u64) -> Self {
        Self { node, tenure }
    }
}

/// Hybrid logical time: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTime(u64);

impl HybridTime {
    /// The earliest time; no dot has it.
    pub const ZERO: Self = Self(0);
    /// The latest time that can be written.
    pub const MAX: Self = Self(u64::MAX);
    /// Milliseconds beyond this one cannot be written (the year 10889).
    pub const MS_MAX: u64 = (1 << 48) - 1;

    /// `ms` milliseconds (at most [`MS_MAX`](Self::MS_MAX), else that) and a counter.
    pub const fn new(ms: u64, counter: u16) -> Self {
        let ms = if ms > Self::MS_MAX { Self::MS_MAX } else { ms };
        Self(ms << 16 | counter as u64)
    }

    /// The time whose 64 bits are `bits`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits, in the order of time.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The milliseconds.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The counter inside the millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }

    /// One step of the clock: the first time that is after `last` and not before `wall_ms`.
    /// A full counter goes on in the next millisecond.
    ///
    /// ```
    /// # use kv_quorum::HybridTime;
    /// let last = HybridTime::new(1_000, u16::MAX);
    /// assert_eq!(HybridTime::next(last, 990), HybridTime::new(1_001, 0));
    /// assert_eq!(HybridTime::next(last, 2_000), HybridTime::new(2_000, 0));
    /// ```
    #[must_use]
    pub const fn next(last: Self, wall_ms: u64) -> Self {
        let wall = Self::new(wall_ms, 0);
        if wall.0 > last.0 { wall } else { Self(last.0.saturating_add(1)) }
    }

    /// The clock after it was shown a dot of time `seen`: at least that, so that what is minted
    /// next is above everything that it replaces, and the dot that GET shows never goes down. A
    /// time more than `ahead_ms_max` beyond `wall_ms` is somebody's broken clock and moves nothing.
    ///
    /// ```
    /// # use kv_quorum::HybridTime;
    /// let (last, seen) = (HybridTime::new(1_000, 0), HybridTime::new(5_000, 3));
    /// assert_eq!(HybridTime::observe(last, seen, 1_000, 60_000), seen);
    /// assert_eq!(HybridTime::observe(last, seen, 1_000, 3_000), last);
    /// ```
    #[must_use]
    pub const fn observe(last: Self, seen: Self, wall_ms: u64, ahead_ms_max: u64) -> Self {
        if seen.0 > last.0 && seen.ms() <= wall_ms.saturating_add(ahead_ms_max) {
            seen
        } else {
            last
        }
    }

    /// The time just before this one ([`ZERO`](Self::ZERO) stays).
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The name of one minted version. Ordered by time, then by actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// When it was minted, by its actor's clock.
    pub time: HybridTime,
    /// Who minted it.
    pub actor: Actor,
}

impl Dot {
    /// The dot of `actor` at `time`.
    pub const fn new(actor: Actor, time: HybridTime) -> Self {
        Self { time, actor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_repeats_and_never_goes_back() {
        let mut last = HybridTime::new(5, u16::MAX - 2);
        for wall_ms in [5, 4, 0, 5, 6, 6, 3] {
            let next = HybridTime::next(last, wall_ms);
            assert!(next > last);
            last = next;
        }
        assert_eq!(last, HybridTime::new(6, 4));
    }

    #[test]
    fn a_wall_clock_beyond_48_bits_is_capped() {
        assert_eq!(HybridTime::new(u64::MAX, 7).ms(), HybridTime::MS_MAX);
        assert_eq!(HybridTime::new(u64::MAX, 7).counter(), 7);
    }

    #[test]
    fn dots_are_ordered_by_time_first() {
        let early = Dot::new(Actor::new(9, 9), HybridTime::new(1, 0));
        let late = Dot::new(Actor::new(1, 1), HybridTime::new(1, 1));
        assert!(early < late);
    }
}
