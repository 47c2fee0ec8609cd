//! An open table: point reads, with and without the disk.
//!
//! Index and filter are pinned when the table is opened. A read asks in order of cost: is the key
//! in the table's range, does the filter let it pass, which block would hold it, is that block
//! cached; only then the disk. [`Table::get_resident_hashed`] stops before the disk, so that it can
//! run on a thread that must not wait.
//!
//! Invariant: every byte that reaches an answer was under a checksum that was verified; a table
//! that is not, byte for byte, what its builder wrote gives an error with file and offset.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, Malformed};
use super::filter::{Filter, FilterPolicy, key_hash};
use super::footer::FOOTER_BYTES;
use super::index::Index;
use super::iter::TableIter;
use super::quarantine::{Damage, Health, Quarantine};
use super::raw::Raw;
use super::seal::{Handle, unseal};
use super::{Explanation, ResidentEntry, TableMeta, Verdict};
use crate::cache::BlockCache;
use crate::compression::{Dictionary, IS_BUILT_IN};
use crate::error::Error;
use crate::fs::{File, Fs, OpenMode};
use crate::key::{EntryIter, Seen};

/// A table that can be read. Shared behind an `Arc`; readers that hold it keep it readable after
/// its file was removed.
#[derive(Debug)]
pub(crate) struct Table {
    /// None for a table that could not be opened; then the quarantine has it as a whole.
    file: Option<Arc<dyn File>>,
    path: PathBuf,
    meta: TableMeta,
    index: Index,
    filter: Option<Box<dyn Filter>>,
    /// With which blocks were compressed.
    dictionary: Option<Dictionary>,
    cache: Arc<BlockCache>,
    quarantine: Quarantine,
}

