//! Versions: which tables make up the data, level by level, at one moment.
//!
//! ```text
//! level 0   tables as they were flushed: they overlap; newest first
//! level 1+  tables sorted by key, no two with a key in common
//! ```
//!
//! A version is immutable. Every change is an [`Edit`] that the [`Manifest`] makes durable before
//! the version that follows from it is shown to readers; a reader keeps its version, and with it
//! its tables, for as long as it reads (LevelDB's VersionSet).
//!
//! Invariant: of two versions of one key, the newer is never in a deeper level, nor behind in level
//! 0. So a read asks from the top and the first answer is the right one. And all versions of a key
//! in one level below 0 are in one table.

mod edit;
mod manifest;
mod state;

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use edit::Edit;
pub(crate) use manifest::Manifest;

use crate::cache::BlockCache;
use crate::error::Error;
use crate::fs::Fs;
use crate::key::{Entry, EntryIter, Seen};
use crate::sstable::{
    Damage, Explanation, FilterPolicy, ResidentEntry, Table, TableMeta, as_slice, table_path,
};

/// Number of levels, level 0 included. With a fan-out of 10, six levels below 0 hold a million
/// times the first.
pub(crate) const LEVELS: usize = 7;

/// What levels are made of: open tables, or (for the pure decisions, and before anything is
/// opened) what the manifest knows of them.
pub(crate) trait HasMeta: Clone {
    /// The table's meta.
    fn meta(&self) -> &TableMeta;

    /// Whether it should be written anew, because part of it was given up.
    fn is_spoilt(&self) -> bool;
}

impl HasMeta for TableMeta {
    fn meta(&self) -> &TableMeta {
        self
    }

    fn is_spoilt(&self) -> bool {
        false
    }
}

impl HasMeta for Arc<Table> {
    fn meta(&self) -> &TableMeta {
        Table::meta(self)
    }

    fn is_spoilt(&self) -> bool {
        Table::is_spoilt(self)
    }
}

/// The levels at one moment, and where compaction goes on in each.
#[derive(Clone, Debug)]
pub(crate) struct Version<T = Arc<Table>> {
    levels: Vec<Vec<T>>,
    cursors: Vec<Bytes>,
}

impl<T> Default for Version<T> {
    fn default() -> Self {
        Self {
            levels: (0..LEVELS).map(|_| Vec::new()).collect(),
            cursors: vec![Bytes::new(); LEVELS],
        }
    }
}

impl<T: HasMeta> Version<T> {
    /// A version of these tables; or the rule that they break.
    pub(crate) fn from_tables(
        tables: impl IntoIterator<Item = (u8, T)>,
        cursors: &[(u8, Bytes)],
    ) -> Result<Self, &'static str> {
        let mut version = Self::default();
        for (level, table) in tables {
            version.levels.get_mut(usize::from(level)).ok_or("no such level")?.push(table);
        }
        for (level, key) in cursors {
            let cursor = version.cursors.get_mut(usize::from(*level)).ok_or("no such level")?;
            *cursor = key.clone();
        }
        version.sort();
        let disjoint = |pair: &[T]| match pair {
            [a, b] => a.meta().largest < b.meta().smallest,
            _ => true,
        };
        if version.levels.iter().skip(1).all(|tables| tables.windows(2).all(disjoint)) {
            Ok(version)
        } else {
            Err("two tables of a level overlap")
        }
    }

    /// The version after `edit`; `open` makes the tables that it adds.
    ///
    /// # Panics
    /// If the edit removes what is not there or makes a level overlap: going on would answer reads
    /// wrongly.
    pub(crate) fn apply(
        &self,
        edit: &Edit,
        mut open: impl FnMut(&TableMeta) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let mut tables: Vec<(u8, T)> =
            self.tables().map(|(level, table)| (level, table.clone())).collect();
        for (level, file_id) in &edit.removed {
            let before = tables.len();
            tables.retain(|(at, table)| at != level || table.meta().file_id != *file_id);
            assert!(tables.len() + 1 == before, "an edit removes a table that is not there");
        }
        for (level, meta) in &edit.added {
            // A table that only moves is open already.
            let known = self.tables().find(|(_, table)| table.meta().file_id == meta.file_id);
            let table = match known {
                Some((_, table)) => table.clone(),
                None => open(meta)?,
            };
            tables.push((*level, table));
        }
        let mut cursors: Vec<(u8, Bytes)> = (0..).zip(self.cursors.iter().cloned()).collect();
        cursors.extend(edit.cursors.iter().cloned());
        match Self::from_tables(tables, &cursors) {
            Ok(version) => Ok(version),
            Err(rule) => panic!("an edit breaks a version: {rule}"),
        }
    }

    /// The tables of a level; none for a level that does not exist.
    pub(crate) fn level(&self, level: usize) -> &[T] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// All tables with their levels, from the top.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u8, &T)> {
        (0_u8..)
            .zip(&self.levels)
            .flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    /// Bytes of a level's files.
    pub(crate) fn level_bytes(&self, level: usize) -> u64 {
        self.level(level).iter().map(|table| table.meta().bytes).sum()
    }

    /// Largest key that the last compaction of a level took.
    pub(crate) fn cursor(&self, level: usize) -> &[u8] {
        self.cursors.get(level).map_or(&[], |key| key)
    }

    /// The tables of a level that have a key between `smallest` and `largest`.
    pub(crate) fn overlapping(&self, level: usize, smallest: &[u8], largest: &[u8]) -> Vec<&T> {
        let tables = self.level(level).iter();
        tables.filter(|table| table.meta().overlaps(smallest, largest)).collect()
    }

    /// Whether a level below `level` may hold `key`.
    pub(crate) fn is_deeper(&self, level: usize, key: &[u8]) -> bool {
        (level + 1..LEVELS).any(|deeper| self.covering(deeper, key).is_some())
    }

    /// The one table of a sorted level that may hold `key`. Binary search.
    fn covering(&self, level: usize, key: &[u8]) -> Option<&T> {
        let tables = self.level(level);
        let at = tables.partition_point(|table| table.meta().largest.as_ref() < key);
        tables.get(at).filter(|table| table.meta().covers(key))
    }

    /// The tables that may hold `key`, in the order in which a read asks them.
    fn candidates(&self, key: &[u8]) -> impl Iterator<Item = &T> {
        let flushed = self.level(0).iter().filter(move |table| table.meta().covers(key));
        flushed.chain((1..LEVELS).filter_map(move |level| self.covering(level, key)))
    }

    fn sort(&mut self) {
        let mut levels = self.levels.iter_mut();
        if let Some(flushed) = levels.next() {
            flushed.sort_by_key(|table| {
                std::cmp::Reverse((table.meta().max_seq, table.meta().file_id))
            });
        }
        for level in levels {
            level.sort_by(|a, b| a.meta().smallest.cmp(&b.meta().smallest));
        }
    }
}

