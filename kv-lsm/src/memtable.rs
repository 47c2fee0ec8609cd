//! The memtable: what was appended and is not yet in a table, sorted.
//!
//! One B-tree under a read-write lock, over the [heads](crate::head) of the keys: they lie in the
//! tree's nodes, so that a search compares words and follows no pointer but from node to node. Keys
//! that share a head (none do whose head holds a hash) lie in a tree of their own below it.
//!
//! A key holds its newest version; an overwrite keeps the displaced one only when a live snapshot
//! can see it, so a hot key costs no more than a cold one. A batch is inserted under one write
//! lock: readers see all of it or nothing. Point reads probe with the borrowed key and allocate
//! nothing. Keys and values share the memory of their batch.
//!
//! Invariants: sequences only rise; `bytes` never falls, even when an overwrite frees something
//! (a batch's memory lives as long as any slice of it does).

mod slots;

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::head::{Head, head};
use crate::key::{Entry, EntryIter, Seen};
use crate::sstable::key_hash;
use crate::wal::frame::{BadOp, Ops};
use slots::{Slot, Slots};

/// What the tree costs for each operation beside the batch's own bytes, roughly.
pub(crate) const OP_OVERHEAD_BYTES: usize = 120;
/// Keys that an iterator copies under one read lock: few at first, as many walks end soon.
const CHUNK_KEYS_MIN: usize = 4;
const CHUNK_KEYS_MAX: usize = 64;

/// A sorted table in memory.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    map: RwLock<BTreeMap<Head, Slots>>,
    bytes: AtomicUsize,
    last_seq: AtomicU64,
}

impl Memtable {
    /// Inserts the operations of one payload, the first with `first_seq`. `snapshot` is the newest
    /// sequence that a live snapshot reads at.
    pub(crate) fn insert(
        &self,
        first_seq: u64,
        payload: Bytes,
        snapshot: u64,
    ) -> Result<u32, BadOp> {
        let payload_bytes = payload.len();
        let mut ops = 0;
        let mut map = self.map.write();
        for op in Ops::new(payload) {
            let slot = Slot::new(first_seq + u64::from(ops), op?);
            ops += 1;
            match map.entry(head(slot.key())) {
                btree_map::Entry::Vacant(free) => {
                    free.insert(Slots::One(slot));
                }
                btree_map::Entry::Occupied(mut taken) => taken.get_mut().insert(slot, snapshot),
            }
        }
        drop(map);
        let cost = payload_bytes + ops as usize * OP_OVERHEAD_BYTES;
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        self.last_seq.fetch_max(first_seq + u64::from(ops) - 1, Ordering::Release);
        Ok(ops)
    }

    /// The version of `key` that a reader at `seq` sees.
    pub(crate) fn get(&self, key: &[u8], seq: u64) -> Option<Seen> {
        self.map.read().get(&head(key))?.of(key)?.at(seq)
    }

    /// The hashes of all keys, as filters and the cache know them.
    pub(crate) fn key_hashes(&self) -> Vec<u64> {
        let map = self.map.read();
        let all = (Bound::Unbounded, Bound::Unbounded);
        map.values().flat_map(|slots| slots.within(&all)).map(|slot| key_hash(slot.key())).collect()
    }

    /// Gives the newest version of every key to `each`, in the order of the keys, under one read
    /// lock: for a table that is not written to any more.
    pub(crate) fn each_newest<E>(
        &self,
        mut each: impl FnMut(&[u8], u64, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let map = self.map.read();
        let all = (Bound::Unbounded, Bound::Unbounded);
        for slot in map.values().flat_map(|slots| slots.within(&all)) {
            let (key, seq, value) = slot.newest();
            each(key, seq, value)?;
        }
        Ok(())
    }

    /// Memory held, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sequence of the last operation inserted, 0 when there is none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last_seq() == 0
    }

    /// All versions between the bounds, as they are found while walking.
    pub(crate) fn range(self: &Arc<Self>, lower: Bound<Bytes>, upper: Bound<Bytes>) -> EntryIter {
        Box::new(Walk {
            table: Arc::clone(self),
            rest: Some((lower, upper)),
            chunk_keys: CHUNK_KEYS_MIN,
            front: VecDeque::new(),
            back: VecDeque::new(),
        })
    }
}

