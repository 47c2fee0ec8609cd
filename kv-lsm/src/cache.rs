//! The cache: decompressed data blocks of all tables of an engine and single hot rows, under one
//! byte budget, so that what is read most takes it, whichever it is.
//!
//! `quick_cache` is an S3-FIFO: one pass over cold data does not push out what is read twice. Keys
//! are (file id, offset); file ids are never used again, so a removed table's blocks can't be
//! mistaken for another's and just age out. Values of entries are slices of the cached block, so a
//! reader that keeps a value keeps its block alive beyond the budget. Only verified blocks come in
//! here: a hit needs no checksum.
//!
//! A *row* is the newest version of one key in the tables, copied out of its block when the key is
//! read for the second time within a while: a hot key then costs one lookup, and its memory is its
//! own and not that of a block. Of rows this must be kept:
//!
//! Invariant: a row that is found is what the tables of the newest view hold. Whoever changes what
//! they hold (a flush, a compaction filter) first raises the epoch, then removes the rows of these
//! keys, then shows the new view; a row that was read in a view of an earlier epoch does not come
//! in. The epoch is raised under a lock that every insertion holds, so none slips through between.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::key::Seen;
use crate::metrics::Counter;
use crate::sstable::block::Block;

/// File id and offset of a block, or [`ROWS`] and the hash of a row's key.
type Place = (u64, u64);

/// No file has this id.
const ROWS: u64 = u64::MAX;

/// What a cached block or row costs beside its bytes.
const OVERHEAD_BYTES: usize = 96;

/// Rows larger than this are left to their blocks, in bytes.
const ROW_BYTES_MAX: usize = 4 << 10;

/// For so many bytes of budget one read is remembered, to know a second one.
const BYTES_PER_TOUCH: u64 = 1 << 10;
const TOUCHES_MAX: u64 = 1 << 20;

/// What is cached.
#[derive(Clone)]
enum Cached {
    Block(Block),
    Row(Row),
}

/// Key and value in one piece.
#[derive(Clone)]
struct Row {
    seq: u64,
    key_bytes: usize,
    bytes: Bytes,
}

/// Blocks by place and rows by key. Cheap to share behind an `Arc`; all methods take `&self`.
pub(crate) struct BlockCache {
    blocks: Cache<Place, Cached, BySize, BuildHasherDefault<PlaceHasher>>,
    epoch: RwLock<u64>,
    /// Blocks that came in: each was looked for, not found, and read from its file.
    misses: Counter,
    /// What of a key's hash was left by the last read that met its place.
    touches: Box<[AtomicU16]>,
}

impl BlockCache {
    /// A cache of at most `bytes_max` bytes; `block_bytes` is the usual size of a block.
    pub(crate) fn new(bytes_max: u64, block_bytes: usize) -> Self {
        // Between what blocks alone and what rows alone would make.
        let estimate = 4 * bytes_max / (block_bytes + OVERHEAD_BYTES) as u64;
        let touches = (bytes_max / BYTES_PER_TOUCH).min(TOUCHES_MAX);
        Self {
            blocks: Cache::with(
                usize::try_from(estimate).unwrap_or(usize::MAX).max(1),
                bytes_max,
                BySize,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
            epoch: RwLock::new(0),
            misses: Counter::default(),
            touches: (0..touches).map(|_| AtomicU16::new(0)).collect(),
        }
    }

    /// The block, if it is here.
    pub(crate) fn find(&self, file_id: u64, offset: u64) -> Option<Block> {
        self.blocks.get(&(file_id, offset)).and_then(Cached::block)
    }

    /// The block, if it is here, without counting as a use: for compaction, whose one pass over
    /// everything says nothing about what is read often.
    pub(crate) fn peek(&self, file_id: u64, offset: u64) -> Option<Block> {
        self.blocks.peek(&(file_id, offset)).and_then(Cached::block)
    }

    /// Whether the block is here, without counting as a use.
    pub(crate) fn contains(&self, file_id: u64, offset: u64) -> bool {
        self.blocks.contains_key(&(file_id, offset))
    }

    /// Puts a verified block in.
    pub(crate) fn insert(&self, file_id: u64, offset: u64, block: Block) {
        self.misses.add(1);
        self.blocks.insert((file_id, offset), Cached::Block(block));
    }

    /// The newest version of a key in the tables, if it is here.
    pub(crate) fn find_row(&self, key: &[u8], hash: u64) -> Option<Seen> {
        let Cached::Row(row) = self.blocks.get(&(ROWS, hash))? else { return None };
        (row.bytes.get(..row.key_bytes)? == key)
            .then(|| Seen { seq: row.seq, value: Some(row.bytes.slice(row.key_bytes..)) })
    }

    /// Notes that a key was read from the tables of a view of `epoch`, and keeps what was found
    /// there if it was read not long ago, too.
    pub(crate) fn offer_row(&self, key: &[u8], hash: u64, seen: &Seen, epoch: u64) {
        let Some(value) = &seen.value else { return };
        let size = key.len() + value.len();
        if size > ROW_BYTES_MAX || !self.touch(hash) {
            return;
        }
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        let row = Row { seq: seen.seq, key_bytes: key.len(), bytes: Bytes::from(bytes) };
        let current = self.epoch.read();
        if *current == epoch {
            self.blocks.insert((ROWS, hash), Cached::Row(row));
        }
    }

    /// Notes a read; says whether the key was read not long ago.
    fn touch(&self, hash: u64) -> bool {
        let mark = (hash >> 48) as u16 | 1;
        let at = (u128::from(hash << 16 >> 16) * self.touches.len() as u128) >> 48;
        let touch = self.touches.get(at as usize);
        touch.is_some_and(|touch| touch.swap(mark, Ordering::Relaxed) == mark)
    }

    /// Begins a new epoch, in which other rows are right, and removes those that may be wrong: of
    /// these hashes of keys, or all. The view that is shown next is of the epoch that is answered.
    pub(crate) fn begin_epoch(&self, changed: Option<&[u64]>) -> u64 {
        let epoch = {
            let mut current = self.epoch.write();
            *current += 1;
            *current
        };
        match changed {
            Some(hashes) => {
                for hash in hashes {
                    self.blocks.remove(&(ROWS, *hash));
                }
            }
            None => self.blocks.retain(|(file_id, _), _| *file_id != ROWS),
        }
        epoch
    }

    /// Bytes held now.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.blocks.weight()
    }

