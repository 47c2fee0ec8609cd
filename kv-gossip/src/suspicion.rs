//! How long a suspicion lasts, and how far a member trusts itself: Lifeguard (section IV).
//!
//! A suspicion starts long and is cut by each further member that confirms it on its own:
//! `max - (max - min) * log(c + 1) / log(k + 1)`, where `k` confirmations are expected. So a member
//! that is wrong alone takes long to do harm, and a real death is still found fast. `min` grows
//! with the logarithm of the cluster's size, because a refutation takes that many rounds to spread,
//! up to a bound, because many rounds fit into a period.
//!
//! Local health counts what speaks against ourselves (probes that failed without even a Nack,
//! suspicions of us) and stretches our own probe timeouts. Integer arithmetic: the same everywhere.

use crate::config::Config;
use crate::member::Accusers;
use crate::time::Millis;

/// A suspicion that we hold against one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspicion<N> {
    pub(crate) accusers: Accusers<N>,
    pub(crate) started: Millis,
    pub(crate) deadline: Millis,
}

impl<N: Copy + Eq> Suspicion<N> {
    pub(crate) fn new(
        now: Millis,
        accusers: Accusers<N>,
        config: &Config,
        live_members: usize,
    ) -> Self {
        let mut suspicion = Self { accusers, started: now, deadline: now };
        suspicion.renew_deadline(config, live_members);
        suspicion
    }

    /// Adds an accuser; true when it is a new one, and the deadline came nearer.
    pub(crate) fn confirm(&mut self, accuser: N, config: &Config, live_members: usize) -> bool {
        let new = self.accusers.insert(accuser);
        if new {
            self.renew_deadline(config, live_members);
        }
        new
    }

    fn renew_deadline(&mut self, config: &Config, live_members: usize) {
        let confirmations = self.accusers.len().saturating_sub(1) as u64;
        let timeout_ms = timeout_ms(config, live_members, confirmations);
        self.deadline = self.started.plus(timeout_ms);
    }
}

/// The time that a suspicion lasts after `confirmations` beyond the first accuser.
pub(crate) fn timeout_ms(config: &Config, live_members: usize, confirmations: u64) -> u64 {
    // log10(n) = log2(n) * 0.30103, at least 1.
    let size_log = (log2(live_members as u64) * 30_103 / 100_000).max(LOG_ONE);
    let periods = config
        .suspicion_multiplier
        .saturating_mul(size_log)
        .min(config.suspicion_periods_max.saturating_mul(LOG_ONE));
    let min_ms = config.probe_interval_ms.saturating_mul(periods) / LOG_ONE;
    let expected = config.suspicion_confirmations as u64;
    // Too few others to confirm: nothing to wait for.
    if expected == 0 || (live_members as u64).saturating_sub(2) < expected {
        return min_ms;
    }
    let max_ms = min_ms.saturating_mul(config.suspicion_max_multiplier);
    let cut = (max_ms - min_ms).saturating_mul(log2(confirmations + 1)) / log2(expected + 1);
    max_ms.saturating_sub(cut).max(min_ms)
}

const LOG_ONE: u64 = 1 << 16;

/// log2 in units of 1/65536, by repeated squaring; 0 for 0.
fn log2(value: u64) -> u64 {
    if value < 2 {
        return 0;
    }
    let whole = u64::from(value.ilog2());
    // The mantissa in [1, 2) with 31 bits of fraction.
    let mut mantissa = if whole > 31 { value >> (whole - 31) } else { value << (31 - whole) };
    let mut result = whole * LOG_ONE;
    let mut bit = LOG_ONE / 2;
    while bit > 0 {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            result += bit;
        }
        bit /= 2;
    }
    result
}

/// What speaks against ourselves: 0 is healthy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    score: u32,
}

impl Health {
    pub(crate) fn worse(&mut self, by: u32, config: &Config) {
        self.score = self.score.saturating_add(by).min(config.health_max);
    }

    pub(crate) fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    pub(crate) const fn score(self) -> u32 {
        self.score
    }

    /// `ms`, stretched by how little we trust ourselves.
    pub(crate) const fn stretch(self, ms: u64) -> u64 {
        ms.saturating_mul(self.score as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log2_is_close() {
        for value in [1_u64, 2, 3, 5, 10, 20, 100, 1_000, 1 << 40] {
            let exact = (value as f64).log2();
            assert!((log2(value) as f64 / 65_536.0 - exact).abs() < 1e-3, "{value}");
        }
    }

    #[test]
    fn confirmations_shorten_a_suspicion_to_its_minimum() {
        // 20 members: min = 4 * 1 s * log10(20) = 5.2 s, max = 6 times that, 2 expected.
        let config = Config::lan();
        let timeouts: [u64; 4] = [0, 1, 2, 3].map(|c| timeout_ms(&config, 20, c));
        assert!(timeouts[0].abs_diff(31_224) < 20, "{timeouts:?}");
        assert!(timeouts[1].abs_diff(14_807) < 20, "{timeouts:?}");
        assert!(timeouts[2].abs_diff(5_204) < 5, "{timeouts:?}");
        assert_eq!(timeouts[2], timeouts[3]);
    }

    #[test]
    fn a_suspicion_stops_growing_with_the_cluster() {
        let config = Config::lan();
        let shortest: [u64; 3] = [32, 1_000, 10_000].map(|n| timeout_ms(&config, n, 2));
        assert_eq!(shortest, [6_000; 3]);
    }

    #[test]
    fn three_members_have_nobody_to_wait_for() {
        assert_eq!(timeout_ms(&Config::local(), 3, 0), 1_000);
        assert_eq!(timeout_ms(&Config::local(), 4, 0), 3_000);
    }

    #[test]
    fn the_same_accuser_confirms_nothing() {
        let config = Config::local();
        let mut suspicion = Suspicion::new(Millis::ZERO, Accusers::one(1_u64), &config, 9);
        let before = suspicion.deadline;
        assert!(!suspicion.confirm(1, &config, 9));
        assert_eq!(suspicion.deadline, before);
        assert!(suspicion.confirm(2, &config, 9));
        assert!(suspicion.deadline < before);
    }

    #[test]
    fn health_stretches_and_recovers() {
        let config = Config::local();
        let mut health = Health::default();
        health.worse(100, &config);
        assert_eq!(health.stretch(10), 10 * u64::from(config.health_max + 1));
        for _ in 0..config.health_max {
            health.better();
        }
        assert_eq!(health.stretch(10), 10);
    }
}
