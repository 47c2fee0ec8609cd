//! Looks through a PromQL expression for names that don't exist: figures, their labels, functions.
//!
//! It knows the part of the language that we write, and takes anything else for a mistake: a
//! dashboard whose query names nothing shows an empty panel, and an alert never fires.

use super::super::registry::{Kind, Metric, all};

/// Functions and aggregations that we use.
const FUNCTIONS: [&str; 9] =
    ["rate", "increase", "sum", "max", "min", "avg", "count", "topk", "histogram_quantile"];
/// Words between expressions.
const WORDS: [&str; 4] = ["and", "or", "unless", "bool"];
/// Words before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 3] = ["by", "without", "on"];
/// Labels that all figures have.
pub(super) const COMMON: [&str; 2] = ["cluster", "node"];

/// What in the expression does not exist.
pub(super) fn unknown(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if is_name(first) && !first.is_ascii_digit() {
            let (word, behind) = split(rest, |c| !is_name(c));
            rest = named(word, behind, &mut found);
        } else if first == '[' {
            rest = behind(rest, ']', &mut found);
        } else if first.is_ascii_digit() {
            (_, rest) = split(rest, |c| !is_name(c) && c != '.');
        } else if first.is_whitespace() || "()+-*/<>=!,".contains(first) {
            rest = &rest[first.len_utf8()..];
        } else {
            found.push(format!("`{first}` in {expression}"));
            return found;
        }
    }
    found
}

/// The figure that a series of this name belongs to.
pub(super) fn figure(series: &str) -> Option<&'static Metric> {
    let is = |metric: &&&Metric| match metric.kind {
        Kind::Histogram => {
            let end = series.strip_prefix(metric.name);
            matches!(end, Some("_bucket" | "_sum" | "_count"))
        }
        _ => metric.name == series,
    };
    all().iter().find(is).copied()
}

/// Looks at a word and what belongs to it; what follows.
fn named<'a>(word: &str, rest: &'a str, found: &mut Vec<String>) -> &'a str {
    let ahead = rest.trim_start();
    if BEFORE_LABELS.contains(&word) {
        let labels = ahead.strip_prefix('(').and_then(|list| list.split_once(')'));
        let Some((labels, behind)) = labels else {
            found.push(format!("no labels after `{word}`"));
            return rest;
        };
        let known = |label: &str| {
            COMMON.contains(&label)
                || label == "le"
                || all().iter().any(|metric| metric.label == Some(label))
        };
        let labels = labels.split(',').map(str::trim);
        found.extend(labels.filter(|label| !known(label)).map(|label| format!("label {label}")));
        return behind;
    }
    if ahead.starts_with('(') || BEFORE_LABELS.iter().any(|word| ahead.starts_with(word)) {
        if !FUNCTIONS.contains(&word) {
            found.push(format!("function {word}"));
        }
        return rest;
    }
    if WORDS.contains(&word) {
        return rest;
    }
    let Some(metric) = figure(word) else {
        found.push(format!("figure {word}"));
        return if rest.starts_with('{') { behind(rest, '}', found) } else { rest };
    };
    let Some(selected) = rest.strip_prefix('{') else { return rest };
    let Some((matchers, behind)) = selected.split_once('}') else {
        found.push(format!("an open selector of {word}"));
        return "";
    };
    for matcher in matchers.split(',').filter(|matcher| !matcher.trim().is_empty()) {
        let (label, _) = split(matcher.trim(), |c| !is_name(c));
        let has = COMMON.contains(&label)
            || metric.label == Some(label)
            || (label == "le" && word.ends_with("_bucket"));
        if !has {
            found.push(format!("label {label} of {word}"));
        }
    }
    behind
}

/// What follows the next `end`.
fn behind<'a>(rest: &'a str, end: char, found: &mut Vec<String>) -> &'a str {
    rest.split_once(end).map_or_else(
        || {
            found.push(format!("no `{end}`"));
            ""
        },
        |(_, behind)| behind,
    )
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn split(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::unknown;

    #[test]
    fn what_does_not_exist_is_found() {
        for (expression, wrong) in [
            ("kv_ready == 0", None),
            ("sum by (node, op) (rate(kv_request_seconds_count{op=~\"read\"}[5m])) > 1e3", None),
            ("histogram_quantile(0.99, sum by (le) (rate(kv_request_seconds_bucket[5m])))", None),
            ("kv_raedy == 0", Some("figure kv_raedy")),
            ("kv_request_seconds > 1", Some("figure kv_request_seconds")),
            ("rate(kv_commands[5m])", Some("figure kv_commands")),
            ("rato(kv_commands_total[5m])", Some("function rato")),
            ("max by (shelf) (kv_ready)", Some("label shelf")),
            ("kv_ready{peer=\"x\"} == 0", Some("label peer of kv_ready")),
            ("kv_ready{node=\"x\" == 0", Some("an open selector of kv_ready")),
            ("kv_nothing{node=\"x\"} / kv_ready", Some("figure kv_nothing")),
            ("kv_ready % 2", Some("`%` in kv_ready % 2")),
        ] {
            let found = unknown(expression);
            assert_eq!(found.first().map(String::as_str), wrong, "{expression}");
        }
    }
}
