//! What Linux knows of this process and its files: memory, CPU time, bytes written, page cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::store::Result;

/// A process that uses less than this part of a core has come to rest.
const REST_CPU_SHARE: f64 = 0.05;
const REST_LOOK: Duration = Duration::from_millis(250);

/// The value of a line `name: number ...` of a file in /proc/self.
fn figure(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes that this process has had written to the disk.
pub(crate) fn written_bytes() -> u64 {
    figure("io", "write_bytes")
}

/// The most memory that was resident since [`forget_peak`].
pub(crate) fn peak_rss_bytes() -> u64 {
    figure("status", "VmHWM") << 10
}

/// Begins to look for the peak anew.
pub(crate) fn forget_peak() {
    // Where the kernel does not offer it, the peak is that of the whole life: never too little.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// CPU time of all threads, in seconds, to a hundredth.
pub(crate) fn cpu_seconds() -> f64 {
    /// Linux's USER_HZ, the same on every architecture that we meet.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets, which may hold anything: the 12th and 13th field.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks =
        fields.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// Waits until the process has come to rest, for so long at most; gives the seconds waited.
pub(crate) fn rest(at_most: Duration) -> f64 {
    let began = Instant::now();
    let mut quiet = 0;
    while quiet < 2 && began.elapsed() < at_most {
        let before = (cpu_seconds(), written_bytes());
        thread::sleep(REST_LOOK);
        let used = cpu_seconds() - before.0;
        let is_quiet =
            used < REST_CPU_SHARE * REST_LOOK.as_secs_f64() && written_bytes() == before.1;
        quiet = if is_quiet { quiet + 1 } else { 0 };
    }
    began.elapsed().as_secs_f64()
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found
}

/// What the files of a directory take on the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    files(dir)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|meta| meta.blocks() << 9)
        .sum()
}

/// Syncs the files of a directory and drops them from the page cache.
pub(crate) fn chill(dir: &Path) -> Result<()> {
    for path in files(dir) {
        let file = File::open(&path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
