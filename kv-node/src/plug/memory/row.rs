//! How a row of the in-memory engine is written. Most values are records, and of most records more
//! than half of what stands around the string follows from the rest: that is left out
//! ([`kv_quorum::Brief`]) and put back when the row is shown.
//!
//! ```text
//! row     stored bytes u28, form u4 | key bytes u16 | key | stored | rest up to a multiple of 8
//! form    1: brief; 2: with an operation's id; 4: packed; 8: with the dictionary
//! stored  [dot 24 B | [operation 8 B]] | [plain bytes u32] | value or record
//! ```
//! Invariant: what is shown of a row is what was put, byte for byte.

use kv_quorum::Brief;

use super::arena::UNIT_BYTES;
use super::pack::{LENGTH_BYTES, Packer, unpack};

const HEADER_BYTES: usize = 6;
const STORED_BITS: u32 = 28;
/// Stored bytes of a row at most.
pub(super) const STORED_BYTES_MAX: usize = (1 << STORED_BITS) - 1;
/// Bytes of a key at most.
pub(super) const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// What a row costs beside key and value, at most: header and rounding.
pub(super) const ROW_OVERHEAD_BYTES: usize = HEADER_BYTES + UNIT_BYTES - 1;

const BRIEF: u32 = 1;
const OPERATION: u32 = 2;
const PACKED: u32 = 4;
const DICTIONARY: u32 = 8;

/// A value as it will be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    form: u32,
    parts: [&'a [u8]; 4],
}

impl<'a> Stored<'a> {
    /// Lends a value without what follows from the rest, if it is such a record, and packed, if
    /// that makes it smaller.
    #[inline]
    pub(super) fn with<T>(
        value: &'a [u8],
        packer: &Packer,
        work: impl FnOnce(&Stored<'_>) -> T,
    ) -> T {
        let mut stored = Self::new(value);
        let [.., plain] = stored.parts;
        packer.with_packed(plain, |packed| {
            let Some((packed, with_dictionary)) = packed else { return work(&stored) };
            let plain_bytes = (plain.len() as u32).to_le_bytes();
            let [dot, operation, ..] = stored.parts;
            stored.form |= PACKED | if with_dictionary { DICTIONARY } else { 0 };
            work(&Stored { form: stored.form, parts: [dot, operation, &plain_bytes, packed] })
        })
    }

    #[inline]
    fn new(value: &'a [u8]) -> Self {
        match Brief::of(value) {
            Some(Brief { dot, operation: None, value }) => {
                Self { form: BRIEF, parts: [dot, &[], &[], value] }
            }
            Some(Brief { dot, operation: Some(operation), value }) => {
                Self { form: BRIEF | OPERATION, parts: [dot, operation, &[], value] }
            }
            None => Self { form: 0, parts: [&[], &[], &[], value] },
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Bytes that its row takes.
    #[inline]
    pub(super) fn row_bytes(&self, key: &[u8]) -> usize {
        row_bytes(key.len(), self.len())
    }

    #[inline]
    fn word(&self) -> u32 {
        self.form << STORED_BITS | self.len() as u32
    }

    /// Appends its row.
    #[inline]
    pub(super) fn append_row(&self, key: &[u8], out: &mut Vec<u8>) {
        let key_bytes = u16::try_from(key.len());
        assert!(key_bytes.is_ok() && self.len() <= STORED_BYTES_MAX, "a batch's rows are bounded");
        let start = out.len();
        out.extend_from_slice(&self.word().to_le_bytes());
        out.extend_from_slice(&key_bytes.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(key);
        for part in self.parts {
            out.extend_from_slice(part);
        }
        out.resize(start + self.row_bytes(key), 0);
    }

    /// Writes its row over another of the same key, and a dead one over what is left of that; false
    /// if it does not fit.
    #[inline]
    pub(super) fn overwrite_row(&self, key: &[u8], place: &mut [u8]) -> bool {
        let Some((place, left_over)) = place.split_at_mut_checked(self.row_bytes(key)) else {
            return false;
        };
        if let Some((header, rest)) = left_over.split_first_chunk_mut::<HEADER_BYTES>() {
            *header = dead_row(rest.len());
        }
        // The key stays.
        let Some((header, mut rest)) = place.split_at_mut_checked(HEADER_BYTES + key.len()) else {
            return false;
        };
        if let Some(word) = header.first_chunk_mut() {
            *word = self.word().to_le_bytes();
        }
        for part in self.parts {
            let Some((to, behind)) = rest.split_at_mut_checked(part.len()) else { return false };
            to.copy_from_slice(part);
            rest = behind;
        }
        true
    }
}

/// The header of a row without a key that nothing names.
fn dead_row(stored_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    if let Some(word) = header.first_chunk_mut() {
        *word = (stored_bytes as u32).to_le_bytes();
    }
    header
}

/// A row, as it lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row<'a> {
    pub(super) key: &'a [u8],
    form: u32,
    stored: &'a [u8],
}

impl<'a> Row<'a> {
    /// The row that stands at the front.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        let (key_bytes, rest) = rest.split_first_chunk::<2>()?;
        let word = u32::from_le_bytes(*word);
        let form = word >> STORED_BITS;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
        let stored = rest.get(..word as usize & STORED_BYTES_MAX)?;
        Some(Self { key, form, stored })
    }

    /// Bytes that it takes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        row_bytes(self.key.len(), self.stored.len())
    }

    /// The same row, to be written elsewhere.
    pub(super) fn as_stored(&self) -> Stored<'a> {
        Stored { form: self.form, parts: [&[], &[], &[], self.stored] }
    }

    /// The value, from where it lies or from `scratch`; `None` if it can't be unpacked.
    #[inline]
    pub(super) fn value<'s>(&self, packer: &Packer, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        match self.form {
            0 => return Some(self.stored),
            BRIEF => {
                let (dot, value) = self.stored.split_first_chunk()?;
                scratch.clear();
                Brief { dot, operation: None, value }.record_into(scratch);
            }
            _ => self.rebuild(packer, scratch)?,
        }
        Some(scratch.as_slice())
    }

    #[inline(never)]
    fn rebuild(&self, packer: &Packer, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        let (brief, rest) = self.brief()?;
        if self.form & PACKED == 0 {
            Brief { value: rest, ..brief? }.record_into(out);
            return Some(());
        }
        let (plain_bytes, packed) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let plain_bytes = u32::from_le_bytes(*plain_bytes) as usize;
        if let Some(brief) = brief {
            brief.front_into(plain_bytes, out);
        }
        let dictionary = Some(packer.dictionary()).filter(|_| self.form & DICTIONARY != 0);
        unpack(packed, plain_bytes, dictionary, out)
    }

    /// The parts of a brief record without its value, if it is one, and what stands behind them.
    fn brief(&self) -> Option<(Option<Brief<'a>>, &'a [u8])> {
        if self.form & BRIEF == 0 {
            return Some((None, self.stored));
        }
        let (dot, mut rest) = self.stored.split_first_chunk()?;
        let mut operation = None;
        if self.form & OPERATION != 0 {
            let (id, behind) = rest.split_first_chunk()?;
            (operation, rest) = (Some(id), behind);
        }
        Some((Some(Brief { dot, operation, value: &[] }), rest))
    }
}

#[inline]
const fn row_bytes(key_bytes: usize, stored_bytes: usize) -> usize {
    (HEADER_BYTES + key_bytes + stored_bytes).next_multiple_of(UNIT_BYTES)
}
