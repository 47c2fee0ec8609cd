//! Planted bugs: mistakes that the simulation must be seen to catch, or it would prove nothing.
//!
//! They exist in a build with the feature `__planted` only, where one of them at a time is chosen
//! at run time; every other build compiles them out. A place asks `planted(Bug::X)` and then does
//! what a tired programmer might have written there.

/// The mistakes that this crate can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "__planted"),
    expect(unreachable_pub, reason = "public where it can be planted")
)]
pub enum Bug {
    /// A write is acknowledged with one copy less than W.
    AckBelowW = 1,
    /// A read is answered with one replica less than R.
    AnswerBelowR,
    /// A put's context is the whole coverage of the record that it left.
    ContextOfRecord,
    /// A join keeps what it had and takes no concurrent version beside it.
    IgnoreSiblings,
    /// A join keeps the version with the highest dot only, as if every keyspace were `lww`.
    PruneInJoin,
    /// A join that would leave more siblings than a limit is refused.
    RefuseJoinAtLimit,
    /// A blind write whose answers show what it did not cover is acknowledged all the same.
    NoSecondMint,
    /// A read whose replies differ is answered at once, and mended afterwards.
    TailRepairOnly,
    /// A replica that lost what it had acknowledged counts for R.
    AmnesiacCounts,
    /// A fallback stands in for every primary that is down, and its one copy counts for each.
    HintsCountTwice,
}

#[cfg(feature = "__planted")]
static PLANTED: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Plants a bug in the place of the one before; none heals.
#[cfg(feature = "__planted")]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as u32);
    PLANTED.store(number, core::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "__planted")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(core::sync::atomic::Ordering::Relaxed) == bug as u32
}

/// No bug is planted in this build.
#[cfg(not(feature = "__planted"))]
#[inline(always)]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}
