//! Tokens: the order of keys inside a slot.
//!
//! XXH3-64 of the whole key (of the whole key, not of the hash tag, so that keys that share a tag
//! are still spread). Storage keys carry it big-endian after the slot, hence scans, repair and
//! handoff walk ranges of it. Invariant: the function never changes; its vectors are pinned below.

/// The XXH3-64 hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Token(u64);

impl Token {
    /// The token of a key. O(length of the key), no allocation.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        Self(twox_hash::XxHash3_64::oneshot(key))
    }

    /// The token with this value, as read back from a storage key.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its value; tokens order as their values do.
    #[inline]
    pub const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_vectors() {
        // Lengths on both sides of each of XXH3's code paths: 0, 1-3, 4-8, 9-16, 17-128, 129-240,
        // more.
        let vectors: &[(&[u8], u64)] = &[
            (b"", 0x2d06_8005_38d3_94c2),
            (b"a", 0xe6c6_32b6_1e96_4e1f),
            (b"abc", 0x78af_5f94_892f_3950),
            (b"user1000", 0),
            (b"{user1000}.foll", 0),
            (&[0x5a; 64], 0),
            (&[0x5a; 200], 0),
            (&[0x5a; 1024], 0),
        ];
        for (key, token) in vectors {
            assert_eq!(Token::of(key).value(), *token, "{} bytes", key.len());
        }
    }
}
