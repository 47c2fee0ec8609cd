//! Convergence: after healing all replicas of a key are equal in live dots, registers and unexpired
//! bytes.
//!
//! Coverage may differ, and so may what is dead: an expired value has its bytes on one replica and
//! not on another, which makes no difference to anybody. Replicas collect under one mark at
//! different moments, so each is looked at as if it had collected under the highest mark that one
//! of them has: a delete that one of them has already forgotten is no difference, a value that one
//! of them lacks is.

use std::collections::BTreeMap;

use kv_quorum::{HybridTime, Mark, Record};

use super::Violation;

/// What the engine of one node holds: encoded records by storage key.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// One live version as replicas must agree on it: dot and register, and the bytes unless it ended.
type Face = (u64, u64, u64, u64, Option<u64>, Option<Vec<u8>>);

/// Which nodes hold a key, and what counts.
pub struct Replicas<'r> {
    /// The rows of each node.
    pub nodes: &'r [Rows],
    /// The places of the nodes that hold a storage key.
    pub owners: &'r dyn Fn(&[u8]) -> Vec<usize>,
    /// The mark that a node's complete replica of a storage key has.
    pub marks: &'r dyn Fn(usize, &[u8]) -> Mark,
    /// How far apart the nodes take sound clocks to be, in milliseconds.
    pub clock_skew_ms_max: u64,
    /// What is flushed.
    pub flushed: HybridTime,
    /// The time by which values are judged to have ended, in milliseconds since 1970.
    pub now_ms: u64,
}

impl std::fmt::Debug for Replicas<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicas").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Replicas<'_> {
    /// Where replicas of a key differ.
    #[must_use]
    pub fn differences(&self) -> Vec<Violation> {
        let mut keys: Vec<&Vec<u8>> = self.nodes.iter().flat_map(Rows::keys).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.difference(key)).collect()
    }

    fn difference(&self, key: &[u8]) -> Option<Violation> {
        let owners = (self.owners)(key);
        let mark = owners.iter().map(|owner| (self.marks)(*owner, key)).max().unwrap_or_default();
        let faces: Vec<Vec<Face>> =
            owners.iter().map(|owner| self.faces(*owner, key, mark)).collect();
        let first = faces.first()?;
        let (other, face) =
            owners.iter().zip(&faces).find(|(_, face)| *face != first).map(|(a, b)| (*a, b))?;
        let short = |faces: &[Face]| {
            let parts: Vec<String> =
                faces.iter().map(|(time, node, ..)| format!("{time}@{node:x}")).collect();
            format!("[{}]", parts.join(" "))
        };
        let one = owners.first().copied().unwrap_or_default();
        let name = kv_node::keys::KeyRef::parse(key).map_or(key, |key| key.key);
        Some(Violation {
            checker: "converged",
            key: String::from_utf8_lossy(name).into_owned(),
            what: format!("node {one} holds {}, node {other} holds {}", short(first), short(face)),
        })
    }

    fn faces(&self, node: usize, key: &[u8], mark: Mark) -> Vec<Face> {
        let Some(bytes) = self.nodes.get(node).and_then(|rows| rows.get(key)) else {
            return Vec::new();
        };
        let Ok(mut record) = Record::decode(bytes) else {
            return vec![(0, 0, 0, 0, None, Some(b"damaged".to_vec()))];
        };
        if mark != Mark::NONE {
            record.collect(mark, self.clock_skew_ms_max);
        }
        let live = record.live().iter().filter(|version| version.dot.time > self.flushed);
        live.map(|version| {
            (
                version.dot.time.to_bits(),
                version.dot.actor.node,
                version.dot.actor.tenure,
                version.expiry.stamp.to_bits(),
                version.expiry.expires_at_ms,
                version.value_at(self.now_ms).map(|bytes| bytes.to_vec()),
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use kv_node::keys::{DEFAULT_KEYSPACE, KeyRef};
    use kv_quorum::{Actor, Dot, Draft, Expiry};

    use super::*;

    fn record(ms: u64, value: &[u8], end: Option<u64>) -> Vec<u8> {
        let mut record: Record<&[u8]> = Record::new();
        let dot = Dot::new(Actor::new(1, 1), HybridTime::new(ms, 0));
        let mut draft = Draft::string(value);
        if let Some(end) = end {
            draft = draft.expiring(Expiry::at(HybridTime::new(1, 0), end));
        }
        record.mint_blind(dot, draft).expect("new");
        record.to_bytes()
    }

    fn differ(one: Option<Vec<u8>>, other: Option<Vec<u8>>, flushed_ms: u64) -> bool {
        differ_under(Mark::NONE, one, other, flushed_ms)
    }

    fn differ_under(
        mark: Mark,
        one: Option<Vec<u8>>,
        other: Option<Vec<u8>>,
        flushed_ms: u64,
    ) -> bool {
        let key = KeyRef::place(DEFAULT_KEYSPACE, b"k").to_storage().to_vec();
        let rows = |record: Option<Vec<u8>>| {
            record.into_iter().map(|record| (key.clone(), record)).collect::<Rows>()
        };
        let nodes = [rows(one), rows(other), rows(Some(record(9, b"not an owner's", None)))];
        let flushed = HybridTime::new(flushed_ms, 0);
        let replicas = Replicas {
            nodes: &nodes,
            owners: &|_| vec![0, 1],
            marks: &|node, _| if node == 1 { mark } else { Mark::NONE },
            clock_skew_ms_max: 0,
            flushed,
            now_ms: 100,
        };
        !replicas.differences().is_empty()
    }

    #[test]
    fn what_differs_is_found_and_what_is_dead_is_not() {
        let a = || Some(record(1, b"a", None));
        assert!(!differ(a(), a(), 0));
        assert!(differ(a(), None, 0), "one lacks it");
        assert!(differ(a(), Some(record(2, b"a", None)), 0), "another dot");
        assert!(differ(a(), Some(record(1, b"b", None)), 0), "other bytes");
        assert!(differ(a(), Some(record(1, b"a", Some(500))), 0), "another register");
        assert!(differ(a(), Some(b"damaged".to_vec()), 0));
        assert!(!differ(a(), None, 1), "it is flushed");
        let ended = |value: &[u8]| Some(record(1, value, Some(50)));
        assert!(!differ(ended(b"a"), ended(b""), 0), "it has ended");
    }

    #[test]
    fn a_delete_that_one_has_collected_is_no_difference_and_a_value_is() {
        let mut deleted: Record<&[u8]> = Record::new();
        let dot = Dot::new(Actor::new(1, 1), HybridTime::new(5, 0));
        deleted.mint_blind(dot, Draft::tombstone()).expect("new");
        let deleted = || Some(deleted.to_bytes());
        let mark = |ms| Mark::at(HybridTime::new(ms, 0));
        assert!(differ(deleted(), None, 0), "nobody may have collected it");
        assert!(!differ_under(mark(9), deleted(), None, 0));
        assert!(differ_under(mark(4), deleted(), None, 0), "it lies above the mark");
        assert!(differ_under(mark(9), Some(record(5, b"a", None)), None, 0), "it is a value");
    }
}
