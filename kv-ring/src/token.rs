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
        // From the reference implementation in C, a length for each of XXH3's code paths.
        let vectors: &[(&[u8], u64)] = &[
            (b"", 0x2d06_8005_38d3_94c2),
            (b"a", 0xe6c6_32b6_1e96_4e1f),
            (b"abc", 0x78af_5f94_892f_3950),
            (b"user1000", 0xb03c_8988_cdc1_c874),
            (b"{user1000}.foll", 0x1f96_cedb_9a9d_1915),
            (&[0x5a; 64], 0xaec7_c65f_c356_97d8),
            (&[0x5a; 200], 0xb4bb_abf1_dd18_ab98),
            (&[0x5a; 1024], 0x21ca_4ca8_cb02_eb16),
        ];
        for (key, token) in vectors {
            assert_eq!(Token::of(key).value(), *token, "{} bytes", key.len());
        }
    }
}
