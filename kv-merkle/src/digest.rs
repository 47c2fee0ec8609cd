//! Digests of entries: 128 bits, keyed, over framed fields.
//!
//! *Keyed*, because a client chooses keys and values: with a public hash it could make two states
//! that look the same, and the difference would never be repaired. XXH3 is no cryptographic hash;
//! under a secret that clients never see it is enough against them, not against a member.
//! *Framed*: each field is preceded by its length, so `("ab", "c")` and `("a", "bc")` differ.
//!
//! A leaf holds the wrapping *sum* of its entries' digests (AdHash; Bellare and Micciancio, 1997):
//! the order doesn't matter, an entry can be taken out again, and, unlike with XOR, the same entry
//! twice doesn't cancel itself.

use alloc::vec::Vec;
use core::fmt;

use twox_hash::XxHash3_128;

/// A 128-bit digest, or the wrapping sum of some.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(u128);

impl Digest {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Bytes of a digest.
    pub const BYTES: usize = 16;

    /// The digest with this number.
    pub const fn new(value: u128) -> Self {
        Self(value)
    }

    /// The digest as a number.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// This sum with `other` in it.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// This sum without `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// Big-endian bytes, as on the wire and in the tree.
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// The digest with these big-endian bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The secret under which a cluster digests its entries. All replicas share it.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey {
    secret: [u8; SECRET_BYTES],
}

const SECRET_BYTES: usize = 192;

impl DigestKey {
    /// Spreads a 128-bit key over the 192 bytes that XXH3 mixes its input with.
    pub fn new(key: [u8; 16]) -> Self {
        let mut secret = [0; SECRET_BYTES];
        let mut block = [0; 17];
        for (number, part) in (0_u8..).zip(secret.chunks_exact_mut(16)) {
            for (to, from) in block.iter_mut().zip(key.iter().chain([&number])) {
                *to = *from;
            }
            part.copy_from_slice(&XxHash3_128::oneshot(&block).to_be_bytes());
        }
        Self { secret }
    }

    /// The digest of an entry whose fields the caller has framed itself, in a buffer of its own:
    /// for where a digest is made with every write. O(bytes), nothing allocated.
    #[inline]
    pub fn digest(&self, framed: &[u8]) -> Digest {
        let value = XxHash3_128::oneshot_with_secret(&self.secret, framed)
            .expect("192 bytes of secret are enough for XXH3");
        Digest(value)
    }

    /// A buffer to put fields into.
    pub const fn framer(&self) -> Framer<'_> {
        Framer { key: self, buffer: Vec::new() }
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(secret)")
    }
}

/// Puts an entry's fields behind each other and digests them. Keep one: it reuses its buffer.
#[derive(Clone, Debug)]
pub struct Framer<'k> {
    key: &'k DigestKey,
    buffer: Vec<u8>,
}

impl Framer<'_> {
    /// Adds a field of any length.
    pub fn bytes(&mut self, field: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.buffer.extend_from_slice(field);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, field: u64) -> &mut Self {
        self.bytes(&field.to_be_bytes())
    }

    /// The digest of the fields since the last one. O(bytes), nothing allocated here.
    pub fn finish(&mut self) -> Digest {
        let digest = self.key.digest(&self.buffer);
        self.buffer.clear();
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(key: [u8; 16], fields: &[&[u8]]) -> Digest {
        let key = DigestKey::new(key);
        let mut framer = key.framer();
        for field in fields {
            framer.bytes(field);
        }
        framer.finish()
    }

    #[test]
    fn the_digest_is_pinned() {
        assert_eq!(
            digest([7; 16], &[b"key", b"value"]).get(),
            99_550_007_421_607_089_064_658_015_089_828_974_364
        );
        assert_eq!(
            digest([7; 16], &[&[1; 1_000]]).get(),
            230_571_102_272_753_359_495_220_952_791_481_040_493
        );
    }

    #[test]
    fn key_and_frame_matter() {
        let digests = [
            digest([1; 16], &[b"ab", b"c"]),
            digest([1; 16], &[b"a", b"bc"]),
            digest([1; 16], &[b"abc"]),
            digest([1; 16], &[b"abc", b""]),
            digest([2; 16], &[b"abc"]),
            digest([1; 16], &[]),
        ];
        for (place, one) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(one), "{place}");
        }
    }

    #[test]
    fn a_framer_is_empty_after_each_digest() {
        let key = DigestKey::new([3; 16]);
        let mut framer = key.framer();
        let first = framer.bytes(b"x").number(5).finish();
        assert_eq!(framer.bytes(b"x").number(5).finish(), first);
    }

    #[test]
    fn a_framer_digests_what_it_framed() {
        let key = DigestKey::new([3; 16]);
        let framed = [&2_u64.to_be_bytes()[..], b"ab", &1_u64.to_be_bytes(), b"c"].concat();
        assert_eq!(key.digest(&framed), key.framer().bytes(b"ab").bytes(b"c").finish());
    }

    #[test]
    fn a_sum_forgets_order_and_gives_back() {
        let (a, b) = (Digest::new(u128::MAX - 1), Digest::new(77));
        assert_eq!(a.plus(b), b.plus(a));
        assert_eq!(a.plus(b).minus(a), b);
        assert_ne!(a.plus(a), Digest::ZERO);
        assert_eq!(Digest::from_bytes(a.to_bytes()), a);
    }
}
