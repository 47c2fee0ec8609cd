//! Compaction: merging tables downwards, so that reads ask few tables and what nobody can see any
//! more gives its space back.
//!
//! Deciding and doing are apart: [`choose`] is a pure function of the version and the settings
//! (tested by text tables, without a disk), [`run`] does one job and answers with the [`Edit`] that
//! makes it count, [`flush`] does the same for a memtable. Nothing changes before that edit is in
//! the manifest; a job that fails leaves no trace but files that the next open removes.
//!
//! [`Edit`]: crate::version::Edit

mod leveled;
mod retain;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use leveled::choose;
pub(crate) use worker::{Context, flush, flush_each, run};

use crate::sstable::Table;

/// What to compact: the tables of a level and those below that share keys with them.
#[derive(Clone, Debug)]
pub(crate) struct Job<T = Arc<Table>> {
    /// How.
    pub(crate) kind: Kind,
    /// The level from which tables are taken.
    pub(crate) level: u8,
    /// The level to which they go.
    pub(crate) output_level: u8,
    /// The tables of `level`; of level 0 the newest first.
    pub(crate) inputs: Vec<T>,
    /// The tables of `output_level` that share keys with them, in key order.
    pub(crate) below: Vec<T>,
}

/// How a job is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tables change their level as they are: nothing is read or written but the manifest.
    Move,
    /// Entries are merged into new tables.
    Merge,
    /// Tables go, unread: nobody can ask for their keys any more.
    Drop,
}

/// Decides about entries while they are rewritten, so that what the owner knows to be dead can
/// go: expired values, collected records.
///
/// It is asked for the newest version of a key in the compacted tables, if that is a value and no
/// snapshot sees it. A newer version may be in a level above or in memory, and the same entry may
/// be asked about again or never: a decision must be right for the entry whatever becomes of it.
pub trait CompactionFilter: Debug + Send + Sync {
    /// What becomes of the entry.
    fn decide(&self, key: &[u8], value: &[u8]) -> Decision;
}

/// What becomes of an entry in a compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It stays as it is.
    Keep,
    /// It is deleted, as if its writer had: older versions do not come back.
    Drop,
    /// It stays, with this value.
    Replace(Bytes),
}
