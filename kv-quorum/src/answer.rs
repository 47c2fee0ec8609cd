//! What one node answered to a read: an encoded record or nothing, under a mark.
//!
//! Invariant: the join of two answers is the join of their records under their marks; without marks
//! it is found on the encoded bytes, and where one of the two is the join, its bytes are.

use crate::codec::{JoinOutcome, join_encoded};
use crate::error::Error;
use crate::mark::Mark;
use crate::record::Record;
use alloc::vec::Vec;

#[derive(Clone, Debug)]
pub(crate) struct Answer<B> {
    pub(crate) record: Option<B>,
    pub(crate) mark: Mark,
}

impl<B: Clone + AsRef<[u8]> + From<Vec<u8>>> Answer<B> {
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.record.as_ref().map(AsRef::as_ref)
    }

    /// Whether both are the very same bytes in memory, or nothing: a clone of what was offered.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self.bytes(), other.bytes()) {
            (Some(a), Some(b)) => core::ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    pub(crate) fn join(&self, other: &Self) -> Result<Option<B>, Error> {
        if self.mark == Mark::NONE && other.mark == Mark::NONE {
            let (Some(ours), Some(theirs)) = (&self.record, &other.record) else {
                return Ok(self.record.clone().or_else(|| other.record.clone()));
            };
            let mut out = Vec::new();
            let joined = join_encoded(Some(ours.as_ref()), theirs.as_ref(), &mut out)?;
            return Ok(Some(match joined.outcome {
                JoinOutcome::Unchanged => ours.clone(),
                JoinOutcome::Incoming => theirs.clone(),
                JoinOutcome::Merged => B::from(out),
            }));
        }
        let mut ours = self.decode()?;
        ours.join_under(self.mark, &other.decode()?, other.mark);
        Ok(Some(B::from(ours.to_bytes())))
    }

    fn decode(&self) -> Result<Record<&[u8]>, Error> {
        self.bytes().map_or_else(|| Ok(Record::new()), Record::decode)
    }
}
