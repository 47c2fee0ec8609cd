//! Prometheus's text format, version 0.0.4: one figure after the other, each with its help.
//!
//! ```text
//! # HELP kv_peer_down 1 while requests count the peer as down.
//! # TYPE kv_peer_down gauge
//! kv_peer_down{cluster="kv",node="6d..",peer="a0.."} 0
//! ```
//! **Invariants.** A figure stands there once, with all its values together: its item of the
//! registry is what it is written by. A label has at most `SERIES_MAX` values on one page; how many
//! were left out is a figure, too. (A cluster of thousands would make each node tell thousands of
//! peers apart, and whoever scrapes all of them store millions of series.)

use std::fmt::{Display, Write as _};

use super::latencies::{Histogram, bounds_us};
use super::registry::{Kind, Metric, SERIES_LEFT_OUT};

/// Values of one label at most.
pub(super) const SERIES_MAX: usize = 128;

/// A page in the making.
pub(super) struct Page {
    out: String,
    /// Labels that every figure has, as they are written.
    common: String,
    left_out: usize,
}

impl Page {
    pub(super) fn new(common: &[(&str, &str)]) -> Self {
        let common: Vec<String> =
            common.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        Self { out: String::with_capacity(32 * 1_024), common: common.join(","), left_out: 0 }
    }

    /// A figure with one value.
    pub(super) fn value(&mut self, metric: &Metric, value: f64) {
        self.maybe(metric, Some(value));
    }

    /// A figure that is not always known.
    pub(super) fn maybe(&mut self, metric: &Metric, value: Option<f64>) {
        self.head(metric);
        if let Some(value) = value {
            self.line(metric.name, "", "", value);
        }
    }

    /// A figure with a value for each value of its label.
    pub(super) fn each(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (impl Display, f64)>,
    ) {
        self.head(metric);
        let label = metric.label.unwrap_or("of");
        for (place, (of, value)) in values.into_iter().enumerate() {
            if place < SERIES_MAX {
                let label = format!(",{label}=\"{}\"", escaped(&of.to_string()));
                self.line(metric.name, "", &label, value);
            } else {
                self.left_out += 1;
            }
        }
    }

    /// A histogram for each value of its label.
    pub(super) fn histograms(
        &mut self,
        metric: &Metric,
        histograms: impl IntoIterator<Item = (&'static str, Histogram)>,
    ) {
        self.head(metric);
        let label = metric.label.unwrap_or("of");
        for (of, histogram) in histograms {
            let label = format!(",{label}=\"{of}\"");
            let mut sum = 0;
            let bounds = bounds_us().map(|us| seconds(us).to_string()).chain(["+Inf".into()]);
            for (le, count) in bounds.zip(&histogram.buckets) {
                sum += count;
                let label = format!("{label},le=\"{le}\"");
                self.line(metric.name, "_bucket", &label, sum as f64);
            }
            self.line(metric.name, "_sum", &label, seconds(histogram.sum_us));
            self.line(metric.name, "_count", &label, sum as f64);
        }
    }

    /// The whole page.
    pub(super) fn end(mut self) -> String {
        let left_out = self.left_out as f64;
        self.value(&SERIES_LEFT_OUT, left_out);
        self.out
    }

    fn head(&mut self, metric: &Metric) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = metric.about.trim().replace('\\', "\\\\").replace('\n', "\\n");
        let name = metric.name;
        let _infallible = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, suffix: &str, label: &str, value: f64) {
        let common = &self.common;
        let _infallible = writeln!(self.out, "{name}{suffix}{{{common}{label}}} {value}");
    }
}

pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::latencies::{Class, Latencies};
    use super::super::registry::{PEER_DOWN, READY, REQUEST_SECONDS};
    use super::*;

    #[test]
    fn figures_are_written_with_their_help_and_labels() {
        let mut page = Page::new(&[("cluster", "a\"b\\c"), ("node", "n")]);
        page.value(&READY, 1.0);
        page.each(&PEER_DOWN, [("p", 0.0), ("q\n", 1.5)]);
        let page = page.end();
        let name = READY.name;
        assert!(page.starts_with(&format!("# HELP {name} {}\n", READY.about.trim())), "{page}");
        assert!(page.contains("# TYPE kv_ready gauge\n"));
        assert!(page.contains("kv_ready{cluster=\"a\\\"b\\\\c\",node=\"n\"} 1\n"), "{page}");
        assert!(page.contains("node=\"n\",peer=\"q\\n\"} 1.5\n"), "{page}");
        assert!(page.contains("kv_series_left_out{cluster=\"a\\\"b\\\\c\",node=\"n\"} 0\n"));
    }

    #[test]
    fn a_label_has_a_bound_and_what_is_left_out_is_told() {
        let mut page = Page::new(&[("node", "n")]);
        page.each(&PEER_DOWN, (0..2_000).map(|peer| (peer, 0.0)));
        let page = page.end();
        let told = page.lines().filter(|line| line.starts_with("kv_peer_down{")).count();
        assert_eq!(told, SERIES_MAX);
        assert!(page.ends_with("kv_series_left_out{node=\"n\"} 1872\n"), "{page}");
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let latencies = Latencies::default();
        latencies.record(Class::Read, Duration::from_micros(50));
        latencies.record(Class::Read, Duration::from_micros(100));
        latencies.record(Class::Read, Duration::from_secs(20));
        let mut page = Page::new(&[("node", "n")]);
        page.histograms(&REQUEST_SECONDS, latencies.each().map(|(of, held)| (of.word(), held)));
        let page = page.end();
        let start = "kv_request_seconds_bucket{node=\"n\",op=\"read\",le=";
        for line in ["\"0.000064\"} 1", "\"0.000128\"} 2", "\"8.388608\"} 2", "\"+Inf\"} 3"] {
            assert!(page.contains(&format!("{start}{line}\n")), "{line} in {page}");
        }
        assert!(page.contains("kv_request_seconds_sum{node=\"n\",op=\"read\"} 20.00015\n"));
        assert!(page.contains("kv_request_seconds_count{node=\"n\",op=\"read\"} 3\n"));
    }
}
