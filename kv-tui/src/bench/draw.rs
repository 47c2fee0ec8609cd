//! A run in progress as lines of text. Pure.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::client::Shared;
use super::report::Sample;
use super::tally::Tally;
use super::{Plan, whole};
use crate::text;

/// Characters of the longest bar, and of the line of samples.
const WIDTH: usize = 40;
/// Rows of the histogram at most: each is twice as slow as the one above.
const ROWS_MAX: usize = 12;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is known of a run in progress.
pub(crate) struct Picture<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sum: &'a Tally,
    pub(crate) samples: &'a [Sample],
    pub(crate) shared: &'a Shared,
}

impl Picture<'_> {
    /// One line, for a log.
    pub(crate) fn line(&self) -> String {
        let all = self.sum.all();
        let last = self.samples.last().map_or(0.0, |sample| sample.per_second);
        format!(
            "{}  {} op/s  p50 {}  p99 {}  p99.9 {}  max {}  errors {}",
            self.time(),
            text::count(whole(last)),
            text::latency(all.value_at_quantile(0.5)),
            text::latency(all.value_at_quantile(0.99)),
            text::latency(all.value_at_quantile(0.999)),
            text::latency(all.max()),
            self.sum.failed(),
        )
    }

    /// A picture for a terminal.
    pub(crate) fn lines(&self) -> Vec<String> {
        let plan = self.plan;
        let how = match plan.rate {
            Some(rate) => format!("open loop, {} op/s", text::count(rate.into())),
            None => "closed loop".to_owned(),
        };
        let mut lines = vec![
            format!(
                "workload {}, {}, {how}, {} clients x {}",
                plan.workload.name(),
                plan.distribution.name(),
                plan.clients,
                plan.pipeline
            ),
            self.line(),
            format!("op/s {}", sparks(self.samples)),
        ];
        lines.extend(bars(&self.sum.all()));
        lines
    }

    fn time(&self) -> String {
        let now = Instant::now();
        match now.checked_duration_since(self.shared.measure) {
            Some(since) if now < self.shared.end => {
                format!("{} of {} s", since.as_secs(), self.plan.time.as_secs())
            }
            Some(_) => "late ones".to_owned(),
            None => "warming up".to_owned(),
        }
    }
}

/// The last samples' throughput, the most at full height.
fn sparks(samples: &[Sample]) -> String {
    let shown = samples.get(samples.len().saturating_sub(WIDTH)..).unwrap_or_default();
    let most = shown.iter().map(|sample| sample.per_second).fold(1.0, f64::max);
    let level = |sample: &Sample| {
        let level = (sample.per_second / most * (LEVELS.len() - 1) as f64).round();
        LEVELS.get(whole(level) as usize).copied().unwrap_or(' ')
    };
    shown.iter().map(level).collect()
}

/// How many took how long, each row up to twice the time of the one above.
pub(crate) fn bars(all: &Histogram<u64>) -> Vec<String> {
    if all.is_empty() {
        return Vec::new();
    }
    let row_of = |us: u64| u64::BITS - us.max(1).leading_zeros();
    let (first, last) = (row_of(all.min()), row_of(all.max()));
    let first = first.max((last + 1).saturating_sub(ROWS_MAX as u32));
    let rows: Vec<(u64, u64)> = (first..=last)
        .map(|row| {
            let (from, to) = (1_u64 << (row - 1), (1_u64 << row) - 1);
            // The first row shown also holds what is faster.
            let from = if row == first { 0 } else { from };
            (to + 1, all.count_between(from, to))
        })
        .collect();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let bar = |(to, count): &(u64, u64)| {
        let length = whole((*count as f64 / most as f64 * WIDTH as f64).round()) as usize;
        let share = *count as f64 * 100.0 / all.len() as f64;
        format!("{:>9} {:<WIDTH$} {share:>5.1} %", text::latency(*to), "█".repeat(length))
    };
    rows.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::empty;

    #[test]
    fn bars_hold_everything_once_and_are_bounded() {
        let mut all = empty();
        assert!(bars(&all).is_empty());
        all.saturating_record_n(100, 3);
        all.saturating_record_n(127, 1);
        all.saturating_record_n(900, 4);
        let rows = bars(&all);
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0], format!("    128µs {}  50.0 %", "█".repeat(WIDTH)));
        assert_eq!(rows[1], format!("    256µs {:WIDTH$}   0.0 %", ""));
        assert_eq!(rows[3], format!("    1.0ms {}  50.0 %", "█".repeat(WIDTH)));
        all.saturating_record(300_000_000);
        let rows = bars(&all);
        assert_eq!(rows.len(), ROWS_MAX);
        assert!(rows[0].ends_with("88.9 %"), "the fast ones are in the first row: {}", rows[0]);
    }

    #[test]
    fn sparks_show_the_last_ones() {
        let sample = |per_second| Sample { per_second, p50_us: 1, p99_us: 1 };
        assert_eq!(sparks(&[sample(0.0), sample(50.0), sample(100.0)]), "▁▅█");
        assert_eq!(sparks(&vec![sample(5.0); 100]).chars().count(), WIDTH);
        assert_eq!(sparks(&[]), "");
    }
}
