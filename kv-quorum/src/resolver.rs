//! Resolvers: how a reader makes one value of siblings.
//!
//! The store keeps siblings and resolves nothing; who reads may. A resolver gives one value, which is then written with the
//! context of the read, so that it replaces what it was made of. (Dynamo, 4.4: "syntactic" reconciliation is the join,
//! "semantic" is the client's; `LatestWins` is what a Redis GET shows.)
//!
//! Invariant: a resolver is a pure function of the siblings, in any order of arrival.

use crate::record::Sibling;

/// Makes one value of siblings.
pub trait Resolver {
    /// The value that stands for `siblings` (highest dot first, never empty); `None` when that is
    /// a delete.
    fn resolve<V: Clone + AsRef<[u8]>>(&self, siblings: &[Sibling<'_, V>]) -> Option<V>;
}

/// The sibling with the highest dot wins, deletes too: what GET shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatestWins;

impl Resolver for LatestWins {
    fn resolve<V: Clone + AsRef<[u8]>>(&self, siblings: &[Sibling<'_, V>]) -> Option<V> {
        siblings.first().and_then(|sibling| sibling.value.cloned())
    }
}

/// The latest value wins over any delete: for those to whom a write that a concurrent delete
/// swallows is worse than one that comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatestValueWins;

impl Resolver for LatestValueWins {
    fn resolve<V: Clone + AsRef<[u8]>>(&self, siblings: &[Sibling<'_, V>]) -> Option<V> {
        siblings.iter().find_map(|sibling| sibling.value.cloned())
    }
}
