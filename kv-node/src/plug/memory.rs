//! The in-memory engine: 1,024 hash tables, by slot, under a few locks.
//!
//! It forgets everything at a restart, so the node mints under new tenures and counts as a
//! newcomer until it has exchanged with its peers. At its byte limit a write is refused (Redis's
//! `-OOM`); nothing is evicted, since an evicted row would be a lost acknowledged write.
//!
//! A row is one allocation, key and value behind each other, and its hash stands in the table: a
//! look-up misses the cache for the table's entry and for the row, and for nothing else. A batch
//! takes a lock once and finds all its rows before it looks into any, so that their cache misses
//! overlap; where each key took its own lock, they could not (a third of a SET's time was waiting
//! for them). A scan collects and sorts one table at a time: it holds 16 slots, a thousandth of
//! the rows.
//!
//! Invariant: `used_bytes` is at most `memory_bytes_max` after every append.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::storage::{
    EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row, StorageEngine,
    StorageError, Ticket,
};

/// Tables: 16 slots each.
const TABLES: usize = 1_024;

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
    /// Locks over the tables, a power of two up to 1,024: one where one thread serves, more where
    /// several do.
    pub locks: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { memory_bytes_max: 1 << 30, compress_bytes_min: None, hash_seed: 0, locks: 1 }
    }
}

/// A row: key and value in one allocation.
struct Held {
    hash: u64,
    key_bytes: u32,
    /// Length of the value before compression, or 0 for one that is held as it is.
    plain_bytes: u32,
    bytes: Vec<u8>,
}

type Table = HashTable<Held>;

/// The tables behind one lock.
type Group = Box<[Table]>;

/// The engine.
pub struct MemoryEngine {
    groups: Box<[Mutex<Group>]>,
    hasher: FixedState,
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

/// A key's place: its group, its table in that, its hash.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    table: usize,
    hash: u64,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new(config: MemoryConfig) -> Self {
        let locks = config.locks.clamp(1, TABLES).next_power_of_two().min(TABLES);
        let group = |_| Mutex::new((0..TABLES / locks).map(|_| Table::new()).collect());
        Self {
            groups: (0..locks).map(group).collect(),
            hasher: FixedState::with_seed(config.hash_seed),
            used_bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            config,
        }
    }

    #[inline]
    fn place(&self, key: &[u8]) -> Place {
        let table = table_of(key);
        let locks = self.groups.len();
        Place { group: table % locks, table: table / locks, hash: self.hasher.hash_one(key) }
    }

    #[inline]
    fn lock(&self, group: usize) -> MutexGuard<'_, Group> {
        #[expect(clippy::indexing_slicing, reason = "a place's group is below their number")]
        self.groups[group].lock()
    }

    #[inline]
    fn open(&self) -> Result<(), StorageError> {
        if self.closed.load(Ordering::Relaxed) { Err(StorageError::Closed) } else { Ok(()) }
    }

    fn put(&self, group: &mut Group, place: Place, key: &[u8], value: &[u8]) {
        let packed = self.pack(value);
        let Some(table) = group.get_mut(place.table) else { return };
        if let Some(held) = table.find_mut(place.hash, |held| held.is(place.hash, key)) {
            let before = held.bytes.len() as u64;
            held.replace(value, packed.as_deref());
            let after = held.bytes.len() as u64;
            self.used_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            return;
        }
        let held = Held::new(place.hash, key, value, packed.as_deref());
        self.used_bytes.fetch_add(held.cost(), Ordering::Relaxed);
        self.rows.fetch_add(1, Ordering::Relaxed);
        table.insert_unique(place.hash, held, |held| held.hash);
    }

    fn remove(&self, group: &mut Group, place: Place, key: &[u8]) {
        let Some(table) = group.get_mut(place.table) else { return };
        if let Ok(found) = table.find_entry(place.hash, |held| held.is(place.hash, key)) {
            let (held, _) = found.remove();
            self.used_bytes.fetch_sub(held.cost(), Ordering::Relaxed);
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

    /// Shows rows that are behind one lock: finds all, then shows all.
    fn visit_group(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        let group = self.lock(0);
        let mut found: Vec<Option<&Held>> = Vec::with_capacity(keys.len());
        let mut touched = 0_u8;
        for key in keys {
            let place = self.place(key);
            let held = group
                .get(place.table)
                .and_then(|table| table.find(place.hash, |held| held.hash == place.hash));
            touched ^= held.and_then(|held| held.bytes.last().copied()).unwrap_or(0);
            found.push(held);
        }
        // The last bytes were read so that the rows are on their way from memory; nothing else.
        std::hint::black_box(touched);
        for (at, (key, held)) in keys.iter().zip(found).enumerate() {
            let held = match held {
                Some(held) if held.key() == *key => Some(held),
                // Another key has the same 64-bit hash, or there is none.
                Some(_) => find(&group, self.place(key), key),
                None => None,
            };
            show(at, held, visit)?;
        }
        Ok(())
    }

    /// The rows of one table with `from <= key < to`, sorted.
    fn sorted(table: &Table, page: &PageRequest) -> Result<Vec<Pair>, StorageError> {
        let within = |key: &[u8]| *key >= *page.from && (page.to.is_empty() || *key < *page.to);
        let mut rows = table
            .iter()
            .filter(|held| within(held.key()))
            .map(|held| Ok((Bytes::copy_from_slice(held.key()), held.plain()?)))
            .collect::<Result<Vec<_>, StorageError>>()?;
        rows.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        Ok(rows)
    }
}

type Pair = (Bytes, Bytes);

#[inline]
fn find<'g>(group: &'g Group, place: Place, key: &[u8]) -> Option<&'g Held> {
    group.get(place.table)?.find(place.hash, |held| held.is(place.hash, key))
}

