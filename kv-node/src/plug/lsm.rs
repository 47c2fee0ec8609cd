//! The engine on disk: kv-lsm behind the storage seam.
//!
//! kv-lsm is synchronous and hands out tickets. Here a ticket becomes a future (one wake from the
//! thread that synced for all that it made durable), reads that need the disk go to the blocking
//! pool as one piece of work for a batch, and what memory can answer is answered without leaving
//! the thread.
//!
//! Tickets of the seam are kv-lsm's numbers plus one, so that 0 stays "durable already". With
//! `periodic` and `os` a ticket is durable when the log thread has written it: the end of the
//! process takes nothing, a power cut what was not synced.
//!
//! Inline (`kv_lsm::Threads::Inline`), nobody else works: `durable` writes and syncs itself, after
//! it has let other tasks of the runtime go first, so that batches gather as they do while a real
//! disk is busy. `step_until_idle` does the flushes and compactions.
//!
//! Invariant: an error of kv-lsm is never turned into "no such row".

mod waiting;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_lsm::fs::Fs;
use kv_lsm::{Batch, Engine, Error, Probe, StepOutcome, Threads};
use tokio::sync::oneshot;

use super::exec::Exec;
use super::storage::{
    DamagedRange, EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row,
    StorageEngine, StorageError, Ticket,
};
use crate::teeth::{Bug, planted};
use waiting::Waiting;

/// When an append counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LsmDurability {
    /// When it is synced.
    #[default]
    Sync,
    /// When it is written to the system; synced within so many milliseconds.
    Periodic {
        /// Milliseconds until the sync begins, at most.
        ms: u64,
    },
    /// When it is written to the system, which decides when it is synced.
    Os,
}

impl From<LsmDurability> for kv_lsm::Durability {
    fn from(durability: LsmDurability) -> Self {
        match durability {
            LsmDurability::Sync => Self::Sync,
            LsmDurability::Periodic { ms } => Self::Periodic { ms },
            LsmDurability::Os => Self::Os,
        }
    }
}

/// A log-structured engine in one directory.
#[derive(Clone)]
pub struct LsmEngine {
    engine: Engine,
    durability: LsmDurability,
    inline: bool,
    exec: Arc<dyn Exec>,
    waiting: Arc<Waiting>,
    closed: Arc<AtomicBool>,
    boot: Option<Arc<str>>,
    batch_room_bytes: usize,
}

impl std::fmt::Debug for LsmEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmEngine")
            .field("durability", &self.durability)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}