impl Version<TableMeta> {
    /// Opens every table; one that is damaged or missing is quarantined.
    pub(crate) fn open(&self, opener: &Opener) -> Result<Version, Error> {
        let open = |tables: &Vec<TableMeta>| {
            tables.iter().map(|meta| opener.open_or_quarantine(meta)).collect()
        };
        let levels = self.levels.iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Version { levels, cursors: self.cursors.clone() })
    }
}

impl Version {
    /// The newest version of `key` at or below `snapshot`, a tombstone included; `hash` is the
    /// key's.
    pub(crate) fn get(&self, key: &[u8], hash: u64, snapshot: u64) -> Result<Option<Seen>, Error> {
        for table in self.candidates(key) {
            if let Some(seen) = table.get_hashed(key, hash, snapshot)? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// As [`Version::get`], without ever touching the disk.
    pub(crate) fn get_resident(
        &self,
        key: &[u8],
        hash: u64,
        snapshot: u64,
    ) -> Result<ResidentEntry, Error> {
        for table in self.candidates(key) {
            match table.get_resident_hashed(key, hash, snapshot)? {
                ResidentEntry::Absent => {}
                known => return Ok(known),
            }
        }
        Ok(ResidentEntry::Absent)
    }

    /// Walks over the entries within the bounds, the newest source first: one for each table of
    /// level 0 and one for each level below. For [`crate::iter::merge`].
    pub(crate) fn iters(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Vec<EntryIter> {
        let within = |table: &Arc<Table>| in_bounds(table.meta(), lower, upper);
        let flushed = self.level(0).iter().filter(|table| within(table));
        let mut walks: Vec<EntryIter> = flushed.map(|table| table.range(lower, upper)).collect();
        for level in 1..LEVELS {
            let tables: Vec<_> =
                self.level(level).iter().filter(|table| within(table)).cloned().collect();
            match tables.as_slice() {
                [] => {}
                [table] => walks.push(table.range(lower, upper)),
                _ => walks.push(in_sequence(tables, lower, upper)),
            }
        }
        walks
    }

    /// How a read of `key` would go, table by table with its level. Never touches the disk.
    pub(crate) fn explain(&self, key: &[u8]) -> Result<Vec<(u8, Explanation)>, Error> {
        self.tables()
            .filter(|(_, table)| table.meta().covers(key))
            .map(|(level, table)| Ok((level, table.explain(key)?)))
            .collect()
    }

    /// What of the tables is damaged and not given up.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        self.tables().flat_map(|(_, table)| table.damage()).collect()
    }

    /// Memory that is pinned for indexes and filters, bytes.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.tables().map(|(_, table)| table.pinned_bytes()).sum()
    }
}

/// Opens tables by their meta.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    /// Where the files are.
    pub(crate) fs: Arc<dyn Fs>,
    /// Their directory.
    pub(crate) dir: PathBuf,
    /// The cache that all tables share.
    pub(crate) cache: Arc<BlockCache>,
    /// How filters may have been made.
    pub(crate) filters: Vec<Arc<dyn FilterPolicy>>,
}

