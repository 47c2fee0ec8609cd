//! The last 64 bytes of a table, from which all else is found, and the properties block.
//!
//! ```text
//! data block* | filter block | index block | properties block | footer
//!
//! footer:  0  filter offset u64, length u32 (length 0: no filter)
//!         12  index offset u64, length u32
//!         24  properties offset u64, length u32
//!         36  file id u64
//!         44  format version u32
//!         48  checksum u64: XXH3-64 of bytes 0..48, seeded with the file id and the offset
//!         56  magic
//!
//! properties: entries varint | tombstones varint | max sequence varint
//!             smallest key | largest key          each with its length before it
//! ```
//!
//! Little-endian throughout; blocks are sealed as in `seal`. The place of version, checksum and
//! magic, and the footer's length, are the same in every version to come: so an older reader says
//! "unknown format" instead of "damage".

use bytes::Bytes;

use super::TableMeta;
use super::seal::{Handle, checksum};
use crate::codec::{put_bytes, put_varint, take_bytes, take_u32, take_u64, take_varint};

/// Length of the footer, bytes.
pub(crate) const FOOTER_BYTES: usize = 64;

/// The version that this code writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"kvlsmtab";
const CHECKED_BYTES: usize = 48;

/// Where the parts of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) filter: Handle,
    pub(crate) index: Handle,
    pub(crate) properties: Handle,
    pub(crate) file_id: u64,
}

/// Why a footer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFooter {
    /// Written by a version that this one can't read.
    Version(u32),
    /// Not what was written.
    Damage(&'static str),
}

impl Footer {
    /// The footer's bytes, to stand at `offset`.
    pub(crate) fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        for handle in [self.filter, self.index, self.properties] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&self.file_id.to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let sum = checksum(self.file_id, offset, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        assert!(out.len() == FOOTER_BYTES, "the footer's length is part of the format");
        out
    }

    /// Reads a footer that stood at `offset` of file `file_id`.
    pub(crate) fn decode(file_id: u64, offset: u64, bytes: &[u8]) -> Result<Self, BadFooter> {
        let short = BadFooter::Damage("the footer is too short");
        let checked = bytes.get(..CHECKED_BYTES).ok_or(short)?;
        let mut tail = bytes.get(CHECKED_BYTES..).ok_or(short)?;
        let sum = take_u64(&mut tail).ok_or(short)?;
        if tail != MAGIC {
            return Err(BadFooter::Damage("the footer has no magic: not a table"));
        }
        if checksum(file_id, offset, checked) != sum {
            return Err(BadFooter::Damage("the footer fails its checksum"));
        }
        let mut left = checked;
        let mut handle = || {
            let offset = take_u64(&mut left)?;
            Some(Handle { offset, len: take_u32(&mut left)? })
        };
        let (filter, index, properties) =
            (handle().ok_or(short)?, handle().ok_or(short)?, handle().ok_or(short)?);
        let own_id = take_u64(&mut left).ok_or(short)?;
        match take_u32(&mut left).ok_or(short)? {
            FORMAT_VERSION if own_id == file_id => {
                Ok(Self { filter, index, properties, file_id: own_id })
            }
            FORMAT_VERSION => Err(BadFooter::Damage("the footer is another table's")),
            other => Err(BadFooter::Version(other)),
        }
    }
}

/// The properties block of a table.
pub(crate) fn encode_properties(meta: &TableMeta) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, meta.entries);
    put_varint(&mut out, meta.tombstones);
    put_varint(&mut out, meta.max_seq);
    put_bytes(&mut out, &meta.smallest);
    put_bytes(&mut out, &meta.largest);
    out
}

/// What the properties block knows of a table's meta: all but size and checksum of the file.
pub(crate) fn decode_properties(file_id: u64, mut bytes: &[u8]) -> Option<TableMeta> {
    let from = &mut bytes;
    let meta = TableMeta {
        file_id,
        entries: take_varint(from)?,
        tombstones: take_varint(from)?,
        max_seq: take_varint(from)?,
        smallest: Bytes::copy_from_slice(take_bytes(from)?),
        largest: Bytes::copy_from_slice(take_bytes(from)?),
        bytes: 0,
        checksum: 0,
    };
    from.is_empty().then_some(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            filter: Handle { offset: 10, len: 20 },
            index: Handle { offset: 30, len: 40 },
            properties: Handle { offset: 70, len: 5 },
            file_id: 9,
        }
    }

    #[test]
    fn round_trip_and_every_flipped_byte_is_seen() {
        let bytes = footer().encode(75);
        assert_eq!(Footer::decode(9, 75, &bytes), Ok(footer()));
        assert!(Footer::decode(8, 75, &bytes).is_err());
        assert!(Footer::decode(9, 74, &bytes).is_err());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            assert!(matches!(Footer::decode(9, 75, &bad), Err(BadFooter::Damage(_))), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_named_not_called_damage() {
        let mut bytes = footer().encode(75);
        bytes[44] = 2;
        let sum = checksum(9, 75, &bytes[..CHECKED_BYTES]);
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Footer::decode(9, 75, &bytes), Err(BadFooter::Version(2)));
    }
}
