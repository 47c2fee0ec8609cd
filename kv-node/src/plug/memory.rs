//! The in-memory engine: 1,024 hash tables, by slot, under a few locks.
//!
//! It forgets everything at a restart, so the node mints under new tenures and counts as a
//! newcomer until it has exchanged with its peers. At its byte limit a write is refused (Redis's
//! `-OOM`); nothing is evicted, since an evicted row would be a lost acknowledged write.
//!
//! A table holds hashes and addresses, and the rows of all tables behind one lock lie in one arena
//! (`arena`), most of them without what can be told from the rest (`row`): a pair of 16 and 100
//! bytes costs 160 bytes there and 15 in its table (`table`). A look-up misses the cache for the
//! table's entry and for the row, and for nothing else. A batch takes a lock once and finds its
//! rows before it looks into them, so that their cache misses overlap; where each key took its own
//! lock, they could not (a third of a SET's time was waiting for them). A scan collects and sorts
//! one table at a time: it holds 16 slots, a thousandth of the rows.
//!
//! Room is taken before a batch is written, and what it did not need is given back. At the limit
//! what dead rows hold is won back first, and a batch that makes no row larger is taken: removals,
//! and what puts something shorter in the place of a value.
//!
//! Invariant: `used_bytes` is at most `memory_bytes_max`, whoever writes at once.

mod arena;
mod group;
mod pack;
mod row;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::quality::FixedState;
use parking_lot::{Mutex, MutexGuard};

use self::group::{Group, Place, plain, show, with_scratch};
use self::pack::Packer;
use self::row::{KEY_BYTES_MAX, STORED_BYTES_MAX, Stored};
use self::table::{ENTRY_BYTES, Hash};
use super::storage::{
    EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row, StorageEngine,
    StorageError, Ticket,
};

/// Tables: 16 slots each.
const TABLES: usize = 1_024;

/// What a row costs at most beside its key and value.
const ROW_OVERHEAD_BYTES: u64 = ENTRY_BYTES + row::ROW_OVERHEAD_BYTES as u64;

/// Rows that are looked for before the first of them is looked at.
const AT_ONCE: usize = 16;

/// Settings of the in-memory engine.
#[derive(Clone, Copy, Debug)]
pub struct MemoryConfig {
    /// Bytes of rows, with overhead, before writes are refused.
    pub memory_bytes_max: u64,
    /// Values of at least so many bytes are held compressed when that makes them smaller by an
    /// eighth: LZ4, with the first values as the dictionary. `None` never compresses.
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

/// The engine.
pub struct MemoryEngine {
    groups: Box<[Mutex<Group>]>,
    hasher: FixedState,
    packer: Packer,
    /// What rows take, and what batches that are being written may need.
    used_bytes: AtomicU64,
    rows: AtomicU64,
    /// The group of which dead rows are looked for next.
    hand: AtomicUsize,
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
        let locks = config.locks.clamp(1, TABLES).next_power_of_two().min(TABLES);
        let group = |_| Mutex::new(Group::new(TABLES / locks));
        Self {
            groups: (0..locks).map(group).collect(),
            hasher: FixedState::with_seed(config.hash_seed),
            packer: Packer::new(config.compress_bytes_min),
            used_bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            config,
        }
    }

