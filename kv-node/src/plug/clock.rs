//! Time as the node sees it: a steady clock for waiting, a wall clock for stamps.
//!
//! No other file of this crate may read a clock. Deadlines travel as remaining milliseconds
//! counted on this clock, so simulated waiting shrinks them as real waiting does.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

/// Where a node reads time and waits.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since some fixed point, never going back.
    fn steady_us(&self) -> u64;

    /// Milliseconds since 1970 as the operating system believes them; may jump either way.
    fn wall_ms(&self) -> u64;

    /// Returns after `duration` on the steady clock.
    async fn sleep(&self, duration: Duration);

    /// Milliseconds on the steady clock.
    fn steady_ms(&self) -> u64 {
        self.steady_us() / 1_000
    }
}

/// The operating system's clocks, with tokio's timer.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose steady reading starts at zero now.
    #[expect(clippy::new_without_default, reason = "reading the time is not a default")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn steady_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that follows tokio's time, which tests pause and advance, plus a settable skew.
///
/// `wall_ms` is `epoch_ms` plus the tokio time that has passed, plus the skew.
#[derive(Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
    epoch_ms: u64,
    skew_ms: std::sync::atomic::AtomicI64,
}

impl TokioClock {
    /// A clock whose wall reads `epoch_ms` now. Must be made inside a tokio runtime.
    pub fn new(epoch_ms: u64) -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            epoch_ms,
            skew_ms: std::sync::atomic::AtomicI64::new(0),
        }
    }

    /// Moves the wall clock to `skew_ms` milliseconds beside the true time.
    pub fn skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, std::sync::atomic::Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn steady_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        let true_ms = self.epoch_ms + self.steady_us() / 1_000;
        true_ms.saturating_add_signed(self.skew_ms.load(std::sync::atomic::Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
