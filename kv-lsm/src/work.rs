//! How the threads that flush and compact are woken, and what stops them.
//!
//! Invariant: what was added before a thread looked for work is never slept over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

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

/// Whether the disk had no room, when it was asked last: for a log segment, for a table. Either
/// stops appends; each is taken back by whoever set it, who goes on asking.
#[derive(Debug, Default)]
pub(crate) struct Full {
    log: AtomicBool,
    flush: AtomicBool,
}

impl Full {
    pub(crate) fn is_set(&self) -> bool {
        self.log.load(Ordering::Acquire) || self.flush.load(Ordering::Acquire)
    }

    pub(crate) fn set_log(&self, full: bool) {
        if self.log.load(Ordering::Relaxed) != full {
            self.log.store(full, Ordering::Release);
        }
    }

    pub(crate) fn set_flush(&self, full: bool) {
        self.flush.store(full, Ordering::Release);
    }

    pub(crate) fn stops_flush(&self) -> bool {
        self.flush.load(Ordering::Acquire)
    }
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

    /// How the last compaction went.
    pub(crate) fn note_compaction(&self, failed: Option<Error>) {
        self.state.lock().compaction_stopped = failed;
    }

    /// As [`Work::wait`], for so long at most.
    pub(crate) fn wait_for(&self, seen: &mut u64, rest: Duration) -> bool {
        let mut state = self.state.lock();
        if state.added == *seen && !self.is_closing() {
            self.wake.wait_for(&mut state, rest);
        }
        *seen = state.added;
        !self.is_closing()
    }

    /// Sleeps until something was added after `seen`; false when the engine closes.
    pub(crate) fn wait(&self, seen: &mut u64) -> bool {
        let mut state = self.state.lock();
        while state.added == *seen && !self.is_closing() {
            self.wake.wait(&mut state);
        }
        *seen = state.added;
        !self.is_closing()
    }
}
