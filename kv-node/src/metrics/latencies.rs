//! How long steps of clients' connections took: a histogram of fixed bounds for each class.
//!
//! One step is one command, or one run of GETs or SETs that is executed as one, and costs two
//! additions; the clock was read for the slow log anyway. Bounds are powers of two microseconds, so
//! that finding a bucket is one count of leading zeros. They must not change between versions
//! without need: what is stored of them elsewhere could not be compared any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bound is 2^6 = 64 us.
const FIRST_POWER: u32 = 6;
/// Bounds, each twice the one before: the last is 8.4 s.
const BOUNDS: usize = 18;

/// What a step does to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It reads.
    Read,
    /// It may write.
    Write,
    /// Neither: about the connection or the node.
    Other,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Other];

    /// The value of the label `op`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

/// Steps of one class.
#[derive(Debug, Default)]
struct Steps {
    /// The last bucket holds what is above all bounds.
    buckets: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

/// A histogram for each class.
#[derive(Debug, Default)]
pub struct Latencies([Steps; 3]);

/// What a histogram held at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Steps in each bucket, not added up; the last is above all bounds.
    pub(super) buckets: Vec<u64>,
    pub(super) sum_us: u64,
}

impl Latencies {
    /// A step took so long.
    #[inline]
    pub fn record(&self, class: Class, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let [read, write, other] = &self.0;
        let steps = match class {
            Class::Read => read,
            Class::Write => write,
            Class::Other => other,
        };
        if let Some(bucket) = steps.buckets.get(bucket_of(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        steps.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Reads and writes in each bucket, with its bound in microseconds; the last is above all.
    pub(crate) fn reads_and_writes(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let [read, write, _] = &self.0;
        let count = |steps: &Steps, at: usize| {
            steps.buckets.get(at).map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        };
        let bounds = bounds_us().map(Some).chain([None]);
        bounds.enumerate().map(move |(at, bound)| (bound, count(read, at) + count(write, at)))
    }

    /// Each class with what its histogram holds now.
    pub(super) fn each(&self) -> impl Iterator<Item = (Class, Histogram)> + '_ {
        Class::ALL.into_iter().zip(&self.0).map(|(class, steps)| {
            let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
            let buckets = steps.buckets.iter().map(load).collect();
            (class, Histogram { buckets, sum_us: load(&steps.sum_us) })
        })
    }
}

/// The bounds, in microseconds.
pub(super) fn bounds_us() -> impl Iterator<Item = u64> {
    (0..BOUNDS as u32).map(|place| 1 << (FIRST_POWER + place))
}

/// The bucket of what took so many whole microseconds: less than its bound.
#[inline]
fn bucket_of(us: u64) -> usize {
    let above = u64::BITS - (us >> FIRST_POWER).leading_zeros();
    (above as usize).min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_counted_below_its_bound_and_not_below_the_one_before() {
        let bounds: Vec<u64> = bounds_us().collect();
        assert_eq!((bounds.len(), bounds[0], bounds[17]), (BOUNDS, 64, 8_388_608));
        for us in [0, 1, 63, 64, 65, 127, 128, 1_000, 8_388_607, 8_388_608, u64::MAX] {
            let bucket = bucket_of(us);
            assert!(bounds.get(bucket).is_none_or(|bound| us < *bound), "{us}");
            assert!(bucket == 0 || bounds[bucket - 1] <= us, "{us}");
        }
    }

    #[test]
    fn classes_are_kept_apart() {
        let latencies = Latencies::default();
        latencies.record(Class::Read, Duration::from_micros(70));
        latencies.record(Class::Read, Duration::from_secs(90));
        latencies.record(Class::Write, Duration::from_nanos(63_999));
        let all: Vec<(Class, Histogram)> = latencies.each().collect();
        let read = &all[0].1;
        assert_eq!((read.buckets[1], read.buckets[BOUNDS], read.sum_us), (1, 1, 90_000_070));
        assert_eq!((all[1].0, all[1].1.buckets[0], all[1].1.sum_us), (Class::Write, 1, 63));
        assert_eq!(all[2].1.buckets.iter().sum::<u64>(), 0);
        latencies.record(Class::Other, Duration::from_micros(70));
        let both: Vec<_> = latencies.reads_and_writes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(both, [(Some(64), 1), (Some(128), 1), (None, 1)]);
    }
}
