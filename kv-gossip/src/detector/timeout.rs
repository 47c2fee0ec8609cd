//! The plain detector: silent for longer than a bound is gone. For peers whose traffic has no
//! rhythm.

use super::FailureDetector;
use crate::time::Millis;

/// Judges a peer by one bound on its silence.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    timeout_ms: u64,
    last: Option<Millis>,
}

impl Timeout {
    /// A peer that is silent for more than `timeout_ms` is not available. 0 counts as 1.
    pub const fn new(timeout_ms: u64) -> Self {
        Self { timeout_ms: if timeout_ms == 0 { 1 } else { timeout_ms }, last: None }
    }
}

impl FailureDetector for Timeout {
    fn heard(&mut self, now: Millis) {
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// The silence in units of the bound: above 1 the peer is not available.
    fn suspicion(&self, now: Millis) -> f64 {
        self.last.map_or(0.0, |last| now.since(last) as f64 / self.timeout_ms as f64)
    }

    fn is_available(&self, now: Millis) -> bool {
        self.last.is_none_or(|last| now.since(last) <= self.timeout_ms)
    }

    fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_inclusive() {
        let mut detector = Timeout::new(10);
        detector.heard(Millis::new(5));
        assert!(detector.is_available(Millis::new(15)));
        assert!(!detector.is_available(Millis::new(16)));
        assert!((detector.suspicion(Millis::new(15)) - 1.0).abs() < 1e-9);
    }
}
