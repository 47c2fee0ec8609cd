//! The tables: medians over the rounds, and ratios of figures of one round.

use std::fmt::Write as _;

use crate::plan::{Options, Results};
use crate::targets::{Asked, COUNTED, GAUGES, RATES, STALL_MS_MAX};

const OURS: &str = "kv-lsm";

/// The median; NaN of nothing.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Results {
    fn rate(&self, round: usize, engine: &str, workload: &str) -> Option<f64> {
        self.runs
            .iter()
            .find(|run| run.round == round && run.engine == engine && run.workload == workload)
            .map(|run| run.outcome.ops as f64 / run.outcome.seconds)
    }

    fn gauge(&self, round: usize, engine: &str, name: &str) -> Option<f64> {
        self.gauges
            .iter()
            .find(|gauge| gauge.round == round && gauge.engine == engine && gauge.name == name)
            .map(|gauge| gauge.value)
    }

    fn latency_us(&self, engine: &str, workload: &str, at: usize) -> f64 {
        let runs = self.runs.iter().filter(|run| run.engine == engine && run.workload == workload);
        median(runs.map(|run| run.outcome.latency_us[at]).collect())
    }

    fn wrong(&self) -> u64 {
        self.runs.iter().map(|run| run.outcome.wrong).sum()
    }
}

