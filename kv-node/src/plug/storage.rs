//! The storage seam: ordered bytes that survive, with a ticket for each append.
//!
//! An engine knows bytes, not versions. `append` puts a batch into the log's buffer and makes it
//! readable at once; the ticket that it gives tells when the batch is durable. What is read comes
//! with the ticket that it waits for, since a reply must not show what a power cut can still take
//! back. The replica crosses this seam once for a batch and holds its key locks across
//! `visit_resident` and `append` only, which never wait for a disk.
//!
//! Invariant: a read error is never "not found".

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// Names a point in an engine's order of appends. `Ticket::DURABLE` needs no waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

impl Ticket {
    /// What is already durable, or as durable as its engine makes anything.
    pub const DURABLE: Self = Self(0);

    /// Whether a caller has to wait before it may show what this ticket names.
    pub fn is_durable(self) -> bool {
        self == Self::DURABLE
    }
}

/// What memory knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resident<'a> {
    /// The row, and when it may be shown.
    Found {
        /// The stored bytes.
        bytes: &'a [u8],
        /// `Ticket::DURABLE`, or what to wait for.
        ticket: Ticket,
    },
    /// Certainly no row.
    Absent,
    /// Only a disk read can tell: use `read`.
    NeedsIo,
}

/// A row that was read, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stored bytes.
    pub bytes: Bytes,
    /// `Ticket::DURABLE`, or what to wait for before it is shown.
    pub ticket: Ticket,
}

/// Rows to put or remove, in one allocation: all take effect together or not at all.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    rows: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl WriteBatch {
    /// An empty batch with room for `rows` rows of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), rows: Vec::with_capacity(rows) }
    }

    /// Adds a row. `write` appends the value's bytes to the buffer that it is given, and must only
    /// append. Returns what `write` returns.
    pub fn put_with<T>(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let value_start = self.bytes.len();
        let result = write(&mut self.bytes);
        assert!(self.bytes.len() >= value_start, "a value writer only appends");
        self.rows.push((key_start..value_start, Some(value_start..self.bytes.len())));
        result
    }

    /// Adds a row.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_with(key, |out| out.extend_from_slice(value));
    }

    /// Removes a row: what it held is gone for good, so only collection and flush do this.
    pub fn delete(&mut self, key: &[u8]) {
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.rows.push((key_start..self.bytes.len(), None));
    }

    /// Takes the last row back.
    pub fn pop(&mut self) {
        if let Some((key, _)) = self.rows.pop() {
            self.bytes.truncate(key.start);
        }
    }

    /// The value of a row, in the order they were put.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let (_, value) = self.rows.get(row)?;
        self.bytes.get(value.clone()?)
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys and values.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Freezes the batch: its rows then share one allocation and are cheap to clone.
    pub fn freeze(self) -> FrozenBatch {
        FrozenBatch { bytes: Bytes::from(self.bytes), rows: self.rows }
    }
}

/// A batch that can no longer change.
#[derive(Clone, Debug, Default)]
pub struct FrozenBatch {
    bytes: Bytes,
    rows: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl FrozenBatch {
    /// Bytes of keys and values.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as (key, value), in the order they were put; each shares the batch's allocation.
    /// No value means that the row is removed.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (Bytes, Option<Bytes>)> + '_ {
        self.rows.iter().map(|(key, value)| {
            (self.bytes.slice(key.clone()), value.clone().map(|range| self.bytes.slice(range)))
        })
    }

    /// The rows as borrowed (key, value), in the order they were put.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> + '_ {
        self.rows.iter().map(|(key, value)| {
            let value = value.clone().and_then(|range| self.bytes.get(range));
            (self.bytes.get(key.clone()).unwrap_or_default(), value)
        })
    }
}

/// One page of an ordered read.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows in key order.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether the range is exhausted: if not, go on just above the last row's key.
    pub end: bool,
    /// What to wait for before the rows are shown.
    pub ticket: Ticket,
}

/// Bounds of one page of a scan: keys in `[from, to)`.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// First key, inclusive.
    pub from: Bytes,
    /// End, exclusive; empty means no upper bound.
    pub to: Bytes,
    /// Rows at most.
    pub rows_max: usize,
    /// Bytes of keys and values at most; at least one row comes whatever its size.
    pub bytes_max: usize,
}

