//! Walks over many sources: one order out of several ([`merge()`]), and one answer for each key out
//! of its versions ([`visible`]).
//!
//! A source is an [`EntryIter`](crate::key::EntryIter): the memtable, a table, or a whole level.
//! All are double-ended, so a reverse scan costs what a scan costs. Invariant: an error of a source
//! ends the walk at once; what a walk has given before it is right, and it never goes on behind a
//! gap.

mod merge;
mod range;

pub(crate) use merge::merge;
pub(crate) use range::{Visible, visible};
