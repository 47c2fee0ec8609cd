//! How long a peer's answers take lately: a moving average and any quantile, in fixed space.
//!
//! Buckets grow with what they hold (eight to each power of two), so a quantile is right to an
//! eighth from microseconds to minutes. When as many answers are held as are to be remembered, all
//! counts are halved: what is old weighs less and less, and a peer that has become fast or slow is
//! seen to be before long. Invariant: a fixed number of integers, and no division but by constants.

/// Buckets for each power of two.
const STEPS: usize = 8;
/// The values below `STEPS`, then so many less one powers of two: up to 2^27 us, two minutes.
const POWERS: usize = 25;
const BUCKETS: usize = STEPS * POWERS;

/// Recent latencies of one peer.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: [u16; BUCKETS],
    held: u32,
    samples_max: u16,
    mean_us: Option<u64>,
}

impl Latency {
    /// Remembers about `samples_max` answers. 0 counts as 1.
    pub const fn new(samples_max: u16) -> Self {
        let samples_max = if samples_max == 0 { 1 } else { samples_max };
        Self { buckets: [0; BUCKETS], held: 0, samples_max, mean_us: None }
    }

    /// An answer took `us` microseconds. O(1), but for the halving.
    pub fn record(&mut self, us: u64) {
        // An eighth of each new one, as TCP smooths its round trips.
        let next = |mean: u64| mean - mean / 8 + us.min(1 << 60) / 8;
        self.mean_us = Some(self.mean_us.map_or_else(|| us.min(1 << 60), next));
        if self.held >= u32::from(self.samples_max) {
            self.held = 0;
            for bucket in &mut self.buckets {
                *bucket /= 2;
                self.held += u32::from(*bucket);
            }
        }
        if let Some(bucket) = self.buckets.get_mut(bucket_of(us)) {
            *bucket += 1;
            self.held += 1;
        }
    }

    /// The moving average; `None` before the first answer.
    pub const fn mean_us(&self) -> Option<u64> {
        self.mean_us
    }

    /// How many answers the quantiles are taken over.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// What `per_mille` of a thousand recent answers did not exceed, to an eighth; `None` before
    /// the first answer. O(buckets).
    pub fn quantile_us(&self, per_mille: u32) -> Option<u64> {
        let wanted = (u64::from(self.held) * u64::from(per_mille.min(1_000))).div_ceil(1_000);
        let mut below = 0;
        for (place, count) in self.buckets.iter().enumerate() {
            below += u64::from(*count);
            if *count > 0 && below >= wanted {
                return Some(upper_edge(place));
            }
        }
        None
    }
}

/// Below `STEPS` each value has a bucket of its own; above, the first bits after the leading one
/// choose among `STEPS`.
fn bucket_of(us: u64) -> usize {
    let steps = STEPS.ilog2();
    let Some(power) = us.checked_ilog2().filter(|power| *power >= steps) else {
        return us as usize;
    };
    let within = (us >> (power - steps)) as usize - STEPS;
    let place = (power - steps + 1) as usize * STEPS + within;
    place.min(BUCKETS - 1)
}

/// The highest value of a bucket.
fn upper_edge(place: usize) -> u64 {
    let steps = STEPS.ilog2();
    if place < STEPS {
        return place as u64;
    }
    let power = (place / STEPS) as u32 - 1 + steps;
    let within = (place % STEPS + STEPS) as u64;
    ((within + 1) << (power - steps)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_the_edge_is_an_eighth_off_at_most() {
        let mut before = 0;
        for us in (0..100_000).chain((17..27).flat_map(|power| {
            let at = 1_u64 << power;
            [at - 1, at, at + 1, at + at / 3]
        })) {
            let place = bucket_of(us);
            assert!(place >= before, "{us}: buckets rise");
            before = place;
            let edge = upper_edge(place);
            assert!(edge >= us && edge - us <= us / 8, "{us} in {place} up to {edge}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new(1_000);
        assert_eq!((latency.quantile_us(950), latency.mean_us()), (None, None));
        for us in 1..=1_000 {
            latency.record(us);
        }
        for (per_mille, exact) in [(500, 500), (950, 950), (1_000, 1_000)] {
            let found = latency.quantile_us(per_mille).unwrap_or(0);
            assert!(found >= exact && found - exact <= exact / 8, "{per_mille}: {found}");
        }
        assert_eq!(latency.quantile_us(0), Some(1));
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut latency = Latency::new(256);
        (0..10_000).for_each(|_| latency.record(50_000));
        (0..2_000).for_each(|_| latency.record(100));
        assert!(latency.held() <= 256);
        assert!(latency.quantile_us(990).is_some_and(|us| us < 120));
        assert!(latency.mean_us().is_some_and(|us| us < 120), "{:?}", latency.mean_us());
        latency.record(u64::MAX);
        assert!(latency.quantile_us(1_000).is_some_and(|us| us > 100_000_000));
    }
}
