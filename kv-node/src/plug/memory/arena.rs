//! Where the rows of the in-memory engine lie: one behind the other in chunks, so that a row costs
//! its bytes, a header of six, and what rounds it up to eight. (An allocation for each row costs a
//! fifth more, as allocators round sizes up, and sixteen bytes to name it instead of five.)
//!
//! A row is replaced in its place if the new one needs no more room; what is left over becomes a
//! row that nothing names. Else it is written anew and the old one is dead. A chunk of which a
//! third is dead is *sparse*: its owner moves the rest away and gives it back, which costs two
//! bytes moved for each that is won. What is larger than a quarter of a chunk has a chunk of its
//! own. (Rosenblum, Ousterhout, "The design and implementation of a log-structured file system",
//! 1992; Rumble et al., "Log-structured memory for DRAM-based storage", 2014.)
//!
//! Invariant: an address names a row until that row is freed, or its chunk is taken.

use super::row::{Row, Stored};

/// Bytes of a chunk that rows share.
const CHUNK_BYTES: usize = 64 << 10;
/// Rows begin at multiples of this.
pub(super) const UNIT_BYTES: usize = 8;
/// Bits of an address that say where in its chunk a row begins, in units.
const OFFSET_BITS: u32 = 13;
/// Bits of an address.
pub(super) const ADDRESS_BITS: u32 = 40;
/// Chunks at most: what the rest of an address can say. Each holds 16 KiB at least (one that is not
/// appended to): two tebibytes of them.
const CHUNKS_MAX: usize = (1 << (ADDRESS_BITS - OFFSET_BITS)) - 1;
/// A larger row has a chunk of its own.
const SHARED_ROW_BYTES_MAX: usize = CHUNK_BYTES / 4;
/// While less than this part of an arena is dead, it is not worth while to look for it: each chunk
/// that is moved wins half as large a part of itself at least.
const DEAD_PART_MIN: usize = 64;

const _: () = assert!(CHUNK_BYTES == UNIT_BYTES << OFFSET_BITS);

/// Where a row is: chunk, and offset in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) u64);

impl Address {
    /// The row at `offset` of chunk `chunk`.
    pub(super) const fn new(chunk: usize, offset: usize) -> Self {
        Self((chunk as u64) << OFFSET_BITS | (offset / UNIT_BYTES) as u64)
    }

    const fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    const fn offset(self) -> usize {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as usize * UNIT_BYTES
    }
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    dead_bytes: usize,
    /// Whether it is among those whose rows are to be moved.
    is_listed: bool,
}

/// The rows of one group of tables.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// Chunks without bytes.
    empty: Vec<usize>,
    /// Chunks whose rows are to be moved.
    listed: Vec<usize>,
    /// The chunk that rows are appended to.
    open: Option<usize>,
    /// Of all chunks.
    bytes: usize,
    dead_bytes: usize,
    /// The chunk at which the next search for dead bytes begins.
    hand: usize,
}