    #[inline]
    fn place(&self, key: &[u8]) -> Place {
        let table = table_of(key);
        let locks = self.groups.len();
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let hash = Hash::of(hasher.finish());
        Place { group: table % locks, table: table / locks, hash }
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

    /// Takes room for a batch, if there is; gives how much.
    fn reserve(&self, batch: &FrozenBatch) -> Option<u64> {
        let cost = cost_of(batch);
        if self.reserve_bytes(cost) {
            return Some(cost);
        }
        let growth = self.growth_of(batch);
        while !self.reserve_bytes(growth) {
            if !self.win_back() {
                return None;
            }
        }
        Some(growth)
    }

    fn reserve_bytes(&self, cost: u64) -> bool {
        let fits =
            |used: u64| used.checked_add(cost).filter(|used| *used <= self.config.memory_bytes_max);
        // What needs nothing is never refused.
        cost == 0
            || self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// By how much a batch makes the rows larger. Nobody else writes its keys before it is written:
    /// their owner holds their locks.
    fn growth_of(&self, batch: &FrozenBatch) -> u64 {
        let mut seen = BTreeSet::new();
        let growth = |(key, value): (_, Option<&[u8]>)| {
            let is_first = seen.insert(key);
            let Some(value) = value else { return 0 };
            if !is_first {
                // What this key's row will be then, nobody knows yet.
                return cost_of_row(key, value);
            }
            let place = self.place(key);
            Stored::with(value, &self.packer, |stored| {
                self.lock(place.group).growth(place, key, stored)
            })
        };
        batch.slices().map(growth).sum()
    }

    /// Wins room back from dead rows; false if there is little to win.
    fn win_back(&self) -> bool {
        let groups = self.groups.len();
        (0..groups).any(|_| {
            let number = self.hand.fetch_add(1, Ordering::Relaxed) % groups;
            let mut group = self.lock(number);
            let (_, before) = group.size();
            let has_moved = group.move_from_next(|key| self.place(key));
            let won = before - group.size().1;
            self.used_bytes.fetch_sub(won, Ordering::Relaxed);
            has_moved
        })
    }

    /// Shows rows that are behind one lock: finds some, then shows them.
    fn visit_group(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        let group = self.lock(0);
        with_scratch(|scratch| {
            for (part, first) in keys.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
                let mut places = [None; AT_ONCE];
                for (place, key) in places.iter_mut().zip(part) {
                    *place = Some(self.place(key));
                }
                let guesses = group.guess(&places);
                for ((key, guess), at) in part.iter().zip(guesses).zip(first..) {
                    let row = guess.and_then(|guess| {
                        // Another key may have the same hash.
                        group.row(guess, key).or_else(|| group.find(self.place(key), key))
                    });
                    show(at, row, &self.packer, scratch, visit)?;
                }
            }
            Ok(())
        })
    }

    /// Shows rows one by one.
    fn visit_each(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        with_scratch(|scratch| {
            for (at, key) in keys.iter().enumerate() {
                let place = self.place(key);
                let group = self.lock(place.group);
                show(at, group.find(place, key), &self.packer, scratch, visit)?;
            }
            Ok(())
        })
    }
}

/// What a batch takes at most; what it removes takes nothing.
#[inline]
fn cost_of(batch: &FrozenBatch) -> u64 {
    batch.slices().filter_map(|(key, value)| Some(cost_of_row(key, value?))).sum()
}

#[inline]
fn cost_of_row(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ROW_OVERHEAD_BYTES
}

/// What a batch changed, modulo 2^64.
#[derive(Default)]
struct Growth {
    rows: u64,
    bytes: u64,
}

impl Growth {
    #[inline]
    fn add(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.rows = self.rows.wrapping_add(after.0.wrapping_sub(before.0));
        self.bytes = self.bytes.wrapping_add(after.1.wrapping_sub(before.1));
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
        if self.groups.len() == 1 && keys.len() > 1 {
            self.visit_group(keys, visit)
        } else {
            self.visit_each(keys, visit)
        }
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        self.open()?;
        let is_too_large = |(key, value): (&[u8], Option<&[u8]>)| {
            key.len() > KEY_BYTES_MAX || value.is_some_and(|value| value.len() > STORED_BYTES_MAX)
        };
        if batch.slices().any(is_too_large) {
            return Err(StorageError::Full(format!("a row of at most {STORED_BYTES_MAX} bytes")));
        }
        let Some(reserved) = self.reserve(batch) else {
            return Err(StorageError::Full(format!(
                "memory_bytes_max of {} bytes",
                self.config.memory_bytes_max
            )));
        };
        let mut growth = Growth::default();
        let mut locked: Option<(usize, MutexGuard<'_, Group>)> = None;
        for (key, value) in batch.slices() {
            let place = self.place(key);
            let same = locked.as_ref().is_some_and(|(group, _)| *group == place.group);
            if !same {
                drop(locked.take());
            }
            let (_, group) = locked.get_or_insert_with(|| (place.group, self.lock(place.group)));
            let before = group.size();
            match value {
                Some(value) => {
                    Stored::with(value, &self.packer, |stored| group.put(place, key, stored));
                }
                None => group.remove(place, key),
            }
            group.move_from_sparse(|key| self.place(key));
            growth.add(before, group.size());
        }
        drop(locked);
        self.rows.fetch_add(growth.rows, Ordering::Relaxed);
        self.used_bytes.fetch_add(growth.bytes.wrapping_sub(reserved), Ordering::Relaxed);
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
                let Some(row) = group.find(place, key) else { return Ok(None) };
                let bytes = with_scratch(|scratch| plain(&row, &self.packer, scratch))?;
                Ok(Some(Row { bytes, ticket: Ticket::DURABLE }))
            })
            .collect()
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.open()?;
        let mut out = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        let locks = self.groups.len();
        for table in table_of(&page.from)..=last_table(&page) {
            let rows = self.lock(table % locks).sorted(table / locks, &page, &self.packer)?;
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
            let found = self.lock(place.group).find(place, key).is_some();
            if found { "memory table" } else { "no row" }.into()
        });
        (status, found)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
