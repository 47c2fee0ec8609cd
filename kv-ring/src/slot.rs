//! Slots: the first step from a key to its place, exactly as Redis Cluster takes it.
//!
//! CRC16 (XMODEM: polynomial 0x1021, nothing reflected, starts at 0) of the key, or of its *hash
//! tag*, modulo 16384. Keeping Redis's rule to the bit means that every cluster client already
//! knows which slot a key is in, and so can talk to a replica of it, without knowing us.
//! Invariant: a `Slot` is below [`SLOTS`].

use crate::error::Error;

/// Number of slots, as in Redis Cluster. It never changes.
pub const SLOTS: u16 = 16_384;

const TABLE: [u16; 256] = table();

/// One of the [`SLOTS`] classes that keys fall into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u16", into = "u16"))]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key. O(length of the key or its hash tag), no allocation.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) % SLOTS)
    }

    /// The slot with this number; `None` from [`SLOTS`] up.
    #[inline]
    pub const fn new(index: u16) -> Option<Self> {
        if index < SLOTS { Some(Self(index)) } else { None }
    }

    /// The slot with a number that is below [`SLOTS`] by its making.
    #[inline]
    pub(crate) const fn below(index: u16) -> Self {
        assert!(index < SLOTS, "a partition's slots are below the number of slots");
        Self(index)
    }

    /// Its number, below [`SLOTS`].
    #[inline]
    pub const fn index(self) -> u16 {
        self.0
    }

    /// All slots in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SLOTS).map(Self)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = Error;

    fn try_from(index: u16) -> Result<Self, Error> {
        Self::new(index).ok_or(Error::Slot(index))
    }
}

/// The part of a key that decides its slot: what stands between the first `{` and the first `}`
/// after it if that is not empty, else the whole key. Keys with one tag share a slot.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let inner = key.get(open + 1..).unwrap_or_default();
    match inner.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => inner.get(..close).unwrap_or(key),
    }
}

/// CRC16/XMODEM of `bytes`. O(length).
#[inline]
#[expect(clippy::indexing_slicing, reason = "the index is a byte and the table has 256 entries")]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[expect(clippy::indexing_slicing, reason = "the loop ends at the table's length")]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
        assert_eq!(Slot::of(b"foo").index(), 12_182);
        assert_eq!(Slot::of(b"bar").index(), 5_061);
        assert_eq!(Slot::of(b"hello").index(), 866);
        assert_eq!(Slot::of(b"").index(), 0);
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"{user1000}.followers"));
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
    }

    #[test]
    fn hash_tags_as_the_cluster_specification_lists_them() {
        let table: &[(&[u8], &[u8])] = &[
            (b"plain", b"plain"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"{", b"{"),
            (b"}{", b"}{"),
            (b"}{a}", b"a"),
            (b"{open", b"{open"),
            (b"", b""),
        ];
        for (key, tag) in table {
            assert_eq!(hash_tag(key), *tag, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Slot::new(SLOTS), None);
        assert_eq!(Slot::new(SLOTS - 1).map(Slot::index), Some(16_383));
        assert_eq!(Slot::try_from(SLOTS), Err(Error::Slot(SLOTS)));
        assert_eq!(Slot::all().len(), 16_384);
    }
}
