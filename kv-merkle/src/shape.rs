//! How large a tree is: 2^k leaves, k from 1 to 16, and nothing else.
//!
//! The library under the tree panics on 0 or 1 leaves, and with an odd level it gives `[a, b, c]`
//! and `[a, b, c, c]` one root (CVE-2012-2459 is this, elsewhere). A fixed power of two rules out
//! both, and two trees of one shape can be compared node by node.

use crate::Error;

/// The number of leaves of a tree, as its depth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shape(u8);

/// The deepest tree: 65,536 leaves, 2 MiB of digests.
pub const DEPTH_MAX: u8 = 16;

impl Shape {
    /// A tree of 2^`depth` leaves.
    ///
    /// # Errors
    /// [`Error::Depth`] unless `depth` is 1 to [`DEPTH_MAX`].
    pub const fn new(depth: u8) -> Result<Self, Error> {
        if depth == 0 || depth > DEPTH_MAX {
            return Err(Error::Depth { depth });
        }
        Ok(Self(depth))
    }

    /// Levels below the root.
    pub const fn depth(self) -> u8 {
        self.0
    }

    /// How many leaves there are.
    pub const fn leaves(self) -> u32 {
        1 << self.0
    }

    /// The leaf of a position: its high bits. So a leaf is one contiguous range of positions, and
    /// its entries can be read as a range.
    pub const fn leaf_of(self, position: u64) -> u32 {
        (position >> (64 - self.0 as u32)) as u32
    }

    /// The first and the last position of a leaf.
    ///
    /// # Errors
    /// [`Error::NoSuchLeaf`].
    pub const fn range_of(self, leaf: u32) -> Result<(u64, u64), Error> {
        if leaf >= self.leaves() {
            return Err(Error::NoSuchLeaf { leaf });
        }
        let shift = 64 - self.0 as u32;
        let first = (leaf as u64) << shift;
        Ok((first, first | (u64::MAX >> self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_to_sixteen() {
        assert_eq!(Shape::new(0), Err(Error::Depth { depth: 0 }));
        assert_eq!(Shape::new(17), Err(Error::Depth { depth: 17 }));
        assert_eq!(Shape::new(16).map(Shape::leaves), Ok(65_536));
    }

    #[test]
    fn leaves_are_contiguous_ranges_that_cover_everything() {
        for depth in [1, 5, 16] {
            let shape = Shape::new(depth).unwrap();
            let mut next = 0_u64;
            for leaf in 0..shape.leaves() {
                let (first, last) = shape.range_of(leaf).unwrap();
                assert_eq!(first, next);
                assert_eq!((shape.leaf_of(first), shape.leaf_of(last)), (leaf, leaf));
                next = last.wrapping_add(1);
            }
            assert_eq!(next, 0);
            assert!(shape.range_of(shape.leaves()).is_err());
        }
    }
}
