//! What the machine can do to a real process and a real disk: `kill -9` in the middle of
//! everything, and a power cut of the file system beneath.
//!
//! The process is this program again (`writer`), which commits with `Sync` from several threads
//! and prints what was acknowledged after it was. Whoever ended it reads these lines to their end,
//! opens the directory and holds the engine to them: everything acknowledged is there, each
//! thread's batches are a prefix of those that it began, whole and unchanged.
//!
//! Invariant: an acknowledgement counts only if its line came through whole.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints take for other code"
)]

mod device;
mod kill;
mod power;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// More rounds when long tests are asked for.
fn rounds(usual: u32, long: u32) -> u32 {
    if std::env::var_os("KV_TEST_LONG").is_some() { long } else { usual }
}

/// A directory of its own beneath the build's, that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
