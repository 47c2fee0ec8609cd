//! The engine: one directory, one log, one tree.
//!
//! Life of a write: [`Engine::append`] takes the commit lock, gives each operation its sequence,
//! copies the batch to the group that gathers for the log, inserts it into the memtable, and
//! returns a ticket. The log writer takes the whole group, writes it with one call, syncs once,
//! and publishes the durable ticket. Life of a read: memtable, sealed memtables, tables, newest
//! first, all of one immutable view.
//!
//! Lock order: step, log, manifest, commit, view. Invariant: no file system call is made under the commit
//! lock.

use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::commit::{Batch, Commit};
use crate::config::{Config, Threads};
use crate::error::Error;
use crate::explain::{self, Explanation};
use crate::fs::Fs;
use crate::iter::{Visible, merge, visible};
use crate::key::{Entry, EntryIter};
use crate::memtable::{Memtable, Seen, is_empty_range};
use crate::metrics::{Counters, Stats};
use crate::poison::Poison;
use crate::recovery;
use crate::snapshot::{Held, Snapshots};
use crate::sstable::{ResidentEntry, as_slice};
use crate::step::{self, StepOutcome, Work};
use crate::ticket::{OnDurable, Ticket, Tickets};
use crate::version::{LEVELS, Manifest, Opener, Version};
use crate::wal::recycle::Segments;
use crate::wal::writer::LogWriter;

/// An open directory. Clones share it; the last one to be dropped closes it.
#[derive(Clone, Debug)]
pub struct Engine {
    owner: Arc<Owner>,
}

/// A value, and what a reader must wait for before showing it to someone who counts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// Durable no later than the value is.
    pub ticket: Ticket,
}

/// What can be said about a key without touching the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// The key's value.
    Found(Found),
    /// The key has none.
    Absent,
    /// Only [`Engine::get`], which reads the disk, can tell.
    NeedsIo,
}

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
    /// Serializes inline steps.
    pub(crate) step: Mutex<()>,
    _lock: DirLock,
}

/// What a reader sees; never changed, only replaced.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    pub(crate) version: Arc<Version>,
}

