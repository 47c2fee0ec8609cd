//! WAIT: how many other replicas hold a connection's writes.
//!
//! The connection keeps the jobs of its writes since the last WAIT. A job goes on counting answers
//! after the client has its own, so WAIT only has to look, and to sleep until something changes.
//! What is on every replica leaves the list; the list is bounded, and what is pushed out of it is
//! remembered as the fewest holders that it had then. Hints don't count.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Coordinator;
use super::write::WriteJob;

/// Jobs that a connection remembers at most.
const JOBS_MAX: usize = 256;

/// A connection's writes since its last WAIT.
#[derive(Default)]
pub struct WriteLedger {
    jobs: VecDeque<Arc<WriteJob>>,
    /// The fewest holders of writes that are no longer followed.
    floor: Option<usize>,
}

impl std::fmt::Debug for WriteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteLedger").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl WriteLedger {
    /// Notes a batch of writes.
    pub(crate) fn note(&mut self, job: Option<Arc<WriteJob>>) {
        while self.jobs.front().is_some_and(|job| job.holders_min().1) {
            self.settle_front();
        }
        if self.jobs.len() >= JOBS_MAX {
            self.settle_front();
        }
        self.jobs.extend(job);
    }

    /// Notes a single write that is no longer followed, with the number of its other holders.
    pub(crate) fn note_holders(&mut self, holders: usize) {
        self.floor = Some(self.floor.map_or(holders, |floor| floor.min(holders)));
    }

    fn settle_front(&mut self) {
        if let Some(job) = self.jobs.pop_front() {
            self.note_holders(job.holders_min().0);
        }
    }

    /// The fewest other replicas that hold these writes; `None` if there were none.
    fn fewest(&self) -> Option<usize> {
        let followed = self.jobs.iter().map(|job| job.holders_min().0).min();
        match (followed, self.floor) {
            (Some(followed), Some(floor)) => Some(followed.min(floor)),
            (one, other) => one.or(other),
        }
    }
}

impl Coordinator {
    /// WAIT: sleeps until `wanted` other replicas hold the ledger's writes or `timeout_ms` is over
    /// (0: never), and empties the ledger. Answers how many do; with no writes, how many replicas
    /// there are.
    pub(crate) async fn wait(
        &self,
        ledger: &mut WriteLedger,
        wanted: usize,
        timeout_ms: u64,
    ) -> usize {
        let others = self.scope().map_or(0, |scope| usize::from(scope.keyspace.n) - 1);
        let limit = if timeout_ms == 0 { u64::MAX / 2 } else { timeout_ms };
        let give_up = self.sleep_until(self.parts.clock.steady_ms().saturating_add(limit));
        tokio::pin!(give_up);
        loop {
            let Some(fewest) = ledger.fewest() else { return others };
            let slowest = ledger.jobs.iter().find(|job| job.holders_min().0 < wanted);
            let (true, Some(job)) = (fewest < wanted, slowest) else {
                *ledger = WriteLedger::default();
                return fewest;
            };
            tokio::select! {
                biased;
                () = job.changed() => {}
                () = &mut give_up => {
                    *ledger = WriteLedger::default();
                    return fewest;
                }
            }
        }
    }
}
