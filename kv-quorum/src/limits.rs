//! How many siblings a key may have.
//!
//! Siblings are never more than the writes that were really concurrent, but a client that never
//! sends its context back makes all its writes concurrent. The limits refuse *new mints only*: a
//! join, hint, repair or transfer that were refused would be an acknowledged write lost.
//!
//! Invariant: `siblings_warn <= siblings_max`.

use crate::codec;
use crate::context::Context;
use crate::error::Error;
use crate::version::Version;

/// Bounds for new mints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From this many siblings on a mint says so. 25 by default.
    pub siblings_warn: usize,
    /// A mint that would leave more siblings is refused. 100 by default.
    pub siblings_max: usize,
    /// A mint that would leave siblings in a larger record is refused. 2 MiB by default; must lie
    /// under the frame limit between nodes, because a record travels whole. A record with a single
    /// version is bounded by the pair limit instead.
    pub record_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { siblings_warn: 25, siblings_max: 100, record_bytes_max: 2 << 20 }
    }
}

/// What is left of the limits after a mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Plenty.
    Ample,
    /// The key has `siblings_warn` siblings or more: warn its owner.
    Scarce {
        /// How many it has now.
        siblings: usize,
    },
}

impl Limits {
    pub(crate) fn room<'a, V: AsRef<[u8]> + 'a>(
        &self,
        new: &Version<V>,
        kept: impl Iterator<Item = &'a Version<V>>,
        coverage: &Context,
        context: &Context,
    ) -> Result<Room, Error> {
        let mut siblings = 1;
        let mut record_bytes = codec::HEADER_BYTES + codec::version_len(new);
        for version in kept {
            siblings += 1;
            record_bytes += codec::version_len(version);
        }
        if siblings == 1 {
            return Ok(Room::Ample);
        }
        record_bytes += codec::coverage_len(coverage) + codec::coverage_len(context);
        if siblings > self.siblings_max {
            return Err(Error::TooManySiblings { siblings, siblings_max: self.siblings_max });
        }
        if record_bytes > self.record_bytes_max {
            let record_bytes_max = self.record_bytes_max;
            return Err(Error::RecordTooLarge { record_bytes, record_bytes_max });
        }
        if siblings >= self.siblings_warn {
            return Ok(Room::Scarce { siblings });
        }
        Ok(Room::Ample)
    }
}
