//! Time as the caller tells it: whole milliseconds since any fixed point of the caller's choice.
//!
//! The crate reads no clock. A newtype, so that a point in time and a duration (a plain `u64` with
//! `_ms` in its name) can't be swapped. Invariant: arithmetic saturates, so no time that a caller
//! or a packet names can wrap around.

use core::fmt;

/// A point in time: milliseconds of a clock that never runs backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(u64);

impl Millis {
    /// The earliest point.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `ms` milliseconds after the clock's origin.
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the clock's origin.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The point `ms` milliseconds later, at most [`Millis::NEVER`].
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The point `ms` milliseconds earlier, at least [`Millis::ZERO`].
    #[must_use]
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to here; 0 when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
