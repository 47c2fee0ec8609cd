//! Little-endian fields, read with bounds and written without surprises.
//!
//! Invariant: a reader never allocates for a count before it has seen that the bytes for it are
//! there.

use crate::dot::{Actor, Dot, HybridTime};
use crate::error::Error;
use alloc::vec::Vec;

/// Encoded size of a dot or a vector entry, in bytes.
pub(crate) const DOT_BYTES: usize = 24;

/// So many are searched from the front faster than by halves.
const FEW: usize = 8;

pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(left: &'a [u8]) -> Self {
        Self { left }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(Error::Truncated)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Error> {
        let (taken, left) = self.left.split_first_chunk::<LEN>().ok_or(Error::Truncated)?;
        self.left = left;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count or a length.
    pub(crate) fn count(&mut self) -> Result<usize, Error> {
        usize::try_from(self.u32()?).map_err(|_| Error::Truncated)
    }

    /// `count` dots or entries, not yet copied.
    pub(crate) fn dots(&mut self, count: usize) -> Result<Dots<'a>, Error> {
        let bytes = self.take(count.checked_mul(DOT_BYTES).ok_or(Error::Truncated)?)?;
        Ok(Dots { dots: bytes.as_chunks().0 })
    }

    pub(crate) const fn left(&self) -> usize {
        self.left.len()
    }

    pub(crate) const fn finish(&self) -> Result<(), Error> {
        if self.left.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }
}

/// A list of dots or vector entries inside encoded bytes.
#[derive(Clone, Copy)]
pub(crate) struct Dots<'a> {
    dots: &'a [[u8; DOT_BYTES]],
}

impl<'a> Dots<'a> {
    pub(crate) const EMPTY: Dots<'static> = Dots { dots: &[] };

    pub(crate) const fn len(self) -> usize {
        self.dots.len()
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.dots.is_empty()
    }

    pub(crate) fn at(self, index: usize) -> Option<Dot> {
        self.dots.get(index).map(read_dot)
    }

    /// The entry of `actor` in a list that ascends by actor. Few are searched from the front, many
    /// by halves, so that hostile bytes cost no more than their length.
    pub(crate) fn entry_of(self, actor: Actor) -> Option<Dot> {
        if self.dots.len() <= FEW {
            let entry = self.into_iter().find(|entry| entry.actor >= actor)?;
            return (entry.actor == actor).then_some(entry);
        }
        let at = self.dots.binary_search_by(|raw| read_dot(raw).actor.cmp(&actor)).ok()?;
        self.at(at)
    }

    /// Whether a list that ascends by dot has `dot`.
    pub(crate) fn contains(self, dot: Dot) -> bool {
        self.dots.binary_search_by(|raw| read_dot(raw).cmp(&dot)).is_ok()
    }

    pub(crate) const fn as_bytes(self) -> &'a [u8] {
        self.dots.as_flattened()
    }

    pub(crate) fn map<T>(
        self,
        f: impl Fn(Dot) -> T,
    ) -> core::iter::Map<DotsIter<'a>, impl FnMut(Dot) -> T> {
        self.into_iter().map(f)
    }

    pub(crate) fn collect(self) -> Vec<Dot> {
        self.into_iter().collect()
    }
}

impl<'a> IntoIterator for Dots<'a> {
    type Item = Dot;
    type IntoIter = DotsIter<'a>;

    fn into_iter(self) -> DotsIter<'a> {
        DotsIter { dots: self.dots.iter() }
    }
}

pub(crate) struct DotsIter<'a> {
    dots: core::slice::Iter<'a, [u8; DOT_BYTES]>,
}

impl Iterator for DotsIter<'_> {
    type Item = Dot;

    fn next(&mut self) -> Option<Dot> {
        self.dots.next().map(read_dot)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.dots.size_hint()
    }
}

fn read_dot(bytes: &[u8; DOT_BYTES]) -> Dot {
    let (words, _) = bytes.as_chunks();
    let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
    Dot::new(Actor::new(word(0), word(1)), HybridTime::from_bits(word(2)))
}

/// Node, tenure, time.
pub(crate) fn dot_bytes(dot: Dot) -> [u8; DOT_BYTES] {
    let mut bytes = [0; DOT_BYTES];
    bytes[..8].copy_from_slice(&dot.actor.node.to_le_bytes());
    bytes[8..16].copy_from_slice(&dot.actor.tenure.to_le_bytes());
    bytes[16..].copy_from_slice(&dot.time.to_bits().to_le_bytes());
    bytes
}

pub(crate) fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    out.extend_from_slice(&dot_bytes(dot));
}

/// A count or a length. Four billion entries of a record cannot be in memory, so no input reaches
/// the assertion.
pub(crate) fn put_u32(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32_of(count).to_le_bytes());
}

pub(crate) fn u32_of(count: usize) -> u32 {
    let fits = u32::try_from(count);
    assert!(fits.is_ok(), "a count of {count} does not fit a record");
    fits.unwrap_or(u32::MAX)
}
