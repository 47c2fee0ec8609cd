//! The in-memory engine: a hash table in 1,024 shards, by slot.
//!
//! It forgets everything at a restart, so the node mints under new tenures and counts as a
//! newcomer until it has exchanged with its peers. At its byte limit a write is refused (Redis's
//! `-OOM`); nothing is evicted, since an evicted row would be a lost acknowledged write.
//!
//! A point read is one lock and one look-up, without allocation. A scan collects and sorts one
//! shard at a time: a shard holds 16 slots, a thousandth of the rows.
//!
//! Invariant: `used_bytes` is at most `memory_bytes_max` after every append.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::storage::{
    EngineStatus, FrozenBatch, Page, PageRequest, Resident, Row, StorageEngine, StorageError,
    Ticket,
};

/// Shards: one lock each. 16 slots a shard.
const SHARDS: usize = 1_024;

/// What a row costs beside its bytes: two allocations and a table entry.
const ROW_OVERHEAD_BYTES: u64 = 64;

/// Settings of the in-memory engine.
#[derive(Clone, Copy, Debug)]
pub struct MemoryConfig {
    /// Bytes of rows, with overhead, before writes are refused.
    pub memory_bytes_max: u64,
    /// Values of at least so many bytes are held LZ4-compressed when that makes them smaller by an
    /// eighth; `None` never compresses.
    pub compress_bytes_min: Option<usize>,
    /// Seed of the tables' hash, so that a client can't choose keys that collide.
    pub hash_seed: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { memory_bytes_max: 1 << 30, compress_bytes_min: None, hash_seed: 0 }
    }
}

/// A row's bytes, as held.
struct Held {
    bytes: Vec<u8>,
    /// Length before compression, or 0 for bytes held as they are.
    plain_bytes: u32,
}

type Table = HashMap<Box<[u8]>, Held, FixedState>;

/// The engine.
pub struct MemoryEngine {
    shards: Box<[Mutex<Table>]>,
    used_bytes: AtomicU64,
    rows: AtomicU64,
    closed: AtomicBool,
    config: MemoryConfig,
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine")
            .field("used_bytes", &self.used_bytes)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new(config: MemoryConfig) -> Self {
        let shard = |_| Mutex::new(Table::with_hasher(FixedState::with_seed(config.hash_seed)));
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            used_bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            config,
        }
    }

    #[inline]
    fn shard(&self, key: &[u8]) -> &Mutex<Table> {
        #[expect(clippy::indexing_slicing, reason = "shard_of is below SHARDS")]
        &self.shards[shard_of(key)]
    }

    #[inline]
    fn open(&self) -> Result<(), StorageError> {
        if self.closed.load(Ordering::Relaxed) { Err(StorageError::Closed) } else { Ok(()) }
    }

    fn put(&self, key: &[u8], value: &[u8]) {
        let packed = self.pack(value);
        let mut table = self.shard(key).lock();
        if let Some(held) = table.get_mut(key) {
            let before = held.bytes.len() as u64;
            held.replace(value, packed);
            let after = held.bytes.len() as u64;
            self.used_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        } else {
            let mut held = Held { bytes: Vec::new(), plain_bytes: 0 };
            held.replace(value, packed);
            let cost = row_cost(key, held.bytes.len());
            table.insert(key.into(), held);
            self.used_bytes.fetch_add(cost, Ordering::Relaxed);
            self.rows.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, key: &[u8]) {
        if let Some(held) = self.shard(key).lock().remove(key) {
            self.used_bytes.fetch_sub(row_cost(key, held.bytes.len()), Ordering::Relaxed);
            self.rows.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn pack(&self, value: &[u8]) -> Option<Vec<u8>> {
        let min = self.config.compress_bytes_min?;
        if value.len() < min {
            return None;
        }
        let packed = lz4_flex::block::compress(value);
        (packed.len() <= value.len() - value.len() / 8).then_some(packed)
    }

    /// The rows of one shard with `from <= key < to`, sorted.
    fn sorted(shard: &Mutex<Table>, page: &PageRequest) -> Result<Vec<Pair>, StorageError> {
        let mut rows = shard
            .lock()
            .iter()
            .filter(|(key, _)| ***key >= *page.from && (page.to.is_empty() || ***key < *page.to))
            .map(|(key, held)| Ok((Bytes::copy_from_slice(key), held.plain()?)))
            .collect::<Result<Vec<_>, StorageError>>()?;
        rows.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        Ok(rows)
    }
}

type Pair = (Bytes, Bytes);

impl Held {
    /// Takes new bytes, into the same allocation where it fits without much waste.
    fn replace(&mut self, value: &[u8], packed: Option<Vec<u8>>) {
        if let Some(packed) = packed {
            self.plain_bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
            self.bytes = packed;
            return;
        }
        self.plain_bytes = 0;
        if self.bytes.capacity() > value.len().saturating_mul(2).saturating_add(64) {
            self.bytes = value.to_vec();
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(value);
        }
    }

    fn unpacked(&self) -> Result<Vec<u8>, StorageError> {
        lz4_flex::block::decompress(&self.bytes, self.plain_bytes as usize).map_err(|error| {
            StorageError::Damaged(format!("a compressed value in memory: {error}"))
        })
    }

    fn plain(&self) -> Result<Bytes, StorageError> {
        if self.plain_bytes == 0 {
            return Ok(Bytes::copy_from_slice(&self.bytes));
        }
        self.unpacked().map(Bytes::from)
    }
}

#[inline]
fn shard_of(key: &[u8]) -> usize {
    match key {
        [_, _, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low]) >> 4) % SHARDS,
        _ => 0,
    }
}

