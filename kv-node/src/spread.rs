//! How long something took, as a histogram that many may add to at once.
//!
//! Buckets of an eighth of their power of two, from a microsecond to an hour: a quantile is at most
//! an eighth too high. One relaxed addition for each value; no lock, no allocation. (The shape is
//! HdrHistogram's with three bits of precision.)

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets in a power of two.
const PARTS: u64 = 8;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// 2^32 microseconds are 71 minutes: what took longer counts there.
const POWERS: usize = 32;
const BUCKETS: usize = (POWERS - PART_BITS as usize + 1) * PARTS as usize;

/// Times in microseconds.
pub struct Spread {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spread").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

/// Below `PARTS` each microsecond has a bucket of its own; above, the highest four bits choose.
fn bucket(us: u64) -> usize {
    let us = us.min((1 << POWERS) - 1);
    if us < PARTS {
        return us as usize;
    }
    let shift = us.ilog2() - PART_BITS;
    ((u64::from(shift) + 1) * PARTS + (us >> shift) - PARTS) as usize
}

/// The largest time of a bucket.
fn most(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    ((bucket % PARTS + PARTS + 1) << shift) - 1
}

impl Spread {
    /// Something took so long.
    #[inline]
    pub fn add(&self, us: u64) {
        if let Some(count) = self.buckets.get(bucket(us)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How often anything was added.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All times together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    /// Microseconds that so many of a thousand did not exceed, about; none before anything was
    /// added.
    pub fn per_mille(&self, part: u64) -> Option<u64> {
        let counts: Vec<u64> =
            self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let mut left = (all * part).div_ceil(1_000).max(1);
        let reached = counts.iter().position(|count| {
            let hit = left <= *count;
            left = left.saturating_sub(*count);
            hit
        });
        reached.filter(|_| all > 0).map(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins_and_is_an_eighth_wide() {
        for place in 0..BUCKETS {
            assert_eq!(bucket(most(place)), place);
            if place + 1 < BUCKETS {
                assert_eq!(bucket(most(place) + 1), place + 1);
            }
        }
        for us in [1_000, 12_345, 1_000_000, 59 * 60 * 1_000_000] {
            let shown = most(bucket(us));
            assert!(us <= shown && shown <= us + us / 8, "{us} shown as {shown}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_about_right() {
        let spread = Spread::default();
        assert_eq!(spread.per_mille(500), None);
        (1..=1_000).for_each(|ms| spread.add(ms * 1_000));
        let near = |part: u64, wanted: u64| {
            let shown = spread.per_mille(part).expect("there are some");
            assert!(wanted <= shown && shown <= wanted + wanted / 8, "{part}: {shown}");
        };
        near(500, 500_000);
        near(990, 990_000);
        near(1_000, 1_000_000);
        assert_eq!((spread.count(), spread.sum_us()), (1_000, 500_500_000));
    }
}
