//! Compression of one block: LZ4's block format or a Zstandard frame, when it pays.
//!
//! A block is kept raw when compression saves less than an eighth: then what decompression would
//! cost on every cache miss buys nothing. Which of them a block is stands in its trailer, so a
//! table written under one setting is read under another. LZ4 is Rust, and there always; Zstandard
//! is a C library behind the feature `zstd` (`zstandard`; `absent` without it). It is meant for the
//! last level, which holds most of the data and is written to least often; there a table can have a
//! dictionary, made from its own first blocks, which is what makes small blocks dense.
//!
//! Invariant: nothing is allocated on the word of a file. The declared size is checked against
//! [`RAW_BLOCK_BYTES_MAX`] and against what the format can reach at all before a buffer is made,
//! and no more than that is written to it.

#[cfg_attr(not(feature = "zstd"), path = "absent.rs")]
mod zstandard;

use crate::config::Compression;
pub(crate) use zstandard::{Dictionary, IS_BUILT_IN, train};

/// Largest block before compression, bytes. Also bounds an index and a filter block.
pub(crate) const RAW_BLOCK_BYTES_MAX: usize = 64 << 20;

/// LZ4 can't make more than 255 bytes out of one.
const LZ4_RATIO_MAX: usize = 255;
/// Zstandard makes 128 KiB at most out of one of its own blocks, and those take four bytes at
/// least.
const ZSTD_PART_BYTES_MAX: usize = 128 << 10;
const ZSTD_PART_BYTES_MIN: usize = 4;

/// The kind of a stored block, as the trailer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw = 0,
    Lz4 = 1,
    Zstd = 2,
    /// Zstandard with the dictionary of its table.
    ZstdDictionary = 3,
}

impl Kind {
    /// The kind for a byte of a trailer.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            3 => Some(Self::ZstdDictionary),
            _ => None,
        }
    }
}

/// Compresses the blocks of one table, one after the other.
#[derive(Debug)]
pub(crate) struct Compressor {
    how: Compression,
    zstd: Option<zstandard::Encoder>,
    has_used_zstd: bool,
}

impl Compressor {
    /// One that compresses in this way.
    pub(crate) fn new(how: Compression) -> Self {
        let zstd = match how {
            // Without memory for it blocks are stored as they are.
            Compression::Zstd { level, .. } => zstandard::Encoder::new(level),
            Compression::None | Compression::Lz4 => None,
        };
        Self { how, zstd, has_used_zstd: false }
    }

    /// From now on with a dictionary that [`train`] gave, if it can; says whether it does.
    pub(crate) fn use_dictionary(&mut self, dictionary: &[u8]) -> bool {
        self.zstd.as_mut().is_some_and(|encoder| encoder.use_dictionary(dictionary))
    }

    /// Whether some block so far can only be read with the feature `zstd`.
    pub(crate) fn has_used_zstd(&self) -> bool {
        self.has_used_zstd
    }

    /// Appends `raw`, compressed if that pays, to `out`; says which it was.
    pub(crate) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Kind {
        let start = out.len();
        let kind = match (self.how, &mut self.zstd) {
            _ if raw.is_empty() => None,
            (Compression::Lz4, _) => lz4(raw, out),
            (Compression::Zstd { .. }, Some(encoder)) => encoder.compress(raw, out),
            _ => None,
        };
        if let Some(kind) = kind
            && out.len() - start <= raw.len() - raw.len() / 8
        {
            self.has_used_zstd |= kind != Kind::Lz4;
            return kind;
        }
        out.truncate(start);
        out.extend_from_slice(raw);
        Kind::Raw
    }
}

/// Appends `raw` in LZ4's block format.
fn lz4(raw: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    let written = lz4_flex::block::compress_into(raw, out.get_mut(start..)?).ok()?;
    out.truncate(start + written);
    Some(Kind::Lz4)
}

