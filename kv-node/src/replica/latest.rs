//! The latest time in a dot that this replica was given, whoever minted it.
//!
//! A flush mark has to lie above everything that was stored before it. What a member minted itself
//! its own clock tells; what was minted by one that has left, or died, only those tell who hold it:
//! its clock may have been ahead of theirs.
//!
//! Invariant: never below the time of a record that is stored here, as long as this process lives.
//! Over a restart the clock's lease tells as much of what was minted by a clock that is no further
//! ahead than that; for what is, the time is a fact of the directory, stored when the lease is
//! moved. A record that came from such a clock less than a quarter of the lease before the process
//! ended may be forgotten.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_quorum::HybridTime;

use crate::cluster::meta::MetaStore;

const LATEST_FACT: &str = "latest";

/// The time, and what is stored of it.
#[derive(Debug)]
pub(super) struct Latest {
    time: AtomicU64,
    stored: AtomicU64,
}

impl Latest {
    /// As the directory remembers it. Blocks on the disk.
    ///
    /// # Errors
    /// It is there and can't be read: what was flushed might not be all that there was.
    pub(super) fn open(meta: &MetaStore) -> io::Result<Self> {
        let stored = meta.load(LATEST_FACT)?.map_or(Ok(0), |fact| {
            fact.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "the latest time is not eight bytes")
            })
        })?;
        Ok(Self { time: AtomicU64::new(stored), stored: AtomicU64::new(stored) })
    }

    /// A record of this time is about to be stored.
    #[inline]
    pub(super) fn note(&self, time: HybridTime) {
        if time.to_bits() > self.time.load(Ordering::Relaxed) {
            self.time.fetch_max(time.to_bits(), Ordering::AcqRel);
        }
    }

    pub(super) fn time(&self) -> HybridTime {
        HybridTime::from_bits(self.time.load(Ordering::Acquire))
    }

    /// Stores it, where it is above what the lease of this node's own clock will tell. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// What was stored before is all that a restart knows.
    pub(super) fn store(&self, meta: &MetaStore, lease: u64) -> io::Result<()> {
        let time = self.time.load(Ordering::Acquire);
        if time > lease && time > self.stored.load(Ordering::Acquire) {
            meta.store(LATEST_FACT, &time.to_le_bytes())?;
            self.stored.fetch_max(time, Ordering::AcqRel);
        }
        Ok(())
    }
}
