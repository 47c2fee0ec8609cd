//! Chance from a seed: one generator for each actor of a run, so that what one draws does not
//! change what another does.

use kv_node::plug::rng::{Rng, SeededRng};

/// A generator for one actor of a run.
#[derive(Debug)]
pub struct Random(SeededRng);

impl Random {
    /// The generator of actor `name` in the run of `seed`.
    #[must_use]
    pub fn of(seed: u64, name: &str) -> Self {
        Self(SeededRng::new(twox_hash::XxHash3_64::oneshot_with_seed(seed, name.as_bytes())))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a hundred.
    pub fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of these.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}
