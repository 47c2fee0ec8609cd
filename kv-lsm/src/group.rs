//! Group commit: the log writer takes all that has gathered, writes it with one call, syncs once,
//! and tells everyone. While it is at it the next group gathers (Pebble's flush loop, MySQL's and
//! RocksDB's group commit, without the hand-over between leaders).
//!
//! Who waits for a commit and finds nobody writing writes the group himself: alone, a commit costs
//! no change of threads. Who finds somebody writing wakes the thread for what has gathered and
//! waits; so the thread has the groups of many, and nobody leads for others.
//!
//! Invariants: groups are written in the order of their sequences; a ticket is published after the
//! sync that its batch asked for; after an error nothing more is written.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::commit::{Commit, Need, Sleep};
use crate::error::Error;
use crate::poison::PanicGuard;
use crate::shared::Shared;
use crate::step::StepOutcome;
use crate::wal::writer::{Group, LogWriter};

/// After so long without writes the log gets a mark that says what was synced.
const MARK_AFTER: Duration = Duration::from_millis(200);

/// After so long a full disk is asked again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Shared {
    /// Writes and syncs what gathered, or syncs what was written.
    pub(crate) fn step_log(&self) -> Result<StepOutcome, Error> {
        self.poison.check()?;
        let mut log = self.log.lock();
        let taken = log.stuck.take().or_else(|| {
            let mut commit = self.commit.lock();
            (commit.group.ops > 0).then(|| commit.take(Vec::new()))
        });
        if let Some((group, need)) = taken {
            return match self.write_or_keep(&mut log, group, need)? {
                Some(_) => Ok(StepOutcome::Logged),
                None => Ok(StepOutcome::Idle),
            };
        }
        if log.is_unsynced() && !self.reports_early() {
            self.sync_log(&mut log)?;
            return Ok(StepOutcome::Synced);
        }
        Ok(StepOutcome::Idle)
    }

    /// Writes and syncs everything, and says so in a mark.
    pub(crate) fn drain_log(&self) -> Result<(), Error> {
        while self.step_log()? != StepOutcome::Idle {}
        let mut log = self.log.lock();
        if log.stuck.is_some() {
            return Err(Error::DiskFull);
        }
        let next_seq = self.commit.lock().last_seq() + 1;
        let marked = log.mark(next_seq).and_then(|_| log.sync());
        marked.map_err(|e| self.fail(&e.to_string()))
    }

    /// Makes what was appended before durable, whatever its batches asked for.
    pub(crate) fn sync_appended(&self) -> Result<(), Error> {
        self.poison.check()?;
        let mut log = self.log.lock();
        // Perhaps a group that got stuck, and the one behind it.
        for _ in 0..2 {
            self.write_gathered(&mut log, &mut Vec::new())?;
        }
        if log.stuck.is_some() {
            return Err(Error::DiskFull);
        }
        self.sync_log(&mut log)
    }

    /// The log writer's life: takes what nobody else writes until the engine is closed and nothing
    /// is left.
    pub(crate) fn run_log(&self) {
        let mut spare = Vec::new();
        loop {
            let woken = self.await_work();
            let mut log = self.log.lock();
            let done = match woken {
                Woken::Group => {
                    self.await_crowd(&log);
                    self.write_gathered(&mut log, &mut spare)
                }
                Woken::SyncDue => self.sync_log(&mut log),
                Woken::MarkDue => self.mark_idle(&mut log),
                Woken::Looking => Ok(()),
                Woken::Closed => return,
            };
            let behind = log.file_behind();
            if done.is_err() {
                return;
            }
            let stuck = log.stuck.is_some();
            drop(log);
            if let Some((file, path)) = behind
                && let Err(source) = file.sync_data()
            {
                self.fail(&Error::io("sync", &path, source).to_string());
                return;
            }
            if stuck && !self.await_space() {
                return;
            }
        }
    }

    /// Whether commits come from several threads at once, so that they had better share a sync.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowd.load(Ordering::Relaxed) > 1
    }

    /// Waits a moment for those whom the last sync has woken, so that they share the next: as long
    /// as more come, and no longer than a part of what the last sync took.
    fn await_crowd(&self, log: &LogWriter) {
        let crowd = self.crowd.load(Ordering::Relaxed);
        let until = Instant::now() + log.sync_took / 4;
        while crowd > 1 && self.commit.lock().group.waiting < crowd && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// Writes what has gathered, if that is still anything: another may have come first.
    fn write_gathered(&self, log: &mut LogWriter, spare: &mut Vec<u8>) -> Result<(), Error> {
        let taken = log.stuck.take().or_else(|| {
            let mut commit = self.commit.lock();
            (commit.group.ops > 0).then(|| commit.take(std::mem::take(spare)))
        });
        let Some((group, need)) = taken else { return Ok(()) };
        self.room.notify_all();
        if need.sync {
            // It falls slowly: one that came late is no sign that the others have gone.
            let crowd = self.crowd.load(Ordering::Relaxed);
            self.crowd.store(group.waiting.max(crowd - crowd.div_ceil(4)), Ordering::Relaxed);
        }
        if let Some(memory) = self.write_or_keep(log, group, need)? {
            *spare = memory;
        }
        if need.within_ms.is_some() {
            self.note_sync(log, need);
        }
        if log.is_behind() {
            let mut commit = self.commit.lock();
            commit.disk_behind = true;
            commit.rouse_writer(&self.log_wake);
        }
        Ok(())
    }

    /// Notes when what is written and not synced must be.
    fn note_sync(&self, log: &LogWriter, need: Need) {
        let mut commit = self.commit.lock();
        if !log.is_unsynced() {
            commit.sync_due = None;
        } else if let Some(ms) = need.within_ms {
            let asked = Instant::now() + Duration::from_millis(ms);
            commit.sync_due = Some(commit.sync_due.map_or(asked, |due| due.min(asked)));
            commit.wake_writer(&self.log_wake);
        }
    }

    /// Writes the group that `ticket` is in on the caller's own thread, if nobody is writing just
    /// now: then a commit costs no change of threads. Returns whether it may have; the caller looks
    /// at the durable ticket.
    ///
    /// What gathers meanwhile is not this caller's: whoever waits for it sees to it.
    pub(crate) fn lead(&self) -> bool {
        let Some(mut log) = self.log.try_lock() else { return false };
        if log.stuck.is_some() || self.poison.check().is_err() {
            return false;
        }
        let _guard = PanicGuard(|| {
            self.fail("a write to the log panicked");
        });
        let mut spare = std::mem::take(&mut log.spare);
        // A failure is told by the tickets.
        let _ = self.write_gathered(&mut log, &mut spare);
        log.spare = spare;
        true
    }

    /// Wakes the log writer for what has gathered.
    pub(crate) fn wake_for_group(&self) {
        let mut commit = self.commit.lock();
        if commit.group.ops > 0 {
            commit.wake_writer(&self.log_wake);
        }
    }

    /// Says in a mark what was synced, if nothing was written in the meantime.
    fn mark_idle(&self, log: &mut LogWriter) -> Result<(), Error> {
        let next_seq = {
            let commit = self.commit.lock();
            if commit.group.ops > 0 || log.stuck.is_some() {
                return Ok(());
            }
            commit.last_seq() + 1
        };
        log.mark(next_seq).map(|_| ()).map_err(|e| self.fail(&e.to_string()))
    }

    /// Sleeps until there is something to do for the log writer. After the first append that
    /// follows a mark it sleeps for [`MARK_AFTER`] at a time, so that those who write themselves
    /// need not wake it.
    fn await_work(&self) -> Woken {
        let mut commit: MutexGuard<'_, Commit> = self.commit.lock();
        loop {
            if commit.writer_wanted && commit.group.ops > 0 {
                commit.writer_wanted = false;
                return Woken::Group;
            }
            if self.poison.check().is_err() {
                return Woken::Closed;
            }
            if commit.closed {
                return if commit.group.ops > 0 { Woken::Group } else { Woken::Closed };
            }
            // Groups that come without a pause must not put the sync off.
            if commit.sync_due.is_some_and(|due| due <= Instant::now()) {
                commit.sync_due = None;
                return Woken::SyncDue;
            }
            if std::mem::take(&mut commit.disk_behind) {
                return Woken::Looking;
            }
            commit.writer_wanted = false;
            let seq_before = commit.last_seq();
            let mark_due = commit.marked_seq != seq_before;
            commit.writer_sleeps = if mark_due { Sleep::Lightly } else { Sleep::Deeply };
            let timed_out = match (commit.sync_due, mark_due) {
                (Some(due), _) => self.log_wake.wait_until(&mut commit, due).timed_out(),
                (None, true) => self.log_wake.wait_for(&mut commit, MARK_AFTER).timed_out(),
                (None, false) => {
                    self.log_wake.wait(&mut commit);
                    false
                }
            };
            commit.writer_sleeps = Sleep::Not;
            if timed_out && commit.sync_due.is_none() && commit.last_seq() == seq_before {
                if commit.group.ops > 0 {
                    // Whoever appended it has not come to write it for so long: nobody will.
                    return Woken::Group;
                }
                commit.marked_seq = seq_before;
                return Woken::MarkDue;
            }
        }
    }

    /// Rests before the disk is asked for room again; false when the engine closes or has failed.
    fn await_space(&self) -> bool {
        let mut commit = self.commit.lock();
        if !commit.closed {
            self.log_wake.wait_for(&mut commit, RETRY_AFTER);
        }
        !commit.closed && self.poison.check().is_ok()
    }

    /// Writes a group and gives its memory back; or keeps it, as long as the disk has no room for
    /// a new segment. Nothing of it was written then, and its tickets wait.
    fn write_or_keep(
        &self,
        log: &mut LogWriter,
        mut group: Group,
        need: Need,
    ) -> Result<Option<Vec<u8>>, Error> {
        let rotated = match log.prepare(&group) {
            Ok(rotated) => rotated,
            Err(e) if e.is_full() => {
                self.full.set_log(true);
                log.stuck = Some((group, need));
                return Ok(None);
            }
            Err(e) => return Err(self.fail(&e.to_string())),
        };
        self.full.set_log(false);
        self.write_group(log, &mut group, need, rotated)?;
        Ok(Some(group.frame))
    }

    /// One write, one sync if a batch needs it, then the tickets.
    fn write_group(
        &self,
        log: &mut LogWriter,
        group: &mut Group,
        need: Need,
        rotated: bool,
    ) -> Result<(), Error> {
        let result = log.write(group).and_then(|_| {
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
                let began = Instant::now();
                let synced = log.sync();
                log.sync_took = began.elapsed();
                self.counters.log_sync_us.add(log.sync_took.as_micros() as u64);
                match synced {
                    Err(_) if self.trusts_failed_syncs() => {}
                    synced => synced?,
                }
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
        if !log.is_unsynced() {
            return Ok(());
        }
        self.counters.log_syncs.add(1);
        let began = Instant::now();
        let synced = log.sync();
        self.counters.log_sync_us.add(began.elapsed().as_micros() as u64);
        match synced {
            Err(_) if self.trusts_failed_syncs() => Ok(()),
            synced => synced.map_err(|e| self.fail(&e.to_string())),
        }
    }

    /// Whether the bug is planted that publishes tickets before the sync.
    #[cfg(any(test, feature = "__planted"))]
    fn reports_early(&self) -> bool {
        self.config.planted == crate::config::Planted::DurableBeforeSync
    }

    /// Whether the bug is planted that takes a failed sync for done.
    #[cfg(any(test, feature = "__planted"))]
    fn trusts_failed_syncs(&self) -> bool {
        self.config.planted == crate::config::Planted::FailedSyncIsDone
    }
}

/// What is not planted in a build that can't plant it.
#[cfg(not(any(test, feature = "__planted")))]
#[expect(clippy::unused_self, reason = "the twins that plant the bugs read the configuration")]
impl Shared {
    fn reports_early(&self) -> bool {
        false
    }

    fn trusts_failed_syncs(&self) -> bool {
        false
    }
}

/// Why the log writer woke up.
enum Woken {
    Group,
    SyncDue,
    MarkDue,
    /// To have a look at the log.
    Looking,
    Closed,
}
