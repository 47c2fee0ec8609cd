//! The frame: one group of batches in the log, and the only unit that is written or cut.
//!
//! ```text
//!  0       4        8            12      16          24         32             40
//!  | magic | crc32  | payload len | ops   | log number | first seq | synced offset | payload ...
//! ```
//! Little-endian; `magic` ends with the format version; the checksum covers everything behind
//! itself. A frame that follows synced ones begins at a multiple of 512 bytes, so that a torn write
//! never touches a sector that somebody counts on. Frames that follow unsynced ones stand directly
//! behind them: a small batch that waits for no sync takes the bytes that it has, not a sector. In
//! each stretch of 32 KiB the first frame begins at such a multiple too, so that a reader that
//! looks for frames behind a bad one finds one soon. The *synced offset* (Pebble's sync chunk,
//! surrealkv's sync mark), a multiple of 512, says how far this segment was known to be synced when
//! the frame was written: a bad frame below it is damage, never a torn tail. The log number
//! (RocksDB's recyclable record) tells the frames of this life of the file from older ones.
//!
//! ```text
//! | 0xF7 | crc32 | payload len varint | ops varint | payload ...
//! ```
//! A frame that stands directly behind another one of its segment is written short: log number and
//! first sequence follow from that one, and are under the checksum with the offset. So a batch of
//! one small pair costs eight bytes and not forty.
//!
//! Version 1 had every frame at a multiple of 512 bytes; it is read as well.
//!
//! Payload: operations, each `kind u8, key length u32, value length u32, key, value`. A frame
//! without operations is a *mark*: it carries the synced offset only.
//!
//! Invariant: the sequence of a frame's first operation is that of the last operation before it
//! plus one.

use bytes::{Buf, Bytes};

use crate::codec::{put_varint, take_varint};

/// Frames behind synced ones begin at multiples of this, in bytes.
pub(crate) const FRAME_ALIGN_BYTES: u64 = 512;
/// The first frame that begins in each stretch of so many bytes is aligned, too.
pub(crate) const STRETCH_BYTES: u64 = 32 << 10;
/// Size of the header, in bytes.
pub(crate) const HEADER_BYTES: usize = 40;
/// Size of what precedes the key of an operation, in bytes.
pub(crate) const OP_HEADER_BYTES: usize = 9;

const MAGIC: u32 = u32::from_le_bytes(*b"KVW\x02");
const MAGIC_1: u32 = u32::from_le_bytes(*b"KVW\x01");
const KIND_PUT: u8 = 1;
const KIND_DELETE: u8 = 2;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_bytes: u32,
    pub(crate) ops: u32,
    pub(crate) log_number: u64,
    pub(crate) first_seq: u64,
    pub(crate) synced_offset: u64,
}

impl Header {
    /// Bytes that the frame takes in the segment.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize)
    }
}

/// Bytes that a frame with such a payload takes.
pub(crate) fn frame_bytes(payload_bytes: usize) -> u64 {
    (HEADER_BYTES + payload_bytes) as u64
}

/// The first place at or behind `offset` at which an aligned frame may begin.
pub(crate) fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(FRAME_ALIGN_BYTES)
}

