//! Opening a directory: what is on the disk, and what of the log must be replayed.
//!
//! What the log holds goes into level 0 tables before the directory counts as open, and the
//! segments are retired. That makes three hazards go away at once: frames that were written but
//! never synced (the process was killed, or a sync failed and the page cache only pretends) are
//! made durable by writing them anew; a cut tail can never be continued by stale frames behind it;
//! and a crash during recovery only means that it is done again.
//!
//! Invariant: after recovery the state is that of a prefix of the appended batches which contains
//! every durable one, all of it is synced, and no segment that recovery read is written to again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::BlockCache;
use crate::compaction;
use crate::config::Config;
use crate::error::Error;
use crate::fs::Fs;
use crate::head::{Head, head};
use crate::keyspace::Registry;
use crate::memtable::{Memtable, OP_OVERHEAD_BYTES};
use crate::sstable::{TableMeta, table_id};
use crate::version::{Edit, Manifest, Opener, Version};
use crate::view::View;
use crate::wal::frame::{self, Op, Ops};
use crate::wal::reader;
use crate::wal::recycle::{Segment, Segments};

/// Directory of the log, inside the engine's.
const LOG_DIR: &str = "log";
const LOCK_FILE: &str = "LOCK";

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) view: View,
    pub(crate) segments: Arc<Segments>,
    pub(crate) manifest: Manifest,
    pub(crate) opener: Opener,
    /// The next id of a table or number of a segment.
    pub(crate) ids: Arc<AtomicU64>,
    /// Sequence of the last operation; it is synced.
    pub(crate) last_seq: u64,
    /// How often damage of the log was passed over.
    pub(crate) log_damage: u64,
    /// Operations that were in the log alone.
    pub(crate) replayed_ops: u64,
}

