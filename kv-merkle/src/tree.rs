//! The inner nodes above the leaves, by merkle_light, rebuilt as a whole.
//!
//! ```text
//! depth 0            root
//! depth 1       0            1
//! depth 2     0    1      2    3        node i of depth d has 2i and 2i + 1 of depth d + 1
//!   ...
//! depth k   0 1 2 3 ...      2^k - 1    the leaves: sums of digests
//! ```
//!
//! A rebuild of 1,024 leaves costs some 25 us, less than keeping inner nodes right with each write
//! would; riak_core's `hashtree.erl` also updates its tree in a batch. merkle_light takes its hash
//! as a `Hasher`; with a stack buffer of 40 bytes and one call of XXH3 for each node it is four
//! times as fast as with a streaming hasher, and `leaf` is the identity because a leaf is a digest
//! already. Invariant: only ever 2^k leaves, by [`Shape`].

use core::fmt;
use core::hash::Hasher;

use merkle_light::hash::Algorithm;
use merkle_light::merkle::MerkleTree;
use twox_hash::XxHash3_128;

use crate::digest::Digest;
use crate::leaves::Leaves;
use crate::shape::Shape;

/// All nodes over one state of the leaves. 32 bytes for each leaf.
#[derive(Clone)]
pub struct Tree {
    shape: Shape,
    nodes: MerkleTree<[u8; Digest::BYTES], NodeHash>,
}

impl Tree {
    /// Builds the tree over the leaves as they are now. O(leaves): some 25 ns for each.
    pub fn build(leaves: &Leaves) -> Self {
        let nodes = MerkleTree::new(leaves.sums().iter().map(|sum| sum.to_bytes()));
        let expected = 2 * leaves.shape().leaves() as usize - 1;
        assert!(nodes.len() == expected, "a tree over 2^k leaves has 2^(k + 1) - 1 nodes");
        Self { shape: leaves.shape(), nodes }
    }

    /// How large it is.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The root: equal for equal leaves.
    pub fn root(&self) -> Digest {
        Digest::from_bytes(self.nodes.root())
    }

    /// One node, counted from the left at its depth; the root has depth 0.
    pub fn node(&self, depth: u8, index: u32) -> Option<Digest> {
        if depth > self.shape.depth() || index >= 1 << depth {
            return None;
        }
        // Flat, leaves first, the root last: the levels above depth d have 2^d - 1 nodes in all.
        let from_end = (2_usize << depth) - 1 - index as usize;
        let place = self.nodes.len().checked_sub(from_end)?;
        self.nodes.as_slice().get(place).map(|bytes| Digest::from_bytes(*bytes))
    }

    /// The nodes `levels` below a node, from the left; those of the last level when it has fewer.
    pub(crate) fn below(
        &self,
        depth: u8,
        index: u32,
        levels: u8,
    ) -> impl Iterator<Item = Digest> + '_ {
        let lower = depth.saturating_add(levels).min(self.shape.depth());
        let width = lower.saturating_sub(depth);
        let first = u64::from(index) << width;
        let places = first..first + (1 << width);
        places.filter_map(move |place| self.node(lower, u32::try_from(place).ok()?))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("shape", &self.shape)
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

/// One node's input: a tag and two digests.
const NODE_BYTES: usize = 1 + 2 * Digest::BYTES;

/// merkle_light's seam: collects the input, then hashes it in one call.
#[derive(Clone)]
struct NodeHash {
    buffer: [u8; 40],
    length: usize,
}

const _: () = assert!(NODE_BYTES <= 40);

impl Default for NodeHash {
    fn default() -> Self {
        Self { buffer: [0; 40], length: 0 }
    }
}

impl Hasher for NodeHash {
    fn write(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        let room = self.buffer.get_mut(self.length..end);
        room.expect("a node is a tag and two digests").copy_from_slice(bytes);
        self.length = end;
    }

    fn finish(&self) -> u64 {
        self.value() as u64
    }
}

impl NodeHash {
    fn value(&self) -> u128 {
        XxHash3_128::oneshot(self.buffer.get(..self.length).unwrap_or(&self.buffer))
    }
}

impl Algorithm<[u8; Digest::BYTES]> for NodeHash {
    fn hash(&mut self) -> [u8; Digest::BYTES] {
        self.value().to_be_bytes()
    }

    fn reset(&mut self) {
        self.length = 0;
    }

    fn leaf(&mut self, leaf: [u8; Digest::BYTES]) -> [u8; Digest::BYTES] {
        leaf
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn leaves(depth: u8) -> Leaves {
        let mut leaves = Leaves::new(Shape::new(depth).unwrap());
        for leaf in 0..leaves.shape().leaves() {
            leaves.set(leaf, Digest::new(u128::from(leaf) * 977 + 5)).unwrap();
        }
        leaves
    }

    /// The same tree, by the definition.
    fn by_hand(leaves: &Leaves, depth: u8, index: u32) -> Digest {
        if depth == leaves.shape().depth() {
            return leaves.get(index).unwrap();
        }
        let mut input = Vec::from([1]);
        input.extend(by_hand(leaves, depth + 1, index * 2).to_bytes());
        input.extend(by_hand(leaves, depth + 1, index * 2 + 1).to_bytes());
        Digest::new(XxHash3_128::oneshot(&input))
    }

    #[test]
    fn every_node_is_the_hash_of_its_two_children() {
        for depth in 1..=9 {
            let leaves = leaves(depth);
            let tree = Tree::build(&leaves);
            assert_eq!(tree.root(), by_hand(&leaves, 0, 0));
            for level in 0..=depth {
                for index in 0..1 << level {
                    let expected = Some(by_hand(&leaves, level, index));
                    assert_eq!(tree.node(level, index), expected, "{depth} {level} {index}");
                }
                assert_eq!(tree.node(level, 1 << level), None);
            }
            assert_eq!(tree.node(depth + 1, 0), None);
        }
    }

    #[test]
    fn the_largest_tree_works() {
        let leaves = leaves(16);
        let tree = Tree::build(&leaves);
        assert_eq!(tree.node(16, 65_535), leaves.get(65_535));
        assert_eq!(tree.below(12, 4_095, 9).count(), 16);
        assert_eq!(tree.below(12, 4_096, 4).count(), 0);
        assert_eq!(tree.below(0, 0, 3).count(), 8);
    }

    #[test]
    fn one_leaf_changes_the_root_and_its_path_only() {
        let mut changed = leaves(6);
        let before = Tree::build(&changed);
        changed.add(37, Digest::new(1)).unwrap();
        let after = Tree::build(&changed);
        for level in 0..=6_u8 {
            let different: Vec<u32> = (0..1 << level)
                .filter(|index| before.node(level, *index) != after.node(level, *index))
                .collect();
            assert_eq!(different, [37 >> (6 - level)]);
        }
    }
}
