//! News that still has to be told: bounded piggyback (SWIM, section 4.1).
//!
//! A piece of news is a key, not bytes: what is sent is what is known when the packet is made, so a
//! newer account takes the place of an older one for free. Members go before facts: facts may
//! exceed their budget for hours, and a refutation must not wait for them. Of each the least told
//! goes first, then whoever waits longest, so that nobody starves. Each is told
//! `retransmit_multiplier * log2(members)` times, enough to reach all with high probability; what
//! is lost beyond that is found by the periodic comparison.
//!
//! Invariant: at most one piece for each member and each fact, so what is held is bounded by the
//! tables that it names. The queues may hold as many again that are overtaken: those are passed
//! over when they come up, and dropped when they are more than the others.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// What the news is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum News<N> {
    Account(N),
    Fact(N, u16),
}

/// What became of a piece that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// It is in the packet.
    Told,
    /// There was no room for it.
    NoRoom,
    /// Nothing is known any more that could be told.
    Void,
}

#[derive(Clone, Debug)]
pub(crate) struct Dissemination<N> {
    places: BTreeMap<News<N>, Place>,
    /// By how often they were told; within that in the order in which they came there.
    accounts: Vec<VecDeque<Waiting<N>>>,
    facts: Vec<VecDeque<Waiting<N>>>,
    /// In all queues, overtaken ones included.
    queued: usize,
    arrivals: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    times: u32,
    arrival: u64,
}

/// A place in a queue: overtaken once `places` names another arrival.
#[derive(Clone, Copy, Debug)]
struct Waiting<N> {
    news: News<N>,
    arrival: u64,
}

/// The room that an empty queue keeps: what a burst needed goes back.
const ROOM_KEPT: usize = 32;

/// So many overtaken ones are not worth a cleaning.
const OVERTAKEN_MIN: usize = 64;

impl<N: Copy + Ord> Dissemination<N> {
    pub(crate) const fn new() -> Self {
        Self {
            places: BTreeMap::new(),
            accounts: Vec::new(),
            facts: Vec::new(),
            queued: 0,
            arrivals: 0,
        }
    }

