//! The hot paths, on encoded bytes and without heap allocation.
//!
//! A GET peeks, a SET overwrites blindly, a replica joins: nearly always with one live version and
//! one to four entries. Each function checks the bytes once, takes the short way where the outcome
//! is plain, and otherwise falls back to decode, join and encode. The tests hold every one of them
//! against the plain way.
//!
//! Invariant: a fast path never answers anything else than the plain way would.

use super::bytes::dot_bytes;
use super::view::EncodedRecord;
use super::{DOT_BYTES, HEADER_BYTES, put_header, put_version, version_len};
use crate::dot::{Actor, Dot, HybridTime};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::teeth::{Bug, planted};
use crate::version::{Draft, Kind, Version};
use alloc::vec::Vec;
use core::ops::Range;

/// The version that GET looks at, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// The highest live dot.
    pub dot: Dot,
    /// What the bytes are.
    pub kind: Kind,
    /// Where the bytes lie in the encoded record; empty for a tombstone.
    pub value: Range<usize>,
    /// When it ends.
    pub expiry: Expiry,
    /// The id of the operation that wrote it.
    pub operation: Option<u64>,
    /// How many live versions the record has.
    pub live: usize,
}

impl Peek {
    /// Where the bytes that GET shows at `now_ms` lie; `None` for a tombstone and for what has
    /// expired.
    pub fn shown(&self, now_ms: u64) -> Option<Range<usize>> {
        let nil = self.kind == Kind::Tombstone || self.expiry.is_over(now_ms);
        (!nil).then(|| self.value.clone())
    }
}

/// Which bytes are the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The stored ones as they are; nothing was written to `out`.
    Unchanged,
    /// The incoming ones as they are; nothing was written to `out`.
    Incoming,
    /// Those that were appended to `out`.
    Merged,
}

/// What joining two encoded records came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedJoin {
    /// Which bytes are the join.
    pub outcome: JoinOutcome,
    /// Dots that were live in the stored record and that the incoming one did not cover,
    /// tombstones too, descending. Allocates nothing when there is none.
    pub uncovered: Vec<Dot>,
}

impl EncodedRecord<'_> {
    /// The version that GET looks at; `None` for a record without live versions.
    pub fn peek(self) -> Option<Peek> {
        let first = self.live().next()?;
        let before = DOT_BYTES * (self.entries().len() + self.exceptions().len());
        let end = HEADER_BYTES + before + version_len(&first);
        let len = first.value.map_or(0, <[u8]>::len);
        Some(Peek {
            dot: first.dot,
            kind: first.kind,
            value: end - len..end,
            expiry: first.expiry,
            operation: first.operation,
            live: self.live_len(),
        })
    }

    /// Whether both have the same live dots and registers: what equal fingerprints say, without a
    /// hash.
    pub fn same_versions(self, other: EncodedRecord<'_>) -> bool {
        let key = |version: Version<&[u8]>| (version.dot, version.expiry);
        self.as_bytes() == other.as_bytes() || self.live().map(key).eq(other.live().map(key))
    }

    /// Appends to `out` what [`Record::mint_blind`](crate::Record::mint_blind) would make of this:
    /// `draft` under `dot` over everything that is known here.
    ///
    /// # Errors
    /// [`Error::DotNotNew`]; nothing was appended then.
    pub fn overwrite<V: AsRef<[u8]>>(
        self,
        dot: Dot,
        draft: Draft<V>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let version = draft.at(dot);
        let entries = self.entries();
        let mut place = entries.len();
        let mut known = false;
        for (at, entry) in entries.into_iter().enumerate() {
            if entry.actor >= dot.actor {
                place = at;
                known = entry.actor == dot.actor;
                if known && dot.time <= entry.time {
                    return Err(Error::DotNotNew);
                }
                break;
            }
        }
        if dot.time == HybridTime::ZERO {
            return Err(Error::DotNotNew);
        }
        let count = entries.len() + usize::from(!known);
        let exceptions = self.exceptions();
        let dots = DOT_BYTES * (count + exceptions.len());
        out.reserve(HEADER_BYTES + dots + version_len(&version));
        put_header(out, 1, count, exceptions.len());
        let (before, rest) = entries.as_bytes().split_at(place * DOT_BYTES);
        let after = if known { rest.get(DOT_BYTES..).unwrap_or_default() } else { rest };
        out.extend_from_slice(before);
        out.extend_from_slice(&dot_bytes(dot));
        out.extend_from_slice(after);
        out.extend_from_slice(exceptions.as_bytes());
        put_version(out, place, &version);
        Ok(())
    }

    /// Joins the `incoming` record into this stored one. Only [`JoinOutcome::Merged`] appends to
    /// `out`; the other two name bytes that the caller has. Cannot fail: both are checked.
    pub fn join(self, incoming: EncodedRecord<'_>, out: &mut Vec<u8>) -> EncodedJoin {
        if self.as_bytes() == incoming.as_bytes() {
            return EncodedJoin { outcome: JoinOutcome::Unchanged, uncovered: Vec::new() };
        }
        if absorbs(incoming, self) {
            return EncodedJoin { outcome: JoinOutcome::Incoming, uncovered: Vec::new() };
        }
        if absorbs(self, incoming) {
            let dots = self.live().map(|version| version.dot);
            let uncovered = dots.filter(|dot| !incoming.covers(*dot)).collect();
            return EncodedJoin { outcome: JoinOutcome::Unchanged, uncovered };
        }
        let mut record = self.to_record();
        let joined = record.join(&incoming.to_record());
        if planted(Bug::RefuseJoinAtLimit) && record.live().len() > 4 {
            return EncodedJoin { outcome: JoinOutcome::Unchanged, uncovered: joined.uncovered };
        }
        record.encode_into(out);
        EncodedJoin { outcome: JoinOutcome::Merged, uncovered: joined.uncovered }
    }
}