#[inline]
fn show(
    at: usize,
    held: Option<&Held>,
    visit: &mut dyn FnMut(usize, Resident<'_>),
) -> Result<(), StorageError> {
    match held {
        None => visit(at, Resident::Absent),
        Some(held) if held.plain_bytes == 0 => {
            visit(at, Resident::Found { bytes: held.value(), ticket: Ticket::DURABLE });
        }
        Some(held) => {
            let bytes = held.unpacked()?;
            visit(at, Resident::Found { bytes: &bytes, ticket: Ticket::DURABLE });
        }
    }
    Ok(())
}

impl Held {
    fn new(hash: u64, key: &[u8], value: &[u8], packed: Option<&[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        let key_bytes = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let mut held = Self { hash, key_bytes, plain_bytes: 0, bytes };
        held.replace(value, packed);
        held
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_bytes as usize).unwrap_or_default()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.bytes.get(self.key_bytes as usize..).unwrap_or_default()
    }

    #[inline]
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key() == key
    }

    fn cost(&self) -> u64 {
        self.bytes.len() as u64 + ROW_OVERHEAD_BYTES
    }

    /// Takes a new value, into the same allocation where it fits without much waste.
    fn replace(&mut self, value: &[u8], packed: Option<&[u8]>) {
        self.plain_bytes = match packed {
            Some(_) => u32::try_from(value.len()).unwrap_or(u32::MAX),
            None => 0,
        };
        let stored = packed.unwrap_or(value);
        self.bytes.truncate(self.key_bytes as usize);
        self.bytes.extend_from_slice(stored);
        if self.bytes.capacity() > self.bytes.len().saturating_mul(2).saturating_add(64) {
            self.bytes.shrink_to_fit();
        }
    }

    fn unpacked(&self) -> Result<Vec<u8>, StorageError> {
        lz4_flex::block::decompress(self.value(), self.plain_bytes as usize).map_err(|error| {
            StorageError::Damaged(format!("a compressed value in memory: {error}"))
        })
    }

    fn plain(&self) -> Result<Bytes, StorageError> {
        if self.plain_bytes == 0 {
            return Ok(Bytes::copy_from_slice(self.value()));
        }
        self.unpacked().map(Bytes::from)
    }
}

#[inline]
fn table_of(key: &[u8]) -> usize {
    match key {
        [_, _, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low]) >> 4) % TABLES,
        _ => 0,
    }
}

/// The last table that can hold keys below `to`; an empty one bounds nothing.
fn last_table(page: &PageRequest) -> usize {
    let slot = match &*page.to {
        // Another keyspace's slots begin anew.
        [_, _, _, _, high, low, ..] if page.to.get(..4) == page.from.get(..4) => {
            usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return TABLES - 1,
    };
    (slot >> 4).min(TABLES - 1)
}

impl Quarantine for MemoryEngine {}

#[async_trait]
impl StorageEngine for MemoryEngine {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.open()?;
        if self.groups.len() == 1 {
            return self.visit_group(keys, visit);
        }
        for (at, key) in keys.iter().enumerate() {
            let place = self.place(key);
            let group = self.lock(place.group);
            show(at, find(&group, place, key), visit)?;
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
        let mut locked: Option<(usize, MutexGuard<'_, Group>)> = None;
        for (key, value) in batch.slices() {
            let place = self.place(key);
            let same = locked.as_ref().is_some_and(|(group, _)| *group == place.group);
            if !same {
                drop(locked.take());
            }
            let (_, group) = locked.get_or_insert_with(|| (place.group, self.lock(place.group)));
            match value {
                Some(value) => self.put(group, place, key, value),
                None => self.remove(group, place, key),
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
                let place = self.place(key);
                let group = self.lock(place.group);
                let Some(held) = find(&group, place, key) else { return Ok(None) };
                Ok(Some(Row { bytes: held.plain()?, ticket: Ticket::DURABLE }))
            })
            .collect()
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.open()?;
        let mut out = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        let locks = self.groups.len();
        for table in table_of(&page.from)..=last_table(&page) {
            let rows = match self.lock(table % locks).get(table / locks) {
                Some(table) => Self::sorted(table, &page)?,
                None => Vec::new(),
            };
            for (key, value) in rows {
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
            ..EngineStatus::default()
        };
        let found = explain.map(|key| {
            let place = self.place(key);
            let found = find(&self.lock(place.group), place, key).is_some();
            if found { "memory table" } else { "no row" }.into()
        });
        (status, found)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
