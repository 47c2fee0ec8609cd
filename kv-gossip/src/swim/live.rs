//! Who is up or suspected, in one place, so that a random one is found without a look at all.
//!
//! Gossip, comparisons and indirect probes choose random members several times a second. Collecting
//! the table for each choice made a packet cost as much as the cluster is large.
//!
//! Invariant: sorted, each member once; it changes only when a member becomes live or ceases to be.

use alloc::vec::Vec;

use crate::rng::{Rng, below, shuffle_prefix};

#[derive(Clone, Debug)]
pub(super) struct Live<N>(Vec<N>);

impl<N: Copy + Ord> Live<N> {
    pub(super) fn of(node: N) -> Self {
        Self(Vec::from([node]))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&mut self, node: N) {
        if let Err(place) = self.0.binary_search(&node) {
            self.0.insert(place, node);
        }
    }

    /// Inserts many at once.
    pub(super) fn extend(&mut self, nodes: impl ExactSizeIterator<Item = N>) {
        self.0.reserve_exact(nodes.len());
        self.0.extend(nodes);
        self.0.sort_unstable();
        self.0.dedup();
    }

    pub(super) fn remove(&mut self, node: N) {
        if let Ok(place) = self.0.binary_search(&node) {
            self.0.remove(place);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = N> + '_ {
        self.0.iter().copied()
    }

    /// Up to `count` random members, each once, of those that `fits` takes. Of a large cluster in
    /// which few fit there may be fewer than there could.
    pub(super) fn sample<R: Rng>(
        &self,
        rng: &mut R,
        count: usize,
        mut fits: impl FnMut(N) -> bool,
    ) -> Vec<N> {
        let tries_max = 16 + 8 * count;
        if self.0.len() <= tries_max {
            let mut fitting: Vec<N> = self.iter().filter(|node| fits(*node)).collect();
            let count = count.min(fitting.len());
            shuffle_prefix(rng, &mut fitting, count);
            fitting.truncate(count);
            return fitting;
        }
        let mut chosen: Vec<N> = Vec::with_capacity(count);
        for _ in 0..tries_max {
            if chosen.len() >= count {
                break;
            }
            let Some(node) = self.0.get(below(rng, self.0.len())).copied() else { break };
            if !chosen.contains(&node) && fits(node) {
                chosen.push(node);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn a_sample_holds_each_once_and_reaches_everybody() {
        for members in [5_u64, 500] {
            let mut live = Live::of(0);
            (1..members).for_each(|node| live.insert(node));
            live.insert(3);
            live.remove(4);
            live.remove(4);
            assert_eq!(live.len() as u64, members - 1);
            let mut rng = SplitMix64::new(9);
            let mut seen = alloc::collections::BTreeSet::new();
            for _ in 0..10_000 {
                let mut sample = live.sample(&mut rng, 3, |node| node != 0);
                assert_eq!(sample.len(), 3);
                sample.sort_unstable();
                sample.dedup();
                assert!(sample.len() == 3 && !sample.contains(&0) && !sample.contains(&4));
                seen.extend(sample);
            }
            assert_eq!(seen.len() as u64, members - 2, "everybody is chosen in time");
            assert!(live.sample(&mut rng, 3, |_| false).is_empty());
        }
    }
}
