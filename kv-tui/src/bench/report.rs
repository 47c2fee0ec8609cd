//! What a run came to, as JSON and back. The shape is documented in the README.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::client::Shared;
use super::tally::Tally;

const VERSION: u64 = 1;
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// About a second of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) max: u64,
    /// By name, as `QUANTILES` has them.
    pub(crate) quantiles: BTreeMap<String, u64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) targets: Vec<String>,
    /// What must be the same in runs that are compared.
    pub(crate) settings: BTreeMap<String, Value>,
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
    pub(crate) missing: u64,
    pub(crate) unfinished: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// By kind of operation, and `all`.
    pub(crate) latency_us: BTreeMap<String, Latency>,
    pub(crate) samples: Vec<Sample>,
    /// All latencies: the upper end of each bucket, and how many.
    pub(crate) histogram_us: Vec<(u64, u64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let quantiles =
            QUANTILES.map(|(name, at)| (name.to_owned(), histogram.value_at_quantile(at)));
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            max: histogram.max(),
            quantiles: quantiles.into(),
        }
    }

    /// A quantile by its name.
    pub(crate) fn at(&self, name: &str) -> u64 {
        self.quantiles.get(name).copied().unwrap_or(0)
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("count".into(), self.count.into());
        object.insert("mean".into(), self.mean.into());
        for (name, us) in &self.quantiles {
            object.insert(name.clone(), (*us).into());
        }
        object.insert("max".into(), self.max.into());
        Value::Object(object)
    }

    fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64();
        let quantile = |(name, _): &(&str, f64)| Some(((*name).to_owned(), number(name)?));
        Some(Self {
            count: number("count")?,
            mean: value.get("mean")?.as_f64()?,
            max: number("max")?,
            quantiles: QUANTILES.iter().map(quantile).collect::<Option<_>>()?,
        })
    }
}

impl Report {
    /// Of a run whose measured part took so long.
    pub(crate) fn new(
        shared: &Shared,
        server: String,
        took: Duration,
        tally: &Tally,
        samples: Vec<Sample>,
    ) -> Self {
        let plan = &shared.plan;
        let all = tally.all();
        let mut latency_us: BTreeMap<String, Latency> =
            tally.kinds().map(|(kind, of)| (kind.name().to_owned(), Latency::of(of))).collect();
        latency_us.insert("all".to_owned(), Latency::of(&all));
        let buckets = all.iter_recorded();
        Self {
            server,
            targets: plan.targets.iter().map(ToString::to_string).collect(),
            settings: plan.settings(),
            per_second: all.len() as f64 / took.as_secs_f64().max(1e-9),
            seconds: took.as_secs_f64(),
            missing: tally.missing,
            unfinished: tally.unfinished,
            errors: tally.errors.clone(),
            latency_us,
            samples,
            histogram_us: buckets
                .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
                .collect(),
        }
    }

    /// Latencies of all operations.
    pub(crate) fn all(&self) -> Latency {
        self.latency_us.get("all").cloned().unwrap_or_default()
    }

    /// Operations that ended in an error, and those that never began.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.unfinished
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let latency = self.latency_us.iter().map(|(kind, of)| (kind.clone(), of.to_json()));
        let sample = |of: &Sample| json!([of.per_second.round(), of.p50_us, of.p99_us]);
        let settings = self.settings.iter().map(|(name, value)| (name.clone(), value.clone()));
        let object = json!({
            "kv_bench": VERSION,
            "server": self.server,
            "targets": self.targets,
            "settings": Value::Object(settings.collect()),
            "per_second": self.per_second,
            "seconds": self.seconds,
            "missing": self.missing,
            "unfinished": self.unfinished,
            "errors": self.errors,
            "latency_us": Value::Object(latency.collect()),
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            "histogram_us": self.histogram_us.iter().map(|(us, count)| json!([us, count]))
                .collect::<Vec<_>>(),
        });
        match object {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }

    /// Reads what `to_json` gives; `None` if it is something else.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64();
        let map = |name: &str| value.get(name)?.as_object();
        let list = |name: &str| value.get(name)?.as_array();
        if number("kv_bench")? != VERSION {
            return None;
        }
        let sample = |of: &Value| match of.as_array()?.as_slice() {
            [per_second, p50, p99] => Some(Sample {
                per_second: per_second.as_f64()?,
                p50_us: p50.as_u64()?,
                p99_us: p99.as_u64()?,
            }),
            _ => None,
        };
        let bucket = |of: &Value| match of.as_array()?.as_slice() {
            [us, count] => Some((us.as_u64()?, count.as_u64()?)),
            _ => None,
        };
        Some(Self {
            server: value.get("server")?.as_str()?.to_owned(),
            targets: list("targets")?
                .iter()
                .map(|target| target.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            settings: map("settings")?.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            per_second: value.get("per_second")?.as_f64()?,
            seconds: value.get("seconds")?.as_f64()?,
            missing: number("missing")?,
            unfinished: number("unfinished")?,
            errors: map("errors")?
                .iter()
                .map(|(word, count)| Some((word.clone(), count.as_u64()?)))
                .collect::<Option<_>>()?,
            latency_us: map("latency_us")?
                .iter()
                .map(|(kind, of)| Some((kind.clone(), Latency::from_json(of)?)))
                .collect::<Option<_>>()?,
            samples: list("samples")?.iter().map(sample).collect::<Option<_>>()?,
            histogram_us: list("histogram_us")?.iter().map(bucket).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::Workload;
    use crate::bench::tally::Outcome;
    use crate::bench::workload::{Kind, tests::plan};

    /// A run whose samples are as given.
    pub(crate) fn report(samples: &[(f64, u64)]) -> Report {
        let shared = Shared::new(plan(Workload::A), Vec::new());
        let mut tally = Tally::default();
        tally.note(Kind::Read, 150, &Outcome::Done);
        tally.note(Kind::Update, 2_500, &Outcome::Done);
        tally.note(Kind::Update, 1, &Outcome::Failed("BUSY".to_owned()));
        let samples = samples.iter().map(|(per_second, p99_us)| Sample {
            per_second: *per_second,
            p50_us: p99_us / 2,
            p99_us: *p99_us,
        });
        Report::new(&shared, "kv 0".into(), Duration::from_secs(2), &tally, samples.collect())
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let report = report(&[(100.0, 7), (200.0, 8)]);
        let value = Value::Object(report.to_json());
        assert_eq!(Report::from_json(&value), Some(report.clone()));
        assert_eq!(value["latency_us"]["read"]["p99"], 150);
        assert_eq!(value["settings"]["rate"], Value::Null);
        assert_eq!((report.per_second, report.failed()), (1.0, 1));
        let buckets: u64 = report.histogram_us.iter().map(|(_, count)| count).sum();
        assert_eq!((buckets, report.all().count), (2, 2));
        assert_eq!(Report::from_json(&json!({"kv_bench": 2})), None);
    }
}
