//! The machine that a figure was measured on; a figure without it means nothing.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::cmd;
use crate::error::{Error, Result};

const SYNCS: usize = 101;

/// What of a machine decides how fast a store is on it.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    memory_gib: f64,
    kernel: String,
    /// Who else was at work, by the kernel's one-minute average when it began.
    load: String,
    /// Median time of a 4 KiB write with fdatasync in the data's directory.
    sync_us: u128,
    date: String,
    commit: String,
}

impl Machine {
    /// Looks at this machine; `data` is a directory on the disk that is measured.
    pub(crate) fn look(data: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--dirty", "--abbrev=10"]).current_dir(cmd::root());
        Ok(Self {
            cores: thread::available_parallelism().map_or(0, usize::from),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            memory_gib: kib(&read("/proc/meminfo"), "MemTotal") / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
            sync_us: sync_time(data)?,
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
            commit: cmd::read(&mut git).unwrap_or_default().trim().to_owned(),
        })
    }
}

impl Machine {
    /// The day, and what is built.
    pub(crate) fn day_and_commit(&self) -> String {
        format!("{} {}", self.date, self.commit)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, cpu, memory_gib, kernel, load, sync_us, date, commit } = self;
        write!(
            f,
            "{date}, commit {commit}. {cores} cores ({cpu}), {memory_gib:.1} GiB, Linux {kernel}; \
             4 KiB write with fdatasync {sync_us} µs; load average before {load}."
        )
    }
}

/// Memory that can be used without anybody else losing any, where the system says so.
pub(super) fn memory_available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = field(&meminfo, "MemAvailable")?.trim_end_matches(" kB").parse::<u64>().ok()?;
    Some(kib.saturating_mul(1_024))
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn kib(text: &str, name: &str) -> f64 {
    let value = field(text, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(f64::NAN)
}

fn sync_time(dir: &Path) -> Result<u128> {
    let path = dir.join("sync.probe");
    let mut file = fs::File::create(&path).map_err(Error::io(&path))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(Error::io(&path))?;
        times.push(began.elapsed().as_micros());
    }
    fs::remove_file(&path).map_err(Error::io(&path))?;
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

/// Seconds since 1970 as `2026-02-28`, by Howard Hinnant's `civil_from_days`.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_772_236_799), "2026-02-27");
        assert_eq!(date(4_102_444_800), "2100-01-01");
    }

    #[test]
    fn proc_files_are_read_by_field() {
        let text = "MemTotal:       16777216 kB\nMemFree: 1 kB\n";
        assert!((kib(text, "MemTotal") - 16_777_216.0).abs() < 0.5);
        assert!(kib(text, "Swap").is_nan());
        assert_eq!(field("model name\t: Some CPU\n", "model name"), Some("Some CPU"));
    }

    #[test]
    fn a_sync_takes_some_time() {
        assert!(sync_time(&std::env::temp_dir()).is_ok());
    }
}
