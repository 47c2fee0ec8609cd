//! The production node as a process of the tests, with a wall clock that may be wrong.
//!
//! It exists so that `cargo test` finds a node beside its tests. `CLOCK_SKEW_MS` says how far its
//! wall clock is from the machine's, in milliseconds, either way.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv_node::MainParts;
use kv_node::plug::clock::{Clock, SystemClock};

struct SkewedClock {
    system: SystemClock,
    skew_ms: i64,
}

#[async_trait]
impl Clock for SkewedClock {
    fn steady_us(&self) -> u64 {
        self.system.steady_us()
    }

    fn wall_ms(&self) -> u64 {
        self.system.wall_ms().saturating_add_signed(self.skew_ms)
    }

    async fn sleep(&self, duration: Duration) {
        self.system.sleep(duration).await;
    }
}

fn main() -> ExitCode {
    let skew_ms =
        std::env::var("CLOCK_SKEW_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let clock = Arc::new(SkewedClock { system: SystemClock::new(), skew_ms });
    kv_node::main_with(std::env::args_os(), MainParts { clock, ..MainParts::default() })
}
