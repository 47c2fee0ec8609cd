//! The last 64 bytes of a table, from which all else is found, and the properties block.
//!
//! ```text
//! data block* | dictionary block | filter block | index block | properties block | footer
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
//!             codec u8 | dictionary offset varint, length varint      in version 2
//! ```
//!
//! Version 2 is that of tables that have blocks in Zstandard, codec 1; a length of 0 says that
//! there is no dictionary. A table without such blocks is of version 1, which knows of no
//! dictionary, so that who never asks for Zstandard writes what older builds read.
//!
//! Little-endian throughout; blocks are sealed as in `seal`. The place of version, checksum and
//! magic, and the footer's length, are the same in every version to come: so an older reader says
//! "unknown format" instead of "damage".

use bytes::Bytes;

use super::TableMeta;
use super::seal::{Handle, checksum};
use crate::codec::{put_bytes, put_varint, take_bytes, take_u8, take_u32, take_u64, take_varint};

/// Length of the footer, bytes.
pub(crate) const FOOTER_BYTES: usize = 64;

/// The versions that this code reads: see the module.
const VERSION_PLAIN: u32 = 1;
const VERSION_ZSTD: u32 = 2;

/// The codec of version 2, as the properties say it.
const CODEC_ZSTD: u8 = 1;

const MAGIC: [u8; 8] = *b"kvlsmtab";
const CHECKED_BYTES: usize = 48;

/// Where the parts of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) filter: Handle,
    pub(crate) index: Handle,
    pub(crate) properties: Handle,
    pub(crate) file_id: u64,
    /// Whether it is of version 2.
    pub(crate) zstd: bool,
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
        let version = if self.zstd { VERSION_ZSTD } else { VERSION_PLAIN };
        out.extend_from_slice(&version.to_le_bytes());
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
        let zstd = match take_u32(&mut left).ok_or(short)? {
            VERSION_PLAIN => false,
            VERSION_ZSTD => true,
            other => return Err(BadFooter::Version(other)),
        };
        if own_id != file_id {
            return Err(BadFooter::Damage("the footer is another table's"));
        }
        Ok(Self { filter, index, properties, file_id: own_id, zstd })
    }
}

/// The properties block of a table; in version 2 with the place of its dictionary.
pub(crate) fn encode_properties(meta: &TableMeta, dictionary: Option<Handle>) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, meta.entries);
    put_varint(&mut out, meta.tombstones);
    put_varint(&mut out, meta.max_seq);
    put_bytes(&mut out, &meta.smallest);
    put_bytes(&mut out, &meta.largest);
    if let Some(Handle { offset, len }) = dictionary {
        out.push(CODEC_ZSTD);
        put_varint(&mut out, offset);
        put_varint(&mut out, u64::from(len));
    }
    out
}

/// What the properties block knows: a table's meta, all but size and checksum of the file, and
/// where its dictionary is (of length 0 if there is none). `zstd` says whether it is of version 2.
pub(crate) fn decode_properties(
    file_id: u64,
    zstd: bool,
    mut bytes: &[u8],
) -> Option<(TableMeta, Handle)> {
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
    let mut dictionary = Handle::default();
    if zstd {
        if take_u8(from)? != CODEC_ZSTD {
            return None;
        }
        let offset = take_varint(from)?;
        dictionary = Handle { offset, len: u32::try_from(take_varint(from)?).ok()? };
    }
    from.is_empty().then_some((meta, dictionary))
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
            zstd: false,
        }
    }

    #[test]
    fn round_trip_and_every_flipped_byte_is_seen() {
        let bytes = footer().encode(75);
        assert_eq!(Footer::decode(9, 75, &bytes), Ok(footer()));
        let zstd = Footer { zstd: true, ..footer() };
        assert_eq!(Footer::decode(9, 75, &zstd.encode(75)), Ok(zstd));
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
        bytes[44] = 3;
        let sum = checksum(9, 75, &bytes[..CHECKED_BYTES]);
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Footer::decode(9, 75, &bytes), Err(BadFooter::Version(3)));
    }

    #[test]
    fn properties_say_where_the_dictionary_is() {
        let meta = TableMeta {
            file_id: 9,
            smallest: Bytes::from_static(b"a"),
            largest: Bytes::from_static(b"b"),
            entries: 3,
            tombstones: 1,
            max_seq: 400,
            bytes: 0,
            checksum: 0,
        };
        let plain = encode_properties(&meta, None);
        assert_eq!(decode_properties(9, false, &plain), Some((meta.clone(), Handle::default())));
        assert_eq!(decode_properties(9, true, &plain), None);
        let place = Handle { offset: 70_000, len: 300 };
        let mut bytes = encode_properties(&meta, Some(place));
        assert_eq!(decode_properties(9, true, &bytes), Some((meta, place)));
        assert_eq!(decode_properties(9, false, &bytes), None);
        bytes[plain.len()] = CODEC_ZSTD + 1;
        assert_eq!(decode_properties(9, true, &bytes), None, "an unknown codec");
    }
}
