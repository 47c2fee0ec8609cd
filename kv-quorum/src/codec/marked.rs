//! Joins under marks, on encoded bytes.
//!
//! Once a partition has been collected every join there is under a mark, so it must cost next to
//! nothing where the mark has no say: what is written now lies above it. Then the plain join is the
//! marked one, and only its own short ways are taken.
//!
//! Invariant: what is left is what decode, collect, join under marks, collect and encode come to;
//! expired values excepted, which stay for the collector.

use super::fast::{JoinOutcome, join_encoded};
use super::view::EncodedRecord;
use crate::dot::Dot;
use crate::error::Error;
use crate::mark::Mark;
use crate::record::Record;
use alloc::vec::Vec;

/// Which bytes are the join under marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkedOutcome {
    /// The stored ones as they are, or nothing where nothing is stored.
    Unchanged,
    /// The incoming ones as they are; nothing was written to `out`.
    Incoming,
    /// Those that were appended to `out`.
    Merged,
    /// None: all that was stored is covered by the mark, and the row can go.
    Empty,
}

/// What joining two encoded records under marks came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedJoin {
    /// Which bytes are the join.
    pub outcome: MarkedOutcome,
    /// Dots that were live in the stored record, that its mark does not let go and that the
    /// incoming record did not cover, descending.
    pub uncovered: Vec<Dot>,
}

/// [`Record::join_under`] on bytes that are not yet checked: `stored` lies at a replica whose
/// partition has `mark`, `incoming` comes from one that has `their_mark` ([`Mark::NONE`] where that
/// is not known). Tombstones that `mark` covers are collected on the way.
///
/// # Errors
/// What checking either says; nothing was appended then.
pub fn join_encoded_under(
    stored: Option<&[u8]>,
    mark: Mark,
    incoming: &[u8],
    their_mark: Mark,
    out: &mut Vec<u8>,
) -> Result<MarkedJoin, Error> {
    let start = out.len();
    let ours = stored.map_or(Ok(EncodedRecord::EMPTY), EncodedRecord::parse)?;
    let theirs = EncodedRecord::parse(incoming)?;
    if is_plain(ours, theirs, mark) && is_plain(theirs, ours, their_mark) {
        let joined = join_encoded(stored, incoming, out)?;
        if !joined.uncovered.iter().any(|dot| mark.covers(*dot)) {
            let outcome = match joined.outcome {
                JoinOutcome::Unchanged => MarkedOutcome::Unchanged,
                JoinOutcome::Incoming => MarkedOutcome::Incoming,
                JoinOutcome::Merged => MarkedOutcome::Merged,
            };
            return Ok(MarkedJoin { outcome, uncovered: joined.uncovered });
        }
        out.truncate(start);
    }
    let mut record = ours.to_record();
    collect_plain(&mut record, mark);
    let uncovered = record.join_under(mark, &theirs.to_record(), their_mark).uncovered;
    collect_plain(&mut record, mark);
    let outcome = match stored {
        None if record.is_empty() => MarkedOutcome::Unchanged,
        Some(_) if record.is_empty() => MarkedOutcome::Empty,
        _ => {
            record.encode_into(out);
            if out.get(start..) == stored {
                out.truncate(start);
                MarkedOutcome::Unchanged
            } else {
                MarkedOutcome::Merged
            }
        }
    };
    Ok(MarkedJoin { outcome, uncovered })
}

/// Collects tombstones and coverage, and no expired values: when those may go depends on a setting
/// that a join does not know.
fn collect_plain(record: &mut Record<&[u8]>, mark: Mark) {
    if mark != Mark::NONE {
        record.collect(mark, u64::MAX);
    }
}

/// Whether the mark of the one who holds `ours` makes no difference to what it is told by
/// `theirs`: it kills nothing of that, and that brings news.
fn is_plain(ours: EncodedRecord<'_>, theirs: EncodedRecord<'_>, mark: Mark) -> bool {
    let dead = |dot: Dot| mark.covers(dot) && ours.find(dot).is_none();
    mark == Mark::NONE
        || (theirs.latest() > mark.time() && !theirs.live().any(|version| dead(version.dot)))
}