fn row_cost(key: &[u8], value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64 + ROW_OVERHEAD_BYTES
}

#[async_trait]
impl StorageEngine for MemoryEngine {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.open()?;
        for (place, key) in keys.iter().enumerate() {
            let table = self.shard(key).lock();
            match table.get(*key) {
                None => visit(place, Resident::Absent),
                Some(held) if held.plain_bytes == 0 => {
                    visit(place, Resident::Found { bytes: &held.bytes, ticket: Ticket::DURABLE });
                }
                Some(held) => {
                    let bytes = held.unpacked()?;
                    visit(place, Resident::Found { bytes: &bytes, ticket: Ticket::DURABLE });
                }
            }
        }
        Ok(())
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        self.open()?;
        let cost = batch.byte_len() as u64 + ROW_OVERHEAD_BYTES * batch.len() as u64;
        if self.used_bytes.load(Ordering::Relaxed) + cost > self.config.memory_bytes_max {
            return Err(StorageError::Full(format!(
                "memory_bytes_max of {} bytes",
                self.config.memory_bytes_max
            )));
        }
        for (key, value) in batch.slices() {
            match value {
                Some(value) => self.put(key, value),
                None => self.remove(key),
            }
        }
        Ok(Ticket::DURABLE)
    }

    async fn durable(&self, _ticket: Ticket) -> Result<(), StorageError> {
        self.open()
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        self.open()?;
        keys.iter()
            .map(|key| {
                let table = self.shard(key).lock();
                let Some(held) = table.get(&**key) else { return Ok(None) };
                Ok(Some(Row { bytes: held.plain()?, ticket: Ticket::DURABLE }))
            })
            .collect()
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.open()?;
        let first = shard_of(&page.from);
        let mut out = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        for shard in self.shards.iter().skip(first) {
            for (key, value) in Self::sorted(shard, &page)? {
                let full = out.rows.len() >= page.rows_max.max(1) || bytes >= page.bytes_max;
                if full && !out.rows.is_empty() {
                    out.end = false;
                    return Ok(out);
                }
                bytes += key.len() + value.len();
                out.rows.push((key, value));
            }
        }
        Ok(out)
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        let status = EngineStatus {
            name: "memory",
            volatile: true,
            memory_bytes: self.used_bytes.load(Ordering::Relaxed),
            disk_bytes: 0,
            rows: Some(self.rows.load(Ordering::Relaxed)),
            figures: vec![("memory_bytes_max", self.config.memory_bytes_max)],
            poisoned: None,
        };
        let found = explain.map(|key| {
            if self.shard(key).lock().contains_key(key) { "memory table" } else { "no row" }.into()
        });
        (status, found)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