/// Ours to a peer's, round by round, then the median.
fn ratio(rounds: usize, figure: impl Fn(usize, &str) -> Option<f64>, peer: &str) -> Option<f64> {
    let ratios: Vec<f64> =
        (0..rounds).filter_map(|round| Some(figure(round, OURS)? / figure(round, peer)?)).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

/// The verdict of one row: the ratio that counts, what is asked, and how it went.
fn verdict(
    rounds: usize,
    asked: Option<Asked>,
    figure: impl Fn(usize, &str) -> Option<f64>,
) -> String {
    let own = median((0..rounds).filter_map(|round| figure(round, OURS)).collect());
    let to = |peers: &[&str]| -> Vec<f64> {
        peers.iter().filter_map(|peer| ratio(rounds, &figure, peer)).collect()
    };
    let (shown, words, met) = match asked {
        None => (None, "-".to_owned(), None),
        Some(Asked::Rate(least)) => {
            let worst = to(&COUNTED).into_iter().reduce(f64::min);
            (worst, format!(">= {least:.2}"), worst.map(|ratio| ratio >= least))
        }
        Some(Asked::OfBare(least)) => {
            let bare = to(&["bare"]).pop();
            (bare, format!(">= {least:.2} of a bare loop"), bare.map(|ratio| ratio >= least))
        }
        Some(Asked::Most(most)) => {
            let worst = to(&COUNTED).into_iter().reduce(f64::max);
            (worst, format!("<= {most:.2}"), worst.map(|ratio| ratio <= most))
        }
        Some(Asked::Number(most)) => (None, format!("<= {most}"), Some(own <= most)),
    };
    let shown = shown.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let met = met.map_or("", |met| if met { "met" } else { "MISSED" });
    format!(" {shown} | {words} | {met} |")
}

/// The tables in Markdown.
pub(crate) fn markdown(results: &Results, options: &Options) -> String {
    let mut out = format!(
        "{} pairs of 16 + 100 B, half compressible; memtable {} MiB, cache {} MiB; {} rounds, \
         interleaved, medians; the ratio is ours to the best of {}, round by round. A write has \
         returned when it survives `kill -9`; kv-lsm-ticket does not wait for that. Reads checked: \
         {} were wrong.\n\n",
        options.pairs,
        options.sizes.memtable_bytes >> 20,
        options.sizes.cache_bytes >> 20,
        options.rounds,
        COUNTED.join(" and "),
        results.wrong(),
    );
    let mut columns = options.engines.clone();
    columns.extend(["kv-lsm-ticket", "bare"]);
    rates(&mut out, results, options, &columns);
    gauges(&mut out, results, options);
    cpu(&mut out, results, options);
    latencies(&mut out, results, &columns);
    out
}

fn header(out: &mut String, first: &str, columns: &[&str], last: &str) {
    let _ = write!(out, "| {first} |");
    for column in columns {
        let _ = write!(out, " {column} |");
    }
    let _ = writeln!(out, "{last}");
    let cells = columns.len() + 1 + last.matches('|').count();
    let _ = writeln!(out, "|{}", "---|".repeat(cells));
}

fn rates(out: &mut String, results: &Results, options: &Options, columns: &[&str]) {
    let _ = writeln!(out, "### Operations in a second\n");
    header(out, "workload", columns, " ratio | asked | |");
    for &(name, what, asked) in RATES {
        let figure = |round: usize, engine: &str| results.rate(round, engine, name);
        if (0..options.rounds).all(|round| figure(round, OURS).is_none()) {
            continue;
        }
        let _ = write!(out, "| {what} |");
        for column in columns {
            let rate = median((0..options.rounds).filter_map(|r| figure(r, column)).collect());
            let _ = if rate.is_nan() { write!(out, " - |") } else { write!(out, " {rate:.0} |") };
        }
        let _ = writeln!(out, "{}", verdict(options.rounds, asked, figure));
    }
}

fn gauges(out: &mut String, results: &Results, options: &Options) {
    let _ = writeln!(out, "\n### Space, memory, opening\n");
    header(out, "", &options.engines, " ratio | asked | |");
    for &(name, what, unit, asked) in GAUGES {
        let figure = |round: usize, engine: &str| results.gauge(round, engine, name);
        if (0..options.rounds).all(|round| figure(round, OURS).is_none()) {
            continue;
        }
        let _ = write!(out, "| {what} |");
        for engine in &options.engines {
            let value = median((0..options.rounds).filter_map(|r| figure(r, engine)).collect());
            let _ = write!(out, " {} |", (value / unit * 100.0).round() / 100.0);
        }
        let _ = writeln!(out, "{}", verdict(options.rounds, asked, figure));
    }
    let stall_ms = results.latency_us(OURS, "fillrandom", 3) / 1e3;
    if !stall_ms.is_nan() {
        let _ = write!(out, "| worst write of fillrandom, ms |");
        for engine in &options.engines {
            let _ = write!(out, " {:.1} |", results.latency_us(engine, "fillrandom", 3) / 1e3);
        }
        let met = if stall_ms <= STALL_MS_MAX { "met" } else { "MISSED" };
        let _ = writeln!(out, " - | <= {STALL_MS_MAX} | {met} |");
    }
}

/// What a busy machine does not change: the time that the engine's threads had, whoever waited.
fn cpu(out: &mut String, results: &Results, options: &Options) {
    let _ = writeln!(out, "\n### CPU time of an operation in microseconds, all threads\n");
    header(out, "workload", &options.engines, "");
    for &(name, what, _) in RATES {
        let of = |engine: &str| {
            let runs = results.runs.iter();
            let runs = runs.filter(|run| run.engine == engine && run.workload == name);
            median(runs.map(|run| run.outcome.cpu_seconds * 1e6 / run.outcome.ops as f64).collect())
        };
        if of(OURS).is_nan() {
            continue;
        }
        let _ = write!(out, "| {what} |");
        for engine in &options.engines {
            let _ = write!(out, " {:.2} |", of(engine));
        }
        let _ = writeln!(out);
    }
}

fn latencies(out: &mut String, results: &Results, columns: &[&str]) {
    let _ = writeln!(out, "\n### Latency in microseconds: p50 / p99 / p99.9 / worst\n");
    header(out, "workload", columns, "");
    for &(name, what, _) in RATES {
        if results.latency_us(OURS, name, 0).is_nan() {
            continue;
        }
        let _ = write!(out, "| {what} |");
        for column in columns {
            let at = |at: usize| results.latency_us(column, name, at);
            let _ = if at(0).is_nan() || at(0) <= 0.0 {
                write!(out, " - |")
            } else {
                write!(out, " {:.1} / {:.1} / {:.0} / {:.0} |", at(0), at(1), at(2), at(3))
            };
        }
        let _ = writeln!(out);
    }
}
