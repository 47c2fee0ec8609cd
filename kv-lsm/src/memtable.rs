//! The memtable: what was appended and is not yet in a table, sorted.
//!
//! One B-tree of keys under a read-write lock. A key holds its newest version; an overwrite keeps
//! the displaced one only when a live snapshot can see it, so a hot key costs no more than a cold
//! one. A batch is inserted under one write lock: readers see all of it or nothing. Point reads
//! probe with the borrowed key and allocate nothing. Keys and values share the memory of their
//! batch.
//!
//! Invariants: sequences only rise; `bytes` never falls, even when an overwrite frees something
//! (a batch's memory lives as long as any slice of it does).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::key::{Entry, EntryIter};
use crate::wal::frame::{BadOp, Ops};

/// What the tree costs for each operation beside the batch's own bytes, roughly.
const OP_OVERHEAD_BYTES: usize = 144;
/// Keys that an iterator copies under one read lock.
const CHUNK_KEYS: usize = 64;

/// A sorted table in memory.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    map: RwLock<BTreeMap<Bytes, Slot>>,
    bytes: AtomicUsize,
    last_seq: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    value: Option<Bytes>,
    /// Displaced versions that a snapshot held, oldest first.
    older: Vec<(u64, Option<Bytes>)>,
}

/// The newest version of a key that a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) value: Option<Bytes>,
}

impl Memtable {
    /// Inserts the operations of one payload, the first with `first_seq`. `snapshot` is the newest
    /// sequence that a live snapshot reads at.
    pub(crate) fn insert(
        &self,
        first_seq: u64,
        payload: &Bytes,
        snapshot: u64,
    ) -> Result<u32, BadOp> {
        let mut ops = 0;
        let mut map = self.map.write();
        for op in Ops::new(payload) {
            let (key, value) = op?;
            let seq = first_seq + u64::from(ops);
            ops += 1;
            map.entry(key)
                .and_modify(|slot| slot.overwrite(seq, value.clone(), snapshot))
                .or_insert_with(|| Slot { seq, value, older: Vec::new() });
        }
        drop(map);
        let cost = payload.len() + ops as usize * OP_OVERHEAD_BYTES;
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        self.last_seq.fetch_max(first_seq + u64::from(ops) - 1, Ordering::Release);
        Ok(ops)
    }

    /// The version of `key` that a reader at `seq` sees.
    pub(crate) fn get(&self, key: &[u8], seq: u64) -> Option<Seen> {
        let map = self.map.read();
        let slot = map.get(key)?;
        if slot.seq <= seq {
            return Some(Seen { seq: slot.seq, value: slot.value.clone() });
        }
        let (seq, value) = slot.older.iter().rev().find(|(at, _)| *at <= seq)?;
        Some(Seen { seq: *seq, value: value.clone() })
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
            front: VecDeque::new(),
            back: VecDeque::new(),
        })
    }
}

impl Slot {
    fn overwrite(&mut self, seq: u64, value: Option<Bytes>, snapshot: u64) {
        let displaced = std::mem::replace(&mut self.value, value);
        let displaced_seq = std::mem::replace(&mut self.seq, seq);
        if displaced_seq <= snapshot {
            self.older.push((displaced_seq, displaced));
        }
    }

    fn versions<'a>(&'a self, key: &'a Bytes) -> impl DoubleEndedIterator<Item = Entry> + 'a {
        let entry =
            |seq: u64, value: &Option<Bytes>| Entry { key: key.clone(), seq, value: value.clone() };
        let newest = std::iter::once(entry(self.seq, &self.value));
        newest.chain(self.older.iter().rev().map(move |(seq, value)| entry(*seq, value)))
    }
}

/// A walk that copies a chunk of keys at a time, so that it holds no lock between calls.
struct Walk {
    table: Arc<Memtable>,
    /// The keys not yet copied; `None` when there are none left.
    rest: Option<(Bound<Bytes>, Bound<Bytes>)>,
    front: VecDeque<Entry>,
    /// In reverse entry order.
    back: VecDeque<Entry>,
}

impl Walk {
    fn fill_front(&mut self) {
        let Some((lower, upper)) = self.rest.take().filter(|(l, u)| !is_empty_range(l, u)) else {
            return;
        };
        let map = self.table.map.read();
        let mut last = None;
        for (key, slot) in map.range((lower, upper.clone())).take(CHUNK_KEYS) {
            self.front.extend(slot.versions(key));
            last = Some(key.clone());
        }
        self.rest = last.map(|key| (Bound::Excluded(key), upper));
    }

    fn fill_back(&mut self) {
        let Some((lower, upper)) = self.rest.take().filter(|(l, u)| !is_empty_range(l, u)) else {
            return;
        };
        let map = self.table.map.read();
        let mut first = None;
        for (key, slot) in map.range((lower.clone(), upper)).rev().take(CHUNK_KEYS) {
            self.back.extend(slot.versions(key).rev());
            first = Some(key.clone());
        }
        self.rest = first.map(|key| (lower, Bound::Excluded(key)));
    }
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
        table.insert(seq, &Bytes::from(payload), snapshot).unwrap();
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
