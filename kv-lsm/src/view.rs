//! What a reader sees: memtables and tables at one moment, never changed, only replaced.
//!
//! Invariant: of two versions of a key, the newer is found first: in the active memtable, the
//! sealed ones from the newest, then the tables.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::iter::merge;
use crate::key::{EntryIter, Seen};
use crate::memtable::{Memtable, is_empty_range};
use crate::sstable::{ResidentEntry, as_slice};
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
            None => match self.version.get_resident(key, u64::MAX)? {
                ResidentEntry::Found(seen) => seen,
                ResidentEntry::Absent => return Ok(Resident::Absent),
                ResidentEntry::NeedsIo => return Ok(Resident::NeedsIo),
            },
        };
        Ok(seen.found().map_or(Resident::Absent, Resident::Found))
    }

    /// The value of `key` that a reader at `seq` sees.
    pub(crate) fn get(&self, key: &[u8], seq: u64) -> Result<Option<Found>, Error> {
        if let Some(seen) = self.get_memory(key, seq) {
            return Ok(seen.found());
        }
        Ok(self.version.get(key, seq)?.and_then(Seen::found))
    }

    /// All entries between the bounds, merged.
    pub(crate) fn range(&self, lower: &Bound<Bytes>, upper: &Bound<Bytes>) -> EntryIter {
        if is_empty_range(lower, upper) {
            return Box::new(std::iter::empty());
        }
        let mut sources: Vec<EntryIter> = std::iter::once(&self.active)
            .chain(&self.sealed)
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
