//! Which keys have siblings here: an index, kept by the writes, so that nobody reads all rows to
//! list them.
//!
//! A write that leaves a key with more than one live version, or that ends such a state, notes it
//! under the key's lock, after its append; any other write pays two comparisons. After a start,
//! after a loss and for a partition that is newly held the rows have to be looked at again: that
//! rides on the building of the partition's hash tree, which reads them anyway, and where no tree
//! is kept on a walk of its own. (Riak has no such list: its sibling explosions are found by
//! reading.)
//!
//! The index has a bound in bytes. A key that finds no room makes its partition *short*: what is
//! listed of it is true, and not all of it. It is walked again when half of the index is free.
//!
//! Invariant: of a partition that was looked at and is not short, the index holds exactly the keys
//! whose stored record has more than one live version, as soon as the writes of them have returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_quorum::EncodedRecord;
use kv_ring::{Partition, PartitionCount};
use parking_lot::Mutex;

use super::{Replica, Verdict};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, position, slot_end};
use crate::plug::storage::StorageError;

/// Bytes of the index at most, unless it is said.
pub const CONFLICT_BYTES_MAX_DEFAULT: u64 = 16 << 20;

/// Bytes that an entry takes beside its key.
const ENTRY_BYTES: u64 = 96;
/// Keys that are looked at again in one pass under their locks.
const CONFIRM_KEYS: usize = 256;

/// What is known of a key with siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    /// Live versions, tombstones too.
    pub count: u32,
    /// When the newest of them was written, milliseconds since 1970.
    pub newest_ms: u64,
}

impl Siblings {
    /// What a record comes to.
    #[inline]
    pub(super) fn of(record: Option<EncodedRecord<'_>>) -> Self {
        let Some(record) = record.filter(|record| record.live_len() > 1) else {
            return Self::default();
        };
        let newest_ms = record.peek().map_or(0, |peek| peek.dot.time.ms());
        Self { count: u32::try_from(record.live_len()).unwrap_or(u32::MAX), newest_ms }
    }
}

/// How the index stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConflictCounts {
    /// Keys with siblings.
    pub keys: u64,
    /// Bytes of the index.
    pub bytes: u64,
    /// Partitions whose rows were not all looked at yet.
    pub unread: usize,
    /// Partitions of which some keys found no room.
    pub short: usize,
}

/// The keys with siblings of one node.
#[derive(Debug)]
pub struct ConflictIndex {
    bytes_max: u64,
    /// Also told outside the lock: most have none.
    keys: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// By which the rest is counted.
    partitions: PartitionCount,
    rows: BTreeMap<Bytes, Siblings>,
    bytes: u64,
    /// Keys by partition.
    each: Box<[u32]>,
    unread: BTreeSet<u16>,
    short: BTreeSet<u16>,
}

impl ConflictIndex {
    /// Nothing is known of any partition.
    pub(super) fn new(partitions: PartitionCount, bytes_max: u64) -> Self {
        let count = u16::try_from(partitions.count()).unwrap_or(u16::MAX);
        let held = Held {
            partitions,
            rows: BTreeMap::new(),
            bytes: 0,
            each: vec![0; usize::from(count)].into(),
            unread: (0..count).collect(),
            short: BTreeSet::new(),
        };
        Self { bytes_max, keys: AtomicU64::new(0), held: Mutex::new(held) }
    }

    /// From now on there are `count` partitions, if that is more: of each part as much is known as
    /// was of the whole.
    pub(super) fn refine(&self, count: PartitionCount) {
        let mut held = self.held.lock();
        if count > held.partitions {
            held.refine(count);
        }
    }

    /// Takes what a write left of a key. To be called under the key's lock, after the append.
    pub(super) fn note(&self, key: &[u8], siblings: Siblings) {
        let Some(place) = KeyRef::parse(key).filter(|key| key.keyspace == DEFAULT_KEYSPACE) else {
            return;
        };
        let mut held = self.held.lock();
        let partition = held.partitions.of(place.slot);
        if siblings.count > 1 {
            held.put(key, partition, siblings, self.bytes_max);
        } else {
            held.remove(key, partition);
        }
        self.keys.store(held.rows.len() as u64, Ordering::Relaxed);
    }

