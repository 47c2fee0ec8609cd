//! Contexts: a vector with exceptions.
//!
//! A context says what its holder was shown and what is dead already, and never covers a live value
//! that it was not shown: the answer of a PUT covers the record that it left *less* the live
//! siblings that the writer had not seen. A vector alone cannot say this (with a5 unseen and a7
//! one's own, "a up to 7" would delete a5), hence the exceptions: single dots that lie under the
//! vector and are not covered. They are the holes of Almeida et al., "Concise server-wide causality
//! management" (2014), and nearly always there are none.
//!
//! A record's coverage has the same form: a replica that mints over a context with exceptions, and
//! does not hold what is excepted, must not cover it either.
//!
//! Invariant: exceptions are strictly ascending, and each lies under the vector.

use crate::codec::bytes::{Reader, put_dot, put_u32};
use crate::dot::{Actor, Dot, HybridTime};
use crate::error::Error;
use crate::vector::VersionVector;
use alloc::vec::Vec;

const FORMAT: u8 = 1;

/// What somebody was shown, or a replica covers: a vector, less some dots under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    vector: VersionVector,
    exceptions: Vec<Dot>,
}

impl Context {
    /// A context that covers nothing: of a writer who has seen nothing.
    pub const fn new() -> Self {
        Self { vector: VersionVector::new(), exceptions: Vec::new() }
    }

    /// A vector and exceptions that are already in order and under it, or `None`.
    pub(crate) fn from_sorted(vector: VersionVector, exceptions: Vec<Dot>) -> Option<Self> {
        let ascending = exceptions.is_sorted_by(|a, b| a < b);
        let under = exceptions.iter().all(|dot| vector.covers(*dot));
        (ascending && under).then_some(Self { vector, exceptions })
    }

    /// The vector.
    pub fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// The dots under the vector that are not covered, ascending.
    pub fn exceptions(&self) -> &[Dot] {
        &self.exceptions
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty()
    }

    /// Whether `dot` is covered. O(log n + log e).
    pub fn covers(&self, dot: Dot) -> bool {
        self.vector.covers(dot) && self.exceptions.binary_search(&dot).is_err()
    }

    /// Whether this knows dots of `actor` above those that `known` covers. A node that is shown
    /// a coverage or context which knows more of its own tenure than its own record (and mark)
    /// does has forgotten something: it begins a new tenure and raises an alarm.
    pub fn knows_more_of(&self, actor: Actor, known: &Self) -> bool {
        self.vector.time_of(actor) > known.vector.time_of(actor)
    }

    /// Covers what either covered. Says whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        if self.exceptions.is_empty() && other.exceptions.is_empty() {
            return self.vector.join(&other.vector);
        }
        let before = self.exceptions.len();
        let mine = core::mem::take(&mut self.exceptions);
        let mut left: Vec<Dot> = mine.iter().copied().filter(|dot| !other.covers(*dot)).collect();
        let mut changed = left.len() != before;
        for &dot in &other.exceptions {
            if !self.vector.covers(dot) {
                left.push(dot);
            }
        }
        left.sort_unstable();
        left.dedup();
        changed |= self.vector.join(&other.vector);
        self.exceptions = left;
        changed
    }

    /// Covers `dot` and every dot of its actor below it that is not excepted. Only right for one
    /// who knows that none of those is live without being held: an actor of its own dots.
    pub fn insert(&mut self, dot: Dot) -> bool {
        let excepted = self.exceptions.binary_search(&dot);
        if let Ok(at) = excepted {
            self.exceptions.remove(at);
        }
        self.vector.insert(dot) || excepted.is_ok()
    }

    /// No longer covers `dot`.
    pub fn except(&mut self, dot: Dot) {
        if self.vector.covers(dot)
            && let Err(at) = self.exceptions.binary_search(&dot)
        {
            self.exceptions.insert(at, dot);
        }
    }

    pub(crate) fn retain(&mut self, keep_entry: impl FnMut(Actor, HybridTime) -> bool) {
        self.vector.retain(keep_entry);
        let vector = &self.vector;
        self.exceptions.retain(|dot| vector.covers(*dot));
    }

    pub(crate) fn drop_exceptions(&mut self, mut gone: impl FnMut(Dot) -> bool) {
        self.exceptions.retain(|dot| !gone(*dot));
    }

    /// The explicit form, to be sealed by who gives it away: version, two counts (u32), entries
    /// (node, tenure, time) ascending, exceptions (time, node, tenure) ascending; little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + 24 * (self.vector.len() + self.exceptions.len()));
        out.push(FORMAT);
        put_u32(&mut out, self.vector.len());
        put_u32(&mut out, self.exceptions.len());
        for (actor, time) in self.vector.iter() {
            put_dot(&mut out, Dot::new(actor, time));
        }
        for &dot in &self.exceptions {
            put_dot(&mut out, dot);
        }
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Allocates no more than the bytes are long.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT => {}
            version => return Err(Error::UnknownFormat { version }),
        }
        let entries = reader.count()?;
        let exceptions = reader.count()?;
        let vector = reader.dots(entries)?.map(|dot| (dot.actor, dot.time)).collect();
        let exceptions = reader.dots(exceptions)?.collect();
        reader.finish()?;
        VersionVector::from_sorted(vector)
            .and_then(|vector| Self::from_sorted(vector, exceptions))
            .ok_or(Error::Malformed)
    }
}

impl From<VersionVector> for Context {
    fn from(vector: VersionVector) -> Self {
        Self { vector, exceptions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(node: u64, ms: u64) -> Dot {
        Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0))
    }

    fn context(dots: &[Dot], exceptions: &[Dot]) -> Context {
        let mut context = Context::from(dots.iter().copied().collect::<VersionVector>());
        for dot in exceptions {
            context.except(*dot);
        }
        context
    }

    #[test]
    fn a_join_covers_what_either_covered_and_nothing_else() {
        let mut a = context(&[dot(1, 7)], &[dot(1, 5), dot(1, 3)]);
        let b = context(&[dot(1, 4), dot(2, 9)], &[dot(2, 8)]);
        assert!(a.join(&b));
        assert!(a.covers(dot(1, 3)) && a.covers(dot(2, 9)) && a.covers(dot(1, 7)));
        assert!(!a.covers(dot(1, 5)) && !a.covers(dot(2, 8)));
        assert!(!a.join(&b));
    }

    #[test]
    fn bytes_survive_and_broken_ones_are_refused() {
        let whole = context(&[dot(1, 7), dot(2, 9)], &[dot(1, 5)]);
        let bytes = whole.to_bytes();
        assert_eq!(Context::from_bytes(&bytes), Ok(whole));
        for cut in 0..bytes.len() {
            assert!(Context::from_bytes(&bytes[..cut]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Context::from_bytes(&longer), Err(Error::Malformed));
        let mut huge = bytes.clone();
        huge[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Context::from_bytes(&huge), Err(Error::Truncated));
        let mut newer = bytes;
        newer[0] = 9;
        assert_eq!(Context::from_bytes(&newer), Err(Error::UnknownFormat { version: 9 }));
    }
}
