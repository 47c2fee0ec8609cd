//! Something for each partition of this node, of a count that may be doubled while it is read.
//!
//! What a node keeps by partition is kept under the count of its newest layout. When it learns of a
//! finer one, each partition's halves inherit what it had, at once, and nobody is kept waiting: the
//! cells of the finer count are made beside those of the coarser, and then the finer count is the
//! present one. A reader that looked the moment before reads what was true then.
//!
//! A partition names its count (kv-ring), and may come from an operation that began under an older
//! layout. Of a coarser one there are several cells: whoever asks combines them, and whoever
//! changes something changes all. So nothing is ever looked up under another count's number.
//!
//! Invariant: counts only rise, and whoever changes cells keeps `refine` out meanwhile (each owner
//! has a lock for it): a change that went to cells of the past would be lost.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv_ring::{Partition, PartitionCount, Slot};

/// Counts that there can be: 1, 2, 4, up to 16384.
const COUNTS: usize = PartitionCount::MAX.count().trailing_zeros() as usize + 1;

/// A value for each count that there was since the start; the last one is the present one. Those of
/// the past stay, in which somebody may be reading: together they are no larger than the last.
pub(crate) struct ByCount<G> {
    each: [OnceLock<G>; COUNTS],
    now: AtomicUsize,
}

impl<G> ByCount<G> {
    pub(crate) fn new(count: PartitionCount, value: G) -> Self {
        let each: [OnceLock<G>; COUNTS] = std::array::from_fn(|_| OnceLock::new());
        let now = place_of(count);
        let set = each.get(now).is_some_and(|cell| cell.set(value).is_ok());
        assert!(set, "there is a place for each count");
        Self { each, now: AtomicUsize::new(now) }
    }

    /// The present value.
    #[inline]
    pub(crate) fn now(&self) -> &G {
        let now = self.each.get(self.now.load(Ordering::Acquire)).and_then(OnceLock::get);
        now.expect("a count is the present one when its value is there")
    }

    /// The value of a count; `None` if that never was the present one.
    #[inline]
    pub(crate) fn of(&self, count: PartitionCount) -> Option<&G> {
        self.each.get(place_of(count))?.get()
    }

    /// Puts in force what `make` makes of the present value, if `count` is finer. Says whether it
    /// is. One at a time.
    pub(crate) fn refine(&self, count: PartitionCount, make: impl FnOnce(&G) -> G) -> bool {
        let finer = place_of(count);
        if finer <= self.now.load(Ordering::Acquire) {
            return false;
        }
        let made = make(self.now());
        let set = self.each.get(finer).is_some_and(|cell| cell.set(made).is_ok());
        assert!(set, "a finer count comes once");
        self.now.store(finer, Ordering::Release);
        true
    }
}

/// The cells of one count.
pub(crate) struct Cells<T> {
    count: PartitionCount,
    each: Box<[T]>,
}

impl<T> Cells<T> {
    /// A cell for each partition of a count.
    pub(crate) fn new(count: PartitionCount, cell: impl FnMut(Partition) -> T) -> Self {
        Self { count, each: count.iter().map(cell).collect() }
    }

    pub(crate) fn count(&self) -> PartitionCount {
        self.count
    }

    /// Each cell with its partition, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Partition, &T)> {
        self.count.iter().zip(&self.each)
    }

    /// All cells in the order of their partitions.
    pub(crate) fn all(&self) -> &[T] {
        &self.each
    }

    /// The cell of a slot.
    #[inline]
    pub(crate) fn of(&self, slot: Slot) -> &T {
        let index = usize::from(self.count.of(slot).index());
        self.each.get(index).expect("there is a cell for each partition of the count")
    }

    /// The cell of a partition of this very count.
    #[inline]
    pub(crate) fn exact(&self, partition: Partition) -> Option<&T> {
        if !self.count.contains(partition) {
            return None;
        }
        self.each.get(usize::from(partition.index()))
    }

    /// Where the cells stand that hold any slot of a partition, whatever its count.
    #[inline]
    pub(crate) fn touched(&self, partition: Partition) -> Range<usize> {
        if let Some(own) = partition.under(self.count) {
            let index = usize::from(own.index());
            return index..index + 1;
        }
        let first = usize::from(self.count.of(partition.first_slot()).index());
        first..first + self.count.count() / partition.count().count()
    }

    /// Where the cells stand that hold slots of a partition only: none if its count is finer.
    pub(crate) fn within(&self, partition: Partition) -> Range<usize> {
        if partition.count() > self.count { 0..0 } else { self.touched(partition) }
    }

    /// The cells of such places.
    #[inline]
    pub(crate) fn at(&self, places: Range<usize>) -> &[T] {
        self.each.get(places).unwrap_or_default()
    }
}

