//! What placement is told about the nodes: identity, weight, zone.
//!
//! The crate knows nothing of a node but its identity `N`, which any `Copy + Ord` type with a
//! 64-bit code may be ([`NodeCode`]). Invariant: a topology lists its nodes in order of identity,
//! so two that hold the same nodes are the same, however they were filled.

use alloc::collections::BTreeMap;

/// A node's identity as 64 bits: what the layout's format and digest write down.
///
/// `from_code(code(n)) == Some(n)` must hold for every identity, on every machine alike.
pub trait NodeCode: Copy + Ord {
    /// The identity as a number.
    fn code(self) -> u64;

    /// The identity that has this number; `None` if none has.
    fn from_code(code: u64) -> Option<Self>;
}

macro_rules! node_code {
    ($($integer:ty),*) => {$(
        impl NodeCode for $integer {
            fn code(self) -> u64 {
                u64::from(self)
            }

            fn from_code(code: u64) -> Option<Self> {
                Self::try_from(code).ok()
            }
        }
    )*};
}

node_code!(u8, u16, u32, u64);

/// A failure domain: nodes of one zone may fail together (a rack, a building, a power feed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Zone(u64);

impl Zone {
    /// The zone with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The zone of a name: XXH3-64 of it, so nodes agree without a table of names.
    pub fn named(name: &str) -> Self {
        Self(twox_hash::XxHash3_64::oneshot(name.as_bytes()))
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a node brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeSpec {
    /// How much of the data it should hold, relative to the other nodes: twice the weight, twice
    /// the partitions, as far as the caps allow. 0 drains it: a member that holds nothing.
    pub weight: u32,
    /// Where it stands. Copies of one partition are put into different zones.
    pub zone: Zone,
}

impl NodeSpec {
    /// A node of this weight in this zone.
    pub const fn new(weight: u32, zone: Zone) -> Self {
        Self { weight, zone }
    }
}

impl Default for NodeSpec {
    /// Weight 1 in the default zone: what all nodes of a small cluster are.
    fn default() -> Self {
        Self::new(1, Zone::default())
    }
}

/// The members of a cluster and what each brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology<N> {
    nodes: BTreeMap<N, NodeSpec>,
}

impl<N: Ord + Copy> Topology<N> {
    /// No members.
    pub const fn new() -> Self {
        Self { nodes: BTreeMap::new() }
    }

    /// Adds a member, or changes what it brings; answers what it brought before. O(log members).
    pub fn insert(&mut self, node: N, spec: NodeSpec) -> Option<NodeSpec> {
        self.nodes.insert(node, spec)
    }

    /// Removes a member; answers what it brought. O(log members).
    pub fn remove(&mut self, node: N) -> Option<NodeSpec> {
        self.nodes.remove(&node)
    }

    /// What a member brings; `None` if it is none. O(log members).
    pub fn spec(&self, node: N) -> Option<NodeSpec> {
        self.nodes.get(&node).copied()
    }

    /// Members in order of identity.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (N, NodeSpec)> + ExactSizeIterator {
        self.nodes.iter().map(|(&node, &spec)| (node, spec))
    }

    /// Number of members, those of weight 0 included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl<N: Ord + Copy> Default for Topology<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Ord + Copy> FromIterator<(N, NodeSpec)> for Topology<N> {
    fn from_iter<I: IntoIterator<Item = (N, NodeSpec)>>(nodes: I) -> Self {
        Self { nodes: nodes.into_iter().collect() }
    }
}

impl<N: Ord + Copy> Extend<(N, NodeSpec)> for Topology<N> {
    fn extend<I: IntoIterator<Item = (N, NodeSpec)>>(&mut self, nodes: I) {
        self.nodes.extend(nodes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_filling_does_not_matter() {
        let spec = NodeSpec::default();
        let one: Topology<u16> = [(1, spec), (2, spec), (3, spec)].into_iter().collect();
        let mut two = Topology::new();
        two.extend([(3, spec), (1, spec)]);
        assert_eq!(two.insert(2, spec), None);
        assert_eq!(one, two);
        assert_eq!(two.remove(2), Some(spec));
        assert_ne!(one, two);
        assert_eq!((two.len(), two.spec(2), two.is_empty()), (2, None, false));
    }

    #[test]
    fn zones_of_names_are_pinned() {
        assert_eq!(Zone::named("").number(), 0x2d06_8005_38d3_94c2);
        assert_ne!(Zone::named("a"), Zone::named("b"));
    }

    #[test]
    fn codes_round_trip_and_refuse_what_does_not_fit() {
        assert_eq!(u8::from_code(7_u8.code()), Some(7));
        assert_eq!(u8::from_code(256), None);
        assert_eq!(u64::from_code(u64::MAX.code()), Some(u64::MAX));
    }
}
