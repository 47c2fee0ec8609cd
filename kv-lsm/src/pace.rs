//! Pacing: writers are slowed down a little before something is full, instead of being stopped when
//! it is.
//!
//! When the memtables in line or level 0 are near their bounds, writers may bring so many bytes in
//! each millisecond as the last flush, or the last compaction of level 0, has taken away; who
//! brings more sleeps for one. So the debt stays where it is, and nobody waits for a whole flush.
//! (RocksDB's delayed writes and TigerBeetle's beats are the models; a sleep is never longer than
//! the step.)
//!
//! Invariant: this only delays. What is full is decided elsewhere, and still stops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::config::Config;
use crate::view::View;

/// The only length of a sleep.
const STEP: Duration = Duration::from_millis(1);

/// How fast writers may be.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes in a millisecond; [`u64::MAX`] when nothing is near its bound.
    allowed: AtomicU64,
    /// Bytes since the last sleep.
    owed: AtomicU64,
    /// What a flush and a compaction of level 0 took away in a millisecond; 0 before the first.
    flushed: AtomicU64,
    compacted: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            allowed: AtomicU64::new(u64::MAX),
            owed: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
        }
    }
}

impl Pace {
    /// Notes that a memtable of so many bytes was flushed.
    pub(crate) fn note_flush(&self, bytes: u64, took: Duration) {
        self.flushed.store(rate(bytes, took), Ordering::Relaxed);
    }

    /// Notes that so many bytes of memtables, by now tables, left level 0.
    pub(crate) fn note_compaction(&self, bytes: u64, took: Duration) {
        self.compacted.store(rate(bytes, took), Ordering::Relaxed);
    }

    /// Looks anew at what is near its bound.
    pub(crate) fn look(&self, view: &View, config: &Config) {
        let slow = |near: bool, rate: &AtomicU64| match rate.load(Ordering::Relaxed) {
            rate if near && rate > 0 => rate,
            _ => u64::MAX,
        };
        let in_line = view.sealed.len() >= config.memtables_sealed_max;
        let level0 = view.version.level(0).len();
        let half = config.level0_tables_compact.midpoint(config.level0_tables_max);
        let allowed = slow(in_line, &self.flushed).min(slow(level0 > half, &self.compacted));
        self.allowed.store(allowed, Ordering::Relaxed);
    }

    /// Pays for bytes that were brought in: mostly with nothing, now and then with a step.
    pub(crate) fn pay(&self, bytes: u64) {
        let allowed = self.allowed.load(Ordering::Relaxed);
        if allowed == u64::MAX {
            return;
        }
        if self.owed.fetch_add(bytes, Ordering::Relaxed) + bytes >= allowed {
            self.owed.store(0, Ordering::Relaxed);
            thread::sleep(STEP);
        }
    }
}

fn rate(bytes: u64, took: Duration) -> u64 {
    (bytes / (took.as_millis() as u64).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_brings_more_than_is_taken_away_sleeps() {
        let pace = Pace::default();
        let began = Instant::now();
        (0..1_000_000).for_each(|_| pace.pay(1 << 20));
        assert!(pace.owed.load(Ordering::Relaxed) == 0 && began.elapsed() < Duration::from_secs(5));
        pace.note_flush(1_000, Duration::from_millis(10));
        pace.allowed.store(pace.flushed.load(Ordering::Relaxed), Ordering::Relaxed);
        let began = Instant::now();
        (0..20).for_each(|_| pace.pay(50));
        assert!(began.elapsed() >= 10 * STEP);
    }
}
