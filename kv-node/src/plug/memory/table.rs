//! A hash table that names rows: eight bytes for each, eight rows in a cache line.
//!
//! An entry is a part of the key's hash and the row's address. It stands in its *home*, the bucket
//! that its hash names, or behind it if that is full. So a look-up misses the cache for one line
//! most often; a table with control bytes apart (hashbrown) misses for two, and is 44 to 88 % full
//! where this one is 53 to 80 %, since it grows by halves: the number of buckets is any. (Knuth,
//! "The art of computer programming", volume 3, 6.4: linear probing with buckets, and algorithm R
//! for removals; Lemire, "Fast random integer generation in an interval", 2019, for the home.)
//!
//! ```text
//! entry   hash u24 | address u40
//! ```
//! Invariant: all buckets from an entry's home to its own are full; free places are at a bucket's
//! end.

use super::arena::{ADDRESS_BITS, Address};

/// Entries of a bucket: a cache line.
const BUCKET_ENTRIES: usize = 8;
const FREE: u64 = u64::MAX;
const HASH_BITS: u32 = u64::BITS - ADDRESS_BITS;

/// Bytes of a table for each of its rows, at most: it is 53 % full when it has just grown.
pub(super) const ENTRY_BYTES: u64 = 15;

/// With fewer buckets a table is not made smaller.
const BUCKETS_MIN: usize = 8;

/// 24 bits of a key's hash: of 1,000 rows in a table, one look-up in 16,000 takes another key's row
/// for its own until it has seen that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(u64);