/// Creates the directories and takes the lock.
pub(crate) fn claim_dir(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Send + Sync>, Error> {
    let log_dir = dir.join(LOG_DIR);
    fs.create_dir(&log_dir).map_err(|e| Error::io("create", &log_dir, e))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    // A manifest was written after the names had been made durable.
    let is_new = Manifest::exists(fs, dir).is_err();
    for made in std::iter::once(dir).chain(parent).filter(|_| is_new) {
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
    let (manifest, found) = Manifest::open(fs, dir, config.manifest_bytes_max)?;
    let (orphans, orphan_end) = find_orphans(&**fs, dir, &found.version)?;
    let opener = Opener {
        fs: Arc::clone(fs),
        dir: dir.to_path_buf(),
        cache: Arc::new(BlockCache::new(config.cache_bytes_max, config.block_bytes)),
        filters: [&config.filter, &config.filter_upper]
            .into_iter()
            .chain(Registry::policies(config))
            .map(Arc::clone)
            .collect(),
    };
    let spaces = Registry::new(found.next_keyspace, &found.keyspaces, config);
    let ids = Arc::new(AtomicU64::new(found.next_file_id.max(orphan_end).max(1)));
    let segments = Segments::open(
        Arc::clone(fs),
        dir.join(LOG_DIR),
        config.log_segment_bytes,
        config.log_segments_spare_max,
        Arc::clone(&ids),
    )?;
    segments.retire(found.flushed_seq)?;
    let mut replay = Replay {
        config,
        version: found.version.open(&opener)?,
        opener: &opener,
        manifest,
        spaces: &spaces,
        ids: &ids,
        ops: Vec::new(),
        bytes: 0,
        last_seq: found.flushed_seq,
        log_damage: 0,
        replayed_ops: 0,
    };
    let live = segments.live();
    replay.run(&live, &dir.join(LOG_DIR))?;
    if !live.is_empty() {
        // Before a segment loses its name the manifest must know that its number is used up.
        replay.use_up_ids()?;
    }
    let Replay { version, manifest, last_seq, log_damage, replayed_ops, .. } = replay;
    segments.retire_all()?;
    // Only now: had anything been damaged, they might have been worth something.
    for path in orphans {
        fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    let active = Arc::new(Memtable::default());
    Ok(Recovered {
        view: View {
            active,
            sealed: Vec::new(),
            version: Arc::new(version),
            cache: Arc::clone(&opener.cache),
            epoch: 0,
            spaces: Arc::new(spaces),
        },
        segments: Arc::new(segments),
        manifest,
        opener,
        ids,
        last_seq,
        log_damage,
        replayed_ops,
    })
}

/// Table files that no version names: what a crash left of a flush or a compaction. With the least
/// id above theirs.
fn find_orphans(
    fs: &dyn Fs,
    dir: &Path,
    version: &Version<TableMeta>,
) -> Result<(Vec<PathBuf>, u64), Error> {
    let names = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let found = names.iter().filter_map(|name| Some((table_id(name)?, dir.join(name))));
    let orphans: Vec<(u64, PathBuf)> =
        found.filter(|(id, _)| !version.tables().any(|(_, meta)| meta.file_id == *id)).collect();
    let end = orphans.iter().map(|(id, _)| id.saturating_add(1)).max().unwrap_or(0);
    Ok((orphans.into_iter().map(|(_, path)| path).collect(), end))
}

/// The replay of a log.
struct Replay<'a> {
    config: &'a Config,
    opener: &'a Opener,
    manifest: Manifest,
    version: Version,
    spaces: &'a Registry,
    ids: &'a AtomicU64,
    /// What is replayed and not yet flushed: sorted once, as nobody reads it before.
    ops: Vec<(Head, u64, Op)>,
    /// What a memtable of it would be counted as.
    bytes: usize,
    last_seq: u64,
    /// How often damage was passed over.
    log_damage: u64,
    /// Operations that no table had.
    replayed_ops: u64,
}

impl Replay<'_> {
    fn run(&mut self, live: &[Segment], log_dir: &Path) -> Result<(), Error> {
        if live.first().is_some_and(|first| first.first_seq > self.last_seq + 1) {
            self.accept(Error::corrupt(log_dir, 0, "the oldest log segment is missing"))?;
        }
        for (n, segment) in live.iter().enumerate() {
            let end_seq = live.get(n + 1).map(|next| next.first_seq);
            let scan = reader::scan(&*self.opener.fs, segment, end_seq)?;
            if let Some(damage) = scan.damage {
                self.accept(damage)?;
            }
            for frame in &scan.frames {
                if let Err(frame::BadOp) = self.insert(frame) {
                    let what = "a frame's operations do not parse";
                    self.accept(Error::corrupt(&segment.path, frame.offset, what))?;
                }
                if self.bytes >= self.config.memtable_bytes_max {
                    self.flush()?;
                }
            }
            self.last_seq = self.last_seq.max(scan.next_seq - 1);
        }
        self.flush()
    }

    /// Damage in what had been synced: an error, unless the owner has said that it may be passed
    /// over.
    fn accept(&mut self, damage: Error) -> Result<(), Error> {
        if !self.config.accept_log_damage {
            return Err(damage);
        }
        self.log_damage += 1;
        Ok(())
    }

    /// Inserts what of a frame is not flushed yet: a memtable may have ended inside a frame.
    fn insert(&mut self, frame: &reader::Frame) -> Result<(), frame::BadOp> {
        let flushed = (self.last_seq + 1).saturating_sub(frame.first_seq);
        if flushed >= u64::from(frame.ops) {
            return Ok(());
        }
        let before = self.ops.len();
        for (op, seq) in Ops::new(frame.payload.clone()).zip(frame.first_seq..) {
            match op {
                Ok(op) if seq > self.last_seq => self.ops.push((head(op.key()), seq, op)),
                Ok(_) => {}
                Err(bad) => {
                    self.ops.truncate(before);
                    return Err(bad);
                }
            }
        }
        let new = self.ops.len() - before;
        if new as u64 + flushed != u64::from(frame.ops) {
            self.ops.truncate(before);
            return Err(frame::BadOp);
        }
        self.bytes += frame.payload.len() + new * OP_OVERHEAD_BYTES;
        self.replayed_ops += new as u64;
        self.last_seq = frame.first_seq + u64::from(frame.ops) - 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(&(_, flushed_seq, _)) = self.ops.last() else { return Ok(()) };
        let mut ops = std::mem::take(&mut self.ops);
        self.bytes = 0;
        let keys = |a: &(Head, u64, Op), b: &(Head, u64, Op)| {
            a.0.cmp(&b.0).then_with(|| a.2.key().cmp(b.2.key()))
        };
        ops.sort_unstable_by(|a, b| keys(a, b).then(b.1.cmp(&a.1)));
        // The newest of each key comes first.
        ops.dedup_by(|later, kept| keys(later, kept).is_eq());
        let mut context = compaction::Context {
            fs: &*self.opener.fs,
            dir: &self.opener.dir,
            config: self.config,
            spaces: self.spaces,
            snapshots: &[],
            filter: None,
            next_file_id: &mut || self.ids.fetch_add(1, Ordering::Relaxed),
            stop: &|| false,
            changed: Vec::new(),
        };
        let mut edit = compaction::flush_each(flushed_seq, &mut context, |add| {
            ops.iter().try_for_each(|(_, seq, op)| add(op.key(), *seq, op.value_slice()))
        })?;
        edit.next_file_id = Some(self.ids.load(Ordering::Relaxed));
        self.manifest.append(&edit)?;
        self.version = self.version.apply(&edit, |meta| self.opener.open(meta))?;
        Ok(())
    }

    fn use_up_ids(&mut self) -> Result<(), Error> {
        let next_file_id = Some(self.ids.load(Ordering::Relaxed));
        self.manifest.append(&Edit { next_file_id, ..Edit::default() })
    }
}
