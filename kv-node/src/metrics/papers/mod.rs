//! What is written from the registry for people and for other programs: `docs/METRICS.md`, the
//! dashboard, the alert rules, and the table of alerts in `docs/OPERATING.md`.
//!
//! A test compares the files with what would be written now, so that none of them can be wrong;
//! `cargo xtask metrics` writes them. A running node knows nothing of them: only tests do.

mod alerts;
mod dashboard;
mod query;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::registry::{Group, Kind, Metric, all};
use super::text::SERIES_MAX;
use alerts::ALERTS;

const HEAD: &str = "\
# Metrics

Written from kv-node's registry of figures, and checked against it by a test: what stands here is
what `/metrics` of a node's HTTP port shows, all of it. [alerts/kv.rules.yml](alerts/kv.rules.yml)
are rules for Prometheus, [grafana/kv.json](grafana/kv.json) is a dashboard, and
[OPERATING.md](OPERATING.md) says what each alert means.

Every figure has the labels `cluster` (the cluster's name) and `node` (the node's id). Counters
begin at 0 when a node starts. `INFO` and `kv status --json` show counters without `_total`.
";

const COLUMNS: &str = "| name | kind | unit | label | what |\n|---|---|---|---|---|\n";

/// `docs/METRICS.md`.
fn metrics_page() -> String {
    let mut page = HEAD.to_owned();
    let _infallible = write!(
        page,
        "No label has more than {SERIES_MAX} values on one page, whatever the cluster's size; \
         `kv_series_left_out`\ncounts what was left out. No label holds a client's words.\n"
    );
    let mut chapter = None;
    for metric in all() {
        if chapter != Some(metric.group) {
            chapter = Some(metric.group);
            let title = title(metric.group);
            let _infallible = write!(page, "\n## {title}\n\n{COLUMNS}");
        }
        let label = metric.label.map_or(String::new(), |label| format!("`{label}`"));
        let (kind, unit, about) = (kind(metric), unit(metric), metric.about.trim());
        let name = metric.name;
        let _infallible = writeln!(page, "| `{name}` | {kind} | {unit} | {label} | {about} |");
    }
    page
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Requests => "Requests",
        Group::Process => "The process",
        Group::Cluster => "The cluster",
        Group::Replicas => "This node's copies",
        Group::Engine => "The storage engine",
        Group::Peers => "Peers",
        Group::Hints => "Hints",
        Group::Exchanges => "Exchanges and filling",
        Group::Siblings => "Siblings",
        Group::Collection => "Floors and marks",
        Group::Load => "Load and scaling",
    }
}

fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn unit(metric: &Metric) -> &'static str {
    let has = |unit: &str| metric.name.split('_').any(|word| word == unit);
    if has("bytes") {
        "bytes"
    } else if has("seconds") {
        "seconds"
    } else if has("ratio") {
        "0 to 1"
    } else {
        ""
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_default()
}

/// OPERATING.md with the table of alerts as it would be written now.
fn operating_page() -> String {
    const TITLE: &str = "\n## What each alert means\n";
    let page = read("OPERATING.md");
    let (before, section) = page.split_once(TITLE).expect("OPERATING.md has the chapter");
    let (_, after) = section.split_once("\n## ").expect("and one after it");
    format!("{before}{TITLE}{}\n## {after}", alerts::operating())
}

/// `KV_WRITE_DOCS=1` writes the files instead.
#[test]
fn the_papers_are_what_the_registry_says() {
    for (name, text) in [
        ("METRICS.md", metrics_page()),
        ("grafana/kv.json", dashboard::dashboard()),
        ("alerts/kv.rules.yml", alerts::rules()),
        ("OPERATING.md", operating_page()),
    ] {
        if std::env::var_os("KV_WRITE_DOCS").is_some() {
            let path = path(name);
            std::fs::create_dir_all(path.parent().expect("it is in docs")).expect("writable");
            std::fs::write(path, &text).expect("the docs can be written");
        }
        assert!(read(name) == text, "docs/{name} is old: `cargo xtask metrics` writes it");
    }
}

#[test]
fn every_query_names_what_exists() {
    let rules = ALERTS.iter().map(|alert| (alert.id, alert.expression.to_owned()));
    for (of, expression) in dashboard::queries().chain(rules) {
        let unknown = query::unknown(&expression);
        assert!(unknown.is_empty(), "{of}: {unknown:?} in {expression}");
    }
}

/// Names in running text, and in the parts of the dashboard that are no queries.
#[test]
fn papers_name_no_figure_that_does_not_exist() {
    for name in ["METRICS.md", "OPERATING.md", "grafana/kv.json", "alerts/kv.rules.yml"] {
        let text = read(name);
        assert!(!text.is_empty(), "docs/{name} is missing");
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_name(c));
        let figures = words.filter(|word| word.starts_with("kv_") || word.starts_with("process_"));
        let known = |word: &&str| {
            query::figure(word).is_some() || all().iter().any(|metric| metric.name == *word)
        };
        let unknown: BTreeSet<&str> = figures.filter(|word| !known(word)).collect();
        assert!(unknown.is_empty(), "docs/{name} names {unknown:?}");
    }
}

#[test]
fn alerts_have_names_of_their_own_and_all_their_words() {
    let mut names = BTreeSet::new();
    for alert in ALERTS {
        assert!(names.insert(alert.id), "{} stands twice", alert.id);
        assert!(alert.id.starts_with("Kv"), "{}", alert.id);
        assert!(!alert.title.is_empty() && !alert.means.is_empty() && !alert.do_this.is_empty());
        assert!(alert.lasts.ends_with(['m', 'h']), "{}: {}", alert.id, alert.lasts);
    }
}
