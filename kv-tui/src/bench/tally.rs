//! What was measured: a histogram for each kind of operation, errors by their first word.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::workload::Kind;

/// Latencies are kept up to here, with three digits; what is slower counts as this.
pub(crate) const LATENCY_US_MAX: u64 = 600_000_000;
const DIGITS: u8 = 3;
/// Kinds of errors that are counted each; what is beyond goes under one more.
const ERRORS_MAX: usize = 16;

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Done, and there was no such key.
    Missing,
    /// The answer's first word.
    Failed(String),
}

/// One client's, or several's together.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    kinds: BTreeMap<Kind, Histogram<u64>>,
    /// Of all kinds, since it was last taken.
    lately: Histogram<u64>,
    pub(crate) missing: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Should have begun before the end and did not.
    pub(crate) unfinished: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            kinds: BTreeMap::new(),
            lately: empty(),
            missing: 0,
            errors: BTreeMap::new(),
            unfinished: 0,
        }
    }
}

/// An empty histogram.
pub(crate) fn empty() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that it takes"),
    }
}

impl Tally {
    /// Notes an operation.
    pub(crate) fn note(&mut self, kind: Kind, us: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(word) => return self.fail(word),
            Outcome::Missing => self.missing += 1,
            Outcome::Done => {}
        }
        self.kinds.entry(kind).or_insert_with(empty).saturating_record(us.max(1));
        self.lately.saturating_record(us.max(1));
    }

    fn fail(&mut self, word: &str) {
        let known = self.errors.contains_key(word) || self.errors.len() < ERRORS_MAX;
        let word = if known { word } else { "others" };
        *self.errors.entry(word.to_owned()).or_default() += 1;
    }

    /// Latencies since this was last asked.
    pub(crate) fn take_lately(&mut self, into: &mut Histogram<u64>) {
        let _same_bounds = into.add(&self.lately);
        self.lately.reset();
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, histogram) in &other.kinds {
            let _same_bounds = self.kinds.entry(*kind).or_insert_with(empty).add(histogram);
        }
        self.missing += other.missing;
        self.unfinished += other.unfinished;
        for (word, count) in &other.errors {
            *self.errors.entry(word.clone()).or_default() += count;
        }
    }

    /// Latencies by kind.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, &Histogram<u64>)> {
        self.kinds.iter().map(|(kind, histogram)| (*kind, histogram))
    }

    /// Latencies of all kinds together.
    pub(crate) fn all(&self) -> Histogram<u64> {
        self.kinds.values().fold(empty(), |mut all, histogram| {
            let _same_bounds = all.add(histogram);
            all
        })
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_has_no_latency_and_its_kinds_are_bounded() {
        let mut tally = Tally::default();
        tally.note(Kind::Read, 10, &Outcome::Done);
        tally.note(Kind::Read, 20, &Outcome::Missing);
        tally.note(Kind::Update, LATENCY_US_MAX * 2, &Outcome::Done);
        (0..100).for_each(|n| tally.note(Kind::Read, 1, &Outcome::Failed(n.to_string())));
        assert_eq!((tally.all().len(), tally.missing, tally.failed()), (3, 1, 100));
        assert_eq!(tally.errors.len(), ERRORS_MAX + 1);
        let mut lately = empty();
        tally.take_lately(&mut lately);
        tally.take_lately(&mut lately);
        assert_eq!(lately.len(), 3, "each is told once");
        let mut both = Tally::default();
        both.add(&tally);
        both.add(&tally);
        assert_eq!((both.all().len(), both.missing, both.failed()), (6, 2, 200));
    }
}
