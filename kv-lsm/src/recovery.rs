//! Opening a directory: what is on the disk, and what of the log must be replayed.
//!
//! Invariant: after recovery the state is that of a prefix of the appended batches which contains
//! every durable one, and a new segment begins with the next frame: a segment that recovery read
//! is never written to again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::engine::View;
use crate::error::Error;
use crate::fs::{Fs, OpenMode};
use crate::memtable::Memtable;
use crate::wal::reader;
use crate::wal::recycle::Segments;

/// Directory of the log, inside the engine's.
const LOG_DIR: &str = "log";
const LOCK_FILE: &str = "LOCK";

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) view: View,
    pub(crate) segments: Arc<Segments>,
    /// Sequence of the next operation.
    pub(crate) next_seq: u64,
}

/// Creates the directories and takes the lock.
pub(crate) fn claim_dir(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Send + Sync>, Error> {
    let log_dir = dir.join(LOG_DIR);
    fs.create_dir(&log_dir).map_err(|e| Error::io("create", &log_dir, e))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    for made in std::iter::once(dir).chain(parent) {
        fs.sync_dir(made).map_err(|e| Error::io("sync", made, e))?;
    }
    let path = dir.join(LOCK_FILE);
    fs.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: path.clone() },
        _ => Error::io("lock", &path, e),
    })
}

/// Reads the directory back.
pub(crate) fn recover(fs: &Arc<dyn Fs>, dir: &Path, config: &Config) -> Result<Recovered, Error> {
    let flushed_seq = 0;
    let log_dir: PathBuf = dir.join(LOG_DIR);
    let segments = Segments::open(
        Arc::clone(fs),
        log_dir.clone(),
        config.log_segment_bytes,
        config.log_segments_spare_max,
    )?;
    let active = Arc::new(Memtable::default());
    let live = segments.live();
    let mut next_seq = flushed_seq + 1;
    if live.first().is_some_and(|first| first.first_seq > next_seq) {
        return Err(Error::corrupt(&log_dir, 0, "the oldest log segment is missing"));
    }
    for (n, segment) in live.iter().enumerate() {
        let end_seq = live.get(n + 1).map(|next| next.first_seq);
        let scan = reader::scan(&**fs, segment, end_seq)?;
        for (first_seq, ops, payload) in &scan.frames {
            if first_seq + u64::from(*ops) <= next_seq {
                continue;
            }
            let inserted = active.insert(*first_seq, payload, 0);
            if inserted != Ok(*ops) {
                return Err(Error::corrupt(&segment.path, 0, "a frame's operations do not parse"));
            }
        }
        next_seq = next_seq.max(scan.next_seq);
        let file = fs
            .open(&segment.path, OpenMode::Write)
            .map_err(|e| Error::io("open", &segment.path, e))?;
        file.sync_data().map_err(|e| Error::io("sync", &segment.path, e))?;
    }
    Ok(Recovered {
        view: View { active, sealed: Vec::new() },
        segments: Arc::new(segments),
        next_seq,
    })
}
