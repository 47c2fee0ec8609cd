//! Writes one table, front to back, in writes of some hundred KiB.
//!
//! Invariant: what [`Builder::finish`] has answered is complete and synced (contents and length).
//! The *name* is not: whoever puts the table into the manifest syncs the directory first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::TableMeta;
use super::block::{BlockBuilder, RESTART_ENTRIES};
use super::filter::{FilterPolicy, key_hash};
use super::footer::{Footer, encode_properties};
use super::index::IndexBuilder;
use super::seal::{Handle, seal};
use super::training::Training;
use crate::compression::{Compressor, RAW_BLOCK_BYTES_MAX};
use crate::config::{Compression, Config};
use crate::error::Error;
use crate::fs::{File, Fs, OpenMode};

/// What is gathered before a write, bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Builds a table from entries in order.
#[derive(Debug)]
pub(crate) struct Builder {
    file: Arc<dyn File>,
    path: PathBuf,
    block_bytes: usize,
    compressor: Compressor,
    /// Blocks that wait until a dictionary is made from them.
    training: Option<Training>,
    /// The dictionary; empty when there is none.
    dictionary: Vec<u8>,
    policy: Arc<dyn FilterPolicy>,
    /// Finished blocks that are not written yet, and where they will go.
    pending: Vec<u8>,
    written: u64,
    sum: crc32fast::Hasher,
    block: BlockBuilder,
    index: IndexBuilder,
    hashes: Vec<u64>,
    /// The finished block that waits for its successor's first key, and its last entry.
    unindexed: Option<Handle>,
    last: Option<(Vec<u8>, u64)>,
    meta: TableMeta,
}

