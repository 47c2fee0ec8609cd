//! The entry: what moves between the memtable, the tables and the iterators.
//!
//! Every operation of a batch has its own sequence number, so that two operations on one key are
//! always told apart. Invariant: wherever entries are ordered, the order is key ascending, then
//! sequence descending: the newest version of a key is met first by a forward walk
//! (the internal key order of LevelDB).

use std::cmp::Ordering;

use bytes::Bytes;

use crate::error::Error;

/// A walk over entries, in entry order from the front and in reverse from the back.
pub(crate) type EntryIter = Box<dyn DoubleEndedIterator<Item = Result<Entry, Error>> + Send>;

/// One version of one key. No value means that the key was deleted at this sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) seq: u64,
    pub(crate) value: Option<Bytes>,
}

/// The newest version of a key that a reader may see. No value: it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) value: Option<Bytes>,
}

impl Entry {
    /// Entry order: key ascending, then sequence descending.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| other.seq.cmp(&self.seq))
    }
}
