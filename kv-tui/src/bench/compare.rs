//! Two runs beside each other: what changed, and whether that is more than chance.
//!
//! A run's samples, one a second, have a mean and an interval in which it lies with 95 % (the
//! normal one: 1.96 standard errors to each side). A change counts only if it is larger than asked
//! for and the two intervals do not touch. Samples of one run are not independent, so a change
//! that counts by a hair is worth a second run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::report::{Report, Sample};

const STANDARD_ERRORS: f64 = 1.96;

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// Not more than chance, or less than was asked for.
    Same,
}

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    pub(crate) before: Interval,
    pub(crate) after: Interval,
    pub(crate) percent: f64,
    pub(crate) verdict: Verdict,
}

/// A mean, and how far it may be from the truth to each side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) half: f64,
}

impl Interval {
    fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half = match values.len() {
            // Nothing is known of its spread.
            0 | 1 => f64::INFINITY,
            _ => STANDARD_ERRORS * (squares / (count - 1.0) / count).sqrt(),
        };
        Self { mean, half }
    }

    fn touches(self, other: Self) -> bool {
        (self.mean - other.mean).abs() <= self.half + other.half
    }
}

/// The names of settings in which two runs differ: they can't be compared.
pub(crate) fn differing<'a>(
    before: &'a BTreeMap<String, Value>,
    after: &'a BTreeMap<String, Value>,
) -> Vec<&'a str> {
    let names = before.keys().chain(after.keys());
    let mut names: Vec<&str> =
        names.filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What changed from one run to the other. Changes up to `percent` are none.
pub(crate) fn compare(before: &Report, after: &Report, percent: f64) -> Vec<Change> {
    type Figure = fn(&Sample) -> f64;
    let figures: [(&'static str, bool, Figure); 3] = [
        ("op/s", true, |sample| sample.per_second),
        ("p50 us", false, |sample| sample.p50_us as f64),
        ("p99 us", false, |sample| sample.p99_us as f64),
    ];
    let change = |(name, more_is_better, figure): (&'static str, bool, Figure)| {
        let interval = |report: &Report| {
            Interval::of(&report.samples.iter().map(figure).collect::<Vec<f64>>())
        };
        let (before, after) = (interval(before), interval(after));
        let changed = (after.mean / before.mean - 1.0) * 100.0;
        let verdict = if changed.is_nan() || changed.abs() <= percent || before.touches(after) {
            Verdict::Same
        } else if (changed > 0.0) == more_is_better {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        Change { name, before, after, percent: changed, verdict }
    };
    figures.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    fn verdicts(before: &[(f64, u64)], after: &[(f64, u64)]) -> Vec<Verdict> {
        let changes = compare(&report(before), &report(after), 5.0);
        changes.into_iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn only_what_is_large_and_sure_is_a_change() {
        use Verdict::{Better, Same, Worse};
        let steady = [(100.0, 1_000), (102.0, 1_010), (98.0, 990), (100.0, 1_000)];
        let faster = [(120.0, 800), (122.0, 808), (118.0, 792), (120.0, 800)];
        let wild = [(60.0, 100), (180.0, 3_000), (120.0, 500), (140.0, 400)];
        let little = [(103.0, 970), (103.0, 970), (103.0, 970), (103.0, 970)];
        assert_eq!(verdicts(&steady, &faster), [Better; 3]);
        assert_eq!(verdicts(&faster, &steady), [Worse; 3]);
        assert_eq!(verdicts(&steady, &wild), [Same; 3], "it may be chance");
        assert_eq!(verdicts(&steady, &little), [Same; 3], "it is sure, and little");
        assert_eq!(verdicts(&steady[..1], &faster[..1]), [Same; 3], "one sample says nothing");
        assert_eq!(verdicts(&[], &[]), [Same; 3]);
    }

    #[test]
    fn runs_of_different_settings_are_not_compared() {
        let (before, mut after) = (report(&[]), report(&[]));
        assert!(differing(&before.settings, &after.settings).is_empty());
        after.settings.insert("clients".into(), 7.into());
        after.settings.insert("new".into(), Value::Null);
        assert_eq!(differing(&before.settings, &after.settings), ["clients", "new"]);
    }
}
