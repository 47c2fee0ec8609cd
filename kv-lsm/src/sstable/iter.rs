//! A walk over one table, from both ends, one block at a time.
//!
//! The two ends hold at most a block each; when the blocks between are used up, one end goes on in
//! the other's. After an error a walk is over: it never goes on behind a gap.

use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{BlockIter, Malformed};
use super::reader::Table;
use crate::error::Error;
use crate::key::Entry;

/// See the module.
pub(crate) struct TableIter {
    table: Arc<Table>,
    lower: Bound<Bytes>,
    upper: Bound<Bytes>,
    fill_cache: bool,
    /// Blocks that neither end has opened; not known before the first call.
    blocks: Option<Range<usize>>,
    /// The first and the last block of the walk: the only ones that a bound can cut.
    edges: (usize, usize),
    front: Option<BlockIter>,
    back: Option<BlockIter>,
    failed: bool,
}

impl TableIter {
    /// A walk over the entries within the bounds. Reads nothing yet.
    pub(crate) fn new(
        table: &Arc<Table>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        fill_cache: bool,
    ) -> Self {
        Self {
            table: Arc::clone(table),
            lower: lower.map(Bytes::copy_from_slice),
            upper: upper.map(Bytes::copy_from_slice),
            fill_cache,
            blocks: None,
            edges: (0, 0),
            front: None,
            back: None,
            failed: false,
        }
    }

    /// The blocks that may hold entries within the bounds.
    pub(super) fn span(&self) -> Result<Range<usize>, Malformed> {
        let index = self.table.index();
        let start = match &self.lower {
            Bound::Unbounded => 0,
            Bound::Included(key) => index.seek(key, u64::MAX)?,
            Bound::Excluded(key) => index.seek(key, 0)?,
        };
        let end = match &self.upper {
            Bound::Unbounded => index.len(),
            Bound::Included(key) => index.seek(key, 0)?.saturating_add(1),
            Bound::Excluded(key) => index.seek(key, u64::MAX)?.saturating_add(1),
        };
        Ok(start..end.min(index.len()))
    }

    /// Opens the next block of the span, from the front or from the back.
    fn open(&mut self, from_back: bool) -> Result<Option<BlockIter>, Error> {
        let mut blocks = if let Some(blocks) = self.blocks.take() {
            blocks
        } else if !self.table.is_there()? {
            0..0
        } else {
            let span = self.table.place(self.span())?;
            self.edges = (span.start, span.end.saturating_sub(1));
            span
        };
        let (at, handle, block) = loop {
            let at = if from_back { blocks.next_back() } else { blocks.next() };
            self.blocks = Some(blocks.clone());
            let Some(at) = at else { return Ok(None) };
            let handle = self.table.place(self.table.index().handle(at))?;
            // What was given up is passed over.
            if let Some(block) = self.table.block(handle, self.fill_cache)? {
                break (at, handle, block);
            }
        };
        let (first, last) = self.edges;
        let lower = if at == first { as_slice(&self.lower) } else { Bound::Unbounded };
        let upper = if at == last { as_slice(&self.upper) } else { Bound::Unbounded };
        block.range(lower, upper).map(Some).map_err(|Malformed| self.table.bad_block(handle))
    }

    /// The next item of an end that `take` takes from.
    fn step(
        &mut self,
        from_back: bool,
        take: fn(&mut BlockIter) -> Option<Result<Entry, Malformed>>,
    ) -> Result<Option<Entry>, Error> {
        let malformed = |table: &Table, Malformed| table.place::<Entry>(Err(Malformed));
        loop {
            let own = if from_back { &mut self.back } else { &mut self.front };
            if let Some(item) = own.as_mut().and_then(take) {
                return item.or_else(|bad| malformed(&self.table, bad)).map(Some);
            }
            let Some(block) = self.open(from_back)? else { break };
            let own = if from_back { &mut self.back } else { &mut self.front };
            *own = Some(block);
        }
        // No block between the ends is left: go on in the other end's.
        let other = if from_back { &mut self.front } else { &mut self.back };
        match other.as_mut().and_then(take) {
            Some(item) => item.or_else(|bad| malformed(&self.table, bad)).map(Some),
            None => Ok(None),
        }
    }

    /// Ends the walk with the error that a step gave.
    fn guard(&mut self, item: Result<Option<Entry>, Error>) -> Option<Result<Entry, Error>> {
        if item.is_err() {
            self.failed = true;
            self.front = None;
            self.back = None;
        }
        item.transpose()
    }
}

impl Iterator for TableIter {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step(false, Iterator::next);
        self.guard(item)
    }
}

impl DoubleEndedIterator for TableIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step(true, DoubleEndedIterator::next_back);
        self.guard(item)
    }
}

/// A bound as the block search takes it.
pub(crate) fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
    }
}
