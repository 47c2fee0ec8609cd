//! The request path's own detector: how fast each peer answers, and whom to ask last.
//!
//! It is fed by the calls between replicas and steers reads only: a replica that is late, by what
//! it is used to or by what others take, is asked where the others are not enough; and a read whose
//! first replica takes twice as long as 95 of 100 of its recent answers asks one more (Dean and
//! Barroso, "The tail at scale", 2013). Twice: what is learnt begins when a call is sent, and a
//! read also waits for its lane and for the runtime; on a busy node the answer's time alone would
//! ask one more for what is only in line here. It never decides who is a member, nor who counts as
//! down: that is membership's and `rpc::link`'s.
//!
//! Learning happens under each link's lock. What requests read are a few relaxed atomics for each
//! peer, looked at once for a batch.
//!
//! Invariant: of the reads that were begun at most one in twenty is asked of one replica more than
//! needed, beside a bounded number that was saved up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use kv_client::NodeId;
use kv_gossip::Millis;
use kv_gossip::detector::{FailureDetector, Latency, PhiAccrual, PhiConfig};
use parking_lot::RwLock;

/// A peer that leaves a call unanswered is never late before this, whatever it is used to.
const LATE_US_MIN: u64 = 10_000;
/// It is late after so many times what 95 of 100 answers take.
const LATE_TIMES: u64 = 8;
/// A peer is slow whose answers take so many times as long as the fastest one's,
const SLOW_TIMES: u64 = 3;
/// and so much longer at least.
const SLOW_US_MIN: u64 = 2_000;
/// What was learnt of a peer's speed counts for so long: then it is asked again to find out.
const LEARNT_US_MAX: u64 = 1_000_000;
/// Quantiles are taken anew after so many answers.
const ANSWERS_PER_QUANTILE: u32 = 16;
/// A read asks one replica more after so many times what 95 of 100 answers take.
const HEDGE_TIMES: u64 = 2;
/// No read asks one replica more before this: timers are no finer.
const HEDGE_US_MIN: u64 = 1_000;
/// One read more for so many begun: 5 %.
const READS_PER_HEDGE: i64 = 20;
/// Reads more that are saved up, at most.
const HEDGES_SAVED_MAX: i64 = 1_024;
/// Reads more that may be asked at once after the start.
const HEDGES_SAVED_FIRST: i64 = 64;

/// What requests look at of one peer. Times are of the node's steady clock; 0 is "none".
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "each is a time, in its unit")]
pub(crate) struct Gauge {
    waiting_since_us: AtomicU64,
    mean_us: AtomicU64,
    p95_us: AtomicU64,
    learnt_at_us: AtomicU64,
}

/// What is learnt of one peer, under its link's lock.
#[derive(Debug)]
pub(crate) struct Learnt {
    reads: Latency,
    phi: PhiAccrual,
    answers: u32,
    gauge: Arc<Gauge>,
}

impl Learnt {
    pub(crate) fn new(gauge: Arc<Gauge>) -> Self {
        let phi = PhiAccrual::new(PhiConfig { deviation_ms_min: 10, ..PhiConfig::default() });
        Self { reads: Latency::new(1_024), phi, answers: 0, gauge }
    }

    /// A call is sent and none was in flight: the peer had nothing to answer until now.
    pub(crate) fn asked(&mut self, now_us: u64) {
        self.phi.rested(Millis::new(now_us / 1_000));
    }

    /// It answered a call.
    pub(crate) fn heard(&mut self, now_us: u64) {
        self.phi.heard(Millis::new(now_us / 1_000));
    }

    /// It answered a call with reads in it after `us` microseconds.
    pub(crate) fn read(&mut self, us: u64, now_us: u64) {
        self.reads.record(us);
        if self.answers.is_multiple_of(ANSWERS_PER_QUANTILE) {
            let p95_us = self.reads.quantile_us(950).unwrap_or(0);
            self.gauge.p95_us.store(p95_us, Ordering::Relaxed);
        }
        self.answers = self.answers.wrapping_add(1);
        let mean_us = self.reads.mean_us().unwrap_or(0);
        self.gauge.mean_us.store(mean_us.max(1), Ordering::Relaxed);
        self.gauge.learnt_at_us.store(now_us, Ordering::Relaxed);
    }

