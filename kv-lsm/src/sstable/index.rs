//! The index of a table: for each data block a key that parts it from the next, and its place.
//!
//! ```text
//! a block (see `block`) in which every entry is a restart point:
//!   key = separator, seq = the sequence that belongs to it, value = offset varint | length varint
//! ```
//!
//! A separator is at or after every entry of its block and before every entry of the next. When
//! the next block begins with another key it is the shortest such key (our keys begin with a hash:
//! a few bytes do, which is LevelDB's trick), with sequence 0; when one key's versions go on over
//! the border it is the last entry's own key and sequence. The index is pinned in memory while its
//! table is open: a point read costs one block at most.

use bytes::Bytes;

use super::block::{Block, BlockBuilder, Malformed, common_prefix};
use super::seal::Handle;
use crate::codec::{put_varint, take_varint};
use crate::head::{Head, head};

/// Collects the index while data blocks are written.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    block: BlockBuilder,
    value: Vec<u8>,
}

impl IndexBuilder {
    /// An empty index.
    pub(crate) fn new() -> Self {
        Self { block: BlockBuilder::new(1), value: Vec::new() }
    }

    /// Adds the block at `handle`, whose last entry is `last` and after which `next` comes.
    pub(crate) fn add(&mut self, last: (&[u8], u64), next: Option<&[u8]>, handle: Handle) {
        self.value.clear();
        put_varint(&mut self.value, handle.offset);
        put_varint(&mut self.value, u64::from(handle.len));
        let (key, seq) = last;
        match next {
            Some(next) if next == key => self.block.add(key, seq, Some(&self.value)),
            Some(next) => self.block.add(&separator(key, next), 0, Some(&self.value)),
            None => self.block.add(key, 0, Some(&self.value)),
        }
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> usize {
        self.block.size()
    }

    /// Gives the index block's bytes.
    pub(crate) fn finish<T>(&mut self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        self.block.finish(use_bytes)
    }
}

/// A pinned index. Beside the block, each entry's key stands as its head and its handle as an end,
/// so that a search touches the block only to tell keys of one head apart.
#[derive(Debug)]
pub(crate) struct Index {
    block: Block,
    heads: Box<[Head]>,
    /// Where each data block ends; the next begins there.
    ends: Box<[u64]>,
}

impl Index {
    /// Parses an index and checks that every block lies before `data_end`.
    pub(crate) fn parse(bytes: Bytes, data_end: u64) -> Result<Self, Malformed> {
        let block = Block::parse(bytes)?;
        let mut heads = Vec::with_capacity(block.restarts());
        let mut ends = Vec::with_capacity(block.restarts());
        let mut end = 0;
        for at in 0..block.restarts() {
            let (key, _, handle) = block.restart_entry(at)?;
            let handle = parse_handle(handle)?;
            if handle.offset != end || handle.len == 0 {
                return Err(Malformed);
            }
            end = handle.offset.checked_add(u64::from(handle.len)).ok_or(Malformed)?;
            heads.push(head(key));
            ends.push(end);
        }
        if end != data_end || !heads.is_sorted() {
            return Err(Malformed);
        }
        Ok(Self { block, heads: heads.into(), ends: ends.into() })
    }

    /// The index of a table that has none that can be read.
    pub(crate) fn none() -> Self {
        Self { block: Block::empty(), heads: Box::default(), ends: Box::default() }
    }

    /// The keys between which the entries of the block at `offset` lie: what parts it from the
    /// block before (none for the first), and from the next.
    pub(crate) fn span_of(&self, offset: u64) -> Option<(Option<Bytes>, Option<Bytes>)> {
        let at = self.ends.partition_point(|end| *end <= offset);
        self.handle(at).ok().filter(|handle| handle.offset == offset)?;
        let key = |at: usize| {
            self.block.restart_entry(at).ok().map(|(key, _, _)| Bytes::copy_from_slice(key))
        };
        Some((at.checked_sub(1).and_then(key), key(at)))
    }

