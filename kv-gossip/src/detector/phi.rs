//! The phi accrual detector (Hayashibara, Défago, Yared, Katayama, 2004), with Akka's logistic
//! approximation of the normal distribution, which Cassandra and chitchat measure by as well.
//!
//! `phi = -log10(P(the next sign comes even later than this))`: 1 means one in ten such silences is
//! harmless, 8 means one in a hundred million. Invariant: a window of `intervals_max` intervals, so
//! a detector has a fixed size, and sums that are exact because they are integers.

use alloc::collections::VecDeque;

use super::FailureDetector;
use super::math::{exp, ln, sqrt};
use crate::time::Millis;

/// Settings of a [`PhiAccrual`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PhiConfig {
    /// Above this level the peer is not available. 8 for a local network.
    pub threshold: f64,
    /// How many intervals are remembered. At least 1.
    pub intervals_max: usize,
    /// The least standard deviation that is believed: a very regular peer would otherwise be
    /// judged by microseconds. Above 0.
    pub deviation_ms_min: u64,
    /// A silence that is added to the mean: pauses that are to be excused.
    pub pause_ms: u64,
    /// The interval that is assumed before one was seen.
    pub first_interval_ms: u64,
}

impl Default for PhiConfig {
    fn default() -> Self {
        Self {
            threshold: 8.0,
            intervals_max: 100,
            deviation_ms_min: 50,
            pause_ms: 0,
            first_interval_ms: 500,
        }
    }
}

/// How surprising a peer's silence is, given how regular it was.
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    config: PhiConfig,
    intervals_ms: VecDeque<u64>,
    sum: u128,
    sum_of_squares: u128,
    last: Option<Millis>,
}

/// Longer intervals say nothing more, and the sums can't overflow.
const INTERVAL_MS_MAX: u64 = 1 << 32;

impl PhiAccrual {
    /// A detector that has not heard its peer yet.
    pub const fn new(config: PhiConfig) -> Self {
        let intervals_ms = VecDeque::new();
        Self { config, intervals_ms, sum: 0, sum_of_squares: 0, last: None }
    }

    /// Mean and standard deviation of the intervals, in milliseconds.
    pub fn distribution(&self) -> (f64, f64) {
        let count = self.intervals_ms.len() as f64;
        if self.intervals_ms.is_empty() {
            let mean = self.config.first_interval_ms as f64;
            return (mean, (mean / 4.0).max(self.config.deviation_ms_min as f64));
        }
        let mean = self.sum as f64 / count;
        let variance = self.sum_of_squares as f64 / count - mean * mean;
        (mean, sqrt(variance).max(self.config.deviation_ms_min as f64))
    }

    /// The peer had nothing to say until `now`: the silence begins then, and the rest before it
    /// teaches nothing. For peers that speak only when they are asked.
    pub fn rested(&mut self, now: Millis) {
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    fn remember(&mut self, interval_ms: u64) {
        if self.intervals_ms.len() >= self.config.intervals_max.max(1)
            && let Some(oldest) = self.intervals_ms.pop_front()
        {
            self.sum -= u128::from(oldest);
            self.sum_of_squares -= u128::from(oldest).pow(2);
        }
        self.intervals_ms.push_back(interval_ms);
        self.sum += u128::from(interval_ms);
        self.sum_of_squares += u128::from(interval_ms).pow(2);
    }
}

impl FailureDetector for PhiAccrual {
    fn heard(&mut self, now: Millis) {
        if let Some(last) = self.last {
            self.remember(now.since(last).min(INTERVAL_MS_MAX));
        }
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    fn suspicion(&self, now: Millis) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let silence_ms = now.since(last).min(INTERVAL_MS_MAX) as f64;
        let (mean_ms, deviation_ms) = self.distribution();
        phi(silence_ms, mean_ms + self.config.pause_ms as f64, deviation_ms)
    }

    fn is_available(&self, now: Millis) -> bool {
        self.suspicion(now) < self.config.threshold
    }

