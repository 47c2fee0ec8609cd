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
    /// A node goes on under the tenures of its last life.
    KeepTenure = 1,
    /// A node does not remember its flush mark over a restart.
    ForgetFlush,
    /// A fact that must not be forgotten is not synced.
    MetaNotSynced,
    /// EXPIRE mints the old bytes again, with the new end.
    RemintOnExpire,
    /// DEL deletes what its coordinator holds, and asks nobody else.
    DeleteOwnOnly,
    /// A row that can't be read is answered as not there.
    ReadErrorIsAbsent,
    /// What a power cut may still take back is shown.
    ShowBeforeSync,
    /// A hint that counted goes when it was sent, whatever its target answers.
    DropCountedHint,
    /// Deletes are collected as soon as a walk finds them, mark or no mark.
    CollectEarly,
    /// A value that ended is forgotten with its dot, when only its bytes should go.
    ExpiredIsGone,
    /// Who comes to hold a partition fills it from one of the others.
    FillFromOne,
    /// Who comes to hold a partition does not ask whom it displaces.
    PassDisplacedOver,
    /// Who comes to hold a partition is never filled, and counts at once. (That it counts too soon
    /// is no loss by itself: reads reach their quorum in the older layout, too.)
    NeverFilled,
}

#[cfg(feature = "__planted")]
static PLANTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Plants a bug in the place of the one before; none heals.
#[cfg(feature = "__planted")]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as u32);
    PLANTED.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "__planted")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u32
}

/// No bug is planted in this build.
#[cfg(not(feature = "__planted"))]
#[inline(always)]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}