    /// Number of data blocks.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Memory that it takes, bytes.
    pub(crate) fn size(&self) -> usize {
        self.block.size() + size_of_val(&*self.heads) + size_of_val(&*self.ends)
    }

    /// The first block that may hold an entry at or after (`key`, `seq`); [`Index::len`] if none.
    pub(crate) fn seek(&self, key: &[u8], seq: u64) -> Result<usize, Malformed> {
        let sought = head(key);
        let low = self.heads.partition_point(|head| *head < sought);
        if self.heads.get(low) != Some(&sought) {
            return Ok(low);
        }
        let high = self.heads.partition_point(|head| *head <= sought);
        self.block.restarts_before(low..high, key, seq)
    }

    /// Where block `at` lies.
    pub(crate) fn handle(&self, at: usize) -> Result<Handle, Malformed> {
        let end = *self.ends.get(at).ok_or(Malformed)?;
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let offset = before.copied().unwrap_or(0);
        Ok(Handle { offset, len: u32::try_from(end - offset).map_err(|_| Malformed)? })
    }
}

fn parse_handle(mut value: &[u8]) -> Result<Handle, Malformed> {
    let offset = take_varint(&mut value).ok_or(Malformed)?;
    let len = take_varint(&mut value).ok_or(Malformed)?;
    Ok(Handle { offset, len: u32::try_from(len).map_err(|_| Malformed)? })
}

/// The shortest key at or after `last` and before `next`, for `last < next`.
fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let shared = common_prefix(last, next);
    if let (Some(&low), Some(&high)) = (last.get(shared), next.get(shared))
        && low + 1 < high
        && let Some(head) = last.get(..shared)
    {
        let mut short = head.to_vec();
        short.push(low + 1);
        return short;
    }
    last.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn separators_are_short() {
        assert_eq!(separator(b"abcdef", b"axyz"), b"ac");
        assert_eq!(separator(b"abcdef", b"accc"), b"abcdef");
        assert_eq!(separator(b"ab", b"abc"), b"ab");
    }

    /// An index over one block for each key, which is its block's last.
    fn index_of(keys: &[Vec<u8>]) -> Index {
        let mut builder = IndexBuilder::new();
        for (at, key) in keys.iter().enumerate() {
            let handle = Handle { offset: 10 * at as u64, len: 10 };
            builder.add((key, 1), keys.get(at + 1).map(Vec::as_slice), handle);
        }
        let bytes = builder.finish(Bytes::copy_from_slice);
        Index::parse(bytes, 10 * keys.len() as u64).unwrap()
    }

    proptest! {
        #[test]
        fn the_block_that_may_hold_a_key_is_found_among_keys_of_one_head(
            keys in prop::collection::btree_set(prop::collection::vec(0_u8..2, 14..19), 1..40),
            sought in prop::collection::vec(0_u8..2, 14..19),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let index = index_of(&keys);
            let expected = keys.partition_point(|last| *last < sought);
            let found = index.seek(&sought, 1).unwrap();
            // A separator may lie above its block's last key, and never at the next block's first.
            prop_assert!(found == expected || found + 1 == expected && !keys.contains(&sought));
            for (at, key) in keys.iter().enumerate() {
                prop_assert_eq!(index.seek(key, 1).unwrap(), at);
                let handle = index.handle(at).unwrap();
                prop_assert_eq!((handle.offset, handle.len), (10 * at as u64, 10));
                let span = index.span_of(10 * at as u64).unwrap();
                prop_assert_eq!(span.0.is_none(), at == 0);
            }
            prop_assert!(index.span_of(5).is_none() && index.handle(keys.len()).is_err());
        }

        #[test]
        fn a_separator_parts(a: Vec<u8>, b: Vec<u8>) {
            prop_assume!(a != b);
            let (last, next) = if a < b { (a, b) } else { (b, a) };
            let between = separator(&last, &next);
            prop_assert!(between >= last && between < next && between.len() <= last.len());
        }
    }
}