    /// Nothing is known of a partition any more: it lost something, or is not held.
    pub(super) fn forget(&self, partition: Partition) {
        let mut held = self.held.lock();
        for part in held.parts(partition) {
            held.forget(part);
        }
        self.keys.store(held.rows.len() as u64, Ordering::Relaxed);
    }

    /// All rows of a partition were looked at.
    pub(super) fn was_read(&self, partition: Partition) {
        let mut held = self.held.lock();
        // Who looked at a part of one that is not cut does not know the rest.
        if partition.count() <= held.partitions {
            for part in held.parts(partition) {
                held.unread.remove(&part.index());
            }
        }
    }

    /// Keys with siblings that are listed.
    #[inline]
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// How it stands, of the partitions that `held` says are this node's.
    pub fn counts(&self, mut ours: impl FnMut(Partition) -> bool) -> ConflictCounts {
        let held = self.held.lock();
        let mut some = |of: &BTreeSet<u16>| {
            held.partitions_in(of).filter(|partition| ours(*partition)).count()
        };
        let (unread, short) = (some(&held.unread), some(&held.short));
        ConflictCounts { keys: held.rows.len() as u64, bytes: held.bytes, unread, short }
    }

    /// Keys with siblings in those partitions that `counts` chooses.
    pub fn keys_in(&self, mut counts: impl FnMut(Partition) -> bool) -> u64 {
        if self.keys() == 0 {
            return 0;
        }
        let held = self.held.lock();
        let each = held.with_keys().filter(|(at, _)| counts(*at));
        each.map(|(_, keys)| u64::from(keys)).sum()
    }

    /// The first keys at or above a storage key, in order: `count` of them, and those that lie at
    /// one position with the last (`same`). Says whether that was the end.
    pub fn page(
        &self,
        from: &Bytes,
        count: usize,
        same: impl Fn(&[u8], &[u8]) -> bool,
    ) -> (Vec<(Bytes, Siblings)>, bool) {
        let held = self.held.lock();
        let mut page: Vec<(Bytes, Siblings)> = Vec::new();
        for (key, siblings) in held.rows.range(from.clone()..) {
            let full = page.len() >= count.max(1);
            if full && page.last().is_none_or(|(last, _)| !same(last, key)) {
                return (page, false);
            }
            page.push((key.clone(), *siblings));
        }
        (page, true)
    }

    /// Partitions with keys that `ours` says are not held here.
    fn strangers(&self, ours: impl Fn(Partition) -> bool) -> Vec<Partition> {
        if self.keys() == 0 {
            return Vec::new();
        }
        let held = self.held.lock();
        held.with_keys().map(|(at, _)| at).filter(|partition| !ours(*partition)).collect()
    }

    /// A partition to walk, of those that `may` be walked: one that was not looked at, or a short
    /// one as soon as there is room.
    fn to_walk(&self, mut may: impl FnMut(Partition) -> bool) -> Option<Partition> {
        let mut held = self.held.lock();
        let mut find =
            |of: &BTreeSet<u16>| held.partitions_in(of).find(|partition| may(*partition));
        if let Some(unread) = find(&held.unread) {
            return Some(unread);
        }
        let short = if held.bytes * 2 <= self.bytes_max { find(&held.short) } else { None };
        if let Some(short) = short {
            held.short.remove(&short.index());
        }
        short
    }
}

impl Held {
    /// The partitions that are counted here of which one of any count is made, or is a part.
    fn parts(&self, partition: Partition) -> Vec<Partition> {
        if let Some(own) = partition.under(self.partitions) {
            return vec![own];
        }
        let is_in = |part: &Partition| part.under(partition.count()) == Some(partition);
        self.partitions.iter().filter(is_in).collect()
    }

    fn partitions_in(&self, of: &BTreeSet<u16>) -> impl Iterator<Item = Partition> {
        of.iter().filter_map(|index| self.partitions.nth(*index))
    }

    /// Partitions with keys, and how many.
    fn with_keys(&self) -> impl Iterator<Item = (Partition, u32)> {
        let each = self.partitions.iter().zip(self.each.iter().copied());
        each.filter(|(_, keys)| *keys > 0)
    }

