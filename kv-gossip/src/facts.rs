//! Small versioned facts, each edited by its owner alone (Scuttlebutt's rule; chitchat's words).
//!
//! A fact is bytes under a 16-bit name. Its owner numbers its edits; everyone else keeps the
//! highest number, and of two values with one number, which only a restarted owner can produce, the
//! greater bytes, so that all agree. An owner that is shown such a remnant of its former life edits
//! again above it: the living owner always wins. Invariant: `facts_per_node_max` facts of
//! `fact_bytes_max` bytes for each node, taken back ones included.

use alloc::boxed::Box;
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

#[derive(Clone, Debug)]
struct Stored {
    id: u16,
    version: u64,
    bytes: Option<Box<[u8]>>,
}

/// The facts of one node, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Option<Box<Held>>);

#[derive(Clone, Debug, Default)]
struct Held {
    /// Ascending by name.
    stored: Vec<Stored>,
    digest: u64,
}

impl Facts {
    fn stored_facts(&self) -> &[Stored] {
        self.0.as_ref().map_or(&[], |held| &held.stored)
    }

    fn find(&self, id: u16) -> Option<&Stored> {
        let stored = self.stored_facts();
        let place = stored.binary_search_by_key(&id, |fact| fact.id).ok()?;
        stored.get(place)
    }

    pub(crate) fn get(&self, id: u16) -> Option<Fact<'_>> {
        self.find(id)?.live()
    }

    /// Number and bytes, also of a fact that was taken back.
    pub(crate) fn stored(&self, id: u16) -> Option<(u64, Option<&[u8]>)> {
        self.find(id).map(|stored| (stored.version, stored.bytes.as_deref()))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (u16, Fact<'_>)> {
        self.stored_facts().iter().filter_map(|stored| Some((stored.id, stored.live()?)))
    }

    pub(crate) fn from(&self, id: u16) -> impl Iterator<Item = (u16, u64, Option<&[u8]>)> {
        let later = self.stored_facts().iter().skip_while(move |stored| stored.id < id);
        later.map(|stored| (stored.id, stored.version, stored.bytes.as_deref()))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.stored_facts().iter().map(|stored| stored.id)
    }

    pub(crate) fn has_room_for(&self, id: u16, facts_max: usize) -> bool {
        self.find(id).is_some() || self.stored_facts().len() < facts_max
    }

    pub(crate) fn is_newer(&self, id: u16, version: u64, bytes: Option<&[u8]>) -> bool {
        self.stored(id).is_none_or(|known| (version, bytes) > known)
    }

    pub(crate) fn set(&mut self, id: u16, version: u64, bytes: Option<&[u8]>) {
        let stored = Stored { id, version, bytes: bytes.map(Box::from) };
        let held = self.0.get_or_insert_default();
        held.digest = held.digest.wrapping_add(digest(&stored));
        match held.stored.binary_search_by_key(&id, |fact| fact.id) {
            Ok(place) => {
                if let Some(known) = held.stored.get_mut(place) {
                    held.digest = held.digest.wrapping_sub(digest(known));
                    *known = stored;
                }
            }
            Err(place) => {
                held.stored.reserve_exact(1);
                held.stored.insert(place, stored);
            }
        }
    }

    /// Equal for equal facts, whatever the order in which they came.
    pub(crate) fn digest(&self) -> u64 {
        self.0.as_ref().map_or(0, |held| held.digest)
    }
}

impl Stored {
    fn live(&self) -> Option<Fact<'_>> {
        Some(Fact { version: self.version, bytes: self.bytes.as_deref()? })
    }
}

fn digest(stored: &Stored) -> u64 {
    let hash = mix(stored.version ^ mix(u64::from(stored.id) | (1 << 32)));
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
        one.set(1, 1, Some(b"a"));
        one.set(2, 2, Some(b"b"));
        one.set(1, 3, None);
        let mut other = Facts::default();
        other.set(1, 3, None);
        assert_ne!(one.digest(), other.digest());
        other.set(2, 2, Some(b"b"));
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.get(1), None);
        assert_eq!(one.get(2), Some(Fact { version: 2, bytes: b"b" }));
        assert_eq!(one.live().count(), 1);
    }

    #[test]
    fn newer_is_by_number_then_by_bytes() {
        let mut facts = Facts::default();
        facts.set(1, 5, Some(b"m"));
        assert!(!facts.is_newer(1, 5, Some(b"m")));
        assert!(!facts.is_newer(1, 4, Some(b"z")));
        assert!(facts.is_newer(1, 5, Some(b"n")));
        assert!(facts.is_newer(1, 6, None));
        assert!(facts.is_newer(2, 0, None));
        assert!(facts.has_room_for(1, 1));
        assert!(!facts.has_room_for(2, 1));
    }
}
