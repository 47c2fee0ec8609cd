//! What the memtable's tree holds: a key with its versions, or the keys of one head.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use crate::key::{Entry, Seen};
use crate::wal::frame::Op;

/// The keys of one head.
#[derive(Debug)]
pub(super) enum Slots {
    One(Slot),
    Many(BTreeMap<Bytes, Slot>),
}

/// A key and its versions.
#[derive(Debug)]
pub(super) struct Slot {
    seq: u64,
    /// The key and its newest value: one slice of their batch.
    op: Op,
    /// Displaced versions that a snapshot held: nearly always none, and then they take one word.
    older: Option<Box<Older>>,
}

/// Displaced versions, oldest first.
#[derive(Debug, Default)]
struct Older(Vec<(u64, Option<Bytes>)>);

impl Slots {
    pub(super) fn of(&self, key: &[u8]) -> Option<&Slot> {
        match self {
            Self::One(slot) => (slot.key() == key).then_some(slot),
            Self::Many(slots) => slots.get(key),
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, snapshot: u64) {
        match self {
            Self::One(own) if own.key() == slot.key() => own.overwrite(slot, snapshot),
            Self::One(own) => {
                let own = std::mem::replace(own, Slot::new(0, Op::default()));
                let both = [(own.key_bytes(), own), (slot.key_bytes(), slot)];
                *self = Self::Many(BTreeMap::from(both));
            }
            Self::Many(slots) => match slots.entry(slot.key_bytes()) {
                btree_map::Entry::Vacant(free) => {
                    free.insert(slot);
                }
                btree_map::Entry::Occupied(taken) => taken.into_mut().overwrite(slot, snapshot),
            },
        }
    }

    /// Those whose keys lie within the bounds, which are not empty.
    pub(super) fn within(
        &self,
        (lower, upper): &(Bound<Bytes>, Bound<Bytes>),
    ) -> impl DoubleEndedIterator<Item = &Slot> {
        let bounds = (lower.as_ref(), upper.as_ref());
        let (one, many) = match self {
            Self::One(slot) => (Some(slot).filter(|slot| slot.is_within(lower, upper)), None),
            Self::Many(slots) => (None, Some(slots.range::<Bytes, _>(bounds))),
        };
        one.into_iter().chain(many.into_iter().flatten().map(|(_, slot)| slot))
    }
}

impl Slot {
    pub(super) fn new(seq: u64, op: Op) -> Self {
        Self { seq, op, older: None }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.op.key()
    }

    pub(super) fn key_bytes(&self) -> Bytes {
        self.op.key_bytes()
    }

    /// Key, sequence and value of the newest version.
    pub(super) fn newest(&self) -> (&[u8], u64, Option<&[u8]>) {
        (self.op.key(), self.seq, self.op.value_slice())
    }

    /// The version that a reader at `seq` sees.
    pub(super) fn at(&self, seq: u64) -> Option<Seen> {
        if self.seq <= seq {
            return Some(Seen { seq: self.seq, value: self.op.value() });
        }
        let (seq, value) = self.older().iter().rev().find(|(at, _)| *at <= seq)?;
        Some(Seen { seq: *seq, value: value.clone() })
    }

    /// All versions, the newest first.
    pub(super) fn versions(&self) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        let key = self.key_bytes();
        let older = self.older().iter().rev().map(|(seq, value)| (*seq, value.clone()));
        let all = std::iter::once((self.seq, self.op.value())).chain(older);
        all.map(move |(seq, value)| Entry { key: key.clone(), seq, value })
    }

    fn overwrite(&mut self, newer: Self, snapshot: u64) {
        let displaced = std::mem::replace(&mut self.op, newer.op);
        let displaced_seq = std::mem::replace(&mut self.seq, newer.seq);
        if displaced_seq <= snapshot {
            let older = self.older.get_or_insert_default();
            older.0.push((displaced_seq, displaced.value()));
        }
    }

    fn older(&self) -> &[(u64, Option<Bytes>)] {
        self.older.as_ref().map_or(&[], |older| &older.0)
    }

    fn is_within(&self, lower: &Bound<Bytes>, upper: &Bound<Bytes>) -> bool {
        let above = match lower {
            Bound::Included(lower) => self.key() >= lower,
            Bound::Excluded(lower) => self.key() > lower,
            Bound::Unbounded => true,
        };
        above
            && match upper {
                Bound::Included(upper) => self.key() <= upper,
                Bound::Excluded(upper) => self.key() < upper,
                Bound::Unbounded => true,
            }
    }
}
