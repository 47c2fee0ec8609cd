//! What a block wears on disk: its kind, its size, and a checksum that knows where it belongs.
//!
//! ```text
//! payload | kind u8 | size before compression u32 | checksum u64
//!           0 raw, 1 LZ4, 2 Zstandard, 3 Zstandard with the table's dictionary
//! ```
//!
//! The checksum is XXH3-64 over all that precedes it, seeded with the file's id and the block's
//! offset. So a block that a disk or a bug delivers from another place or another file fails, like
//! one with a flipped bit (ScyllaDB's commit log and RocksDB's context checksums do the same).

use twox_hash::XxHash3_64;

use crate::compression::{Compressor, Dictionary, Kind, RAW_BLOCK_BYTES_MAX, decompress};

/// Where a sealed block lies in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handle {
    /// First byte.
    pub(crate) offset: u64,
    /// Length with the seal, bytes.
    pub(crate) len: u32,
}

/// Appends `raw`, which will lie at `offset` of file `file_id`, to `out`.
pub(crate) fn seal(
    compressor: &mut Compressor,
    file_id: u64,
    offset: u64,
    raw: &[u8],
    out: &mut Vec<u8>,
) -> Handle {
    assert!(raw.len() <= RAW_BLOCK_BYTES_MAX, "a block of {} bytes can't be read back", raw.len());
    let start = out.len();
    let kind = compressor.compress(raw, out);
    out.push(kind as u8);
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    let sum = checksum(file_id, offset, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
    Handle { offset, len: (out.len() - start) as u32 }
}

/// Checks and opens a block that was read at `offset` of file `file_id`, with the dictionary of its
/// table if that has one; or says what is wrong.
pub(crate) fn unseal(
    file_id: u64,
    offset: u64,
    mut stored: Vec<u8>,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, &'static str> {
    let too_short = "a block is too short";
    let (sealed, sum) = stored.split_last_chunk::<8>().ok_or(too_short)?;
    if checksum(file_id, offset, sealed) != u64::from_le_bytes(*sum) {
        return Err("a block fails its checksum");
    }
    let (head, raw_len) = sealed.split_last_chunk::<4>().ok_or(too_short)?;
    let raw_len = u32::from_le_bytes(*raw_len) as usize;
    let (kind, payload) = head.split_last().ok_or(too_short)?;
    let kind = Kind::from_byte(*kind).ok_or("a block has an unknown kind")?;
    let payload = payload.len();
    stored.truncate(payload);
    decompress(kind, raw_len, stored, dictionary).ok_or("a block does not decompress to its size")
}

/// XXH3-64 of bytes at a place. Multiplying by an odd number keeps file ids apart.
pub(crate) fn checksum(file_id: u64, offset: u64, bytes: &[u8]) -> u64 {
    let seed = file_id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset;
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::IS_BUILT_IN;
    use crate::config::Compression;

    #[test]
    fn a_block_opens_only_where_it_was_sealed() {
        let zstd = Compression::Zstd { level: 3, dictionary_bytes_max: 0 };
        let zstd = IS_BUILT_IN.then_some(zstd);
        for how in [Compression::None, Compression::Lz4].into_iter().chain(zstd) {
            let raw = [42; 1000];
            let mut out = Vec::new();
            let handle = seal(&mut Compressor::new(how), 7, 4096, &raw, &mut out);
            assert_eq!(handle.len as usize, out.len());
            assert_eq!(unseal(7, 4096, out.clone(), None).unwrap(), raw);
            assert!(unseal(8, 4096, out.clone(), None).is_err());
            assert!(unseal(7, 0, out.clone(), None).is_err());
            for at in 0..out.len() {
                let mut bad = out.clone();
                bad[at] ^= 1;
                assert!(unseal(7, 4096, bad, None).is_err(), "byte {at}");
            }
        }
        assert!(unseal(7, 0, vec![0; 3], None).is_err());
    }

    /// A length that a checksum happens to fit is still not believed.
    #[test]
    fn a_declared_size_takes_no_memory() {
        for kind in [Kind::Lz4, Kind::Zstd, Kind::ZstdDictionary] {
            let mut block = vec![0; 40];
            block.push(kind as u8);
            block.extend_from_slice(&u32::MAX.to_le_bytes());
            let sum = checksum(7, 0, &block);
            block.extend_from_slice(&sum.to_le_bytes());
            assert!(unseal(7, 0, block, None).is_err());
        }
    }
}
