//! The work that an append leaves behind, in units: one group to the log, one flush, one
//! compaction. Threads do the units in the background; without threads the owner calls
//! [`crate::Engine::step`], so that simulation and crash tests decide when the disk is touched.
//!
//! Invariant: a unit that fails poisons the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::compaction;
use crate::error::Error;
use crate::group::RETRY_AFTER;
use crate::keyspace::{FilterBySpace, Registry};
use crate::memtable::Memtable;
use crate::poison::PanicGuard;
use crate::shared::Shared;
use crate::sstable::table_path;
use crate::version::Edit;
use crate::view::View;

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
            let goes_on = if self.full.stops_flush() {
                self.work.wait_for(&mut seen, RETRY_AFTER)
            } else {
                self.work.wait(&mut seen)
            };
            if !goes_on {
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
        let view = self.view();
        let Some(table) = view.sealed.last().cloned() else { return Ok(false) };
        let flushed_seq = table.last_seq();
        let mut changed = Vec::new();
        let mut bytes = 0;
        let began = Instant::now();
        let done = self
            .with_context(&view.spaces, &mut changed, |context| compaction::flush(&table, context))
            .and_then(|edit| {
                bytes = edit.bytes_written();
                self.install(edit, Some(&table), &table.key_hashes())
            });
        match done {
            Ok(()) => self.full.set_flush(false),
            Err(Error::Closed) => return Ok(false),
            // The memtable and its log are as they were: tried again when there may be room.
            Err(e) if e.is_full() => {
                self.full.set_flush(true);
                return Ok(false);
            }
            Err(e) => return Err(self.fail(&e.to_string())),
        }
        self.pace.note_flush(table.bytes() as u64, began.elapsed());
        self.flushed_seq.store(flushed_seq, Ordering::Release);
        self.counters.flushes.add(1);
        self.counters.flush_bytes_written.add(bytes);
        self.segments.retire(flushed_seq).map_err(|e| self.fail(&e.to_string()))?;
        self.made_room();
        self.work.add();
        Ok(true)
    }

    /// Does the compaction that is due, if one is.
    fn compact_one(&self) -> Result<bool, Error> {
        self.poison.check()?;
        let (version, spaces) = {
            let view = self.view();
            (Arc::clone(&view.version), Arc::clone(&view.spaces))
        };
        let Some(job) = compaction::choose(&*version, &self.config, &spaces) else {
            return Ok(false);
        };
        let stopped = matches!(self.work.compaction_stopped(), Some(Error::Corrupt { .. }));
        if stopped && job.kind != compaction::Kind::Drop {
            return Ok(false);
        }
        let mut changed = Vec::new();
        let began = Instant::now();
        let done = self.with_context(&spaces, &mut changed, |context| {
            compaction::run(&job, &version, context)
        });
        let edit = match done {
            Ok(edit) => edit,
            Err(Error::Closed) => return Ok(false),
            Err(e) if e.is_full() => {
                self.work.note_compaction(Some(e));
                return Ok(false);
            }
            Err(e @ (Error::Corrupt { .. } | Error::Io { action: "read", .. })) => {
                // Nothing was changed, and reads beside the damage are right: only this stops.
                self.work.note_compaction(Some(e));
                return Ok(false);
            }
            Err(e) => return Err(self.fail(&e.to_string())),
        };
        // From here on the manifest may know the edit: any failure is final, but for a manifest
        // that had no room for it.
        let bytes = edit.bytes_written();
        match self.install(edit, None, &changed) {
            Ok(()) => {}
            Err(e) if e.is_full() => {
                self.work.note_compaction(Some(e));
                return Ok(false);
            }
            Err(e) => return Err(self.fail(&e.to_string())),
        }
        if job.level == 0 && job.kind != compaction::Kind::Drop {
            let room = job.inputs.len() * self.config.memtable_bytes_max;
            self.pace.note_compaction(room as u64, began.elapsed());
        }
        self.work.note_compaction(None);
        self.counters.compactions.add(1);
        self.counters.compaction_bytes_written.add(bytes);
        self.made_room();
        Ok(true)
    }

    /// `changed` gets the hashes of the keys whose newest value the job has dropped or replaced.
    fn with_context<T>(
        &self,
        spaces: &Registry,
        changed: &mut Vec<u64>,
        job: impl FnOnce(&mut compaction::Context<'_>) -> T,
    ) -> T {
        let by_space =
            FilterBySpace { registry: spaces, default: self.config.compaction_filter.as_deref() };
        // Who reads at a snapshot holds the view that it was taken from, memtables and tables:
        // what is written here is read by later readers only.
        let mut context = compaction::Context {
            fs: &*self.fs,
            dir: &self.dir,
            config: &self.config,
            spaces,
            snapshots: &[],
            filter: if spaces.is_on() { Some(&by_space) } else { by_space.default },
            next_file_id: &mut || self.ids.fetch_add(1, Ordering::Relaxed),
            stop: &|| self.work.is_closing(),
            changed: Vec::new(),
        };
        let done = job(&mut context);
        *changed = context.changed;
        done
    }

    /// Makes an edit durable, then visible, then removes the files that it made superfluous.
    /// `flushed` is the memtable that the edit takes the place of; `changed` are the hashes of the
    /// keys for which the tables have another newest value now.
    fn install(
        &self,
        mut edit: Edit,
        flushed: Option<&Arc<Memtable>>,
        changed: &[u64],
    ) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        edit.next_file_id = Some(self.ids.load(Ordering::Relaxed));
        if let Err(error) = manifest.append(&edit) {
            if error.is_full() {
                // It knows nothing of these tables, and a later try writes others.
                for (_, meta) in &edit.added {
                    if !edit.removed.iter().any(|(_, moved)| *moved == meta.file_id) {
                        let _ = self.fs.remove(&table_path(&self.dir, meta.file_id));
                    }
                }
            }
            return Err(error);
        }
        // The version changes only under the manifest's lock.
        let version = self.view().version.apply(&edit, |meta| self.opener.open(meta))?;
        let epoch = (!changed.is_empty()).then(|| self.opener.cache.begin_epoch(Some(changed)));
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.version = Arc::new(version);
        next.epoch = epoch.unwrap_or(next.epoch);
        if let Some(table) = flushed {
            next.sealed.retain(|sealed| !Arc::ptr_eq(sealed, table));
        }
        self.pace.look(&next, &self.config);
        *view = Arc::new(next);
        drop(view);
        drop(manifest);
        for (_, file_id) in &edit.removed {
            if !edit.added.iter().any(|(_, meta)| meta.file_id == *file_id) {
                let path = table_path(&self.dir, *file_id);
                match self.fs.remove(&path) {
                    // Given up because it was missing.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    done => done.map_err(|e| Error::io("remove", &path, e))?,
                }
            }
        }
        Ok(())
    }

    /// Forgets the rows of the cache: what they were read from was given up.
    pub(crate) fn forget_rows(&self) {
        let _one_at_a_time = self.manifest.lock();
        let epoch = self.opener.cache.begin_epoch(None);
        let mut view = self.view.write();
        *view = Arc::new(View { epoch, ..View::clone(&view) });
    }

    /// Wakes the appends that wait. Under the lock, so that none that is about to wait misses it.
    fn made_room(&self) {
        drop(self.commit.lock());
        self.room.notify_all();
    }
}
