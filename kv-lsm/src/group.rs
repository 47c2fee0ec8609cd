//! Group commit: the log writer takes all that has gathered, writes it with one call, syncs once,
//! and tells everyone. While it is at it the next group gathers (Pebble's flush loop, MySQL's and
//! RocksDB's group commit, without the hand-over between leaders).
//!
//! Invariants: groups are written in the order of their sequences; a ticket is published after the
//! sync that its batch asked for; after an error nothing more is written.

use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::commit::{Commit, Need};
use crate::error::Error;
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

    /// The log writer's life: takes groups until the engine is closed and nothing is left.
    pub(crate) fn run_log(&self) {
        let mut spare = Vec::new();
        let mut sync_due = None;
        let mut log = self.log.lock();
        loop {
            let woken = match log.stuck.take() {
                Some((group, need)) => {
                    if !self.await_space() {
                        log.stuck = Some((group, need));
                        return;
                    }
                    Woken::Group(group, need)
                }
                None => self.await_group(&mut spare, sync_due, &log),
            };
            let done = match woken {
                Woken::Group(group, need) => {
                    self.room.notify_all();
                    let done = match self.write_or_keep(&mut log, group, need) {
                        Ok(frame) => {
                            spare = frame.unwrap_or_default();
                            Ok(())
                        }
                        Err(error) => Err(error),
                    };
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
                match log.sync() {
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
        self.counters.log_syncs.add(1);
        match log.sync() {
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