    /// This is news again: it was told to nobody yet. What still waits keeps its place.
    pub(crate) fn push(&mut self, news: News<N>) {
        if self.places.get(&news).is_some_and(|place| place.times == 0) {
            return;
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.places.insert(news, Place { times: 0, arrival });
        self.queue(Waiting { news, arrival }, 0);
        if self.queued > 2 * self.places.len() + OVERTAKEN_MIN {
            self.clean();
        }
    }

    pub(crate) fn remove(&mut self, news: News<N>) {
        self.places.remove(&news);
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

    /// Offers the news for one packet, each piece once, until `misfits_max` found no room. What was
    /// told `times_max` times is forgotten. How many pieces were told.
    pub(crate) fn offer(
        &mut self,
        times_max: u32,
        misfits_max: usize,
        mut write: impl FnMut(News<N>) -> Offer,
    ) -> usize {
        let (mut told, mut misfits) = (Vec::new(), 0);
        let Self { places, accounts, facts, queued, .. } = self;
        for queue in accounts.iter_mut().chain(facts) {
            let mut kept = Vec::new();
            while misfits < misfits_max
                && let Some(waiting) = queue.pop_front()
            {
                *queued -= 1;
                let place = places.get(&waiting.news).copied();
                let Some(place) = place.filter(|place| place.arrival == waiting.arrival) else {
                    continue;
                };
                match write(waiting.news) {
                    Offer::Told => told.push((waiting, place.times + 1)),
                    Offer::NoRoom => {
                        misfits += 1;
                        kept.push(waiting);
                    }
                    Offer::Void => {
                        places.remove(&waiting.news);
                    }
                }
            }
            *queued += kept.len();
            kept.into_iter().rev().for_each(|waiting| queue.push_front(waiting));
            if queue.is_empty() && queue.capacity() > ROOM_KEPT {
                *queue = VecDeque::new();
            }
            if misfits >= misfits_max {
                break;
            }
        }
        let count = told.len();
        for (waiting, times) in told {
            if times >= times_max {
                self.places.remove(&waiting.news);
            } else {
                self.places.insert(waiting.news, Place { times, arrival: waiting.arrival });
                self.queue(waiting, times);
            }
        }
        count
    }

    /// How often each piece is told in a cluster of `members`.
    pub(crate) fn times_max(multiplier: u32, members: usize) -> u32 {
        multiplier.saturating_mul((members + 1).ilog2() + 1)
    }

    fn queue(&mut self, waiting: Waiting<N>, times: u32) {
        let queues = match waiting.news {
            News::Account(_) => &mut self.accounts,
            News::Fact(..) => &mut self.facts,
        };
        let place = times as usize;
        if queues.len() <= place {
            queues.resize_with(place + 1, VecDeque::new);
        }
        if let Some(queue) = queues.get_mut(place) {
            queue.push_back(waiting);
            self.queued += 1;
        }
    }

    fn clean(&mut self) {
        let Self { places, accounts, facts, queued, .. } = self;
        *queued = 0;
        for queue in accounts.iter_mut().chain(facts) {
            queue.retain(|waiting| {
                places.get(&waiting.news).is_some_and(|place| place.arrival == waiting.arrival)
            });
            *queued += queue.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one packet of `room` pieces tells.
    fn packet(queue: &mut Dissemination<u64>, times_max: u32, room: usize) -> Vec<News<u64>> {
        let mut packet = Vec::new();
        let told = queue.offer(times_max, 2, |news| {
            if packet.len() >= room {
                return Offer::NoRoom;
            }
            packet.push(news);
            Offer::Told
        });
        assert_eq!(told, packet.len());
        packet
    }

    #[test]
    fn the_least_told_goes_first_members_before_facts() {
        let mut queue = Dissemination::new();
        queue.push(News::Fact(1, 1));
        queue.push(News::Account(2));
        queue.push(News::Account(1));
        assert_eq!(packet(&mut queue, 3, 2), [News::Account(2), News::Account(1)]);
        queue.push(News::Account(3));
        assert_eq!(packet(&mut queue, 3, 1), [News::Account(3)]);
        let all = [News::Account(2), News::Account(1), News::Account(3), News::Fact(1, 1)];
        assert_eq!(packet(&mut queue, 3, 9), all);
        assert_eq!(packet(&mut queue, 3, 9), all, "it was told once, the others twice");
        assert_eq!(packet(&mut queue, 3, 9), [News::Fact(1, 1)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_edit_of_what_waits_does_not_lose_its_place() {
        let mut queue = Dissemination::new();
        queue.push(News::Fact(9, 1));
        queue.push(News::Fact(1, 1));
        queue.push(News::Fact(9, 1));
        assert_eq!(packet(&mut queue, 9, 1), [News::Fact(9, 1)]);
        queue.push(News::Fact(9, 1));
        assert_eq!(packet(&mut queue, 9, 9), [News::Fact(1, 1), News::Fact(9, 1)]);
    }

    #[test]
    fn what_is_overtaken_or_gone_takes_no_room_for_long() {
        let mut queue = Dissemination::new();
        queue.push(News::Account(1));
        for fact in 0..10_000 {
            queue.push(News::Fact(fact % 10, 1));
            // Only what was told already can be overtaken; the first level alone is ever told.
            packet(&mut queue, 9, 1);
        }
        assert_eq!(queue.len(), 10);
        assert!(queue.queued <= 2 * queue.len() + OVERTAKEN_MIN, "{}", queue.queued);
        queue.remove(News::Fact(3, 1));
        let told = packet(&mut queue, 9, 99);
        assert_eq!(told.len(), 9);
        assert!(!told.contains(&News::Fact(3, 1)));
        queue.offer(9, 1, |_| Offer::Void);
        assert!(queue.is_empty() && queue.queued == 0);
    }

    #[test]
    fn the_limit_grows_with_the_logarithm() {
        assert_eq!(Dissemination::<u64>::times_max(2, 1), 4);
        assert_eq!(Dissemination::<u64>::times_max(2, 3), 6);
        assert_eq!(Dissemination::<u64>::times_max(2, 20), 10);
        assert_eq!(Dissemination::<u64>::times_max(2, 1_000), 20);
    }
}
