//! What the engine's callers and threads share, and the rules of appending: when one must wait,
//! when the memtable is sealed, what a failure does.
//!
//! Invariant: no file system call is made under the commit lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::commit::{Batch, Commit, Durability, Sleep};
use crate::config::{Config, Threads};
use crate::error::Error;
use crate::fs::Fs;
use crate::memtable::{Memtable, OP_OVERHEAD_BYTES};
use crate::metrics::{Counters, Stats};
use crate::pace::Pace;
use crate::poison::Poison;
use crate::recovery::Recovered;
use crate::snapshot::{Snapshot, Snapshots};
use crate::step::StepOutcome;
use crate::ticket::{Ticket, Tickets};
use crate::version::{Edit, LEVELS, Manifest, Opener};
use crate::view::View;
use crate::wal::recycle::Segments;
use crate::wal::writer::LogWriter;
use crate::work::{Full, Work};

/// How often one who waits for a write without a sync looks whether it is done or his to do.
const TRIES_MAX: u32 = 80;
/// Of these, so many without giving way to another thread.
const TRIES_SPINNING: u32 = 60;

/// Everything that the engine's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) commit: Mutex<Commit>,
    /// Something gathers for the log, or the engine closes.
    pub(crate) log_wake: Condvar,
    /// Something that was full has room again, or the engine is poisoned or closed.
    pub(crate) room: Condvar,
    pub(crate) log: Mutex<LogWriter>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) view: RwLock<Arc<View>>,
    pub(crate) tickets: Tickets,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) poison: Poison,
    pub(crate) counters: Counters,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) opener: Opener,
    /// The next id of a table or number of a segment.
    pub(crate) ids: Arc<AtomicU64>,
    /// Operations up to this sequence are in tables.
    pub(crate) flushed_seq: AtomicU64,
    pub(crate) work: Work,
    pub(crate) full: Full,
    pub(crate) pace: Pace,
    /// Batches of the last groups that were synced: how many commit at once.
    pub(crate) crowd: AtomicU32,
    /// How often damage of the log was passed over at the open.
    pub(crate) log_damage: u64,
    /// Operations that the open found in the log alone.
    pub(crate) replayed_ops: u64,
    /// Serializes inline steps.
    pub(crate) step: Mutex<()>,
    /// Serializes changes of the keyspaces.
    pub(crate) keyspace_changes: Mutex<()>,
    _lock: DirLock,
}

