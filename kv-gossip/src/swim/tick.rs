//! What time does: probes, gossip, comparisons, expiries, each at its own pace.
//!
//! Invariant: time that passed while nobody polled us is not held against others. A process that
//! was stopped for ten seconds would otherwise find every suspicion expired and every probe
//! unanswered at once (the false alarms that Lifeguard measured come from slow members, section I).

use alloc::vec::Vec;

use super::Swim;
use super::probe::period_ms;
use crate::config::Config;
use crate::identity::NodeCode;
use crate::member::State;
use crate::rng::{Rng, below};
use crate::time::Millis;

/// Larger clusters than this compare less often.
const SYNC_MEMBERS: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Timers {
    pub(super) join_at: Millis,
    pub(super) join_pause_ms: u64,
    pub(super) gossip_at: Millis,
    pub(super) sync_at: Millis,
    sync_pause_ms: u64,
    /// What the last poll left to be done first, as far as it judges others.
    due_at: Millis,
    probe_at: Millis,
    reconnect_at: Millis,
}

impl Timers {
    pub(super) fn new(now: Millis, config: &Config) -> Self {
        Self {
            join_at: Millis::NEVER,
            join_pause_ms: config.join_retry_ms,
            gossip_at: now,
            sync_at: now.plus(config.sync_interval_ms),
            sync_pause_ms: config.sync_interval_ms,
            due_at: now.plus(config.probe_interval_ms),
            probe_at: now.plus(config.probe_interval_ms),
            reconnect_at: now.plus(config.reconnect_interval_ms),
        }
    }

    /// Compares as usual from now on, first at any time within the pause: members that start
    /// together do not all compare at once.
    pub(super) fn compare_some_time<R: Rng>(
        &mut self,
        now: Millis,
        rng: &mut R,
        config: &Config,
        live_members: usize,
    ) {
        self.sync_pause_ms = sync_pause_ms(config, live_members);
        self.sync_at = now.plus(below(rng, self.sync_pause_ms as usize) as u64);
    }

    /// Compares often at first, then as usual.
    pub(super) fn compare_soon(&mut self, now: Millis, config: &Config) {
        self.sync_pause_ms = config.probe_interval_ms.min(config.sync_interval_ms);
        self.sync_at = self.sync_at.min(now.plus(self.sync_pause_ms));
    }
}

/// What may still be sent in this period.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) fact_bytes: usize,
    pub(super) sync_bytes: usize,
    pub(super) ends: Millis,
}