/// Fills in the header of `frame`, whose payload is in place behind [`HEADER_BYTES`] of room.
pub(crate) fn seal(frame: &mut [u8], header: &Header) {
    assert!(frame.len() == HEADER_BYTES + header.payload_bytes as usize, "frame length");
    let mut head = [0; HEADER_BYTES];
    let fields: [&[u8]; 7] = [
        &MAGIC.to_le_bytes(),
        &[0; 4],
        &header.payload_bytes.to_le_bytes(),
        &header.ops.to_le_bytes(),
        &header.log_number.to_le_bytes(),
        &header.first_seq.to_le_bytes(),
        &header.synced_offset.to_le_bytes(),
    ];
    let mut at = 0;
    for field in fields {
        if let Some(to) = head.get_mut(at..at + field.len()) {
            to.copy_from_slice(field);
        }
        at += field.len();
    }
    if let Some(to) = frame.get_mut(..HEADER_BYTES) {
        to.copy_from_slice(&head);
    }
    let crc = crc32fast::hash(frame.get(8..).unwrap_or_default());
    if let Some(to) = frame.get_mut(4..8) {
        to.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads the frame at the start of `bytes`. `None`: there is no whole frame of `log_number` there
/// (zeros, a torn or damaged frame, or one of another life of the file).
pub(crate) fn open(bytes: &[u8], log_number: u64) -> Option<(Header, &[u8])> {
    let mut rest = bytes;
    if !matches!(take_u32(&mut rest)?, MAGIC | MAGIC_1) {
        return None;
    }
    let crc = take_u32(&mut rest)?;
    let covered = rest;
    let header = Header {
        payload_bytes: take_u32(&mut rest)?,
        ops: take_u32(&mut rest)?,
        log_number: take_u64(&mut rest)?,
        first_seq: take_u64(&mut rest)?,
        synced_offset: take_u64(&mut rest)?,
    };
    if header.log_number != log_number {
        return None;
    }
    let payload = rest.get(..header.payload_bytes as usize)?;
    let covered = covered.get(..HEADER_BYTES - 8 + payload.len())?;
    (crc32fast::hash(covered) == crc).then_some((header, payload))
}

/// What a short frame begins with.
const FOLLOWS: u8 = 0xF7;

/// Fills in a short header before the payload of `frame`, which is in place behind
/// [`HEADER_BYTES`] of room; gives where in `frame` it begins. It will stand at `offset`.
pub(crate) fn seal_short(frame: &mut [u8], header: &Header, offset: u64) -> usize {
    let mut numbers = Vec::with_capacity(12);
    put_varint(&mut numbers, u64::from(header.payload_bytes));
    put_varint(&mut numbers, u64::from(header.ops));
    let start = HEADER_BYTES - 5 - numbers.len();
    if let Some(to) = frame.get_mut(start + 5..HEADER_BYTES) {
        to.copy_from_slice(&numbers);
    }
    let covered = frame.get(start + 5..).unwrap_or_default();
    let crc = short_crc(header.log_number, header.first_seq, offset, covered);
    if let Some([kind, sum @ ..]) = frame.get_mut(start..start + 5) {
        *kind = FOLLOWS;
        sum.copy_from_slice(&crc.to_le_bytes());
    }
    start
}

/// Reads the short frame at the start of `bytes`, which stands at `offset` behind a frame whose
/// next sequence would be `first_seq`: operations, payload, and its length.
pub(crate) fn open_short(
    bytes: &[u8],
    log_number: u64,
    first_seq: u64,
    offset: u64,
) -> Option<(u32, &[u8], u64)> {
    let (&kind, mut rest) = bytes.split_first()?;
    if kind != FOLLOWS {
        return None;
    }
    let crc = take_u32(&mut rest)?;
    let covered = rest;
    let payload_bytes = usize::try_from(take_varint(&mut rest)?).ok()?;
    let ops = u32::try_from(take_varint(&mut rest)?).ok()?;
    let payload = rest.get(..payload_bytes)?;
    let covered = covered.get(..covered.len() - rest.len() + payload_bytes)?;
    let good = short_crc(log_number, first_seq, offset, covered) == crc;
    good.then_some((ops, payload, 5 + covered.len() as u64))
}

fn short_crc(log_number: u64, first_seq: u64, offset: u64, covered: &[u8]) -> u32 {
    let mut implied = [0; 24];
    for (to, number) in
        implied.as_chunks_mut::<8>().0.iter_mut().zip([log_number, first_seq, offset])
    {
        *to = number.to_le_bytes();
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&implied);
    crc.update(covered);
    crc.finalize()
}

/// The format version at the start of a segment, if it is one that this crate does not know.
pub(crate) fn foreign_version(segment: &[u8]) -> Option<u32> {
    let (head, _) = segment.split_first_chunk::<4>()?;
    let ([name @ .., version], [our_name @ .., our_version]) = (*head, MAGIC.to_le_bytes());
    let is_ours = (1..=our_version).contains(&version);
    (name == our_name && !is_ours).then(|| u32::from(version))
}

/// Appends one operation to a payload. No value means that the key is deleted.
///
/// Lengths above `u32::MAX` must have been refused.
pub(crate) fn push_op(payload: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    push_op_behind(payload, &[], key, value);
}

/// As [`push_op`], of the key that is `prefix` and `key`.
#[inline]
pub(crate) fn push_op_behind(
    payload: &mut Vec<u8>,
    prefix: &[u8],
    key: &[u8],
    value: Option<&[u8]>,
) {
    let bytes = value.unwrap_or_default();
    let key_bytes = prefix.len() + key.len();
    payload.reserve(OP_HEADER_BYTES + key_bytes + bytes.len());
    payload.push(if value.is_some() { KIND_PUT } else { KIND_DELETE });
    payload.extend_from_slice(&(key_bytes as u32).to_le_bytes());
    payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    payload.extend_from_slice(prefix);
    payload.extend_from_slice(key);
    payload.extend_from_slice(bytes);
}

/// The operations of a payload, as slices that share its memory.
#[derive(Debug)]
pub(crate) struct Ops {
    payload: Bytes,
    at: usize,
}

impl Ops {
    pub(crate) fn new(payload: Bytes) -> Self {
        Self { payload, at: 0 }
    }

    /// The next operation; `Err` when the rest is not one.
    fn parse(&mut self) -> Result<Op, BadOp> {
        let mut rest = self.payload.get(self.at..).ok_or(BadOp)?;
        let (&kind, tail) = rest.split_first().ok_or(BadOp)?;
        rest = tail;
        let key_bytes = take_u32(&mut rest).ok_or(BadOp)? as usize;
        let value_bytes = take_u32(&mut rest).ok_or(BadOp)? as usize;
        let key_at = self.at + OP_HEADER_BYTES;
        let value_at = key_at.checked_add(key_bytes).ok_or(BadOp)?;
        let end = value_at.checked_add(value_bytes).ok_or(BadOp)?;
        if end > self.payload.len() {
            return Err(BadOp);
        }
        self.at = end;
        let is_put = match kind {
            KIND_PUT => true,
            KIND_DELETE if value_bytes == 0 => false,
            _ => return Err(BadOp),
        };
        let bytes = if end == self.payload.len() {
            // The last, often the only one, takes the payload itself: a share of it would cost an
            // allocation.
            let mut bytes = std::mem::take(&mut self.payload);
            self.at = 0;
            bytes.advance(key_at);
            bytes
        } else {
            self.payload.slice(key_at..end)
        };
        Ok(Op { bytes, key_bytes: key_bytes as u32, is_put })
    }
}

/// One operation: the key, and the value that follows it, as one slice of the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Op {
    bytes: Bytes,
    /// In the width that it has in the log, as the memtable holds many of these.
    key_bytes: u32,
    is_put: bool,
}

impl Op {
    /// The key.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_bytes as usize).unwrap_or_default()
    }

    /// The key, sharing the payload's memory.
    pub(crate) fn key_bytes(&self) -> Bytes {
        self.bytes.slice(..self.key_bytes as usize)
    }

    /// The value; `None` for a deletion.
    #[inline]
    pub(crate) fn value_slice(&self) -> Option<&[u8]> {
        self.is_put.then(|| self.bytes.get(self.key_bytes as usize..).unwrap_or_default())
    }

    /// The value, sharing the payload's memory; `None` for a deletion.
    #[inline]
    pub(crate) fn value(&self) -> Option<Bytes> {
        self.is_put.then(|| self.bytes.slice(self.key_bytes as usize..))
    }
}