/// The lock on the directory.
struct DirLock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: &Path,
        config: Config,
        state: Recovered,
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        Self {
            dir: dir.to_path_buf(),
            commit: Mutex::new(Commit::new(state.last_seq + 1, Arc::clone(&state.view.active))),
            log_wake: Condvar::new(),
            room: Condvar::new(),
            log: Mutex::new(LogWriter::new(Arc::clone(&state.segments), config.log_segment_bytes)),
            segments: state.segments,
            view: RwLock::new(Arc::new(state.view)),
            tickets: Tickets::new(state.last_seq),
            manifest: Mutex::new(state.manifest),
            opener: state.opener,
            ids: state.ids,
            flushed_seq: AtomicU64::new(state.last_seq),
            work: Work::default(),
            full: Full::default(),
            pace: Pace::default(),
            crowd: AtomicU32::new(0),
            log_damage: state.log_damage,
            replayed_ops: state.replayed_ops,
            snapshots: Arc::default(),
            poison: Poison::default(),
            counters: Counters::default(),
            step: Mutex::new(()),
            keyspace_changes: Mutex::new(()),
            fs,
            config,
            _lock: DirLock(lock),
        }
    }

    /// A reader of this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Under the lock: what the memtable displaces from now on is kept for it.
        let commit = self.commit.lock();
        let held = self.snapshots.hold(commit.last_seq());
        let view = self.view();
        drop(commit);
        Snapshot::new(held, view)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Enters a batch into log and memtable. `will_settle`: the caller comes to [`Shared::settle`]
    /// at once, so the log writer need not be woken for it.
    pub(crate) fn append(&self, batch: &Batch, will_settle: bool) -> Result<Ticket, Error> {
        batch.check(&self.config)?;
        let mut payload = Bytes::copy_from_slice(batch.payload());
        let mut commit = self.make_room(batch.stored_bytes_max())?;
        if batch.is_empty() {
            return Ok(Ticket::from_seq(commit.last_seq()));
        }
        if batch.looks_at_keyspaces() {
            let (registry, wait) = (Arc::clone(&self.view.read().spaces), commit.marked_keys_wait);
            if let Some(stored) = batch.admit(&registry, wait, self.config.batch_bytes_max)? {
                payload = stored;
            }
        }
        let ticket = commit.append(payload, batch, self.snapshots.newest());
        commit.group.waiting += u32::from(will_settle);
        if !will_settle {
            commit.wake_writer(&self.log_wake);
        } else if commit.writer_sleeps == Sleep::Deeply {
            // From now on it looks by itself whether a mark is due.
            commit.rouse_writer(&self.log_wake);
        }
        drop(commit);
        if self.config.threads == Threads::Background && self.config.paced {
            self.pace.pay((batch.bytes() + batch.len() * OP_OVERHEAD_BYTES) as u64);
        }
        Ok(ticket)
    }

    /// Waits until a ticket is durable that was just appended, and writes the log for it if nobody
    /// else does. A write without a sync is so short that another's is waited for awake.
    pub(crate) fn settle(&self, ticket: Ticket, durability: Durability) -> Result<(), Error> {
        let tries = match durability {
            Durability::Os => TRIES_MAX,
            // Many who wait for syncs are better served together, by the thread.
            Durability::Sync => u32::from(!self.is_crowded()),
            Durability::Periodic { .. } => 0,
        };
        for tried in 0..tries {
            self.lead();
            if ticket <= self.tickets.durable() {
                return Ok(());
            }
            if tried > TRIES_SPINNING {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        self.wake_for_group();
        self.tickets.wait(ticket)
    }

    /// Waits until a payload may be appended, and returns with the commit lock held.
    pub(crate) fn make_room(&self, payload_bytes: usize) -> Result<MutexGuard<'_, Commit>, Error> {
        let mut deadline = None;
        let mut commit = self.commit.lock();
        loop {
            self.poison.check()?;
            if commit.closed {
                return Err(Error::Closed);
            }
            if self.full.is_set() {
                return Err(Error::DiskFull);
            }
            let Some(what) = self.what_is_full(&commit, payload_bytes) else { break };
            if deadline.is_none() {
                self.counters.stalls.add(1);
            }
            if self.config.threads == Threads::Inline {
                drop(commit);
                if self.step()? == StepOutcome::Idle {
                    return Err(Error::Busy { what });
                }
                commit = self.commit.lock();
                deadline = Some(Instant::now());
                continue;
            }
            let until = *deadline.get_or_insert_with(|| {
                Instant::now() + Duration::from_millis(self.config.stall_ms_max)
            });
            if self.room.wait_until(&mut commit, until).timed_out() {
                return Err(Error::Busy { what });
            }
        }
        if self.must_seal(&commit) {
            self.seal(&mut commit);
        }
        Ok(commit)
    }

    fn what_is_full(&self, commit: &Commit, payload_bytes: usize) -> Option<&'static str> {
        let gathered = commit.group.payload_bytes();
        if gathered > 0 && gathered + payload_bytes > self.config.log_buffer_bytes_max {
            return Some("log buffer");
        }
        if !self.must_seal(commit) {
            return None;
        }
        // The tree is looked at once for each memtable: that is how fast it grows.
        let view = self.view.read();
        if view.sealed.len() >= self.config.memtables_sealed_max {
            return Some("sealed memtables");
        }
        (view.version.level(0).len() >= self.config.level0_tables_max).then_some("level 0")
    }

    fn must_seal(&self, commit: &Commit) -> bool {
        let full = commit.active.bytes() >= self.config.memtable_bytes_max;
        (full || commit.seal_wanted) && !commit.active.is_empty()
    }

    /// Puts the active memtable in line for its flush.
    pub(crate) fn seal(&self, commit: &mut Commit) {
        let fresh = Arc::new(Memtable::default());
        let old = std::mem::replace(&mut commit.active, Arc::clone(&fresh));
        commit.seal_wanted = false;
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.active = fresh;
        next.sealed.insert(0, old);
        self.pace.look(&next, &self.config);
        *view = Arc::new(next);
        drop(view);
        self.work.add();
    }

    /// Operations up to this sequence are in tables.
    pub(crate) fn flushed_seq(&self) -> u64 {
        self.flushed_seq.load(Ordering::Acquire)
    }

    /// Stops writes for good: everyone who waits is told.
    pub(crate) fn fail(&self, cause: &str) -> Error {
        let error = self.poison.set(cause);
        self.tickets.fail(&error);
        // Under the lock, so that nobody who is about to wait misses it.
        drop(self.commit.lock());
        self.room.notify_all();
        self.log_wake.notify_all();
        self.work.add();
        error
    }

    pub(crate) fn begin_close(&self) {
        self.commit.lock().closed = true;
        self.log_wake.notify_all();
        self.room.notify_all();
        self.work.close();
    }

    /// After the threads have ended: writes what is left, and tells those who still wait.
    pub(crate) fn finish_close(&self) -> Result<(), Error> {
        let result = self.poison.check().and_then(|()| self.drain_log()).and_then(|()| {
            let is_flushed = self.flushed_seq() >= self.commit.lock().last_seq();
            if !is_flushed || self.config.threads == Threads::Inline {
                return Ok(());
            }
            // Then the next open has no log to read. Before a segment loses its name the manifest
            // must know that its number is used up.
            let _writer = self.log.lock();
            let next_file_id = Some(self.ids.load(Ordering::Relaxed));
            self.manifest.lock().append(&Edit { next_file_id, ..Edit::default() })?;
            self.segments.retire_all()
        });
        self.tickets.fail(&Error::Closed);
        result
    }

    pub(crate) fn stats(&self) -> Stats {
        let view = self.view();
        let counters = &self.counters;
        Stats {
            appended: Ticket::from_seq(self.commit.lock().last_seq()),
            durable: self.tickets.durable(),
            log_frames: counters.log_frames.value(),
            log_bytes_written: counters.log_bytes_written.value(),
            log_syncs: counters.log_syncs.value(),
            log_sync_us: counters.log_sync_us.value(),
            log_bytes: self.segments.live_bytes(),
            memtable_bytes: view.active.bytes(),
            memtables_sealed: view.sealed.len(),
            flushed_seq: self.flushed_seq.load(Ordering::Relaxed),
            level_tables: (0..LEVELS).map(|level| view.version.level(level).len()).collect(),
            level_bytes: (0..LEVELS).map(|level| view.version.level_bytes(level)).collect(),
            cache_bytes: self.opener.cache.size_bytes(),
            cache_bytes_max: self.opener.cache.size_bytes_max(),
            cache_misses: self.opener.cache.misses(),
            pinned_bytes: view.version.pinned_bytes(),
            compaction_stopped: self.work.compaction_stopped().map(|e| e.to_string()),
            flushes: counters.flushes.value(),
            flush_bytes_written: counters.flush_bytes_written.value(),
            compactions: counters.compactions.value(),
            compaction_bytes_written: counters.compaction_bytes_written.value(),
            stalls: counters.stalls.value(),
            snapshots: self.snapshots.count(),
            waiting: self.tickets.waiting(),
            log_damage: self.log_damage,
            replayed_ops: self.replayed_ops,
            disk_full: self.full.is_set(),
            damaged: view.version.damage().len(),
            poisoned: self.poison.check().err().map(|e| e.to_string()),
        }
    }
}
