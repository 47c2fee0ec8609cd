//! The frame: one group of batches in the log, and the only unit that is written or cut.
//!
//! ```text
//!  0       4        8            12      16          24         32             40
//!  | magic | crc32  | payload len | ops   | log number | first seq | synced offset | payload ...
//! ```
//! Little-endian; `magic` ends with the format version; the checksum covers everything behind
//! itself. A frame begins at a multiple of 512 bytes, so that a torn write never touches a sector
//! of an earlier frame, and so that a reader can look for frames behind a bad one. The *synced
//! offset* (Pebble's sync chunk, surrealkv's sync mark) says how far this segment was known to be
//! synced when the frame was written: a bad frame below it is damage, never a torn tail. The log
//! number (RocksDB's recyclable record) tells the frames of this life of the file from older ones.
//!
//! Payload: operations, each `kind u8, key length u32, value length u32, key, value`. A frame
//! without operations is a *mark*: it carries the synced offset only.
//!
//! Invariant: the sequence of a frame's first operation is that of the last operation before it
//! plus one.

use bytes::Bytes;

/// Frames begin at multiples of this, in bytes.
pub(crate) const FRAME_ALIGN_BYTES: u64 = 512;
/// Size of the header, in bytes.
pub(crate) const HEADER_BYTES: usize = 40;
/// Size of what precedes the key of an operation, in bytes.
pub(crate) const OP_HEADER_BYTES: usize = 9;

const MAGIC: u32 = u32::from_le_bytes(*b"KVW\x01");
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
    /// Bytes that the frame takes in the segment, padding included.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize)
    }
}

/// Bytes that a frame with such a payload takes, padding included.
pub(crate) fn frame_bytes(payload_bytes: usize) -> u64 {
    ((HEADER_BYTES + payload_bytes) as u64).next_multiple_of(FRAME_ALIGN_BYTES)
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
    if take_u32(&mut rest)? != MAGIC {
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

/// The format version at the start of a segment, if it is one that this crate does not know.
pub(crate) fn foreign_version(segment: &[u8]) -> Option<u32> {
    let (head, _) = segment.split_first_chunk::<4>()?;
    let ([name @ .., version], [our_name @ .., our_version]) = (*head, MAGIC.to_le_bytes());
    (name == our_name && version != our_version).then(|| u32::from(version))
}

/// Appends one operation to a payload. No value means that the key is deleted.
///
/// Lengths above `u32::MAX` must have been refused.
pub(crate) fn push_op(payload: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    let bytes = value.unwrap_or_default();
    payload.reserve(OP_HEADER_BYTES + key.len() + bytes.len());
    payload.push(if value.is_some() { KIND_PUT } else { KIND_DELETE });
    payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
    payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(bytes);
}

/// The operations of a payload, as slices that share its memory.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(payload: &'a Bytes) -> Self {
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
        Ok(Op { bytes: self.payload.slice(key_at..end), key_bytes, is_put })
    }
}

/// One operation: the key, and the value that follows it, as one slice of the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Op {
    bytes: Bytes,
    key_bytes: usize,
    is_put: bool,
}

impl Op {
    /// The key.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_bytes).unwrap_or_default()
    }

    /// The key, sharing the payload's memory.
    pub(crate) fn key_bytes(&self) -> Bytes {
        self.bytes.slice(..self.key_bytes)
    }

    /// The value, sharing the payload's memory; `None` for a deletion.
    #[inline]
    pub(crate) fn value(&self) -> Option<Bytes> {
        self.is_put.then(|| self.bytes.slice(self.key_bytes..))
    }
}

/// A payload whose checksum holds and whose content does not: written wrongly, or forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadOp;

impl Iterator for Ops<'_> {
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
        let ops: Vec<_> =
            Ops::new(&payload).map(Result::unwrap).map(|op| (op.key_bytes(), op.value())).collect();
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
    fn a_payload_that_is_no_list_of_operations_ends_with_an_error() {
        for bad in [&b"\x01\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x03\0\0\0\0\0\0\0\0", b"\x01"]
        {
            let payload = Bytes::copy_from_slice(bad);
            let ops: Vec<_> = Ops::new(&payload).collect();
            assert_eq!(ops, [Err(BadOp)], "{bad:?}");
        }
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
            &b"KVW\x01"[..],
            &crc32fast::hash(&frame[8..]).to_le_bytes(),
            &[11, 0, 0, 0, 1, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 1, 0, 0, 0, b'k', b'v'],
        ]
        .concat();
        assert_eq!(frame, expected);
    }
}
