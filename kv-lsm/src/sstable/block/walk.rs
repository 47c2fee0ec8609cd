//! A walk over the entries of one block, from both ends.
//!
//! Forward, each key is made from the one before. Backward that can't be done, so a whole interval
//! between two restart points is decoded and handed out from its end. Invariant: `front` and `back`
//! are positions of entries with `front <= back`; what lies between has been given by neither end.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::{Block, Malformed, RESTART_ENTRIES, extend_key};
use crate::key::Entry;

/// Entries of one block within bounds, from both ends.
///
/// Backwards, an interval between two restarts is decoded at once and handed out from its end: at
/// most [`super::RESTART_ENTRIES`] entries are held.
#[derive(Debug)]
pub(crate) struct BlockIter {
    pub(super) block: Block,
    /// Position of the next entry from the front, and the key of the one before those ahead.
    pub(super) front: usize,
    pub(super) front_key: Vec<u8>,
    /// Entries from the front on that are decoded: their keys share one buffer, as an allocation
    /// for each would be dearer than all else.
    pub(super) ahead: VecDeque<Ahead>,
    pub(super) ahead_keys: Bytes,
    /// How many were decoded at once.
    pub(super) ahead_entries: usize,
    /// End of what the back has not given yet.
    pub(super) back: usize,
    pub(super) stack: Vec<(usize, Entry)>,
}

/// An entry that is decoded: its parts, and where the one after it begins.
#[derive(Debug)]
pub(super) struct Ahead {
    key: Range<usize>,
    seq: u64,
    value: Option<(usize, usize)>,
    next: usize,
}

impl BlockIter {
    /// Decodes some entries from the front on: few at first, as many walks end soon. What was
    /// decoded before something malformed stays.
    fn look_ahead(&mut self) -> Result<(), Malformed> {
        self.ahead_entries = (2 * self.ahead_entries).clamp(2, RESTART_ENTRIES);
        let mut keys = Vec::with_capacity(self.ahead_entries * (self.front_key.len() + 16));
        let mut pos = self.front;
        let mut looked = Ok(());
        while pos < self.back && self.ahead.len() < self.ahead_entries {
            let entry = self.block.raw_at(pos);
            let extended = entry.and_then(|raw| extend_key(&mut self.front_key, raw).map(|()| raw));
            let raw = match extended {
                Ok(raw) => raw,
                Err(malformed) => {
                    looked = Err(malformed);
                    break;
                }
            };
            let start = keys.len();
            keys.extend_from_slice(&self.front_key);
            let key = start..keys.len();
            self.ahead.push_back(Ahead { key, seq: raw.seq, value: raw.value, next: raw.next });
            pos = raw.next;
        }
        self.ahead_keys = Bytes::from(keys);
        looked
    }

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
        self.ahead.clear();
    }
}

impl Iterator for BlockIter {
    type Item = Result<Entry, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        if self.ahead.is_empty() {
            let looked = self.look_ahead();
            if looked.is_err() && self.ahead.is_empty() {
                self.close();
                return Some(Err(Malformed));
            }
        }
        let Ahead { key, seq, value, next } = self.ahead.pop_front()?;
        self.front = next;
        let value = value.map(|(start, end)| self.block.bytes.slice(start..end));
        Some(Ok(Entry { key: self.ahead_keys.slice(key), seq, value }))
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
