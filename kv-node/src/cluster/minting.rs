//! How this node mints in one partition: its tenure, and what it let go of that it may have minted.
//!
//! Invariant: whoever changes it keeps others who do out meanwhile (`dots`), and a part of the
//! partition begins with what the whole had.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Minting {
    pub(super) tenure: AtomicU64,
    /// How often something was let go of that it may have minted,
    pub(super) times: AtomicU64,
    /// and for how much of that the present tenure is new.
    pub(super) settled: AtomicU64,
}

impl Minting {
    pub(super) fn under(tenure: u64) -> Self {
        let (times, settled) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { tenure: AtomicU64::new(tenure), times, settled }
    }

    /// The same for a part of the partition: what was let go of may have been of either.
    pub(super) fn inherited(&self) -> Self {
        let again = |value: &AtomicU64| AtomicU64::new(value.load(Ordering::Acquire));
        let (times, settled) = (again(&self.times), again(&self.settled));
        Self { tenure: again(&self.tenure), times, settled }
    }

    /// Whether nothing was let go of since the tenure began.
    pub(super) fn is_new(&self) -> bool {
        self.times.load(Ordering::Acquire) == self.settled.load(Ordering::Acquire)
    }
}
