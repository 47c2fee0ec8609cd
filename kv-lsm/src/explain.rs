//! Where a read looks and where it ends: for operators, and for tests that a read does no more
//! than it must.
//!
//! Invariant: explaining never touches the disk, so the last probe may be the one that only the
//! disk can settle.

use crate::error::Error;
use crate::sstable::Verdict;
use crate::ticket::Ticket;
use crate::view::View;

/// How a read of one key goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The memtable that settles it, if one does: 0 is the one written to, then the sealed ones,
    /// newest first.
    pub memtable: Option<MemtableHit>,
    /// Whether the newest row is held by itself in the cache: then no table is looked at.
    pub cached_row: bool,
    /// The tables that a read looks at unless an earlier place settles it, in order.
    pub tables: Vec<TableProbe>,
}

/// A memtable has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemtableHit {
    /// Which memtable: 0 is the one written to.
    pub index: usize,
    /// The batch that wrote it.
    pub ticket: Ticket,
    /// Whether it is a deletion.
    pub is_tombstone: bool,
}

/// What one table, whose keys surround the key, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableProbe {
    /// Id of the table, as in its file's name.
    pub table: u64,
    /// Its level.
    pub level: u8,
    /// How far a read gets.
    pub probe: Probe,
}

/// How far a read gets in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// The key is outside the table's keys.
    OutOfRange,
    /// The filter says that the key is not there.
    FilteredOut,
    /// A block must be searched.
    Block {
        /// Where it begins, in bytes.
        offset: u64,
        /// Its size on disk, in bytes.
        bytes: u32,
        /// Whether it is in the cache.
        cached: bool,
    },
}

pub(crate) fn explain(view: &View, key: &[u8]) -> Result<Explanation, Error> {
    let mut memtables = std::iter::once(&view.active).chain(&view.sealed).enumerate();
    let memtable = memtables.find_map(|(index, table)| {
        let seen = table.get(key, u64::MAX)?;
        let ticket = Ticket::from_seq(seen.seq);
        Some(MemtableHit { index, ticket, is_tombstone: seen.value.is_none() })
    });
    let tables = view.version.explain(key)?.into_iter().map(|(level, told)| {
        let probe = match told.verdict {
            Verdict::OutOfRange => Probe::OutOfRange,
            Verdict::FilteredOut => Probe::FilteredOut,
            Verdict::Block { offset, bytes, cached } => Probe::Block { offset, bytes, cached },
        };
        TableProbe { table: told.file_id, level, probe }
    });
    let cached_row = memtable.is_none() && view.is_row_cached(key);
    Ok(Explanation { memtable, cached_row, tables: tables.collect() })
}
