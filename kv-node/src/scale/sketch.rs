//! The most frequent of many things, in little memory: Space-Saving.
//!
//! So many counters, each for one thing. What has none takes that of the least counted, and its
//! count with it, which is then the error that it may have: an estimate is never too low, nor too
//! high by more than its error. Whatever makes up more than one of `counters` of everything is in.
//!
//! (Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", 2005.)

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counter<T> {
    id: u64,
    pub(super) count: u64,
    /// Its true count is at least `count - error`.
    pub(super) error: u64,
    pub(super) thing: T,
}

/// The sketch. Things are told apart by an id; the thing itself is made when it gets a counter.
#[derive(Clone, Debug)]
pub(super) struct Sketch<T> {
    counters: Vec<Counter<T>>,
    counters_max: usize,
}

impl<T> Sketch<T> {
    pub(super) fn new(counters_max: usize) -> Self {
        Self { counters: Vec::with_capacity(counters_max), counters_max }
    }

    /// Counts a thing `weight` times.
    pub(super) fn note(&mut self, id: u64, weight: u64, thing: impl FnOnce() -> T) {
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.id == id) {
            counter.count += weight;
            return;
        }
        if self.counters.len() < self.counters_max {
            self.counters.push(Counter { id, count: weight, error: 0, thing: thing() });
            return;
        }
        if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            let error = least.count;
            *least = Counter { id, count: error + weight, error, thing: thing() };
        }
    }

    /// Everything with a counter, the most frequent first; then nothing was counted.
    pub(super) fn take(&mut self) -> Vec<Counter<T>> {
        let mut all = std::mem::take(&mut self.counters);
        all.sort_by_key(|counter| (std::cmp::Reverse(counter.count), counter.id));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn estimates_hold_and_the_frequent_are_in(
            stream in prop::collection::vec((0..40_u64, 1..4_u64), 1..400),
        ) {
            let counters_max = 8;
            let mut sketch = Sketch::new(counters_max);
            let mut truth = BTreeMap::<u64, u64>::new();
            for (id, weight) in &stream {
                // Low ids are much more frequent.
                let id = id * id / 40;
                sketch.note(id, *weight, || id);
                *truth.entry(id).or_default() += weight;
            }
            let total: u64 = truth.values().sum();
            let found = sketch.take();
            prop_assert!(found.len() <= counters_max);
            for counter in &found {
                let true_count = truth[&counter.thing];
                prop_assert!(counter.count >= true_count);
                prop_assert!(counter.count - counter.error <= true_count);
            }
            for (id, count) in &truth {
                let is_in = found.iter().any(|counter| counter.thing == *id);
                prop_assert!(is_in || *count <= total / counters_max as u64, "{id}: {count}");
            }
            prop_assert!(found.windows(2).all(|two| two[0].count >= two[1].count));
            prop_assert!(sketch.take().is_empty());
        }
    }
}