    /// Since when a call waits with nothing heard since.
    pub(crate) fn waiting_since(&self, since_us: Option<u64>) {
        self.gauge.waiting_since_us.store(since_us.map_or(0, |us| us.max(1)), Ordering::Relaxed);
    }

    /// What 95 of 100 recent calls with reads did not exceed.
    pub(crate) fn p95_us(&self) -> Option<u64> {
        self.reads.quantile_us(950)
    }

    /// How surprising the silence is, in hundredths of phi; 0 while nothing is asked.
    pub(crate) fn phi_hundredths(&self, waiting: bool, now_us: u64) -> u32 {
        let phi = if waiting { self.phi.suspicion(Millis::new(now_us / 1_000)) } else { 0.0 };
        #[expect(clippy::cast_sign_loss, reason = "clamped to what is not negative")]
        let hundredths = (phi * 100.0).clamp(0.0, 1e9) as u32;
        hundredths
    }
}

impl Gauge {
    fn is_late(&self, now_us: u64) -> bool {
        let since_us = self.waiting_since_us.load(Ordering::Relaxed);
        let usual_us = self.p95_us.load(Ordering::Relaxed);
        let limit_us = usual_us.saturating_mul(LATE_TIMES).max(LATE_US_MIN);
        since_us > 0 && now_us.saturating_sub(since_us) > limit_us
    }

    /// The mean, if it was learnt lately.
    fn mean_us(&self, now_us: u64) -> Option<u64> {
        let age_us = now_us.saturating_sub(self.learnt_at_us.load(Ordering::Relaxed));
        let mean_us = self.mean_us.load(Ordering::Relaxed);
        (mean_us > 0 && age_us < LEARNT_US_MAX).then_some(mean_us)
    }
}

/// The gauges of all peers, and how many reads more may be asked.
#[derive(Debug)]
pub struct Detector {
    gauges: RwLock<Arc<Gauges>>,
    /// Reads begun that no read more was asked for: one more is allowed for `READS_PER_HEDGE`.
    saved: AtomicI64,
}

type Gauges = Vec<(NodeId, Arc<Gauge>)>;

impl Default for Detector {
    fn default() -> Self {
        let saved = AtomicI64::new(HEDGES_SAVED_FIRST * READS_PER_HEDGE);
        Self { gauges: RwLock::default(), saved }
    }
}