/// Undoes [`Compressor::compress`]. `None`: the bytes are not what `kind` and `raw_len` say.
pub(crate) fn decompress(
    kind: Kind,
    raw_len: usize,
    stored: Vec<u8>,
    dictionary: Option<&Dictionary>,
) -> Option<Vec<u8>> {
    let reachable = match kind {
        Kind::Raw => return (stored.len() == raw_len).then_some(stored),
        Kind::Lz4 => stored.len().saturating_mul(LZ4_RATIO_MAX),
        Kind::Zstd | Kind::ZstdDictionary => {
            (stored.len() / ZSTD_PART_BYTES_MIN).saturating_mul(ZSTD_PART_BYTES_MAX)
        }
    };
    if raw_len > reachable.min(RAW_BLOCK_BYTES_MAX) {
        return None;
    }
    match kind {
        Kind::Zstd => zstandard::decompress(&stored, raw_len, None),
        Kind::ZstdDictionary => zstandard::decompress(&stored, raw_len, Some(dictionary?)),
        Kind::Raw | Kind::Lz4 => {
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

    /// Every way that this build has.
    fn ways() -> Vec<Compression> {
        let zstd = [1, 3, 19].map(|level| Compression::Zstd { level, dictionary_bytes_max: 0 });
        let zstd = zstd.into_iter().filter(|_| IS_BUILT_IN);
        [Compression::None, Compression::Lz4].into_iter().chain(zstd).collect()
    }

    fn noise(bytes: u32) -> Vec<u8> {
        (0..bytes).map(|i| twox_hash::XxHash3_64::oneshot(&i.to_le_bytes()) as u8).collect()
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        for how in ways() {
            let mut compressor = Compressor::new(how);
            let mut out = Vec::new();
            let kind = compressor.compress(&[7; 4096], &mut out);
            assert_eq!(kind == Kind::Raw, how == Compression::None, "{how:?}");
            assert!(kind == Kind::Raw || out.len() < 100, "{} bytes", out.len());
            assert_eq!(compressor.has_used_zstd(), matches!(how, Compression::Zstd { .. }));
            out.clear();
            assert_eq!(compressor.compress(&noise(4096), &mut out), Kind::Raw);
            assert_eq!(out, noise(4096));
        }
    }

    #[test]
    fn a_declared_size_that_cannot_be_is_refused_before_it_is_allocated() {
        for kind in [Kind::Lz4, Kind::Zstd] {
            assert_eq!(decompress(kind, RAW_BLOCK_BYTES_MAX + 1, vec![0; 1 << 20], None), None);
            assert_eq!(decompress(kind, RAW_BLOCK_BYTES_MAX, vec![0; 8], None), None);
        }
        assert_eq!(decompress(Kind::Raw, 9, vec![0; 8], None), None);
        assert_eq!(decompress(Kind::ZstdDictionary, 9, vec![0; 8], None), None);
    }

    /// A frame says how long it is, too; that and the trailer must agree, and neither is believed.
    #[test]
    fn a_wrong_size_is_refused_in_every_format() {
        let raw: Vec<u8> = (0..3_000_u32).map(|n| (n % 7 * n % 5) as u8).collect();
        for how in ways() {
            let mut out = Vec::new();
            let kind = Compressor::new(how).compress(&raw, &mut out);
            assert_eq!(decompress(kind, raw.len(), out.clone(), None).as_ref(), Some(&raw));
            for wrong in [0, 1, raw.len() - 1, raw.len() + 1, 100_000] {
                assert_eq!(decompress(kind, wrong, out.clone(), None), None, "{how:?} {wrong}");
            }
            for cut in 0..out.len() {
                assert_eq!(decompress(kind, raw.len(), out[..cut].to_vec(), None), None);
            }
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_dictionary_makes_small_blocks_smaller_and_is_needed_to_read_them() {
        let row =
            |n: u32| format!("{{\"id\":{n},\"kind\":\"user\",\"mail\":\"u{n}@example.org\"}}");
        let samples: Vec<String> = (0..2_000).map(row).collect();
        let sizes: Vec<usize> = samples.iter().map(String::len).collect();
        let dictionary = train(samples.concat().as_bytes(), &sizes, 1 << 10).unwrap();
        let raw = row(77_777).into_bytes();
        let how = Compression::Zstd { level: 3, dictionary_bytes_max: 1 << 10 };
        let (mut plain, mut helped) = (Vec::new(), Vec::new());
        Compressor::new(how).compress(&raw, &mut plain);
        let mut compressor = Compressor::new(how);
        assert!(compressor.use_dictionary(&dictionary));
        let kind = compressor.compress(&raw, &mut helped);
        assert_eq!(kind, Kind::ZstdDictionary);
        assert!(helped.len() * 3 < plain.len() * 2, "{} of {}", helped.len(), plain.len());

        let own = Dictionary::load(&dictionary).unwrap();
        assert_eq!(decompress(kind, raw.len(), helped.clone(), Some(&own)).as_ref(), Some(&raw));
        assert_eq!(decompress(kind, raw.len(), helped.clone(), None), None);
        assert_eq!(decompress(Kind::Zstd, raw.len(), helped.clone(), None), None);
        let half = samples.len() / 2;
        let other: Vec<usize> = sizes[..half].to_vec();
        let other = train(samples[..half].concat().as_bytes(), &other, 700).unwrap();
        let other = Dictionary::load(&other).unwrap();
        assert_eq!(decompress(kind, raw.len(), helped, Some(&other)), None, "another dictionary");
        assert!(Dictionary::load(b"no dictionary").is_none());
        assert!(train(b"one sample", &[10], 1 << 10).is_none());
    }

    proptest! {
        #[test]
        fn round_trip(seedling in proptest::collection::vec(0_u8..4, 0..2000)) {
            for how in ways() {
                let mut out = vec![1, 2, 3];
                let kind = Compressor::new(how).compress(&seedling, &mut out);
                prop_assert_eq!(&out[..3], &[1, 2, 3]);
                let stored = out[3..].to_vec();
                let back = decompress(kind, seedling.len(), stored, None);
                prop_assert_eq!(back.as_ref(), Some(&seedling));
            }
        }

        #[test]
        fn no_bytes_panic(len in 0_usize..5000, bytes: Vec<u8>, at in 0_usize..40, byte: u8) {
            for kind in [Kind::Lz4, Kind::Zstd] {
                let _ = decompress(kind, len, bytes.clone(), None);
            }
            let mut out = Vec::new();
            for how in ways() {
                out.clear();
                let kind = Compressor::new(how).compress(&[bytes.as_slice(); 9].concat(), &mut out);
                if let Some(at) = out.get_mut(at) {
                    *at = byte;
                }
                let _ = decompress(kind, 9 * bytes.len(), out.clone(), None);
            }
        }
    }
}
