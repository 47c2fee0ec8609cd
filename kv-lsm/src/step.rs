//! The work that an append leaves behind, in units: one group to the log, one flush, one
//! compaction. Threads do the units in the background; without threads the owner calls
//! [`crate::Engine::step`], so that simulation and crash tests decide when the disk is touched.
//!
//! Invariant: a unit that fails poisons the engine.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::commit::{Commit, Need};
use crate::compaction;
use crate::engine::{Shared, View};
use crate::error::Error;
use crate::memtable::Memtable;
use crate::poison::PanicGuard;
use crate::sstable::table_path;
use crate::version::Edit;
use crate::wal::writer::{Group, LogWriter};

/// After so long without writes the log gets a mark that says what was synced.
const MARK_AFTER: Duration = Duration::from_millis(200);

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// Nothing: there was no work.
    Idle,
    /// Wrote what had gathered for the log, and synced it if its batches need that.
    Logged,
    /// Synced what had been written to the log before.
    Synced,
    /// Flushed a memtable to a level 0 table.
    Flushed,
    /// Did one compaction.
    Compacted,
}

/// Wakes the threads that flush and compact.
#[derive(Debug, Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    wake: Condvar,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct WorkState {
    /// Rises whenever there may be something to do.
    added: u64,
    compaction_stopped: Option<Error>,
}

impl Work {
    /// There may be something to do.
    pub(crate) fn add(&self) {
        self.state.lock().added += 1;
        self.wake.notify_all();
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.add();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn compaction_stopped(&self) -> Option<Error> {
        self.state.lock().compaction_stopped.clone()
    }

    /// Sleeps until something was added after `seen`; false when the engine closes.
    fn wait(&self, seen: &mut u64) -> bool {
        let mut state = self.state.lock();
        while state.added == *seen && !self.is_closing() {
            self.wake.wait(&mut state);
        }
        *seen = state.added;
        !self.is_closing()
    }
}

/// Starts the threads: one writes the log, one flushes, one compacts.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, Error> {
    type Life = fn(&Shared);
    let mut threads = Vec::new();
    for (name, life) in [
        ("kv-lsm-log", Shared::run_log as Life),
        ("kv-lsm-flush", Shared::run_flush),
        ("kv-lsm-compact", Shared::run_compaction),
    ] {
        let own = Arc::clone(shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = PanicGuard(|| {
                own.fail("a background thread panicked");
            });
            life(&own);
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(e) => {
                // Those already started see it and end.
                shared.fail("a thread could not be started");
                shared.work.close();
                return Err(Error::io("start a thread for", &shared.dir, e));
            }
        }
    }
    Ok(threads)
}

impl Shared {
    /// One unit of whatever there is to do.
    pub(crate) fn step(&self) -> Result<StepOutcome, Error> {
        let _one_at_a_time = self.step.lock();
        match self.step_log()? {
            StepOutcome::Idle if self.flush_one()? => Ok(StepOutcome::Flushed),
            StepOutcome::Idle if self.compact_one()? => Ok(StepOutcome::Compacted),
            outcome => Ok(outcome),
        }
    }

    fn run_flush(&self) {
        let mut seen = 0;
        loop {
            match self.flush_one() {
                Ok(true) => continue,
                // Without a spare the log writer makes one itself, and fails if it must.
                Ok(false) => drop(self.segments.prepare()),
                Err(_) => return,
            }
            if !self.work.wait(&mut seen) {
                return;
            }
        }
    }