/// The lock on the directory.
struct DirLock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Opens `dir`, creating it when it does not exist, and recovers what its log holds.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Config`], [`Error::Io`], [`Error::UnknownFormat`], and
    /// [`Error::Corrupt`] when something that had been synced is damaged. A torn tail is no error.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, config: Config) -> Result<Self, Error> {
        config.check()?;
        let lock = recovery::claim_dir(&*fs, dir)?;
        let state = recovery::recover(&fs, dir, &config)?;
        let shared = Arc::new(Shared {
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
            snapshots: Arc::default(),
            poison: Poison::default(),
            counters: Counters::default(),
            step: Mutex::new(()),
            fs,
            config,
            _lock: DirLock(lock),
        });
        let threads = match shared.config.threads {
            Threads::Background => step::spawn(&shared)?,
            Threads::Inline => Vec::new(),
        };
        Ok(Self { owner: Arc::new(Owner { shared, threads: Mutex::new(threads) }) })
    }

    /// Appends a batch: it is visible to reads at once, and durable when the returned ticket is.
    /// Returns without waiting for the disk, unless something is full (see
    /// [`Config::stall_ms_max`]). Costs one copy of the batch and one tree insert an operation.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Busy`], [`Error::Poisoned`], [`Error::Closed`]; after each of
    /// them nothing of the batch was written.
    pub fn append(&self, batch: &Batch) -> Result<Ticket, Error> {
        let shared = self.shared();
        batch.check(&shared.config)?;
        let payload = Bytes::copy_from_slice(batch.payload());
        let mut commit = shared.make_room(payload.len())?;
        if batch.is_empty() {
            return Ok(Ticket::from_seq(commit.last_seq()));
        }
        let ticket = commit.append(&payload, batch, shared.snapshots.newest());
        let wake = std::mem::replace(&mut commit.writer_sleeps, false);
        drop(commit);
        if wake {
            shared.log_wake.notify_one();
        }
        Ok(ticket)
    }

    /// Runs `callback` once: with `Ok` when `ticket` is durable (at once, if it is), with an error
    /// when it never will be. Callbacks that wait run in ticket order on the thread that synced;
    /// they must not block, nor call the engine.
    pub fn on_durable(&self, ticket: Ticket, callback: OnDurable) {
        self.shared().tickets.on_durable(ticket, callback);
    }

    /// Blocks until `ticket` is durable. Inline, does the work itself.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`] when it never will be.
    pub fn wait_durable(&self, ticket: Ticket) -> Result<(), Error> {
        let shared = self.shared();
        while shared.config.threads == Threads::Inline && ticket > self.durable() {
            if shared.step_log()? == StepOutcome::Idle {
                break;
            }
        }
        shared.tickets.wait(ticket)
    }

    /// The highest ticket that is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.shared().tickets.durable()
    }

    /// The value of a key, if that can be told without touching the disk. Never blocks on a sync
    /// or on compaction.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a cached block turns out to be malformed.
    pub fn get_resident(&self, key: &[u8]) -> Result<Resident, Error> {
        let view = self.shared().view();
        if let Some(seen) = view.get_memory(key, u64::MAX) {
            return Ok(seen.found().map_or(Resident::Absent, Resident::Found));
        }
        Ok(match view.version.get_resident(key, u64::MAX)? {
            ResidentEntry::Found(entry) => {
                Seen::from(entry).found().map_or(Resident::Absent, Resident::Found)
            }
            ResidentEntry::Absent => Resident::Absent,
            ResidentEntry::NeedsIo => Resident::NeedsIo,
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`] when a table cannot be read: never "not found".
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        self.shared().view().get(key, u64::MAX)
    }

    /// A walk over the keys of a range, from either end, as of now.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.snapshot().scan(range)
    }

    /// A reader that sees the engine as of now, however long it is held. It keeps memory and table
    /// files alive.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        let commit = shared.commit.lock();
        let held = Arc::new(shared.snapshots.hold(commit.last_seq()));
        let view = shared.view();
        drop(commit);
        Snapshot { held, view }
    }

    /// Does one unit of work, in the mode without threads: writes and syncs what gathered for the
    /// log, or flushes a memtable, or does one compaction. With threads, does nothing.
    ///
    /// # Errors
    /// What the unit met; then the engine is poisoned.
    pub fn step(&self) -> Result<StepOutcome, Error> {
        match self.shared().config.threads {
            Threads::Inline => self.shared().step(),
            Threads::Background => Ok(StepOutcome::Idle),
        }
    }

    /// Where a read of `key` looks, in order, and where it ends. Never touches the disk.
    ///
    /// # Errors
    /// As [`Engine::get_resident`].
    pub fn explain(&self, key: &[u8]) -> Result<Explanation, Error> {
        explain::explain(&self.shared().view(), key)
    }

    /// Reads every table from the disk and compares it with its checksum. Returns the bytes read.
    /// Goes past the cache; takes as long as reading all data.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for the first damaged table, [`Error::Io`].
    pub fn verify(&self) -> Result<u64, Error> {
        let view = self.shared().view();
        view.version.tables().map(|(_, table)| table.verify()).sum()
    }

    /// What the engine has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Writes and syncs what was appended and stops the threads. Appends through other clones fail
    /// from now on, reads go on.
    ///
    /// # Errors
    /// The failure that poisoned the engine, if any did: then the tail may be lost.
    pub fn close(&self) -> Result<(), Error> {
        self.owner.close()
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl Owner {
    fn close(&self) -> Result<(), Error> {
        self.shared.begin_close();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A thread that panicked has poisoned the engine: `check` says so.
            drop(thread.join());
        }
        self.shared.finish_close()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Inline, a drop is the end of the process: nothing more is written.
        if self.shared.config.threads == Threads::Background {
            drop(self.close());
        }
    }
}

impl Shared {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Waits until a payload may be appended, and returns with the commit lock held.
    fn make_room(&self, payload_bytes: usize) -> Result<MutexGuard<'_, Commit>, Error> {
        let mut deadline = None;
        let mut commit = self.commit.lock();
        loop {
            self.poison.check()?;
            if commit.closed {
                return Err(Error::Closed);
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
    fn seal(&self, commit: &mut Commit) {
        let fresh = Arc::new(Memtable::default());
        let old = std::mem::replace(&mut commit.active, Arc::clone(&fresh));
        commit.seal_wanted = false;
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.active = fresh;
        next.sealed.insert(0, old);
        *view = Arc::new(next);
        drop(view);
        self.work.add();
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

    fn begin_close(&self) {
        self.commit.lock().closed = true;
        self.log_wake.notify_all();
        self.room.notify_all();
        self.work.close();
    }

    /// After the threads have ended: writes what is left, and tells those who still wait.
    fn finish_close(&self) -> Result<(), Error> {
        let result = self.poison.check().and_then(|()| self.drain_log());
        self.tickets.fail(&Error::Closed);
        result
    }

    fn stats(&self) -> Stats {
        let view = self.view();
        let counters = &self.counters;
        Stats {
            appended: Ticket::from_seq(self.commit.lock().last_seq()),
            durable: self.tickets.durable(),
            log_frames: counters.log_frames.value(),
            log_bytes_written: counters.log_bytes_written.value(),
            log_syncs: counters.log_syncs.value(),
            log_bytes: self.segments.live_bytes(),
            memtable_bytes: view.active.bytes(),
            memtables_sealed: view.sealed.len(),
            flushed_seq: self.flushed_seq.load(Ordering::Relaxed),
            level_tables: (0..LEVELS).map(|level| view.version.level(level).len()).collect(),
            level_bytes: (0..LEVELS).map(|level| view.version.level_bytes(level)).collect(),
            cache_bytes: self.opener.cache.size_bytes(),
            pinned_bytes: view.version.pinned_bytes(),
            compaction_stopped: self.work.compaction_stopped().map(|e| e.to_string()),
            flushes: counters.flushes.value(),
            compactions: counters.compactions.value(),
            stalls: counters.stalls.value(),
            snapshots: self.snapshots.count(),
            waiting: self.tickets.waiting(),
            poisoned: self.poison.check().err().map(|e| e.to_string()),
        }
    }
}

impl View {
    /// The version of `key` at `seq` in the memtables.
    pub(crate) fn get_memory(&self, key: &[u8], seq: u64) -> Option<Seen> {
        std::iter::once(&self.active).chain(&self.sealed).find_map(|table| table.get(key, seq))
    }

    fn get(&self, key: &[u8], seq: u64) -> Result<Option<Found>, Error> {
        if let Some(seen) = self.get_memory(key, seq) {
            return Ok(seen.found());
        }
        Ok(self.version.get(key, seq)?.and_then(|entry| Seen::from(entry).found()))
    }

    /// All entries between the bounds, merged.
    fn range(&self, lower: &Bound<Bytes>, upper: &Bound<Bytes>) -> EntryIter {
        if is_empty_range(lower, upper) {
            return Box::new(std::iter::empty());
        }
        let mut sources: Vec<EntryIter> = std::iter::once(&self.active)
            .chain(&self.sealed)
            .map(|table| table.range(lower.clone(), upper.clone()))
            .collect();
        sources.extend(self.version.iters(as_slice(lower), as_slice(upper)));
        merge(sources)
    }
}

impl Seen {
    fn found(self) -> Option<Found> {
        let ticket = Ticket::from_seq(self.seq);
        self.value.map(|value| Found { value, ticket })
    }
}

impl From<Entry> for Seen {
    fn from(entry: Entry) -> Self {
        Self { seq: entry.seq, value: entry.value }
    }
}

/// A reader that sees the engine as of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    held: Arc<Held>,
    view: Arc<View>,
}

impl Snapshot {
    /// The ticket of the last batch that the snapshot sees: once it is durable, so is everything
    /// that the snapshot shows.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::from_seq(self.held.seq())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        self.view.get(key, self.held.seq())
    }

    /// A walk over the keys of a range, from either end.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        let bound = |bound: Bound<&K>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
        let (lower, upper) = (bound(range.start_bound()), bound(range.end_bound()));
        let entries = visible(self.view.range(&lower, &upper), self.held.seq());
        Iter { held: Arc::clone(&self.held), entries }
    }
}

/// A walk over key and value pairs, ascending from the front and descending from the back. After an
/// error it ends.
pub struct Iter {
    held: Arc<Held>,
    entries: Visible,
}

impl Iter {
    /// The ticket of the last batch that the walk sees.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::from_seq(self.held.seq())
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("ticket", &self.ticket()).finish_non_exhaustive()
    }
}

impl Iterator for Iter {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back()
    }
}
