//! Compression of values, each for itself: LZ4 with a dictionary.
//!
//! A short value has little in itself that repeats; what it repeats is other values, such as the
//! names of JSON's fields. So the first values that come become the dictionary for all that follow.
//! It never changes: where later values are of another kind they are held as if there were none, as
//! they are if that does not make them smaller. (LZ4's format calls it a preset dictionary; Redis,
//! RocksDB and zstd train theirs from samples alike.)
//!
//! Invariant: what was packed with the dictionary is unpacked with the same one.

use std::cell::Cell;
use std::sync::OnceLock;

use lz4_flex::block;
use parking_lot::Mutex;

/// A larger one finds more, and makes each write wait longer: its hashes are computed anew for
/// each.
const DICTIONARY_BYTES: usize = 2 << 10;
/// Of one value.
const SAMPLE_BYTES_MAX: usize = 512;
/// Bytes that say how long an unpacked value is.
pub(super) const LENGTH_BYTES: usize = 4;
/// A larger buffer is not kept for the next write.
const BUFFER_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whether values are packed, and how.
#[derive(Debug)]
pub(super) struct Packer {
    bytes_min: Option<usize>,
    dictionary: OnceLock<Box<[u8]>>,
    sample: Mutex<Vec<u8>>,
}

impl Packer {
    /// For values of at least so many bytes.
    pub(super) fn new(bytes_min: Option<usize>) -> Self {
        Self { bytes_min, dictionary: OnceLock::new(), sample: Mutex::default() }
    }

    /// What values are packed with; empty at first.
    #[inline]
    pub(super) fn dictionary(&self) -> &[u8] {
        self.dictionary.get().map_or(&[], |dictionary| dictionary)
    }

    /// Lends a value packed, and whether it needs the dictionary; `None` if it stays as it is.
    #[inline]
    pub(super) fn with_packed<T>(
        &self,
        value: &[u8],
        work: impl FnOnce(Option<(&[u8], bool)>) -> T,
    ) -> T {
        match self.bytes_min {
            Some(min) if value.len() >= min => self.pack(value, work),
            _ => work(None),
        }
    }

    fn pack<T>(&self, value: &[u8], work: impl FnOnce(Option<(&[u8], bool)>) -> T) -> T {
        let dictionary = self.dictionary();
        if dictionary.is_empty() {
            self.learn(value);
        }
        let mut buffer = BUFFER.take();
        buffer.resize(buffer.len().max(block::get_maximum_output_size(value.len())), 0);
        let written = if dictionary.is_empty() {
            block::compress_into(value, &mut buffer)
        } else {
            block::compress_into_with_dict(value, &mut buffer, dictionary)
        };
        let packed = written.ok().and_then(|written| buffer.get(..written));
        let packed =
            packed.filter(|packed| packed.len() + LENGTH_BYTES <= value.len() - value.len() / 8);
        let result = work(packed.map(|packed| (packed, !dictionary.is_empty())));
        if buffer.len() <= BUFFER_BYTES_MAX {
            BUFFER.set(buffer);
        }
        result
    }

    /// Adds to the sample; when that is large enough, it is the dictionary.
    #[cold]
    fn learn(&self, value: &[u8]) {
        let mut sample = self.sample.lock();
        if self.dictionary.get().is_some() {
            return;
        }
        sample.extend_from_slice(value.get(..SAMPLE_BYTES_MAX).unwrap_or(value));
        if sample.len() >= DICTIONARY_BYTES {
            // Nobody else sets it while the sample is locked.
            let _ = self.dictionary.set(std::mem::take(&mut *sample).into_boxed_slice());
        }
    }
}

/// Appends what was packed, unpacked; `None` if it can't be.
pub(super) fn unpack(
    packed: &[u8],
    plain_bytes: usize,
    dictionary: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    out.resize(start + plain_bytes, 0);
    let place = out.get_mut(start..)?;
    let written = match dictionary {
        Some(dictionary) => block::decompress_into_with_dict(packed, place, dictionary),
        None => block::decompress_into(packed, place),
    };
    (written.ok()? == plain_bytes).then_some(())
}
