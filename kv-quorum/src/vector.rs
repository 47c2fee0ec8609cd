//! Version vectors: for each actor, the time up to which all its dots are covered.
//!
//! A sorted list, because a record has one to four entries: a search in it costs less than a tree's
//! first step. (Parker et al., "Detection of Mutual Inconsistency", 1983.)
//!
//! Invariant: strictly ascending by actor, no entry at time zero.

use crate::dot::{Actor, Dot, HybridTime};
use alloc::vec::Vec;

/// For each actor, the time up to which all its dots for the key are covered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: Vec<(Actor, HybridTime)>,
}

impl VersionVector {
    /// A vector that covers nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Entries that are already strictly ascending by actor and above time zero, or `None`.
    pub(crate) fn from_sorted(entries: Vec<(Actor, HybridTime)>) -> Option<Self> {
        let ascending = entries.is_sorted_by(|a, b| a.0 < b.0);
        let positive = entries.iter().all(|(_, time)| *time > HybridTime::ZERO);
        (ascending && positive).then_some(Self { entries })
    }

    /// The time up to which `actor` is covered; zero when it is not known. O(log n).
    pub fn time_of(&self, actor: Actor) -> HybridTime {
        match self.search(actor) {
            Ok(at) => self.entries.get(at).map_or(HybridTime::ZERO, |entry| entry.1),
            Err(_) => HybridTime::ZERO,
        }
    }

    /// Whether `dot` is covered. O(log n).
    pub fn covers(&self, dot: Dot) -> bool {
        dot.time <= self.time_of(dot.actor)
    }

    /// Whether everything that `other` covers is covered. O(n + m).
    pub fn covers_all(&self, other: &Self) -> bool {
        other.entries.iter().all(|&(actor, time)| time <= self.time_of(actor))
    }

    /// Covers all dots of the dot's actor up to the dot. Only right for one who knows that no dot
    /// below it is live without being held. Says whether anything changed. O(n).
    pub fn insert(&mut self, dot: Dot) -> bool {
        if dot.time == HybridTime::ZERO {
            return false;
        }
        match self.search(dot.actor) {
            Ok(at) => match self.entries.get_mut(at) {
                Some(entry) if entry.1 < dot.time => {
                    entry.1 = dot.time;
                    true
                }
                _ => false,
            },
            Err(at) => {
                self.entries.insert(at, (dot.actor, dot.time));
                true
            }
        }
    }

    /// Covers what either covered. Says whether anything changed. O(n + m); allocates only when
    /// `other` brings new actors.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        let mut new = 0;
        let mut mine = self.entries.iter_mut().peekable();
        for &(actor, time) in &other.entries {
            while mine.next_if(|entry| entry.0 < actor).is_some() {}
            match mine.next_if(|entry| entry.0 == actor) {
                Some(entry) if entry.1 < time => {
                    entry.1 = time;
                    changed = true;
                }
                Some(_) => {}
                None => new += 1,
            }
        }
        if new > 0 {
            self.take_new(other, new);
        }
        changed || new > 0
    }

    /// Merges the `new` actors in that only `other` names.
    fn take_new(&mut self, other: &Self, new: usize) {
        let mine = core::mem::take(&mut self.entries);
        let mut merged = Vec::with_capacity(mine.len() + new);
        let mut theirs = other.entries.iter().copied().peekable();
        for entry in mine {
            while let Some(new) = theirs.next_if(|new| new.0 < entry.0) {
                merged.push(new);
            }
            theirs.next_if(|same| same.0 == entry.0);
            merged.push(entry);
        }
        merged.extend(theirs);
        self.entries = merged;
    }

    /// The entries, ascending by actor.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, HybridTime)> + '_ {
        self.entries.iter().copied()
    }

    /// The latest time in it, of any actor; zero when it covers nothing. What a clock is shown
    /// before the next mint. O(n).
    pub fn latest(&self) -> HybridTime {
        self.entries.iter().map(|entry| entry.1).max().unwrap_or(HybridTime::ZERO)
    }

    /// How many actors it names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place of `actor` in [`iter`](Self::iter).
    pub(crate) fn index_of(&self, actor: Actor) -> Option<usize> {
        self.search(actor).ok()
    }

    /// Forgets the entries that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Actor, HybridTime) -> bool) {
        self.entries.retain(|&(actor, time)| keep(actor, time));
    }

    fn search(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.0.cmp(&actor))
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        for dot in dots {
            vector.insert(dot);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(node: u64, ms: u64) -> Dot {
        Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0))
    }

    #[test]
    fn covers_up_to_the_entry_and_no_other_actor() {
        let vector: VersionVector = [dot(2, 5), dot(1, 3), dot(2, 4)].into_iter().collect();
        assert_eq!(vector.len(), 2);
        assert!(vector.covers(dot(2, 5)) && vector.covers(dot(1, 1)));
        assert!(!vector.covers(dot(2, 6)) && !vector.covers(dot(3, 1)));
    }

    #[test]
    fn a_join_is_what_single_inserts_come_to() {
        for bits in 0..1_u32 << 12 {
            let of = |shift: u32| -> VersionVector {
                let times = (0..6).map(|node| (node, u64::from(bits >> (shift + node) & 1)));
                let skewed = |(node, time)| dot(u64::from(node), time * u64::from(node + shift));
                times.map(skewed).collect()
            };
            let (mut joined, other) = (of(0), of(6));
            let mut inserted = joined.clone();
            let mut changed = false;
            for (actor, time) in other.iter() {
                changed |= inserted.insert(Dot::new(actor, time));
            }
            assert_eq!(joined.join(&other), changed);
            assert_eq!(joined, inserted);
        }
    }

    #[test]
    fn join_says_whether_it_changed_anything() {
        let mut a: VersionVector = [dot(1, 3)].into_iter().collect();
        let b: VersionVector = [dot(1, 2), dot(2, 1)].into_iter().collect();
        assert!(a.join(&b));
        assert!(!a.join(&b));
        assert!(a.covers_all(&b) && !b.covers_all(&a));
    }
}
