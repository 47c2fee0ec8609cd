//! Figures of a running engine, for operators and tests.
//!
//! Counters only rise; gauges are what held at the time of the call, each on its own.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ticket::Ticket;

/// What an engine has done and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Ticket of the last batch appended.
    pub appended: Ticket,
    /// The durable ticket.
    pub durable: Ticket,
    /// Operations up to this sequence are in tables.
    pub flushed_seq: u64,
    /// Frames written to the log: groups of batches.
    pub log_frames: u64,
    /// Bytes written to the log, headers included, padding not.
    pub log_bytes_written: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Microseconds that they took.
    pub log_sync_us: u64,
    /// Live log segments, in bytes.
    pub log_bytes: u64,
    /// Memory of the memtable that is written to, in bytes, roughly.
    pub memtable_bytes: usize,
    /// Memtables that wait for their flush.
    pub memtables_sealed: usize,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of the tables that flushes wrote.
    pub flush_bytes_written: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Bytes of the tables that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Tables of each level, from level 0.
    pub level_tables: Vec<usize>,
    /// Bytes of each level, from level 0.
    pub level_bytes: Vec<u64>,
    /// Blocks and rows in the cache, in bytes.
    pub cache_bytes: u64,
    /// What the cache may hold, in bytes.
    pub cache_bytes_max: u64,
    /// Blocks that were not in the cache and came in from their files.
    pub cache_misses: u64,
    /// Memory pinned for the tables' indexes and filters, in bytes.
    pub pinned_bytes: usize,
    /// Appends that had to wait for room.
    pub stalls: u64,
    /// Snapshots and iterators that are held.
    pub snapshots: usize,
    /// Callbacks that wait for a ticket.
    pub waiting: usize,
    /// How often damage of the log was passed over when the directory was opened: see
    /// [`Config::accept_log_damage`](crate::Config::accept_log_damage).
    pub log_damage: u64,
    /// Operations that were in the log alone when the directory was opened, and were written to
    /// tables then: none after an orderly close.
    pub replayed_ops: u64,
    /// Whether writes are refused because the disk has no room.
    pub disk_full: bool,
    /// Damaged parts of tables that are not given up: see
    /// [`Engine::damage`](crate::Engine::damage).
    pub damaged: usize,
    /// Why writes have stopped, if they have.
    pub poisoned: Option<String>,
    /// Why the last compaction failed, if it did. After damage in a table compaction stops until
    /// it is given up or the directory is opened anew; reads of the damaged part fail, everything
    /// else goes on until level 0 is full. After a read error, or on a full disk, it is tried again
    /// after the next flush.
    pub compaction_stopped: Option<String>,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) log_frames: Counter,
    pub(crate) log_bytes_written: Counter,
    pub(crate) log_syncs: Counter,
    pub(crate) log_sync_us: Counter,
    pub(crate) flushes: Counter,
    pub(crate) flush_bytes_written: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compaction_bytes_written: Counter,
    pub(crate) stalls: Counter,
}

/// A count that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