    fn run_compaction(&self) {
        let mut seen = 0;
        loop {
            match self.compact_one() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return,
            }
            if !self.work.wait(&mut seen) {
                return;
            }
        }
    }

    /// Flushes the oldest sealed memtable, if there is one, and retires its part of the log.
    fn flush_one(&self) -> Result<bool, Error> {
        self.poison.check()?;
        let Some(table) = self.view().sealed.last().cloned() else { return Ok(false) };
        let entries = table.range(Bound::Unbounded, Bound::Unbounded);
        let flushed_seq = table.last_seq();
        let done = self
            .with_context(|context| compaction::flush(entries, flushed_seq, context))
            .and_then(|edit| self.install(edit, Some(&table)));
        match done {
            Ok(()) => {}
            Err(Error::Closed) => return Ok(false),
            Err(e) => return Err(self.fail(&e.to_string())),
        }
        self.flushed_seq.store(flushed_seq, Ordering::Relaxed);
        self.counters.flushes.add(1);
        self.segments.retire(flushed_seq).map_err(|e| self.fail(&e.to_string()))?;
        self.made_room();
        self.work.add();
        Ok(true)
    }

    /// Does the compaction that is due, if one is.
    fn compact_one(&self) -> Result<bool, Error> {
        self.poison.check()?;
        if self.work.compaction_stopped().is_some() {
            return Ok(false);
        }
        let version = Arc::clone(&self.view().version);
        let Some(job) = compaction::choose(&*version, &self.config) else { return Ok(false) };
        let done = self
            .with_context(|context| compaction::run(&job, &version, context))
            .and_then(|edit| self.install(edit, None));
        match done {
            Ok(()) => {}
            Err(Error::Closed) => return Ok(false),
            Err(e @ (Error::Corrupt { .. } | Error::Io { action: "read", .. })) => {
                // Nothing was changed, and reads beside the damage are right: only this stops.
                self.work.state.lock().compaction_stopped = Some(e);
                return Ok(false);
            }
            Err(e) => return Err(self.fail(&e.to_string())),
        }
        self.counters.compactions.add(1);
        self.made_room();
        Ok(true)
    }

    fn with_context<T>(&self, job: impl FnOnce(&mut compaction::Context<'_>) -> T) -> T {
        // Who reads at a snapshot holds the view that it was taken from, memtables and tables:
        // what is written here is read by later readers only.
        job(&mut compaction::Context {
            fs: &*self.fs,
            dir: &self.dir,
            config: &self.config,
            snapshots: &[],
            filter: self.config.compaction_filter.as_deref(),
            next_file_id: &mut || self.ids.fetch_add(1, Ordering::Relaxed),
            stop: &|| self.work.is_closing(),
        })
    }

    /// Makes an edit durable, then visible, then removes the files that it made superfluous.
    /// `flushed` is the memtable that the edit takes the place of.
    fn install(&self, mut edit: Edit, flushed: Option<&Arc<Memtable>>) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        edit.next_file_id = Some(self.ids.load(Ordering::Relaxed));
        manifest.append(&edit)?;
        // The version changes only under the manifest's lock.
        let version = self.view().version.apply(&edit, |meta| self.opener.open(meta))?;
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.version = Arc::new(version);
        if let Some(table) = flushed {
            next.sealed.retain(|sealed| !Arc::ptr_eq(sealed, table));
        }
        *view = Arc::new(next);
        drop(view);
        drop(manifest);
        for (_, file_id) in &edit.removed {
            if !edit.added.iter().any(|(_, meta)| meta.file_id == *file_id) {
                let path = table_path(&self.dir, *file_id);
                self.fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
            }
        }
        Ok(())
    }

    /// Wakes the appends that wait. Under the lock, so that none that is about to wait misses it.
    fn made_room(&self) {
        drop(self.commit.lock());
        self.room.notify_all();
    }

    /// Writes and syncs what gathered, or syncs what was written.
    pub(crate) fn step_log(&self) -> Result<StepOutcome, Error> {
        self.poison.check()?;
        let mut log = self.log.lock();
        let taken = {
            let mut commit = self.commit.lock();
            (commit.group.ops > 0).then(|| commit.take(Vec::new()))
        };
        if let Some((mut group, need)) = taken {
            self.write_group(&mut log, &mut group, need)?;
            return Ok(StepOutcome::Logged);
        }
        if log.is_unsynced() {
            self.sync_log(&mut log)?;
            return Ok(StepOutcome::Synced);
        }
        Ok(StepOutcome::Idle)
    }

    /// Writes and syncs everything, and says so in a mark.
    pub(crate) fn drain_log(&self) -> Result<(), Error> {
        while self.step_log()? != StepOutcome::Idle {}
        let mut log = self.log.lock();
        let next_seq = self.commit.lock().last_seq() + 1;
        let marked = log.mark(next_seq).and_then(|_| log.sync());
        marked.map_err(|e| self.fail(&e.to_string()))
    }

    /// The log writer's life: takes groups until the engine is closed and nothing is left.
    fn run_log(&self) {
        let mut spare = Vec::new();
        let mut sync_due = None;
        let mut log = self.log.lock();
        loop {
            let woken = self.await_group(&mut spare, sync_due, &log);
            let done = match woken {
                Woken::Group(mut group, need) => {
                    self.room.notify_all();
                    let done = self.write_group(&mut log, &mut group, need);
                    spare = group.frame;
                    sync_due = next_sync(&log, sync_due, need);
                    // Groups that come without a pause must not put the sync off.
                    if done.is_ok() && sync_due.is_some_and(|due| due <= Instant::now()) {
                        sync_due = None;
                        self.sync_log(&mut log)
                    } else {
                        done
                    }
                }
                Woken::SyncDue => {
                    sync_due = None;
                    self.sync_log(&mut log)
                }
                Woken::MarkDue(next_seq) => {
                    log.mark(next_seq).map(|_| ()).map_err(|e| self.fail(&e.to_string()))
                }
                Woken::Closed => return,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Sleeps until there is something to do for the log writer.
    fn await_group(
        &self,
        spare: &mut Vec<u8>,
        sync_due: Option<Instant>,
        log: &LogWriter,
    ) -> Woken {
        let mark_due = log.wants_mark().then(|| Instant::now() + MARK_AFTER);
        let mut commit: MutexGuard<'_, Commit> = self.commit.lock();
        loop {
            if commit.group.ops > 0 {
                let (group, need) = commit.take(std::mem::take(spare));
                return Woken::Group(group, need);
            }
            if commit.closed || self.poison.check().is_err() {
                return Woken::Closed;
            }
            commit.writer_sleeps = true;
            let timed_out = if let Some(due) = sync_due.or(mark_due) {
                self.log_wake.wait_until(&mut commit, due).timed_out()
            } else {
                self.log_wake.wait(&mut commit);
                false
            };
            commit.writer_sleeps = false;
            if timed_out && commit.group.ops == 0 {
                return match sync_due {
                    Some(_) => Woken::SyncDue,
                    None => Woken::MarkDue(commit.last_seq() + 1),
                };
            }
        }
    }

    /// One write, one sync if a batch needs it, then the tickets.
    fn write_group(&self, log: &mut LogWriter, group: &mut Group, need: Need) -> Result<(), Error> {
        let result = log.write(group).and_then(|rotated| {
            if rotated {
                // A spare is wanted, and perhaps the end of the oldest segment.
                self.work.add();
                if self.segments.live_bytes() > self.config.log_bytes_max {
                    self.commit.lock().seal_wanted = true;
                }
            }
            self.counters.log_frames.add(1);
            self.counters.log_bytes_written.add(group.frame.len() as u64);
            if need.sync && !self.reports_early() {
                self.counters.log_syncs.add(1);
                log.sync()?;
            }
            Ok(())
        });
        match result {
            Ok(()) => {
                self.tickets.publish(group.last_seq());
                Ok(())
            }
            Err(e) => Err(self.fail(&e.to_string())),
        }
    }

    fn sync_log(&self, log: &mut LogWriter) -> Result<(), Error> {
        self.counters.log_syncs.add(1);
        log.sync().map_err(|e| self.fail(&e.to_string()))
    }

    /// Whether the bug is planted that publishes tickets before the sync.
    #[cfg(any(test, feature = "__planted"))]
    fn reports_early(&self) -> bool {
        self.config.planted == crate::config::Planted::DurableBeforeSync
    }

    #[cfg(not(any(test, feature = "__planted")))]
    #[expect(clippy::unused_self, reason = "the twin that plants the bug reads the configuration")]
    fn reports_early(&self) -> bool {
        false
    }
}

/// When what is written and not synced must be: the earliest that a batch asked for.
fn next_sync(log: &LogWriter, due: Option<Instant>, need: Need) -> Option<Instant> {
    if !log.is_unsynced() {
        return None;
    }
    let asked = need.within_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    due.into_iter().chain(asked).min()
}

/// Why the log writer woke up.
enum Woken {
    Group(Group, Need),
    SyncDue,
    /// With the sequence of the next operation.
    MarkDue(u64),
    Closed,
}
