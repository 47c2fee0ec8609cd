//! Compression of one block: LZ4's block format, when it pays.
//!
//! A block is kept raw when LZ4 saves less than an eighth: then the copy that decompression would
//! cost on every cache miss buys nothing. Which of the two a block is stands in its trailer, so a
//! table written under one setting is read under another.
//!
//! Invariant: nothing is allocated on the word of a file. The declared size is checked against
//! [`RAW_BLOCK_BYTES_MAX`] and against what LZ4 can reach at all before a buffer is made.

use crate::config::Compression;

/// Largest block before compression, bytes. Also bounds an index and a filter block.
pub(crate) const RAW_BLOCK_BYTES_MAX: usize = 64 << 20;

/// LZ4 can't make more than 255 bytes out of one.
const LZ4_RATIO_MAX: usize = 255;

/// The kind of a stored block, as the trailer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw = 0,
    Lz4 = 1,
}

impl Kind {
    /// The kind for a byte of a trailer.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// Appends `raw`, compressed if that pays, to `out`; says which it was.
pub(crate) fn compress(how: Compression, raw: &[u8], out: &mut Vec<u8>) -> Kind {
    if how == Compression::Lz4 && !raw.is_empty() {
        let start = out.len();
        let room = lz4_flex::block::get_maximum_output_size(raw.len());
        out.resize(start + room, 0);
        let written = out
            .get_mut(start..)
            .and_then(|space| lz4_flex::block::compress_into(raw, space).ok())
            .unwrap_or(usize::MAX);
        if written <= raw.len() - raw.len() / 8 {
            out.truncate(start + written);
            return Kind::Lz4;
        }
        out.truncate(start);
    }
    out.extend_from_slice(raw);
    Kind::Raw
}

/// Undoes [`compress`]. `None`: the bytes are not what `kind` and `raw_len` say.
pub(crate) fn decompress(kind: Kind, raw_len: usize, stored: Vec<u8>) -> Option<Vec<u8>> {
    if raw_len > RAW_BLOCK_BYTES_MAX {
        return None;
    }
    match kind {
        Kind::Raw => (stored.len() == raw_len).then_some(stored),
        Kind::Lz4 => {
            if raw_len > stored.len().saturating_mul(LZ4_RATIO_MAX) {
                return None;
            }
            let mut raw = vec![0; raw_len];
            let written = lz4_flex::block::decompress_into(&stored, &mut raw).ok()?;
            (written == raw_len).then_some(raw)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_shrinks_is_compressed() {
        let mut out = Vec::new();
        assert_eq!(compress(Compression::Lz4, &[7; 4096], &mut out), Kind::Lz4);
        assert!(out.len() < 100, "{} bytes", out.len());
        out.clear();
        let noise: Vec<u8> =
            (0..4096_u32).map(|i| twox_hash::XxHash3_64::oneshot(&i.to_le_bytes()) as u8).collect();
        assert_eq!(compress(Compression::Lz4, &noise, &mut out), Kind::Raw);
        assert_eq!(out, noise);
        out.clear();
        assert_eq!(compress(Compression::None, &[7; 4096], &mut out), Kind::Raw);
    }

    #[test]
    fn a_declared_size_that_cannot_be_is_refused_before_it_is_allocated() {
        assert_eq!(decompress(Kind::Lz4, RAW_BLOCK_BYTES_MAX + 1, vec![0; 8]), None);
        assert_eq!(decompress(Kind::Lz4, RAW_BLOCK_BYTES_MAX, vec![0; 8]), None);
        assert_eq!(decompress(Kind::Raw, 9, vec![0; 8]), None);
    }

    proptest! {
        #[test]
        fn round_trip(seedling in proptest::collection::vec(0_u8..4, 0..2000)) {
            let mut out = vec![1, 2, 3];
            let kind = compress(Compression::Lz4, &seedling, &mut out);
            prop_assert_eq!(&out[..3], &[1, 2, 3]);
            prop_assert_eq!(decompress(kind, seedling.len(), out[3..].to_vec()), Some(seedling));
        }

        #[test]
        fn no_bytes_panic(len in 0_usize..5000, bytes: Vec<u8>) {
            let _ = decompress(Kind::Lz4, len, bytes);
        }
    }
}
