//! How fast the background may go: as fast as it is told, and slower while requests suffer.
//!
//! Batches of requests put their latency into a window of counters, one addition each. Whoever
//! works in the background takes the window several times a second, and brings its part of its rate
//! down when the 99th percentile has risen well above what is usual, up again when it hasn't.

use std::sync::atomic::{AtomicU32, Ordering};

/// Two buckets for each power of two of microseconds.
const BUCKETS: usize = 64;

/// Latencies of the last while.
#[derive(Debug)]
pub struct LatencyWindow([AtomicU32; BUCKETS]);

impl Default for LatencyWindow {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

/// What a window held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySeen {
    /// Batches.
    pub count: u64,
    /// The upper bound of the bucket with their 99th percentile, in microseconds.
    pub p99_us: u64,
}

impl LatencyWindow {
    /// A batch took so long.
    #[inline]
    pub fn record(&self, us: u64) {
        if let Some(bucket) = self.0.get(bucket_of(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> LatencySeen {
        let counts: Vec<u64> =
            self.0.iter().map(|bucket| u64::from(bucket.swap(0, Ordering::Relaxed))).collect();
        let count: u64 = counts.iter().sum();
        let mut left = count.div_ceil(100);
        let slow = (0..BUCKETS).zip(&counts).rev().find(|(_, in_it)| {
            let found = **in_it >= left && left > 0;
            left = left.saturating_sub(**in_it);
            found
        });
        LatencySeen { count, p99_us: slow.map_or(0, |(bucket, _)| upper_us(bucket)) }
    }
}

#[inline]
fn bucket_of(us: u64) -> usize {
    let us = us.max(1);
    let power = us.ilog2();
    let half = if power == 0 { 0 } else { (us >> (power - 1)) & 1 };
    ((power as usize) * 2 + half as usize).min(BUCKETS - 1)
}

fn upper_us(bucket: usize) -> u64 {
    let power = (bucket / 2) as u32;
    if bucket.is_multiple_of(2) { (3 << power) / 2 } else { 2 << power }
}

/// Which part of its rate a background task uses.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    per_mille: u64,
    usual_us: Option<u64>,
}

/// The least part: it never stops, or what it mends would never be mended.
const PER_MILLE_MIN: u64 = 16;
/// A window with fewer batches says nothing.
const BATCHES_MIN: u64 = 20;
/// So much above the usual is no sign of anything, in microseconds.
const RISE_US_MIN: u64 = 500;
/// The usual rises by this part of itself with each window; with four windows a second, by a
/// fiftieth a second.
const USUAL_RISE_PART: u64 = 200;

impl Default for Throttle {
    fn default() -> Self {
        Self { per_mille: 1_000, usual_us: None }
    }
}

impl Throttle {
    /// Takes what one window held. The usual is the least percentile seen; it rises by a
    /// two-hundredth with each window, so that a load that stays becomes usual.
    pub fn window(&mut self, seen: LatencySeen) {
        if seen.count < BATCHES_MIN {
            self.per_mille = (self.per_mille * 5 / 4 + 1).min(1_000);
            return;
        }
        let usual = self
            .usual_us
            .map_or(seen.p99_us, |usual| seen.p99_us.min(usual + usual / USUAL_RISE_PART + 1));
        self.usual_us = Some(usual);
        self.per_mille = if seen.p99_us > usual * 2 + RISE_US_MIN {
            (self.per_mille / 2).max(PER_MILLE_MIN)
        } else {
            (self.per_mille * 5 / 4 + 1).min(1_000)
        };
    }

    /// Thousandths of the rate that may be used now.
    pub const fn per_mille(&self) -> u64 {
        self.per_mille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_bucket_that_holds_it() {
        let window = LatencyWindow::default();
        assert_eq!(window.take(), LatencySeen::default());
        (0..990).for_each(|_| window.record(100));
        (0..10).for_each(|_| window.record(5_000));
        let seen = window.take();
        assert_eq!(seen.count, 1_000);
        assert!((5_000..=8_192).contains(&seen.p99_us), "{seen:?}");
        (0..1_000).for_each(|_| window.record(100));
        (0..5).for_each(|_| window.record(5_000));
        let seen = window.take();
        assert!((100..=150).contains(&seen.p99_us), "{seen:?}");
        for us in [0, 1, 2, 3, 4, 6, 7, 1_000_000, u64::MAX / 2] {
            let bucket = bucket_of(us);
            assert!(bucket < BUCKETS && (bucket == BUCKETS - 1 || us <= upper_us(bucket)), "{us}");
        }
    }

    #[test]
    fn a_risen_percentile_slows_down_and_a_usual_one_speeds_up() {
        let seen = |p99_us| LatencySeen { count: 1_000, p99_us };
        let mut throttle = Throttle::default();
        throttle.window(seen(1_000));
        assert_eq!(throttle.per_mille(), 1_000);
        throttle.window(seen(9_000));
        throttle.window(seen(9_000));
        assert_eq!(throttle.per_mille(), 250);
        (0..20).for_each(|_| throttle.window(seen(9_000)));
        assert_eq!(throttle.per_mille(), PER_MILLE_MIN);
        (0..40).for_each(|_| throttle.window(seen(1_100)));
        assert_eq!(throttle.per_mille(), 1_000);
        throttle.window(seen(9_000));
        throttle.window(LatencySeen { count: 3, p99_us: 90_000 });
        assert!(throttle.per_mille() > 500, "few requests say nothing");
        (0..800).for_each(|_| throttle.window(seen(9_000)));
        assert_eq!(throttle.per_mille(), 1_000, "what stays becomes usual");
    }
}