/// A cell for each partition.
pub(crate) struct ByPartition<T>(ByCount<Cells<T>>);

impl<T> std::fmt::Debug for ByPartition<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByPartition").field("count", &self.now().count).finish_non_exhaustive()
    }
}

impl<T> ByPartition<T> {
    pub(crate) fn new(count: PartitionCount, cell: impl FnMut(Partition) -> T) -> Self {
        Self(ByCount::new(count, Cells::new(count, cell)))
    }

    /// The cells of the present count.
    #[inline]
    pub(crate) fn now(&self) -> &Cells<T> {
        self.0.now()
    }

    /// The cells that hold any slot of a partition, whatever its count.
    #[inline]
    pub(crate) fn touched(&self, partition: Partition) -> &[T] {
        let cells = self.now();
        cells.at(cells.touched(partition))
    }

    /// From now on there is a cell for each partition of `count`, if that is finer, and it has
    /// what `inherit` gives it of the cell that it is a part of.
    pub(crate) fn refine(&self, count: PartitionCount, inherit: impl Fn(&T) -> T) -> bool {
        self.0.refine(count, |coarse| {
            Cells::new(count, |partition| inherit(coarse.of(partition.first_slot())))
        })
    }
}

/// A fact of the directory that has a value for each partition of the count that it was written
/// under, as values of another count: a half has what the whole had, and a whole what `join` makes
/// of its parts. `None` if it is of no count.
pub(crate) fn converted<V: Copy>(
    written: &[V],
    count: PartitionCount,
    join: impl Fn(V, V) -> V,
) -> Option<Vec<V>> {
    let under = PartitionCount::new(u32::try_from(written.len()).ok()?).ok()?;
    let cells = Cells { count: under, each: written.into() };
    let value = |partition| cells.at(cells.touched(partition)).iter().copied().reduce(&join);
    count.iter().map(value).collect()
}

fn place_of(count: PartitionCount) -> usize {
    count.count().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn count(partitions: u32) -> PartitionCount {
        PartitionCount::new(partitions).expect("a power of two")
    }

    #[test]
    fn halves_inherit_and_then_stand_for_themselves() {
        let cells = ByPartition::new(count(4), |at| AtomicU64::new(u64::from(at.index()) * 10));
        let told = |partition| -> Vec<u64> {
            let cells = cells.touched(partition).iter();
            cells.map(|cell| cell.load(Ordering::Relaxed)).collect()
        };
        let coarse = count(4).nth(2).expect("the third of four");
        let again = |cell: &AtomicU64| AtomicU64::new(cell.load(Ordering::Relaxed));
        assert!(!cells.refine(count(4), again) && !cells.refine(count(2), again));
        assert!(cells.refine(count(8), again));
        let [low, high] = coarse.halves().expect("there are slots to halve");
        assert_eq!((told(low), told(high), told(coarse)), (vec![20], vec![20], vec![20, 20]));
        cells.now().exact(high).expect("of eight").store(7, Ordering::Relaxed);
        assert_eq!(told(coarse), [20, 7]);
        assert_eq!(told(high.halves().expect("halves")[0]), [7], "of the cell that it is in");
        assert!(cells.now().exact(coarse).is_none());
        assert_eq!(cells.now().within(coarse), 4..6);
        assert!(cells.now().within(high.halves().expect("halves")[0]).is_empty());
        assert_eq!(cells.now().of(high.first_slot()).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn several_doublings_at_once_inherit_too() {
        let cells = ByPartition::new(count(2), Partition::index);
        assert!(cells.refine(count(16), |cell| *cell));
        assert!(cells.now().iter().all(|(at, cell)| *cell == at.index() / 8));
        assert_eq!(cells.now().count(), count(16));
    }

    #[test]
    fn facts_are_read_under_the_count_that_they_were_written_with() {
        let least = |written: &[u64], partitions| converted(written, count(partitions), u64::min);
        assert_eq!(least(&[5, 9], 4), Some(vec![5, 5, 9, 9]));
        assert_eq!(least(&[5, 3, 9, 9], 2), Some(vec![3, 9]));
        assert_eq!(least(&[5, 3], 2), Some(vec![5, 3]));
        assert_eq!(least(&[1, 2, 3], 4), None);
        assert_eq!(least(&[], 4), None);
    }
}