impl LsmEngine {
    /// Opens `dir` and recovers what its log holds. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Engine::open`]: locked, damaged, unreadable, or a configuration that contradicts
    /// itself.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        config: kv_lsm::Config,
        durability: LsmDurability,
        exec: Arc<dyn Exec>,
    ) -> Result<Self, Error> {
        let inline = config.threads == Threads::Inline;
        let largest_row = config.key_bytes_max.saturating_add(config.value_bytes_max);
        // Half of what is left: rows cost the log a few bytes more than they hold.
        let batch_room_bytes = (config.batch_bytes_max.saturating_sub(largest_row) / 2).max(1);
        let engine = Engine::open(fs, dir, config)?;
        let (waiting, closed) = (Arc::default(), Arc::default());
        Ok(Self { engine, durability, inline, exec, waiting, closed, boot: None, batch_room_bytes })
    }

    /// Names the system's present boot: what was written but not synced outlives this process as
    /// long as that goes on.
    #[must_use]
    pub fn in_boot(mut self, boot: Option<String>) -> Self {
        self.boot = boot.map(Arc::from);
        self
    }

    /// What a node asks of kv-lsm: room for a record at kv-quorum's limit with what joins may add,
    /// and a short wait when the disk does not keep up, since `append` runs on a runtime thread.
    pub fn default_config() -> kv_lsm::Config {
        kv_lsm::Config {
            value_bytes_max: 8 << 20,
            batch_bytes_max: 11 << 20,
            log_segment_bytes: 16 << 20,
            log_segments_spare_max: 4,
            stall_ms_max: 100,
            // Appends are made on threads that serve others, too.
            paced: false,
            ..kv_lsm::Config::default()
        }
    }

    /// The engine itself, for figures and tests.
    pub fn inner(&self) -> &Engine {
        &self.engine
    }

    /// Inline: does all the work there is, one unit between two turns of the runtime.
    ///
    /// # Errors
    /// What a unit met; the engine is poisoned then.
    pub async fn step_until_idle(&self) -> Result<(), StorageError> {
        while self.engine.step().map_err(storage_error)? != StepOutcome::Idle {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn open_still(&self) -> Result<(), StorageError> {
        if self.closed.load(Ordering::Acquire) { Err(StorageError::Closed) } else { Ok(()) }
    }

    /// A ticket of the seam for one of kv-lsm, `durable` being durable for sure. With `periodic`
    /// and `os` that means written to the operating system, so killing the process loses nothing.
    fn ticket(ticket: kv_lsm::Ticket, durable: kv_lsm::Ticket) -> Ticket {
        if ticket <= durable { Ticket::DURABLE } else { Ticket(ticket.seq().saturating_add(1)) }
    }

    /// Runs what may wait for a disk where that is allowed, and gives its result.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (give, take) = oneshot::channel();
        let own = self.clone();
        self.exec
            .blocking(Box::new(move || {
                // Whoever asked may be gone.
                let _unwanted = give.send(work(&own));
            }))
            .await;
        take.await.unwrap_or_else(|_| Err(StorageError::Io("the read ended early".into())))
    }

    fn page(&self, page: &PageRequest) -> Result<Page, StorageError> {
        let snapshot = self.engine.snapshot();
        let ticket = Self::ticket(snapshot.ticket(), self.engine.durable());
        let upper =
            if page.to.is_empty() { Bound::Unbounded } else { Bound::Excluded(page.to.clone()) };
        let mut out = Page { end: true, ticket, ..Page::default() };
        if !page.to.is_empty() && page.from >= page.to {
            return Ok(out);
        }
        let mut bytes = 0;
        for row in snapshot.scan::<Bytes>((Bound::Included(page.from.clone()), upper)) {
            let (key, value) = row.map_err(storage_error)?;
            let full = out.rows.len() >= page.rows_max.max(1) || bytes >= page.bytes_max;
            if full && !out.rows.is_empty() {
                out.end = false;
                break;
            }
            bytes += key.len() + value.len();
            out.rows.push((key, value));
        }
        Ok(out)
    }

    fn explain(&self, key: &[u8]) -> String {
        let explanation = match self.engine.explain(key) {
            Ok(explanation) => explanation,
            Err(error) => return error.to_string(),
        };
        if let Some(hit) = explanation.memtable {
            let which = if hit.index == 0 { "memtable" } else { "sealed memtable" };
            let what = if hit.is_tombstone { ", removed" } else { "" };
            return format!("{which}, sequence {}{what}", hit.ticket.seq());
        }
        if explanation.cached_row {
            return "row cache".into();
        }
        let mut said: Vec<String> = Vec::new();
        for table in &explanation.tables {
            let what = match &table.probe {
                Probe::OutOfRange => continue,
                Probe::FilteredOut => "not there by its filter".into(),
                Probe::Block { offset, bytes, cached } => {
                    let place = if *cached { "cache" } else { "disk" };
                    format!("block of {bytes} bytes at {offset}, {place}")
                }
                other => format!("{other:?}"),
            };
            said.push(format!("table {} of level {}: {what}", table.table, table.level));
        }
        if said.is_empty() { "no row".into() } else { said.join("; ") }
    }
}

/// The seam's error for one of kv-lsm.
fn storage_error(error: Error) -> StorageError {
    match error {
        Error::Io { .. } => StorageError::Io(error.to_string()),
        Error::Corrupt { .. } | Error::UnknownFormat { .. } => {
            StorageError::Damaged(error.to_string())
        }
        Error::Poisoned { .. } => StorageError::Poisoned(error.to_string()),
        Error::TooLarge { .. } => StorageError::Full(error.to_string()),
        Error::DiskFull => StorageError::DiskFull,
        Error::Busy { .. } => StorageError::Busy(error.to_string()),
        Error::Closed => StorageError::Closed,
        other => StorageError::Io(other.to_string()),
    }
}

fn described(damage: &kv_lsm::Damage) -> DamagedRange {
    DamagedRange {
        file: damage.path.display().to_string(),
        offset: damage.offset,
        what: damage.what.to_owned(),
        smallest: damage.smallest.clone(),
        largest: damage.largest.clone(),
    }
}

impl Quarantine for LsmEngine {
    fn damaged(&self) -> Vec<DamagedRange> {
        self.engine.damage().iter().map(described).collect()
    }

    fn give_up(&self, range: &DamagedRange) {
        for damage in self.engine.damage().iter().filter(|damage| described(damage) == *range) {
            self.engine.give_up(damage);
        }
    }
}

