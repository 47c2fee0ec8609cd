//! The encoded form of a record, on disk and on the wire. Version 1, little-endian:
//!
//! ```text
//! header      format u8 = 1 | zero [u8; 3] | live u32 | entries u32 | exceptions u32       16 B
//! entries     node u64 | tenure u64 | time u64, ascending by (node, tenure)        24 B each
//! exceptions  node u64 | tenure u64 | time u64, ascending by (time, node, tenure)  24 B each
//! live        descending by (time, node, tenure): the one that GET shows is first
//!   time u64 | entry u32 | value bytes u32 | kind u8 | flags u8 | zero u16                 20 B
//!   [stamp u64 | expires_at_ms u64]   flag 1: there is a register; flag 2: it has an end   16 B
//!   [operation u64]                   flag 4                                                8 B
//!   value
//! ```
//!
//! `entry` is the place of the version's actor among the entries. Fixed widths and the winner
//! first, because the hot paths ([`peek`], [`blind_overwrite`], [`join_encoded`]) work on these
//! bytes and build no record.
//!
//! Invariant: one record has one form. A decoder refuses every other, so equal records are equal
//! bytes.

mod brief;
pub(crate) mod bytes;
mod fast;
mod marked;
mod view;

pub use brief::Brief;
pub use marked::{MarkedJoin, MarkedOutcome, join_encoded_under};
pub use view::EncodedRecord;

pub use fast::{
    EncodedJoin, JoinOutcome, Peek, blind_overwrite, covered_until, fingerprint_of, join_encoded,
    latest_of, peek, same_versions,
};

use crate::context::Context;
use crate::dot::Dot;
use crate::error::Error;
use crate::expiry::Expiry;
use crate::record::Record;
use crate::vector::VersionVector;
use crate::version::Version;
use alloc::vec::Vec;
use bytes::{DOT_BYTES, put_dot, put_u32, u32_of};

pub(crate) const FORMAT: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const VERSION_BYTES: usize = 20;
pub(crate) const FLAG_REGISTER: u8 = 1;
pub(crate) const FLAG_END: u8 = 2;
pub(crate) const FLAG_OPERATION: u8 = 4;

impl<V: Clone + AsRef<[u8]>> Record<V> {
    /// How long the encoded form is, in bytes.
    pub fn encoded_len(&self) -> usize {
        let live: usize = self.live().iter().map(version_len).sum();
        HEADER_BYTES + coverage_len(self.coverage()) + live
    }

    /// Appends the encoded form to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let vector = self.coverage().vector();
        let exceptions = self.coverage().exceptions();
        out.reserve(self.encoded_len());
        put_header(out, self.live().len(), vector.len(), exceptions.len());
        for (actor, time) in vector.iter() {
            put_dot(out, Dot::new(actor, time));
        }
        for &dot in exceptions {
            put_dot(out, dot);
        }
        for version in self.live() {
            let entry = vector.index_of(version.dot.actor);
            assert!(entry.is_some(), "a live dot is covered");
            put_version(out, entry.unwrap_or_default(), version);
        }
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// The same record with its values held by something else.
    pub fn map<W>(self, mut hold: impl FnMut(V) -> W) -> Record<W> {
        let coverage = self.coverage().clone();
        let live = self.into_live().into_iter().map(|v| Version {
            dot: v.dot,
            kind: v.kind,
            value: v.value.map(&mut hold),
            expiry: v.expiry,
            operation: v.operation,
        });
        Record::from_checked(coverage, live.collect())
    }
}

impl<'a> Record<&'a [u8]> {
    /// Reads an encoded record; the values are borrowed. Memory is in proportion to the input.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        EncodedRecord::parse(bytes).map(EncodedRecord::to_record)
    }
}

impl<'a> EncodedRecord<'a> {
    /// The record; its values are borrowed.
    pub fn to_record(self) -> Record<&'a [u8]> {
        let vector = self.entries().map(|dot| (dot.actor, dot.time)).collect();
        let coverage = VersionVector::from_sorted(vector)
            .and_then(|vector| Context::from_sorted(vector, self.exceptions().collect()));
        assert!(coverage.is_some(), "the form was checked");
        let mut live = Vec::with_capacity(self.live_len());
        live.extend(self.live());
        Record::from_checked(coverage.unwrap_or_default(), live)
    }
}

pub(crate) fn coverage_len(coverage: &Context) -> usize {
    DOT_BYTES * (coverage.vector().len() + coverage.exceptions().len())
}

pub(crate) fn version_len<V: AsRef<[u8]>>(version: &Version<V>) -> usize {
    let value = version.value.as_ref().map_or(0, |value| value.as_ref().len());
    let register = if version.expiry == Expiry::NEVER { 0 } else { 16 };
    let operation = if version.operation.is_none() { 0 } else { 8 };
    VERSION_BYTES + register + operation + value
}

fn put_header(out: &mut Vec<u8>, live: usize, entries: usize, exceptions: usize) {
    out.extend_from_slice(&[FORMAT, 0, 0, 0]);
    put_u32(out, live);
    put_u32(out, entries);
    put_u32(out, exceptions);
}

fn put_version<V: AsRef<[u8]>>(out: &mut Vec<u8>, entry: usize, version: &Version<V>) {
    let value = version.value.as_ref().map_or(&[][..], AsRef::as_ref);
    let mut flags = 0;
    if version.expiry != Expiry::NEVER {
        flags |= FLAG_REGISTER;
    }
    if version.expiry.expires_at_ms.is_some() {
        flags |= FLAG_END;
    }
    if version.operation.is_some() {
        flags |= FLAG_OPERATION;
    }
    let mut head = [0; VERSION_BYTES];
    head[..8].copy_from_slice(&version.dot.time.to_bits().to_le_bytes());
    head[8..12].copy_from_slice(&u32_of(entry).to_le_bytes());
    head[12..16].copy_from_slice(&u32_of(value.len()).to_le_bytes());
    head[16] = version.kind.to_byte();
    head[17] = flags;
    out.extend_from_slice(&head);
    if flags & FLAG_REGISTER != 0 {
        out.extend_from_slice(&version.expiry.stamp.to_bits().to_le_bytes());
        out.extend_from_slice(&version.expiry.expires_at_ms.unwrap_or_default().to_le_bytes());
    }
    if let Some(operation) = version.operation {
        out.extend_from_slice(&operation.to_le_bytes());
    }
    out.extend_from_slice(value);
}
