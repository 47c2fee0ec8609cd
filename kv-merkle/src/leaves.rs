//! The leaves: for each a sum of its entries' digests, and a bit that says it has changed.
//!
//! A write takes the old entry's digest out of its leaf and puts the new one in: O(1), no tree is
//! touched. The dirty bits say which leaves a stored copy of the sums has to be told of, and
//! whether a tree that was built before is still right. Invariant: the sums depend on the set of
//! entries alone, not on the way to it.

use alloc::vec;
use alloc::vec::Vec;

use crate::Error;
use crate::digest::Digest;
use crate::shape::Shape;

/// 2^k sums of digests. 16 bytes and one bit for each leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaves {
    shape: Shape,
    sums: Vec<Digest>,
    dirty: Vec<u64>,
}

impl Leaves {
    /// Leaves without entries, none of them dirty.
    pub fn new(shape: Shape) -> Self {
        let count = shape.leaves() as usize;
        Self { shape, sums: vec![Digest::ZERO; count], dirty: vec![0; count.div_ceil(64)] }
    }

    /// How many there are.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// An entry came into a leaf. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchLeaf`]; nothing has changed.
    pub fn add(&mut self, leaf: u32, entry: Digest) -> Result<(), Error> {
        self.replace(leaf, Digest::ZERO, entry)
    }

    /// An entry that is in a leaf left it. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchLeaf`]; nothing has changed.
    pub fn remove(&mut self, leaf: u32, entry: Digest) -> Result<(), Error> {
        self.replace(leaf, entry, Digest::ZERO)
    }

    /// An entry took the place of another. Equal ones don't make the leaf dirty. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchLeaf`]; nothing has changed.
    pub fn replace(&mut self, leaf: u32, before: Digest, after: Digest) -> Result<(), Error> {
        let sum = self.sums.get_mut(leaf as usize).ok_or(Error::NoSuchLeaf { leaf })?;
        if before != after {
            *sum = sum.minus(before).plus(after);
            self.mark(leaf);
        }
        Ok(())
    }

    /// Sets a leaf's whole sum: it was computed anew from its entries, or read from a stored copy.
    ///
    /// # Errors
    /// [`Error::NoSuchLeaf`]; nothing has changed.
    pub fn set(&mut self, leaf: u32, sum: Digest) -> Result<(), Error> {
        let place = self.sums.get_mut(leaf as usize).ok_or(Error::NoSuchLeaf { leaf })?;
        if *place != sum {
            *place = sum;
            self.mark(leaf);
        }
        Ok(())
    }

    /// A leaf's sum.
    pub fn get(&self, leaf: u32) -> Option<Digest> {
        self.sums.get(leaf as usize).copied()
    }

    /// All sums, in order.
    pub fn sums(&self) -> &[Digest] {
        &self.sums
    }

    /// The same entries in fewer leaves: a leaf of the smaller shape holds what stands side by side
    /// in this one. So two sides of different shapes compare in the smaller. O(leaves).
    ///
    /// # Errors
    /// [`Error::OtherDepth`] for a deeper shape: what is summed up can't be told apart.
    pub fn folded(&self, shape: Shape) -> Result<Self, Error> {
        let (ours, theirs) = (self.shape.depth(), shape.depth());
        let Some(levels) = ours.checked_sub(theirs) else {
            return Err(Error::OtherDepth { ours, theirs });
        };
        let mut folded = Self::new(shape);
        for (leaf, sums) in (0_u32..).zip(self.sums.chunks(1 << levels)) {
            folded.set(leaf, sums.iter().fold(Digest::ZERO, |sum, entry| sum.plus(*entry)))?;
        }
        Ok(folded)
    }

    /// The leaves of the positions whose first bit is 0, and those of the others, as they would
    /// stand if that bit were not told: each in a shape of half as many. So what is cut in two
    /// there needs not be summed up anew. O(leaves).
    ///
    /// # Errors
    /// [`Error::Depth`] if there are two leaves only.
    pub fn halves(&self) -> Result<[Self; 2], Error> {
        let shape = Shape::new(self.shape.depth() - 1)?;
        let (low, high) = self.sums.split_at(self.sums.len() / 2);
        let half = |sums: &[Digest]| -> Result<Self, Error> {
            let mut half = Self::new(shape);
            for (leaf, sum) in (0_u32..).zip(sums) {
                half.set(leaf, *sum)?;
            }
            Ok(half)
        };
        Ok([half(low)?, half(high)?])
    }