    fn reset(&mut self) {
        *self = Self::new(self.config);
    }
}

/// `-log10(1 - F(silence))`, where `F` is the normal distribution, approximated by
/// `1 / (1 + exp(-y * (1.5976 + 0.070566 * y * y)))`. So phi is `log10(1 + exp(...))`.
fn phi(silence_ms: f64, mean_ms: f64, deviation_ms: f64) -> f64 {
    let y = (silence_ms - mean_ms) / deviation_ms.max(1e-3);
    let logit = y * (1.597_6 + 0.070_566 * y * y);
    let natural = if logit > 30.0 {
        logit
    } else if logit < -30.0 {
        0.0
    } else {
        ln(1.0 + exp(logit))
    };
    natural / core::f64::consts::LN_10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_matches_the_formula() {
        // silence, mean, deviation, and log10(1 + e^x) computed apart.
        let vectors: [(f64, f64, f64, f64); 10] = [
            (0.0, 100.0, 50.0, 0.009_998_761),
            (50.0, 100.0, 50.0, 0.075_033_032),
            (110.0, 100.0, 50.0, 0.376_073_794),
            (150.0, 100.0, 50.0, 0.799_508_320),
            (200.0, 100.0, 50.0, 1.642_827_885),
            (300.0, 100.0, 50.0, 4.736_694_582),
            (400.0, 100.0, 50.0, 10.782_600_858),
            (1000.0, 500.0, 100.0, 7.299_947_394),
            (2000.0, 1000.0, 125.0, 21.241_600_212),
            (100_000.0, 100.0, 50.0, 244_438_002.633),
        ];
        for (silence, mean, deviation, expected) in vectors {
            let found = phi(silence, mean, deviation);
            assert!((found / expected - 1.0).abs() < 1e-6, "{silence}: {found} {expected}");
        }
    }

    #[test]
    fn phi_is_close_to_the_normal_distribution() {
        // -log10(erfc(y / sqrt 2) / 2): the approximation is good to 5 % up to four deviations.
        let tails: [(f64, f64, f64, f64); 5] = [
            (0.0, 100.0, 50.0, 0.009_994_379),
            (50.0, 100.0, 50.0, 0.075_026_012),
            (150.0, 100.0, 50.0, 0.799_545_541),
            (200.0, 100.0, 50.0, 1.643_016_080),
            (300.0, 100.0, 50.0, 4.499_334_907),
        ];
        for (silence, mean, deviation, tail) in tails {
            let found = phi(silence, mean, deviation);
            assert!((found / tail - 1.0).abs() < 0.06, "{silence}: {found} {tail}");
        }
    }

    #[test]
    fn a_regular_peer_is_judged_sooner_than_an_irregular_one() {
        let mut regular = PhiAccrual::new(PhiConfig::default());
        let mut irregular = PhiAccrual::new(PhiConfig::default());
        let (mut at, mut other_at) = (0, 0);
        for beat in 0..200_u64 {
            at += 100;
            other_at += if beat % 2 == 0 { 10 } else { 190 };
            regular.heard(Millis::new(at));
            irregular.heard(Millis::new(other_at));
        }
        assert_eq!(regular.distribution(), (100.0, 50.0));
        assert_eq!(irregular.distribution(), (100.0, 90.0));
        let silence = |detector: &PhiAccrual, ms| detector.suspicion(Millis::new(at).plus(ms));
        assert!(silence(&regular, 400) > silence(&irregular, 400) + 3.0);
        assert!(!regular.is_available(Millis::new(at).plus(450)));
        assert!(irregular.is_available(Millis::new(at).plus(450)));
    }

    #[test]
    fn a_rest_is_no_silence() {
        let mut detector = PhiAccrual::new(PhiConfig::default());
        for asked in 0..20 {
            detector.rested(Millis::new(asked * 10_000));
            detector.heard(Millis::new(asked * 10_000 + 100));
        }
        assert_eq!(detector.distribution(), (100.0, 50.0));
        detector.rested(Millis::new(900_000));
        assert!(detector.suspicion(Millis::new(900_100)) < 1.0);
        assert!(!detector.is_available(Millis::new(900_500)));
    }

    #[test]
    fn the_window_forgets() {
        let config = PhiConfig { intervals_max: 10, ..PhiConfig::default() };
        let mut detector = PhiAccrual::new(config);
        for beat in 0..20 {
            detector.heard(Millis::new(beat * 1_000));
        }
        assert_eq!(detector.distribution(), (1_000.0, 50.0));
        for beat in 0..10 {
            detector.heard(Millis::new(19_000 + (beat + 1) * 200));
        }
        assert_eq!(detector.distribution(), (200.0, 50.0));
    }
}