/// A payload whose checksum holds and whose content does not: written wrongly, or forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadOp;

impl Iterator for Ops {
    type Item = Result<Op, BadOp>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let op = self.parse();
        if op.is_err() {
            self.at = self.payload.len();
        }
        Some(op)
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Header) {
        let mut frame = vec![0; HEADER_BYTES];
        push_op(&mut frame, b"key", Some(b"value"));
        push_op(&mut frame, b"gone", None);
        push_op(&mut frame, b"", Some(b""));
        let header = Header {
            payload_bytes: (frame.len() - HEADER_BYTES) as u32,
            ops: 3,
            log_number: 7,
            first_seq: 100,
            synced_offset: 4096,
        };
        seal(&mut frame, &header);
        (frame, header)
    }

    #[test]
    fn what_was_sealed_is_read_back() {
        let (frame, header) = sample();
        let (read, payload) = open(&frame, 7).unwrap();
        assert_eq!(read, header);
        let payload = Bytes::copy_from_slice(payload);
        let ops: Vec<_> = Ops::new(payload.clone())
            .map(Result::unwrap)
            .map(|op| (op.key_bytes(), op.value()))
            .collect();
        assert_eq!(ops[0], (Bytes::from("key"), Some(Bytes::from("value"))));
        assert_eq!(ops[1], (Bytes::from("gone"), None));
        assert_eq!(ops[2], (Bytes::new(), Some(Bytes::new())));
    }

    #[test]
    fn every_flipped_bit_every_cut_and_another_log_number_are_seen() {
        let (frame, _) = sample();
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&bad, 7), None, "bit {bit}");
        }
        for len in 0..frame.len() {
            assert_eq!(open(&frame[..len], 7), None, "cut to {len}");
        }
        assert_eq!(open(&frame, 8), None);
        assert_eq!(open(&[0; 4096], 0), None);
    }

    #[test]
    fn a_short_frame_is_read_only_where_it_was_written() {
        let (mut frame, header) = sample();
        let start = seal_short(&mut frame, &header, 1000);
        assert_eq!(start, HEADER_BYTES - 7);
        let short = &frame[start..];
        let (ops, payload, bytes) = open_short(short, 7, 100, 1000).unwrap();
        assert_eq!((ops, payload, bytes), (3, &frame[HEADER_BYTES..], short.len() as u64));
        for (log_number, first_seq, offset) in [(8, 100, 1000), (7, 101, 1000), (7, 100, 1001)] {
            assert_eq!(open_short(short, log_number, first_seq, offset), None);
        }
        for bit in 0..short.len() * 8 {
            let mut bad = short.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_short(&bad, 7, 100, 1000), None, "bit {bit}");
        }
        for len in 0..short.len() {
            assert_eq!(open_short(&short[..len], 7, 100, 1000), None, "cut to {len}");
        }
    }

    #[test]
    fn a_payload_that_is_no_list_of_operations_ends_with_an_error() {
        for bad in [&b"\x01\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x03\0\0\0\0\0\0\0\0", b"\x01"]
        {
            let payload = Bytes::copy_from_slice(bad);
            let ops: Vec<_> = Ops::new(payload.clone()).collect();
            assert_eq!(ops, [Err(BadOp)], "{bad:?}");
        }
    }

    #[test]
    fn frames_of_version_1_are_read() {
        let (mut frame, header) = sample();
        frame[3] = 1;
        assert_eq!(open(&frame, 7).unwrap().0, header);
        assert_eq!(foreign_version(&frame), None);
        frame[3] = 3;
        assert_eq!((open(&frame, 7), foreign_version(&frame)), (None, Some(3)));
    }

    /// The bytes on disk, pinned: a change here is a change of the format.
    #[test]
    fn the_format_is_pinned() {
        let mut frame = vec![0; HEADER_BYTES];
        push_op(&mut frame, b"k", Some(b"v"));
        let header =
            Header { payload_bytes: 11, ops: 1, log_number: 2, first_seq: 3, synced_offset: 512 };
        seal(&mut frame, &header);
        let expected = [
            &b"KVW\x02"[..],
            &crc32fast::hash(&frame[8..]).to_le_bytes(),
            &[11, 0, 0, 0, 1, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 1, 0, 0, 0, b'k', b'v'],
        ]
        .concat();
        assert_eq!(frame, expected);
    }
}
