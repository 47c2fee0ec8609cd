//! The first blocks of a table, which wait for the dictionary that is made from them.
//!
//! A dictionary of its own makes a table complete: it can be linked into a checkpoint, moved and
//! verified by itself. It is made from the first blocks alone, which are then compressed with it
//! like all others: in a table whose later keys hold another kind of value it helps these less.
//! (RocksDB's `max_dict_bytes` and `zstd_max_train_bytes` are the model.)
//!
//! Invariant: no more waits than a hundred dictionaries and a block.

use crate::compression::train;

/// So many times its size a dictionary is made from: less makes a worse one, and in a table of less
/// it would take more room than it saves. (What zstd recommends.)
const SAMPLES_RATIO: usize = 100;
/// A smaller one is of no use, and zstd makes none.
const DICTIONARY_BYTES_MIN: usize = 256;

/// Blocks that wait.
#[derive(Debug)]
pub(super) struct Training {
    dictionary_bytes_max: usize,
    raw: Vec<u8>,
    blocks: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    raw_bytes: usize,
    last: Vec<u8>,
    last_seq: u64,
    next: Option<Vec<u8>>,
}

/// One of them, when it goes on.
pub(super) struct Block<'a> {
    pub(super) raw: &'a [u8],
    /// Key and sequence of its last entry.
    pub(super) last: (&'a [u8], u64),
    /// Key of the entry after it, if there was one.
    pub(super) next: Option<&'a [u8]>,
}

impl Training {
    pub(super) fn new(dictionary_bytes_max: usize) -> Self {
        Self { dictionary_bytes_max, raw: Vec::new(), blocks: Vec::new() }
    }

    /// Takes a block that ends with this entry.
    pub(super) fn add(&mut self, raw: &[u8], last: &[u8], last_seq: u64) {
        self.raw.extend_from_slice(raw);
        let (raw_bytes, last) = (raw.len(), last.to_vec());
        self.blocks.push(Waiting { raw_bytes, last, last_seq, next: None });
    }

    /// The entry after the last block has this key.
    pub(super) fn note_next(&mut self, key: &[u8]) {
        if let Some(last) = self.blocks.last_mut() {
            last.next = Some(key.to_vec());
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.raw.len() >= SAMPLES_RATIO * self.dictionary_bytes_max
    }

    /// A dictionary for these blocks and what is like them.
    pub(super) fn train(&self) -> Option<Vec<u8>> {
        let bytes_max = self.dictionary_bytes_max.min(self.raw.len() / SAMPLES_RATIO);
        let sizes: Vec<usize> = self.blocks.iter().map(|block| block.raw_bytes).collect();
        (bytes_max >= DICTIONARY_BYTES_MIN).then(|| train(&self.raw, &sizes, bytes_max))?
    }

    /// The blocks, in their order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let mut rest = self.raw.as_slice();
        self.blocks.iter().map(move |block| {
            let (raw, tail) = rest.split_at_checked(block.raw_bytes).unwrap_or((rest, &[]));
            rest = tail;
            let (last, next) = ((block.last.as_slice(), block.last_seq), block.next.as_deref());
            Block { raw, last, next }
        })
    }
}