impl Builder {
    /// Creates the file; its name must be new. Blocks are compressed as above the last level.
    pub(crate) fn new(
        fs: &dyn Fs,
        path: &Path,
        file_id: u64,
        config: &Config,
        policy: &Arc<dyn FilterPolicy>,
    ) -> Result<Self, Error> {
        let file = fs
            .open(path, OpenMode::CreateNew)
            .map_err(|source| Error::io("create", path, source))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            block_bytes: config.block_bytes,
            compressor: Compressor::new(Compression::None),
            training: None,
            dictionary: Vec::new(),
            policy: Arc::clone(policy),
            pending: Vec::with_capacity(WRITE_BYTES + config.block_bytes),
            written: 0,
            sum: crc32fast::Hasher::new(),
            block: BlockBuilder::new(RESTART_ENTRIES),
            index: IndexBuilder::new(),
            hashes: Vec::new(),
            unindexed: None,
            last: None,
            meta: TableMeta {
                file_id,
                smallest: Bytes::new(),
                largest: Bytes::new(),
                entries: 0,
                tombstones: 0,
                max_seq: 0,
                bytes: 0,
                checksum: 0,
            },
        }
        .with_blocks(config.block_bytes, config.compression))
    }

    /// Makes blocks of this size, compressed in this way. Before the first entry.
    pub(crate) fn with_blocks(mut self, block_bytes: usize, how: Compression) -> Self {
        self.block_bytes = block_bytes;
        self.compressor = Compressor::new(how);
        self.training = match how {
            Compression::Zstd { dictionary_bytes_max: bytes @ 1.., .. } => {
                Some(Training::new(bytes as usize))
            }
            _ => None,
        };
        self
    }

    /// Adds an entry that is after all before it.
    ///
    /// # Panics
    /// If it is not: a table out of order would answer wrongly for ever.
    pub(crate) fn add(&mut self, key: &[u8], seq: u64, value: Option<&[u8]>) -> Result<(), Error> {
        let new_key = match &self.last {
            None => {
                self.meta.smallest = Bytes::copy_from_slice(key);
                true
            }
            Some((last, last_seq)) => {
                let order = last.as_slice().cmp(key);
                assert!(order.then(seq.cmp(last_seq)).is_lt(), "entries of a table come in order");
                order.is_lt()
            }
        };
        if let Some(handle) = self.unindexed.take()
            && let Some((last, last_seq)) = &self.last
        {
            self.index.add((last, *last_seq), Some(key), handle);
        }
        if let Some(training) = self.training.as_mut().filter(|_| self.block.is_empty()) {
            training.note_next(key);
        }
        if new_key {
            self.hashes.push(key_hash(key));
        }
        self.block.add(key, seq, value);
        let (last, last_seq) = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        *last_seq = seq;
        self.meta.entries += 1;
        self.meta.tombstones += u64::from(value.is_none());
        self.meta.max_seq = self.meta.max_seq.max(seq);
        if self.block.size() >= self.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    /// Whether the table is to end at the next new key: it is about as large as `bytes_max`, or
    /// its index as large as a block may be.
    pub(crate) fn is_full(&self, bytes_max: u64) -> bool {
        let waiting = self.training.as_ref().map_or(0, Training::bytes);
        let parts = self.pending.len() + waiting + self.block.size() + self.index.size();
        let size = self.written + parts as u64 + self.hashes.len() as u64;
        size >= bytes_max || self.index.size() >= RAW_BLOCK_BYTES_MAX / 2
    }

    /// Key of the last entry.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.last.as_ref().map(|(key, _)| key.as_slice())
    }

    /// Writes the rest and syncs the file. The directory is the caller's to sync.
    ///
    /// # Panics
    /// If nothing was added: there is no such thing as an empty table.
    pub(crate) fn finish(mut self) -> Result<TableMeta, Error> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.end_training()?;
        let Some((last_key, last_seq)) = self.last.take() else {
            panic!("a table needs at least one entry");
        };
        if let Some(handle) = self.unindexed.take() {
            self.index.add((&last_key, last_seq), None, handle);
        }
        self.meta.largest = Bytes::copy_from_slice(&last_key);
        let zstd = self.compressor.has_used_zstd();
        let mut dictionary = Handle::default();
        if zstd && !self.dictionary.is_empty() {
            let raw = std::mem::take(&mut self.dictionary);
            dictionary = self.append(&raw)?;
        }
        let built = self.policy.build(&self.hashes, self.meta.file_id);
        // Without a filter a table is slower to read and as right: nothing to fail for.
        let filter = if built.is_empty() || built.len() >= RAW_BLOCK_BYTES_MAX {
            Handle::default()
        } else {
            let mut raw = Vec::with_capacity(built.len() + 1);
            raw.push(self.policy.id());
            raw.extend_from_slice(&built);
            self.append(&raw)?
        };
        let mut index = IndexBuilder::new();
        std::mem::swap(&mut index, &mut self.index);
        let index = index.finish(|raw| self.append(raw))?;
        let properties = encode_properties(&self.meta, zstd.then_some(dictionary));
        let properties = self.append(&properties)?;
        let footer = Footer { filter, index, properties, file_id: self.meta.file_id, zstd };
        let offset = self.position();
        self.pending.extend_from_slice(&footer.encode(offset));
        self.flush()?;
        self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))?;
        self.meta.bytes = self.written;
        self.meta.checksum = self.sum.finalize();
        Ok(self.meta)
    }

    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Ends the current block: seals it, or lets it wait for the dictionary.
    fn end_block(&mut self) -> Result<(), Error> {
        let (offset, file_id) = (self.position(), self.meta.file_id);
        if let Some(training) = &mut self.training {
            let (last, last_seq) =
                self.last.as_ref().map_or((&[][..], 0), |(key, seq)| (key, *seq));
            self.block.finish(|raw| training.add(raw, last, last_seq));
            return if training.is_full() { self.end_training() } else { Ok(()) };
        }
        let (compressor, pending) = (&mut self.compressor, &mut self.pending);
        let seal = |raw: &[u8]| seal(compressor, file_id, offset, raw, pending);
        // It gets its index entry when its successor is known.
        self.unindexed = Some(self.block.finish(seal));
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes the dictionary, if that can be, and seals the blocks that waited for it.
    fn end_training(&mut self) -> Result<(), Error> {
        let Some(training) = self.training.take() else { return Ok(()) };
        if let Some(dictionary) = training.train()
            && self.compressor.use_dictionary(&dictionary)
        {
            self.dictionary = dictionary;
        }
        for block in training.blocks() {
            let (offset, file_id) = (self.position(), self.meta.file_id);
            let handle = seal(&mut self.compressor, file_id, offset, block.raw, &mut self.pending);
            match block.next {
                Some(next) => self.index.add(block.last, Some(next), handle),
                // The last of them, and so far of the table.
                None => self.unindexed = Some(handle),
            }
            if self.pending.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds a part that is not compressed.
    fn append(&mut self, raw: &[u8]) -> Result<Handle, Error> {
        let mut plain = Compressor::new(Compression::None);
        let handle = seal(&mut plain, self.meta.file_id, self.position(), raw, &mut self.pending);
        if self.pending.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(handle)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.sum.update(&self.pending);
        self.file
            .write_at(self.written, &self.pending)
            .map_err(|source| Error::io("write", &self.path, source))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}
