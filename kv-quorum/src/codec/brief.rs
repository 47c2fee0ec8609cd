//! The brief form of the records that most keys have: one string, written by the only actor that is
//! covered, without a register. 36 of the 60 bytes around its value follow from the rest, so a
//! store that counts bytes can leave them out and put them back.
//!
//! ```text
//! record  header 16 B | node, tenure, time 24 B | time, entry, value bytes, kind, flags 20 B
//!         | [operation 8 B] | value
//! brief   node, tenure, time 24 B | [operation 8 B] | value
//! ```
//!
//! Invariant: what [`Brief::of`] takes, [`Brief::record_into`] gives back byte for byte.

use super::bytes::{DOT_BYTES, u32_of};
use super::{FLAG_OPERATION, FORMAT, HEADER_BYTES, VERSION_BYTES};
use crate::version::Kind;
use alloc::vec::Vec;

const OPERATION_BYTES: usize = 8;
/// Where the only version begins, behind the only entry.
const VERSION_AT: usize = HEADER_BYTES + DOT_BYTES;
const FRONT_BYTES: usize = VERSION_AT + VERSION_BYTES;

/// A record of one string by one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief<'a> {
    /// Actor and time, as they are encoded.
    pub dot: &'a [u8; DOT_BYTES],
    /// The operation's id, if the version has one.
    pub operation: Option<&'a [u8; OPERATION_BYTES]>,
    /// The string.
    pub value: &'a [u8],
}

impl<'a> Brief<'a> {
    /// The parts of an encoded record; `None` for one that has no brief form. Looks at 60 bytes.
    #[inline]
    pub fn of(record: &'a [u8]) -> Option<Self> {
        let (header, rest) = record.split_first_chunk::<HEADER_BYTES>()?;
        let (dot, rest) = rest.split_first_chunk::<DOT_BYTES>()?;
        let (version, rest) = rest.split_first_chunk::<VERSION_BYTES>()?;
        let (operation, value) = if version[17] == FLAG_OPERATION {
            let (operation, value) = rest.split_first_chunk::<OPERATION_BYTES>()?;
            (Some(operation), value)
        } else {
            (None, rest)
        };
        u32::try_from(value.len()).ok()?;
        let brief = Self { dot, operation, value };
        (*header == HEADER && brief.has_version(version)).then_some(brief)
    }

    /// Appends the record.
    #[inline]
    pub fn record_into(&self, out: &mut Vec<u8>) {
        self.front_into(self.value.len(), out);
        out.extend_from_slice(self.value);
    }

    /// Appends what stands in front of a value of so many bytes, which has its place in the record
    /// then; makes room for both.
    #[inline]
    pub fn front_into(&self, value_bytes: usize, out: &mut Vec<u8>) {
        // Put together apart: so the buffer's room is looked at twice, and not six times.
        let mut front = [0; FRONT_BYTES];
        front[..HEADER_BYTES].copy_from_slice(&HEADER);
        front[HEADER_BYTES..VERSION_AT].copy_from_slice(self.dot);
        front[VERSION_AT..VERSION_AT + 8].copy_from_slice(&self.dot[DOT_BYTES - 8..]);
        // Behind the entry's place, which is 0.
        front[VERSION_AT + 12..VERSION_AT + 16].copy_from_slice(&u32_of(value_bytes).to_le_bytes());
        front[VERSION_AT + 16..].copy_from_slice(&self.kind_and_flags());
        out.reserve(front.len() + OPERATION_BYTES + value_bytes);
        out.extend_from_slice(&front);
        if let Some(operation) = self.operation {
            out.extend_from_slice(operation);
        }
    }

    /// Kind, flags, and two bytes that are zero.
    #[inline]
    fn kind_and_flags(&self) -> [u8; 4] {
        let flags = if self.operation.is_some() { FLAG_OPERATION } else { 0 };
        [Kind::String.to_byte(), flags, 0, 0]
    }

    /// Whether `version` is what stands between the entry and the value.
    #[inline]
    fn has_version(&self, version: &[u8; VERSION_BYTES]) -> bool {
        version[..8] == self.dot[DOT_BYTES - 8..]
            && version[8..12] == [0; 4]
            && version[12..16] == u32_of(self.value.len()).to_le_bytes()
            && version[16..] == self.kind_and_flags()
    }
}

/// One live version, one entry, no exceptions.
const HEADER: [u8; HEADER_BYTES] = [FORMAT, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Dot, Draft, HybridTime, blind_overwrite};

    fn record(operation: Option<u64>, over: Option<&[u8]>, actor: u64, value: &[u8]) -> Vec<u8> {
        let dot = Dot::new(Actor::new(actor, 8), HybridTime::new(1_000 * actor, 3));
        let mut out = Vec::new();
        blind_overwrite(over, dot, Draft::string(value).by_operation(operation), &mut out).unwrap();
        out
    }

    #[test]
    fn the_record_comes_back_byte_for_byte() {
        for operation in [None, Some(77)] {
            for value in [&b""[..], b"a value"] {
                let record = record(operation, None, 7, value);
                let brief = Brief::of(&record).unwrap();
                assert_eq!(brief.value, value);
                assert_eq!(brief.operation.is_some(), operation.is_some());
                let mut again = b"before".to_vec();
                brief.record_into(&mut again);
                assert_eq!(again, [&b"before"[..], &record].concat());
            }
        }
    }

    #[test]
    fn what_is_not_as_brief_has_no_brief_form() {
        let one = record(None, None, 7, b"x");
        assert_eq!(Brief::of(&record(None, Some(&one), 9, b"y")), None, "two entries");
        for at in (0..HEADER_BYTES).chain(HEADER_BYTES + DOT_BYTES..one.len() - 1) {
            let mut other = one.clone();
            other[at] ^= 0x40;
            assert_eq!(Brief::of(&other), None, "byte {at}");
        }
        for len in 0..one.len() {
            assert_eq!(Brief::of(&one[..len]), None, "{len} bytes");
        }
        assert_eq!(Brief::of(&[&one[..], b"z"].concat()), None);
    }
}
