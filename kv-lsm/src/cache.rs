//! The block cache: decompressed data blocks of all tables of an engine, under one byte budget.
//!
//! `quick_cache` is an S3-FIFO: one pass over cold data does not push out what is read twice. Keys
//! are (file id, offset); file ids are never used again, so a removed table's blocks can't be
//! mistaken for another's and just age out. Values of entries are slices of the cached block, so a
//! reader that keeps a value keeps its block alive beyond the budget.
//!
//! Only verified blocks come in here: a hit needs no checksum.

use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::sstable::block::Block;

/// File id and offset of a block.
type Place = (u64, u64);

/// What a cached block costs beside its bytes.
const OVERHEAD_BYTES: usize = 96;

/// Blocks by place. Cheap to share behind an `Arc`; all methods take `&self`.
pub(crate) struct BlockCache {
    blocks: Cache<Place, Block, BySize, BuildHasherDefault<PlaceHasher>>,
}

impl BlockCache {
    /// A cache of at most `bytes_max` bytes; `block_bytes` is the usual size of a block.
    pub(crate) fn new(bytes_max: u64, block_bytes: usize) -> Self {
        let estimate = bytes_max / (block_bytes + OVERHEAD_BYTES) as u64;
        Self {
            blocks: Cache::with(
                usize::try_from(estimate).unwrap_or(usize::MAX).max(1),
                bytes_max,
                BySize,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// The block, if it is here.
    pub(crate) fn find(&self, file_id: u64, offset: u64) -> Option<Block> {
        self.blocks.get(&(file_id, offset))
    }

    /// The block, if it is here, without counting as a use: for compaction, whose one pass over
    /// everything says nothing about what is read often.
    pub(crate) fn peek(&self, file_id: u64, offset: u64) -> Option<Block> {
        self.blocks.peek(&(file_id, offset))
    }

    /// Whether the block is here, without counting as a use.
    pub(crate) fn contains(&self, file_id: u64, offset: u64) -> bool {
        self.blocks.contains_key(&(file_id, offset))
    }

    /// Puts a verified block in.
    pub(crate) fn insert(&self, file_id: u64, offset: u64, block: Block) {
        self.blocks.insert((file_id, offset), block);
    }

    /// Bytes held now.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.blocks.weight()
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("blocks", &self.blocks.len())
            .field("bytes", &self.blocks.weight())
            .field("bytes_max", &self.blocks.capacity())
            .finish()
    }
}

#[derive(Clone, Debug)]
struct BySize;

impl Weighter<Place, Block> for BySize {
    fn weight(&self, _: &Place, block: &Block) -> u64 {
        (block.size() + OVERHEAD_BYTES) as u64
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
    fn a_budget_of_nothing_keeps_nothing() {
        let cache = BlockCache::new(0, 1000);
        cache.insert(1, 2, block(10));
        assert!(cache.find(1, 2).is_none());
    }
}
