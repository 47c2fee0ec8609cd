//! One block of sorted entries: keys share prefixes with their neighbour, and every sixteenth
//! stands in full, so that a search can begin there (LevelDB's block with restart points).
//!
//! ```text
//! entry*  | restart*                | number of restarts
//!         | u32 offset of an entry  | u32
//!
//! entry = shared varint     bytes of the key that are those of the entry before; 0 at a restart
//!         unshared varint   bytes of the key that follow here
//!         value varint      0 = tombstone, else the value's length + 1
//!         seq varint
//!         unshared key bytes, value bytes
//! ```
//!
//! Order: key ascending, then sequence descending. Invariant: `shared` is the *longest* common
//! prefix with the entry before. The point search leans on it: it compares no byte twice and
//! builds no key (the trick is that of RocksDB's and Pebble's prefix-skipping seeks).
//!
//! A block in memory is one reference-counted buffer; values are slices of it. A block that passed
//! its checksum and is still malformed gives [`Malformed`], never a panic.

mod walk;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::{Bound, Range};

use bytes::Bytes;

pub(crate) use walk::BlockIter;

use crate::codec::{put_varint, take_varint};
use crate::key::Seen;

/// Entries from one restart point to the next in a data block.
pub(crate) const RESTART_ENTRIES: usize = 16;

/// The bytes are not a block: a bug in the writer, or damage that a checksum happens to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Builds one block; reused for the next by [`BlockBuilder::finish`].
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    interval: usize,
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    since_restart: usize,
    entries: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    /// A builder with a restart point every `interval` entries.
    pub(crate) fn new(interval: usize) -> Self {
        assert!(interval > 0, "a block needs restart points");
        Self {
            interval,
            bytes: Vec::new(),
            restarts: Vec::new(),
            since_restart: 0,
            entries: 0,
            last_key: Vec::new(),
        }
    }

    /// Appends an entry; the caller keeps the order.
    pub(crate) fn add(&mut self, key: &[u8], seq: u64, value: Option<&[u8]>) {
        let mut shared = 0;
        if self.entries == 0 || self.since_restart == self.interval {
            self.restarts.push(self.bytes.len() as u32);
            self.since_restart = 0;
        } else {
            shared = common_prefix(&self.last_key, key);
        }
        let unshared = key.get(shared..).unwrap_or_default();
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, unshared.len() as u64);
        put_varint(&mut self.bytes, value.map_or(0, |value| value.len() as u64 + 1));
        put_varint(&mut self.bytes, seq);
        self.bytes.extend_from_slice(unshared);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(unshared);
        self.since_restart += 1;
        self.entries += 1;
    }

    /// Size of the block if it were finished now, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// True before the first entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Completes the block, gives its bytes to `use_bytes`, and begins an empty one.
    pub(crate) fn finish<T>(&mut self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        self.bytes.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        let out = use_bytes(&self.bytes);
        self.bytes.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.since_restart = 0;
        self.entries = 0;
        out
    }
}

/// A parsed block. Cloning is a reference count.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    entries_end: usize,
    restarts: usize,
}

/// One entry as it lies: positions in the block.
#[derive(Clone, Copy)]
struct Raw<'a> {
    shared: usize,
    unshared: &'a [u8],
    value: Option<(usize, usize)>,
    seq: u64,
    next: usize,
}