impl Arena {
    /// Bytes of rows, dead ones included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The row at an address.
    #[inline]
    pub(super) fn row(&self, at: Address) -> Row<'_> {
        let row = self.bytes_from(at).and_then(Row::parse);
        assert!(row.is_some(), "an address without a row");
        row.unwrap_or_default()
    }

    /// Reads a byte of each cache line that a small row lies in, and says nothing of them: so that
    /// they are on their way from memory.
    #[inline]
    pub(super) fn touch(&self, at: Address) -> u8 {
        let bytes = self.bytes_from(at).unwrap_or_default();
        [0, 64, 128].iter().fold(0, |sum, line| sum ^ bytes.get(*line).copied().unwrap_or(0))
    }

    #[inline]
    fn bytes_from(&self, at: Address) -> Option<&[u8]> {
        self.chunks.get(at.chunk())?.bytes.get(at.offset()..)
    }

    /// Adds a row.
    pub(super) fn push(&mut self, key: &[u8], stored: &Stored<'_>) -> Address {
        let size = stored.row_bytes(key);
        let is_shared = size <= SHARED_ROW_BYTES_MAX;
        let open = self.open.filter(|_| is_shared).filter(|open| {
            self.chunks.get(*open).is_some_and(|chunk| chunk.bytes.len() + size <= CHUNK_BYTES)
        });
        let number = open.unwrap_or_else(|| self.begin(if is_shared { CHUNK_BYTES } else { size }));
        if is_shared
            && self.open != Some(number)
            && let Some(closed) = self.open.replace(number)
        {
            self.list_if_sparse(closed);
        }
        let mut offset = 0;
        if let Some(chunk) = self.chunks.get_mut(number) {
            offset = chunk.bytes.len();
            stored.append_row(key, &mut chunk.bytes);
        }
        self.bytes += size;
        Address::new(number, offset)
    }

    /// Writes a row over another of the same key, if it needs no more room; says whether it did.
    pub(super) fn replace(&mut self, at: Address, key: &[u8], stored: &Stored<'_>) -> bool {
        let (size, room) = (stored.row_bytes(key), self.row(at).bytes());
        let left_over = room.saturating_sub(size);
        let number = at.chunk();
        let Some(chunk) = self.chunks.get_mut(number) else { return false };
        let place = chunk.bytes.get_mut(at.offset()..at.offset() + room);
        if !place.is_some_and(|place| stored.overwrite_row(key, place)) {
            return false;
        }
        if left_over > 0 {
            chunk.dead_bytes += left_over;
            self.dead_bytes += left_over;
            self.list_if_sparse(number);
        }
        true
    }

    /// The row is dead.
    pub(super) fn free(&mut self, at: Address) {
        let size = self.row(at).bytes();
        let number = at.chunk();
        let Some(chunk) = self.chunks.get_mut(number) else { return };
        chunk.dead_bytes += size;
        self.dead_bytes += size;
        if chunk.dead_bytes < chunk.bytes.len() || chunk.is_listed {
            self.list_if_sparse(number);
            return;
        }
        self.bytes -= chunk.bytes.len();
        self.dead_bytes -= chunk.dead_bytes;
        chunk.dead_bytes = 0;
        if self.open == Some(number) {
            chunk.bytes.clear();
        } else {
            chunk.bytes = Vec::new();
            self.empty.push(number);
        }
    }

    fn list_if_sparse(&mut self, number: usize) {
        if let Some(chunk) = self.chunks.get(number)
            && chunk.dead_bytes * 3 > chunk.bytes.len()
        {
            self.list(number);
        }
    }

    /// Rows are still appended to the open chunk: it is looked at when it is full.
    fn list(&mut self, number: usize) {
        if let Some(chunk) = self.chunks.get_mut(number)
            && !chunk.is_listed
            && self.open != Some(number)
        {
            chunk.is_listed = true;
            self.listed.push(number);
        }
    }

    /// Lists a chunk that is in part dead, if there is so much that the search does not take long;
    /// says whether it did.
    pub(super) fn list_next(&mut self) -> bool {
        if self.dead_bytes < self.bytes / DEAD_PART_MIN {
            return false;
        }
        let all = self.chunks.len();
        let found = (self.hand..all).chain(0..self.hand.min(all)).find(|number| {
            self.open != Some(*number)
                && self
                    .chunks
                    .get(*number)
                    .is_some_and(|chunk| chunk.dead_bytes > chunk.bytes.len() / (2 * DEAD_PART_MIN))
        });
        if let Some(number) = found {
            self.hand = number + 1;
            self.list(number);
        }
        found.is_some()
    }

    /// Takes a listed chunk out: its live rows are to be moved, and then it is to be given back.
    pub(super) fn take_listed(&mut self) -> Option<(usize, Vec<u8>)> {
        let number = self.listed.pop()?;
        let chunk = std::mem::take(self.chunks.get_mut(number)?);
        self.bytes -= chunk.bytes.len();
        self.dead_bytes -= chunk.dead_bytes;
        Some((number, chunk.bytes))
    }

    /// The rows of a chunk that was taken, dead ones too, with their offsets.
    pub(super) fn rows_of(bytes: &[u8]) -> impl Iterator<Item = (usize, Row<'_>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let row = Row::parse(bytes.get(at..)?)?;
            let offset = at;
            at += row.bytes();
            Some((offset, row))
        })
    }

    /// A chunk that was taken has no rows any more.
    pub(super) fn give_back(&mut self, number: usize) {
        self.empty.push(number);
    }

    /// A chunk with room.
    fn begin(&mut self, bytes: usize) -> usize {
        let number = self.empty.pop().unwrap_or_else(|| {
            assert!(self.chunks.len() < CHUNKS_MAX, "more rows than there is memory for");
            self.chunks.push(Chunk::default());
            self.chunks.len() - 1
        });
        if let Some(chunk) = self.chunks.get_mut(number) {
            chunk.bytes.reserve_exact(bytes);
        }
        number
    }
}
