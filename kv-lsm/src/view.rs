//! What a reader sees: memtables and tables at one moment, never changed, only replaced.
//!
//! Invariant: of two versions of a key, the newer is found first: in the active memtable, the
//! sealed ones from the newest, then the tables.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::BlockCache;
use crate::error::Error;
use crate::iter::merge;
use crate::key::{EntryIter, Seen};
use crate::keyspace::{self, Registry};
use crate::memtable::{Memtable, is_empty_range};
use crate::sstable::{ResidentEntry, Table, as_slice, key_hash};
use crate::ticket::Ticket;
use crate::version::Version;

/// A value, and what a reader must wait for before showing it to someone who counts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// Durable no later than the value is.
    pub ticket: Ticket,
}

/// What can be said about a key without touching the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// The key's value.
    Found(Found),
    /// The key has none.
    Absent,
    /// Only [`Engine::get`](crate::Engine::get), which reads the disk, can tell.
    NeedsIo,
}

/// What a reader sees; never changed, only replaced.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    pub(crate) version: Arc<Version>,
    pub(crate) cache: Arc<BlockCache>,
    /// That of the cache's rows for which this view is the newest.
    pub(crate) epoch: u64,
    /// The keyspaces; keys here are as they are stored.
    pub(crate) spaces: Arc<Registry>,
}

impl View {
    /// The version of `key` at `seq` in the memtables.
    pub(crate) fn get_memory(&self, key: &[u8], seq: u64) -> Option<Seen> {
        std::iter::once(&self.active).chain(&self.sealed).find_map(|table| table.get(key, seq))
    }

    /// The newest value of `key`, without touching the disk.
    pub(crate) fn get_resident(&self, key: &[u8]) -> Result<Resident, Error> {
        let seen = match self.get_memory(key, u64::MAX) {
            Some(seen) => seen,
            None => match self.get_resident_below(key)? {
                ResidentEntry::Found(seen) => seen,
                ResidentEntry::Absent => return Ok(Resident::Absent),
                ResidentEntry::NeedsIo => return Ok(Resident::NeedsIo),
            },
        };
        Ok(seen.found().map_or(Resident::Absent, Resident::Found))
    }

    /// The same, in the tables.
    fn get_resident_below(&self, key: &[u8]) -> Result<ResidentEntry, Error> {
        let hash = key_hash(key);
        if let Some(seen) = self.cache.find_row(key, hash) {
            return Ok(ResidentEntry::Found(seen));
        }
        let entry = self.version.get_resident(key, hash, u64::MAX)?;
        if let ResidentEntry::Found(seen) = &entry {
            self.cache.offer_row(key, hash, seen, self.epoch);
        }
        Ok(entry)
    }

    /// Whether the cache holds the newest row of `key`, which no memtable has.
    pub(crate) fn is_row_cached(&self, key: &[u8]) -> bool {
        self.cache.find_row(key, key_hash(key)).is_some()
    }

    /// The newest value of `key`.
    pub(crate) fn get_newest(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        if let Some(seen) = self.get_memory(key, u64::MAX) {
            return Ok(seen.found());
        }
        let hash = key_hash(key);
        if let Some(seen) = self.cache.find_row(key, hash) {
            return Ok(seen.found());
        }
        let seen = self.version.get(key, hash, u64::MAX)?;
        if let Some(seen) = &seen {
            self.cache.offer_row(key, hash, seen, self.epoch);
        }
        Ok(seen.and_then(Seen::found))
    }

    /// The value of `key` that a reader at `seq` sees. Such a reader may hold an old view, for
    /// which the cache's rows are too new.
    pub(crate) fn get(&self, key: &[u8], seq: u64) -> Result<Option<Found>, Error> {
        if let Some(seen) = self.get_memory(key, seq) {
            return Ok(seen.found());
        }
        Ok(self.version.get(key, key_hash(key), seq)?.and_then(Seen::found))
    }

    /// The bounds of a range of a keyspace, as its keys are stored.
    pub(crate) fn stored_bounds<K: AsRef<[u8]>>(
        &self,
        id: keyspace::Id,
        range: &impl RangeBounds<K>,
    ) -> (Bound<Bytes>, Bound<Bytes>) {
        let (lower, upper) = (range.start_bound(), range.end_bound());
        self.spaces.bounds(id, lower.map(AsRef::as_ref), upper.map(AsRef::as_ref))
    }

    /// About how many bytes of tables the keys of a range of a keyspace take on the disk.
    pub(crate) fn approximate_bytes<K: AsRef<[u8]>>(
        &self,
        id: keyspace::Id,
        range: &impl RangeBounds<K>,
    ) -> Result<u64, Error> {
        let (lower, upper) = self.stored_bounds(id, range);
        let within = |table| Table::bytes_within(table, as_slice(&lower), as_slice(&upper));
        self.version.tables().map(|(_, table)| within(table)).sum()
    }

    /// All entries between the bounds, merged.
    pub(crate) fn range(&self, lower: &Bound<Bytes>, upper: &Bound<Bytes>) -> EntryIter {
        if is_empty_range(lower, upper) {
            return Box::new(std::iter::empty());
        }
        // What comes into an empty one is too new for whoever asks now.
        let mut sources: Vec<EntryIter> = std::iter::once(&self.active)
            .chain(&self.sealed)
            .filter(|table| !table.is_empty())
            .map(|table| table.range(lower.clone(), upper.clone()))
            .collect();
        sources.extend(self.version.iters(as_slice(lower), as_slice(upper)));
        merge(sources)
    }
}

impl Seen {
    fn found(self) -> Option<Found> {
        let ticket = Ticket::from_seq(self.seq);
        self.value.map(|value| Found { value, ticket })
    }
}
