//! N, R and W, and the levels that requests name.
//!
//! Gifford's weighted voting (1979) as Dynamo (section 4.5) uses it. What cannot be had is an
//! error: a store that weakens a quorum silently has none.
//!
//! Invariant: `1 <= r <= n` and `1 <= w <= n`.

use crate::error::Error;

/// How many answers a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One.
    One,
    /// More than half of N.
    Quorum,
    /// All N.
    All,
    /// This many.
    Count(u8),
}

impl Level {
    /// The number that the level stands for among `n` copies.
    ///
    /// # Errors
    /// [`Error::QuorumOutOfRange`] if it is zero or more than `n`.
    pub const fn resolve(self, n: u8) -> Result<u8, Error> {
        let asked = match self {
            Self::One => 1,
            Self::Quorum => n / 2 + 1,
            Self::All => n,
            Self::Count(count) => count,
        };
        if asked == 0 || asked > n {
            return Err(Error::QuorumOutOfRange { asked, n });
        }
        Ok(asked)
    }
}

/// N copies, R answers for a read, W for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    n: u8,
    r: u8,
    w: u8,
}

impl Quorums {
    /// `n` copies, `r` answers for a read, `w` for a write.
    ///
    /// # Errors
    /// [`Error::QuorumOutOfRange`] if any is zero, or `r` or `w` is more than `n`.
    pub const fn new(n: u8, r: u8, w: u8) -> Result<Self, Error> {
        if let Err(error) = Level::Count(r).resolve(n) {
            return Err(error);
        }
        if let Err(error) = Level::Count(w).resolve(n) {
            return Err(error);
        }
        Ok(Self { n, r, w })
    }

    /// The numbers for two levels among `n` copies.
    ///
    /// # Errors
    /// [`Error::QuorumOutOfRange`] if a level cannot be had.
    pub fn resolve(n: u8, read: Level, write: Level) -> Result<Self, Error> {
        Self::new(n, read.resolve(n)?, write.resolve(n)?)
    }

    /// Copies.
    pub const fn n(self) -> u8 {
        self.n
    }

    /// Answers for a read.
    pub const fn r(self) -> u8 {
        self.r
    }

    /// Answers for a write.
    pub const fn w(self) -> u8 {
        self.w
    }

    /// Whether every read meets every acknowledged write (R + W > N).
    pub const fn reads_meet_writes(self) -> bool {
        self.r as u16 + self.w as u16 > self.n as u16
    }

    /// Whether a blind SET meets every SET acknowledged before (W > N/2).
    pub const fn writes_meet_writes(self) -> bool {
        2 * self.w as u16 > self.n as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_resolve_against_n_and_are_never_weakened() {
        assert_eq!(Level::Quorum.resolve(3), Ok(2));
        assert_eq!(Level::Quorum.resolve(4), Ok(3));
        assert_eq!(Level::All.resolve(1), Ok(1));
        assert_eq!(Level::Count(4).resolve(3), Err(Error::QuorumOutOfRange { asked: 4, n: 3 }));
        assert_eq!(Level::One.resolve(0), Err(Error::QuorumOutOfRange { asked: 1, n: 0 }));
        assert_eq!(Level::Count(0).resolve(3), Err(Error::QuorumOutOfRange { asked: 0, n: 3 }));
    }

    #[test]
    fn quorums_say_what_meets_what() {
        let usual = Quorums::resolve(3, Level::Quorum, Level::Quorum).unwrap();
        assert!(usual.reads_meet_writes() && usual.writes_meet_writes());
        let weak = Quorums::new(3, 1, 1).unwrap();
        assert!(!weak.reads_meet_writes() && !weak.writes_meet_writes());
        assert!(Quorums::new(3, 0, 1).is_err() && Quorums::new(255, 255, 255).is_ok());
    }
}
