//! Bytes in and out: fixed-width big-endian identities, LEB128 numbers, lengths before contents.
//!
//! Written by hand, so that the format is what this crate's [`message`](crate::message) says and
//! nothing a serializer does. Invariants: the reader allocates nothing and never looks beyond its
//! slice; a number has one encoding only; the writer never exceeds its limit, and an item that does
//! not fit leaves no trace.

use alloc::vec::Vec;

use crate::Error;
use crate::identity::NodeCode;

/// The longest packet that is accepted, and the longest that may be configured: UDP's payload.
pub const PACKET_BYTES_LIMIT: usize = 65_507;

/// The shortest `packet_bytes_max`: the longest header and the longest account of a member fit.
pub const PACKET_BYTES_MIN: usize = 1_024;

/// What a packet with one fact needs beside the fact's bytes.
pub(crate) const PACKET_OVERHEAD_BYTES_MAX: usize = 512;

/// The highest incarnation and the highest version of a fact: one more never overflows. Whoever is
/// believed and names this of a member keeps it from refuting; nobody gets there by counting.
pub(crate) const COUNTER_MAX: u64 = u64::MAX >> 1;

/// Takes fields off the front of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*head))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    pub(crate) fn node<N: NodeCode>(&mut self) -> Result<N, Error> {
        N::from_code(self.u64()?).ok_or(Error::Malformed { field: "node" })
    }

    /// A LEB128 number: at most ten bytes, no needless zero at its end.
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if (shift == 63 && part > 1) || (byte == 0 && shift > 0) {
                return Err(Error::Malformed { field: "number" });
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Malformed { field: "number" })
    }

    /// An incarnation or a version: at most [`COUNTER_MAX`].
    pub(crate) fn counter(&mut self) -> Result<u64, Error> {
        let value = self.varint()?;
        if value > COUNTER_MAX {
            return Err(Error::Malformed { field: "counter" });
        }
        Ok(value)
    }
}

/// Puts fields behind each other, up to a limit.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Writer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes_max.min(256)), bytes_max }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn node<N: NodeCode>(&mut self, node: N) {
        self.u64(node.code());
    }

    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Lets at most `more` bytes follow.
    pub(crate) fn limit_to(&mut self, more: usize) {
        self.bytes_max = self.bytes_max.min(self.bytes.len().saturating_add(more));
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }

    /// Writes one item, or nothing at all when it does not fit into `bytes_max` more bytes or
    /// into the packet. The number of bytes written, if they were.
    pub(crate) fn item(
        &mut self,
        bytes_max: usize,
        write: impl FnOnce(&mut Self),
    ) -> Option<usize> {
        let before = self.bytes.len();
        let room = self.room().min(bytes_max);
        write(self);
        let written = self.bytes.len() - before;
        if written > room {
            self.bytes.truncate(before);
            return None;
        }
        Some(written)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        assert!(self.bytes.len() <= self.bytes_max, "a packet is never longer than its limit");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_and_has_one_encoding() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), COUNTER_MAX, u64::MAX] {
            let mut writer = Writer::new(64);
            writer.varint(value);
            let bytes = writer.finish();
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        }
        let malformed = Err(Error::Malformed { field: "number" });
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), malformed);
        assert_eq!(Reader::new(&[0xff; 10]).varint(), malformed);
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Error::Truncated));
    }

    #[test]
    fn an_item_that_does_not_fit_leaves_no_trace() {
        let mut writer = Writer::new(10);
        assert_eq!(writer.item(100, |w| w.slice(&[1; 8])), Some(8));
        assert_eq!(writer.item(100, |w| w.slice(&[2; 3])), None);
        assert_eq!(writer.item(1, |w| w.slice(&[2; 2])), None);
        assert_eq!(writer.finish(), [1; 8]);
    }
}
