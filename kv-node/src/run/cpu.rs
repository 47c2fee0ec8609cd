//! How much CPU the process uses, told to its node each second, where the system says.

use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::node::Node;

/// Rest between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Milliseconds in which CPU time is counted: a hundredth of a second on every Linux.
const TICK_MS: u64 = 10;

/// Tells it until the node is gone.
pub(super) async fn tell(node: Weak<Node>, threads: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(threads).max(1);
    let mut before = (Instant::now(), used_ms());
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (Instant::now(), used_ms());
        let passed_ms = u64::try_from((now.0 - before.0).as_millis()).unwrap_or(u64::MAX).max(1);
        let used =
            before.1.zip(now.1).map(|(was, is)| per_mille(is - was.min(is), passed_ms, cores));
        before = now;
        let Some(node) = node.upgrade() else { return };
        if let Some(coordinator) = node.coordinator() {
            coordinator.load().tell_cpu(used);
        }
    }
}

fn per_mille(used_ms: u64, passed_ms: u64, cores: usize) -> u16 {
    let room_ms = passed_ms.saturating_mul(cores as u64).max(1);
    u16::try_from(used_ms.saturating_mul(1_000) / room_ms).unwrap_or(u16::MAX)
}

/// Milliseconds of CPU that this process has used.
fn used_ms() -> Option<u64> {
    ticks_in(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks * TICK_MS)
}

/// User and system time, behind the name in parentheses, which may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "77 (kv) node (1) S 1 77 77 0 -1 4194304 900 0 0 0 120 34 0 0 20 0 9 0 5";
        assert_eq!(ticks_in(stat), Some(154));
        assert_eq!(ticks_in("77 (kv-node) S 1"), None);
        assert_eq!(per_mille(500, 1_000, 1), 500);
        assert_eq!(per_mille(500, 1_000, 2), 250);
        assert_eq!(per_mille(90_000_000, 1_000, 1), u16::MAX);
    }
}
