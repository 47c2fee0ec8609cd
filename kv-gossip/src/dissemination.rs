//! News that still has to be told: bounded piggyback (SWIM, section 4.1).
//!
//! A piece of news is a key, not bytes: what is sent is what is known when the packet is made, so a
//! newer account takes the place of an older one for free. The least told goes first, members
//! before facts, then whoever waits longest, so that nobody starves when facts exceed their budget.
//! Each is told `retransmit_multiplier * log2(members)` times, enough to reach all with high
//! probability; what is lost beyond that is found by the periodic comparison. Invariant: at most
//! one piece for each member and each fact, so the queue is bounded by the tables that it names.

use alloc::collections::{BTreeMap, BTreeSet};

/// What the news is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum News<N> {
    Account(N),
    Fact(N, u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Dissemination<N> {
    places: BTreeMap<News<N>, Place>,
    order: BTreeSet<(Place, News<N>)>,
    arrivals: u64,
}

/// How often it was told, whether it is a fact, and when it came.
type Place = (u32, bool, u64);

impl<N: Copy + Ord> Dissemination<N> {
    pub(crate) const fn new() -> Self {
        Self { places: BTreeMap::new(), order: BTreeSet::new(), arrivals: 0 }
    }

    /// This is news again: it was told to nobody yet. What still waits keeps its place.
    pub(crate) fn push(&mut self, news: News<N>) {
        if self.places.get(&news).is_some_and(|(times, _, _)| *times == 0) {
            return;
        }
        self.remove(news);
        self.arrivals += 1;
        self.put(news, (0, matches!(news, News::Fact(..)), self.arrivals));
    }

    pub(crate) fn remove(&mut self, news: News<N>) {
        if let Some(place) = self.places.remove(&news) {
            self.order.remove(&(place, news));
        }
    }

    /// It was told once more: forget it at `times_max`.
    pub(crate) fn told(&mut self, news: News<N>, times_max: u32) {
        let Some((times, fact, arrival)) = self.places.get(&news).copied() else { return };
        self.remove(news);
        if times + 1 < times_max {
            self.put(news, (times + 1, fact, arrival));
        }
    }

    pub(crate) fn contains(&self, news: News<N>) -> bool {
        self.places.contains_key(&news)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The news, least told first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = News<N>> + '_ {
        self.order.iter().map(|(_, news)| *news)
    }

    /// How often each piece is told in a cluster of `members`.
    pub(crate) fn times_max(multiplier: u32, members: usize) -> u32 {
        multiplier.saturating_mul((members + 1).ilog2() + 1)
    }

    fn put(&mut self, news: News<N>, place: Place) {
        self.places.insert(news, place);
        self.order.insert((place, news));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_told_goes_first_and_ends_at_the_limit() {
        let mut queue = Dissemination::new();
        queue.push(News::Fact(1_u64, 1));
        queue.push(News::Account(2));
        queue.push(News::Account(1));
        let order: alloc::vec::Vec<_> = queue.iter().collect();
        assert_eq!(order, [News::Account(2), News::Account(1), News::Fact(1, 1)]);
        queue.told(News::Account(2), 2);
        assert_eq!(queue.iter().last(), Some(News::Account(2)));
        queue.told(News::Account(2), 2);
        assert_eq!(queue.len(), 2);
        queue.told(News::Account(1), 2);
        queue.push(News::Account(1));
        assert_eq!(queue.iter().next(), Some(News::Account(1)));
    }

    #[test]
    fn an_edit_of_what_waits_does_not_lose_its_place() {
        let mut queue = Dissemination::new();
        queue.push(News::Fact(9_u64, 1));
        queue.push(News::Fact(1, 1));
        queue.push(News::Fact(9, 1));
        assert_eq!(queue.iter().next(), Some(News::Fact(9, 1)));
    }

    #[test]
    fn the_limit_grows_with_the_logarithm() {
        assert_eq!(Dissemination::<u64>::times_max(2, 1), 4);
        assert_eq!(Dissemination::<u64>::times_max(2, 3), 6);
        assert_eq!(Dissemination::<u64>::times_max(2, 20), 10);
        assert_eq!(Dissemination::<u64>::times_max(2, 1_000), 20);
    }
}
