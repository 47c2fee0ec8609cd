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

/// A pinned index.
#[derive(Debug)]
pub(crate) struct Index {
    block: Block,
}

impl Index {
    /// Parses an index and checks that every block lies before `data_end`.
    pub(crate) fn parse(bytes: Bytes, data_end: u64) -> Result<Self, Malformed> {
        let index = Self { block: Block::parse(bytes)? };
        let mut end = 0;
        for at in 0..index.len() {
            let handle = index.handle(at)?;
            if handle.offset != end || handle.len == 0 {
                return Err(Malformed);
            }
            end = handle.offset.checked_add(u64::from(handle.len)).ok_or(Malformed)?;
        }
        if end == data_end { Ok(index) } else { Err(Malformed) }
    }

    /// The index of a table that has none that can be read.
    pub(crate) fn none() -> Self {
        Self { block: Block::empty() }
    }

    /// The keys between which the entries of the block at `offset` lie: what parts it from the
    /// block before (none for the first), and from the next.
    pub(crate) fn span_of(&self, offset: u64) -> Option<(Option<Bytes>, Option<Bytes>)> {
        let at = (0..self.len()).find(|at| self.handle(*at).is_ok_and(|h| h.offset == offset))?;
        let key = |at: usize| {
            self.block.restart_entry(at).ok().map(|(key, _, _)| Bytes::copy_from_slice(key))
        };
        Some((at.checked_sub(1).and_then(key), key(at)))
    }

    /// Number of data blocks.
    pub(crate) fn len(&self) -> usize {
        self.block.restarts()
    }

    /// Memory that it takes, bytes.
    pub(crate) fn size(&self) -> usize {
        self.block.size()
    }

    /// The first block that may hold an entry at or after (`key`, `seq`); [`Index::len`] if none.
    pub(crate) fn seek(&self, key: &[u8], seq: u64) -> Result<usize, Malformed> {
        Ok(self.block.restart_at_or_after(key, seq)?.unwrap_or_else(|| self.len()))
    }

    /// Where block `at` lies.
    pub(crate) fn handle(&self, at: usize) -> Result<Handle, Malformed> {
        let (_, _, mut value) = self.block.restart_entry(at)?;
        let offset = take_varint(&mut value).ok_or(Malformed)?;
        let len = take_varint(&mut value).ok_or(Malformed)?;
        Ok(Handle { offset, len: u32::try_from(len).map_err(|_| Malformed)? })
    }
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

    proptest! {
        #[test]
        fn a_separator_parts(a: Vec<u8>, b: Vec<u8>) {
            prop_assume!(a != b);
            let (last, next) = if a < b { (a, b) } else { (b, a) };
            let between = separator(&last, &next);
            prop_assert!(between >= last && between < next && between.len() <= last.len());
        }
    }
}
