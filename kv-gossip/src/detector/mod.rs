//! Detectors for one peer, fed by the caller's regular traffic: pure, without a clock.
//!
//! These are for the request path, which has to judge within milliseconds whom to ask first. They
//! never decide membership: that is [`Swim`](crate::Swim)'s, which asks others before it judges.
//!
//! [`PhiAccrual`] learns how regular a peer is and says how surprising its silence would be;
//! [`Timeout`] only knows one bound. Both keep the contract that the tests of this module check.
//! [`Latency`] knows how long answers take: what is late for this peer, and which peer is faster.

mod latency;
mod math;
mod phi;
mod timeout;

pub use latency::Latency;
pub use phi::{PhiAccrual, PhiConfig};
pub use timeout::Timeout;

use crate::time::Millis;

/// Judges one peer by when it was last heard.
pub trait FailureDetector {
    /// The peer was heard at `now`: it answered, or sent something by itself.
    fn heard(&mut self, now: Millis);

    /// How surprising the silence since then is: 0 or more, never falling while the silence lasts.
    /// 0 for a peer that was never heard: nothing is known of it.
    fn suspicion(&self, now: Millis) -> f64;

    /// Whether the peer should be asked at all. True for a peer that was never heard.
    fn is_available(&self, now: Millis) -> bool;

    /// Forgets all: the peer was restarted, or its address has changed.
    fn reset(&mut self);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps_the_contract<D: FailureDetector>(mut detector: D) {
        let silent = Millis::new(1_000_000);
        assert!(detector.is_available(silent), "nothing is known of a peer never heard");
        assert!(detector.suspicion(silent).abs() < f64::EPSILON);
        for beat in 0..50 {
            detector.heard(Millis::new(beat * 100));
        }
        let last = Millis::new(4_900);
        assert!(detector.is_available(last.plus(100)));
        let mut before = 0.0;
        for silence_ms in 0..100_000 {
            let level = detector.suspicion(last.plus(silence_ms));
            assert!(level.is_finite() && level >= before, "{silence_ms} ms: {level} {before}");
            before = level;
        }
        assert!(!detector.is_available(last.plus(100_000)));
        detector.heard(last.plus(100_000));
        assert!(detector.is_available(last.plus(100_100)), "it is heard again");
        // Time that runs backwards, or the end of time, is survived.
        detector.heard(Millis::ZERO);
        assert!(detector.suspicion(Millis::NEVER).is_finite());
        detector.reset();
        assert!(detector.is_available(silent));
    }

    #[test]
    fn phi_accrual_keeps_the_contract() {
        keeps_the_contract(PhiAccrual::new(PhiConfig::default()));
    }

    #[test]
    fn timeout_keeps_the_contract() {
        keeps_the_contract(Timeout::new(1_000));
    }
}
