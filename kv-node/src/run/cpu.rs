//! How much CPU the process uses, told to its node each second, where the system says.

use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::metrics::process::cpu_ms;
use crate::node::Node;

/// Rest between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Tells it until the node is gone.
pub(super) async fn tell(node: Weak<Node>, threads: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(threads).max(1);
    let mut before = (Instant::now(), cpu_ms());
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (Instant::now(), cpu_ms());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_all_cores_and_never_too_large_to_tell() {
        assert_eq!(per_mille(500, 1_000, 1), 500);
        assert_eq!(per_mille(500, 1_000, 2), 250);
        assert_eq!(per_mille(90_000_000, 1_000, 1), u16::MAX);
    }
}