impl Block {
    /// Takes a block's bytes. Complexity: constant; entries are checked when they are read.
    pub(crate) fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let (head, count) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
        let restarts = u32::from_le_bytes(*count) as usize;
        let entries_end = restarts
            .checked_mul(4)
            .and_then(|tail| head.len().checked_sub(tail))
            .ok_or(Malformed)?;
        if restarts == 0 || entries_end == 0 {
            return Err(Malformed);
        }
        Ok(Self { bytes, entries_end, restarts })
    }

    /// A block without entries: of nothing that was written, and never searched.
    pub(crate) fn empty() -> Self {
        Self { bytes: Bytes::new(), entries_end: 0, restarts: 0 }
    }

    /// Memory that the block takes, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Number of restart points.
    pub(crate) fn restarts(&self) -> usize {
        self.restarts
    }

    /// The newest version of `key` at or below `snapshot`. Allocates nothing.
    pub(crate) fn find(&self, key: &[u8], snapshot: u64) -> Result<Option<Seen>, Malformed> {
        let mut pos = self.restart_before(key, snapshot)?;
        // Bytes of `key` that the entry before has too; that entry is before what we look for.
        let mut matched = 0;
        while pos < self.entries_end {
            let raw = self.raw_at(pos)?;
            pos = raw.next;
            match raw.shared.cmp(&matched) {
                // The next restart point, which the search above found to be no longer before: it
                // stands in full and may be the very key.
                Ordering::Less if raw.shared == 0 && raw.unshared == key => matched = 0,
                // It leaves its neighbour inside the matched part, upwards: past `key`.
                Ordering::Less => return Ok(None),
                // It shares with its neighbour the byte in which that one is below `key`.
                Ordering::Greater => continue,
                Ordering::Equal => {}
            }
            let rest = key.get(matched..).ok_or(Malformed)?;
            let more = common_prefix(raw.unshared, rest);
            match raw.unshared.get(more..).cmp(&rest.get(more..)) {
                Ordering::Less => matched += more,
                Ordering::Greater => return Ok(None),
                Ordering::Equal if raw.seq > snapshot => matched = key.len(),
                Ordering::Equal => {
                    return Ok(Some(Seen { seq: raw.seq, value: self.value(raw) }));
                }
            }
        }
        Ok(None)
    }

    /// Key, sequence and value of restart entry `index`.
    pub(crate) fn restart_entry(&self, index: usize) -> Result<(&[u8], u64, &[u8]), Malformed> {
        let raw = self.raw_at(self.restart(index)?)?;
        let (start, end) = raw.value.ok_or(Malformed)?;
        let value = self.bytes.get(start..end).ok_or(Malformed)?;
        if raw.shared != 0 {
            return Err(Malformed);
        }
        Ok((raw.unshared, raw.seq, value))
    }

    /// The entries within the bounds, in both directions.
    pub(crate) fn range(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<BlockIter, Malformed> {
        let (front, front_key) = match lower {
            Bound::Unbounded => (0, Vec::new()),
            Bound::Included(key) => self.seek(key, Ordering::Less)?,
            Bound::Excluded(key) => self.seek(key, Ordering::Equal)?,
        };
        let back = match upper {
            Bound::Unbounded => self.entries_end,
            Bound::Included(key) => self.seek(key, Ordering::Equal)?.0,
            Bound::Excluded(key) => self.seek(key, Ordering::Less)?.0,
        };
        Ok(BlockIter {
            block: self.clone(),
            front,
            front_key,
            ahead: VecDeque::new(),
            ahead_keys: Bytes::new(),
            ahead_entries: 0,
            back,
            stack: Vec::new(),
        })
    }

    /// Position of the first entry whose key compares above `skip` to `key`, and the key of the
    /// entry before it (what a shared prefix refers to).
    fn seek(&self, key: &[u8], skip: Ordering) -> Result<(usize, Vec<u8>), Malformed> {
        let seq = if skip == Ordering::Less { u64::MAX } else { 0 };
        let mut pos = self.restart_before(key, seq)?;
        let mut current = Vec::new();
        let mut before = Vec::new();
        while pos < self.entries_end {
            let raw = self.raw_at(pos)?;
            before.clone_from(&current);
            extend_key(&mut current, raw)?;
            if current.as_slice().cmp(key) > skip {
                return Ok((pos, before));
            }
            pos = raw.next;
        }
        Ok((self.entries_end, current))
    }

    /// Position of the last restart before (`key`, `seq`), or of the first.
    fn restart_before(&self, key: &[u8], seq: u64) -> Result<usize, Malformed> {
        self.restart(self.restarts_before(0..self.restarts, key, seq)?.saturating_sub(1))
    }

    /// The first restart entry of `among` at or after (`key`, `seq`), or the end of `among`; those
    /// before `among` are before it. A binary search.
    pub(super) fn restarts_before(
        &self,
        among: Range<usize>,
        key: &[u8],
        seq: u64,
    ) -> Result<usize, Malformed> {
        let (mut low, mut high) = (among.start, among.end);
        while low < high {
            let middle = low.midpoint(high);
            let raw = self.raw_at(self.restart(middle)?)?;
            if raw.unshared.cmp(key).then(seq.cmp(&raw.seq)) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Position of restart `index`.
    fn restart(&self, index: usize) -> Result<usize, Malformed> {
        let word = self.bytes.get(self.entries_end + 4 * index..).ok_or(Malformed)?;
        let word = word.first_chunk::<4>().ok_or(Malformed)?;
        Ok(u32::from_le_bytes(*word) as usize)
    }

    #[inline]
    fn raw_at(&self, pos: usize) -> Result<Raw<'_>, Malformed> {
        let all = self.bytes.get(pos..self.entries_end).ok_or(Malformed)?;
        let mut left = all;
        let shared = take_varint(&mut left).ok_or(Malformed)? as usize;
        let unshared = take_varint(&mut left).ok_or(Malformed)? as usize;
        let value = take_varint(&mut left).ok_or(Malformed)?;
        let seq = take_varint(&mut left).ok_or(Malformed)?;
        let (unshared, tail) = left.split_at_checked(unshared).ok_or(Malformed)?;
        let start = self.entries_end - tail.len();
        let value_len = value.saturating_sub(1) as usize;
        if value_len > tail.len() {
            return Err(Malformed);
        }
        let next = start + value_len;
        let value = (value > 0).then_some((start, next));
        Ok(Raw { shared, unshared, value, seq, next })
    }

    /// The value as a slice of the block's buffer.
    fn value(&self, raw: Raw<'_>) -> Option<Bytes> {
        raw.value.map(|(start, end)| self.bytes.slice(start..end))
    }
}

/// Length of the longest common prefix, eight bytes at a time.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if a != b {
            break;
        }
        len += 8;
    }
    let tail = a.iter().skip(len).zip(b.iter().skip(len));
    len + tail.take_while(|(a, b)| a == b).count()
}

