//! Where a key lives: its slot, its token, and the storage key that orders rows.
//!
//! A storage key is `keyspace (u32) | slot (u16) | token (u64) | key`, big-endian, so that a slot,
//! a partition and a Merkle leaf are each one contiguous range: handoff, repair and SCAN are range
//! reads. An element suffix for later types is reserved by the record's kind, not by the key.
//!
//! Hints lie in the same engine above every keyspace: `HINTS (u32) | target (u64) | storage key`,
//! so that they share its log's commits and one target's are one range. Nothing that reads a
//! partition or a keyspace reaches them.

use bytes::Bytes;
use kv_client::NodeId;
use kv_ring::{Slot, Token};

/// The number of a keyspace. All that exists at first is `default`.
pub type Keyspace = u32;

/// Keyspace 0.
pub const DEFAULT_KEYSPACE: Keyspace = 0;

/// The number under which hints are kept; no keyspace has it.
pub const HINTS: Keyspace = Keyspace::MAX;

/// Bytes of a hint's row key before the storage key.
pub const HINT_PREFIX_BYTES: usize = 12;

/// Bytes of a storage key before the client's key.
pub const PREFIX_BYTES: usize = 14;

/// The storage key right behind another.
pub fn after(key: &[u8]) -> Bytes {
    Bytes::from([key, &[0]].concat())
}

/// Bytes of a key at most: what kv-lsm takes, with the longest prefix in front of it.
pub const KEY_BYTES_MAX: usize = 65_535 - PREFIX_BYTES - HINT_PREFIX_BYTES;

/// A client's key with its place, computed once at the edge and carried from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The keyspace.
    pub keyspace: Keyspace,
    /// CRC16 of the hash tag or the key, modulo 16384.
    pub slot: Slot,
    /// XXH3-64 of the key.
    pub token: Token,
    /// The client's bytes.
    pub key: &'a [u8],
}

impl<'a> KeyRef<'a> {
    /// Places a key. Linear in the key's length.
    #[inline]
    pub fn place(keyspace: Keyspace, key: &'a [u8]) -> Self {
        Self { keyspace, slot: Slot::of(key), token: Token::of(key), key }
    }

    /// Appends the storage key to `out`.
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keyspace.to_be_bytes());
        out.extend_from_slice(&self.slot.index().to_be_bytes());
        out.extend_from_slice(&self.token.value().to_be_bytes());
        out.extend_from_slice(self.key);
    }

    /// The storage key, owned.
    pub fn to_storage(&self) -> Bytes {
        let mut out = Vec::with_capacity(PREFIX_BYTES + self.key.len());
        self.write_to(&mut out);
        Bytes::from(out)
    }

    /// Reads a storage key back, or `None` when it is too short or names no slot.
    #[inline]
    pub fn parse(storage: &'a [u8]) -> Option<Self> {
        let (keyspace, rest) = storage.split_first_chunk::<4>()?;
        let (slot, rest) = rest.split_first_chunk::<2>()?;
        let (token, key) = rest.split_first_chunk::<8>()?;
        Some(Self {
            keyspace: u32::from_be_bytes(*keyspace),
            slot: Slot::new(u16::from_be_bytes(*slot))?,
            token: Token::new(u64::from_be_bytes(*token)),
            key,
        })
    }
}

/// The first storage key of a position: everything at or above it has this slot and token or
/// later ones.
pub fn position(keyspace: Keyspace, slot: u16, token: u64) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX_BYTES);
    out.extend_from_slice(&keyspace.to_be_bytes());
    out.extend_from_slice(&slot.to_be_bytes());
    out.extend_from_slice(&token.to_be_bytes());
    Bytes::from(out)
}

/// The end of a slot's range, exclusive. Slot 16383's end is below the next keyspace's first key.
pub fn slot_end(keyspace: Keyspace, slot: u16) -> Bytes {
    position(keyspace, slot.saturating_add(1), 0)
}

/// The row of a hint for `target` about a storage key.
pub fn hint_row(target: NodeId, storage_key: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HINT_PREFIX_BYTES + storage_key.len());
    out.extend_from_slice(&HINTS.to_be_bytes());
    out.extend_from_slice(&target.0.to_be_bytes());
    out.extend_from_slice(storage_key);
    Bytes::from(out)
}

/// Whose hint a row is, and about which storage key; `None` for any other row.
#[inline]
pub fn parse_hint(row: &[u8]) -> Option<(NodeId, &[u8])> {
    let (keyspace, rest) = row.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*keyspace) != HINTS {
        return None;
    }
    let (target, storage_key) = rest.split_first_chunk::<8>()?;
    Some((NodeId(u64::from_be_bytes(*target)), storage_key))
}

/// The first row of a target's hints, and their end, exclusive (empty means none).
pub fn hint_range(target: NodeId) -> (Bytes, Bytes) {
    let end = target.0.checked_add(1).map_or_else(Bytes::new, |next| hint_row(NodeId(next), b""));
    (hint_row(target, b""), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_lie_above_every_keyspace_and_by_target() {
        let key = KeyRef::place(DEFAULT_KEYSPACE, b"user:42").to_storage();
        assert_eq!(parse_hint(&key), None);
        let row = hint_row(NodeId(7), &key);
        assert_eq!(parse_hint(&row), Some((NodeId(7), &key[..])));
        let (from, to) = hint_range(NodeId(7));
        assert!(from <= row && row < to);
        assert!(hint_row(NodeId(6), &[0xff; 40]) < from && hint_row(NodeId(8), b"") >= to);
        assert!(slot_end(DEFAULT_KEYSPACE, 16_383) < hint_range(NodeId(0)).0);
        let (from, to) = hint_range(NodeId(u64::MAX));
        assert!(to.is_empty() && from <= hint_row(NodeId(u64::MAX), &key));
    }
}
