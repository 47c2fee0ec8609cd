//! Zstandard by its C library: frames of blocks, and the dictionaries that are made from them.
//!
//! A context takes some 100 KiB and is dear to make, so that those of reads are kept for the next
//! read, whichever thread does it. A frame that was made with a dictionary names it, so another one
//! is refused instead of giving other bytes.
//!
//! Invariant: a frame is written into no more memory than its caller has allowed for.

use std::fmt;

use parking_lot::Mutex;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict, get_frame_content_size, train_from_buffer};

use super::Kind;

/// Whether this build reads and writes Zstandard.
pub(crate) const IS_BUILT_IN: bool = true;

/// Contexts that wait for a read.
const CONTEXTS_IDLE_MAX: usize = 32;

static IDLE: Mutex<Vec<DCtx<'static>>> = Mutex::new(Vec::new());

/// Compresses blocks.
pub(super) struct Encoder {
    context: CCtx<'static>,
    level: u8,
    dictionary: Option<CDict<'static>>,
}

impl Encoder {
    /// `None` without memory for it.
    pub(super) fn new(level: u8) -> Option<Self> {
        Some(Self { context: CCtx::try_create()?, level, dictionary: None })
    }

    pub(super) fn use_dictionary(&mut self, dictionary: &[u8]) -> bool {
        self.dictionary = CDict::try_create(dictionary, i32::from(self.level));
        self.dictionary.is_some()
    }

    /// Appends `raw` as a frame, if that is somewhat shorter. What it leaves in `out` otherwise is
    /// of no use.
    pub(super) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let start = out.len();
        out.resize(start + raw.len() - raw.len() / 8, 0);
        let space = out.get_mut(start..)?;
        let (written, kind) = match &self.dictionary {
            Some(dictionary) => {
                let written = self.context.compress_using_cdict(space, raw, dictionary);
                (written, Kind::ZstdDictionary)
            }
            None => (self.context.compress(space, raw, i32::from(self.level)), Kind::Zstd),
        };
        out.truncate(start + written.ok()?);
        Some(kind)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("level", &self.level).finish_non_exhaustive()
    }
}

/// A dictionary, ready for reads.
pub(crate) struct Dictionary {
    digested: DDict<'static>,
}

impl Dictionary {
    /// Takes what [`train`] gave; `None` when it can't be that.
    pub(crate) fn load(bytes: &[u8]) -> Option<Self> {
        let digested = DDict::try_create(bytes)?;
        // One without a name would be taken for any other.
        digested.get_dict_id().is_some().then_some(Self { digested })
    }

    /// Memory that it takes, bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.digested.sizeof()
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.size_bytes()).finish()
    }
}

/// A dictionary of at most so many bytes for what is like these samples, which stand one after the
/// other; `None` when they are too few. Takes about as long as to compress them some ten times.
pub(crate) fn train(samples: &[u8], sizes: &[usize], bytes_max: usize) -> Option<Vec<u8>> {
    let mut dictionary = Vec::with_capacity(bytes_max);
    train_from_buffer(&mut dictionary, samples, sizes).ok()?;
    Some(dictionary)
}

/// The `raw_len` bytes that a frame holds, if it holds so many.
pub(super) fn decompress(
    stored: &[u8],
    raw_len: usize,
    dictionary: Option<&Dictionary>,
) -> Option<Vec<u8>> {
    if get_frame_content_size(stored).ok()? != Some(raw_len as u64) {
        return None;
    }
    let idle = IDLE.lock().pop();
    let mut context = match idle {
        Some(context) => context,
        None => DCtx::try_create()?,
    };
    let mut raw = Vec::with_capacity(raw_len);
    let done = match dictionary {
        Some(dictionary) => context.decompress_using_ddict(&mut raw, stored, &dictionary.digested),
        None => context.decompress(&mut raw, stored),
    };
    let mut idle = IDLE.lock();
    if idle.len() < CONTEXTS_IDLE_MAX {
        idle.push(context);
    }
    drop(idle);
    (done == Ok(raw_len)).then_some(raw)
}
