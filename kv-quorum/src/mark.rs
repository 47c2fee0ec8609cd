//! Marks: coverage by time.
//!
//! Tombstones cannot be collected by age: a copy that slept longer would bring the value back. A
//! partition's mark is a time below which every difference among the replicas has been mended,
//! durably (as Cassandra's `only_purge_repaired_tombstones`, without its grace period). It is
//! coverage: a dot at or below it that a complete replica does not hold live is dead. So what it
//! covers may leave the records. A flush is a harder mark: every dot at or below it is dead, live
//! or not.
//!
//! Invariant: a mark speaks only for a complete replica; an incomplete one has [`Mark::NONE`].

use crate::dot::{Dot, HybridTime};
use crate::record::{Joined, Record};
use crate::version::Kind;
use alloc::vec::Vec;

/// A time at and below which a complete replica's record covers every dot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    time: HybridTime,
}

impl Mark {
    /// Covers nothing: of a newcomer, and before the first collection.
    pub const NONE: Self = Self { time: HybridTime::ZERO };

    /// Covers every dot at or below `time`.
    pub const fn at(time: HybridTime) -> Self {
        Self { time }
    }

    /// The time.
    pub const fn time(self) -> HybridTime {
        self.time
    }

    /// Whether `dot` lies at or below it.
    pub fn covers(self, dot: Dot) -> bool {
        dot.time <= self.time
    }
}

impl<V: Clone + AsRef<[u8]>> Record<V> {
    /// [`join`](Record::join) between replicas that have marks: what one's mark covers and it does
    /// not hold live is dead, and a record that covers nothing above the other's mark can tell that
    /// one of no write that it does not know, so it kills nothing there. The result is right under
    /// either mark, and covers in its vector all that was live in either, so that it also convinces
    /// a replica without a mark.
    pub fn join_under(&mut self, mark: Mark, other: &Self, other_mark: Mark) -> Joined {
        if mark == Mark::NONE && other_mark == Mark::NONE {
            return self.join(other);
        }
        let stale = |record: &Self, mark: Mark| record.coverage().vector().latest() <= mark.time;
        let (ours_stale, theirs_stale) = (stale(self, other_mark), stale(other, mark));
        let mut joined = Joined::default();
        let mut live = Vec::with_capacity(self.live().len().max(other.live().len()));
        let (coverage, mine) = self.parts_mut();
        for mut version in core::mem::take(mine) {
            let covered = other.coverage().covers(version.dot);
            if let Some(copy) = other.find(version.dot) {
                joined.changed |= version.join(copy);
            } else if other_mark.covers(version.dot) || covered && !theirs_stale {
                joined.changed = true;
                continue;
            } else if !covered {
                joined.uncovered.push(version.dot);
            }
            live.push(version);
        }
        for version in other.live() {
            let held = live.iter().any(|own| own.dot == version.dot);
            let covered = coverage.covers(version.dot) && !ours_stale;
            if !held && !covered && !mark.covers(version.dot) {
                joined.changed = true;
                live.push(version.clone());
            }
        }
        live.sort_unstable_by_key(|version| core::cmp::Reverse(version.dot));
        *mine = live;
        joined.changed |= coverage.join(other.coverage());
        joined
    }

    /// Drops what `mark` covers: tombstones, values that expired `clock_skew_ms_max` before the
    /// mark, entries of actors of whom nothing is live, exceptions. Says whether anything went.
    /// Only for a complete replica whose partition has this mark; the record is worthless without
    /// it from then on. A record that becomes empty can be forgotten.
    ///
    /// A tombstone above a sibling that stays, stays too: without it GET would show the sibling,
    /// and a deleted key would be back.
    pub fn collect(&mut self, mark: Mark, clock_skew_ms_max: u64) -> bool {
        let (live, entries) = (self.live().len(), self.coverage().vector().len());
        let exceptions = self.coverage().exceptions().len();
        let goes = |version: &crate::Version<V>| {
            let expired = version.expiry.may_drop(mark.time.ms(), clock_skew_ms_max);
            let gone = version.kind == Kind::Tombstone && version.expiry.expires_at_ms.is_none();
            let settled = mark.covers(version.dot) && version.expiry.stamp <= mark.time;
            settled && (gone || expired)
        };
        let (coverage, live_now) = self.parts_mut();
        while live_now.last().is_some_and(goes) {
            live_now.pop();
        }
        coverage.retain(|actor, time| {
            time > mark.time || live_now.iter().any(|version| version.dot.actor == actor)
        });
        coverage.drop_exceptions(|dot| mark.covers(dot));
        let coverage = self.coverage();
        live != self.live().len()
            || entries != coverage.vector().len()
            || exceptions != coverage.exceptions().len()
    }

