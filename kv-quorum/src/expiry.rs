//! Expiry: a register beside a value's dot.
//!
//! EXPIRE, PERSIST and GETEX change when a value ends, never the value: minting the old bytes again
//! would bring a value back that somebody overwrote meanwhile. So each live version carries a
//! last-writer-wins register (stamp, end), and a new stamp lies above every stamp that its writer
//! saw.
//!
//! Invariant: of two registers for the same dot the later stamp wins, and equal stamps are decided
//! by the end itself (no end counts as the latest), so that a join is the same on every replica.

use crate::dot::HybridTime;
use core::cmp::Ordering;

/// When a version ends, and the stamp of the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// The hybrid time of the decision; zero when nobody ever decided.
    pub stamp: HybridTime,
    /// Milliseconds since the Unix epoch at which the version ends; `None` when it does not.
    pub expires_at_ms: Option<u64>,
}

impl Expiry {
    /// Nobody decided anything: the version does not end.
    pub const NEVER: Self = Self { stamp: HybridTime::ZERO, expires_at_ms: None };

    /// Decided at `stamp` to end at `expires_at_ms`.
    pub const fn at(stamp: HybridTime, expires_at_ms: u64) -> Self {
        Self { stamp, expires_at_ms: Some(expires_at_ms) }
    }

    /// Decided at `stamp` not to end.
    pub const fn persistent(stamp: HybridTime) -> Self {
        Self { stamp, expires_at_ms: None }
    }

    /// Whether the version has ended at `now_ms`.
    pub const fn is_over(self, now_ms: u64) -> bool {
        match self.expires_at_ms {
            Some(at) => at <= now_ms,
            None => false,
        }
    }

    /// Whether the bytes may be dropped: nobody whose clock is within `clock_skew_ms_max` of ours
    /// still shows the version.
    pub const fn may_drop(self, now_ms: u64, clock_skew_ms_max: u64) -> bool {
        match self.expires_at_ms {
            Some(at) => at.saturating_add(clock_skew_ms_max) <= now_ms,
            None => false,
        }
    }

    /// The register that wins.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// The end as one number for ordering and digests: `u64::MAX` for none.
    pub(crate) const fn end(self) -> u64 {
        match self.expires_at_ms {
            Some(at) => at,
            None => u64::MAX,
        }
    }
}

impl Ord for Expiry {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |e: &Self| (e.stamp, e.end(), e.expires_at_ms.is_none());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Expiry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_stamp_wins_and_ties_are_decided_alike() {
        let soon = Expiry::at(HybridTime::new(1, 0), 500);
        let late = Expiry::at(HybridTime::new(2, 0), 100);
        assert_eq!(soon.join(late), late);
        let kept = Expiry::persistent(HybridTime::new(2, 0));
        assert_eq!(late.join(kept), kept);
        assert_eq!(kept.join(late), kept);
    }

    #[test]
    fn bytes_stay_for_the_skew() {
        let expiry = Expiry::at(HybridTime::new(1, 0), 1_000);
        assert!(expiry.is_over(1_000) && !expiry.is_over(999));
        assert!(!expiry.may_drop(60_999, 60_000) && expiry.may_drop(61_000, 60_000));
        assert!(!Expiry::NEVER.may_drop(u64::MAX, 0));
    }
}