#[async_trait]
impl StorageEngine for LsmEngine {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.open_still()?;
        let durable = self.engine.durable();
        for (place, key) in keys.iter().enumerate() {
            let resident = match self.engine.get_resident(key) {
                // `read` answers it, for this key alone.
                Err(Error::Corrupt { .. }) => kv_lsm::Resident::NeedsIo,
                other => other.map_err(storage_error)?,
            };
            match resident {
                kv_lsm::Resident::Found(found) => {
                    let ticket = Self::ticket(found.ticket, durable);
                    visit(place, Resident::Found { bytes: &found.value, ticket });
                }
                kv_lsm::Resident::Absent => visit(place, Resident::Absent),
                kv_lsm::Resident::NeedsIo => visit(place, Resident::NeedsIo),
            }
        }
        Ok(())
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        self.open_still()?;
        let mut rows = Batch::new();
        rows.set_durability(self.durability.into());
        for (key, value) in batch.slices() {
            match value {
                Some(value) => rows.put(key, value),
                None => rows.delete(key),
            };
        }
        let ticket = self.engine.append(&rows).map_err(storage_error)?;
        Ok(Self::ticket(ticket, kv_lsm::Ticket::default()))
    }

    async fn durable(&self, ticket: Ticket) -> Result<(), StorageError> {
        let Some(seq) = ticket.0.checked_sub(1) else { return Ok(()) };
        let ticket = kv_lsm::Ticket::from_seq(seq);
        if self.inline {
            tokio::task::yield_now().await;
            while self.engine.durable() < ticket {
                if self.engine.step().map_err(storage_error)? == StepOutcome::Idle {
                    break;
                }
            }
        }
        if self.engine.durable() >= ticket {
            return Ok(());
        }
        let told = self.waiting.wait(&self.engine, &*self.exec, ticket).await;
        told.map_or(Err(StorageError::Closed), |told| told.map_err(storage_error))
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        self.open_still()?;
        let keys = keys.to_vec();
        self.blocking(move |own| {
            let durable = own.engine.durable();
            keys.iter()
                .map(|key| {
                    let found = match own.engine.get(key) {
                        Err(Error::Io { .. }) if planted(Bug::ReadErrorIsAbsent) => None,
                        read => read.map_err(storage_error)?,
                    };
                    Ok(found.map(|found| Row {
                        ticket: Self::ticket(found.ticket, durable),
                        bytes: found.value,
                    }))
                })
                .collect()
        })
        .await
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.open_still()?;
        self.blocking(move |own| own.page(&page)).await
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        let stats = self.engine.stats();
        let (memtable, pinned) = (stats.memtable_bytes as u64, stats.pinned_bytes as u64);
        let tables: usize = stats.level_tables.iter().sum();
        let status = EngineStatus {
            name: "lsm",
            volatile: false,
            unsynced: self.durability != LsmDurability::Sync,
            boot: self.boot.clone(),
            position: stats.durable.seq(),
            batch_room_bytes: self.batch_room_bytes,
            memory_bytes: memtable + pinned + stats.cache_bytes,
            disk_bytes: stats.log_bytes + stats.level_bytes.iter().sum::<u64>(),
            rows: None,
            figures: vec![
                ("log_frames", stats.log_frames),
                ("log_bytes_written", stats.log_bytes_written),
                ("log_syncs", stats.log_syncs),
                ("log_sync_us", stats.log_sync_us),
                ("log_bytes", stats.log_bytes),
                ("memtable_bytes", memtable),
                ("memtables_sealed", stats.memtables_sealed as u64),
                ("flushes", stats.flushes),
                ("flush_bytes_written", stats.flush_bytes_written),
                ("compactions", stats.compactions),
                ("compaction_bytes_written", stats.compaction_bytes_written),
                ("tables", tables as u64),
                ("level0_tables", stats.level_tables.first().copied().unwrap_or(0) as u64),
                ("cache_bytes", stats.cache_bytes),
                ("cache_bytes_max", stats.cache_bytes_max),
                ("cache_misses", stats.cache_misses),
                ("pinned_bytes", pinned),
                ("stalls", stats.stalls),
                ("snapshots", stats.snapshots as u64),
                ("awaiting_sync", stats.waiting as u64),
                ("damaged", stats.damaged as u64),
                ("replayed_ops", stats.replayed_ops),
                ("disk_full", u64::from(stats.disk_full)),
                ("compaction_stopped", u64::from(stats.compaction_stopped.is_some())),
            ],
            poisoned: stats.poisoned,
        };
        (status, explain.map(|key| self.explain(key)))
    }

    async fn close(&self) -> Result<(), StorageError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.blocking(|own| own.engine.close().map_err(storage_error)).await
    }
}

#[cfg(test)]
mod tests;
