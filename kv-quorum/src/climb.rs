//! How a partition's mark rises: two passes of exchanges above the least floor.
//!
//! A floor is a time below which a member will mint nothing more and has nothing under way that
//! others lack. Below the least floor `F` of all members the replicas' records can only be joined
//! with each other. One replica, the climber, sees to it that they all become equal there:
//!
//! ```text
//! floors seen -> pass 1: an exchange with every other replica, begun after that
//!             -> pass 2: again with every one, begun after the last of pass 1 has ended
//!             -> the mark is F: told to every replica
//! ```
//!
//! After pass 1 the climber holds the join of all that the others held at or below `F` when the
//! floors were seen, and no more can come: whoever minted it holds it, or its hint is delivered,
//! and the climber has exchanged with them all. In pass 2 each of the others is brought to that
//! join. So at the end a dot at or below `F` that is live anywhere is live everywhere, and one that
//! a replica does not hold live is dead: what [`Mark`] says. A copy that arrives later, of a call
//! that nobody waits for any more, is judged by the mark or by the coverage that it was mended to.
//!
//! This holds only for replicas that forgot nothing between the beginning and their taking the
//! mark. Whoever runs a climb keeps what it takes to find that out (`W`, a witness taken at the
//! beginning), and a replica that restarted or lost something meanwhile refuses the mark.
//!
//! Stamps are of one clock of the climber that never goes back: exchanges are noted with the stamp
//! of their beginning.

use crate::dot::HybridTime;
use crate::mark::Mark;

/// The rise of one partition's mark, as its climber sees it.
#[derive(Clone, Debug, Default)]
pub struct Climb<W>(Option<Pass<W>>);

#[derive(Clone, Debug)]
struct Pass<W> {
    floor: HybridTime,
    second: bool,
    /// Exchanges that began at this stamp or later count.
    since: HybridTime,
    witness: W,
}

impl<W> Climb<W> {
    /// Nothing has begun.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Goes on as far as what is known allows, and gives the mark when it is proven, with the
    /// witness that was taken when the climb began. `now` is a new stamp; `exchanged` says when the
    /// longest past of the last good exchanges with all other replicas began, `None` while one is
    /// missing; `floor` is the least floor of all members, seen now; `mark` is what is in force.
    pub fn step(
        &mut self,
        now: HybridTime,
        exchanged: Option<HybridTime>,
        floor: HybridTime,
        mark: Mark,
        witness: impl FnOnce() -> W,
    ) -> Option<(Mark, W)> {
        let Some(pass) = &mut self.0 else {
            if floor > mark.time() {
                self.0 = Some(Pass { floor, second: false, since: now, witness: witness() });
            }
            return None;
        };
        if exchanged.is_none_or(|begun| begun < pass.since) {
            return None;
        }
        if !pass.second {
            pass.second = true;
            pass.since = now;
            return None;
        }
        let Pass { floor, witness, .. } = self.0.take()?;
        Some((Mark::at(floor), witness))
    }

    /// Begins anew: replicas came or went, or the climber lost something.
    pub fn reset(&mut self) {
        self.0 = None;
    }

    /// What the climb is for, while one goes on.
    pub fn towards(&self) -> Option<HybridTime> {
        self.0.as_ref().map(|pass| pass.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> HybridTime {
        HybridTime::new(ms, 0)
    }

    #[test]
    fn a_mark_needs_two_passes_that_began_after_the_floor() {
        let mut climb = Climb::new();
        let mut step = |now, exchanged, floor| {
            climb
                .step(at(now), exchanged, at(floor), Mark::NONE, || now)
                .map(|(mark, witness)| (mark.time().ms(), witness))
        };
        assert_eq!(step(10, Some(at(9)), 5), None, "begins");
        assert_eq!(step(11, Some(at(9)), 6), None, "an older exchange proves nothing");
        assert_eq!(step(12, None, 6), None, "one is missing");
        assert_eq!(step(20, Some(at(10)), 7), None, "the first pass is over");
        assert_eq!(step(21, Some(at(19)), 8), None, "an exchange of the first pass does not count");
        assert_eq!(
            step(30, Some(at(20)), 9),
            Some((5, 10)),
            "the floor as it was at the beginning"
        );
        assert_eq!(step(31, Some(at(30)), 0), None, "no floor above the mark: nothing begins");
        assert_eq!(climb.towards(), None);
    }

    #[test]
    fn a_reset_begins_anew() {
        let mut climb = Climb::new();
        for now in [1, 2] {
            assert!(climb.step(at(now), Some(at(now)), at(1), Mark::NONE, || ()).is_none());
        }
        climb.reset();
        for now in [3, 4] {
            assert!(climb.step(at(now), Some(at(now)), at(1), Mark::NONE, || ()).is_none());
        }
        assert!(climb.step(at(5), Some(at(5)), at(1), Mark::NONE, || ()).is_some());
    }
}