impl Table {
    /// Opens the table that the manifest calls `meta` and pins its index and filter.
    /// Three or four reads.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        meta: TableMeta,
        cache: Arc<BlockCache>,
        policies: &[&dyn FilterPolicy],
    ) -> Result<Self, Error> {
        let file =
            fs.open(path, OpenMode::Read).map_err(|source| Error::io("open", path, source))?;
        let len = file.len().map_err(|source| Error::io("measure", path, source))?;
        let footer_at = match len.checked_sub(FOOTER_BYTES as u64) {
            Some(at) if len == meta.bytes => at,
            _ => return Err(Error::corrupt(path, len, "the file's length is not the manifest's")),
        };
        let raw = Raw { file: file.as_ref(), path, file_id: meta.file_id, len, dictionary: None };
        let footer = raw.footer(footer_at)?;
        let place = raw.properties(&footer, &meta)?;
        if footer.zstd && !IS_BUILT_IN {
            return Err(Error::NeedsFeature { path: path.to_path_buf(), feature: "zstd" });
        }
        let dictionary = raw.load_dictionary(place)?;
        let (filter, mut data_end) = raw.filter(&footer, policies)?;
        if dictionary.is_some() {
            data_end = place.offset;
        }
        let index = Bytes::from(raw.block(footer.index)?);
        let index = Index::parse(index, data_end)
            .map_err(|Malformed| Error::corrupt(path, footer.index.offset, "a bad index"))?;
        Ok(Self {
            file: Some(file),
            path: path.to_path_buf(),
            meta,
            index,
            filter,
            dictionary,
            cache,
            quarantine: Quarantine::default(),
        })
    }

    /// As [`Table::open`], but a table that is damaged or missing is kept: its keys can't be read
    /// until it is given up.
    pub(crate) fn open_or_quarantine(
        fs: &dyn Fs,
        path: &Path,
        meta: TableMeta,
        cache: Arc<BlockCache>,
        policies: &[&dyn FilterPolicy],
    ) -> Result<Self, Error> {
        let opened = Self::open(fs, path, meta.clone(), Arc::clone(&cache), policies);
        let (offset, what) = match opened {
            Err(Error::Corrupt { offset, what, .. }) => (offset, what),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                (0, "missing, and the manifest names it")
            }
            other => return other,
        };
        Ok(Self {
            file: None,
            path: path.to_path_buf(),
            meta,
            index: Index::none(),
            filter: None,
            dictionary: None,
            cache,
            quarantine: Quarantine::whole(offset, what),
        })
    }

    /// What of the table is damaged and not given up.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        let wounds = self.quarantine.open_wounds();
        wounds
            .into_iter()
            .map(|(whole, offset, what)| self.described(whole, offset, what))
            .collect()
    }

    /// What `damage` named reads as empty from now on.
    pub(crate) fn give_up(&self, damage: &Damage) {
        self.quarantine.give_up(damage.whole, damage.offset);
    }

    fn described(&self, whole: bool, offset: u64, what: &'static str) -> Damage {
        let span = if whole { None } else { self.index.span_of(offset) };
        let (before, last) = span.unwrap_or((None, None));
        Damage {
            path: self.path.clone(),
            table: self.meta.file_id,
            offset,
            what,
            smallest: before.unwrap_or_else(|| self.meta.smallest.clone()),
            largest: last
                .filter(|key| *key < self.meta.largest)
                .unwrap_or_else(|| self.meta.largest.clone()),
            whole,
            keyspace: None,
        }
    }

    /// Whether there is anything to be read; not in a table that was given up.
    ///
    /// # Errors
    /// It is damaged as a whole.
    pub(super) fn is_there(&self) -> Result<bool, Error> {
        match self.quarantine.table() {
            Health::Sound => Ok(true),
            Health::GivenUp => Ok(false),
            Health::Damaged { offset, what } => Err(Error::corrupt(&self.path, offset, what)),
        }
    }

    fn file(&self) -> Result<&dyn File, Error> {
        let gone = || Error::corrupt(&self.path, 0, "the table could not be opened");
        self.file.as_deref().ok_or_else(gone)
    }

    /// Whether some of it was given up and the rest is sound.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.quarantine.is_spoilt()
    }

    /// What the manifest knows of it.
    pub(crate) fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Memory that is pinned for it, bytes.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, Dictionary::size_bytes);
        let filter = self.filter.as_ref().map_or(0, |filter| filter.size_bytes());
        self.index.size() + filter + dictionary
    }

    /// The newest version of `key` at or below `snapshot`; `hash` is the key's, computed once for
    /// all tables of a read.
    pub(crate) fn get_hashed(
        &self,
        key: &[u8],
        hash: u64,
        snapshot: u64,
    ) -> Result<Option<Seen>, Error> {
        let Some(handle) = self.locate(key, hash, snapshot)? else { return Ok(None) };
        let Some(block) = self.block(handle, true)? else { return Ok(None) };
        self.find(&block, handle, key, snapshot)
    }

    /// As [`Table::get_hashed`], without ever waiting for the disk: a block that is not in the
    /// cache is taken from the system's page cache if it is there.
    pub(crate) fn get_resident_hashed(
        &self,
        key: &[u8],
        hash: u64,
        snapshot: u64,
    ) -> Result<ResidentEntry, Error> {
        let Some(handle) = self.locate(key, hash, snapshot)? else {
            return Ok(ResidentEntry::Absent);
        };
        if self.quarantine.block(handle.offset) != Health::Sound {
            return Ok(ResidentEntry::NeedsIo);
        }
        let cached = self.cache.find(self.meta.file_id, handle.offset);
        let Some(block) = cached.map_or_else(|| self.block_at_once(handle), |hit| Ok(Some(hit)))?
        else {
            return Ok(ResidentEntry::NeedsIo);
        };
        let found = self.find(&block, handle, key, snapshot)?;
        Ok(found.map_or(ResidentEntry::Absent, ResidentEntry::Found))
    }

    /// The entries within the bounds, from both ends; blocks are read as they are reached and stay
    /// in the cache.
    pub(crate) fn range(self: &Arc<Self>, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> EntryIter {
        Box::new(TableIter::new(self, lower, upper, true))
    }

    /// All entries, front to back or back, past the cache: for compaction.
    pub(crate) fn scan(self: &Arc<Self>) -> EntryIter {
        Box::new(TableIter::new(self, Bound::Unbounded, Bound::Unbounded, false))
    }

    /// How a read of `key` would go, for an operator. Never touches the disk.
    pub(crate) fn explain(&self, key: &[u8]) -> Result<Explanation, Error> {
        let verdict = if !self.meta.covers(key) || !self.is_there()? {
            Verdict::OutOfRange
        } else if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(key_hash(key))) {
            Verdict::FilteredOut
        } else {
            match self.place(self.index.seek(key, u64::MAX))? {
                at if at == self.index.len() => Verdict::OutOfRange,
                at => {
                    let Handle { offset, len } = self.place(self.index.handle(at))?;
                    let cached = self.cache.contains(self.meta.file_id, offset);
                    Verdict::Block { offset, bytes: len, cached }
                }
            }
        };
        Ok(Explanation { file_id: self.meta.file_id, verdict })
    }

    /// Reads the whole file and compares it with the manifest's checksum, then every block with
    /// its own. Gives the bytes read.
    pub(crate) fn verify(self: &Arc<Self>) -> Result<u64, Error> {
        if !self.is_there()? {
            return Ok(0);
        }
        let mut sum = crc32fast::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        loop {
            let read = self
                .file()?
                .read_at(offset, &mut buffer)
                .map_err(|source| Error::io("read", &self.path, source))?;
            if read == 0 {
                break;
            }
            sum.update(buffer.get(..read).unwrap_or_default());
            offset += read as u64;
        }
        let mut entries = 0;
        for entry in self.scan() {
            entry?;
            entries += 1;
        }
        if sum.finalize() != self.meta.checksum || entries != self.meta.entries {
            let whole = || Error::corrupt(&self.path, 0, "the file is not what was written");
            return Err(self.damaged_part()?.unwrap_or_else(whole));
        }
        Ok(offset)
    }

    /// Which of the parts that were read when the table was opened is damaged since.
    fn damaged_part(&self) -> Result<Option<Error>, Error> {
        let (path, file_id, len) = (self.path.as_path(), self.meta.file_id, self.meta.bytes);
        // Parts that are read at opening are not compressed by a dictionary.
        let raw = Raw { file: self.file()?, path, file_id, len, dictionary: None };
        let footer = match raw.footer(len.saturating_sub(FOOTER_BYTES as u64)) {
            Ok(footer) => footer,
            Err(error) => return Ok(Some(error)),
        };
        let parts = [footer.filter, footer.index, footer.properties];
        Ok(parts.into_iter().filter(|part| part.len > 0).find_map(|part| raw.block(part).err()))
    }

    /// Bytes of the blocks that may hold entries within the bounds.
    pub(crate) fn bytes_within(
        self: &Arc<Self>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<u64, Error> {
        let blocks = self.place(TableIter::new(self, lower, upper, false).span())?;
        let mut bytes = 0;
        if let (Some(first), Some(last)) = (blocks.clone().next(), blocks.last()) {
            let (first, last) =
                (self.place(self.index.handle(first))?, self.place(self.index.handle(last))?);
            bytes = (last.offset + u64::from(last.len)).saturating_sub(first.offset);
        }
        Ok(bytes)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The block that would hold (`key`, `snapshot`), unless range or filter exclude it.
    fn locate(&self, key: &[u8], hash: u64, snapshot: u64) -> Result<Option<Handle>, Error> {
        if !self.meta.covers(key)
            || self.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash))
        {
            return Ok(None);
        }
        if !self.is_there()? {
            return Ok(None);
        }
        let at = self.place(self.index.seek(key, snapshot))?;
        if at == self.index.len() {
            return Ok(None);
        }
        self.place(self.index.handle(at)).map(Some)
    }

    fn find(
        &self,
        block: &Block,
        handle: Handle,
        key: &[u8],
        snapshot: u64,
    ) -> Result<Option<Seen>, Error> {
        block.find(key, snapshot).map_err(|Malformed| self.bad_block(handle))
    }

    /// A data block from the cache or the disk; `None` for one that was given up.
    pub(super) fn block(&self, handle: Handle, fill_cache: bool) -> Result<Option<Block>, Error> {
        match self.quarantine.block(handle.offset) {
            Health::Sound => {}
            Health::GivenUp => return Ok(None),
            Health::Damaged { offset, what } => {
                return Err(Error::corrupt(&self.path, offset, what));
            }
        }
        let file_id = self.meta.file_id;
        let cached = if fill_cache {
            self.cache.find(file_id, handle.offset)
        } else {
            self.cache.peek(file_id, handle.offset)
        };
        if let Some(block) = cached {
            return Ok(Some(block));
        }
        let (path, len) = (self.path.as_path(), self.meta.bytes);
        let dictionary = self.dictionary.as_ref();
        let raw = Raw { file: self.file()?, path, file_id, len, dictionary }.block(handle);
        let raw = raw.inspect_err(|error| self.quarantine_for(handle, error))?;
        let block = Block::parse(Bytes::from(raw)).map_err(|Malformed| self.bad_block(handle))?;
        if fill_cache {
            self.cache.insert(file_id, handle.offset, block.clone());
        }
        Ok(Some(block))
    }

    fn quarantine_for(&self, handle: Handle, error: &Error) {
        if let Error::Corrupt { what, .. } = error {
            self.quarantine.add(handle.offset, what);
        }
    }

    /// A data block that can be had without waiting for the disk.
    fn block_at_once(&self, handle: Handle) -> Result<Option<Block>, Error> {
        let file_id = self.meta.file_id;
        let beyond = handle.offset.checked_add(u64::from(handle.len));
        if beyond.is_none_or(|end| end > self.meta.bytes) {
            return Err(Error::corrupt(&self.path, handle.offset, "a block beyond the file"));
        }
        let mut stored = vec![0; handle.len as usize];
        let read = self.file()?.read_at_once(handle.offset, &mut stored);
        if !read.map_err(|source| Error::io("read", &self.path, source))? {
            return Ok(None);
        }
        let opened = unseal(file_id, handle.offset, stored, self.dictionary.as_ref());
        let raw = opened.map_err(|what| {
            self.quarantine.add(handle.offset, what);
            Error::corrupt(&self.path, handle.offset, what)
        })?;
        let block = Block::parse(Bytes::from(raw)).map_err(|Malformed| self.bad_block(handle))?;
        self.cache.insert(file_id, handle.offset, block.clone());
        Ok(Some(block))
    }

    /// The error for a block that passed its checksum and is no block.
    pub(super) fn bad_block(&self, handle: Handle) -> Error {
        self.quarantine.add(handle.offset, "a malformed block");
        Error::corrupt(&self.path, handle.offset, "a malformed block")
    }

    /// The error for an index that passed its checks and is none.
    pub(super) fn place<T>(&self, result: Result<T, Malformed>) -> Result<T, Error> {
        result.map_err(|Malformed| Error::corrupt(&self.path, self.meta.bytes, "a bad index"))
    }
}

#[cfg(test)]
impl Table {
    pub(crate) fn get(&self, key: &[u8], snapshot: u64) -> Result<Option<Seen>, Error> {
        self.get_hashed(key, key_hash(key), snapshot)
    }

    pub(crate) fn get_resident(&self, key: &[u8], snapshot: u64) -> Result<ResidentEntry, Error> {
        self.get_resident_hashed(key, key_hash(key), snapshot)
    }
}
