//! Small versioned facts, each edited by its owner alone (Scuttlebutt's rule; chitchat's words).
//!
//! A fact is bytes under a 16-bit name. Its owner numbers its edits; everyone else keeps the
//! highest number, and of two values with one number, which only a restarted owner can produce, the
//! greater bytes, so that all agree. An owner that is shown such a remnant of its former life edits
//! again above it: the living owner always wins. Invariant: `facts_per_node_max` facts of
//! `fact_bytes_max` bytes for each node, taken back ones included.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::rng::mix;

/// A fact as the caller sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fact<'a> {
    /// The number of the owner's edit. It only rises.
    pub version: u64,
    /// What the owner published.
    pub bytes: &'a [u8],
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Stored {
    version: u64,
    bytes: Option<Vec<u8>>,
}

/// The facts of one node, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    by_id: BTreeMap<u16, Stored>,
    digest: u64,
}

impl Facts {
    pub(crate) fn get(&self, id: u16) -> Option<Fact<'_>> {
        let stored = self.by_id.get(&id)?;
        Some(Fact { version: stored.version, bytes: stored.bytes.as_deref()? })
    }

    /// Number and bytes, also of a fact that was taken back.
    pub(crate) fn stored(&self, id: u16) -> Option<(u64, Option<&[u8]>)> {
        self.by_id.get(&id).map(|stored| (stored.version, stored.bytes.as_deref()))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (u16, Fact<'_>)> {
        self.by_id.keys().filter_map(|id| Some((*id, self.get(*id)?)))
    }

    pub(crate) fn from(&self, id: u16) -> impl Iterator<Item = (u16, u64, Option<&[u8]>)> {
        self.by_id.range(id..).map(|(id, stored)| (*id, stored.version, stored.bytes.as_deref()))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.by_id.keys().copied()
    }

    pub(crate) fn has_room_for(&self, id: u16, facts_max: usize) -> bool {
        self.by_id.contains_key(&id) || self.by_id.len() < facts_max
    }

    pub(crate) fn is_newer(&self, id: u16, version: u64, bytes: Option<&[u8]>) -> bool {
        self.stored(id).is_none_or(|known| (version, bytes) > known)
    }

    pub(crate) fn set(&mut self, id: u16, version: u64, bytes: Option<Vec<u8>>) {
        let stored = Stored { version, bytes };
        self.digest = self.digest.wrapping_add(digest(id, &stored));
        if let Some(before) = self.by_id.insert(id, stored) {
            self.digest = self.digest.wrapping_sub(digest(id, &before));
        }
    }

    /// Equal for equal facts, whatever the order in which they came.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest(id: u16, stored: &Stored) -> u64 {
    let hash = mix(stored.version ^ mix(u64::from(id) | (1 << 32)));
    match &stored.bytes {
        None => mix(hash),
        Some(bytes) => digest_bytes(hash, bytes),
    }
}

/// A hash of `bytes` that tells differing states apart; nothing that an adversary can't forge.
pub(crate) fn digest_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(seed ^ bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        hash = mix(hash.rotate_left(5) ^ u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_the_facts_and_not_on_the_way_to_them() {
        let mut one = Facts::default();
        one.set(1, 1, Some(b"a".to_vec()));
        one.set(2, 2, Some(b"b".to_vec()));
        one.set(1, 3, None);
        let mut other = Facts::default();
        other.set(1, 3, None);
        assert_ne!(one.digest(), other.digest());
        other.set(2, 2, Some(b"b".to_vec()));
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.get(1), None);
        assert_eq!(one.get(2), Some(Fact { version: 2, bytes: b"b" }));
        assert_eq!(one.live().count(), 1);
    }

    #[test]
    fn newer_is_by_number_then_by_bytes() {
        let mut facts = Facts::default();
        facts.set(1, 5, Some(b"m".to_vec()));
        assert!(!facts.is_newer(1, 5, Some(b"m")));
        assert!(!facts.is_newer(1, 4, Some(b"z")));
        assert!(facts.is_newer(1, 5, Some(b"n")));
        assert!(facts.is_newer(1, 6, None));
        assert!(facts.is_newer(2, 0, None));
        assert!(facts.has_room_for(1, 1));
        assert!(!facts.has_room_for(2, 1));
    }
}