/// Figures of an engine, for operators.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// `lsm` or `memory`.
    pub name: &'static str,
    /// Whether nothing survives a restart; then every row is in memory and every ticket durable.
    pub volatile: bool,
    /// Whether a power cut can take what `durable` has returned for.
    pub unsynced: bool,
    /// Names what unsynced writes survive in, such as the system's present boot: a start that finds
    /// the same name has lost nothing. `None` when nobody can tell.
    pub boot: Option<Arc<str>>,
    /// How far in its order of appends the engine is durable; never lower after a restart, unless
    /// something was lost. 0 for a volatile one.
    pub position: u64,
    /// Bytes that a batch may hold and any one row can still be added to it; 0 if there is no
    /// bound.
    pub batch_room_bytes: usize,
    /// Bytes of rows held in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Rows, if the engine counts them (rows, not live keys).
    pub rows: Option<u64>,
    /// Further (name, value) figures, each name a metric's suffix.
    pub figures: Vec<(&'static str, u64)>,
    /// Set when the engine takes no more writes, and why.
    pub poisoned: Option<String>,
}

impl EngineStatus {
    /// Bytes of memory that its rows may take; 0 where nothing but the disk bounds them.
    pub fn memory_bytes_max(&self) -> u64 {
        let max = self.figures.iter().find(|(name, _)| *name == "memory_bytes_max");
        max.map_or(0, |(_, bytes)| *bytes)
    }
}

/// What an engine may answer instead.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The memory or disk limit is reached: nothing was written, reads go on. Free space or raise
    /// the limit.
    Full(String),
    /// The disk has no room: nothing was written, reads go on. Writes are taken again by themselves
    /// when there is.
    DiskFull,
    /// The disk does not keep up with the writes: nothing was written. Retry with back-off.
    Busy(String),
    /// A sync or append failed: what was not acknowledged may or may not be there after a restart,
    /// and no further write is taken. Restart the node, look at its disk.
    Poisoned(String),
    /// Stored bytes are damaged: nothing was served. The text names the file and offset.
    Damaged(String),
    /// A read failed: nothing is known of the row. Another replica has to answer.
    Io(String),
    /// The engine is closed.
    Closed,
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(what) => write!(f, "storage is full: {what}"),
            Self::DiskFull => write!(f, "the disk is full"),
            Self::Busy(what) => write!(f, "storage does not keep up: {what}"),
            Self::Poisoned(what) => write!(f, "storage takes no more writes: {what}"),
            Self::Damaged(what) => write!(f, "stored data is damaged: {what}"),
            Self::Io(what) => write!(f, "storage could not be read: {what}"),
            Self::Closed => write!(f, "storage is closed"),
        }
    }
}

impl std::error::Error for StorageError {}

/// Keys of which an engine can't read some stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The damaged file.
    pub file: String,
    /// Where in it the damage begins.
    pub offset: u64,
    /// What does not hold.
    pub what: String,
    /// No key before this one is touched. It may be a key cut short.
    pub smallest: Bytes,
    /// No key after this one is touched. It may be a key cut short.
    pub largest: Bytes,
}

/// What an engine knows of its own damage. One that keeps nothing on disk has none, and implements
/// neither method.
pub trait Quarantine: Send + Sync + 'static {
    /// Ranges that reads, scans or compactions found damaged: `read` and `scan` of their keys
    /// answer `Damaged`.
    fn damaged(&self) -> Vec<DamagedRange> {
        Vec::new()
    }

    /// Takes what was stored in the range's damaged bytes for lost: from now on they read as
    /// empty, and older rows may come to light. The caller has noted the loss durably.
    fn give_up(&self, _nothing_is_damaged: &DamagedRange) {}
}

/// An engine. See the module's text for the contract, `contract::suite` for its proof.
#[async_trait]
pub trait StorageEngine: Quarantine {
    /// Shows `visit` what memory knows of each key, in order, without waiting for a disk. `visit`
    /// runs under the engine's own short locks and must not call the engine.
    ///
    /// # Errors
    /// When the engine can't serve reads at all; `visit` may have seen some keys.
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError>;

    /// Takes a batch: readable on return, durable when `durable(ticket)` returns. Never waits for
    /// a sync.
    ///
    /// # Errors
    /// Nothing of the batch was taken.
    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError>;

    /// Returns when everything up to `ticket` is durable.
    ///
    /// # Errors
    /// What the ticket names may or may not survive: it is not acknowledged.
    async fn durable(&self, ticket: Ticket) -> Result<(), StorageError>;

    /// Reads keys, from disk where need be, in order.
    ///
    /// # Errors
    /// Nothing is known of any of the keys.
    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError>;

    /// Reads one page of a key range.
    ///
    /// # Errors
    /// Nothing is known of the range.
    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError>;

    /// Figures for operators; `explain` adds where the key was found.
    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>);

    /// Makes everything durable and stops; later calls get `Closed`.
    async fn close(&self) -> Result<(), StorageError>;
}
