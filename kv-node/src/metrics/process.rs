//! What the system says of this process: CPU, memory, open files. Linux only; elsewhere nothing is
//! known and nothing is shown.

use std::fs;

/// Milliseconds in which CPU time is counted: a hundredth of a second on every Linux.
const TICK_MS: u64 = 10;

/// Milliseconds of CPU that this process has used.
pub(crate) fn cpu_ms() -> Option<u64> {
    ticks_in(&fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks * TICK_MS)
}

/// Bytes of it that are in RAM.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Files and sockets that it has open.
pub(super) fn open_files() -> Option<u64> {
    // The one that is read does not count.
    fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64)
}

/// How many it may have.
pub(super) fn open_files_max() -> Option<u64> {
    most_files_in(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// User and system time, behind the name in parentheses, which may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The limit that holds, none if there is none.
fn most_files_in(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "77 (kv) node (1) S 1 77 77 0 -1 4194304 900 0 0 0 120 34 0 0 20 0 9 0 5";
        assert_eq!(ticks_in(stat), Some(154));
        assert_eq!(ticks_in("77 (kv-node) S 1"), None);
    }

    #[test]
    fn the_limit_of_files_is_the_one_that_holds() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(most_files_in(limits), Some(1_024));
        assert_eq!(most_files_in("Max open files            unlimited    unlimited   files"), None);
    }
}