    /// FLUSH: every dot at or below `time` is dead. Says whether anything went. The flush mark
    /// itself must be kept and applied to whatever arrives later.
    pub fn flush(&mut self, time: HybridTime) -> bool {
        let live = self.live().len();
        self.retain_live(|version| version.dot.time > time);
        live != self.live().len()
    }

    /// Whether nothing is left that a replica would have to keep.
    pub fn is_empty(&self) -> bool {
        self.live().is_empty() && self.coverage().is_empty()
    }

    fn retain_live(&mut self, keep: impl FnMut(&crate::Version<V>) -> bool) {
        self.parts_mut().1.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Context, Draft, Expiry, Limits};

    fn dot(node: u64, ms: u64) -> Dot {
        Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0))
    }

    fn at(ms: u64) -> Mark {
        Mark::at(HybridTime::new(ms, 0))
    }

    fn put(record: &mut Record<&'static [u8]>, dot: Dot, context: &Context) {
        record.mint(dot, context, Draft::string(b"v"), &Limits::default()).unwrap();
    }

    #[test]
    fn a_late_copy_does_not_bring_back_what_was_collected() {
        let mut a: Record<&[u8]> = Record::new();
        put(&mut a, dot(1, 10), &Context::new());
        let late = a.clone();
        let context = a.context().clone();
        a.delete(dot(2, 20), &context, None, &Limits::default()).unwrap();
        assert!(a.collect(at(30), 0) && a.is_empty());
        a.join_under(at(30), &late, Mark::NONE);
        assert_eq!(a.shown(0), None);
        let mut behind = late.clone();
        behind.join_under(Mark::NONE, &Record::new(), at(30));
        assert!(behind.live().is_empty() && behind.coverage().covers(dot(1, 10)));
        let mut without = late;
        without.join(&Record::new());
        assert!(without.shown(0).is_some(), "without a mark it would come back");
    }

    #[test]
    fn a_late_copy_of_a_write_that_nobody_kept_takes_nothing_along() {
        let mut a: Record<&[u8]> = Record::new();
        put(&mut a, dot(1, 10), &Context::new());
        let mut lost = a.clone();
        lost.mint_blind(dot(2, 20), Draft::string(b"lost")).unwrap();
        a.join_under(at(30), &lost, Mark::NONE);
        let left: Vec<Dot> = a.live().iter().map(|version| version.dot).collect();
        assert_eq!(left, [dot(1, 10)], "what it overwrote stays: it is no write any more");
        let mut newer = a.clone();
        newer.mint_blind(dot(1, 40), Draft::string(b"w")).unwrap();
        a.join_under(at(30), &newer, Mark::NONE);
        assert_eq!(a, newer, "one from above the mark is joined as ever");
    }

    #[test]
    fn live_values_and_their_actors_stay() {
        let mut a: Record<&[u8]> = Record::new();
        put(&mut a, dot(1, 10), &Context::new());
        put(&mut a, dot(2, 20), &Context::new());
        let shown = Context::from([dot(1, 10)].into_iter().collect::<crate::VersionVector>());
        put(&mut a, dot(3, 40), &shown);
        assert!(a.collect(at(30), 0));
        let actors: Vec<u64> = a.coverage().vector().iter().map(|(actor, _)| actor.node).collect();
        assert_eq!(actors, [2, 3]);
        assert_eq!(a.live().len(), 2);
    }

    #[test]
    fn an_expired_value_is_collected_only_when_the_mark_is_past_its_end() {
        let expiry = Expiry::at(HybridTime::new(10, 0), 100);
        let mut a: Record<&[u8]> = Record::new();
        a.mint_blind(dot(1, 10), Draft::string(&b"v"[..]).expiring(expiry)).unwrap();
        a.collect(at(150), 60);
        assert_eq!(a.live().len(), 1);
        a.collect(at(160), 60);
        assert!(a.is_empty());
    }

    #[test]
    fn a_tombstone_above_a_sibling_that_stays_stays_too() {
        let mut a: Record<&[u8]> = Record::new();
        put(&mut a, dot(1, 10), &Context::new());
        a.delete(dot(2, 20), &Context::new(), None, &Limits::default()).unwrap();
        assert_eq!((a.live().len(), a.shown(0)), (2, None), "concurrent: the delete is shown");
        a.collect(at(30), 0);
        assert_eq!((a.live().len(), a.shown(0)), (2, None), "and is shown after collection too");
        let context = a.context().clone();
        a.delete(dot(3, 40), &context, None, &Limits::default()).unwrap();
        assert!(a.collect(at(50), 0) && a.is_empty());
    }

    #[test]
    fn a_flush_kills_what_is_live() {
        let mut a: Record<&[u8]> = Record::new();
        put(&mut a, dot(1, 10), &Context::new());
        put(&mut a, dot(2, 20), &Context::new());
        assert!(a.flush(HybridTime::new(10, 0)));
        assert_eq!(a.live().len(), 1);
        assert!(!a.flush(HybridTime::new(10, 0)));
    }
}