/// Makes `key`, the key of the entry before, that of `raw`.
fn extend_key(key: &mut Vec<u8>, raw: Raw<'_>) -> Result<(), Malformed> {
    if raw.shared > key.len() {
        return Err(Malformed);
    }
    key.truncate(raw.shared);
    key.extend_from_slice(raw.unshared);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::key::Entry;

    type Model = Vec<(Vec<u8>, u64, Option<Vec<u8>>)>;

    fn build(model: &Model, interval: usize) -> Block {
        let mut builder = BlockBuilder::new(interval);
        for (key, seq, value) in model {
            builder.add(key, *seq, value.as_deref());
        }
        let size = builder.size();
        let bytes = builder.finish(<[u8]>::to_vec);
        assert_eq!(bytes.len(), size);
        assert!(builder.is_empty());
        Block::parse(Bytes::from(bytes)).unwrap()
    }

    fn plain(item: Result<Entry, Malformed>) -> (Vec<u8>, u64, Option<Vec<u8>>) {
        let entry = item.unwrap();
        (entry.key.to_vec(), entry.seq, entry.value.map(|value| value.to_vec()))
    }

    prop_compose! {
        fn model()(
            keys in proptest::collection::btree_set(
                (proptest::collection::vec(0_u8..3, 0..6), 0_u64..300), 1..80),
        ) -> Model {
            let mut model: Model = keys
                .into_iter()
                .map(|(key, seq)| {
                    let value = (seq % 3 > 0).then(|| vec![seq as u8; seq as usize % 7]);
                    (key, seq, value)
                })
                .collect();
            model.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            model
        }
    }

    fn bound(kind: u8, key: &[u8]) -> Bound<&[u8]> {
        match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    }

    fn within(key: &[u8], lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
        let above = match lower {
            Bound::Unbounded => true,
            Bound::Included(bound) => key >= bound,
            Bound::Excluded(bound) => key > bound,
        };
        let below = match upper {
            Bound::Unbounded => true,
            Bound::Included(bound) => key <= bound,
            Bound::Excluded(bound) => key < bound,
        };
        above && below
    }

    proptest! {
        #[test]
        fn find_is_the_newest_at_or_below_the_snapshot(
            model in model(),
            probes in proptest::collection::vec(
                (proptest::collection::vec(0_u8..3, 0..6), 0_u64..300), 1..40),
            interval in 1_usize..20,
        ) {
            let block = build(&model, interval);
            let own: Vec<_> = model.iter().map(|(key, seq, _)| (key.clone(), *seq)).collect();
            for (key, snapshot) in probes.into_iter().chain(own) {
                let want = model
                    .iter()
                    .find(|(k, seq, _)| *k == key && *seq <= snapshot)
                    .map(|(_, seq, value)| Seen {
                        seq: *seq,
                        value: value.clone().map(Bytes::from),
                    });
                prop_assert_eq!(block.find(&key, snapshot), Ok(want));
            }
        }

        #[test]
        fn ranges_agree_with_a_sorted_list(
            model in model(),
            interval in 1_usize..20,
            kinds in (0_u8..3, 0_u8..3),
            low in proptest::collection::vec(0_u8..3, 0..6),
            high in proptest::collection::vec(0_u8..3, 0..6),
            turns in proptest::collection::vec(any::<bool>(), 100),
        ) {
            let block = build(&model, interval);
            let (lower, upper) = (bound(kinds.0, &low), bound(kinds.1, &high));
            let want: Model =
                model.iter().filter(|(key, ..)| within(key, lower, upper)).cloned().collect();
            let forward: Model = block.range(lower, upper).unwrap().map(plain).collect();
            prop_assert_eq!(&forward, &want);
            let mut backward: Model =
                block.range(lower, upper).unwrap().rev().map(plain).collect();
            backward.reverse();
            prop_assert_eq!(&backward, &want);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            let mut iter = block.range(lower, upper).unwrap();
            for turn in turns {
                if turn {
                    front.extend(iter.next().map(plain));
                } else {
                    back.extend(iter.next_back().map(plain));
                }
            }
            back.reverse();
            front.extend(back);
            prop_assert_eq!(&front, &want);
        }

        #[test]
        fn damaged_blocks_never_panic(
            model in model(), at: prop::sample::Index, flip in 1_u8..=255, probe in 0_u8..3,
        ) {
            let mut bytes = build(&model, 4).bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(block) = Block::parse(Bytes::from(bytes)) {
                let _ = block.find(&[probe, 1], 100);
                if let Ok(iter) = block.range(Bound::Included(&[probe]), Bound::Unbounded) {
                    let _ = iter.take(1000).filter(Result::is_err).count();
                }
                if let Ok(iter) = block.range(Bound::Unbounded, Bound::Unbounded) {
                    let _ = iter.rev().take(1000).filter(Result::is_err).count();
                }
            }
        }
    }

    #[test]
    fn neighbours_share_their_prefix() {
        let keys: BTreeSet<String> =
            (0..64).map(|i| format!("a-long-common-prefix-{i:04}")).collect();
        let model: Model =
            keys.into_iter().map(|key| (key.into_bytes(), 1, Some(Vec::new()))).collect();
        assert!(build(&model, 16).size() < build(&model, 1).size() / 2);
    }
}