/// [`EncodedRecord::peek`] of bytes that are not yet checked.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn peek(bytes: &[u8]) -> Result<Option<Peek>, Error> {
    EncodedRecord::parse(bytes).map(EncodedRecord::peek)
}

/// [`EncodedRecord::latest`] of bytes that are not yet checked.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn latest_of(bytes: &[u8]) -> Result<HybridTime, Error> {
    EncodedRecord::parse(bytes).map(EncodedRecord::latest)
}

/// [`EncodedRecord::covered_until`] of bytes that are not yet checked.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn covered_until(bytes: &[u8], actor: Actor) -> Result<HybridTime, Error> {
    EncodedRecord::parse(bytes).map(|record| record.covered_until(actor))
}

/// [`EncodedRecord::fingerprint`] of bytes that are not yet checked.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`]; nothing was fed then.
pub fn fingerprint_of(bytes: &[u8], sink: impl FnMut(&[u8])) -> Result<(), Error> {
    EncodedRecord::parse(bytes).map(|record| record.fingerprint(sink))
}

/// [`EncodedRecord::same_versions`] of bytes that are not yet checked, or of absences, which have
/// no versions.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn same_versions(a: Option<&[u8]>, b: Option<&[u8]>) -> Result<bool, Error> {
    let a = a.map(EncodedRecord::parse).transpose()?;
    if a.map(EncodedRecord::as_bytes) == b {
        return Ok(true);
    }
    let b = b.map(EncodedRecord::parse).transpose()?;
    Ok(match (a, b) {
        (Some(a), Some(b)) => a.same_versions(b),
        (one, other) => one.or(other).is_none_or(|record| record.live_len() == 0),
    })
}

/// [`EncodedRecord::overwrite`] of bytes that are not yet checked, or of nothing.
///
/// # Errors
/// [`Error::DotNotNew`], or what checking `existing` says; nothing was appended then.
pub fn blind_overwrite<V: AsRef<[u8]>>(
    existing: Option<&[u8]>,
    dot: Dot,
    draft: Draft<V>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match existing {
        Some(existing) => EncodedRecord::parse(existing)?.overwrite(dot, draft, out),
        None => EncodedRecord::EMPTY.overwrite(dot, draft, out),
    }
}

/// [`EncodedRecord::join`] of bytes that are not yet checked; `stored` is `None` when there is
/// nothing, and then the incoming bytes are the join.
///
/// # Errors
/// What checking either says; nothing was appended then.
pub fn join_encoded(
    stored: Option<&[u8]>,
    incoming: &[u8],
    out: &mut Vec<u8>,
) -> Result<EncodedJoin, Error> {
    let theirs = EncodedRecord::parse(incoming)?;
    let Some(stored) = stored else {
        return Ok(EncodedJoin { outcome: JoinOutcome::Incoming, uncovered: Vec::new() });
    };
    Ok(EncodedRecord::parse(stored)?.join(theirs, out))
}

/// So many siblings on each side are compared in place; more are sorted out the plain way.
const FEW_SIBLINGS: usize = 16;

/// Whether the join of the two is `big` as it is; may say no where it is. Exceptions and many
/// siblings go the plain way.
fn absorbs(big: EncodedRecord<'_>, small: EncodedRecord<'_>) -> bool {
    if !big.exceptions().is_empty() || !small.exceptions().is_empty() {
        return false;
    }
    if small.entries().len() > big.entries().len() {
        return false;
    }
    if big.live_len().max(small.live_len()) > FEW_SIBLINGS {
        return false;
    }
    if !small.entries().into_iter().all(|entry| big.under_vector(entry)) {
        return false;
    }
    big.live().all(|version| match small.find(version.dot) {
        Some(copy) => {
            let mut joined = version.clone();
            !joined.join(&copy)
        }
        None => !small.under_vector(version.dot),
    })
}