impl Detector {
    /// A peer's gauge, new if there was none.
    pub(crate) fn add(&self, node: NodeId) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        let mut gauges = self.gauges.write();
        let mut next = Gauges::clone(&gauges);
        next.retain(|(other, _)| *other != node);
        next.push((node, Arc::clone(&gauge)));
        *gauges = Arc::new(next);
        gauge
    }

    /// Forgets a peer.
    pub(crate) fn remove(&self, node: NodeId) {
        let mut gauges = self.gauges.write();
        let mut next = Gauges::clone(&gauges);
        next.retain(|(other, _)| *other != node);
        *gauges = Arc::new(next);
    }

    /// Those that reads ask last: late with an answer, or much slower than the fastest.
    pub fn slow(&self, now_us: u64) -> Vec<NodeId> {
        let gauges = Arc::clone(&self.gauges.read());
        let means = gauges.iter().filter_map(|(_, gauge)| gauge.mean_us(now_us));
        let fastest_us = means.min().unwrap_or(u64::MAX / SLOW_TIMES);
        let limit_us = (fastest_us * SLOW_TIMES).max(fastest_us + SLOW_US_MIN);
        let is_slow = |gauge: &Gauge| {
            gauge.is_late(now_us) || gauge.mean_us(now_us).is_some_and(|mean| mean > limit_us)
        };
        gauges.iter().filter(|(_, gauge)| is_slow(gauge)).map(|(node, _)| *node).collect()
    }

    /// After how long without an answer from `nodes` one replica more is asked: twice the longest
    /// of what 95 of 100 of their recent answers took, `most_us` where that is not known.
    pub fn hedge_us(&self, nodes: impl Iterator<Item = NodeId>, most_us: u64) -> u64 {
        let gauges = Arc::clone(&self.gauges.read());
        let usual = |node: NodeId| {
            let gauge = gauges.iter().find(|(other, _)| *other == node);
            gauge.map_or(0, |(_, gauge)| gauge.p95_us.load(Ordering::Relaxed))
        };
        let p95s = nodes.map(|node| match usual(node) {
            0 => most_us,
            us => us.saturating_mul(HEDGE_TIMES),
        });
        p95s.max().unwrap_or(most_us).clamp(HEDGE_US_MIN.min(most_us), most_us)
    }

    /// So many reads were begun.
    pub fn begun(&self, reads: usize) {
        let full = HEDGES_SAVED_MAX * READS_PER_HEDGE;
        // Two at once may go over the bound by their own reads; nobody counts on the last one.
        if self.saved.load(Ordering::Relaxed) < full {
            self.saved.fetch_add((reads as i64).min(full), Ordering::Relaxed);
        }
    }

    /// Takes the right to one read more, if there is one.
    pub fn may_hedge(&self) -> bool {
        let take = |saved: i64| (saved >= READS_PER_HEDGE).then_some(saved - READS_PER_HEDGE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn taught(detector: &Detector, node: NodeId, us: u64, now_us: u64) -> Learnt {
        let mut learnt = Learnt::new(detector.add(node));
        (0..200).for_each(|_| learnt.read(us, now_us));
        learnt
    }

    #[test]
    fn who_does_not_answer_is_late_by_what_it_is_used_to() {
        let detector = Detector::default();
        let now = 50_000_000;
        let quick = taught(&detector, A, 500, now);
        let steady = taught(&detector, B, 2_000, now);
        quick.waiting_since(Some(now));
        steady.waiting_since(Some(now));
        assert_eq!(detector.slow(now + 9_000), []);
        assert_eq!(detector.slow(now + 11_000), [A], "eight times 0.5 ms, ten at least");
        assert_eq!(detector.slow(now + 20_000), [A, B]);
        quick.waiting_since(None);
        assert_eq!(detector.slow(now + 20_000), [B], "it answered");
        detector.remove(B);
        assert_eq!(detector.slow(now + 20_000), []);
    }

    #[test]
    fn who_is_much_slower_than_others_is_asked_last_until_that_is_old() {
        let detector = Detector::default();
        let now = 50_000_000;
        let _quick = taught(&detector, A, 400, now);
        let mut slow = taught(&detector, B, 2_300, now);
        assert_eq!(detector.slow(now), [], "not two milliseconds slower");
        (0..200).for_each(|_| slow.read(5_000, now));
        assert_eq!(detector.slow(now), [B]);
        assert_eq!(detector.slow(now + LEARNT_US_MAX), [], "it may have become faster");
    }

    #[test]
    fn one_more_is_asked_when_the_first_takes_longer_than_it_mostly_does() {
        let detector = Detector::default();
        assert_eq!(detector.hedge_us([A].into_iter(), 50_000), 50_000, "nothing is known of it");
        let mut learnt = Learnt::new(detector.add(A));
        (0..1_000).for_each(|n| learnt.read(if n % 40 == 7 { 30_000 } else { 4_000 }, 1));
        let us = detector.hedge_us([A].into_iter(), 50_000);
        assert!((8_000..10_000).contains(&us), "{us}");
        assert_eq!(detector.hedge_us([A, B].into_iter(), 50_000), 50_000, "the longer of two");
        (0..2_000).for_each(|_| learnt.read(90_000, 1));
        assert_eq!(detector.hedge_us([A].into_iter(), 50_000), 50_000, "never later than that");
    }

    #[test]
    fn one_read_in_twenty_may_be_asked_of_one_more() {
        let detector = Detector::default();
        let spend = || (0..1_000_000).take_while(|_| detector.may_hedge()).count();
        assert_eq!(spend(), 64);
        detector.begun(1_999);
        assert_eq!(spend(), 99);
        (0..1_000).for_each(|_| detector.begun(1_000));
        assert!((1_024..1_100).contains(&spend()), "what is saved up is bounded");
    }

    #[test]
    fn phi_rises_while_a_call_waits_only() {
        let mut learnt = Learnt::new(Arc::default());
        for call in 0..100 {
            learnt.asked(call * 1_000_000);
            learnt.heard(call * 1_000_000 + 2_000);
        }
        let later = 200_000_000;
        assert_eq!(learnt.phi_hundredths(false, later), 0);
        learnt.asked(later);
        let phi = |ms: u64| learnt.phi_hundredths(true, later + ms * 1_000);
        assert!(phi(2) < 100 && phi(200) > 800, "{} {}", phi(2), phi(200));
    }
}
