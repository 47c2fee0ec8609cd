//! Resolvers: how a reader makes one value of siblings.
//!
//! The store keeps siblings and resolves nothing; who reads may. A resolver gives one value, which
//! is then written with the context of the read, so that it replaces what it was made of. (Dynamo,
//! 4.4: "syntactic" reconciliation is the join, "semantic" is the client's; `LatestWins` is what a
//! Redis GET shows.)
//!
//! Invariant: a resolver is a pure function of the siblings, in any order of arrival.

use crate::record::{Record, Sibling};
use alloc::vec::Vec;

/// Makes one value of siblings.
pub trait Resolver {
    /// The value that stands for `siblings` (highest dot first, never empty); `None` when that is
    /// a delete.
    fn resolve(&self, siblings: &[Sibling<'_, [u8]>]) -> Option<Vec<u8>>;
}

/// The sibling with the highest dot wins, deletes too: what GET shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatestWins;

impl Resolver for LatestWins {
    fn resolve(&self, siblings: &[Sibling<'_, [u8]>]) -> Option<Vec<u8>> {
        siblings.first().and_then(|sibling| sibling.value).map(<[u8]>::to_vec)
    }
}

/// The latest value wins over any delete: for those to whom a write that a concurrent delete
/// swallows is worse than one that comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatestValueWins;

impl Resolver for LatestValueWins {
    fn resolve(&self, siblings: &[Sibling<'_, [u8]>]) -> Option<Vec<u8>> {
        siblings.iter().find_map(|sibling| sibling.value).map(<[u8]>::to_vec)
    }
}

impl<V: AsRef<[u8]>> Record<V> {
    /// One value of what KV.GET shows at `now_ms`, by `resolver`; `None` when nothing is there.
    pub fn resolve(&self, now_ms: u64, resolver: &dyn Resolver) -> Option<Vec<u8>> {
        let siblings = self.siblings(now_ms);
        let siblings: Vec<Sibling<'_, [u8]>> = siblings
            .into_iter()
            .map(|sibling| Sibling {
                dot: sibling.dot,
                kind: sibling.kind,
                value: sibling.value.map(AsRef::as_ref),
                expiry: sibling.expiry,
            })
            .collect();
        if siblings.is_empty() { None } else { resolver.resolve(&siblings) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Context, Dot, Draft, HybridTime, Limits};

    #[test]
    fn a_late_delete_wins_or_loses() {
        let dot = |node, ms| Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0));
        let (unseen, limits) = (Context::new(), Limits::default());
        let mut record: Record<&[u8]> = Record::new();
        assert_eq!(record.resolve(0, &LatestWins), None);
        record.mint(dot(1, 1), &unseen, Draft::string(b"v"), &limits).unwrap();
        record.delete(dot(2, 2), &unseen, None, &limits).unwrap();
        assert_eq!(record.resolve(0, &LatestWins), None);
        assert_eq!(record.resolve(0, &LatestValueWins).as_deref(), Some(&b"v"[..]));
    }
}