impl Budget {
    pub(super) const fn new(now: Millis, config: &Config) -> Self {
        Self {
            bytes: config.bytes_per_period_max,
            fact_bytes: config.fact_bytes_per_period_max,
            sync_bytes: config.sync_bytes_per_period_max,
            ends: now.plus(config.probe_interval_ms),
        }
    }
}

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// Does what is due at `now`. Not needed before [`next_wake`](Self::next_wake); being late
    /// harms nobody but delays what we would notice. O(members) when a round of probes begins.
    pub fn poll(&mut self, now: Millis) {
        let late_ms = now.since(self.timers.due_at);
        self.advance(now);
        self.renew_budget();
        if late_ms > self.config.probe_timeout_ms {
            self.excuse_all(late_ms);
        }
        if !self.leaving {
            self.tend_probes();
            self.expire_suspicions();
            self.run_timers();
        }
        if self.timers.gossip_at <= self.now && !self.news.is_empty() {
            self.timers.gossip_at = self.now.plus(self.config.gossip_interval_ms);
            self.gossip();
        }
        self.timers.due_at = self.next_judgement();
    }

    /// When [`poll`](Self::poll) has something to do. O(suspicions and probes in flight).
    pub fn next_wake(&self) -> Millis {
        let gossip_at = if self.news.is_empty() { Millis::NEVER } else { self.timers.gossip_at };
        if self.leaving {
            return gossip_at;
        }
        let timers = &self.timers;
        [
            gossip_at,
            timers.join_at,
            timers.sync_at,
            timers.reconnect_at,
            self.next_expiry(),
            self.next_judgement(),
        ]
        .into_iter()
        .fold(Millis::NEVER, Millis::min)
    }

    /// When a probe starts or fails, or a suspicion ends: it must not be taken late for true.
    fn next_judgement(&self) -> Millis {
        if self.leaving {
            return Millis::NEVER;
        }
        let suspicion_at = self.suspicions.values().map(|suspicion| suspicion.deadline).min();
        let suspicion_at = suspicion_at.unwrap_or(Millis::NEVER);
        self.timers.probe_at.min(self.probes.next_wake()).min(suspicion_at)
    }

    /// Makes sure that the budget is the current period's, also when messages come between polls.
    pub(super) fn renew_budget(&mut self) {
        if self.budget.ends <= self.now {
            self.budget = Budget::new(self.now, &self.config);
        }
    }

    fn run_timers(&mut self) {
        let now = self.now;
        self.expire_sessions();
        if self.timers.join_at <= now {
            self.timers.join_at = now.plus(self.timers.join_pause_ms);
            let doubled = self.timers.join_pause_ms.saturating_mul(2);
            self.timers.join_pause_ms = doubled.min(self.config.reconnect_interval_ms);
            self.try_seeds();
        }
        if self.timers.probe_at <= now {
            self.timers.probe_at = now.plus(period_ms(&self.config, self.health));
            self.start_probe();
        }
        if self.timers.sync_at <= now {
            self.timers.sync_at = now.plus(self.timers.sync_pause_ms);
            let doubled = self.timers.sync_pause_ms.saturating_mul(2);
            self.timers.sync_pause_ms = doubled.min(sync_pause_ms(&self.config, self.live.len()));
            self.compare_with_someone();
        }
        if self.timers.reconnect_at <= now {
            self.timers.reconnect_at = now.plus(self.config.reconnect_interval_ms);
            self.forget_long_gone();
            self.try_someone_down();
        }
    }

    fn expire_suspicions(&mut self) {
        if self.suspicions.is_empty() {
            return;
        }
        let now = self.now;
        let expired: Vec<N> = self
            .suspicions
            .iter()
            .filter(|(_, suspicion)| suspicion.deadline <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in expired {
            self.declare_down(node);
        }
    }

    /// We were not polled for `ms`: what should have happened in that time gets it back.
    fn excuse_all(&mut self, ms: u64) {
        self.health.worse(1, &self.config);
        self.probes.postpone(ms);
        for suspicion in self.suspicions.values_mut() {
            suspicion.started = suspicion.started.plus(ms);
            suspicion.deadline = suspicion.deadline.plus(ms);
        }
    }

    /// A member that is down is never probed by the round; this is how two halves of a cluster
    /// that lost each other find together again.
    fn try_someone_down(&mut self) {
        let down: Vec<N> = self
            .gone
            .iter()
            .copied()
            .filter(|node| self.state(*node) == Some(State::Down))
            .collect();
        if let Some(node) = down.get(below(&mut self.rng, down.len())) {
            self.urge(*node, false);
        }
    }

    fn forget_long_gone(&mut self) {
        let (now, keep_ms) = (self.now, self.config.gone_keep_ms);
        let is_long =
            |node: &N| self.member(*node).is_some_and(|member| now.since(member.since) >= keep_ms);
        let long_gone: Vec<N> = self.gone.iter().copied().filter(is_long).collect();
        for node in long_gone {
            self.forget(node);
        }
    }
}

/// How often a cluster of so many compares.
fn sync_pause_ms(config: &Config, live_members: usize) -> u64 {
    let stretch = (live_members / SYNC_MEMBERS).checked_ilog2().unwrap_or(0);
    config.sync_interval_ms.saturating_mul(u64::from(stretch) + 1)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn large_clusters_compare_less_often() {
        let pauses = [1, 32, 63, 64, 1_024, 10_000].map(|n| sync_pause_ms(&Config::lan(), n));
        assert_eq!(pauses, [10_000, 10_000, 10_000, 20_000, 60_000, 90_000]);
    }
}