    fn forget(&mut self, partition: Partition) {
        self.unread.insert(partition.index());
        self.short.remove(&partition.index());
        if self.count(partition) == 0 {
            return;
        }
        let slots = partition.slots();
        let from = position(DEFAULT_KEYSPACE, *slots.start(), 0);
        let to = slot_end(DEFAULT_KEYSPACE, *slots.end());
        let gone: Vec<Bytes> = self.rows.range(from..to).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.remove(key, partition);
        }
    }

    fn refine(&mut self, count: PartitionCount) {
        let coarse = std::mem::replace(&mut self.partitions, count);
        let parts = |of: &BTreeSet<u16>| -> BTreeSet<u16> {
            let whole = |part: &Partition| part.under(coarse).map(Partition::index);
            let is_of = |part: &Partition| whole(part).is_some_and(|whole| of.contains(&whole));
            count.iter().filter(is_of).map(Partition::index).collect()
        };
        (self.unread, self.short) = (parts(&self.unread), parts(&self.short));
        self.each = vec![0; count.count()].into();
        let places = self.rows.keys().filter_map(|key| KeyRef::parse(key));
        let partitions: Vec<Partition> = places.map(|place| count.of(place.slot)).collect();
        for partition in partitions {
            self.add(partition, 1);
        }
    }

    fn count(&self, partition: Partition) -> u32 {
        self.each.get(usize::from(partition.index())).copied().unwrap_or(0)
    }

    fn add(&mut self, partition: Partition, by: i32) {
        if let Some(count) = self.each.get_mut(usize::from(partition.index())) {
            *count = count.saturating_add_signed(by);
        }
    }

    fn put(&mut self, key: &[u8], partition: Partition, siblings: Siblings, bytes_max: u64) {
        if let Some(known) = self.rows.get_mut(key) {
            *known = siblings;
            return;
        }
        let bytes = key.len() as u64 + ENTRY_BYTES;
        if self.bytes + bytes > bytes_max {
            self.short.insert(partition.index());
            return;
        }
        self.bytes += bytes;
        self.rows.insert(Bytes::copy_from_slice(key), siblings);
        self.add(partition, 1);
    }

    fn remove(&mut self, key: &[u8], partition: Partition) {
        if self.rows.remove(key).is_some() {
            self.bytes -= key.len() as u64 + ENTRY_BYTES;
            self.add(partition, -1);
        }
    }
}

impl Replica {
    /// The keys with siblings.
    #[inline]
    pub fn conflicts(&self) -> &ConflictIndex {
        &self.conflicts
    }

    /// Forgets what is not held here, and looks through one partition that has to be, if there is
    /// one: not one that is `shared`, as long as its tree is to be built. Says whether it did.
    ///
    /// # Errors
    /// The partition could not be read; it is tried again.
    pub async fn walk_conflicts(
        &self,
        ours: impl Fn(Partition) -> bool + Send + Sync,
        shared: impl Fn(Partition) -> bool + Send + Sync,
    ) -> Result<bool, StorageError> {
        for partition in self.conflicts.strangers(&ours) {
            self.conflicts.forget(partition);
        }
        let awaits = |partition| shared(partition) && !self.trees().is_whole_since(partition, 0);
        let may = |partition| ours(partition) && !awaits(partition);
        let Some(partition) = self.conflicts.to_walk(may) else { return Ok(false) };
        let slots = partition.slots();
        let mut found = Vec::new();
        self.each_row(slots, &mut |key, record| {
            if has_siblings(record) {
                found.push(key.clone());
            }
        })
        .await?;
        self.confirm_conflicts(&found).await?;
        self.conflicts.was_read(partition);
        Ok(true)
    }

    /// Looks at keys again under their locks: what was read before may have changed since.
    pub(super) async fn confirm_conflicts(&self, keys: &[Bytes]) -> Result<(), StorageError> {
        for keys in keys.chunks(CONFIRM_KEYS) {
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            self.update(&keys, &mut |place, stored, _| {
                let record = stored.and_then(|stored| EncodedRecord::parse(stored).ok());
                if let Some(key) = keys.get(place) {
                    self.conflicts.note(key, Siblings::of(record));
                }
                Verdict::Keep
            })
            .await?;
        }
        Ok(())
    }
}

/// Whether a stored record has more than one live version.
pub(super) fn has_siblings(record: &[u8]) -> bool {
    EncodedRecord::parse(record).is_ok_and(|record| record.live_len() > 1)
}

#[cfg(test)]
#[path = "conflicts_tests.rs"]
mod tests;
