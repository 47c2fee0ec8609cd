//! A walk over the entries of one block, from both ends.
//!
//! Forward, each key is made from the one before. Backward that can't be done, so a whole interval
//! between two restart points is decoded and handed out from its end. Invariant: `front` and `back`
//! are positions of entries with `front <= back`; what lies between has been given by neither end.

use bytes::Bytes;

use super::{Block, Malformed, extend_key};
use crate::key::Entry;

/// Entries of one block within bounds, from both ends.
///
/// Backwards, an interval between two restarts is decoded at once and handed out from its end: at
/// most [`super::RESTART_ENTRIES`] entries are held.
#[derive(Debug)]
pub(crate) struct BlockIter {
    pub(super) block: Block,
    /// Position of the next entry from the front, and the key of the one before.
    pub(super) front: usize,
    pub(super) front_key: Vec<u8>,
    /// End of what the back has not given yet.
    pub(super) back: usize,
    pub(super) stack: Vec<(usize, Entry)>,
}

impl BlockIter {
    fn entry(block: &Block, key: &mut Vec<u8>, pos: usize) -> Result<(Entry, usize), Malformed> {
        let raw = block.raw_at(pos)?;
        extend_key(key, raw)?;
        let bytes = if raw.shared == 0 {
            block.bytes.slice_ref(raw.unshared)
        } else {
            Bytes::copy_from_slice(key)
        };
        Ok((Entry { key: bytes, seq: raw.seq, value: block.value(raw) }, raw.next))
    }

    /// Decodes the interval that ends at `back`.
    fn fill(&mut self) -> Result<(), Malformed> {
        let (mut low, mut high) = (0, self.block.restarts);
        while low < high {
            let middle = low.midpoint(high);
            if self.block.restart(middle)? < self.back {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut pos = self.block.restart(low.checked_sub(1).ok_or(Malformed)?)?;
        let mut key = Vec::new();
        while pos < self.back {
            let (entry, next) = Self::entry(&self.block, &mut key, pos)?;
            if pos >= self.front {
                self.stack.push((pos, entry));
            }
            pos = next;
        }
        Ok(())
    }

    /// Nothing more comes.
    fn close(&mut self) {
        self.back = self.front;
        self.stack.clear();
    }
}

impl Iterator for BlockIter {
    type Item = Result<Entry, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        match Self::entry(&self.block, &mut self.front_key, self.front) {
            Ok((entry, next)) => {
                self.front = next;
                Some(Ok(entry))
            }
            Err(malformed) => {
                self.close();
                Some(Err(malformed))
            }
        }
    }
}

impl DoubleEndedIterator for BlockIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        if self.stack.is_empty()
            && let Err(malformed) = self.fill()
        {
            self.close();
            return Some(Err(malformed));
        }
        let Some((pos, entry)) = self.stack.pop() else {
            self.close();
            return Some(Err(Malformed));
        };
        self.back = pos;
        Some(Ok(entry))
    }
}