/// A walk that copies a chunk of keys at a time, so that it holds no lock between calls.
struct Walk {
    table: Arc<Memtable>,
    /// The keys not yet copied; `None` when there are none left.
    rest: Option<(Bound<Bytes>, Bound<Bytes>)>,
    chunk_keys: usize,
    front: VecDeque<Entry>,
    /// In reverse entry order.
    back: VecDeque<Entry>,
}

impl Walk {
    fn take_rest(&mut self) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
        self.chunk_keys = (2 * self.chunk_keys).min(CHUNK_KEYS_MAX);
        self.rest.take().filter(|(lower, upper)| !is_empty_range(lower, upper))
    }

    fn fill_front(&mut self) {
        let Some(bounds) = self.take_rest() else { return };
        let map = self.table.map.read();
        let slots = map.range(heads(&bounds)).flat_map(|(_, slots)| slots.within(&bounds));
        let mut last = None;
        for slot in slots.take(self.chunk_keys) {
            self.front.extend(slot.versions());
            last = Some(slot.key_bytes());
        }
        drop(map);
        self.rest = last.map(|key| (Bound::Excluded(key), bounds.1));
    }

    fn fill_back(&mut self) {
        let Some(bounds) = self.take_rest() else { return };
        let map = self.table.map.read();
        let slots = map.range(heads(&bounds)).flat_map(|(_, slots)| slots.within(&bounds));
        let mut first = None;
        for slot in slots.rev().take(self.chunk_keys) {
            self.back.extend(slot.versions().rev());
            first = Some(slot.key_bytes());
        }
        drop(map);
        self.rest = first.map(|key| (bounds.0, Bound::Excluded(key)));
    }
}

/// The heads of the keys within the bounds, which are not empty.
fn heads((lower, upper): &(Bound<Bytes>, Bound<Bytes>)) -> (Bound<Head>, Bound<Head>) {
    let of = |bound: &Bound<Bytes>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Bound::Included(head(key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (of(lower), of(upper))
}

impl Iterator for Walk {
    type Item = Result<Entry, crate::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_empty() {
            self.fill_front();
        }
        self.front.pop_front().or_else(|| self.back.pop_back()).map(Ok)
    }
}

impl DoubleEndedIterator for Walk {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.back.is_empty() {
            self.fill_back();
        }
        self.back.pop_front().or_else(|| self.front.pop_back()).map(Ok)
    }
}

