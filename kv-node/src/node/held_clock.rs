//! The wall clock as this node goes by it: the operating system's, but not ahead with a jump that
//! no majority has confirmed.
//!
//! A clock that jumps an hour ahead for two seconds would leave a dot an hour ahead, end values
//! that have half an hour left, and be told to nobody in time. So between two looks at whether it
//! is sound (`clock_check`) the wall clock may gain `GAIN_MS_MAX` on the steady one, and no more;
//! a sound one is followed wherever it is, back at once in any case. This is what "runs on the
//! monotonic clock, slewed to the wall clock" comes to without a rate: a machine that slept is
//! right again as soon as its peers were heard.
//!
//! Invariant: without a sound look in between, this clock advances with the steady one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::clock_check::Now;
use crate::plug::clock::Clock;

/// What the wall clock may gain on the steady one between two looks.
pub(crate) const GAIN_MS_MAX: u64 = 1_000;

pub(super) struct HeldClock {
    os: Arc<dyn Clock>,
    /// The wall clock less the steady one, at most.
    ahead_ms_max: AtomicI64,
}

impl HeldClock {
    /// Begins with the operating system's clock as it is.
    pub(super) fn new(os: Arc<dyn Clock>) -> Self {
        let held = Self { os, ahead_ms_max: AtomicI64::new(0) };
        held.believe(held.os_now());
        held
    }

    /// The clocks of the operating system.
    pub(super) fn os_now(&self) -> Now {
        Now { wall_ms: self.os.wall_ms(), steady_ms: self.os.steady_ms() }
    }

    /// The clocks were sound at that moment.
    pub(super) fn believe(&self, now: Now) {
        let ahead_ms = now.wall_ms.saturating_add(GAIN_MS_MAX) as i64 - now.steady_ms as i64;
        self.ahead_ms_max.store(ahead_ms, Ordering::Release);
    }
}

#[async_trait]
impl Clock for HeldClock {
    fn steady_us(&self) -> u64 {
        self.os.steady_us()
    }

    fn wall_ms(&self) -> u64 {
        let ahead_ms_max = self.ahead_ms_max.load(Ordering::Acquire);
        self.os.wall_ms().min(self.os.steady_ms().saturating_add_signed(ahead_ms_max))
    }

    async fn sleep(&self, duration: Duration) {
        self.os.sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plug::clock::TokioClock;

    const EPOCH_MS: u64 = 1_700_000_000_000;
    const HOUR_MS: u64 = 3_600_000;

    #[tokio::test(start_paused = true)]
    async fn a_jump_ahead_is_followed_when_it_is_sound_and_one_back_at_once() {
        let os = Arc::new(TokioClock::new(EPOCH_MS));
        let held = HeldClock::new(Arc::clone(&os) as Arc<dyn Clock>);
        assert_eq!(held.wall_ms(), EPOCH_MS);
        os.skew(HOUR_MS as i64);
        assert_eq!(held.wall_ms(), EPOCH_MS + GAIN_MS_MAX);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(held.wall_ms(), EPOCH_MS + GAIN_MS_MAX + 60_000, "it goes on");
        held.believe(held.os_now());
        assert_eq!(held.wall_ms(), EPOCH_MS + HOUR_MS + 60_000);
        os.skew(-5_000);
        assert_eq!(held.wall_ms(), EPOCH_MS + 55_000);
        os.skew(HOUR_MS as i64 * 2);
        held.believe(Now { wall_ms: EPOCH_MS + 60_000, steady_ms: held.steady_ms() });
        assert_eq!(held.wall_ms(), EPOCH_MS + 60_000 + GAIN_MS_MAX, "nor is an old leave kept");
    }
}