    /// Bytes that may be held.
    pub(crate) fn size_bytes_max(&self) -> u64 {
        self.blocks.capacity()
    }

    /// Blocks that came in so far.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.value()
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("blocks", &self.blocks.len())
            .field("bytes", &self.blocks.weight())
            .field("bytes_max", &self.blocks.capacity())
            .finish_non_exhaustive()
    }
}

impl Cached {
    fn block(self) -> Option<Block> {
        match self {
            Self::Block(block) => Some(block),
            Self::Row(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
struct BySize;

impl Weighter<Place, Cached> for BySize {
    fn weight(&self, _: &Place, cached: &Cached) -> u64 {
        let bytes = match cached {
            Cached::Block(block) => block.size(),
            Cached::Row(row) => row.bytes.len(),
        };
        (bytes + OVERHEAD_BYTES) as u64
    }
}

/// Two words, mixed: places are no client's choice, so nothing stronger is needed.
#[derive(Debug, Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 29;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sstable::block::BlockBuilder;

    fn block(bytes: usize) -> Block {
        let mut builder = BlockBuilder::new(16);
        builder.add(b"key", 1, Some(&vec![7; bytes]));
        Block::parse(builder.finish(|raw| raw.to_vec().into())).unwrap()
    }

    #[test]
    fn the_budget_holds() {
        let cache = BlockCache::new(100_000, 1000);
        for offset in 0..1000 {
            cache.insert(offset % 3, offset, block(1000));
            assert!(cache.size_bytes() <= 110_000, "{cache:?}");
        }
        assert!(cache.size_bytes() > 50_000, "{cache:?}");
    }

    #[test]
    fn places_are_not_mixed_up() {
        let cache = BlockCache::new(1 << 20, 1000);
        cache.insert(1, 2, block(10));
        cache.insert(2, 1, block(20));
        assert_eq!(cache.find(1, 2).unwrap().size(), block(10).size());
        assert_eq!(cache.find(2, 1).unwrap().size(), block(20).size());
        assert!(!cache.contains(1, 1) && cache.find(2, 2).is_none());
    }

    #[test]
    fn a_row_comes_in_at_its_second_read_and_only_if_its_epoch_is_current() {
        let cache = BlockCache::new(1 << 20, 1000);
        let seen = |seq| Seen { seq, value: Some(Bytes::from_static(b"value")) };
        cache.offer_row(b"key", 7, &seen(3), 0);
        assert_eq!(cache.find_row(b"key", 7), None);
        cache.offer_row(b"key", 7, &seen(3), 0);
        assert_eq!(cache.find_row(b"key", 7), Some(seen(3)));
        assert_eq!(cache.find_row(b"other key of this hash", 7), None);

        assert_eq!(cache.begin_epoch(Some(&[8])), 1);
        assert_eq!(cache.find_row(b"key", 7), Some(seen(3)));
        assert_eq!(cache.begin_epoch(Some(&[7])), 2);
        assert_eq!(cache.find_row(b"key", 7), None);
        cache.offer_row(b"key", 7, &seen(3), 1);
        assert_eq!(cache.find_row(b"key", 7), None, "of an old view");
        cache.offer_row(b"key", 7, &seen(4), 2);
        assert_eq!(cache.find_row(b"key", 7), Some(seen(4)));
        cache.insert(1, 2, block(10));
        assert_eq!(cache.begin_epoch(None), 3);
        assert_eq!(cache.find_row(b"key", 7), None);
        assert!(cache.contains(1, 2));
    }

    #[test]
    fn a_budget_of_nothing_keeps_nothing() {
        let cache = BlockCache::new(0, 1000);
        cache.insert(1, 2, block(10));
        assert!(cache.find(1, 2).is_none());
    }
}
