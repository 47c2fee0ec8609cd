//! The hot paths, on encoded bytes and without heap allocation.
//!
//! A GET peeks, a SET overwrites blindly, a replica joins: nearly always with one live version and
//! one to four entries. Each function checks the bytes once, takes the short way where the outcome
//! is plain, and otherwise falls back to decode, join and encode. The tests hold every one of them
//! against the plain way.
//!
//! Invariant: a fast path never answers anything else than the plain way would.

use super::bytes::{dot_bytes, put_dot};
use super::view::RecordView;
use super::{DOT_BYTES, HEADER_BYTES, Record, put_header, put_version, version_len};
use crate::dot::{Actor, Dot, HybridTime};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::record::fingerprint_chunk;
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

/// The version that GET looks at; `None` for a record without live versions. Checks all the bytes.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn peek(bytes: &[u8]) -> Result<Option<Peek>, Error> {
    let view = RecordView::parse(bytes)?;
    let Some(first) = view.live().next() else { return Ok(None) };
    let start = HEADER_BYTES + DOT_BYTES * (view.entries().len() + view.exceptions().len());
    let len = first.value.map_or(0, <[u8]>::len);
    let end = start + version_len(&first);
    Ok(Some(Peek {
        dot: first.dot,
        kind: first.kind,
        value: end - len..end,
        expiry: first.expiry,
        operation: first.operation,
        live: view.live_count(),
    }))
}

/// The latest time that the record covers, of any actor: what a clock is shown before it mints
/// over the record ([`HybridTime::observe`]). Zero for a record that covers nothing.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn latest_of(bytes: &[u8]) -> Result<HybridTime, Error> {
    let entries = RecordView::parse(bytes)?.entries();
    Ok(entries.into_iter().map(|entry| entry.time).max().unwrap_or(HybridTime::ZERO))
}

/// Feeds `sink` what [`Record::fingerprint`] feeds it for the same record.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`]; nothing was fed then.
pub fn fingerprint_of(bytes: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), Error> {
    for version in RecordView::parse(bytes)?.live() {
        sink(&fingerprint_chunk(version.dot, version.expiry));
    }
    Ok(())
}

/// Up to which time an encoded record's vector covers the dots of `actor`; zero for none of them. A
/// replica that is shown more dots of its own tenure than it holds has forgotten some.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn covered_until(bytes: &[u8], actor: Actor) -> Result<HybridTime, Error> {
    let mut entries = RecordView::parse(bytes)?.entries().into_iter();
    let entry = entries.find(|entry| entry.actor == actor);
    Ok(entry.map_or(HybridTime::ZERO, |entry| entry.time))
}

/// Whether two encoded records, or absences, have the same live dots and registers: what equal
/// fingerprints say, without a hash.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
pub fn same_versions(a: Option<&[u8]>, b: Option<&[u8]>) -> Result<bool, Error> {
    let parse = |bytes: Option<_>| bytes.map(RecordView::parse).transpose();
    let first = parse(a)?;
    if a == b {
        return Ok(true);
    }
    let (a, b) = (first, parse(b)?);
    let key = |version: Version<&[u8]>| (version.dot, version.expiry);
    let a = a.into_iter().flat_map(|view| view.live().map(key));
    let b = b.into_iter().flat_map(|view| view.live().map(key));
    Ok(a.eq(b))
}

/// Appends to `out` the record that [`Record::mint_blind`] would make of `existing`: `draft`
/// under `dot` over everything that is known.
///
/// # Errors
/// [`Error::DotNotNew`], or what decoding `existing` says; nothing was appended then.
pub fn blind_overwrite<V: AsRef<[u8]>>(
    existing: Option<&[u8]>,
    dot: Dot,
    draft: Draft<V>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let version = draft.at(dot);
    let own = version_len(&version);
    let Some(existing) = existing else {
        if dot.time == HybridTime::ZERO {
            return Err(Error::DotNotNew);
        }
        out.reserve(HEADER_BYTES + DOT_BYTES + own);
        put_header(out, 1, 1, 0);
        put_dot(out, dot);
        put_version(out, 0, &version);
        return Ok(());
    };
    let view = RecordView::parse(existing)?;
    let entries = view.entries();
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
    let exceptions = view.exceptions();
    out.reserve(HEADER_BYTES + DOT_BYTES * (count + exceptions.len()) + own);
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

/// Joins the `incoming` record into the `stored` one (`None` when there is none). Only
/// [`JoinOutcome::Merged`] appends to `out`; the other two name bytes that the caller has.
///
/// # Errors
/// What decoding either says; nothing was appended then.
pub fn join_encoded(
    stored: Option<&[u8]>,
    incoming: &[u8],
    out: &mut Vec<u8>,
) -> Result<EncodedJoin, Error> {
    let theirs = RecordView::parse(incoming)?;
    let Some(stored) = stored else {
        return Ok(EncodedJoin { outcome: JoinOutcome::Incoming, uncovered: Vec::new() });
    };
    if stored == incoming {
        return Ok(EncodedJoin { outcome: JoinOutcome::Unchanged, uncovered: Vec::new() });
    }
    let mine = RecordView::parse(stored)?;
    let uncovered = || {
        let dots = mine.live().map(|version| version.dot);
        dots.filter(|dot| !theirs.covers(*dot)).collect()
    };
    if absorbs(theirs, mine) {
        return Ok(EncodedJoin { outcome: JoinOutcome::Incoming, uncovered: Vec::new() });
    }
    if absorbs(mine, theirs) {
        return Ok(EncodedJoin { outcome: JoinOutcome::Unchanged, uncovered: uncovered() });
    }
    let mut record = Record::decode(stored)?;
    let joined = record.join(&Record::decode(incoming)?);
    record.encode_into(out);
    Ok(EncodedJoin { outcome: JoinOutcome::Merged, uncovered: joined.uncovered })
}

/// Whether the join of the two is `big` as it is; may say no where it is. Exceptions go the plain
/// way.
fn absorbs(big: RecordView<'_>, small: RecordView<'_>) -> bool {
    if !big.exceptions().is_empty() || !small.exceptions().is_empty() {
        return false;
    }
    if small.entries().len() > big.entries().len() {
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