impl Opener {
    /// Opens one table.
    pub(crate) fn open(&self, meta: &TableMeta) -> Result<Arc<Table>, Error> {
        let path = table_path(&self.dir, meta.file_id);
        let (fs, cache) = (self.fs.as_ref(), Arc::clone(&self.cache));
        let policies: Vec<&dyn FilterPolicy> = self.filters.iter().map(Arc::as_ref).collect();
        Table::open(fs, &path, meta.clone(), cache, &policies).map(Arc::new)
    }

    /// Opens one table that may have been damaged while nobody looked.
    fn open_or_quarantine(&self, meta: &TableMeta) -> Result<Arc<Table>, Error> {
        let path = table_path(&self.dir, meta.file_id);
        let (fs, cache) = (self.fs.as_ref(), Arc::clone(&self.cache));
        let policies: Vec<&dyn FilterPolicy> = self.filters.iter().map(Arc::as_ref).collect();
        Table::open_or_quarantine(fs, &path, meta.clone(), cache, &policies).map(Arc::new)
    }
}

/// The entries of disjoint, sorted tables one after the other; over after an error.
pub(crate) fn in_sequence(
    tables: Vec<Arc<Table>>,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
) -> EntryIter {
    let (lower, upper) = (lower.map(Bytes::copy_from_slice), upper.map(Bytes::copy_from_slice));
    let walk =
        tables.into_iter().flat_map(move |table| table.range(as_slice(&lower), as_slice(&upper)));
    Box::new(UntilError { walk, failed: false })
}

/// As [`in_sequence`], over all entries and past the cache.
pub(crate) fn scan_in_sequence(tables: Vec<Arc<Table>>) -> EntryIter {
    let walk = tables.into_iter().flat_map(|table| table.scan());
    Box::new(UntilError { walk, failed: false })
}

/// A walk that never goes on behind an error.
struct UntilError<I> {
    walk: I,
    failed: bool,
}

impl<I: Iterator<Item = Result<Entry, Error>>> UntilError<I> {
    fn guard(&mut self, step: fn(&mut I) -> Option<I::Item>) -> Option<I::Item> {
        if self.failed {
            return None;
        }
        let item = step(&mut self.walk);
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl<I: Iterator<Item = Result<Entry, Error>>> Iterator for UntilError<I> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.guard(I::next)
    }
}

impl<I: DoubleEndedIterator<Item = Result<Entry, Error>>> DoubleEndedIterator for UntilError<I> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.guard(I::next_back)
    }
}

/// Whether a table may have an entry within the bounds.
fn in_bounds(meta: &TableMeta, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    let above = match lower {
        Bound::Unbounded => true,
        Bound::Included(key) => key <= meta.largest.as_ref(),
        Bound::Excluded(key) => key < meta.largest.as_ref(),
    };
    let below = match upper {
        Bound::Unbounded => true,
        Bound::Included(key) => meta.smallest.as_ref() <= key,
        Bound::Excluded(key) => meta.smallest.as_ref() < key,
    };
    above && below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(file_id: u64, low: &'static str, high: &'static str, max_seq: u64) -> TableMeta {
        TableMeta {
            file_id,
            smallest: Bytes::from_static(low.as_bytes()),
            largest: Bytes::from_static(high.as_bytes()),
            entries: 1,
            tombstones: 0,
            max_seq,
            bytes: 10,
            checksum: 0,
        }
    }

    #[test]
    fn level_0_is_ordered_by_age_and_the_others_by_key() {
        let tables = [
            (0, table(9, "a", "z", 5)),
            (0, table(3, "a", "z", 7)),
            (2, table(1, "m", "p", 4)),
            (2, table(2, "a", "b", 3)),
        ];
        let version = Version::from_tables(tables, &[(2, Bytes::from_static(b"c"))]).unwrap();
        let ids = |level| -> Vec<u64> {
            version.level(level).iter().map(|table: &TableMeta| table.file_id).collect()
        };
        assert_eq!((ids(0), ids(2)), (vec![3, 9], vec![2, 1]));
        assert_eq!(version.cursor(2), b"c");
        let asked: Vec<u64> = version.candidates(b"n").map(|table| table.file_id).collect();
        assert_eq!(asked, [3, 9, 1]);
        assert!(version.is_deeper(0, b"n") && version.is_deeper(1, b"n"));
        assert!(!version.is_deeper(2, b"n") && !version.is_deeper(0, b"c"));
    }

    #[test]
    fn what_breaks_a_version_is_named() {
        let overlap = [(1, table(1, "a", "m", 1)), (1, table(2, "m", "z", 2))];
        assert_eq!(Version::from_tables(overlap, &[]).err(), Some("two tables of a level overlap"));
        let level = LEVELS as u8;
        assert!(Version::from_tables([(level, table(1, "a", "m", 1))], &[]).is_err());
    }
}
