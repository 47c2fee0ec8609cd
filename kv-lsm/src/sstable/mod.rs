//! Sorted tables: immutable files of entries in order, the form in which data rests.
//!
//! The outer layout is drawn in `footer`, the parts in `block` (entries), `seal` (what every block
//! wears on disk), `index` and `filter`. `builder` writes a table, `reader` and `iter` read it. The
//! whole follows LevelDB's table and what RocksDB learned since: checksums that know their place,
//! pinned filters, a checksum of the whole file kept outside of it.
//!
//! Invariant: a damaged byte in a table is an error that names file and offset, never an answer.

pub(crate) mod block;
mod builder;
mod filter;
pub(crate) mod footer;
pub(crate) mod index;
mod iter;
mod quarantine;
mod raw;
mod reader;
pub(crate) mod seal;
#[cfg(test)]
mod tests;
mod training;
#[cfg(test)]
mod zstd_tests;

use std::path::{Path, PathBuf};

use bytes::Bytes;

pub(crate) use builder::Builder;
pub(crate) use filter::key_hash;
pub use filter::{BlockedBloom, Bloom, Filter, FilterPolicy};
pub(crate) use iter::as_slice;
pub use quarantine::Damage;
pub(crate) use reader::Table;

use crate::key::Seen;

/// What the manifest knows of a table. A table is of no level by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMeta {
    /// Names the file; never used again in this directory.
    pub(crate) file_id: u64,
    /// First key.
    pub(crate) smallest: Bytes,
    /// Last key.
    pub(crate) largest: Bytes,
    /// Entries, tombstones included.
    pub(crate) entries: u64,
    /// Entries that are tombstones.
    pub(crate) tombstones: u64,
    /// Highest sequence.
    pub(crate) max_seq: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// CRC-32 of the whole file.
    pub(crate) checksum: u32,
}

impl TableMeta {
    /// Whether `key` lies between the first and the last key.
    #[inline]
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.smallest.as_ref() <= key && key <= self.largest.as_ref()
    }

    /// Whether the two ranges of keys have one in common.
    pub(crate) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        self.smallest.as_ref() <= largest && smallest <= self.largest.as_ref()
    }
}

/// The answer of a read that may not wait for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResidentEntry {
    /// The newest version at or below the snapshot.
    Found(Seen),
    /// Certainly none: by range, filter, or the cached block.
    Absent,
    /// Only the disk knows.
    NeedsIo,
}

/// How a table would serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) file_id: u64,
    pub(crate) verdict: Verdict,
}

/// The step at which a read of a table ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The key is not between the table's keys: nothing is read.
    OutOfRange,
    /// The filter says no: nothing is read.
    FilteredOut,
    /// One block is looked at, from the cache or from the disk.
    Block {
        /// Where it lies in the file.
        offset: u64,
        /// Its length on disk.
        bytes: u32,
        /// Whether the cache has it.
        cached: bool,
    },
}

/// The file of table `file_id` in `dir`.
pub(crate) fn table_path(dir: &Path, file_id: u64) -> PathBuf {
    dir.join(format!("{file_id:016}.table"))
}

/// The id in a table's file name; `None` for any other name.
pub(crate) fn table_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".table")?;
    (digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}