impl Hash {
    /// The part that an entry has room for.
    #[inline]
    pub(super) fn of(hash: u64) -> Self {
        // The last one is left out: a free place looks like that.
        Self((hash >> ADDRESS_BITS).min((1 << HASH_BITS) - 2))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    #[inline]
    const fn new(hash: Hash, at: Address) -> Self {
        Self(hash.0 << ADDRESS_BITS | at.0)
    }

    #[inline]
    const fn hash(self) -> Hash {
        Hash(self.0 >> ADDRESS_BITS)
    }

    #[inline]
    const fn address(self) -> Address {
        Address(self.0 & ((1 << ADDRESS_BITS) - 1))
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([Entry; BUCKET_ENTRIES]);

impl Bucket {
    const EMPTY: Self = Self([Entry(FREE); BUCKET_ENTRIES]);

    #[inline]
    const fn is_full(&self) -> bool {
        self.0[BUCKET_ENTRIES - 1].0 != FREE
    }

    /// A bit for each entry of that hash. Which it is can't be foretold, so no branch depends on
    /// it: the look-ups that follow need not wait until this one has come from memory.
    #[inline]
    fn matches(&self, hash: Hash) -> u32 {
        let bit = |(place, entry): (usize, &Entry)| u32::from(entry.hash() == hash) << place;
        self.0.iter().enumerate().map(bit).sum()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.0.iter().copied().take_while(|entry| entry.0 != FREE)
    }

    /// Says whether there was room.
    fn push(&mut self, entry: Entry) -> bool {
        let free = self.0.iter_mut().find(|entry| entry.0 == FREE);
        free.map(|free| *free = entry).is_some()
    }

    /// Takes an entry out; the last one takes its place.
    fn take(&mut self, place: usize) -> Option<Entry> {
        let last = self.entries().count().checked_sub(1)?;
        let entry = *self.0.get(place)?;
        self.0.swap(place, last);
        *self.0.get_mut(last)? = Entry(FREE);
        Some(entry)
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Table {
    /// The address of which `is` says that it is the one.
    #[inline]
    pub(super) fn find(&self, hash: Hash, mut is: impl FnMut(Address) -> bool) -> Option<Address> {
        let mut number = self.home(hash);
        loop {
            let bucket = self.buckets.get(number)?;
            let mut matches = bucket.matches(hash);
            while let Some(entry) = bucket.0.get(matches.trailing_zeros() as usize) {
                if is(entry.address()) {
                    return Some(entry.address());
                }
                matches &= matches - 1;
            }
            if !bucket.is_full() {
                return None;
            }
            number = self.behind(number);
        }
    }

    /// Reads an entry of a hash's home and says nothing of it: so that the home is on its way from
    /// memory.
    #[inline]
    pub(super) fn touch(&self, hash: Hash) -> u64 {
        self.buckets.get(self.home(hash)).map_or(0, |bucket| bucket.0[0].0)
    }

    /// Adds an address that it does not hold.
    pub(super) fn insert(&mut self, hash: Hash, at: Address) {
        if (self.len + 1) * 5 > self.buckets.len() * BUCKET_ENTRIES * 4 {
            self.rebuild(self.buckets.len() + self.buckets.len() / 2 + 1);
        }
        self.place(Entry::new(hash, at));
        self.len += 1;
    }

    /// Puts an address in the place of another; says whether it held that.
    pub(super) fn replace(&mut self, hash: Hash, old: Address, new: Address) -> bool {
        let Some((number, place)) = self.position(Entry::new(hash, old)) else { return false };
        let entry = self.buckets.get_mut(number).and_then(|bucket| bucket.0.get_mut(place));
        entry.map(|entry| *entry = Entry::new(hash, new)).is_some()
    }

    /// Whether it holds an address.
    pub(super) fn holds(&self, hash: Hash, at: Address) -> bool {
        self.position(Entry::new(hash, at)).is_some()
    }

    /// Removes an address.
    pub(super) fn remove(&mut self, hash: Hash, at: Address) {
        let Some((mut hole, place)) = self.position(Entry::new(hash, at)) else { return };
        let mut was_full = self.take(hole, place).0;
        self.len -= 1;
        let mut number = hole;
        // What stands behind the hole may have its home before it.
        while was_full {
            number = self.behind(number);
            let Some(bucket) = self.buckets.get(number).copied() else { break };
            let reaches = |entry: Entry| {
                self.distance(self.home(entry.hash()), number) >= self.distance(hole, number)
            };
            was_full = bucket.is_full();
            if let Some(place) = bucket.entries().position(reaches) {
                let (_, entry) = self.take(number, place);
                if let (Some(entry), Some(bucket)) = (entry, self.buckets.get_mut(hole)) {
                    bucket.push(entry);
                }
                hole = number;
            }
        }
        let room = self.buckets.len() * BUCKET_ENTRIES;
        if self.buckets.len() > BUCKETS_MIN && self.len < room / 4 {
            self.rebuild(self.buckets.len() / 2);
        }
    }

    /// All addresses, in no order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.buckets.iter().flat_map(Bucket::entries).map(Entry::address)
    }

    #[inline]
    fn home(&self, hash: Hash) -> usize {
        ((hash.0 * self.buckets.len() as u64) >> HASH_BITS) as usize
    }

    #[inline]
    fn behind(&self, number: usize) -> usize {
        if number + 1 == self.buckets.len() { 0 } else { number + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to { to - from } else { to + self.buckets.len() - from }
    }

    fn position(&self, entry: Entry) -> Option<(usize, usize)> {
        let mut number = self.home(entry.hash());
        loop {
            let bucket = self.buckets.get(number)?;
            if let Some(place) = bucket.0.iter().position(|other| *other == entry) {
                return Some((number, place));
            }
            if !bucket.is_full() {
                return None;
            }
            number = self.behind(number);
        }
    }

    /// Takes an entry out of a bucket; says whether that was full.
    fn take(&mut self, number: usize, place: usize) -> (bool, Option<Entry>) {
        let Some(bucket) = self.buckets.get_mut(number) else { return (false, None) };
        (bucket.is_full(), bucket.take(place))
    }

    /// There is room.
    fn place(&mut self, entry: Entry) {
        let mut number = self.home(entry.hash());
        while let Some(bucket) = self.buckets.get_mut(number)
            && !bucket.push(entry)
        {
            number = self.behind(number);
        }
    }

    #[cold]
    fn rebuild(&mut self, buckets: usize) {
        let new = vec![Bucket::EMPTY; buckets].into_boxed_slice();
        for entry in std::mem::replace(&mut self.buckets, new).iter().flat_map(Bucket::entries) {
            self.place(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Hashes that crowd in few homes, the first and the last among them.
    fn hash(number: u64) -> Hash {
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Hash::of(if number.is_multiple_of(3) { spread } else { u64::MAX << (30 + number % 30) })
    }

    #[test]
    fn it_is_a_set_however_crowded() {
        for range in [5, 60, 3_000] {
            let (mut table, mut model) = (Table::default(), BTreeSet::new());
            let mut random = 7_u64;
            for step in 0..60_000_u64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Grows, then shrinks, then grows.
                let grows = (random >> 60) < if step / 20_000 == 1 { 5 } else { 10 };
                let number = (random >> 33) % range;
                let (hash, at) = (hash(number), Address(number));
                assert_eq!(table.holds(hash, at), model.contains(&number));
                assert_eq!(
                    table.find(hash, |found| found == at).is_some(),
                    model.contains(&number)
                );
                if !grows {
                    table.remove(hash, at);
                    model.remove(&number);
                } else if model.insert(number) {
                    table.insert(hash, at);
                }
                assert_eq!(table.len, model.len());
            }
            let mut held: Vec<u64> = table.addresses().map(|at| at.0).collect();
            held.sort_unstable();
            assert!(held.iter().eq(&model));
            for number in model {
                let (hash, old, new) = (hash(number), Address(number), Address(number + (1 << 30)));
                assert!(table.replace(hash, old, new) && !table.replace(hash, old, new));
                table.remove(hash, new);
            }
            assert_eq!((table.len, table.addresses().count()), (0, 0));
            assert!(table.buckets.len() <= BUCKETS_MIN, "its memory is given back");
        }
    }
}