/// Whether nothing can lie between the bounds (a range that `BTreeMap` would panic on, too).
pub(crate) fn is_empty_range(lower: &Bound<Bytes>, upper: &Bound<Bytes>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(l), Bound::Included(u)) => l > u,
        (Bound::Included(l) | Bound::Excluded(l), Bound::Included(u) | Bound::Excluded(u)) => {
            l >= u
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::frame::push_op;

    fn put(table: &Memtable, seq: u64, key: &str, value: Option<&str>, snapshot: u64) {
        let mut payload = Vec::new();
        push_op(&mut payload, key.as_bytes(), value.map(str::as_bytes));
        table.insert(seq, Bytes::from(payload), snapshot).unwrap();
    }

    #[test]
    fn a_displaced_version_is_kept_only_for_a_snapshot() {
        let table = Memtable::default();
        put(&table, 1, "k", Some("a"), 0);
        put(&table, 2, "k", Some("b"), 0);
        put(&table, 3, "k", None, 2);
        put(&table, 4, "k", Some("d"), 2);
        let at = |seq| table.get(b"k", seq).map(|v| (v.seq, v.value));
        assert_eq!(at(u64::MAX), Some((4, Some(Bytes::from("d")))));
        assert_eq!(at(3), Some((2, Some(Bytes::from("b")))));
        assert_eq!(at(2), Some((2, Some(Bytes::from("b")))));
        assert_eq!(at(1), None);
    }

    #[test]
    fn walks_meet_in_the_middle_without_loss_or_repeat() {
        let table = Arc::new(Memtable::default());
        for n in 0..300_u64 {
            put(&table, 2 * n + 1, &format!("{n:04}"), Some("x"), 0);
            put(&table, 2 * n + 2, &format!("{n:04}"), Some("y"), 2 * n + 1);
        }
        let all: Vec<Entry> =
            table.range(Bound::Unbounded, Bound::Unbounded).map(Result::unwrap).collect();
        assert_eq!(all.len(), 600);
        assert!(all.is_sorted_by(|a, b| a.order(b).is_lt()));
        let mut reverse: Vec<Entry> =
            table.range(Bound::Unbounded, Bound::Unbounded).rev().map(Result::unwrap).collect();
        reverse.reverse();
        assert_eq!(reverse, all);
        for step in [2, 3, 7, 130] {
            let mut walk = table.range(Bound::Unbounded, Bound::Unbounded);
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            for n in 0.. {
                let next = if n % step == 0 { walk.next_back() } else { walk.next() };
                let Some(entry) = next else { break };
                if n % step == 0 { &mut tail } else { &mut head }.push(entry.unwrap());
            }
            tail.reverse();
            head.extend(tail);
            assert_eq!(head, all, "step {step}");
        }
    }

    #[test]
    fn keys_that_share_a_head_are_told_apart() {
        let table = Arc::new(Memtable::default());
        let prefix = "sixteen bytes ok";
        let keys: Vec<String> =
            (0..100).map(|n| format!("{prefix}{:03}", (n * 37) % 100)).collect();
        for (key, seq) in keys.iter().zip(1..) {
            assert_eq!(table.get(key.as_bytes(), u64::MAX), None);
            put(&table, seq, key, Some(key), 0);
        }
        put(&table, 101, &keys[1], None, 50);
        put(&table, 102, prefix, Some("short"), 0);
        put(&table, 103, "sixteen", Some("shorter"), 0);
        put(&table, 104, "sixteen\0", Some("as the head fills it"), 0);
        let at = |key: &str, seq| table.get(key.as_bytes(), seq).map(|seen| seen.value);
        assert_eq!(at(&keys[1], u64::MAX), Some(None));
        assert_eq!(at(&keys[1], 50), Some(Some(Bytes::from(keys[1].clone()))));
        assert_eq!(at("sixteen", u64::MAX), Some(Some(Bytes::from("shorter"))));
        let walk = |lower: Bound<&str>, upper: Bound<&str>| -> Vec<Entry> {
            let own = |bound: Bound<&str>| bound.map(|key| Bytes::from(key.to_owned()));
            table.range(own(lower), own(upper)).map(Result::unwrap).collect()
        };
        let all = walk(Bound::Unbounded, Bound::Unbounded);
        assert_eq!(all.len(), 104);
        assert!(all.is_sorted_by(|a, b| a.order(b).is_lt()));
        let (from, to) = (format!("{prefix}010"), format!("{prefix}020"));
        assert_eq!(walk(Bound::Included(&from), Bound::Excluded(&to)).len(), 10);
        assert_eq!(walk(Bound::Excluded(&from), Bound::Included(&to)).len(), 10);
        assert_eq!(walk(Bound::Unbounded, Bound::Excluded(prefix)).len(), 2);
        assert_eq!(walk(Bound::Included("sixteen\0"), Bound::Included(prefix)).len(), 2);
    }

    #[test]
    fn empty_and_backward_ranges_have_nothing() {
        let table = Arc::new(Memtable::default());
        put(&table, 1, "b", Some("x"), 0);
        let key = |k: &'static str| Bytes::from(k);
        for (lower, upper) in [
            (Bound::Included(key("c")), Bound::Included(key("a"))),
            (Bound::Excluded(key("b")), Bound::Excluded(key("b"))),
            (Bound::Included(key("b")), Bound::Excluded(key("b"))),
            (Bound::Excluded(key("b")), Bound::Unbounded),
        ] {
            assert_eq!(table.range(lower, upper).count(), 0);
        }
    }
}