    /// Whether any leaf has changed since [`take_dirty`](Self::take_dirty).
    pub fn is_dirty(&self) -> bool {
        self.dirty.iter().any(|word| *word != 0)
    }

    /// The leaves that have changed since the last call, in order; none is dirty afterwards.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let mut leaves = Vec::new();
        for (number, word) in (0_u32..).zip(&mut self.dirty) {
            while *word != 0 {
                leaves.push(number * 64 + word.trailing_zeros());
                *word &= *word - 1;
            }
        }
        leaves
    }

    fn mark(&mut self, leaf: u32) {
        if let Some(word) = self.dirty.get_mut(leaf as usize / 64) {
            *word |= 1 << (leaf % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_stand_as_if_the_first_bit_were_not_told() {
        let (whole, half) = (Shape::new(4).unwrap(), Shape::new(3).unwrap());
        let mut leaves = Leaves::new(whole);
        let mut expected = [Leaves::new(half), Leaves::new(half)];
        for n in 1..200_u64 {
            let position = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let digest = Digest::new(u128::from(n));
            leaves.add(whole.leaf_of(position), digest).unwrap();
            let of = &mut expected[(position >> 63) as usize];
            of.add(half.leaf_of(position << 1), digest).unwrap();
        }
        let halves = leaves.halves().unwrap();
        for (half, expected) in halves.iter().zip(&expected) {
            assert_eq!((half.shape(), half.sums()), (expected.shape(), expected.sums()));
        }
        let two = Leaves::new(Shape::new(1).unwrap());
        assert_eq!(two.halves(), Err(Error::Depth { depth: 0 }));
    }

    #[test]
    fn what_changes_nothing_makes_nothing_dirty() {
        let mut leaves = Leaves::new(Shape::new(3).unwrap());
        let no_leaf = Err(Error::NoSuchLeaf { leaf: 8 });
        assert_eq!(leaves.add(8, Digest::new(1)), no_leaf);
        assert_eq!(leaves.set(8, Digest::new(1)), no_leaf);
        assert_eq!(leaves.get(8), None);
        leaves.replace(7, Digest::new(1), Digest::new(1)).unwrap();
        leaves.set(7, Digest::ZERO).unwrap();
        assert!(!leaves.is_dirty());
    }

    #[test]
    fn folded_leaves_hold_what_was_side_by_side() {
        let (deep, flat) = (Shape::new(9).unwrap(), Shape::new(3).unwrap());
        let (mut leaves, mut expected) = (Leaves::new(deep), Leaves::new(flat));
        for entry in 1..2_000_u64 {
            let position = entry.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let digest = Digest::new(u128::from(entry) << 90);
            leaves.add(deep.leaf_of(position), digest).unwrap();
            expected.add(flat.leaf_of(position), digest).unwrap();
        }
        assert_eq!(leaves.folded(flat).unwrap().sums(), expected.sums());
        assert_eq!(leaves.folded(deep).unwrap().sums(), leaves.sums());
        assert!(expected.folded(deep).is_err());
    }

    proptest! {
        #[test]
        fn sums_follow_the_set_of_entries(
            steps in proptest::collection::vec((0..128_u32, 0..20_u128, any::<bool>()), 0..200),
        ) {
            let shape = Shape::new(7).unwrap();
            let mut leaves = Leaves::new(shape);
            let mut entries = BTreeSet::new();
            let mut touched = BTreeSet::new();
            for (leaf, entry, keep) in steps {
                let digest = Digest::new((entry + 1) << 100);
                if keep && entries.insert((leaf, entry)) {
                    leaves.add(leaf, digest).unwrap();
                    touched.insert(leaf);
                } else if !keep && entries.remove(&(leaf, entry)) {
                    leaves.remove(leaf, digest).unwrap();
                    touched.insert(leaf);
                }
            }
            let mut fresh = Leaves::new(shape);
            for (leaf, entry) in &entries {
                fresh.add(*leaf, Digest::new((entry + 1) << 100)).unwrap();
            }
            prop_assert_eq!(leaves.sums(), fresh.sums());
            prop_assert_eq!(leaves.take_dirty(), touched.into_iter().collect::<Vec<_>>());
            prop_assert!(!leaves.is_dirty());
        }
    }
}
